//! Exact integer Winograd F(4x4,3x3): the matrices, the packed weights, and the proof that makes it exact.
//!
//! ```text
//! V = B x B'    6x6 input values to 36 taps          i8 to i16: a row of B adds up to 10 in magnitude, 100 * 128 = 12800
//! U = G w G'    3x3 weights to 36 taps, when written  i8 to i16: a row of G adds up to 12, 144 * 127 = 18288
//! M = sum over channels of U * V, tap by tap         i32 that wraps
//! Y = A M A'    36 taps to 4x4 outputs               i32 that wraps
//!
//!      4  0 -5  0  1  0          6  0  0
//!      0  4  4 -1 -1  0          4  4  4          1  1  1  1  1  0
//! B =  0  4 -4 -1  1  0    G =  -4  4 -4    A =   0  1 -1  2 -2  0
//!      0 -2 -1  2  1  0          1  2  4          0  1  1  4  4  0
//!      0  2 -1 -2  1  0          1 -2  4          0  1 -1  8 -8  4
//!      0  4  0 -5  0  1          0  0  6
//! ```
//!
//! `A ((G w) * (B x))` is 24 times the convolution, in integers, so `Y = 576 * acc` in the ring of the integers modulo
//! 2^32, whatever wrapped on the way. 576 is 64 * 9, and 9 has an inverse in that ring: `(Y * 0x38E38E39) >> 6` is
//! `acc` itself for every acc in [-2^25, 2^25). No division, no rounding, the same bytes as the direct sum.
//!
//! The column of A that belongs to tap 1 is 1 for all outputs. So the bias is added once a tile: `start`,
//! `576 * bias`, to the sum of tap (1, 1). Then `acc` above is the whole accumulator, bias and zero-point correction inside.
//!
//! ```
//! use vgg_edge_blob::winograd::{exact, start};
//! assert_eq!(exact(start(-33_000_000).wrapping_add(576 * 5)), -33_000_000 + 5); // 576 * 33e6 does not fit an i32
//! ```

use crate::layout::GROUP;

/// Taps of a transformed tile: 6 x 6.
pub const TAPS: usize = 36;
/// Rows and columns of outputs of a tile.
pub const TILE: usize = 4;
/// Rows and columns of inputs that a tile reads.
pub const WINDOW: usize = 6;
/// The tap (row 1, column 1) whose sum counts once in every output: the bias goes there.
pub const BIAS_TAP: usize = WINDOW + 1;
/// Accumulators, bias inside, lie in [-LIMIT, LIMIT) in a layer that uses this algorithm: the writer proves it.
pub const LIMIT: i64 = 1 << 25;

/// What the sums are larger by: 24 in each direction.
pub const SCALE: i32 = 576;
/// 1 / 9 modulo 2^32.
pub const INVERSE_OF_9: i32 = 0x38E3_8E39;

/// The accumulator from `576 * acc` modulo 2^32.
#[inline]
pub const fn exact(sum: i32) -> i32 {
    sum.wrapping_mul(INVERSE_OF_9) >> 6
}

/// What is added to the sum of tap [`BIAS_TAP`], for an output channel of this bias.
#[inline]
pub const fn start(bias: i32) -> i32 {
    bias.wrapping_mul(SCALE)
}

/// Weights of a row or column of the filter to 6 taps: `G w`.
pub const fn transform([a, b, c]: [i32; 3]) -> [i32; WINDOW] {
    let (even, odd) = (a + 4 * c, 2 * b);
    [6 * a, 4 * (a + b + c), -4 * (a - b + c), even + odd, even - odd, 6 * c]
}

/// A weight, or a tap, of each of 8 outputs.
type Lanes = [i32; GROUP];

/// The 3x3 filters of 8 outputs, row by row, whose transforms are `taps`, `[36 taps][8 outputs]`: the inverse of what the
/// writer computed. `None` when `taps` are no transforms of weights in [-127, 127].
pub fn filters(taps: &[[i16; GROUP]; TAPS]) -> Option<[[i8; GROUP]; 9]> {
    // Rows 0, 1 and 5 of G hold all of a filter: 6a, 4(a + b + c), 6c.
    let inverse = |[first, second, last]: [Lanes; 3]| -> [Lanes; 3] {
        let (a, c) = (first.map(|t| t / 6), last.map(|t| t / 6));
        [a, core::array::from_fn(|o| second[o] / 4 - a[o] - c[o]), c]
    };
    let tap = |row: usize, column: usize| taps[WINDOW * row + column].map(i32::from);
    let rows = [0, 1, 5].map(|row| inverse([tap(row, 0), tap(row, 1), tap(row, 5)]));
    let columns: [_; 3] = core::array::from_fn(|c| inverse(rows.map(|row| row[c])));
    // Whatever was rounded off on the way, the way back shows.
    let again = |x: [Lanes; 3]| -> [Lanes; WINDOW] {
        let per_output: [_; GROUP] = core::array::from_fn(|o| transform(x.map(|x| x[o])));
        core::array::from_fn(|t| per_output.map(|taps| taps[t]))
    };
    let mut differs = 0;
    let columns_again = columns.map(again);
    for row in 0..WINDOW {
        for (column, found) in again(columns_again.map(|c| c[row])).into_iter().enumerate() {
            let expected = tap(row, column);
            differs |= (0..GROUP).fold(0, |bits, o| bits | (found[o] ^ expected[o]));
        }
    }
    let inside = columns.iter().flatten().flatten().all(|w| (-127..=127).contains(w));
    let weight = |i: usize| columns[i % 3][i / 3].map(|w| w as i8);
    (differs == 0 && inside).then(|| core::array::from_fn(weight))
}

