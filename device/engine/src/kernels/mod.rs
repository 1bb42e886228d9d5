//! The kernels, one file an instruction set, behind one small trait and one table.
//!
//! `scalar` is the specification; every other row gives its bytes. The document behind the example, `KERNELS.md`, says
//! how a call, the packed weights and each row work, and how to add one.
//!
//! ```
//! use core::sync::atomic::{AtomicU64, Ordering};
//! use vgg_edge_engine::kernels::{self, S8Output, S8Strip};
//! let (input, weights, bias) = ([1i8; 8], [2i8; 64], [3i32; 8]);
//! let strip = S8Strip {
//!     input: &input, n_pixels: 1, pixel_stride: 8, n_runs: 1, run_stride: 0, run_len: 8,
//!     weights: &weights, bias: &bias,
//! };
//! let words = [const { AtomicU64::new(0) }; 4];
//! kernels::best().s8(&strip, S8Output::Accumulators(&words));
//! assert_eq!(words[0].load(Ordering::Relaxed) as i32, 3 + 8 * 1 * 2);
//! ```
#![doc = include_str!("../../KERNELS.md")]

extern crate alloc;

use alloc::string::{String, ToString};
use core::fmt;

use vgg_edge_blob::{Layout, S8Layout};

// Whether this CPU has all the features: known at compile time without `std`, asked at run time with it.
#[cfg(not(feature = "std"))]
#[allow(unused_macros)] // an architecture may have the scalar row only
macro_rules! cpu_has {
    ($($feature:tt),+) => { cfg!(all($(target_feature = $feature),+)) };
}
#[cfg(all(feature = "std", target_arch = "aarch64"))]
macro_rules! cpu_has {
    ($($feature:tt),+) => { $(std::arch::is_aarch64_feature_detected!($feature))&&+ };
}
#[cfg(all(feature = "std", target_arch = "x86_64"))]
macro_rules! cpu_has {
    ($($feature:tt),+) => { $(std::arch::is_x86_feature_detected!($feature))&&+ };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_s4;
#[cfg(target_arch = "x86_64")]
mod avx2_winograd;
#[cfg(target_arch = "x86_64")]
mod avx2_winograd16;
#[cfg(target_arch = "x86_64")]
mod avx2_winograd8;
#[cfg(target_arch = "x86_64")]
mod avx2_winograd_filters;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod dotprod;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod dotprod_s4;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod dotprod_winograd8;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod i8mm;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod i8mm_blocks;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod i8mm_winograd8;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_core;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_f16;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_fp16_winograd16;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_multiply;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_s4;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_winograd;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_winograd16;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_winograd8;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_winograd8_output;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_winograd8_row;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_winograd_filters;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_winograd_in_order;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_winograd_output;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon_winograd_row;
mod scalar;
mod scalar_winograd16;
mod scalar_winograd8;

pub use crate::blocks::S8Blocks;
pub(crate) use crate::strip::check_words;
pub use crate::strip::{F16Strip, GROUP, Requant, S4Strip, S8Output, S8Strip};
pub use crate::winograd::{
    CUT_TAPS, Cut, MAX_BATCH, WinogradFilters, WinogradInput, WinogradOutput, WinogradRow,
};
pub use crate::winograd8::{Winograd8Input, Winograd8Output, Winograd8Row};
pub use crate::winograd16::{Winograd16Input, Winograd16Output, Winograd16Row};

/// A kernel of the table.
#[derive(Debug)]
pub struct Row {
    /// `{arch}-{dtypes}-{variant}`, the kernel's own [`Kernel::name`].
    pub name: &'static str,
    /// What it is built on, one line for a list.
    pub summary: &'static str,
    /// The kernel, when this CPU has its instructions.
    pub detect: fn() -> Option<&'static dyn Kernel>,
}

/// Every kernel of this architecture, best first; `scalar` runs everywhere and comes last.
pub static TABLE: &[Row] = &[
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    Row { name: i8mm::NAME, summary: "Armv8.6 8-bit matrix multiply (smmla)", detect: i8mm::detect },
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    Row { name: dotprod::NAME, summary: "Armv8.2 8-bit dot product (sdot)", detect: dotprod::detect },
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    Row { name: neon::NAME, summary: "Armv8.0 baseline (smull, smlal, sadalp)", detect: neon::detect },
    #[cfg(target_arch = "x86_64")]
    Row {
        name: avx512vnni::NAME,
        summary: "AVX-512 VNNI and VL (vpdpbusd, vpdpwssd)",
        detect: avx512vnni::detect,
    },
    #[cfg(target_arch = "x86_64")]
    Row { name: avx2::NAME, summary: "AVX2, FMA and F16C (vpmaddwd)", detect: avx2::detect },
    Row { name: scalar::NAME, summary: "the specification, portable", detect: scalar::detect },
];

/// The kernels this CPU can run, best first. Never empty.
pub fn available() -> impl Iterator<Item = &'static dyn Kernel> {
    TABLE.iter().filter_map(|row| (row.detect)())
}

