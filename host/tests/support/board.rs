//! A board on this machine: a real sshd on loopback with throw-away keys, and stand-ins for what cannot run in a test.
//!
//! ```text
//! real        sshd, ssh, rsync, the shell and its tools, classify, the files
//! stand-in    systemctl (a script that notes what it is told), and the service: a server that answers by
//!             `<prefix>/current/classify run`, while the script says that the unit is active
//! ```
//!
//! Everything lies in one temporary folder and runs as the user of the test.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use vgg_edge_tests::{Ran, TempDir, run, temp_dir};

const SSHD: &str = "/usr/sbin/sshd";

/// A board, and the workstation's files for it.
pub(crate) struct Board {
    dir: TempDir,
    sshd: Child,
    /// Of sshd.
    pub(crate) port: u16,
    /// Of the service.
    pub(crate) service: SocketAddr,
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

/// Whether this machine has what the tests need; says so where it has not, and fails in CI.
pub(crate) fn has_sshd() -> bool {
    let missing =
        [SSHD, "/usr/bin/ssh-keygen", "/usr/bin/rsync"].into_iter().find(|path| !Path::new(path).exists());
    let Some(missing) = missing else { return true };
    let message = format!("{missing} is not there: it is in Debian's packages openssh-server and rsync");
    assert!(std::env::var_os("CI").is_none(), "{message}");
    println!("left out: {message}");
    false
}

impl Board {
    /// A board; `None` after saying why there can be none.
    pub(crate) fn new() -> Option<Self> {
        Self::with("", "/usr/bin:/bin")
    }

    /// A board whose programs are all of this machine's but `tool`.
    pub(crate) fn without(tool: &str) -> Option<Self> {
        let board = Self::with("", "/nowhere")?;
        let tools = board.path("bin");
        for entry in
            ["/usr/bin", "/bin"].iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten()).flatten()
        {
            if entry.file_name() != tool {
                let _ = std::os::unix::fs::symlink(entry.path(), tools.join(entry.file_name()));
            }
        }
        Some(board)
    }

    /// A board whose sshd is started by a shell after `before`, and whose programs lie in `path`, behind the stand-ins.
    pub(crate) fn with(before: &str, path: &str) -> Option<Self> {
        if !has_sshd() {
            return None;
        }
        let dir = temp_dir();
        for folder in ["bin", "units", "state", "opt"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for key in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.path().join(key));
            assert_eq!(run(&mut keygen).code, Some(0));
        }
        // As root it wants an empty folder of this name.
        let _ = fs::create_dir("/run/sshd");
        let service = serve(dir.path());
        let (sshd, port) = start_sshd(dir.path(), before, path);
        let board = Self { dir, sshd, port, service };
        board.program("systemctl", SYSTEMCTL);
        board.program("journalctl", "echo 'a line of its log'\n");
        Some(board)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program on the board's path, before the system's.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        let state = self.path("state");
        fs::write(&path, format!("#!/bin/sh\nSTATE={}\n{script}", state.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A file that the stand-ins look at.
    pub(crate) fn set(&self, name: &str, text: &str) {
        fs::write(self.path("state").join(name), text).unwrap();
    }

    pub(crate) fn unset(&self, name: &str) {
        let _ = fs::remove_file(self.path("state").join(name));
    }

    /// What systemctl was told, a line a call, without questions.
    pub(crate) fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("state/told")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The release that runs, by the link; empty without one.
    pub(crate) fn current(&self) -> String {
        let link = fs::read_link(self.path("opt/current")).unwrap_or_default();
        link.strip_prefix("releases").map_or_else(|_| String::new(), |id| id.display().to_string())
    }

    /// All releases, oldest first.
    pub(crate) fn releases(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("opt/releases")).into_iter().flatten().flatten();
        let mut ids: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        ids.sort();
        ids
    }

    /// Every file below the prefix and the folder of units, with its size and when it was written.
    pub(crate) fn listing(&self) -> Vec<String> {
        let mut find = Command::new("find");
        find.arg(self.path("opt")).arg(self.path("units")).args(["-printf", "%p %s %T@ %l\n"]);
        let mut lines: Vec<String> = run(&mut find).stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Options that reach this board, without its name.
    pub(crate) fn ssh_options(&self) -> Vec<String> {
        let options = [
            format!("IdentityFile={}", self.path("user").display()),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=no".to_owned(),
            "UserKnownHostsFile=/dev/null".to_owned(),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ];
        options.into_iter().flat_map(|option| ["--ssh-option".to_owned(), option]).collect()
    }

    /// `vgg-edge deploy ARGS` with what every call here has; nothing of the user's own ssh configuration counts.
    pub(crate) fn command(&self, words: &str) -> Command {
        self.command_with(classify(), words)
    }

    /// The same with another program for the board.
    pub(crate) fn command_with(&self, program: &Path, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
        let (task, rest) = match words.split_once(' ') {
            Some((task @ ("status" | "rollback"), rest)) => (Some(task), rest),
            _ => (None, words),
        };
        command.arg("deploy").args(task).args(self.ssh_options());
        if !words.contains("--prefix ") {
            command.arg("--prefix").arg(self.path("opt"));
        }
        command.arg("--unit-dir").arg(self.path("units"));
        if task.is_none() {
            command.arg("--program").arg(program).arg("--listen").arg(self.service.to_string());
        }
        command.args(rest.split_whitespace()).current_dir(self.dir.path());
        command.stdin(Stdio::null()).env("HOME", self.dir.path());
        command
    }

    /// Runs `deploy` on this board.
    pub(crate) fn deploy(&self, words: &str) -> Ran {
        run(&mut self.command(&format!("{words} --host {}", self.address())))
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// The program of this machine: the one in `VGG_EDGE_CLASSIFY`, or built here.
pub(crate) fn classify() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("VGG_EDGE_CLASSIFY") {
        Some(path) => path.into(),
        None => vgg_edge_tests::built("vgg-edge-classify", "classify"),
    })
}

/// Starts sshd on a free port, and waits for its greeting.
fn start_sshd(dir: &Path, before: &str, path: &str) -> (Child, u16) {
    for _ in 0..20 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nAuthorizedKeysFile {0}/user.pub\nPidFile none\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             StrictModes no\nMaxStartups 100\nSetEnv VGG_EDGE_BIN={0}/bin PATH={0}/bin:{path}\n",
            dir.display()
        );
        fs::write(dir.join("sshd_config"), text).unwrap();
        let script = format!("{before}\nexec {SSHD} -f \"$1\" -D -e 2>>\"$2\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(dir.join("sshd_config")).arg(dir.join("sshd.log"));
        let mut sshd = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) && matches!(sshd.try_wait(), Ok(None)) {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut greeting = [0; 4];
                if stream.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-" {
                    return (sshd, port);
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = sshd.kill();
        let _ = sshd.wait();
    }
    panic!("sshd does not start: {}", fs::read_to_string(dir.join("sshd.log")).unwrap_or_default());
}

/// Notes what it is told; `restart` fails as often as the file `failing` has lines.
const SYSTEMCTL: &str = r#"
case "$1" in
  is-system-running) cat "$STATE/system" 2>/dev/null || echo running; exit 0;;
  --version) echo "systemd 252 (a stand-in)"; exit 0;;
  is-active) if [ -e "$STATE/active" ]; then echo active; else echo inactive; fi; exit 0;;
  show) case "$*" in *NRestarts*) echo 0;; *MemoryCurrent*) echo 4096;; *) echo now;; esac; exit 0;;
