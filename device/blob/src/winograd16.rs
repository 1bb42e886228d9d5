//! Winograd F(4x4,3x3) of f16 blobs: the matrices, the two arithmetics, the packed weights.
//!
//! ```text
//! V = B x B'    6x6 input values to 36 taps, f32              U = G w G' * scale    3x3 weights to 36 taps, when written: f64,
//! M = sum over channels of U * V, tap by tap                                        then rounded once to half precision
//! Y = A M A' * out_scale + bias, f32
//!
//!      1  3/2  -2 -3/2  1  0          1     0     0
//!      0  -1 -5/2 -1/2  1  0        -1/3  -1/3  -1/3         1  1  1  1   1   0
//! B =  0   1  1/2 -5/2  1  0    G =  1/3  -1/3   1/3    A =  0  1 -1  2 -1/2  0
//!      0  -1  -2    1   2  0         1/30  1/15  2/15        0  1  1  4  1/4  0
//!      0   2  -1   -2   1  0       -16/15  8/15 -4/15        0  1 -1  8 -1/8  1
//!      0   1  3/2  -2 -3/2 1          0     0     1
//! ```
//!
//! The points are 0, 1, -1, 2, -1/2 and infinity: on trained filters 2 dB better in half precision than 0, 1, -1, 2, -2. All
//! entries of B and A but 3/2 and 5/2 are powers of two. `scale` is one power of two a layer, so that the largest U is in [1, 2):
//! nothing overflows, and what half precision's subnormals round is 2^-25 of it.
//!
//! The algorithm's number says which arithmetic is meant, so that results are equal on every CPU:
//!
//! - `winograd-f43` is f32 throughout; a sum is one chain of fused multiply-adds from 0, channel after channel.
//! - `winograd-f43-f16` rounds V to half precision, times `in_scale`, a power of two. [`BLOCK`] channels are a chain of fused
//!   multiply-adds in half precision from 0; [`BLOCKS`] neighbouring sums are added in half precision, and these in f32. With V of
//!   at most [`MAX_TAP`] no sum in half precision is over 4 * 16 * 2 * 256 = 32768 in magnitude: an input half as large again as
//!   the calibrated one cannot overflow either, and real ones stay far below.
//!
//! How B and A are applied, operation by operation, is in the engine's `kernels/scalar_winograd16.rs`.
//!
//! ```
//! use vgg_edge_blob::winograd16::in_scale;
//! assert_eq!(in_scale(1000.0), 1.0 / 256.0); // 1000 * 49 / 256 is 191
//! ```

use half::f16;

#[cfg(feature = "write")]
use crate::layout::GROUP;
#[cfg(feature = "write")]
use crate::winograd::{TAPS, WINDOW};

/// Channels of one chain of multiply-adds in half precision.
pub const BLOCK: usize = 16;
/// Blocks that are added up in half precision before f32 takes over.
pub const BLOCKS: usize = 4;
/// Largest tap of the calibrated input, scaled.
pub const MAX_TAP: f32 = 256.0;
/// What two rows of B add up to at most, multiplied: no tap is larger than that times the largest input.
pub const GROWTH: f32 = 49.0;

/// The power of two for an input that is at most `largest` in magnitude. An input that is always 0, or has no range, gets 1.
pub fn in_scale(largest: f32) -> f32 {
    let mut scale = 1.0f32;
    if !(largest > 0.0 && largest.is_finite()) {
        return scale;
    }
    // Plain loops: `core` has no logarithm, and 2^-126 to 2^126 is all there is.
    while scale > f32::MIN_POSITIVE && largest * GROWTH * scale > MAX_TAP {
        scale /= 2.0;
    }
    while scale < 1.0 / f32::MIN_POSITIVE && largest * GROWTH * scale * 2.0 <= MAX_TAP {
        scale *= 2.0;
    }
    scale
}

/// The nearest half-precision number's bits, ties to even, in one rounding.
#[inline]
pub fn to_half(value: f64) -> u16 {
    // Rounding to odd keeps in f32's last bit whether anything was cut off; 24 bits are then enough for the second rounding.
    let near = value as f32;
    let bits = near.to_bits();
    let inexact = near.is_finite() && f64::from(near) != value;
    let odd = match inexact && bits.is_multiple_of(2) {
        true if f64::from(near).abs() > value.abs() => f32::from_bits(bits - 1),
        true => f32::from_bits(bits + 1),
        false => near,
    };
    f16::from_f32(odd).to_bits()
}

/// Whether a scale is one that the format has: a power of two that is a normal number.
pub(crate) fn is_scale(scale: f32) -> bool {
    scale.is_normal() && scale > 0.0 && scale.to_bits() << 9 == 0
}

/// Transformed 3x3 filters, as [`NewWeights::F16Winograd`](crate::NewWeights) takes them.
#[cfg(feature = "write")]
#[derive(Clone, Debug, PartialEq)]
pub struct Transformed {
    /// Half-precision bits, `[36 taps][outputs][channels]`.
    pub taps: Vec<u16>,
    /// What they are multiplied by, a power of two.
    pub scale: f32,
}

