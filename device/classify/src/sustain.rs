//! Runs without a pause: does the board keep its speed when it gets warm?
//!
//! ```text
//! run run run ... run | ...................... | run run ... run run
//! `-- first 10 s ---'                            `--- last 10 s ---'     runs a second, and how much slower
//! ```

use serde::Serialize;

/// Seconds at the beginning and at the end of `--sustain` that are compared; half the time if it is short.
const PART: f32 = 10.0;

/// Runs without a pause.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Sustained {
    pub(crate) seconds: f32,
    pub(crate) runs: usize,
    /// Length of the first and of the last part, seconds.
    pub(crate) part: f32,
    /// Runs a second in the first part.
    pub(crate) first: f32,
    /// Runs a second in the last part.
    pub(crate) last: f32,
    /// `1 - last / first`: negative when the last part was the faster one.
    pub(crate) slowdown: f32,
}

/// Compares the first and the last [`PART`] of runs that ended `ends` seconds after the first one began.
pub(crate) fn sustained(ends: &[f32]) -> Sustained {
    let seconds = ends.last().copied().unwrap_or(0.0);
    let part = PART.min(seconds / 2.0);
    let begin = |i: usize| if i == 0 { 0.0 } else { ends[i - 1] };
    // Whole runs, and one at least.
    let n_first = ends.partition_point(|&end| end <= part).clamp(1, ends.len().max(1));
    let first_of_last = (0..ends.len()).find(|&i| begin(i) >= seconds - part);
    let first_of_last = first_of_last.unwrap_or(ends.len().saturating_sub(1));
    let rate = |n: usize, time: f32| n as f32 / time;
    let first = rate(n_first, ends.get(n_first - 1).copied().unwrap_or(f32::NAN));
    let last = rate(ends.len() - first_of_last, seconds - begin(first_of_last));
    Sustained { seconds, runs: ends.len(), part, first, last, slowdown: 1.0 - last / first }
}