esac
echo "$*" >>"$STATE/told"
case "$1" in
  restart)
    rm -f "$STATE/active"
    if [ -s "$STATE/failing" ]; then
      sed -i 1d "$STATE/failing"
      echo "Job for $2 failed because the control process exited with error code." >&2
      exit 1
    fi
    touch "$STATE/active";;
  disable) rm -f "$STATE/active";;
esac
"#;

/// The service's stand-in: healthy while the unit is active; answers by the running release's own program.
fn serve(dir: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let dir = dir.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let dir = dir.clone();
            thread::spawn(move || answer(stream, &dir));
        }
    });
    address
}

fn answer(mut stream: TcpStream, dir: &Path) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let header = |name: &str| head.iter().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let len: usize = header("Content-Length: ").and_then(|len| len.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    let whole = reader.read_exact(&mut body).is_ok();
    let state = dir.join("state");
    let token = fs::read_to_string(dir.join("opt/current/token")).ok();
    let allowed = token.is_none_or(|token| header("Authorization: Bearer ") == Some(token.trim().to_owned()));
    let (status, text) = match head.first().map_or("", String::as_str) {
        _ if !state.join("active").exists() => return,
        "GET /healthz HTTP/1.0" => ("200 OK", "{\"status\":\"ok\"}".to_owned()),
        "POST /v1/classify HTTP/1.0" if !allowed => {
            ("401 Unauthorized", "{\"error\":\"no token\"}".to_owned())
        }
        "POST /v1/classify HTTP/1.0" if whole => {
            let picture = dir.join(format!("picture-{:?}", thread::current().id()));
            fs::write(&picture, body).unwrap();
            let current = dir.join("opt/current");
            // A board of another architecture: its program runs as its own shell would run it.
            let emulator = fs::read_to_string(state.join("emulator")).ok();
            let mut classify = match emulator {
                Some(emulator) => {
                    let mut command = Command::new(emulator);
                    command.arg(current.join("classify"));
                    command
                }
                None => Command::new(current.join("classify")),
            };
            classify.args(["run", "--json"]).arg(current.join("model.vgg")).arg(picture);
            let text = run(&mut classify).stdout;
            let wrong = state.join("wrong").exists();
            ("200 OK", if wrong { text.replacen("\"class\":", "\"class\":9", 1) } else { text })
        }
        _ => ("404 Not Found", String::new()),
    };
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    let _ = stream.shutdown(Shutdown::Both);
}

/// A port whose connections reach `to`, each until `budget` bytes went there; then both ends are closed.
pub(crate) fn cut_after(budget: usize, to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
            thread::spawn(move || {
                let (mut from_client, mut to_server) = (client, server);
                let _ = std::io::copy(&mut (&mut from_client).take(budget as u64), &mut to_server);
                let _ = from_client.shutdown(Shutdown::Both);
                let _ = to_server.shutdown(Shutdown::Both);
            });
        }
    });
    port
}
