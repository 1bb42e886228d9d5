//! The newest frame, and no other: what stands between a camera that does not wait and a network that takes its time.
//!
//! ```text
//! capture thread ─ put ─► [ one frame ] ─ take ─► classifier
//!                           │ a newer one replaces it, which is counted
//! ```
//!
//! A recording waits instead (`put_next`), so that each of its frames is seen.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A place for one `T`, with the end `E` of the one who fills it.
pub(crate) struct Slot<T, E> {
    state: Mutex<State<T, E>>,
    changed: Condvar,
}

struct State<T, E> {
    value: Option<T>,
    n_replaced: u64,
    /// How the filling side ended.
    end: Option<E>,
    /// Whether nobody takes any more.
    is_closed: bool,
}

/// What was in the slot.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken<T, E> {
    /// The newest value, and how many it has replaced since the last one was taken.
    Value(T, u64),
    /// Nothing within the time.
    Nothing,
    /// Nothing, and nothing will come; told once.
    End(E),
}

impl<T, E> Slot<T, E> {
    pub(crate) fn new() -> Self {
        let state = State { value: None, n_replaced: 0, end: None, is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `value` in, and gives back the one that it replaces.
    pub(crate) fn put(&self, value: T) -> Option<T> {
        let mut state = self.lock();
        let old = state.value.replace(value);
        state.n_replaced += u64::from(old.is_some());
        self.changed.notify_all();
        old
    }

    /// Puts `value` in once the one before it was taken; does nothing when the slot was closed.
    pub(crate) fn put_next(&self, value: T) {
        let is_waiting = |state: &mut State<T, E>| state.value.is_some() && !state.is_closed;
        let state = self.changed.wait_while(self.lock(), is_waiting);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if !state.is_closed {
            state.value = Some(value);
            self.changed.notify_all();
        }
    }

    /// Takes what is in, waiting up to `timeout` for it.
    pub(crate) fn take(&self, timeout: Duration) -> Taken<T, E> {
        let until = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if let Some(value) = state.value.take() {
                self.changed.notify_all();
                return Taken::Value(value, std::mem::take(&mut state.n_replaced));
            }
            if let Some(end) = state.end.take() {
                return Taken::End(end);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Taken::Nothing;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that nothing more is put in.
    pub(crate) fn end(&self, end: E) {
        self.lock().end = Some(end);
        self.changed.notify_all();
    }

    /// Says that nothing more is taken.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Whether [`Slot::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Waits up to `timeout` for [`Slot::close`]; whether it was called.
    pub(crate) fn wait_for_close(&self, timeout: Duration) -> bool {
        let result = self.changed.wait_timeout_while(self.lock(), timeout, |state| !state.is_closed);
        result.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }
}
