//! The `avx2` kernel, `x86_64-s8-avx2`: AVX2, FMA and F16C (Haswell, Zen and later).
//!
//! ```text
//! 4 values x 4 channels of weights, widened to i16:   w = [o0 k0..3 | o1 k0..3 | o2 k0..3 | o3 k0..3]
//! 4 values of pixel p, widened, four times:           x = [k0..3 | k0..3 | k0..3 | k0..3]
//! vpmaddwd t, w, x                                    t = [o0k01 o0k23 o1k01 o1k23 | o2k01 o2k23 o3k01 o3k23]    i32
//! vpaddd acc, acc, t
//! ```
//!
//! Nothing saturates: a product of i16 pairs fits i32 exactly. One `vphaddd` after the last run joins the halves.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::x86_64 as avx;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{
    F16Strip, GROUP, Kernel, Requant, S4Strip, S8Output, S8Strip, Winograd8Input, Winograd8Output,
    Winograd8Row, Winograd16Input, Winograd16Output, Winograd16Row, WinogradFilters, WinogradInput,
    WinogradOutput, WinogradRow, avx2_s4, avx2_winograd, avx2_winograd_filters, avx2_winograd8,
    avx2_winograd16, tiles,
};

pub(super) const NAME: &str = "x86_64-s8-avx2";

pub(super) fn detect() -> Option<&'static dyn Kernel> {
    static KERNEL: Avx2 = Avx2(());
    if cpu_has!("avx2", "fma", "f16c") { Some(&KERNEL) } else { None }
}

/// Its only value is behind [`detect`]: proof of AVX2, FMA and F16C.
#[derive(Debug)]
struct Avx2(());

/// Pixels of the widest int8 tile: 2 accumulators each, of 16 registers.
const S8_PIXELS: usize = 6;
/// Pixels of the widest f16 tile: 1 accumulator each.
const F16_PIXELS: usize = 12;
/// How far ahead a lone pixel asks for its weights: some 100 ns at 10 GB/s.
pub(super) const PREFETCH_BYTES: usize = 1024;

impl Kernel for Avx2 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn s8(&self, strip: &S8Strip<'_>, out: S8Output<'_>) {
        strip.check(&out);
        for (first, width) in tiles(strip.n_pixels, S8_PIXELS) {
            // SAFETY: `self` proves the CPU features; the strip's extents are checked, and the tile's pixels
            // are the strip's.
            unsafe {
                match width {
                    1 => s8_tile::<1>(strip, first, &out),
                    2 => s8_tile::<2>(strip, first, &out),
                    3 => s8_tile::<3>(strip, first, &out),
                    4 => s8_tile::<4>(strip, first, &out),
                    5 => s8_tile::<5>(strip, first, &out),
                    _ => s8_tile::<S8_PIXELS>(strip, first, &out),
                }
            }
        }
    }

    fn s4(&self, strip: &S4Strip<'_>, out: S8Output<'_>) {
        strip.check(&out);
        // SAFETY: `self` proves the CPU features; the extents are checked.
        unsafe { avx2_s4::s4(strip, &out) };
    }

    fn f16(&self, strip: &F16Strip<'_>) {
        strip.check();
        // SAFETY: as in `s8`.
        unsafe { f16(strip) };
    }

    fn winograd_input(&self, tile: &WinogradInput<'_>, taps: &mut [i16]) {
        tile.check(taps);
        // SAFETY: `self` proves the CPU features; the extents are checked.
        unsafe { avx2_winograd::input(tile, taps) };
    }

    fn winograd_filters(&self, filters: &WinogradFilters<'_>, weights: &mut [i16]) {
        filters.check(weights);
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd_filters::filters(filters, weights) };
    }

    fn winograd_row(&self, row: &WinogradRow<'_>, sums: &mut [i32]) {
        row.check(sums);
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd::row(row, sums) };
    }

    fn winograd_output(&self, tile: &WinogradOutput<'_>) {
        tile.check();
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd::output(tile) };
    }

    fn winograd8_input(&self, run: &Winograd8Input<'_>, taps: &mut [i8]) {
        run.check(taps);
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd8::input(run, taps) };
    }

    fn winograd8_row(&self, row: &Winograd8Row<'_>, sums: &mut [i32]) {
        row.check(sums);
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd8::row(row, sums) };
    }

    fn winograd8_output(&self, run: &Winograd8Output<'_>) {
        run.check();
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd8::output(run) };
    }

    fn winograd16_input_f32(&self, tile: &Winograd16Input<'_>, taps: &mut [f32]) {
        tile.check(taps.len());
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd16::input_f32(tile, taps) };
    }

    fn winograd16_input_f16(&self, tile: &Winograd16Input<'_>, taps: &mut [u16]) {
        tile.check(taps.len());
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd16::input_f16(tile, taps) };
    }

    fn winograd16_row_f32(&self, row: &Winograd16Row<'_, f32>, sums: &mut [f32]) {
        row.check(sums);
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd16::row_f32(row, sums) };
    }

    fn winograd16_row_f16(&self, row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
        row.check(sums);
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd16::row_f16(row, sums) };
    }

    fn winograd16_output(&self, tile: &Winograd16Output<'_>) {
        tile.check();
        // SAFETY: as in `winograd_input`.
        unsafe { avx2_winograd16::output(tile) };
    }
}

