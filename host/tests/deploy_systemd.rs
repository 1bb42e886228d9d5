//! Deployment to a board with a real systemd: the unit, its hardening, its watchdog, sudo, camera and broker.
//!
//! ```text
//! real        systemd as process 1 of namespaces of its own, journald, D-Bus, sshd, sudo, rsync, mosquitto, classify serve
//! missing     a camera: the service waits for it; MemoryMax works where cgroup v2 has the memory controller
//! ```
//!
//! Needs root, and Debian's packages systemd, dbus, sudo and mosquitto; `support/systemd.sh` says how it boots.
#![cfg(target_os = "linux")]

#[path = "support/board.rs"]
mod board;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use board::{Board, free_port};
use serde_json::Value;
use vgg_edge_blob::{NewModel, Scheme};
use vgg_edge_tests::{Ran, run, vgg_of_two_blocks, winograd_of_two_blocks};

/// For whatever a test waits for; more than enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const NAMESPACES: [&str; 7] =
    ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc", "--uts"];

/// Whether a systemd can be booted here; says so where it cannot, and fails where CI may.
fn can_boot() -> bool {
    let programs = ["/lib/systemd/systemd", "/usr/bin/dbus-daemon", "/usr/bin/sudo", "/usr/sbin/mosquitto"];
    let missing = programs.into_iter().find(|path| !Path::new(path).exists());
    let mut probe = Command::new("unshare");
    probe.args(NAMESPACES).args([
        "sh",
        "-c",
        "mount -t cgroup2 none /sys/fs/cgroup && mount -t tmpfs none /opt",
    ]);
    let message = match missing {
        Some(path) => format!("{path} is not there: the packages are systemd, dbus, sudo and mosquitto"),
        None => match run(&mut probe) {
            Ran { code: Some(0), .. } => return true,
            ran => format!("no systemd can be booted, only root may: {}", ran.stderr.trim()),
        },
    };
    let root = run(Command::new("id").arg("-u")).stdout == "0\n";
    assert!(!root || std::env::var_os("CI").is_none(), "{message}");
    println!("left out: {message}");
    false
}

/// A board that user `pi` reaches, who may do what root does.
struct Booted(Board);

