//! Instruction counts of the board's programs under emulation, priced for its core.
//!
//! ```text
//! strip_bench, classify ─► qemu-aarch64 + counter ─► Counts, twice ─► difference: the steady state ─► boards ─► rows
//! ```
//!
//! Emulated wall-clock says nothing, counts do: they repeat to the instruction. Each measurement runs a program once
//! with N repetitions and once with twice as many; what start-up, loading and the check cost is in both.

mod demangle;
mod emulator;
mod network;
mod strips;

pub use demangle::demangle;
pub use emulator::Emulator;
pub use network::{LayerCost, NetworkCost, Options, measure_network};
pub use strips::{StripCost, measure_strips};
