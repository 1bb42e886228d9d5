//! `GET /metrics`: what the server counts, in Prometheus' text format.
//!
//! ```text
//! # TYPE classify_requests_total counter
//! classify_requests_total{route="/v1/classify",status="200"} 17
//! # TYPE classify_inference_seconds histogram
//! classify_inference_seconds_bucket{le="0.005"} 12
//! ```

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;

/// Routes that are counted by name; others are `other`.
const ROUTES: [&str; 8] =
    ["/", "/healthz", "/metrics", "/v1/classify", "/v1/events", "/v1/frame.jpg", "/v1/model", "/icon.svg"];
/// A stream has no latency.
const STREAM: &str = "/v1/events";

/// Upper ends of a histogram's buckets, seconds: from a small network on a large machine to a large one on a small board.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Durations, counted by size.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// One more than there are ends: the last one has no end.
    counts: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
}

impl Histogram {
    pub(crate) fn add(&self, seconds: f64) {
        let bucket = BUCKETS.partition_point(|&end| end < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add((seconds * 1e6) as u64, Ordering::Relaxed);
    }

    fn write(&self, text: &mut Text, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut sum = 0;
        let ends = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (count, end) in self.counts.iter().zip(ends) {
            sum += count.load(Ordering::Relaxed);
            text.sample(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"{end}\""), sum);
        }
        text.sample(&format!("{name}_sum"), labels, self.microseconds.load(Ordering::Relaxed) as f64 / 1e6);
        text.sample(&format!("{name}_count"), labels, sum);
    }
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: SystemTime,
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    latency: BTreeMap<&'static str, Histogram>,
    pub(crate) decode: Histogram,
    pub(crate) inference: Histogram,
    /// Pictures and frames that the network answered.
    pub(crate) pictures: AtomicU64,
    pub(crate) frames: AtomicU64,
    /// Whether a camera, or a recording, is watched or waited for.
    pub(crate) watches: AtomicBool,
    /// Connections that are open, and those that were turned away.
    pub(crate) connections: AtomicUsize,
    pub(crate) turned_away: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let routes = ROUTES.into_iter().chain(["other"]).filter(|route| *route != STREAM);
        Self {
            started: SystemTime::now(),
            requests: Mutex::default(),
            latency: routes.map(|route| (route, Histogram::default())).collect(),
            decode: Histogram::default(),
            inference: Histogram::default(),
            pictures: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            watches: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            turned_away: AtomicU64::new(0),
        }
    }

    fn add(&self, route: &'static str, status: u16, seconds: f64) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, status)).or_insert(0) += 1;
        drop(requests);
        if let Some(histogram) = self.latency.get(route) {
            histogram.add(seconds);
        }
    }
}

/// Counts a request.
pub(crate) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let route = ROUTES.into_iter().find(|route| *route == path).unwrap_or("other");
    let start = Instant::now();
    let response = next.run(request).await;
    app.metrics.add(route, response.status().as_u16(), start.elapsed().as_secs_f64());
    response
}

/// Lines of samples.
#[derive(Default)]
struct Text(String);

