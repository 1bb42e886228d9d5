//! Winograd of f16 blobs of the `neon` kernel and of every Arm row above it, `neon_winograd16`: transforms, and f32 arithmetic.
//!
//! ```text
//! input    4 channels of a window at a time: sub, add and fmla; half-precision taps leave through fcvtn
//! row      w_k = fcvtl, fcvtl2 [k: o0 .. o7]        two channels k, 4 registers
//!          x   = [tile p: k0 k1]                    half a register
//!          fmla acc[p].lo, w_k.lo, x.s[k]           12 tiles are 24 accumulators
//! output   4 channels at a time
//! ```
//!
//! Half-precision multiplications are `neon_fp16_winograd16`.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::aarch64 as neon;

use vgg_edge_blob::winograd::{TILE, WINDOW};

use super::neon_f16::store_floats;
use super::{GROUP, MAX_BATCH, Winograd16Input, Winograd16Output, Winograd16Row};

pub(super) fn input_f32(window: &Winograd16Input<'_>, taps: &mut [f32]) {
    window.check(taps.len());
    let taps = taps.as_mut_ptr();
    let store = |place: usize, tap| {
        // SAFETY: `check` found 8 places behind every tap and group, 4 a store.
        unsafe { neon::vst1q_f32(taps.add(place), tap) };
    };
    // SAFETY: this file is compiled for targets that have NEON; the extents are checked.
    unsafe { input(window, store) };
}

pub(super) fn input_f16(window: &Winograd16Input<'_>, taps: &mut [u16]) {
    window.check(taps.len());
    let taps = taps.as_mut_ptr();
    let store = |place: usize, tap| {
        // SAFETY: as in `input_f32`.
        unsafe { neon::vst1_u16(taps.add(place), neon::vreinterpret_u16_f16(neon::vcvt_f16_f32(tap))) };
    };
    // SAFETY: as in `input_f32`.
    unsafe { input(window, store) };
}

/// # Safety
/// The window is checked.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn input(window: &Winograd16Input<'_>, store: impl Fn(usize, neon::float32x4_t)) {
    // SAFETY: the caller's promise.
    unsafe {
        if window.tap_rows == (0..WINDOW) {
            return all_rows(window, store);
        }
        for (n, i) in window.tap_rows.clone().enumerate() {
            let store = |place, tap| store(n * WINDOW * window.tap_stride + place, tap);
            match i {
                0 => one_row::<0>(window, store),
                1 => one_row::<1>(window, store),
                2 => one_row::<2>(window, store),
                3 => one_row::<3>(window, store),
                4 => one_row::<4>(window, store),
                _ => one_row::<5>(window, store),
            }
        }
    }
}

/// One column of a window, scaled.
///
/// # Safety
/// 4 values behind every row.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn column(x: *const f32, rows: &[usize; WINDOW], scale: f32) -> [neon::float32x4_t; WINDOW] {
    let mut values = [neon::vdupq_n_f32(0.0); WINDOW];
    for (value, row) in values.iter_mut().zip(rows) {
        // SAFETY: the caller's promise.
        *value = neon::vmulq_n_f32(unsafe { neon::vld1q_f32(x.add(*row)) }, scale);
    }
    values
}

/// # Safety
/// The window is checked.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn all_rows(window: &Winograd16Input<'_>, store: impl Fn(usize, neon::float32x4_t)) {
    for quad in (0..window.channels).step_by(4) {
        let x = window.input.as_ptr().wrapping_add(quad);
        // Loops over indices: a `map` of so many registers goes through memory.
        let mut columns = [[neon::vdupq_n_f32(0.0); WINDOW]; WINDOW];
        for (taps, place) in columns.iter_mut().zip(window.columns) {
            // SAFETY: `check` found 8 values behind every row, column and group.
            *taps = to_taps(unsafe { column(x.wrapping_add(place), &window.rows, window.scale) });
        }
        let mut place = quad / GROUP * window.group_stride + quad % GROUP;
        for i in 0..WINDOW {
            let c = &columns;
            for tap in to_taps([c[0][i], c[1][i], c[2][i], c[3][i], c[4][i], c[5][i]]) {
                store(place, tap);
                place += window.tap_stride;
            }
        }
    }
}

