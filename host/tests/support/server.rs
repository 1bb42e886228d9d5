//! An HTTP server on the loopback interface that does what a test tells it, misdeeds included.
//!
//! ```ignore
//! let server = Server::start(|_, request| Reply::whole(b"content", "\"v1\"").cut(3));
//! let asked = server.requests();
//! ```
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// First byte asked for with `Range: bytes=N-`.
    pub(crate) fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What the server sends, and how the connection ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The connection stays open, silent, until the client leaves.
    pub(crate) hang: bool,
}

impl Reply {
    /// A status line and headers, `\n` between them.
    pub(crate) fn new(head: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 {}\r\n\r\n", head.replace('\n', "\r\n"));
        Self { head, body: body.to_vec(), hang: false }
    }

    /// All of a file.
    pub(crate) fn whole(content: &[u8], tag: &str) -> Self {
        Self::new(&format!("200 OK\ncontent-length: {}\netag: {tag}", content.len()), content)
    }

    /// As a server does that knows ranges.
    pub(crate) fn ranged(content: &[u8], tag: &str, request: &Request) -> Self {
        let len = content.len();
        match request.from().filter(|_| request.header("if-range") == Some(tag)) {
            None => Self::whole(content, tag),
            Some(from) if from >= len => Self::new(
                &format!("416 Range Not Satisfiable\ncontent-length: 0\ncontent-range: bytes */{len}"),
                b"",
            ),
            Some(from) => Self::new(
                &format!(
                    "206 Partial Content\ncontent-length: {}\ncontent-range: bytes {from}-{}/{len}\netag: {tag}",
                    len - from,
                    len - 1
                ),
                &content[from..],
            ),
        }
    }

    /// The connection ends after `n` bytes of the body.
    pub(crate) fn cut(mut self, n: usize) -> Self {
        self.body.truncate(n);
        self
    }

    /// After `n` bytes of the body nothing more comes.
    pub(crate) fn hang(self, n: usize) -> Self {
        Self { hang: true, ..self.cut(n) }
    }
}

/// A running server; it ends with the value.
pub(crate) struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Request>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers request `n` (from 0) with what `reply` says, one request a connection.
    pub(crate) fn start(mut reply: impl FnMut(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (asked, ends) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (list, end) = (Arc::clone(&asked), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(mut stream) = stream else { continue };
                let Some(request) = read_request(&mut stream) else { continue };
                let n = {
                    let mut list = list.lock().expect("no test panicked");
                    list.push(request.clone());
                    list.len() - 1
                };
                send(&mut stream, &reply(n, &request));
            }
        });
        Self { port, asked, ends, thread: Some(thread) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.asked.lock().expect("the server did not panic").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A port that nobody listens at.
pub(crate) fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    let text = String::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let header =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Some(Request { path, headers: lines.filter_map(header).collect() })
}

fn send(stream: &mut TcpStream, reply: &Reply) {
    // A client that has seen enough may leave in the middle.
    let _ = stream.write_all(reply.head.as_bytes()).and_then(|()| stream.write_all(&reply.body));
    if !reply.hang {
        let _ = stream.shutdown(Shutdown::Write);
    }
    // Until the client leaves: closing at once could take the last bytes away from it. A client that never leaves
    // must not hang the test.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let _ = std::io::copy(stream, &mut std::io::sink());
}
