//! Requests to a board's service through its ssh connection: HTTP/1.0, one request a connection.
//!
//! ```text
//! ssh -W 127.0.0.1:8080 board  <─ GET /healthz HTTP/1.0 ...   ─> HTTP/1.1 200 OK ... {"status":"ok"}
//! ```
//!
//! The board needs no `curl`, and the service no open port: the connection starts on the board itself.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::answer::{Answer, shortened};
use super::error::Problem;
use super::ssh::Ssh;

/// Between two looks at a service that starts.
const PAUSE: Duration = Duration::from_millis(300);
/// For one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// A service on a board.
pub(crate) struct Service<'a> {
    pub(crate) ssh: &'a Ssh,
    /// As the board sees it.
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<&'a str>,
}

impl Service<'_> {
    /// Waits until the service is healthy.
    ///
    /// # Errors
    /// What it said last when the time is over, or a board that forwards nothing.
    pub(crate) fn wait_until_healthy(&self, limit: Duration) -> Result<(), Problem> {
        let began = Instant::now();
        loop {
            let why = match self.ask("GET /healthz", "", &[]) {
                Ok(response) if response.status == 200 => return Ok(()),
                Ok(response) => format!("status {}, expected 200", response.status),
                Err(Problem::Lost { why }) if why.contains("administratively prohibited") => {
                    let why = format!("the board's sshd forwards no connection: {why}");
                    return Err(self.problem("GET /healthz", why));
                }
                Err(Problem::Lost { why } | Problem::Remote { why, .. }) => why,
                Err(other) => return Err(other),
            };
            if began.elapsed() > limit {
                let why = format!("{why}; not healthy after {} s", limit.as_secs());
                return Err(self.problem("GET /healthz", why));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Asks about a picture and compares.
    ///
    /// # Errors
    /// Another answer than `expected`, or none.
    pub(crate) fn check_answer(&self, picture: &[u8], expected: &Answer) -> Result<(), Problem> {
        const REQUEST: &str = "POST /v1/classify";
        let kind = if picture.starts_with(b"\x89PNG") { "image/png" } else { "image/jpeg" };
        let response = self.ask(REQUEST, &format!("Content-Type: {kind}\r\n"), picture)?;
        if response.status != 200 {
            let why = format!("status {}, expected 200: {}", response.status, shortened(&response.body));
            return Err(self.problem(REQUEST, why));
        }
        Answer::parse(&response.body)
            .map_err(|error| format!("{error:#}"))
            .and_then(|found| expected.check(&found))
            .map_err(|why| self.problem(REQUEST, why))
    }

    fn ask(&self, request: &str, headers: &str, body: &[u8]) -> Result<Response, Problem> {
        let authorization = match self.token {
            Some(token) => format!("Authorization: Bearer {}\r\n", token.trim()),
            None => String::new(),
        };
        let mut bytes = format!(
            "{request} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}{authorization}\r\n",
            self.address,
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        let answer = self.ssh.ask(&self.address.to_string(), bytes, REQUEST_LIMIT)?;
        Response::parse(&answer).map_err(|why| Problem::Lost { why })
    }

    fn problem(&self, request: &'static str, why: String) -> Problem {
        Problem::Http { request, address: self.address.to_string(), why }
    }
}

/// What a server answered.
#[derive(Debug, PartialEq, Eq)]
struct Response {
    status: u16,
    body: String,
}

impl Response {
    /// Reads a whole response; a request by HTTP/1.0 gets no chunks.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text
            .split_once("\r\n\r\n")
            .ok_or_else(|| format!("the service answered `{}`, expected HTTP", shortened(&text)))?;
        let line = head.lines().next().unwrap_or_default();
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
            .ok_or_else(|| format!("the service answered `{}`, expected HTTP", shortened(line)))?;
        Ok(Self { status, body: body.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_status_and_body() {
        let response =
            Response::parse(b"HTTP/1.1 429 Too Many Requests\r\nA: b\r\n\r\nbusy\r\n\r\n").unwrap();
        assert_eq!(response, Response { status: 429, body: "busy\r\n\r\n".to_owned() });
        for (bytes, expected) in [
            ("", "the service answered ``, expected HTTP"),
            ("SSH-2.0-x\r\n", "the service answered `SSH-2.0-x`, expected HTTP"),
            ("HTTP/1.1 ok\r\n\r\n", "the service answered `HTTP/1.1 ok`, expected HTTP"),
            ("HTTP/2 200\r\n\r\n", "the service answered `HTTP/2 200`, expected HTTP"),
        ] {
            assert_eq!(Response::parse(bytes.as_bytes()).unwrap_err(), expected);
        }
    }
}
