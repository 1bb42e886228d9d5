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

use vgg_edge_blob::winograd::{INVERSE_OF_9, TILE, WINDOW};

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
        let columns: [_; WINDOW] = tile.columns.map(|column| {
            // SAFETY: `check` found 8 values behind every row, column and group.
            widening_taps(tile.rows.map(|row| unsafe { neon::vld1_s8(x.add(row + column)) }))
        });
        let place = taps.as_mut_ptr().wrapping_add(group * tile.group_stride);
        for i in 0..WINDOW {
            for (j, value) in to_taps(columns.map(|column| column[i])).into_iter().enumerate() {
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
    let start = tap.start.as_ptr();
    // SAFETY: 8 values.
    let mut acc: [_; P] = core::array::from_fn(|_| unsafe { load_pair(start) });
    let (mut x, mut w) = (tap.values.as_ptr(), tap.weights.as_ptr());
    let steps = tap.channels / 4;
    // SAFETY: `check` found `channels * 8` weights and `channels * n_tiles` values, of at least 8 channels. The loads run
    // ahead of the multiplications, and end with them: the last step loads nothing.
    unsafe {
        let mut weights = [0, 1, 2, 3].map(|k| neon::vld1q_s16(w.add(k * GROUP)));
        let mut next = neon::vld1_s16(x);
        for step in 1..steps {
            w = w.add(4 * GROUP);
            // The other half of the same 8 channels, or the first half of the next 8.
            let following = if step % 2 == 1 { x.add(4) } else { x.add((P - 1) * GROUP + 4) };
            for p in 0..P - 1 {
                let values = next;
                multiply_and_load(&mut acc[p], &weights, values, &mut next, x.add((p + 1) * GROUP));
            }
            let values = next;
            multiply_and_load_all(&mut acc[P - 1], &mut weights, values, &mut next, following, w);
            x = following;
        }
        for p in 0..P {
            let values = next;
            next = neon::vld1_s16(x.add((p + 1).min(P - 1) * GROUP));
            multiply_values(&mut acc[p], &weights, values);
        }
    }
    for (acc, sums) in acc.into_iter().zip(sums.as_chunks_mut::<GROUP>().0) {
        // SAFETY: 8 places.
        unsafe {
            neon::vst1q_s32(sums.as_mut_ptr(), acc[0]);
            neon::vst1q_s32(sums.as_mut_ptr().add(4), acc[1]);
        }
    }
}

/// 8 sums. In assembly, since the compiler would load once and copy, and a copy costs a vector operation.
///
/// # Safety
/// 8 values at `from`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_pair(from: *const i32) -> [neon::int32x4_t; 2] {
    let (low, high);
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ldp {a:q}, {b:q}, [{x}]", a = out(vreg) low, b = out(vreg) high, x = in(reg) from,
            options(readonly, nostack, preserves_flags));
    }
    [low, high]
}

/// 4 channels of one tile times 8 outputs; then `next` is what lies at `x`.
///
/// # Safety
/// 4 values at `x`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn multiply_and_load(
    acc: &mut [neon::int32x4_t; 2],
    w: &[neon::int16x8_t; 4],
    values: neon::int16x4_t,
    next: &mut neon::int16x4_t,
    x: *const i16,
) {
    let [low, high] = acc;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "smlal  {a:v}.4s, {w0:v}.4h, {v:v}.h[0]",
            "ldr    {n:d}, [{x}]",
            "smlal2 {b:v}.4s, {w0:v}.8h, {v:v}.h[0]",
            "smlal  {a:v}.4s, {w1:v}.4h, {v:v}.h[1]",
            "smlal2 {b:v}.4s, {w1:v}.8h, {v:v}.h[1]",
            "smlal  {a:v}.4s, {w2:v}.4h, {v:v}.h[2]",
            "smlal2 {b:v}.4s, {w2:v}.8h, {v:v}.h[2]",
            "smlal  {a:v}.4s, {w3:v}.4h, {v:v}.h[3]",
            "smlal2 {b:v}.4s, {w3:v}.8h, {v:v}.h[3]",
            a = inout(vreg) *low, b = inout(vreg) *high, w0 = in(vreg) w[0], w1 = in(vreg) w[1],
            w2 = in(vreg) w[2], w3 = in(vreg) w[3], v = in(vreg_low16) values, n = out(vreg_low16) *next,
            x = in(reg) x, options(pure, readonly, nostack, preserves_flags)
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
    values: neon::int16x4_t,
    next: &mut neon::int16x4_t,
    x: *const i16,
    next_w: *const i16,
) {
    let ([low, high], [w0, w1, w2, w3]) = (acc, w);
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "smlal  {a:v}.4s, {w0:v}.4h, {v:v}.h[0]",
            "ldr    {n:d}, [{x}]",
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
            n = out(vreg_low16) *next, x = in(reg) x, w = in(reg) next_w,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
}

