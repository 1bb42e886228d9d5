//! Signatures of model files: the text of a signature, a public key and a private key, read and written here only.
//!
//! ```text
//! MODEL.vgg.sig                     FILE.pub                     FILE.key
//! vgg-edge signature 1              vgg-edge public key 1        vgg-edge private key 1
//! key <64 hex digits>               ed25519 <64 hex digits>      ed25519 <64 hex digits>
//! sha256 <64 hex digits>
//! ed25519 <128 hex digits>
//! ```
//!
//! A signature is a file beside the blob: every byte of a blob is covered by a checksum and by a table, so one inside
//! it would sign a file that it changes, and an older reader would refuse the section. Outside, the blob stays the bytes
//! that `quantize` wrote, can be signed later, and by several keys.
//!
//! Ed25519 signs [`message`]: a fixed text, so that a signature means nothing else, then the blob's SHA-256. This module
//! does no cryptography.
//!
//! ```
//! use vgg_edge_blob::signature::PublicKey;
//! let text = PublicKey([7; 32]).to_string();
//! assert!(text.starts_with("vgg-edge public key 1\ned25519 0707"));
//! assert_eq!(PublicKey::parse(&text), Ok(PublicKey([7; 32])));
//! ```

use core::fmt::{self, Display, Formatter};

/// What every signed message starts with.
const CONTEXT: [u8; 27] = *b"vgg-edge model signature 1\n";
/// Bytes that are signed.
pub const MESSAGE_LEN: usize = CONTEXT.len() + 32;

const SIGNATURE: &str = "vgg-edge signature 1";
const PUBLIC_KEY: &str = "vgg-edge public key 1";
const SECRET_KEY: &str = "vgg-edge private key 1";

/// The bytes that a signature of a file with this SHA-256 signs.
pub fn message(sha256: &[u8; 32]) -> [u8; MESSAGE_LEN] {
    let mut message = [0; MESSAGE_LEN];
    let (context, digest) = message.split_at_mut(CONTEXT.len());
    context.copy_from_slice(&CONTEXT);
    digest.copy_from_slice(sha256);
    message
}

/// What `MODEL.vgg.sig` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Public key of who signed. For messages: a reader trusts the key it was given, never this one.
    pub key: PublicKey,
    /// SHA-256 of the whole blob.
    pub sha256: [u8; 32],
    /// Ed25519 signature of [`message`].
    pub ed25519: [u8; 64],
}

/// An Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

/// The seed of an Ed25519 private key; it has no `Debug`, so that no message shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(pub [u8; 32]);

impl Signature {
    /// Reads the text of a signature.
    ///
    /// # Errors
    /// The first line that is not as it must be.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut lines = Lines::open(text, SIGNATURE)?;
        let key = PublicKey(lines.field("key")?);
        let sha256 = lines.field("sha256")?;
        let ed25519 = lines.field("ed25519")?;
        lines.close(Self { key, sha256, ed25519 })
    }
}

impl PublicKey {
    /// Reads the text of a public key.
    ///
    /// # Errors
    /// The first line that is not as it must be.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut lines = Lines::open(text, PUBLIC_KEY)?;
        let key = Self(lines.field("ed25519")?);
        lines.close(key)
    }

    /// The key's first 16 hex digits, its name in messages.
    pub fn short(&self) -> impl Display {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        Hex([a, b, c, d, e, f, g, h])
    }
}

impl SecretKey {
    /// Reads the text of a private key.
    ///
    /// # Errors
    /// The first line that is not as it must be; nothing of the key is in it.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let mut lines = Lines::open(text, SECRET_KEY)?;
        let key = Self(lines.field("ed25519")?);
        lines.close(key)
    }
}

impl Display for Signature {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{SIGNATURE}\nkey {}", Hex(self.key.0))?;
        writeln!(f, "sha256 {}\ned25519 {}", Hex(self.sha256), Hex(self.ed25519))
    }
}

impl Display for PublicKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PUBLIC_KEY}\ned25519 {}", Hex(self.0))
    }
}

impl Display for SecretKey {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{SECRET_KEY}\ned25519 {}", Hex(self.0))
    }
}

