//! Cross-layer equalization: channels of a map rescaled so that one step of 8 bits suits them all.
//!
//! ```text
//! y = relu(W x + b)        y[c] / f[c] = relu((W[c] x + b[c]) / f[c])         f > 0: pooling and ReLU let it through
//! z = V y                  z           = sum over c of (V[c] * f[c]) * (y[c] / f[c])
//! ```
//!
//! The network computes what it did (M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
//! 2019), and the device does nothing more for it. A map has one step for all channels, set by the largest; with `f` the root
//! of a channel's largest value over the map's, small channels use more of the steps, and the weights behind, whose
//! large channels are made small by the same `f`, stay as easy to round. Only what lies between two linear layers has
//! factors: neither the picture nor the network's output.
//!
//! Factors are powers of 2^(1/4), so that a few small integers in the file say what they were.

use std::collections::BTreeMap;

use crate::graph::{Graph, GraphError, Op, Tensor};

/// Share of the spread of channels that is taken out of the map, the rest being left in it.
const SHARE: f64 = 0.5;
/// Quarter octaves in an octave.
const PER_OCTAVE: f64 = 4.0;
/// The smallest factor is 2^(-LEAST / 4).
const LEAST: f64 = -40.0;

/// Quarter octaves of each channel's factor, by the name of the layer that puts it out; layers without are not listed.
pub type Exponents = BTreeMap<String, Vec<i8>>;

/// What a value of each layer's output is to be multiplied with to be the network's own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Factors(Vec<Vec<f32>>);

impl Factors {
    /// Of every layer of `graph`.
    pub fn new(graph: &Graph, exponents: &Exponents) -> Self {
        let mut factors = vec![Vec::new(); graph.layers().len()];
        for (from, to) in pairs(graph) {
            if let Some(of_channels) = exponents.get(&graph.layers()[from].name) {
                let of_channels: Vec<f32> = of_channels.iter().map(|e| factor(*e)).collect();
                factors[from..to].iter_mut().for_each(|f| f.clone_from(&of_channels));
            }
        }
        Self(factors)
    }

    /// Of layer `layer_idx`'s channels; empty for all 1.
    pub fn of(&self, layer_idx: usize) -> &[f32] {
        self.0.get(layer_idx).map_or(&[], Vec::as_slice)
    }
}

fn factor(exponent: i8) -> f32 {
    (f64::from(exponent) / PER_OCTAVE).exp2() as f32
}

/// Layers with weights, and the next one, where nothing between them minds a factor a channel.
fn pairs(graph: &Graph) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let mut from = None;
    for (i, layer) in graph.layers().iter().enumerate() {
        match layer.op {
            Op::Conv { .. } | Op::Dense { .. } => {
                pairs.extend(from.map(|from| (from, i)));
                from = Some(i);
            }
            Op::Relu | Op::MaxPool { .. } | Op::GlobalAvgPool | Op::Flatten | Op::Dropout { .. } => {}
            Op::BatchNorm { .. } | Op::Affine { .. } | Op::Softmax => from = None,
        }
    }
    pairs
}

/// The exponents for channels that reach `maxima`, a list a layer of `graph`.
pub fn exponents(graph: &Graph, maxima: &[Vec<f32>]) -> Exponents {
    let of_layer = |(from, _): (usize, usize)| {
        let largest = maxima[from].iter().fold(0f32, |a, b| a.max(*b));
        let exponent = |m: &f32| {
            let octaves = SHARE * f64::from(m / largest).log2();
            // A channel without values has the least; a map without any is left alone, since NaN becomes 0.
            (octaves * PER_OCTAVE).round().clamp(LEAST, 0.0) as i8
        };
        (graph.layers()[from].name.clone(), maxima[from].iter().map(exponent).collect())
    };
    pairs(graph).into_iter().map(of_layer).collect()
}

