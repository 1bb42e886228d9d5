//! What the writer does with a requantized Winograd layer: counts, ranges, the proof, the packed sections.
//!
//! ```text
//! taps         [taps][outputs][channels]    ─► weights     [groups][taps][stored / 4][8 outputs][4 channels]    i8
//! multipliers  [taps][channels], offsets    ─► input taps  [taps + 1][stored], the offsets last                 i16
//! scales       [taps][outputs]              ─► tap scales  [groups][taps][8]                                    i32
//! ```

use super::{Form, rdmulh32};
use crate::layout::{GROUP, S8Params};
use crate::requant::ACC_LIMIT;
use crate::write_error::WriteError;

/// A layer to write, places as in the network.
pub(crate) struct NewTaps<'a> {
    pub(crate) form: Form,
    pub(crate) outputs: usize,
    pub(crate) channels: usize,
    /// Channels in memory.
    pub(crate) stored: usize,
    pub(crate) taps: &'a [i8],
    pub(crate) params: &'a [S8Params],
    pub(crate) multipliers: &'a [i16],
    pub(crate) offsets: &'a [i16],
    pub(crate) scales: &'a [i32],
}

/// The bytes of its sections.
pub(crate) struct PackedTaps {
    pub(crate) weights: Vec<u8>,
    pub(crate) input: Vec<u8>,
    pub(crate) scales: Vec<u8>,
}

