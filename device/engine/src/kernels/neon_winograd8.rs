//! Requantized Winograd's transforms of the `neon` kernel and of every Arm row above it, `neon_winograd8`.
//!
//! ```text
//! input    8 channels of a run of windows: columns of i8 to B x in i16, once for all tiles that share them; then, a row of
//!          taps after the other with its multipliers in registers, B again, sqrdmulh, sqadd at tap (1, 1), sqxtn
//! output   4 channels at a time: A m, sqrdmulh, srshl, sqxtn; halves meet in i16
//! ```
//!
//! With `a = x3 - x1`, `b = x4 - x2` F43's rows of B are `2 (x0 - x2 - 2a) + r3`, `p + q`, `p - q`, `r3 = a + 2b`, `r4 = b - 2a`,
//! `2 (x5 - x3 - 2b) + r4`, where `p = 2b - 3 x3`, `q = 2a - 3 x2`: 20 operations. Numbers are exact modulo 2^16, and the taps fit.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::aarch64 as neon;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering::Relaxed;

use vgg_edge_blob::winograd8::{Form, MAX_TILE, MAX_WINDOW};

use super::neon::load_i32;
use super::{GROUP, MAX_BATCH, Winograd8Input, Winograd8Output};

/// Columns of the longest run.
const MAX_COLUMNS: usize = MAX_BATCH * MAX_TILE + 2;

pub(super) fn input(run: &Winograd8Input<'_>, taps: &mut [i8]) {
    run.check(taps);
    assert!(
        run.columns.len() <= MAX_COLUMNS,
        "{} columns, expected at most {MAX_COLUMNS}",
        run.columns.len()
    );
    // SAFETY: this file is compiled for targets that have NEON; the extents are checked.
    unsafe {
        match run.form {
            Form::F23 => groups::<false>(run, taps),
            Form::F43 => groups::<true>(run, taps),
        }
    }
}

pub(super) fn output(run: &Winograd8Output<'_>) {
    run.check();
    // SAFETY: as in `input`.
    unsafe {
        match run.form {
            Form::F23 => transform_output::<false>(run),
            Form::F43 => transform_output::<true>(run),
        }
    }
}

/// Rows and columns of a tile, and of its taps.
const fn sizes(f43: bool) -> (usize, usize) {
    if f43 { (4, 6) } else { (2, 4) }
}

/// # Safety
/// The run is checked and has at most [`MAX_COLUMNS`] columns.
#[target_feature(enable = "neon")]
unsafe fn groups<const F43: bool>(run: &Winograd8Input<'_>, taps: &mut [i8]) {
    let (_, window) = sizes(F43);
    // [column][row of taps][8 channels]
    let mut halves = [const { MaybeUninit::<i16>::uninit() }; MAX_COLUMNS * MAX_WINDOW * GROUP];
    let halves = halves.as_mut_ptr().cast::<i16>();
    for channel in (0..run.channels).step_by(GROUP) {
        // SAFETY: the caller's promise; each function writes and reads the columns of the run at the rows of taps.
        unsafe {
            if run.tap_rows.len() == window {
                all_rows::<F43>(run, channel, halves);
            } else {
                for i in run.tap_rows.clone() {
                    match i {
                        0 => one_row::<F43, 0>(run, channel, halves),
                        1 => one_row::<F43, 1>(run, channel, halves),
                        2 => one_row::<F43, 2>(run, channel, halves),
                        3 => one_row::<F43, 3>(run, channel, halves),
                        4 => one_row::<F43, 4>(run, channel, halves),
                        _ => one_row::<F43, 5>(run, channel, halves),
                    }
                }
            }
            let mut place = taps.as_mut_ptr().add(channel / GROUP * run.group_stride);
            for i in run.tap_rows.clone() {
                if i == 1 {
                    row_of_taps::<F43, true>(run, channel, i, halves.add(i * GROUP), place);
                } else {
                    row_of_taps::<F43, false>(run, channel, i, halves.add(i * GROUP), place);
                }
                place = place.wrapping_add(window * run.tap_stride);
            }
        }
    }
}

