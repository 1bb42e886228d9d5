//! Dense layers in 4 bits: scales for groups of 64 inputs, and rounding whose errors later weights make good.
//!
//! ```text
//! weight   w = base[o] * scale[g][o] * q          q in [-8, 7], scale in 1..=255, base real
//! acc      bias + sum over g of scale[g][o] * sum of q * x      one step is in_scale * base[o]
//! ```
//!
//! Rounding is GPTQ's (`gptq.rs`): inputs in order, and what rounding a weight changes in the outputs of the calibration pictures is
//! taken back by the weights behind it, as far as the inputs' second moments `H` let them.
//!
//! `H` is taken block by block of [`BLOCK`] inputs, and a multiple of its mean, the *damping*, is added to its diagonal: a
//! convolutional network's first dense layer has more inputs than there are pictures to know all their moments by. How much
//! of `H` to believe is measured: with half of the pictures for `H` and the other half for the error, on a sample of blocks and
//! outputs; among the choices is its diagonal alone, which moves no error. The scale of a group is the one with the least
//! error over its 64 inputs, each weighted with its second moment.

use std::ops::Range;

use rayon::prelude::*;
use vgg_edge_blob::int4::INPUTS;
use vgg_edge_blob::layout::{GROUP, S8Params};
use vgg_edge_blob::requant::Fixed;
use vgg_edge_blob::{NewLinear, NewWeights, Quantization, S8Layout};

use super::QuantizeError;
use super::fold::OhwiWeights;
use super::gptq::{self, dot, inverse_factor};

/// Dense layers of so many weights take 4 bits: below, an int8 layer is a small part of the file.
pub const FROM: usize = 1 << 20;

/// Most inputs whose moments are known together.
const BLOCK: usize = 512;
/// How much of the moments to believe, from all to little.
const CHOICES: [Belief; 5] = [
    Belief::Moments { damping: 0.1 },
    Belief::Moments { damping: 1.0 },
    Belief::Moments { damping: 10.0 },
    Belief::Moments { damping: 100.0 },
    Belief::Diagonal,
];
/// Added to the diagonal where that is all: an input that no picture had may yet come.
const DIAGONAL_DAMPING: f64 = 1.0;
/// Blocks and outputs on which a choice is measured, at most.
const SAMPLED_BLOCKS: usize = 8;
const SAMPLED_OUTPUTS: usize = 128;
/// Fewer pictures say nothing about moments.
const MIN_PICTURES: usize = 8;
/// Scale of the group with the largest weight; the rest is room for what other weights' errors add.
const LARGEST_SCALE: f64 = 200.0;
/// Magnitude that `128 * sum(scale * |q|)` may have in the mean of all rounding: leaves the accumulator's range of 2^30 to the
/// zero-point correction, as large in the worst case, and to the bias.
const MAX_SUM: f64 = 0.75 * (1u64 << 29) as f64;
/// Largest magnitude of a bias in accumulator steps, zero-point correction not counted.
const MAX_BIAS_STEPS: f64 = (1u64 << 27) as f64;
/// Scales tried for a group, as shares of the one that just holds its largest weight.
const SHARES: Range<usize> = 11..22;
const SHARE: f32 = 0.05;

/// How much of the inputs' second moments rounding relies on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Belief {
    /// All, with this multiple of the mean on the diagonal.
    Moments { damping: f64 },
    /// Each input's own: weights are rounded one by one.
    Diagonal,
}

impl Belief {
    fn damping(self) -> f64 {
        match self {
            Self::Moments { damping } => damping,
            Self::Diagonal => DIAGONAL_DAMPING,
        }
    }
}

/// A dense layer to quantize.
pub(super) struct Dense<'a> {
    pub(super) name: &'a str,
    /// Real weights, `[outputs][inputs]`, and bias.
    pub(super) layer: &'a OhwiWeights,
    /// The map it takes.
    pub(super) input: Quantization,
    /// Channels of that map: in memory they are padded, and groups count that.
    pub(super) channels: usize,
    /// The inputs of some pictures, real values.
    pub(super) pictures: &'a [&'a [f32]],
}

