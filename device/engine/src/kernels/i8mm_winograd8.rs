//! Requantized Winograd's products of the `i8mm` kernel, over weights with 8 channels together.
//!
//! ```text
//! 8 channels of two tiles, a register:               x = [p0 c0..7 | p1 c0..7]      neighbours in the values
//! 8 channels x 2 outputs of weights, a register:     w = [o0 c0..7 | o1 c0..7]
//! smmla acc.4s, x.16b, w.16b                         acc += [p0o0 | p0o1 | p1o0 | p1o1]
//! ```
//!
//! A batch of 6 pairs of tiles times 8 outputs is 24 accumulators, a tap at a time. A tap's sums are scaled as they lie and
//! wait in memory for the other taps of the row; then they become columns, and the two tiles part.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::mem::MaybeUninit;

use vgg_edge_blob::winograd8::{Form, MAX_TILE, MAX_WINDOW};

use super::i8mm::vmmlaq_s32;
use super::i8mm_blocks::{Pair, load_64, load_pair, load_twice};
use super::{GROUP, Winograd8Row};

/// # Safety
/// The CPU has FEAT_I8MM; the row is checked.
#[target_feature(enable = "neon,i8mm")]
pub(super) unsafe fn row(row: &Winograd8Row<'_>, sums: &mut [i32]) {
    // SAFETY: the caller's promise; `N` pairs are the batch's tiles, the last one without its second where they are odd.
    unsafe {
        match (row.n_tiles.div_ceil(2), row.n_tiles % 2 == 1) {
            (1, false) => batch::<1, false>(row, sums),
            (1, true) => batch::<1, true>(row, sums),
            (2, false) => batch::<2, false>(row, sums),
            (2, true) => batch::<2, true>(row, sums),
            (3, false) => batch::<3, false>(row, sums),
            (3, true) => batch::<3, true>(row, sums),
            (4, false) => batch::<4, false>(row, sums),
            (4, true) => batch::<4, true>(row, sums),
            (5, false) => batch::<5, false>(row, sums),
            (5, true) => batch::<5, true>(row, sums),
            (_, false) => batch::<6, false>(row, sums),
            (_, true) => batch::<6, true>(row, sums),
        }
    }
}

/// `N` pairs of tiles, the last one half where `ODD`.
///
/// # Safety
/// The CPU has FEAT_I8MM; the row is checked; it has `2 * N` tiles, or one less where `ODD`.
#[target_feature(enable = "neon,i8mm")]
#[inline(never)] // the registers are the batch's own
unsafe fn batch<const N: usize, const ODD: bool>(row: &Winograd8Row<'_>, sums: &mut [i32]) {
    let mut taps = [const { MaybeUninit::<[Pair; N]>::uninit() }; MAX_WINDOW];
    for (j, tap) in taps.iter_mut().enumerate().take(row.form.window()) {
        // SAFETY: the caller's promise; `j` is a tap of the row.
        tap.write(unsafe { scaled_tap::<N, ODD>(row, j) });
    }
    for i in 0..N {
        for half in 0..2 {
            // The registers of 4 of the outputs: two outputs each.
            let [low, high] = [0, 1].map(|r| {
                // SAFETY: written above, for every tap of the form.
                let tap = |j: usize| unsafe { taps[j].assume_init_ref() }[i][2 * half + r];
                match row.form {
                    Form::F23 => columns_f23([tap(0), tap(1), tap(2), tap(3)]),
                    Form::F43 => columns_f43([tap(0), tap(1), tap(2), tap(3), tap(4), tap(5)]),
                }
            });
            for x in 0..row.form.tile() {
                let [a, b] = [low[x], high[x]].map(|v| neon::vreinterpretq_s64_s32(v));
                let place = (x * row.n_tiles + 2 * i) * GROUP + 4 * half;
                // SAFETY: `check` found 8 places for every tile of every column.
                unsafe {
                    let place = sums.as_mut_ptr().add(place);
                    neon::vst1q_s32(place, neon::vreinterpretq_s32_s64(neon::vzip1q_s64(a, b)));
                    if !(ODD && i + 1 == N) {
                        let second = neon::vreinterpretq_s32_s64(neon::vzip2q_s64(a, b));
                        neon::vst1q_s32(place.add(GROUP), second);
                    }
                }
            }
        }
    }
}

