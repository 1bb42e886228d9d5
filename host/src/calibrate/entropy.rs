//! The entropy observer: the range whose 255 steps keep most of what the values' distribution says.
//!
//! For each candidate range, the distribution with everything outside moved to the ends (P) is compared with the same
//! distribution after quantization (Q): in every step, the mass of its bins is spread evenly over those that are not empty.
//! The range with the smallest divergence of Q from P wins (S. Migacz, "8-bit inference with TensorRT", 2017).
//!
//! ```text
//! divergence(range) = sum over bins of P * ln(P / Q)
//! ```
//!
//! Zeros do not count, as for percentiles: behind a ReLU they are exact in every range, and would drown the others.

use super::{Histogram, Range};

/// Ranges tried, from the full one to 1 / CANDIDATES of it.
const CANDIDATES: usize = 200;
/// Narrowest range tried, in candidates: below it the histogram has too few bins to tell steps from each other.
const NARROWEST: usize = 20;
/// Steps of an 8-bit range.
const STEPS: f64 = 255.0;
/// Instead of nothing: a bin that the quantized distribution lost.
const LEAST: f64 = 1e-9;

/// The best of the candidates; the full range for an empty histogram.
pub(super) fn range(histogram: &Histogram) -> Range {
    let (min, max) = (f64::from(histogram.min()), f64::from(histogram.max()));
    let half = histogram.width() / 2.0;
    let bins: Vec<(f64, f64)> = histogram
        .bins()
        .filter(|(edge, _)| *edge != 0.0)
        .map(|(edge, n)| ((edge + half).clamp(min, max), n as f64))
        .collect();
    let best = (NARROWEST..=CANDIDATES)
        .rev()
        .map(|i| i as f64 / CANDIDATES as f64)
        .map(|share| (share, divergence(&bins, min * share, max * share)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let share = best.map_or(1.0, |(share, _)| share);
    Range { min: (min * share) as f32, max: (max * share) as f32 }
}

/// Divergence of the quantized from the clipped distribution, nats; `bins` are (middle, count) in rising order.
fn divergence(bins: &[(f64, f64)], min: f64, max: f64) -> f64 {
    let total: f64 = bins.iter().map(|b| b.1).sum();
    let inside: Vec<(f64, f64)> = bins.iter().copied().filter(|(v, _)| (min..=max).contains(v)).collect();
    let (Some(last), true) = (inside.len().checked_sub(1), total > 0.0) else { return 0.0 };
    // P: what lies outside counts at the ends.
    let mut p: Vec<f64> = inside.iter().map(|b| b.1).collect();
    p[0] += bins.iter().filter(|(v, _)| *v < min).map(|b| b.1).sum::<f64>();
    p[last] += bins.iter().filter(|(v, _)| *v > max).map(|b| b.1).sum::<f64>();
    // Q: the mass of each step, without what was clipped, spread over its bins.
    let step_of = |v: f64| ((v - min) / (max - min).max(f64::MIN_POSITIVE) * STEPS).round() as usize;
    let mut steps = vec![(0f64, 0f64); STEPS as usize + 1];
    for &(v, n) in &inside {
        let step = &mut steps[step_of(v)];
        *step = (step.0 + n, step.1 + 1.0);
    }
    let kept: f64 = inside.iter().map(|b| b.1).sum();
    let term = |(&(v, _), &p): (&(f64, f64), &f64)| {
        let (mass, n_bins) = steps[step_of(v)];
        let (p, q) = (p / total, (mass / n_bins / kept).max(LEAST));
        if p > 0.0 { p * (p / q).ln() } else { 0.0 }
    };
    inside.iter().zip(&p).map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_values_keep_their_range_and_far_outliers_are_clipped() {
        let uniform: Vec<f32> = (1..=200_000).map(|i| i as f32 / 200_000.0).collect();
        let mut h = Histogram::default();
        h.add(&uniform);
        assert!(range(&h).max > 0.97, "{:?}", range(&h));
        h.add(&[8.0]);
        let clipped = range(&h);
        assert!(clipped.max > 0.9 && clipped.max < 6.0, "{clipped:?}");
    }

    #[test]
    fn signed_values_keep_both_ends_and_nothing_seen_is_an_empty_range() {
        let mut h = Histogram::default();
        h.add(&(0..100_000).map(|i| i as f32 / 50_000.0 - 1.0).collect::<Vec<_>>());
        let both = range(&h);
        assert!(both.min < -0.9 && both.max > 0.9, "{both:?}");
        assert_eq!(range(&Histogram::default()), Range { min: 0.0, max: 0.0 });
    }
}