/// Bytes as lower-case hex digits.
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Display for Hex<N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a text is no signature or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The first line is another one.
    #[error("line 1 is not `{expected}`")]
    Title {
        /// What it must be.
        expected: &'static str,
    },
    /// A line of another name.
    #[error("line {line} does not start with `{expected} `")]
    Name {
        /// Line, from 1.
        line: usize,
        /// The word that it must start with.
        expected: &'static str,
    },
    /// Too few or too many digits.
    #[error("line {line}: `{name}` has {found} digits, expected {expected}")]
    Length {
        /// Line, from 1.
        line: usize,
        /// Its first word.
        name: &'static str,
        /// Characters found.
        found: usize,
        /// Digits expected.
        expected: usize,
    },
    /// A character that is no digit.
    #[error("line {line}: character {at} of `{name}` is not one of 0-9 and a-f")]
    Digit {
        /// Line, from 1.
        line: usize,
        /// Its first word.
        name: &'static str,
        /// Character of the value, from 1.
        at: usize,
    },
    /// Something behind the last line.
    #[error("line {line} is one too many, expected {expected} lines")]
    TooLong {
        /// Line, from 1.
        line: usize,
        /// Lines of the form.
        expected: usize,
    },
}

/// The lines of a text behind its title.
struct Lines<'a> {
    lines: core::str::Lines<'a>,
    line: usize,
}

impl<'a> Lines<'a> {
    fn open(text: &'a str, expected: &'static str) -> Result<Self, TextError> {
        let mut lines = text.lines();
        match lines.next() {
            Some(title) if title == expected => Ok(Self { lines, line: 1 }),
            _ => Err(TextError::Title { expected }),
        }
    }

    /// The `N` bytes of the next line, whose first word is `name`.
    fn field<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], TextError> {
        self.line += 1;
        let line = self.line;
        let text = self.lines.next().unwrap_or_default();
        let value = text
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or(TextError::Name { line, expected: name })?;
        if value.len() != 2 * N {
            return Err(TextError::Length { line, name, found: value.chars().count(), expected: 2 * N });
        }
        let mut bytes = [0; N];
        for (at, digit) in value.bytes().enumerate() {
            let digit = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return Err(TextError::Digit { line, name, at: at + 1 }),
            };
            if let Some(byte) = bytes.get_mut(at / 2) {
                *byte = *byte << 4 | digit;
            }
        }
        Ok(bytes)
    }

    fn close<T>(mut self, value: T) -> Result<T, TextError> {
        match self.lines.next() {
            None => Ok(value),
            Some(_) => Err(TextError::TooLong { line: self.line + 1, expected: self.line }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let ed25519 = core::array::from_fn(|i| i as u8 * 3);
        Signature { key: PublicKey([0xa5; 32]), sha256: [0x0f; 32], ed25519 }
    }

    #[test]
    fn texts_are_read_as_they_were_written() {
        let text = signature().to_string();
        assert_eq!(Signature::parse(&text), Ok(signature()));
        assert_eq!(Signature::parse(text.trim_end()), Ok(signature()));
        assert_eq!(Signature::parse(&text.replace('\n', "\r\n")), Ok(signature()));
        let key = SecretKey([3; 32]).to_string();
        assert!(SecretKey::parse(&key) == Ok(SecretKey([3; 32])));
        assert_eq!(PublicKey([0xab; 32]).short().to_string(), "abababababababab");
    }

    #[test]
    fn the_message_is_the_context_and_the_digest() {
        let message = message(&[9; 32]);
        assert_eq!(&message[..27], b"vgg-edge model signature 1\n");
        assert_eq!(message[27..], [9; 32]);
    }

    #[test]
    fn every_wrong_line_is_named() {
        let text = signature().to_string();
        let fails = |text: &str| Signature::parse(text).unwrap_err().to_string();
        assert_eq!(fails(""), "line 1 is not `vgg-edge signature 1`");
        assert_eq!(fails(&PublicKey([1; 32]).to_string()), "line 1 is not `vgg-edge signature 1`");
        assert_eq!(fails("vgg-edge signature 1\n"), "line 2 does not start with `key `");
        assert_eq!(fails(&text.replace("sha256", "sha512")), "line 3 does not start with `sha256 `");
        assert_eq!(fails(&text.replace("0f0f", "0f")), "line 3: `sha256` has 32 digits, expected 64");
        assert_eq!(
            fails(&text.replacen("0f", "0F", 1)),
            "line 3: character 2 of `sha256` is not one of 0-9 and a-f"
        );
        assert_eq!(fails(&format!("{text}more")), "line 5 is one too many, expected 4 lines");
        // As many bytes as digits are expected, but fewer characters.
        let key = format!("vgg-edge public key 1\ned25519 {}", "é".repeat(32));
        assert_eq!(
            PublicKey::parse(&key).unwrap_err().to_string(),
            "line 2: character 1 of `ed25519` is not one of 0-9 and a-f"
        );
    }
}
