//! Requantized Winograd F(2x2,3x3) and F(4x4,3x3) in 8 bits: the matrices, the arithmetic, the packed layer, the writer's proof.
//!
//! ```text
//! V   = B x B'                                       i8 window to taps, exact in i16, zero point inside
//! v   = sat8(rdmulh16(V, m) + offset)                m a tap and input channel, Q15; the offset at tap (1, 1) only
//! acc = sum over channels of U * v                   i8 times i8, i32
//! s   = rdmulh32(acc, scale)                         scale a tap and output, Q31; at tap (1, 1) plus bias
//! y   = A s A'                                       i32
//! q   = requantize(y)                                as in every int8 layer
//!
//! F23   1  0 -1  0       1   0   0                       F43   2  3 -4 -3  2  0        1/2     0     0
//!       0  1  1  0      1/2 1/2 1/2    1  1  1  0              0 -2 -5 -1  2  0       -1/6  -1/6  -1/6    1  1  1  1  8  0
//! B  =  0 -1  1  0   G  1/2-1/2 1/2  A 0  1 -1  1        B  =  0  2  1 -5  2  0   G    1/6  -1/6   1/6  A 0  1 -1  2 -4  0
//!       0 -1  0  1       0   0   1                             0 -1 -2  1  2  0        1/30  1/15  2/15   0  1  1  4  2  0
//!                                                              0  2 -1 -2  1  0       -2/15  1/15 -1/30   0  1 -1  8 -1  1
//!                                                              0  2  3 -4 -3  2         0     0    1/2
//! ```
//!
//! F43 uses the points 0, 1, -1, 2, -1/2 and infinity; its V is at most 196 * 128 = 25088 in magnitude. Two rounded products
//! make it an approximation of direct convolution; in these integers it is exact, and so equal on every CPU.
//!
//! Row 1 of B is the only one whose sum is not 0, so tap (1, 1) alone sees the zero point; column 1 of A is 1 for all outputs,
//! so a constant at that tap is a bias. Offset and bias hold everything that is constant.
//!
//! ```
//! use vgg_edge_blob::winograd8::{Form, rdmulh16, rdmulh32, to_i8};
//! assert_eq!((Form::F43.tile(), Form::F43.window(), Form::F43.taps(), Form::F43.bias_tap()), (4, 6, 36, 7));
//! assert_eq!((rdmulh16(3, 1 << 14), rdmulh16(-3, 1 << 14)), (2, -1)); // 1.5 and -1.5, halves up
//! assert_eq!((rdmulh32(-1, 1 << 30), to_i8(25_088, 32_767, 100)), (0, 127));
//! ```

use crate::model::Algorithm;

#[cfg(feature = "write")]
mod pack;
#[cfg(feature = "write")]
pub(crate) use pack::NewTaps;

/// Most taps in a row or column of any form.
pub const MAX_WINDOW: usize = 6;
/// Most outputs in a row or column of a tile of any form.
pub const MAX_TILE: usize = 4;

/// A tile size, and the matrices that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// F(2x2,3x3): 16 taps for 4 outputs, 4/9 of the direct products.
    F23,
    /// F(4x4,3x3): 36 taps for 16 outputs, 1/4 of the direct products.
    F43,
}

impl Form {
    /// Both forms.
    pub const ALL: [Self; 2] = [Self::F23, Self::F43];

    /// Rows and columns of outputs of a tile.
    pub const fn tile(self) -> usize {
        match self {
            Self::F23 => 2,
            Self::F43 => 4,
        }
    }

    /// Rows and columns of inputs that a tile reads, and of its taps.
    pub const fn window(self) -> usize {
        self.tile() + 2
    }

    /// Taps of a tile.
    pub const fn taps(self) -> usize {
        self.window() * self.window()
    }

    /// The tap (1, 1): where the zero point is seen, and where the bias goes.
    pub const fn bias_tap(self) -> usize {
        self.window() + 1
    }

