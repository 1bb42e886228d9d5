//! What the world around the program is told: that it serves, that it works, that it stops.
//!
//! ```text
//! started ─► alive, alive, ... (while the worker makes progress) ─► stopping
//! ```
//!
//! People read it on stderr, the log keeps it, and a service manager that asks for it gets it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::notify::Notifier;
use crate::output::note;

/// Pause between two looks at the worker when no watchdog asks for less.
const PULSE: Duration = Duration::from_secs(5);
/// A run takes seconds on a slow board; the worker that is at one picture for so long hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Requests are answered from now on.
pub(crate) fn started(address: SocketAddr, app: &App, notifier: &Notifier) {
    defmt::info!("serving at port {=u16}", address.port());
    let line = format!("serving {} at http://{address}", app.about.name);
    note(format_args!("{line}"));
    notifier.ready(&line);
}

/// Whether the worker makes progress.
pub(crate) fn is_alive(app: &App) -> bool {
    app.desk.busy_for().is_none_or(|time| time < HANGS)
}

/// Looks at the worker again and again; a watchdog hears of it while it makes progress.
pub(crate) async fn pulse(app: App, notifier: Arc<Notifier>) {
    let pause = notifier.watchdog_interval().map_or(PULSE, |interval| interval.min(PULSE));
    let mut was_alive = true;
    loop {
        let alive = is_alive(&app);
        if alive {
            notifier.alive();
        } else if was_alive {
            defmt::error!("the worker is at one picture for more than {=u64} s", HANGS.as_secs());
            notifier.status("the network does not come to an end with a picture");
        }
        was_alive = alive;
        tokio::time::sleep(pause).await;
    }
}

/// No more requests are accepted.
pub(crate) fn stopping(notifier: &Notifier) {
    defmt::info!("stopping");
    note(format_args!("stopping"));
    notifier.stopping();
}
