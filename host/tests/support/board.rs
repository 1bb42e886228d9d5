//! A board on this machine: a real sshd on loopback with throw-away keys, and stand-ins for what cannot run in a test.
//!
//! ```text
//! real        sshd, ssh, rsync, the shell and its tools, classify, the files, the service over HTTP, its sd_notify
//! stand-in    systemctl: a script that notes what it is told, and runs what the unit's ExecStart says until it is told to
//!             stop; journalctl: what the service said
//! ```
//!
//! Everything lies in one temporary folder and runs as the user of the test. (`deploy_systemd.rs` has a real systemd.)
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
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
        self.end();
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
        listen_to_service(&dir.path().join("state"));
        let service = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (sshd, port) = start_sshd(dir.path(), before, path);
        let board = Self { dir, sshd, port, service };
        board.program("systemctl", SYSTEMCTL);
        board.program("journalctl", "tail -n 5 \"$STATE/log\"\n");
        Some(board)
    }

    /// Ends sshd, and the service.
    pub(crate) fn end(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
        // It leads a group of its own.
        if let Ok(group) = fs::read_to_string(self.path("state/group")) {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", group.trim())]).output();
        }
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
        let port = free_port();
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

/// Notes what it is told, and runs the unit's command as systemd would: `%%` and `$$` stand for one, a word may be quoted, the
/// credential's folder is a variable, and it has started when it says so. The file `model` has a service serve another model.
const SYSTEMCTL: &str = r#"
runs() { [ -s "$STATE/group" ] && ! [ -s "$STATE/ended" ]; }
stop() {
  if runs; then kill -TERM "$(cat "$STATE/pid")"; fi
  while runs; do sleep 0.02; done
  rm -f "$STATE/group"
}
case "$1" in
  is-system-running) cat "$STATE/system" 2>/dev/null || echo running; exit 0;;
  --version) echo "systemd 252 (a stand-in)"; exit 0;;
  is-active) if runs; then echo active; else echo inactive; fi; exit 0;;
  show) case "$*" in *NRestarts*) echo 0;; *MemoryCurrent*) echo 4096;; *) echo now;; esac; exit 0;;
esac
echo "$*" >>"$STATE/told"
case "$1" in
  restart)
    stop
    unit="$STATE/../units/$2"
    CREDENTIALS_DIRECTORY=$(sed -n 's,^LoadCredential=token:\(.*\)/token$,\1,p' "$unit")
    set -f
    eval "set -- $(sed -n 's/^ExecStart=//p' "$unit" | sed 's/%%/%/g; s/\$\$/\\$/g')"
    if [ -s "$STATE/model" ]; then
      program=$1
      shift 3
      set -- "$program" serve "$(cat "$STATE/model")" "$@"
    fi
    : >"$STATE/said"
    rm -f "$STATE/ended"
    NOTIFY_SOCKET=$STATE/notify
    export NOTIFY_SOCKET CREDENTIALS_DIRECTORY
    setsid sh -c '"$@" & echo $! >"$0/pid"; wait $!; echo $? >"$0/ended"' "$STATE" "$@" </dev/null >"$STATE/log" 2>&1 &
    echo $! >"$STATE/group"
    until grep -q '^READY=1' "$STATE/said"; do
      if [ -s "$STATE/ended" ]; then
        rm -f "$STATE/group"
        echo "Job for ${unit##*/} failed because the control process exited with error code." >&2
        exit 1
      fi
      sleep 0.02
    done;;
  disable) stop;;
esac
"#;

/// What services say to their manager is written into the file `said` of the folder `state`.
fn listen_to_service(state: &Path) {
    let socket = UnixDatagram::bind(state.join("notify")).unwrap();
    let said = state.join("said");
    thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(len) = socket.recv(&mut message) {
            // The folder goes with the test.
            let Ok(mut file) = fs::File::options().create(true).append(true).open(&said) else { return };
            let _ = file.write_all(&[&message[..len], b"\n"].concat());
        }
    });
}

/// A port that is free, below those that the system hands out by itself: nobody gets it before it is used.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16;
    loop {
        let port =
            10_000 + first.wrapping_mul(61).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
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
