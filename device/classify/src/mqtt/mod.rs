//! Results to an MQTT broker: `--mqtt URL`. Many boards behind one broker need nothing else to be seen together.
//!
//! ```text
//! Observation ─► JSON ─► session (outbox, client) ─► broker ─► dashboards, Home Assistant, ...
//! ```

mod outbox;
mod session;
mod settings;
mod tls;
mod topics;

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::{broadcast, mpsc, watch};

use self::session::Notice;
pub(crate) use self::settings::Settings;
pub(crate) use self::topics::About;
use crate::answer::Found;
use crate::observation::Observation;
use crate::output;

/// Results between the camera and the session; the session takes them at once.
const CHANNEL: usize = 16;

/// Publishes `observations` until `stop` is true.
///
/// # Errors
/// Certificates or a password that cannot be read. A broker that is away is no error.
pub(crate) async fn publish(
    settings: Settings,
    about: About,
    observations: broadcast::Receiver<Arc<Observation>>,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let Some(broker) = settings.broker.clone() else { return Ok(()) };
    let (sender, results) = mpsc::channel(CHANNEL);
    let url = broker.url();
    let notice = |notice| tell(&url, notice);
    let forward = forward(observations, sender, settings.on_change);
    let run = session::run(&broker, &settings, &about, results, stop, notice);
    tokio::pin!(forward, run);
    tokio::select! {
        result = &mut run => result,
        () = &mut forward => run.await,
    }
    .with_context(|| format!("cannot publish to {url}"))
}

/// Turns observations into JSON, all of them or those with another best class than the one before.
async fn forward(
    mut observations: broadcast::Receiver<Arc<Observation>>,
    results: mpsc::Sender<String>,
    on_change: bool,
) {
    let mut last = None;
    loop {
        let observation = match observations.recv().await {
            Ok(observation) => observation,
            Err(broadcast::error::RecvError::Lagged(n)) => {
                defmt::warn!("mqtt: {=u64} results lost before they were queued", n);
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        let best = match &observation.found {
            Found::Classes { top } => top.first().map(|best| best.class),
            Found::Features { .. } => None,
        };
        if on_change && best.is_some() && best == last {
            continue;
        }
        last = best;
        let Ok(json) = serde_json::to_string(&*observation) else { continue };
        if results.send(json).await.is_err() {
            return;
        }
    }
}

fn tell(url: &str, notice: Notice) {
    match notice {
        Notice::Connected => {
            defmt::info!("mqtt: connected to {=str}", url);
            output::note(format_args!("mqtt: connected to {url}"));
        }
        Notice::Lost(why) => {
            defmt::warn!("mqtt: {=str}: {=str}", url, why.as_str());
            output::note(format_args!("warning: {url}: {why}; trying again"));
        }
        Notice::Dropped(n) => {
            defmt::warn!("mqtt: {=u64} results dropped while the broker was away", n);
            output::note(format_args!("warning: {url}: {n} results dropped while the broker was away"));
        }
    }
}
