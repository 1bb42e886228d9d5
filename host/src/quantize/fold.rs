//! The first layer takes the picture as it is: preprocessing goes into its weights.
//!
//! ```text
//! value[c] = (pixel[c] * scale - mean[c]) / std[c]
//! sum w[c] * value[c] + b  =  sum (w[c] * scale / std[c]) * pixel[c]  +  (b - sum w[c] * mean[c] / std[c])
//! ```
//!
//! Pixels arrive as RGB; `w` of a BGR network changes places accordingly. A padding pixel must mean value 0:
//! that is `pixel = mean / scale`, rounded to a whole pixel value.

use vgg_edge_blob::Preprocess;

/// Weights of one layer in OHWI order (`[out][positions][channels]`) with their bias.
#[derive(Clone, Debug, PartialEq)]
pub struct OhwiWeights {
    /// `[out][positions][channels]`.
    pub weights: Vec<f32>,
    /// `[out]`.
    pub bias: Vec<f32>,
}

/// HWIO (or `[in][out]`) to OHWI: output channels from last to first.
pub(super) fn to_ohwi(weights: &[f32], outputs: usize) -> Vec<f32> {
    let inputs = weights.len() / outputs.max(1);
    let mut ohwi = Vec::with_capacity(weights.len());
    for output in 0..outputs {
        ohwi.extend((0..inputs).map(|i| weights[i * outputs + output]));
    }
    ohwi
}

impl OhwiWeights {
    /// The channels of each pixel from the network's order to the picture's.
    pub fn in_picture_order(mut self, rule: &Preprocess, channels: usize) -> Self {
        let network = self.weights.clone();
        for (i, w) in self.weights.iter_mut().enumerate() {
            let (pixel, c) = (i / channels, i % channels);
            *w = network[pixel * channels + rule.network_channel(c)];
        }
        self
    }

    /// Folds scale, mean and standard deviation in; weights must be in picture order.
    pub fn fold(mut self, rule: &Preprocess, channels: usize) -> Self {
        let per_output = self.weights.len() / self.bias.len().max(1);
        for (filter, bias) in self.weights.chunks_exact_mut(per_output.max(1)).zip(&mut self.bias) {
            let mut shift = 0f64;
            for (i, w) in filter.iter_mut().enumerate() {
                let (mean, std) = rule.of_picture_channel(i % channels);
                shift += f64::from(*w) * f64::from(mean) / f64::from(std);
                *w = (f64::from(*w) * f64::from(rule.scale) / f64::from(std)) as f32;
            }
            *bias = (f64::from(*bias) - shift) as f32;
        }
        self
    }
}

/// The picture value, as the engine's i8 (`pixel - 128`), that stands for padding.
pub(super) fn padding(rule: &Preprocess, channels: usize) -> [i8; 4] {
    core::array::from_fn(|c| {
        if c >= channels {
            return 0;
        }
        let (mean, _) = rule.of_picture_channel(c);
        ((mean / rule.scale).round().clamp(0.0, 255.0) - 128.0) as i8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vgg_edge_blob::{ChannelOrder, ResizeFilter, ResizeRule};

    fn caffe() -> Preprocess {
        Preprocess {
            order: ChannelOrder::Bgr,
            scale: 1.0,
            mean: [103.939, 116.779, 123.68, 0.0],
            std: [1.0, 1.0, 2.0, 1.0],
            resize: ResizeRule::Stretch,
            filter: ResizeFilter::Bilinear,
        }
    }

    #[test]
    fn folded_weights_on_pixels_equal_plain_weights_on_values() {
        let rule = caffe();
        let rgb = [10f32, 200.0, 77.0];
        let bgr = [77f32, 200.0, 10.0];
        let plain = OhwiWeights { weights: vec![0.5, -1.0, 2.0], bias: vec![3.0] };
        let value: f32 = (0..3).map(|c| plain.weights[c] * (bgr[c] - rule.mean[c]) / rule.std[c]).sum();
        let folded = plain.in_picture_order(&rule, 3).fold(&rule, 3);
        let pixel: f32 = (0..3).map(|c| folded.weights[c] * rgb[c]).sum();
        assert!((value + 3.0 - (pixel + folded.bias[0])).abs() < 1e-4);
    }

    #[test]
    fn padding_is_the_mean_pixel_in_picture_order() {
        assert_eq!(padding(&caffe(), 3), [-4, -11, -24, 0]);
    }

    #[test]
    fn hwio_to_ohwi() {
        assert_eq!(to_ohwi(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    }
}