/// Row `I` of taps.
///
/// # Safety
/// The window is checked.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn one_row<const I: usize>(window: &Winograd16Input<'_>, store: impl Fn(usize, neon::float32x4_t)) {
    for quad in (0..window.channels).step_by(4) {
        let x = window.input.as_ptr().wrapping_add(quad);
        let mut values = [neon::vdupq_n_f32(0.0); WINDOW];
        for (value, place) in values.iter_mut().zip(window.columns) {
            // SAFETY: as in `all_rows`. What the row does not need is not computed.
            *value = to_taps(unsafe { column(x.wrapping_add(place), &window.rows, window.scale) })[I];
        }
        let mut place = quad / GROUP * window.group_stride + quad % GROUP;
        for tap in to_taps(values) {
            store(place, tap);
            place += window.tap_stride;
        }
    }
}

/// `B x`.
#[target_feature(enable = "neon")]
#[inline]
fn to_taps(x: [neon::float32x4_t; WINDOW]) -> [neon::float32x4_t; WINDOW] {
    let minus = |a: usize, b: usize| neon::vsubq_f32(x[a], x[b]);
    let (even, odd) = (minus(4, 2), minus(3, 1));
    let (half3, two) = (neon::vdupq_n_f32(1.5), neon::vdupq_n_f32(2.0));
    [
        neon::vfmsq_f32(neon::vaddq_f32(minus(0, 2), even), odd, half3),
        neon::vfmsq_f32(neon::vaddq_f32(even, odd), neon::vaddq_f32(x[2], x[3]), half3),
        neon::vfmaq_f32(neon::vsubq_f32(even, odd), minus(2, 3), half3),
        neon::vfmaq_f32(odd, even, two),
        neon::vfmsq_f32(even, odd, two),
        neon::vfmsq_f32(neon::vsubq_f32(minus(5, 3), odd), even, half3),
    ]
}

/// `A m`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn from_taps(m: [neon::float32x4_t; WINDOW]) -> [neon::float32x4_t; TILE] {
    let add = |a, b| neon::vaddq_f32(a, b);
    let times = |a, b: f32, c| neon::vfmaq_f32(c, a, neon::vdupq_n_f32(b));
    let (sum, difference) = (add(m[1], m[2]), neon::vsubq_f32(m[1], m[2]));
    [
        add(add(m[0], sum), add(m[3], m[4])),
        times(m[4], -0.5, times(m[3], 2.0, difference)),
        times(m[4], 0.25, times(m[3], 4.0, sum)),
        add(times(m[4], -0.125, times(m[3], 8.0, difference)), m[5]),
    ]
}

/// Calls the function of the batch's own number of tiles.
macro_rules! by_tiles {
    ($tiles:ident, $row:expr, $sums:expr) => {
        match $row.n_tiles {
            1 => $tiles::<1>($row, $sums),
            2 => $tiles::<2>($row, $sums),
            3 => $tiles::<3>($row, $sums),
            4 => $tiles::<4>($row, $sums),
            5 => $tiles::<5>($row, $sums),
            6 => $tiles::<6>($row, $sums),
            7 => $tiles::<7>($row, $sums),
            8 => $tiles::<8>($row, $sums),
            9 => $tiles::<9>($row, $sums),
            10 => $tiles::<10>($row, $sums),
            11 => $tiles::<11>($row, $sums),
            _ => $tiles::<12>($row, $sums),
        }
    };
}
pub(super) use by_tiles;

pub(super) fn row_f32(row: &Winograd16Row<'_, f32>, sums: &mut [f32]) {
    row.check(sums);
    // SAFETY: this file is compiled for targets that have NEON; the extents are checked, and each arm has the batch's own
    // number of tiles.
    unsafe { by_tiles!(tiles, row, sums) }
}

/// Sums of a row of taps, `[6 taps][tiles][8]`.
#[repr(align(16))]
pub(super) struct Taps(pub(super) [f32; WINDOW * MAX_BATCH * GROUP]);

