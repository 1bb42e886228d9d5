//! Requantized Winograd of the `avx2` kernel, `avx2_winograd8`: transforms and multiplications, both forms.
//!
//! ```text
//! input    16 channels as i16: B over the rows of every column of the run, B over the columns of every tile;
//!          vpmulhrsw rounds as the specification does, vpacksswb saturates
//! row      64 channels of values widened to i16 once; 4 channels of weights, two vpmovsxbw, two vshufps:
//!          w = [o0 k01 | o1 k01 | o4 k01 | o5 k01 | o2 k01 | o3 k01 | o6 k01 | o7 k01]    and the same of k23
//!          x = [tile p: k01, eight times]                 vpbroadcastd
//!          vpmaddwd t, w, x; vpaddd acc[p], acc[p], t     i32, exact modulo 2^32: nothing saturates
//!          sums in order, times their scales, then A
//! output   8 channels at a time
//! ```
//!
//! 12 tiles are 12 accumulators of 16 registers. `N` is the form's window, 4 or 6: F(2x2,3x3) or F(4x4,3x3).

#![allow(unsafe_code)] // vector instructions and their loads

use core::arch::x86_64 as avx;
use core::sync::atomic::Ordering::Relaxed;

use vgg_edge_blob::winograd8::{Form, MAX_TILE};

use super::avx2::{load_i32, rdmulh32, requantized};
use super::{GROUP, MAX_BATCH, Winograd8Input, Winograd8Output, Winograd8Row};

/// Most columns of a run.
const MAX_COLUMNS: usize = MAX_BATCH * MAX_TILE + 2;
/// Channels of values that are widened at a time.
const CHANNELS_AT_A_TIME: usize = 64;

/// # Safety
/// The CPU has AVX2; the run is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn input(run: &Winograd8Input<'_>, taps: &mut [i8]) {
    // SAFETY: the caller's promise. A longer run, which no batch has, goes in parts.
    unsafe {
        match run.form {
            Form::F23 => parts::<4>(run, taps),
            Form::F43 => parts::<6>(run, taps),
        }
    }
}

/// # Safety
/// As for [`input`], with the form's window.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn parts<const N: usize>(run: &Winograd8Input<'_>, taps: &mut [i8]) {
    let tile = N - 2;
    for first in (0..run.n_tiles()).step_by(MAX_BATCH) {
        let n = (run.n_tiles() - first).min(MAX_BATCH);
        let columns = &run.columns[first * tile..][..n * tile + 2];
        for channel in (0..run.channels).step_by(2 * GROUP) {
            // SAFETY: the caller's promise; columns, tiles and channels are the run's.
            unsafe { windows::<N>(run, columns, (first, n), channel, taps) };
        }
    }
}

/// 16 channels, or the last 8, of `n` tiles from `first` on.
///
/// # Safety
/// As for [`parts`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn windows<const N: usize>(
    run: &Winograd8Input<'_>,
    columns: &[usize],
    (first, n): (usize, usize),
    channel: usize,
    taps: &mut [i8],
) {
    let is_wide = run.channels - channel > GROUP;
    let mut halves = [[avx::_mm256_setzero_si256(); N]; MAX_COLUMNS];
    for (half, column) in halves.iter_mut().zip(columns) {
        let mut x = [avx::_mm256_setzero_si256(); N];
        for (x, row) in x.iter_mut().zip(run.rows) {
            let place = run.input.as_ptr().wrapping_add(row + column + channel);
            // SAFETY: `check` found the run's channels behind every row and column: 16 more, or 8.
            let bytes = unsafe {
                if is_wide { avx::_mm_loadu_si128(place.cast()) } else { avx::_mm_loadl_epi64(place.cast()) }
            };
            *x = avx::_mm256_cvtepi8_epi16(bytes);
        }
        *half = to_taps(x);
    }
    let load = |values: &[i16], at: usize| {
        let place = values.as_ptr().wrapping_add(at);
        // SAFETY: `check` found the run's channels behind every tap's and the offsets' place.
        unsafe {
            if is_wide {
                avx::_mm256_loadu_si256(place.cast())
            } else {
                avx::_mm256_castsi128_si256(avx::_mm_loadu_si128(place.cast()))
            }
        }
    };
    let offsets = load(run.offsets, channel);
    for (nth, i) in run.tap_rows.clone().enumerate() {
        let mut multipliers = [avx::_mm256_setzero_si256(); N];
        for (j, multiplier) in multipliers.iter_mut().enumerate() {
            *multiplier = load(run.multipliers, (i * N + j) * run.multiplier_stride + channel);
        }
        for p in 0..n {
            let mut half = [avx::_mm256_setzero_si256(); N];
            for (half, column) in half.iter_mut().zip(&halves[p * (N - 2)..]) {
                *half = column[i];
            }
            let group = channel / GROUP * run.group_stride + (first + p) * GROUP;
            for (j, (tap, multiplier)) in to_taps(half).into_iter().zip(multipliers).enumerate() {
                let mut tap = avx::_mm256_mulhrs_epi16(tap, multiplier);
                if i == 1 && j == 1 {
                    tap = avx::_mm256_adds_epi16(tap, offsets);
                }
                let bytes = avx::_mm256_packs_epi16(tap, tap);
                let place = taps.as_mut_ptr().wrapping_add((nth * N + j) * run.tap_stride + group);
                // SAFETY: `check` found 8 places behind every tap, tile and group.
                unsafe {
                    avx::_mm_storel_epi64(place.cast(), avx::_mm256_castsi256_si128(bytes));
                    if is_wide {
                        let place = place.add(run.group_stride);
                        avx::_mm_storel_epi64(place.cast(), avx::_mm256_extracti128_si256::<1>(bytes));
                    }
                }
            }
        }
    }
}

