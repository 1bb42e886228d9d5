//! Winograd of f16 blobs of the `avx2` kernel, `avx2_winograd16`: f32 arithmetic, and half precision emulated, bit for bit.
//!
//! ```text
//! row, f32   w = vcvtph2ps [k: o0 .. o7];  acc[p] = vfmadd(w, vbroadcastss x[p][k], acc[p])        12 tiles, 12 accumulators
//! row, f16   the same, with the fused step in f32 pieces:
//!            p = x * w              exact: 22 bits
//!            s = p + acc; e = the rest that s lacks (Knuth's two-sum, exact)
//!            s's last bit 1 where e is not 0 (rounding to odd), then vcvtps2ph rounds once more, and that is right
//! ```
//!
//! No AVX2 CPU multiplies in half precision: a blob of `winograd-f43-f16` is for other boards, and slow here.

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::x86_64 as avx;

use vgg_edge_blob::winograd::{TILE, WINDOW};
use vgg_edge_blob::winograd16::{BLOCK, BLOCKS};

use super::avx2::store_floats;
use super::{GROUP, Winograd16Input, Winograd16Output, Winograd16Row};

/// # Safety
/// The CPU has AVX2, FMA and F16C; the window is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn input_f32(window: &Winograd16Input<'_>, taps: &mut [f32]) {
    let store = |place: usize, tap| {
        // SAFETY: `check` found 8 places behind every tap and group.
        unsafe { avx::_mm256_storeu_ps(taps.as_mut_ptr().add(place), tap) };
    };
    // SAFETY: the caller's promise.
    unsafe { input(window, store) };
}

/// # Safety
/// As for [`input_f32`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn input_f16(window: &Winograd16Input<'_>, taps: &mut [u16]) {
    let store = |place: usize, tap| {
        // SAFETY: `check` found 8 places behind every tap and group.
        unsafe { avx::_mm_storeu_si128(taps.as_mut_ptr().add(place).cast(), to_half(tap)) };
    };
    // SAFETY: the caller's promise.
    unsafe { input(window, store) };
}

/// # Safety
/// As for [`input_f32`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn input(window: &Winograd16Input<'_>, mut store: impl FnMut(usize, avx::__m256)) {
    let scale = avx::_mm256_set1_ps(window.scale);
    for group in 0..window.channels / GROUP {
        let x = window.input.as_ptr().wrapping_add(group * GROUP);
        // Loops over indices: a `map` of so many registers is a function of its own.
        let mut columns = [[avx::_mm256_setzero_ps(); WINDOW]; WINDOW];
        for (taps, column) in columns.iter_mut().zip(window.columns) {
            let mut values = [avx::_mm256_setzero_ps(); WINDOW];
            for (value, row) in values.iter_mut().zip(window.rows) {
                // SAFETY: `check` found 8 values behind every row, column and group.
                *value = avx::_mm256_mul_ps(unsafe { avx::_mm256_loadu_ps(x.add(row + column)) }, scale);
            }
            *taps = to_taps(values);
        }
        let mut place = group * window.group_stride;
        for i in window.tap_rows.clone() {
            let c = &columns;
            for tap in to_taps([c[0][i], c[1][i], c[2][i], c[3][i], c[4][i], c[5][i]]) {
                store(place, tap);
                place += window.tap_stride;
            }
        }
    }
}

/// `B x`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn to_taps(x: [avx::__m256; WINDOW]) -> [avx::__m256; WINDOW] {
    let minus = |a: usize, b: usize| avx::_mm256_sub_ps(x[a], x[b]);
    let (even, odd) = (minus(4, 2), minus(3, 1));
    let half3 = avx::_mm256_set1_ps(1.5);
    let two = avx::_mm256_set1_ps(2.0);
    let plus = avx::_mm256_add_ps(even, odd);
    [
        avx::_mm256_fnmadd_ps(odd, half3, avx::_mm256_add_ps(minus(0, 2), even)),
        avx::_mm256_fnmadd_ps(avx::_mm256_add_ps(x[2], x[3]), half3, plus),
        avx::_mm256_fmadd_ps(minus(2, 3), half3, avx::_mm256_sub_ps(even, odd)),
        avx::_mm256_fmadd_ps(even, two, odd),
        avx::_mm256_fnmadd_ps(odd, two, even),
        avx::_mm256_fnmadd_ps(even, half3, avx::_mm256_sub_ps(minus(5, 3), odd)),
    ]
}

/// `A m`.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn from_taps(m: [avx::__m256; WINDOW]) -> [avx::__m256; TILE] {
    let add = |a, b| avx::_mm256_add_ps(a, b);
    let times = |a, b: f32, c| avx::_mm256_fmadd_ps(a, avx::_mm256_set1_ps(b), c);
    let (sum, difference) = (add(m[1], m[2]), avx::_mm256_sub_ps(m[1], m[2]));
    [
        add(add(m[0], sum), add(m[3], m[4])),
        times(m[4], -0.5, times(m[3], 2.0, difference)),
        times(m[4], 0.25, times(m[3], 4.0, sum)),
        add(times(m[4], -0.125, times(m[3], 8.0, difference)), m[5]),
    ]
}

