//! The figures of a report, as the page shows them and as JSON; `gather.rs` measures them.
//!
//! Rates are 0 to 1, divergences in nats, times in milliseconds, sizes in bytes. A figure that was not measured is null.

use serde::Serialize;

use super::layers::Main;
use crate::convert::GateFigures;
use crate::graph::SchemeBytes;
use crate::report::Rates;

/// Everything in the page.
#[derive(Clone, Debug, Serialize)]
pub struct ReportData {
    /// Of this record; fields may be added without a new one.
    pub format: u32,
    /// Network name.
    pub network: String,
    /// Weights file.
    pub weights: String,
    /// What kind of file that is.
    pub weights_format: String,
    /// The command.
    pub command: String,
    /// Programs and formats.
    pub versions: Versions,
    /// Rows, columns, channels.
    pub input: [usize; 3],
    /// Values at the end.
    pub outputs: usize,
    /// Whether they are class scores.
    pub classifier: bool,
    /// Weights and biases.
    pub params: u64,
    /// Multiply-accumulates for one picture.
    pub macs: u64,
    /// Scheme.
    pub scheme: String,
    /// How ranges were chosen.
    pub method: Option<String>,
    /// The board of the plan.
    pub board: String,
    /// Pictures of the calibration.
    pub calibration_pictures: usize,
    /// Pictures of `source` and `sensitivity`.
    pub layer_pictures: usize,
    /// Sizes.
    pub bytes: Bytes,
    /// The network against f32.
    pub accuracy: Accuracy,
    /// Layers as the device runs them.
    pub layers: Vec<LayerData>,
    /// This file on every board.
    pub boards: Vec<BoardData>,
    /// Pictures furthest off.
    pub worst: Vec<Worst>,
}

/// Who made it.
#[derive(Clone, Debug, Serialize)]
pub struct Versions {
    /// Program and version.
    pub tool: String,
    /// Version of the blob format.
    pub blob_format: u16,
    /// Kernel of the measurement.
    pub kernel: String,
    /// System and architecture of the measurement.
    pub system: String,
    /// Least compiler.
    pub rust: String,
    /// SHA-256 of the blob.
    pub blob_sha256: String,
}

/// Sizes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bytes {
    /// The weights in each scheme.
    #[serde(flatten)]
    pub weights: SchemeBytes,
    /// The blob.
    pub file: u64,
    /// Memory that the engine needs beside it.
    pub arena: u64,
}

/// The network against f32.
#[derive(Clone, Debug, Serialize)]
pub struct Accuracy {
    /// Calibration pictures of all but the gate.
    pub pictures: usize,
    /// f32 against their folders' classes, where those are the network's.
    pub f32: Option<Rates>,
    /// The blob against them.
    pub blob: Option<Rates>,
    /// Share with the same first class; null for features.
    pub agreement: Option<f64>,
    /// 95 % confidence.
    pub agreement_interval: Option<[f64; 2]>,
    /// Mean divergence, nats; null for features.
    pub mean_kl: Option<f64>,
    /// What the gate measured.
    pub gate: Option<GateFigures>,
    /// Whether the gate's pictures had labels.
    pub gate_labelled: bool,
}

/// A layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerData {
    /// Name.
    pub name: String,
    /// `conv 3x3`, `conv 1x1`, `max-pool`, `average`, `dense`.
    pub kind: String,
    /// Rows, columns, channels; one number for a vector.
    pub output: Vec<usize>,
    /// How it is computed.
    pub algorithm: String,
    /// Weights and biases.
    pub params: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Its weights in the blob.
    pub bytes: u64,
    /// With all layers before it, dB.
    pub sqnr_db: Option<f64>,
    /// What an approximate algorithm alone was predicted to give, dB; null for exact ones.
    pub predicted_db: Option<f64>,
    /// The layer alone.
    pub source: Option<Source>,
    /// What the network loses when only this layer is quantized: mean divergence, nats; of features the share of the output's
    /// energy that is error.
    pub sensitivity: Option<f64>,
    /// On the plan's board, one thread.
    pub ms_1: Option<f64>,
    /// On its big cores.
    pub ms_n: Option<f64>,
    /// What its map can hold.
    pub range: Option<Range>,
    /// Output in f32.
    pub activations: Option<Histogram>,
    /// f32 weights.
    pub weights: Option<Histogram>,
    /// How finely they are stored.
    pub weight_steps: Option<WeightSteps>,
}

/// Where a layer's own error comes from. Null: no error.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Source {
    /// Only weights quantized, dB.
    pub weights_db: Option<f64>,
    /// Only the output quantized, dB.
    pub activations_db: Option<f64>,
    /// Both, dB.
    pub both_db: Option<f64>,
    /// The larger of the two.
    pub main: Main,
}

/// Values that a map can hold.
#[derive(Clone, Debug, Serialize)]
pub struct Range {
    /// Least.
    pub min: f64,
    /// Greatest.
    pub max: f64,
    /// Who chose it.
    pub method: String,
    /// Share of the calibration's values outside, to a bin of its histogram.
    pub clipped: f64,
}

/// Largest magnitudes that channels' weights can hold: 127 steps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WeightSteps {
    /// Of the finest channel.
    pub finest: f64,
    /// Of the coarsest.
    pub coarsest: f64,
}

/// Counts in bins of one width.
#[derive(Clone, Debug, Serialize)]
pub struct Histogram {
    /// Lower edge of the first bin.
    pub from: f64,
    /// Upper edge of the last.
    pub to: f64,
    /// Values in each.
    pub counts: Vec<u64>,
}

/// This file on a board.
#[derive(Clone, Debug, Serialize)]
pub struct BoardData {
    /// Name.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Big cores.
    pub cores: usize,
    /// One thread.
    pub ms_1: f64,
    /// All big cores.
    pub ms_n: f64,
    /// Bytes to and from memory for one picture.
    pub traffic: f64,
    /// Bytes of the arena with one thread.
    pub arena: usize,
}

/// A picture with both answers.
#[derive(Clone, Debug, Serialize)]
pub struct Worst {
    /// Among the measured ones.
    pub index: usize,
    /// File.
    pub picture: String,
    /// Its class, where that is known.
    pub class: Option<String>,
    /// What f32 says.
    pub reference: String,
    /// How sure that is.
    pub reference_probability: f64,
    /// What the blob says.
    pub answer: String,
    /// How sure that is.
    pub probability: f64,
    /// Whether the two differ.
    pub changed: bool,
    /// Divergence, nats.
    pub kl: f64,
}
