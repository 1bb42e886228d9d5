//! Pictures are read, decoded and fitted ahead of the network, on threads of their own; answers keep the order.
//!
//! ```text
//! sources ─► thread: read, decode, fit ─┐
//!         ─► thread: read, decode, fit ─┼─► by number ─► the network
//!         ─► …           at most 4     ─┘   a few prepared inputs
//! ```
//!
//! Memory: the threads are never more than a few pictures ahead; pictures are decoded at once only while they have at
//! most [`MAX_PIXELS`] together, and a larger one, or a large file, is decoded alone.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{fs, thread};

use anyhow::{Context, Error, Result, anyhow};

use super::sources::Source;
use crate::model::milliseconds;
use crate::picture::{self, Rule};

/// Threads that prepare pictures.
const MAX_THREADS: usize = 4;
/// Prepared inputs that wait, and pictures under way, beyond one a thread.
const AHEAD: usize = 2;
/// Pixels being decoded at a time, unless one picture alone has more.
const MAX_PIXELS: u64 = 1 << 25;
/// A file from this size on is read and decoded alone.
const LARGE_FILE: u64 = 32 << 20;

/// What became of a source.
pub(super) struct Prepared {
    /// The picture's name, or empty.
    pub(super) name: String,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    /// The network's input, u8 NHWC, and the milliseconds that it took.
    Input { input: Vec<u8>, decode_ms: f32 },
    /// It cannot be classified.
    Failed(Error),
    /// Something to say.
    Note(String),
}

/// The prepared pictures in order. When it is dropped, what is not under way is given up.
pub(super) struct Pipeline<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    /// The rest of the sources, and how many were taken.
    sources: Mutex<(S, usize)>,
    state: Mutex<State>,
    changed: Condvar,
    rule: Rule,
    window: usize,
}

#[derive(Default)]
struct State {
    /// Prepared, not given yet, by number.
    ready: BTreeMap<usize, Prepared>,
    n_given: usize,
    n_workers: usize,
    /// Pixels being decoded.
    pixels: u64,
    stopped: bool,
}

impl<S: Iterator<Item = Source> + Send + 'static> Pipeline<S> {
    /// Prepares `sources` by `rule` on at most `n_threads` threads.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(sources: S, rule: &Rule, n_threads: usize) -> Result<Self> {
        let n_threads =
            n_threads.clamp(1, MAX_THREADS).min(sources.size_hint().1.unwrap_or(MAX_THREADS).max(1));
        let shared = Arc::new(Shared {
            sources: Mutex::new((sources, 0)),
            state: Mutex::new(State { n_workers: n_threads, ..State::default() }),
            changed: Condvar::new(),
            rule: rule.clone(),
            window: n_threads + AHEAD,
        });
        let pipeline = Self { shared };
        for i in 0..n_threads {
            let worker = Worker(Arc::clone(&pipeline.shared));
            thread::Builder::new()
                .name(format!("pictures {i}"))
                .spawn(move || worker.0.work())
                .context("cannot start a thread for pictures")?;
        }
        Ok(pipeline)
    }
}

impl<S> Iterator for Pipeline<S> {
    type Item = Prepared;

    fn next(&mut self) -> Option<Prepared> {
        let is_waiting = |s: &mut State| s.n_workers > 0 && !s.ready.contains_key(&s.n_given);
        let mut state = self.shared.wait_while(is_waiting);
        let number = state.n_given;
        let prepared = state.ready.remove(&number)?;
        state.n_given += 1;
        drop(state);
        self.shared.changed.notify_all();
        Some(prepared)
    }
}

impl<S> Drop for Pipeline<S> {
    fn drop(&mut self) {
        self.shared.change(|state| state.stopped = true);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S> Shared<S> {
    fn wait_while(&self, condition: impl FnMut(&mut State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(lock(&self.state), condition).unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    /// Waits until `pixels` more may be decoded.
    fn admit(&self, pixels: u64) -> Permit<'_, S> {
        let is_full = |s: &mut State| s.pixels > 0 && s.pixels + pixels > MAX_PIXELS;
        self.wait_while(is_full).pixels += pixels;
        Permit { shared: self, pixels }
    }

    fn prepare(&self, path: &Path) -> Result<Vec<u8>> {
        let is_large = fs::metadata(path).is_ok_and(|file| file.len() >= LARGE_FILE);
        let alone = is_large.then(|| self.admit(MAX_PIXELS));
        let bytes = picture::read_file(path)?;
        let _permit = alone.unwrap_or_else(|| self.admit(self.rule.pixels(&bytes)));
        self.rule.decode(&bytes)
    }

    fn prepare_stdin(&self) -> Result<Vec<u8>> {
        let bytes = picture::read(io::stdin().lock())?;
        let _permit = self.admit(self.rule.pixels(&bytes));
        self.rule.decode(&bytes)
    }
}

impl<S: Iterator<Item = Source>> Shared<S> {
    /// The next source and its number, once the network is near enough.
    fn take(&self) -> Option<(usize, Source)> {
        let mut sources = lock(&self.sources);
        let (rest, n_taken) = &mut *sources;
        let state = self.wait_while(|s| !s.stopped && *n_taken >= s.n_given + self.window);
        if state.stopped {
            return None;
        }
        drop(state);
        let source = rest.next()?;
        *n_taken += 1;
        Some((*n_taken - 1, source))
    }

    fn work(&self) {
        while let Some((number, source)) = self.take() {
            let mut place = Place { shared: self, number, prepared: None };
            let start = Instant::now();
            let (name, result) = match source {
                Source::File(path) => (path.display().to_string(), self.prepare(&path)),
                Source::Stdin => ("-".to_owned(), self.prepare_stdin()),
                Source::Failed { name, error } => (name, Err(error)),
                Source::Note(text) => {
                    place.prepared = Some(Prepared { name: String::new(), outcome: Outcome::Note(text) });
                    continue;
                }
            };
            let outcome = match result {
                Ok(input) => Outcome::Input { input, decode_ms: milliseconds(start) },
                Err(error) => Outcome::Failed(error),
            };
            place.prepared = Some(Prepared { name, outcome });
        }
    }
}

/// Fills a number's place: the network waits for it, even when a decoder panicked.
struct Place<'a, S> {
    shared: &'a Shared<S>,
    number: usize,
    prepared: Option<Prepared>,
}

impl<S> Drop for Place<'_, S> {
    fn drop(&mut self) {
        let prepared = self.prepared.take().unwrap_or_else(|| Prepared {
            name: format!("picture {}", self.number + 1),
            outcome: Outcome::Failed(anyhow!("its decoder panicked")),
        });
        self.shared.change(|state| {
            state.ready.insert(self.number, prepared);
        });
    }
}

/// Pixels that may be decoded, until it is dropped.
struct Permit<'a, S> {
    shared: &'a Shared<S>,
    pixels: u64,
}

impl<S> Drop for Permit<'_, S> {
    fn drop(&mut self) {
        self.shared.change(|state| state.pixels -= self.pixels);
    }
}

/// A thread's part; when the last one has ended, no more is to come.
struct Worker<S>(Arc<Shared<S>>);

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.0.change(|state| state.n_workers -= 1);
    }
}
