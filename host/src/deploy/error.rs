//! What can go wrong on a board: the step, then where, found, expected.

use std::fmt::{self, Display, Formatter};
use std::io;

/// The steps of a deployment, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A connection, and nobody else who deploys there.
    Connect,
    /// What the board is, and whether the release fits.
    Probe,
    /// Files to a folder that nothing runs from.
    Copy,
    /// SHA-256 of every file, by the board.
    Checksum,
    /// Signature, self-test, and one picture's answer, by the program on the board.
    Verify,
    /// The link to the running release, the service's unit and its start.
    Switch,
    /// Health and one picture's answer over HTTP.
    Smoke,
    /// Old releases away.
    Prune,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Probe,
        Self::Copy,
        Self::Checksum,
        Self::Verify,
        Self::Switch,
        Self::Smoke,
        Self::Prune,
    ];

    /// Its name in messages and JSON; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Probe => "probe",
            Self::Copy => "copy",
            Self::Checksum => "checksum",
            Self::Verify => "verify",
            Self::Switch => "switch",
            Self::Smoke => "smoke",
            Self::Prune => "prune",
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A program of this machine that does not start.
    #[error("cannot start {program}: {source}")]
    Start {
        /// `ssh` or `rsync`.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// No connection.
    #[error("cannot connect: {why}")]
    Connect {
        /// ssh's own words.
        why: String,
    },
    /// The connection ended while it was needed.
    #[error("the connection was lost: {why}")]
    Lost {
        /// ssh's own words.
        why: String,
    },
    /// A command that took too long.
    #[error("no end after {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// A command that failed on the board.
    #[error("{why} (exit code {code})")]
    Remote {
        /// Its exit code.
        code: i32,
        /// The end of its standard error.
        why: String,
    },
    /// Somebody else deploys there.
    #[error("another deployment is running: {folder}/.lock is taken")]
    Busy {
        /// Folder of the releases.
        folder: String,
    },
    /// An answer of the board that makes no sense.
    #[error("the board's {what} is `{found}`, expected {expected}")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// What came.
        found: String,
        /// What is understood.
        expected: &'static str,
    },
    /// A tool that the board lacks.
    #[error("the board has no {tool}, which {why}")]
    Tool {
        /// The program.
        tool: &'static str,
        /// What for.
        why: &'static str,
    },
    /// No program for this processor.
    #[error("the board is {found}, the program is for {programs}")]
    Arch {
        /// `uname -m`.
        found: String,
        /// What the given programs are for.
        programs: String,
    },
    /// Another init system.
    #[error("the board's init system is {found}, expected systemd")]
    Init {
        /// What runs as process 1, or what systemd says of itself.
        found: String,
    },
    /// A disk that is too full before anything is copied.
    #[error("{folder} has {free} kB free, the release needs {need} kB")]
    Space {
        /// Folder of the releases.
        folder: String,
        /// kB there.
        free: u64,
        /// kB that the files take.
        need: u64,
    },
    /// A disk that became full.
    #[error("{why}; {folder} has {free} kB free")]
    Full {
        /// What failed to be written.
        why: String,
        /// Folder of the releases.
        folder: String,
        /// kB left there.
        free: u64,
    },
    /// Too little memory.
    #[error("the service may need {need} MiB, the board has {found} MiB")]
    Memory {
        /// Arena, weights and what clients may cost, MiB.
        need: u64,
        /// All of the board's, MiB.
        found: u64,
    },
    /// A service that does not start.
    #[error("{unit} does not start: {why}")]
    Service {
        /// The unit.
        unit: String,
        /// systemd's words, and the last lines of its log.
        why: String,
    },
    /// A service that does not answer as it must.
    #[error("{request} on {address}: {why}")]
    Http {
        /// Method and path.
        request: &'static str,
        /// Address on the board.
        address: String,
        /// What came, and what was expected.
        why: String,
    },
    /// Another answer than this machine's.
    #[error("{what}: {why}")]
    Differs {
        /// Who answered.
        what: &'static str,
        /// The first difference.
        why: String,
    },
    /// Nothing to go back to.
    #[error("{folder}: no release before {current}")]
    NoPrevious {
        /// Folder of the releases.
        folder: String,
        /// The running one.
        current: String,
    },
    /// A file of this machine that cannot be read.
    #[error("{0}")]
    Local(String),
}

impl Problem {
    /// A word for programs; stable.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Connect { .. } => "connect",
            Self::Lost { .. } => "lost",
            Self::TimedOut { .. } => "timed-out",
            Self::Remote { .. } => "remote",
            Self::Busy { .. } => "busy",
            Self::Answer { .. } => "answer",
            Self::Tool { .. } => "tool",
            Self::Arch { .. } => "arch",
            Self::Init { .. } => "init",
            Self::Space { .. } => "space",
            Self::Full { .. } => "full",
            Self::Memory { .. } => "memory",
            Self::Service { .. } => "service",
            Self::Http { .. } => "http",
            Self::Differs { .. } => "differs",
            Self::NoPrevious { .. } => "no-previous",
            Self::Local(_) => "local",
        }
    }
}

/// A step that failed on a board.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {problem}")]
pub struct DeployError {
    /// Which step.
    pub step: Step,
    /// Why.
    #[source]
    pub problem: Problem,
}
