//! A program under `qemu-aarch64`, with or without the counter.
//!
//! ```text
//! qemu-aarch64 -cpu CPU [-plugin COUNTER,out=FILE[,l1=KIB:WAYS,l2=KIB:WAYS][,laps=FILE]] PROGRAM ARGS...
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::boards::{Board, Counts, Laps};

const EMULATOR: &str = "qemu-aarch64";

/// One program on one emulated CPU.
#[derive(Clone, Debug)]
pub struct Emulator {
    /// CPU as the emulator names it.
    pub cpu: String,
    /// The counter, a plugin of the emulator.
    pub counter: PathBuf,
    /// The program, for Arm Linux.
    pub program: PathBuf,
    /// Board whose caches are modelled, if any.
    pub caches_of: Option<&'static Board>,
}

impl Emulator {
    /// Runs the program; what it printed on standard output.
    ///
    /// # Errors
    /// The emulator cannot be started, or the program fails.
    pub fn run(&self, args: &[String]) -> anyhow::Result<String> {
        self.start(None, args)
    }

    /// Runs the program and counts.
    ///
    /// # Errors
    /// As [`Emulator::run`]; counts that are missing or damaged.
    pub fn count(&self, args: &[String]) -> anyhow::Result<Counts> {
        let folder = tempfile::tempdir().context("no folder for temporary files")?;
        let out = folder.path().join("counts.tsv");
        self.start(Some(format!("out={}", out.display())), args)?;
        Counts::parse(&read(&out)?).context("counts of the emulator")
    }

    /// Runs the program and counts between its readings of the clock.
    ///
    /// # Errors
    /// As [`Emulator::count`].
    pub fn count_laps(&self, args: &[String]) -> anyhow::Result<Laps> {
        let folder = tempfile::tempdir().context("no folder for temporary files")?;
        let (out, laps) = (folder.path().join("counts.tsv"), folder.path().join("laps.tsv"));
        self.start(Some(format!("out={},laps={}", out.display(), laps.display())), args)?;
        Laps::parse(&read(&laps)?).context("laps of the emulator")
    }

    fn start(&self, count: Option<String>, args: &[String]) -> anyhow::Result<String> {
        let mut command = Command::new(EMULATOR);
        command.args(["-cpu", &self.cpu]);
        if let Some(mut files) = count {
            if let Some(Board { l1, l2, .. }) = self.caches_of {
                files += &format!(",l1={}:{},l2={}:{}", l1.kib, l1.ways, l2.kib, l2.ways);
            }
            command.arg("-plugin").arg(format!("{},{files}", self.counter.display()));
        }
        command.arg(&self.program).args(args);
        let shown = || format!("{} {}", shown(&self.program), args.join(" "));
        let ran = command.output().with_context(|| format!("cannot start {EMULATOR}"))?;
        if !ran.status.success() {
            let stderr = String::from_utf8_lossy(&ran.stderr);
            let (shown, status) = (shown(), ran.status);
            bail!("`{shown}` on an emulated {} failed: {status}: {}", self.cpu, stderr.trim());
        }
        String::from_utf8(ran.stdout).with_context(|| format!("output of `{}`", shown()))
    }
}

/// A program by its name.
fn shown(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).context("the emulator wrote no counts")
}
