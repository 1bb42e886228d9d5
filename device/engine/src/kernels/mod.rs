//! The kernels, one file an instruction set, behind one small trait and one table.
//!
//! A *strip* is what one call computes: neighbouring output pixels of one row, times one group of 8
//! output channels. Direct convolution over NHWC activations reads, for every output pixel, `n_runs`
//! contiguous runs: a 3x3 filter over `c` channels reads 3 runs (one a filter row) of `3 * c` values,
//! since the three taps of a filter row are neighbours in memory. A 1x1 filter and a dense layer read 1 run.
//!
//! ```text
//! pixel p, run r, element k:   input[p * pixel_stride + r * run_stride + k]
//! channel o of the group:      acc[p][o] = bias[o] + sum over r, k of  input[..] * weight[r][k][o]
//! ```
//!
//! `scalar` is the specification. Every other row gives the same bytes: integer sums are exact in any
//! order, and the f16 kernels keep one order (run by run, element by element, one fused multiply-add
//! each) for every output.

use core::sync::atomic::AtomicU64;

/// Output channels of one group; packed weights are padded to whole groups.
pub const GROUP: usize = 8;

/// One int8 strip: i8 activations times i8 weights, i32 accumulators.
#[derive(Clone, Copy, Debug)]
pub struct S8Strip<'a> {
    /// Activations, NHWC, from the first value that pixel 0 reads.
    pub input: &'a [i8],
    /// Output pixels, at least 1.
    pub n_pixels: usize,
    /// Values between the inputs of neighbouring output pixels (the channel count).
    pub pixel_stride: usize,
    /// Runs a pixel reads: 3 for a 3x3 filter, 1 for a 1x1 filter or a dense layer.
    pub n_runs: usize,
    /// Values between the starts of two runs (the row pitch).
    pub run_stride: usize,
    /// Values of a run, a multiple of 8. Where the layer's own run is shorter, the weights behind it are
    /// zero, and the input values there are read but do not count.
    pub run_len: usize,
    /// Packed weights of the group, `[n_runs][run_len / 4][8 channels][4 values]`, in [-127, 127].
    pub weights: &'a [i8],
    /// Start value of every accumulator; holds the zero-point correction. The writer has proved that no
    /// partial sum leaves (-2^30, 2^30).
    pub bias: &'a [i32; GROUP],
}

/// How accumulators become 8-bit activations: see `vgg_edge_blob::requant`.
#[derive(Clone, Copy, Debug)]
pub struct Requant<'a> {
    /// Q31 multipliers in [0, 2^31).
    pub multiplier: &'a [i32; GROUP],
    /// Rounding right shifts in [0, 31].
    pub shift: &'a [i32; GROUP],
    /// Quantized value of real 0; -128 after a ReLU, which makes the clamp the ReLU.
    pub zero_point: i8,
}

/// Where an int8 strip's results go. Tasks on different threads write different words of one map, so
/// words are atomic (relaxed): a plain store on every target, and sound without a lock.
#[derive(Clone, Copy, Debug)]
pub enum S8Output<'a> {
    /// Pixel `p` becomes `words[p * stride]`: 8 channels, i8, channel 0 in the lowest byte.
    Activations {
        /// The requantization of the group.
        requant: Requant<'a>,
        /// Output map from pixel 0's word of this group.
        words: &'a [AtomicU64],
        /// Words between neighbouring pixels (`channels / 8`).
        stride: usize,
    },
    /// Pixel `p` becomes `words[p * 4 .. p * 4 + 4]`: 8 accumulators, i32, channel 0 in the lowest half
    /// of the first word.
    Accumulators(&'a [AtomicU64]),
}

/// One strip with f16 weights: f32 activations, f32 accumulators, one fused multiply-add a step.
#[derive(Clone, Copy, Debug)]
pub struct F16Strip<'a> {
    /// Activations, NHWC, from the first value that pixel 0 reads.
    pub input: &'a [f32],
    /// Output pixels, at least 1.
    pub n_pixels: usize,
    /// Values between the inputs of neighbouring output pixels.
    pub pixel_stride: usize,
    /// Runs a pixel reads.
    pub n_runs: usize,
    /// Values between the starts of two runs.
    pub run_stride: usize,
    /// Values of a run, any number from 1.
    pub run_len: usize,
    /// Packed weights of the group, `[n_runs][run_len][8 channels]`, IEEE half-precision bits.
    pub weights: &'a [u16],
    /// Start value of every accumulator.
    pub bias: &'a [f32; GROUP],
    /// Clamp results at 0 (NaN and -0 become +0).
    pub relu: bool,
    /// Pixel `p` becomes `words[p * stride .. p * stride + 4]`: 8 channels, f32 bits, channel 0 in the
    /// lowest half of the first word.
    pub words: &'a [AtomicU64],
    /// Words between neighbouring pixels (`channels / 2`).
    pub stride: usize,
}

/// One row of the table. A value of an implementing type is the proof that this CPU has the instructions.
pub trait Kernel: Send + Sync + core::fmt::Debug {
    /// `{arch}-{dtypes}-{variant}`, as in the command line, the bench records and the README.
    fn name(&self) -> &'static str;

    /// Computes an int8 strip.
    ///
    /// # Panics
    /// When a slice is shorter than the strip's extents say.
    fn s8(&self, strip: &S8Strip<'_>, out: S8Output<'_>);

    /// Computes a strip with f16 weights.
    ///
    /// # Panics
    /// When a slice is shorter than the strip's extents say.
    fn f16(&self, strip: &F16Strip<'_>);
}