impl Taps {
    /// The row half of the output transform, for `P` tiles.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) fn columns<const P: usize>(&self, sums: &mut [f32]) {
        let taps = self.0.as_ptr();
        for quad in (0..P * GROUP).step_by(4) {
            let mut m = [neon::vdupq_n_f32(0.0); WINDOW];
            for (j, m) in m.iter_mut().enumerate() {
                // SAFETY: `P` is at most `MAX_BATCH`.
                *m = unsafe { neon::vld1q_f32(taps.add(j * P * GROUP + quad)) };
            }
            for (x, column) in from_taps(m).into_iter().enumerate() {
                let place = &mut sums[x * P * GROUP + quad..][..4];
                // SAFETY: 4 values.
                unsafe { neon::vst1q_f32(place.as_mut_ptr(), column) };
            }
        }
    }
}

/// A row of `P` tiles.
///
/// # Safety
/// The row is checked; `P` is its number of tiles.
#[target_feature(enable = "neon")]
unsafe fn tiles<const P: usize>(row: &Winograd16Row<'_, f32>, sums: &mut [f32]) {
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
/// `channels * P` values at `x`, `channels * 8` weights at `w`, `P * 8` places at `sums`; `channels` is a multiple of 8.
#[target_feature(enable = "neon")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply<const P: usize>(mut x: *const f32, mut w: *const u16, channels: usize, sums: *mut f32) {
    let mut acc = [[neon::vdupq_n_f32(0.0); 2]; P];
    for _ in 0..channels / GROUP {
        for k in (0..GROUP).step_by(2) {
            // SAFETY: the caller's promise.
            unsafe {
                let (a, b) = (widened(w), widened(w.add(GROUP)));
                w = w.add(2 * GROUP);
                for (p, acc) in acc.iter_mut().enumerate() {
                    let values = neon::vld1_f32(x.add(p * GROUP + k));
                    acc[0] = neon::vfmaq_lane_f32::<0>(acc[0], a[0], values);
                    acc[1] = neon::vfmaq_lane_f32::<0>(acc[1], a[1], values);
                    acc[0] = neon::vfmaq_lane_f32::<1>(acc[0], b[0], values);
                    acc[1] = neon::vfmaq_lane_f32::<1>(acc[1], b[1], values);
                }
            }
        }
        x = x.wrapping_add(P * GROUP);
    }
    for (p, acc) in acc.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            neon::vst1q_f32(sums.add(p * GROUP), acc[0]);
            neon::vst1q_f32(sums.add(p * GROUP + 4), acc[1]);
        }
    }
}

/// 8 weights in f32.
///
/// # Safety
/// 8 weights at `w`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn widened(w: *const u16) -> [neon::float32x4_t; 2] {
    // SAFETY: the caller's promise.
    let half = neon::vreinterpretq_f16_u16(unsafe { neon::vld1q_u16(w) });
    [neon::vcvt_f32_f16(neon::vget_low_f16(half)), neon::vcvt_high_f32_f16(half)]
}

pub(super) fn output(tile: &Winograd16Output<'_>) {
    tile.check();
    // SAFETY: this file is compiled for targets that have NEON; the extents are checked.
    unsafe { transform_output(tile) };
}

/// # Safety
/// The tile is checked.
#[target_feature(enable = "neon")]
unsafe fn transform_output(tile: &Winograd16Output<'_>) {
    let scale = neon::vdupq_n_f32(tile.scale);
    for (x, half) in (0..tile.n_columns).flat_map(|x| [(x, 0), (x, 1)]) {
        // SAFETY: 8 values, 4 a load.
        let bias = unsafe { neon::vld1q_f32(tile.bias.as_ptr().add(4 * half)) };
        let sums = tile.sums.as_ptr().wrapping_add(x * tile.column_stride + 4 * half);
        let mut m = [neon::vdupq_n_f32(0.0); WINDOW];
        for (i, m) in m.iter_mut().enumerate() {
            // SAFETY: `check` found 8 sums behind every column of every row of taps.
            *m = unsafe { neon::vld1q_f32(sums.add(i * TILE * tile.column_stride)) };
        }
        for (y, sum) in from_taps(m).into_iter().enumerate().take(tile.n_rows) {
            let place = y * tile.row_stride + x * tile.pixel_stride + 2 * half;
            store_floats(&tile.words[place..][..2], neon::vfmaq_f32(bias, sum, scale), tile.relu);
        }
    }
}
