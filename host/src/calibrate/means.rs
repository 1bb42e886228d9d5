//! Mean activations, for bias correction: of every value of a small map, of every channel of a large one.
//!
//! Sums are integers, so that the result does not depend on the order of pictures or on threads.
//!
//! ```
//! use vgg_edge_host::calibrate::Means;
//! let mut means = Means::new(2, 2); // 2 values in 2 channels
//! means.add(&[1.0, 4.0]);
//! means.add(&[3.0, 4.0]);
//! assert_eq!((means.value(0), means.channel(1)), (2.0, 4.0));
//! ```

/// Larger maps keep channel means only.
const MAX_VALUES: usize = 1 << 16;
/// Steps of 1: fine enough for any activation, and a million pictures of values up to 5e5 fit.
const STEPS: f64 = (1 << 24) as f64;

/// Means over pictures of one map.
#[derive(Clone, Debug, PartialEq)]
pub struct Means {
    sums: Vec<i64>,
    channels: usize,
    n_pictures: u64,
}

impl Means {
    /// For maps of `len` values, the last axis being `channels`.
    pub fn new(len: usize, channels: usize) -> Self {
        let channels = channels.max(1);
        Self { sums: vec![0; if len <= MAX_VALUES { len } else { channels }], channels, n_pictures: 0 }
    }

    /// Adds one picture's map, NHWC.
    pub fn add(&mut self, map: &[f32]) {
        let n = self.sums.len().max(1);
        let mut sums = vec![0f64; n];
        for row in map.chunks(n) {
            for (sum, &v) in sums.iter_mut().zip(row) {
                *sum += f64::from(v);
            }
        }
        let repeats = (map.len() / n).max(1) as f64;
        for (total, sum) in self.sums.iter_mut().zip(&sums) {
            *total += (sum / repeats * STEPS).round() as i64;
        }
        self.n_pictures += 1;
    }

    /// Adds what another one summed.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.sums.iter_mut().zip(&other.sums) {
            *a += b;
        }
        self.n_pictures += other.n_pictures;
    }

    /// Mean of value `i` of the map; of its channel where the map is large.
    pub fn value(&self, i: usize) -> f64 {
        let sum = self.sums[i % self.sums.len().max(1)];
        sum as f64 / STEPS / self.n_pictures.max(1) as f64
    }

    /// Mean of channel `c` over rows and columns.
    pub fn channel(&self, c: usize) -> f64 {
        let of_channel = (c..self.sums.len()).step_by(self.channels);
        let n = of_channel.len().max(1) as f64;
        of_channel.map(|i| self.value(i)).sum::<f64>() / n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_maps_keep_channels_and_small_ones_values() {
        let large: Vec<f32> = (0..2 * MAX_VALUES).map(|i| (i % 2) as f32).collect();
        let mut means = Means::new(large.len(), 2);
        means.add(&large);
        assert_eq!((means.value(5), means.channel(0), means.channel(1)), (1.0, 0.0, 1.0));
        let mut means = Means::new(4, 2);
        means.add(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!((means.value(2), means.channel(0), means.channel(1)), (3.0, 2.0, 3.0));
    }
}
