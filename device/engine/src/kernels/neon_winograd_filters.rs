//! Filters to taps of exact Winograd, for the `neon` kernel and every Arm row above it, `neon_winograd_filters`.
//!
//! ```text
//! ld4   |o0 k0..3|o1 k0..3| .. |o7 k0..3|  ─►  4 registers: channel k of o0..7, i8      a, b, c: three rows of a column
//! down  r0 = 6 a    r1, r2 = 4 (b +- (a + c))    r3, r4 = a + 4 c +- 2 b    r5 = 6 c    rows 1 and 2, 3 and 4 together
//! along the same of r's three columns: 6 taps, each stored for 4 channels, a cache line, before the next
//! ```
//!
//! Adds and shifts alone out of order, where multiplications wait for one pipe; in order they count as one addition.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::aarch64 as neon;

use vgg_edge_blob::winograd::WINDOW;

use super::{GROUP, WinogradFilters, neon_core};

/// Channels of a `ld4`.
const TOGETHER: usize = 4;
/// One value of 8 outputs, of each of these channels.
type Lanes = [neon::int16x8_t; TOGETHER];

pub(super) fn filters(filters: &WinogradFilters<'_>, weights: &mut [i16]) {
    filters.check(weights);
    // SAFETY: this file is compiled for targets that have NEON; the extents are checked.
    unsafe {
        match neon_core::is_in_order() {
            true => rows::<true>(filters, weights),
            false => rows::<false>(filters, weights),
        }
    }
}

/// # Safety
/// The filters are checked.
#[target_feature(enable = "neon")]
unsafe fn rows<const IN_ORDER: bool>(filters: &WinogradFilters<'_>, weights: &mut [i16]) {
    let end = filters.tap_rows.end;
    let row_len = WINDOW * filters.channels * GROUP;
    let (mut row, mut place) = (filters.tap_rows.start, weights.as_mut_ptr());
    while row < end {
        // SAFETY: `check` found room for every row, and the rows are within `0..6`.
        unsafe {
            match (row, end - row) {
                (0, _) => edge::<IN_ORDER>(filters, 0, place),
                (1, 1) => pair::<1, true, false, IN_ORDER>(filters, place),
                (1, _) => pair::<1, true, true, IN_ORDER>(filters, place),
                (2, _) => pair::<1, false, true, IN_ORDER>(filters, place),
                (3, 1) => pair::<3, true, false, IN_ORDER>(filters, place),
                (3, _) => pair::<3, true, true, IN_ORDER>(filters, place),
                (4, _) => pair::<3, false, true, IN_ORDER>(filters, place),
                _ => edge::<IN_ORDER>(filters, 2, place),
            }
        }
        let n = if matches!(row, 1 | 3) && end - row > 1 { 2 } else { 1 };
        (row, place) = (row + n, place.wrapping_add(n * row_len));
    }
}

/// The first or the last row of taps: 6 times row `y` of the filter, along.
///
/// # Safety
/// The filters are checked; `place` has room for a row of taps.
#[target_feature(enable = "neon")]
#[inline(never)] // the registers are its own
unsafe fn edge<const IN_ORDER: bool>(filters: &WinogradFilters<'_>, y: usize, place: *mut i16) {
    let once = factors(1);
    for channel in (0..filters.channels).step_by(TOGETHER) {
        let mut row = [[neon::vdupq_n_s16(0); TOGETHER]; 3];
        for (x, row) in row.iter_mut().enumerate() {
            // SAFETY: `check` found the filters of all channels.
            let values = unsafe { load(filters, y, x, channel) };
            for (to, value) in row.iter_mut().zip(values) {
                *to = match IN_ORDER {
                    true => neon::vmull_s8(value, neon::vdup_n_s8(6)),
                    false => neon::vaddq_s16(neon::vshll_n_s8::<2>(value), neon::vshll_n_s8::<1>(value)),
                };
            }
        }
        // SAFETY: the caller's promise.
        unsafe { along::<false, IN_ORDER>(row, once, place.add(channel * GROUP), filters.channels) };
    }
}

/// Rows `FIRST` (1 or 3) and `FIRST + 1` of the taps, which share terms, or one of them.
///
/// # Safety
/// The filters are checked; `place` has room for the rows of taps that are wanted.
#[target_feature(enable = "neon")]
#[inline(never)] // the registers are its own
unsafe fn pair<const FIRST: usize, const UPPER: bool, const LOWER: bool, const IN_ORDER: bool>(
    filters: &WinogradFilters<'_>,
    place: *mut i16,
) {
    let channels = filters.channels;
    // Rows 1 and 2 have a factor 4, and in order the second one is made with the other sign.
    let (factor, sign) = (if FIRST == 1 { 4 } else { 1 }, if FIRST == 1 && IN_ORDER { -1 } else { 1 });
    let (of_upper, of_lower) = (factors(factor), factors(factor * sign));
    let second = if UPPER { WINDOW * channels * GROUP } else { 0 };
    for channel in (0..channels).step_by(TOGETHER) {
        let mut upper = [[neon::vdupq_n_s16(0); TOGETHER]; 3];
        let mut lower = upper;
        for x in 0..3 {
            // SAFETY: `check` found the filters of all channels.
            let [a, b, c] = unsafe { [0, 1, 2].map(|y| load(filters, y, x, channel)) };
            for k in 0..TOGETHER {
                (upper[x][k], lower[x][k]) = match (FIRST, IN_ORDER) {
                    (1, true) => {
                        let sum = neon::vaddl_s8(a[k], c[k]);
                        (neon::vaddw_s8(sum, b[k]), neon::vsubw_s8(sum, b[k]))
                    }
                    (1, false) => plus_minus(neon::vmovl_s8(b[k]), neon::vaddl_s8(a[k], c[k])),
                    _ => {
                        let even = neon::vaddw_s8(neon::vshll_n_s8::<2>(c[k]), a[k]);
                        plus_minus(even, neon::vshll_n_s8::<1>(b[k]))
                    }
                };
            }
        }
        let place = place.wrapping_add(channel * GROUP);
        // SAFETY: the caller's promise.
        unsafe {
            if UPPER {
                match FIRST {
                    1 => along::<true, IN_ORDER>(upper, of_upper, place, channels),
                    _ => along::<false, IN_ORDER>(upper, of_upper, place, channels),
                }
            }
            if LOWER {
                match FIRST {
                    1 => along::<true, IN_ORDER>(lower, of_lower, place.add(second), channels),
                    _ => along::<false, IN_ORDER>(lower, of_lower, place.add(second), channels),
                }
            }
        }
    }
}

