//! The `i8mm` kernel over blocks of 8 channels, `i8mm_blocks`: loads are operands of `smmla` as they lie.
//!
//! ```text
//! 8 values of two pixels, a register:             x = [p0 k0..7 | p1 k0..7]         16 bytes of a block's row
//! 8 values x 2 channels of weights, a register:   w = [o0 k0..7 | o1 k0..7]         16 bytes of the weights
//! smmla acc.4s, x.16b, w.16b                      acc += [p0o0 | p0o1 | p1o0 | p1o1]
//!
//! a lone pixel: x in both halves (ld1r)
//! sdot acc.4s, w.16b, x.16b                       acc += [o0 k0..3 | o0 k4..7 | o1 k0..3 | o1 k4..7]
//! ```
//!
//! A tile is 6 pairs of pixels times 8 channels: 24 products from 10 loads, and nothing else for the vector pipes. Sums are
//! requantized as they lie, two pixels a register; their bytes part in two instructions at the end.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::sync::atomic::Ordering::Relaxed;

use super::i8mm::vmmlaq_s32;
use super::neon::prefetch;
use super::{GROUP, S8Blocks, S8Output, tiles};

/// Pairs of pixels of the widest tile: 4 accumulators each.
const PAIRS: usize = 6;

/// 8 channels of two pixels: `[channels 01, 23, 45, 67]` of `[p0 | p0 | p1 | p1]`.
pub(super) type Pair = [neon::int32x4_t; 4];

/// # Safety
/// The CPU has FEAT_I8MM and FEAT_DotProd; the strip is checked.
#[target_feature(enable = "neon,i8mm,dotprod")]
pub(super) unsafe fn s8_blocks(strip: &S8Blocks<'_>, out: S8Output<'_>) {
    // SAFETY: the caller's promise; a tile's pixels are the strip's, but for the one that makes an odd number even, and
    // `check` found its values, too.
    unsafe {
        let finish = Finish::new(strip, out);
        if strip.n_pixels == 1 {
            return lone(strip, &finish);
        }
        for (first, pairs) in tiles(strip.n_pixels.div_ceil(2), PAIRS) {
            match pairs {
                1 => tile::<1>(strip, 2 * first, &finish),
                2 => tile::<2>(strip, 2 * first, &finish),
                3 => tile::<3>(strip, 2 * first, &finish),
                4 => tile::<4>(strip, 2 * first, &finish),
                5 => tile::<5>(strip, 2 * first, &finish),
                _ => tile::<PAIRS>(strip, 2 * first, &finish),
            }
        }
    }
}

/// One tile of `N` pairs of pixels.
///
/// # Safety
/// The CPU has FEAT_I8MM; the strip is checked; `first + 2 * N <= n_pixels + 1`, and `n_pixels > 1`.
#[target_feature(enable = "neon,i8mm")]
#[inline(never)] // the registers are the tile's own
unsafe fn tile<const N: usize>(strip: &S8Blocks<'_>, first: usize, finish: &Finish<'_>) {
    let mut acc = [finish.bias; N];
    for acc in &mut acc {
        *acc = load_pair(&finish.start);
    }
    let mut w = strip.weights.as_ptr();
    for r in 0..strip.n_rows {
        for t in 0..strip.n_columns {
            let mut x = strip.input.as_ptr().wrapping_add(r * strip.row_stride + (first + t) * GROUP);
            for _ in 0..strip.n_blocks {
                // SAFETY: `check` found 8 values of every pixel, of an even number of them, behind every row, column and
                // block, and 64 weights for each of those.
                unsafe {
                    let weights = load_64(w);
                    w = w.add(8 * GROUP);
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let x = neon::vld1q_s8(x.add(16 * i));
                        for (acc, weights) in acc.iter_mut().zip(weights) {
                            *acc = vmmlaq_s32(*acc, x, weights);
                        }
                    }
                }
                x = x.wrapping_add(strip.block_stride);
            }
        }
    }
    for (i, acc) in acc.into_iter().enumerate() {
        finish.pair(first + 2 * i, acc, strip.n_pixels);
    }
}

/// A lone pixel, a dense layer's: every weight is used once, so two blocks at a time keep the loads flowing.
///
/// # Safety
/// The CPU has FEAT_DotProd; the strip is checked; `n_pixels` is 1.
#[target_feature(enable = "neon,dotprod")]
#[inline(never)] // the registers are the tile's own
unsafe fn lone(strip: &S8Blocks<'_>, finish: &Finish<'_>) {
    let zero = [neon::vdupq_n_s32(0); 4];
    let mut acc = [zero; 2];
    let mut w = strip.weights.as_ptr();
    for r in 0..strip.n_rows {
        for t in 0..strip.n_columns {
            let mut x = strip.input.as_ptr().wrapping_add(r * strip.row_stride + t * GROUP);
            let mut block = |acc: &mut Pair| {
                // SAFETY: `check` found 8 values and 64 weights for every row, column and block.
                unsafe {
                    prefetch(w);
                    let values = neon::vreinterpretq_s8_s64(load_8_twice(x.cast()));
                    for (acc, weights) in acc.iter_mut().zip(load_64(w)) {
                        *acc = vdotq_s32(*acc, weights, values);
                    }
                    w = w.add(8 * GROUP);
                }
                x = x.wrapping_add(strip.block_stride);
            };
            for _ in 0..strip.n_blocks / 2 {
                block(&mut acc[0]);
                block(&mut acc[1]);
            }
            if strip.n_blocks % 2 == 1 {
                block(&mut acc[0]);
            }
        }
    }
    let [a, b] = acc;
    let sum = |i: usize| neon::vaddq_s32(a[i], b[i]);
    // [o0, o1, o2, o3] and [o4, ..]: pixel 0's places of the pairs, with zeros for a pixel 1.
    let sums = [neon::vpaddq_s32(sum(0), sum(1)), neon::vpaddq_s32(sum(2), sum(3))];
    let [low, high] = sums.map(|sums| neon::vreinterpretq_s64_s32(sums));
    let zero = neon::vdupq_n_s64(0);
    let pairs = [
        neon::vzip1q_s64(low, zero),
        neon::vzip2q_s64(low, zero),
        neon::vzip1q_s64(high, zero),
        neon::vzip2q_s64(high, zero),
    ];
    let mut acc = finish.bias;
    for (acc, pair) in acc.iter_mut().zip(pairs) {
        *acc = neon::vaddq_s32(*acc, neon::vreinterpretq_s32_s64(pair));
    }
    finish.pair(0, acc, 1);
}

