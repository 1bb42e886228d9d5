//! Which algorithm each layer uses, and what a network takes on a board.
//!
//! ```text
//! Sketch ─► forecast of the engine's own plan ─► units of work ─► instructions ─► a core's port prices ─► cycles
//! shapes,   bands, tilings, batches              tiles, steps,    instructions.tsv,  boards/prices.rs
//! kinds          └──────────────────────────────► bytes           fitted to counts
//! ```
//!
//! A layer's time is the longer of its cycles on all cores and its bytes at the memory's bandwidth.
//!
//! ```
//! use vgg_edge_host::plan::{Board, Conv, Kind};
//! let conv = Conv { height: 224, width: 224, inputs: 64, outputs: 64 };
//! assert_eq!(conv.fastest(Board::find("rpi4").unwrap()), Kind::WinogradF43);
//! assert_eq!(conv.fastest(Board::find("rpi5").unwrap()), Kind::Direct);
//! ```

mod counted;
mod estimate;
pub mod f16;
mod filters;
mod instructions;
mod kind;
pub mod search;
mod sketch;
mod units;

use vgg_edge_blob::{Algorithm, NewModel, NewOp, S8Layout, Scheme, Shape};

pub use crate::boards::{BOARDS, Board};
pub use counted::{Counted, Executed, Sample};
pub use estimate::{Cost, Estimate, Row, Unknown};
pub use instructions::{cpu_of, step_name, tile_of};
pub use kind::Kind;
pub use sketch::{LayerSketch, OpSketch, Sketch};
pub use units::{Tile, Unit, Units};

/// A 3x3 convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Rows of the map.
    pub height: u32,
    /// Columns of the map.
    pub width: u32,
    /// Input channels.
    pub inputs: u32,
    /// Output channels.
    pub outputs: u32,
}

impl Conv {
    /// What `kind` takes on `board`: cycles of the bound; bytes of weights, values and sums. Maps stay in the cache between the
    /// layers of a block. Infinite for a kind that the board has no kernel for.
    pub fn cost(&self, kind: impl Into<Kind>, board: &Board) -> Cost {
        let Self { height, width, inputs, outputs } = *self;
        let kind = kind.into();
        let layer =
            LayerSketch { name: String::new(), block: 0, op: OpSketch::Conv { side: 3, outputs, kind } };
        // The first layer's channels would be a picture's.
        let channels = inputs.next_multiple_of(8);
        let sketch =
            Sketch { scheme: Scheme::Int8, input: Shape { height, width, channels }, layers: vec![layer] };
        estimate::layer_cost(&sketch, 0, board)
            .unwrap_or(Cost { cycles: f64::INFINITY, bytes: f64::INFINITY })
    }

    /// The fastest exact algorithm on `board`, direct or Winograd from taps; direct unless Winograd saves more than 5 %, since its weights are eight times
    /// as many bytes.
    pub fn fastest(&self, board: &Board) -> Kind {
        let seconds = |kind: Kind| self.cost(kind, board).seconds(board);
        match seconds(Kind::WinogradF43) < 0.95 * seconds(Kind::Direct) {
            true => Kind::WinogradF43,
            false => Kind::Direct,
        }
    }
}

/// Gives every 3x3 convolution of an int8 `model` behind the first layer its fastest exact algorithm on `board`. A layer for
/// which Winograd's proof fails stays direct; its name is returned.
pub fn apply(model: &mut NewModel, board: &Board) -> Vec<String> {
    let mut unproved = Vec::new();
    if !model.scheme.is_int8() {
        return unproved;
    }
    let mut sketch = Sketch::of_model(model);
    sketch.plan(board);
    for (layer, planned) in model.layers.iter_mut().zip(&sketch.layers) {
        if let NewOp::Conv { kernel: 3, algorithm, linear } = &mut layer.op {
            *algorithm = match planned.op.kind() {
                Kind::WinogradF43 | Kind::WinogradF43Filters if linear.winograd_overflow().is_some() => {
                    unproved.push(layer.name.clone());
                    Algorithm::Direct
                }
                Kind::WinogradF43 => Algorithm::WinogradF43,
                Kind::WinogradF43Filters => Algorithm::WinogradF43Filters,
                _ => Algorithm::Direct,
            };
        }
    }
    unproved
}

