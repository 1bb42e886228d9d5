//! f16: weights rounded to half precision, transformed or not.

use half::f16;
use vgg_edge_blob::layout::{F16Params, GROUP};
use vgg_edge_blob::{NewLinear, NewWeights, S8Layout, winograd16};

use super::QuantizeError;
use super::fold::OhwiWeights;

/// Converts a convolution or dense layer.
///
/// # Errors
/// [`QuantizeError::HalfRange`] for a weight beyond 65504.
pub(super) fn linear(name: &str, layer: &OhwiWeights, relu: bool) -> Result<NewLinear, QuantizeError> {
    let outputs = layer.bias.len();
    let per_output = (layer.weights.len() / outputs.max(1)).max(1);
    let mut weights = Vec::with_capacity(layer.weights.len());
    for (i, &w) in layer.weights.iter().enumerate() {
        let rounded = f16::from_f32(w);
        if !rounded.is_finite() {
            return Err(QuantizeError::HalfRange {
                layer: name.to_owned(),
                channel: i / per_output,
                found: w,
            });
        }
        weights.push(rounded.to_bits());
    }
    Ok(new(layer, relu, NewWeights::F16(weights, params(layer))))
}

/// Transforms the 3x3 filters of a convolution. `largest`, the largest magnitude of its input, is for half-precision arithmetic;
/// `None` for f32.
pub(super) fn winograd(layer: &OhwiWeights, relu: bool, largest: Option<f32>) -> NewLinear {
    let outputs = layer.bias.len();
    let channels = layer.weights.len() / (9 * outputs).max(1);
    let filters = winograd16::transform(outputs, channels, &layer.weights);
    let in_scale = largest.map_or(1.0, winograd16::in_scale);
    new(layer, relu, NewWeights::F16Winograd { filters, params: params(layer), in_scale })
}

fn new(layer: &OhwiWeights, relu: bool, weights: NewWeights) -> NewLinear {
    NewLinear { outputs: layer.bias.len() as u32, relu, pad: [0; 4], layout: S8Layout::default(), weights }
}

fn params(layer: &OhwiWeights) -> Vec<F16Params> {
    let mut params = vec![F16Params::default(); layer.bias.len().div_ceil(GROUP)];
    for (o, &bias) in layer.bias.iter().enumerate() {
        params[o / GROUP].bias[o % GROUP] = bias;
    }
    params
}
