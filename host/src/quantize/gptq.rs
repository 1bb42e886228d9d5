//! GPTQ: weights rounded one by one, each error taken back by the weights behind it.
//!
//! E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2022. What rounding a
//! weight changes in the outputs is taken back as far as the inputs' moments `H` let the weights behind it. With `H = R R'`,
//! `R` upper, and `U` the inverse of `R`:
//!
//! ```text
//! for input j:   q[j] = round(w[j] / step)     e = (w[j] - step * q[j]) / U[j][j]     w[k] -= e * U[j][k]   for k > j
//! ```
//!
//! `H` must be positive definite: a multiple of its mean is added to its diagonal, the *damping*, which also says how far to
//! believe it.

use std::ops::Range;

/// Rounds the weights `which` of `w` to multiples of `step` in `limits`, appending to `rounded`, and corrects those behind.
/// `upper` is what [`inverse_factor`] gives, or nothing: then no error is moved.
pub(super) fn round(
    w: &mut [f32],
    upper: &[f32],
    which: Range<usize>,
    step: f32,
    limits: [f32; 2],
    rounded: &mut Vec<i8>,
) {
    let n = w.len();
    for j in which {
        let q = (w[j] / step).round_ties_even().clamp(limits[0], limits[1]);
        rounded.push(q as i8);
        let Some(row) = upper.get(j * n..(j + 1) * n) else { continue };
        let error = (w[j] - q * step) / row[j];
        for (w, u) in w[j + 1..].iter_mut().zip(&row[j + 1..]) {
            *w -= error * u;
        }
    }
}

/// Sum of products, in eight chains: the same order whatever the machine.
pub(super) fn dot<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    let (mut sums, mut rest) = ([0f64; 8], 0f64);
    let (a, b) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.0.iter().zip(b.0) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += (*a).into() * (*b).into();
        }
    }
    for (a, b) in a.1.iter().zip(b.1) {
        rest += (*a).into() * (*b).into();
    }
    sums.iter().sum::<f64>() + rest
}

/// `U`, upper, with `U' U` the inverse of the positive definite `h`, `n` rows of `n`: the inverse of `R` with `h = R R'`.
pub(super) fn inverse_factor(h: Vec<f64>, n: usize) -> Vec<f32> {
    // R takes the place of the upper triangle, from the last column to the first.
    let mut r = h;
    for j in (0..n).rev() {
        let own = &r[j * n..(j + 1) * n];
        let diagonal = (own[j] - dot(&own[j + 1..], &own[j + 1..])).max(f64::MIN_POSITIVE).sqrt();
        let behind = own[j + 1..].to_vec();
        r[j * n + j] = diagonal;
        for i in 0..j {
            let row = &mut r[i * n..(i + 1) * n];
            row[j] = (row[j] - dot(&row[j + 1..], &behind)) / diagonal;
        }
    }
    let mut u = vec![0f64; n * n];
    for i in (0..n).rev() {
        let (above, below) = u.split_at_mut((i + 1) * n);
        let row = &mut above[i * n..];
        for k in i + 1..n {
            let factor = r[i * n + k];
            let behind = &below[(k - i - 1) * n..(k - i) * n];
            for (u, b) in row[k..].iter_mut().zip(&behind[k..]) {
                *u -= factor * b;
            }
        }
        row[i] = 1.0;
        row[i..].iter_mut().for_each(|u| *u /= r[i * n + i]);
    }
    u.into_iter().map(|u| u as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::numbers;

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        let (n, mut state) = (7, 1);
        let x = numbers(n * 20, &mut state);
        let mut h = vec![0f64; n * n];
        for (i, h) in h.iter_mut().enumerate() {
            let product = |p: &[f32]| f64::from(p[i / n]) * f64::from(p[i % n]);
            *h = x.chunks_exact(n).map(product).sum::<f64>() + if i / n == i % n { 0.1 } else { 0.0 };
        }
        let u: Vec<f64> = inverse_factor(h.clone(), n).into_iter().map(f64::from).collect();
        for i in 0..n {
            assert!((0..i).all(|j| u[i * n + j] == 0.0), "row {i}");
            for j in 0..n {
                // (U' U) h = 1
                let inverse = |k: usize| (0..n).map(|l| u[l * n + i] * u[l * n + k]).sum::<f64>();
                let found: f64 = (0..n).map(|k| inverse(k) * h[k * n + j]).sum();
                assert!((found - f64::from(i == j)).abs() < 1e-4, "{i}, {j}: {found}");
            }
        }
    }
}
