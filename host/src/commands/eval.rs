//! `eval`: accuracy over a folder with one sub-folder a class.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{PreprocessArgs, WeightsArgs, out, out_text};
use crate::eval::{Evaluation, Network, evaluate};
use crate::pack;
use crate::progress::Progress;

/// Measures a blob's or a weights file's accuracy
#[derive(Args, Clone, Debug)]
pub struct EvalArgs {
    /// A blob, or a weights file, which runs in f32
    pub model: PathBuf,
    /// Folder with one sub-folder of pictures a class
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Compare with this weights file in f32, or with this blob
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub preprocess: PreprocessArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub weights_args: WeightsArgs,
}

impl EvalArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A file that is neither blob nor weights, pictures that cannot be read or numbered.
    pub fn run(&self, progress: &Progress) -> anyhow::Result<()> {
        let network = self.open(&self.model)?;
        let reference = self.reference.as_deref().map(|path| self.open(path)).transpose()?;
        let evaluation = evaluate(&network, reference.as_ref(), &self.data, progress)?;
        if self.json {
            out(format_args!("{}", serde_json::to_string(&evaluation)?))?;
        } else {
            out_text(&text(&evaluation))?;
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> anyhow::Result<Network> {
        if pack::is_blob(path) {
            return Ok(Network::Blob(pack::load(path)?));
        }
        let graph = self.weights_args.import(path)?.graph;
        let rule = self.preprocess.find(path, graph.input())?;
        Network::of_graph(&graph, rule)
    }
}

/// The evaluation for people.
pub(crate) fn text(e: &Evaluation) -> String {
    let mut text = format!("pictures   {}\n", e.pictures);
    text.push_str(&format!("top-1      {:.2} %\n", 100.0 * e.top1));
    text.push_str(&format!("top-5      {:.2} %\n", 100.0 * e.top5));
    if let Some(reference) = &e.reference {
        text.push_str(&format!(
            "reference  top-1 {:.2} %, top-5 {:.2} %\n",
            100.0 * reference.top1,
            100.0 * reference.top5
        ));
        text.push_str(&format!("drop       {:+.2} points\n", 100.0 * (reference.top1 - e.top1)));
    }
    if let (Some(agreement), Some(kl)) = (e.agreement, e.mean_kl) {
        text.push_str(&format!("agreement  {:.2} %, mean KL {kl:.6}\n", 100.0 * agreement));
    }
    text
}
