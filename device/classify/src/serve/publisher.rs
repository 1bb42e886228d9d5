//! `classify serve --mqtt URL`: publishes what the camera shows and what requests are answered.

use anyhow::Result;

use super::App;
use crate::mqtt::{self, About, Results, Settings};

/// The broker to publish to, if any.
pub(crate) type PublisherArgs = Settings;

impl PublisherArgs {
    /// Publishes until the program stops; without a broker nothing.
    ///
    /// # Errors
    /// Certificates or a password that cannot be read. A broker that is away is no error.
    pub(crate) async fn publish(&self, app: App) -> Result<()> {
        let Some(broker) = self.broker.clone() else { return Ok(()) };
        let about = About {
            base: self.topic.clone(),
            name: self.name.clone().unwrap_or_else(host_name),
            model: app.about.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: app.about.kernel.to_owned(),
            is_classifier: app.about.is_classifier,
        };
        let results = Results { observations: app.hub.subscribe(), answers: app.hub.subscribe_answers() };
        mqtt::publish(broker, self.clone(), about, results, app.stop.clone()).await
    }
}

/// This machine's name, as one level of a topic.
fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    match name.is_empty() {
        true => "board".to_owned(),
        false => name.chars().map(safe).collect(),
    }
}
