//! Dense layers in 4 bits: the block of packed weights, its arithmetic, and the proof that no sum overflows.
//!
//! ```text
//! acc[o] = bias[o] + sum over groups g of scale[g][o] * (sum over the 64 inputs k of g of w[k][o] * x[k])
//!
//! s4-o8k64   [out groups][run_len / 64] blocks of 264 bytes: 64 inputs x 8 outputs
//! block      8 scales, u8, one an output; then [64 / 4][4 outputs][4 inputs] bytes, each two weights in [-8, 7], two's
//!            complement: outputs 0 to 3 in the low halves, outputs 4 to 7 in the high ones
//!
//!            byte  16 * (k / 4) + 4 * (o % 4) + k % 4
//! ```
//!
//! Everything is integers, so every kernel gives the same sums: a group's sum is at most `64 * 8 * 128` = 2^16, and the
//! writer proves for each output that `|bias| + 128 * sum(scale * |w|)` is below 2^30. One register of 16 bytes is a step of
//! 4 inputs for 8 outputs: its low halves and its high halves are operands as `s8-o8k4` has them.
//!
//! ```
//! use vgg_edge_blob::int4::S4Block;
//! let mut block = S4Block { scales: [1; 8], weights: [0; 256] };
//! block.weights[16 * 2 + 4 * 3 + 1] = 0xd2; // inputs 8 to 11, outputs 3 and 7, input 9
//! assert_eq!((block.weight(9, 3), block.weight(9, 7)), (2, -3));
//! ```

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::layout::GROUP;
#[cfg(feature = "write")]
use crate::{layout::S8Params, pack::Runs, requant::ACC_LIMIT, write_error::WriteError};

/// Inputs that share a scale.
pub const INPUTS: usize = 64;

/// 64 inputs times 8 outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct S4Block {
    /// What each output's sum over the block's inputs counts, in steps of the accumulator.
    pub scales: [u8; GROUP],
    /// Weights, two a byte.
    pub weights: [u8; INPUTS * GROUP / 2],
}

impl S4Block {
    /// The weight, in [-8, 7], of input `input` (below 64) and output `output` (below 8).
    #[inline]
    pub fn weight(&self, input: usize, output: usize) -> i32 {
        let byte = self.weights[place(input, output)] as i8;
        i32::from(if output < GROUP / 2 { byte << 4 >> 4 } else { byte >> 4 })
    }
}

/// The byte of a block's weights that holds the weight of `input` and `output`.
#[inline]
fn place(input: usize, output: usize) -> usize {
    16 * (input / 4) + 4 * (output % 4) + input % 4
}

/// Groups of 64 inputs of a dense layer that reads `stored` values, padded channels included.
pub const fn n_groups(stored: usize) -> usize {
    stored.div_ceil(INPUTS)
}

/// Packs a dense layer's weights, `[outputs][inputs]` in the network's order, and scales, `[outputs][groups]`, into
/// `s4-o8k64`. Places that no weight fills hold 0.
///
/// # Panics
/// When `weights` does not have [`Runs::len`] values, or `scales` not one for every output and group.
#[cfg(feature = "write")]
pub fn s4_o8k64(runs: &Runs, weights: &[i8], scales: &[u8]) -> Vec<u8> {
    let groups = n_groups(runs.f16_run_len());
    assert_eq!(weights.len(), runs.len(), "weights of {runs:?}");
    assert_eq!(scales.len(), runs.outputs * groups, "scales of {runs:?}");
    let mut blocks = vec![S4Block { scales: [0; GROUP], weights: [0; 256] }; runs.groups() * groups];
    for (output, scales) in scales.chunks_exact(groups.max(1)).enumerate() {
        for (g, scale) in scales.iter().enumerate() {
            blocks[output / GROUP * groups + g].scales[output % GROUP] = *scale;
        }
    }
    runs.each(|output, _, element, index| {
        let block = &mut blocks[output / GROUP * groups + element / INPUTS];
        let shift = if output % GROUP < GROUP / 2 { 0 } else { 4 };
        block.weights[place(element % INPUTS, output % GROUP)] |= ((weights[index] & 15) as u8) << shift;
    });
    blocks.as_bytes().to_vec()
}