    /// The algorithm of this form.
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::F23 => Algorithm::Winograd8F23,
            Self::F43 => Algorithm::Winograd8F43,
        }
    }

    /// B: a row a tap, a column an input of the window.
    pub const fn input_matrix(self) -> &'static [&'static [i16]] {
        match self {
            Self::F23 => &[&[1, 0, -1, 0], &[0, 1, 1, 0], &[0, -1, 1, 0], &[0, -1, 0, 1]],
            Self::F43 => &[
                &[2, 3, -4, -3, 2, 0],
                &[0, -2, -5, -1, 2, 0],
                &[0, 2, 1, -5, 2, 0],
                &[0, -1, -2, 1, 2, 0],
                &[0, 2, -1, -2, 1, 0],
                &[0, 2, 3, -4, -3, 2],
            ],
        }
    }

    /// G: a row a tap, as numerators and their denominator.
    pub const fn weight_matrix(self) -> &'static [([i32; 3], i32)] {
        match self {
            Self::F23 => &[([1, 0, 0], 1), ([1, 1, 1], 2), ([1, -1, 1], 2), ([0, 0, 1], 1)],
            Self::F43 => &[
                ([1, 0, 0], 2),
                ([-1, -1, -1], 6),
                ([1, -1, 1], 6),
                ([1, 2, 4], 30),
                ([-4, 2, -1], 30),
                ([0, 0, 1], 2),
            ],
        }
    }

    /// A: a row an output of the tile, a column a tap.
    pub const fn output_matrix(self) -> &'static [&'static [i32]] {
        match self {
            Self::F23 => &[&[1, 1, 1, 0], &[0, 1, -1, 1]],
            Self::F43 => {
                &[&[1, 1, 1, 1, 8, 0], &[0, 1, -1, 2, -4, 0], &[0, 1, 1, 4, 2, 0], &[0, 1, -1, 8, -1, 1]]
            }
        }
    }

    /// The taps `G w G'` of a 3x3 filter `w`, both row by row.
    #[cfg(feature = "write")]
    pub fn transform_weights(self, filter: &[f64; 9]) -> Vec<f64> {
        let row = |(n, d): ([i32; 3], i32), w: [f64; 3]| {
            (f64::from(n[0]) * w[0] + f64::from(n[1]) * w[1] + f64::from(n[2]) * w[2]) / f64::from(d)
        };
        let rows = self.weight_matrix();
        let columns: Vec<[f64; 3]> = rows
            .iter()
            .map(|g| [0, 1, 2].map(|x| row(*g, [filter[x], filter[3 + x], filter[6 + x]])))
            .collect();
        columns.iter().flat_map(|half| rows.iter().map(|g| row(*g, *half))).collect()
    }
}

/// `(2ab + 2^15) >> 16`, Arm's `sqrdmulh`: the rounded product of a value and a Q15 factor. `b` is not negative.
#[inline]
pub const fn rdmulh16(a: i16, b: i16) -> i16 {
    ((a as i32 * b as i32 + (1 << 14)) >> 15) as i16
}

/// `(2ab + 2^31) >> 32`, Arm's `sqrdmulh`: the rounded product of a value and a Q31 factor. `b` is not negative.
#[inline]
pub const fn rdmulh32(a: i32, b: i32) -> i32 {
    ((a as i64 * b as i64 + (1 << 30)) >> 31) as i32
}

