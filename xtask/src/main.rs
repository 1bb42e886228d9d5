//! `cargo xtask`: the tasks of this workspace. Parse, match, call; what a task does is in its own file.

mod bench;
mod build;
mod deploy;
mod emulator;
mod host;
mod shell;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// Tasks of vgg-edge: from trained weights to a classifier on the board
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
enum Task {
    /// Quantize the bundled network, classify the bundled pictures, compare with f32
    #[command(disable_help_flag = true)]
    Demo(host::Args),
    /// Download published ImageNet weights: vgg16 (Keras), or vgg11 to vgg19, also _bn (torchvision)
    #[command(disable_help_flag = true)]
    Fetch(host::Args),
    /// The summary table of a weights file or a blob
    #[command(disable_help_flag = true)]
    Inspect(host::Args),
    /// Trained weights to a blob: import, calibrate, quantize, pack, verify
    #[command(disable_help_flag = true)]
    Quantize(host::Args),
    /// Accuracy of a blob over labelled pictures, alone or against f32
    #[command(disable_help_flag = true)]
    Eval(host::Args),
    /// Weights and model on one picture, layer by layer, up to the first that differs too much
    #[command(disable_help_flag = true)]
    Compare(host::Args),
    /// Latency and memory traffic predicted for a board, a row a layer
    #[command(disable_help_flag = true)]
    Estimate(host::Args),
    /// Decode the log that `classify --log` writes
    #[command(disable_help_flag = true)]
    Logs(host::Args),
    /// Cross-build the classifier for the board: static, no C toolchain needed
    Build(build::Args),
    /// Build, copy, verify on the boards, install the service, try it; `status` and `rollback`
    #[command(disable_help_flag = true)]
    Deploy(host::Args),
    /// A pair of keys for signing models
    #[command(disable_help_flag = true)]
    Keygen(host::Args),
    /// Sign a model
    #[command(disable_help_flag = true)]
    Sign(host::Args),
    /// Latency of kernels and whole networks on this machine, or model cycles on an emulated Arm CPU
    Bench(bench::Args),
    /// Everything the project checks, on this machine and on emulated Arm CPUs
    Test(test::Args),
    /// `test` as CI runs it: what cannot run is a failure
    Ci(test::Args),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Demo(args) => host::run("demo", &args),
        Task::Fetch(args) => host::run("fetch", &args),
        Task::Inspect(args) => host::run("inspect", &args),
        Task::Quantize(args) => host::run("quantize", &args),
        Task::Eval(args) => host::run("eval", &args),
        Task::Compare(args) => host::run("compare", &args),
        Task::Estimate(args) => host::run("estimate", &args),
        Task::Logs(args) => host::run("logs", &args),
        Task::Build(args) => build::run(&args),
        Task::Deploy(args) => deploy::run(&args),
        Task::Keygen(args) => host::run("keygen", &args),
        Task::Sign(args) => host::run("sign", &args),
        Task::Bench(args) => bench::run(&args),
        Task::Test(args) => test::run(&args, std::env::var_os("CI").is_some()),
        Task::Ci(args) => test::run(&args, true),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
