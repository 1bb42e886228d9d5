//! A board's log over the system's ssh: files with `cat` and `tail`, the journal, or a forwarded socket.
//!
//! ```text
//! ssh pi@board systemctl show vgg-edge ─► --log SINK ─┬─ FILE       cat FILE.N .. FILE.1, then cat or tail -F FILE
//!                                                     ├─ stderr     journalctl (text alone: it keeps no other bytes)
//!                                                     └─ unix:PATH  ssh -L
//! ```
//!
//! ssh does the rest: configuration, agents, jump hosts, passwords. Its standard input stays open as long as this program runs. Nothing goes through a shell here; what goes through
//! the board's is quoted.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::LogsError;

/// A board and how it is reached.
#[derive(Clone, Debug)]
pub struct Board {
    /// `user@board`, or a name in ssh's configuration.
    pub host: String,
    /// Passed on with `-o`.
    pub ssh_options: Vec<String>,
    /// The service whose log is meant.
    pub unit: String,
    /// Reads as root there.
    pub sudo: bool,
}

/// Where a service logs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sink {
    File(String),
    Socket(String),
    Journal,
}

/// A log that ssh brings.
pub struct Remote {
    child: Child,
    bytes: Bytes,
    shown: String,
    is_read: bool,
    _folder: Option<tempfile::TempDir>,
}

enum Bytes {
    Pipe(ChildStdout),
    #[cfg(unix)]
    Socket(std::os::unix::net::UnixStream),
}

impl Board {
    /// Opens the log: `path` (a file, `unix:PATH`, or `journal`), or where the service says that it logs.
    ///
    /// # Errors
    /// When ssh cannot be started or fails, or the service does not log where it can be read.
    pub fn open(&self, path: Option<&str>, follow: bool) -> Result<Remote> {
        ensure!(!self.host.starts_with('-'), "host `{}`: expected user@board", self.host);
        let sink = match path {
            Some(path) => sink(path),
            None => self.service_sink()?,
        };
        match sink {
            Sink::Socket(path) => self.forward(&path),
            Sink::File(path) => self.pipe(&read_files(&path, follow)),
            Sink::Journal => {
                let read = format!("journalctl --no-pager -o cat -u {}", quote(&self.unit));
                self.pipe(&if follow { until_we_end(&format!("{read} -f -n all")) } else { read })
            }
        }
    }

    /// Where the service logs, by its command line.
    fn service_sink(&self) -> Result<Sink> {
        let script = format!("systemctl show -p ExecStart {}", quote(&self.unit));
        let mut command = self.command(&[], &script);
        let shown = format!("{command:?}");
        let output =
            command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {shown}"))?;
        ensure!(output.status.success(), "{}: {script} failed: {}", self.host, output.status);
        let wrong =
            |problem| LogsError::Service { host: self.host.clone(), unit: self.unit.clone(), problem };
        Ok(sink_of_service(&String::from_utf8_lossy(&output.stdout)).map_err(wrong)?)
    }

    /// What `script` prints on the board.
    fn pipe(&self, script: &str) -> Result<Remote> {
        let mut command = self.command(&[], script);
        let shown = format!("ssh {}", self.host);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start ssh")?;
        let stdout = child.stdout.take().context("ssh has no output")?;
        Ok(Remote { child, bytes: Bytes::Pipe(stdout), shown, is_read: false, _folder: None })
    }

