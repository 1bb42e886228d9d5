//! Requantized Winograd of the `scalar` kernel, `scalar_winograd8`: the specification, and what a row without its own uses.
//!
//! ```text
//! taps[i][j]  = to_i8((B x B')[i][j], multiplier[i][j], offset if i = j = 1)
//! sums[i][x]  = sum over j of A[x][j] * rdmulh32(sum over c of values[i][j][c] * weights[i][j][c], scales[i][j])
//! pixel[y][x] = requantize(sum over i of A[y][i] * (sums[i][x] + bias if i = 1))
//! ```
//!
//! The matrices as they are, by loops: that is slow.

use core::sync::atomic::Ordering::Relaxed;

use vgg_edge_blob::requant::requantize;
use vgg_edge_blob::winograd8::{MAX_TILE, rdmulh32, to_i8};

use super::{GROUP, Winograd8Input, Winograd8Output, Winograd8Row};
use crate::winograd8::PerTap;

pub(super) fn input(run: &Winograd8Input<'_>, taps: &mut [i8]) {
    run.check(taps);
    let (b, tile, window) = (run.form.input_matrix(), run.form.tile(), run.form.window());
    for (p, c) in (0..run.n_tiles()).flat_map(|p| (0..run.channels).map(move |c| (p, c))) {
        let columns = &run.columns[p * tile..][..window];
        for (nth, i) in run.tap_rows.clone().enumerate() {
            let mut half = PerTap::<i16>::default();
            for (half, column) in half.iter_mut().zip(columns) {
                let term = |(b, row): (&i16, &usize)| b * i16::from(run.input[row + column + c]);
                *half = b[i].iter().zip(run.rows).map(term).sum();
            }
            for (j, b) in b.iter().enumerate() {
                let value = b.iter().zip(half).map(|(b, half)| b * half).sum();
                let t = i * window + j;
                let offset = if t == run.form.bias_tap() { run.offsets[c] } else { 0 };
                let place = c / GROUP * run.group_stride + p * GROUP + c % GROUP;
                taps[(nth * window + j) * run.tap_stride + place] =
                    to_i8(value, run.multipliers[t * run.multiplier_stride + c], offset);
            }
        }
    }
}

pub(super) fn row(row: &Winograd8Row<'_>, sums: &mut [i32]) {
    row.check(sums);
    let a = row.form.output_matrix();
    for (p, o) in (0..row.n_tiles).flat_map(|p| (0..GROUP).map(move |o| (p, o))) {
        let mut taps = PerTap::<i32>::default();
        for (j, tap) in taps.iter_mut().enumerate().take(row.form.window()) {
            let product = |c: usize| {
                let value =
                    row.values[j * row.tap_stride + (c / GROUP * row.n_tiles + p) * GROUP + c % GROUP];
                let weight = row.weights[(j * row.channels + c / 4 * 4) * GROUP + o * 4 + c % 4];
                i32::from(value) * i32::from(weight)
            };
            let acc = (0..row.channels).fold(0, |acc: i32, c| acc.wrapping_add(product(c)));
            *tap = rdmulh32(acc, row.scales[j * GROUP + o]);
        }
        for (x, a) in a.iter().enumerate() {
            sums[(x * row.n_tiles + p) * GROUP + o] = dot(a, taps);
        }
    }
}

pub(super) fn output(run: &Winograd8Output<'_>) {
    run.check();
    let (a, tile, window) = (run.form.output_matrix(), run.form.tile(), run.form.window());
    let requant = &run.requant;
    for x in 0..run.n_columns {
        let first = x % tile * run.column_stride + x / tile * GROUP;
        let mut pixels = [[0; GROUP]; MAX_TILE];
        for o in 0..GROUP {
            let mut sums = PerTap::<i32>::default();
            for (i, sum) in sums.iter_mut().enumerate().take(window) {
                *sum = run.sums[i * tile * run.column_stride + first + o];
            }
            sums[1] = sums[1].wrapping_add(run.bias[o]);
            for (pixel, a) in pixels.iter_mut().zip(a) {
                let (multiplier, shift) = (requant.multiplier[o], requant.shift[o]);
                pixel[o] = requantize(dot(a, sums), multiplier, shift, requant.zero_point) as u8;
            }
        }
        for (y, pixel) in pixels.iter().enumerate().take(run.n_rows) {
            let word = &run.words[y * run.row_stride + x * run.pixel_stride];
            word.store(u64::from_le_bytes(*pixel), Relaxed);
        }
    }
}

/// A row of A times as many sums, modulo 2^32.
fn dot(a: &[i32], sums: PerTap<i32>) -> i32 {
    a.iter().zip(sums).fold(0, |y: i32, (a, s)| y.wrapping_add(a.wrapping_mul(s)))
}