/// What is known of a layer's inputs.
struct Inputs<'a> {
    pictures: Vec<&'a [f32]>,
    /// Of all inputs of all pictures.
    mean_square: f64,
}

impl<'a> Inputs<'a> {
    fn new(pictures: Vec<&'a [f32]>) -> Self {
        let squares: f64 = pictures.iter().map(|x| dot(x, x)).sum();
        let n: usize = pictures.iter().map(|x| x.len()).sum();
        Self { pictures, mean_square: squares / n.max(1) as f64 }
    }
}

/// Inputs whose moments are known together: some groups.
struct Block {
    /// Its first input.
    first: usize,
    /// Inputs of each group, within the block.
    groups: Vec<Range<usize>>,
}

impl Block {
    fn len(&self) -> usize {
        self.groups.last().map_or(0, |g| g.end)
    }
}

/// A block's part of the layer.
struct Rounded {
    /// `[outputs][inputs of the block]`.
    weights: Vec<i8>,
    /// `[outputs][groups of the block]`.
    scales: Vec<u8>,
}

impl Dense<'_> {
    /// Quantizes the layer. `out` is `None` for the last layer, which gives logits; `mean(i)` is the mean of input `i`, for
    /// bias correction.
    ///
    /// # Errors
    /// [`QuantizeError::Scale`] when a step is not representable.
    pub(super) fn quantize(
        &self,
        out: Option<Quantization>,
        relu: bool,
        mean: &(dyn Fn(usize) -> f64 + Sync),
    ) -> Result<NewLinear, QuantizeError> {
        let outputs = self.layer.bias.len();
        let inputs = self.layer.weights.len() / outputs.max(1);
        let bases = self.bases(inputs);
        let pictures = self.quantized_pictures();
        let pictures: Vec<&[f32]> = pictures.iter().map(Vec::as_slice).collect();
        let blocks = self.blocks(inputs);
        let all: Vec<usize> = (0..outputs).collect();
        let belief = self.best_belief(&blocks, &bases, &pictures);
        let known = Inputs::new(pictures);
        let round = |block| self.round(block, &all, &bases, &known, belief);
        let rounded: Vec<Rounded> = blocks.par_iter().map(round).collect();
        let n_groups: usize = blocks.iter().map(|block| block.groups.len()).sum();
        let mut weights = Vec::with_capacity(outputs * inputs);
        let mut scales = Vec::with_capacity(outputs * n_groups);
        for o in 0..outputs {
            for (block, part) in blocks.iter().zip(&rounded) {
                let (n, g) = (block.len(), block.groups.len());
                weights.extend_from_slice(&part.weights[o * n..][..n]);
                scales.extend_from_slice(&part.scales[o * g..][..g]);
            }
        }
        drop(rounded);
        let means: Vec<f64> = (0..inputs).map(mean).collect();
        let group_of: Vec<usize> = (0..inputs).map(|i| self.element(i) / INPUTS).collect();
        let mut params = vec![S8Params::default(); outputs.div_ceil(GROUP)];
        for (o, filter) in self.layer.weights.chunks_exact(inputs.max(1)).enumerate() {
            let (mut sum, mut shifted) = (0i64, 0f64);
            for (i, real) in filter.iter().enumerate() {
                let steps =
                    i64::from(weights[o * inputs + i]) * i64::from(scales[o * n_groups + group_of[i]]);
                shifted += (f64::from(*real) - steps as f64 * bases[o]) * means[i];
                sum += steps;
            }
            let acc_scale = f64::from(self.input.scale) * bases[o];
            let real_bias = f64::from(self.layer.bias[o]) + shifted;
            let bias = (real_bias / acc_scale).round() as i64 - i64::from(self.input.zero_point) * sum;
            let error = |found| QuantizeError::Scale { layer: self.name.to_owned(), channel: o, found };
            let p = &mut params[o / GROUP];
            // The writer proves the exact bound; here only that the number fits its field.
            p.bias[o % GROUP] = i32::try_from(bias).map_err(|_| error(acc_scale))?;
            p.scale[o % GROUP] = acc_scale as f32;
            if let Some(out) = out {
                let scale = acc_scale / f64::from(out.scale);
                let fixed = Fixed::from_scale(scale).ok_or_else(|| error(scale))?;
                (p.multiplier[o % GROUP], p.shift[o % GROUP]) = (fixed.multiplier, fixed.shift);
            }
        }
        let pad = [self.input.zero_point; 4];
        Ok(NewLinear {
            outputs: outputs as u32,
            relu,
            pad,
            layout: S8Layout::default(),
            weights: NewWeights::S4 { weights, scales, params },
        })
    }

    /// Real value of a step of each output's weights times 1.
    fn bases(&self, inputs: usize) -> Vec<f64> {
        let filters = self.layer.weights.chunks_exact(inputs.max(1)).zip(&self.layer.bias);
        let base = |(filter, bias): (&[f32], &f32)| {
            let largest = filter.iter().fold(0f32, |m, w| m.max(w.abs()));
            let sum: f64 = filter.iter().map(|w| f64::from(w.abs())).sum();
            let for_bias = f64::from(bias.abs()) / (f64::from(self.input.scale) * MAX_BIAS_STEPS);
            let base = (f64::from(largest) / 7.5 / LARGEST_SCALE).max(128.0 * sum / MAX_SUM).max(for_bias);
            if base > 0.0 { base } else { 1.0 }
        };
        filters.map(base).collect()
    }

    /// Where input `i` lies in memory.
    fn element(&self, i: usize) -> usize {
        i / self.channels * self.channels.next_multiple_of(GROUP) + i % self.channels
    }

    /// The pictures' inputs as the device sees them, in real values.
    fn quantized_pictures(&self) -> Vec<Vec<f32>> {
        let Quantization { scale, zero_point } = self.input;
        let (low, high) = (-128.0 - f32::from(zero_point), 127.0 - f32::from(zero_point));
        let seen = |x: &f32| (x / scale).round().clamp(low, high) * scale;
        self.pictures.iter().map(|picture| picture.iter().map(seen).collect()).collect()
    }

    /// Cuts the inputs into blocks of whole groups.
    fn blocks(&self, inputs: usize) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut first = 0;
        while first < inputs {
            let group = self.element(first) / INPUTS;
            let end = (first..inputs).find(|i| self.element(*i) / INPUTS != group).unwrap_or(inputs);
            match blocks.last_mut() {
                Some(block) if block.groups.len() < BLOCK / INPUTS => {
                    block.groups.push(first - block.first..end - block.first);
                }
                _ => blocks.push(Block { first, groups: std::iter::once(0..end - first).collect() }),
            }
            first = end;
        }
        blocks
    }

    /// The choice that loses least on pictures that it did not see: every other one.
    fn best_belief(&self, blocks: &[Block], bases: &[f64], pictures: &[&[f32]]) -> Belief {
        if pictures.len() < MIN_PICTURES {
            return Belief::Diagonal;
        }
        let half = |odd: usize| -> Vec<&[f32]> { pictures.iter().skip(odd).step_by(2).copied().collect() };
        let (seen, unseen) = (half(0), half(1));
        let sampled: Vec<&Block> =
            blocks.iter().step_by(blocks.len().div_ceil(SAMPLED_BLOCKS).max(1)).collect();
        let outputs: Vec<usize> =
            (0..bases.len()).step_by(bases.len().div_ceil(SAMPLED_OUTPUTS).max(1)).collect();
        let seen = Inputs::new(seen);
        let loss = |belief: Belief| -> f64 {
            let of_block = |block: &&Block| {
                let rounded = self.round(block, &outputs, bases, &seen, belief);
                self.loss(block, &outputs, bases, &rounded, [&seen.pictures, &unseen])
            };
            sampled.par_iter().map(of_block).collect::<Vec<f64>>().iter().sum()
        };
        let losses = CHOICES.map(|belief| (loss(belief), belief));
        losses.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(Belief::Diagonal, |best| best.1)
    }

    /// Squared error of some outputs over unseen pictures, as far as a block's weights make it; its mean over the seen ones
    /// is what bias correction takes back.
    fn loss(
        &self,
        block: &Block,
        outputs: &[usize],
        bases: &[f64],
        rounded: &Rounded,
        [seen, unseen]: [&[&[f32]]; 2],
    ) -> f64 {
        let (n, inputs) = (block.len(), self.layer.weights.len() / bases.len().max(1));
        let mut off = vec![0f32; n];
        let mut loss = 0.0;
        for (i, &o) in outputs.iter().enumerate() {
            let real = &self.layer.weights[o * inputs + block.first..][..n];
            let q = &rounded.weights[i * n..][..n];
            for (g, group) in block.groups.iter().enumerate() {
                let step = f32::from(rounded.scales[i * block.groups.len() + g]) * bases[o] as f32;
                group.clone().for_each(|j| off[j] = real[j] - f32::from(q[j]) * step);
            }
            let error = |x: &&[f32]| dot(&off, &x[block.first..][..n]);
            let mean = seen.iter().map(error).sum::<f64>() / seen.len() as f64;
            loss += unseen.iter().map(|x| (error(x) - mean).powi(2)).sum::<f64>();
        }
        loss
    }

    /// Rounds a block for some outputs.
    fn round(
        &self,
        block: &Block,
        outputs: &[usize],
        bases: &[f64],
        Inputs { pictures, mean_square }: &Inputs<'_>,
        belief: Belief,
    ) -> Rounded {
        let (n, inputs) = (block.len(), self.layer.weights.len() / bases.len().max(1));
        let mut moments = vec![0f64; n * n];
        for picture in pictures {
            let x = &picture[block.first..][..n];
            for (j, row) in moments.chunks_exact_mut(n).enumerate().filter(|(j, _)| x[*j] != 0.0) {
                let own = f64::from(x[j]) / pictures.len() as f64;
                row.iter_mut().zip(x).for_each(|(moment, x)| *moment += own * f64::from(*x));
            }
        }
        let damping = if *mean_square > 0.0 { belief.damping() * mean_square } else { 1.0 };
        (0..n).for_each(|j| moments[j * n + j] += damping);
        let importance: Vec<f32> = (0..n).map(|j| moments[j * n + j] as f32).collect();
        let upper = match belief {
            Belief::Moments { .. } => inverse_factor(moments, n),
            Belief::Diagonal => Vec::new(),
        };
        let mut rounded = Rounded {
            weights: Vec::with_capacity(outputs.len() * n),
            scales: Vec::with_capacity(outputs.len() * block.groups.len()),
        };
        for &o in outputs {
            let mut w = self.layer.weights[o * inputs + block.first..][..n].to_vec();
            let base = bases[o] as f32;
            for group in &block.groups {
                let scale = group_scale(&w[group.clone()], &importance[group.clone()], base);
                let step = f32::from(scale) * base;
                rounded.scales.push(scale);
                gptq::round(&mut w, &upper, group.clone(), step, [-8.0, 7.0], &mut rounded.weights);
            }
        }
        rounded
    }
}