/// Weights of a row or column of the filter to 6 taps.
#[cfg(feature = "write")]
fn to_taps([a, b, c]: [f64; 3]) -> [f64; WINDOW] {
    [
        a,
        -(a + b + c) / 3.0,
        (a - b + c) / 3.0,
        (a + 2.0 * b + 4.0 * c) / 30.0,
        (-16.0 * a + 8.0 * b - 4.0 * c) / 15.0,
        c,
    ]
}

/// Transforms f32 weights in OHWI order (3x3 filters of `channels`). Weights that are not finite give taps that are not, too.
///
/// # Panics
/// When `weights` does not have `outputs * 9 * channels` values.
#[cfg(feature = "write")]
pub fn transform(outputs: usize, channels: usize, weights: &[f32]) -> Transformed {
    assert_eq!(weights.len(), outputs * 9 * channels, "weights of {outputs} filters of {channels} channels");
    let mut taps = vec![0f64; TAPS * outputs * channels];
    for (output, filter) in weights.chunks_exact((9 * channels).max(1)).enumerate() {
        for channel in 0..channels {
            let weight =
                |row: usize, column: usize| f64::from(filter[(3 * row + column) * channels + channel]);
            let columns: [_; 3] = core::array::from_fn(|c| to_taps([0, 1, 2].map(|row| weight(row, c))));
            for row in 0..WINDOW {
                for (column, value) in to_taps(columns.map(|c| c[row])).into_iter().enumerate() {
                    taps[((WINDOW * row + column) * outputs + output) * channels + channel] = value;
                }
            }
        }
    }
    let largest = taps.iter().fold(0f64, |m, tap| m.max(tap.abs()));
    // The largest in [1, 2), but for filters beyond what f32 scales.
    let exponent = if largest > 0.0 && largest.is_finite() { -largest.log2().floor() } else { 0.0 };
    let scale = exponent.clamp(-100.0, 100.0).exp2();
    let taps = taps.iter().map(|tap| to_half(tap * scale + 0.0)).collect(); // no -0
    Transformed { taps, scale: scale as f32 }
}

