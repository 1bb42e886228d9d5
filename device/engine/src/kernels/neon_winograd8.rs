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

use core::arch::{aarch64 as neon, asm};
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicU64;

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
        let mut rows = [run.input.as_ptr(); MAX_WINDOW];
        for (place, row) in rows.iter_mut().zip(run.rows) {
            *place = place.wrapping_add(row + channel);
        }
        // SAFETY: the caller's promise; each function writes and reads the columns of the run at the rows of taps.
        unsafe {
            if run.tap_rows.len() == window {
                all_rows::<F43>(&rows, run.columns, halves);
            } else {
                for i in run.tap_rows.clone() {
                    match i {
                        0 => one_row::<F43, 0>(&rows, run.columns, halves),
                        1 => one_row::<F43, 1>(&rows, run.columns, halves),
                        2 => one_row::<F43, 2>(&rows, run.columns, halves),
                        3 => one_row::<F43, 3>(&rows, run.columns, halves),
                        4 => one_row::<F43, 4>(&rows, run.columns, halves),
                        _ => one_row::<F43, 5>(&rows, run.columns, halves),
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
/// 8 values behind every row and column; `halves` has places for as many columns.
#[target_feature(enable = "neon")]
unsafe fn all_rows<const F43: bool>(rows: &[*const i8; MAX_WINDOW], columns: &[usize], mut halves: *mut i16) {
    let (_, window) = sizes(F43);
    for &column in columns {
        // SAFETY: the caller's promise.
        unsafe {
            let taps = widening_taps::<F43>(load_column::<F43>(rows, column));
            for i in 0..window {
                neon::vst1q_s16(halves.add(i * GROUP), taps[i]);
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
    rows: &[*const i8; MAX_WINDOW],
    columns: &[usize],
    mut halves: *mut i16,
) {
    for &column in columns {
        // SAFETY: the caller's promise.
        unsafe {
            let taps = widening_taps::<F43>(load_column::<F43>(rows, column));
            neon::vst1q_s16(halves.add(I * GROUP), taps[I]);
            halves = halves.add(MAX_WINDOW * GROUP);
        }
    }
}

/// # Safety
/// 8 values `column` values behind each of the first `window` rows.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_column<const F43: bool>(
    rows: &[*const i8; MAX_WINDOW],
    column: usize,
) -> [neon::int8x8_t; MAX_WINDOW] {
    let (_, window) = sizes(F43);
    let mut values = [neon::vdup_n_s8(0); MAX_WINDOW];
    for i in 0..window {
        // SAFETY: the caller's promise.
        values[i] = unsafe { neon::vld1_s8(rows[i].add(column)) };
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
        let row = to_taps::<F43>(x);
        for j in 0..window {
            let mut value = neon::vqrdmulhq_s16(row[j], multipliers[j]);
            if OFFSET && j == 1 {
                value = neon::vqaddq_s16(value, offset);
            }
            // SAFETY: `check` found 8 places behind every tap, group and tile.
            unsafe { neon::vst1_s8(taps.wrapping_add(j * run.tap_stride), neon::vqmovn_s16(value)) };
        }
        halves = halves.wrapping_add(tile * MAX_WINDOW * GROUP);
        taps = taps.wrapping_add(GROUP);
        // SAFETY: does nothing. The compiler no longer sees that the next tile's first columns are this one's last: copies of
        // registers take a vector pipe, loads do not.
        unsafe { asm!("/* {0} */", inout(reg) halves, options(pure, nomem, nostack, preserves_flags)) };
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
    let three = opaque_three();
    let (a, b) = (minus(3, 1), minus(4, 2));
    let twice = |x| neon::vshlq_n_s16::<1>(x);
    let (a2, b2) = (twice(a), twice(b));
    let p = neon::vsubq_s16(b2, neon::vmull_s8(x[3], three));
    let q = neon::vsubq_s16(a2, neon::vmull_s8(x[2], three));
    let (r3, r4) = (neon::vaddq_s16(a, b2), neon::vsubq_s16(b, a2));
    [
        neon::vaddq_s16(twice(neon::vsubq_s16(minus(0, 2), a2)), r3),
        neon::vaddq_s16(p, q),
        neon::vsubq_s16(p, q),
        r3,
        r4,
        neon::vaddq_s16(twice(neon::vsubq_s16(minus(5, 3), b2)), r4),
    ]
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
    let [x0, x1, x2, x3, x4, x5] = x;
    let (mut first, mut last, three) = (x0, x5, neon::vdupq_n_s16(3));
    let (r1, r2, r3, r4);
    // SAFETY: registers only. In one block: the compiler copies what `mls` overwrites.
    unsafe {
        asm!(
            "sub {a:v}.8h, {x3:v}.8h, {x1:v}.8h",
            "sub {b:v}.8h, {x4:v}.8h, {x2:v}.8h",
            "sub {x0:v}.8h, {x0:v}.8h, {x2:v}.8h",
            "add {x1:v}.8h, {a:v}.8h, {a:v}.8h",
            "add {x4:v}.8h, {b:v}.8h, {b:v}.8h",
            "sub {x5:v}.8h, {x5:v}.8h, {x3:v}.8h",
            "add {a:v}.8h, {a:v}.8h, {x4:v}.8h",
            "sub {b:v}.8h, {b:v}.8h, {x1:v}.8h",
            "sub {x0:v}.8h, {x0:v}.8h, {x1:v}.8h",
            "sub {x5:v}.8h, {x5:v}.8h, {x4:v}.8h",
            "mls {x1:v}.8h, {x2:v}.8h, {three:v}.8h",
            "mls {x4:v}.8h, {x3:v}.8h, {three:v}.8h",
            "shl {x0:v}.8h, {x0:v}.8h, #1",
            "shl {x5:v}.8h, {x5:v}.8h, #1",
            "add {x0:v}.8h, {x0:v}.8h, {a:v}.8h",
            "add {x5:v}.8h, {x5:v}.8h, {b:v}.8h",
            "add {x2:v}.8h, {x4:v}.8h, {x1:v}.8h",
            "sub {x3:v}.8h, {x4:v}.8h, {x1:v}.8h",
            x0 = inout(vreg) first, x1 = inout(vreg) x1 => _, x2 = inout(vreg) x2 => r1, x3 = inout(vreg) x3 => r2,
            x4 = inout(vreg) x4 => _, x5 = inout(vreg) last, a = out(vreg) r3, b = out(vreg) r4,
            three = in(vreg) three, options(pure, nomem, nostack, preserves_flags)
        );
    }
    [first, r1, r2, r3, r4, last]
}

/// 3 in all lanes. The compiler, which would see the number, trades `smull` for `sshll` and `mul`.
#[target_feature(enable = "neon")]
#[inline]
fn opaque_three() -> neon::int8x8_t {
    let three;
    // SAFETY: registers only.
    unsafe {
        asm!("movi {v:v}.8b, #3", v = out(vreg) three, options(pure, nomem, nostack, preserves_flags));
    }
    three
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

/// A relaxed store; the compiler's goes through a general register, which takes a vector pipe.
#[target_feature(enable = "neon")]
#[inline]
fn store(word: &AtomicU64, value: neon::uint64x1_t) {
    // SAFETY: an atomic word is 8 aligned bytes that may be written at any time, and `str` of 8 aligned bytes is one access.
    unsafe {
        asm!("str {v:d}, [{p}]", v = in(vreg) value, p = in(reg) word.as_ptr(), options(nostack, preserves_flags));
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
