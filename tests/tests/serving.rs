//! The board's program serves, also on an emulated CPU: answers over HTTP are those of `classify run`.
//!
//! `VGG_EDGE_CLASSIFY` and `VGG_EDGE_EMULATOR` say which program runs on what; without them this machine's.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use vgg_edge_blob::{Scheme, write};
use vgg_edge_tests::{classify, run, temp_dir, vgg_of_two_blocks, workspace_root};

/// An emulator is slow; a test that hangs fails.
const LONG: Duration = Duration::from_secs(120);

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(dir: &Path) -> Server {
    let mut command = classify();
    command.args(["serve", "net.vgg", "--listen", "127.0.0.1:0", "--threads", "2"]).current_dir(dir);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.by_ref().find_map(|line| line.ok()?.split_once(" at http://")?.1.parse().ok());
    thread::spawn(move || lines.for_each(drop));
    Server { child, address: address.expect("an address") }
}

/// Status line and body of an answer.
fn ask(address: SocketAddr, head: &str, body: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let length = body.len();
    let head = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

#[test]
fn answers_over_http_are_those_of_run() {
    let dir = temp_dir();
    let mut bytes = Vec::new();
    write(vgg_of_two_blocks(Scheme::Int8), &mut bytes).unwrap();
    fs::write(dir.path().join("net.vgg"), bytes).unwrap();
    let picture = workspace_root().join("device/classify/tests/fixtures/red.jpg");
    let ran = run(classify().args(["run", "net.vgg"]).arg(&picture).arg("--json").current_dir(dir.path()));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let expected: Value = serde_json::from_str(&ran.stdout).unwrap();
    let mut server = serve(dir.path());
    for _ in 0..2 {
        let (status, body) = ask(server.address, "POST /v1/classify", &fs::read(&picture).unwrap());
        assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
        let found: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(found["top"], expected["top"]);
    }
    assert_eq!(ask(server.address, "POST /v1/classify", b"none").0, "HTTP/1.1 415 Unsupported Media Type");
    let (status, body) = ask(server.address, "GET /metrics", b"");
    assert!(
        status.ends_with("200 OK") && body.contains("classify_answers_total{source=\"request\"} 2\n"),
        "{body}"
    );
    let (status, body) = ask(server.address, "GET /v1/model", b"");
    let kernel = serde_json::from_str::<Value>(&body).unwrap()["running"]["kernel"].clone();
    println!("served on {kernel}");
    assert!(status.ends_with("200 OK") && kernel.is_string());
    // Asked to stop, it ends by itself.
    let pid = server.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = server.child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < LONG);
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0));
}
