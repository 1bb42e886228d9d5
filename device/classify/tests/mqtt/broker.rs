//! A real mosquitto and a real subscriber, in a folder of their own.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// For whatever a test waits for; more than enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker that is stopped with the test.
pub struct Broker {
    pub port: u16,
    dir: tempfile::TempDir,
    more: String,
    child: Option<Child>,
}

impl Broker {
    /// Starts mosquitto, with `more` lines of configuration; `None`, said in one line, where it is not installed and
    /// this is not CI.
    pub fn start(more: &str) -> Option<Self> {
        let mut broker = Self::prepare(more)?;
        broker.go();
        Some(broker)
    }

    /// A broker that is not running yet.
    pub fn prepare(more: &str) -> Option<Self> {
        let found = Path::new("/usr/sbin/mosquitto").exists() && Path::new("/usr/bin/mosquitto_sub").exists();
        if !found {
            assert!(std::env::var_os("CI").is_none(), "mosquitto and mosquitto_sub are missing");
            println!("skipped: mosquitto and mosquitto_sub are not installed");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        Some(Self { port, dir, more: more.to_owned(), child: None })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs the broker, on the same port each time, and waits until it listens.
    pub fn go(&mut self) {
        let dir = self.dir().display();
        let config = format!(
            "listener {} 127.0.0.1\nuser root\npersistence_location {dir}/\nmax_queued_messages 0\nmax_inflight_messages 0\n{}\n",
            self.port,
            self.more.replace("DIR", &dir.to_string())
        );
        let anonymous = if config.contains("allow_anonymous") { "" } else { "allow_anonymous true\n" };
        let path = self.dir().join("mosquitto.conf");
        fs::write(&path, config + anonymous).unwrap();
        let log = File::create(self.dir().join("mosquitto.log")).unwrap();
        let mut child = Command::new("/usr/sbin/mosquitto")
            .args(["-v", "-c"])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let port = self.port;
        wait_for("mosquitto to listen", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "mosquitto ended: {status}, {}",
                    fs::read_to_string(path.with_extension("log")).unwrap()
                );
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        self.child = Some(child);
    }

    /// Ends the broker as a service manager does; with `persistence true` it saves its sessions.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            child.wait().unwrap();
        }
    }

    /// Subscribes to everything with QoS 2, in a session that outlives the broker.
    pub fn subscribe(&self, name: &str, more: &[&str]) -> Subscriber {
        let out = self.dir().join(format!("{name}.out"));
        let child = Command::new("mosquitto_sub")
            .args(["-h", "localhost", "-p", &self.port.to_string(), "-i", name, "-c", "-q", "2"])
            .args(["-t", "#", "-t", "$SYS/broker/version", "-F", "%t|%r|%p"])
            .args(more)
            .stdout(File::create(&out).unwrap())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let subscriber = Subscriber { child, out };
        // The broker's own topic says that the subscription is in force.
        subscriber.wait("the subscription", |lines| lines.iter().any(|line| line.starts_with("$SYS/")));
        subscriber
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `mosquitto_sub`, writing `topic|retained|payload` lines.
pub struct Subscriber {
    child: Child,
    out: std::path::PathBuf,
}

impl Subscriber {
    /// All lines so far but the broker's own.
    pub fn lines(&self) -> Vec<String> {
        self.all().into_iter().filter(|line| !line.starts_with("$SYS/")).collect()
    }

    fn all(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the lines are as wanted.
    pub fn wait(&self, what: &str, done: impl Fn(&[String]) -> bool) {
        wait_for(what, || done(&self.all()));
    }

    /// Waits for one line.
    pub fn wait_line(&self, line: &str) {
        self.wait(line, |lines| lines.iter().any(|found| found == line));
    }

    /// The numbers in the payloads of a topic, in the order of arrival.
    pub fn numbers(&self, topic: &str) -> Vec<u64> {
        let prefix = format!("{topic}|0|{{\"sequence\":");
        let number = |line: &String| line.strip_prefix(&prefix)?.strip_suffix('}')?.parse().ok();
        self.lines().iter().filter_map(number).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done`, for a minute at most.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        sleep(Duration::from_millis(20));
    }
}
