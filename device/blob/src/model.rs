//! What a blob holds, as values: the views that `read` returns and `write` takes.
//!
//! Maps are NHWC. In an int8 blob activations are i8; the picture enters as u8 with its top bit flipped.
//! Channel counts are the network's own; in memory they are padded to groups of 8 (see
//! [`layout::padded`](crate::layout::padded)), except the picture's.

use crate::layout::{F16Params, S8Params};
use crate::winograd8::Form;

/// Number format of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Scheme {
    /// i8 weights and activations, i32 accumulators, fixed-point requantization: exact on every CPU.
    Int8 = 1,
    /// f16 weights, f32 activations and arithmetic.
    F16 = 2,
}

impl Scheme {
    /// The name in commands and messages.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Int8 => "int8",
            Scheme::F16 => "f16",
        }
    }
}

/// Rows, columns and channels of one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Channels, unpadded.
    pub channels: u32,
}

impl Shape {
    /// Values of the map, unpadded; the largest number there is for shapes that no map has.
    pub fn len(self) -> u64 {
        (u64::from(self.height) * u64::from(self.width)).saturating_mul(u64::from(self.channels))
    }

    /// Whether the map has no value.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl core::fmt::Display for Shape {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// Pool padding: whether a window may hang over the lower and right edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Padding {
    /// Whole windows only.
    Valid = 0,
    /// As many windows as strides; the last ones see only what is there.
    Same = 1,
}

/// How a convolution is computed. Direct and exact Winograd give equal bytes; the requantized ones approximate them, and are
/// equal on every CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// Every product of the definition.
    Direct = 1,
    /// Winograd F(4x4,3x3) in i16, a quarter of the products: see [`winograd`](crate::winograd).
    WinogradF43 = 2,
    /// Requantized Winograd F(2x2,3x3) in i8, 4/9 of the products: see [`winograd8`](crate::winograd8).
    Winograd8F23 = 3,
    /// Requantized Winograd F(4x4,3x3) in i8, a quarter of the products.
    Winograd8F43 = 4,
}

impl Algorithm {
    /// The name in commands and messages.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Direct => "direct",
            Algorithm::WinogradF43 => "winograd-f43",
            Algorithm::Winograd8F23 => "winograd8-f23",
            Algorithm::Winograd8F43 => "winograd8-f43",
        }
    }

    /// Whether results are those of the direct algorithm, bit for bit.
    pub fn is_exact(self) -> bool {
        matches!(self, Algorithm::Direct | Algorithm::WinogradF43)
    }
}

/// Packed weights and per-channel parameters of a convolution or dense layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weights<'a> {
    /// Layout `s8-o8k4`: `[groups][n_runs][run_len / 4][8 channels][4 values]`, in [-127, 127].
    S8 {
        /// Weights.
        data: &'a [i8],
        /// One record a group of 8 output channels.
        params: &'a [S8Params],
    },
    /// Layout `s16-w36o8`: `[groups][36 taps][channels as stored][8 channels]`, transformed 3x3 filters.
    S16Winograd {
        /// Transformed weights.
        data: &'a [i16],
        /// One record a group of 8 output channels.
        params: &'a [S8Params],
    },
    /// Layouts `s8-w16o8k4` and `s8-w36o8k4`: `[groups][taps][channels as stored / 4][8 channels][4 values]`, transformed 3x3
    /// filters in [-127, 127].
    S8Winograd {
        /// Tile size and matrices.
        form: Form,
        /// Transformed weights.
        data: &'a [i8],
        /// One record a group of 8 output channels; the bias is added at tap (1, 1).
        params: &'a [S8Params],
        /// What makes the input's taps 8 bits: `[taps][channels as stored]` multipliers, Q15 and not negative, then
        /// `[channels as stored]` offsets of tap (1, 1).
        input: &'a [i16],
        /// What brings the sums of all taps to one scale: `[groups][taps][8 channels]`, Q31 and not negative.
        scales: &'a [i32],
    },
    /// Layout `f16-o8`: `[groups][n_runs][run_len][8 channels]`, half-precision bits.
    F16 {
        /// Weights.
        data: &'a [u16],
        /// One record a group of 8 output channels.
        params: &'a [F16Params],
    },
}

