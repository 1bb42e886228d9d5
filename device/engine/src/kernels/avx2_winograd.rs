//! Winograd F(4x4,3x3) of the `avx2` kernel, `avx2_winograd`: transforms and multiplications.
//!
//! ```text
//! input    8 channels of a window as i16, adds and shifts only
//! row      w = [o0 k0 k1 | o1 k0 k1 | .. | o7 k0 k1]     two channels of [k][8 outputs], interleaved
//!          x = [tile p: k0 k1, eight times]              vpbroadcastd
//!          vpmaddwd t, w, x; vpaddd acc[p], acc[p], t    t = o0 .. o7, i32, exact modulo 2^32
//!          the 6 sums of a row, transformed at once
//! output   8 channels at a time
//! ```
//!
//! 12 tiles are 12 accumulators of 16 registers.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::x86_64 as avx;
use core::sync::atomic::Ordering::Relaxed;

use vgg_edge_blob::winograd::{BIAS_TAP, INVERSE_OF_9, SCALE, TILE, WINDOW};

use super::avx2::{load_i32, requantized};
use super::{GROUP, WinogradInput, WinogradOutput, WinogradRow};

/// # Safety
/// The CPU has AVX2; the window is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn input(window: &WinogradInput<'_>, taps: &mut [i16]) {
    for group in 0..window.channels / GROUP {
        let x = window.input.as_ptr().wrapping_add(group * GROUP);
        // Loops over indices: a `map` of so many registers is a function of its own.
        let mut columns = [[avx::_mm_setzero_si128(); WINDOW]; WINDOW];
        for (taps, column) in columns.iter_mut().zip(window.columns) {
            let mut values = [avx::_mm_setzero_si128(); WINDOW];
            for (value, row) in values.iter_mut().zip(window.rows) {
                // SAFETY: `check` found 8 values behind every row, column and group.
                *value = avx::_mm_cvtepi8_epi16(unsafe { avx::_mm_loadl_epi64(x.add(row + column).cast()) });
            }
            *taps = to_taps(values);
        }
        let mut place = taps.as_mut_ptr().wrapping_add(group * window.group_stride);
        for i in window.tap_rows.clone() {
            let c = &columns;
            for value in to_taps([c[0][i], c[1][i], c[2][i], c[3][i], c[4][i], c[5][i]]) {
                // SAFETY: `check` found 8 places behind every tap and group.
                unsafe { avx::_mm_storeu_si128(place.cast(), value) };
                place = place.wrapping_add(window.tap_stride);
            }
        }
    }
}

/// `B x`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn to_taps(x: [avx::__m128i; WINDOW]) -> [avx::__m128i; WINDOW] {
    let (even, odd) = (avx::_mm_sub_epi16(x[4], x[2]), avx::_mm_sub_epi16(x[3], x[1]));
    let even4 = avx::_mm_sub_epi16(avx::_mm_slli_epi16::<2>(x[2]), x[4]);
    let odd4 = avx::_mm_sub_epi16(avx::_mm_slli_epi16::<2>(x[1]), x[3]);
    let odd2 = avx::_mm_slli_epi16::<1>(odd);
    [
        avx::_mm_add_epi16(avx::_mm_slli_epi16::<2>(avx::_mm_sub_epi16(x[0], x[2])), even),
        avx::_mm_add_epi16(odd4, even4),
        avx::_mm_sub_epi16(odd4, even4),
        avx::_mm_add_epi16(even, odd2),
        avx::_mm_sub_epi16(even, odd2),
        avx::_mm_sub_epi16(avx::_mm_sub_epi16(x[5], x[3]), avx::_mm_slli_epi16::<2>(odd)),
    ]
}

/// # Safety
/// The CPU has AVX2; the row is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn row(row: &WinogradRow<'_>, sums: &mut [i32]) {
    // SAFETY: the caller's promise; each arm has the batch's own number of tiles.
    unsafe {
        match row.n_tiles {
            1 => tiles::<1>(row, sums),
            2 => tiles::<2>(row, sums),
            3 => tiles::<3>(row, sums),
            4 => tiles::<4>(row, sums),
            5 => tiles::<5>(row, sums),
            6 => tiles::<6>(row, sums),
            7 => tiles::<7>(row, sums),
            8 => tiles::<8>(row, sums),
            9 => tiles::<9>(row, sums),
            10 => tiles::<10>(row, sums),
            11 => tiles::<11>(row, sums),
            _ => tiles::<12>(row, sums),
        }
    }
}

/// A row of `P` tiles.
///
/// # Safety
/// The CPU has AVX2; the row is checked; `P` is its number of tiles.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tiles<const P: usize>(row: &WinogradRow<'_>, sums: &mut [i32]) {
    let mut taps = [[avx::_mm256_setzero_si256(); P]; WINDOW];
    for (j, taps) in taps.iter_mut().enumerate() {
        // SAFETY: `check` found a row's values and weights.
        unsafe {
            let x = row.values.as_ptr().add(j * row.tap_stride);
            let w = row.weights.as_ptr().add(j * row.channels * GROUP);
            *taps = multiply::<P>(x, w, row.channels);
        }
    }
    columns(&taps, sums);
}

