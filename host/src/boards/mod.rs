//! Boards and cores: clocks, caches, bandwidth, instruction sets, and what each instruction costs there.
//!
//! ```text
//! counted instructions (Counts) ─► class (classify) ─► price (Core::prices) ─► busiest resource (Bound)
//! cache lines moved    (Counts) ─────────────────────► bytes / bandwidth    ─► milliseconds of DRAM
//! ```
//!
//! The port model gives a lower bound in cycles for one core: the busiest of issue width, vector pipes, load and
//! store ports, integer pipes. It is blind to latency, branch misses and prefetching. It ranks kernels and says
//! what they wait for; [`Board::real`] says how far published times of one engine are from the bound.
//!
//! Boards are the one table of `table.rs`, port prices those of `prices.rs`; neither does I/O. `quantize --board`, `estimate`
//! and `bench --cpu` read the same rows, a device has no use for them, and `xtask`, which only builds and passes arguments
//! on, stays free of dependencies.
//!
//! ```
//! use vgg_edge_host::boards::{Counts, board};
//! let counts = Counts::parse("form\tsmlal.4s\t300\nform\tldr.q\t100\n")?;
//! let rpi4 = board("rpi4").unwrap();
//! let bound = rpi4.core.bound(&counts);
//! assert_eq!((bound.cycles, bound.resource.name()), (300.0, "F0"));
//! assert_eq!(rpi4.milliseconds(1.8e6), 1.0);
//! # Ok::<(), vgg_edge_host::boards::CountsError>(())
//! ```

mod bound;
mod classes;
mod counts;
mod prices;
mod table;

pub use bound::{Bound, Resource};
pub use classes::{Class, classify};
pub use counts::{Counts, CountsError, Laps, Table};
pub use prices::{Price, Prices};
pub use table::{A53, A55, A72, A76, AVX2, BOARDS, N2};

/// Bytes of a cache line.
pub const LINE_BYTES: u64 = 64;

/// Instruction sets beyond Armv8.0 that kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// FEAT_DotProd: `sdot`.
    DotProd,
    /// FEAT_FP16: arithmetic on half-precision vectors.
    Fp16,
    /// FEAT_I8MM: `smmla`.
    I8mm,
}

/// A core: what it runs, what each instruction costs, and the emulated CPU that counts for it.
#[derive(Debug)]
pub struct Core {
    /// Short name, as `--core` takes it.
    pub name: &'static str,
    /// The emulator's CPU whose instruction sets are this core's; `None` where nothing is counted but time measured.
    pub emulated_as: Option<&'static str>,
    /// The best kernel there, by its variant word.
    pub kernel: &'static str,
    /// Instruction sets beyond Armv8.0.
    pub isa: &'static [Isa],
    /// Cycles an instruction takes of each resource.
    pub prices: Prices,
}

/// A data cache: least recently used, write-back, lines of 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Size in KiB.
    pub kib: u32,
    /// Ways of a set.
    pub ways: u32,
}

/// What a program really takes over the bound of the port model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Real {
    /// Published one-thread time of ncnn's int8 VGG16 over this model's bound for it.
    Published(f64),
    /// Nobody published one: that of the nearest core that has one.
    Assumed(f64),
    /// Cycles are measured, not bounds.
    Measured,
}

impl Real {
    /// The factor from bound to real cycles.
    pub fn factor(self) -> f64 {
        match self {
            Real::Published(factor) | Real::Assumed(factor) => factor,
            Real::Measured => 1.0,
        }
    }
}

/// A board: a core and what is around it.
#[derive(Debug)]
pub struct Board {
    /// Name, as `--board` takes it.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
    /// What it is, one line for a list.
    pub summary: &'static str,
    /// Its big cores' kind.
    pub core: &'static Core,
    /// Big cores.
    pub n_cores: usize,
    /// Clock of a big core, GHz.
    pub ghz: f64,
    /// Sustained DRAM bandwidth, all cores, GB/s (10^9 bytes).
    pub gbs: f64,
    /// First-level data cache of a core.
    pub l1: Cache,
    /// The last level before DRAM.
    pub l2: Cache,
    /// From the bound to real cycles.
    pub real: Real,
}

