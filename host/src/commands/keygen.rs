//! `keygen`: a pair of keys for signing models.

use std::path::PathBuf;

use clap::Args;

use super::out_text;
use crate::deploy::shell::word;
use crate::sign;

/// Makes a pair of keys for signing models: a private one and, beside it, a public one
#[derive(Args, Clone, Debug)]
pub struct KeygenArgs {
    /// Where the private key goes, readable by you only; the public one has the extension .pub
    #[arg(value_name = "FILE", default_value = "vgg-edge.key")]
    pub key: PathBuf,
}

impl KeygenArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A file that exists or cannot be written.
    pub fn run(&self) -> anyhow::Result<()> {
        let public = sign::keygen(&self.key)?;
        out_text(&format!(
            "private key  {}, keep it here\npublic key   {}, {}\nnext         cargo xtask sign MODEL.vgg --key {}\n",
            self.key.display(),
            public.path.display(),
            public.key.short(),
            word(&self.key.display().to_string()),
        ))
    }
}
