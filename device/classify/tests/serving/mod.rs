//! A running `classify serve` for tests, and a small HTTP client over a plain socket.
//!
//! ```text
//! let server = Server::start(&model, &["--queue", "2"]);
//! let answer = server.post("/v1/classify", &picture);       Answer { status, headers, body }
//! ```

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vgg_edge_blob::{NewModel, Padding, Scheme, Shape, write};

#[path = "../../../engine/tests/support/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod support;

use support::{Part, Random};

/// Nothing here takes so long; a test that hangs fails.
pub const LONG: Duration = Duration::from_secs(60);
/// A class's name that would be markup.
pub const LABELS: [&str; 6] = ["cat", "dog", "<b>&\"'", "fish", "bird", "frog"];

fn network(side: u32, filters: u32, n_convs: usize) -> NewModel {
    let mut parts = vec![Part::Conv { kernel: 3, filters, block: 1 }; n_convs];
    parts.push(Part::Pool { stride: 2, padding: Padding::Valid, block: 1 });
    parts.extend([Part::Gap, Part::Dense { units: LABELS.len() as u32 }]);
    let input = Shape { height: side, width: side, channels: 3 };
    let mut model = support::model(&mut Random(0x5EED_0009), Scheme::Int8, input, &parts);
    model.labels = LABELS.iter().map(|&label| label.to_owned()).collect();
    model.metadata = r#"{"agreement": 0.9765625, "measured_pictures": 128, "network": "test"}"#.to_owned();
    model
}

/// What a network is like.
#[derive(Clone, Copy, PartialEq)]
pub enum Speed {
    Fast,
    /// Some 0.1 s a picture on one thread.
    Slow,
    /// Gives features.
    Features,
}

/// Writes a network's file.
pub fn model(dir: &Path, speed: Speed) -> PathBuf {
    let mut new = match speed {
        Speed::Fast => network(16, 8, 2),
        Speed::Slow => network(224, 64, 4),
        Speed::Features => network(8, 8, 1),
    };
    if speed == Speed::Features {
        new.layers.truncate(2);
        new.labels.clear();
    }
    let path = dir.join("net.vgg");
    let mut bytes = Vec::new();
    write(new, &mut bytes).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// A picture of the fixtures.
pub fn picture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

/// A program that serves; it is killed when the value goes away.
pub struct Server {
    pub dir: TempDir,
    pub address: SocketAddr,
    child: Child,
    /// Lines of stderr before the one that says where it serves.
    pub before: Vec<String>,
    rest: Option<JoinHandle<String>>,
}

/// What the server said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The status and the error's text.
    pub fn refused(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        (self.status, self.json()["error"].as_str().unwrap_or_else(|| panic!("{}", self.text())).to_owned())
    }
}

impl Server {
    /// Serves a network with these options at a free port.
    pub fn start(speed: Speed, args: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        model(dir.path(), speed);
        Self::start_in(dir, args)
    }

    /// Serves `net.vgg` of a folder.
    pub fn start_in(dir: TempDir, args: &[&str]) -> Self {
        Self::start_with(dir, args, &[])
    }

    /// The same with these variables.
    pub fn start_with(dir: TempDir, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
        command.current_dir(dir.path()).args(["serve", "net.vgg"]).args(args);
        command.envs(variables.iter().copied());
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut before = Vec::new();
        let address = loop {
            let mut line = String::new();
            if stderr.read_line(&mut line).unwrap() == 0 {
                panic!("ended: {before:?}, {:?}", child.wait());
            }
            match line.trim_end().split_once(" at http://") {
                Some((_, address)) => break address.parse().unwrap(),
                None => before.push(line.trim_end().to_owned()),
            }
        };
        let rest = Some(thread::spawn(move || read_all(stderr)));
        Self { dir, address, child, before, rest }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream
    }

    /// Sends a request with these header lines.
    pub fn send(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        // The server may answer before it has read all.
        let _ = stream.write_all(&self.message(method, path, headers, body));
        receive(&mut BufReader::new(stream), method).unwrap()
    }

    /// The bytes of a request.
    pub fn message(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) {
            head += &format!("Host: {}\r\n", self.address);
        }
        headers.iter().for_each(|line| head += &format!("{line}\r\n"));
        if method == "POST" && !headers.iter().any(|line| line.starts_with("Transfer-Encoding")) {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        [head.as_bytes(), b"\r\n", body].concat()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &[])
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.send("POST", path, &[], body)
    }

    /// The value of a line of `/metrics`.
    pub fn metric(&self, line: &str) -> f64 {
        let text = self.get("/metrics").text();
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {line} in {text}")).parse().unwrap()
    }

    /// Waits until a line of `/metrics` has a value.
    pub fn wait_for(&self, line: &str, is_right: impl Fn(f64) -> bool) {
        let start = Instant::now();
        while !is_right(self.metric(line)) {
            assert!(start.elapsed() < LONG, "{line} is {}", self.metric(line));
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Asks the program to stop, and waits for it.
    pub fn stop(self) -> (ExitStatus, String) {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the program's end; its status and what it wrote to stderr behind its start.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.rest.take().unwrap().join().unwrap());
            }
            assert!(start.elapsed() < LONG, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut stderr: BufReader<ChildStderr>) -> String {
    let mut text = String::new();
    let _ = stderr.read_to_string(&mut text);
    text
}

/// Reads one answer; `None` when the connection ends before its head does.
pub fn receive(reader: &mut BufReader<TcpStream>, method: &str) -> Option<Answer> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            // An answer that only asks to go on.
            "" if lines.first().is_some_and(|l: &String| l.contains(" 100 ")) => lines.clear(),
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines[0].split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    let length = answer.header("content-length").and_then(|n| n.parse::<u64>().ok());
    if method != "HEAD" && status != 304 {
        reader.take(length.unwrap_or(0)).read_to_end(&mut answer.body).ok()?;
    }
    Some(answer)
}

/// Whether the other side has closed the connection; waits for it.
pub fn is_closed(stream: &mut TcpStream) -> bool {
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}
