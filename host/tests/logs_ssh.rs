//! A board's log over ssh, against a real OpenSSH server on this machine: files, the journal, sockets, and the service.
//!
//! The server is Debian's `openssh-server`, with keys made here, on a port that was free. systemd runs nowhere in a test:
//! `systemctl` and `journalctl` are scripts that print what the real ones print.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use vgg_edge_blob::{Scheme, write};
use vgg_edge_tests::{Ran, TempDir, built, run, temp_dir, vgg_of_two_blocks, workspace_root};

const PATIENCE: Duration = Duration::from_secs(60);

/// A board that ssh reaches, which is this machine.
struct Board {
    dir: TempDir,
    server: Child,
    port: u16,
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = (self.server.kill(), self.server.wait());
    }
}

/// Where Debian has the server; not on everybody's path.
fn sshd() -> Option<PathBuf> {
    let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "sshd is missing, and CI must have it");
        println!("not run: sshd is missing: it is in Debian's package openssh-server");
    }
    found
}

impl Board {
    fn start() -> Option<Self> {
        let sshd = sshd()?;
        let dir = temp_dir();
        let path = |name: &str| dir.path().join(name);
        for key in ["host_key", "user_key"] {
            let made =
                run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(key)));
            assert_eq!(made.code, Some(0), "{made:?}");
        }
        fs::copy(path("user_key.pub"), path("authorized_keys")).unwrap();
        fs::create_dir(path("bin")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| path(name).display().to_string();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nSetEnv PATH={}:/usr/bin:/bin\n",
            at("host_key"),
            at("authorized_keys"),
            at("bin")
        );
        fs::write(path("config"), config).unwrap();
        // The server started by root wants this folder, which the system's service makes.
        match fs::create_dir("/run/sshd") {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => println!("/run/sshd: {error}"),
            _ => {}
        }
        let log = fs::File::create(path("sshd.log")).unwrap();
        let mut server = Command::new(sshd);
        server
            .args(["-D", "-e", "-f"])
            .arg(path("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let server = server.spawn().unwrap();
        let board = Self { dir, server, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(board.path("sshd.log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "no server: {}", log());
            thread::sleep(Duration::from_millis(20));
        }
        Some(board)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program in the server's path.
    fn script(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The service runs `classify` with these arguments.
    fn service(&self, args: &str) {
        let shown =
            format!("ExecStart={{ path=/opt/classify ; argv[]=/opt/classify serve m.vgg {args} ; pid=0 }}");
        self.script(
            "systemctl",
            &format!("[ \"$*\" = 'show -p ExecStart vgg-edge' ] && echo '{shown}' || echo ExecStart="),
        );
    }

    fn logs_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
        command.arg("logs").args(["--host", "127.0.0.1", "--no-locations"]);
        for option in [
            format!("Port={}", self.port),
            format!("IdentityFile={}", self.path("user_key").display()),
            format!("UserKnownHostsFile={}", self.path("known_hosts").display()),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=accept-new".to_owned(),
            "LogLevel=ERROR".to_owned(),
            "BatchMode=yes".to_owned(),
        ] {
            command.args(["--ssh-option", &option]);
        }
        command.arg("--elf").arg(built("vgg-edge-classify", "classify")).args(args);
        command
    }

    fn logs(&self, args: &[&str]) -> Ran {
        run(&mut self.logs_command(args))
    }

    /// `classify run` of `n` pictures.
    fn classify(&self, args: &[&str], n: usize) -> Command {
        if !self.path("m.vgg").exists() {
            let mut bytes = Vec::new();
            write(vgg_of_two_blocks(Scheme::Int8), &mut bytes).unwrap();
            fs::write(self.path("m.vgg"), bytes).unwrap();
            let cats = fs::read_dir(workspace_root().join("tests/fixtures/cifar10/test/cat")).unwrap();
            fs::copy(cats.map(|cat| cat.unwrap().path()).min().unwrap(), self.path("a.jpg")).unwrap();
        }
        let mut command = Command::new(built("vgg-edge-classify", "classify"));
        command.current_dir(self.dir.path()).args(["run", "m.vgg", "--threads", "1"]).args(args);
        command.args(vec!["a.jpg"; n]).stdout(Stdio::null());
        command
    }
}

fn messages(text: &str) -> usize {
    text.lines().filter(|line| line.contains(" INFO ")).count()
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_boards_log_comes_over_ssh() {
    let Some(board) = Board::start() else { return };
    // A name that a shell would take apart.
    fs::create_dir(board.path("it's $HOME")).unwrap();
    let log = board.path("it's $HOME/d.log");
    let args = ["--log", shown(&log), "--log-size", "4", "--log-files", "90"];
    assert!(board.classify(&args, 500).status().unwrap().success());
    assert!(board.path("it's $HOME/d.log.1").exists());
    let decoded = board.logs(&["--path", shown(&log)]);
    assert_eq!((decoded.code, decoded.stderr.as_str()), (Some(0), ""), "{}", decoded.stdout);
    assert_eq!(messages(&decoded.stdout), 2 + 2 * 500);

    // Where the service says.
    let plain = board.path("plain.log");
    assert!(board.classify(&["--log", shown(&plain)], 1).status().unwrap().success());
    board.service(&format!("--listen 127.0.0.1:80 --log {}", plain.display()));
    assert_eq!(messages(&board.logs(&[]).stdout), 4);
    board.service("--listen 127.0.0.1:80");
    let refused = board.logs(&[]);
    assert_eq!(refused.code, Some(1));
    assert_eq!(
        refused.stderr,
        "error: 127.0.0.1: service vgg-edge does not log: its command has no --log\n\nhint: name the log with `--path`, or \
         the service with `--unit`\n"
    );
    let refused = board.logs(&["--unit", "other"]);
    assert!(
        refused.stderr.starts_with("error: 127.0.0.1: service other is not there, or runs nothing\n"),
        "{refused:?}"
    );

    // The journal has text, and what systemd says.
    let text =
        run(board.classify(&["--log", "stderr", "--log-format", "text"], 1).stderr(Stdio::piped())).stderr;
    fs::write(board.path("journal"), format!("Started vgg-edge.service.\n{text}")).unwrap();
    let print =
        format!("[ \"$*\" = '--no-pager -o cat -u vgg-edge' ] && cat {}", board.path("journal").display());
    board.script("journalctl", &print);
    board.service("--log stderr --log-format text");
    let decoded = board.logs(&[]);
    assert_eq!((decoded.code, messages(&decoded.stdout)), (Some(0), 4), "{decoded:?}");
    assert!(
        decoded.stdout.starts_with("Started vgg-edge.service.\n-- classify 0.1.0, process "),
        "{decoded:?}"
    );
    assert_eq!(board.logs(&["--path", "journal"]).stdout, decoded.stdout);

    // What fails there, fails here.
    let missing = board.logs(&["--path", "/no/such.log"]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("/no/such.log")
            && missing.stderr.contains("ssh 127.0.0.1 failed: exit status: 1")
    );
    let mut nowhere = board.logs_command(&["--path", "x"]);
    let refused = run(nowhere.args(["--ssh-option", "ProxyCommand=false"]));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.ends_with("error: ssh 127.0.0.1 failed: exit status: 255\n"), "{refused:?}");
    let option = run(Command::new(env!("CARGO_BIN_EXE_vgg-edge")).args(["logs", "--host=-oProxyCommand=x"]));
    assert_eq!(option.stderr, "error: host `-oProxyCommand=x`: expected user@board\n");
}

#[test]
fn a_boards_log_is_followed_over_ssh() {
    let Some(board) = Board::start() else { return };
    let log = board.path("d.log");
    assert!(board.classify(&["--log", shown(&log)], 1).status().unwrap().success());
    let mut command = board.logs_command(&["--path", shown(&log), "--follow"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let watchdog = Watchdog::start(follower.id());
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    let n =
        |lines: &mut dyn Iterator<Item = String>, n| lines.filter(|l| l.contains(" INFO ")).take(n).count();
    assert_eq!(n(&mut lines, 4), 4);
    // A few files further.
    let args = ["--log", shown(&log), "--log-size", "4", "--log-files", "50"];
    assert!(board.classify(&args, 50).status().unwrap().success());
    assert_eq!(n(&mut lines, 102), 102);
    assert_eq!(tails(&log), 1, "the search itself works");
    // However it ends, nothing stays behind on the board.
    let _ = (follower.kill(), follower.wait());
    watchdog.stop();
    let start = Instant::now();
    while tails(&log) > 0 {
        assert!(start.elapsed() < PATIENCE, "tail goes on");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_boards_socket_is_forwarded() {
    let Some(board) = Board::start() else { return };
    let socket = board.path("s.sock");
    let sink = format!("unix:{}", socket.display());
    let mut child = board.classify(&["--log", &sink], 40_000).spawn().unwrap();
    let start = Instant::now();
    while !socket.exists() {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    let mut command = board.logs_command(&["--path", &sink]);
    let mut reader = command.stdout(Stdio::piped()).spawn().unwrap();
    let watchdog = Watchdog::start(reader.id());
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().starts_with("-- classify 0.1.0, process "));
    assert_eq!(lines.by_ref().filter(|line| line.contains(" INFO ")).take(100).count(), 100);
    // The program ends: so does the log.
    let _ = (child.kill(), child.wait());
    lines.for_each(drop);
    assert!(reader.wait().unwrap().success());
    watchdog.stop();
    let nobody = board.logs(&["--path", &format!("{sink}x")]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("error: ssh 127.0.0.1: nobody writes to the socket"), "{nobody:?}");
}

/// Running programs `tail` of `log`.
fn tails(log: &Path) -> usize {
    let wanted = format!("\0{}\0", log.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let programs = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let is_tail = |words: &Vec<u8>| {
        let words = String::from_utf8_lossy(words);
        words.starts_with("tail\0") && words.contains(&wanted)
    };
    programs.filter(is_tail).count()
}

/// Ends a program that a test waits for too long.
struct Watchdog(std::sync::mpsc::Sender<()>, thread::JoinHandle<()>);

impl Watchdog {
    fn start(process: u32) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel();
        let wait = move || {
            if stopped.recv_timeout(PATIENCE).is_err() {
                let _ = Command::new("kill").arg(process.to_string()).status();
            }
        };
        Self(stop, thread::spawn(wait))
    }

    fn stop(self) {
        self.0.send(()).unwrap();
        self.1.join().unwrap();
    }
}
