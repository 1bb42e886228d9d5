//! Results to an MQTT broker: `--mqtt URL`. Many boards behind one broker need nothing else to be seen together.
//!
//! ```text
//! observations, answers ─► JSON ─► session (outbox, client) ─► broker ─► dashboards, Home Assistant, ...
//! ```

mod outbox;
mod session;
mod settings;
mod tls;
mod topics;

use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::sync::{broadcast, mpsc, watch};

use self::outbox::Message;
use self::session::Notice;
pub(crate) use self::settings::{Broker, Settings};
pub(crate) use self::topics::About;
use crate::answer::{Answer, Found};
use crate::observation::Observation;
use crate::output;

/// Results between those who give them and the session, which takes them at once.
const CHANNEL: usize = 16;

/// What is published.
pub(crate) struct Results {
    /// What a camera shows.
    pub(crate) observations: broadcast::Receiver<Arc<Observation>>,
    /// What requests were answered.
    pub(crate) answers: broadcast::Receiver<Arc<Answer>>,
}

/// Publishes `results` until `stop` is true, then says goodbye.
///
/// # Errors
/// Certificates or a password that cannot be read. A broker that is away is no error.
pub(crate) async fn publish(
    broker: Broker,
    settings: Settings,
    about: About,
    results: Results,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    let (sender, messages) = mpsc::channel(CHANNEL);
    let url = broker.url();
    let run = session::run(&broker, &settings, &about, messages, stop, |notice| tell(&url, notice));
    let forward = forward(results, &about, sender, settings.on_change);
    tokio::pin!(forward, run);
    tokio::select! {
        result = &mut run => result,
        () = &mut forward => run.await,
    }
    .with_context(|| format!("cannot publish to {url}"))
}

/// Turns results into messages: all, or of the camera's those with another best class than the one before.
async fn forward(mut results: Results, about: &About, sender: mpsc::Sender<Message>, on_change: bool) {
    let mut last = None;
    loop {
        let message = tokio::select! {
            observation = results.observations.recv() => match observation {
                Ok(observation) => {
                    let best = best(&observation.found);
                    if on_change && best.is_some() && best == last {
                        continue;
                    }
                    last = best;
                    json(&*observation).map(|json| about.result(json))
                }
                Err(error) => missed(&error),
            },
            answer = results.answers.recv() => match answer {
                Ok(answer) => json(&*answer).map(|json| about.answer(json)),
                Err(error) => missed(&error),
            },
        };
        if let Some(message) = message
            && sender.send(message).await.is_err()
        {
            return;
        }
    }
}

/// The best class; features have none.
fn best(found: &Found) -> Option<usize> {
    match found {
        Found::Classes { top } => top.first().map(|best| best.class),
        Found::Features { .. } => None,
    }
}

fn json(result: &impl Serialize) -> Option<String> {
    serde_json::to_string(result).ok()
}

/// The session is too slow to take what comes. (The senders live as long as this task.)
fn missed(error: &broadcast::error::RecvError) -> Option<Message> {
    if let broadcast::error::RecvError::Lagged(n) = error {
        defmt::warn!("mqtt: {=u64} results lost before they were queued", *n);
    }
    None
}

fn tell(url: &str, notice: Notice) {
    match notice {
        Notice::Connected => {
            defmt::info!("mqtt: connected to {=str}", url);
            output::note(format_args!("connected to {url}"));
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