/// The best kernel this CPU can run.
pub fn best() -> &'static dyn Kernel {
    available().next().unwrap_or(scalar::KERNEL)
}

/// The kernel called `name`: a full name (`aarch64-s8-neon`) or its variant word (`neon`).
///
/// # Errors
/// The name is in no row, or the row needs instructions that this CPU lacks.
pub fn by_name(name: &str) -> Result<&'static dyn Kernel, KernelError> {
    let row = TABLE.iter().find(|row| row.name == name || variant(row.name) == name);
    let row = row.ok_or_else(|| KernelError::Unknown { name: name.to_string() })?;
    (row.detect)().ok_or(KernelError::Unsupported { name: row.name })
}

/// The last word of a kernel's name: `neon` of `aarch64-s8-neon`.
pub fn variant(name: &str) -> &str {
    name.rsplit('-').next().unwrap_or(name)
}

/// Why [`by_name`] has no kernel to give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// No row has this name.
    #[error("unknown kernel `{name}`, available here: {Choices}")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The row is known, but this CPU lacks its instructions.
    #[error("kernel `{name}` needs instructions that this CPU lacks, available here: {Choices}")]
    Unsupported {
        /// The row's full name.
        name: &'static str,
    },
}

/// Prints the variant words of the kernels this CPU can run, best first.
struct Choices;

impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, kernel) in available().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { " " }, variant(kernel.name()))?;
        }
        Ok(())
    }
}

/// Bytes of this core's second level cache, where the core tells.
pub(crate) fn l2_bytes() -> Option<usize> {
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    return neon_core::l2_bytes();
    #[cfg(not(all(target_arch = "aarch64", target_feature = "neon")))]
    None
}

/// One row of the table. A value of an implementing type is the proof that this CPU has the instructions.
pub trait Kernel: Send + Sync + core::fmt::Debug {
    /// `{arch}-{dtypes}-{variant}`, as in the command line, the bench records and the README.
    fn name(&self) -> &'static str;

    /// The layout that this kernel is fastest with, among those that hold the weights in `layout` exactly:
    /// the engine repacks at load.
    fn wants(&self, layout: Layout) -> Layout {
        layout.with(S8Layout::K4)
    }

    /// Whether 3x3 filters over a picture are faster as exact Winograd than as strips.
    fn has_fast_picture_tiles(&self) -> bool {
        false
    }

    /// Whether the exact Winograd methods know [`Cut`] tiles.
    fn has_cut_tiles(&self) -> bool {
        false
    }

    /// Computes an int8 strip.
    ///
    /// # Panics
    /// When a slice is shorter than the strip's extents say, or an extent is outside its range.
    fn s8(&self, strip: &S8Strip<'_>, out: S8Output<'_>);

    /// Computes a strip with 4-bit weights: a lone pixel.
    ///
    /// # Panics
    /// As for [`Kernel::s8`].
    fn s4(&self, strip: &S4Strip<'_>, out: S8Output<'_>) {
        scalar::s4(strip, out);
    }

    /// Computes an int8 strip over blocks, with weights in layout `s8-o8k8`: as `scalar` does, where a row has nothing
    /// faster.
    ///
    /// # Panics
    /// As for [`Kernel::s8`].
    fn s8_blocks(&self, strip: &S8Blocks<'_>, out: S8Output<'_>) {
        scalar::s8_blocks(strip, out);
    }

