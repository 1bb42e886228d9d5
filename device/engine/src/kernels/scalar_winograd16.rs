//! Winograd of f16 blobs of the `scalar` kernel, `scalar_winograd16`: the specification, operation by operation.
//!
//! ```text
//! fma(a, b, c) = a * b + c with one rounding; half(x) = x rounded to half precision; each other operation rounds to f32
//!
//! taps[i][j]  = B x B': columns first, then rows, by `to_taps`; f16: of x * scale, then half(taps)
//! sum, f32    = fma chain over channels from +0, f32
//! sum, f16    = blocks of 16 channels: fma chain in half precision from -0, so the first product rounded; up to 4 neighbouring
//!               blocks are added in half precision, first to last, and such groups in f32, first to last
//! sums[i][x]  = A sum, over the row's 6 taps, by `from_taps`
//! pixel[y][x] = fma(A sums, scale, bias), by `from_taps`; then ReLU, or one NaN for all CPUs
//! ```

use core::sync::atomic::AtomicU64;

use half::f16;
use vgg_edge_blob::winograd::{TILE, WINDOW};
use vgg_edge_blob::winograd16::{BLOCK, BLOCKS, to_half};

use super::scalar::{finish, fma, store_pairs};
use super::{GROUP, Winograd16Input, Winograd16Output, Winograd16Row};

/// -0 in half precision: what changes no product.
const MINUS_ZERO: u16 = 0x8000;

pub(super) fn input_f32(window: &Winograd16Input<'_>, taps: &mut [f32]) {
    window.check(taps.len());
    input(window, |place, tap| taps[place] = tap);
}

pub(super) fn input_f16(window: &Winograd16Input<'_>, taps: &mut [u16]) {
    window.check(taps.len());
    input(window, |place, tap| taps[place] = f16::from_f32(tap).to_bits());
}

fn input(window: &Winograd16Input<'_>, mut store: impl FnMut(usize, f32)) {
    for c in 0..window.channels {
        let columns = window
            .columns
            .map(|column| to_taps(window.rows.map(|row| window.input[row + column + c] * window.scale)));
        let place = c / GROUP * window.group_stride + c % GROUP;
        for (tap_row, i) in window.tap_rows.clone().enumerate() {
            for (j, tap) in to_taps(columns.map(|column| column[i])).into_iter().enumerate() {
                store((tap_row * WINDOW + j) * window.tap_stride + place, tap);
            }
        }
    }
}

pub(super) fn row_f32(row: &Winograd16Row<'_, f32>, sums: &mut [f32]) {
    row.check(sums);
    by_tap(row, sums, |x, w| x.zip(w).fold(0.0, |acc, (x, w)| fma(x, f16::from_bits(w).to_f32(), acc)));
}

pub(super) fn row_f16(row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
    row.check(sums);
    by_tap(row, sums, |x, w| {
        let (mut sum, mut group, mut block) = (0.0, 0, MINUS_ZERO);
        for (c, (x, w)) in x.zip(w).enumerate() {
            let last = c + 1 == row.channels;
            block = fma_half(x, w, block);
            if (c + 1).is_multiple_of(BLOCK) || last {
                group = if c % (BLOCK * BLOCKS) < BLOCK { block } else { add_half(group, block) };
                block = MINUS_ZERO;
            }
            if (c + 1).is_multiple_of(BLOCK * BLOCKS) || last {
                let group = f16::from_bits(group).to_f32();
                sum = if c < BLOCK * BLOCKS { group } else { sum + group };
            }
        }
        sum
    });
}

/// Values and weights of every tile, output and tap to their sum; then the row half of the output transform.
fn by_tap<V: Copy>(
    row: &Winograd16Row<'_, V>,
    sums: &mut [f32],
    sum: impl Fn(&mut dyn Iterator<Item = V>, &mut dyn Iterator<Item = u16>) -> f32,
) {
    for (p, o) in (0..row.n_tiles).flat_map(|p| (0..GROUP).map(move |o| (p, o))) {
        let taps = core::array::from_fn(|j| {
            let values =
                |c: usize| row.values[j * row.tap_stride + (c / GROUP * row.n_tiles + p) * GROUP + c % GROUP];
            let weights = |c: usize| row.weights[(j * row.channels + c) * GROUP + o];
            sum(&mut (0..row.channels).map(values), &mut (0..row.channels).map(weights))
        });
        for (x, sum) in from_taps(taps).into_iter().enumerate() {
            sums[(x * row.n_tiles + p) * GROUP + o] = sum;
        }
    }
}

pub(super) fn output(tile: &Winograd16Output<'_>) {
    tile.check();
    for (x, column) in (0..tile.n_columns).map(|x| (x, &tile.sums[x * tile.column_stride..])) {
        let mut pixels = [[0; GROUP]; TILE];
        for o in 0..GROUP {
            let sums = core::array::from_fn(|i| column[i * TILE * tile.column_stride + o]);
            for (pixel, y) in pixels.iter_mut().zip(from_taps(sums)) {
                pixel[o] = finish(fma(y, tile.scale, tile.bias[o]), tile.relu);
            }
        }
        for (y, pixel) in pixels.into_iter().enumerate().take(tile.n_rows) {
            let words: &[AtomicU64] = &tile.words[y * tile.row_stride + x * tile.pixel_stride..];
            store_pairs(words, pixel);
        }
    }
}

/// `B x`, one value a row.
fn to_taps(x: [f32; WINDOW]) -> [f32; WINDOW] {
    let (even, odd) = (x[4] - x[2], x[3] - x[1]);
    [
        fma(odd, -1.5, (x[0] - x[2]) + even),
        fma(x[2] + x[3], -1.5, even + odd),
        fma(x[2] - x[3], 1.5, even - odd),
        fma(even, 2.0, odd),
        fma(odd, -2.0, even),
        fma(even, -1.5, (x[5] - x[3]) - odd),
    ]
}

/// `A m`, one sum a row.
fn from_taps(m: [f32; WINDOW]) -> [f32; TILE] {
    let (sum, difference) = (m[1] + m[2], m[1] - m[2]);
    [
        (m[0] + sum) + (m[3] + m[4]),
        fma(m[4], -0.5, fma(m[3], 2.0, difference)),
        fma(m[4], 0.25, fma(m[3], 4.0, sum)),
        fma(m[4], -0.125, fma(m[3], 8.0, difference)) + m[5],
    ]
}

/// `x * w + acc` of half-precision bits with one rounding. The product is exact in f32. Where f64 rounds the sum, one term is so
/// small that it cannot move the other, and no half-precision number's neighbour is near.
fn fma_half(x: u16, w: u16, acc: u16) -> u16 {
    let [x, w, acc] = [x, w, acc].map(|bits| f16::from_bits(bits).to_f32());
    to_half(f64::from(x * w) + f64::from(acc))
}

/// `a + b` of half-precision bits with one rounding: f32 has enough more bits that rounding twice is as good.
fn add_half(a: u16, b: u16) -> u16 {
    f16::from_f32(f16::from_bits(a).to_f32() + f16::from_bits(b).to_f32()).to_bits()
}
