//! How far it is, on a terminal: one line on stderr that is drawn over and cleared at the end.
//!
//! ```text
//! 12/340 pictures, 7.1/s
//! ```
//!
//! Plain text without colours or escape sequences, so `NO_COLOR` has nothing to turn off.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

/// How often the line is drawn at most.
const PERIOD: Duration = Duration::from_millis(100);

/// The line; does nothing when it is not wanted.
pub(super) struct Progress {
    total: usize,
    done: usize,
    started: Instant,
    drawn: Option<Instant>,
    /// Characters on the terminal now.
    width: usize,
    wanted: bool,
    /// Answers go to a terminal too.
    shared: bool,
}

impl Progress {
    /// For `total` pictures; nothing is ever drawn when stderr is no terminal, for a single picture or when `quiet`.
    pub(super) fn new(total: usize, quiet: bool) -> Self {
        let wanted = !quiet && total > 1 && stderr().is_terminal();
        let shared = stdout().is_terminal();
        let mut progress =
            Self { total, done: 0, started: Instant::now(), drawn: None, width: 0, wanted, shared };
        progress.draw();
        progress
    }

    /// Makes room for a line of data.
    pub(super) fn before_data(&mut self) {
        if self.shared {
            self.clear();
        }
    }

    /// Makes room for lines on stderr.
    pub(super) fn clear(&mut self) {
        if self.width > 0 {
            let _ = write!(stderr().lock(), "\r{:1$}\r", "", self.width);
            self.width = 0;
        }
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.done == self.total {
            return self.clear();
        }
        if self.width == 0 || self.drawn.is_none_or(|drawn| drawn.elapsed() >= PERIOD) {
            self.draw();
        }
    }

    fn draw(&mut self) {
        if !self.wanted {
            return;
        }
        let mut line = format!("{}/{} pictures", self.done, self.total);
        let seconds = self.started.elapsed().as_secs_f64();
        if self.done > 0 && seconds > 0.0 {
            line += &format!(", {:.1}/s", self.done as f64 / seconds);
        }
        let _ = write!(stderr().lock(), "\r{line:<0$}", self.width);
        self.width = self.width.max(line.len());
        self.drawn = Some(Instant::now());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
