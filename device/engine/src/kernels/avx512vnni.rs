//! The `avx512vnni` kernel, `x86_64-s8-avx512vnni`: AVX-512 VNNI on 256-bit registers (Ice Lake, Zen 4 and later).
//!
//! ```text
//! 4 values x 8 channels of weights, as packed:        w = [o0 k0..3 | o1 k0..3 | .. | o7 k0..3]       32 x i8
//! 4 values of pixel p plus 128, eight times:          x = [k0..3 | k0..3 | .. ]                        32 x u8
//! vpdpbusd acc, x, w                                  acc += o0 .. o7, i32
//! vpdpbusd over, 128s, w                              once for all pixels: what the 128 have added
//! ```
//!
//! Products of u8 times i8 are added in i32 without saturation, modulo 2^32, so that the difference is exact. `vpdpwssd` does
//! the same to the pairs of i16 of exact Winograd. Transforms, requantization and f16 are those of `avx2`.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::x86_64 as avx;

use super::avx2::{self, finish, load_i32, rdmulh32};
use super::{
    F16Strip, GROUP, Kernel, S8Output, S8Strip, Winograd8Input, Winograd8Output, Winograd8Row,
    WinogradFilters, WinogradInput, WinogradOutput, WinogradRow, avx2_winograd, avx2_winograd_filters,
    avx2_winograd8, tiles,
};

pub(super) const NAME: &str = "x86_64-s8-avx512vnni";

pub(super) fn detect() -> Option<&'static dyn Kernel> {
    static KERNEL: Avx512Vnni = Avx512Vnni(());
    if cpu_has!("avx512vnni", "avx512vl", "avx512f", "avx2", "fma", "f16c") { Some(&KERNEL) } else { None }
}

/// Its only value is behind [`detect`]: proof of AVX-512 VNNI and VL, and of what `avx2` needs.
#[derive(Debug)]
struct Avx512Vnni(());

/// Pixels of the widest tile: an accumulator each of 32 registers.
const PIXELS: usize = 14;
/// How far ahead a lone pixel asks for its weights: some 100 ns at 10 GB/s.
const PREFETCH_BYTES: usize = 1024;

/// Calls `$function::<$n>` for the number of pixels or tiles there are, 1 to 14.
macro_rules! by_width {
    ($width:expr, $function:ident $arguments:tt) => {
        match $width {
            1 => $function::<1> $arguments,
            2 => $function::<2> $arguments,
            3 => $function::<3> $arguments,
            4 => $function::<4> $arguments,
            5 => $function::<5> $arguments,
            6 => $function::<6> $arguments,
            7 => $function::<7> $arguments,
            8 => $function::<8> $arguments,
            9 => $function::<9> $arguments,
            10 => $function::<10> $arguments,
            11 => $function::<11> $arguments,
            12 => $function::<12> $arguments,
            13 => $function::<13> $arguments,
            _ => $function::<PIXELS> $arguments,
        }
    };
}

