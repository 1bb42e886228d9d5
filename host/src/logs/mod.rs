//! The device's log as text: found, read and followed here or on a board, decoded with the program that wrote it.
//!
//! ```text
//! file and its rotated ones | unix:socket | stdin | ssh board ─► frames ─► the program's messages ─► lines
//!
//! -- classify 0.1.0, process 812, started 2026-11-24T18:45:56.120031Z, build 31cf6062…
//! 0.001234 INFO  classify::run  result: class 3, probability 0.81, 41.2 ms (device/classify/src/run.rs:98)
//! seconds  level module         message                                    (file:line, on request)
//! ```
//!
//! The program on the board may be stripped; ids in the stream are the same. The stream names the build that wrote it, and
//! another build's program is refused: its ids would give messages, but wrong ones.

mod decode;
mod files;
mod program;
mod remote;

// One file for who writes and who reads: the form of the notes in a stream, and where a program has its build id.
#[path = "../../../device/classify/src/log/elf.rs"]
#[allow(dead_code, reason = "the device uses the rest")]
mod elf;
#[path = "../../../device/classify/src/log/stream.rs"]
#[allow(dead_code, reason = "the device uses the rest")]
mod stream;

pub use decode::{Level, Options, Summary, decode};
pub use files::Files;
pub use remote::{Board, Remote};

/// Why a stream is not decoded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogsError {
    /// The program has no `.defmt` section, or no symbols: it was stripped, or logs nothing.
    #[error("{path} has no .defmt messages")]
    NoMessages {
        /// The program's file.
        path: String,
    },
    /// The stream is of another build.
    #[error("stream was written by build {stream}, this program is build {program}")]
    WrongBuild {
        /// Of the program that wrote the stream.
        stream: String,
        /// Of the program that should decode it, or `unknown`.
        program: String,
    },
    /// The stream does not say which build wrote it.
    #[error("stream was written by an unknown build, this program is build {program}")]
    UnknownBuild {
        /// Of the program that should decode it, or `unknown`.
        program: String,
    },
    /// A board's service does not log where it can be read.
    #[error("{host}: service {unit} {problem}")]
    Service {
        /// The board.
        host: String,
        /// The service's name.
        unit: String,
        /// What is wrong with its log.
        problem: &'static str,
    },
}
