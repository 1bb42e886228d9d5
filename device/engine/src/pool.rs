//! Who computes: tasks handed to one thread or to many.
//!
//! ```text
//! run:     write job, open the gate ─► take tasks ─► close the gate ─► wait until nobody is inside
//! worker:  spin, then sleep ─► enter if the gate is open ─► take tasks ─► leave
//! gate:    epoch << 16 | open << 15 | workers inside                      one atomic word
//! ```
//!
//! A worker that wakes up too late finds the gate closed and goes back to waiting, so `run` waits for
//! nobody who has not begun. Tasks are taken one by one from a shared counter: fast cores take more.
//!
//! ```
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use vgg_edge_engine::pool::{Executor, Serial};
//! let sum = AtomicUsize::new(0);
//! Serial.run(5, &|i| {
//!     sum.fetch_add(i, Ordering::Relaxed);
//! });
//! assert_eq!(sum.into_inner(), 10);
//! ```

#[cfg(feature = "std")]
pub use threads::Pool;

/// Runs independent tasks and returns when all are done.
pub trait Executor: Sync {
    /// Threads that work, the caller included.
    fn n_threads(&self) -> usize;

    /// Calls `task(0)` to `task(n_tasks - 1)`, each once, in any order, on any of the threads.
    ///
    /// # Panics
    /// When a task does; tasks that have not begun are dropped then.
    fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync));
}

pub(crate) use chunks::{each_chunk, each_chunk_and_slot, each_slot};

#[allow(unsafe_code)]
mod chunks {
    use core::marker::PhantomData;
    use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::Executor;

    /// Calls `task(i, chunk)` for the first `n_chunks` chunks of `len` values of `data`, each on some thread: memory that
    /// tasks write without sharing it. The last chunk may be shorter, those behind it are empty.
    pub(crate) fn each_chunk<T: Send>(
        executor: &dyn Executor,
        data: &mut [T],
        len: usize,
        n_chunks: usize,
        task: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        let (chunks, next) = (Chunks::new(data, len), AtomicUsize::new(0));
        executor.run(n_chunks, &|_| {
            // Counted here: no executor can hand out a chunk twice, whatever numbers it gives.
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i < n_chunks {
                // SAFETY: `i` comes once.
                task(i, unsafe { chunks.chunk(i) });
            }
        });
    }

    /// Calls `task(i, chunk)` for `n_tasks` tasks, each with one of the first `n_slots` (1 to 64) chunks of `len` values
    /// of `data`: working memory for as many tasks as run at a time. A task finds what another one left there.
    pub(crate) fn each_slot<T: Send>(
        executor: &dyn Executor,
        data: &mut [T],
        (len, n_slots): (usize, usize),
        n_tasks: usize,
        task: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        let chunks = Chunks::new(data, len);
        let free = AtomicU64::new(u64::MAX >> (64 - n_slots.clamp(1, 64)));
        executor.run(n_tasks, &|i| {
            let slot = Slot::take(&free);
            // SAFETY: the slot's bit is ours until `slot` is dropped.
            task(i, unsafe { chunks.chunk(slot.index as usize) });
        });
    }

    /// A task that gets a chunk and a slot.
    type WithSlot<'a, T, U> = dyn Fn(usize, &mut [T], &mut [U]) + Sync + 'a;

    /// Calls `task(i, chunk, slot)` for the first `n_chunks` chunks of `len` values of `data`, as [`each_chunk`], each with
    /// one of the chunks of `slots`, as [`each_slot`].
    pub(crate) fn each_chunk_and_slot<T: Send, U: Send>(
        executor: &dyn Executor,
        (data, len): (&mut [T], usize),
        slots: &mut [U],
        shape: (usize, usize),
        n_chunks: usize,
        task: &WithSlot<'_, T, U>,
    ) {
        let (chunks, next) = (Chunks::new(data, len), AtomicUsize::new(0));
        each_slot(executor, slots, shape, n_chunks, &|_, slot| {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i < n_chunks {
                // SAFETY: `i` comes once.
                task(i, unsafe { chunks.chunk(i) }, slot);
            }
        });
    }