impl Kernel for Avx512Vnni {
    fn name(&self) -> &'static str {
        NAME
    }

    fn s8(&self, strip: &S8Strip<'_>, out: S8Output<'_>) {
        strip.check(&out);
        for (first, width) in tiles(strip.n_pixels, PIXELS) {
            // SAFETY: `self` proves the CPU features; the strip's extents are checked, and the tile's pixels
            // are the strip's.
            unsafe { by_width!(width, s8_tile(strip, first, &out)) };
        }
    }

    fn f16(&self, strip: &F16Strip<'_>) {
        strip.check();
        // SAFETY: as in `s8`.
        unsafe { avx2::f16(strip) };
    }

    fn winograd_input(&self, tile: &WinogradInput<'_>, taps: &mut [i16]) {
        tile.check(taps);
        // SAFETY: as in `s8`.
        unsafe { avx2_winograd::input(tile, taps) };
    }

    fn winograd_filters(&self, filters: &WinogradFilters<'_>, weights: &mut [i16]) {
        filters.check(weights);
        // SAFETY: as in `s8`.
        unsafe { avx2_winograd_filters::filters(filters, weights) };
    }

    fn winograd_row(&self, row: &WinogradRow<'_>, sums: &mut [i32]) {
        row.check(sums);
        // SAFETY: as in `s8`; a batch has at most 12 tiles.
        unsafe { by_width!(row.n_tiles, exact_row(row, sums)) };
    }

    fn winograd_output(&self, tile: &WinogradOutput<'_>) {
        tile.check();
        // SAFETY: as in `s8`.
        unsafe { avx2_winograd::output(tile) };
    }

    fn winograd8_input(&self, run: &Winograd8Input<'_>, taps: &mut [i8]) {
        run.check(taps);
        // SAFETY: as in `s8`.
        unsafe { avx2_winograd8::input(run, taps) };
    }

    fn winograd8_row(&self, row: &Winograd8Row<'_>, sums: &mut [i32]) {
        row.check(sums);
        // SAFETY: as in `winograd_row`.
        unsafe { by_width!(row.n_tiles, requantized_row(row, sums)) };
    }

    fn winograd8_output(&self, run: &Winograd8Output<'_>) {
        run.check();
        // SAFETY: as in `s8`.
        unsafe { avx2_winograd8::output(run) };
    }
}

/// Products of `P` times 4 values with 4 x 8 weights, added to `acc`, and of as many 128s, added to `over`.
///
/// # Safety
/// The CPU has AVX-512 VNNI; 4 values `stride` apart at `x`, 32 weights at `w`.
#[target_feature(enable = "avx512vnni,avx512vl,avx512f,avx2,fma,f16c")]
#[inline]
unsafe fn step<const P: usize>(
    acc: &mut [avx::__m256i; P],
    over: &mut avx::__m256i,
    (x, stride): (*const i8, usize),
    w: *const i8,
) {
    let high = avx::_mm256_set1_epi8(-128);
    // SAFETY: the caller's promise.
    unsafe {
        let weights = avx::_mm256_loadu_si256(w.cast());
        *over = avx::_mm256_dpbusd_epi32(*over, high, weights);
        for (p, acc) in acc.iter_mut().enumerate() {
            let values = avx::_mm256_set1_epi32(x.add(p * stride).cast::<i32>().read_unaligned());
            *acc = avx::_mm256_dpbusd_epi32(*acc, avx::_mm256_xor_si256(values, high), weights);
        }
    }
}

/// One tile of `P` pixels.
///
/// # Safety
/// The CPU has AVX-512 VNNI; the strip is checked; `first + P <= n_pixels`.
#[target_feature(enable = "avx512vnni,avx512vl,avx512f,avx2,fma,f16c")]
unsafe fn s8_tile<const P: usize>(strip: &S8Strip<'_>, first: usize, out: &S8Output<'_>) {
    let mut acc = [load_i32(strip.bias); P];
    let mut over = avx::_mm256_setzero_si256();
    let mut w = strip.weights.as_ptr();
    for r in 0..strip.n_runs {
        let start = first * strip.pixel_stride + r * strip.run_stride;
        for k in (0..strip.run_len).step_by(8) {
            // SAFETY: `check` found run_len values behind every pixel's start and 8 * run_len weights a run;
            // run_len is a multiple of 8.
            unsafe {
                if P == 1 {
                    avx::_mm_prefetch::<{ avx::_MM_HINT_T0 }>(w.wrapping_add(PREFETCH_BYTES));
                }
                let x = strip.input.as_ptr().add(start + k);
                step::<P>(&mut acc, &mut over, (x, strip.pixel_stride), w);
                step::<P>(&mut acc, &mut over, (x.add(4), strip.pixel_stride), w.add(4 * GROUP));
                w = w.add(8 * GROUP);
            }
        }
    }
    for (p, acc) in acc.into_iter().enumerate() {
        finish(avx::_mm256_sub_epi32(acc, over), first + p, out);
    }
}