/// The columns of 8 channels at all rows of taps.
///
/// # Safety
/// The run is checked; `halves` has places for its columns.
#[target_feature(enable = "neon")]
unsafe fn all_rows<const F43: bool>(run: &Winograd8Input<'_>, channel: usize, mut halves: *mut i16) {
    let (_, window) = sizes(F43);
    for &column in run.columns {
        // SAFETY: the caller's promise.
        unsafe {
            let taps = widening_taps::<F43>(load_column(run, channel, column, window));
            for (i, tap) in taps.into_iter().enumerate().take(window) {
                neon::vst1q_s16(halves.add(i * GROUP), tap);
            }
            halves = halves.add(MAX_WINDOW * GROUP);
        }
    }
}

/// The same at row `I` alone.
///
/// # Safety
/// As for [`all_rows`].
#[target_feature(enable = "neon")]
unsafe fn one_row<const F43: bool, const I: usize>(
    run: &Winograd8Input<'_>,
    channel: usize,
    mut halves: *mut i16,
) {
    let (_, window) = sizes(F43);
    for &column in run.columns {
        // SAFETY: the caller's promise.
        unsafe {
            let taps = widening_taps::<F43>(load_column(run, channel, column, window));
            neon::vst1q_s16(halves.add(I * GROUP), taps[I]);
            halves = halves.add(MAX_WINDOW * GROUP);
        }
    }
}

/// # Safety
/// The run is checked; `column` is one of its columns and `channel` one of its channels.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_column(
    run: &Winograd8Input<'_>,
    channel: usize,
    column: usize,
    window: usize,
) -> [neon::int8x8_t; MAX_WINDOW] {
    let x = run.input.as_ptr().wrapping_add(column + channel);
    let mut values = [neon::vdup_n_s8(0); MAX_WINDOW];
    for (value, row) in values[..window].iter_mut().zip(run.rows) {
        // SAFETY: `check` found 8 values behind every row, column and group.
        *value = unsafe { neon::vld1_s8(x.wrapping_add(*row)) };
    }
    values
}

/// Row `i` of the taps of 8 channels of all tiles; `halves` and `taps` from that row on. `OFFSET`: the row with tap (1, 1).
///
/// # Safety
/// The run is checked; `halves` holds its columns; `i` is one of its rows of taps.
#[target_feature(enable = "neon")]
unsafe fn row_of_taps<const F43: bool, const OFFSET: bool>(
    run: &Winograd8Input<'_>,
    channel: usize,
    i: usize,
    mut halves: *const i16,
    mut taps: *mut i8,
) {
    let (tile, window) = sizes(F43);
    let mut multipliers = [neon::vdupq_n_s16(0); MAX_WINDOW];
    for (j, multiplier) in multipliers.iter_mut().enumerate().take(window) {
        let at = (i * window + j) * run.multiplier_stride + channel;
        // SAFETY: `check` found 8 multipliers behind every tap and group.
        *multiplier = unsafe { neon::vld1q_s16(run.multipliers.as_ptr().add(at)) };
    }
    // SAFETY: `check` found as many offsets as channels.
    let offset = unsafe { neon::vld1q_s16(run.offsets.as_ptr().add(channel)) };
    for _ in 0..run.n_tiles() {
        let mut x = [neon::vdupq_n_s16(0); MAX_WINDOW];
        for (column, x) in x.iter_mut().enumerate().take(window) {
            // SAFETY: the caller's promise: a tile's columns are the run's.
            *x = unsafe { neon::vld1q_s16(halves.add(column * MAX_WINDOW * GROUP)) };
        }
        for (j, tap) in to_taps::<F43>(x).into_iter().enumerate().take(window) {
            let mut value = neon::vqrdmulhq_s16(tap, multipliers[j]);
            if OFFSET && j == 1 {
                value = neon::vqaddq_s16(value, offset);
            }
            // SAFETY: `check` found 8 places behind every tap, group and tile.
            unsafe { neon::vst1_s8(taps.wrapping_add(j * run.tap_stride), neon::vqmovn_s16(value)) };
        }
        halves = halves.wrapping_add(tile * MAX_WINDOW * GROUP);
        taps = taps.wrapping_add(GROUP);
    }
}

