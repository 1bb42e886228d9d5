//! Which algorithm each layer uses: the fastest on a board, among those that give the same bytes.
//!
//! ```text
//! cycles   direct     height * width * 9 * in * out / direct
//!          winograd   tiles * (36 * in * out / winograd + (in + out) / 2 * transforms)       tiles of 4x4 outputs
//! bytes    direct     9 * in * out                    the weights, once
//!          winograd   36 * 2 * in * out + 3 * sums    sums: 24 i32 a tile and output, where the weights are many
//! time     the longer of cycles on all cores and bytes at the memory's bandwidth
//! ```
//!
//! ```
//! use vgg_edge_host::plan::{Board, Conv};
//! use vgg_edge_blob::Algorithm;
//! let conv = Conv { height: 224, width: 224, inputs: 64, outputs: 64 };
//! assert_eq!(conv.fastest(Board::find("rpi4").unwrap()), Algorithm::WinogradF43);
//! assert_eq!(conv.fastest(Board::find("rpi5").unwrap()), Algorithm::Direct);
//! ```

mod boards;

use vgg_edge_blob::{Algorithm, NewModel, NewOp, Padding, Scheme, Shape};

pub use boards::{BOARDS, Board, Rates};

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

/// What a convolution is predicted to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Cycles of all cores together.
    pub cycles: f64,
    /// Bytes to and from memory.
    pub bytes: f64,
}

impl Cost {
    /// Seconds on `board`: arithmetic and memory overlap.
    pub fn seconds(&self, board: &Board) -> f64 {
        let arithmetic = self.cycles / (board.ghz * 1e9 * f64::from(board.cores));
        arithmetic.max(self.bytes / (board.gbs * 1e9))
    }
}

impl Conv {
    /// What `algorithm` takes with `rates`.
    pub fn cost(&self, algorithm: Algorithm, rates: &Rates) -> Cost {
        let [height, width] = [self.height, self.width].map(f64::from);
        // Channels come in groups of 8.
        let [inputs, outputs] = [self.inputs, self.outputs].map(|n| f64::from(n.next_multiple_of(8)));
        let pairs = inputs * outputs;
        match algorithm {
            Algorithm::Direct => {
                Cost { cycles: height * width * 9.0 * pairs / rates.direct, bytes: 9.0 * pairs }
            }
            Algorithm::WinogradF43 => {
                let tiles = f64::from(self.height.div_ceil(4)) * f64::from(self.width.div_ceil(4));
                let (weights, sums) = (72.0 * pairs, 3.0 * 96.0 * tiles * outputs);
                Cost {
                    cycles: tiles
                        * (36.0 * pairs / rates.winograd + (inputs + outputs) / 2.0 * rates.transforms),
                    // Where the weights are few, bands of tiles read them again and keep the sums in the cache.
                    bytes: weights + sums.min(weights),
                }
            }
            Algorithm::Winograd8F23 | Algorithm::Winograd8F43 => {
                let (tile, taps) = if algorithm == Algorithm::Winograd8F23 { (2, 16.0) } else { (4, 36.0) };
                let tiles = f64::from(self.height.div_ceil(tile)) * f64::from(self.width.div_ceil(tile));
                let transforms = taps / 36.0 * (inputs + outputs) / 2.0 * rates.transforms;
                Cost { cycles: tiles * (taps * pairs / rates.direct + transforms), bytes: taps * pairs }
            }
        }
    }

    /// The fastest algorithm on `board`; direct unless Winograd saves more than 5 %, since its weights are eight times as
    /// many bytes.
    pub fn fastest(&self, board: &Board) -> Algorithm {
        let seconds = |algorithm| self.cost(algorithm, &board.rates).seconds(board);
        match seconds(Algorithm::WinogradF43) < 0.95 * seconds(Algorithm::Direct) {
            true => Algorithm::WinogradF43,
            false => Algorithm::Direct,
        }
    }
}

/// Gives every 3x3 convolution of an int8 `model` behind the first layer its fastest algorithm on `board`. A layer for
/// which Winograd's proof fails stays direct; its name is returned.
pub fn apply(model: &mut NewModel, board: &Board) -> Vec<String> {
    let mut unproved = Vec::new();
    if model.scheme != Scheme::Int8 {
        return unproved;
    }
    let mut shape = model.input;
    for (i, layer) in model.layers.iter_mut().enumerate() {
        if let NewOp::Conv { kernel: 3, algorithm, linear } = &mut layer.op {
            let Shape { height, width, channels: inputs } = shape;
            let conv = Conv { height, width, inputs, outputs: linear.outputs };
            *algorithm = if i == 0 { Algorithm::Direct } else { conv.fastest(board) };
            if *algorithm == Algorithm::WinogradF43 && linear.winograd_overflow().is_some() {
                *algorithm = Algorithm::Direct;
                unproved.push(layer.name.clone());
            }
        }
        shape = output(shape, &layer.op);
    }
    unproved
}

