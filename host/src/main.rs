//! Argument parsing of the host program; `cargo xtask` runs it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vgg_edge_host::commands::{
    bench, compare, demo, deploy, estimate, eval, fetch, hint, inspect, is_closed_pipe, keygen, logs,
    quantize, sign,
};
use vgg_edge_host::progress::Progress;

/// vgg-edge on the workstation: trained weights to files for the board
#[derive(Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Quantizes the bundled network, classifies the bundled pictures, compares with f32
    Demo(demo::DemoArgs),
    Fetch(fetch::FetchArgs),
    Inspect(inspect::InspectArgs),
    Quantize(quantize::QuantizeArgs),
    Eval(eval::EvalArgs),
    Compare(compare::CompareArgs),
    Logs(logs::LogsArgs),
    Bench(bench::BenchArgs),
    Estimate(estimate::EstimateArgs),
    Deploy(Box<deploy::DeployArgs>),
    Keygen(keygen::KeygenArgs),
    Sign(sign::SignArgs),
}

fn main() -> ExitCode {
    let progress = Progress::Terminal;
    let result = match Cli::parse().command {
        Command::Demo(args) => args.run(&progress),
        Command::Fetch(args) => args.run(&progress),
        Command::Inspect(args) => args.run(),
        Command::Quantize(args) => args.run(&progress),
        Command::Eval(args) => args.run(&progress),
        Command::Compare(args) => args.run(),
        Command::Logs(args) => args.run(),
        Command::Bench(args) => args.run(),
        Command::Estimate(args) => args.run(),
        Command::Deploy(args) => args.run(),
        Command::Keygen(args) => args.run(),
        Command::Sign(args) => args.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if let Some(hint) = hint(&error) {
                eprintln!("\nhint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
