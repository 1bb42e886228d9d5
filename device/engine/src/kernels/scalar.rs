//! The `scalar` kernel, `generic-s8-scalar`: the specification, in safe and portable code.
//!
//! ```text
//! acc[p][o] = bias[o] + sum over r, k of input[p * pixel_stride + r * run_stride + k] * w(r, k, o)
//! w(r, k, o) = weights[r * run_len * 8 + (k / 4) * 32 + o * 4 + k % 4]     int8
//! w(r, k, o) = weights[(r * run_len + k) * 8 + o]                          f16
//!
//! taps[i][j] = (B x B')[i][j]     sums[p][o] = sum over c of values[c / 8][p][c % 8] * weights[c][o]
//! pixel[i][j] = requantize(exact((A sums A')[i][j]))                       Winograd
//! ```

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use half::f16;
use vgg_edge_blob::requant::requantize;
use vgg_edge_blob::winograd::{BIAS_TAP, TILE, WINDOW, exact, start};

use super::{F16Strip, GROUP, Kernel, S8Output, S8Strip, WinogradInput, WinogradOutput, WinogradTap};

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

    fn s8(&self, strip: &S8Strip<'_>, out: S8Output<'_>) {
        strip.check(&out);
        for p in 0..strip.n_pixels {
            let mut acc = *strip.bias;
            for r in 0..strip.n_runs {
                let x = &strip.input[p * strip.pixel_stride + r * strip.run_stride..][..strip.run_len];
                let w = &strip.weights[r * strip.run_len * GROUP..][..strip.run_len * GROUP];
                add_run(&mut acc, x, w);
            }
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

    fn winograd_input(&self, tile: &WinogradInput<'_>, taps: &mut [i16]) {
        tile.check(taps);
        for c in 0..tile.channels {
            let columns = tile
                .columns
                .map(|column| to_taps(tile.rows.map(|row| i16::from(tile.input[row + column + c]))));
            let place = c / GROUP * tile.group_stride + c % GROUP;
            for i in 0..WINDOW {
                for (j, value) in to_taps(columns.map(|column| column[i])).into_iter().enumerate() {
                    taps[(i * WINDOW + j) * tile.tap_stride + place] = value;
                }
            }
        }
    }

    fn winograd_tap(&self, tap: &WinogradTap<'_>, sums: &mut [i32]) {
        tap.check(sums);
        for (p, sums) in sums.chunks_exact_mut(GROUP).take(tap.n_tiles).enumerate() {
            sums.fill(0);
            for (c, weights) in tap.weights.chunks_exact(GROUP).take(tap.channels).enumerate() {
                let value = tap.values[(c / GROUP * tap.n_tiles + p) * GROUP + c % GROUP];
                for (sum, &weight) in sums.iter_mut().zip(weights) {
                    *sum = sum.wrapping_add(i32::from(value) * i32::from(weight));
                }
            }
        }
    }

    fn winograd_output(&self, tile: &WinogradOutput<'_>) {
        tile.check();
        let requant = &tile.requant;
        let mut pixels = [[[0; GROUP]; TILE]; TILE];
        for o in 0..GROUP {
            let bias = |tap: usize| if tap == BIAS_TAP { start(tile.bias[o]) } else { 0 };
            let sum = |tap: usize| tile.sums[tap * tile.tap_stride + o].wrapping_add(bias(tap));
            let rows: [_; WINDOW] =
                core::array::from_fn(|j| from_taps(core::array::from_fn(|i| sum(i * WINDOW + j))));
            for (i, pixels) in pixels.iter_mut().enumerate() {
                for (pixel, y) in pixels.iter_mut().zip(from_taps(rows.map(|column| column[i]))) {
                    let (multiplier, shift) = (requant.multiplier[o], requant.shift[o]);
                    pixel[o] = requantize(exact(y), multiplier, shift, requant.zero_point) as u8;
                }
            }
        }
        for (y, pixels) in pixels.iter().enumerate().take(tile.n_rows) {
            for (x, pixel) in pixels.iter().enumerate().take(tile.n_columns) {
                let place = y * tile.row_stride + x * tile.pixel_stride;
                tile.words[place].store(u64::from_le_bytes(*pixel), Relaxed);
            }
        }
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
fn fma(x: f32, w: f32, acc: f32) -> f32 {
    x.mul_add(w, acc)
}

/// `x * w + acc` with one rounding.
#[cfg(not(feature = "std"))]
fn fma(x: f32, w: f32, acc: f32) -> f32 {
    libm::fmaf(x, w, acc)
}

/// The bits that are stored: after the clamp, and with one NaN for all CPUs.
fn finish(acc: f32, relu: bool) -> u32 {
    if relu {
        if acc > 0.0 { acc.to_bits() } else { 0 }
    } else if acc.is_nan() {
        0x7fc0_0000
    } else {
        acc.to_bits()
    }
}

/// Two channels a word, the first in the lower half.
fn store_pairs(words: &[AtomicU64], values: [u32; GROUP]) {
    for (word, pair) in words.iter().zip(values.as_chunks::<2>().0) {
        word.store(u64::from(pair[0]) | u64::from(pair[1]) << 32, Relaxed);
    }
}
