//! Ends what runs until it is told to: the first SIGINT or SIGTERM asks, the second one kills.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A flag that turns true at the first SIGINT or SIGTERM.
///
/// # Errors
/// When the system refuses the handlers.
pub(crate) fn on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let register = || -> io::Result<()> {
        for signal in [SIGINT, SIGTERM] {
            // In this order: the default action is looked at before the flag is set.
            flag::register_conditional_default(signal, Arc::clone(&stop))?;
            flag::register(signal, Arc::clone(&stop))?;
        }
        Ok(())
    };
    register().context("cannot handle signals")?;
    Ok(stop)
}
