//! The global defmt logger: one frame at a time, from any thread, handed to the log's sink when it is complete.
//!
//! A frame's bytes are collected as they are for the text form, and in rzCOBS for the others. Without a log they are not
//! collected at all.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::sink::Log;

struct State {
    encoder: defmt::Encoder,
    /// The frame that is being written, as the log wants it.
    frame: Vec<u8>,
    log: Option<Log>,
}

static STATE: Mutex<State> =
    Mutex::new(State { encoder: defmt::Encoder::new(), frame: Vec::new(), log: None });
static START: OnceLock<Instant> = OnceLock::new();

thread_local! {
    /// The lock, between a frame's `acquire` and its `release`.
    static HELD: RefCell<Option<MutexGuard<'static, State>>> = const { RefCell::new(None) };
}

/// Timestamps count from the first call.
pub(super) fn start_clock() {
    START.get_or_init(Instant::now);
}

/// Since the start; zero without a log, when nobody sees it: `bench` counts on the clock being read by the runs alone.
pub(super) fn elapsed() -> Duration {
    START.get().map_or(Duration::ZERO, Instant::elapsed)
}

/// Sends frames to `log` from now on.
pub(super) fn set(log: Option<Log>) {
    lock().log = log;
}

/// Runs `f` on the log, if there is one. `f` must not log.
pub(super) fn with(f: impl FnOnce(&mut Log)) {
    if let Some(log) = &mut lock().log {
        f(log);
    }
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` on the state this thread holds.
fn with_held(f: impl FnOnce(&mut State)) {
    HELD.with_borrow_mut(|held| {
        if let Some(state) = held.as_deref_mut() {
            f(state);
        }
    });
}

#[defmt::global_logger]
struct Logger;

// SAFETY: defmt calls `acquire`, `write` and `release` in this order on one thread. The mutex is held from
// `acquire` to `release`, so frames of different threads never mix; `write` and `release` act on what this
// thread holds and on nothing otherwise.
#[allow(unsafe_code)]
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        let mut state = lock();
        let State { encoder, frame, log } = &mut *state;
        if log.as_ref().is_some_and(|log| !log.is_text()) {
            encoder.start_frame(|bytes| frame.extend_from_slice(bytes));
        }
        HELD.set(Some(state));
    }

    unsafe fn flush() {}

    unsafe fn write(bytes: &[u8]) {
        with_held(|State { encoder, frame, log }| match log {
            None => {}
            Some(log) if log.is_text() => frame.extend_from_slice(bytes),
            Some(_) => encoder.write(bytes, |bytes| frame.extend_from_slice(bytes)),
        });
    }

    unsafe fn release() {
        with_held(|State { encoder, frame, log }| {
            if let Some(log) = log {
                if !log.is_text() {
                    encoder.end_frame(|bytes| frame.extend_from_slice(bytes));
                }
                log.put(frame);
            }
            frame.clear();
        });
        HELD.set(None);
    }
}

defmt::timestamp!("{=u64:us}", elapsed().as_micros() as u64);
