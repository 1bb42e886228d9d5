//! `classify serve --camera DEV`: the options, and the camera's thread.
//!
//! ```text
//! frame ─► input ─► desk (turns with requests) ─► smoothed classes ─► observation ─► hub
//! ```

use std::sync::atomic::AtomicBool;

use anyhow::Result;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::answer::Found;
use crate::camera::{Settings, observe};
use crate::observation::Observation;
use crate::picture::Rule;

const CAMERA: &str = "camera";

/// The camera to watch, if any.
#[derive(Clone, Debug)]
pub(crate) struct CameraArgs {
    settings: Option<Settings>,
}

impl CameraArgs {
    pub(crate) fn is_some(&self) -> bool {
        self.settings.is_some()
    }

    /// Frames that an observation is smoothed over.
    pub(crate) fn n_frames(&self) -> usize {
        self.settings.as_ref().map_or(1, |settings| settings.smooth.n_frames())
    }

    /// Smooths the probabilities of a frame's classes over the last frames.
    pub(crate) fn smooth(&self, probabilities: &mut [f32]) {
        if let Some(settings) = &self.settings {
            settings.smooth.smooth(probabilities);
        }
    }

    /// Watches until `stop`, or until a recording ends.
    ///
    /// # Errors
    /// As [`observe`].
    pub(crate) fn observe(
        &self,
        rule: &Rule,
        stop: &AtomicBool,
        classify: &mut dyn FnMut(Vec<u8>) -> Result<(Found, f32)>,
        sink: &mut dyn FnMut(Observation),
    ) -> Result<()> {
        match &self.settings {
            Some(settings) => observe(settings, rule, stop, classify, sink),
            None => Ok(()),
        }
    }
}

// By hand: the options of a camera are wrong without one, which `flatten` alone does not say.
impl Args for CameraArgs {
    fn augment_args(command: Command) -> Command {
        let ours: Vec<String> = command.get_arguments().map(|arg| arg.get_id().to_string()).collect();
        let needs_camera = |arg: Arg| {
            let is_ours = ours.contains(&arg.get_id().to_string());
            if is_ours { arg } else { arg.requires(CAMERA) }
        };
        let command = Settings::augment_args(command).mut_args(needs_camera);
        let help = "Watch a camera, such as /dev/video0, or `file:PATH`: a folder of pictures, MJPEG or raw YUYV frames";
        command.arg(Arg::new(CAMERA).long(CAMERA).value_name("DEV").help(help).help_heading("Camera"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for CameraArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Some(device) = matches.get_one::<String>(CAMERA) else { return Ok(Self { settings: None }) };
        let settings = Settings::from_arg_matches(matches)?;
        Ok(Self { settings: Some(Settings { device: device.clone(), preview: true, ..settings }) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
