//! The mean squared error observer: the range whose 256 steps reproduce the values best.
//!
//! A wide range makes steps coarse for everybody, a narrow one clips the largest values; the sum of both errors
//! over the histogram has one minimum, found by trying ranges from the full one down.
//!
//! ```text
//! error(range) = sum over bins of count * (clipped ? (v - end)^2 : rounding), step = (max - min) / 255
//! rounding     = step^2 / 12, and v^2 where v rounds to 0
//! ```

use super::{Histogram, Range};

/// Ranges tried, from the full one to 1 / CANDIDATES of it.
const CANDIDATES: usize = 200;
/// Steps of an 8-bit range.
const STEPS: f64 = 255.0;

/// The best of the candidates; the full range for an empty histogram.
pub(super) fn range(histogram: &Histogram) -> Range {
    let (min, max) = (f64::from(histogram.min()), f64::from(histogram.max()));
    let half = histogram.width() / 2.0;
    let bins: Vec<(f64, f64)> = histogram.bins().map(|(edge, n)| (edge + half, n as f64)).collect();
    let best = (1..=CANDIDATES)
        .rev()
        .map(|i| i as f64 / CANDIDATES as f64)
        .map(|share| (share, error(&bins, min * share, max * share)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let share = best.map_or(1.0, |(share, _)| share);
    Range { min: (min * share) as f32, max: (max * share) as f32 }
}

/// Squared error of what `histogram` counts in this range.
pub(super) fn loss(histogram: &Histogram, range: Range) -> f64 {
    let half = histogram.width() / 2.0;
    let bins: Vec<(f64, f64)> = histogram.bins().map(|(edge, n)| (edge + half, n as f64)).collect();
    error(&bins, f64::from(range.min), f64::from(range.max))
}

fn error(bins: &[(f64, f64)], min: f64, max: f64) -> f64 {
    let step = (max - min) / STEPS;
    let of_bin = |&(v, n): &(f64, f64)| {
        let squared = if v > max {
            (v - max).powi(2)
        } else if v < min {
            (v - min).powi(2)
        } else {
            (step * step / 12.0).min(v * v)
        };
        n * squared
    };
    bins.iter().map(of_bin).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_values_keep_their_range_and_outliers_are_clipped() {
        let uniform: Vec<f32> = (0..100_000).map(|i| i as f32 / 100_000.0).collect();
        let mut h = Histogram::default();
        h.add(&uniform);
        assert!(range(&h).max > 0.98, "{:?}", range(&h));
        // Rare enough that it is worth clipping: one in two million.
        (0..19).for_each(|_| h.add(&uniform));
        h.add(&[4.0]);
        let clipped = range(&h);
        assert!(clipped.max > 0.9 && clipped.max < 2.0, "{clipped:?}");
        assert_eq!(clipped.min, 0.0);
    }

    #[test]
    fn nothing_seen_is_an_empty_range() {
        assert_eq!(range(&Histogram::default()), Range { min: 0.0, max: 0.0 });
    }
}