/// The lowest and the highest accumulator over all inputs of a filter whose positive weights add up to `positive` and whose
/// negative ones to `-negative`.
pub fn bounds(positive: i64, negative: i64, bias: i32) -> (i64, i64) {
    let bias = i64::from(bias);
    (bias - 128 * positive - 127 * negative, bias + 127 * positive + 128 * negative)
}

/// Packs i8 weights in OHWI order (3x3 filters of `channels`) into `s16-w36o8`, `[out groups][36 taps][stored
/// channels][8 outputs]`, as little-endian bytes. Places that no weight fills hold 0.
///
/// # Panics
/// When `weights` does not have `outputs * 9 * channels` values, or `stored < channels`.
#[cfg(feature = "write")]
pub fn s16_w36o8(outputs: usize, channels: usize, stored: usize, weights: &[i8]) -> Vec<u8> {
    assert_eq!(weights.len(), outputs * 9 * channels, "weights of {outputs} filters of {channels} channels");
    assert!(stored >= channels, "{stored} places for {channels} channels");
    let mut packed = vec![0; 2 * outputs.next_multiple_of(GROUP) * TAPS * stored];
    for (output, filter) in weights.chunks_exact((9 * channels).max(1)).enumerate() {
        let (group, lane) = (output / GROUP, output % GROUP);
        for channel in 0..channels {
            let weight =
                |row: usize, column: usize| i32::from(filter[(3 * row + column) * channels + channel]);
            let columns: [_; 3] = core::array::from_fn(|c| transform([0, 1, 2].map(|row| weight(row, c))));
            for row in 0..WINDOW {
                for (column, value) in transform(columns.map(|c| c[row])).into_iter().enumerate() {
                    let tap = WINDOW * row + column;
                    let place = 2 * (((group * TAPS + tap) * stored + channel) * GROUP + lane);
                    packed[place..place + 2].copy_from_slice(&(value as i16).to_le_bytes());
                }
            }
        }
    }
    packed
}

