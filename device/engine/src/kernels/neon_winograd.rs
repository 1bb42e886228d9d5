//! Winograd's input transform of the `neon` kernel and of every Arm row above it, `neon_winograd`.
//!
//! ```text
//! 8 channels of a window: ssubl, sshll and ssubw widen as they go; adds and shifts only
//! ```
//!
//! The multiplications behind it are `neon_winograd_row`, the way back is `neon_winograd_output`.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::aarch64 as neon;

use vgg_edge_blob::winograd::WINDOW;

use super::{CUT_TAPS, Cut, GROUP, WinogradInput, neon_core};

pub(super) fn input(window: &WinogradInput<'_>, taps: &mut [i16]) {
    window.check(taps);
    // SAFETY: this file is compiled for targets that have NEON; the extents are checked.
    unsafe {
        if window.tap_rows == (0..WINDOW) && window.cut == Cut::default() {
            return match neon_core::is_in_order() {
                true => all_rows::<true>(window, taps),
                false => all_rows::<false>(window, taps),
            };
        }
        for (n, i) in window.tap_rows.clone().enumerate() {
            if window.cut.short && CUT_TAPS.contains(&i) {
                continue;
            }
            let taps = &mut taps[n * WINDOW * window.tap_stride..];
            match i {
                0 => one_row::<0>(window, taps),
                1 => one_row::<1>(window, taps),
                2 => one_row::<2>(window, taps),
                3 => one_row::<3>(window, taps),
                4 => one_row::<4>(window, taps),
                _ => one_row::<5>(window, taps),
            }
        }
    }
}

/// # Safety
/// The window is checked.
#[target_feature(enable = "neon")]
unsafe fn all_rows<const IN_ORDER: bool>(window: &WinogradInput<'_>, taps: &mut [i16]) {
    for group in 0..window.channels / GROUP {
        let x = window.input.as_ptr().wrapping_add(group * GROUP);
        // Loops over indices: a `map` of so many registers goes through memory.
        let mut columns = [[neon::vdupq_n_s16(0); WINDOW]; WINDOW];
        for (taps, column) in columns.iter_mut().zip(window.columns) {
            let mut values = [neon::vdup_n_s8(0); WINDOW];
            for (value, row) in values.iter_mut().zip(window.rows) {
                // SAFETY: `check` found 8 values behind every row, column and group.
                *value = unsafe { neon::vld1_s8(x.add(row + column)) };
            }
            *taps = widening_taps::<IN_ORDER>(values);
        }
        let place = taps.as_mut_ptr().wrapping_add(group * window.group_stride);
        for i in 0..WINDOW {
            let c = &columns;
            let row = [c[0][i], c[1][i], c[2][i], c[3][i], c[4][i], c[5][i]];
            let row = if IN_ORDER { to_multiplied_taps(row) } else { to_taps(row) };
            for (j, value) in row.into_iter().enumerate() {
                // SAFETY: `check` found 8 places behind every tap and group.
                unsafe { neon::vst1q_s16(place.add((i * WINDOW + j) * window.tap_stride), value) };
            }
        }
    }
}

