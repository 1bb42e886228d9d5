//! Packing: weights from OHWI into the order in which kernels read them.
//!
//! ```text
//! s8-o8k4   [out groups][runs][run_len / 4][8 outputs][4 values]   i8
//! f16-o8    [out groups][runs][run_len][8 outputs]                 f16
//! ```
//!
//! A run is what an output pixel reads without a gap: `pixels` input pixels of `stored` channels each. Places
//! that no weight of the network fills (padded channels and outputs, the rounded-up end of a run) hold 0.

use crate::layout::{GROUP, S8Params};
use crate::requant::ACC_LIMIT;
use crate::write_error::WriteError;

/// How a layer reads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    /// Output channels.
    pub outputs: usize,
    /// Runs an output pixel reads.
    pub n_runs: usize,
    /// Input pixels of a run.
    pub pixels: usize,
    /// Channels of an input pixel in the network.
    pub channels: usize,
    /// Channels of an input pixel in memory, >= `channels`.
    pub stored: usize,
}

impl Runs {
    /// Output groups.
    pub fn groups(&self) -> usize {
        self.outputs.div_ceil(GROUP)
    }

    /// Packed values of a run in layout `s8-o8k4`: a multiple of 8.
    pub fn s8_run_len(&self) -> usize {
        (self.pixels * self.stored).next_multiple_of(8)
    }

    /// Packed values of a run in layout `f16-o8`.
    pub fn f16_run_len(&self) -> usize {
        self.pixels * self.stored
    }

    /// Weights of the network: `outputs * n_runs * pixels * channels`.
    pub fn len(&self) -> usize {
        self.outputs * self.n_runs * self.pixels * self.channels
    }

    /// Whether there is no weight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `place(output, run, element, index)` for every weight: `index` in OHWI order, `element` within
    /// the stored run.
    fn each(&self, mut place: impl FnMut(usize, usize, usize, usize)) {
        let mut index = 0;
        for output in 0..self.outputs {
            for run in 0..self.n_runs {
                for pixel in 0..self.pixels {
                    for channel in 0..self.channels {
                        place(output, run, pixel * self.stored + channel, index);
                        index += 1;
                    }
                }
            }
        }
    }
}

/// No partial sum, in any order and with any input, leaves (-ACC_LIMIT, ACC_LIMIT): activations are at most
/// 128 in magnitude, so `|bias| + 128 * sum(|w|)` bounds every one of them.
pub(crate) fn prove(name: &str, runs: &Runs, weights: &[i8], params: &[S8Params]) -> Result<(), WriteError> {
    for (channel, filter) in weights.chunks_exact((runs.len() / runs.outputs).max(1)).enumerate() {
        let layer = || name.to_owned();
        if filter.contains(&i8::MIN) {
            return Err(WriteError::WeightRange { layer: layer(), channel });
        }
        let magnitude: i64 = filter.iter().map(|w| i64::from(w.unsigned_abs())).sum();
        let bias = i64::from(params[channel / GROUP].bias[channel % GROUP]);
        let bound = bias.abs() + 128 * magnitude;
        if bound >= ACC_LIMIT {
            return Err(WriteError::Overflow { layer: layer(), channel, bound });
        }
    }
    Ok(())
}

/// Packs i8 weights in OHWI order into `s8-o8k4`.
///
/// # Panics
/// When `weights` does not have [`Runs::len`] values.
pub fn s8_o8k4(runs: &Runs, weights: &[i8]) -> Vec<u8> {
    assert_eq!(weights.len(), runs.len(), "weights of {runs:?}");
    let run_len = runs.s8_run_len();
    let mut packed = vec![0; runs.groups() * GROUP * runs.n_runs * run_len];
    runs.each(|output, run, element, index| {
        let (group, lane) = (output / GROUP, output % GROUP);
        let start = (group * runs.n_runs + run) * run_len * GROUP;
        packed[start + element / 4 * (4 * GROUP) + lane * 4 + element % 4] = weights[index] as u8;
    });
    packed
}

/// Packs half-precision weights (bits, OHWI order) into `f16-o8`, as little-endian bytes.
///
/// # Panics
/// When `weights` does not have [`Runs::len`] values.
pub fn f16_o8(runs: &Runs, weights: &[u16]) -> Vec<u8> {
    assert_eq!(weights.len(), runs.len(), "weights of {runs:?}");
    let run_len = runs.f16_run_len();
    let mut packed = vec![0; 2 * runs.groups() * GROUP * runs.n_runs * run_len];
    runs.each(|output, run, element, index| {
        let (group, lane) = (output / GROUP, output % GROUP);
        let place = ((group * runs.n_runs + run) * run_len + element) * GROUP + lane;
        packed[2 * place..2 * place + 2].copy_from_slice(&weights[index].to_le_bytes());
    });
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 9 outputs, a 1x2 "filter" over 3 channels stored as 8: every index computed by hand.
    #[test]
    fn s8_o8k4_places_and_pads() {
        let runs = Runs { outputs: 9, n_runs: 1, pixels: 2, channels: 3, stored: 8 };
        let weights: Vec<i8> = (1..=54).collect();
        let packed = s8_o8k4(&runs, &weights);
        assert_eq!(packed.len(), 2 * 8 * 16);
        // Output 1, pixel 1, channel 2: element 10, quad 2, weight 6 + 5 = index 11.
        assert_eq!(packed[2 * 32 + 4 + 2], 12);
        // Output 8 is lane 0 of group 1; its first weight has index 48.
        assert_eq!(packed[128], 49);
        assert_eq!(packed.iter().filter(|&&b| b != 0).count(), 54);
    }

    #[test]
    fn f16_o8_places_and_pads() {
        let runs = Runs { outputs: 2, n_runs: 3, pixels: 1, channels: 2, stored: 2 };
        let weights: Vec<u16> = (1..=12).collect();
        let packed = f16_o8(&runs, &weights);
        assert_eq!(packed.len(), 2 * 8 * 6);
        // Output 1, run 2, channel 1: element (2 * 2 + 1) of lane 1, index 6 + 5.
        let place = 2 * ((2 * 2 + 1) * 8 + 1);
        assert_eq!(packed[place..place + 2], 12u16.to_le_bytes());
    }
}
