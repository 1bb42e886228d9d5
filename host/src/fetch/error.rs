//! Why a file could not be fetched: address, found, expected.
//!
//! ```text
//! fetch https://example.org/vgg16.h5: the server says 404 Not Found, expected 200
//! ```

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A file that could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("fetch {url}: {problem}")]
pub struct FetchError {
    /// The address it was asked from.
    pub url: String,
    /// What went wrong.
    pub problem: Problem,
}

impl FetchError {
    /// A stable word for the error.
    pub fn kind(&self) -> &'static str {
        self.problem.kind()
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum Problem {
    #[error("the address is not one, expected http://… or https://…")]
    Address,
    #[error("cannot connect: {message}")]
    Connect { message: String },
    #[error("no connection within {} s", wait.as_secs_f32())]
    ConnectTimeout { wait: Duration },
    #[error("nothing received for {} s at byte {at}{}", wait.as_secs_f32(), of(expected))]
    Stalled { wait: Duration, at: u64, expected: Option<u64> },
    #[error("connection broken at byte {at}{}: {message}", of(expected))]
    Broken { message: String, at: u64, expected: Option<u64> },
    #[error("no HTTP answer that could be used: {message}")]
    Protocol { message: String },
    #[error("the server redirects more than {limit} times")]
    Redirects { limit: u32 },
    #[error("the server redirects to {to}, expected an https address")]
    Insecure { to: String },
    #[error("the server says {found}, expected 200")]
    Status { found: String },
    #[error("the server sends a part (206) of the file, expected all of it")]
    UnaskedPart,
    #[error("the server sends {found}, expected {expected}")]
    Range { found: String, expected: String },
    #[error("the file has {found} bytes, expected at most {max}")]
    TooLong { found: u64, max: u64 },
    #[error("the server sends more than the {announced} bytes it announced")]
    Excess { announced: u64 },
    #[error("the file has {name} {found}, expected {expected}")]
    Digest { name: &'static str, found: String, expected: String },
    #[error("{}: another program is downloading to it", path.display())]
    Locked { path: PathBuf },
    #[error("{}: is not a file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

fn of(expected: &Option<u64>) -> String {
    expected.map_or_else(String::new, |n| format!(" of {n}"))
}

impl Problem {
    /// A stable word for the problem.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Connect { .. } => "connect",
            Self::ConnectTimeout { .. } => "connect-timeout",
            Self::Stalled { .. } => "stalled",
            Self::Broken { .. } => "broken",
            Self::Protocol { .. } => "protocol",
            Self::Redirects { .. } => "redirects",
            Self::Insecure { .. } => "insecure",
            Self::Status { .. } => "status",
            Self::UnaskedPart => "unasked-part",
            Self::Range { .. } => "range",
            Self::TooLong { .. } => "too-long",
            Self::Excess { .. } => "excess",
            Self::Digest { .. } => "digest",
            Self::Locked { .. } => "locked",
            Self::NotAFile { .. } => "not-a-file",
            Self::File { .. } => "file",
        }
    }
}
