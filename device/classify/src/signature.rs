//! Signatures of models: whether the file beside a model says that the owner of a key signed exactly these bytes.
//!
//! ```text
//! MODEL.vgg ─► SHA-256 ─┐
//! MODEL.vgg.sig ────────┴─► Ed25519, strict ─► ok, or where, found, expected
//! --public-key FILE ────────┘
//! ```
//!
//! The key is the one that was named on the command line; what the signature says of its own key is for messages only.
//! Forms: `vgg_edge_blob::signature`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ed25519_dalek::VerifyingKey;
use sha2::{Digest, Sha256};
use vgg_edge_blob::signature::{Hex, PublicKey, Signature, message};

/// Signatures and keys have less than 300 bytes.
const MAX_TEXT_BYTES: u64 = 4096;

/// Checks that the key in the file `public_key` signed `bytes`, which are those of the file `model`. Reads
/// `<model>.sig`. Returns the key.
///
/// # Errors
/// No signature, a damaged one, one of another file or by another key, or a file that holds no public key.
pub(crate) fn check(model: &Path, bytes: &[u8], public_key: &Path) -> Result<PublicKey> {
    let trusted = PublicKey::parse(&text(public_key)?)
        .with_context(|| format!("public key {}", public_key.display()))?;
    let key = VerifyingKey::from_bytes(&trusted.0)
        .ok()
        .filter(|key| !key.is_weak())
        .with_context(|| format!("public key {}: not a point that Ed25519 uses", public_key.display()))?;
    let path = signature_of(model);
    if !path.exists() {
        bail!("{} is not signed: there is no {}", model.display(), path.display());
    }
    let where_ = || format!("signature {}", path.display());
    let signature = Signature::parse(&text(&path)?).with_context(where_)?;
    if signature.key != trusted {
        bail!("{}: made with key {}, expected {}", where_(), signature.key.short(), trusted.short());
    }
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    if signature.sha256 != digest {
        bail!(
            "{}: made for a file of SHA-256 {}, {} has {}",
            where_(),
            Hex(signature.sha256),
            model.display(),
            Hex(digest)
        );
    }
    let signed = ed25519_dalek::Signature::from_bytes(&signature.ed25519);
    if key.verify_strict(&message(&digest), &signed).is_err() {
        bail!("{}: key {} did not make it for these bytes", where_(), trusted.short());
    }
    Ok(trusted)
}

/// Where the signature of a model lies: `MODEL.vgg.sig`.
pub(crate) fn signature_of(model: &Path) -> PathBuf {
    let mut name = OsString::from(model);
    name.push(".sig");
    name.into()
}

/// A small text file.
fn text(path: &Path) -> Result<String> {
    let context = || format!("cannot read {}", path.display());
    let mut text = String::new();
    let file = File::open(path).with_context(context)?;
    file.take(MAX_TEXT_BYTES).read_to_string(&mut text).with_context(context)?;
    Ok(text)
}