/// The largest magnitude that a partial sum of `output` may reach, whatever the inputs: `|bias| + 128 * sum(scale * |w|)`.
#[cfg(feature = "write")]
pub fn bound(runs: &Runs, filter: &[i8], scales: &[u8], bias: i32) -> i64 {
    let weighted = filter.iter().enumerate().map(|(i, w)| {
        let element = i / runs.channels.max(1) * runs.stored + i % runs.channels.max(1);
        i64::from(scales[element / INPUTS]) * i64::from(w.unsigned_abs())
    });
    i64::from(bias).abs() + 128 * weighted.sum::<i64>()
}

/// Weights fit 4 bits, and no partial sum of any order leaves (-ACC_LIMIT, ACC_LIMIT).
#[cfg(feature = "write")]
pub(crate) fn prove(
    name: &str,
    runs: &Runs,
    (weights, scales): (&[i8], &[u8]),
    params: &[S8Params],
) -> Result<(), WriteError> {
    let scales = scales.chunks_exact((scales.len() / runs.outputs).max(1));
    let filters = weights.chunks_exact((runs.len() / runs.outputs).max(1));
    for (channel, (filter, scales)) in filters.zip(scales).enumerate() {
        if let Some(&found) = filter.iter().find(|w| !(-8..=7).contains(*w)) {
            let (layer, low, high) = (name.to_owned(), -8, 7);
            return Err(WriteError::WeightRange { layer, channel, found, low, high });
        }
        let bound = bound(runs, filter, scales, params[channel / GROUP].bias[channel % GROUP]);
        if bound >= ACC_LIMIT {
            return Err(WriteError::Overflow { layer: name.to_owned(), channel, bound });
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "write"))]
mod tests {
    use super::*;

    /// 9 outputs of a 30-pixel map of 3 channels stored as 8: 240 places, 4 groups, every place by the equations above.
    #[test]
    fn s4_o8k64_places_and_pads() {
        let runs = Runs { outputs: 9, n_runs: 1, pixels: 30, channels: 3, stored: 8 };
        let weights: Vec<i8> = (0..9 * 90).map(|i| (i * 7 % 16) as i8 - 8).collect();
        let scales: Vec<u8> = (0..36).map(|i| 100 + i).collect();
        let packed = s4_o8k64(&runs, &weights, &scales);
        assert_eq!((packed.len(), size_of::<S4Block>()), (2 * 4 * 264, 264));
        let blocks = <[S4Block]>::ref_from_bytes(&packed).unwrap();
        for output in 0..16 {
            for element in 0..256 {
                let (pixel, channel) = (element / 8, element % 8);
                let real = output < 9 && pixel < 30 && channel < 3;
                let expected = if real { i32::from(weights[output * 90 + pixel * 3 + channel]) } else { 0 };
                let block = &blocks[output / 8 * 4 + element / 64];
                assert_eq!(block.weight(element % 64, output % 8), expected, "output {output}, {element}");
                let scale = if output < 9 { scales[output * 4 + element / 64] } else { 0 };
                assert_eq!(block.scales[output % 8], scale);
            }
        }
    }

    #[test]
    fn the_bound_counts_each_weight_with_its_groups_scale() {
        let runs = Runs { outputs: 1, n_runs: 1, pixels: 9, channels: 2, stored: 8 };
        // Elements 0, 1, 8, 9, .., 64, 65: the last pixel is in the second group.
        let filter: Vec<i8> = (0..18).map(|i| if i % 2 == 0 { -8 } else { 7 }).collect();
        assert_eq!(bound(&runs, &filter, &[2, 255], -5), 5 + 128 * (8 * 15 * 2 + 15 * 255));
    }
}
