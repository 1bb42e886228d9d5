//! The `neon` kernel, `aarch64-s8-neon`: Armv8.0, every 64-bit Arm core. Also what the other Arm rows share.
//!
//! ```text
//! 4 values x 8 channels of weights, two registers:   wa = [o0 k0..3 | o1 k0..3 | o2 k0..3 | o3 k0..3], wb: o4..7
//! 4 values of pixel p, in all four lanes:            x  = [k0..3 | k0..3 | k0..3 | k0..3]
//!
//! smull  t, wa.8b, x.8b      t   = [o0k0 o0k1 o0k2 o0k3 o1k0 o1k1 o1k2 o1k3]    i16
//! smlal  t, wa'.8b, x'.8b    t  += the same of k4..7: |t| <= 2 * 127 * 128 = 32512, no overflow
//! sadalp acc, t              acc += [o0k01 o0k23 o1k01 o1k23]                   i32
//! ```
//!
//! `smull2` and `smlal2` take o2 and o3. The halves of a channel meet in one `addp` after the last run.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::neon_f16::f16;
use super::neon_multiply::{load_8_post, multiply};
use super::{
    F16Strip, GROUP, Kernel, S4Strip, S8Output, S8Strip, Winograd8Input, Winograd8Output, Winograd8Row,
    Winograd16Input, Winograd16Output, Winograd16Row, WinogradFilters, WinogradInput, WinogradOutput,
    WinogradRow, neon_fp16_winograd16, neon_s4, neon_winograd, neon_winograd_filters, neon_winograd_output,
    neon_winograd_row, neon_winograd8, neon_winograd8_output, neon_winograd8_row, neon_winograd16, tiles,
};

pub(super) const NAME: &str = "aarch64-s8-neon";

/// Always there: this file is compiled for targets that have NEON.
pub(super) fn detect() -> Option<&'static dyn Kernel> {
    Some(&Neon)
}

#[derive(Debug)]
struct Neon;

/// Pixels of the widest int8 tile: 4 accumulators each.
const S8_PIXELS: usize = 4;

impl Kernel for Neon {
    fn name(&self) -> &'static str {
        NAME
    }

    fn has_fast_picture_tiles(&self) -> bool {
        true
    }

    fn has_cut_tiles(&self) -> bool {
        true
    }

    fn s8(&self, strip: &S8Strip<'_>, out: S8Output<'_>) {
        strip.check(&out);
        // SAFETY: this file is compiled for targets that have NEON; the strip's extents are checked.
        unsafe { s8(strip, out) };
    }

    fn s4(&self, strip: &S4Strip<'_>, out: S8Output<'_>) {
        neon_s4::s4(strip, out);
    }

    fn f16(&self, strip: &F16Strip<'_>) {
        f16(strip);
    }

    fn winograd_input(&self, tile: &WinogradInput<'_>, taps: &mut [i16]) {
        neon_winograd::input(tile, taps);
    }

    fn winograd_filters(&self, filters: &WinogradFilters<'_>, weights: &mut [i16]) {
        neon_winograd_filters::filters(filters, weights);
    }

    fn winograd_row(&self, row: &WinogradRow<'_>, sums: &mut [i32]) {
        neon_winograd_row::row(row, sums);
    }

    fn winograd_output(&self, tile: &WinogradOutput<'_>) {
        neon_winograd_output::output(tile);
    }

    fn winograd8_input(&self, run: &Winograd8Input<'_>, taps: &mut [i8]) {
        neon_winograd8::input(run, taps);
    }

    fn winograd8_row(&self, row: &Winograd8Row<'_>, sums: &mut [i32]) {
        neon_winograd8_row::row(row, sums);
    }

    fn winograd8_output(&self, run: &Winograd8Output<'_>) {
        neon_winograd8_output::output(run);
    }

    fn winograd16_input_f32(&self, tile: &Winograd16Input<'_>, taps: &mut [f32]) {
        neon_winograd16::input_f32(tile, taps);
    }

    fn winograd16_input_f16(&self, tile: &Winograd16Input<'_>, taps: &mut [u16]) {
        neon_winograd16::input_f16(tile, taps);
    }

    fn winograd16_row_f32(&self, row: &Winograd16Row<'_, f32>, sums: &mut [f32]) {
        neon_winograd16::row_f32(row, sums);
    }

    fn winograd16_row_f16(&self, row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
        neon_fp16_winograd16::row(row, sums);
    }

    fn winograd16_output(&self, tile: &Winograd16Output<'_>) {
        neon_winograd16::output(tile);
    }
}

/// # Safety
/// The strip is checked.
#[target_feature(enable = "neon")]
unsafe fn s8(strip: &S8Strip<'_>, out: S8Output<'_>) {
    let finish = Finish::new(strip, out);
    for (first, width) in tiles(strip.n_pixels, S8_PIXELS) {
        // SAFETY: the strip is checked, and the tile's pixels are the strip's.
        unsafe {
            match width {
                1 => s8_tile::<1>(strip, first, &finish),
                2 => s8_tile::<2>(strip, first, &finish),
                3 => s8_tile::<3>(strip, first, &finish),
                _ => s8_tile::<S8_PIXELS>(strip, first, &finish),
            }
        }
    }
}

