//! What quantized weights mean: the real numbers that the device multiplies with, in the f32 graph's own order.
//!
//! ```text
//! weight = q * (s_acc[o] / s_in)            S4: times the scale of its group of 64 inputs
//! bias   = (b + zp_in * sum(q)) * s_acc[o]
//! ```
//!
//! The first layer's weights hold the preprocessing; here it is taken out again, so that both take the same input.

use half::f16;
use vgg_edge_blob::int4::INPUTS;
use vgg_edge_blob::layout::{GROUP, S8Params, padded};
use vgg_edge_blob::{NewLayer, NewOp, NewWeights, Preprocess};

use super::{Fused, FusedOp};
use crate::graph::Tensor;

/// A layer's weights and bias as the device has them, in the shapes of the graph.
pub(crate) struct Real {
    /// HWIO, or `[in][out]`.
    pub(crate) weights: Tensor,
    /// `[out]`.
    pub(crate) bias: Tensor,
    /// Real value of a step of each output's weights; empty for half precision.
    pub(crate) steps: Vec<f64>,
}

/// The real weights of `layer`, which stores `f`. `rule` for the first layer, which holds the preprocessing. `None` for layers
/// without weights and for requantized Winograd's, which are no weights any more.
pub(crate) fn real(f: &Fused<'_>, layer: &NewLayer, rule: Option<&Preprocess>) -> Option<Real> {
    let (FusedOp::Conv { weights, bias, .. } | FusedOp::Dense { weights, bias, .. }) = &f.op else {
        return None;
    };
    let (NewOp::Conv { linear, .. } | NewOp::Dense(linear)) = &layer.op else { return None };
    let (outputs, channels) = (bias.len(), f.input.channels().max(1));
    let per_output = weights.len() / outputs.max(1);
    let mut values = vec![0f32; weights.len()];
    let mut biases = bias.data().to_vec();
    let mut steps = Vec::new();
    match &linear.weights {
        NewWeights::S8(stored, params) => {
            integers(stored, params, layer, &mut values, &mut biases, &mut steps, |_, _| 1.0);
        }
        NewWeights::S4 { weights: stored, scales, params } => {
            let groups = scales.len() / outputs.max(1);
            let stored_channels = padded(channels as u32) as usize;
            let scale = |o: usize, i: usize| {
                let input = i / channels * stored_channels + i % channels;
                scales.get(o * groups + input / INPUTS).map_or(0.0, |s| f64::from(*s))
            };
            integers(stored, params, layer, &mut values, &mut biases, &mut steps, scale);
        }
        // Half precision holds the network's own weights; transformed ones are rounded anew, about as finely.
        NewWeights::F16(..) | NewWeights::F16Winograd { .. } => {
            let half = weights.data().iter().map(|w| f16::from_f32(*w).to_f32()).collect();
            let weights = Tensor::new(weights.shape().to_vec(), half)?;
            return Some(Real { weights, bias: bias.clone(), steps });
        }
        NewWeights::S8Winograd { .. } => return None,
    }
    // From OHWI, and from pixels, to the graph's order and numbers.
    let mut ordered = vec![0f32; values.len()];
    for (o, filter) in values.chunks_exact(per_output.max(1)).enumerate() {
        let mut shift = 0f64;
        for (i, &w) in filter.iter().enumerate() {
            let (pixel, c) = (i / channels, i % channels);
            let to = pixel * channels + rule.map_or(c, |rule| rule.network_channel(c));
            let mut w = f64::from(w);
            if let Some(rule) = rule {
                let (mean, std) = rule.of_picture_channel(c);
                w *= f64::from(std) / f64::from(rule.scale);
                shift += w * f64::from(mean) / f64::from(std);
            }
            ordered[to * outputs + o] = w as f32;
        }
        biases[o] = (f64::from(biases[o]) + shift) as f32;
    }
    if let Some(rule) = rule {
        let coarsest = (0..channels).map(|c| f64::from(rule.of_picture_channel(c).1)).fold(0.0, f64::max);
        steps.iter_mut().for_each(|step| *step *= coarsest / f64::from(rule.scale).abs());
    }
    let weights = Tensor::new(weights.shape().to_vec(), ordered)?;
    Some(Real { weights, bias: Tensor::vector(biases), steps })
}

/// Integers to real numbers, `[out][in]`; `scale(o, i)` is what a group multiplies with.
fn integers(
    stored: &[i8],
    params: &[S8Params],
    layer: &NewLayer,
    values: &mut [f32],
    biases: &mut [f32],
    steps: &mut Vec<f64>,
    scale: impl Fn(usize, usize) -> f64,
) {
    let per_output = (stored.len() / biases.len().max(1)).max(1);
    let of_outputs = stored.chunks_exact(per_output).zip(values.chunks_exact_mut(per_output)).zip(biases);
    for (o, ((stored, values), bias)) in of_outputs.enumerate() {
        let acc_scale = f64::from(params[o / GROUP].scale[o % GROUP]);
        let step = acc_scale / f64::from(layer.in_quant.scale);
        let mut sum = 0f64;
        for (i, (q, value)) in stored.iter().zip(values).enumerate() {
            let q = f64::from(*q) * scale(o, i);
            sum += q;
            *value = (q * step) as f32;
        }
        let zero_point = f64::from(layer.in_quant.zero_point);
        *bias = ((f64::from(params[o / GROUP].bias[o % GROUP]) + zero_point * sum) * acc_scale) as f32;
        steps.push(step);
    }
}
