//! The boards a blob can be planned for: cores, clock, memory, and what the engine's kernels do on them.
//!
//! ```text
//! direct      MAC a cycle of the best direct kernel
//! winograd    multiplications a cycle of the Winograd taps; a tile of 4x4 outputs has 36 for each pair of channels
//! transforms  cycles for each tile and channel, input and output transform together
//! ```
//!
//! The rates are counted instructions through a port model of each core, 3x3 layers of VGG16:
//! `device/engine/benches/record/2026-11-24-winograd.md`. x86-64 is measured.

/// A board, or a family of CPUs.
#[derive(Debug, PartialEq)]
pub struct Board {
    /// As in `--board`.
    pub name: &'static str,
    /// What it is, one line for a list.
    pub summary: &'static str,
    /// Cores that work: the big ones.
    pub cores: u32,
    /// Clock, GHz.
    pub ghz: f64,
    /// Sustained memory bandwidth of all cores, GB/s.
    pub gbs: f64,
    /// What a core does.
    pub rates: Rates,
}

/// Throughput of one core's kernels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Direct int8 convolution, MAC a cycle.
    pub direct: f64,
    /// Winograd taps, multiplications a cycle.
    pub winograd: f64,
    /// Winograd transforms, cycles a tile and channel.
    pub transforms: f64,
}

/// Cortex-A53: in order, `smlal` and `smull` on half a pipe.
const A53: Rates = Rates { direct: 4.25, winograd: 3.6, transforms: 107.0 };
/// Cortex-A72: one multiply pipe.
const A72: Rates = Rates { direct: 7.95, winograd: 4.0, transforms: 44.0 };
/// Cortex-A55 with `sdot`.
const A55: Rates = Rates { direct: 13.9, winograd: 3.8, transforms: 103.0 };
/// Cortex-A76 with `sdot`.
const A76: Rates = Rates { direct: 31.0, winograd: 4.0, transforms: 16.5 };
/// Neoverse N2 with `smmla`.
const N2: Rates = Rates { direct: 51.0, winograd: 8.0, transforms: 48.0 };
/// AVX2 on a Xeon at 3 GHz.
const AVX2: Rates = Rates { direct: 21.5, winograd: 19.0, transforms: 58.0 };

/// All boards, the default first.
#[rustfmt::skip]
pub static BOARDS: &[Board] = &[
    // What is best on Armv8.0. A blob of direct weights cannot be sped up there without memory for larger ones, while
    // a CPU with dot products can take a Winograd blob as it is.
    Board { name: "generic", summary: "any 64-bit Arm, best on Armv8.0", cores: 4, ghz: 1.5, gbs: 4.0, rates: A72 },
    Board { name: "rpi3", summary: "Raspberry Pi 3, Zero 2 W", cores: 4, ghz: 1.2, gbs: 2.0, rates: A53 },
    Board { name: "rpi4", summary: "Raspberry Pi 4", cores: 4, ghz: 1.8, gbs: 4.5, rates: A72 },
    Board { name: "rpi5", summary: "Raspberry Pi 5", cores: 4, ghz: 2.4, gbs: 9.0, rates: A76 },
    Board { name: "rk3566", summary: "Rockchip RK3566", cores: 4, ghz: 1.8, gbs: 4.0, rates: A55 },
    Board { name: "rk3588", summary: "Rockchip RK3588, its big cores", cores: 4, ghz: 2.4, gbs: 20.0, rates: A76 },
    Board { name: "armv8-i8mm", summary: "Armv8.6 with 8-bit matrix multiply", cores: 4, ghz: 3.0, gbs: 30.0, rates: N2 },
    Board { name: "x86-64", summary: "x86-64 with AVX2", cores: 2, ghz: 3.0, gbs: 15.0, rates: AVX2 },
];

impl Board {
    /// The board called `name`.
    pub fn find(name: &str) -> Option<&'static Board> {
        BOARDS.iter().find(|board| board.name == name)
    }

    /// The default of `--board`.
    pub fn generic() -> &'static Board {
        &BOARDS[0]
    }
}
