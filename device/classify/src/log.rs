//! The defmt log on a hosted system: rzCOBS frames to stderr or to a file.
//!
//! Message texts stay in the unstripped program; what is written are ids and values, a few bytes a line.
//! `cargo xtask logs` decodes the stream with that program, whether or not the running copy was stripped.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Write, stderr};
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

/// Where frames go.
enum Sink {
    None,
    Stderr,
    File(File),
}

struct State {
    encoder: defmt::Encoder,
    frame: Vec<u8>,
    sink: Sink,
}

static STATE: Mutex<State> =
    Mutex::new(State { encoder: defmt::Encoder::new(), frame: Vec::new(), sink: Sink::None });
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    /// The lock, between a frame's `acquire` and its `release`.
    static HELD: RefCell<Option<MutexGuard<'static, State>>> = const { RefCell::new(None) };
}

/// Starts logging to `sink`: a file, which is emptied, or `stderr`.
///
/// # Errors
/// When the file cannot be created.
pub(crate) fn start(sink: &Path) -> Result<()> {
    LazyLock::force(&START);
    let sink = if sink == Path::new("stderr") {
        Sink::Stderr
    } else {
        Sink::File(File::create(sink).with_context(|| format!("cannot write the log {}", sink.display()))?)
    };
    lock().sink = sink;
    Ok(())
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
        let State { encoder, frame, .. } = &mut *state;
        encoder.start_frame(|bytes| frame.extend_from_slice(bytes));
        HELD.set(Some(state));
    }

    unsafe fn flush() {}

    unsafe fn write(bytes: &[u8]) {
        with_held(|State { encoder, frame, .. }| {
            encoder.write(bytes, |bytes| frame.extend_from_slice(bytes));
        });
    }

    unsafe fn release() {
        with_held(|State { encoder, frame, sink }| {
            encoder.end_frame(|bytes| frame.extend_from_slice(bytes));
            // A log that cannot be written must not stop the work.
            let _ = match sink {
                Sink::None => Ok(()),
                Sink::Stderr => stderr().write_all(frame),
                Sink::File(file) => file.write_all(frame),
            };
            frame.clear();
        });
        HELD.set(None);
    }
}

defmt::timestamp!("{=u64:us}", START.elapsed().as_micros() as u64);
