//! A live camera: what does it show now? The newest frame is classified, never a queue of old ones.
//!
//! ```text
//! V4L2 or file ─► capture thread ─► newest frame ─► picture, fitted ─► classify ─► smoothed ─► Observation
//!                 reopens a lost camera   │ dropped for newer ones, counted
//! ```
//!
//! `classify camera` prints the observations, `classify serve --camera` hands them on.

mod args;
mod capture;
mod choose;
mod command;
mod device;
mod frame;
mod list;
mod mjpeg;
mod pace;
mod recording;
mod slot;
mod smooth;
mod source;
mod v4l2;
mod yuv;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vgg_edge_blob::ResizeRule;

pub(crate) use self::args::{Camera, Settings};
use self::capture::{Damage, Frames, capture};
use self::choose::Size;
pub(crate) use self::command::camera;
use self::frame::Frame;
use self::pace::{Limit, Rate};
use self::slot::{Slot, Taken};
use crate::answer::Found;
use crate::model::milliseconds;
use crate::observation::Observation;
use crate::output;
use crate::picture::Rule;

/// Longest wait before `stop` is looked at.
const TICK: Duration = Duration::from_millis(50);

/// Watches `settings.device` and gives an observation a frame to `sink`, until `stop` turns true or a recording ends.
///
/// `classify` gets the prepared input, u8 NHWC by `rule`, and gives what the network finds and its milliseconds; it applies
/// `settings.smooth`, which is forgotten here whenever the camera was away. A camera that is unplugged is waited for; each change is a line on
/// stderr and in the log. Damaged frames are left out and counted.
///
/// # Errors
/// When the device is no camera, a recording cannot be read, the camera stays away longer than `settings.give_up`, or `classify` fails.
pub(crate) fn observe(
    settings: &Settings,
    rule: &Rule,
    stop: &AtomicBool,
    classify: &mut dyn FnMut(Vec<u8>) -> Result<(Found, f32)>,
    sink: &mut dyn FnMut(Observation),
) -> Result<()> {
    let frames: Frames = Slot::new();
    let damage = Damage::new(&settings.device);
    let wanted = least_size(rule, settings.rotate);
    thread::scope(|scope| {
        let _closing = Closing(&frames);
        let capturing = thread::Builder::new().name("camera".to_owned());
        capturing
            .spawn_scoped(scope, || frames.end(capture(settings, wanted, &frames, &damage)))
            .context("cannot start the capture thread")?;
        let mut watcher = Watcher {
            settings,
            rule,
            damage: &damage,
            classify,
            sink,
            n_observed: 0,
            n_dropped: 0,
            n_dropped_before: 0,
            rate: Rate::default(),
        };
        let result = watcher.watch(&frames, stop);
        watcher.tell();
        result.with_context(|| format!("cannot watch {}", settings.device))
    })
}

/// Ends the capture thread, also when a panic goes through: the scope waits for it.
struct Closing<'a>(&'a Frames);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Width and height that frames should have at least: nothing is then enlarged.
fn least_size(rule: &Rule, quarters: u8) -> Size {
    let size = match rule.preprocess.resize {
        ResizeRule::Stretch => (rule.input.width, rule.input.height),
        ResizeRule::ShorterSideCenterCrop(side) => (side.max(rule.input.width), side.max(rule.input.height)),
    };
    if quarters.is_multiple_of(2) { size } else { (size.1, size.0) }
}

struct Watcher<'a> {
    settings: &'a Settings,
    rule: &'a Rule,
    damage: &'a Damage<'a>,
    classify: &'a mut dyn FnMut(Vec<u8>) -> Result<(Found, f32)>,
    sink: &'a mut dyn FnMut(Observation),
    n_observed: u64,
    /// Since the last observation.
    n_dropped: u64,
    n_dropped_before: u64,
    rate: Rate,
}

impl Watcher<'_> {
    fn watch(&mut self, frames: &Frames, stop: &AtomicBool) -> Result<()> {
        let mut limit = Limit::new(self.settings.fps);
        while !stop.load(Ordering::Relaxed) {
            let wait = limit.wait(Instant::now());
            if !wait.is_zero() {
                thread::sleep(wait.min(TICK));
                continue;
            }
            match frames.take(TICK) {
                Taken::Nothing => {}
                Taken::End(result) => return result,
                Taken::Value(frame, n_replaced) => {
                    self.n_dropped += n_replaced;
                    let passed = Instant::now();
                    match self.look(&frame)? {
                        Ok(()) => limit.pass(passed),
                        Err(error) => self.damage.count(&error),
                    }
                }
            }
        }
        Ok(())
    }

    /// One line at the end.
    fn tell(&self) {
        let line = format!(
            "camera  {}: {} observations, {} frames dropped, {} damaged",
            self.settings.device,
            self.n_observed,
            self.n_dropped_before + self.n_dropped,
            self.damage.n_frames()
        );
        defmt::info!("{=str}", line.as_str());
        output::note(format_args!("{line}"));
    }

    /// Classifies a frame and hands the observation on; the inner error is the frame's, the outer one the network's.
    fn look(&mut self, frame: &Frame) -> Result<Result<()>> {
        let start = Instant::now();
        let settings = self.settings;
        let picture = match frame.picture(settings.rotate) {
            Ok(picture) => picture,
            Err(error) => return Ok(Err(error)),
        };
        let (width, height) = (picture.width(), picture.height());
        let jpeg = match settings.preview.then(|| frame.preview(&picture, settings.rotate)).transpose() {
            Ok(jpeg) => jpeg,
            Err(error) => return Ok(Err(error)),
        };
        let input = self.rule.fit(picture);
        let decode_ms = milliseconds(start);
        let (found, ms) = (self.classify)(input)?;
        self.n_observed += 1;
        self.n_dropped_before += self.n_dropped;
        (self.sink)(Observation {
            sequence: self.n_observed,
            unix_ms: frame.captured.unix_ms,
            source: settings.device.clone(),
            width,
            height,
            found,
            ms,
            decode_ms,
            latency_ms: milliseconds(frame.captured.at),
            fps: self.rate.count(Instant::now()),
            dropped: std::mem::take(&mut self.n_dropped),
            jpeg,
        });
        Ok(Ok(()))
    }
}
