//! Winograd's multiplications of the `neon` kernel, `neon_winograd_row`: a row of 6 taps, 12 tiles times 8 outputs.
//!
//! ```text
//! w = [k: o0..o7]                      a register a channel k, 4 of them
//! x = [tile p: k0 k1 k2 k3]            half a register
//! smlal  acc[p].lo, w_k.4h, x.h[k]     o0..o3 += w * x         8 multiplications a tile and step of 4 channels
//! smlal2 acc[p].hi, w_k.8h, x.h[k]     o4..o7
//! ```
//!
//! 12 tiles are 24 accumulators, 4 registers of weights and 2 of values. A tile's block of 8 multiplications holds the
//! load for the next tile, a step's last block also the next weights, each behind its register's last use: in-order
//! cores (A53, A55) then do not wait for the first level cache. The sums of a row are 2.3 KB, and transformed at once.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::mem::MaybeUninit;

use vgg_edge_blob::winograd::{TILE, WINDOW};

use super::neon_winograd::from_taps;
use super::{GROUP, MAX_BATCH, WinogradRow};

pub(super) fn row(row: &WinogradRow<'_>, sums: &mut [i32]) {
    row.check(sums);
    // SAFETY: this file is compiled for targets that have NEON; the extents are checked, and each arm has the batch's
    // own number of tiles.
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
/// The row is checked; `P` is its number of tiles.
#[target_feature(enable = "neon")]
unsafe fn tiles<const P: usize>(row: &WinogradRow<'_>, sums: &mut [i32]) {
    let mut taps = [const { MaybeUninit::<i32>::uninit() }; WINDOW * MAX_BATCH * GROUP];
    let taps = taps.as_mut_ptr().cast::<i32>();
    for j in 0..WINDOW {
        // SAFETY: `check` found a row's values and weights.
        unsafe {
            let x = row.values.as_ptr().add(j * row.tap_stride);
            let w = row.weights.as_ptr().add(j * row.channels * GROUP);
            multiply::<P>(x, w, row.channels, taps.add(j * P * GROUP));
        }
    }
    for quad in (0..P * GROUP).step_by(4) {
        let mut m = [neon::vdupq_n_s32(0); WINDOW];
        for (j, m) in m.iter_mut().enumerate() {
            // SAFETY: written above.
            *m = unsafe { neon::vld1q_s32(taps.add(j * P * GROUP + quad)) };
        }
        let columns: [_; TILE] = from_taps(m);
        for (x, column) in columns.into_iter().enumerate() {
            // SAFETY: `check` found places for 4 columns.
            unsafe { neon::vst1q_s32(sums.as_mut_ptr().add(x * P * GROUP + quad), column) };
        }
    }
}

/// One tap of `P` tiles: sums, `[P][8]`.
///
/// # Safety
/// `channels * P` values at `x`, `channels * 8` weights at `w`, `P * 8` places at `sums`; `channels` is a multiple of 8.
#[target_feature(enable = "neon")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply<const P: usize>(mut x: *const i16, mut w: *const i16, channels: usize, sums: *mut i32) {
    let mut acc = [[neon::vdupq_n_s32(0); 2]; P];
    let steps = channels / 4;
    // Behind the tiles' first halves of 8 channels come their second halves, from tile 0 on, and then the next 8.
    let rewind =
        |x: *const i16, step: usize| x.wrapping_sub(if step.is_multiple_of(2) { P * GROUP - 4 } else { 4 });
    // SAFETY: the caller's promise; 8 channels are two steps. Loads run ahead of multiplications; the last step loads
    // nothing for a next one.
    unsafe {
        let mut weights = load_weights(w);
        let mut next = load_post(&mut x);
        for acc in &mut acc[..P - 1] {
            let values = next;
            next = load_post(&mut x);
            *acc = first_products(&weights, values);
        }
        acc[P - 1] = first_products(&weights, next);
        x = rewind(x, 0);
        w = w.add(4 * GROUP);
        next = load_post(&mut x);
        weights = load_weights(w);
        for step in 1..steps - 1 {
            for acc in &mut acc[..P - 1] {
                multiply_and_load(acc, &weights, &mut next, &mut x);
            }
            x = rewind(x, step);
            w = w.add(4 * GROUP);
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

/// 4 values, with post-increment to the next tile's.
///
/// # Safety
/// 4 values at `x`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_post(x: &mut *const i16) -> neon::int16x4_t {
    // SAFETY: the caller's promise.
    let values = unsafe { neon::vld1_s16(*x) };
    *x = x.wrapping_add(GROUP);
    values
}

/// 4 channels of 8 outputs.
///
/// # Safety
/// 32 weights at `w`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_weights(w: *const i16) -> [neon::int16x8_t; 4] {
    // SAFETY: the caller's promise.
    [0, 1, 2, 3].map(|k| unsafe { neon::vld1q_s16(w.add(k * GROUP)) })
}

/// 4 channels of one tile times 8 outputs, the first products of their sums.
#[target_feature(enable = "neon")]
#[inline]
fn first_products(w: &[neon::int16x8_t; 4], v: neon::int16x4_t) -> [neon::int32x4_t; 2] {
    let low = neon::vmull_lane_s16::<0>(neon::vget_low_s16(w[0]), v);
    let mut acc = [low, neon::vmull_high_lane_s16::<0>(w[0], v)];
    products::<1>(&mut acc, w[1], v);
    products::<2>(&mut acc, w[2], v);
    products::<3>(&mut acc, w[3], v);
    acc
}

/// 4 channels of one tile times 8 outputs.
#[target_feature(enable = "neon")]
#[inline]
fn multiply_values(acc: &mut [neon::int32x4_t; 2], w: &[neon::int16x8_t; 4], v: neon::int16x4_t) {
    products::<0>(acc, w[0], v);
    products::<1>(acc, w[1], v);
    products::<2>(acc, w[2], v);
    products::<3>(acc, w[3], v);
}

#[target_feature(enable = "neon")]
#[inline]
fn products<const K: i32>(acc: &mut [neon::int32x4_t; 2], w: neon::int16x8_t, v: neon::int16x4_t) {
    acc[0] = neon::vmlal_lane_s16::<K>(acc[0], neon::vget_low_s16(w), v);
    acc[1] = neon::vmlal_high_lane_s16::<K>(acc[1], w, v);
}

/// [`multiply_values`] of `next`, which becomes the values at `x`, which moves on to the next tile's.
///
/// # Safety
/// 4 values at `x`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn multiply_and_load(
    acc: &mut [neon::int32x4_t; 2],
    w: &[neon::int16x8_t; 4],
    next: &mut neon::int16x4_t,
    x: &mut *const i16,
) {
    let ([low, high], values) = (acc, *next);
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "ldr    {n:d}, [{x}], #16",
            "smlal  {a:v}.4s, {w0:v}.4h, {v:v}.h[0]",
            "smlal2 {b:v}.4s, {w0:v}.8h, {v:v}.h[0]",
            "smlal  {a:v}.4s, {w1:v}.4h, {v:v}.h[1]",
            "smlal2 {b:v}.4s, {w1:v}.8h, {v:v}.h[1]",
            "smlal  {a:v}.4s, {w2:v}.4h, {v:v}.h[2]",
            "smlal2 {b:v}.4s, {w2:v}.8h, {v:v}.h[2]",
            "smlal  {a:v}.4s, {w3:v}.4h, {v:v}.h[3]",
            "smlal2 {b:v}.4s, {w3:v}.8h, {v:v}.h[3]",
            a = inout(vreg) *low, b = inout(vreg) *high, w0 = in(vreg) w[0], w1 = in(vreg) w[1],
            w2 = in(vreg) w[2], w3 = in(vreg) w[3], v = in(vreg_low16) values, n = out(vreg_low16) *next,
            x = inout(reg) *x, options(pure, readonly, nostack, preserves_flags)
        );
    }
}