impl NewTaps<'_> {
    /// Checks, proves and packs the layer called `name`.
    pub(crate) fn pack(&self, name: &str) -> Result<PackedTaps, WriteError> {
        self.sizes(name)?;
        self.ranges(name)?;
        for channel in 0..self.outputs {
            self.prove(name, channel)?;
        }
        Ok(self.packed())
    }

    fn sizes(&self, name: &str) -> Result<(), WriteError> {
        let n = self.form.taps();
        for (what, found, expected) in [
            ("weights", self.taps.len(), n * self.outputs * self.channels),
            ("parameter groups", self.params.len(), self.outputs.div_ceil(GROUP)),
            ("input multipliers", self.multipliers.len(), n * self.channels),
            ("input offsets", self.offsets.len(), self.channels),
            ("tap scales", self.scales.len(), n * self.outputs),
        ] {
            if found != expected {
                return Err(WriteError::Size { layer: name.to_owned(), what, found, expected });
            }
        }
        Ok(())
    }

    fn ranges(&self, name: &str) -> Result<(), WriteError> {
        let layer = || name.to_owned();
        if let Some(at) = self.taps.iter().position(|w| *w == i8::MIN) {
            return Err(WriteError::WeightRange {
                layer: layer(),
                channel: at / self.channels % self.outputs,
            });
        }
        if let Some(at) = self.multipliers.iter().position(|m| *m < 0) {
            let (tap, channel, found) = (at / self.channels, at % self.channels, self.multipliers[at].into());
            return Err(WriteError::TapRange {
                layer: layer(),
                what: "input multiplier",
                tap,
                channel,
                found,
            });
        }
        if let Some(at) = self.scales.iter().position(|m| *m < 0) {
            let (tap, channel, found) = (at / self.outputs, at % self.outputs, self.scales[at]);
            return Err(WriteError::TapRange { layer: layer(), what: "tap scale", tap, channel, found });
        }
        Ok(())
    }

    /// No sum over channels and no sum of the output transform leaves (-ACC_LIMIT, ACC_LIMIT), with any input: values are at
    /// most 128 in magnitude, so the sum of all magnitudes bounds every partial one.
    fn prove(&self, name: &str, channel: usize) -> Result<(), WriteError> {
        let layer = || name.to_owned();
        let (window, a) = (self.form.window(), self.form.output_matrix());
        let mut most = vec![0; self.form.taps()];
        for (t, most) in most.iter_mut().enumerate() {
            let weights = &self.taps[(t * self.outputs + channel) * self.channels..][..self.channels];
            let bound = 128 * weights.iter().map(|w| i64::from(w.unsigned_abs())).sum::<i64>();
            if bound >= ACC_LIMIT {
                return Err(WriteError::Overflow { layer: layer(), channel, bound });
            }
            *most = i64::from(rdmulh32(bound as i32, self.scales[t * self.outputs + channel]));
        }
        let bias = i64::from(self.params[channel / GROUP].bias[channel % GROUP]).abs();
        let size = |v: i32| i64::from(v.abs());
        let output = |y: usize, x: usize| {
            let term = |t: usize| size(a[y][t / window]) * size(a[x][t % window]) * most[t];
            bias + (0..most.len()).map(term).sum::<i64>()
        };
        let outputs = (0..a.len()).flat_map(|y| (0..a.len()).map(move |x| output(y, x)));
        let bound = outputs.max().unwrap_or(0);
        if bound >= ACC_LIMIT {
            return Err(WriteError::Winograd8 {
                layer: layer(),
                algorithm: self.form.algorithm(),
                channel,
                bound,
            });
        }
        Ok(())
    }

    fn packed(&self) -> PackedTaps {
        let &Self { outputs, channels, stored, .. } = self;
        let n = self.form.taps();
        let groups = outputs.div_ceil(GROUP);
        let mut weights = vec![0; groups * n * stored * GROUP];
        for (row, filter) in self.taps.chunks_exact(channels).enumerate() {
            let (tap, output) = (row / outputs, row % outputs);
            let start = (output / GROUP * n + tap) * stored * GROUP + output % GROUP * 4;
            for (c, weight) in filter.iter().enumerate() {
                weights[start + c / 4 * (4 * GROUP) + c % 4] = *weight as u8;
            }
        }
        let mut input = vec![0; 2 * (n + 1) * stored];
        for (tap, values) in self.multipliers.chunks_exact(channels).chain([self.offsets]).enumerate() {
            for (place, value) in input[2 * tap * stored..].chunks_exact_mut(2).zip(values) {
                place.copy_from_slice(&value.to_le_bytes());
            }
        }
        let mut scales = vec![0; 4 * groups * n * GROUP];
        for (at, value) in self.scales.iter().enumerate() {
            let (tap, output) = (at / outputs, at % outputs);
            let place = 4 * ((output / GROUP * n + tap) * GROUP + output % GROUP);
            scales[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
        PackedTaps { weights, input, scales }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 9 outputs of 3 channels stored as 8: every place computed by hand, zeros elsewhere.
    #[test]
    fn places_and_pads() {
        for form in Form::ALL {
            let n = form.taps();
            let taps: Vec<i8> = (0..n * 27).map(|i| (i % 126 + 1) as i8).collect();
            let multipliers: Vec<i16> = (0..n * 3).map(|i| i as i16 + 1).collect();
            let scales: Vec<i32> = (0..n * 9).map(|i| i as i32 + 1).collect();
            let params = [S8Params::default(); 2];
            let new = NewTaps {
                form,
                outputs: 9,
                channels: 3,
                stored: 8,
                taps: &taps,
                params: &params,
                multipliers: &multipliers,
                offsets: &[-1, -2, -3],
                scales: &scales,
            };
            let packed = new.pack("a").unwrap();
            assert_eq!(packed.weights.len(), 2 * n * 64);
            assert_eq!(packed.weights.iter().filter(|w| **w != 0).count(), taps.len());
            let numbers = |bytes: &[u8], size: usize| -> Vec<i32> {
                let wide = |b: &[u8]| i32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                let narrow = |b: &[u8]| i16::from_le_bytes([b[0], b[1]]).into();
                bytes.chunks(size).map(|b| if size == 4 { wide(b) } else { narrow(b) }).collect()
            };
            let (input, packed_scales) = (numbers(&packed.input, 2), numbers(&packed.scales, 4));
            assert_eq!((input.len(), packed_scales.len()), (8 * (n + 1), 16 * n));
            assert_eq!(input.iter().filter(|v| **v != 0).count(), 3 * n + 3);
            assert_eq!(packed_scales.iter().filter(|v| **v != 0).count(), 9 * n);
            for (tap, output, c) in (0..n).flat_map(|t| (0..27).map(move |i| (t, i / 3, i % 3))) {
                let place = (output / 8 * n + tap) * 64 + output % 8 * 4 + c;
                assert_eq!(packed.weights[place] as i8, taps[(tap * 9 + output) * 3 + c]);
                assert_eq!(input[tap * 8 + c], i32::from(multipliers[tap * 3 + c]));
                assert_eq!(packed_scales[(output / 8 * n + tap) * 8 + output % 8], scales[tap * 9 + output]);
            }
            assert_eq!(input[n * 8..], [-1, -2, -3, 0, 0, 0, 0, 0]);
        }
    }
}
