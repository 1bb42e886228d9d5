//! The desk between those who want answers and the one thread that runs the network.
//!
//! ```text
//! requests ─► place (429 when there is none) ─► decode ─► queue ─┐ turns
//! camera ─────────────────────────────────────► one frame ───────┴──────► worker ─► reply
//! ```
//!
//! Requests and frames take turns where both wait, so neither starves the other: a frame waits for one request's run at
//! most, a request for one frame's run more than for the requests before it. A frame waits in a slot of its own, not in the
//! queue, so a camera never makes it full.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::answer::Found;

/// What the network says and the milliseconds that it took.
pub(crate) type Outcome = Result<(Found, f32)>;

/// A right to be decoded and to wait for the network; given back when the last copy is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Place(#[allow(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

/// Whose picture it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    /// Who wants to know so many classes.
    Request { k: usize },
    /// Its classes are smoothed.
    Camera,
}

/// A picture for the network.
pub(crate) struct Job {
    /// As [`crate::picture::Rule`] makes it.
    pub(crate) input: Vec<u8>,
    pub(crate) of: Of,
    reply: oneshot::Sender<Outcome>,
    /// Of a request; a frame has none.
    place: Option<Place>,
}

impl Job {
    /// Hands the outcome over. Nobody may be there any more.
    pub(crate) fn answer(self, outcome: Outcome) {
        drop(self.place);
        let _ = self.reply.send(outcome);
    }

    /// Whether nobody waits for the outcome.
    fn is_given_up(&self) -> bool {
        self.reply.is_closed()
    }
}

/// What the worker finds.
pub(crate) enum Next {
    Job(Job),
    /// Nothing came.
    Idle,
    /// The desk is closed.
    Closed,
}

/// See the module.
pub(crate) struct Desk {
    state: Mutex<State>,
    came: Condvar,
    places: Arc<Semaphore>,
    n_places: usize,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Job>,
    frame: Option<Job>,
    frame_was_last: bool,
    /// When the worker took what it runs.
    busy_since: Option<Instant>,
    closed: bool,
}

impl Desk {
    /// A desk where `n_places` requests may be decoded, wait or run.
    pub(crate) fn new(n_places: usize) -> Self {
        let n_places = n_places.min(Semaphore::MAX_PERMITS);
        Self {
            state: Mutex::default(),
            came: Condvar::new(),
            places: Arc::new(Semaphore::new(n_places)),
            n_places,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, or `None` when all are taken.
    pub(crate) fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(Arc::new).map(Place)
    }

    /// Places that are taken, and all there are.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.n_places - self.places.available_permits(), self.n_places)
    }

    /// Requests that wait for the network, and whether a frame does.
    pub(crate) fn waiting(&self) -> (usize, bool) {
        let state = self.lock();
        (state.requests.len(), state.frame.is_some())
    }

    /// How long the worker has been at the picture that it runs.
    pub(crate) fn busy_for(&self) -> Option<Duration> {
        self.lock().busy_since.map(|since| since.elapsed())
    }

    /// Waits for the network's answer to a request.
    ///
    /// # Errors
    /// When the network refuses the input, or the desk closes before.
    pub(crate) async fn request(&self, input: Vec<u8>, k: usize, place: Place) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let job = Job { input, of: Of::Request { k }, reply, place: Some(place) };
        self.put(|state| state.requests.push_back(job));
        outcome.await.context("the program is stopping")?
    }

    /// Blocks until the network has answered to a camera's frame. One camera at a time: a second frame takes the place of
    /// one that waits.
    ///
    /// # Errors
    /// As [`Desk::request`].
    pub(crate) fn frame(&self, input: Vec<u8>) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let job = Job { input, of: Of::Camera, reply, place: None };
        self.put(|state| state.frame = Some(job));
        outcome.blocking_recv().context("the program is stopping")?
    }

    fn put(&self, put: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if !state.closed {
            put(&mut state);
            self.came.notify_one();
        }
    }

    /// The worker's next picture; waits no longer than `patience`.
    pub(crate) fn next(&self, patience: Duration) -> Next {
        let mut state = self.lock();
        state.busy_since = None;
        let nothing = |state: &mut State| {
            state.requests.retain(|job| !job.is_given_up());
            state.frame.take_if(|job| job.is_given_up());
            state.requests.is_empty() && state.frame.is_none() && !state.closed
        };
        if nothing(&mut state) {
            let waited = self.came.wait_timeout_while(state, patience, nothing);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closed {
            return Next::Closed;
        }
        let frames_turn = !state.frame_was_last || state.requests.is_empty();
        let job = match state.frame.take_if(|_| frames_turn) {
            Some(frame) => Some((frame, true)),
            None => state.requests.pop_front().map(|request| (request, false)),
        };
        match job {
            Some((job, is_frame)) => {
                state.frame_was_last = is_frame;
                state.busy_since = Some(Instant::now());
                Next::Job(job)
            }
            None => Next::Idle,
        }
    }

    /// Ends the worker and gives up what waits.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.requests.clear();
        state.frame = None;
        self.came.notify_all();
    }
}
