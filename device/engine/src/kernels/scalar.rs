//! The `scalar` kernel, `generic-s8-scalar`: the specification, in safe and portable code.
//!
//! ```text
//! acc[p][o] = bias[o] + sum over r, k of input[p * pixel_stride + r * run_stride + k] * w(r, k, o)
//! w(r, k, o) = weights[r * run_len * 8 + (k / 4) * 32 + o * 4 + k % 4]     int8
//! w(r, k, o) = weights[(r * run_len + k) * 8 + o]                          f16
//! acc[o] = bias[o] + sum over blocks of scale[o] * (sum over its 64 inputs of input[k] * weight(k, o))     int4
//!
//! acc[p][o] = bias[o] + sum over r, t, b, k of input[r * row_stride + b * block_stride + (p + t) * 8 + k] * w(r, t, b, o, k)
//! w(r, t, b, o, k) = weights[((r * n_columns + t) * n_blocks + b) * 64 + o * 8 + k]                         int8, blocks
//!
//! weights[i][j][c][o] = (G w(c, o) G')[i][j], w(c, o)[y][x] = filters[((3 y + x) * channels + c / 4 * 4) * 8 + o * 4 + c % 4]
//! taps[i][j] = (B x B')[i][j]      sums[i][x] = sum over j, c of A[x][j] * values[i][j][c] * weights[i][j][c]
//! pixel[y][x] = requantize(exact(sum over i of A[y][i] * (sums[i][x] + start(bias) if i = 1)))            Winograd
//! ```

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use half::f16;
use vgg_edge_blob::int4::INPUTS;
use vgg_edge_blob::requant::requantize;
use vgg_edge_blob::winograd::{BIAS_TAP, TILE, WINDOW, exact, start, transform};

use super::{
    CUT_TAPS, F16Strip, GROUP, Kernel, S4Strip, S8Blocks, S8Output, S8Strip, WinogradFilters, WinogradInput,
    WinogradOutput, WinogradRow,
};

pub(super) const NAME: &str = "generic-s8-scalar";
pub(super) const KERNEL: &dyn Kernel = &Scalar;

pub(super) fn detect() -> Option<&'static dyn Kernel> {
    Some(KERNEL)
}

#[derive(Debug)]
struct Scalar;

