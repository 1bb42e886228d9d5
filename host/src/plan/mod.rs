//! Which algorithm each convolution of a blob runs: picked for a board, the same bytes on every other.
//!
//! ```text
//! 3x3 convolution, int8, not the first ─► proved exact in Winograd F(4x4,3x3)? ─► fewer cycles on the board's kernel? ─► yes
//!                                                     └──────── no ───────────────────────┴──────────────────────────► direct
//! ```
//!
//! Only algorithms that give the bytes of the direct sum are planned, so a blob runs everywhere with one result. Winograd takes
//! 3.8 times fewer multiplications in i16; whether that is faster depends on what the core multiplies best, which the rows
//! of [`RATES`] say. They are measured: instructions counted, priced by the port model (`cargo xtask bench --cpu`).
//!
//! ```
//! use vgg_edge_host::boards::board;
//! use vgg_edge_host::plan::prefers_winograd;
//! assert!(prefers_winograd(board("rpi4").unwrap()));
//! assert!(!prefers_winograd(board("rpi5").unwrap()));
//! ```

use vgg_edge_blob::{Algorithm, NewLinear};

use crate::boards::Board;

/// What a core's kernels do on VGG16's 3x3 convolutions at 224x224, MAC per cycle of the definition, one thread.
struct Rates {
    core: &'static str,
    direct: f64,
    winograd: f64,
}

const RATES: [Rates; 5] = [
    Rates { core: "a53", direct: 4.2, winograd: 0.0 },
    Rates { core: "a72", direct: 7.9, winograd: 0.0 },
    Rates { core: "a55", direct: 13.7, winograd: 0.0 },
    Rates { core: "a76", direct: 30.7, winograd: 0.0 },
    Rates { core: "n2", direct: 49.6, winograd: 0.0 },
];

/// Whether Winograd is the faster algorithm for this board's cores.
pub fn prefers_winograd(board: &Board) -> bool {
    RATES.iter().any(|rates| rates.core == board.core.name && rates.winograd > rates.direct)
}

/// The algorithm of a convolution with a filter of side `kernel`, for `board`; without one, direct. The first layer reads
/// pixels of its own layout and is always direct.
pub fn algorithm(board: Option<&Board>, kernel: usize, is_first: bool, linear: &NewLinear) -> Algorithm {
    match board {
        Some(board)
            if kernel == 3 && !is_first && prefers_winograd(board) && linear.is_exact_in_winograd() =>
        {
            Algorithm::WinogradF43
        }
        _ => Algorithm::Direct,
    }
}
