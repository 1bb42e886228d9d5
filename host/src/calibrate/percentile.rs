//! The percentile observer: clips the rarest values, so that outliers do not cost everybody else resolution.
//!
//! Half of what is left out of `percent` may be clipped at each end. Zeros do not count: after a ReLU most
//! values are 0, and a percentile over all of them would depend on how sparse the layer is.

use super::{Histogram, Range};

/// The smallest range, to a bin's width, that holds `percent` of the values other than 0.
pub(super) fn range(histogram: &Histogram, percent: f64) -> Range {
    let zero_bin = |edge: f64| edge == 0.0;
    let total: u64 = histogram.bins().filter(|b| !zero_bin(b.0)).map(|b| b.1).sum();
    let may_clip = total as f64 * (1.0 - percent / 100.0) / 2.0;
    // The first edge beyond which more than may be clipped lies; `end` is the outer edge of a bin.
    let reach = |bins: &mut dyn Iterator<Item = (f64, u64)>, end: &dyn Fn(f64) -> f64| {
        let mut clipped = 0;
        for (edge, n) in bins {
            clipped += n;
            if clipped as f64 > may_clip {
                return end(edge);
            }
        }
        0.0
    };
    let width = histogram.width();
    let max = reach(&mut histogram.bins().rev().filter(|b| b.0 > 0.0), &|edge| edge + width);
    let min = reach(&mut histogram.bins().filter(|b| b.0 < 0.0), &|edge| edge);
    Range { min: (min as f32).max(histogram.min()), max: (max as f32).min(histogram.max()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_the_outlier_and_keeps_the_rest() {
        let mut h = Histogram::default();
        let mut values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        values.push(50.0);
        h.add(&values);
        let range = range(&h, 99.9);
        assert!(range.max > 0.98 && range.max < 1.05, "{range:?}");
        assert_eq!(range.min, 0.0);
        assert_eq!(super::range(&h, 100.0).max, 50.0);
    }

    #[test]
    fn an_empty_or_zero_histogram_gives_zero() {
        let mut h = Histogram::default();
        assert_eq!(range(&h, 99.9), Range { min: 0.0, max: 0.0 });
        h.add(&[0.0; 10]);
        assert_eq!(range(&h, 99.9), Range { min: 0.0, max: 0.0 });
    }
}