impl Kernel for Scalar {
    fn name(&self) -> &'static str {
        NAME
    }

    fn has_fast_picture_tiles(&self) -> bool {
        true
    }

    fn has_cut_tiles(&self) -> bool {
        true
    }

    fn s8(&self, strip: &S8Strip<'_>, out: S8Output<'_>) {
        strip.check(&out);
        for p in 0..strip.n_pixels {
            let mut acc = *strip.bias;
            for r in 0..strip.n_runs {
                let x = &strip.input[p * strip.pixel_stride + r * strip.run_stride..][..strip.run_len];
                let w = &strip.weights[r * strip.run_len * GROUP..][..strip.run_len * GROUP];
                add_run(&mut acc, x, w);
            }
            store_sums(p, acc, &out);
        }
    }

    fn f16(&self, strip: &F16Strip<'_>) {
        strip.check();
        for p in 0..strip.n_pixels {
            let mut acc = *strip.bias;
            for r in 0..strip.n_runs {
                let x = &strip.input[p * strip.pixel_stride + r * strip.run_stride..][..strip.run_len];
                let w = &strip.weights[r * strip.run_len * GROUP..][..strip.run_len * GROUP];
                for (&x, w) in x.iter().zip(w.as_chunks::<GROUP>().0) {
                    for (acc, &w) in acc.iter_mut().zip(w) {
                        *acc = fma(x, f16::from_bits(w).to_f32(), *acc);
                    }
                }
            }
            store_pairs(&strip.words[p * strip.stride..], acc.map(|a| finish(a, strip.relu)));
        }
    }

    fn winograd_input(&self, window: &WinogradInput<'_>, taps: &mut [i16]) {
        window.check(taps);
        for c in 0..window.channels {
            let columns = window.columns.map(|column| {
                let values = window.rows.map(|row| i16::from(window.input[row + column + c]));
                if window.cut.short { to_cut_taps(values) } else { to_taps(values) }
            });
            let place = c / GROUP * window.group_stride + c % GROUP;
            for (tap_row, i) in window.tap_rows.clone().enumerate() {
                if window.cut.short && CUT_TAPS.contains(&i) {
                    continue;
                }
                let row = columns.map(|column| column[i]);
                let row = if window.cut.narrow { to_cut_taps(row) } else { to_taps(row) };
                for (j, value) in row.into_iter().enumerate() {
                    if window.cut.narrow && CUT_TAPS.contains(&j) {
                        continue;
                    }
                    taps[(tap_row * WINDOW + j) * window.tap_stride + place] = value;
                }
            }
        }
    }

    fn winograd_row(&self, row: &WinogradRow<'_>, sums: &mut [i32]) {
        row.check(sums);
        for (p, o) in (0..row.n_tiles).flat_map(|p| (0..GROUP).map(move |o| (p, o))) {
            let taps = core::array::from_fn(|j| {
                if row.narrow && CUT_TAPS.contains(&j) {
                    return 0;
                }
                let product = |c: usize| {
                    let place = (c / GROUP * row.n_tiles + p) * GROUP + c % GROUP;
                    let weight = row.weights[(j * row.channels + c) * GROUP + o];
                    i32::from(row.values[j * row.tap_stride + place]) * i32::from(weight)
                };
                (0..row.channels).fold(0, |sum: i32, c| sum.wrapping_add(product(c)))
            });
            let columns = if row.narrow { from_cut_taps(taps) } else { from_taps(taps) };
            for (x, sum) in columns.into_iter().enumerate() {
                sums[(x * row.n_tiles + p) * GROUP + o] = sum;
            }
        }
    }

    fn winograd_output(&self, tile: &WinogradOutput<'_>) {
        tile.check();
        let requant = &tile.requant;
        let first = |x: usize| x / TILE * GROUP + x % TILE * tile.column_stride;
        for (x, column) in (0..tile.n_columns).map(|x| (x, &tile.sums[first(x)..])) {
            let mut pixels = [[0; GROUP]; TILE];
            for o in 0..GROUP {
                let mut sums = core::array::from_fn(|i| column[i * TILE * tile.column_stride + o]);
                sums[BIAS_TAP / WINDOW] = sums[BIAS_TAP / WINDOW].wrapping_add(start(tile.bias[o]));
                let rows = if tile.short { from_cut_taps(sums) } else { from_taps(sums) };
                for (pixel, y) in pixels.iter_mut().zip(rows) {
                    let (multiplier, shift) = (requant.multiplier[o], requant.shift[o]);
                    pixel[o] = requantize(exact(y), multiplier, shift, requant.zero_point) as u8;
                }
            }
            for (y, pixel) in pixels.iter().enumerate().take(tile.n_rows) {
                let word = &tile.words[y * tile.row_stride + x * tile.pixel_stride];
                word.store(u64::from_le_bytes(*pixel), Relaxed);
            }
        }
    }
}

/// The strip with 4-bit weights of every kernel that has none of its own.
pub(super) fn s4(strip: &S4Strip<'_>, out: S8Output<'_>) {
    strip.check(&out);
    let mut acc = *strip.bias;
    for (block, x) in strip.blocks.iter().zip(strip.input.as_chunks::<INPUTS>().0) {
        for (o, acc) in acc.iter_mut().enumerate() {
            let product = |(k, x): (usize, &i8)| i32::from(*x) * block.weight(k, o);
            let sum: i32 = x.iter().enumerate().map(product).sum();
            *acc = acc.wrapping_add(sum.wrapping_mul(block.scales[o].into()));
        }
    }
    store_sums(0, acc, &out);
}

/// The taps of filters, for every row that has nothing faster.
pub(super) fn winograd_filters(filters: &WinogradFilters<'_>, weights: &mut [i16]) {
    filters.check(weights);
    let channels = filters.channels;
    for (c, o) in (0..channels).flat_map(|c| (0..GROUP).map(move |o| (c, o))) {
        let weight = |y: usize, x: usize| {
            let quad = (3 * y + x) * channels + c / 4 * 4;
            i32::from(filters.filters[quad * GROUP + o * 4 + c % 4])
        };
        let columns = [0, 1, 2].map(|x| transform([0, 1, 2].map(|y| weight(y, x))));
        for (row, i) in filters.tap_rows.clone().enumerate() {
            for (j, tap) in transform(columns.map(|column| column[i])).into_iter().enumerate() {
                // At most 144 * 128 in magnitude.
                weights[((WINDOW * row + j) * channels + c) * GROUP + o] = tap as i16;
            }
        }
    }
}

