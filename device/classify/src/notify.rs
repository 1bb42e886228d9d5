//! Word to systemd about a service of `Type=notify`: ready, alive, stopping, and a line for `systemctl status`.
//!
//! ```text
//! NOTIFY_SOCKET   a path, or `@name` for an abstract socket; absent when nobody listens
//! WATCHDOG_USEC   microseconds within which WATCHDOG=1 must come; absent without a watchdog
//! WATCHDOG_PID    the process it is meant for; absent means this one
//!
//! READY=1 | WATCHDOG=1 | STOPPING=1 | STATUS=<a line>      one datagram each
//! ```
//!
//! ```ignore
//! let notifier = Notifier::from_env();
//! notifier.ready("serving small_vgg.vgg");
//! if let Some(interval) = notifier.watchdog_interval() { /* call notifier.alive() every `interval` */ }
//! notifier.stopping();
//! ```
//!
//! A service runs the same whether or not somebody listens: a datagram that cannot be sent is dropped.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Whom to tell, and how often.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that the environment describes.
    pub(crate) fn from_env() -> Self {
        let text = |name: &str| env::var(name).ok();
        Self::new(
            env::var_os("NOTIFY_SOCKET"),
            text("WATCHDOG_USEC").as_deref(),
            text("WATCHDOG_PID").as_deref(),
        )
    }

    /// From the values of `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. What makes no sense is left out.
    pub(crate) fn new(socket: Option<OsString>, usec: Option<&str>, pid: Option<&str>) -> Self {
        let socket = socket
            .and_then(|name| address(&name))
            .and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        if let Some((socket, _)) = &socket {
            // A manager that does not read must not stop the service.
            let _ = socket.set_nonblocking(true);
        }
        let own = std::process::id().to_string();
        let meant = pid.is_none_or(|pid| pid == own);
        let usec = usec.and_then(|usec| usec.parse().ok()).filter(|&usec: &u64| usec > 0 && meant);
        Self { socket, watchdog: usec.map(Duration::from_micros) }
    }

    /// How often to call [`Notifier::alive`]: half of what the watchdog grants. `None` without a watchdog.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|granted| granted / 2)
    }

    /// The service answers requests from now on.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// The service still works; to be sent by what would hang if it did not.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The service ends by its own will.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A line for `systemctl status`.
    pub(crate) fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", line(status)));
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

/// A socket by its path, or by its abstract name behind `@`.
fn address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}

/// `text` as one line: a line feed would start another assignment.
fn line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
