//! f16: weights rounded to half precision, everything else in f32.

use half::f16;
use vgg_edge_blob::layout::{F16Params, GROUP};
use vgg_edge_blob::{NewLinear, NewWeights, S8Layout};

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
    let mut params = vec![F16Params::default(); outputs.div_ceil(GROUP)];
    for (o, &bias) in layer.bias.iter().enumerate() {
        params[o / GROUP].bias[o % GROUP] = bias;
    }
    let (outputs, weights) = (outputs as u32, NewWeights::F16(weights, params));
    Ok(NewLinear { outputs, relu, pad: [0; 4], layout: S8Layout::default(), weights })
}
