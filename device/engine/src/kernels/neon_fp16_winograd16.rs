//! Half-precision Winograd multiplications of the Arm rows, `neon_fp16_winograd16`: with FEAT_FP16 (A55, A76 and later), or emulated.
//!
//! ```text
//! w_k = [k: o0 .. o7]                8 channels k after one another, one register each
//! x_p = [tile p: k0 .. k7]           12 registers
//! fmla acc[p].8h, w_k.8h, x_p.h[k]   12 tiles are 12 accumulators, so a chain has 11 others beside it
//! ```
//!
//! Every 16 channels the accumulators join their group's in memory, every 64 that widens to f32: 3 + 2 + 2 vector instructions for
//! 64 multiplications. Longer chains lose more than they save: of 1000 pictures 5 to 7 changed their class. The first products of a
//! block are `fmul`: nothing is cleared.
//!
//! Armv8.0 multiplies in f32: `x * w` is exact there, the sum is rounded to odd, and `fcvtn` rounds it once more, which is
//! right. That is slow, but the same bits.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::aarch64 as neon;

use vgg_edge_blob::winograd::WINDOW;
use vgg_edge_blob::winograd16::{BLOCK, BLOCKS};

use super::neon_winograd16::{Taps, by_tiles};
use super::{GROUP, MAX_BATCH, Winograd16Row};

pub(super) fn row(row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
    row.check(sums);
    if cpu_has!("fp16") {
        // SAFETY: the CPU has FEAT_FP16; the extents are checked, and each arm has the batch's own number of tiles.
        unsafe { by_tiles!(tiles, row, sums) }
    } else {
        // SAFETY: this file is compiled for targets that have NEON; the extents are checked.
        unsafe { emulated(row, sums) }
    }
}

/// Half-precision sums of a tap, `[tiles][8]`.
#[repr(align(16))]
struct Group([u16; MAX_BATCH * GROUP]);

/// A row of `P` tiles.
///
/// # Safety
/// The CPU has FEAT_FP16; the row is checked; `P` is its number of tiles.
#[target_feature(enable = "neon,fp16")]
unsafe fn tiles<const P: usize>(row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
    let mut taps = Taps([0.0; WINDOW * MAX_BATCH * GROUP]);
    for j in 0..WINDOW {
        // SAFETY: `check` found a row's values and weights.
        unsafe {
            let x = row.values.as_ptr().add(j * row.tap_stride);
            let w = row.weights.as_ptr().add(j * row.channels * GROUP);
            multiply::<P>(x, w, row.channels, taps.0.as_mut_ptr().add(j * P * GROUP));
        }
    }
    taps.columns::<P>(sums);
}

/// One tap of `P` tiles: sums, `[P][8]`.
///
/// # Safety
/// The CPU has FEAT_FP16; `channels * P` values at `x`, `channels * 8` weights at `w`, `P * 8` places at `sums`; `channels` is
/// a multiple of 8.
#[target_feature(enable = "neon,fp16")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply<const P: usize>(mut x: *const u16, mut w: *const u16, channels: usize, sums: *mut f32) {
    let mut group = Group([0; MAX_BATCH * GROUP]);
    let group = group.0.as_mut_ptr();
    for first in (0..channels).step_by(BLOCK) {
        let n = (channels - first).min(BLOCK);
        // SAFETY: the caller's promise.
        let mut acc = unsafe { first_products::<P>(x, w) };
        (x, w) = (x.wrapping_add(P * GROUP), w.wrapping_add(GROUP * GROUP));
        for _ in 1..n / GROUP {
            // SAFETY: the caller's promise.
            unsafe { products::<P>(&mut acc, x, w) };
            (x, w) = (x.wrapping_add(P * GROUP), w.wrapping_add(GROUP * GROUP));
        }
        let starts = first.is_multiple_of(BLOCK * BLOCKS);
        let ends = first + n == channels || (first + n).is_multiple_of(BLOCK * BLOCKS);
        for (p, acc) in acc.into_iter().enumerate() {
            // SAFETY: `P` tiles of 8 halves and 8 floats.
            unsafe {
                let place = group.add(p * GROUP);
                let acc = if starts { acc } else { neon::vaddq_f16(load(place), acc) };
                if !ends {
                    neon::vst1q_u16(place, neon::vreinterpretq_u16_f16(acc));
                    continue;
                }
                let place = sums.add(p * GROUP);
                let mut wide = [neon::vcvt_f32_f16(neon::vget_low_f16(acc)), neon::vcvt_high_f32_f16(acc)];
                if first >= BLOCK * BLOCKS {
                    wide[0] = neon::vaddq_f32(neon::vld1q_f32(place), wide[0]);
                    wide[1] = neon::vaddq_f32(neon::vld1q_f32(place.add(4)), wide[1]);
                }
                neon::vst1q_f32(place, wide[0]);
                neon::vst1q_f32(place.add(4), wide[1]);
            }
        }
    }
}

