//! `classify serve` of a program that was built without the feature `mqtt`: nobody to publish to.

use anyhow::Result;

use super::App;

/// No options.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PublisherArgs {}

impl PublisherArgs {
    pub(crate) async fn publish(&self, _app: App) -> Result<()> {
        Ok(())
    }
}