    /// A bit taken out of `free`, given back at the end, even when a task panics.
    struct Slot<'a> {
        free: &'a AtomicU64,
        index: u32,
    }

    impl<'a> Slot<'a> {
        fn take(free: &'a AtomicU64) -> Self {
            loop {
                let index = free.load(Ordering::Relaxed).trailing_zeros();
                if index < 64 && free.fetch_and(!(1 << index), Ordering::Acquire) & (1 << index) != 0 {
                    return Self { free, index };
                }
                // More tasks at a time than slots: wait for one.
                core::hint::spin_loop();
            }
        }
    }

    impl Drop for Slot<'_> {
        fn drop(&mut self) {
            self.free.fetch_or(1 << self.index, Ordering::Release);
        }
    }

    /// A slice in chunks, for threads that take different ones.
    struct Chunks<'a, T> {
        start: *mut T,
        total: usize,
        len: usize,
        data: PhantomData<&'a mut [T]>,
    }

    // SAFETY: `chunk` gives access, and its callers see to it that threads have different ones; `T` may go to another
    // thread.
    unsafe impl<T: Send> Sync for Chunks<'_, T> {}

    impl<'a, T> Chunks<'a, T> {
        fn new(data: &'a mut [T], len: usize) -> Self {
            Self { start: data.as_mut_ptr(), total: data.len(), len, data: PhantomData }
        }

        /// Chunk `i`.
        ///
        /// # Safety
        /// Nobody has this chunk at the same time.
        #[allow(clippy::mut_from_ref)] // the caller's promise
        unsafe fn chunk(&self, i: usize) -> &mut [T] {
            let first = i.saturating_mul(self.len).min(self.total);
            let len = self.len.min(self.total - first);
            // SAFETY: inside the slice that is borrowed for 'a; nobody else has this chunk.
            unsafe { core::slice::from_raw_parts_mut(self.start.add(first), len) }
        }
    }
}

/// The caller's own thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Executor for Serial {
    fn n_threads(&self) -> usize {
        1
    }

    fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..n_tasks).for_each(task);
    }
}

#[cfg(feature = "std")]
#[allow(unsafe_code)]
mod threads {
    use core::any::Any;
    use core::cell::UnsafeCell;
    use core::hint::spin_loop;
    use core::mem::transmute;
    use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    use std::boxed::Box;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread::{self, JoinHandle};
    use std::vec::Vec;
    use std::{fmt, format, io};

    use super::{Executor, Serial};

    /// Polls before a waiting thread sleeps (workers) or yields (the caller): longer than the gap between
    /// two layers, shorter than a scheduler tick.
    const SPINS: u32 = if cfg!(miri) { 4 } else { 2000 };
    /// Most threads of a pool.
    const MAX_THREADS: usize = 1024;

    const OPEN: u64 = 1 << 15;
    const INSIDE: u64 = OPEN - 1;
    const EPOCH: u64 = 1 << 16;

    /// A task whose lifetime is erased, and how many of it.
    type Job = (*const (dyn Fn(usize) + Sync + 'static), usize);

    struct Shared {
        gate: AtomicU64,
        /// Written only with the gate closed and nobody inside, read only inside.
        job: UnsafeCell<Option<Job>>,
        /// The next task nobody has taken.
        next: AtomicUsize,
        /// The first panic of this job.
        panic: Mutex<Option<Box<dyn Any + Send>>>,
        stop: AtomicBool,
    }

    // SAFETY: `job` is the one field that is not `Sync`. The caller of `Pool::run` writes it while the gate
    // is closed and empty, and `busy` keeps a second caller out; workers read it between entering and leaving.
    // Opening (SeqCst store) and entering (acquire) order the write before the reads, leaving (release) and
    // the caller's wait (acquire) order the reads before the next write. The pointer in it is to a `Sync` closure.
    unsafe impl Sync for Shared {}
    // SAFETY: as above; nothing in it is tied to the thread that made it.
    unsafe impl Send for Shared {}

    struct Worker {
        asleep: Arc<AtomicBool>,
        handle: JoinHandle<()>,
    }

    /// Threads that share tasks with the caller. Threads start once and sleep while there is no work.
    ///
    /// A `run` inside a task, or from a second thread while one is under way, is serial.
    pub struct Pool {
        shared: Arc<Shared>,
        workers: Vec<Worker>,
        busy: AtomicBool,
    }

    impl fmt::Debug for Pool {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Pool").field("n_threads", &self.n_threads()).finish_non_exhaustive()
        }
    }

    impl Pool {
        /// Starts `n_threads - 1` threads: the caller of `run` is the last one. `n_threads` is clamped to
        /// 1..=1024. Threads inherit the caller's CPU affinity.
        ///
        /// # Errors
        /// When the system refuses a thread.
        pub fn new(n_threads: usize) -> io::Result<Self> {
            let shared = Arc::new(Shared {
                gate: AtomicU64::new(0),
                job: UnsafeCell::new(None),
                next: AtomicUsize::new(0),
                panic: Mutex::new(None),
                stop: AtomicBool::new(false),
            });
            let mut pool = Self { shared, workers: Vec::new(), busy: AtomicBool::new(false) };
            for i in 1..n_threads.clamp(1, MAX_THREADS) {
                let asleep = Arc::new(AtomicBool::new(false));
                let (shared, flag) = (Arc::clone(&pool.shared), Arc::clone(&asleep));
                let builder = thread::Builder::new().name(format!("vgg-edge-{i}"));
                // On an error the pool is dropped, which ends the threads there are.
                let handle = builder.spawn(move || shared.serve(&flag))?;
                pool.workers.push(Worker { asleep, handle });
            }
            Ok(pool)
        }

        fn wake(&self) {
            for worker in &self.workers {
                if worker.asleep.load(Ordering::SeqCst) {
                    worker.handle.thread().unpark();
                }
            }
        }

        fn run_shared(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            let shared = &*self.shared;
            // SAFETY: only the lifetime changes. The pointer is used by threads that have entered the gate,
            // and this function returns only after the gate is closed and the last of them has left; a panic
            // of a task, here or there, is caught and travels on behind that point. Nothing between opening
            // and the end of the wait can unwind.
            let task: &'static (dyn Fn(usize) + Sync) = unsafe { transmute(task) };
            // SAFETY: the gate is closed and empty and `busy` is ours: nobody else touches the cell.
            unsafe { *shared.job.get() = Some((task, n_tasks)) };
            shared.next.store(0, Ordering::Relaxed);
            let epoch = shared.gate.load(Ordering::Relaxed) & !(EPOCH - 1);
            // SeqCst, as the sleepers' flags: either we see the flag, or the sleeper sees the new epoch.
            shared.gate.store((epoch + EPOCH) | OPEN, Ordering::SeqCst);
            self.wake();
            shared.take_tasks(n_tasks, task);
            shared.gate.fetch_and(!OPEN, Ordering::AcqRel);
            let mut spins = 0;
            while shared.gate.load(Ordering::Acquire) & INSIDE != 0 {
                spins += 1;
                if spins < SPINS {
                    spin_loop();
                } else {
                    thread::yield_now();
                }
            }
            // SAFETY: as for the write above.
            unsafe { *shared.job.get() = None };
        }
    }

    impl Executor for Pool {
        fn n_threads(&self) -> usize {
            self.workers.len() + 1
        }

        fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            let alone = n_tasks < 2 || self.workers.is_empty();
            if alone || self.busy.swap(true, Ordering::Acquire) {
                return Serial.run(n_tasks, task);
            }
            self.run_shared(n_tasks, task);
            let panic = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.busy.store(false, Ordering::Release);
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
        }
    }

