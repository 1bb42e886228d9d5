//! Rounding of 8-bit weights: each to nearest, or so that the layer's output errs least (GPTQ).
//!
//! ```text
//! moments of the layer's inputs ─► damping that serves best on unseen pictures ─► U a block ─► weights, an output at a time
//! ```
//!
//! Weights of a filter are known together as far as the moments are: all taps of a block of channels. How much of the moments to
//! believe is measured: with one half of the pictures for them and the other for the error; among the choices is rounding to
//! nearest.

use rayon::prelude::*;

use super::fold::OhwiWeights;
use super::gptq::{self, dot, inverse_factor};
use crate::calibrate::Moments;

/// How 8-bit weights are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// Each to the nearest step.
    #[default]
    Nearest,
    /// Errors taken back by the weights behind, by the second moments of the inputs.
    Gptq,
}

impl std::fmt::Display for Rounding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nearest => "nearest",
            Self::Gptq => "gptq",
        })
    }
}

/// What is added to the diagonal, as multiples of its mean.
const DAMPINGS: [f64; 5] = [0.01, 0.1, 1.0, 10.0, 100.0];
/// Outputs on which a choice is measured, at most.
const SAMPLED_OUTPUTS: usize = 32;
/// Windows of half of the pictures below which nothing is known.
const MIN_WINDOWS: u64 = 4;
const LIMITS: [f32; 2] = [-127.0, 127.0];

/// Each weight of a layer to the nearest multiple of its output's scale.
pub(super) fn nearest(layer: &OhwiWeights, scales: &[f64]) -> Vec<i8> {
    let per_output = (layer.weights.len() / layer.bias.len().max(1)).max(1);
    let filters = layer.weights.chunks_exact(per_output).zip(scales);
    let round = |w: &f32, scale: f64| (f64::from(*w) / scale).round().clamp(-127.0, 127.0) as i8;
    filters.flat_map(|(filter, scale)| filter.iter().map(|w| round(w, *scale))).collect()
}

/// The weights of a layer to multiples of their outputs' scales, with the least error of the outputs.
pub(super) fn optimal(layer: &OhwiWeights, scales: &[f64], moments: &Moments) -> Vec<i8> {
    let layer = Layer { weights: layer, scales, moments };
    let mut rounded = nearest(layer.weights, scales);
    let Some(damping) = layer.best_damping() else { return rounded };
    let per_output = (rounded.len() / scales.len().max(1)).max(1);
    for block in 0..moments.n_blocks() {
        let upper = factor(moments.covariance(block, None), damping);
        let inputs = moments.inputs(block);
        rounded.par_chunks_exact_mut(per_output).enumerate().for_each(|(o, rounded)| {
            let block = layer.round(&inputs, &upper, o);
            inputs.iter().zip(block).for_each(|(i, q)| rounded[*i] = q);
        });
    }
    rounded
}

struct Layer<'a> {
    weights: &'a OhwiWeights,
    scales: &'a [f64],
    moments: &'a Moments,
}

impl Layer<'_> {
    fn filter(&self, output: usize) -> &[f32] {
        let per_output = self.weights.weights.len() / self.scales.len().max(1);
        &self.weights.weights[output * per_output..][..per_output]
    }

    /// Weights `inputs` of an output.
    fn round(&self, inputs: &[usize], upper: &[f32], output: usize) -> Vec<i8> {
        let filter = self.filter(output);
        let mut w: Vec<f32> = inputs.iter().map(|i| filter[*i]).collect();
        let (mut rounded, n) = (Vec::with_capacity(w.len()), w.len());
        gptq::round(&mut w, upper, 0..n, self.scales[output] as f32, LIMITS, &mut rounded);
        rounded
    }

    /// The damping that loses least on the half of the pictures that the factor was not made of; none where that is
    /// rounding to nearest.
    fn best_damping(&self) -> Option<f64> {
        let [seen, unseen] = [Some(0), Some(1)];
        if self.moments.n_windows(unseen) < MIN_WINDOWS {
            return None;
        }
        let block = self.moments.n_blocks() / 2;
        let (inputs, n) = (self.moments.inputs(block), self.scales.len());
        let outputs: Vec<usize> = (0..n).step_by(n.div_ceil(SAMPLED_OUTPUTS).max(1)).collect();
        let (known, judge) = (self.moments.covariance(block, seen), self.moments.covariance(block, unseen));
        let loss = |upper: &[f32]| -> f64 {
            let of_output = |&o: &usize| {
                let (filter, scale) = (self.filter(o), self.scales[o]);
                let rounded = self.round(&inputs, upper, o);
                let off = |(i, q): (&usize, &i8)| f64::from(filter[*i]) - f64::from(*q) * scale;
                let off: Vec<f64> = inputs.iter().zip(&rounded).map(off).collect();
                let rows = judge.chunks_exact(off.len().max(1));
                rows.zip(&off).map(|(row, e)| e * dot(row, &off)).sum::<f64>()
            };
            outputs.par_iter().map(of_output).collect::<Vec<f64>>().iter().sum()
        };
        let of_dampings: Vec<(f64, Option<f64>)> =
            DAMPINGS.into_par_iter().map(|d| (loss(&factor(known.clone(), d)), Some(d))).collect();
        let all = of_dampings.into_iter().chain([(loss(&[]), None)]);
        all.min_by(|a, b| a.0.total_cmp(&b.0)).and_then(|best| best.1)
    }
}

