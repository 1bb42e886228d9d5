//! What a kernel's strips read and write: some pixels of a row times a group of 8 output channels.

use core::sync::atomic::AtomicU64;

use vgg_edge_blob::int4::{INPUTS, S4Block};

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

/// One output group of a dense layer with 4-bit weights: one pixel, one run.
#[derive(Clone, Copy, Debug)]
pub struct S4Strip<'a> {
    /// Activations, 64 for every block. Where the layer has fewer, the weights behind are zero, and the values there are
    /// read but do not count.
    pub input: &'a [i8],
    /// Weights and scales of the group, front to back. The writer has proved that no partial sum leaves (-2^30, 2^30).
    pub blocks: &'a [S4Block],
    /// Start value of every accumulator; holds the zero-point correction.
    pub bias: &'a [i32; GROUP],
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
    /// Clamp results at 0 (NaN and -0 become +0). Without it a NaN is stored as `0x7fc0_0000`, since CPUs
    /// differ in the NaN they make.
    pub relu: bool,
    /// Pixel `p` becomes `words[p * stride .. p * stride + 4]`: 8 channels, f32 bits, channel 0 in the
    /// lowest half of the first word.
    pub words: &'a [AtomicU64],
    /// Words between neighbouring pixels (`channels / 2`).
    pub stride: usize,
}

impl Requant<'_> {
    pub(crate) fn check(&self) {
        for (&multiplier, &shift) in self.multiplier.iter().zip(self.shift) {
            assert!(multiplier >= 0, "multiplier {multiplier} is negative");
            assert!((0..=31).contains(&shift), "shift {shift} is outside 0..=31");
        }
    }
}

impl S8Strip<'_> {
    /// Checks every extent against its slice, once a call, so that a kernel may then read and write by
    /// pointer.
    pub(crate) fn check(&self, out: &S8Output<'_>) {
        assert!(self.run_len.is_multiple_of(8), "run_len {} is no multiple of 8", self.run_len);
        let reads = Extents {
            n_pixels: self.n_pixels,
            pixel_stride: self.pixel_stride,
            n_runs: self.n_runs,
            run_stride: self.run_stride,
            run_len: self.run_len,
        };
        reads.check(self.input.len(), self.weights.len());
        match out {
            S8Output::Activations { requant, words, stride } => {
                check_words(words.len(), self.n_pixels, *stride, 1);
                requant.check();
            }
            S8Output::Accumulators(words) => check_words(words.len(), self.n_pixels, 4, 4),
        }
    }
}

impl S4Strip<'_> {
    /// Checks every extent against its slice, as for [`S8Strip`].
    pub(crate) fn check(&self, out: &S8Output<'_>) {
        let (values, blocks) = (self.input.len(), self.blocks.len());
        assert!(
            blocks > 0 && blocks <= values / INPUTS,
            "input has {values} values, {blocks} blocks of {INPUTS}"
        );
        match out {
            S8Output::Activations { requant, words, stride } => {
                check_words(words.len(), 1, *stride, 1);
                requant.check();
            }
            S8Output::Accumulators(words) => check_words(words.len(), 1, 4, 4),
        }
    }
}

impl F16Strip<'_> {
    /// Checks every extent against its slice, as for [`S8Strip`].
    pub(crate) fn check(&self) {
        let reads = Extents {
            n_pixels: self.n_pixels,
            pixel_stride: self.pixel_stride,
            n_runs: self.n_runs,
            run_stride: self.run_stride,
            run_len: self.run_len,
        };
        reads.check(self.input.len(), self.weights.len());
        check_words(self.words.len(), self.n_pixels, self.stride, 4);
    }
}

/// What a strip reads, in values.
struct Extents {
    n_pixels: usize,
    pixel_stride: usize,
    n_runs: usize,
    run_stride: usize,
    run_len: usize,
}

impl Extents {
    pub(crate) fn check(&self, input: usize, weights: usize) {
        let Self { n_pixels, pixel_stride, n_runs, run_stride, run_len } = *self;
        assert!(
            n_pixels > 0 && n_runs > 0 && run_len > 0,
            "empty strip: n_pixels {n_pixels}, n_runs {n_runs}, run_len {run_len}"
        );
        let last_pixel = (n_pixels - 1).checked_mul(pixel_stride);
        let last_run = (n_runs - 1).checked_mul(run_stride);
        let end = last_pixel.zip(last_run).and_then(|(p, r)| p.checked_add(r)?.checked_add(run_len));
        assert!(
            end.is_some_and(|end| end <= input),
            "input has {input} values, too few for {n_pixels} pixels {pixel_stride} apart of {n_runs} runs {run_stride} apart of {run_len}"
        );
        let end = n_runs.checked_mul(run_len).and_then(|n| n.checked_mul(GROUP));
        assert!(
            end.is_some_and(|end| end <= weights),
            "weights have {weights} values, too few for {n_runs} runs of {run_len} values times {GROUP} channels"
        );
    }
}

/// Checks that pixel `n_pixels - 1`'s `width` words are there.
pub(crate) fn check_words(len: usize, n_pixels: usize, stride: usize, width: usize) {
    let end = (n_pixels - 1).checked_mul(stride).and_then(|n| n.checked_add(width));
    assert!(
        end.is_some_and(|end| end <= len),
        "output has {len} words, too few for {n_pixels} pixels {stride} words apart"
    );
}