impl Drop for Booted {
    fn drop(&mut self) {
        self.0.end();
        // Groups without a process stay until somebody removes them.
        let group =
            format!("vgg-edge-{}", self.0.path("").components().next_back().unwrap().as_os_str().display());
        let script =
            "mount -t cgroup2 none /sys/fs/cgroup && find /sys/fs/cgroup/$0 -depth -type d -exec rmdir {} +";
        for _ in 0..100 {
            let mut remove = Command::new("unshare");
            if run(remove.args(["--mount", "sh", "-c", script, &group])).code == Some(0) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Booted {
    fn new() -> Option<Self> {
        if !can_boot() {
            return None;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/systemd.sh");
        let before = format!(
            r#"cd "${{1%/*}}" && chmod 755 . && cp /etc/passwd /etc/group /etc/sudoers . &&
            echo 'pi:*:1234:1234::/run/pi:/bin/sh' >>passwd && echo 'pi:x:1234:' >>group &&
            echo 'pi ALL=(ALL) NOPASSWD: ALL' >>sudoers && exec unshare {} sh {script} "$1" "$2" >boot.log 2>&1"#,
            NAMESPACES.join(" ")
        );
        let board = Self(Board::with(&before, "/usr/bin:/bin")?);
        for stand_in in ["systemctl", "journalctl"] {
            fs::remove_file(board.0.path("bin").join(stand_in)).unwrap();
        }
        Some(board)
    }

    /// `deploy` as `pi`, without sudo.
    fn deploy_as_user(&self, words: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
        let (task, rest) =
            words.split_once(' ').filter(|(task, _)| !task.contains('.')).unwrap_or(("", words));
        command.arg("deploy").args(Some(task).filter(|task| !task.is_empty())).args(self.0.ssh_options());
        if task.is_empty() {
            command.arg("--program").arg(board::classify()).arg("--listen").arg(self.0.service.to_string());
        }
        command.args(rest.split_whitespace()).arg("--host").arg(format!("pi@{}", self.0.address()));
        run(command.arg("--json").current_dir(self.0.path("")).stdin(Stdio::null()))
    }

    /// `deploy --sudo` as `pi`: how it ended.
    fn deploy(&self, words: &str) -> (Ran, Value) {
        let ran = self.deploy_as_user(&format!("{words} --sudo"));
        let json: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
        (ran, json["hosts"][0].clone())
    }

    /// `deploy --sudo`, which must succeed.
    fn deploys(&self, words: &str) -> Value {
        let (ran, row) = self.deploy(words);
        assert_eq!(ran.code, Some(0), "{words}: {}", ran.stderr);
        row
    }

    /// What root's shell on the board prints.
    fn root(&self, script: &str) -> String {
        let mut ssh = Command::new("ssh");
        for option in self.0.ssh_options().iter().filter(|word| *word != "--ssh-option") {
            ssh.args(["-o", option]);
        }
        ssh.args(["-p", &self.0.port.to_string(), "pi@127.0.0.1", "sudo", "-n", "sh", "-s"]);
        let file = self.0.path("script");
        fs::write(&file, script).unwrap();
        let ran = run(ssh.stdin(fs::File::open(file).unwrap()));
        assert_eq!(ran.code, Some(0), "{script}: {}", ran.stderr);
        ran.stdout.trim_end().to_owned()
    }

    /// A property of the unit, as systemd has it.
    fn property(&self, name: &str) -> String {
        self.root(&format!("systemctl show -p {name} --value vgg-edge.service"))
    }

    /// Waits until systemd has started the service once more and it answers; restarts so far.
    fn wait_for_restart(&self, before: &str) -> String {
        let began = Instant::now();
        loop {
            let (now, state) = (self.property("NRestarts"), self.property("ActiveState"));
            if now != before && state == "active" {
                return now;
            }
            assert!(began.elapsed() < PATIENCE, "restarts {now}, {state}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A mosquitto that ends with the value.
struct Broker(Child, u16);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

impl Broker {
    fn start() -> Self {
        let port = free_port();
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.args(["-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap(), port)
    }

    /// Waits until a topic's message, which is a retained one, is this.
    fn wait_for(&self, topic: &str, payload: &str) {
        let began = Instant::now();
        loop {
            let mut sub = Command::new("mosquitto_sub");
            sub.args(["-h", "127.0.0.1", "-p", &self.1.to_string(), "-t", topic, "-C", "1", "-W", "5"]);
            let found = run(&mut sub).stdout;
            if found.trim_end() == payload {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{topic}: {found}, expected {payload}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn save(model: NewModel, path: &Path) {
    fs::write(path, vgg_edge_host::pack::to_bytes(model).unwrap().as_slice()).unwrap();
}

#[test]
fn systemd_runs_what_is_deployed_and_goes_back() {
    let Some(board) = Booted::new() else { return };
    save(vgg_of_two_blocks(Scheme::Int8), &board.0.path("a.vgg"));
    save(winograd_of_two_blocks(), &board.0.path("b.vgg"));
    fs::write(board.0.path("token.txt"), "let-me-in-please\n").unwrap();
    fs::set_permissions(board.0.path("token.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    println!("{}", board.root("systemctl --version | head -n 1; cat /sys/fs/cgroup/cgroup.controllers"));

    // Without the right to write there.
    let ran = board.deploy_as_user("a.vgg");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("\nhint: pass --sudo"), "{}", ran.stderr);

    // Camera and broker: they reach the service, which waits for the one and publishes to the other.
    let broker = Broker::start();
    let row = board.deploys(&format!(
        "a.vgg --camera /dev/video7 --mqtt mqtt://127.0.0.1:{} --serve-arg=--mqtt-name=kitchen --token-file token.txt",
        broker.1
    ));
    let a = row["release"].as_str().unwrap().to_owned();
    assert_eq!(
        (row["result"].as_str(), row["notes"].as_array().map(Vec::len)),
        (Some("done"), Some(0)),
        "{row}"
    );
    let unit = board.root("cat /etc/systemd/system/vgg-edge.service");
    for line in ["DeviceAllow=/dev/video7 rw", "SupplementaryGroups=video", "DynamicUser=yes"] {
        assert!(unit.lines().any(|l| l == line), "{line}: {unit}");
    }
    assert!(!unit.contains("IPAddressDeny") && !unit.contains("PrivateDevices"), "{unit}");
    let pid = board.property("MainPID");
    let arguments = board.root(&format!("tr '\\000' '\\n' </proc/{pid}/cmdline"));
    let arguments: Vec<&str> = arguments.lines().collect();
    let pair = |name: &str| arguments.iter().skip_while(|word| **word != name).nth(1).copied();
    assert_eq!(
        arguments[..3],
        ["/opt/vgg-edge/current/classify", "serve", "/opt/vgg-edge/current/model.vgg"]
    );
    assert_eq!(pair("--listen"), Some(board.0.service.to_string().as_str()), "{arguments:?}");
    assert_eq!(pair("--camera"), Some("/dev/video7"), "{arguments:?}");
    assert_eq!(pair("--mqtt"), Some(format!("mqtt://127.0.0.1:{}", broker.1).as_str()), "{arguments:?}");
    // systemd's own folder of credentials, which nobody else reads.
    let token = pair("--token-file").unwrap();
    assert!(token.starts_with("/run/credentials/vgg-edge.service/"), "{arguments:?}");
    assert_eq!(board.root(&format!("cat {token}")), "let-me-in-please");
    broker.wait_for("vgg-edge/kitchen/status", "online");
    let log = board.root("journalctl -q -o cat -u vgg-edge.service");
    assert!(log.contains("/dev/video7"), "{log}");
    // What the kernel says of the hardening: another user, no rights, system calls filtered, nothing writable.
    let status = board.root(&format!("cat /proc/{pid}/status"));
    let field =
        |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    assert_eq!(
        (field("Seccomp:"), field("NoNewPrivs:"), field("CapEff:")),
        ("2".into(), "1".into(), "0".repeat(16))
    );
    assert!(field("Uid:").split_whitespace().all(|uid| uid != "0"), "{status}");
    let root = board.root(&format!("awk '$5 == \"/\" {{ print $6 }}' /proc/{pid}/mountinfo"));
    assert!(root.split(',').any(|option| option == "ro"), "{root}");
    assert!(board.property("MemoryMax").parse::<u64>().unwrap() > 64 << 20);

    // An upgrade without them: nothing but this machine is reached.
    let row = board.deploys("b.vgg");
    let b = row["release"].as_str().unwrap().to_owned();
    assert_eq!((row["result"].as_str(), row["previous"].as_str()), (Some("done"), Some(&*a)));
    broker.wait_for("vgg-edge/kitchen/status", "offline");
    let unit = board.root("cat /etc/systemd/system/vgg-edge.service");
    assert!(unit.contains("\nIPAddressDeny=any\n") && unit.contains("\nPrivateDevices=yes\n"), "{unit}");

    // Versions that fail: the journal says why one does not start.
    for (option, expected) in [
        ("--max-body=1", "smoke: POST /v1/classify"),
        (
            "--max-buffered=1",
            "error: --max-body is 16777216 bytes, expected --max-buffered (1 bytes) or less",
        ),
    ] {
        let (ran, row) = board.deploy(&format!("a.vgg --serve-arg={option}"));
        assert_eq!((ran.code, row["result"].as_str()), (Some(1), Some("rolled back")), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{option}: {}", ran.stderr);
    }
    let status = board.deploys("status ");
    assert_eq!((&status["healthy"], status["release"].as_str()), (&Value::Bool(true), Some(&*b)), "{status}");
    assert_eq!(
        (status["service"].as_str(), &status["restarts"]),
        (Some("active"), &Value::from(0)),
        "{status}"
    );

    // One that dies, and one that hangs, are started again.
    board.root("systemctl kill -s KILL vgg-edge.service");
    let restarts = board.wait_for_restart("0");
    board.root(
        "mkdir /etc/systemd/system/vgg-edge.service.d && cd /etc/systemd/system/vgg-edge.service.d && \
         printf '[Service]\\nWatchdogSec=2\\n' >soon.conf && systemctl daemon-reload && systemctl restart vgg-edge",
    );
    assert_ne!(restarts, "0");
    let restarts = board.property("NRestarts");
    // A program that is well is left alone for longer than that.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(board.property("NRestarts"), restarts);
    board.root("kill -STOP $(systemctl show -p MainPID --value vgg-edge.service)");
    board.wait_for_restart(&restarts);
    let log = board.root("journalctl -q -o cat -t systemd -u vgg-edge.service");
    assert!(log.contains("Watchdog timeout (limit 2s)!"), "{log}");

    let row = board.deploys("rollback ");
    assert_eq!((row["result"].as_str(), row["release"].as_str()), (Some("done"), Some(&*a)), "{row}");
    broker.wait_for("vgg-edge/kitchen/status", "online");
    let status = board.deploys("status ");
    assert_eq!((&status["healthy"], status["release"].as_str()), (&Value::Bool(true), Some(&*a)), "{status}");
}