/// The board called `name`.
pub fn board(name: &str) -> Option<&'static Board> {
    BOARDS.iter().find(|board| board.name == name)
}

/// The board that stands for the core called `name`: the first that has it.
pub fn board_of_core(name: &str) -> Option<&'static Board> {
    BOARDS.iter().find(|board| board.core.name == name)
}

/// The board that stands for an emulated CPU: the out-of-order core where two share one.
pub fn board_of_cpu(name: &str) -> Option<&'static Board> {
    let of_cpu = |board: &&Board| board.core.emulated_as == Some(name);
    BOARDS.iter().rfind(of_cpu).and_then(|board| board_of_core(board.core.name))
}

impl Board {
    /// The board called `name`.
    pub fn find(name: &str) -> Option<&'static Board> {
        board(name)
    }

    /// The default of `--board`: what is best on Armv8.0. A blob of direct weights cannot be sped up there without memory
    /// for larger ones, while a CPU with dot products can take a Winograd blob as it is.
    pub fn generic() -> &'static Board {
        &BOARDS[BOARDS.len() - 1]
    }

    /// Milliseconds of `cycles` at this board's clock.
    pub fn milliseconds(&self, cycles: f64) -> f64 {
        cycles / self.ghz / 1e6
    }

    /// Milliseconds in which this board's DRAM moves `bytes`.
    pub fn dram_milliseconds(&self, bytes: f64) -> f64 {
        bytes / self.gbs / 1e6
    }

    /// Published one-thread time of ncnn's int8 VGG16 over this model's bound for it; `None` where nobody published one.
    pub fn published(&self) -> Option<f64> {
        match self.real {
            Real::Published(ratio) => Some(ratio),
            Real::Assumed(_) | Real::Measured => None,
        }
    }
}

impl Core {
    /// Whether the core has an instruction set.
    pub fn has(&self, isa: Isa) -> bool {
        self.isa.contains(&isa)
    }

    /// Prices what was counted.
    pub fn bound(&self, counts: &Counts) -> Bound {
        Bound::of(&self.prices, &counts.forms)
    }

    /// Prices numbers of instructions by class, `true` for 128-bit forms.
    pub fn bound_of(&self, classes: impl Iterator<Item = (Class, bool, f64)>) -> Bound {
        Bound::of_classes(&self.prices, classes)
    }

    /// Instructions of a class that the core can do in a cycle, 128-bit form, nothing else running.
    pub fn per_cycle(&self, class: Class) -> f64 {
        let busiest = self.prices.of(class, true).map(|(_, cycles)| cycles).fold(0.0, f64::max);
        1.0 / busiest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulated_cpu_stands_for_one_board() {
        let boards =
            ["cortex-a53", "cortex-a72", "cortex-a76", "max"].map(|cpu| board_of_cpu(cpu).unwrap().name);
        assert_eq!(boards, ["rpi3", "rpi4", "rpi5", "armv8-i8mm"]);
        assert!(board_of_cpu("cortex-a57").is_none());
        assert_eq!(board_of_core("a55").unwrap().name, "rk3566");
        assert_eq!(Board::generic().name, "generic");
    }

    #[test]
    fn names_are_unique() {
        for (i, a) in BOARDS.iter().enumerate() {
            assert!(BOARDS[..i].iter().all(|b| b.name != a.name), "{}", a.name);
        }
    }

    /// The peaks that optimization guides give, multiply-accumulates a cycle.
    #[test]
    fn peaks_are_the_cores() {
        let peak = |core: &Core, class, macs: f64| core.per_cycle(class) * macs;
        assert_eq!([&A53, &A72, &A76, &N2].map(|c| peak(c, Class::Mull, 8.0)), [8.0, 8.0, 8.0, 16.0]);
        assert_eq!([&A55, &A76, &N2].map(|c| peak(c, Class::Dot, 16.0)), [16.0, 32.0, 32.0]);
        assert_eq!(peak(&N2, Class::Mmla, 32.0), 64.0);
        assert_eq!(
            [&A53, &A72, &A55, &A76, &N2].map(|c| peak(c, Class::Fma, 4.0)),
            [4.0, 4.0, 4.0, 8.0, 8.0]
        );
    }
}
