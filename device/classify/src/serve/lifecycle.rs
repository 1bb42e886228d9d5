//! What the world around the program is told: that it serves, that it works, that it stops.
//!
//! ```text
//! started ─► alive, alive, ... (while the worker makes progress) ─► stopping
//! ```
//!
//! People read it on stderr, the log keeps it; a service manager is to be told here, too.

use std::net::SocketAddr;
use std::time::Duration;

use super::App;
use crate::output::note;

/// Pause between two looks at the worker.
pub(crate) const PULSE: Duration = Duration::from_secs(5);
/// A run takes seconds on a slow board; the worker that is at one picture for so long hangs.
const HANGS: Duration = Duration::from_secs(120);

/// Requests are answered from now on.
pub(crate) fn started(address: SocketAddr, app: &App) {
    defmt::info!("serving at port {=u16}", address.port());
    note(format_args!("serving {} at http://{address}", app.about.name));
}

/// Whether the worker makes progress.
pub(crate) fn is_alive(app: &App) -> bool {
    app.desk.busy_for().is_none_or(|time| time < HANGS)
}

/// Looks at the worker again and again.
pub(crate) async fn pulse(app: App) {
    let mut was_alive = true;
    loop {
        tokio::time::sleep(PULSE).await;
        let alive = is_alive(&app);
        if was_alive && !alive {
            defmt::error!("the worker is at one picture for more than {=u64} s", HANGS.as_secs());
        }
        was_alive = alive;
    }
}

/// No more requests are accepted.
pub(crate) fn stopping() {
    defmt::info!("stopping");
    note(format_args!("stopping"));
}
