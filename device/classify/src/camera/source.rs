//! Where frames come from: a camera, or what stands in for one.
//!
//! ```text
//! /dev/video0          a camera (V4L2)
//! file:frames/         a folder of pictures, by name
//! file:clip.mjpg       JPEG pictures one after another, as `ffmpeg -f mjpeg` writes them
//! file:clip.yuyv       frames of `--size`, as `ffmpeg -f rawvideo -pix_fmt yuyv422` writes them
//! file:-               the same from standard input: `rpicam-vid -t 0 --codec mjpeg -o - | classify camera MODEL file:-`
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Error, Result};

use super::Settings;
use super::choose::Size;
use super::device::Camera;
use super::frame::Frame;
use super::recording::Recording;

/// What comes next.
pub(super) enum Next {
    Frame(Frame),
    /// A frame that is no use, and why.
    Damaged(Error),
    /// Nothing within the time.
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

/// Gives frames, one after another.
pub(super) trait Source {
    /// What it gives, as in `640x480 YUYV, 30 frames a second`.
    fn describe(&self) -> &str;

    /// Whether it goes on whoever watches: a frame that comes too early for the network is then dropped.
    fn is_live(&self) -> bool;

    /// Whether it may come back after an error.
    fn may_return(&self) -> bool;

    /// The next frame, waiting up to `timeout`; `spare` is room for its bytes.
    ///
    /// # Errors
    /// When there will be no more: the camera was unplugged, the file cannot be read.
    fn next(&mut self, spare: Vec<u8>, timeout: Duration) -> Result<Next>;
}

/// Why there is no source.
pub(super) enum OpenError {
    /// It may come, or become free.
    NotNow(Error),
    /// It is of the wrong kind.
    Never(Error),
}

/// Opens what `settings` names, for frames of at least `wanted`.
pub(super) fn open(settings: &Settings, wanted: Size) -> Result<Box<dyn Source>, OpenError> {
    match settings.device.strip_prefix("file:") {
        Some(path) => {
            let recording = Recording::open(Path::new(path), settings).map_err(OpenError::Never)?;
            Ok(Box::new(recording))
        }
        None => Ok(Box::new(Camera::open(Path::new(&settings.device), settings, wanted)?)),
    }
}
