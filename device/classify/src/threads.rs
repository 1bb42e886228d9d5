//! How many threads, and where: the big cores by default.
//!
//! On a board with two kinds of cores all of them together are slower than the big ones alone: the little
//! ones hold the others up at the end of every layer. [`Board::big_cores`] tells which are which.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use crate::board::{self, Board};

/// Chooses the number of threads and, when they fit there, keeps the process on the big cores. Call it
/// before threads start: they inherit the choice.
pub(crate) fn place(board: &Board, wanted: Option<NonZeroUsize>) -> usize {
    let parallelism = available_parallelism().map_or(1, NonZeroUsize::get);
    let big = board.big_cores(&board::allowed_cores());
    let n_threads =
        wanted.map_or(parallelism.min(big.as_ref().map_or(parallelism, Vec::len)), NonZeroUsize::get);
    if let Some(cores) = big.filter(|cores| n_threads <= cores.len())
        && board::stay_on(&cores).is_err()
    {
        defmt::warn!("cannot stay on the {=usize} big cores", cores.len());
    }
    n_threads
}
