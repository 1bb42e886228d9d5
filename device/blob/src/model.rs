//! What a blob holds, as values: the views that `read` returns and `write` takes.
//!
//! Maps are NHWC. In an int8 blob activations are i8; the picture enters as u8 with its top bit flipped.
//! Channel counts are the network's own; in memory they are padded to groups of 8 (see
//! [`layout::padded`](crate::layout::padded)), except the picture's.

use crate::int4::S4Block;
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
    /// [`Scheme::Int8`] whose dense layers may have 4-bit weights: see [`int4`](crate::int4).
    Int8Fc4 = 3,
}

impl Scheme {
    /// The name in commands and messages.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Int8 => "int8",
            Scheme::F16 => "f16",
            Scheme::Int8Fc4 => "int8-fc4",
        }
    }

    /// Whether activations are i8 and sums i32.
    pub fn is_int8(self) -> bool {
        match self {
            Scheme::Int8 | Scheme::Int8Fc4 => true,
            Scheme::F16 => false,
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
    /// Winograd F(4x4,3x3), a quarter of the products. In int8 blobs in i16, see [`winograd`](crate::winograd); in f16 blobs in
    /// f32, see [`winograd16`](crate::winograd16).
    WinogradF43 = 2,
    /// Requantized Winograd F(2x2,3x3) in i8, 4/9 of the products: see [`winograd8`](crate::winograd8).
    Winograd8F23 = 3,
    /// Requantized Winograd F(4x4,3x3) in i8, a quarter of the products.
    Winograd8F43 = 4,
    /// Winograd F(4x4,3x3) of f16 blobs in half precision: see [`winograd16`](crate::winograd16).
    WinogradF43F16 = 5,
    /// Exact Winograd of int8 blobs from filters in the direct layout, an eighth of the bytes of their taps: kernels transform
    /// them as they use them. A kernel whose direct loop is faster runs that.
    WinogradF43Filters = 6,
}

impl Algorithm {
    /// The name in commands and messages.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Direct => "direct",
            Algorithm::WinogradF43 => "winograd-f43",
            Algorithm::Winograd8F23 => "winograd8-f23",
            Algorithm::Winograd8F43 => "winograd8-f43",
            Algorithm::WinogradF43F16 => "winograd-f43-f16",
            Algorithm::WinogradF43Filters => "winograd-f43-filters",
        }
    }

    /// The schemes that have it, for messages.
    pub fn schemes(self) -> &'static str {
        match self {
            Algorithm::Direct | Algorithm::WinogradF43 => "int8 and f16",
            Algorithm::Winograd8F23 | Algorithm::Winograd8F43 | Algorithm::WinogradF43Filters => "int8",
            Algorithm::WinogradF43F16 => "f16",
        }
    }

    /// Whether results are those of the direct algorithm, bit for bit, in an int8 blob.
    pub fn is_exact(self) -> bool {
        matches!(self, Algorithm::Direct | Algorithm::WinogradF43 | Algorithm::WinogradF43Filters)
    }
}

/// The order in which packed weights lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Layout {
    /// `[groups][runs][run_len / 4][8 outputs][4 values]`, i8.
    S8O8K4 = 1,
    /// `[groups][runs][run_len][8 outputs]`, half precision.
    F16O8 = 2,
    /// `[groups][36 taps][channels as stored][8 outputs]`, i16: transformed 3x3 filters.
    S16W36O8 = 3,
    /// `[groups][runs][run_len / 8][8 outputs][8 values]`, i8.
    S8O8K8 = 4,
    /// `[groups][16 taps][channels as stored / 4][8 outputs][4 channels]`, i8: F(2x2,3x3) of [`winograd8`](crate::winograd8).
    S8W16O8K4 = 5,
    /// The same with 36 taps, F(4x4,3x3).
    S8W36O8K4 = 6,
    /// `[groups][run_len / 64]` blocks of 8 scales and 64 x 8 weights of 4 bits: see [`int4`](crate::int4).
    S4O8K64 = 7,
    /// `[groups][36 taps][channels as stored][8 outputs]`, half precision: transformed 3x3 filters.
    F16W36O8 = 8,
    /// `[groups][16 taps][channels as stored / 8][8 outputs][8 channels]`, i8: as `S8W16O8K4`, for `smmla`.
    S8W16O8K8 = 9,
    /// The same with 36 taps, F(4x4,3x3).
    S8W36O8K8 = 10,
}

impl Layout {
    /// The layout of the same 8-bit weights with as many values together as `s8` has; any other layout itself.
    pub fn with(self, s8: S8Layout) -> Self {
        use Layout::{
            F16O8, F16W36O8, S4O8K64, S8O8K4, S8O8K8, S8W16O8K4, S8W16O8K8, S8W36O8K4, S8W36O8K8, S16W36O8,
        };
        match (self, s8) {
            (S8O8K4 | S8O8K8, S8Layout::K4) => S8O8K4,
            (S8O8K4 | S8O8K8, S8Layout::K8) => S8O8K8,
            (S8W16O8K4 | S8W16O8K8, S8Layout::K4) => S8W16O8K4,
            (S8W16O8K4 | S8W16O8K8, S8Layout::K8) => S8W16O8K8,
            (S8W36O8K4 | S8W36O8K8, S8Layout::K4) => S8W36O8K4,
            (S8W36O8K4 | S8W36O8K8, S8Layout::K8) => S8W36O8K8,
            (F16O8 | S16W36O8 | S4O8K64 | F16W36O8, _) => self,
        }
    }

