//! What a camera showed at one moment, and what the network says about it.
//!
//! ```text
//! camera ─► latest frame ─► classifier ─► smoothing ─► Observation ─► stdout | /v1/events, page | MQTT
//! ```
//!
//! ```text
//! {"sequence": 17, "unix_ms": 1796000000000, "source": "/dev/video0", "width": 640, "height": 480,
//!  "top": [{"class": 3, "label": "cat", "probability": 0.81}], "ms": 41.2, "decode_ms": 2.1, "latency_ms": 55.0, "fps": 9.8, "dropped": 3}
//! ```

use std::sync::Arc;

use serde::Serialize;

use crate::answer::Found;

/// One classified frame; its serialized form is stable.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Observation {
    /// Counts observations from 1 on; never repeats while the program runs.
    pub(crate) sequence: u64,
    /// When the frame was captured, milliseconds since 1970-01-01 UTC.
    pub(crate) unix_ms: u64,
    /// The camera, such as `/dev/video0`.
    pub(crate) source: String,
    /// Pixels of the frame's rows.
    pub(crate) width: usize,
    /// Rows of the frame.
    pub(crate) height: usize,
    /// Smoothed over the last frames where smoothing is on.
    #[serde(flatten)]
    pub(crate) found: Found,
    /// The network alone, milliseconds.
    pub(crate) ms: f32,
    /// Decoding and fitting the frame, milliseconds.
    pub(crate) decode_ms: f32,
    /// From capture to this answer, milliseconds.
    pub(crate) latency_ms: f32,
    /// Observations a second, over the last ones.
    pub(crate) fps: f32,
    /// Frames that the camera gave and that were skipped for newer ones since the last observation.
    pub(crate) dropped: u64,
    /// The frame as JPEG, where a preview was asked for.
    #[serde(skip)]
    pub(crate) jpeg: Option<Arc<[u8]>>,
}
