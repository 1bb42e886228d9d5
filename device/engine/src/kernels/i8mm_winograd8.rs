//! Products of requantized Winograd of the `i8mm` kernel, `i8mm_winograd8`: weights with 8 channels together.
//!
//! ```text
//! 8 channels of two tiles, a register:               x = [p0 c0..7 | p1 c0..7]      neighbours in the values
//! 8 channels x 2 outputs of weights, a register:     w = [o0 c0..7 | o1 c0..7]
//! smmla acc.4s, x.16b, w.16b                         acc += [p0o0 | p0o1 | p1o0 | p1o1]
//! ```
//!
//! A batch of 6 pairs of tiles times 8 outputs is 24 accumulators, a tap at a time. A tap's sums wait in memory for the other
//! taps of the row; they are scaled and become columns as they lie, then the two tiles part.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::mem::MaybeUninit;

use vgg_edge_blob::winograd8::{Form, MAX_TILE, MAX_WINDOW};

use super::dotprod_winograd8::scaled_columns;
use super::i8mm::vmmlaq_s32;
use super::i8mm_blocks::{Pair, load_64, load_pair, load_twice};
use super::{GROUP, Winograd8Row};

/// # Safety
/// The CPU has FEAT_I8MM and FEAT_RDM; the row is checked.
#[target_feature(enable = "neon,i8mm,rdm")]
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
/// The CPU has FEAT_I8MM and FEAT_RDM; the row is checked; it has `2 * N` tiles, or one less where `ODD`.
#[target_feature(enable = "neon,i8mm,rdm")]
#[inline(never)] // the registers are the batch's own
unsafe fn batch<const N: usize, const ODD: bool>(row: &Winograd8Row<'_>, sums: &mut [i32]) {
    let mut taps = [const { MaybeUninit::<[Pair; N]>::uninit() }; MAX_WINDOW];
    for (j, tap) in taps.iter_mut().enumerate().take(row.form.window()) {
        // SAFETY: the caller's promise; `j` is a tap of the row.
        tap.write(unsafe { multiply::<N, ODD>(row, j) });
    }
    // SAFETY: the form's taps are written above; else the caller's promise.
    unsafe {
        match row.form {
            Form::F23 => columns::<N, ODD, false>(&taps, row, sums),
            Form::F43 => columns::<N, ODD, true>(&taps, row, sums),
        }
    }
}

/// Scales the taps' sums, transforms them to columns and parts the tiles.
///
/// # Safety
/// As for [`batch`]; the form's taps are there.
#[target_feature(enable = "neon,rdm")]
#[inline]
unsafe fn columns<const N: usize, const ODD: bool, const F43: bool>(
    taps: &[MaybeUninit<[Pair; N]>; MAX_WINDOW],
    row: &Winograd8Row<'_>,
    sums: &mut [i32],
) {
    let (tile, window) = if F43 { (4, 6) } else { (2, 4) };
    for half in 0..2 {
        // The registers of 4 of the outputs: two outputs each.
        let mut scales = [[neon::vdupq_n_s32(0); MAX_WINDOW]; 2];
        for (j, eight) in row.scales.as_chunks::<GROUP>().0.iter().enumerate().take(window) {
            let all = load_twice(eight);
            (scales[0][j], scales[1][j]) = (all[2 * half], all[2 * half + 1]);
        }
        for i in 0..N {
            let mut both = [[neon::vdupq_n_s32(0); MAX_TILE]; 2];
            for (r, both) in both.iter_mut().enumerate() {
                let mut acc = [neon::vdupq_n_s32(0); MAX_WINDOW];
                for (acc, tap) in acc.iter_mut().zip(taps).take(window) {
                    // SAFETY: the caller's promise.
                    *acc = unsafe { tap.assume_init_ref() }[i][2 * half + r];
                }
                *both = scaled_columns::<F43>(acc, scales[r]);
            }
            let [first, second] = both;
            for (x, (a, b)) in first.into_iter().zip(second).enumerate().take(tile) {
                let [a, b] = [a, b].map(|v| neon::vreinterpretq_s64_s32(v));
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

/// Tap `j`'s sums over the channels.
///
/// # Safety
/// As for [`batch`]; `j` is a tap of the row.
#[target_feature(enable = "neon,i8mm")]
#[inline]
unsafe fn multiply<const N: usize, const ODD: bool>(row: &Winograd8Row<'_>, j: usize) -> [Pair; N] {
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
    acc
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
