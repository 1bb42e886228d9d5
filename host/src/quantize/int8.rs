//! int8: symmetric weights per output channel, 8-bit activations per map, i32 accumulators, fixed point.
//!
//! ```text
//! weight      w = real / s_w[o], rounded (rounding.rs)  in [-127, 127], s_w[o] = max|real| / 127
//! activation  x = round(real / s_x) + zp               in [-128, 127], zp = -128 behind a ReLU
//! bias        b = round((real + correction) / (s_in * s_w[o])) - zp_in * sum(w)
//! output      requantize(acc, s_in * s_w[o] / s_out)   the scale is < 1
//! ```

use vgg_edge_blob::layout::{GROUP, S8Params};
use vgg_edge_blob::requant::Fixed;
use vgg_edge_blob::{NewLinear, NewWeights, Quantization, S8Layout};

use super::QuantizeError;
use super::fold::OhwiWeights;
use crate::calibrate::Range;

/// Largest magnitude of a bias in accumulator steps, zero-point correction not counted: an eighth of the limit.
const MAX_BIAS_STEPS: f64 = (1u64 << 27) as f64;
/// Step of a map that is always 0.
const DEAD_SCALE: f32 = 1.0 / 255.0;

/// What the picture is to the first layer: real value = pixel value.
pub(super) const PICTURE: Quantization = Quantization { scale: 1.0, zero_point: -128 };

/// Real value of a step of each output channel's weights.
pub(super) fn weight_scales(layer: &OhwiWeights, in_scale: f32) -> Vec<f64> {
    let per_output = (layer.weights.len() / layer.bias.len().max(1)).max(1);
    let filters = layer.weights.chunks_exact(per_output);
    filters
        .zip(&layer.bias)
        .map(|(filter, &bias)| {
            let largest = filter.iter().fold(0f32, |m, w| m.max(w.abs()));
            // A channel of tiny weights under a large bias: a coarser step keeps the bias in range.
            let for_bias = f64::from(bias.abs()) / (f64::from(in_scale) * MAX_BIAS_STEPS);
            let scale = (f64::from(largest) / 127.0).max(for_bias);
            if scale > 0.0 { scale } else { 1.0 }
        })
        .collect()
}

/// Quantization of a map with this range; `relu` puts the zero point at the bottom.
pub(super) fn activation(range: Range, relu: bool) -> Quantization {
    if relu {
        let scale = if range.max > 0.0 { range.max / 255.0 } else { DEAD_SCALE };
        return Quantization { scale, zero_point: -128 };
    }
    let (min, max) = (range.min.min(0.0), range.max.max(0.0));
    let scale = if max > min { (max - min) / 255.0 } else { DEAD_SCALE };
    let zero_point = (-128.0 - min / scale).round().clamp(-128.0, 127.0) as i8;
    Quantization { scale, zero_point }
}

/// What a value becomes when it is stored in 8 bits.
#[derive(Clone, Copy, Debug)]
pub struct Rounded(Quantization);

impl Rounded {
    /// In a map of this range; `relu` says that it holds nothing below 0.
    pub fn new(range: Range, relu: bool) -> Self {
        Self(activation(range, relu))
    }

    /// The real value that is stored for `real`.
    pub fn value(self, real: f32) -> f32 {
        let zero_point = f32::from(self.0.zero_point);
        let stored = (real / self.0.scale).round() + zero_point;
        (stored.clamp(-128.0, 127.0) - zero_point) * self.0.scale
    }
}

/// Output step of a layer: its range's, unless that is finer than the accumulator's own step.
pub(super) fn widened(quant: Quantization, in_scale: f32, weight_scales: &[f64]) -> Quantization {
    let coarsest = weight_scales.iter().fold(0f64, |m, s| m.max(s * f64::from(in_scale)));
    let least = (coarsest * 1.0001) as f32;
    if quant.scale > least { quant } else { Quantization { scale: least, ..quant } }
}

/// A convolution or dense layer to quantize.
pub(super) struct Linear<'a> {
    pub(super) name: &'a str,
    /// Real weights, OHWI, and bias.
    pub(super) layer: &'a OhwiWeights,
    /// Real value of a weight's step, one an output channel.
    pub(super) scales: &'a [f64],
    /// The map it takes.
    pub(super) input: Quantization,
    /// Weights in steps of their outputs' scales, OHWI.
    pub(super) rounded: Vec<i8>,
}