/// # Safety
/// 8 halves at `place`.
#[target_feature(enable = "neon,fp16")]
#[inline]
unsafe fn load(place: *const u16) -> neon::float16x8_t {
    // SAFETY: the caller's promise.
    neon::vreinterpretq_f16_u16(unsafe { neon::vld1q_u16(place) })
}

/// 8 channels of `P` tiles, the first of their block.
///
/// # Safety
/// The CPU has FEAT_FP16; `8 * P` values at `x`, 64 weights at `w`.
#[target_feature(enable = "neon,fp16")]
#[inline]
unsafe fn first_products<const P: usize>(x: *const u16, w: *const u16) -> [neon::float16x8_t; P] {
    // SAFETY: the caller's promise.
    unsafe {
        let values: [_; P] = core::array::from_fn(|p| load(x.add(p * GROUP)));
        let weights = load(w);
        let mut acc = values;
        for (acc, x) in acc.iter_mut().zip(values) {
            *acc = neon::vmulq_laneq_f16::<0>(weights, x);
        }
        rest::<P>(&mut acc, &values, w);
        acc
    }
}

/// 8 channels of `P` tiles.
///
/// # Safety
/// As for [`first_products`].
#[target_feature(enable = "neon,fp16")]
#[inline]
unsafe fn products<const P: usize>(acc: &mut [neon::float16x8_t; P], x: *const u16, w: *const u16) {
    // SAFETY: the caller's promise.
    unsafe {
        let values: [_; P] = core::array::from_fn(|p| load(x.add(p * GROUP)));
        channel::<P, 0>(acc, &values, w);
        rest::<P>(acc, &values, w);
    }
}

/// Channels 1 to 7 of 8.
///
/// # Safety
/// As for [`first_products`].
#[target_feature(enable = "neon,fp16")]
#[inline]
unsafe fn rest<const P: usize>(
    acc: &mut [neon::float16x8_t; P],
    values: &[neon::float16x8_t; P],
    w: *const u16,
) {
    // SAFETY: the caller's promise.
    unsafe {
        channel::<P, 1>(acc, values, w);
        channel::<P, 2>(acc, values, w);
        channel::<P, 3>(acc, values, w);
        channel::<P, 4>(acc, values, w);
        channel::<P, 5>(acc, values, w);
        channel::<P, 6>(acc, values, w);
        channel::<P, 7>(acc, values, w);
    }
}

/// Channel `K` of 8.
///
/// # Safety
/// As for [`first_products`].
#[target_feature(enable = "neon,fp16")]
#[inline]
unsafe fn channel<const P: usize, const K: i32>(
    acc: &mut [neon::float16x8_t; P],
    values: &[neon::float16x8_t; P],
    w: *const u16,
) {
    // SAFETY: the caller's promise.
    let weights = unsafe { load(w.add(K as usize * GROUP)) };
    for (acc, x) in acc.iter_mut().zip(values) {
        *acc = neon::vfmaq_laneq_f16::<K>(*acc, weights, *x);
    }
}