/// The same network with its maps' channels divided by their factors.
///
/// # Errors
/// Weights that leave the range of f32.
pub fn equalize(graph: Graph, exponents: &Exponents) -> Result<Graph, GraphError> {
    let pairs = pairs(&graph);
    let (name, input, mut layers) = graph.into_layers();
    for (from, to) in pairs {
        let Some(factors) = exponents.get(&layers[from].name) else { continue };
        let factors: Vec<f32> = factors.iter().map(|e| factor(*e)).collect();
        if factors.iter().all(|f| *f == 1.0) {
            continue;
        }
        if let Op::Conv { weights, bias } | Op::Dense { weights, bias } = &mut layers[from].op {
            *weights = scaled(weights, |i| 1.0 / factors[i % factors.len()]);
            *bias = bias.as_ref().map(|bias| scaled(bias, |i| 1.0 / factors[i % factors.len()]));
        }
        if let Op::Conv { weights, .. } | Op::Dense { weights, .. } = &mut layers[to].op {
            let outputs = weights.shape().last().copied().unwrap_or(1).max(1);
            *weights = scaled(weights, |i| factors[i / outputs % factors.len()]);
        }
    }
    Graph::new(name, input, layers)
}

fn scaled(tensor: &Tensor, factor: impl Fn(usize) -> f32) -> Tensor {
    let values = tensor.data().iter().enumerate().map(|(i, v)| v * factor(i)).collect();
    Tensor::new(tensor.shape().to_vec(), values).unwrap_or_else(|| tensor.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Kind, Padding, Shape, Spec};
    use crate::reference::Reference;

    #[test]
    fn the_network_computes_what_it_did() {
        let conv = |filters| Kind::Conv { filter_size: 3, filters };
        let spec = Spec::new("n", Shape::new(8, 8, 3))
            .layer("a", conv(6))
            .layer("ar", Kind::Relu)
            .layer("p", Kind::MaxPool { stride: 2, padding: Padding::Valid })
            .layer("b", conv(5))
            .layer("br", Kind::Relu)
            .layer("f", Kind::Flatten)
            .layer("c", Kind::Dense { units: 4 });
        let graph = spec.with_random_weights(3).unwrap();
        let maxima: Vec<Vec<f32>> = (0..graph.layers().len())
            .map(|i| {
                (0..graph.output_shape(i).channels())
                    .map(|c| if c == 2 { 0.0 } else { 1.0 + (c * c) as f32 })
                    .collect()
            })
            .collect();
        let exponents = exponents(&graph, &maxima);
        assert_eq!(exponents.keys().collect::<Vec<_>>(), ["a", "b"]);
        // The largest channel is left alone, a dead one gets the smallest factor.
        assert_eq!((exponents["a"][5], exponents["a"][0], exponents["a"][2]), (0, -9, -40));
        let equalized = equalize(graph.clone(), &exponents).unwrap();
        let factors = Factors::new(&graph, &exponents);
        let input: Vec<f32> = (0..192).map(|i| (i % 23) as f32 / 23.0 - 0.3).collect();
        let run = |graph: &Graph| Reference::with_outputs(graph).unwrap().run_with_outputs(&input).unwrap();
        let ((wanted, layers), (found, scaled)) = (run(&graph), run(&equalized));
        for (a, b) in wanted.logits.iter().zip(&found.logits) {
            assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{a} {b}");
        }
        let mut n_different = 0;
        for (a, b) in layers.iter().zip(&scaled) {
            let f = factors.of(a.layer_idx);
            for (i, (x, y)) in a.data.iter().zip(&b.data).enumerate() {
                let own = f.get(i % f.len().max(1)).copied().unwrap_or(1.0) * y;
                assert!((x - own).abs() < 1e-4 * x.abs().max(1.0), "{}: {x} {own}", a.name);
                n_different += usize::from((x - y).abs() > 0.01);
            }
        }
        assert!(n_different > 100, "{n_different}");
        assert_eq!((factors.of(2), factors.of(6).len()), (factors.of(0), 0));
    }
}
