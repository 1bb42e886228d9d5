//! Which algorithm each layer of an f16 blob uses: direct or Winograd, in f32 or in half precision.
//!
//! ```text
//! cycles   direct     height * width * 9 * in * out / direct
//!          winograd   tiles * (36 * in * out / winograd + (in + out) / 2 * transforms)       tiles of 4x4 outputs
//! bytes    direct     18 * in * out, the weights once; winograd 72 * in * out, and 3 * sums as for int8
//! ```
//!
//! Half precision is for boards whose cores multiply in it (FEAT_FP16): anywhere else it is emulated, and slow.

use vgg_edge_blob::Algorithm;

use super::{Board, Conv, Cost};

/// What a core's f16 kernels do.
#[derive(Clone, Copy, Debug, PartialEq)]
struct HalfRates {
    /// Direct convolution in f32, MAC a cycle.
    direct: f64,
    /// Winograd taps, multiplications a cycle.
    winograd: f64,
    /// Winograd transforms, cycles a tile and channel.
    transforms: f64,
    /// Whether the taps are multiplied in half precision.
    half: bool,
}

/// Those of a board: guesses that nothing counted or timed. The cost table has no f16 Winograd either, so `estimate` gives such
/// a layer no price. The A53, A72 and A55 are taken for half of the A76.
fn rates(board: &Board) -> HalfRates {
    match board.name {
        "rpi5" | "rk3588" | "armv8-i8mm" => {
            HalfRates { direct: 7.4, winograd: 14.0, transforms: 45.0, half: true }
        }
        "rk3566" => HalfRates { direct: 3.7, winograd: 7.0, transforms: 90.0, half: true },
        "x86-64" => HalfRates { direct: 13.0, winograd: 13.0, transforms: 50.0, half: false },
        _ => HalfRates { direct: 3.7, winograd: 3.7, transforms: 90.0, half: false },
    }
}

/// Whether layers may use half-precision arithmetic on `board`: the largest input of each must then be known.
pub fn multiplies_half(board: &Board) -> bool {
    rates(board).half
}

/// The fastest algorithm of an f16 3x3 layer on `board`; direct unless Winograd saves more than 5 %, since its weights are four
/// times as many bytes.
pub fn fastest(conv: &Conv, board: &Board) -> Algorithm {
    let rates = rates(board);
    let [inputs, outputs] = [conv.inputs, conv.outputs].map(|n| f64::from(n.next_multiple_of(8)));
    let pairs = inputs * outputs;
    let pixels = f64::from(conv.height) * f64::from(conv.width);
    let direct = Cost { cycles: pixels * 9.0 * pairs / rates.direct, bytes: 18.0 * pairs };
    let tiles = f64::from(conv.height.div_ceil(4)) * f64::from(conv.width.div_ceil(4));
    let (weights, sums) = (72.0 * pairs, 3.0 * 96.0 * tiles * outputs);
    let winograd = Cost {
        cycles: tiles * (36.0 * pairs / rates.winograd + (inputs + outputs) / 2.0 * rates.transforms),
        bytes: weights + sums.min(weights),
    };
    match winograd.seconds(board) < 0.95 * direct.seconds(board) {
        true if rates.half => Algorithm::WinogradF43F16,
        true => Algorithm::WinogradF43,
        false => Algorithm::Direct,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_maps_take_winograd_and_half_precision_is_for_cores_that_have_it() {
        for board in super::super::BOARDS {
            let half = ["rpi5", "rk3566", "rk3588", "armv8-i8mm"].contains(&board.name);
            assert_eq!(multiplies_half(board), half, "{}", board.name);
            for (side, inputs, outputs) in [(224, 64, 64), (112, 64, 128), (56, 256, 256), (28, 512, 512)] {
                let conv = Conv { height: side, width: side, inputs, outputs };
                let expected = if half { Algorithm::WinogradF43F16 } else { Algorithm::WinogradF43 };
                assert_eq!(fastest(&conv, board), expected, "{}: {inputs} channels at {side}", board.name);
            }
            // A tile of which most is outside the map, and four times the weights.
            let conv = Conv { height: 1, width: 1, inputs: 512, outputs: 512 };
            assert_eq!(fastest(&conv, board), Algorithm::Direct, "{}", board.name);
        }
    }
}
