//! Requantized Winograd's input transform of the `neon` kernel and of every Arm row above it, `neon_winograd8`.
//!
//! ```text
//! 8 channels of a run of windows   columns of i8 to B x in i16, once for all tiles that share them; then, a row of taps after the
//!                                  other with its multipliers in registers: B again, sqrdmulh, sqadd at tap (1, 1), sqxtn
//! ```
//!
//! With `a = x3 - x1`, `b = x4 - x2` F43's rows of B are `2 (x0 - x2 - 2a) + r3`, `p + q`, `p - q`, `r3 = a + 2b`, `r4 = b - 2a`,
//! `2 (x5 - x3 - 2b) + r4`, where `p = 2b - 3 x3`, `q = 2a - 3 x2`. Numbers are exact modulo 2^16, and the taps fit.
//! `neon_winograd8_row` and `neon_winograd8_output` are the rest.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::mem::MaybeUninit;

use vgg_edge_blob::winograd8::{Form, MAX_TILE, MAX_WINDOW};

use super::{GROUP, MAX_BATCH, Winograd8Input};

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

/// Rows and columns of a tile, and of its taps.
pub(super) const fn sizes(f43: bool) -> (usize, usize) {
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
        halves = hidden(halves);
    }
}

/// `pointer`. The compiler no longer sees that a tile's first columns are the last of the one before: it would copy registers,
/// which takes a vector pipe, where loads do not.
#[inline]
fn hidden(pointer: *const i16) -> *const i16 {
    let mut address = pointer.addr();
    // SAFETY: does nothing.
    unsafe { asm!("/* {0} */", inout(reg) address, options(pure, nomem, nostack, preserves_flags)) };
    pointer.with_addr(address)
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
