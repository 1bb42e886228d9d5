//! `logs`: the device's defmt stream as text.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

/// Decodes the log stream that `classify --log` wrote
#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    /// The stream; standard input if absent
    pub stream: Option<PathBuf>,
    /// The unstripped program that wrote it
    #[arg(long, value_name = "PROGRAM", default_value = "target/board/classify.debug")]
    pub elf: PathBuf,
    /// Leave out source files and lines
    #[arg(long)]
    pub no_locations: bool,
}

impl LogsArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A stream that cannot be read, or a program without a log table.
    pub fn run(&self) -> anyhow::Result<()> {
        let stream: Box<dyn Read> = match &self.stream {
            Some(path) => Box::new(File::open(path).with_context(|| format!("stream {}", path.display()))?),
            None => Box::new(io::stdin().lock()),
        };
        let summary = crate::logs::decode(&self.elf, stream, io::stdout().lock(), !self.no_locations)?;
        if summary.malformed > 0 {
            eprintln!(
                "warning: {} frames skipped: damaged, or written by another program",
                summary.malformed
            );
        }
        Ok(())
    }
}
