//! `build`: the classifier for the board, static, and a twin with debug information.
//!
//! ```text
//! cargo build --profile board ─► target/board/classify.debug ─► without symbols: target/board/classify
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::ValueEnum;

use crate::shell::{self, BOARD_TARGET};

/// Options of `build`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Board; all Arm boards run one program, which picks its kernel when it starts
    #[arg(long, value_enum, default_value = "generic")]
    board: Board,
    /// Rust target, instead of the board's
    #[arg(long, conflicts_with = "board")]
    target: Option<String>,
    /// Features beside the default ones: camera, serve, mqtt, separated by commas
    #[arg(long, value_name = "NAMES")]
    features: Option<String>,
    /// Build without camera, server and MQTT, but for the named features: the smallest program
    #[arg(long)]
    no_default_features: bool,
}

impl Args {
    /// The program, in `cargo build`'s words.
    fn what(&self) -> String {
        let mut what = CLASSIFY.to_owned();
        if self.no_default_features {
            what += " --no-default-features";
        }
        if let Some(features) = &self.features {
            what += &format!(" --features={features}");
        }
        what
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Board {
    Generic,
    Rpi3,
    Rpi4,
    Rpi5,
    Rk3566,
    Rk3588,
    #[value(name = "armv8-i8mm")]
    Armv8I8mm,
    #[value(name = "x86-64")]
    X86_64,
}

impl Board {
    fn target(self) -> &'static str {
        match self {
            Board::X86_64 => "x86_64-unknown-linux-musl",
            _ => BOARD_TARGET,
        }
    }
}

/// Builds, strips, and says what to do next.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (program, debug) = build(&args.what(), args.target.as_deref().unwrap_or(args.board.target()))?;
    for (path, what) in
        [(&program, "for the board"), (&debug, "with debug information, for `cargo xtask logs`")]
    {
        let len = fs::metadata(path).with_context(|| format!("file {}", path.display()))?.len();
        println!("{:36} {:7.1} MB  {what}", shown(path).display(), len as f64 / 1e6);
    }
    println!("\nnext: cargo xtask deploy MODEL.vgg --host USER@BOARD");
    println!("      or copy {} and a model there, and run", shown(&program).display());
    println!("      ./classify run MODEL.vgg PICTURE.jpg");
    Ok(ExitCode::SUCCESS)
}

/// What all Arm boards run, stripped: [`CLASSIFY`], and more of `cargo build`'s words.
pub(crate) fn stripped(what: &str) -> anyhow::Result<PathBuf> {
    build(what, BOARD_TARGET).map(|(program, _)| program)
}

/// The stripped program and its twin.
fn build(what: &str, target: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let folder = shell::target_dir().join("board");
    let (program, debug) = (folder.join("classify"), folder.join("classify.debug"));
    fs::create_dir_all(&folder).with_context(|| format!("folder {}", folder.display()))?;
    shell::add_target(target)?;
    shell::run(&mut compile("build", what, target))?;
    let built = shell::target_dir().join(target).join("board/classify");
    copy(&built, &debug)?;
    strip(&debug, &program, what, target)?;
    Ok((program, debug))
}

/// The board's program, in `cargo build`'s words.
pub(crate) const CLASSIFY: &str = "-p vgg-edge-classify --bin classify";

/// The program that runs kernels alone.
pub(crate) const STRIPS: &str = "-p vgg-edge-engine --example strip_bench";

/// `cargo build` or `cargo rustc` of `what` for `target` as on the board; the linker comes with Rust.
pub(crate) fn compile(subcommand: &str, what: &str, target: &str) -> Command {
    let mut cargo = shell::command(&format!("cargo {subcommand} {what}"));
    cargo.args(["--profile", "board", "--target", target]);
    if target.ends_with("-linux-musl") {
        cargo.arg("--config").arg(format!("target.{target}.linker=\"rust-lld\""));
        // They come behind those of `.cargo/config.toml`; a profile cannot set them.
        cargo.arg("--config").arg(format!("target.{target}.rustflags={NO_UNWIND}"));
    }
    cargo
}

/// Leaves out what only unwinding needs: the profile aborts at a panic, whose message and place are printed as ever.
const NO_UNWIND: &str = r#"["-C", "force-unwind-tables=no", "-C", "link-arg=-Tdevice/classify/no-unwind.x"]"#;

/// What stays of the symbols, in objcopy's words: the log's messages, a few KB, from which `--log-format text` makes lines
/// on the board.
const MESSAGES: &str = "device/classify/messages.rsp";

/// Makes `program` from `debug` with the toolchain's own objcopy; where a toolchain has none, links again, and the log's
/// text form has no messages.
fn strip(debug: &Path, program: &Path, what: &str, target: &str) -> anyhow::Result<()> {
    let sysroot = shell::output(&mut shell::command("rustc --print sysroot"))?;
    let host = shell::output(&mut shell::command("rustc --print host-tuple"))?;
    let sysroot = Path::new(sysroot.trim());
    let objcopy = sysroot.join("lib/rustlib").join(host.trim()).join("bin/rust-objcopy");
    if objcopy.exists() {
        let mut command = Command::new(objcopy);
        command
            .arg("--strip-all")
            .arg(format!("@{}", shell::root().join(MESSAGES).display()))
            .arg(debug)
            .arg(program)
            .env("LD_LIBRARY_PATH", sysroot.join("lib"));
        return shell::run(&mut command);
    }
    shell::run(compile("rustc", what, target).args(["--", "-C", "strip=symbols"]))?;
    copy(&shell::target_dir().join(target).join("board/classify"), program)
}

/// Copies by a temporary name: a program that is running or being sent stays whole.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let part = to.with_extension("part");
    fs::copy(from, &part)
        .and_then(|_| fs::rename(&part, to))
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

fn shown(path: &Path) -> &Path {
    path.strip_prefix(shell::root()).unwrap_or(path)
}
