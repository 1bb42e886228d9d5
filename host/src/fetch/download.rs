//! One file over HTTP, whole or not at all: resumed, retried, never longer than announced, checked, renamed.
//!
//! ```text
//!  target there and right? ─► done
//!        │ no
//!        ▼            Range, If-Range: tag
//!  NAME.part, its tag ───────────────────► 206  append            broken, stalled, 5xx: again after a pause
//!        ▲                                 200  from the start    changed tag, 416: from the start
//!        └──────────── append ◄────────────┘
//!  all there ─► digest right ─► NAME       digest wrong ─► pieces that do not fit: once more from the start, else error
//! ```

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body, Timeout};

use super::digest::Digest;
use super::error::{FetchError, Problem};
use super::part::Part;
use crate::progress::Progress;

/// Redirects that are followed.
const MAX_REDIRECTS: u32 = 10;
/// So much more than ever before makes all tries available again.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A file to be had.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// `http://` or `https://`; from the latter no redirect leads to the former.
    pub url: &'a str,
    /// Where it goes.
    pub target: &'a Path,
    /// How it is known.
    pub digest: Digest<'a>,
    /// No more bytes than this are taken.
    pub max_bytes: u64,
    /// Waits and tries.
    pub network: Network,
}

/// Waits and tries.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest wait for the next bytes.
    pub stall: Duration,
    /// Tries in a row that bring less than a MiB of new bytes each; at least 1.
    pub tries: u32,
    /// Pause after the first failed try; it doubles with each one.
    pub pause: Duration,
    /// Whether the environment's proxy is used (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`…).
    pub proxy: bool,
}

impl Default for Network {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(15), stall: seconds(30), tries: 5, pause: seconds(1), proxy: true }
    }
}

/// What happens on the way, for people.
#[derive(Debug)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum Event<'a> {
    /// The target is there, but is another file: it will be replaced when the right one has arrived.
    Replacing { digest: Digest<'a>, found: &'a str },
    /// What came before is kept.
    Resumed { at: u64, expected: Option<u64> },
    /// What came before is thrown away.
    StartedOver { why: &'static str },
    /// A failure that may go away by itself.
    Again { problem: &'a Problem, pause: Duration },
}

impl std::fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Replacing { digest, found } => write!(
                f,
                "the file that is there has {} {found}, expected {digest}; it stays until the right one has arrived",
                digest.name()
            ),
            Self::Resumed { at, expected: Some(all) } => write!(f, "going on at byte {at} of {all}"),
            Self::Resumed { at, expected: None } => write!(f, "going on at byte {at}"),
            Self::StartedOver { why } => write!(f, "starting over: {why}"),
            Self::Again { problem, pause } => {
                write!(f, "{problem}; trying again in {} s", pause.as_secs_f32())
            }
        }
    }
}

/// How the file came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Downloaded {
    /// Whether it was there before, and right.
    pub already_there: bool,
    /// All digits of the digest.
    pub digest: String,
    /// Size of the file.
    pub bytes: u64,
}