/// `a + b` and `a - b`.
#[target_feature(enable = "neon")]
#[inline]
fn plus_minus(a: neon::int16x8_t, b: neon::int16x8_t) -> (neon::int16x8_t, neon::int16x8_t) {
    (neon::vaddq_s16(a, b), neon::vsubq_s16(a, b))
}

/// 6, 4, 1 and 2 times `factor`, in the four lanes of a half: what [`along`] multiplies by in order.
#[target_feature(enable = "neon")]
#[inline]
fn factors(factor: i16) -> neon::int16x4_t {
    let values = [6 * factor, 4 * factor, factor, 2 * factor];
    // SAFETY: four values.
    let lanes = unsafe { neon::vld1_s16(values.as_ptr()) };
    neon_core::opaque_s16(lanes)
}

/// The weights of 4 channels and 8 outputs at row `y` and column `x`.
///
/// # Safety
/// The filters are checked, `y` and `x` are below 3, `channel` is a multiple of 4 and one of theirs.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load(
    filters: &WinogradFilters<'_>,
    y: usize,
    x: usize,
    channel: usize,
) -> [neon::int8x8_t; TOGETHER] {
    let at = ((3 * y + x) * filters.channels + channel) * GROUP;
    // SAFETY: 4 channels of 8 outputs are 32 values, which `check` found.
    let neon::int8x8x4_t(k0, k1, k2, k3) = unsafe { neon::vld4_s8(filters.filters.as_ptr().add(at)) };
    [k0, k1, k2, k3]
}

/// `G r` along a row, times 4 where `FOUR` or as `factors` says: 6 taps of 4 channels, a cache line each.
///
/// # Safety
/// Behind `place`, 4 channels of 8 outputs of each of 6 taps, which are `channels` apart.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn along<const FOUR: bool, const IN_ORDER: bool>(
    [a, b, c]: [Lanes; 3],
    factors: neon::int16x4_t,
    place: *mut i16,
    channels: usize,
) {
    let store = |tap: usize, k: usize, value: neon::int16x8_t| {
        // SAFETY: the caller's promise.
        unsafe { neon::vst1q_s16(place.add((tap * channels + k) * GROUP), value) };
    };
    let six = |x: neon::int16x8_t| match (IN_ORDER, FOUR) {
        (true, _) => neon::vmulq_lane_s16::<0>(x, factors),
        (false, true) => neon::vaddq_s16(neon::vshlq_n_s16::<4>(x), neon::vshlq_n_s16::<3>(x)),
        (false, false) => neon::vaddq_s16(neon::vshlq_n_s16::<2>(x), neon::vshlq_n_s16::<1>(x)),
    };
    let four = |x: neon::int16x8_t| match (IN_ORDER, FOUR) {
        (true, _) => neon::vmulq_lane_s16::<1>(x, factors),
        (false, true) => neon::vshlq_n_s16::<4>(x),
        (false, false) => neon::vshlq_n_s16::<2>(x),
    };
    (0..TOGETHER).for_each(|k| store(0, k, six(a[k])));
    (0..TOGETHER).for_each(|k| store(1, k, four(neon::vaddq_s16(b[k], neon::vaddq_s16(a[k], c[k])))));
    (0..TOGETHER).for_each(|k| store(2, k, four(neon::vsubq_s16(b[k], neon::vaddq_s16(a[k], c[k])))));
    // a + 4 c and 2 b, with the factor.
    let even = |k: usize| match (IN_ORDER, FOUR) {
        (true, true) => neon::vmlaq_lane_s16::<1>(neon::vmulq_lane_s16::<2>(a[k], factors), c[k], factors),
        (true, false) => neon::vmlaq_lane_s16::<1>(a[k], c[k], factors),
        (false, true) => neon::vaddq_s16(neon::vshlq_n_s16::<2>(a[k]), neon::vshlq_n_s16::<4>(c[k])),
        (false, false) => neon::vaddq_s16(a[k], neon::vshlq_n_s16::<2>(c[k])),
    };
    let odd = |k: usize| match (IN_ORDER, FOUR) {
        (true, _) => neon::vmulq_lane_s16::<3>(b[k], factors),
        (false, true) => neon::vshlq_n_s16::<3>(b[k]),
        (false, false) => neon::vaddq_s16(b[k], b[k]),
    };
    let even: Lanes = [even(0), even(1), even(2), even(3)];
    let odd: Lanes = [odd(0), odd(1), odd(2), odd(3)];
    (0..TOGETHER).for_each(|k| store(3, k, neon::vaddq_s16(even[k], odd[k])));
    (0..TOGETHER).for_each(|k| store(4, k, neon::vsubq_s16(even[k], odd[k])));
    (0..TOGETHER).for_each(|k| store(5, k, six(c[k])));
}