/// One tile of `P` pixels.
///
/// # Safety
/// The CPU has AVX2; the strip is checked; `first + P <= n_pixels`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn s8_tile<const P: usize>(strip: &S8Strip<'_>, first: usize, out: &S8Output<'_>) {
    // [pixel][channels 0..4, 4..8]
    let mut acc = [[avx::_mm256_setzero_si256(); 2]; P];
    let mut w = strip.weights.as_ptr();
    for r in 0..strip.n_runs {
        let start = first * strip.pixel_stride + r * strip.run_stride;
        let mut k = 0;
        while k < strip.run_len {
            // SAFETY: `check` found run_len values behind every pixel's start and 8 * run_len weights a run;
            // run_len is a multiple of 8, so the 4 values and 32 weights of this step are inside.
            unsafe {
                if P == 1 && k % 8 == 0 {
                    avx::_mm_prefetch::<{ avx::_MM_HINT_T0 }>(w.wrapping_add(PREFETCH_BYTES));
                }
                let x = strip.input.as_ptr().add(start + k);
                let w0 = avx::_mm256_cvtepi8_epi16(avx::_mm_loadu_si128(w.cast()));
                let w1 = avx::_mm256_cvtepi8_epi16(avx::_mm_loadu_si128(w.add(16).cast()));
                w = w.add(32);
                for (p, acc) in acc.iter_mut().enumerate() {
                    let x = x.add(p * strip.pixel_stride).cast::<i32>().read_unaligned();
                    let x = avx::_mm256_cvtepi8_epi16(avx::_mm_set1_epi32(x));
                    acc[0] = avx::_mm256_add_epi32(acc[0], avx::_mm256_madd_epi16(w0, x));
                    acc[1] = avx::_mm256_add_epi32(acc[1], avx::_mm256_madd_epi16(w1, x));
                }
            }
            k += 4;
        }
    }
    let bias = load_i32(strip.bias);
    let in_order = avx::_mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    for (p, acc) in acc.into_iter().enumerate() {
        // [o0 o1 o4 o5 | o2 o3 o6 o7]
        let sums = avx::_mm256_hadd_epi32(acc[0], acc[1]);
        let acc = avx::_mm256_add_epi32(avx::_mm256_permutevar8x32_epi32(sums, in_order), bias);
        finish(acc, first + p, out);
    }
}

/// `(2 a b + 2^31) >> 32` of 8 values: the rounded product with a Q31 factor that is not negative.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn rdmulh32(a: avx::__m256i, b: avx::__m256i) -> avx::__m256i {
    let half = avx::_mm256_set1_epi64x(1 << 30);
    let odd = |v| avx::_mm256_srli_epi64::<32>(v);
    let even = avx::_mm256_add_epi64(avx::_mm256_mul_epi32(a, b), half);
    let odds = avx::_mm256_add_epi64(avx::_mm256_mul_epi32(odd(a), odd(b)), half);
    // Bits 31..63 of every product, moved to where its channel's 32 bits are.
    avx::_mm256_blend_epi32::<0b1010_1010>(
        avx::_mm256_srli_epi64::<31>(even),
        avx::_mm256_slli_epi64::<1>(odds),
    )
}

/// Requantizes 8 accumulators: the output word.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn requantized(acc: avx::__m256i, requant: &Requant<'_>) -> u64 {
    let (multiplier, shift) = (load_i32(requant.multiplier), load_i32(requant.shift));
    let high = rdmulh32(acc, multiplier);
    // 2^(shift - 1), and 0 for shift 0.
    let round = avx::_mm256_srli_epi32::<1>(avx::_mm256_sllv_epi32(avx::_mm256_set1_epi32(1), shift));
    let rounded = avx::_mm256_srav_epi32(avx::_mm256_add_epi32(high, round), shift);
    let (low, high) = (avx::_mm256_castsi256_si128(rounded), avx::_mm256_extracti128_si256::<1>(rounded));
    let zero_point = avx::_mm_set1_epi16(requant.zero_point.into());
    let channels = avx::_mm_adds_epi16(avx::_mm_packs_epi32(low, high), zero_point);
    avx::_mm_cvtsi128_si64(avx::_mm_packs_epi16(channels, channels)).cast_unsigned()
}