/// What GPTQ needs of moments with so much damping.
fn factor(mut moments: Vec<f64>, damping: f64) -> Vec<f32> {
    let n = moments.len().isqrt();
    let mean = (0..n).map(|j| moments[j * n + j]).sum::<f64>() / n.max(1) as f64;
    // Inputs that are never anything but 0 say nothing: then any positive number does.
    let added = if mean > 0.0 { damping * mean } else { 1.0 };
    (0..n).for_each(|j| moments[j * n + j] += added);
    inverse_factor(moments, n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::Planes;
    use crate::quantize::numbers;

    /// Smooth maps: neighbours go together, which rounding to nearest does not know.
    fn maps(n: usize, channels: usize, state: &mut u64) -> Vec<Vec<i16>> {
        let size = 12;
        (0..n)
            .map(|_| {
                let sources: Vec<Vec<f32>> = (0..3).map(|_| numbers(4, state)).collect();
                let value = |i: usize| {
                    let (y, x, c) = (i / channels / size, i / channels % size, i % channels);
                    let wave = |s: &Vec<f32>| {
                        (s[0] * y as f32 + s[1] * x as f32 + 6.0 * s[2] + (c % 5) as f32 * s[3]).sin()
                    };
                    ((sources.iter().map(wave).sum::<f32>() + 1.0) * 50.0).clamp(0.0, 255.0) as i16
                };
                (0..size * size * channels).map(value).collect()
            })
            .collect()
    }

    #[test]
    fn unseen_pictures_lose_less_than_by_rounding_to_nearest() {
        let (channels, outputs, mut state) = (8, 16, 9);
        let all = maps(40, channels, &mut state);
        let planes: Vec<Planes> = all.iter().map(|m| Planes::new(m, [12, 12, channels], 3, 0..12)).collect();
        let (seen, unseen) = (Moments::new(&planes[..24], 3), Moments::new(&planes[24..], 3));
        let layer =
            OhwiWeights { weights: numbers(outputs * 9 * channels, &mut state), bias: vec![0.0; outputs] };
        let scales = vec![1.0 / 12.0; outputs];
        let inputs = unseen.inputs(0);
        let covariance = unseen.covariance(0, None);
        let loss = |rounded: &[i8]| -> f64 {
            let n = inputs.len();
            (0..outputs)
                .map(|o| {
                    let off = |i: &usize| {
                        let at = o * n + i;
                        f64::from(layer.weights[at]) - f64::from(rounded[at]) * scales[o]
                    };
                    let off: Vec<f64> = inputs.iter().map(off).collect();
                    covariance.chunks_exact(n).zip(&off).map(|(row, e)| e * dot(row, &off)).sum::<f64>()
                })
                .sum()
        };
        let (plain, best) = (loss(&nearest(&layer, &scales)), loss(&optimal(&layer, &scales, &seen)));
        println!("{plain:.3e} rounded to nearest, {best:.3e} with the moments");
        assert!(best < 0.5 * plain, "{best} {plain}");
    }

    #[test]
    fn without_pictures_it_is_rounding_to_nearest() {
        let mut state = 3;
        let layer = OhwiWeights { weights: numbers(24, &mut state), bias: vec![0.0; 2] };
        let scales = [0.01, 0.02];
        let one = [Planes::new(&[7; 12], [1, 1, 12], 1, 0..1)];
        assert_eq!(optimal(&layer, &scales, &Moments::new(&one, 1)), nearest(&layer, &scales));
    }
}
