//! A board over the system's ssh: one connection, shared by every command, copy and tunnel.
//!
//! ```text
//! ssh -M -N -S socket ..      the connection, a child of this process for as long as it is needed
//! ssh -S socket .. sh -s      a script on standard input
//! ssh -S socket .. -W a:p     a TCP connection from the board to itself
//! rsync -e 'ssh -S socket'    files, only what changed; without rsync `cat` behind ssh
//! ```
//!
//! ssh reads the user's configuration, keys, agent and jump hosts as always. Words are passed as a list, never through a
//! shell of this machine; the board's shell sees `sh -s`, or words that are quoted.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::error::Problem;
use super::shell::{Script, rsync_word, word};
use super::target::Target;

/// What ssh is told unless the user tells it otherwise: a dead connection ends within 15 seconds.
const DEFAULTS: [&str; 3] = ["ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3"];
/// Until a connection must stand; a person may have to type a passphrase.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);
/// A socket's name may have 108 bytes, and ssh adds 17 while it makes it.
const MAX_SOCKET_BYTES: usize = 88;
/// Of standard error, in messages.
const SHOWN_LINES: usize = 4;
/// No command here prints more.
const MAX_OUTPUT_BYTES: u64 = 16 << 20;
const POLL: Duration = Duration::from_millis(5);

/// A connection to a board.
pub(crate) struct Ssh {
    target: Target,
    options: Vec<String>,
    /// What changes the board runs under sudo.
    sudo: bool,
    limit: Duration,
    master: Option<Master>,
}

/// The connection that the others share.
struct Master {
    child: Child,
    folder: TempDir,
}

impl Drop for Master {
    fn drop(&mut self) {
        // Its own child, so it ends with this process's work; what it shares ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct SshOptions {
    /// ssh options of the user, `Name=value`; they win.
    pub(crate) options: Vec<String>,
    /// Nobody is there to type a passphrase.
    pub(crate) batch: bool,
    /// For one command.
    pub(crate) limit: Duration,
}

impl Ssh {
    /// Connects.
    ///
    /// # Errors
    /// ssh's words on why not.
    pub(crate) fn connect(target: &Target, options: &SshOptions, sudo: bool) -> Result<Self, Problem> {
        let mut all = options.options.clone();
        all.extend(DEFAULTS.map(str::to_owned));
        if options.batch {
            all.push("BatchMode=yes".to_owned());
        }
        let mut ssh = Self { target: target.clone(), options: all, sudo, limit: options.limit, master: None };
        let folder = TempDir::with_prefix("vgg-edge-")
            .map_err(|error| Problem::Local(format!("temporary folder: {error}")))?;
        if folder.path().as_os_str().len() + 2 <= MAX_SOCKET_BYTES {
            ssh.master = Some(ssh.open(folder)?);
        }
        Ok(ssh)
    }

