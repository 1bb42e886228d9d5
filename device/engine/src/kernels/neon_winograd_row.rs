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
//! load for the next tile, a step's last block also the next weights, each behind its register's last use. In-order
//! cores (A53, A55) have their own order of the same: `neon_winograd_in_order`.
//!
//! The row becomes 4 columns with few operations, since sums run on from tap to tap:
//!
//! ```text
//! m3 ─► m3 + m4 = c ─► c + m1 ─► c + m1 + m2 ─► c + m1 + m2 + m0 = y0        m5
//! y2 = (c + m1 + m2) + 3 c      y1 = 2 (c + m1 + 2 m3) - y2      y3 = y1 + 12 m3 - 6 c + 4 m5
//! ```

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::mem::MaybeUninit;

use vgg_edge_blob::winograd::WINDOW;

use super::{GROUP, MAX_BATCH, WinogradRow, neon_core, neon_winograd_in_order};

/// The order of the taps, and where the sums behind each are kept, [`COLUMN_0`] or a part: behind the last tap but one the
/// registers hold column 0.
const WHOLE: [(usize, usize); WINDOW] = [(3, 0), (4, 1), (1, 2), (2, 3), (0, COLUMN_0), (5, 4)];
/// The same for narrow tiles.
const NARROW: [(usize, usize); 4] = [(1, 0), (2, 1), (0, COLUMN_0), (5, 4)];
/// Sums that are kept besides column 0.
const PARTS: usize = 5;
pub(super) const COLUMN_0: usize = PARTS;
/// Channels of a step.
pub(super) const STEP: usize = 4;

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

/// A row of `P` tiles: the chain of sums, then what is left of `M A'`.
///
/// # Safety
/// The row is checked; `P` is its number of tiles.
#[target_feature(enable = "neon")]
unsafe fn tiles<const P: usize>(row: &WinogradRow<'_>, sums: &mut [i32]) {
    let mut parts = [const { MaybeUninit::<i32>::uninit() }; PARTS * MAX_BATCH * GROUP];
    let (parts, sums) = (parts.as_mut_ptr().cast::<i32>(), sums.as_mut_ptr());
    // SAFETY: `check` found a row's values and weights, and places for 4 columns; the parts are `P * GROUP` values each,
    // and written before they are read.
    unsafe {
        let (chain, is_in_order) =
            (if row.narrow { &NARROW[..] } else { &WHOLE[..] }, neon_core::is_in_order());
        match is_in_order {
            true => neon_winograd_in_order::multiply::<P>(row, chain, parts, sums),
            false => multiply::<P>(row, chain, parts, sums),
        }
        if row.narrow {
            narrow_column(parts, sums, P * GROUP);
        } else if is_in_order {
            last_columns::<true>(parts, sums, P * GROUP);
        } else {
            last_columns::<false>(parts, sums, P * GROUP);
        }
    }
}

/// Columns 1 to 3 of `n` sums each, from the parts `m3`, `m3 + m4`, `m3 + m4 + m1`, `m3 + m4 + m1 + m2` and `m5`.
///
/// # Safety
/// `5 * n` parts, `4 * n` places at `sums`; `n` is a multiple of 4.
#[target_feature(enable = "neon")]
unsafe fn last_columns<const IN_ORDER: bool>(parts: *const i32, sums: *mut i32, n: usize) {
    let [two, three, four, minus_six, twelve] = [2, 3, 4, -6, 12].map(|factor| neon_core::factor_s32(factor));
    for quad in (0..n).step_by(4) {
        // SAFETY: the caller's promise.
        let part = |i: usize| unsafe { neon::vld1q_s32(parts.add(i * n + quad)) };
        let [m3, c, c1, c12, m5] = [part(0), part(1), part(2), part(3), part(4)];
        let (y1, y2, y3);
        if IN_ORDER {
            // Each operation takes the same time there, a multiplication, too.
            y2 = neon::vmlaq_s32(c12, c, three);
            let h = neon::vmlaq_s32(c1, m3, two);
            y1 = neon::vsubq_s32(neon::vshlq_n_s32::<1>(h), y2);
            y3 = neon::vmlaq_s32(neon::vmlaq_s32(neon::vmlaq_s32(y1, m3, twelve), c, minus_six), m5, four);
        } else {
            y2 = neon::vaddq_s32(neon::vaddq_s32(c12, c), neon::vshlq_n_s32::<1>(c));
            let twice = neon::vshlq_n_s32::<1>(m3);
            y1 = neon::vsubq_s32(neon::vshlq_n_s32::<1>(neon::vaddq_s32(c1, twice)), y2);
            // d = m3 - m4
            let d = neon::vsubq_s32(twice, c);
            let four = neon::vshlq_n_s32::<2>(neon::vaddq_s32(m5, d));
            y3 = neon::vaddq_s32(neon::vaddq_s32(y1, neon::vshlq_n_s32::<1>(d)), four);
        }
        for (x, y) in [y1, y2, y3].into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { neon::vst1q_s32(sums.add((x + 1) * n + quad), y) };
        }
    }
}

