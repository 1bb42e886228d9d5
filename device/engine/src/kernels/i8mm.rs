//! The `i8mm` kernel, `aarch64-s8-i8mm`: Armv8.6 with FEAT_I8MM (Neoverse N2 and V1, A510, A710 and later).
//!
//! ```text
//! 8 values x 2 channels of weights, a register:   w = [o0 k0..7 | o1 k0..7]      zip of k0..3 and k4..7
//! 8 values of two pixels, a register:             x = [p0 k0..7 | p1 k0..7]
//! smmla acc.4s, x.16b, w.16b                      acc += [p0o0 | p0o1 | p1o0 | p1o1]
//! ```
//!
//! A tile is 6 pairs of pixels times 8 channels: 24 accumulators, 4 registers of weights. A lone pixel would
//! waste half of every product: it takes the dotprod row's tile.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::{aarch64 as neon, asm};

use vgg_edge_blob::{Layout, S8Layout};

use super::dotprod;
use super::neon::Finish;
use super::neon_f16::f16;
use super::{
    F16Strip, Kernel, S4Strip, S8Blocks, S8Output, S8Strip, Winograd8Input, Winograd8Output, Winograd8Row,
    Winograd16Input, Winograd16Output, Winograd16Row, WinogradFilters, WinogradInput, WinogradOutput,
    WinogradRow, dotprod_s4, dotprod_winograd8, i8mm_blocks, i8mm_winograd8, neon_fp16_winograd16,
    neon_winograd, neon_winograd_filters, neon_winograd_output, neon_winograd_row, neon_winograd8,
    neon_winograd8_output, neon_winograd16, tiles,
};

pub(super) const NAME: &str = "aarch64-s8-i8mm";

pub(super) fn detect() -> Option<&'static dyn Kernel> {
    static KERNEL: I8mm = I8mm(());
    if cpu_has!("i8mm", "dotprod", "rdm") { Some(&KERNEL) } else { None }
}

/// Its only value is behind [`detect`]: proof of FEAT_I8MM, FEAT_DotProd and FEAT_RDM.
#[derive(Debug)]
struct I8mm(());

/// Pairs of pixels of the widest tile: 4 accumulators each.
const PAIRS: usize = 6;