/// The lowest and the highest accumulator of `filter` over all inputs, bias inside. Exact Winograd needs both in
/// [-[`LIMIT`], [`LIMIT`]).
pub fn range(filter: &[i8], bias: i32) -> (i64, i64) {
    let magnitude = |sign: i64| filter.iter().map(|w| (sign * i64::from(*w)).max(0)).sum::<i64>();
    bounds(magnitude(1), magnitude(-1), bias)
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;

    type Matrix = Vec<Vec<i64>>;

    /// The matrices of the text above, as printed.
    fn matrices() -> (Matrix, Matrix, Matrix) {
        let text = include_str!("winograd.rs");
        let rows = text.lines().skip_while(|l| !l.starts_with("//!      4  0 -5")).take(6);
        let rows: Matrix =
            rows.map(|l| l.split_whitespace().filter_map(|w| w.parse().ok()).collect()).collect();
        let b = rows.iter().map(|r| r[..6].to_vec()).collect();
        let g = rows.iter().map(|r| r[6..9].to_vec()).collect();
        (b, g, rows[1..5].iter().map(|r| r[9..].to_vec()).collect())
    }

    /// `m x m'`.
    fn both(m: &[Vec<i64>], x: &[Vec<i64>]) -> Matrix {
        let times = |m: &[Vec<i64>], x: &[Vec<i64>]| -> Matrix {
            // (m x)' so that twice gives m x m'.
            (0..x[0].len())
                .map(|j| m.iter().map(|row| row.iter().zip(x).map(|(a, x)| a * x[j]).sum()).collect())
                .collect()
        };
        times(m, &times(m, x))
    }

    fn numbers(n: usize, low: i64, high: i64, state: &mut u64) -> Vec<i64> {
        (0..n)
            .map(|_| {
                *state =
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                low + ((*state >> 33) % (high - low + 1) as u64) as i64
            })
            .collect()
    }

    #[test]
    fn the_matrices_give_576_times_the_convolution_and_fit() {
        let (b, g, a) = matrices();
        let sums = |m: &[Vec<i64>]| m.iter().map(|r| r.iter().map(|v| v.abs()).sum::<i64>()).max();
        assert_eq!((sums(&b), sums(&g)), (Some(10), Some(12)));
        let mut state = 0x5EED;
        println!("seed {state:#x}");
        for i in 0..100 {
            let extreme = |v: Vec<i64>, low, high| -> Vec<i64> {
                v.iter().map(|v| if i < 20 { if *v < 0 { low } else { high } } else { *v }).collect()
            };
            let x = extreme(numbers(36, -128, 127, &mut state), -128, 127);
            let w = extreme(numbers(9, -127, 127, &mut state), -127, 127);
            let (x, w): (Vec<_>, Vec<_>) =
                (x.chunks(6).map(<[_]>::to_vec).collect(), w.chunks(3).map(<[_]>::to_vec).collect());
            let (u, v) = (both(&g, &w), both(&b, &x));
            let m: Matrix =
                u.iter().zip(&v).map(|(u, v)| u.iter().zip(v).map(|(u, v)| u * v).collect()).collect();
            assert!(u.iter().chain(&v).flatten().all(|t| i16::try_from(*t).is_ok()));
            for (i, row) in both(&a, &m).iter().enumerate() {
                for (j, &y) in row.iter().enumerate() {
                    let taps = (0..9).map(|t| w[t / 3][t % 3] * x[i + t / 3][j + t % 3]);
                    assert_eq!(y, 576 * taps.sum::<i64>());
                }
            }
        }
    }

    /// 9 filters of 3 channels stored as 8: every tap against the printed matrix, zeros elsewhere.
    #[test]
    fn s16_w36o8_transforms_places_and_pads() {
        let (_, g, _) = matrices();
        let mut state = 1;
        let weights: Vec<i8> = numbers(9 * 9 * 3, -127, 127, &mut state).iter().map(|w| *w as i8).collect();
        let packed = s16_w36o8(9, 3, 8, &weights);
        assert_eq!(packed.len(), 2 * 2 * 8 * 36 * 8);
        for output in 0..16 {
            for channel in 0..8 {
                let weight = |t: usize| match output < 9 && channel < 3 {
                    true => i64::from(weights[(output * 9 + t) * 3 + channel]),
                    false => 0,
                };
                let filter: Matrix = (0..3).map(|r| (0..3).map(|c| weight(3 * r + c)).collect()).collect();
                for (tap, expected) in both(&g, &filter).into_iter().flatten().enumerate() {
                    let place = 2 * (((output / 8 * 36 + tap) * 8 + channel) * 8 + output % 8);
                    let found = i16::from_le_bytes([packed[place], packed[place + 1]]);
                    assert_eq!(i64::from(found), expected, "output {output}, channel {channel}, tap {tap}");
                }
            }
        }
    }

    #[test]
    fn filters_come_back_from_their_taps_and_nothing_else_does() {
        let mut state = 3;
        for round in 0..50 {
            let limit = if round < 10 { 127 } else { 1 + round };
            let weights: Vec<i8> =
                numbers(8 * 9, -limit, limit, &mut state).iter().map(|w| *w as i8).collect();
            let packed = s16_w36o8(8, 1, 1, &weights);
            let taps: Vec<i16> = packed.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
            let taps: [[i16; 8]; 36] = core::array::from_fn(|t| core::array::from_fn(|o| taps[8 * t + o]));
            let expected: [[i8; 8]; 9] =
                core::array::from_fn(|t| core::array::from_fn(|o| weights[9 * o + t]));
            assert_eq!(filters(&taps), Some(expected));
            for tap in 0..36 {
                let mut wrong = taps;
                wrong[tap][round as usize % 8] += 1;
                assert_eq!(filters(&wrong), None, "tap {tap}");
            }
        }
        // A filter of 128 in its middle is one that no i8 weight writes.
        let middle = |t: usize| transform([0, 128, 0])[t / 6] * transform([0, 1, 0])[t % 6];
        let taps: [[i16; 8]; 36] = core::array::from_fn(|t| [middle(t) as i16; 8]);
        assert_eq!(filters(&taps), None);
    }

    #[test]
    fn exact_is_the_quotient_over_its_whole_range() {
        let limit = LIMIT as i32;
        for acc in (-limit..limit).step_by(997).chain([-limit, -limit + 1, -1, 0, 1, limit - 1]) {
            assert_eq!(exact(start(acc)), acc);
        }
        assert_ne!(exact(start(limit)), limit);
    }

    #[test]
    fn range_is_reached_and_not_left() {
        let filter = [3, -5, 0, 127, -127];
        let (low, high) = range(&filter, 7);
        let worst = |x: fn(i8) -> i64| 7 + filter.iter().map(|w| i64::from(*w) * x(*w)).sum::<i64>();
        assert_eq!(high, worst(|w| if w > 0 { 127 } else { -128 }));
        assert_eq!(low, worst(|w| if w > 0 { -128 } else { 127 }));
    }
}