/// Requantizes and stores pixel `p`'s 8 accumulators.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn finish(acc: avx::__m256i, p: usize, out: &S8Output<'_>) {
    match *out {
        S8Output::Activations { requant, words, stride } => {
            words[p * stride].store(requantized(acc, &requant), Relaxed);
        }
        S8Output::Accumulators(words) => store_pairs(&words[p * 4..p * 4 + 4], acc),
    }
}

/// A strip with f16 weights.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; the strip is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn f16(strip: &F16Strip<'_>) {
    for (first, width) in tiles(strip.n_pixels, F16_PIXELS) {
        // SAFETY: the caller's promise; the tile's pixels are the strip's.
        unsafe {
            match width {
                1 => f16_tile::<1>(strip, first),
                2 => f16_tile::<2>(strip, first),
                3 => f16_tile::<3>(strip, first),
                4 => f16_tile::<4>(strip, first),
                5 => f16_tile::<5>(strip, first),
                6 => f16_tile::<6>(strip, first),
                7 => f16_tile::<7>(strip, first),
                8 => f16_tile::<8>(strip, first),
                9 => f16_tile::<9>(strip, first),
                10 => f16_tile::<10>(strip, first),
                11 => f16_tile::<11>(strip, first),
                _ => f16_tile::<F16_PIXELS>(strip, first),
            }
        }
    }
}

/// One tile of `P` pixels.
///
/// # Safety
/// The CPU has FMA and F16C; the strip is checked; `first + P <= n_pixels`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn f16_tile<const P: usize>(strip: &F16Strip<'_>, first: usize) {
    // SAFETY: 8 values.
    let mut acc = [unsafe { avx::_mm256_loadu_ps(strip.bias.as_ptr()) }; P];
    let mut w = strip.weights.as_ptr();
    for r in 0..strip.n_runs {
        let start = first * strip.pixel_stride + r * strip.run_stride;
        for k in 0..strip.run_len {
            // SAFETY: `check` found run_len values behind every pixel's start and 8 * run_len weights a run.
            unsafe {
                if P == 1 && k % 4 == 0 {
                    avx::_mm_prefetch::<{ avx::_MM_HINT_T0 }>(w.wrapping_byte_add(PREFETCH_BYTES).cast());
                }
                let weights = avx::_mm256_cvtph_ps(avx::_mm_loadu_si128(w.cast()));
                w = w.add(GROUP);
                let x = strip.input.as_ptr().add(start + k);
                for (p, acc) in acc.iter_mut().enumerate() {
                    let x = avx::_mm256_set1_ps(*x.add(p * strip.pixel_stride));
                    *acc = avx::_mm256_fmadd_ps(x, weights, *acc);
                }
            }
        }
    }
    for (p, acc) in acc.into_iter().enumerate() {
        store_floats(&strip.words[(first + p) * strip.stride..][..4], acc, strip.relu);
    }
}

/// Stores 8 channels, clamped at 0 or with one NaN for all CPUs.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn store_floats(words: &[AtomicU64], acc: avx::__m256, relu: bool) {
    let stored = if relu {
        let positive = avx::_mm256_cmp_ps::<{ avx::_CMP_GT_OQ }>(acc, avx::_mm256_setzero_ps());
        avx::_mm256_and_ps(acc, positive)
    } else {
        let nan = avx::_mm256_castsi256_ps(avx::_mm256_set1_epi32(0x7fc0_0000));
        avx::_mm256_blendv_ps(acc, nan, avx::_mm256_cmp_ps::<{ avx::_CMP_UNORD_Q }>(acc, acc))
    };
    store_pairs(words, avx::_mm256_castps_si256(stored));
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn load_i32(values: &[i32; GROUP]) -> avx::__m256i {
    // SAFETY: 8 values of 4 bytes.
    unsafe { avx::_mm256_loadu_si256(values.as_ptr().cast()) }
}

/// Stores 8 channels of 32 bits, two a word.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn store_pairs(words: &[AtomicU64], values: avx::__m256i) {
    let values = [
        avx::_mm256_extract_epi64::<0>(values),
        avx::_mm256_extract_epi64::<1>(values),
        avx::_mm256_extract_epi64::<2>(values),
        avx::_mm256_extract_epi64::<3>(values),
    ];
    for (word, value) in words.iter().zip(values) {
        word.store(value.cast_unsigned(), Relaxed);
    }
}
