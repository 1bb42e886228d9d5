//! Digests of published files: the whole MD5, or the first digits of the SHA-256.
//!
//! ```
//! use vgg_edge_host::fetch::Digest;
//! let digest = Digest::Sha256Start("ba7816bf");
//! let found = digest.of(b"abc".as_slice()).unwrap();
//! assert_eq!(found, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
//! assert!(digest.matches(&found));
//! ```

use std::fmt;
use std::io::{self, Read};

use md5::Md5;
use sha2::{Digest as _, Sha256};

/// How a file is known: lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Digest<'a> {
    /// All 32 digits of the MD5.
    Md5(&'a str),
    /// The first digits of the SHA-256.
    Sha256Start(&'a str),
}

impl Digest<'_> {
    /// The digest's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Md5(_) => "MD5",
            Self::Sha256Start(_) => "SHA-256",
        }
    }

    /// All digits of this kind of digest of what `reader` gives.
    ///
    /// # Errors
    /// The reader's.
    pub fn of(&self, reader: impl Read) -> io::Result<String> {
        match self {
            Self::Md5(_) => run(Md5::new(), reader),
            Self::Sha256Start(_) => run(Sha256::new(), reader),
        }
    }

    /// Whether `found`, all digits, is this digest.
    pub fn matches(&self, found: &str) -> bool {
        match self {
            Self::Md5(hex) => found == *hex,
            Self::Sha256Start(hex) => found.starts_with(hex),
        }
    }
}

/// What is expected, as messages say it.
impl fmt::Display for Digest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Md5(hex) => f.write_str(hex),
            Self::Sha256Start(hex) => write!(f, "{hex}…"),
        }
    }
}

fn run<D: sha2::Digest>(mut digest: D, mut reader: impl Read) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => digest.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        let md5 = Digest::Md5("900150983cd24fb0d6963f7d28e17f72");
        assert!(md5.matches(&md5.of(b"abc".as_slice()).unwrap()));
        assert!(!md5.matches(&md5.of(b"abd".as_slice()).unwrap()));
        let sha256 = Digest::Sha256Start("e3b0c442");
        assert!(sha256.matches(&sha256.of(io::empty()).unwrap()));
        assert!(!sha256.matches(&sha256.of([0].as_slice()).unwrap()));
    }
}
