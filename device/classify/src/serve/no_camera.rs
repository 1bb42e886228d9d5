//! `classify serve` of a program that was built without the feature `camera`: nothing to watch.

use std::sync::atomic::AtomicBool;

use anyhow::Result;

use crate::answer::Found;
use crate::observation::Observation;
use crate::picture::Rule;

/// No options.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CameraArgs {}

impl CameraArgs {
    pub(crate) fn is_some(&self) -> bool {
        false
    }

    pub(crate) fn n_frames(&self) -> usize {
        1
    }

    pub(crate) fn smooth(&self, _probabilities: &mut [f32]) {}

    pub(crate) fn observe(
        &self,
        _rule: &Rule,
        _stop: &AtomicBool,
        _classify: &mut dyn FnMut(Vec<u8>) -> Result<(Found, f32)>,
        _sink: &mut dyn FnMut(Observation),
    ) -> Result<()> {
        Ok(())
    }
}
