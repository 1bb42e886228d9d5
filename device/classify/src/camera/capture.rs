//! The capture thread: keeps the newest frame at hand, and comes back to a camera that went away.
//!
//! ```text
//!            ┌──────────── frame: put into the slot
//! open ─► next ─► error ─► lost: wait 0.2, 0.4 ... 5 s, open again; give up after `--give-up` seconds
//!   └─ not there, in use ──┘
//! ```

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};

use super::Settings;
use super::choose::Size;
use super::frame::Frame;
use super::pace::BackOff;
use super::slot::Slot;
use super::source::{self, Next, OpenError, Source};
use crate::output;

/// Longest wait for a frame before the slot is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Where frames go, and how capturing ended.
pub(super) type Frames = Slot<Frame, Result<()>>;

/// Frames that were no use.
pub(super) struct Damage<'a> {
    device: &'a str,
    n_frames: AtomicU64,
}

impl<'a> Damage<'a> {
    pub(super) fn new(device: &'a str) -> Self {
        Self { device, n_frames: AtomicU64::new(0) }
    }

    /// Counts a frame; the first one is told.
    pub(super) fn count(&self, error: &Error) {
        let line = format!("{}: damaged frame left out: {error:#}", self.device);
        defmt::warn!("{=str}", line.as_str());
        if self.n_frames.fetch_add(1, Ordering::Relaxed) == 0 {
            output::note(format_args!("warning: {line}; further ones are only counted"));
        }
    }

    pub(super) fn n_frames(&self) -> u64 {
        self.n_frames.load(Ordering::Relaxed)
    }
}

/// Captures until the slot is closed or the recording ends.
///
/// # Errors
/// When the source is of the wrong kind, a recording cannot be read, or a camera does not come back in time.
pub(super) fn capture(settings: &Settings, wanted: Size, frames: &Frames, damage: &Damage<'_>) -> Result<()> {
    let mut watch =
        Watch { settings, damage, state: State::New, since: Instant::now(), back_off: BackOff::new() };
    while !frames.is_closed() {
        let error = match source::open(settings, wanted) {
            Ok(mut source) => match watch.follow(source.as_mut(), frames) {
                Ok(()) => return Ok(()),
                Err(error) if !source.may_return() => return Err(error),
                Err(error) => error,
            },
            // A camera that was there may have come back without its permissions yet.
            Err(OpenError::Never(error)) if matches!(watch.state, State::New) => return Err(error),
            Err(OpenError::Never(error) | OpenError::NotNow(error)) => error,
        };
        if !frames.is_closed() {
            watch.lose(error, frames)?;
        }
    }
    Ok(())
}

#[derive(PartialEq)]
enum State {
    New,
    Running,
    Lost,
}

/// What becomes of a source; tells its changes.
struct Watch<'a> {
    settings: &'a Settings,
    damage: &'a Damage<'a>,
    state: State,
    /// Of the last frame, or the start.
    since: Instant,
    back_off: BackOff,
}

impl Watch<'_> {
    /// Hands frames over until the source ends or fails.
    fn follow(&mut self, source: &mut dyn Source, frames: &Frames) -> Result<()> {
        let mut is_first = true;
        let mut spare = Vec::new();
        while !frames.is_closed() {
            let frame = match source.next(std::mem::take(&mut spare), TICK)? {
                Next::Frame(frame) => frame,
                // It must not take the place of a good one.
                Next::Damaged(error) => {
                    self.damage.count(&error);
                    continue;
                }
                Next::Nothing => continue,
                Next::End => return Ok(()),
            };
            if is_first {
                is_first = false;
                self.settings.smooth.reset();
                self.tell(State::Running, source.describe());
                self.back_off = BackOff::new();
            }
            self.since = Instant::now();
            if !source.is_live() {
                frames.put_next(frame);
            } else if let Some(old) = frames.put(frame) {
                spare = old.bytes;
            }
        }
        Ok(())
    }

    /// Waits before the next try.
    fn lose(&mut self, error: Error, frames: &Frames) -> Result<()> {
        if self.state != State::Lost {
            let what = if self.state == State::New { "not there" } else { "lost" };
            self.tell(State::Lost, format_args!("{what}: {error:#}; waiting for it"));
        }
        let wait = self.back_off.next();
        let Some(give_up) = self.settings.give_up else {
            frames.wait_for_close(wait);
            return Ok(());
        };
        let left = Duration::from_secs_f32(give_up).saturating_sub(self.since.elapsed());
        if left.is_zero() {
            return Err(error.context(format!("gave up after {give_up} s without a frame")));
        }
        frames.wait_for_close(wait.min(left));
        Ok(())
    }

    /// One line on stderr and in the log for each change.
    fn tell(&mut self, state: State, text: impl Display) {
        let line = format!("camera  {}: {text}", self.settings.device);
        if state == State::Lost {
            defmt::warn!("{=str}", line.as_str());
        } else {
            defmt::info!("{=str}", line.as_str());
        }
        output::note(format_args!("{line}"));
        self.state = state;
    }
}
