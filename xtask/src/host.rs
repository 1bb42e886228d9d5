//! Tasks of the host program: `cargo xtask COMMAND ARGS...` runs `vgg-edge COMMAND ARGS...`.
//!
//! Arguments, standard streams and exit code are the program's own. Nothing is printed here but the one line
//! that says why the first run takes minutes.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::shell;

/// Arguments that only the host program reads.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
}

/// Runs `command` of the host program, built as needed; its exit code.
pub(crate) fn run(command: &str, args: &Args) -> anyhow::Result<ExitCode> {
    let program =
        shell::target_dir().join("release").join(format!("vgg-edge{}", std::env::consts::EXE_SUFFIX));
    let built = program.exists();
    if !built {
        eprintln!("note: the host program is compiled once, which takes some minutes");
    }
    let mut cargo = Command::new(shell::cargo());
    cargo.args(["run", "--release"]);
    if built && !std::io::stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    cargo.args(["-p", "vgg-edge-host", "--bin", "vgg-edge", "--", command]).args(&args.args);
    let status = cargo.status().context("cannot start cargo")?;
    Ok(ExitCode::from(shell::exit_code(status)))
}
