//! Requantized Winograd's multiplications of the `neon` kernel, `neon_winograd8_row`: a row of taps, 4 tiles times 8 outputs.
//!
//! The products are `neon`'s own, of 8 channels of a tile instead of 8 values of a pixel: `smull`, `smlal`, `sadalp`. A batch is
//! cut into parts of up to 4 tiles; a tap's weights are read once a part, from the first level cache. Then a row's sums, up to
//! 2.3 KB, are scaled (`sqrdmulh`) and transformed at once.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};
use core::mem::MaybeUninit;

use vgg_edge_blob::winograd8::{Form, MAX_WINDOW};

use super::neon_multiply::{load_8_post, multiply};
use super::neon_winograd8_output::from_taps;
use super::{GROUP, MAX_BATCH, Winograd8Row, tiles};

/// Tiles of the widest part: 4 accumulators each.
const PART: usize = 4;

pub(super) fn row(row: &Winograd8Row<'_>, sums: &mut [i32]) {
    row.check(sums);
    let mut taps = [const { MaybeUninit::<i32>::uninit() }; MAX_WINDOW * MAX_BATCH * GROUP];
    let taps = taps.as_mut_ptr().cast::<i32>();
    for j in 0..row.form.window() {
        for (first, n) in tiles(row.n_tiles, PART) {
            // SAFETY: this file is compiled for targets that have NEON. `check` found a row's values and weights, the part's tiles
            // are the batch's, and there is a place for each sum.
            unsafe {
                let x = row.values.as_ptr().add(j * row.tap_stride + first * GROUP);
                let w = row.weights.as_ptr().add(j * row.channels * GROUP);
                let sums = taps.add((j * row.n_tiles + first) * GROUP);
                match n {
                    1 => part::<1>(x, row.n_tiles, w, row.channels, sums),
                    2 => part::<2>(x, row.n_tiles, w, row.channels, sums),
                    3 => part::<3>(x, row.n_tiles, w, row.channels, sums),
                    _ => part::<PART>(x, row.n_tiles, w, row.channels, sums),
                }
            }
        }
    }
    let n = row.n_tiles * GROUP;
    // SAFETY: the form's taps are written above; `check` found scales and places for their columns.
    unsafe {
        match row.form {
            Form::F23 => columns::<false>(taps, row.scales, n, sums.as_mut_ptr()),
            Form::F43 => columns::<true>(taps, row.scales, n, sums.as_mut_ptr()),
        }
    }
}

/// One tap of `P` of `n_tiles` tiles: sums, `[P][8]`.
///
/// # Safety
/// `n_tiles >= P`; `channels` is a multiple of 8. Behind `x`, 8 values of `P` tiles every `8 * n_tiles` values, `channels / 8` times;
/// `channels * 8` weights at `w`; `P * 8` places at `sums`.
#[target_feature(enable = "neon")]
#[inline(never)] // the registers are the part's own
unsafe fn part<const P: usize>(
    mut x: *const i8,
    n_tiles: usize,
    mut w: *const i8,
    channels: usize,
    sums: *mut i32,
) {
    // [tile][outputs 01, 23, 45, 67]
    let mut acc = [[neon::vdupq_n_s32(0); 4]; P];
    for acc in &mut acc {
        [[acc[0], acc[1]], [acc[2], acc[3]]] = [load_zeros(), load_zeros()];
    }
    for _ in 0..channels / GROUP {
        // SAFETY: the caller's promise: this is a step of 8 channels.
        unsafe {
            let load = |i: usize| neon::vld1q_s8(w.add(16 * i));
            let weights = [load(0), load(1), load(2), load(3)];
            w = w.add(64);
            let step = x.wrapping_add(n_tiles * GROUP);
            // A tile ahead: in-order cores wait for a load that is used at once.
            let mut next = load_8_post(&mut x);
            for (p, acc) in acc.iter_mut().enumerate() {
                let values = next;
                if p + 1 < P {
                    next = load_8_post(&mut x);
                }
                multiply(acc, &weights, values);
            }
            x = step;
        }
    }
    for (p, acc) in acc.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            neon::vst1q_s32(sums.add(p * GROUP), neon::vpaddq_s32(acc[0], acc[1]));
            neon::vst1q_s32(sums.add(p * GROUP + 4), neon::vpaddq_s32(acc[2], acc[3]));
        }
    }
}

/// Two registers of zeros by loads, which take no vector pipe.
#[target_feature(enable = "neon")]
#[inline]
pub(super) fn load_zeros() -> [neon::int32x4_t; 2] {
    static ZEROS: [i32; 8] = [0; 8];
    let (a, b);
    // SAFETY: 32 bytes are there.
    unsafe {
        asm!("ldp {a:q}, {b:q}, [{z}]", a = out(vreg) a, b = out(vreg) b, z = in(reg) ZEROS.as_ptr(),
            options(readonly, nostack, preserves_flags)); // not `pure`: one load and copies would take a pipe
    }
    [a, b]
}

/// Scales `n` sums a tap, and transforms them to columns.
///
/// # Safety
/// `n` (a multiple of 8) values a tap at `taps` and a column at `sums`; 8 scales a tap.
#[target_feature(enable = "neon")]
unsafe fn columns<const F43: bool>(taps: *const i32, scales: &[i32], n: usize, sums: *mut i32) {
    let (tile, window) = if F43 { (4, 6) } else { (2, 4) };
    for half in [0, 4] {
        let mut scale = [neon::vdupq_n_s32(0); MAX_WINDOW];
        for (j, scale) in scale.iter_mut().enumerate().take(window) {
            // SAFETY: the caller's promise.
            *scale = unsafe { neon::vld1q_s32(scales.as_ptr().add(j * GROUP + half)) };
        }
        for at in (half..n).step_by(GROUP) {
            let mut m = [neon::vdupq_n_s32(0); MAX_WINDOW];
            for (j, m) in m.iter_mut().enumerate().take(window) {
                // SAFETY: the caller's promise.
                *m = unsafe { neon::vqrdmulhq_s32(neon::vld1q_s32(taps.add(j * n + at)), scale[j]) };
            }
            for (x, column) in from_taps::<F43>(m).into_iter().enumerate().take(tile) {
                // SAFETY: the caller's promise.
                unsafe { neon::vst1q_s32(sums.add(x * n + at), column) };
            }
        }
    }
}
