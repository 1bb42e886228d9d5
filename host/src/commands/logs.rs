//! `logs`: the device's log as text, from here or from a board.

use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::logs::{Board, Files, Level, Options, Summary, decode};

/// Decodes the log that `classify --log` writes
#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    /// A log file, read with those that were rotated away; or `unix:SOCKET`; standard input if absent
    #[arg(conflicts_with = "host")]
    pub stream: Option<PathBuf>,
    /// The unstripped program that wrote it
    #[arg(long, value_name = "PROGRAM", default_value = "target/board/classify.debug")]
    pub elf: PathBuf,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
    /// Leave out less important messages
    #[arg(long, value_name = "LEVEL", value_enum, default_value = "trace")]
    pub level: Level,
    /// Leave out source files and lines
    #[arg(long)]
    pub no_locations: bool,
    /// Decode even what other or unknown builds wrote; messages may be wrong
    #[arg(long)]
    pub any_build: bool,
    /// Read the log of a board, with ssh
    #[arg(long, value_name = "USER@BOARD")]
    pub host: Option<String>,
    /// There: this file, `unix:SOCKET` or `journal`; default: where the service logs
    #[arg(long, requires = "host", value_name = "PATH")]
    pub path: Option<String>,
    /// There: the service whose log is meant
    #[arg(long, requires = "host", default_value = "vgg-edge", value_name = "NAME")]
    pub unit: String,
    /// There: read as root
    #[arg(long, requires = "host")]
    pub sudo: bool,
    /// Option for ssh, as in `Port=2222`; may be given several times
    #[arg(long, requires = "host", value_name = "OPTION")]
    pub ssh_option: Vec<String>,
}

impl LogsArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A stream that cannot be read or that another build wrote, or a program without messages.
    pub fn run(&self) -> anyhow::Result<()> {
        let options = Options {
            level: self.level,
            locations: !self.no_locations,
            any_build: self.any_build,
            follow: self.follow,
            one_process: false,
        };
        let decode = |stream: &mut dyn Read, one_process| {
            decode(&self.elf, stream, io::stdout().lock(), &Options { one_process, ..options })
        };
        let summary = if let Some(host) = &self.host {
            let board = Board {
                host: host.clone(),
                ssh_options: self.ssh_option.clone(),
                unit: self.unit.clone(),
                sudo: self.sudo,
            };
            let mut remote = board.open(self.path.as_deref(), self.follow)?;
            let is_socket = remote.is_socket();
            let summary = decode(&mut remote, is_socket)?;
            remote.finish()?;
            summary
        } else {
            match &self.stream {
                Some(path) => match path.to_str().and_then(|path| path.strip_prefix("unix:")) {
                    Some(socket) => decode(&mut connect(socket)?, true)?,
                    None => {
                        let files = Files::open(path, self.follow);
                        decode(&mut files.with_context(|| format!("stream {}", path.display()))?, false)?
                    }
                },
                None => decode(&mut io::stdin().lock(), false)?,
            }
        };
        warn(&summary);
        Ok(())
    }
}

#[cfg(unix)]
fn connect(socket: &str) -> anyhow::Result<impl Read> {
    std::os::unix::net::UnixStream::connect(socket).with_context(|| format!("stream unix:{socket}"))
}

#[cfg(not(unix))]
fn connect(socket: &str) -> anyhow::Result<io::Empty> {
    anyhow::bail!("stream unix:{socket}: sockets can be read on Unix alone")
}

/// What was not shown.
fn warn(summary: &Summary) {
    if summary.malformed > 0 {
        eprintln!("warning: {} frames skipped: damaged, or cut off", summary.malformed);
    }
    if summary.unnamed > 0 {
        eprintln!(
            "warning: {} frames skipped: the stream does not say which build wrote them",
            summary.unnamed
        );
    }
    for (build, n) in &summary.others {
        eprintln!("warning: {n} frames skipped: written by build {build}");
    }
}