/// `B x`, modulo 2^16.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn to_taps<const N: usize>(x: [avx::__m256i; N]) -> [avx::__m256i; N] {
    let add = |a, b| avx::_mm256_add_epi16(a, b);
    let sub = |a, b| avx::_mm256_sub_epi16(a, b);
    let mut taps = x;
    if N == 4 {
        taps[0] = sub(x[0], x[2]);
        taps[1] = add(x[1], x[2]);
        taps[2] = sub(x[2], x[1]);
        taps[3] = sub(x[3], x[1]);
    } else {
        let (d, e) = (sub(x[1], x[3]), sub(x[4], x[2]));
        let (d2, e2) = (add(d, d), add(e, e));
        let triple = |a| add(a, add(a, a));
        let twice = |a| add(a, a);
        // 2 (x0 - x2) + 3 d + 2 e; 2 (e - d) - 3 (x2 + x3); 2 (d + e) + 3 (x2 - x3); and so on.
        taps[0] = add(add(twice(sub(x[0], x[2])), add(d, d2)), e2);
        taps[1] = sub(sub(e2, d2), triple(add(x[2], x[3])));
        taps[2] = add(add(d2, e2), triple(sub(x[2], x[3])));
        taps[3] = sub(e2, d);
        taps[4] = add(d2, e);
        taps[5] = sub(add(twice(sub(x[5], x[3])), d2), add(e, e2));
    }
    taps
}

/// # Safety
/// The CPU has AVX2; the row is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn row(row: &Winograd8Row<'_>, sums: &mut [i32]) {
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
unsafe fn tiles<const P: usize>(row: &Winograd8Row<'_>, sums: &mut [i32]) {
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
    columns(row.form, &taps, sums);
}

/// Transforms the scaled sums of a row of taps of `P` tiles: `(A M')'`, a column after the other.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
pub(super) fn columns<const P: usize>(form: Form, taps: &[[avx::__m256i; P]; 6], sums: &mut [i32]) {
    let [t0, t1, t2, t3, t4, t5] = taps;
    let mut store = |x: usize, p: usize, column| {
        let place = &mut sums[(x * P + p) * GROUP..][..GROUP];
        // SAFETY: 8 places.
        unsafe { avx::_mm256_storeu_si256(place.as_mut_ptr().cast(), column) };
    };
    for p in 0..P {
        match form {
            Form::F23 => {
                for (x, column) in from_taps([t0[p], t1[p], t2[p], t3[p]]).into_iter().take(2).enumerate() {
                    store(x, p, column);
                }
            }
            Form::F43 => {
                let columns = from_taps([t0[p], t1[p], t2[p], t3[p], t4[p], t5[p]]);
                for (x, column) in columns.into_iter().enumerate() {
                    store(x, p, column);
                }
            }
        }
    }
}