    impl Drop for Pool {
        fn drop(&mut self) {
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.gate.fetch_add(EPOCH, Ordering::SeqCst);
            self.wake();
            for worker in self.workers.drain(..) {
                // A worker catches its tasks' panics, so there is none to pass on.
                let _ = worker.handle.join();
            }
        }
    }

    impl Shared {
        /// A worker's life.
        fn serve(&self, asleep: &AtomicBool) {
            let mut seen = 0;
            loop {
                seen = self.wait_for_epoch(seen, asleep);
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(epoch) = self.enter() {
                    seen = epoch;
                    // SAFETY: inside the gate nobody writes the cell, and the job's closure is alive.
                    if let Some((task, n_tasks)) = unsafe { *self.job.get() } {
                        // SAFETY: see `run_shared`: the caller waits for us to leave.
                        self.take_tasks(n_tasks, unsafe { &*task });
                    }
                    self.gate.fetch_sub(1, Ordering::Release);
                }
            }
        }

        /// Returns the epoch once it is not `seen` any more: first spinning, then asleep.
        fn wait_for_epoch(&self, seen: u64, asleep: &AtomicBool) -> u64 {
            let epoch = || self.gate.load(Ordering::SeqCst) / EPOCH;
            for _ in 0..SPINS {
                if epoch() != seen {
                    return epoch();
                }
                spin_loop();
            }
            asleep.store(true, Ordering::SeqCst);
            while epoch() == seen {
                thread::park();
            }
            asleep.store(false, Ordering::Relaxed);
            epoch()
        }

        /// Enters the gate if it is open and returns its epoch.
        fn enter(&self) -> Option<u64> {
            let step = |gate| (gate & OPEN != 0).then_some(gate + 1);
            let before = self.gate.fetch_update(Ordering::Acquire, Ordering::Relaxed, step).ok()?;
            Some(before / EPOCH)
        }

        /// Takes tasks until none is left; never unwinds.
        fn take_tasks(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            loop {
                let i = self.next.fetch_add(1, Ordering::Relaxed);
                if i >= n_tasks {
                    return;
                }
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(i))) {
                    self.next.store(n_tasks, Ordering::Relaxed);
                    let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
                    if first.is_none() {
                        *first = Some(panic);
                    } else {
                        // A payload whose destructor panics must not unwind through here.
                        let dropped = catch_unwind(AssertUnwindSafe(|| drop(panic)));
                        dropped.unwrap_or_else(core::mem::forget);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "std")]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::{Barrier, Mutex};
    use std::thread;
    use std::vec::Vec;

    const ROUNDS: usize = if cfg!(miri) { 6 } else { 5_000 };
    const TASKS: usize = if cfg!(miri) { 5 } else { 37 };