impl Linear<'_> {
    /// Quantizes the layer. `out` is `None` for the last layer, which gives logits.
    ///
    /// `mean(i)` is the mean of the input value that weight `i` of a filter meets. Rounding weights shifts an
    /// output by `sum (real - rounded) * mean` on average; the bias takes that back (bias correction, M. Nagel
    /// et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019).
    ///
    /// # Errors
    /// [`QuantizeError::Scale`] when a step is not representable.
    pub(super) fn quantize(
        self,
        out: Option<Quantization>,
        relu: bool,
        pad: [i8; 4],
        mean: &dyn Fn(usize) -> f64,
    ) -> Result<NewLinear, QuantizeError> {
        let Self { name, layer, scales, input, rounded: weights } = self;
        let outputs = layer.bias.len();
        let per_output = (layer.weights.len() / outputs.max(1)).max(1);
        let means: Vec<f64> = (0..per_output).map(mean).collect();
        let mut params = vec![S8Params::default(); outputs.div_ceil(GROUP)];
        let filters = layer.weights.chunks_exact(per_output).zip(weights.chunks_exact(per_output));
        for (o, (filter, rounded)) in filters.enumerate() {
            let (mut sum, mut shifted) = (0i64, 0f64);
            for ((w, q), mean) in filter.iter().zip(rounded).zip(&means) {
                shifted += (f64::from(*w) - f64::from(*q) * scales[o]) * mean;
                sum += i64::from(*q);
            }
            let acc_scale = f64::from(input.scale) * scales[o];
            let real_bias = f64::from(layer.bias[o]) + shifted;
            let bias = (real_bias / acc_scale).round() as i64 - i64::from(input.zero_point) * sum;
            let p = &mut params[o / GROUP];
            let scale_error = |found: f64| QuantizeError::Scale { layer: name.to_owned(), channel: o, found };
            // The writer proves the exact bound; here only that the number fits its field.
            p.bias[o % GROUP] = i32::try_from(bias).map_err(|_| scale_error(acc_scale))?;
            p.scale[o % GROUP] = acc_scale as f32;
            if let Some(out) = out {
                let scale = acc_scale / f64::from(out.scale);
                let fixed = Fixed::from_scale(scale).ok_or_else(|| scale_error(scale))?;
                (p.multiplier[o % GROUP], p.shift[o % GROUP]) = (fixed.multiplier, fixed.shift);
            }
        }
        let (outputs, weights) = (outputs as u32, NewWeights::S8(weights, params));
        Ok(NewLinear { outputs, relu, pad, layout: S8Layout::default(), weights })
    }
}

/// Fixed-point scale of a global average pool over `pixels` pixels.
///
/// # Errors
/// [`QuantizeError::Scale`] when it is 1 or more.
pub(super) fn average(
    name: &str,
    input: Quantization,
    out: Quantization,
    pixels: usize,
) -> Result<Fixed, QuantizeError> {
    let scale = f64::from(input.scale) / (f64::from(out.scale) * pixels as f64);
    Fixed::from_scale(scale).ok_or(QuantizeError::Scale { layer: name.to_owned(), channel: 0, found: scale })
}

#[cfg(test)]
mod tests {
    use super::super::rounding::nearest;
    use super::*;

    #[test]
    fn relu_maps_use_all_256_steps() {
        let q = activation(Range { min: 0.0, max: 5.1 }, true);
        assert_eq!((q.zero_point, q.scale), (-128, 5.1 / 255.0));
        let q = activation(Range { min: -1.0, max: 3.0 }, false);
        assert_eq!(q.zero_point, -64);
    }

    #[test]
    fn a_large_bias_over_tiny_weights_stays_in_range() {
        let layer = OhwiWeights { weights: vec![1e-12, -1e-12], bias: vec![1000.0] };
        let scales = weight_scales(&layer, 0.01);
        let out = widened(activation(Range { min: 0.0, max: 1000.0 }, true), 0.01, &scales);
        let input = Quantization { scale: 0.01, zero_point: -128 };
        let rounded = nearest(&layer, &scales);
        let linear = Linear { name: "l", layer: &layer, scales: &scales, input, rounded };
        let linear = linear.quantize(Some(out), true, [0; 4], &|_| 0.0).unwrap();
        let NewWeights::S8(weights, params) = linear.weights else { panic!("int8") };
        assert_eq!((weights, params[0].bias[0]), (vec![0, 0], 1 << 27));
    }

    #[test]
    fn a_range_finer_than_the_accumulator_is_widened() {
        let layer = OhwiWeights { weights: vec![1.0], bias: vec![0.0] };
        let scales = weight_scales(&layer, 1.0);
        let out = widened(activation(Range { min: 0.0, max: 1e-6 }, true), 1.0, &scales);
        let rounded = nearest(&layer, &scales);
        let linear = Linear { name: "l", layer: &layer, scales: &scales, input: PICTURE, rounded };
        assert!(linear.quantize(Some(out), true, [0; 4], &|_| 0.0).is_ok());
    }
}
