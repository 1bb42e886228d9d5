//! Instruction counts of the board's programs under emulation, priced for its core.
//!
//! ```text
//! strip_bench ─┐                             ┌─► twice as often minus as often ─┐
//!              ├─► qemu-aarch64 + counter ───┤                                  ├─► steady state ─► boards ─► rows
//! classify ────┘                             └─► the second of two inferences ──┘
//! ```
//!
//! Emulated wall-clock says nothing, counts do: they repeat to the instruction. What start-up, loading and the check
//! of a kernel's answer cost is left out.

mod demangle;
mod emulator;
mod network;
mod strips;

pub use demangle::demangle;
pub use emulator::Emulator;
pub use network::{LayerCost, NetworkCost, Options, measure_network};
pub use strips::{StripCost, measure_strips};