    /// The name in the format's description and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Layout::S8O8K4 => "s8-o8k4",
            Layout::F16O8 => "f16-o8",
            Layout::S16W36O8 => "s16-w36o8",
            Layout::S8O8K8 => "s8-o8k8",
            Layout::S8W16O8K4 => "s8-w16o8k4",
            Layout::S8W36O8K4 => "s8-w36o8k4",
            Layout::S4O8K64 => "s4-o8k64",
            Layout::F16W36O8 => "f16-w36o8",
            Layout::S8W16O8K8 => "s8-w16o8k8",
            Layout::S8W36O8K8 => "s8-w36o8k8",
        }
    }
}

/// How many values of an output lie together in packed int8 weights. Kernels read every layout and give the same bytes; they
/// are fastest with their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum S8Layout {
    /// `s8-o8k4`, and `s8-w16o8k4` and `s8-w36o8k4` under requantized Winograd: 4 values, what `sdot` multiplies.
    #[default]
    K4 = 1,
    /// `s8-o8k8`, `s8-w16o8k8`, `s8-w36o8k8`: 8 values, so that a register of two outputs is an operand of `smmla`. The picture's convolution reads a
    /// pixel's whole window as one run.
    K8 = 4,
}

impl S8Layout {
    /// How many values lie together.
    pub const fn together(self) -> usize {
        match self {
            S8Layout::K4 => 4,
            S8Layout::K8 => 8,
        }
    }
}

/// Packed weights and per-channel parameters of a convolution or dense layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weights<'a> {
    /// `[groups][n_runs][run_len / k][8 channels][k values]`, in [-127, 127].
    S8 {
        /// `k`: 4 or 8.
        layout: S8Layout,
        /// The algorithm is `winograd-f43-filters`: 3x3 filters of which the writer has proved that exact Winograd may run them.
        winograd: bool,
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
    /// `[groups][taps][channels as stored / k][8 channels][k values]`, transformed 3x3 filters in [-127, 127].
    S8Winograd {
        /// Tile size and matrices.
        form: Form,
        /// `k`: 4 or 8.
        layout: S8Layout,
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
    /// Layout `s4-o8k64`: `[groups][run_len / 64]`, dense layers.
    S4 {
        /// Weights with their scales.
        blocks: &'a [S4Block],
        /// One record a group of 8 output channels.
        params: &'a [S8Params],
    },
    /// Layout `f16-o8`: `[groups][n_runs][run_len][8 channels]`, half-precision bits.
    F16 {
        /// Weights.
        data: &'a [u16],
        /// One record a group of 8 output channels.
        params: &'a [F16Params],
    },
    /// Layout `f16-w36o8`: `[groups][36 taps][channels as stored][8 channels]`, transformed 3x3 filters, half-precision bits.
    F16Winograd {
        /// Whether taps are multiplied in half precision: algorithm `winograd-f43-f16`. Else in f32.
        half: bool,
        /// Transformed weights.
        data: &'a [u16],
        /// One record a group of 8 output channels.
        params: &'a [F16Params],
        /// What the input is multiplied by, a power of two; 1 in f32.
        in_scale: f32,
        /// What transformed sums are multiplied by before the bias, a power of two.
        out_scale: f32,
    },
}

/// A convolution or dense layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear<'a> {
    /// Whether a ReLU follows. In int8 the clamp at `out_zero_point` = -128 is the ReLU.
    pub relu: bool,
    /// Runs an output pixel reads: rows of the filter; 1 for dense, and for the picture's convolution in layout `s8-o8k8`;
    /// the taps under Winograd.
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
            Weights::S4 { blocks, .. } => size_of_val(*blocks),
            Weights::F16 { data, .. } | Weights::F16Winograd { data, .. } => size_of_val(*data),
        }
    }

    /// Whether there is no weight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The order in which they lie in memory.
    pub fn layout(&self) -> Layout {
        match self {
            Weights::S8 { layout, .. } => Layout::S8O8K4.with(*layout),
            Weights::S8Winograd { form: Form::F23, layout, .. } => Layout::S8W16O8K4.with(*layout),
            Weights::S8Winograd { form: Form::F43, layout, .. } => Layout::S8W36O8K4.with(*layout),
            Weights::S16Winograd { .. } => Layout::S16W36O8,
            Weights::S4 { .. } => Layout::S4O8K64,
            Weights::F16 { .. } => Layout::F16O8,
            Weights::F16Winograd { .. } => Layout::F16W36O8,
        }
    }

    /// How they are used.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Weights::S16Winograd { .. } => Algorithm::WinogradF43,
            Weights::S8Winograd { form, .. } => form.algorithm(),
            Weights::F16Winograd { half: true, .. } => Algorithm::WinogradF43F16,
            Weights::F16Winograd { half: false, .. } => Algorithm::WinogradF43,
            Weights::S8 { winograd: true, .. } => Algorithm::WinogradF43Filters,
            Weights::S8 { .. } | Weights::S4 { .. } | Weights::F16 { .. } => Algorithm::Direct,
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
