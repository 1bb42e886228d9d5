//! Requantized Winograd's multiplications of the `dotprod` kernel, `dotprod_winograd8`: a row of taps, 12 tiles times 8 outputs.
//!
//! ```text
//! w = [o0 k0..3 | o1 k0..3 | o2 k0..3 | o3 k0..3]   and o4..7; and both for k4..7: 4 registers a step of 8 channels
//! x = [tile p: k0..3 | k4..7]                      half a register
//! sdot acc[p].lo, w.16b, x.4b[0]                   4 of them a tile and step
//! ```
//!
//! A tile's block of 4 products holds the load for the next tile, a step's last block also the next weights, each behind its
//! register's last use. Sums are scaled where they are transformed: `sqrdmulh`, and `sqrdmlah` where a scaled sum counts in one
//! output only, which adds it for nothing.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::mem::MaybeUninit;

use vgg_edge_blob::winograd8::{Form, MAX_TILE, MAX_WINDOW};

use super::neon_winograd8_output::inner_taps;
use super::neon_winograd8_row::load_zeros;
use super::{GROUP, MAX_BATCH, Winograd8Row};

/// # Safety
/// The CPU has FEAT_DotProd and FEAT_RDM.
#[target_feature(enable = "neon,dotprod,rdm")]
pub(super) unsafe fn row(row: &Winograd8Row<'_>, sums: &mut [i32]) {
    row.check(sums);
    // SAFETY: the extents are checked, and each arm has the batch's own number of tiles.
    unsafe {
        match row.n_tiles {
            1 => tiles::<1>(row, sums),
            2 => tiles::<2>(row, sums),
            3 => tiles::<3>(row, sums),
            4 => tiles::<4>(row, sums),
            5 => tiles::<5>(row, sums),
            6 => tiles::<6>(row, sums),
            7 => tiles::<7>(row, sums),
            8 => tiles::<8>(row, sums),
            9 => tiles::<9>(row, sums),
            10 => tiles::<10>(row, sums),
            11 => tiles::<11>(row, sums),
            _ => tiles::<12>(row, sums),
        }
    }
}

/// A row of `P` tiles.
///
/// # Safety
/// The CPU has the features; the row is checked; `P` is its number of tiles.
#[target_feature(enable = "neon,dotprod,rdm")]
unsafe fn tiles<const P: usize>(row: &Winograd8Row<'_>, sums: &mut [i32]) {
    let mut taps = [const { MaybeUninit::<i32>::uninit() }; MAX_WINDOW * MAX_BATCH * GROUP];
    let taps = taps.as_mut_ptr().cast::<i32>();
    for j in 0..row.form.window() {
        // SAFETY: `check` found a row's values and weights.
        unsafe {
            let x = row.values.as_ptr().add(j * row.tap_stride);
            let w = row.weights.as_ptr().add(j * row.channels * GROUP);
            multiply::<P>(x, w, row.channels, taps.add(j * P * GROUP));
        }
    }
    // SAFETY: the form's taps are written above; `check` found scales and places for their columns.
    unsafe {
        match row.form {
            Form::F23 => columns::<false>(taps, row.scales, P * GROUP, sums.as_mut_ptr()),
            Form::F43 => columns::<true>(taps, row.scales, P * GROUP, sums.as_mut_ptr()),
        }
    }
}

/// Scales `n` sums a tap, and transforms them to columns.
///
/// # Safety
/// The CPU has FEAT_RDM. `n` (a multiple of 8) values a tap at `taps` and a column at `sums`; 8 scales a tap.
#[target_feature(enable = "neon,rdm")]
unsafe fn columns<const F43: bool>(taps: *const i32, scales: &[i32], n: usize, sums: *mut i32) {
    let (tile, window) = if F43 { (4, 6) } else { (2, 4) };
    for half in [0, 4] {
        let mut scale = [neon::vdupq_n_s32(0); MAX_WINDOW];
        for (j, scale) in scale.iter_mut().enumerate().take(window) {
            // SAFETY: the caller's promise.
            *scale = unsafe { neon::vld1q_s32(scales.as_ptr().add(j * GROUP + half)) };
        }
        for at in (half..n).step_by(GROUP) {
            let mut acc = [neon::vdupq_n_s32(0); MAX_WINDOW];
            for (j, acc) in acc.iter_mut().enumerate().take(window) {
                // SAFETY: the caller's promise.
                *acc = unsafe { neon::vld1q_s32(taps.add(j * n + at)) };
            }
            for (x, column) in scaled_columns::<F43>(acc, scale).into_iter().enumerate().take(tile) {
                // SAFETY: the caller's promise.
                unsafe { neon::vst1q_s32(sums.add(x * n + at), column) };
            }
        }
    }
}

/// `A` times scaled sums.
#[target_feature(enable = "neon,rdm")]
#[inline]
pub(super) fn scaled_columns<const F43: bool>(
    acc: [neon::int32x4_t; MAX_WINDOW],
    scale: [neon::int32x4_t; MAX_WINDOW],
) -> [neon::int32x4_t; MAX_TILE] {
    let zero = neon::vdupq_n_s32(0);
    let scaled = |j: usize| neon::vqrdmulhq_s32(acc[j], scale[j]);
    let plus = |y, j: usize| neon::vqrdmlahq_s32(y, acc[j], scale[j]);
    if !F43 {
        let [first, last, ..] = inner_taps::<false>([zero, scaled(1), scaled(2), zero, zero, zero]);
        return [plus(first, 0), plus(last, 3), zero, zero];
    }
    let m = [zero, scaled(1), scaled(2), scaled(3), scaled(4), zero];
    let [y0, y1, y2, y3] = inner_taps::<true>(m);
    [plus(y0, 0), y1, y2, plus(y3, 5)]
}