/// The scale with the least weighted error over a group.
fn group_scale(weights: &[f32], importance: &[f32], base: f32) -> u8 {
    let largest = weights.iter().fold(0f32, |m, w| m.max(w.abs()));
    let error = |scale: f32| -> f32 {
        let (step, inverse) = (scale * base, 1.0 / (scale * base));
        let one = |(w, h): (&f32, &f32)| {
            let off = w - (w * inverse).round_ties_even().clamp(-8.0, 7.0) * step;
            off * off * h
        };
        weights.iter().zip(importance).map(one).sum()
    };
    let candidates = SHARES.map(|n| (n as f32 * SHARE * largest / 7.5 / base).round().clamp(1.0, 255.0));
    let best = candidates.map(|scale| (error(scale), scale)).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(1, |(_, scale)| scale as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::numbers;

    /// Sum of squared errors of the outputs over all pictures, and of the outputs themselves.
    fn error(layer: &OhwiWeights, linear: &NewLinear, in_scale: f32, pictures: &[&[f32]]) -> (f64, f64) {
        let NewWeights::S4 { weights, scales, params } = &linear.weights else { panic!("4 bits") };
        let (mut off, mut all) = (0.0, 0.0);
        let n = pictures[0].len();
        for x in pictures {
            for (o, filter) in layer.weights.chunks_exact(n).enumerate() {
                let (mut real, mut acc) = (f64::from(layer.bias[o]), i64::from(params[0].bias[o]));
                for (i, (w, x)) in filter.iter().zip(*x).enumerate() {
                    real += f64::from(*w) * f64::from(*x);
                    let q = (x / in_scale).round() as i64 - 128;
                    acc += q * i64::from(weights[o * n + i]) * i64::from(scales[o * n.div_ceil(64) + i / 64]);
                }
                off += (real - acc as f64 * f64::from(params[0].scale[o])).powi(2);
                all += real * real;
            }
        }
        (off, all)
    }

    /// Inputs that go together: GPTQ uses that, on pictures that it has not seen, too.
    #[test]
    fn rounding_with_the_inputs_moments_loses_less() {
        let (n, mut state) = (192, 5);
        let sources = numbers(16 * n, &mut state);
        let pictures: Vec<Vec<f32>> = (0..200)
            .map(|_| {
                let strengths = numbers(16, &mut state);
                let value = |i: usize| (0..16).map(|s| strengths[s] * sources[s * n + i]).sum::<f32>();
                (0..n).map(|i| value(i).max(0.0)).collect()
            })
            .collect();
        let pictures: Vec<&[f32]> = pictures.iter().map(Vec::as_slice).collect();
        let (seen, unseen) = pictures.split_at(150);
        let in_scale = seen.iter().flat_map(|p| p.iter()).fold(0f32, |m, x| m.max(*x)) / 255.0;
        let layer = OhwiWeights { weights: numbers(8 * n, &mut state), bias: numbers(8, &mut state) };
        let loss = |known: &[&[f32]]| {
            let input = Quantization { scale: in_scale, zero_point: -128 };
            let dense = Dense { name: "fc", layer: &layer, input, channels: n, pictures: known };
            let mean = |i: usize| seen.iter().map(|p| f64::from(p[i])).sum::<f64>() / seen.len() as f64;
            let linear = dense.quantize(None, false, &mean).unwrap();
            let (off, all) = error(&layer, &linear, in_scale, unseen);
            10.0 * (all / off).log10()
        };
        let (plain, with_moments) = (loss(&[]), loss(seen));
        println!("{plain:.2} dB rounded to nearest, {with_moments:.2} dB with the moments");
        assert!(plain > 15.0 && with_moments > plain + 2.0, "{plain} {with_moments}");
    }

    /// Groups count padded channels: 5 channels are 8 places in memory, so 8 pixels, 40 inputs, are a group.
    #[test]
    fn groups_follow_the_places_in_memory() {
        let layer = OhwiWeights { weights: vec![0.5; 100], bias: vec![0.0] };
        let input = Quantization { scale: 0.1, zero_point: -128 };
        let dense = Dense { name: "fc", layer: &layer, input, channels: 5, pictures: &[] };
        let groups: Vec<_> = dense.blocks(100).into_iter().flat_map(|b| b.groups).collect();
        assert_eq!(groups, [0..40, 40..80, 80..100]);
    }
}
