//! A model and its program to boards, over the system's ssh: copied, checked there, switched to, tried, or taken back.
//!
//! ```text
//! connect ─► probe ─► copy ─► checksum ─► verify ─► switch ─► smoke ─► prune
//!            board,   .upload  SHA-256     signature, link,     healthz,  old
//!            room     aside    by board    self-test, unit,     one       releases
//!                                          one answer start     answer
//!            ├── a failure here leaves the running ──┤  └─ here: back ─┘
//!            │   version as it is                    │     to it        │
//! ```
//!
//! Boards are worked on side by side, each with its own steps; one that fails does not stop the others. All that a board
//! needs is an sshd, a POSIX shell with the usual tools, and systemd for the service.

pub mod answer;
pub mod error;
pub mod fleet;
mod http;
pub mod package;
pub mod probe;
mod release;
pub mod report;
pub mod shell;
mod ssh;
mod steps;
pub mod target;
pub mod unit;

use std::net::SocketAddr;
use std::time::Duration;

pub use error::{DeployError, Problem, Step};
pub use fleet::{deploy, rollback, status};
pub use package::{Contents, Package, Program};
pub use report::{Ended, Outcome};
pub use target::{Target, TargetError};

/// Where releases go unless told otherwise.
pub const PREFIX: &str = "/opt/vgg-edge";
/// Name of the unit unless told otherwise.
pub const UNIT: &str = "vgg-edge.service";
/// Where units of the administrator lie.
pub const UNIT_DIR: &str = "/etc/systemd/system";

/// What is the same for all boards; a line of an inventory wins over it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the releases: absolute, or below `~/`.
    pub prefix: String,
    /// The service; `None` leaves files and the link alone.
    pub service: Option<Service>,
    /// Whether commands that change the board run under sudo.
    pub sudo: bool,
    /// Releases that stay.
    pub keep: usize,
    /// Boards at a time.
    pub jobs: usize,
    /// Look, say what would be done, change nothing.
    pub dry_run: bool,
    /// ssh options, `Name=value`.
    pub ssh_options: Vec<String>,
    /// For one command or copy.
    pub limit: Duration,
    /// Until a service must be healthy.
    pub smoke_limit: Duration,
}

/// The service on a board.
#[derive(Clone, Debug)]
pub struct Service {
    /// Name of the unit, with `.service`.
    pub unit: String,
    /// Folder of units.
    pub unit_dir: String,
    /// Address that it listens on.
    pub listen: SocketAddr,
    /// Device of a camera.
    pub camera: Option<String>,
    /// More arguments of `classify serve`.
    pub arguments: Vec<String>,
}

impl Settings {
    /// With what a target's own line sets.
    fn of(&self, target: &Target) -> Self {
        let mut own = self.clone();
        let target = &target.own;
        if let Some(prefix) = &target.prefix {
            own.prefix.clone_from(prefix);
        }
        if let (Some(listen), Some(service)) = (target.listen, &mut own.service) {
            service.listen = listen;
        }
        own.sudo = target.sudo.unwrap_or(own.sudo);
        if target.service == Some(false) {
            own.service = None;
        }
        own
    }
}
