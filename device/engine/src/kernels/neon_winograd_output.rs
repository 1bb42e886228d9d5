//! Winograd's pixels from its sums, `neon_winograd_output`: of the `neon` kernel and of every Arm row above it.
//!
//! ```text
//! 4 channels at a time    A m, mul by 1/9, sshr 6, sqrdmulh, srshl, sqxtn; halves meet in i16, sqadd of the zero point, sqxtn
//! in order                A m, mul by 1/9, sqdmulh, sqadd, srshl, sqxtn; halves meet in i16, sqxtn
//! ```
//!
//! Behind the product with 1/9 is 64 times the accumulator, so that two shifts and the zero point can be one addition and
//! one shift, exactly:
//!
//! ```text
//! high    = (acc * multiplier + 2^30) >> 31 = (q + 32) >> 6            with q = (64 acc * multiplier) >> 31
//! rounded = (high + 2^(shift - 1)) >> shift = (q + 32 + 2^(shift + 5)) >> (shift + 6)              shift > 0
//! pixel   = rounded + zero_point            = (q + 32 + zero_point * 2^(shift + 6) + 2^(shift + 5)) >> (shift + 6)
//! ```
//!
//! With shifts up to [`MOST_SHIFT`] a sum that saturates is one whose pixel does.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::sync::atomic::AtomicU64;

use vgg_edge_blob::winograd::{BIAS_TAP, INVERSE_OF_9, SCALE, TILE, WINDOW};

use super::neon::load_i32;
use super::{CUT_TAPS, GROUP, WinogradOutput, neon_core};

/// `2^(31 - 6 - 18) = 2^7`: what saturates 32 bits is beyond 8 bits when it is shifted.
const MOST_SHIFT: i32 = 18;

pub(super) fn output(run: &WinogradOutput<'_>) {
    run.check();
    let in_order =
        neon_core::is_in_order() && run.requant.shift.iter().all(|shift| (1..=MOST_SHIFT).contains(shift));
    // SAFETY: this file is compiled for targets that have NEON; the extents are checked.
    unsafe {
        match in_order {
            true => pixels::<true>(run),
            false => pixels::<false>(run),
        }
    }
}

/// # Safety
/// The run is checked; with `IN_ORDER` all shifts are in `1..=MOST_SHIFT`.
#[target_feature(enable = "neon")]
unsafe fn pixels<const IN_ORDER: bool>(run: &WinogradOutput<'_>) {
    let zero_point = neon::vdupq_n_s16(run.requant.zero_point.into());
    let (first, second) = (Half::<IN_ORDER>::new(run, 0), Half::<IN_ORDER>::new(run, 1));
    for x in 0..run.n_columns {
        let sums = run.sums.as_ptr().wrapping_add(x / TILE * GROUP + x % TILE * run.column_stride);
        // SAFETY: the caller's promise: 8 sums behind every column.
        let (low, high) = unsafe { (first.column(run, sums), second.column(run, sums.wrapping_add(4))) };
        for (y, (low, high)) in low.into_iter().zip(high).enumerate().take(run.n_rows) {
            let mut channels = neon::vqmovn_high_s32(neon::vqmovn_s32(low), high);
            if !IN_ORDER {
                channels = neon::vqaddq_s16(channels, zero_point);
            }
            let word = neon::vreinterpret_u64_s8(neon::vqmovn_s16(channels));
            store(&run.words[y * run.row_stride + x * run.pixel_stride], word);
        }
    }
}

/// A relaxed store; the compiler's goes through a general register, which takes a vector pipe.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn store(word: &AtomicU64, value: neon::uint64x1_t) {
    // SAFETY: an atomic word is 8 aligned bytes that may be written at any time, and `str` of 8 aligned bytes is one access.
    unsafe {
        asm!("str {v:d}, [{p}]", v = in(vreg) value, p = in(reg) word.as_ptr(), options(nostack, preserves_flags));
    }
}

/// 4 of the 8 channels: from 576 times an accumulator to an activation, without its zero point unless `IN_ORDER`.
struct Half<const IN_ORDER: bool> {
    start: neon::int32x4_t,
    inverse: neon::int32x4_t,
    multiplier: neon::int32x4_t,
    left_shift: neon::int32x4_t,
    /// In order: `32 + zero_point * 2^(shift + 6)`.
    addend: neon::int32x4_t,
    /// 2, 4 and 6.
    factors: [neon::int32x4_t; 3],
}