/// A row without FEAT_FP16.
///
/// # Safety
/// The row is checked.
#[target_feature(enable = "neon")]
unsafe fn emulated(row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
    let n_tiles = row.n_tiles;
    for (p, half) in (0..n_tiles).flat_map(|p| [(p, 0), (p, 4)]) {
        let mut m = [neon::vdupq_n_f32(0.0); WINDOW];
        for (j, m) in m.iter_mut().enumerate() {
            let x = row.values.as_ptr().wrapping_add(j * row.tap_stride + p * GROUP);
            let w = row.weights.as_ptr().wrapping_add(j * row.channels * GROUP + half);
            // SAFETY: `check` found a row's values and weights.
            *m = unsafe { emulated_tap(x, n_tiles * GROUP, w, row.channels) };
        }
        for (x, column) in super::neon_winograd16::from_taps(m).into_iter().enumerate() {
            let place = &mut sums[(x * n_tiles + p) * GROUP + half..][..4];
            // SAFETY: 4 values.
            unsafe { neon::vst1q_f32(place.as_mut_ptr(), column) };
        }
    }
}

/// One tap of one tile, 4 outputs.
///
/// # Safety
/// 8 values at `x` and at every `stride` behind it, `channels * 8` weights at `w`; `channels` is a multiple of 8.
#[target_feature(enable = "neon")]
unsafe fn emulated_tap(x: *const u16, stride: usize, w: *const u16, channels: usize) -> neon::float32x4_t {
    let minus_zero = neon::vdupq_n_f32(-0.0);
    let (mut block, mut group, mut sum) = (minus_zero, minus_zero, minus_zero);
    for c in 0..channels {
        // SAFETY: the caller's promise.
        unsafe {
            let value = neon::vreinterpret_f16_u16(neon::vld1_dup_u16(x.add(c / GROUP * stride + c % GROUP)));
            let weights = neon::vreinterpret_f16_u16(neon::vld1_u16(w.add(c * GROUP)));
            block = fma_half(neon::vcvt_f32_f16(value), neon::vcvt_f32_f16(weights), block);
        }
        let (end, last) = (c + 1, c + 1 == channels);
        if end.is_multiple_of(BLOCK) || last {
            // -0 changes nothing, so that a group's first block is itself.
            (group, block) = (rounded(neon::vaddq_f32(group, block)), minus_zero);
        }
        if end.is_multiple_of(BLOCK * BLOCKS) || last {
            (sum, group) = (neon::vaddq_f32(sum, group), minus_zero);
        }
    }
    sum
}

/// `x * w + acc` of half-precision numbers, rounded once to half precision.
#[target_feature(enable = "neon")]
#[inline]
fn fma_half(x: neon::float32x4_t, w: neon::float32x4_t, acc: neon::float32x4_t) -> neon::float32x4_t {
    let product = neon::vmulq_f32(x, w);
    let sum = neon::vaddq_f32(product, acc);
    // Two-sum: what the sum lacks, exactly. NaN belongs to an infinite sum, which stays.
    let part = neon::vsubq_f32(sum, product);
    let rest = neon::vsubq_f32(product, neon::vsubq_f32(sum, part));
    let rest = neon::vaddq_f32(rest, neon::vsubq_f32(acc, part));
    let zero = neon::vdupq_n_f32(0.0);
    let inexact = neon::vorrq_u32(neon::vcgtq_f32(rest, zero), neon::vcltq_f32(rest, zero));
    let bits = neon::vreinterpretq_s32_f32(sum);
    let even = neon::vbicq_s32(neon::vdupq_n_s32(1), bits);
    // To the odd neighbour on the side of the rest: 1 away from 0 when its sign is the sum's, else 1 towards 0.
    let other_side = neon::veorq_s32(neon::vreinterpretq_s32_f32(rest), bits);
    let direction = neon::vorrq_s32(neon::vshrq_n_s32::<31>(other_side), neon::vdupq_n_s32(1));
    let step = neon::vandq_s32(neon::vmulq_s32(direction, even), neon::vreinterpretq_s32_u32(inexact));
    rounded(neon::vreinterpretq_f32_s32(neon::vaddq_s32(bits, step)))
}

/// Rounded to half precision.
#[target_feature(enable = "neon")]
#[inline]
fn rounded(x: neon::float32x4_t) -> neon::float32x4_t {
    neon::vcvt_f32_f16(neon::vcvt_f16_f32(x))
}