/// Column 1 of `n` sums of narrow tiles, from the parts `m1`, `m1 + m2` and `m5`.
///
/// # Safety
/// As for [`last_columns`].
#[target_feature(enable = "neon")]
unsafe fn narrow_column(parts: *const i32, sums: *mut i32, n: usize) {
    for quad in (0..n).step_by(4) {
        // SAFETY: the caller's promise.
        let part = |i: usize| unsafe { neon::vld1q_s32(parts.add(i * n + quad)) };
        let [m1, m12, m5] = [part(0), part(1), part(4)];
        let y1 = neon::vsubq_s32(neon::vaddq_s32(neon::vshlq_n_s32::<1>(m1), m5), m12);
        // SAFETY: the caller's promise.
        unsafe { neon::vst1q_s32(sums.add(n + quad), y1) };
    }
}

/// The sums of `P` tiles in the order of `chain`: all but the last in the same registers, one behind the other, with a
/// copy kept after each; then those of tap 5 alone.
///
/// # Safety
/// The row is checked; `chain` is [`WHOLE`] or [`NARROW`]; `P` is its number of tiles; `5 * P * 8` places at `parts`, `P * 8` at `sums`.
#[target_feature(enable = "neon")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply<const P: usize>(
    row: &WinogradRow<'_>,
    chain: &[(usize, usize)],
    parts: *mut i32,
    sums: *mut i32,
) {
    let (steps, n) = (row.channels / STEP, P * GROUP);
    let values = |tap: usize| row.values.as_ptr().wrapping_add(tap * row.tap_stride);
    let weights = |tap: usize| row.weights.as_ptr().wrapping_add(tap * row.channels * GROUP);
    let mut acc = [[neon::vdupq_n_s32(0); 2]; P];
    // SAFETY: the caller's promise. Loads run a tile, or a step, ahead of multiplications; those behind the last step are
    // the first values and weights again.
    unsafe {
        let first = chain[0].0;
        let mut x = values(first);
        let mut w = load_weights(weights(first));
        let mut next = load_post(&mut x);
        for (i, &(tap, kept)) in chain.iter().enumerate() {
            let then = chain.get(i + 1).map_or(first, |next| next.0);
            let kept = if kept == COLUMN_0 { sums } else { parts.add(kept * n) };
            // Behind the tiles' first halves of 8 channels come their second halves, from tile 0 on, and then the next 8.
            let ahead = |step: usize| match step + 1 {
                next if next == steps => (values(then), weights(then)),
                next => {
                    let x = values(tap).wrapping_add(next / 2 * n + next % 2 * STEP);
                    (x, weights(tap).wrapping_add(next * STEP * GROUP))
                }
            };
            let is_new = i == 0 || tap == 5;
            if is_new {
                first_step(&mut acc, (&mut w, &mut next, &mut x), ahead(0));
            }
            for step in usize::from(is_new)..steps {
                let (next_x, next_w) = ahead(step);
                for acc in &mut acc[..P - 1] {
                    multiply_and_load(acc, &w, &mut next, &mut x);
                }
                x = next_x;
                multiply_and_load_all(&mut acc[P - 1], &mut w, &mut next, &mut x, next_w);
            }
            for (p, acc) in acc.iter().enumerate() {
                neon::vst1q_s32(kept.add(p * GROUP), acc[0]);
                neon::vst1q_s32(kept.add(p * GROUP + 4), acc[1]);
            }
        }
    }
}

/// A step that begins new sums. Weights, the next tile's values and their place are then those of the next step.
///
/// # Safety
/// Values behind `x` for `P - 1` tiles; 4 values at `next_x`, 32 weights at `next_w`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn first_step<const P: usize>(
    acc: &mut [[neon::int32x4_t; 2]; P],
    (w, next, x): (&mut [neon::int16x8_t; 4], &mut neon::int16x4_t, &mut *const i16),
    (next_x, next_w): (*const i16, *const i16),
) {
    for (p, acc) in acc.iter_mut().enumerate() {
        let values = *next;
        if p + 1 == P {
            *x = next_x;
        }
        // SAFETY: the caller's promise.
        *next = unsafe { load_post(x) };
        *acc = first_products(w, values);
    }
    // SAFETY: the caller's promise.
    *w = unsafe { load_weights(next_w) };
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

#[target_feature(enable = "neon")]
#[inline]
fn products<const K: i32>(acc: &mut [neon::int32x4_t; 2], w: neon::int16x8_t, v: neon::int16x4_t) {
    acc[0] = neon::vmlal_lane_s16::<K>(acc[0], neon::vget_low_s16(w), v);
    acc[1] = neon::vmlal_high_lane_s16::<K>(acc[1], w, v);
}

/// 4 channels of one tile, `next`, times 8 outputs; `next` becomes the values at `x`, which moves on to the next tile's.
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
