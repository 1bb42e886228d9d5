//! `sign`: says that a model is yours, in a file beside it.

use std::path::PathBuf;

use clap::Args;

use super::out_text;
use crate::deploy::shell::word;
use crate::{pack, sign};

/// Signs a model: MODEL.vgg.sig says that the owner of the key vouches for exactly these bytes
#[derive(Args, Clone, Debug)]
pub struct SignArgs {
    /// The model
    #[arg(value_name = "MODEL.vgg")]
    pub model: PathBuf,
    /// Private key that `keygen` made
    #[arg(long, value_name = "FILE", default_value = "vgg-edge.key")]
    pub key: PathBuf,
}

impl SignArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A model that is damaged, a key that is none, or a signature that cannot be written.
    pub fn run(&self) -> anyhow::Result<()> {
        // Nobody wants to vouch for a damaged file.
        pack::load(&self.model)?;
        let signature = sign::sign(&self.model, &self.key)?;
        let path = sign::signature_of(&self.model);
        out_text(&format!(
            "signature  {}, key {}\nnext       cargo xtask deploy {} --public-key {} --host USER@BOARD\n",
            path.display(),
            signature.key.short(),
            word(&self.model.display().to_string()),
            word(&self.key.with_extension("pub").display().to_string()),
        ))
    }
}