/// A row of taps of `P` tiles of exact Winograd.
///
/// # Safety
/// The CPU has AVX-512 VNNI; the row is checked; `P` is its number of tiles.
#[target_feature(enable = "avx512vnni,avx512vl,avx512f,avx2,fma,f16c")]
unsafe fn exact_row<const P: usize>(row: &WinogradRow<'_>, sums: &mut [i32]) {
    let mut taps = [[avx::_mm256_setzero_si256(); P]; 6];
    for (j, taps) in taps.iter_mut().enumerate() {
        // SAFETY: `check` found a row's values and weights.
        unsafe {
            let x = row.values.as_ptr().add(j * row.tap_stride);
            let w = row.weights.as_ptr().add(j * row.channels * GROUP);
            *taps = multiply_pairs::<P>(x, w, row.channels);
        }
    }
    avx2_winograd::columns(&taps, sums);
}

/// One tap of `P` tiles: 8 sums a tile.
///
/// # Safety
/// The CPU has AVX-512 VNNI; `channels * P` values at `x`, in whole groups of 8, `channels * 8` weights at `w`;
/// `channels` is a multiple of 4.
#[target_feature(enable = "avx512vnni,avx512vl,avx512f,avx2,fma,f16c")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply_pairs<const P: usize>(
    mut x: *const i16,
    mut w: *const i16,
    channels: usize,
) -> [avx::__m256i; P] {
    let mut acc = [avx::_mm256_setzero_si256(); P];
    for left in (1..=channels).rev().step_by(GROUP) {
        for k in (0..left.min(GROUP)).step_by(2) {
            // SAFETY: the caller's promise.
            unsafe {
                let weights = avx2_winograd::pairs(avx::_mm256_loadu_si256(w.cast()));
                w = w.add(2 * GROUP);
                for (p, acc) in acc.iter_mut().enumerate() {
                    let pair = x.add(p * GROUP + k).cast::<i32>().read_unaligned();
                    *acc = avx::_mm256_dpwssd_epi32(*acc, avx::_mm256_set1_epi32(pair), weights);
                }
            }
        }
        x = x.wrapping_add(P * GROUP);
    }
    acc
}

/// A row of taps of `P` tiles of requantized Winograd.
///
/// # Safety
/// The CPU has AVX-512 VNNI; the row is checked; `P` is its number of tiles.
#[target_feature(enable = "avx512vnni,avx512vl,avx512f,avx2,fma,f16c")]
unsafe fn requantized_row<const P: usize>(row: &Winograd8Row<'_>, sums: &mut [i32]) {
    let mut taps = [[avx::_mm256_setzero_si256(); P]; 6];
    for (j, taps) in taps.iter_mut().enumerate().take(row.form.window()) {
        // SAFETY: `check` found a row's values, weights and scales.
        unsafe {
            let x = row.values.as_ptr().add(j * row.tap_stride);
            let w = row.weights.as_ptr().add(j * row.channels * GROUP);
            let scale = avx::_mm256_loadu_si256(row.scales.as_ptr().add(j * GROUP).cast());
            *taps = multiply::<P>(x, w, row.channels);
            for tap in taps {
                *tap = rdmulh32(*tap, scale);
            }
        }
    }
    avx2_winograd8::columns(row.form, &taps, sums);
}

/// One tap of `P` tiles: 8 sums a tile.
///
/// # Safety
/// As for [`multiply_pairs`].
#[target_feature(enable = "avx512vnni,avx512vl,avx512f,avx2,fma,f16c")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply<const P: usize>(mut x: *const i8, mut w: *const i8, channels: usize) -> [avx::__m256i; P] {
    let mut acc = [avx::_mm256_setzero_si256(); P];
    let mut over = avx::_mm256_setzero_si256();
    for _ in 0..channels / GROUP {
        // SAFETY: the caller's promise.
        unsafe {
            step::<P>(&mut acc, &mut over, (x, GROUP), w);
            step::<P>(&mut acc, &mut over, (x.add(4), GROUP), w.add(4 * GROUP));
            x = x.add(P * GROUP);
            w = w.add(8 * GROUP);
        }
    }
    for acc in &mut acc {
        *acc = avx::_mm256_sub_epi32(*acc, over);
    }
    acc
}