/// One tap of `P` tiles: sums, `[P][8]`.
///
/// # Safety
/// The CPU has FEAT_DotProd. `channels * P` values at `x`, `channels * 8` weights at `w`, `P * 8` places at `sums`; `channels` is a
/// multiple of 8.
#[target_feature(enable = "neon,dotprod")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply<const P: usize>(mut x: *const i8, mut w: *const i8, channels: usize, sums: *mut i32) {
    let mut acc = [[neon::vdupq_n_s32(0); 2]; P];
    for acc in &mut acc {
        *acc = load_zeros();
    }
    // SAFETY: the caller's promise. Loads run ahead of products; the last step loads nothing for a next one.
    unsafe {
        let mut weights = [0, 16, 32, 48].map(|i| neon::vld1q_s8(w.add(i)));
        let mut next = neon::vld1_s8(x);
        x = x.add(GROUP);
        for _ in 1..channels / GROUP {
            for acc in &mut acc[..P - 1] {
                multiply_and_load(acc, &weights, &mut next, &mut x);
            }
            w = w.add(64);
            multiply_and_load_all(&mut acc[P - 1], &mut weights, &mut next, &mut x, w);
        }
        for acc in &mut acc[..P - 1] {
            multiply_and_load(acc, &weights, &mut next, &mut x);
        }
        multiply_values(&mut acc[P - 1], &weights, next);
    }
    for (p, acc) in acc.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            neon::vst1q_s32(sums.add(p * GROUP), acc[0]);
            neon::vst1q_s32(sums.add(p * GROUP + 4), acc[1]);
        }
    }
}

/// 8 channels of one tile times 8 outputs.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn multiply_values(acc: &mut [neon::int32x4_t; 2], w: &[neon::int8x16_t; 4], values: neon::int8x8_t) {
    let [low, high] = acc;
    // SAFETY: registers only.
    unsafe {
        asm!(
            "sdot {a:v}.4s, {w0:v}.16b, {v:v}.4b[0]",
            "sdot {b:v}.4s, {w1:v}.16b, {v:v}.4b[0]",
            "sdot {a:v}.4s, {w2:v}.16b, {v:v}.4b[1]",
            "sdot {b:v}.4s, {w3:v}.16b, {v:v}.4b[1]",
            a = inout(vreg) *low, b = inout(vreg) *high, w0 = in(vreg) w[0], w1 = in(vreg) w[1],
            w2 = in(vreg) w[2], w3 = in(vreg) w[3], v = in(vreg) values,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
}

/// [`multiply_values`] of `next`, which becomes the values at `x`, which moves on to the next tile's.
///
/// # Safety
/// 8 values at `x`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn multiply_and_load(
    acc: &mut [neon::int32x4_t; 2],
    w: &[neon::int8x16_t; 4],
    next: &mut neon::int8x8_t,
    x: &mut *const i8,
) {
    let ([low, high], values) = (acc, *next);
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "ldr  {n:d}, [{x}], #8",
            "sdot {a:v}.4s, {w0:v}.16b, {v:v}.4b[0]",
            "sdot {b:v}.4s, {w1:v}.16b, {v:v}.4b[0]",
            "sdot {a:v}.4s, {w2:v}.16b, {v:v}.4b[1]",
            "sdot {b:v}.4s, {w3:v}.16b, {v:v}.4b[1]",
            a = inout(vreg) *low, b = inout(vreg) *high, w0 = in(vreg) w[0], w1 = in(vreg) w[1],
            w2 = in(vreg) w[2], w3 = in(vreg) w[3], v = in(vreg) values, n = out(vreg) *next,
            x = inout(reg) *x, options(pure, readonly, nostack, preserves_flags)
        );
    }
}

/// The same for the last tile of a step; the weights become those at `next_w`.
///
/// # Safety
/// 8 values at `x`, 64 weights at `next_w`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn multiply_and_load_all(
    acc: &mut [neon::int32x4_t; 2],
    w: &mut [neon::int8x16_t; 4],
    next: &mut neon::int8x8_t,
    x: &mut *const i8,
    next_w: *const i8,
) {
    let ([low, high], [w0, w1, w2, w3], values) = (acc, w, *next);
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "ldr  {n:d}, [{x}], #8",
            "sdot {a:v}.4s, {w0:v}.16b, {v:v}.4b[0]",
            "ldr  {w0:q}, [{w}]",
            "sdot {b:v}.4s, {w1:v}.16b, {v:v}.4b[0]",
            "ldr  {w1:q}, [{w}, #16]",
            "sdot {a:v}.4s, {w2:v}.16b, {v:v}.4b[1]",
            "ldr  {w2:q}, [{w}, #32]",
            "sdot {b:v}.4s, {w3:v}.16b, {v:v}.4b[1]",
            "ldr  {w3:q}, [{w}, #48]",
            a = inout(vreg) *low, b = inout(vreg) *high, w0 = inout(vreg) *w0, w1 = inout(vreg) *w1,
            w2 = inout(vreg) *w2, w3 = inout(vreg) *w3, v = in(vreg) values, n = out(vreg) *next,
            x = inout(reg) *x, w = in(reg) next_w, options(pure, readonly, nostack, preserves_flags)
        );
    }
}
