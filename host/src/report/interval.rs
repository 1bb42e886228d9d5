//! How far a rate that was measured on some pictures may be from the rate on all: 95 % confidence intervals.
//!
//! ```
//! use vgg_edge_host::report::{paired_difference, wilson};
//! let [low, high] = wilson(725, 1000);
//! assert!((low - 0.6965).abs() < 1e-4 && (high - 0.7518).abs() < 1e-4);
//! // Of 1,000 pictures 7 are right only with the reference, 2 only with the network: half a point of difference may be chance.
//! let [low, high] = paired_difference(7, 2, 1000);
//! assert!(low < 0.0 && high > 0.01);
//! ```

/// Quantile of the normal distribution that leaves 2.5 % on each side.
const Z: f64 = 1.959_963_984_540_054;

/// Interval of a rate of `hits` in `n`, each 0 to 1: the score interval, which stays inside 0 to 1 and is right for few
/// pictures and for rates near 0 and 1 (E. B. Wilson, 1927). Without pictures it is 0 to 1.
pub fn wilson(hits: u64, n: u64) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let (n, z2) = (n as f64, Z * Z);
    let p = hits as f64 / n;
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    // Rounding must not push an end past the rate itself, where they are equal (0 of n, n of n).
    [(middle - half).max(0.0).min(p), (middle + half).min(1.0).max(p)]
}

/// Interval of the difference of two rates over the same `n` pictures, of which the first network alone has `first` and the
/// second alone `second` right: -1 to 1. Pictures on which both are right or both wrong say nothing about the difference, so
/// this is far narrower than two intervals side by side (A. Agresti and Y. Min, "Simple improved confidence intervals for
/// comparing matched proportions", 2005: half a picture more in each of the four cells).
pub fn paired_difference(first: u64, second: u64, n: u64) -> [f64; 2] {
    let (b, c, n) = (first as f64 + 0.5, second as f64 + 0.5, n as f64 + 2.0);
    let difference = (b - c) / n;
    let half = Z * (b + c - (b - c) * (b - c) / n).sqrt() / n;
    [(difference - half).max(-1.0), (difference + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_stays_inside_and_holds_the_rate() {
        for n in [1, 5, 64, 1000] {
            for hits in [0, n / 2, n] {
                let [low, high] = wilson(hits, n);
                let rate = hits as f64 / n as f64;
                assert!(0.0 <= low && low <= rate && rate <= high && high <= 1.0, "{hits}/{n}: {low} {high}");
            }
        }
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
        // 0 of 10: 1 / (1 + 10 / z^2).
        assert!((wilson(0, 10)[1] - 0.2775).abs() < 1e-4);
    }

    #[test]
    fn equal_networks_differ_by_nothing_give_or_take_chance() {
        let [low, high] = paired_difference(0, 0, 1000);
        assert!((low + high).abs() < 1e-15 && high < 0.002, "{low} {high}");
        let [low, _] = paired_difference(40, 2, 1000);
        assert!(low > 0.02, "{low}");
    }
}