/// Calls the function of the batch's own number of tiles.
macro_rules! by_tiles {
    ($tiles:ident, $row:expr, $sums:expr) => {
        match $row.n_tiles {
            1 => $tiles::<1>($row, $sums),
            2 => $tiles::<2>($row, $sums),
            3 => $tiles::<3>($row, $sums),
            4 => $tiles::<4>($row, $sums),
            5 => $tiles::<5>($row, $sums),
            6 => $tiles::<6>($row, $sums),
            7 => $tiles::<7>($row, $sums),
            8 => $tiles::<8>($row, $sums),
            9 => $tiles::<9>($row, $sums),
            10 => $tiles::<10>($row, $sums),
            11 => $tiles::<11>($row, $sums),
            _ => $tiles::<12>($row, $sums),
        }
    };
}

/// # Safety
/// The CPU has AVX2, FMA and F16C; the row is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn row_f32(row: &Winograd16Row<'_, f32>, sums: &mut [f32]) {
    // SAFETY: the caller's promise; each arm has the batch's own number of tiles.
    unsafe { by_tiles!(tiles_f32, row, sums) }
}

/// # Safety
/// As for [`row_f32`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn row_f16(row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
    // SAFETY: the caller's promise; each arm has the batch's own number of tiles.
    unsafe { by_tiles!(tiles_f16, row, sums) }
}

/// # Safety
/// The CPU has AVX2, FMA and F16C; the row is checked; `P` is its number of tiles.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tiles_f32<const P: usize>(row: &Winograd16Row<'_, f32>, sums: &mut [f32]) {
    let mut taps = [[avx::_mm256_setzero_ps(); P]; WINDOW];
    for (j, taps) in taps.iter_mut().enumerate() {
        // SAFETY: `check` found a row's values and weights.
        unsafe {
            let x = row.values.as_ptr().add(j * row.tap_stride);
            *taps = multiply_f32::<P>(x, row.weights.as_ptr().add(j * row.channels * GROUP), row.channels);
        }
    }
    columns(&taps, sums);
}

/// # Safety
/// As for [`tiles_f32`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tiles_f16<const P: usize>(row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
    let mut taps = [[avx::_mm256_setzero_ps(); P]; WINDOW];
    for (j, taps) in taps.iter_mut().enumerate() {
        // SAFETY: `check` found a row's values and weights.
        unsafe {
            let x = row.values.as_ptr().add(j * row.tap_stride);
            *taps = multiply_f16::<P>(x, row.weights.as_ptr().add(j * row.channels * GROUP), row.channels);
        }
    }
    columns(&taps, sums);
}

/// The row half of the output transform.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn columns<const P: usize>(taps: &[[avx::__m256; P]; WINDOW], sums: &mut [f32]) {
    let [t0, t1, t2, t3, t4, t5] = taps;
    for (p, &m0) in t0.iter().enumerate() {
        for (x, column) in from_taps([m0, t1[p], t2[p], t3[p], t4[p], t5[p]]).into_iter().enumerate() {
            let place = &mut sums[(x * P + p) * GROUP..][..GROUP];
            // SAFETY: 8 values.
            unsafe { avx::_mm256_storeu_ps(place.as_mut_ptr(), column) };
        }
    }
}

/// One tap of `P` tiles in f32.
///
/// # Safety
/// The CPU has AVX2, FMA and F16C; `channels * P` values at `x`, `channels * 8` weights at `w`; whole groups of channels.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply_f32<const P: usize>(
    mut x: *const f32,
    mut w: *const u16,
    channels: usize,
) -> [avx::__m256; P] {
    let mut acc = [avx::_mm256_setzero_ps(); P];
    for _ in 0..channels / GROUP {
        for k in 0..GROUP {
            // SAFETY: the caller's promise.
            unsafe {
                let weights = avx::_mm256_cvtph_ps(avx::_mm_loadu_si128(w.cast()));
                w = w.add(GROUP);
                for (p, acc) in acc.iter_mut().enumerate() {
                    *acc = avx::_mm256_fmadd_ps(avx::_mm256_set1_ps(*x.add(p * GROUP + k)), weights, *acc);
                }
            }
        }
        x = x.wrapping_add(P * GROUP);
    }
    acc
}