/// The same without loads.
#[target_feature(enable = "neon")]
#[inline]
fn multiply_values(acc: &mut [neon::int32x4_t; 2], w: &[neon::int16x8_t; 4], v: neon::int16x4_t) {
    acc[0] = neon::vmlal_lane_s16::<0>(acc[0], neon::vget_low_s16(w[0]), v);
    acc[1] = neon::vmlal_high_lane_s16::<0>(acc[1], w[0], v);
    acc[0] = neon::vmlal_lane_s16::<1>(acc[0], neon::vget_low_s16(w[1]), v);
    acc[1] = neon::vmlal_high_lane_s16::<1>(acc[1], w[1], v);
    acc[0] = neon::vmlal_lane_s16::<2>(acc[0], neon::vget_low_s16(w[2]), v);
    acc[1] = neon::vmlal_high_lane_s16::<2>(acc[1], w[2], v);
    acc[0] = neon::vmlal_lane_s16::<3>(acc[0], neon::vget_low_s16(w[3]), v);
    acc[1] = neon::vmlal_high_lane_s16::<3>(acc[1], w[3], v);
}

/// # Safety
/// The tile is checked.
#[target_feature(enable = "neon")]
unsafe fn transform_output(tile: &WinogradOutput<'_>) {
    // SAFETY: `check` found 8 sums behind every tap.
    let low = unsafe { half_of_channels(tile, 0) };
    // SAFETY: as above.
    let high = unsafe { half_of_channels(tile, 1) };
    let zero_point = neon::vdupq_n_s16(tile.requant.zero_point.into());
    for (y, (low, high)) in low.iter().zip(&high).enumerate().take(tile.n_rows) {
        for (x, (low, high)) in low.iter().zip(high).enumerate().take(tile.n_columns) {
            let channels = neon::vqaddq_s16(neon::vcombine_s16(*low, *high), zero_point);
            let word = neon::vreinterpret_u64_s8(neon::vqmovn_s16(channels));
            let place = y * tile.row_stride + x * tile.pixel_stride;
            tile.words[place].store(neon::vget_lane_u64::<0>(word), Relaxed);
        }
    }
}

/// 4 of the 8 channels, requantized but for the zero point.
///
/// # Safety
/// The tile is checked; `half` is 0 or 1.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn half_of_channels(tile: &WinogradOutput<'_>, half: usize) -> [[neon::int16x4_t; TILE]; TILE] {
    let sums = tile.sums.as_ptr().wrapping_add(half * 4);
    let multiplier = load_i32(tile.requant.multiplier)[half];
    let left_shift = neon::vnegq_s32(load_i32(tile.requant.shift)[half]);
    let inverse = neon::vdupq_n_s32(INVERSE_OF_9);
    let columns: [_; WINDOW] = core::array::from_fn(|j| {
        from_taps(core::array::from_fn(|i| {
            // SAFETY: the caller's promise: 8 sums behind every tap.
            unsafe { neon::vld1q_s32(sums.add((i * WINDOW + j) * tile.tap_stride)) }
        }))
    });
    core::array::from_fn(|i| {
        from_taps(columns.map(|column| column[i])).map(|y| {
            let acc = neon::vshrq_n_s32::<6>(neon::vmulq_s32(y, inverse));
            neon::vqmovn_s32(neon::vrshlq_s32(neon::vqrdmulhq_s32(acc, multiplier), left_shift))
        })
    })
}

/// `A m`.
#[target_feature(enable = "neon")]
#[inline]
fn from_taps(m: [neon::int32x4_t; WINDOW]) -> [neon::int32x4_t; TILE] {
    let (a, b) = (neon::vaddq_s32(m[1], m[2]), neon::vsubq_s32(m[1], m[2]));
    let (c, d) = (neon::vaddq_s32(m[3], m[4]), neon::vsubq_s32(m[3], m[4]));
    let last = neon::vaddq_s32(neon::vshlq_n_s32::<3>(d), neon::vshlq_n_s32::<2>(m[5]));
    [
        neon::vaddq_s32(neon::vaddq_s32(m[0], a), c),
        neon::vaddq_s32(b, neon::vshlq_n_s32::<1>(d)),
        neon::vaddq_s32(a, neon::vshlq_n_s32::<2>(c)),
        neon::vaddq_s32(b, last),
    ]
}
