//! `bench`: latency on this machine; with `--cpu` model cycles on an emulated Arm CPU.
//!
//! ```text
//! bench                         every kernel of this CPU over typical strips
//! bench MODEL.vgg               a whole network, on the classifier
//! bench --cpu CPU [MODEL.vgg]   the same on an emulated CPU: instructions counted, priced by a model of its core
//! ```
//!
//! What is counted and priced is the host program's: this file builds what it runs.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;

use crate::emulator::{self, CPUS};
use crate::shell::{self, BOARD_TARGET};
use crate::{build, host};

/// Options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Model to run, instead of the kernels alone
    model: Option<PathBuf>,
    /// Count instructions on an emulated Arm CPU, instead of time on this machine
    #[arg(long, value_name = "CPU", value_parser = cpus(), conflicts_with = "options")]
    cpu: Option<String>,
    /// Price for this core instead of the CPU's own: a53, a72, a55, a76, n2
    #[arg(long, value_name = "CORE", requires = "cpu")]
    core: Option<String>,
    /// Model the caches, too: bytes from and to DRAM; takes three times as long
    #[arg(long, requires = "cpu", requires = "model")]
    memory: bool,
    /// A row for every layer
    #[arg(long, requires = "cpu", requires = "model")]
    layers: bool,
    /// Compare with another program's counts
    #[arg(long, value_name = "COUNTS.tsv", requires = "cpu", requires = "model")]
    against: Option<PathBuf>,
    /// Write the counts to a file that --against can read
    #[arg(long, value_name = "COUNTS.tsv", requires = "cpu", requires = "model")]
    save: Option<PathBuf>,
    /// JSON instead of tables
    #[arg(long, requires = "cpu")]
    json: bool,
    /// Resources, classes and functions, most first
    #[arg(short, long, requires = "cpu")]
    verbose: bool,
    /// Options of `classify bench`, after `--`
    #[arg(last = true, requires = "model")]
    options: Vec<String>,
}

fn cpus() -> PossibleValuesParser {
    PossibleValuesParser::new(CPUS.iter().map(|cpu| cpu.name))
}

/// Runs the benchmark.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(cpu) = &args.cpu {
        return count(args, cpu);
    }
    let mut command = match &args.model {
        None => shell::command(&format!("cargo run --release {}", build::STRIPS)),
        Some(model) => {
            // Not the profile `board`: its folder holds the board's program.
            let mut command = shell::command(&format!("cargo run --release {} -- bench", build::CLASSIFY));
            command.arg(std::path::absolute(model)?).args(&args.options);
            command
        }
    };
    shell::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds the counter and the board's program with its symbols, then lets the host program count.
fn count(args: &Args, cpu: &str) -> anyhow::Result<ExitCode> {
    let counter = emulator::counter()?;
    let (what, program) = match args.model {
        None => (build::STRIPS, "examples/strip_bench"),
        Some(_) => (build::CLASSIFY, "classify"),
    };
    shell::add_target(BOARD_TARGET)?;
    shell::run(&mut build::compile("build", what, BOARD_TARGET))?;
    let program = shell::target_dir().join(BOARD_TARGET).join("board").join(program);
    host::run("bench", &host::Args { args: host_args(args, cpu, counter, program) })
}

fn host_args(args: &Args, cpu: &str, counter: PathBuf, program: PathBuf) -> Vec<OsString> {
    let with = |name: &str, value: Option<OsString>| value.map(|value| [OsString::from(name), value]);
    let path = |path: &Option<PathBuf>| path.clone().map(PathBuf::into_os_string);
    let options = [
        with("--cpu", Some(cpu.into())),
        with("--counter", Some(counter.into())),
        with("--program", Some(program.into())),
        with("--core", args.core.clone().map(OsString::from)),
        with("--against", path(&args.against)),
        with("--save", path(&args.save)),
    ];
    let flags = [
        (args.memory, "--memory"),
        (args.layers, "--layers"),
        (args.json, "--json"),
        (args.verbose, "--verbose"),
    ];
    let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| OsString::from(flag));
    let model = path(&args.model).into_iter().flat_map(|model| [OsString::from("--"), model]);
    options.into_iter().flatten().flatten().chain(flags).chain(model).collect()
}
