//! The emulated CPUs, and the plugin that counts what they execute.
//!
//! ```text
//! counter/armcount.c ─► cc -O2 -shared -fPIC ─► target/counter/armcount.so
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, ensure};

use crate::shell;

/// A CPU as the emulator names it, and the kernels it runs, best first.
pub(crate) struct Cpu {
    pub(crate) name: &'static str,
    pub(crate) kernels: &'static str,
}

/// The CPUs that tests and counts run on.
pub(crate) const CPUS: [Cpu; 4] = [
    Cpu { name: "cortex-a53", kernels: "neon scalar" },
    Cpu { name: "cortex-a72", kernels: "neon scalar" },
    Cpu { name: "cortex-a76", kernels: "dotprod neon scalar" },
    Cpu { name: "max", kernels: "i8mm dotprod neon scalar" },
];

/// Runs one program of the board on this machine.
pub(crate) const EMULATOR: &str = "qemu-aarch64";

/// The counter, built when it is missing or older than its source.
///
/// Fails where something is missing that has to be installed, and names the package that has it.
pub(crate) fn counter() -> anyhow::Result<PathBuf> {
    check()?;
    let source = shell::root().join("xtask/counter/armcount.c");
    let folder = shell::target_dir().join("counter");
    let counter = folder.join("armcount.so");
    let time =
        |path: &Path| fs::metadata(path).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if counter.exists() && time(&counter) >= time(&source) {
        return Ok(counter);
    }
    fs::create_dir_all(&folder).with_context(|| format!("folder {}", folder.display()))?;
    // By a temporary name: another run may have the old one loaded.
    let part = folder.join(format!("armcount.{}.so", std::process::id()));
    shell::run(shell::command("cc -O2 -shared -fPIC -o").arg(&part).arg(&source))?;
    fs::rename(&part, &counter).with_context(|| format!("cannot write {}", counter.display()))?;
    Ok(counter)
}

/// Whether this machine can count.
fn check() -> anyhow::Result<()> {
    ensure!(shell::has(EMULATOR), "{EMULATOR} is not on the path: it is in Debian's package qemu-user");
    ensure!(shell::has("cc"), "cc is not on the path, it builds the counter: it is in Debian's package gcc");
    ensure!(
        shell::output(Command::new(EMULATOR).arg("--help"))?.contains("-plugin "),
        "{EMULATOR} was built without plugins, which count instructions: Debian's package qemu-user has them"
    );
    Ok(())
}
