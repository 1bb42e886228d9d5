//! The min-max observer: the range is what was seen, to the last outlier.

use super::{Histogram, Range};

/// From the smallest to the largest value, 0 included.
pub(super) fn range(histogram: &Histogram) -> Range {
    Range { min: histogram.min(), max: histogram.max() }
}