/// A tap of the input as it is multiplied: scaled by `multiplier` (Q15, not negative), moved by `offset`, in 8 bits.
#[inline]
pub const fn to_i8(tap: i16, multiplier: i16, offset: i16) -> i8 {
    let moved = rdmulh16(tap, multiplier).saturating_add(offset);
    if moved < i8::MIN as i16 {
        i8::MIN
    } else if moved > i8::MAX as i16 {
        i8::MAX
    } else {
        moved as i8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, low: i64, high: i64, state: &mut u64) -> Vec<i64> {
        let mut next = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            low + ((*state >> 33) % (high - low + 1) as u64) as i64
        };
        (0..n).map(|_| next()).collect()
    }

    /// `m x m'`, where `x` is square, row by row.
    fn both(m: &[Vec<i64>], x: &[i64]) -> Vec<i64> {
        let n = m[0].len();
        let half: Vec<Vec<i64>> = m
            .iter()
            .map(|row| (0..n).map(|j| (0..n).map(|i| row[i] * x[i * n + j]).sum()).collect())
            .collect();
        half.iter()
            .flat_map(|h| m.iter().map(move |row| row.iter().zip(h).map(|(a, h)| a * h).sum()))
            .collect()
    }

    /// Exact in integers: G times 30 (or 2), so that outputs are 900 (or 4) times the convolution.
    #[test]
    fn the_matrices_give_the_convolution() {
        let mut state = 0x5EED;
        println!("seed {state:#x}");
        for (form, unit) in [(Form::F23, 2), (Form::F43, 30)] {
            let (tile, window) = (form.tile(), form.window());
            let wide = |m: &[&[i32]]| -> Vec<Vec<i64>> {
                m.iter().map(|r| r.iter().map(|v| i64::from(*v)).collect()).collect()
            };
            let b: Vec<Vec<i64>> =
                form.input_matrix().iter().map(|r| r.iter().map(|v| i64::from(*v)).collect()).collect();
            let whole = |(n, d): &([i32; 3], i32)| n.iter().map(|n| i64::from(n * unit / d)).collect();
            let g: Vec<Vec<i64>> = form.weight_matrix().iter().map(whole).collect();
            assert!(form.weight_matrix().iter().all(|(n, d)| n.iter().all(|n| n * unit % d == 0)));
            let a = wide(form.output_matrix());
            assert_eq!((a.len(), b.len(), g.len()), (tile, window, window));
            for _ in 0..200 {
                let x = numbers(window * window, -128, 127, &mut state);
                let w = numbers(9, -127, 127, &mut state);
                let m: Vec<i64> = both(&g, &w).iter().zip(both(&b, &x)).map(|(u, v)| u * v).collect();
                for (p, y) in both(&a, &m).into_iter().enumerate() {
                    let (i, j) = (p / tile, p % tile);
                    let product = |t: usize| w[t] * x[(i + t / 3) * window + j + t % 3];
                    assert_eq!(y, i64::from(unit * unit) * (0..9).map(product).sum::<i64>());
                }
            }
        }
    }

    #[test]
    fn taps_fit_and_one_sees_the_zero_point() {
        for (form, growth) in [(Form::F23, 2), (Form::F43, 14)] {
            let b = form.input_matrix();
            let most = b.iter().map(|row| row.iter().map(|v| v.abs()).sum::<i16>()).max();
            assert_eq!(most, Some(growth));
            assert!(i32::from(growth) * i32::from(growth) * 128 <= i32::from(i16::MAX));
            let sums: Vec<bool> = b.iter().map(|row| row.iter().sum::<i16>() != 0).collect();
            assert_eq!(sums.iter().position(|nonzero| *nonzero), Some(1));
            assert_eq!(sums.iter().filter(|nonzero| **nonzero).count(), 1);
            assert!(form.output_matrix().iter().all(|row| row[1] == 1));
        }
    }

    #[test]
    fn transformed_weights_are_g_w_g() {
        let filter = [1.0, -2.0, 3.0, 0.5, 0.25, -0.125, 7.0, 8.0, -9.0];
        for form in Form::ALL {
            let g: Vec<[f64; 3]> =
                (form.weight_matrix().iter()).map(|(n, d)| n.map(|n| f64::from(n) / f64::from(*d))).collect();
            let taps = form.transform_weights(&filter);
            assert_eq!(taps.len(), form.taps());
            for (t, found) in taps.into_iter().enumerate() {
                let (i, j) = (t / form.window(), t % form.window());
                let expected: f64 = (0..9).map(|k| g[i][k / 3] * filter[k] * g[j][k % 3]).sum();
                assert!((found - expected).abs() < 1e-12, "{form:?}, tap {t}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn products_round_halves_up_and_taps_saturate() {
        assert_eq!((rdmulh16(i16::MIN, 32767), rdmulh16(i16::MAX, 32767)), (-32767, 32766));
        assert_eq!((rdmulh32(i32::MIN, i32::MAX), rdmulh32(i32::MAX, i32::MAX)), (-i32::MAX, i32::MAX - 1));
        for (a, b) in
            [(1, 1 << 14), (-1, 1 << 14), (5, 1 << 13), (-5, 3 << 13), (25_088, 167), (-25_088, 167)]
        {
            let real = f64::from(a) * f64::from(b) / 32768.0;
            assert_eq!(f64::from(rdmulh16(a, b)), (real + 0.5).floor());
            let real = f64::from(a) * f64::from(b) / 2147483648.0;
            assert_eq!(f64::from(rdmulh32(a.into(), b.into())), (real + 0.5).floor());
        }
        assert_eq!(
            (to_i8(25_088, 0, 5), to_i8(-25_088, 32_767, i16::MIN), to_i8(20_000, 32_767, 32_767)),
            (5, -128, 127)
        );
    }
}