/// Row `I` of the taps alone.
///
/// # Safety
/// The window is checked, and `I` is one of its rows of taps, the one whose first tap is the first of `taps`.
#[target_feature(enable = "neon")]
unsafe fn one_row<const I: usize>(window: &WinogradInput<'_>, taps: &mut [i16]) {
    for group in 0..window.channels / GROUP {
        let x = window.input.as_ptr().wrapping_add(group * GROUP);
        let mut values = [neon::vdupq_n_s16(0); WINDOW];
        for (value, column) in values.iter_mut().zip(window.columns) {
            // SAFETY: `check` found 8 values behind every row, column and group.
            let at = |row: usize| unsafe { neon::vld1_s8(x.add(window.rows[row] + column)) };
            let minus = |a, b| neon::vsubl_s8(at(a), at(b));
            if window.cut.short {
                *value = match I {
                    0 => neon::vshlq_n_s16::<2>(minus(0, 2)),
                    1 => neon::vmulq_n_s16(neon::vaddl_s8(at(1), at(2)), 3),
                    2 => neon::vmulq_n_s16(minus(1, 2), 3),
                    _ => neon::vshlq_n_s16::<2>(minus(3, 1)),
                };
                continue;
            }
            *value = match I {
                0 => neon::vaddq_s16(neon::vshlq_n_s16::<2>(minus(0, 2)), minus(4, 2)),
                1 => {
                    let plus = |a, b| neon::vaddl_s8(at(a), at(b));
                    neon::vsubq_s16(neon::vshlq_n_s16::<2>(plus(1, 2)), plus(3, 4))
                }
                2 => neon::vsubq_s16(neon::vshlq_n_s16::<2>(minus(1, 2)), minus(3, 4)),
                3 => neon::vaddq_s16(minus(4, 2), neon::vshlq_n_s16::<1>(minus(3, 1))),
                4 => neon::vsubq_s16(minus(4, 2), neon::vshlq_n_s16::<1>(minus(3, 1))),
                _ => neon::vaddq_s16(neon::vshlq_n_s16::<2>(minus(1, 3)), minus(5, 3)),
            };
        }
        let place = taps.as_mut_ptr().wrapping_add(group * window.group_stride);
        if window.cut.narrow {
            for (j, value) in [0, 1, 2, 5].into_iter().zip(to_cut_taps(values)) {
                // SAFETY: as below.
                unsafe { neon::vst1q_s16(place.add(j * window.tap_stride), value) };
            }
            continue;
        }
        for (j, value) in to_taps(values).into_iter().enumerate() {
            // SAFETY: `check` found 8 places behind every tap and group.
            unsafe { neon::vst1q_s16(place.add(j * window.tap_stride), value) };
        }
    }
}

/// `B x` of i8 values.
#[target_feature(enable = "neon")]
#[inline]
fn widening_taps<const IN_ORDER: bool>(x: [neon::int8x8_t; WINDOW]) -> [neon::int16x8_t; WINDOW] {
    let (even, odd) = (neon::vsubl_s8(x[4], x[2]), neon::vsubl_s8(x[3], x[1]));
    let even4 = neon::vsubw_s8(neon::vshll_n_s8::<2>(x[2]), x[4]);
    let odd4 = neon::vsubw_s8(neon::vshll_n_s8::<2>(x[1]), x[3]);
    if IN_ORDER {
        let four = neon_core::factor_s16(4);
        let odd2 = neon::vaddq_s16(odd, odd);
        return [
            neon::vmlaq_s16(even, neon::vsubl_s8(x[0], x[2]), four),
            neon::vaddq_s16(odd4, even4),
            neon::vsubq_s16(odd4, even4),
            neon::vaddq_s16(even, odd2),
            neon::vsubq_s16(even, odd2),
            neon::vmlsq_s16(neon::vsubl_s8(x[5], x[3]), odd, four),
        ];
    }
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

/// `B x` of a cut tile: taps 0, 1, 2 and 5.
#[target_feature(enable = "neon")]
#[inline]
fn to_cut_taps(x: [neon::int16x8_t; WINDOW]) -> [neon::int16x8_t; 4] {
    [
        neon::vshlq_n_s16::<2>(neon::vsubq_s16(x[0], x[2])),
        neon::vmulq_n_s16(neon::vaddq_s16(x[1], x[2]), 3),
        neon::vmulq_n_s16(neon::vsubq_s16(x[1], x[2]), 3),
        neon::vshlq_n_s16::<2>(neon::vsubq_s16(x[3], x[1])),
    ]
}

/// `B x` of i16 values with multiplications for shifts: see [`neon_core`].
#[target_feature(enable = "neon")]
#[inline]
fn to_multiplied_taps(x: [neon::int16x8_t; WINDOW]) -> [neon::int16x8_t; WINDOW] {
    let four = neon_core::factor_s16(4);
    let (even, odd) = (neon::vsubq_s16(x[4], x[2]), neon::vsubq_s16(x[3], x[1]));
    let last = neon::vmlsq_s16(neon::vsubq_s16(x[5], x[3]), odd, four);
    let first = neon::vsubq_s16(x[0], x[2]);
    let (minus_even4, minus_odd4) = (neon::vmlsq_s16(x[4], x[2], four), neon::vmlsq_s16(x[3], x[1], four));
    let odd2 = neon::vaddq_s16(odd, odd);
    let (tap3, tap4) = (neon::vaddq_s16(even, odd2), neon::vsubq_s16(even, odd2));
    [
        neon::vmlaq_s16(even, first, four),
        neon::vnegq_s16(neon::vaddq_s16(minus_odd4, minus_even4)),
        neon::vsubq_s16(minus_even4, minus_odd4),
        tap3,
        tap4,
        last,
    ]
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
