//! Boards and cores: clocks, caches, bandwidth, instruction sets, and what each instruction costs there.
//!
//! ```text
//! counted instructions (Counts) ─► class (classify) ─► price (Core::prices) ─► busiest resource (Bound)
//! cache lines moved    (Counts) ─────────────────────► bytes / bandwidth    ─► milliseconds of DRAM
//! ```
//!
//! The port model gives a lower bound in cycles for one core: the busiest of issue width, vector pipes, load and
//! store ports, integer pipes. It is blind to latency, branch misses and prefetching. It ranks kernels and says
//! what they wait for; [`Board::published`] says how far published times of one engine are from the bound.
//!
//! The tables are here, in the host's library, and do no I/O: planning for a board and `bench --cpu` read the same
//! rows, a device has no use for them, and `xtask`, which only builds and passes arguments on, stays free of
//! dependencies. Adding a board is one row of [`BOARDS`].
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

pub use bound::{Bound, Resource};
pub use classes::{Class, classify};
pub use counts::{Counts, CountsError, Laps, Table};
pub use prices::{Price, Prices};

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
    /// The emulator's CPU whose instruction sets are this core's.
    pub emulated_as: &'static str,
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

/// A board: a core and what is around it.
#[derive(Debug)]
pub struct Board {
    /// Name, as `--board` takes it.
    pub name: &'static str,
    /// Name for people.
    pub title: &'static str,
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
    /// Published one-thread time of ncnn's int8 VGG16 over this model's bound for it; `None` where nobody
    /// published one.
    pub published: Option<f64>,
}

/// Cortex-A53, in order.
pub static A53: Core = Core { name: "a53", emulated_as: "cortex-a53", isa: &[], prices: prices::A53 };
/// Cortex-A72.
pub static A72: Core = Core { name: "a72", emulated_as: "cortex-a72", isa: &[], prices: prices::A72 };
/// Cortex-A55, in order. The emulator has none in its older versions; an A76 has the same instructions.
pub static A55: Core =
    Core { name: "a55", emulated_as: "cortex-a76", isa: &[Isa::DotProd, Isa::Fp16], prices: prices::A55 };
/// Cortex-A76.
pub static A76: Core =
    Core { name: "a76", emulated_as: "cortex-a76", isa: &[Isa::DotProd, Isa::Fp16], prices: prices::A76 };
/// Neoverse N2; Cortex-A710 and A720 are alike.
pub static N2: Core =
    Core { name: "n2", emulated_as: "max", isa: &[Isa::DotProd, Isa::Fp16, Isa::I8mm], prices: prices::N2 };

/// The boards; the first one of each core stands for the core.
pub static BOARDS: &[Board] = &[
    Board {
        name: "rpi3",
        title: "Pi 3 class",
        core: &A53,
        n_cores: 4,
        ghz: 1.2,
        gbs: 2.0,
        l1: Cache { kib: 32, ways: 4 },
        l2: Cache { kib: 512, ways: 16 },
        published: Some(1.73),
    },
    Board {
        name: "rpi4",
        title: "Pi 4",
        core: &A72,
        n_cores: 4,
        ghz: 1.8,
        gbs: 4.5,
        l1: Cache { kib: 32, ways: 2 },
        l2: Cache { kib: 1024, ways: 16 },
        published: Some(1.45),
    },
    Board {
        name: "rk3566",
        title: "RK3566",
        core: &A55,
        n_cores: 4,
        ghz: 1.8,
        gbs: 4.0,
        l1: Cache { kib: 32, ways: 4 },
        l2: Cache { kib: 512, ways: 16 },
        published: None,
    },
    Board {
        name: "rpi5",
        title: "Pi 5",
        core: &A76,
        n_cores: 4,
        ghz: 2.4,
        gbs: 9.0,
        l1: Cache { kib: 64, ways: 4 },
        l2: Cache { kib: 2048, ways: 16 },
        published: Some(1.26),
    },
    Board {
        name: "rk3588",
        title: "RK3588",
        core: &A76,
        n_cores: 4,
        ghz: 2.4,
        gbs: 20.0,
        l1: Cache { kib: 64, ways: 4 },
        l2: Cache { kib: 3072, ways: 12 },
        published: None,
    },
    Board {
        name: "armv8-i8mm",
        title: "Neoverse N2",
        core: &N2,
        n_cores: 4,
        ghz: 3.4,
        gbs: 30.0,
        l1: Cache { kib: 64, ways: 4 },
        l2: Cache { kib: 4096, ways: 16 },
        published: None,
    },
];

/// The board called `name`.
pub fn board(name: &str) -> Option<&'static Board> {
    BOARDS.iter().find(|board| board.name == name)
}

/// The board that stands for the core called `name`.
pub fn board_of_core(name: &str) -> Option<&'static Board> {
    BOARDS.iter().find(|board| board.core.name == name)
}

/// The board that stands for an emulated CPU: the out-of-order core where two share one.
pub fn board_of_cpu(name: &str) -> Option<&'static Board> {
    BOARDS.iter().rfind(|board| board.core.emulated_as == name).map(|b| first_of(b.core))
}

fn first_of(core: &'static Core) -> &'static Board {
    BOARDS.iter().find(|board| std::ptr::eq(board.core, core)).unwrap_or(&BOARDS[0])
}

impl Board {
    /// Milliseconds of `cycles` at this board's clock.
    pub fn milliseconds(&self, cycles: f64) -> f64 {
        cycles / self.ghz / 1e6
    }

    /// Milliseconds in which this board's DRAM moves `bytes`.
    pub fn dram_milliseconds(&self, bytes: f64) -> f64 {
        bytes / self.gbs / 1e6
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
