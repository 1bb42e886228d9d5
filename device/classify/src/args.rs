//! The command line: `classify run|serve|camera|info|verify|bench`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::log::LogArgs;

/// Classifies pictures with a vgg-edge model.
#[derive(Debug, Parser)]
#[command(name = "classify", version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) log: LogArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Classify pictures: the best classes of each, with their probabilities; of a feature extractor, its features
    Run(crate::run::args::Run),
    /// Answer over HTTP, with a web page
    #[cfg(feature = "serve")]
    Serve(Box<crate::serve::Serve>),
    /// Show what a model file holds
    Info(Info),
    /// Check a model file's integrity and run its self-test on every kernel of this CPU
    Verify(Verify),
    /// Measure the latency of a model here
    Bench(Bench),
    /// Classify what a camera shows, the newest frame each time
    #[cfg(feature = "camera")]
    Camera(crate::camera::Camera),
}

/// A wrong use of `classify run` that the model's contents show; `main` prints it and exits with 2.
pub(crate) fn wrong_run(message: String) -> clap::Error {
    wrong_use("run", ErrorKind::ArgumentConflict, message)
}

/// A wrong use of a command that only its arguments' contents show; `main` prints it and exits with 2.
pub(crate) fn wrong_use(command: &str, kind: ErrorKind, message: String) -> clap::Error {
    let mut program = Args::command();
    program.build();
    match program.find_subcommand_mut(command) {
        Some(command) => command.error(kind, message),
        None => program.error(kind, message),
    }
}

/// `classify info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    /// Model file
    #[arg(required_unless_present = "board")]
    pub(crate) model: Option<PathBuf>,
    /// Show this board instead: kernels, cores, memory; with MODEL also what the model takes here
    #[arg(long)]
    pub(crate) board: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `classify verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Model file
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `classify bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Model file
    pub(crate) model: PathBuf,
    /// Timed runs, exactly
    #[arg(long, value_name = "N", default_value = "20")]
    pub(crate) runs: NonZeroUsize,
    /// Runs before the timed ones
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) warmup: usize,
    /// Then run for so long without a pause, and compare the first and the last 10 seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) sustain: Option<NonZeroUsize>,
    /// Print the mean time of every layer, on stderr; with --json in the object
    #[arg(long, visible_alias = "layers")]
    pub(crate) profile: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// Whose models are run.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TrustArgs {
    /// Refuse the model unless MODEL.sig says that the owner of this key signed it
    #[arg(long, value_name = "FILE")]
    pub(crate) public_key: Option<PathBuf>,
}

/// How a model runs; no choice changes a result.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct EngineArgs {
    /// Threads [default: the big cores that this process may use]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Kernel to use, such as `neon` [default: the best this CPU can run]
    #[arg(long, value_name = "NAME")]
    pub(crate) kernel: Option<String>,
    /// Run every layer as the file has it, even where repacking it at load makes it faster here
    #[arg(long)]
    pub(crate) no_repack: bool,
}
