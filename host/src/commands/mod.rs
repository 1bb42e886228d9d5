//! The commands of the host program, one file each: arguments, work, output.

pub mod bench;
pub mod compare;
pub mod demo;
pub mod deploy;
pub mod estimate;
pub mod eval;
pub mod fetch;
pub mod inspect;
pub mod keygen;
pub mod logs;
pub mod quantize;
pub mod sign;

mod hint;

use std::fmt::Arguments;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
pub use hint::hint;

use crate::graph::{Arch, Shape};
use crate::import::{ImportOptions, Imported, import};
use crate::preprocess::Preprocess;

/// What a user may have to say about a weights file.
#[derive(Args, Clone, Debug, Default)]
pub struct WeightsArgs {
    /// Architecture, for files that hold weights alone: vggnet, vgg11, vgg13, vgg16, vgg19
    #[arg(long)]
    pub arch: Option<Arch>,
    /// Input size, for files that do not say: HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS
    #[arg(long, value_name = "HxW")]
    pub input: Option<Shape>,
    /// Number of classes, for files that do not say
    #[arg(long, value_name = "N")]
    pub classes: Option<usize>,
}

/// How pictures become the network's input.
#[derive(Args, Clone, Debug, Default)]
pub struct PreprocessArgs {
    /// keras-caffe, torchvision, unit, tf or a .toml file; default: the file WEIGHTS.preprocess.toml beside the
    /// weights
    #[arg(long, value_name = "RULE")]
    pub preprocess: Option<String>,
}

impl WeightsArgs {
    /// Imports a weights file and tells the user what was concluded rather than read.
    ///
    /// # Errors
    /// The importer's.
    pub fn import(&self, path: &Path) -> anyhow::Result<Imported> {
        let options = ImportOptions { arch: self.arch, input: self.input, classes: self.classes };
        let imported = import(path, &options)?;
        for note in &imported.notes {
            eprintln!("note: {note}");
        }
        Ok(imported)
    }
}

impl PreprocessArgs {
    /// The rule for `weights`; its origin is named on stderr.
    ///
    /// # Errors
    /// No rule, or one that does not fit the network.
    pub fn find(&self, weights: &Path, input: Shape) -> anyhow::Result<Preprocess> {
        let (rule, origin) = Preprocess::find(self.preprocess.as_deref(), weights, input)?;
        eprintln!("preprocess: {origin}");
        Ok(rule)
    }
}

/// Labels: a file that was asked for, else `<weights without extension>.labels.txt` if there is one.
fn labels(asked: Option<&Path>, weights: &Path) -> anyhow::Result<Vec<String>> {
    let sidecar = weights.with_extension("labels.txt");
    let path: PathBuf = match asked {
        Some(path) => path.to_path_buf(),
        None if sidecar.exists() => sidecar,
        None => return Ok(Vec::new()),
    };
    let context = || format!("labels {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(context)?;
    eprintln!("labels: {}", path.display());
    Ok(text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect())
}

/// A line of data on standard output. A reader that has gone (`... | head`) is an error that `main` keeps quiet.
fn out(line: Arguments<'_>) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{line}")?)
}

/// Whole lines of data.
fn out_text(text: &str) -> anyhow::Result<()> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// Whether `error` says that the reader of standard output has gone.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let broken = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
}

/// Bytes in the unit that reads best.
fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