/// Transforms the sums of a row of taps of `P` tiles, a column after the other.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn columns<const P: usize>(taps: &[[avx::__m256i; P]; WINDOW], sums: &mut [i32]) {
    let [t0, t1, t2, t3, t4, t5] = taps;
    for (p, &m0) in t0.iter().enumerate() {
        for (x, column) in from_taps([m0, t1[p], t2[p], t3[p], t4[p], t5[p]]).into_iter().enumerate() {
            let place = &mut sums[(x * P + p) * GROUP..][..GROUP];
            // SAFETY: 8 places.
            unsafe { avx::_mm256_storeu_si256(place.as_mut_ptr().cast(), column) };
        }
    }
}

/// One tap of `P` tiles: 8 sums a tile.
///
/// # Safety
/// The CPU has AVX2; `channels * P` values at `x`, in whole groups of 8, `channels * 8` weights at `w`; `channels` is
/// a multiple of 4.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply<const P: usize>(
    mut x: *const i16,
    mut w: *const i16,
    channels: usize,
) -> [avx::__m256i; P] {
    let mut acc = [avx::_mm256_setzero_si256(); P];
    for left in (1..=channels).rev().step_by(GROUP) {
        for k in (0..left.min(GROUP)).step_by(2) {
            // SAFETY: the caller's promise.
            unsafe {
                let weights = pairs(avx::_mm256_loadu_si256(w.cast()));
                w = w.add(2 * GROUP);
                for (p, acc) in acc.iter_mut().enumerate() {
                    let pair = x.add(p * GROUP + k).cast::<i32>().read_unaligned();
                    let products = avx::_mm256_madd_epi16(weights, avx::_mm256_set1_epi32(pair));
                    *acc = avx::_mm256_add_epi32(*acc, products);
                }
            }
        }
        x = x.wrapping_add(P * GROUP);
    }
    acc
}

/// `[2 channels][8 outputs]` to `[8 outputs][2 channels]`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn pairs(weights: avx::__m256i) -> avx::__m256i {
    let interleave = avx::_mm256_broadcastsi128_si256(avx::_mm_setr_epi8(
        0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15,
    ));
    // [k: o0..3 | k+1: o0..3 | k: o4..7 | k+1: o4..7], then pairs.
    avx::_mm256_shuffle_epi8(avx::_mm256_permute4x64_epi64::<0b11_01_10_00>(weights), interleave)
}

/// # Safety
/// The CPU has AVX2; the tile is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn output(tile: &WinogradOutput<'_>) {
    let inverse = avx::_mm256_set1_epi32(INVERSE_OF_9);
    let start = avx::_mm256_mullo_epi32(load_i32(tile.bias), avx::_mm256_set1_epi32(SCALE));
    for x in 0..tile.n_columns {
        let mut m = [avx::_mm256_setzero_si256(); WINDOW];
        for (i, m) in m.iter_mut().enumerate() {
            let place = x / TILE * GROUP + (i * TILE + x % TILE) * tile.column_stride;
            let place = tile.sums.as_ptr().wrapping_add(place);
            // SAFETY: `check` found 8 sums behind every column of every row of taps.
            *m = unsafe { avx::_mm256_loadu_si256(place.cast()) };
        }
        m[BIAS_TAP / WINDOW] = avx::_mm256_add_epi32(m[BIAS_TAP / WINDOW], start);
        for (y, sum) in from_taps(m).into_iter().enumerate().take(tile.n_rows) {
            let acc = avx::_mm256_srai_epi32::<6>(avx::_mm256_mullo_epi32(sum, inverse));
            let place = y * tile.row_stride + x * tile.pixel_stride;
            tile.words[place].store(requantized(acc, &tile.requant), Relaxed);
        }
    }
}

/// `A m`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn from_taps(m: [avx::__m256i; WINDOW]) -> [avx::__m256i; TILE] {
    let (a, b) = (avx::_mm256_add_epi32(m[1], m[2]), avx::_mm256_sub_epi32(m[1], m[2]));
    let c = avx::_mm256_add_epi32(m[3], m[4]);
    let d2 = avx::_mm256_slli_epi32::<1>(avx::_mm256_sub_epi32(m[3], m[4]));
    [
        avx::_mm256_add_epi32(avx::_mm256_add_epi32(m[0], a), c),
        avx::_mm256_add_epi32(b, d2),
        avx::_mm256_add_epi32(a, avx::_mm256_slli_epi32::<2>(c)),
        avx::_mm256_add_epi32(b, avx::_mm256_slli_epi32::<2>(avx::_mm256_add_epi32(d2, m[5]))),
    ]
}
