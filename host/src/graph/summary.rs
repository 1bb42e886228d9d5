//! The table of `model.summary()`: name, output shape, parameters, and what quantization makes of them.
//!
//! ```text
//! Layer (type)           Output Shape        Param #        MACs  f16 bytes  int8 bytes
//! input (InputLayer)     (None, 96, 96, 3)         0           0          0           0
//! block1_conv1 (Conv2D)  (None, 96, 96, 64)    1,792  15,925,248      3,712       2,496
//! ```
//!
//! MACs are multiply-accumulates for one picture. Bytes are those of weights and per-channel parameters alone, without
//! the blob's headers and padding.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{ActivationShape, Graph, Kind, Tensor};

/// Dense layers with at least so many weights go to int4 in `int8-fc4`.
pub const FC4_MIN_WEIGHTS: usize = 1 << 20;

/// Bytes per output channel of an integer layer: i32 bias, i32 multiplier, i32 shift.
const CHANNEL_BYTES: u64 = 12;
/// Inputs of an int4 dense layer that share one f16 scale.
const FC4_GROUP: usize = 64;

/// Bytes of a layer's, or a network's, weights per scheme.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct SchemeBytes {
    /// 4 a weight, 4 a bias.
    pub f32: u64,
    /// 2 a weight, 4 a bias.
    pub f16: u64,
    /// 1 a weight, 12 an output channel.
    pub int8: u64,
    /// As `int8`, but dense layers of [`FC4_MIN_WEIGHTS`] or more: half a byte a weight, 2 for 64 of them.
    pub int8_fc4: u64,
}

/// One line of the table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SummaryRow {
    /// Layer name.
    pub name: String,
    /// Keras class name.
    pub class: &'static str,
    /// Output shape without the batch: `[h, w, c]` or `[n]`.
    pub output: Vec<usize>,
    /// Weights and biases.
    pub params: u64,
    /// Multiply-accumulates for one picture.
    pub macs: u64,
    /// Bytes per scheme.
    pub bytes: SchemeBytes,
}

/// The table with its totals.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Summary {
    /// The network's name.
    pub name: String,
    /// A row a layer, the input first; activations fused into a layer have none.
    pub rows: Vec<SummaryRow>,
    /// Weights and biases.
    pub params: u64,
    /// Multiply-accumulates for one picture.
    pub macs: u64,
    /// Bytes per scheme.
    pub bytes: SchemeBytes,
}

impl Summary {
    /// The table of `graph`.
    pub fn new(graph: &Graph) -> Self {
        let input = ActivationShape::Map(graph.input());
        let mut rows = vec![SummaryRow {
            name: "input".to_string(),
            class: "InputLayer",
            output: input.dims(),
            params: 0,
            macs: 0,
            bytes: SchemeBytes::default(),
        }];
        for (layer_idx, layer) in graph.layers().iter().enumerate().filter(|(_, l)| !l.fused) {
            let output = graph.output_shape(layer_idx);
            let params: usize = layer.op.tensors().map(|(_, t)| t.len()).sum();
            let weights = layer.op.kernel().map_or(0, Tensor::len);
            let outputs = layer.op.kernel().and_then(|k| k.shape().last()).copied().unwrap_or(0);
            let positions = match output {
                ActivationShape::Map(s) => s.height * s.width,
                ActivationShape::Vector(_) => 1,
            };
            rows.push(SummaryRow {
                name: layer.name.clone(),
                class: layer.op.kind().class(),
                output: output.dims(),
                params: params as u64,
                macs: (weights as u64).saturating_mul(positions as u64),
                bytes: scheme_bytes(layer.op.kind(), weights, outputs),
            });
        }
        let total = |f: fn(&SummaryRow) -> u64| rows.iter().map(f).fold(0u64, u64::saturating_add);
        let bytes = SchemeBytes {
            f32: total(|r| r.bytes.f32),
            f16: total(|r| r.bytes.f16),
            int8: total(|r| r.bytes.int8),
            int8_fc4: total(|r| r.bytes.int8_fc4),
        };
        Self {
            name: graph.name().to_string(),
            params: total(|r| r.params),
            macs: total(|r| r.macs),
            bytes,
            rows,
        }
    }

    /// The table as text, ending in a newline.
    pub fn render(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["Layer (type)", "Output Shape", "Param #", "MACs", "f16 bytes", "int8 bytes"]);
        for row in &self.rows {
            let dims: Vec<String> = row.output.iter().map(usize::to_string).collect();
            table.add_row([
                format!("{} ({})", row.name, row.class),
                format!("(None, {})", dims.join(", ")),
                thousands(row.params),
                thousands(row.macs),
                thousands(row.bytes.f16),
                thousands(row.bytes.int8),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("Model: \"{}\"\n", self.name);
        for line in table.lines() {
            text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
            text.push('\n');
        }
        let b = self.bytes;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\nTotal params: {}\nMACs:         {}\nWeights:      f32 {}, f16 {}, int8 {}, int8-fc4 {}",
            thousands(self.params),
            thousands(self.macs),
            size(b.f32),
            size(b.f16),
            size(b.int8),
            size(b.int8_fc4),
        );
        text
    }
}

fn scheme_bytes(kind: Kind, weights: usize, outputs: usize) -> SchemeBytes {
    let (w, b) = (weights as u64, outputs as u64);
    let int8 = w + CHANNEL_BYTES * b;
    let int8_fc4 = match kind {
        Kind::Dense { units } if weights >= FC4_MIN_WEIGHTS => {
            let groups = (weights / units.max(1)).div_ceil(FC4_GROUP) * units;
            w.div_ceil(2) + 2 * groups as u64 + CHANNEL_BYTES * b
        }
        _ => int8,
    };
    SchemeBytes { f32: 4 * (w + b), f16: 2 * w + 4 * b, int8, int8_fc4 }
}

/// `14777458` as `14,777,458`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn size(bytes: u64) -> String {
    let b = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", b / 1024.0),
        _ => format!("{:.1} MiB", b / 1_048_576.0),
    }
}