/// Tap `j`'s sums over the channels, times its scales.
///
/// # Safety
/// As for [`batch`]; `j` is a tap of the row.
#[target_feature(enable = "neon,i8mm")]
#[inline]
unsafe fn scaled_tap<const N: usize, const ODD: bool>(row: &Winograd8Row<'_>, j: usize) -> [Pair; N] {
    let mut acc = [[neon::vdupq_n_s32(0); 4]; N];
    for acc in &mut acc {
        *acc = load_pair(&ZEROS);
    }
    let mut x = row.values.as_ptr().wrapping_add(j * row.tap_stride);
    let mut w = row.weights.as_ptr().wrapping_add(j * row.channels * GROUP);
    for _ in 0..row.channels / GROUP {
        // SAFETY: `check` found 8 values of every tile, and 64 weights, for every 8 channels of every tap.
        unsafe {
            let weights = load_64(w);
            for (i, acc) in acc.iter_mut().enumerate() {
                let x = x.add(16 * i);
                let x = if ODD && i + 1 == N { load_8(x) } else { neon::vld1q_s8(x) };
                for (acc, weights) in acc.iter_mut().zip(weights) {
                    *acc = vmmlaq_s32(*acc, x, weights);
                }
            }
        }
        x = x.wrapping_add(row.n_tiles * GROUP);
        w = w.wrapping_add(8 * GROUP);
    }
    // `check` found 8 scales for every tap.
    let Some(scales) = row.scales[j * GROUP..].first_chunk() else { return acc };
    let scales = load_twice(scales);
    for acc in &mut acc {
        for (acc, scale) in acc.iter_mut().zip(scales) {
            *acc = neon::vqrdmulhq_s32(*acc, scale);
        }
    }
    acc
}

/// `A s` of F(2x2,3x3): its rows are the first two columns of a tile.
#[target_feature(enable = "neon")]
#[inline]
fn columns_f23(s: [neon::int32x4_t; 4]) -> [neon::int32x4_t; MAX_TILE] {
    let first = neon::vaddq_s32(s[0], neon::vaddq_s32(s[1], s[2]));
    let second = neon::vaddq_s32(neon::vsubq_s32(s[1], s[2]), s[3]);
    [first, second, second, second]
}

/// `A s` of F(4x4,3x3). Twice a value is a sum: shifts have one pipe only.
#[target_feature(enable = "neon")]
#[inline]
fn columns_f43(s: [neon::int32x4_t; MAX_WINDOW]) -> [neon::int32x4_t; MAX_TILE] {
    let twice = |v| neon::vaddq_s32(v, v);
    let (a, b) = (neon::vaddq_s32(s[1], s[2]), neon::vsubq_s32(s[1], s[2]));
    let (three2, four2) = (twice(s[3]), twice(s[4]));
    let first =
        neon::vaddq_s32(neon::vaddq_s32(s[0], a), neon::vaddq_s32(s[3], neon::vshlq_n_s32::<2>(four2)));
    let second = neon::vaddq_s32(b, twice(neon::vsubq_s32(s[3], four2)));
    let third = neon::vaddq_s32(a, twice(neon::vaddq_s32(three2, s[4])));
    let fourth =
        neon::vaddq_s32(neon::vaddq_s32(b, neon::vshlq_n_s32::<2>(three2)), neon::vsubq_s32(s[5], s[4]));
    [first, second, third, fourth]
}

/// What a batch's sums start with.
static ZEROS: [i32; 16] = [0; 16];

/// 8 values of the last tile of an odd number; 0 for the one that is not there.
///
/// # Safety
/// 8 values at `x`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_8(x: *const i8) -> neon::int8x16_t {
    let values;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ldr {v:d}, [{x}]", v = out(vreg) values, x = in(reg) x,
            options(pure, readonly, nostack, preserves_flags));
    }
    values
}
