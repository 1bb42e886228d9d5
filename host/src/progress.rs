//! Progress bars on a terminal's stderr; silent elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Whether and where progress is shown.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// On stderr, if it is a terminal.
    Terminal,
    /// Nowhere: libraries and tests.
    Hidden,
}

impl Progress {
    /// A bar of `n` steps.
    pub fn bar(self, what: &'static str, n: usize) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(n as u64), self.target());
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:>10} {wide_bar} {pos}/{len} {elapsed} left {eta}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar
    }

    /// A bar of bytes; its length is set when it is known.
    pub fn bytes(self, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix:>10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} left {eta}",
        ) {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar
    }

    /// A spinner for a step of unknown length.
    pub fn spinner(self, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        if let Ok(style) = ProgressStyle::with_template("{prefix:>10} {spinner} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        bar
    }

    fn target(self) -> ProgressDrawTarget {
        match self {
            Self::Terminal => ProgressDrawTarget::stderr(),
            Self::Hidden => ProgressDrawTarget::hidden(),
        }
    }
}
