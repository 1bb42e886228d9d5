//! Times: how often to observe, how long to wait for a camera that has gone, how many observations a second.
//!
//! Times come in as arguments, so tests need no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// First and longest wait before a camera is opened again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Observations whose rate is told.
const RATE_OVER: usize = 16;

/// Lets through at most so many a second, evenly: after a pause there is no burst.
#[derive(Debug)]
pub(crate) struct Limit {
    interval: Duration,
    due: Option<Instant>,
}

impl Limit {
    /// At most `per_second`, which is positive; all when `None`.
    pub(crate) fn new(per_second: Option<f32>) -> Self {
        let interval = per_second.map_or(Duration::ZERO, |fps| Duration::from_secs_f64(1.0 / f64::from(fps)));
        Self { interval, due: None }
    }

    /// How long to wait before the next one may pass.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    /// One passes.
    pub(crate) fn pass(&mut self, now: Instant) {
        // Counted from when it was due: rounding and waking up late do not add up. From now when it is later by more.
        let from = self.due.filter(|&due| now.saturating_duration_since(due) < self.interval).unwrap_or(now);
        self.due = Some(from + self.interval);
    }
}

/// Waits that double.
#[derive(Debug)]
pub(crate) struct BackOff {
    next: Duration,
}

impl BackOff {
    pub(crate) fn new() -> Self {
        Self { next: BACK_OFF.0 }
    }

    /// How long to wait before this try.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(BACK_OFF.1);
        wait
    }
}

/// Observations a second, over the last 16.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    times: VecDeque<Instant>,
}

impl Rate {
    /// Counts one at `now`; 0 until there are two at different times.
    pub(crate) fn count(&mut self, now: Instant) -> f32 {
        if self.times.len() == RATE_OVER {
            self.times.pop_front();
        }
        self.times.push_back(now);
        let seconds =
            self.times.front().map_or(0.0, |&first| now.saturating_duration_since(first).as_secs_f32());
        if seconds > 0.0 { (self.times.len() - 1) as f32 / seconds } else { 0.0 }
    }
}