/// Lays the 8-bit weights of convolutions as the best kernel of `board` reads them; those of dense layers stay `s8-o8k4`,
/// which is no slower where memory decides. For plans that are done: a layer that changes its algorithm changes its layout.
pub fn lay_out(model: &mut NewModel, board: &Board) {
    if !model.scheme.is_int8() || board.core.kernel != "i8mm" {
        return;
    }
    for layer in &mut model.layers {
        if let NewOp::Conv { algorithm, linear, .. } = &mut layer.op
            && *algorithm != Algorithm::WinogradF43
        {
            linear.layout = S8Layout::K8;
        }
    }
}

impl Sketch {
    /// Gives every 3x3 convolution of an int8 network behind the first layer its fastest exact algorithm on `board`; exact
    /// Winograd from filters, where that costs next to nothing (`filters.rs` has the rule).
    pub fn plan(&mut self, board: &Board) {
        if !self.scheme.is_int8() {
            return;
        }
        let maps = self.maps();
        for (layer, input) in self.layers.iter_mut().zip(&maps) {
            if let OpSketch::Conv { side: 3, outputs, kind } = &mut layer.op
                && *kind != Kind::First
            {
                let Shape { height, width, channels: inputs } = *input;
                *kind = Conv { height, width, inputs, outputs: *outputs }.fastest(board);
            }
        }
        filters::choose(self, board);
    }
}

/// How many convolutions use each algorithm: `3 winograd-f43, 1 direct`.
pub fn algorithms(model: &NewModel) -> String {
    let count = |wanted: Algorithm| {
        let used = |op: &NewOp| matches!(op, NewOp::Conv { algorithm, .. } if *algorithm == wanted);
        model.layers.iter().filter(|layer| used(&layer.op)).count()
    };
    let counts = [
        Algorithm::WinogradF43F16,
        Algorithm::WinogradF43Filters,
        Algorithm::Winograd8F43,
        Algorithm::Winograd8F23,
        Algorithm::WinogradF43,
        Algorithm::Direct,
    ];
    let counts = counts.map(|a| (count(a), a.name()));
    let parts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}")).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(side: u32, inputs: u32, outputs: u32) -> Conv {
        Conv { height: side, width: side, inputs, outputs }
    }

    /// The layers of a VGG16 behind the first.
    const VGG16: [(u32, u32, u32); 10] = [
        (224, 64, 64),
        (112, 64, 128),
        (112, 128, 128),
        (56, 128, 256),
        (56, 256, 256),
        (28, 256, 512),
        (28, 512, 512),
        (14, 512, 512),
        (6, 512, 512),
        (2, 512, 512),
    ];

    #[test]
    fn armv8_and_x86_take_winograd_and_dot_products_do_not() {
        for board in BOARDS {
            for (side, inputs, outputs) in VGG16 {
                let found = conv(side, inputs, outputs).fastest(board);
                // Small maps: a tile is mostly waste, and its weights are eight times as many.
                let small = side <= 6;
                let expected = match board.name {
                    "generic" | "rpi3" | "rpi4" | "x86-64" if !small => Kind::WinogradF43,
                    // The A55's direct `sdot` and Winograd's `smlal` take about as long as each other.
                    "rk3566" if side == 28 || side == 56 => continue,
                    _ => Kind::Direct,
                };
                assert_eq!(found, expected, "{}: {inputs} to {outputs} channels at {side}", board.name);
            }
        }
    }

    #[test]
    fn memory_decides_where_weights_are_many_and_pixels_few() {
        let board = Board::find("rpi4").unwrap();
        let cost = |kind: Kind| conv(2, 512, 512).cost(kind, board);
        let [direct, winograd] = [Kind::Direct, Kind::WinogradF43].map(cost);
        // One tile: 36 products a channel pair instead of 36, and 72 bytes of weights instead of 9.
        assert!(winograd.bytes > 7.9 * direct.bytes, "{winograd:?} {direct:?}");
        assert_eq!(winograd.seconds(board), board.dram_milliseconds(winograd.bytes) / 1e3);
        assert!(direct.seconds_on(board, 1) > direct.seconds(board));
    }

    #[test]
    fn odd_channels_cost_what_their_groups_do() {
        let board = Board::find("rpi5").unwrap();
        let cost = |channels| conv(20, channels, channels).cost(Kind::Direct, board);
        assert_eq!(cost(17), cost(24));
    }
}
