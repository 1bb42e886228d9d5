//! How many threads, and where: the big cores by default.
//!
//! On a board with two kinds of cores all of them together are slower than the big ones alone: the little
//! ones hold the others up at the end of every layer. The kernel tells which are which:
//!
//! ```text
//! /sys/devices/system/cpu/cpu<N>/cpu_capacity     0..=1024, 1024 for the fastest; missing where all are equal
//! ```

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::available_parallelism;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Chooses the number of threads and, when they fit there, keeps the process on the big cores. Call it
/// before threads start: they inherit the choice.
pub(crate) fn place(wanted: Option<NonZeroUsize>) -> usize {
    let parallelism = available_parallelism().map_or(1, NonZeroUsize::get);
    let big = big_cores(Path::new("/sys/devices/system/cpu"));
    let n_threads =
        wanted.map_or(parallelism.min(big.as_ref().map_or(parallelism, Vec::len)), NonZeroUsize::get);
    if let Some(cores) = big.filter(|cores| n_threads <= cores.len()) {
        let mut set = CpuSet::new();
        cores.iter().for_each(|&core| set.set(core));
        if sched_setaffinity(None, &set).is_err() {
            defmt::warn!("cannot stay on the {=usize} big cores", cores.len());
        }
    }
    n_threads
}

/// The big cores among those this process may use; `None` where all are equal or nothing is known.
fn big_cores(root: &Path) -> Option<Vec<usize>> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut capacities = Vec::new();
    for core in (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)) {
        let text = fs::read_to_string(root.join(format!("cpu{core}/cpu_capacity"))).ok()?;
        capacities.push((core, text.trim().parse::<u32>().ok()?));
    }
    let max = capacities.iter().map(|c| c.1).max()?;
    // Prime and big cores of a three-tier chip differ by less than a third, little ones are under a half.
    let big: Vec<usize> = capacities.iter().filter(|c| c.1 * 2 > max).map(|c| c.0).collect();
    (big.len() < capacities.len()).then_some(big)
}
