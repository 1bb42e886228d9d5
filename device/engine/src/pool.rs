//! Who computes: tasks handed to one thread or to many.

/// Runs independent tasks and returns when all are done.
pub trait Executor: Sync {
    /// Threads that work, the caller included.
    fn n_threads(&self) -> usize;

    /// Calls `task(0)` to `task(n_tasks - 1)`, each once, in any order, on any of the threads.
    fn run(&self, n_tasks: usize, task: &(dyn Fn(usize) + Sync));
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