/// One tap of `P` tiles: 8 sums a tile.
///
/// # Safety
/// The CPU has AVX2; `channels * P` values at `x`, `channels * 8` weights at `w`; `channels` is a multiple of 8.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)] // the registers are the batch's own
unsafe fn multiply<const P: usize>(mut x: *const i8, mut w: *const i8, channels: usize) -> [avx::__m256i; P] {
    let mut acc = [avx::_mm256_setzero_si256(); P];
    let mut wide = [[[0i16; GROUP]; P]; CHANNELS_AT_A_TIME / GROUP];
    for first in (0..channels).step_by(CHANNELS_AT_A_TIME) {
        let n_groups = (channels - first).min(CHANNELS_AT_A_TIME) / GROUP;
        for group in &mut wide[..n_groups] {
            for values in group {
                // SAFETY: the caller's promise: 8 values a tile and group; 8 places.
                unsafe {
                    let bytes = avx::_mm_loadl_epi64(x.cast());
                    avx::_mm_storeu_si128(values.as_mut_ptr().cast(), avx::_mm_cvtepi8_epi16(bytes));
                    x = x.add(GROUP);
                }
            }
        }
        for group in &wide[..n_groups] {
            for k in [0, 4] {
                // SAFETY: the caller's promise: 32 weights for 4 channels; pairs are inside 8 values.
                unsafe {
                    // [o0 k01 | o0 k23 | o1 k01 | o1 k23 || o2 .. | o3 ..], and o4 to o7.
                    let low = avx::_mm256_cvtepi8_epi16(avx::_mm_loadu_si128(w.cast()));
                    let high = avx::_mm256_cvtepi8_epi16(avx::_mm_loadu_si128(w.add(16).cast()));
                    w = w.add(4 * GROUP);
                    let (low, high) = (avx::_mm256_castsi256_ps(low), avx::_mm256_castsi256_ps(high));
                    let w01 = avx::_mm256_castps_si256(avx::_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
                    let w23 = avx::_mm256_castps_si256(avx::_mm256_shuffle_ps::<0b11_01_11_01>(low, high));
                    for (acc, values) in acc.iter_mut().zip(group) {
                        let pairs = values.as_ptr().add(k).cast::<i32>();
                        let x01 = avx::_mm256_set1_epi32(pairs.read_unaligned());
                        let x23 = avx::_mm256_set1_epi32(pairs.add(1).read_unaligned());
                        *acc = avx::_mm256_add_epi32(*acc, avx::_mm256_madd_epi16(w01, x01));
                        *acc = avx::_mm256_add_epi32(*acc, avx::_mm256_madd_epi16(w23, x23));
                    }
                }
            }
        }
    }
    let in_order = avx::_mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
    for acc in &mut acc {
        *acc = avx::_mm256_permutevar8x32_epi32(*acc, in_order);
    }
    acc
}

/// # Safety
/// The CPU has AVX2; the run is checked.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn output(run: &Winograd8Output<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match run.form {
            Form::F23 => pixels::<4>(run),
            Form::F43 => pixels::<6>(run),
        }
    }
}

/// # Safety
/// As for [`output`], with the form's window.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn pixels<const N: usize>(run: &Winograd8Output<'_>) {
    let (bias, tile) = (load_i32(run.bias), N - 2);
    for x in 0..run.n_columns {
        let first = x % tile * run.column_stride + x / tile * GROUP;
        let mut m = [avx::_mm256_setzero_si256(); N];
        for (i, m) in m.iter_mut().enumerate() {
            let place = run.sums.as_ptr().wrapping_add(i * tile * run.column_stride + first);
            // SAFETY: `check` found 8 sums behind every column of every row of taps of every tile.
            *m = unsafe { avx::_mm256_loadu_si256(place.cast()) };
        }
        m[1] = avx::_mm256_add_epi32(m[1], bias);
        for (y, sum) in from_taps(m).into_iter().enumerate().take(run.n_rows) {
            let word = &run.words[y * run.row_stride + x * run.pixel_stride];
            word.store(requantized(sum, &run.requant), Relaxed);
        }
    }
}

/// `A m`, modulo 2^32: as many values as the form's tile has, then zeros.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn from_taps<const N: usize>(m: [avx::__m256i; N]) -> [avx::__m256i; MAX_TILE] {
    let add = |a, b| avx::_mm256_add_epi32(a, b);
    let (sum, difference) = (add(m[1], m[2]), avx::_mm256_sub_epi32(m[1], m[2]));
    if N == 4 {
        let zero = avx::_mm256_setzero_si256();
        return [add(m[0], sum), add(difference, m[3]), zero, zero];
    }
    let (m4x2, m3x2) = (avx::_mm256_slli_epi32::<1>(m[4]), avx::_mm256_slli_epi32::<1>(m[3]));
    [
        add(add(add(m[0], sum), m[3]), avx::_mm256_slli_epi32::<2>(m4x2)),
        add(difference, avx::_mm256_sub_epi32(m3x2, avx::_mm256_slli_epi32::<1>(m4x2))),
        add(sum, add(avx::_mm256_slli_epi32::<1>(m3x2), m4x2)),
        add(add(difference, m[N - 1]), avx::_mm256_sub_epi32(avx::_mm256_slli_epi32::<2>(m3x2), m[4])),
    ]
}