/// One tap of `P` tiles in half precision; sums in f32.
///
/// # Safety
/// As for [`multiply_f32`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply_f16<const P: usize>(
    mut x: *const u16,
    mut w: *const u16,
    channels: usize,
) -> [avx::__m256; P] {
    let minus_zero = avx::_mm256_set1_ps(-0.0);
    // Half-precision numbers as f32.
    let (mut block, mut group, mut sum) = ([minus_zero; P], [minus_zero; P], [minus_zero; P]);
    let mut values = [[0f32; GROUP]; P];
    for c in (0..channels).step_by(GROUP) {
        for (p, values) in values.iter_mut().enumerate() {
            // SAFETY: the caller's promise; 8 places.
            unsafe {
                let half = avx::_mm_loadu_si128(x.add(p * GROUP).cast());
                avx::_mm256_storeu_ps(values.as_mut_ptr(), avx::_mm256_cvtph_ps(half));
            }
        }
        x = x.wrapping_add(P * GROUP);
        for k in 0..GROUP {
            // SAFETY: the caller's promise.
            let weights = avx::_mm256_cvtph_ps(unsafe { avx::_mm_loadu_si128(w.cast()) });
            w = w.wrapping_add(GROUP);
            for (block, values) in block.iter_mut().zip(&values) {
                *block = fma_half(avx::_mm256_set1_ps(values[k]), weights, *block);
            }
        }
        let (end, last) = (c + GROUP, c + GROUP == channels);
        if end.is_multiple_of(BLOCK) || last {
            for (group, block) in group.iter_mut().zip(&mut block) {
                // -0 changes nothing, so that a group's first block is itself.
                *group = rounded(avx::_mm256_add_ps(*group, *block));
                *block = minus_zero;
            }
        }
        if end.is_multiple_of(BLOCK * BLOCKS) || last {
            for (sum, group) in sum.iter_mut().zip(&mut group) {
                *sum = avx::_mm256_add_ps(*sum, *group);
                *group = minus_zero;
            }
        }
    }
    sum
}

/// `x * w + acc` of half-precision numbers, rounded once to half precision.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn fma_half(x: avx::__m256, w: avx::__m256, acc: avx::__m256) -> avx::__m256 {
    let product = avx::_mm256_mul_ps(x, w);
    let sum = avx::_mm256_add_ps(product, acc);
    let part = avx::_mm256_sub_ps(sum, product);
    let rest = avx::_mm256_sub_ps(product, avx::_mm256_sub_ps(sum, part));
    let rest = avx::_mm256_add_ps(rest, avx::_mm256_sub_ps(acc, part));
    // A rest that is NaN belongs to an infinite sum, which stays.
    let inexact = avx::_mm256_cmp_ps::<{ avx::_CMP_NEQ_OQ }>(rest, avx::_mm256_setzero_ps());
    let bits = avx::_mm256_castps_si256(sum);
    let even = avx::_mm256_andnot_si256(bits, avx::_mm256_set1_epi32(1));
    // To the odd neighbour on the side of the rest: 1 away from 0 when its sign is the sum's, else 1 towards 0.
    let other_side = avx::_mm256_castps_si256(avx::_mm256_xor_ps(rest, sum));
    let direction = avx::_mm256_or_si256(avx::_mm256_srai_epi32::<31>(other_side), avx::_mm256_set1_epi32(1));
    let step = avx::_mm256_and_si256(avx::_mm256_castps_si256(inexact), direction);
    let step = avx::_mm256_sign_epi32(step, even);
    rounded(avx::_mm256_castsi256_ps(avx::_mm256_add_epi32(bits, step)))
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn to_half(x: avx::__m256) -> avx::__m128i {
    avx::_mm256_cvtps_ph::<{ avx::_MM_FROUND_TO_NEAREST_INT }>(x)
}

/// Rounded to half precision.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rounded(x: avx::__m256) -> avx::__m256 {
    avx::_mm256_cvtph_ps(to_half(x))
}

/// # Safety
/// The CPU has AVX2, FMA and F16C; the tile is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn output(tile: &Winograd16Output<'_>) {
    // SAFETY: 8 values.
    let bias = unsafe { avx::_mm256_loadu_ps(tile.bias.as_ptr()) };
    let scale = avx::_mm256_set1_ps(tile.scale);
    for x in 0..tile.n_columns {
        let mut m = [avx::_mm256_setzero_ps(); WINDOW];
        for (i, m) in m.iter_mut().enumerate() {
            let place = tile.sums.as_ptr().wrapping_add((i * TILE + x) * tile.column_stride);
            // SAFETY: `check` found 8 sums behind every column of every row of taps.
            *m = unsafe { avx::_mm256_loadu_ps(place) };
        }
        for (y, sum) in from_taps(m).into_iter().enumerate().take(tile.n_rows) {
            let acc = avx::_mm256_fmadd_ps(sum, scale, bias);
            let place = y * tile.row_stride + x * tile.pixel_stride;
            store_floats(&tile.words[place..][..GROUP / 2], acc, tile.relu);
        }
    }
}
