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
    /// Folder with one sub-folder of pictures a class; with --reference, any folder of pictures
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

/// Pairs and pictures that the text shows.
const SHOWN: usize = 5;

/// The evaluation for people.
pub(crate) fn text(e: &Evaluation) -> String {
    let percent = |rate: f64, [low, high]: [f64; 2]| {
        format!("{:.2} % ({:.2} to {:.2})", 100.0 * rate, 100.0 * low, 100.0 * high)
    };
    let mut text = format!("pictures   {}\n", e.pictures);
    if let Some(rates) = &e.rates {
        text.push_str(&format!("top-1      {}\n", percent(rates.top1, rates.top1_interval)));
        text.push_str(&format!("top-5      {}\n", percent(rates.top5, rates.top5_interval)));
    }
    if let Some(rates) = &e.reference {
        let (top1, top5) = (100.0 * rates.top1, 100.0 * rates.top5);
        text.push_str(&format!("reference  top-1 {top1:.2} %, top-5 {top5:.2} %\n"));
    }
    if let (Some(drop), Some([low, high])) = (e.drop, e.drop_interval) {
        let [drop, low, high] = [drop, low, high].map(|share| 100.0 * share);
        text.push_str(&format!("drop       {drop:+.2} points ({low:+.2} to {high:+.2})\n"));
    }
    if let (Some(agreement), Some(interval), Some(kl)) = (e.agreement, e.agreement_interval, e.mean_kl) {
        text.push_str(&format!("agreement  {}, mean KL {kl:.6}\n", percent(agreement, interval)));
    }
    for (i, pair) in e.confusion.iter().take(SHOWN).enumerate() {
        let reference = pair.reference.map_or_else(String::new, |n| format!(" (reference {n})"));
        let head = if i == 0 { "confused   " } else { "           " };
        text.push_str(&format!("{head}{} as {}: {}{reference}\n", pair.class, pair.answer, pair.pictures));
    }
    for (i, picture) in e.worst.iter().take(SHOWN).enumerate() {
        let head = if i == 0 { "worst      " } else { "           " };
        text.push_str(&format!(
            "{head}{}: {} {:.3}",
            picture.picture.display(),
            picture.answer,
            picture.probability
        ));
        if let (Some(name), Some(probability)) = (&picture.reference, picture.reference_probability) {
            text.push_str(&format!(", reference {name} {probability:.3}"));
        }
        match (picture.kl, &picture.class) {
            (Some(kl), _) => text.push_str(&format!(", KL {kl:.4}\n")),
            (None, Some(class)) => text.push_str(&format!(", is {class}\n")),
            (None, None) => text.push('\n'),
        }
    }
    text
}