/// One tile of `P` pixels.
///
/// # Safety
/// The strip is checked; `first + P <= n_pixels`.
#[target_feature(enable = "neon")]
#[inline(never)] // the registers are the tile's own
unsafe fn s8_tile<const P: usize>(strip: &S8Strip<'_>, first: usize, finish: &Finish<'_>) {
    // [pixel][channels 01, 23, 45, 67]
    let mut acc = [[neon::vdupq_n_s32(0); 4]; P];
    let mut w = strip.weights.as_ptr();
    for r in 0..strip.n_runs {
        let run = strip.input.as_ptr().wrapping_add(first * strip.pixel_stride + r * strip.run_stride);
        let mut x: [_; P] = core::array::from_fn(|p| run.wrapping_add(p * strip.pixel_stride));
        for _ in 0..strip.run_len / 8 {
            // SAFETY: `check` found run_len values behind every pixel's start and 8 * run_len weights a run;
            // run_len is a multiple of 8, so all 8 values and all 64 weights of this step are inside.
            unsafe {
                if P == 1 {
                    prefetch(w);
                }
                let load = |i: usize| neon::vld1q_s8(w.add(16 * i));
                let weights = [load(0), load(1), load(2), load(3)];
                w = w.add(64);
                // A pixel ahead: in-order cores wait for a load that is used at once.
                let mut next = load_8_post(&mut x[0]);
                for p in 0..P {
                    let values = next;
                    if p + 1 < P {
                        next = load_8_post(&mut x[p + 1]);
                    }
                    multiply(&mut acc[p], &weights, values);
                }
            }
        }
    }
    for (p, acc) in acc.into_iter().enumerate() {
        finish.pixel(first + p, [neon::vpaddq_s32(acc[0], acc[1]), neon::vpaddq_s32(acc[2], acc[3])]);
    }
}

/// What an Arm row does with a pixel's sums (without the bias): requantizes and stores them.
pub(super) struct Finish<'a> {
    bias: [neon::int32x4_t; 2],
    multiplier: [neon::int32x4_t; 2],
    /// Left shifts, as `srshl` wants them: the negative of [`super::Requant::shift`].
    left_shift: [neon::int32x4_t; 2],
    zero_point: neon::int16x8_t,
    out: S8Output<'a>,
}

impl<'a> Finish<'a> {
    #[target_feature(enable = "neon")]
    pub(super) fn new(strip: &S8Strip<'_>, out: S8Output<'a>) -> Self {
        Self::with_bias(strip.bias, out)
    }

    #[target_feature(enable = "neon")]
    pub(super) fn with_bias(bias: &[i32; GROUP], out: S8Output<'a>) -> Self {
        let (multiplier, shift, zero_point) = match out {
            S8Output::Activations { requant, .. } => (requant.multiplier, requant.shift, requant.zero_point),
            S8Output::Accumulators(_) => (&[0; GROUP], &[0; GROUP], 0),
        };
        Self {
            bias: load_i32(bias),
            multiplier: load_i32(multiplier),
            left_shift: load_i32(shift).map(|s| neon::vnegq_s32(s)),
            zero_point: neon::vdupq_n_s16(zero_point.into()),
            out,
        }
    }

    /// Pixel `p`'s sums, channels 0..4 and 4..8.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) fn pixel(&self, p: usize, sums: [neon::int32x4_t; 2]) {
        let acc = [neon::vaddq_s32(sums[0], self.bias[0]), neon::vaddq_s32(sums[1], self.bias[1])];
        match self.out {
            S8Output::Activations { words, stride, .. } => {
                let [a, b] = [0, 1].map(|i| {
                    let high = neon::vqrdmulhq_s32(acc[i], self.multiplier[i]);
                    neon::vqmovn_s32(neon::vrshlq_s32(high, self.left_shift[i]))
                });
                let channels = neon::vqaddq_s16(neon::vcombine_s16(a, b), self.zero_point);
                let word = neon::vreinterpret_u64_s8(neon::vqmovn_s16(channels));
                words[p * stride].store(neon::vget_lane_u64::<0>(word), Relaxed);
            }
            S8Output::Accumulators(words) => store_pairs(&words[p * 4..p * 4 + 4], acc),
        }
    }
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_i32(values: &[i32; GROUP]) -> [neon::int32x4_t; 2] {
    // SAFETY: 8 values, 4 a load.
    unsafe { [neon::vld1q_s32(values.as_ptr()), neon::vld1q_s32(values.as_ptr().add(4))] }
}

/// Stores 8 channels of 32 bits, two a word.
#[target_feature(enable = "neon")]
#[inline]
fn store_pairs(words: &[AtomicU64], values: [neon::int32x4_t; 2]) {
    for (words, v) in words.chunks_exact(2).zip(values) {
        let v = neon::vreinterpretq_u64_s32(v);
        words[0].store(neon::vgetq_lane_u64::<0>(v), Relaxed);
        words[1].store(neon::vgetq_lane_u64::<1>(v), Relaxed);
    }
}

/// Asks for the weights that a lone pixel needs next: nothing else hides the memory behind a dense layer.
#[inline]
pub(super) fn prefetch<T>(w: *const T) {
    // SAFETY: a hint; it reads nothing and never faults, wherever the address points.
    unsafe {
        asm!("prfm pldl1strm, [{w}, #{ahead}]", w = in(reg) w, ahead = const PREFETCH_BYTES,
            options(readonly, nostack, preserves_flags));
    }
}

/// How far ahead: some 100 ns at 10 GB/s.
const PREFETCH_BYTES: usize = 1024;
