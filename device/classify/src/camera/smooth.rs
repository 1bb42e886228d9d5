//! Smoothing: the mean of each class's probability over the last frames, so that one bad frame changes no answer.
//!
//! ```text
//! p[class] = (sum over the last min(N, seen) frames of their p[class]) / min(N, seen)      f32, oldest first
//! ```
//!
//! The mean is taken anew for every frame, so no error piles up, and the same frames give the same bytes. It applies to the
//! softmax outputs of all classes, before the best are chosen.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Most frames to smooth over: at 10 a second half a minute.
const MOST_FRAMES: usize = 300;

/// The last frames' probabilities. A handle: its clones share them, so that the thread that classifies smooths and the one
/// that watches the camera can begin anew.
#[derive(Clone, Debug)]
pub(crate) struct Smoother {
    n_frames: usize,
    last: Arc<Mutex<VecDeque<Vec<f32>>>>,
}

impl Smoother {
    /// Over `n_frames` frames; 1 changes nothing.
    pub(crate) fn new(n_frames: usize) -> Self {
        Self { n_frames: n_frames.clamp(1, MOST_FRAMES), last: Arc::default() }
    }

    /// The value of an option.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(n_frames @ 1..=MOST_FRAMES) => Ok(Self::new(n_frames)),
            _ => Err(format!("expected 1 to {MOST_FRAMES} frames")),
        }
    }

    /// Frames that it takes the mean of.
    pub(crate) fn n_frames(&self) -> usize {
        self.n_frames
    }

    /// Remembers a frame's `probabilities` and replaces them by the mean over the last frames.
    pub(crate) fn smooth(&self, probabilities: &mut [f32]) {
        if self.n_frames == 1 {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Another network's probabilities say nothing about these classes.
        last.retain(|frame| frame.len() == probabilities.len());
        while last.len() >= self.n_frames {
            last.pop_front();
        }
        last.push_back(probabilities.to_vec());
        probabilities.fill(0.0);
        for frame in last.iter() {
            probabilities.iter_mut().zip(frame).for_each(|(sum, p)| *sum += p);
        }
        let n = last.len() as f32;
        probabilities.iter_mut().for_each(|sum| *sum /= n);
    }

    /// Forgets all frames: what comes next has nothing to do with them.
    pub(crate) fn reset(&self) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