/// The same for the last tile of a step; the weights become those at `next_w`.
///
/// # Safety
/// 4 values at `x`, 32 weights at `next_w`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn multiply_and_load_all(
    acc: &mut [neon::int32x4_t; 2],
    w: &mut [neon::int16x8_t; 4],
    next: &mut neon::int16x4_t,
    x: &mut *const i16,
    next_w: *const i16,
) {
    let ([low, high], [w0, w1, w2, w3], values) = (acc, w, *next);
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "ldr    {n:d}, [{x}], #16",
            "smlal  {a:v}.4s, {w0:v}.4h, {v:v}.h[0]",
            "smlal2 {b:v}.4s, {w0:v}.8h, {v:v}.h[0]",
            "smlal  {a:v}.4s, {w1:v}.4h, {v:v}.h[1]",
            "ldr    {w0:q}, [{w}]",
            "smlal2 {b:v}.4s, {w1:v}.8h, {v:v}.h[1]",
            "smlal  {a:v}.4s, {w2:v}.4h, {v:v}.h[2]",
            "ldr    {w1:q}, [{w}, #16]",
            "smlal2 {b:v}.4s, {w2:v}.8h, {v:v}.h[2]",
            "smlal  {a:v}.4s, {w3:v}.4h, {v:v}.h[3]",
            "ldr    {w2:q}, [{w}, #32]",
            "smlal2 {b:v}.4s, {w3:v}.8h, {v:v}.h[3]",
            "ldr    {w3:q}, [{w}, #48]",
            a = inout(vreg) *low, b = inout(vreg) *high, w0 = inout(vreg) *w0, w1 = inout(vreg) *w1,
            w2 = inout(vreg) *w2, w3 = inout(vreg) *w3, v = in(vreg_low16) values,
            n = out(vreg_low16) *next, x = inout(reg) *x, w = in(reg) next_w,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
}