    fn counts(executor: &dyn Executor, n_tasks: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();
        executor.run(n_tasks, &|i| {
            counts[i].fetch_add(1, Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_task_runs_once_whatever_the_counts() {
        for n_threads in [0, 1, 2, 3, 5] {
            let pool = Pool::new(n_threads).unwrap();
            assert_eq!(pool.n_threads(), n_threads.max(1));
            for n_tasks in [0, 1, 2, 3, TASKS] {
                assert_eq!(counts(&pool, n_tasks), std::vec![1; n_tasks], "{n_threads} {n_tasks}");
            }
        }
        assert_eq!(counts(&Serial, 4), [1; 4]);
    }

    #[test]
    fn many_short_runs_see_their_own_stack_and_publish_their_writes() {
        let pool = Pool::new(3).unwrap();
        for round in 0..ROUNDS {
            let input: Vec<usize> = (0..TASKS).map(|i| i * round).collect();
            let output: Vec<AtomicUsize> = (0..TASKS).map(|_| AtomicUsize::new(0)).collect();
            pool.run(TASKS, &|i| output[i].store(input[i] + 1, Relaxed));
            assert!(output.iter().zip(&input).all(|(o, i)| o.load(Relaxed) == i + 1), "round {round}");
            if round % 1_000 == 3 {
                // Long enough for the workers to fall asleep.
                thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    }

    #[test]
    fn each_chunk_is_somebodys_own() {
        /// Gives every task the same number, and one too many.
        struct Careless;
        impl Executor for Careless {
            fn n_threads(&self) -> usize {
                2
            }

            fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) {
                thread::scope(|scope| {
                    (0..n_tasks + 1).for_each(|_| drop(scope.spawn(|| task(0))));
                });
            }
        }

        let pool = Pool::new(3).unwrap();
        for executor in [&Serial as &dyn Executor, &pool, &Careless] {
            // 10 slots' worth of data, fewer slots: every task finds its slot unused by others.
            for n_slots in [1, 2, 5] {
                let (mut data, ran) = ([0; 10], AtomicUsize::new(0));
                each_slot(executor, &mut data, (2, n_slots), TASKS, &|_, slot| {
                    slot[0] += 1;
                    thread::yield_now();
                    slot[1] += slot[0];
                    slot[0] -= 1;
                    ran.fetch_add(1, Relaxed);
                });
                let sum: usize = data.iter().sum();
                assert_eq!(
                    (sum, data[2 * n_slots..].iter().sum::<usize>()),
                    (ran.into_inner(), 0),
                    "{n_slots}"
                );
            }
            for (len, n_chunks, touched) in
                [(4, 3, 10), (4, 2, 8), (5, 2, 10), (1, 10, 10), (16, 1, 10), (4, 9, 10)]
            {
                let mut data = [0; 10];
                each_chunk(executor, &mut data, len, n_chunks, &|i, chunk| {
                    chunk.iter_mut().for_each(|v| *v += i + 1);
                });
                let expected = core::array::from_fn(|i| if i < touched { i / len + 1 } else { 0 });
                assert_eq!(data, expected, "{n_chunks} chunks of {len}");
            }
        }
    }

    #[test]
    fn tasks_run_on_all_threads_at_once() {
        let pool = Pool::new(3).unwrap();
        let barrier = Barrier::new(3);
        let names = Mutex::new(std::collections::HashSet::new());
        pool.run(3, &|_| {
            // Passes only when three threads are inside together.
            barrier.wait();
            names.lock().unwrap().insert(thread::current().id());
        });
        assert_eq!(names.into_inner().unwrap().len(), 3);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3).unwrap();
        for bad in 0..3 {
            let began = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(TASKS, &|i| {
                    began.fetch_add(1, Relaxed);
                    assert!(i != bad, "task {i}");
                });
            }));
            let message = *result.unwrap_err().downcast::<std::string::String>().unwrap();
            assert_eq!(message, std::format!("task {bad}"));
            assert!(began.load(Relaxed) <= TASKS);
            assert_eq!(counts(&pool, TASKS), std::vec![1; TASKS]);
        }
        // All of them at once.
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(TASKS, &|i| panic!("{i}"))));
        assert!(result.is_err());
        assert_eq!(counts(&pool, 3), [1; 3]);
    }

    #[test]
    fn nested_and_concurrent_runs_finish() {
        let pool = Pool::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        pool.run(4, &|_| {
            pool.run(4, &|i| {
                sum.fetch_add(i, Relaxed);
            });
        });
        assert_eq!(sum.swap(0, Relaxed), 24);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS / 5 + 1 {
                        pool.run(3, &|i| {
                            sum.fetch_add(i, Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 3 * 3 * (ROUNDS / 5 + 1));
    }
}