/// How many convolutions use each algorithm: `3 winograd-f43, 1 direct`.
pub fn algorithms(model: &NewModel) -> String {
    let count = |wanted: Algorithm| {
        let used = |op: &NewOp| matches!(op, NewOp::Conv { algorithm, .. } if *algorithm == wanted);
        model.layers.iter().filter(|layer| used(&layer.op)).count()
    };
    let counts = [Algorithm::WinogradF43, Algorithm::Direct].map(|a| (count(a), a.name()));
    let parts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, name)| format!("{n} {name}")).collect();
    parts.join(", ")
}

/// The map behind a layer.
fn output(input: Shape, op: &NewOp) -> Shape {
    match op {
        NewOp::Conv { linear, .. } => Shape { channels: linear.outputs, ..input },
        NewOp::MaxPool { stride, padding } => {
            let stride = u32::from(*stride).max(1);
            let side = |n: u32| match padding {
                Padding::Same => n.div_ceil(stride),
                Padding::Valid => n.saturating_sub(2) / stride + 1,
            };
            Shape { height: side(input.height), width: side(input.width), ..input }
        }
        NewOp::GlobalAvgPool { .. } => Shape { height: 1, width: 1, ..input },
        NewOp::Dense(linear) => Shape { height: 1, width: 1, channels: linear.outputs },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(side: u32, inputs: u32, outputs: u32) -> Conv {
        Conv { height: side, width: side, inputs, outputs }
    }

    /// The layers of a VGG16 behind the first.
    const VGG16: [(u32, u32, u32); 9] = [
        (224, 64, 64),
        (112, 64, 128),
        (112, 128, 128),
        (56, 128, 256),
        (56, 256, 256),
        (28, 256, 512),
        (28, 512, 512),
        (14, 512, 512),
        (2, 512, 512),
    ];

    #[test]
    fn armv8_and_x86_take_winograd_and_dot_products_do_not() {
        for board in BOARDS {
            for (side, inputs, outputs) in VGG16 {
                let found = conv(side, inputs, outputs).fastest(board);
                // CIFAR's 2x2 maps: a tile is mostly waste and its weights are eight times as many.
                let small = side == 2;
                let expected = match board.name {
                    "generic" | "rpi3" | "rpi4" | "x86-64" if !small => Algorithm::WinogradF43,
                    // The A55's direct `sdot` and Winograd's `smlal` take about as long as each other.
                    "rk3566" if side == 28 || side == 56 => continue,
                    _ => Algorithm::Direct,
                };
                assert_eq!(found, expected, "{}: {inputs} to {outputs} channels at {side}", board.name);
            }
        }
    }

    /// Cycles that instruction counts and the port model give, in millions: record/2026-11-24-winograd.md.
    #[test]
    fn predicted_cycles_are_within_5_percent_of_counted_ones() {
        let counted = [
            ("rpi4", 224, 64, 234.83, 124.44),
            ("rpi4", 112, 128, 233.02, 120.07),
            ("rpi4", 56, 256, 232.12, 117.99),
            ("rpi4", 28, 512, 231.67, 116.80),
            ("rpi4", 14, 512, 57.92, 38.09),
            ("rpi3", 224, 64, 440.87, 150.01),
            ("rpi3", 112, 128, 437.21, 139.21),
            ("rpi3", 56, 256, 435.38, 134.31),
            ("rpi3", 28, 512, 434.46, 131.81),
            ("rpi3", 14, 512, 109.65, 43.40),
            ("rk3566", 224, 64, 135.10, 142.39),
            ("rk3566", 28, 512, 132.77, 124.39),
            ("rk3566", 14, 512, 33.20, 40.98),
            ("rpi5", 224, 64, 60.82, 118.92),
            ("rpi5", 28, 512, 58.18, 116.02),
            ("rpi5", 14, 512, 14.55, 37.85),
            ("armv8-i8mm", 224, 64, 37.22, 67.50),
            ("armv8-i8mm", 28, 512, 35.52, 59.11),
            ("armv8-i8mm", 14, 512, 9.40, 19.26),
        ];
        for (board, side, channels, direct, winograd) in counted {
            let rates = &Board::find(board).unwrap().rates;
            for (algorithm, expected) in [(Algorithm::Direct, direct), (Algorithm::WinogradF43, winograd)] {
                let found = conv(side, channels, channels).cost(algorithm, rates).cycles / 1e6;
                let off = (found / expected - 1.0).abs();
                assert!(
                    off < 0.05,
                    "{board} {side} {channels} {algorithm:?}: {found:.2}, counted {expected:.2}"
                );
            }
        }
    }
}
