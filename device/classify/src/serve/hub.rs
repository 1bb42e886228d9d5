//! Where observations of the camera, and answers, come together with those who follow them.
//!
//! ```text
//! camera ─► publish ─┬─► broadcast (64; a slow follower loses the oldest, counted) ─► /v1/events, MQTT
//!                    ├─► the last 64 observations, for a follower that comes back
//!                    └─► the newest frame ─► /v1/frame.jpg
//! answers ────────────► broadcast ─► MQTT
//! ```
//!
//! Only the newest frame is kept: what followers hold is small.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::answer::Answer;
use crate::observation::Observation;

/// Observations kept for followers.
const KEPT: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    live: broadcast::Sender<Arc<Observation>>,
    answers: broadcast::Sender<Arc<Answer>>,
    recent: Mutex<Recent>,
    /// Observations that slow followers lost.
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Recent {
    observations: VecDeque<Arc<Observation>>,
    frame: Option<Frame>,
    dropped: u64,
}

/// The newest frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Of its observation.
    pub(crate) sequence: u64,
    pub(crate) jpeg: Arc<[u8]>,
}

/// What the camera did so far.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Observations so far.
    pub(crate) observations: u64,
    /// Observations a second, over the last ones.
    pub(crate) fps: f32,
    /// Frames that were skipped for newer ones, so far.
    pub(crate) dropped: u64,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            live: broadcast::channel(KEPT).0,
            answers: broadcast::channel(KEPT).0,
            recent: Mutex::default(),
            lost: AtomicU64::new(0),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows an observation to all followers; never waits for one.
    pub(crate) fn publish(&self, mut observation: Observation) {
        let jpeg = observation.jpeg.take();
        let observation = Arc::new(observation);
        let mut recent = self.recent();
        recent.dropped += observation.dropped;
        if let Some(jpeg) = jpeg {
            recent.frame = Some(Frame { sequence: observation.sequence, jpeg });
        }
        if recent.observations.len() == KEPT {
            recent.observations.pop_front();
        }
        recent.observations.push_back(Arc::clone(&observation));
        // Under the lock, as `follow` subscribes under it: none is shown twice or left out there.
        let _ = self.live.send(observation);
    }

    /// What comes from now on, behind those kept that came after the one of number `after`; with `None` there are none.
    pub(crate) fn follow(
        &self,
        after: Option<u64>,
    ) -> (VecDeque<Arc<Observation>>, broadcast::Receiver<Arc<Observation>>) {
        let recent = self.recent();
        let newest = recent.observations.back().map_or(0, |o| o.sequence);
        // A number from before a restart says nothing.
        let after = after.filter(|&after| after <= newest).unwrap_or(newest);
        let missed = recent.observations.iter().filter(|o| o.sequence > after).cloned().collect();
        (missed, self.live.subscribe())
    }

    /// Observations for a publisher.
    #[cfg(feature = "mqtt")]
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Observation>> {
        self.live.subscribe()
    }

    /// Shows an answer to the publisher, if there is one; never waits for it.
    pub(crate) fn answered(&self, answer: &Answer) {
        if self.answers.receiver_count() > 0 {
            let _ = self.answers.send(Arc::new(answer.clone()));
        }
    }

    /// Answers for a publisher.
    #[cfg(feature = "mqtt")]
    pub(crate) fn subscribe_answers(&self) -> broadcast::Receiver<Arc<Answer>> {
        self.answers.subscribe()
    }

    /// Counts what a slow follower lost.
    pub(crate) fn lose(&self, n: u64) {
        self.lost.fetch_add(n, Ordering::Relaxed);
    }

    /// Observations that slow followers lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The newest frame; `None` before the first one.
    pub(crate) fn frame(&self) -> Option<Frame> {
        self.recent().frame.clone()
    }

    /// `None` before the first observation.
    pub(crate) fn pace(&self) -> Option<Pace> {
        let recent = self.recent();
        let newest = recent.observations.back()?;
        Some(Pace { observations: newest.sequence, fps: newest.fps, dropped: recent.dropped })
    }
}
