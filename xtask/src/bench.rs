//! `bench`: latency on this machine.
//!
//! ```text
//! bench            every kernel of this CPU over typical strips
//! bench MODEL.vgg  a whole network, on the classifier
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use crate::shell;

/// Options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Model to run, instead of the kernels alone
    model: Option<PathBuf>,
    /// Options of `classify bench`, after `--`
    #[arg(last = true, requires = "model")]
    options: Vec<String>,
}

/// Runs the benchmark.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = match &args.model {
        None => shell::command("cargo run --release -p vgg-edge-engine --example strip_bench"),
        Some(model) => {
            // Not the profile `board`: its folder holds the board's program.
            let words = "cargo run --release -p vgg-edge-classify --bin classify -- bench";
            let mut command = shell::command(words);
            command.arg(std::path::absolute(model)?).args(&args.options);
            command
        }
    };
    shell::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
