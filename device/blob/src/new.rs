//! What the writer takes: a model in the network's own order, unpadded.

use crate::layout::{F16Params, S8Params};
use crate::model::{Algorithm, Padding, Quantization, S8Layout, Scheme, Shape};
use crate::preprocess::Preprocess;
use crate::winograd;
use crate::winograd8::Form;
use crate::winograd16::Transformed;

/// Everything a blob holds. Consumed by [`write`](crate::write()), which frees each layer's weights once they are packed.
#[derive(Clone, Debug)]
pub struct NewModel {
    /// Number format of every layer.
    pub scheme: Scheme,
    /// Input picture.
    pub input: Shape,
    /// From a decoded picture to the input.
    pub preprocess: Preprocess,
    /// Layers, in order.
    pub layers: Vec<NewLayer>,
    /// Labels in class order; empty for none, and for a network that gives features.
    pub labels: Vec<String>,
    /// Self-test: picture (u8, NHWC, of the input size) and the logits or features it gives.
    pub golden: Option<(Vec<u8>, Vec<f32>)>,
    /// JSON: how the blob was made, what was measured.
    pub metadata: String,
}

/// One layer of a [`NewModel`].
#[derive(Clone, Debug)]
pub struct NewLayer {
    /// Name in the weights file.
    pub name: String,
    /// What it computes.
    pub op: NewOp,
    /// Layers with the same number run together.
    pub block: u16,
    /// Quantization of the input map (int8).
    pub in_quant: Quantization,
    /// Quantization of the output map (int8); scale 0 for a last dense layer.
    pub out_quant: Quantization,
    /// Measured on the calibration pictures, dB; NaN when not measured.
    pub sqnr_db: f32,
}

/// What a [`NewLayer`] computes.
#[derive(Clone, Debug)]
pub enum NewOp {
    /// Stride-1 "same" convolution.
    Conv {
        /// Side of the filter: 1 or 3.
        kernel: u8,
        /// How it is computed. Winograd is for 3x3 filters behind the first layer.
        algorithm: Algorithm,
        /// Weights, OHWI.
        linear: NewLinear,
    },
    /// 2x2 maximum.
    MaxPool {
        /// 1 or 2.
        stride: u8,
        /// Edge rule.
        padding: Padding,
    },
    /// Mean over rows and columns; the fixed-point scale of the sum (int8).
    GlobalAvgPool {
        /// Q31 multiplier.
        multiplier: i32,
        /// Rounding right shift.
        shift: i32,
    },
    /// Dense: weights `[outputs][height][width][channels]` over the map before it.
    Dense(NewLinear),
}

/// Weights of a convolution or dense layer.
#[derive(Clone, Debug)]
pub struct NewLinear {
    /// Output channels.
    pub outputs: u32,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// Value of padding pixels: a channel of the picture in the first layer, else four times the input's zero
    /// point.
    pub pad: [i8; 4],
    /// Order in the file of 8-bit weights; the default for all others.
    pub layout: S8Layout,
    /// Weights in the network's order, and parameters of `ceil(outputs / 8)` groups.
    pub weights: NewWeights,
}

/// Weights in OHWI order, unpadded.
#[derive(Clone, Debug)]
pub enum NewWeights {
    /// i8 in [-127, 127].
    S8(Vec<i8>, Vec<S8Params>),
    /// i8 in [-8, 7], of a dense layer in a blob of scheme `int8-fc4`: see [`int4`](crate::int4).
    S4 {
        /// Weights.
        weights: Vec<i8>,
        /// `[outputs][groups]`: what each group of 64 inputs, counted with padded channels, is multiplied by.
        scales: Vec<u8>,
        /// Parameters, as for [`NewWeights::S8`].
        params: Vec<S8Params>,
    },
    /// Half-precision bits.
    F16(Vec<u16>, Vec<F16Params>),
    /// 3x3 filters transformed by [`winograd16::transform`](crate::winograd16::transform).
    F16Winograd {
        /// Half-precision bits, `[36 taps][outputs][channels]`, and their scale.
        filters: Transformed,
        /// Parameters.
        params: Vec<F16Params>,
        /// For `winograd-f43-f16` what [`winograd16::in_scale`](crate::winograd16::in_scale) gives for the largest input; else 1.
        in_scale: f32,
    },
    /// Transformed and quantized 3x3 filters: see [`winograd8`](crate::winograd8).
    S8Winograd {
        /// Tile size and matrices, those of the layer's algorithm.
        form: Form,
        /// `[taps][outputs][channels]`, in [-127, 127].
        taps: Vec<i8>,
        /// Bias, multiplier and shift of the transformed sums, whose real value of one step is `scale`.
        params: Vec<S8Params>,
        /// `[taps][channels]`, Q15, not negative.
        multipliers: Vec<i16>,
        /// A channel: what tap (1, 1) is moved by.
        offsets: Vec<i16>,
        /// `[taps][outputs]`, Q31, not negative.
        scales: Vec<i32>,
    },
}

impl NewLinear {
    /// The first channel for which Winograd is not proved exact, with its lowest and highest accumulator; `None` when all
    /// are, or the weights are not i8 or not as many as the parameters say.
    pub fn winograd_overflow(&self) -> Option<(usize, i64, i64)> {
        let NewWeights::S8(weights, params) = &self.weights else { return None };
        let per_output = weights.len() / (self.outputs as usize).max(1);
        let biases = params.iter().flat_map(|p| p.bias);
        let ranges =
            weights.chunks_exact(per_output.max(1)).zip(biases).map(|(f, bias)| winograd::range(f, bias));
        let inside = |low: i64, high: i64| low >= -winograd::LIMIT && high < winograd::LIMIT;
        ranges
            .enumerate()
            .find(|(_, (low, high))| !inside(*low, *high))
            .map(|(c, (low, high))| (c, low, high))
    }
}
