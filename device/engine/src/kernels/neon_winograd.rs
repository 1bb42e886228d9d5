//! Winograd F(4x4,3x3) of the `neon` kernel and of every Arm row above it (see `neon_winograd` in KERNELS.md).
//!
//! ```text
//! input    8 channels of a window: ssubl, sshll and ssubw widen as they go; adds and shifts only
//! tap      w = [k: o0..o7]                      one register a channel k, 4 of them
//!          x = [tile p: k0 k1 k2 k3]            half a register
//!          smlal  acc[p].lo, w_k.4h, x.h[k]     o0..o3 += w * x         8 a tile and step of 4 channels
//!          smlal2 acc[p].hi, w_k.8h, x.h[k]     o4..o7
//! output   4 channels at a time: A m A', mul by 1/9, sshr 6, sqrdmulh, srshl, sqxtn; halves meet in i16
//! ```
//!
//! 12 tiles are 24 accumulators, 4 registers of weights and 2 of values. A tile's block of 8 multiplications holds the
//! load for the next tile, the last block also the next weights, each behind its register's last use: in-order cores
//! (A53, A55) then never wait for the first level cache.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::sync::atomic::Ordering::Relaxed;

use vgg_edge_blob::winograd::{BIAS_TAP, INVERSE_OF_9, SCALE, TILE, WINDOW};

use super::neon::load_i32;
use super::{GROUP, WinogradInput, WinogradOutput, WinogradTap};

pub(super) fn input(tile: &WinogradInput<'_>, taps: &mut [i16]) {
    tile.check(taps);
    // SAFETY: this file is compiled for targets that have NEON; the extents are checked.
    unsafe { transform_input(tile, taps) };
}

pub(super) fn tap(tap: &WinogradTap<'_>, sums: &mut [i32]) {
    tap.check(sums);
    // SAFETY: as in `input`; each arm has the batch's own number of tiles.
    unsafe {
        match tap.n_tiles {
            1 => multiply::<1>(tap, sums),
            2 => multiply::<2>(tap, sums),
            3 => multiply::<3>(tap, sums),
            4 => multiply::<4>(tap, sums),
            5 => multiply::<5>(tap, sums),
            6 => multiply::<6>(tap, sums),
            7 => multiply::<7>(tap, sums),
            8 => multiply::<8>(tap, sums),
            9 => multiply::<9>(tap, sums),
            10 => multiply::<10>(tap, sums),
            11 => multiply::<11>(tap, sums),
            _ => multiply::<12>(tap, sums),
        }
    }
}

pub(super) fn output(tile: &WinogradOutput<'_>) {
    tile.check();
    // SAFETY: as in `input`.
    unsafe { transform_output(tile) };
}

/// # Safety
/// The tile is checked.
#[target_feature(enable = "neon")]
unsafe fn transform_input(tile: &WinogradInput<'_>, taps: &mut [i16]) {
    for group in 0..tile.channels / GROUP {
        let x = tile.input.as_ptr().wrapping_add(group * GROUP);
        // Loops over indices: a `map` of so many registers goes through memory.
        let mut columns = [[neon::vdupq_n_s16(0); WINDOW]; WINDOW];
        for (taps, column) in columns.iter_mut().zip(tile.columns) {
            let mut values = [neon::vdup_n_s8(0); WINDOW];
            for (value, row) in values.iter_mut().zip(tile.rows) {
                // SAFETY: `check` found 8 values behind every row, column and group.
                *value = unsafe { neon::vld1_s8(x.add(row + column)) };
            }
            *taps = widening_taps(values);
        }
        let place = taps.as_mut_ptr().wrapping_add(group * tile.group_stride);
        for i in 0..WINDOW {
            let c = &columns;
            let row = to_taps([c[0][i], c[1][i], c[2][i], c[3][i], c[4][i], c[5][i]]);
            for (j, value) in row.into_iter().enumerate() {
                // SAFETY: `check` found 8 places behind every tap and group.
                unsafe { neon::vst1q_s16(place.add((i * WINDOW + j) * tile.tap_stride), value) };
            }
        }
    }
}

