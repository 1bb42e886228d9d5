//! `classify serve`: its options, with defaults that hold on a board with 512 MB.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::camera::CameraArgs;
use super::publisher::PublisherArgs;
use crate::args::{EngineArgs, TrustArgs};

/// `classify serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Model file
    pub(crate) model: PathBuf,
    /// Address and port to listen at; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Ask clients for the bearer token in FILE; the page and /healthz stay open
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Also answer requests to this host name (besides addresses, localhost and this machine's name)
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) camera: CameraArgs,
    #[command(flatten, next_help_heading = "MQTT")]
    pub(crate) publisher: PublisherArgs,
}

/// What clients may cost.
///
/// Memory is at most: the engine's, `max_buffered` twice (a multipart body is split into copies), and 12 bytes for each of
/// `max_pixels`, `decoders` times.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Bounds {
    /// Largest request body, bytes; K, M and G are powers of 1024
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = bytes)]
    pub(crate) max_body: usize,
    /// Bodies of all requests together, bytes
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = bytes)]
    pub(crate) max_buffered: usize,
    /// Largest picture, pixels; decoding takes up to 12 bytes a pixel
    #[arg(long, value_name = "N", default_value = "16777216")]
    pub(crate) max_pixels: u64,
    /// Most pictures in one multipart request
    #[arg(long, value_name = "N", default_value = "16")]
    pub(crate) max_pictures: NonZeroUsize,
    /// Requests that are decoded, wait or run; one more is refused at once (429)
    #[arg(long, value_name = "N", default_value = "32")]
    pub(crate) queue: NonZeroUsize,
    /// Pictures that are decoded at the same time
    #[arg(long, value_name = "N", default_value = "2")]
    pub(crate) decoders: NonZeroUsize,
    /// Connections; one more is refused at once (503)
    #[arg(long, value_name = "N", default_value = "128")]
    pub(crate) max_connections: NonZeroUsize,
    /// Connections of them that may follow /v1/events
    #[arg(long, value_name = "N", default_value = "16")]
    pub(crate) max_followers: NonZeroUsize,
    /// Longest time for a request's header, and for a connection without a request
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) header_time: Duration,
    /// Longest time for a request's body; a client that sends slowly holds a connection and what it sent, but no place in
    /// the queue and no decoder
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(crate) body_time: Duration,
    /// Longest time from a request's body to its answer
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) answer_time: Duration,
    /// Longest time for running requests to end once the program is asked to stop
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) grace: Duration,
}

/// Bytes, such as `65536` or `16M`.
fn bytes(text: &str) -> Result<usize, String> {
    let expected = || format!("found {text:?}, expected bytes from 1 to 2G, such as 65536, 512K or 16M");
    let shift = match text.bytes().last() {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    let n = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(1 << shift));
    n.filter(|n| (1..=2 << 30).contains(n)).ok_or_else(expected)
}

/// Seconds, such as `10` or `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let n = text.parse::<f64>().ok().filter(|n| (0.01..=86_400.0).contains(n));
    n.map(Duration::from_secs_f64)
        .ok_or_else(|| format!("found {text:?}, expected seconds from 0.01 to 86400"))
}
