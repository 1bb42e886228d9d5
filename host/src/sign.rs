//! Keys and signatures of models: Ed25519 over a model file's SHA-256, in a text file beside it.
//!
//! ```text
//! keygen ─► NAME.key (private, mode 0600), NAME.pub     sign MODEL.vgg --key NAME.key ─► MODEL.vgg.sig
//! deploy --public-key NAME.pub, classify verify --public-key NAME.pub ─► checked before the model runs
//! ```
//!
//! The forms of these files are `vgg_edge_blob::signature`'s.
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! # let (key, model) = (dir.path().join("a.key"), dir.path().join("m.vgg"));
//! # std::fs::write(&model, b"bytes")?;
//! use vgg_edge_host::sign;
//! let public = sign::keygen(&key)?;
//! let signature = sign::sign(&model, &key)?;
//! assert_eq!(sign::check(&model, &public.path)?, signature.key);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use vgg_edge_blob::signature::{Hex, PublicKey, SecretKey, Signature, TextError, message};

/// Keys and signatures have less than 300 bytes.
const MAX_TEXT_BYTES: u64 = 4096;

/// Why a key or a signature cannot be made, or does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// A file that cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key that would be lost.
    #[error("{} exists: a key is never overwritten", path.display())]
    KeyExists {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
    /// A file that is no key or signature.
    #[error("{what} {}", path.display())]
    Text {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TextError,
    },
    /// A private key that others can read.
    #[error("private key {}: its mode is {mode:04o}, expected 0600", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Bytes that no key pair has.
    #[error("public key {}: not a point that Ed25519 uses", path.display())]
    Point {
        /// The file.
        path: PathBuf,
    },
    /// No signature beside the model.
    #[error("{} is not signed: there is no {}", model.display(), path.display())]
    Unsigned {
        /// The model.
        model: PathBuf,
        /// Where its signature should be.
        path: PathBuf,
    },
    /// Somebody else's signature.
    #[error("signature {}: made with key {}, expected {}", path.display(), found.short(), expected.short())]
    OtherKey {
        /// The signature.
        path: PathBuf,
        /// Whose it says it is.
        found: PublicKey,
        /// Whose it must be.
        expected: PublicKey,
    },
    /// A signature of another file.
    #[error("signature {}: made for a file of SHA-256 {}, the model has {}", path.display(), Hex(*signed), Hex(*found))]
    OtherFile {
        /// The signature.
        path: PathBuf,
        /// The file it was made for.
        signed: [u8; 32],
        /// The file that is there.
        found: [u8; 32],
    },
    /// The arithmetic says no.
    #[error("signature {}: key {} did not make it for these bytes", path.display(), key.short())]
    Forged {
        /// The signature.
        path: PathBuf,
        /// The key it is checked with.
        key: PublicKey,
    },
}

/// A public key in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeyFile {
    /// The file.
    pub path: PathBuf,
    /// What it holds.
    pub key: PublicKey,
}

/// Writes a new private key to `path`, readable by its owner only, and its public key to `path` with the extension `pub`.
///
/// # Errors
/// Either file exists or cannot be written, or the system has no random bytes.
pub fn keygen(path: &Path) -> Result<PublicKeyFile, SignError> {
    let public_path = path.with_extension("pub");
    if let Some(path) = [path, &public_path].into_iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(SignError::KeyExists { path: path.to_owned() });
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(SignError::Random)?;
    let key = PublicKey(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
    create(path, 0o600, &SecretKey(seed).to_string())?;
    create(&public_path, 0o644, &key.to_string())?;
    Ok(PublicKeyFile { path: public_path, key })
}

/// Signs the file `model` with the private key in the file `key`, and writes `<model>.sig`.
///
/// # Errors
/// A model that cannot be read, a key that is none or that others can read, or a signature that cannot be written.
pub fn sign(model: &Path, key: &Path) -> Result<Signature, SignError> {
    check_mode(key)?;
    let secret = SecretKey::parse(&text(key)?).map_err(text_error("private key", key))?;
    let signing = SigningKey::from_bytes(&secret.0);
    let sha256 = digest(model)?;
    let ed25519 = signing.sign(&message(&sha256)).to_bytes();
    let signature = Signature { key: PublicKey(signing.verifying_key().to_bytes()), sha256, ed25519 };
    let path = signature_of(model);
    crate::pack::save(signature.to_string().as_bytes(), &path).map_err(|error| SignError::File {
        what: "write",
        path,
        source: io::Error::other(error),
    })?;
    Ok(signature)
}

/// Whether the owner of the key in the file `public_key` signed the file `model`; the key.
///
/// # Errors
/// No signature, or one that does not hold: the same checks as on the board.
pub fn check(model: &Path, public_key: &Path) -> Result<PublicKey, SignError> {
    let expected = PublicKey::parse(&text(public_key)?).map_err(text_error("public key", public_key))?;
    let key = VerifyingKey::from_bytes(&expected.0)
        .ok()
        .filter(|key| !key.is_weak())
        .ok_or_else(|| SignError::Point { path: public_key.to_owned() })?;
    let path = signature_of(model);
    if !path.exists() {
        return Err(SignError::Unsigned { model: model.to_owned(), path });
    }
    let signature = Signature::parse(&text(&path)?).map_err(text_error("signature", &path))?;
    if signature.key != expected {
        return Err(SignError::OtherKey { path, found: signature.key, expected });
    }
    let found = digest(model)?;
    if signature.sha256 != found {
        return Err(SignError::OtherFile { path, signed: signature.sha256, found });
    }
    let ed25519 = ed25519_dalek::Signature::from_bytes(&signature.ed25519);
    match key.verify_strict(&message(&found), &ed25519) {
        Ok(()) => Ok(expected),
        Err(_) => Err(SignError::Forged { path, key: expected }),
    }
}

/// Where the signature of a model lies: `MODEL.vgg.sig`.
pub fn signature_of(model: &Path) -> PathBuf {
    let mut name = OsString::from(model);
    name.push(".sig");
    name.into()
}

/// SHA-256 of a file.
///
/// # Errors
/// A file that cannot be read.
pub fn digest(path: &Path) -> Result<[u8; 32], SignError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut file = File::open(path).map_err(file_error("read", path))?;
    loop {
        match file.read(&mut buffer).map_err(file_error("read", path))? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SignError {
    let path = path.to_owned();
    move |source| SignError::File { what, path, source }
}

fn text_error(what: &'static str, path: &Path) -> impl FnOnce(TextError) -> SignError {
    let path = path.to_owned();
    move |source| SignError::Text { what, path, source }
}

/// A small text file.
fn text(path: &Path) -> Result<String, SignError> {
    let mut text = String::new();
    let file = File::open(path).map_err(file_error("read", path))?;
    file.take(MAX_TEXT_BYTES).read_to_string(&mut text).map_err(file_error("read", path))?;
    Ok(text)
}

/// A new file of this mode, synced; an existing one is an error.
fn create(path: &Path, mode: u32, text: &str) -> Result<(), SignError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(mode).open(path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => SignError::KeyExists { path: path.to_owned() },
            _ => SignError::File { what: "write", path: path.to_owned(), source },
        })?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error("write", path))
}

/// A private key that others can read is none.
fn check_mode(path: &Path) -> Result<(), SignError> {
    use std::os::unix::fs::MetadataExt;
    let mode = fs::metadata(path).map_err(file_error("read", path))?.mode() & 0o7777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(SignError::Mode { path: path.to_owned(), mode }),
    }
}
