//! f16 models with Winograd, and what it computes, in f64 over the network's own order.
//!
//! ```text
//! half_twin(model, half)   every 3x3 layer behind the first, multiplied in half precision or in f32
//! ```

use ::half::f16;
use vgg_edge_blob::winograd16::{in_scale, transform};
use vgg_edge_blob::{Algorithm, NewModel, NewOp, NewWeights, Scheme};

/// Activations of random networks stay below this.
const LARGEST: f32 = 4096.0;

/// The same f16 model with Winograd wherever the format has it.
pub(crate) fn half_twin(mut model: NewModel, half: bool) -> NewModel {
    let of_scheme = model.scheme == Scheme::F16;
    let mut channels = model.input.channels as usize;
    for (i, layer) in model.layers.iter_mut().enumerate().filter(|_| of_scheme) {
        let NewOp::Conv { kernel, algorithm, linear } = &mut layer.op else { continue };
        let outputs = linear.outputs as usize;
        if let (1.., 3, NewWeights::F16(weights, params)) = (i, *kernel, &linear.weights) {
            let weights: Vec<f32> = weights.iter().map(|w| f16::from_bits(*w).to_f32()).collect();
            let filters = transform(outputs, channels, &weights);
            let in_scale = if half { in_scale(LARGEST) } else { 1.0 };
            layer.in_quant.scale = in_scale;
            layer.out_quant.scale = 1.0 / (in_scale * filters.scale);
            *algorithm = if half { Algorithm::WinogradF43F16 } else { Algorithm::WinogradF43 };
            linear.weights = NewWeights::F16Winograd { filters, params: params.clone(), in_scale };
        }
        channels = outputs;
    }
    model
}
