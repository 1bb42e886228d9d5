//! Request bodies: read whole, within a limit of bytes each, of bytes together, and of time.
//!
//! Room is taken as bytes arrive, not as they are announced: a slow client holds what it sent, nothing more.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::args::Bounds;
use super::refusal::Refusal;

/// Bytes that are counted together.
const UNIT: usize = 1024;

/// Room for the bodies of all requests.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    units: Arc<Semaphore>,
    n_bytes: usize,
}

/// A body and the room that it takes; to be dropped together.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Bytes,
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl From<Bytes> for Whole {
    /// A part of a body whose room is held elsewhere.
    fn from(bytes: Bytes) -> Self {
        Self { bytes, room: None }
    }
}

impl Room {
    /// Room for `n_bytes`.
    pub(crate) fn new(n_bytes: usize) -> Self {
        Self { units: Arc::new(Semaphore::new(n_bytes.div_ceil(UNIT))), n_bytes }
    }

    /// Reads a body.
    ///
    /// # Errors
    /// When it is encoded, too large, too slow, cut off, or there is no room.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        bounds: &Bounds,
    ) -> Result<Whole, Refusal> {
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|value| *value != "identity") {
            let error = format!("body in content encoding {encoding:?}, expected none");
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error).closing());
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if length.is_some_and(|n: u64| n > bounds.max_body as u64) {
            return Err(too_large(&format!("{} bytes", length.unwrap_or_default()), bounds));
        }
        match tokio::time::timeout(bounds.body_time, self.collect(body, bounds)).await {
            Ok(result) => result,
            Err(_) => {
                let error = format!("body: not complete after {} s", bounds.body_time.as_secs_f32());
                Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, error).closing())
            }
        }
    }

    async fn collect(&self, body: Body, bounds: &Bounds) -> Result<Whole, Refusal> {
        let (mut bytes, mut taken, mut n_units) = (Vec::new(), None::<OwnedSemaphorePermit>, 0);
        let mut stream = body.into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk
                .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, format!("body: {error}")).closing())?;
            let len = bytes.len() + chunk.len();
            if len > bounds.max_body {
                return Err(too_large("more", bounds));
            }
            let more = len.div_ceil(UNIT) - n_units;
            if more > 0 {
                let room = Arc::clone(&self.units).try_acquire_many_owned(more as u32);
                let room = room.map_err(|_| self.full())?;
                match &mut taken {
                    Some(taken) => taken.merge(room),
                    none => *none = Some(room),
                }
                n_units += more;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Whole { bytes: bytes.into(), room: taken })
    }

    /// Bytes that are taken, and all there are.
    pub(crate) fn taken(&self) -> (usize, usize) {
        let all = self.n_bytes.div_ceil(UNIT);
        ((all - self.units.available_permits()) * UNIT, self.n_bytes)
    }

    fn full(&self) -> Refusal {
        let error = format!("the bodies of all requests fill the limit of {} bytes", self.n_bytes);
        Refusal::busy(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}

fn too_large(found: &str, bounds: &Bounds) -> Refusal {
    let error = format!("body: {found}, the limit is {} bytes", bounds.max_body);
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error)
        .hint("send a smaller picture, or start the server with a larger --max-body")
        .closing()
}
