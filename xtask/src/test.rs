//! `test` and `ci`: everything the project checks; one list of jobs, every failure told.
//!
//! ```text
//! fmt  clippy  features  host  no-std  memory  board  small  deploy  models  counts,
//! then for each emulated CPU: kernels, parity
//! ```

use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use crate::build;
use crate::emulator::{self, CPUS, Cpu, EMULATOR};
use crate::shell::{self, BOARD_TARGET};

/// Options of `test` and `ci`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the jobs' names
    #[arg(long, conflicts_with = "only")]
    list: bool,
    /// Run only the jobs whose name starts so; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// What a job runs.
enum Check {
    /// One cargo command.
    Cargo(&'static str),
    /// The crates of the device that need no operating system, for an Arm that has none.
    NoStd,
    /// The kernels of this machine, a part at a time, under a program that sees every access out of bounds.
    Memory,
    /// The board's program without, and with each one of its features.
    Features,
    /// The board's program, as shipped, or without camera, server and MQTT; at most so many bytes.
    Board { features: &'static str, limit: u64 },
    /// A deployment to an emulated Arm board.
    Deploy,
    /// Models of the bundled network, and of VGG16 where its weights are, for the parity jobs.
    Models,
    /// Instructions counted on emulated CPUs, as `bench --cpu` does.
    Counts,
    /// The engine's kernels and executor on an emulated CPU.
    Kernels(&'static Cpu),
    /// The board's program on an emulated CPU against this machine's engine.
    Parity(&'static Cpu),
}

/// The only list of jobs, in order.
fn jobs() -> Vec<(String, Check)> {
    let mut jobs = vec![
        ("fmt".to_owned(), Check::Cargo("fmt --all --check")),
        ("clippy".to_owned(), Check::Cargo("clippy --workspace --all-targets -- -D warnings")),
        ("features".to_owned(), Check::Features),
        ("host".to_owned(), Check::Cargo("test --workspace --no-fail-fast")),
        ("no-std".to_owned(), Check::NoStd),
        ("memory".to_owned(), Check::Memory),
        ("small".to_owned(), Check::Board { features: " --no-default-features", limit: 2_000_000 }),
        ("board".to_owned(), Check::Board { features: "", limit: 6_000_000 }),
        ("deploy".to_owned(), Check::Deploy),
        ("models".to_owned(), Check::Models),
        ("counts".to_owned(), Check::Counts),
    ];
    for cpu in &CPUS {
        jobs.push((format!("kernels-{}", cpu.name), Check::Kernels(cpu)));
        jobs.push((format!("parity-{}", cpu.name), Check::Parity(cpu)));
    }
    jobs
}

/// Sees accesses out of bounds and values that nobody wrote; Debian's package `valgrind`.
const VALGRIND: &str = "valgrind";

/// The features of the board's program, each alone; none is a choice, too.
const FEATURES: [&str; 4] = ["", "camera", "serve", "mqtt"];

/// The engine's tests that compare kernels.
const KERNEL_TESTS: [&str; 9] = [
    "kernels",
    "winograd",
    "winograd8",
    "winograd8_layers",
    "winograd16",
    "blocks",
    "int4",
    "repack",
    "executor",
];

enum Outcome {
    Passed(Duration),
    Failed(Duration, String),
    Skipped(&'static str),
}

/// Runs the jobs. With `ci` a job that cannot run has failed.
pub(crate) fn run(args: &Args, ci: bool) -> anyhow::Result<ExitCode> {
    let all = jobs();
    if args.list {
        all.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    for wanted in &args.only {
        if !all.iter().any(|(name, _)| name.starts_with(wanted)) {
            let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
            bail!("no job `{wanted}`, the jobs are {}", names.join(" "));
        }
    }
    let chosen = |name: &str| args.only.is_empty() || args.only.iter().any(|wanted| name.starts_with(wanted));
    let mut results = Vec::new();
    for (name, check) in all.iter().filter(|(name, _)| chosen(name)) {
        eprintln!("\n== {name}");
        let start = Instant::now();
        let outcome = match (check.needs().filter(|program| !shell::has(program)), ci) {
            (Some(program), false) => Outcome::Skipped(program),
            (Some(program), true) => {
                Outcome::Failed(start.elapsed(), format!("{program} is not on the path"))
            }
            (None, _) => match check.run(ci) {
                Ok(()) => Outcome::Passed(start.elapsed()),
                Err(error) => {
                    eprintln!("error: {error:#}");
                    Outcome::Failed(start.elapsed(), format!("{error:#}"))
                }
            },
        };
        results.push((name, outcome));
    }
    Ok(summary(&results))
}

/// One line a job; failure if any failed.
fn summary(results: &[(&String, Outcome)]) -> ExitCode {
    eprintln!();
    let mut n_failed = 0;
    for (name, outcome) in results {
        let seconds = |time: &Duration| format!("{:7.1} s", time.as_secs_f64());
        match outcome {
            Outcome::Passed(time) => eprintln!("{name:20} ok      {}", seconds(time)),
            Outcome::Skipped(program) => {
                eprintln!("{name:20} skipped           {program} is not on the path")
            }
            Outcome::Failed(time, why) => {
                n_failed += 1;
                eprintln!("{name:20} FAILED  {}  {why}", seconds(time));
            }
        }
    }
    let skipped = results.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Skipped(_))).count();
    eprintln!("\n{} jobs: {n_failed} failed, {skipped} skipped", results.len());
    if n_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Check {
    /// The program that the job runs under, if any.
    fn needs(&self) -> Option<&'static str> {
        match self {
            Check::Memory => Some(VALGRIND),
            Check::Counts | Check::Deploy | Check::Kernels(_) | Check::Parity(_) => Some(EMULATOR),
            _ => None,
        }
    }

    fn run(&self, ci: bool) -> anyhow::Result<()> {
        let cargo = |words: &str| {
            let mut command = shell::command(&format!("cargo {words}"));
            if ci {
                command.env("CI", "true");
            }
            command
        };
        match self {
            Check::Cargo(words) => shell::run(&mut cargo(words)),
            Check::NoStd => {
                let target = "aarch64-unknown-none";
                shell::add_target(target)?;
                let crates = "-p vgg-edge-blob -p vgg-edge-engine --no-default-features";
                shell::run(&mut cargo(&format!("build {crates} --target {target}")))
            }
            Check::Memory => {
                let runner = format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", ARCH.to_uppercase());
                for tests in [
                    "--test kernels --test winograd --test winograd8",
                    // A whole network in bands, on several threads.
                    "--test executor int8_winograd",
                ] {
                    let mut command = cargo(&format!("test -p vgg-edge-engine {tests}"));
                    command
                        .env(&runner, format!("{VALGRIND} --quiet --error-exitcode=99"))
                        // Those of the panics that tests expect take minutes there.
                        .env("RUST_BACKTRACE", "0");
                    shell::run(&mut command)?;
                }
                Ok(())
            }
            Check::Features => FEATURES.iter().try_for_each(|feature| {
                let all = "clippy -p vgg-edge-classify --bins --no-default-features";
                shell::run(&mut cargo(&format!("{all} --features={feature} -- -D warnings")))
            }),
            Check::Board { features, limit } => {
                let program = build::stripped(&format!("{}{features}", build::CLASSIFY))?;
                let len = fs::metadata(&program)?.len();
                eprintln!("{}: {len} bytes, at most {limit}", program.display());
                ensure!(len <= *limit, "{len} bytes, expected at most {limit}");
                Ok(())
            }
            Check::Deploy => {
                ensure!(!ci || std::env::var_os("VGG_EDGE_ARM_BUSYBOX").is_some(), "no VGG_EDGE_ARM_BUSYBOX");
                let program = shell::target_dir().join(BOARD_TARGET).join("board/classify");
                let mut command = cargo("test --workspace --test deploy_arm -- --nocapture");
                shell::run(command.env("VGG_EDGE_ARM_CLASSIFY", program))
            }
            Check::Models => {
                // With the features of the `host` job: those of one package would build tract-core again.
                shell::run(&mut cargo("build --workspace --all-targets"))?;
                let program = shell::target_dir().join("debug/vgg-edge");
                let host = |task: &str| {
                    let mut command = Command::new(&program);
                    command.arg(task).current_dir(shell::root());
                    command
                };
                shell::run(host("demo").arg("--output").arg(models()))?;
                let shared = shared();
                let weights = shared.join("models/vgg16_cifar10.h5");
                if !weights.exists() {
                    ensure!(!ci, "{} is not there", weights.display());
                    eprintln!("{} is not there: no parity of a whole VGG16", weights.display());
                    return Ok(());
                }
                fs::create_dir_all(large_models())?;
                let mut quantize = host("quantize");
                quantize
                    .args(["--max-pictures", "16"])
                    .arg(weights)
                    .arg("--calib")
                    .arg(shared.join("data/cifar10_calib"));
                shell::run(quantize.arg("--output").arg(large_models().join("vgg16.int8.vgg")))
            }
            Check::Counts => {
                let counter = emulator::counter()?;
                shell::add_target(BOARD_TARGET)?;
                shell::run(&mut build::compile("build", build::STRIPS, BOARD_TARGET))?;
                shell::run(&mut build::compile("build", build::CLASSIFY, BOARD_TARGET))?;
                let built = shell::target_dir().join(BOARD_TARGET).join("board");
                let mut command = cargo("test --workspace --test counts -- --nocapture");
                command
                    .env("VGG_EDGE_COUNTER", counter)
                    .env("VGG_EDGE_STRIPS", built.join("examples/strip_bench"))
                    .env("VGG_EDGE_CLASSIFY", built.join("classify"));
                shell::run(&mut command)
            }
            Check::Kernels(cpu) => {
                shell::add_target(BOARD_TARGET)?;
                let tests: String = KERNEL_TESTS.iter().map(|test| format!("--test {test} ")).collect();
                let mut command =
                    cargo(&format!("test -p vgg-edge-engine {tests}--target {BOARD_TARGET} -- --nocapture"));
                command
                    .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER", emulate(cpu))
                    .env("VGG_EDGE_EXPECT_KERNELS", cpu.kernels);
                shell::run(&mut command)
            }
            Check::Parity(cpu) => {
                let program = shell::target_dir().join(BOARD_TARGET).join("board/classify");
                let mut command = cargo("test --workspace --test parity --test serving -- --nocapture");
                command
                    .env("VGG_EDGE_CLASSIFY", program)
                    .env("VGG_EDGE_EMULATOR", emulate(cpu))
                    .env("VGG_EDGE_EXPECT_KERNELS", cpu.kernels)
                    .env("VGG_EDGE_MODELS", models());
                if large_models().exists() {
                    command.env("VGG_EDGE_LARGE_MODELS", large_models());
                }
                shell::run(&mut command)
            }
        }
    }
}

fn emulate(cpu: &Cpu) -> String {
    format!("{EMULATOR} -cpu {}", cpu.name)
}

/// Where networks and pictures lie that are too large for the repository.
fn shared() -> PathBuf {
    std::env::var_os("VGG_EDGE_SHARED").map_or_else(|| shell::root().join("../shared"), PathBuf::from)
}

/// Where the model of a whole VGG16 goes.
fn large_models() -> PathBuf {
    shell::target_dir().join("test/large")
}

/// Where the models of the bundled network go.
fn models() -> PathBuf {
    shell::target_dir().join("test/models")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_have_one_name_each_and_what_they_use_comes_first() {
        let names: Vec<String> = jobs().into_iter().map(|(name, _)| name).collect();
        let mut unique = names.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
        let place = |name: &str| names.iter().position(|n| n == name).unwrap();
        // The last program built is the one that is shipped.
        assert!(place("small") < place("board") && place("board") < place("deploy"));
        for cpu in &CPUS {
            let parity = place(&format!("parity-{}", cpu.name));
            assert!(place("board") < parity && place("models") < parity);
        }
    }
}