/// Packs [`Transformed::taps`] into `f16-w36o8`, `[out groups][36 taps][stored channels][8 outputs]`, as little-endian bytes.
/// Places that no weight fills hold 0.
///
/// # Panics
/// When there are not `36 * outputs * channels` taps, or `stored < channels`.
#[cfg(feature = "write")]
pub(crate) fn f16_w36o8(outputs: usize, channels: usize, stored: usize, taps: &[u16]) -> Vec<u8> {
    assert_eq!(taps.len(), TAPS * outputs * channels, "taps of {outputs} filters of {channels} channels");
    assert!(stored >= channels, "{stored} places for {channels} channels");
    let mut packed = vec![0; 2 * outputs.next_multiple_of(GROUP) * TAPS * stored];
    for (i, bits) in taps.iter().enumerate() {
        let (tap, output, channel) = (i / channels / outputs, i / channels % outputs, i % channels);
        let place = 2 * (((output / GROUP * TAPS + tap) * stored + channel) * GROUP + output % GROUP);
        packed[place..place + 2].copy_from_slice(&bits.to_le_bytes());
    }
    packed
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;

    type Matrix = Vec<Vec<f64>>;

    fn number(word: &str) -> Option<f64> {
        match word.split_once('/') {
            Some((a, b)) => Some(a.parse::<f64>().ok()? / b.parse::<f64>().ok()?),
            None => word.parse().ok(),
        }
    }

    /// The matrices of the text above, as printed.
    fn matrices() -> (Matrix, Matrix, Matrix) {
        let text = include_str!("winograd16.rs");
        let rows = text.lines().skip_while(|l| !l.starts_with("//!      1  3/2  -2")).take(6);
        let rows: Matrix = rows.map(|l| l.split_whitespace().filter_map(number).collect()).collect();
        let b = rows.iter().map(|r| r[..6].to_vec()).collect();
        let g = rows.iter().map(|r| r[6..9].to_vec()).collect();
        (b, g, rows[1..5].iter().map(|r| r[9..].to_vec()).collect())
    }

    /// `m x m'`.
    fn both(m: &Matrix, x: &Matrix) -> Matrix {
        let times = |m: &Matrix, x: &Matrix| -> Matrix {
            (0..x[0].len())
                .map(|j| m.iter().map(|row| row.iter().zip(x).map(|(a, x)| a * x[j]).sum()).collect())
                .collect()
        };
        times(m, &times(m, x))
    }

    fn numbers(n: usize, state: &mut u64) -> Vec<f64> {
        (0..n)
            .map(|_| {
                *state =
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((*state >> 33) % 2001) as f64 / 1000.0 - 1.0
            })
            .collect()
    }

    #[test]
    fn the_matrices_give_the_convolution() {
        let (b, g, a) = matrices();
        let largest = b.iter().map(|r| r.iter().map(|v| v.abs()).sum::<f64>()).fold(0.0, f64::max);
        assert_eq!(largest * largest, f64::from(GROWTH));
        let mut state = 0x5EED;
        println!("seed {state:#x}");
        for _ in 0..100 {
            let (x, w) = (numbers(36, &mut state), numbers(9, &mut state));
            let (x, w): (Matrix, Matrix) =
                (x.chunks(6).map(<[_]>::to_vec).collect(), w.chunks(3).map(<[_]>::to_vec).collect());
            let m: Matrix = both(&g, &w)
                .iter()
                .zip(&both(&b, &x))
                .map(|(u, v)| u.iter().zip(v).map(|(u, v)| u * v).collect())
                .collect();
            for (i, row) in both(&a, &m).iter().enumerate() {
                for (j, &y) in row.iter().enumerate() {
                    let expected: f64 = (0..9).map(|t| w[t / 3][t % 3] * x[i + t / 3][j + t % 3]).sum();
                    assert!((y - expected).abs() < 1e-12, "({i}, {j}): {y}, expected {expected}");
                }
            }
        }
    }

    /// 9 filters of 3 channels stored as 8: every tap against the printed matrix, zeros elsewhere.
    #[test]
    fn f16_w36o8_transforms_scales_places_and_pads() {
        let (_, g, _) = matrices();
        let mut state = 1;
        for size in [1.0, 1e-3, 300.0] {
            let weights: Vec<f32> =
                numbers(9 * 9 * 3, &mut state).iter().map(|w| (w * size) as f32).collect();
            let Transformed { taps, scale } = transform(9, 3, &weights);
            let largest = taps.iter().map(|t| f16::from_bits(*t).to_f32().abs()).fold(0.0, f32::max);
            assert!((1.0..=2.0).contains(&largest) && is_scale(scale), "largest {largest}, scale {scale}");
            let packed = f16_w36o8(9, 3, 8, &taps);
            assert_eq!(packed.len(), 2 * 2 * 8 * 36 * 8);
            for (output, channel) in (0..16).flat_map(|o| (0..8).map(move |c| (o, c))) {
                let weight = |t: usize| match output < 9 && channel < 3 {
                    true => f64::from(weights[(output * 9 + t) * 3 + channel]),
                    false => 0.0,
                };
                let filter: Matrix = (0..3).map(|r| (0..3).map(|c| weight(3 * r + c)).collect()).collect();
                for (tap, expected) in both(&g, &filter).into_iter().flatten().enumerate() {
                    let place = 2 * (((output / 8 * 36 + tap) * 8 + channel) * 8 + output % 8);
                    let found =
                        f16::from_bits(u16::from_le_bytes([packed[place], packed[place + 1]])).to_f64();
                    let expected = expected * f64::from(scale);
                    let step = (expected.abs() / 2048.0).max(2f64.powi(-25)) * 1.000_001;
                    assert!(
                        (found - expected).abs() <= step,
                        "output {output}, channel {channel}, tap {tap}"
                    );
                }
            }
        }
    }

    #[test]
    fn to_half_rounds_once() {
        let half = |value: f64| f16::from_bits(to_half(value)).to_f64();
        let step = 2f64.powi(-10);
        for sign in [1.0, -1.0] {
            // A tie goes to even, and the least beside it decides, even where f32 and f64 round it away.
            for (tail, expected) in [(0.0, 1.0), (2f64.powi(-52), 1.0 + step), (-2f64.powi(-53), 1.0)] {
                assert_eq!(half(sign * (1.0 + step / 2.0 + tail)), sign * expected, "{tail:e}");
            }
            assert_eq!(half(sign * (1.0 + 1.5 * step - 2f64.powi(-52))), sign * (1.0 + step));
            assert_eq!(half(sign * 2f64.powi(-25)), 0.0);
            assert_eq!(half(sign * 2f64.powi(-25) * 1.000_000_000_1), sign * 2f64.powi(-24));
            assert_eq!((half(sign * 65519.99), half(sign * 65520.0)), (sign * 65504.0, sign * f64::INFINITY));
            assert_eq!((half(sign * 1e300), half(sign * 1e-300)), (sign * f64::INFINITY, 0.0));
            assert_eq!(half(sign * f64::INFINITY), sign * f64::INFINITY);
        }
        assert!(half(f64::NAN).is_nan());
    }

    #[test]
    fn scales_are_powers_of_two_and_keep_taps_in_range() {
        for largest in [1e-30, 1e-3, 1.0, 255.0, 1000.0, 65504.0, 1e30] {
            let scale = in_scale(largest);
            assert!(is_scale(scale), "{scale:e}");
            let tap = largest * GROWTH * scale;
            assert!(tap > MAX_TAP / 2.0 && tap <= MAX_TAP, "{largest:e}: {tap}");
        }
        for none in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(in_scale(none), 1.0);
        }
        let bad = [0.0, -2.0, 3.0, f32::NAN, f32::INFINITY, 1e-45, 1.5];
        assert!(bad.into_iter().all(|scale| !is_scale(scale)));
        assert_eq!(transform(0, 0, &[]).scale, 1.0);
        assert_eq!(transform(1, 1, &[0.0; 9]), Transformed { taps: vec![0; 36], scale: 1.0 });
    }
}