    /// Opens the shared connection.
    fn open(&self, folder: TempDir) -> Result<Master, Problem> {
        let (socket, log) = (folder.path().join("s"), folder.path().join("log"));
        let local = |error: std::io::Error| Problem::Local(format!("file {}: {error}", log.display()));
        let mut command = Command::new("ssh");
        command.args(["-M", "-N", "-T", "-S"]).arg(&socket).args(self.arguments());
        command.arg("--").arg(&self.target.address);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).map_err(local)?);
        let child = command.spawn().map_err(|source| start("ssh", source))?;
        let mut master = Master { child, folder };
        let began = Instant::now();
        loop {
            if socket.exists() {
                return Ok(master);
            }
            let ended = master.child.try_wait().map_err(|source| start("ssh", source))?;
            if let Some(status) = ended {
                let said = std::fs::read(&log).unwrap_or_default();
                return Err(Problem::Connect { why: last_lines(&said, status) });
            }
            if began.elapsed() > CONNECT_LIMIT {
                return Err(Problem::TimedOut { seconds: CONNECT_LIMIT.as_secs() });
            }
            thread::sleep(POLL);
        }
    }

    /// Options and port, as ssh takes them.
    fn arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        for option in &self.options {
            words.extend(["-o".into(), option.into()]);
        }
        if let Some(port) = self.target.port {
            words.extend(["-p".into(), port.to_string().into()]);
        }
        words
    }

    /// Options and port behind the shared connection.
    fn shared(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        if let Some(master) = &self.master {
            words.extend(["-S".into(), master.folder.path().join("s").into_os_string()]);
        }
        words.extend(self.arguments());
        words
    }

    /// ssh with a command line for the board's login shell.
    fn command(&self, remote: &str) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-T").args(self.shared()).arg("--").arg(&self.target.address).arg(remote);
        command
    }

    /// `command` as root, if that was asked for.
    fn root(&self, command: &str) -> String {
        if self.sudo { format!("sudo -n {command}") } else { command.to_owned() }
    }

    /// What a script prints that only looks.
    ///
    /// # Errors
    /// A script that fails, or a connection that does.
    pub(crate) fn look(&self, script: &Script) -> Result<String, Problem> {
        self.script("sh -s", script).map(|ran| ran.0)
    }

    /// What a script prints, and says on standard error, that changes the board.
    ///
    /// # Errors
    /// A script that fails, or a connection that does.
    pub(crate) fn change(&self, script: &Script) -> Result<(String, String), Problem> {
        self.script(&self.root("sh -s"), script)
    }

    /// The bytes that a script prints, which may read what only root reads.
    ///
    /// # Errors
    /// A script that fails, or a connection that does.
    pub(crate) fn bytes(&self, script: &Script) -> Result<Vec<u8>, Problem> {
        run(self.command(&self.root("sh -s")), Input::Bytes(script.text().into_bytes()), self.limit)?
            .success()
    }

    fn script(&self, shell: &str, script: &Script) -> Result<(String, String), Problem> {
        let ran = run(self.command(shell), Input::Bytes(script.text().into_bytes()), self.limit)?;
        let stdout = ran.success()?;
        Ok((String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&ran.stderr).into_owned()))
    }

    /// Writes a file of the board that only its owner reads.
    ///
    /// # Errors
    /// A file that cannot be read here or written there.
    pub(crate) fn write(&self, from: &Path, to: &str) -> Result<(), Problem> {
        let file = File::open(from)
            .map_err(|error| Problem::Local(format!("cannot read {}: {error}", from.display())))?;
        // The words of the inner shell are quoted twice: the login shell takes one layer off.
        let inner = format!("umask 077 && exec cat >{}", word(to));
        let command = self.command(&self.root(&format!("sh -c {}", word(&inner))));
        run(command, Input::File(file), self.limit)?.success().map(drop)
    }

    /// Makes the board's folder `to` equal to the folder `from`, links followed, with rsync. Files that the board has in
    /// `like` are copied there.
    ///
    /// # Errors
    /// rsync's words.
    pub(crate) fn rsync(&self, from: &Path, to: &str, like: Option<&str>) -> Result<(), Problem> {
        let mut rsh = vec!["ssh".to_owned(), "-T".to_owned()];
        rsh.extend(self.shared().iter().map(|word| rsync_word(&word.to_string_lossy())));
        let mut command = Command::new("rsync");
        command.args(["--recursive", "--copy-links", "--checksum", "--partial", "--delete"]);
        command.arg("--rsh").arg(rsh.join(" "));
        if self.sudo {
            command.args(["--rsync-path", "sudo -n rsync"]);
        }
        if let Some(like) = like {
            command.arg("--copy-dest").arg(like);
        }
        let mut folder = from.as_os_str().to_owned();
        folder.push("/");
        command.arg("--").arg(folder).arg(format!("{}:{to}/", self.target.rsync_address()));
        let ran = run(command, Input::Bytes(Vec::new()), self.limit)?;
        match ran.status.code() {
            // The peer went: of ssh (255), its pipe (10), the protocol (12), a signal (20), time out (30, 35).
            Some(10 | 12 | 20 | 30 | 35 | 255) if !says_full(&ran.stderr) => {
                Err(Problem::Lost { why: last_lines(&ran.stderr, ran.status) })
            }
            _ => ran.success().map(drop),
        }
    }

    /// What a server of the board at `address` (as the board sees it) answers to `request`, up to its end.
    ///
    /// # Errors
    /// A server that is not there, or a board that forwards nothing.
    pub(crate) fn ask(&self, address: &str, request: Vec<u8>, limit: Duration) -> Result<Vec<u8>, Problem> {
        let mut command = Command::new("ssh");
        command.arg("-W").arg(address).args(self.shared()).arg("--").arg(&self.target.address);
        run(command, Input::Open(request), limit)?.success()
    }

    /// A command that runs, as root if that was asked for, until the value is dropped or the connection ends, once it
    /// has printed the line `word`. `None` when it ends without it.
    ///
    /// # Errors
    /// A connection that fails.
    pub(crate) fn hold(&self, remote: &str, word: &str) -> Result<Option<Held>, Problem> {
        let mut command = self.command(&self.root(remote));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|source| start("ssh", source))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut held = Held { child, _stdin: stdin };
        // A login shell may say something first.
        let lines = stdout.map(|out| BufReader::new(out).lines());
        match lines.is_some_and(|lines| lines.map_while(Result::ok).any(|line| line == word)) {
            true => Ok(Some(held)),
            false => match held.child.wait().map_err(|source| start("ssh", source))?.code() {
                Some(255) | None => Err(Problem::Lost { why: "ssh ended".to_owned() }),
                Some(_) => Ok(None),
            },
        }
    }
}

