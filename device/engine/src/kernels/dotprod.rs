//! The `dotprod` kernel, `aarch64-s8-dotprod`: Armv8.2 with FEAT_DotProd (A55, A76 and later).
//!
//! ```text
//! 4 values x 4 channels of weights, a register:   w = [o0 k0..3 | o1 k0..3 | o2 k0..3 | o3 k0..3]
//! 8 values of pixel p, half a register:           x = [k0..3 | k4..7]
//! sdot acc.4s, w.16b, x.4b[l]                     acc[o] += w[o][4l..4l+4] . x[4l..4l+4]
//! ```
//!
//! A tile is 8 pixels times 8 channels: 16 accumulators, 8 registers of activations, 4 of weights. Activations
//! come 8 at a time since a 64-bit load costs the in-order A55 half of what a 128-bit load does.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};

use vgg_edge_blob::{Layout, S8Layout};

use super::neon::{Finish, prefetch};
use super::neon_f16::f16;
use super::{
    F16Strip, Kernel, S4Strip, S8Output, S8Strip, Winograd8Input, Winograd8Output, Winograd8Row,
    Winograd16Input, Winograd16Output, Winograd16Row, WinogradFilters, WinogradInput, WinogradOutput,
    WinogradRow, dotprod_s4, dotprod_winograd8, neon_fp16_winograd16, neon_winograd, neon_winograd_filters,
    neon_winograd_output, neon_winograd_row, neon_winograd8, neon_winograd8_output, neon_winograd16, tiles,
};

pub(super) const NAME: &str = "aarch64-s8-dotprod";

pub(super) fn detect() -> Option<&'static dyn Kernel> {
    static KERNEL: Dotprod = Dotprod(());
    if cpu_has!("dotprod", "rdm") { Some(&KERNEL) } else { None }
}

/// Its only value is behind [`detect`]: proof of FEAT_DotProd, and of FEAT_RDM, which every Armv8.1 CPU has.
#[derive(Debug)]
struct Dotprod(());

/// Pixels of the widest tile: 2 accumulators each.
const PIXELS: usize = 8;

impl Kernel for Dotprod {
    fn name(&self) -> &'static str {
        NAME
    }

    fn wants(&self, layout: Layout) -> Layout {
        wants(layout).with(S8Layout::K4)
    }

    fn has_cut_tiles(&self) -> bool {
        true
    }

    fn s8(&self, strip: &S8Strip<'_>, out: S8Output<'_>) {
        strip.check(&out);
        // SAFETY: `self` proves the CPU feature; the strip's extents are checked.
        unsafe { s8(strip, out) };
    }

    fn s4(&self, strip: &S4Strip<'_>, out: S8Output<'_>) {
        strip.check(&out);
        // SAFETY: as in `s8`.
        unsafe { dotprod_s4::s4(strip, out) };
    }

    fn f16(&self, strip: &F16Strip<'_>) {
        f16(strip);
    }

    fn winograd_input(&self, tile: &WinogradInput<'_>, taps: &mut [i16]) {
        neon_winograd::input(tile, taps);
    }

    fn winograd_filters(&self, filters: &WinogradFilters<'_>, weights: &mut [i16]) {
        neon_winograd_filters::filters(filters, weights);
    }

    fn winograd_row(&self, row: &WinogradRow<'_>, sums: &mut [i32]) {
        neon_winograd_row::row(row, sums);
    }

    fn winograd_output(&self, tile: &WinogradOutput<'_>) {
        neon_winograd_output::output(tile);
    }

    fn winograd8_input(&self, run: &Winograd8Input<'_>, taps: &mut [i8]) {
        neon_winograd8::input(run, taps);
    }

    fn winograd8_row(&self, row: &Winograd8Row<'_>, sums: &mut [i32]) {
        // SAFETY: `self` proves the CPU features.
        unsafe { dotprod_winograd8::row(row, sums) };
    }

    fn winograd8_output(&self, run: &Winograd8Output<'_>) {
        neon_winograd8_output::output(run);
    }

    fn winograd16_input_f32(&self, tile: &Winograd16Input<'_>, taps: &mut [f32]) {
        neon_winograd16::input_f32(tile, taps);
    }

    fn winograd16_input_f16(&self, tile: &Winograd16Input<'_>, taps: &mut [u16]) {
        neon_winograd16::input_f16(tile, taps);
    }

    fn winograd16_row_f32(&self, row: &Winograd16Row<'_, f32>, sums: &mut [f32]) {
        neon_winograd16::row_f32(row, sums);
    }

    fn winograd16_row_f16(&self, row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
        neon_fp16_winograd16::row(row, sums);
    }

    fn winograd16_output(&self, tile: &Winograd16Output<'_>) {
        neon_winograd16::output(tile);
    }
}