/// What becomes of a pair's sums: each parameter twice, as the two pixels of a register need it.
struct Finish<'a> {
    bias: Pair,
    /// The same in memory.
    start: [i32; 16],
    multiplier: Pair,
    /// Left shifts, as `srshl` wants them.
    left_shift: Pair,
    zero_point: neon::int16x8_t,
    out: S8Output<'a>,
}

impl<'a> Finish<'a> {
    #[target_feature(enable = "neon")]
    fn new(strip: &S8Blocks<'_>, out: S8Output<'a>) -> Self {
        let (multiplier, shift, zero_point) = match out {
            S8Output::Activations { requant, .. } => (requant.multiplier, requant.shift, requant.zero_point),
            S8Output::Accumulators(_) => (&[0; GROUP], &[0; GROUP], 0),
        };
        Self {
            bias: load_twice(strip.bias),
            start: [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7].map(|o: usize| strip.bias[o]),
            multiplier: load_twice(multiplier),
            left_shift: load_twice(shift).map(|s| neon::vnegq_s32(s)),
            zero_point: neon::vdupq_n_s16(zero_point.into()),
            out,
        }
    }

    /// Stores pixel `p` and, where it is one of the strip's, the next.
    #[target_feature(enable = "neon")]
    #[inline]
    fn pair(&self, p: usize, acc: Pair, n_pixels: usize) {
        match self.out {
            S8Output::Activations { words, stride, .. } => {
                let [a, b] = [0, 2].map(|i| {
                    let half = [i, i + 1].map(|i| {
                        neon::vrshlq_s32(neon::vqrdmulhq_s32(acc[i], self.multiplier[i]), self.left_shift[i])
                    });
                    let half = neon::vqmovn_high_s32(neon::vqmovn_s32(half[0]), half[1]);
                    neon::vqaddq_s16(half, self.zero_point)
                });
                // Two channels of pixel 0, the same of pixel 1, the next two of pixel 0, ..
                let bytes = neon::vreinterpretq_u16_s8(neon::vqmovn_high_s16(neon::vqmovn_s16(a), b));
                let word = |v| neon::vgetq_lane_u64::<0>(neon::vreinterpretq_u64_u16(v));
                words[p * stride].store(word(neon::vuzp1q_u16(bytes, bytes)), Relaxed);
                if p + 1 < n_pixels {
                    words[(p + 1) * stride].store(word(neon::vuzp2q_u16(bytes, bytes)), Relaxed);
                }
            }
            S8Output::Accumulators(words) => {
                for (i, acc) in acc.into_iter().enumerate() {
                    let acc = neon::vreinterpretq_u64_s32(acc);
                    words[4 * p + i].store(neon::vgetq_lane_u64::<0>(acc), Relaxed);
                    if p + 1 < n_pixels {
                        words[4 * (p + 1) + i].store(neon::vgetq_lane_u64::<1>(acc), Relaxed);
                    }
                }
            }
        }
    }
}

/// 8 parameters, two of them twice in each register.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_twice(values: &[i32; GROUP]) -> Pair {
    [0, 2, 4, 6].map(|i| {
        // SAFETY: two of the 8 values.
        neon::vreinterpretq_s32_s64(unsafe { load_8_twice(values.as_ptr().add(i).cast()) })
    })
}

/// 4 registers from memory. In assembly, so that every use is a load: the compiler would copy registers, or clear them, and
/// that takes the vector pipes, which have no time.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_pair(values: &[i32; 16]) -> Pair {
    let (a, b, c, d);
    // SAFETY: reads the 64 bytes of `values`.
    unsafe {
        asm!("ldp {a:q}, {b:q}, [{from}]", "ldp {c:q}, {d:q}, [{from}, #32]", a = out(vreg) a, b = out(vreg) b,
            c = out(vreg) c, d = out(vreg) d, from = in(reg) values.as_ptr(),
            options(readonly, nostack, preserves_flags));
    }
    [a, b, c, d]
}

/// 8 bytes in both halves: `ld1r`.
///
/// # Safety
/// 8 bytes at `bytes`, aligned in any way.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_8_twice(bytes: *const i64) -> neon::int64x2_t {
    // SAFETY: the caller's promise.
    neon::vdupq_n_s64(unsafe { bytes.read_unaligned() })
}

/// 8 values of 8 channels, two channels a register.
///
/// # Safety
/// 64 weights at `w`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn load_64(w: *const i8) -> [neon::int8x16_t; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        [neon::vld1q_s8(w), neon::vld1q_s8(w.add(16)), neon::vld1q_s8(w.add(32)), neon::vld1q_s8(w.add(48))]
    }
}

/// `sdot`; the intrinsic of this name is not stable yet.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn vdotq_s32(mut acc: neon::int32x4_t, a: neon::int8x16_t, b: neon::int8x16_t) -> neon::int32x4_t {
    // SAFETY: registers only.
    unsafe {
        asm!("sdot {c:v}.4s, {a:v}.16b, {b:v}.16b", c = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}