/// A strip over blocks, for every row that has nothing faster.
pub(super) fn s8_blocks(strip: &S8Blocks<'_>, out: S8Output<'_>) {
    strip.check(&out);
    for p in 0..strip.n_pixels {
        let mut acc = *strip.bias;
        let mut weights = strip.weights.as_chunks::<{ GROUP * 8 }>().0.iter();
        for (r, t) in (0..strip.n_rows).flat_map(|r| (0..strip.n_columns).map(move |t| (r, t))) {
            for (b, w) in (0..strip.n_blocks).zip(&mut weights) {
                let start = r * strip.row_stride + b * strip.block_stride + (p + t) * 8;
                let x = &strip.input[start..start + 8];
                for (acc, w) in acc.iter_mut().zip(w.as_chunks::<8>().0) {
                    let products = x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w));
                    *acc = acc.wrapping_add(products.sum());
                }
            }
        }
        store_sums(p, acc, &out);
    }
}

/// Pixel `p`'s accumulators, as they are or requantized.
fn store_sums(p: usize, acc: [i32; GROUP], out: &S8Output<'_>) {
    match out {
        S8Output::Activations { requant, words, stride } => {
            let channel = |o: usize| {
                requantize(acc[o], requant.multiplier[o], requant.shift[o], requant.zero_point) as u8
            };
            words[p * stride].store(u64::from_le_bytes(core::array::from_fn(channel)), Relaxed);
        }
        S8Output::Accumulators(words) => store_pairs(&words[p * 4..], acc.map(|a| a as u32)),
    }
}

/// `B x`, one value a row: the matrix of `vgg_edge_blob::winograd`, shared terms once.
fn to_taps(x: [i16; WINDOW]) -> [i16; WINDOW] {
    let (even, odd) = (x[4] - x[2], x[3] - x[1]);
    let (even4, odd4) = (4 * x[2] - x[4], 4 * x[1] - x[3]);
    [
        4 * (x[0] - x[2]) + even,
        odd4 + even4,
        odd4 - even4,
        even + 2 * odd,
        even - 2 * odd,
        (x[5] - x[3]) - 4 * odd,
    ]
}

/// `A m`, one sum a row, modulo 2^32.
fn from_taps(m: [i32; WINDOW]) -> [i32; TILE] {
    let (a, b) = (m[1].wrapping_add(m[2]), m[1].wrapping_sub(m[2]));
    let (c, d2) = (m[3].wrapping_add(m[4]), m[3].wrapping_sub(m[4]) << 1);
    [
        m[0].wrapping_add(a).wrapping_add(c),
        b.wrapping_add(d2),
        a.wrapping_add(c << 2),
        b.wrapping_add(d2.wrapping_add(m[5]) << 2),
    ]
}

/// `B x` of a cut tile, the missing taps 0.
fn to_cut_taps(x: [i16; WINDOW]) -> [i16; WINDOW] {
    [4 * (x[0] - x[2]), 3 * (x[1] + x[2]), 3 * (x[1] - x[2]), 0, 0, 4 * (x[3] - x[1])]
}

/// `A m` of a cut tile, the missing outputs 0.
fn from_cut_taps(m: [i32; WINDOW]) -> [i32; TILE] {
    let (a, b) = (m[1].wrapping_add(m[2]), m[1].wrapping_sub(m[2]));
    [m[0].wrapping_add(a), b.wrapping_add(m[5]), 0, 0]
}

/// Adds a run's products: 4 values times 8 channels a step.
fn add_run(acc: &mut [i32; GROUP], x: &[i8], w: &[i8]) {
    for (x, w) in x.as_chunks::<4>().0.iter().zip(w.as_chunks::<32>().0) {
        for (acc, w) in acc.iter_mut().zip(w.as_chunks::<4>().0) {
            let product = |k: usize| i32::from(x[k]) * i32::from(w[k]);
            *acc = acc.wrapping_add((product(0) + product(1)) + (product(2) + product(3)));
        }
    }
}

/// `x * w + acc` with one rounding.
#[cfg(feature = "std")]
pub(super) fn fma(x: f32, w: f32, acc: f32) -> f32 {
    x.mul_add(w, acc)
}

/// `x * w + acc` with one rounding.
#[cfg(not(feature = "std"))]
pub(super) fn fma(x: f32, w: f32, acc: f32) -> f32 {
    libm::fmaf(x, w, acc)
}

/// The bits that are stored: after the clamp, and with one NaN for all CPUs.
pub(super) fn finish(acc: f32, relu: bool) -> u32 {
    if relu {
        if acc > 0.0 { acc.to_bits() } else { 0 }
    } else if acc.is_nan() {
        0x7fc0_0000
    } else {
        acc.to_bits()
    }
}

/// Two channels a word, the first in the lower half.
pub(super) fn store_pairs(words: &[AtomicU64], values: [u32; GROUP]) {
    for (word, pair) in words.iter().zip(values.as_chunks::<2>().0) {
        word.store(u64::from(pair[0]) | u64::from(pair[1]) << 32, Relaxed);
    }
}
