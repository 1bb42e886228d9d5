//! The search for a faster plan inside a budget of accuracy: which layers change first, and how many may.
//!
//! ```text
//! a layer:      exact ─► winograd8-f23 ─► winograd8-f43    steps along the hull of (loss, seconds)
//! all steps:    by saved seconds per loss, best first
//! the plan:     the longest beginning of that list whose whole network, measured, is inside the budget
//! ```
//!
//! Losses of layers add up only roughly, so they decide the order alone; what is inside the budget is measured.
//!
//! ```
//! use vgg_edge_blob::Algorithm::{Winograd8F23, Winograd8F43};
//! use vgg_edge_host::plan::search::{Candidate, order};
//! let new = |layer_idx, algorithm, seconds, loss| Candidate { layer_idx, algorithm, seconds, loss };
//! let exact = [(1, 10.0), (2, 10.0)];
//! let steps = order(
//!     &exact,
//!     &[new(1, Winograd8F23, 6.0, 1.0), new(1, Winograd8F43, 4.0, 9.0), new(2, Winograd8F43, 4.0, 2.0)],
//! );
//! let steps: Vec<_> = steps.iter().map(|s| (s.layer_idx, s.algorithm)).collect();
//! assert_eq!(steps, [(1, Winograd8F23), (2, Winograd8F43), (1, Winograd8F43)]);
//! ```

use std::cmp::Ordering;

use vgg_edge_blob::Algorithm;

/// Losses below this are noise of the measurement.
const LEAST_LOSS: f64 = 1e-9;

/// An approximate algorithm of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Layer, in the blob's order.
    pub layer_idx: usize,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Predicted time on the board.
    pub seconds: f64,
    /// What is lost with this layer alone changed, in any unit that adds up roughly.
    pub loss: f64,
}

/// A layer's change to a faster algorithm, from the one before it in the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Layer, in the blob's order.
    pub layer_idx: usize,
    /// Its new algorithm.
    pub algorithm: Algorithm,
    /// Seconds saved per loss.
    pub gain: f64,
}

/// All steps that save time, the best first; `exact` are the layers with the seconds of their exact algorithm.
pub fn order(exact: &[(usize, f64)], candidates: &[Candidate]) -> Vec<Step> {
    let mut steps = Vec::new();
    for &(layer_idx, mut seconds) in exact {
        let (mut loss, mut last) = (0.0, f64::INFINITY);
        let gain =
            |c: &Candidate, seconds: f64, loss: f64| (seconds - c.seconds) / (c.loss - loss).max(LEAST_LOSS);
        loop {
            let faster = candidates.iter().filter(|c| c.layer_idx == layer_idx && c.seconds < seconds);
            let better = |a: &&Candidate, b: &&Candidate| {
                let by_gain = gain(a, seconds, loss).total_cmp(&gain(b, seconds, loss));
                by_gain.then(b.seconds.total_cmp(&a.seconds))
            };
            let Some(best) = faster.max_by(better) else { break };
            // Never above the layer's step before, so that sorting keeps their order.
            last = gain(best, seconds, loss).min(last);
            steps.push(Step { layer_idx, algorithm: best.algorithm, gain: last });
            (seconds, loss) = (best.seconds, best.loss);
        }
    }
    // Stable: equal gains in the order of the layers.
    steps.sort_by(|a, b| b.gain.partial_cmp(&a.gain).unwrap_or(Ordering::Equal));
    steps
}

/// The most steps, of `n`, that `fits`; 0 always does. All are tried first, then halves: what fits is measured, and that fewer
/// steps than some that fit also would is not needed.
///
/// # Errors
/// Whatever `fits` fails with.
pub fn longest<E>(n: usize, mut fits: impl FnMut(usize) -> Result<bool, E>) -> Result<usize, E> {
    if n == 0 || fits(n)? {
        return Ok(n);
    }
    let (mut good, mut bad) = (0, n);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Algorithm::{Winograd8F23, Winograd8F43};

    #[test]
    fn slower_candidates_are_no_steps_and_better_ones_skip_worse() {
        let new = |algorithm, seconds, loss| Candidate { layer_idx: 3, algorithm, seconds, loss };
        assert_eq!(order(&[(3, 5.0)], &[new(Winograd8F23, 6.0, 0.0)]), []);
        // F43 is faster and loses less: F23 never comes.
        let steps = order(&[(3, 9.0)], &[new(Winograd8F23, 6.0, 2.0), new(Winograd8F43, 3.0, 1.0)]);
        assert_eq!(steps.iter().map(|s| s.algorithm).collect::<Vec<_>>(), [Winograd8F43]);
    }

    #[test]
    fn a_measured_gain_changes_nothing_in_the_order_within_a_layer() {
        let new = |algorithm, seconds, loss| Candidate { layer_idx: 0, algorithm, seconds, loss };
        let steps = order(&[(0, 9.0)], &[new(Winograd8F23, 6.0, -1.0), new(Winograd8F43, 5.0, -3.0)]);
        assert_eq!(steps[0].algorithm, Winograd8F43);
        assert!(steps.iter().all(|s| s.gain > 0.0));
    }

    #[test]
    fn the_longest_that_fits_is_found() {
        for n in 0..20 {
            for limit in 0..=n {
                let mut tried = 0;
                let found = longest(n, |k| {
                    tried += 1;
                    Ok::<_, ()>(k <= limit)
                });
                assert_eq!(found, Ok(limit));
                assert!(tried <= 6, "{n} {limit}: {tried}");
            }
        }
        assert_eq!(longest(3, |_| Err("no")), Err("no"));
    }
}