/// A command on the board that lasts as long as this value.
pub(crate) struct Held {
    child: Child,
    _stdin: Option<ChildStdin>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Its standard input ends, and it with it; a connection that hangs is not waited for.
        drop(self._stdin.take());
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command did.
struct Ran {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ran {
    /// Its output, if it succeeded. ssh itself fails with 255.
    fn success(&self) -> Result<Vec<u8>, Problem> {
        match self.status.code() {
            Some(0) => Ok(self.stdout.clone()),
            Some(255) | None => Err(Problem::Lost { why: last_lines(&self.stderr, self.status) }),
            Some(code) => Err(Problem::Remote { code, why: last_lines(&self.stderr, self.status) }),
        }
    }
}

/// What a command reads.
enum Input {
    Bytes(Vec<u8>),
    /// Without an end before the command's own: a server may take the end for a client that went.
    Open(Vec<u8>),
    File(File),
}

/// Runs a command to its end or to the limit.
fn run(mut command: Command, input: Input, limit: Duration) -> Result<Ran, Problem> {
    let program = command.get_program().to_string_lossy().into_owned();
    let stays_open = matches!(input, Input::Open(_));
    let bytes = match input {
        Input::Bytes(bytes) | Input::Open(bytes) => {
            command.stdin(Stdio::piped());
            bytes
        }
        Input::File(file) => {
            command.stdin(file);
            Vec::new()
        }
    };
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| start(&program, source))?;
    // Dropped when the command is: the child must see the end of a file that was opened for it.
    drop(command);
    let stdin = child.stdin.take();
    let writer = thread::spawn(move || {
        let mut stdin = stdin?;
        // A command that reads no more has its reason, and says it.
        let _ = stdin.write_all(&bytes);
        stays_open.then_some(stdin)
    });
    let stdout = child.stdout.take().map(reader);
    let stderr = child.stderr.take().map(reader);
    let began = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|source| start(&program, source))? {
            Some(status) => break status,
            None if began.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Problem::TimedOut { seconds: limit.as_secs() });
            }
            None => thread::sleep(POLL),
        }
    };
    let all = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    };
    let ran = Ran { status, stdout: all(stdout), stderr: all(stderr) };
    let _ = writer.join();
    Ok(ran)
}

/// Reads a stream to its end; what is beyond the limit is read, but not kept.
fn reader(stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut bytes, mut stream) = (Vec::new(), stream);
        let _ = (&mut stream).take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
        bytes
    })
}

fn start(program: &str, source: std::io::Error) -> Problem {
    Problem::Start { program: program.to_owned(), source }
}

/// Whether a disk was full.
pub(crate) fn says_full(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    ["No space left", "Disk quota exceeded", "File too large", "SIGXFSZ"]
        .iter()
        .any(|words| text.contains(words))
}

/// The end of what a command said, on one line: from the line that starts with `error: `, if there is one. Its exit code
/// where it said nothing.
fn last_lines(text: &[u8], status: ExitStatus) -> String {
    let text = String::from_utf8_lossy(text);
    let said = |line: &&str| !line.is_empty() && !line.starts_with("hint: ");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(said).collect();
    let from = lines.iter().rposition(|line| line.starts_with("error: "));
    match &lines[from.unwrap_or(lines.len().saturating_sub(SHOWN_LINES))..] {
        [] => status.to_string(),
        lines => lines.join("; ").trim_start_matches("error: ").to_owned(),
    }
}