/// Dot products do four times the work of the i16 products of exact Winograd: direct is about twice as fast.
pub(super) fn wants(layout: Layout) -> Layout {
    if layout == Layout::S16W36O8 { Layout::S8O8K4 } else { layout }
}

/// # Safety
/// The CPU has FEAT_DotProd; the strip is checked.
#[target_feature(enable = "neon,dotprod")]
unsafe fn s8(strip: &S8Strip<'_>, out: S8Output<'_>) {
    let finish = Finish::new(strip, out);
    for (first, width) in tiles(strip.n_pixels, PIXELS) {
        // SAFETY: the caller's promise, and the tile's pixels are the strip's.
        unsafe {
            match width {
                1 => tile::<1>(strip, first, &finish),
                2 => tile::<2>(strip, first, &finish),
                3 => tile::<3>(strip, first, &finish),
                4 => tile::<4>(strip, first, &finish),
                5 => tile::<5>(strip, first, &finish),
                6 => tile::<6>(strip, first, &finish),
                7 => tile::<7>(strip, first, &finish),
                _ => tile::<PIXELS>(strip, first, &finish),
            }
        }
    }
}

/// One tile of `P` pixels; the i8mm row's lone pixel, too.
///
/// # Safety
/// The CPU has FEAT_DotProd; the strip is checked; `first + P <= n_pixels`.
#[target_feature(enable = "neon,dotprod")]
#[inline(never)] // the registers are the tile's own
pub(super) unsafe fn tile<const P: usize>(strip: &S8Strip<'_>, first: usize, finish: &Finish<'_>) {
    // [pixel][channels 0..4, 4..8]
    let mut acc = [[neon::vdupq_n_s32(0); 2]; P];
    let mut w = strip.weights.as_ptr();
    for r in 0..strip.n_runs {
        let run = strip.input.as_ptr().wrapping_add(first * strip.pixel_stride + r * strip.run_stride);
        for k in (0..strip.run_len).step_by(8) {
            // SAFETY: `check` found run_len values behind every pixel's start and 8 * run_len weights a run;
            // run_len is a multiple of 8, so all 8 values and all 64 weights of this step are inside.
            unsafe {
                if P == 1 {
                    prefetch(w);
                }
                let load = |p| neon::vld1_s8(run.add(p * strip.pixel_stride + k));
                let x: [_; P] = core::array::from_fn(load);
                step::<P, 0>(&mut acc, w, &x);
                step::<P, 1>(&mut acc, w.add(32), &x);
                w = w.add(64);
            }
        }
    }
    for (p, acc) in acc.into_iter().enumerate() {
        finish.pixel(first + p, acc);
    }
}

/// 4 values: lane `L` of every pixel's register, times 8 channels.
///
/// # Safety
/// 32 weights at `w`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn step<const P: usize, const L: i32>(
    acc: &mut [[neon::int32x4_t; 2]; P],
    w: *const i8,
    x: &[neon::int8x8_t; P],
) {
    // SAFETY: the caller's promise.
    let [w0, w1] = unsafe { [neon::vld1q_s8(w), neon::vld1q_s8(w.add(16))] };
    for (acc, &x) in acc.iter_mut().zip(x) {
        acc[0] = vdotq_lane_s32::<L>(acc[0], w0, x);
        acc[1] = vdotq_lane_s32::<L>(acc[1], w1, x);
    }
}

/// `sdot` by element; the intrinsic of this name is not stable yet.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub(super) fn vdotq_lane_s32<const L: i32>(
    mut acc: neon::int32x4_t,
    a: neon::int8x16_t,
    b: neon::int8x8_t,
) -> neon::int32x4_t {
    // SAFETY: registers only.
    unsafe {
        asm!("sdot {c:v}.4s, {a:v}.16b, {b:v}.4b[{l}]", c = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
            l = const L, options(pure, nomem, nostack, preserves_flags));
    }
    acc
}
