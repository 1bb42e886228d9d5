//! A streaming histogram: bins of one power-of-two width, which doubles when a value falls outside.
//!
//! Bin `i` counts values in `[i * width, (i + 1) * width)`, `i` from `-BINS` to `BINS - 1`. Doubling joins bins
//! `2i` and `2i + 1`, so counts do not depend on the order of values, nor on how they were split over threads.
//!
//! ```
//! use vgg_edge_host::calibrate::Histogram;
//! let mut h = Histogram::default();
//! h.add(&[0.5, 0.25, -1.0]);
//! assert_eq!((h.min(), h.max(), h.count()), (-1.0, 0.5, 3));
//! ```

/// Bins on each side of 0.
const BINS: i64 = 4096;
/// Width of a bin to begin with: small enough for any activation, large enough that few doublings are needed.
const FIRST_EXPONENT: i32 = -24;

/// Counts of f32 values.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    counts: Vec<u64>,
    exponent: i32,
    min: f32,
    max: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; 2 * BINS as usize], exponent: FIRST_EXPONENT, min: 0.0, max: 0.0 }
    }
}

impl Histogram {
    /// Counts finite values; the reference refuses graphs that give others.
    pub fn add(&mut self, values: &[f32]) {
        let (min, max) = values.iter().fold((0f32, 0f32), |(lo, hi), &v| (lo.min(v), hi.max(v)));
        self.cover(min, max);
        let per_width = 1.0 / self.width();
        for &v in values {
            let bin = (f64::from(v) * per_width).floor().clamp(-BINS as f64, (BINS - 1) as f64) as i64;
            self.counts[(bin + BINS) as usize] += 1;
        }
    }

    /// Adds what another histogram counted.
    pub fn merge(&mut self, other: &Self) {
        self.cover(other.min, other.max);
        let mut other = other.clone();
        while other.exponent < self.exponent {
            other.double();
        }
        while self.exponent < other.exponent {
            self.double();
        }
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
    }

    /// Smallest value, or 0 if that is smaller.
    pub fn min(&self) -> f32 {
        self.min
    }

    /// Largest value, or 0 if that is larger.
    pub fn max(&self) -> f32 {
        self.max
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Width of a bin.
    pub fn width(&self) -> f64 {
        f64::from(self.exponent).exp2()
    }

    /// Non-empty bins in rising order: `(lower edge, count)`.
    pub fn bins(&self) -> impl DoubleEndedIterator<Item = (f64, u64)> + '_ {
        let width = self.width();
        let edge = move |i: usize| (i as i64 - BINS) as f64 * width;
        self.counts.iter().enumerate().filter(|(_, n)| **n > 0).map(move |(i, &n)| (edge(i), n))
    }

    fn cover(&mut self, min: f32, max: f32) {
        (self.min, self.max) = (self.min.min(min), self.max.max(max));
        let reach = |h: &Self| BINS as f64 * h.width();
        while f64::from(self.max) >= reach(self) || f64::from(self.min) < -reach(self) {
            self.double();
        }
    }

    fn double(&mut self) {
        let mut joined = vec![0; self.counts.len()];
        for (i, n) in self.counts.iter().enumerate() {
            joined[((i as i64 - BINS).div_euclid(2) + BINS) as usize] += n;
        }
        self.counts = joined;
        self.exponent += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u32, n: usize, scale: f32) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 8) as f32 / (1 << 24) as f32 - 0.3) * scale
            })
            .collect()
    }

    #[test]
    fn order_and_split_do_not_matter() {
        let (a, b) = (values(1, 1000, 3.0), values(2, 500, 4000.0));
        let mut together = Histogram::default();
        together.add(&a);
        together.add(&b);
        let (mut left, mut right) = (Histogram::default(), Histogram::default());
        right.add(&a);
        left.add(&b);
        left.merge(&right);
        assert_eq!(together, left);
        assert_eq!(together.count(), 1500);
    }

    #[test]
    fn bins_hold_their_values() {
        let mut h = Histogram::default();
        h.add(&[0.0, 1.0, 1.5, -2.0, 100.0]);
        let bins: Vec<_> = h.bins().collect();
        assert_eq!(bins.iter().map(|b| b.1).sum::<u64>(), 5);
        assert_eq!((bins[0].0, bins[bins.len() - 1].0), (-2.0, 100.0));
    }
}