impl Kernel for I8mm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn wants(&self, layout: Layout) -> Layout {
        dotprod::wants(layout).with(S8Layout::K8)
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
        // SAFETY: as in `s8`; FEAT_DotProd is part of the proof.
        unsafe { dotprod_s4::s4(strip, out) };
    }

    fn s8_blocks(&self, strip: &S8Blocks<'_>, out: S8Output<'_>) {
        strip.check(&out);
        // SAFETY: as in `s8`.
        unsafe { i8mm_blocks::s8_blocks(strip, out) };
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

    fn winograd8_row_k8(&self, row: &Winograd8Row<'_>, sums: &mut [i32]) {
        row.check(sums);
        // SAFETY: `self` proves the CPU feature; the row's extents are checked.
        unsafe { i8mm_winograd8::row(row, sums) };
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

/// # Safety
/// The CPU has FEAT_I8MM and FEAT_DotProd; the strip is checked.
#[target_feature(enable = "neon,i8mm,dotprod")]
unsafe fn s8(strip: &S8Strip<'_>, out: S8Output<'_>) {
    let finish = Finish::new(strip, out);
    if strip.n_pixels == 1 {
        // SAFETY: the caller's promise.
        unsafe { dotprod::tile::<1>(strip, 0, &finish) };
        return;
    }
    for (first, pairs) in tiles(strip.n_pixels.div_ceil(2), PAIRS) {
        // SAFETY: the caller's promise; a tile has the strip's pixels but for the last of an odd number.
        unsafe {
            match pairs {
                1 => tile::<1>(strip, 2 * first, &finish),
                2 => tile::<2>(strip, 2 * first, &finish),
                3 => tile::<3>(strip, 2 * first, &finish),
                4 => tile::<4>(strip, 2 * first, &finish),
                5 => tile::<5>(strip, 2 * first, &finish),
                _ => tile::<PAIRS>(strip, 2 * first, &finish),
            }
        }
    }
}

/// One tile of `N` pairs of pixels; where the last pixel is not there, its neighbour stands in.
///
/// # Safety
/// The CPU has FEAT_I8MM; the strip is checked; `first + 2 * N <= n_pixels + 1`.
#[target_feature(enable = "neon,i8mm")]
#[inline(never)] // the registers are the tile's own
unsafe fn tile<const N: usize>(strip: &S8Strip<'_>, first: usize, finish: &Finish<'_>) {
    let n_pixels = (2 * N).min(strip.n_pixels - first);
    // [pair][channels 01, 23, 45, 67]
    let mut acc = [[neon::vdupq_n_s32(0); 4]; N];
    let mut w = strip.weights.as_ptr();
    for r in 0..strip.n_runs {
        let run = strip.input.as_ptr().wrapping_add(first * strip.pixel_stride + r * strip.run_stride);
        let pixel = |p: usize| run.wrapping_add(p.min(n_pixels - 1) * strip.pixel_stride);
        let mut x: [_; N] = core::array::from_fn(|i| [pixel(2 * i), pixel(2 * i + 1)]);
        for _ in 0..strip.run_len / 8 {
            // SAFETY: `check` found run_len values behind every pixel's start and 8 * run_len weights a run;
            // run_len is a multiple of 8, so all 8 values and all 64 weights of this step are inside.
            unsafe {
                let (w03, w47) = (load_pairs(w), load_pairs(w.add(16)));
                w = w.add(64);
                for (acc, x) in acc.iter_mut().zip(&mut x) {
                    let x = load_two_post(x);
                    acc[0] = vmmlaq_s32(acc[0], x, w03[0]);
                    acc[1] = vmmlaq_s32(acc[1], x, w03[1]);
                    acc[2] = vmmlaq_s32(acc[2], x, w47[0]);
                    acc[3] = vmmlaq_s32(acc[3], x, w47[1]);
                }
            }
        }
    }
    for (i, acc) in acc.into_iter().enumerate() {
        let acc = acc.map(|a| neon::vreinterpretq_s64_s32(a));
        let p = first + 2 * i;
        let low = [neon::vzip1q_s64(acc[0], acc[1]), neon::vzip1q_s64(acc[2], acc[3])];
        finish.pixel(p, low.map(|a| neon::vreinterpretq_s32_s64(a)));
        if p + 1 < first + n_pixels {
            let high = [neon::vzip2q_s64(acc[0], acc[1]), neon::vzip2q_s64(acc[2], acc[3])];
            finish.pixel(p + 1, high.map(|a| neon::vreinterpretq_s32_s64(a)));
        }
    }
}

/// 8 values of each of two pixels, with post-increment.
///
/// # Safety
/// 8 values at each pointer.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_two_post([a, b]: &mut [*const i8; 2]) -> neon::int8x16_t {
    let pair;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("ldr {v:d}, [{a}], #8", "ld1 {{{v:v}.d}}[1], [{b}], #8", v = out(vreg) pair, a = inout(reg) *a,
            b = inout(reg) *b, options(pure, readonly, nostack, preserves_flags));
    }
    pair
}

/// 8 values of 4 channels, two channels a register.
///
/// # Safety
/// 16 weights at `w` and at `w + 32`.
#[target_feature(enable = "neon,i8mm")]
#[inline]
unsafe fn load_pairs(w: *const i8) -> [neon::int8x16_t; 2] {
    // SAFETY: the caller's promise.
    let [low, high] = unsafe { [neon::vld1q_s8(w), neon::vld1q_s8(w.add(32))] };
    let [low, high] = [neon::vreinterpretq_s32_s8(low), neon::vreinterpretq_s32_s8(high)];
    [neon::vzip1q_s32(low, high), neon::vzip2q_s32(low, high)].map(|w| neon::vreinterpretq_s8_s32(w))
}

/// `smmla`; the intrinsic of this name is not stable yet.
#[target_feature(enable = "neon,i8mm")]
#[inline]
pub(super) fn vmmlaq_s32(
    mut acc: neon::int32x4_t,
    a: neon::int8x16_t,
    b: neon::int8x16_t,
) -> neon::int32x4_t {
    // SAFETY: registers only.
    unsafe {
        asm!("smmla {c:v}.4s, {a:v}.16b, {b:v}.16b", c = inout(vreg) acc, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    acc
}
