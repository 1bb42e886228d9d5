//! Commands: echoed, run, their failure told.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, bail};

/// The Arm target of the board's program.
pub(crate) const BOARD_TARGET: &str = "aarch64-unknown-linux-musl";

/// The cargo that runs this task.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds: this program is `<target>/debug/xtask`.
pub(crate) fn target_dir() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    program.ancestors().nth(2).map_or_else(|| root().join("target"), Path::to_owned)
}

/// A command in the workspace's root, of words that have no spaces in them.
pub(crate) fn command(words: &str) -> Command {
    let mut words = words.split_whitespace();
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(if program == "cargo" { cargo() } else { program.into() });
    command.args(words).current_dir(root());
    command
}

/// Prints the command on stderr, runs it, and fails when it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}

/// What the command prints on stdout; it is not echoed.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let shown = show(command);
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of `{shown}`"))
}

/// Adds a target's standard library to the toolchain, if it is missing.
pub(crate) fn add_target(target: &str) -> anyhow::Result<()> {
    let installed = output(&mut command("rustup target list --installed")).context("rustup is needed")?;
    if installed.lines().any(|line| line == target) {
        return Ok(());
    }
    run(&mut command(&format!("rustup target add {target}")))
}

/// Whether a program is on the path.
pub(crate) fn has(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The exit code that passes a child's on.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The command as one would type it: own variables first, cargo by its name.
fn show(command: &Command) -> String {
    let quote = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        if word.is_empty() || word.contains([' ', '"', '*']) {
            format!("'{word}'")
        } else {
            word.into_owned()
        }
    };
    let program =
        if command.get_program() == cargo() { "cargo".into() } else { quote(command.get_program()) };
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quote(value?))));
    let words = std::iter::once(program).chain(command.get_args().map(quote));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = command("cargo test -p vgg-edge-engine");
        command.env("RUNNER", "qemu-aarch64 -cpu max").arg("");
        assert_eq!(show(&command), "RUNNER='qemu-aarch64 -cpu max' cargo test -p vgg-edge-engine ''");
    }

    #[test]
    fn a_failed_command_says_which() {
        let error = run(&mut command("false now")).unwrap_err().to_string();
        assert_eq!(error, "`false now` failed: exit status: 1");
        let error = run(&mut command("no-such-program-here")).unwrap_err().to_string();
        assert_eq!(error, "cannot start `no-such-program-here`");
        assert!(has("cargo") && !has("no-such-program-here"));
    }
}
