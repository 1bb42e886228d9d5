//! `GET /v1/model`: the facts of `classify info --json`, how the model runs here, and how the board is.
//!
//! ```text
//! {"model": "cat.vgg", "scheme": "int8", "labels": [...], "layers": [...], "metadata": {...},
//!  "accuracy": {"agreement": 0.99, "interval": [0.96, 1.0], "pictures": 128},
//!  "running": {"kernel": "aarch64-s8-neon", "threads": 4, "layers": [{"name": "block1_conv1", "algorithm": "direct", "layout": "s8-o8k4", "repacked": false}], ...},
//!  "limits": {"body_bytes": 16777216, ...}, "camera": true, "board": {"temperature": 51.2, ...}}
//! ```

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use vgg_edge_blob::{Blob, LayerOp, Layout};
use vgg_edge_engine::Engine;

use super::App;
use super::args::Bounds;
use crate::board::{self, Board, Reading, Sensors};
use crate::info;
use crate::model::ModelFile;

/// How long a look at the sensors is good for.
const FRESH: Duration = Duration::from_secs(1);
/// Quantile of the normal distribution that leaves 2.5 % on each side.
const Z: f64 = 1.959_963_984_540_054;

/// What does not change while the program runs.
#[derive(Debug)]
pub(crate) struct About {
    /// The model file's name without folder and extension.
    pub(crate) name: String,
    pub(crate) scheme: &'static str,
    pub(crate) kernel: &'static str,
    pub(crate) threads: usize,
    pub(crate) is_classifier: bool,
    pub(crate) n_classes: usize,
    /// A JSON object without its last brace.
    facts: String,
}

/// The answer, but for what changes.
#[derive(Serialize)]
struct Facts<'a> {
    #[serde(flatten)]
    file: &'a info::Facts<'a>,
    accuracy: Option<Value>,
    running: Value,
    limits: Value,
    camera: bool,
}

impl About {
    /// # Errors
    /// When the facts are not to be written as JSON.
    pub(crate) fn new(
        file: &ModelFile,
        blob: &Blob<'_>,
        engine: &Engine<'_>,
        threads: usize,
        bounds: &Bounds,
        camera: bool,
    ) -> Result<Self> {
        let path = file.path();
        let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file_facts = info::facts(shown, blob);
        let limits = json!({
            "body_bytes": bounds.max_body,
            "pixels": bounds.max_pixels,
            "pictures": bounds.max_pictures,
            "queue": bounds.queue,
        });
        let accuracy = file_facts.metadata.as_ref().and_then(accuracy);
        let running = running(file, engine, threads);
        let mut facts =
            serde_json::to_string(&Facts { file: &file_facts, accuracy, running, limits, camera })?;
        facts.pop();
        Ok(Self {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            scheme: blob.scheme().name(),
            kernel: engine.kernel().name(),
            threads,
            is_classifier: blob.is_classifier(),
            n_classes: blob.n_classes(),
            facts,
        })
    }
}

/// How the model runs here.
fn running(file: &ModelFile, engine: &Engine<'_>, threads: usize) -> Value {
    let layers = engine.layers().iter().enumerate().map(|(layer_idx, layer)| {
        // A layer that was repacked runs in another layout than the file's.
        let repacked = engine.repacked().iter().find(|r| r.layer_idx == layer_idx);
        let weights = match &layer.op {
            LayerOp::Conv { linear, .. } | LayerOp::Dense(linear) => Some(&linear.weights),
            LayerOp::MaxPool { .. } | LayerOp::GlobalAvgPool { .. } => None,
        };
        let layout = weights.map(|weights| repacked.map_or(weights.layout(), |r| r.to));
        json!({
            "name": layer.name,
            "kind": info::kind(&layer.op),
            "algorithm": weights.map(|weights| weights.algorithm().name()),
            "layout": layout.map(Layout::name),
            "repacked": repacked.is_some(),
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "kernel": engine.kernel().name(),
        "threads": threads,
        "cores": board::allowed_cores(),
        "arena_bytes": engine.arena_bytes(),
        "load_ms": file.age_ms(),
        "layers": layers.collect::<Vec<_>>(),
    })
}

/// How well the network does what the f32 one does, as it was measured when it was converted; with the 95 % score
/// interval (E. B. Wilson, 1927) that as few pictures allow.
fn accuracy(metadata: &Value) -> Option<Value> {
    let agreement = metadata.get("agreement")?.as_f64()?;
    let pictures = metadata.get("measured_pictures")?.as_f64().filter(|&n| n >= 1.0)?;
    let (z2, n) = (Z * Z, pictures);
    let middle = (agreement + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (agreement * (1.0 - agreement) / n + z2 / (4.0 * n * n)).sqrt();
    let interval = [(middle - half).clamp(0.0, agreement), (middle + half).min(1.0).max(agreement)];
    Some(json!({ "agreement": agreement, "interval": interval, "pictures": pictures as u64 }))
}

/// The board's sensors, read once a second at most.
#[derive(Debug)]
pub(crate) struct Watched {
    sensors: Sensors,
    last: Mutex<Option<(Instant, Reading)>>,
}

impl Watched {
    pub(crate) fn new(board: &Board) -> Self {
        Self { sensors: board.sensors(&board::allowed_cores()), last: Mutex::default() }
    }

    pub(crate) fn sensors(&self) -> Reading {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, reading)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return reading.clone();
        }
        let reading = self.sensors.read();
        *last = Some((Instant::now(), reading.clone()));
        reading
    }
}

pub(crate) async fn model(State(app): State<App>) -> Response {
    let board = serde_json::to_string(&app.board.sensors()).unwrap_or_default();
    let json = format!("{},\"board\":{board}}}", app.about.facts);
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}
