//! Filters to taps of exact Winograd, for the `avx2` kernel and the row above it, `avx2_winograd_filters`.
//!
//! ```text
//! |o0 k0..3|o1 k0..3| .. |o7 k0..3|  vpshufb, vpermd, vpmovsxbw  ─►  |k0: o0..7|k1: o0..7|, |k2: o0..7|k3: o0..7|   i16
//! down   a column of the filter to the rows of taps that are wanted      along   three columns to 6 taps, 64 bytes each
//! ```

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::x86_64 as avx;

use vgg_edge_blob::winograd::WINDOW;

use super::{GROUP, WinogradFilters};

/// Channels of a load.
const TOGETHER: usize = 4;
/// Two channels of 8 outputs, twice.
type Lanes = [avx::__m256i; 2];

/// # Safety
/// The CPU has AVX2; the filters are checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn filters(filters: &WinogradFilters<'_>, weights: &mut [i16]) {
    let channels = filters.channels;
    for (n, row) in filters.tap_rows.clone().enumerate() {
        let place = weights.as_mut_ptr().wrapping_add(n * WINDOW * channels * GROUP);
        // SAFETY: the caller's promise; the filters' rows of taps are within `0..6`.
        unsafe {
            match row {
                0 => one_row::<0>(filters, place),
                1 => one_row::<1>(filters, place),
                2 => one_row::<2>(filters, place),
                3 => one_row::<3>(filters, place),
                4 => one_row::<4>(filters, place),
                _ => one_row::<5>(filters, place),
            }
        }
    }
}

/// Row `I` of the taps.
///
/// # Safety
/// The CPU has AVX2; the filters are checked; `place` has room for a row of taps.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn one_row<const I: usize>(filters: &WinogradFilters<'_>, place: *mut i16) {
    let channels = filters.channels;
    for channel in (0..channels).step_by(TOGETHER) {
        let mut row = [[avx::_mm256_setzero_si256(); 2]; 3];
        for (x, row) in row.iter_mut().enumerate() {
            // SAFETY: `check` found the filters of all channels.
            let at = |y: usize| unsafe { load(filters, y, x, channel) };
            *row = match I {
                0 => at(0).map(|a| six(a)),
                5 => at(2).map(|c| six(c)),
                _ => {
                    let ([a0, a1], [b0, b1], [c0, c1]) = (at(0), at(1), at(2));
                    [down::<I>(a0, b0, c0), down::<I>(a1, b1, c1)]
                }
            };
        }
        let [a, b, c] = row;
        for half in 0..2 {
            let taps = along(a[half], b[half], c[half]);
            for (tap, value) in taps.into_iter().enumerate() {
                let at = (tap * channels + channel + 2 * half) * GROUP;
                // SAFETY: the caller's promise.
                unsafe { avx::_mm256_storeu_si256(place.add(at).cast(), value) };
            }
        }
    }
}

/// The weights of 4 channels and 8 outputs at row `y` and column `x`.
///
/// # Safety
/// The CPU has AVX2; the filters are checked, `y` and `x` are below 3, `channel` is a multiple of 4 and one of theirs.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn load(filters: &WinogradFilters<'_>, y: usize, x: usize, channel: usize) -> Lanes {
    let at = ((3 * y + x) * filters.channels + channel) * GROUP;
    // SAFETY: 4 channels of 8 outputs are 32 values, which `check` found.
    let values = unsafe { avx::_mm256_loadu_si256(filters.filters.as_ptr().add(at).cast()) };
    let by_channel = avx::_mm256_broadcastsi128_si256(avx::_mm_setr_epi8(
        0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
    ));
    // [k0: o0..3 | k1: o0..3 | k2.. | k3.. | k0: o4..7 | ..], then both halves of a channel together.
    let channels = avx::_mm256_shuffle_epi8(values, by_channel);
    let channels = avx::_mm256_permutevar8x32_epi32(channels, avx::_mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    [
        avx::_mm256_cvtepi8_epi16(avx::_mm256_castsi256_si128(channels)),
        avx::_mm256_cvtepi8_epi16(avx::_mm256_extracti128_si256::<1>(channels)),
    ]
}

/// Row `I`, 1 to 4, of `G w`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn down<const I: usize>(a: avx::__m256i, b: avx::__m256i, c: avx::__m256i) -> avx::__m256i {
    let [_, plus, minus, even_plus, even_minus, _] = along(a, b, c);
    match I {
        1 => plus,
        2 => minus,
        3 => even_plus,
        _ => even_minus,
    }
}

/// `G w`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn along(a: avx::__m256i, b: avx::__m256i, c: avx::__m256i) -> [avx::__m256i; WINDOW] {
    let sum = avx::_mm256_add_epi16(a, c);
    let even = avx::_mm256_add_epi16(a, avx::_mm256_slli_epi16::<2>(c));
    let odd = avx::_mm256_add_epi16(b, b);
    [
        six(a),
        avx::_mm256_slli_epi16::<2>(avx::_mm256_add_epi16(b, sum)),
        avx::_mm256_slli_epi16::<2>(avx::_mm256_sub_epi16(b, sum)),
        avx::_mm256_add_epi16(even, odd),
        avx::_mm256_sub_epi16(even, odd),
        six(c),
    ]
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn six(x: avx::__m256i) -> avx::__m256i {
    avx::_mm256_add_epi16(avx::_mm256_slli_epi16::<2>(x), avx::_mm256_slli_epi16::<1>(x))
}
