//! `GET /v1/events`, the camera's observations as server-sent events, and `GET /v1/frame.jpg`, its newest frame.
//!
//! ```text
//! retry: 2000
//!
//! id: 17
//! event: observation
//! data: {"sequence": 17, ..., "top": [...]}
//!
//! : keep-alive                        every 15 s, so that dead connections are noticed
//! : 3 observations left out           a follower that was too slow
//! ```
//!
//! A client that comes back with `Last-Event-ID: 17` gets what it missed, as far as it is kept.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::App;
use super::refusal::Refusal;
use crate::observation::Observation;

/// Silence after which a comment is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One follower's stream.
struct Following {
    app: App,
    first: bool,
    missed: VecDeque<Arc<Observation>>,
    live: Receiver<Arc<Observation>>,
    stop: watch::Receiver<bool>,
    _seat: OwnedSemaphorePermit,
}

fn no_camera() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no camera: the server was started without one")
        .hint("start it with --camera DEV")
}

pub(crate) async fn events(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    if !app.has_camera {
        return Err(no_camera());
    }
    let after = match headers.get("last-event-id") {
        None => None,
        Some(value) => {
            Some(value.to_str().ok().and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| {
                let error = format!("Last-Event-ID: found {value:?}, expected the number of an event");
                Refusal::new(StatusCode::BAD_REQUEST, error)
            })?)
        }
    };
    let seat = Arc::clone(&app.seats).try_acquire_owned().map_err(|_| {
        let limit = app.bounds.max_followers;
        let error = format!("{limit} clients follow the events, the limit is {limit}");
        Refusal::busy(StatusCode::SERVICE_UNAVAILABLE, error)
    })?;
    let (missed, live) = app.hub.follow(after);
    let stop = app.stop.clone();
    let following = Following { app, first: true, missed, live, stop, _seat: seat };
    let stream = futures_util::stream::unfold(following, |mut following| async move {
        let text = following.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), following))
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response())
}

impl Following {
    /// The next piece of the stream; `None` when the program stops.
    async fn next(&mut self) -> Option<String> {
        if self.first {
            self.first = false;
            return Some("retry: 2000\n\n".to_owned());
        }
        if let Some(observation) = self.missed.pop_front() {
            return Some(event(&observation));
        }
        tokio::select! {
            _ = self.stop.wait_for(|stop| *stop) => None,
            received = tokio::time::timeout(KEEP_ALIVE, self.live.recv()) => match received {
                Ok(Ok(observation)) => Some(event(&observation)),
                Ok(Err(RecvError::Lagged(n))) => {
                    self.app.hub.lose(n);
                    Some(format!(": {n} observations left out\n\n"))
                }
                Ok(Err(RecvError::Closed)) => None,
                Err(_) => Some(": keep-alive\n\n".to_owned()),
            },
        }
    }
}

fn event(observation: &Observation) -> String {
    let json = serde_json::to_string(observation).unwrap_or_default();
    format!("id: {}\nevent: observation\ndata: {json}\n\n", observation.sequence)
}

pub(crate) async fn frame(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    if !app.has_camera {
        return Err(no_camera());
    }
    let frame = app
        .hub
        .frame()
        .ok_or_else(|| Refusal::busy(StatusCode::SERVICE_UNAVAILABLE, "the camera has given no frame yet"))?;
    let tag = format!("\"{}\"", frame.sequence);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let headers = [(header::CONTENT_TYPE, "image/jpeg".to_owned()), (header::ETAG, tag)];
    Ok((headers, Bytes::from_owner(frame.jpeg)).into_response())
}