/// Downloads a file, unless it is there.
///
/// # Errors
/// Address and problem. The target is as it was before; what has arrived stays in `TARGET.part` if the server can go on
/// from there, but not if the digest is wrong.
pub fn download(
    download: &Download<'_>,
    progress: Progress,
    events: &mut dyn FnMut(&Event<'_>),
) -> Result<Downloaded, FetchError> {
    run(download, progress, events).map_err(|problem| FetchError { url: download.url.to_owned(), problem })
}

fn run(
    download: &Download<'_>,
    progress: Progress,
    events: &mut dyn FnMut(&Event<'_>),
) -> Result<Downloaded, Problem> {
    let rest = download.url.strip_prefix("https://").or_else(|| download.url.strip_prefix("http://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Err(Problem::Address);
    }
    let Download { target, digest, .. } = *download;
    let failed = |source| Problem::File { path: target.to_path_buf(), source };
    match fs::metadata(target) {
        Ok(metadata) if metadata.is_file() => {
            let checking = progress.spinner("check");
            let found = digest.of(File::open(target).map_err(failed)?).map_err(failed)?;
            checking.finish_and_clear();
            if digest.matches(&found) {
                return Ok(Downloaded { already_there: true, digest: found, bytes: metadata.len() });
            }
            events(&Event::Replacing { digest, found: &found });
        }
        Ok(_) => return Err(Problem::NotAFile { path: target.to_path_buf() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let agent = agent(download);
    let mut part = Part::open(target)?;
    let bar = progress.bytes("download");
    let mut transfer = Transfer { download, agent, bar, part: &mut part, answered: false, expected: None };
    let result = transfer.until_right(progress, events);
    transfer.bar.finish_and_clear();
    match result {
        Ok(digest) => {
            let bytes = part.len();
            part.finish(target)?;
            Ok(Downloaded { already_there: false, digest, bytes })
        }
        Err(problem) => {
            match problem {
                Problem::Digest { .. } => part.remove(),
                _ => part.leave(),
            }
            Err(problem)
        }
    }
}

fn agent(download: &Download<'_>) -> Agent {
    let network = &download.network;
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .https_only(download.url.starts_with("https://"))
        .max_redirects(MAX_REDIRECTS)
        .max_idle_connections(0)
        .user_agent(concat!("vgg-edge/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(network.connect))
        .timeout_connect(Some(network.connect))
        .timeout_recv_response(Some(network.stall))
        .timeout_per_read(Some(network.stall))
        .timeout_per_write(Some(network.stall));
    if !network.proxy {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// Why a try ended before the file did.
enum Failure {
    /// For good.
    Final(Problem),
    /// Another try may do better.
    Passing(Problem),
    /// What has arrived is of no use.
    StartOver(&'static str),
}

/// The file's own troubles are for good.
impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Final(problem)
    }
}

struct Transfer<'a> {
    download: &'a Download<'a>,
    agent: Agent,
    bar: ProgressBar,
    part: &'a mut Part,
    /// Whether the server has ever said anything.
    answered: bool,
    /// Length of the file, once it is known.
    expected: Option<u64>,
}

impl Transfer<'_> {
    /// Until all bytes are there and the digest, which is returned, is right.
    fn until_right(
        &mut self,
        progress: Progress,
        events: &mut dyn FnMut(&Event<'_>),
    ) -> Result<String, Problem> {
        let digest = self.download.digest;
        let mut may_start_over = true;
        loop {
            self.until_whole(events)?;
            self.bar.finish_and_clear();
            let checking = progress.spinner("check");
            let found = self.part.read_all(|file| digest.of(file))?;
            checking.finish_and_clear();
            if digest.matches(&found) {
                return Ok(found);
            }
            if !(self.part.pieces() && may_start_over) {
                return Err(Problem::Digest { name: digest.name(), found, expected: digest.to_string() });
            }
            may_start_over = false;
            events(&Event::StartedOver { why: "the parts that have arrived do not make the file" });
            self.part.restart(None)?;
        }
    }

    /// Until all bytes are there.
    fn until_whole(&mut self, events: &mut dyn FnMut(&Event<'_>)) -> Result<(), Problem> {
        let network = self.download.network;
        let (mut tries, mut furthest) = (0, self.part.len());
        loop {
            match self.attempt(events) {
                Ok(()) => return Ok(()),
                Err(Failure::Final(problem)) => return Err(problem),
                Err(Failure::StartOver(why)) => {
                    events(&Event::StartedOver { why });
                    self.part.restart(None)?;
                }
                Err(Failure::Passing(problem)) => {
                    if self.part.len() >= furthest.saturating_add(PROGRESS_BYTES) {
                        tries = 0;
                    }
                    furthest = furthest.max(self.part.len());
                    tries += 1;
                    if tries >= network.tries {
                        return Err(problem);
                    }
                    let pause = network.pause.saturating_mul(1 << (tries - 1).min(16));
                    events(&Event::Again { problem: &problem, pause });
                    std::thread::sleep(pause);
                }
            }
        }
    }

    /// One request, and what it brings.
    fn attempt(&mut self, events: &mut dyn FnMut(&Event<'_>)) -> Result<(), Failure> {
        let mut request =
            self.agent.get(self.download.url).header(header::ACCEPT_ENCODING.as_str(), "identity");
        let from = self.part.len();
        let asked = self.part.tag().filter(|_| from > 0).map(str::to_owned);
        if let Some(tag) = &asked {
            request = request
                .header(header::RANGE.as_str(), format!("bytes={from}-"))
                .header(header::IF_RANGE.as_str(), tag);
        }
        let response = request.call().map_err(|error| self.failure(error))?;
        self.answered = true;
        let tag = tag(&response);
        let range = text(&response, header::CONTENT_RANGE);
        let length = response.body().content_length();
        self.expected = match (response.status(), asked) {
            (StatusCode::OK, asked) => {
                if let Some(asked) = asked {
                    let changed = tag.as_ref().is_some_and(|tag| *tag != asked);
                    let why = if changed {
                        "the file on the server has changed"
                    } else {
                        "the server sends whole files only"
                    };
                    events(&Event::StartedOver { why });
                }
                self.part.restart(tag)?;
                length
            }
            (StatusCode::PARTIAL_CONTENT, None) => return Err(Failure::Final(Problem::UnaskedPart)),
            (StatusCode::PARTIAL_CONTENT, Some(asked)) => {
                if tag.is_some_and(|tag| tag != asked) {
                    return Err(Failure::StartOver("the file on the server has changed"));
                }
                let end = check_range(&range, from, length)?;
                self.part.resume();
                events(&Event::Resumed { at: from, expected: Some(end) });
                Some(end)
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
                // All of it may be there: a program that was killed before it could rename the part.
                if range == format!("bytes */{from}") {
                    self.part.resume();
                    return Ok(());
                }
                return Err(Failure::StartOver("the server's file is not as long as what has arrived"));
            }
            (status, _) => {
                let problem = Problem::Status { found: status.to_string() };
                let passing = status.is_server_error()
                    || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
                return Err(if passing { Failure::Passing(problem) } else { Failure::Final(problem) });
            }
        };
        self.receive(response.into_body())
    }

    /// The answer's bytes to the part, up to the announced length.
    fn receive(&mut self, body: Body) -> Result<(), Failure> {
        let max = self.download.max_bytes;
        if let Some(found) = self.expected.filter(|n| *n > max) {
            return Err(Failure::Final(Problem::TooLong { found, max }));
        }
        if self.bar.is_finished() {
            self.bar.reset();
        }
        self.bar.set_length(self.expected.unwrap_or(max));
        self.bar.set_position(self.part.len());
        self.bar.reset_eta();
        let mut reader = body.into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failure(ureq::Error::from(error))),
            };
            if n == 0 {
                break;
            }
            let found = self.part.len() + n as u64;
            if let Some(announced) = self.expected.filter(|announced| found > *announced) {
                return Err(Failure::Final(Problem::Excess { announced }));
            }
            if found > max {
                return Err(Failure::Final(Problem::TooLong { found, max }));
            }
            self.part.append(&buffer[..n])?;
            self.bar.set_position(found);
        }
        match self.expected {
            Some(expected) if self.part.len() < expected => Err(Failure::Passing(self.broken("closed"))),
            _ => Ok(()),
        }
    }

    fn broken(&self, message: &str) -> Problem {
        Problem::Broken { message: message.to_owned(), at: self.part.len(), expected: self.expected }
    }

    /// What an error of the HTTP library means here.
    fn failure(&self, error: ureq::Error) -> Failure {
        use io::ErrorKind::{
            AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable,
        };
        let Network { connect, stall, .. } = self.download.network;
        let connecting = |message: String| {
            let problem = Problem::Connect { message };
            // A server that was there a moment ago may come back; one that never was is told at once.
            if self.answered { Failure::Passing(problem) } else { Failure::Final(problem) }
        };
        match error {
            ureq::Error::HostNotFound => connecting("host not found".to_owned()),
            ureq::Error::ConnectionFailed => connecting("failed".to_owned()),
            ureq::Error::Io(error) => match error.kind() {
                ConnectionRefused | HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable => {
                    connecting(error.to_string())
                }
                io::ErrorKind::UnexpectedEof => Failure::Passing(self.broken("closed")),
                _ => Failure::Passing(self.broken(&error.to_string())),
            },
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                let problem = Problem::ConnectTimeout { wait: connect };
                if self.answered { Failure::Passing(problem) } else { Failure::Final(problem) }
            }
            ureq::Error::Timeout(_) => {
                let (at, expected) = (self.part.len(), self.expected);
                Failure::Passing(Problem::Stalled { wait: stall, at, expected })
            }
            ureq::Error::TooManyRedirects => Failure::Final(Problem::Redirects { limit: MAX_REDIRECTS }),
            ureq::Error::RequireHttpsOnly(to) => Failure::Final(Problem::Insecure { to }),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Final(Problem::Address),
            error @ (ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::ConnectProxyFailed(_)) => {
                Failure::Final(Problem::Connect { message: error.to_string() })
            }
            error => Failure::Final(Problem::Protocol { message: error.to_string() }),
        }
    }
}

/// A header's text; empty if there is none.
fn text(response: &Response<Body>, name: header::HeaderName) -> String {
    response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().trim().to_owned()
}

/// What tells this version of the file from others: a strong ETag, else the date of the last change.
fn tag(response: &Response<Body>) -> Option<String> {
    let etag = text(response, header::ETAG);
    let date = text(response, header::LAST_MODIFIED);
    [etag, date].into_iter().find(|tag| !tag.is_empty() && !tag.starts_with("W/"))
}

/// Length of the file, from `bytes FROM-LAST/LENGTH` of an answer whose body has `body` bytes.
fn check_range(range: &str, from: u64, body: Option<u64>) -> Result<u64, Problem> {
    let numbers = || {
        let (span, length) = range.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = span.split_once('-')?;
        let length = (length != "*").then(|| length.parse::<u64>()).transpose().ok()?;
        Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, length))
    };
    let fits = |(first, last, length): &(u64, u64, Option<u64>)| {
        let end = last.checked_add(1);
        *first == from
            && last >= first
            && length.is_none_or(|length| end == Some(length))
            && body.is_none_or(|body| end == first.checked_add(body))
    };
    numbers().filter(fits).and_then(|(_, last, _)| last.checked_add(1)).ok_or_else(|| {
        let range = if range.is_empty() { "no content-range".to_owned() } else { format!("`{range}`") };
        Problem::Range {
            found: body.map_or_else(|| range.clone(), |body| format!("{range} with {body} bytes")),
            expected: format!("bytes {from} to the last"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_must_fit() {
        assert_eq!(check_range("bytes 5-9/10", 5, Some(5)).unwrap(), 10);
        assert_eq!(check_range("bytes 5-9/*", 5, None).unwrap(), 10);
        for (range, body) in [
            ("", None),
            ("bytes 4-9/10", None),
            ("bytes 5-8/10", None),
            ("bytes 5-9/10", Some(6)),
            ("bytes 5-4/5", None),
            ("bytes 5-18446744073709551615/*", None),
            ("bytes 5-x/10", None),
            ("lines 5-9/10", None),
        ] {
            assert!(check_range(range, 5, body).is_err(), "{range} {body:?}");
        }
        let message = check_range("bytes 0-9/10", 5, Some(10)).unwrap_err().to_string();
        assert_eq!(message, "the server sends `bytes 0-9/10` with 10 bytes, expected bytes 5 to the last");
        let message = check_range("", 5, None).unwrap_err().to_string();
        assert_eq!(message, "the server sends no content-range, expected bytes 5 to the last");
    }
}