    /// Computes a strip with f16 weights.
    ///
    /// # Panics
    /// When a slice is shorter than the strip's extents say, or an extent is outside its range.
    fn f16(&self, strip: &F16Strip<'_>);

    /// Transforms a tile's window into its taps.
    ///
    /// # Panics
    /// As for [`Kernel::s8`]; so do the other two.
    fn winograd_input(&self, tile: &WinogradInput<'_>, taps: &mut [i16]);

    /// Transforms filters into rows of their taps, `[tap_rows][6 taps][channels][8 outputs]`: what the next method reads. A row
    /// without its own has the specification's.
    ///
    /// # Panics
    /// As for [`Kernel::s8`].
    fn winograd_filters(&self, filters: &WinogradFilters<'_>, weights: &mut [i16]) {
        scalar::winograd_filters(filters, weights);
    }

    /// Multiplies a batch of tiles at a row of taps and transforms the 6 sums back to 4, modulo 2^32: column `x` of
    /// tile `p` becomes `sums[(x * n_tiles + p) * 8 ..][..8]`.
    fn winograd_row(&self, row: &WinogradRow<'_>, sums: &mut [i32]);

    /// Transforms a tile's column sums back, requantizes and stores its pixels.
    fn winograd_output(&self, tile: &WinogradOutput<'_>);

    /// Requantized Winograd: transforms a run's windows into their taps, in 8 bits. A row without its own has the
    /// specification's, as for the next two.
    ///
    /// # Panics
    /// As for [`Kernel::s8`]; so do the other two.
    fn winograd8_input(&self, run: &Winograd8Input<'_>, taps: &mut [i8]) {
        scalar_winograd8::input(run, taps);
    }

    /// Multiplies a batch of tiles at a row of taps, scales the sums and transforms them back: column `x` of tile `p` becomes
    /// `sums[(x * n_tiles + p) * 8 ..][..8]`.
    fn winograd8_row(&self, row: &Winograd8Row<'_>, sums: &mut [i32]) {
        scalar_winograd8::row::<4>(row, sums);
    }

    /// The same with weights that have 8 channels together: `[window taps][channels / 8][8 outputs][8 channels]`.
    fn winograd8_row_k8(&self, row: &Winograd8Row<'_>, sums: &mut [i32]) {
        scalar_winograd8::row::<8>(row, sums);
    }

    /// Transforms a run's column sums back, requantizes and stores its pixels.
    fn winograd8_output(&self, run: &Winograd8Output<'_>) {
        scalar_winograd8::output(run);
    }

    /// Winograd of f16 blobs: transforms a tile's window into f32 taps. A row without its own has the specification's, as for
    /// the next four.
    ///
    /// # Panics
    /// As for [`Kernel::s8`]; so do the other four.
    fn winograd16_input_f32(&self, tile: &Winograd16Input<'_>, taps: &mut [f32]) {
        scalar_winograd16::input_f32(tile, taps);
    }

    /// The same into half-precision taps.
    fn winograd16_input_f16(&self, tile: &Winograd16Input<'_>, taps: &mut [u16]) {
        scalar_winograd16::input_f16(tile, taps);
    }

    /// Multiplies a batch of tiles at a row of f32 taps and transforms the 6 sums back to 4: column `x` of tile `p` becomes
    /// `sums[(x * n_tiles + p) * 8 ..][..8]`.
    fn winograd16_row_f32(&self, row: &Winograd16Row<'_, f32>, sums: &mut [f32]) {
        scalar_winograd16::row_f32(row, sums);
    }

    /// The same of half-precision taps, in half precision.
    fn winograd16_row_f16(&self, row: &Winograd16Row<'_, u16>, sums: &mut [f32]) {
        scalar_winograd16::row_f16(row, sums);
    }

    /// Transforms a tile's column sums back, adds the bias and stores its pixels.
    fn winograd16_output(&self, tile: &Winograd16Output<'_>) {
        scalar_winograd16::output(tile);
    }
}

/// Cuts `n` pixels into as few tiles of at most `widest` as there must be, as even as can be: two tiles of 7
/// keep the pipes busier than 8 and 6. Gives (first pixel, pixels).
pub(crate) fn tiles(n: usize, widest: usize) -> impl Iterator<Item = (usize, usize)> {
    let n_tiles = n.div_ceil(widest);
    let (width, wider) = (n / n_tiles, n % n_tiles);
    let mut first = 0;
    (0..n_tiles).map(move |i| {
        let tile = (first, width + usize::from(i < wider));
        first += tile.1;
        tile
    })
}
