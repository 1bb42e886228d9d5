//! Requantized Winograd's output transform of the `neon` kernel and of every Arm row above it, `neon_winograd8_output`.
//!
//! ```text
//! 4 channels of a column of a tile   A m, sqrdmulh, srshl, sqxtn; halves meet in i16: sqadd of the zero point, sqxtn
//! ```
//!
//! `A m` is also what transforms a row of taps: `neon_winograd8_row`. Both leave the writer's bound on sums to the file: in one
//! that breaks it, outputs may differ from `scalar`'s.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};

use vgg_edge_blob::winograd8::{Form, MAX_TILE, MAX_WINDOW};

use super::neon::load_i32;
use super::neon_winograd_output::store;
use super::neon_winograd8::sizes;
use super::{GROUP, Winograd8Output};

pub(super) fn output(run: &Winograd8Output<'_>) {
    run.check();
    // SAFETY: this file is compiled for targets that have NEON; the extents are checked.
    unsafe {
        match run.form {
            Form::F23 => transform_output::<false>(run),
            Form::F43 => transform_output::<true>(run),
        }
    }
}

/// # Safety
/// The run is checked.
#[target_feature(enable = "neon")]
unsafe fn transform_output<const F43: bool>(run: &Winograd8Output<'_>) {
    let (tile, _) = sizes(F43);
    let zero_point = neon::vdupq_n_s16(run.requant.zero_point.into());
    let (bias, multiplier) = (load_i32(run.bias), load_i32(run.requant.multiplier));
    let left_shift = load_i32(run.requant.shift).map(|s| neon::vnegq_s32(s));
    for x in 0..run.n_columns {
        let first = x % tile * run.column_stride + x / tile * GROUP;
        let mut pixels = [[neon::vdupq_n_s32(0); 2]; MAX_TILE];
        for half in 0..2 {
            // SAFETY: the caller's promise: 8 sums behind every column of every row of taps.
            let sums = unsafe { load_sums::<F43>(run, first + 4 * half, bias[half]) };
            for (pixel, y) in pixels.iter_mut().zip(from_taps::<F43>(sums)) {
                pixel[half] = neon::vrshlq_s32(neon::vqrdmulhq_s32(y, multiplier[half]), left_shift[half]);
            }
        }
        for (y, [low, high]) in pixels.into_iter().enumerate().take(run.n_rows) {
            let channels = neon::vqmovn_high_s32(neon::vqmovn_s32(low), high);
            let word = neon::vreinterpret_u64_s8(neon::vqmovn_s16(neon::vqaddq_s16(channels, zero_point)));
            let place = y * run.row_stride + x * run.pixel_stride;
            store(&run.words[place], word);
        }
    }
}

/// 4 channels of a column of a tile at all rows of taps, the bias inside.
///
/// # Safety
/// The run is checked; `first` is the place of the column's sum at row 0, channel 0 or 4.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_sums<const F43: bool>(
    run: &Winograd8Output<'_>,
    first: usize,
    bias: neon::int32x4_t,
) -> [neon::int32x4_t; MAX_WINDOW] {
    let (tile, window) = sizes(F43);
    let mut sums = [neon::vdupq_n_s32(0); MAX_WINDOW];
    for (i, sum) in sums.iter_mut().enumerate().take(window) {
        // SAFETY: the caller's promise.
        *sum = unsafe { neon::vld1q_s32(run.sums.as_ptr().add(first + i * tile * run.column_stride)) };
    }
    sums[1] = neon::vaddq_s32(sums[1], bias);
    sums
}

/// `A m`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn from_taps<const F43: bool>(m: [neon::int32x4_t; MAX_WINDOW]) -> [neon::int32x4_t; MAX_TILE] {
    let [first, .., last] = inner_taps::<F43>(m);
    if !F43 {
        let zero = neon::vdupq_n_s32(0);
        return [neon::vaddq_s32(first, m[0]), neon::vaddq_s32(last, m[3]), zero, zero];
    }
    let [_, y1, y2, _] = inner_taps::<F43>(m);
    [neon::vaddq_s32(first, m[0]), y1, y2, neon::vaddq_s32(last, m[5])]
}

/// `A m` without the first and the last tap, which count once each: in the first and the last output (F23: 0 and 3).
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn inner_taps<const F43: bool>(m: [neon::int32x4_t; MAX_WINDOW]) -> [neon::int32x4_t; MAX_TILE] {
    let (sum, difference) = (neon::vaddq_s32(m[1], m[2]), neon::vsubq_s32(m[1], m[2]));
    if !F43 {
        return [sum, difference, sum, difference];
    }
    let [_, mut m1, m2, m3, m4, _] = m;
    let (y0, y2, y3);
    // SAFETY: registers only. 4 m3, 2 m4 and 2 m3 are halves and quarters of the eights, added as they are shifted (the proof
    // bounds the eights). In one block, so that what is overwritten is not copied before.
    unsafe {
        asm!(
            "add  {y2:v}.4s, {m1:v}.4s, {m2:v}.4s",
            "sub  {m1:v}.4s, {m1:v}.4s, {m2:v}.4s",
            "shl  {m2:v}.4s, {m3:v}.4s, #3",
            "add  {y0:v}.4s, {y2:v}.4s, {m3:v}.4s",
            "shl  {m3:v}.4s, {m4:v}.4s, #3",
            "sub  {y3:v}.4s, {m1:v}.4s, {m4:v}.4s",
            "shl  {m4:v}.4s, {m4:v}.4s, #2",
            "ssra {y2:v}.4s, {m2:v}.4s, #1",
            "add  {y0:v}.4s, {y0:v}.4s, {m3:v}.4s",
            "ssra {m1:v}.4s, {m2:v}.4s, #2",
            "add  {y3:v}.4s, {y3:v}.4s, {m2:v}.4s",
            "ssra {y2:v}.4s, {m3:v}.4s, #2",
            "sub  {m1:v}.4s, {m1:v}.4s, {m4:v}.4s",
            m1 = inout(vreg) m1, m2 = inout(vreg) m2 => _, m3 = inout(vreg) m3 => _, m4 = inout(vreg) m4 => _,
            y0 = out(vreg) y0, y2 = out(vreg) y2, y3 = out(vreg) y3, options(pure, nomem, nostack, preserves_flags)
        );
    }
    [y0, m1, y2, y3]
}