impl<const IN_ORDER: bool> Half<IN_ORDER> {
    #[target_feature(enable = "neon")]
    #[inline]
    fn new(run: &WinogradOutput<'_>, half: usize) -> Self {
        let (multiplier, mut shift) =
            (load_i32(run.requant.multiplier)[half], load_i32(run.requant.shift)[half]);
        if IN_ORDER {
            shift = neon::vaddq_s32(shift, neon::vdupq_n_s32(6));
        }
        let zero_point = neon::vshlq_s32(neon::vdupq_n_s32(run.requant.zero_point.into()), shift);
        Self {
            start: neon::vmulq_n_s32(load_i32(run.bias)[half], SCALE),
            inverse: neon::vdupq_n_s32(INVERSE_OF_9),
            multiplier,
            left_shift: neon::vnegq_s32(shift),
            addend: neon::vaddq_s32(zero_point, neon::vdupq_n_s32(32)),
            factors: [2, 4, 6].map(|factor| neon_core::factor_s32(factor)),
        }
    }

    /// The 4 pixels of a column.
    ///
    /// # Safety
    /// The run is checked; `sums` are those of one of its columns, channel 0 or 4.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn column(&self, run: &WinogradOutput<'_>, sums: *const i32) -> [neon::int32x4_t; TILE] {
        let mut m = [neon::vdupq_n_s32(0); WINDOW];
        for (i, m) in m.iter_mut().enumerate() {
            if run.short && CUT_TAPS.contains(&i) {
                continue;
            }
            // SAFETY: the caller's promise: 8 sums behind every column of every row of taps.
            *m = unsafe { neon::vld1q_s32(sums.wrapping_add(i * TILE * run.column_stride)) };
        }
        m[BIAS_TAP / WINDOW] = neon::vaddq_s32(m[BIAS_TAP / WINDOW], self.start);
        if run.short {
            let (a, b) = (neon::vaddq_s32(m[1], m[2]), neon::vsubq_s32(m[1], m[2]));
            let [a, b] = [self.shifted(neon::vaddq_s32(m[0], a)), self.shifted(neon::vaddq_s32(b, m[5]))];
            return [a, b, b, b];
        }
        if IN_ORDER {
            return self.multiplied(m);
        }
        let [a, b, c, d] = from_taps(m);
        [self.shifted(a), self.shifted(b), self.shifted(c), self.shifted(d)]
    }

    /// `A m` with multiplications for shifts, then [`Half::shifted`]: see [`neon_core`].
    #[target_feature(enable = "neon")]
    #[inline]
    fn multiplied(&self, m: [neon::int32x4_t; WINDOW]) -> [neon::int32x4_t; TILE] {
        let [two, four, six] = self.factors;
        let (a, b) = (neon::vaddq_s32(m[1], m[2]), neon::vsubq_s32(m[1], m[2]));
        let (c, d) = (neon::vaddq_s32(m[3], m[4]), neon::vsubq_s32(m[3], m[4]));
        let y1 = neon::vmlaq_s32(b, d, two);
        // The compiler would multiply and add, for a shorter way from `d` on.
        let y3 = neon_core::opaque_s32(neon::vmlaq_s32(y1, d, six));
        [
            self.shifted(neon::vaddq_s32(neon::vaddq_s32(m[0], a), c)),
            self.shifted(y1),
            self.shifted(neon::vmlaq_s32(a, c, four)),
            self.shifted(neon::vmlaq_s32(y3, m[5], four)),
        ]
    }

    #[target_feature(enable = "neon")]
    #[inline]
    fn shifted(&self, y: neon::int32x4_t) -> neon::int32x4_t {
        let acc64 = neon::vmulq_s32(y, self.inverse);
        if IN_ORDER {
            let q = neon::vqdmulhq_s32(acc64, self.multiplier);
            return neon::vrshlq_s32(neon::vqaddq_s32(q, self.addend), self.left_shift);
        }
        let acc = neon::vshrq_n_s32::<6>(acc64);
        neon::vrshlq_s32(neon::vqrdmulhq_s32(acc, self.multiplier), self.left_shift)
    }
}

/// `A m`.
#[target_feature(enable = "neon")]
#[inline]
fn from_taps(m: [neon::int32x4_t; WINDOW]) -> [neon::int32x4_t; TILE] {
    let (a, b) = (neon::vaddq_s32(m[1], m[2]), neon::vsubq_s32(m[1], m[2]));
    let c = neon::vaddq_s32(m[3], m[4]);
    let d2 = neon::vshlq_n_s32::<1>(neon::vsubq_s32(m[3], m[4]));
    [
        neon::vaddq_s32(neon::vaddq_s32(m[0], a), c),
        neon::vaddq_s32(b, d2),
        neon::vaddq_s32(a, neon::vshlq_n_s32::<2>(c)),
        neon::vaddq_s32(b, neon::vshlq_n_s32::<2>(neon::vaddq_s32(d2, m[5]))),
    ]
}
