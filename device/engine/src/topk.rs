//! Answers from logits: softmax and the k best classes, the same bytes on every CPU.
//!
//! ```text
//! p[i] = exp(x[i] - max x) / sum over j of exp(x[j] - max x)         f32, summed in class order
//! ```
//!
//! `exp` is libm's in software, so no C library or instruction set can differ.
//!
//! ```
//! use vgg_edge_engine::topk::{softmax, top_k};
//! let mut scores = [1.0, 3.0, 3.0, -2.0];
//! softmax(&mut scores);
//! assert_eq!(top_k(&scores, 2).iter().map(|t| t.class).collect::<Vec<_>>(), [1, 2]);
//! ```

use alloc::vec::Vec;
use core::cmp::Ordering;

/// A class and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Top {
    /// Class index, from 0.
    pub class: usize,
    /// Its logit or probability.
    pub score: f32,
}

/// Turns logits into probabilities in place: values in [0, 1] whose sum is 1 but for rounding.
///
/// The largest logit is subtracted first, so nothing overflows. A NaN counts as minus infinity, several
/// logits at plus infinity share the probability, and where there is no number at all all are 0.
pub fn softmax(values: &mut [f32]) {
    // `f32::max` ignores a NaN.
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for v in values.iter_mut() {
        *v = if v.is_nan() || *v == f32::NEG_INFINITY {
            0.0
        } else if *v == max {
            1.0
        } else {
            libm::expf(*v - max)
        };
        sum += *v;
    }
    if sum > 0.0 {
        values.iter_mut().for_each(|v| *v /= sum);
    }
}

/// The `k` best classes, best first; equal scores in class order, NaN behind every number. Gives all
/// classes when `k` exceeds them.
pub fn top_k(scores: &[f32], k: usize) -> Vec<Top> {
    let k = k.min(scores.len());
    let mut best: Vec<Top> = Vec::with_capacity(k);
    if k == 0 {
        return best;
    }
    for (class, &score) in scores.iter().enumerate() {
        // Classes come in rising order, so a newcomer goes behind its equals.
        let place = best.partition_point(|t| order(t.score, score) != Ordering::Less);
        if place == k {
            continue;
        }
        if best.len() == k {
            best.pop();
        }
        best.insert(place, Top { class, score });
    }
    best
}

/// Order of scores, with NaN below minus infinity and -0 equal to 0.
fn order(a: f32, b: f32) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(scores: &[f32], k: usize) -> Vec<usize> {
        top_k(scores, k).iter().map(|t| t.class).collect()
    }

    #[test]
    fn ties_go_to_the_lower_class() {
        assert_eq!(classes(&[1.0, 2.0, 2.0, 2.0, 0.0], 2), [1, 2]);
        assert_eq!(classes(&[0.0, -0.0, 0.0], 3), [0, 1, 2]);
    }

    #[test]
    fn nan_never_wins() {
        let scores = [f32::NAN, f32::NEG_INFINITY, 0.0, -f32::NAN, f32::INFINITY];
        assert_eq!(classes(&scores, 5), [4, 2, 1, 0, 3]);
        assert_eq!(classes(&scores, 1), [4]);
    }

    #[test]
    fn k_may_be_zero_or_too_large() {
        assert!(top_k(&[1.0], 0).is_empty() && top_k(&[], 3).is_empty());
        assert_eq!(classes(&[1.0, 5.0], 9), [1, 0]);
    }

    #[test]
    fn equals_a_stable_sort() {
        let mut state = 7u32;
        for n in 0..60 {
            let scores: Vec<f32> = (0..n)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    f32::from((state >> 28) as u8)
                })
                .collect();
            let mut sorted: Vec<usize> = (0..n).collect();
            sorted.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            for k in 0..=n {
                assert_eq!(classes(&scores, k), sorted[..k], "n {n} k {k}");
            }
        }
    }

    #[test]
    fn softmax_is_right_and_survives_large_logits() {
        let mut p = [0.0, 1.0, 2.0];
        softmax(&mut p);
        for (found, expected) in p.iter().zip([0.090_030_57, 0.244_728_47, 0.665_240_96]) {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
        let mut p = [1e38, -1e38, 1e38];
        softmax(&mut p);
        assert_eq!(p, [0.5, 0.0, 0.5]);
        let mut p = [f32::INFINITY, 3.0, f32::NAN];
        softmax(&mut p);
        assert_eq!(p, [1.0, 0.0, 0.0]);
        let mut p = [f32::NAN; 2];
        softmax(&mut p);
        assert_eq!(p, [0.0; 2]);
    }

    #[test]
    fn softmax_has_the_same_bits_everywhere() {
        let mut p = [0.1, -3.7, 2.5, 11.25, 10.75];
        softmax(&mut p);
        assert_eq!(p.map(f32::to_bits), BITS);
    }

    /// Printed once on x86-64; the Arm runs of this test compare with it.
    const BITS: [u32; 5] = [924_195_680, 878_111_127, 953_079_026, 1_059_018_009, 1_052_854_189];
}
