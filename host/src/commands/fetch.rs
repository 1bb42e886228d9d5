//! `fetch`: published weights, checked, ready for `quantize`.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::{human_bytes, out_text};
use crate::fetch::{self, Fetched, NETWORKS, Options, Published, Source};
use crate::progress::Progress;

/// Who published the weights.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceArg {
    /// Keras: vgg16 and vgg19
    Keras,
    /// torchvision: all
    Torchvision,
}

/// Downloads published ImageNet weights, checks them and prints the next command
#[derive(Args, Clone, Debug)]
pub struct FetchArgs {
    /// The network
    #[arg(value_parser = PossibleValuesParser::new(NETWORKS))]
    pub network: String,
    /// Who published it [default: keras for vgg16 and --no-top, else torchvision]
    #[arg(long, value_enum)]
    pub source: Option<SourceArg>,
    /// Without the dense layers (Keras)
    #[arg(long)]
    pub no_top: bool,
    /// Folder the files go to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// Take the file from here instead; its digest is checked all the same
    #[arg(long)]
    pub url: Option<String>,
}

impl FetchArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A file that nobody published, or that cannot be had, or is another one.
    pub fn run(&self, progress: &Progress) -> anyhow::Result<()> {
        let source = self.source.map(|source| match source {
            SourceArg::Keras => Source::Keras,
            SourceArg::Torchvision => Source::Torchvision,
        });
        let published = fetch::find(&self.network, source, !self.no_top)?;
        eprintln!("from: {}", self.url.clone().unwrap_or_else(|| published.url()));
        let options = Options { folder: &self.output, url: self.url.as_deref(), ..Options::default() };
        let fetched = fetch::fetch(&published, &options, *progress, &mut |event| eprintln!("note: {event}"))?;
        out_text(&text(&published, &fetched))
    }
}

/// What is there, and what to do with it, for people.
pub fn text(published: &Published<'_>, fetched: &Fetched) -> String {
    let Fetched { weights, downloaded, labels, preprocess } = fetched;
    let mut text = format!(
        "weights    {}, {}{}\n{:10} {}\n",
        weights.display(),
        human_bytes(downloaded.bytes),
        if downloaded.already_there { ", already there" } else { "" },
        published.digest.name(),
        downloaded.digest,
    );
    if let Some(labels) = labels {
        text.push_str(&format!("labels     {}\n", labels.display()));
    }
    text.push_str(&format!("preprocess {}\n", preprocess.display()));
    // Without dense layers nothing in the file tells the size of the pictures.
    let (blob, input) = match published.top {
        true => (published.network.to_owned(), ""),
        false => (format!("{}_notop", published.network), " --input 224x224"),
    };
    text.push_str(&format!(
        "next       cargo xtask quantize {}{input} --calib PICTURES -o {blob}.vgg\n",
        quoted(weights)
    ));
    text
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