/// `B x` of i8 values.
#[target_feature(enable = "neon")]
#[inline]
fn widening_taps<const F43: bool>(x: [neon::int8x8_t; MAX_WINDOW]) -> [neon::int16x8_t; MAX_WINDOW] {
    let minus = |i: usize, j: usize| neon::vsubl_s8(x[i], x[j]);
    if !F43 {
        let zero = neon::vdupq_n_s16(0);
        return [minus(0, 2), neon::vaddl_s8(x[1], x[2]), minus(2, 1), minus(3, 1), zero, zero];
    }
    let three = neon::vdup_n_s8(3);
    finish_taps(
        [minus(3, 1), minus(4, 2)],
        [neon::vmull_s8(x[2], three), neon::vmull_s8(x[3], three)],
        [minus(0, 2), minus(5, 3)],
    )
}

/// `B x` of i16 values.
#[target_feature(enable = "neon")]
#[inline]
fn to_taps<const F43: bool>(x: [neon::int16x8_t; MAX_WINDOW]) -> [neon::int16x8_t; MAX_WINDOW] {
    let minus = |i: usize, j: usize| neon::vsubq_s16(x[i], x[j]);
    if !F43 {
        let zero = neon::vdupq_n_s16(0);
        return [minus(0, 2), neon::vaddq_s16(x[1], x[2]), minus(2, 1), minus(3, 1), zero, zero];
    }
    let three = |x| neon::vaddq_s16(neon::vshlq_n_s16::<1>(x), x);
    finish_taps([minus(3, 1), minus(4, 2)], [three(x[2]), three(x[3])], [minus(0, 2), minus(5, 3)])
}

/// F43's taps from `a`, `b`, `3 x2`, `3 x3`, `x0 - x2` and `x5 - x3`.
#[target_feature(enable = "neon")]
#[inline]
fn finish_taps(
    [a, b]: [neon::int16x8_t; 2],
    [three_x2, three_x3]: [neon::int16x8_t; 2],
    [first, last]: [neon::int16x8_t; 2],
) -> [neon::int16x8_t; MAX_WINDOW] {
    let twice = |x| neon::vshlq_n_s16::<1>(x);
    let (a2, b2) = (twice(a), twice(b));
    let (p, q) = (neon::vsubq_s16(b2, three_x3), neon::vsubq_s16(a2, three_x2));
    let (r3, r4) = (neon::vaddq_s16(a, b2), neon::vsubq_s16(b, a2));
    [
        neon::vaddq_s16(twice(neon::vsubq_s16(first, a2)), r3),
        neon::vaddq_s16(p, q),
        neon::vsubq_s16(p, q),
        r3,
        r4,
        neon::vaddq_s16(twice(neon::vsubq_s16(last, b2)), r4),
    ]
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
            run.words[place].store(neon::vget_lane_u64::<0>(word), Relaxed);
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
    let twice = |x| neon::vshlq_n_s32::<1>(x);
    let (m3_2, m4_2) = (twice(m[3]), twice(m[4]));
    let eights = |x| neon::vshlq_n_s32::<3>(x);
    [
        neon::vaddq_s32(neon::vaddq_s32(sum, m[3]), eights(m[4])),
        neon::vaddq_s32(difference, twice(neon::vsubq_s32(m[3], m4_2))),
        neon::vaddq_s32(sum, twice(neon::vaddq_s32(m3_2, m[4]))),
        neon::vaddq_s32(neon::vsubq_s32(difference, m[4]), eights(m[3])),
    ]
}