/// `B x` of i8 values.
#[target_feature(enable = "neon")]
#[inline]
fn widening_taps(x: [neon::int8x8_t; WINDOW]) -> [neon::int16x8_t; WINDOW] {
    let (even, odd) = (neon::vsubl_s8(x[4], x[2]), neon::vsubl_s8(x[3], x[1]));
    let even4 = neon::vsubw_s8(neon::vshll_n_s8::<2>(x[2]), x[4]);
    let odd4 = neon::vsubw_s8(neon::vshll_n_s8::<2>(x[1]), x[3]);
    finish_taps(even, odd, even4, odd4, neon::vsubl_s8(x[0], x[2]), neon::vsubl_s8(x[5], x[3]))
}

/// `B x` of i16 values.
#[target_feature(enable = "neon")]
#[inline]
fn to_taps(x: [neon::int16x8_t; WINDOW]) -> [neon::int16x8_t; WINDOW] {
    let (even, odd) = (neon::vsubq_s16(x[4], x[2]), neon::vsubq_s16(x[3], x[1]));
    let even4 = neon::vsubq_s16(neon::vshlq_n_s16::<2>(x[2]), x[4]);
    let odd4 = neon::vsubq_s16(neon::vshlq_n_s16::<2>(x[1]), x[3]);
    finish_taps(even, odd, even4, odd4, neon::vsubq_s16(x[0], x[2]), neon::vsubq_s16(x[5], x[3]))
}

/// The six taps from `x4 - x2`, `x3 - x1`, `4 x2 - x4`, `4 x1 - x3`, `x0 - x2` and `x5 - x3`.
#[target_feature(enable = "neon")]
#[inline]
fn finish_taps(
    even: neon::int16x8_t,
    odd: neon::int16x8_t,
    even4: neon::int16x8_t,
    odd4: neon::int16x8_t,
    first: neon::int16x8_t,
    last: neon::int16x8_t,
) -> [neon::int16x8_t; WINDOW] {
    let odd2 = neon::vshlq_n_s16::<1>(odd);
    [
        neon::vaddq_s16(neon::vshlq_n_s16::<2>(first), even),
        neon::vaddq_s16(odd4, even4),
        neon::vsubq_s16(odd4, even4),
        neon::vaddq_s16(even, odd2),
        neon::vsubq_s16(even, odd2),
        neon::vsubq_s16(last, neon::vshlq_n_s16::<2>(odd)),
    ]
}