/// A convolution or dense layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear<'a> {
    /// Whether a ReLU follows. In int8 the clamp at `out_zero_point` = -128 is the ReLU.
    pub relu: bool,
    /// Runs an output pixel reads: rows of the filter; 1 for dense; the taps under Winograd.
    pub n_runs: u32,
    /// Packed values of a run; channels as stored under Winograd.
    pub run_len: u32,
    /// Value of padding pixels a channel of the picture (first layer), else of every channel.
    pub pad: [i8; 4],
    /// Weights and parameters.
    pub weights: Weights<'a>,
}

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerOp<'a> {
    /// Stride-1 convolution with "same" padding; `kernel` is 1 or 3.
    Conv {
        /// Side of the filter.
        kernel: u8,
        /// Weights and parameters.
        linear: Linear<'a>,
    },
    /// 2x2 maximum.
    MaxPool {
        /// 1 or 2.
        stride: u8,
        /// Edge rule.
        padding: Padding,
    },
    /// Mean over rows and columns: `requantize(sum - n * zero_point, multiplier, shift)` in int8.
    GlobalAvgPool {
        /// Q31 multiplier of the sum.
        multiplier: i32,
        /// Rounding right shift.
        shift: i32,
    },
    /// Every output from every input, in NHWC order.
    Dense(Linear<'a>),
}

/// Linear quantization of a map: `real = (value - zero_point) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// Real value of a step; 0 where the map is not quantized.
    pub scale: f32,
    /// Value that means 0.
    pub zero_point: i8,
}

/// One layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer<'a> {
    /// Name in the weights file.
    pub name: &'a str,
    /// What it computes.
    pub op: LayerOp<'a>,
    /// Input map. A dense layer's is 1x1xinputs.
    pub input: Shape,
    /// Output map.
    pub output: Shape,
    /// Layers with the same number run together, band by band.
    pub block: u16,
    /// Quantization of the input map.
    pub in_quant: Quantization,
    /// Quantization of the output map; scale 0 for the last layer of an int8 blob, which gives logits.
    pub out_quant: Quantization,
    /// Signal to quantization noise against f32 on the calibration pictures, dB; NaN when not measured.
    pub sqnr_db: f32,
}

impl Weights<'_> {
    /// Bytes of the packed weights.
    pub fn len(&self) -> usize {
        match self {
            Weights::S8 { data, .. } => size_of_val(*data),
            Weights::S16Winograd { data, .. } => size_of_val(*data),
            Weights::S8Winograd { data, .. } => size_of_val(*data),
            Weights::F16 { data, .. } => size_of_val(*data),
        }
    }

    /// Whether there is no weight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How they are used.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Weights::S16Winograd { .. } => Algorithm::WinogradF43,
            Weights::S8Winograd { form, .. } => form.algorithm(),
            Weights::S8 { .. } | Weights::F16 { .. } => Algorithm::Direct,
        }
    }
}

impl Layer<'_> {
    /// Multiply-accumulates of one picture, unpadded.
    pub fn macs(&self) -> u64 {
        match self.op {
            LayerOp::Conv { kernel, .. } => {
                self.output.len() * u64::from(self.input.channels) * u64::from(kernel) * u64::from(kernel)
            }
            LayerOp::Dense(_) => self.input.len() * self.output.len(),
            LayerOp::MaxPool { .. } | LayerOp::GlobalAvgPool { .. } => 0,
        }
    }
}

/// The self-test that travels in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Golden<'a> {
    /// Picture, u8, NHWC, of the input size.
    pub input: &'a [u8],
    /// The logits it gives, one a class; or the features, NHWC.
    pub logits: &'a [f32],
}