    /// The socket at `path` on the board, through a socket in a folder of ours.
    #[cfg(unix)]
    fn forward(&self, path: &str) -> Result<Remote> {
        use std::os::unix::net::UnixStream;
        use std::thread;
        use std::time::Duration;

        let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
        let local = folder.path().join("log");
        let forward = format!("{}:{path}", local.display());
        let mut command =
            self.command(&["-o", "ExitOnForwardFailure=yes", "-L", &forward], "exec cat > /dev/null");
        let mut child = command.stdin(Stdio::piped()).spawn().context("cannot start ssh")?;
        let shown = format!("ssh {}", self.host);
        loop {
            if let Ok(stream) = UnixStream::connect(&local) {
                let bytes = Bytes::Socket(stream);
                return Ok(Remote { child, bytes, shown, is_read: false, _folder: Some(folder) });
            }
            if let Some(status) = child.try_wait().context("cannot wait for ssh")? {
                bail!("{shown} failed: {status}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    #[cfg(not(unix))]
    fn forward(&self, path: &str) -> Result<Remote> {
        bail!("{}: unix:{path}: sockets can be read on Unix alone", self.host);
    }

    fn command(&self, arguments: &[&str], script: &str) -> Command {
        let mut command = Command::new("ssh");
        for option in &self.ssh_options {
            command.args(["-o", option]);
        }
        let sudo = if self.sudo { "sudo " } else { "" };
        command.args(arguments).arg(&self.host).arg(format!("{sudo}sh -c {}", quote(script)));
        command
    }
}

impl Remote {
    /// Whether one process writes all of it.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        !matches!(self.bytes, Bytes::Pipe(_))
    }

    /// Ends ssh and says whether it failed.
    ///
    /// # Errors
    /// When it did, or nothing came through a socket.
    pub fn finish(mut self) -> Result<()> {
        match self.bytes {
            Bytes::Pipe(_) => {
                let status = self.child.wait().context("cannot wait for ssh")?;
                ensure!(status.success(), "{} failed: {status}", self.shown);
            }
            // ssh goes on for further connections; it ends with us.
            #[cfg(unix)]
            Bytes::Socket(_) => ensure!(self.is_read, "{}: nobody writes to the socket", self.shown),
        }
        Ok(())
    }
}

impl Read for Remote {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.bytes {
            Bytes::Pipe(pipe) => pipe.read(buf),
            #[cfg(unix)]
            Bytes::Socket(socket) => socket.read(buf),
        }?;
        self.is_read |= n > 0;
        Ok(n)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints a log's files, oldest first; `follow`: then goes on with the newest, by its name.
fn read_files(path: &str, follow: bool) -> String {
    let rest = if follow { until_we_end("tail -c +1 -F \"$p\"") } else { "exec cat \"$p\"".to_owned() };
    format!(
        "p={}; n=99; while [ $n -gt 0 ]; do if [ -f \"$p.$n\" ]; then cat \"$p.$n\"; fi; n=$((n-1)); done; {rest}",
        quote(path)
    )
}

/// Runs a command that has no end of its own until standard input ends, as it does when this program or the connection
/// does, however it ends: nothing stays behind on the board.
fn until_we_end(command: &str) -> String {
    format!("{command} & t=$!; cat > /dev/null; kill $t")
}

fn sink(path: &str) -> Sink {
    match path.strip_prefix("unix:") {
        Some(path) => Sink::Socket(path.to_owned()),
        None if path == "journal" => Sink::Journal,
        None => Sink::File(path.to_owned()),
    }
}

/// The sink in `ExecStart={ path=... ; argv[]=/opt/classify serve m.vgg --log /var/log/m ; ... }`.
fn sink_of_service(shown: &str) -> Result<Sink, &'static str> {
    let command = shown.split_once("argv[]=").ok_or("is not there, or runs nothing")?.1;
    let command = command.split(" ; ").next().unwrap_or_default();
    let words: Vec<&str> = command.split_whitespace().collect();
    let option = |name: &str| {
        let after = |(i, word): (usize, &&str)| match word.strip_prefix(name)? {
            "" => words.get(i + 1).map(|value| (*value).to_owned()),
            value => value.strip_prefix('=').map(str::to_owned),
        };
        words.iter().enumerate().find_map(after)
    };
    match option("--log").as_deref() {
        None => Err("does not log: its command has no --log"),
        Some("stderr") if option("--log-format").as_deref() == Some("text") => Ok(Sink::Journal),
        Some("stderr") => Err("logs in defmt to the journal, which keeps text alone"),
        Some(path) if path.starts_with("unix:") || Path::new(path).is_absolute() => Ok(sink(path)),
        Some(_) => Err("logs to a file without a whole path: name it"),
    }
}

/// One word for a POSIX shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_says_where_it_logs() {
        let sink = |words: &str| {
            sink_of_service(&format!(
                "ExecStart={{ path=/opt/classify ; argv[]=/opt/classify serve m.vgg {words} ; ignore_errors=no ; pid=0 }}\n"
            ))
        };
        assert_eq!(sink("--log /var/log/a.log"), Ok(Sink::File("/var/log/a.log".to_owned())));
        assert_eq!(sink("--log-files 3 --log=unix:/run/a.sock"), Ok(Sink::Socket("/run/a.sock".to_owned())));
        assert_eq!(sink("--log-format text --log stderr"), Ok(Sink::Journal));
        assert_eq!(sink("--log stderr"), Err("logs in defmt to the journal, which keeps text alone"));
        assert_eq!(sink("--log a.log"), Err("logs to a file without a whole path: name it"));
        assert_eq!(sink("--log"), Err("does not log: its command has no --log"));
        assert_eq!(sink("--listen :80"), Err("does not log: its command has no --log"));
        assert_eq!(sink_of_service("ExecStart=\n"), Err("is not there, or runs nothing"));
    }

    #[test]
    fn words_stay_words_in_a_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("a'; rm -r b"), "'a'\\''; rm -r b'");
    }
}