impl Text {
    /// Says what follows.
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            _ => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.sample(name, "", value);
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(crate) async fn metrics(State(app): State<App>) -> Response {
    let (metrics, mut text) = (&app.metrics, Text::default());
    let name = "classify_build_info";
    text.head(name, "gauge", "What runs; always 1.");
    let labels = format!(
        "version=\"{}\",kernel=\"{}\",threads=\"{}\",model=\"{}\",scheme=\"{}\"",
        env!("CARGO_PKG_VERSION"),
        app.about.kernel,
        app.about.threads,
        escaped(&app.about.name),
        app.about.scheme
    );
    text.sample(name, &labels, 1);

    let name = "classify_requests_total";
    text.head(name, "counter", "Requests by route and status.");
    let requests = metrics.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for ((route, status), n) in &requests {
        text.sample(name, &format!("route=\"{route}\",status=\"{status}\""), n);
    }
    let name = "classify_request_seconds";
    text.head(name, "histogram", "From a request's header to the answer's header.");
    for (route, histogram) in &metrics.latency {
        histogram.write(&mut text, name, &format!("route=\"{route}\""));
    }
    let name = "classify_inference_seconds";
    text.head(name, "histogram", "The network alone.");
    metrics.inference.write(&mut text, name, "");
    let name = "classify_decode_seconds";
    text.head(name, "histogram", "Decoding and fitting a picture of a request.");
    metrics.decode.write(&mut text, name, "");

    let name = "classify_answers_total";
    text.head(name, "counter", "Pictures that the network answered.");
    text.sample(name, "source=\"request\"", metrics.pictures.load(Ordering::Relaxed));
    text.sample(name, "source=\"camera\"", metrics.frames.load(Ordering::Relaxed));
    let refused = |wanted: u16| {
        requests.iter().filter(|((_, status), _)| *status == wanted).map(|(_, n)| n).sum::<u64>()
    };
    let name = "classify_rejected_total";
    text.head(name, "counter", "Requests and connections refused since there was no room.");
    text.sample(name, "reason=\"queue\"", refused(429));
    text.sample(name, "reason=\"room\"", refused(503));
    text.sample(name, "reason=\"connections\"", metrics.turned_away.load(Ordering::Relaxed));
    let (taken, all) = app.desk.taken();
    text.single("classify_queue_depth", "gauge", "Requests that are decoded, wait or run.", taken);
    text.single("classify_queue_limit", "gauge", "Most of them.", all);
    let (requests, frame) = app.desk.waiting();
    let name = "classify_waiting";
    text.head(name, "gauge", "Pictures that wait for the network.");
    text.sample(name, "source=\"request\"", requests);
    text.sample(name, "source=\"camera\"", u8::from(frame));
    let (taken, all) = app.room.taken();
    text.single("classify_buffered_bytes", "gauge", "Bodies of requests in memory.", taken);
    text.single("classify_buffered_limit_bytes", "gauge", "Most of them.", all);
    let connections = metrics.connections.load(Ordering::Relaxed);
    text.single("classify_connections", "gauge", "Open connections.", connections);
    let followers = app.bounds.max_followers.get() - app.seats.available_permits();
    text.single("classify_followers", "gauge", "Clients that follow the events.", followers);
    text.single(
        "classify_events_lost_total",
        "counter",
        "Observations that slow followers lost.",
        app.hub.lost(),
    );
    if app.has_camera {
        let help = "Whether the camera is watched or waited for; 0 when that ended.";
        let watches = u8::from(metrics.watches.load(Ordering::Relaxed));
        text.single("classify_camera_watched", "gauge", help, watches);
    }
    if let Some(pace) = app.hub.pace() {
        let help = "Observations of the camera.";
        text.single("classify_camera_observations_total", "counter", help, pace.observations);
        text.single("classify_camera_fps", "gauge", "Observations a second.", pace.fps);
        let help = "Frames skipped for newer ones.";
        text.single("classify_camera_dropped_total", "counter", help, pace.dropped);
    }
    let help = "Messages of the log that could not be written.";
    text.single("classify_log_dropped_total", "counter", help, crate::log::dropped());
    board(&app, &mut text);
    process(metrics, &mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.0).into_response()
}

/// The board's sensors, where it has them.
fn board(app: &App, text: &mut Text) {
    let sensors = app.board.sensors();
    if let Some(degrees) = sensors.temperature {
        let help = "The hottest of the chip's sensors, degrees Celsius.";
        text.single("classify_board_temperature_celsius", "gauge", help, degrees);
    }
    if let Some(mhz) = sensors.clock_mhz {
        let help = "Clock of the slowest core in use.";
        text.single("classify_board_clock_hertz", "gauge", help, u64::from(mhz) * 1_000_000);
    }
    if let Some(mhz) = sensors.max_clock_mhz {
        let help = "The most that this core may have.";
        text.single("classify_board_clock_limit_hertz", "gauge", help, u64::from(mhz) * 1_000_000);
    }
    if let Some(rpm) = sensors.fan_rpm {
        text.single("classify_board_fan_rpm", "gauge", "Turns of the fan a minute.", rpm);
    }
    if let Some(throttled) = sensors.throttled {
        let name = "classify_board_throttled";
        text.head(name, "gauge", "Why the board is, or was since it started, slower: 1 for each reason.");
        for (when, reasons) in [("now", &throttled.now), ("earlier", &throttled.earlier)] {
            let is_any = u8::from(!reasons.is_empty());
            text.sample(name, &format!("when=\"{when}\",reason=\"any\""), is_any);
            for reason in reasons {
                text.sample(name, &format!("when=\"{when}\",reason=\"{}\"", escaped(reason)), 1);
            }
        }
    }
}

/// Memory and start of this process.
fn process(metrics: &Metrics, text: &mut Text) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    if let Some(bytes) = field("VmRSS") {
        let help = "Memory, the mapped model included.";
        text.single("process_resident_memory_bytes", "gauge", help, bytes);
    }
    if let Some(bytes) = field("RssAnon") {
        let help = "Memory without the mapped model and the program.";
        text.single("classify_anonymous_memory_bytes", "gauge", help, bytes);
    }
    let started = metrics.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    text.single("process_start_time_seconds", "gauge", "Start, seconds since 1970-01-01 UTC.", started);
}
