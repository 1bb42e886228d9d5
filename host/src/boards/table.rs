//! The one table of boards: cores, clocks, caches, bandwidth, instruction sets, and how far from the bound they run.
//!
//! ```text
//! board   what --board takes       core    its big cores; port prices in `prices.rs`
//! ghz     clock of a big core      gbs     sustained DRAM bandwidth of all cores, 10^9 bytes a second
//! l1, l2  KiB and ways, l2 is the last level before DRAM
//! real    real cycles over the bound of the port model
//! ```
//!
//! Adding a board is one row. The first row of a core stands for the core; the last one is the default of `--board`.

use super::{Board, Cache, Core, Isa, Real, prices};

/// Cortex-A53, in order.
pub static A53: Core =
    Core { name: "a53", emulated_as: Some("cortex-a53"), kernel: "neon", isa: &[], prices: prices::A53 };
/// Cortex-A72.
pub static A72: Core =
    Core { name: "a72", emulated_as: Some("cortex-a72"), kernel: "neon", isa: &[], prices: prices::A72 };
/// Cortex-A55, in order. The emulator has none in its older versions; an A76 has the same instructions.
pub static A55: Core = Core {
    name: "a55",
    emulated_as: Some("cortex-a76"),
    kernel: "dotprod",
    isa: &[Isa::DotProd, Isa::Fp16],
    prices: prices::A55,
};
/// Cortex-A76.
pub static A76: Core = Core {
    name: "a76",
    emulated_as: Some("cortex-a76"),
    kernel: "dotprod",
    isa: &[Isa::DotProd, Isa::Fp16],
    prices: prices::A76,
};
/// Neoverse N2; Cortex-A710 and A720 are alike.
pub static N2: Core = Core {
    name: "n2",
    emulated_as: Some("max"),
    kernel: "i8mm",
    isa: &[Isa::DotProd, Isa::Fp16, Isa::I8mm],
    prices: prices::N2,
};
/// AVX2 on a Xeon at 3 GHz: time is measured there, no instruction is counted.
pub static AVX2: Core =
    Core { name: "avx2", emulated_as: None, kernel: "avx2", isa: &[], prices: prices::UNPRICED };

const fn kib(kib: u32, ways: u32) -> Cache {
    Cache { kib, ways }
}

/// The boards; the first one of each core stands for the core. The RK3566's factor: ncnn's int8 VGG16 takes 1150 ms there by
/// its authors, 609 by the A76's counts.
#[rustfmt::skip]
pub static BOARDS: &[Board] = &[
    Board { name: "rpi3", title: "Pi 3 class", summary: "Raspberry Pi 3, Zero 2 W", core: &A53, n_cores: 4,
        ghz: 1.2, gbs: 2.0, l1: kib(32, 4), l2: kib(512, 16), real: Real::Published(1.73) },
    Board { name: "rpi4", title: "Pi 4", summary: "Raspberry Pi 4", core: &A72, n_cores: 4,
        ghz: 1.8, gbs: 4.5, l1: kib(32, 2), l2: kib(1024, 16), real: Real::Published(1.45) },
    Board { name: "rk3566", title: "RK3566", summary: "Rockchip RK3566", core: &A55, n_cores: 4,
        ghz: 1.8, gbs: 4.0, l1: kib(32, 4), l2: kib(512, 16), real: Real::Assumed(1.89) },
    Board { name: "rpi5", title: "Pi 5", summary: "Raspberry Pi 5", core: &A76, n_cores: 4,
        ghz: 2.4, gbs: 9.0, l1: kib(64, 4), l2: kib(2048, 16), real: Real::Published(1.26) },
    Board { name: "rk3588", title: "RK3588", summary: "Rockchip RK3588, its big cores", core: &A76, n_cores: 4,
        ghz: 2.4, gbs: 20.0, l1: kib(64, 4), l2: kib(3072, 12), real: Real::Assumed(1.26) },
    Board { name: "armv8-i8mm", title: "Neoverse N2", summary: "Armv8.6 with 8-bit matrix multiply", core: &N2, n_cores: 4,
        ghz: 3.4, gbs: 30.0, l1: kib(64, 4), l2: kib(4096, 16), real: Real::Assumed(1.26) },
    Board { name: "x86-64", title: "x86-64", summary: "x86-64 with AVX2", core: &AVX2, n_cores: 2,
        ghz: 3.0, gbs: 15.0, l1: kib(32, 8), l2: kib(1024, 16), real: Real::Measured },
    Board { name: "generic", title: "generic Arm", summary: "any 64-bit Arm, best on Armv8.0", core: &A72, n_cores: 4,
        ghz: 1.5, gbs: 4.0, l1: kib(32, 2), l2: kib(1024, 16), real: Real::Assumed(1.45) },
];