/// One tap of `P` tiles.
///
/// # Safety
/// The tap is checked; `P` is its number of tiles.
#[target_feature(enable = "neon")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply<const P: usize>(tap: &WinogradTap<'_>, sums: &mut [i32]) {
    let mut acc = [[neon::vdupq_n_s32(0); 2]; P];
    let (mut x, mut w) = (tap.values.as_ptr(), tap.weights.as_ptr());
    let steps = tap.channels / 4;
    // Behind the tiles' first halves of 8 channels come their second halves, from tile 0 on, and then the next 8.
    let rewind = |x: *const i16, step: usize| x.wrapping_sub(if step % 2 == 0 { P * GROUP - 4 } else { 4 });
    // SAFETY: `check` found `channels * 8` weights and `channels * n_tiles` values, of at least 8 channels, that is two
    // steps. Loads run ahead of multiplications; the last step loads nothing for a next one.
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
    for (acc, sums) in acc.into_iter().zip(sums.as_chunks_mut::<GROUP>().0) {
        // SAFETY: 8 places.
        unsafe {
            neon::vst1q_s32(sums.as_mut_ptr(), acc[0]);
            neon::vst1q_s32(sums.as_mut_ptr().add(4), acc[1]);
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

/// # Safety
/// The tile is checked.
#[target_feature(enable = "neon")]
unsafe fn transform_output(tile: &WinogradOutput<'_>) {
    let mut low = [[neon::vdup_n_s16(0); TILE]; TILE];
    // SAFETY: the caller's promise: 8 sums behind every tap.
    let columns = unsafe { half_of_channels(tile, 0) };
    let requant = HalfRequant::new(tile, 0);
    for (i, low) in low.iter_mut().enumerate() {
        for (low, y) in low.iter_mut().zip(row(&columns, i)) {
            *low = neon::vqmovn_s32(requant.shifted(y));
        }
    }
    // SAFETY: as above.
    let columns = unsafe { half_of_channels(tile, 1) };
    let requant = HalfRequant::new(tile, 1);
    let zero_point = neon::vdupq_n_s16(tile.requant.zero_point.into());
    for (i, low) in low.iter().enumerate().take(tile.n_rows) {
        for (x, (low, y)) in low.iter().zip(row(&columns, i)).enumerate().take(tile.n_columns) {
            let channels = neon::vqmovn_high_s32(*low, requant.shifted(y));
            let word = neon::vreinterpret_u64_s8(neon::vqmovn_s16(neon::vqaddq_s16(channels, zero_point)));
            let place = i * tile.row_stride + x * tile.pixel_stride;
            tile.words[place].store(neon::vget_lane_u64::<0>(word), Relaxed);
        }
    }
}

/// From 576 times an accumulator to an activation without its zero point, for 4 channels.
struct HalfRequant {
    inverse: neon::int32x4_t,
    multiplier: neon::int32x4_t,
    left_shift: neon::int32x4_t,
}

impl HalfRequant {
    #[target_feature(enable = "neon")]
    #[inline]
    fn new(tile: &WinogradOutput<'_>, half: usize) -> Self {
        Self {
            inverse: neon::vdupq_n_s32(INVERSE_OF_9),
            multiplier: load_i32(tile.requant.multiplier)[half],
            left_shift: neon::vnegq_s32(load_i32(tile.requant.shift)[half]),
        }
    }

    #[target_feature(enable = "neon")]
    #[inline]
    fn shifted(&self, y: neon::int32x4_t) -> neon::int32x4_t {
        let acc = neon::vshrq_n_s32::<6>(neon::vmulq_s32(y, self.inverse));
        neon::vrshlq_s32(neon::vqrdmulhq_s32(acc, self.multiplier), self.left_shift)
    }
}

/// The columns of `A m` for 4 of the 8 channels.
///
/// # Safety
/// The tile is checked; `half` is 0 or 1.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn half_of_channels(tile: &WinogradOutput<'_>, half: usize) -> [[neon::int32x4_t; TILE]; WINDOW] {
    let sums = tile.sums.as_ptr().wrapping_add(half * 4);
    let start = neon::vmulq_n_s32(load_i32(tile.bias)[half], SCALE);
    let mut columns = [[neon::vdupq_n_s32(0); TILE]; WINDOW];
    for (j, column) in columns.iter_mut().enumerate() {
        let mut m = [neon::vdupq_n_s32(0); WINDOW];
        for (i, m) in m.iter_mut().enumerate() {
            // SAFETY: the caller's promise: 8 sums behind every tap.
            *m = unsafe { neon::vld1q_s32(sums.add((i * WINDOW + j) * tile.tap_stride)) };
        }
        if j == BIAS_TAP % WINDOW {
            m[BIAS_TAP / WINDOW] = neon::vaddq_s32(m[BIAS_TAP / WINDOW], start);
        }
        *column = from_taps(m);
    }
    columns
}

/// Row `i` of `A m A'`.
#[target_feature(enable = "neon")]
#[inline]
fn row(c: &[[neon::int32x4_t; TILE]; WINDOW], i: usize) -> [neon::int32x4_t; TILE] {
    from_taps([c[0][i], c[1][i], c[2][i], c[3][i], c[4][i], c[5][i]])
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
