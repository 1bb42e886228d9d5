//! Each layer alone: where its error comes from, and what the network loses when only this layer is quantized.
//!
//! ```text
//! x: the layer's input in f32          y: its output in f32           Q: rounds to the map's 8 bits
//!
//! weights      y against layer(x, quantized weights)
//! activations  y against Q(y)
//! both         y against Q(layer(x, quantized weights)) ─► all layers behind it in f32 ─► logits against f32's: sensitivity
//! ```
//!
//! Layers run one by one, each a small network of the reference; of every picture only the current map is kept.

use anyhow::Context;
use rayon::prelude::*;
use serde::Serialize;
use vgg_edge_blob::{NewLayer, NewModel, Preprocess as Stored, Quantization};

use super::data::Source;
use crate::graph::{ActivationShape, Graph, Layer, Op, Shape, Tensor};
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::quantize::{Fused, FusedOp, Real, real};
use crate::reference::Reference;
use crate::report::{Sqnr, kl};
use crate::samples::Samples;

/// Pictures that layers are run on, at most.
const PICTURES: usize = 8;
/// Multiply-accumulates that may be spent on them: a minute or two on two cores.
const MAX_MACS: u64 = 1_000_000_000_000;

/// What makes most of a layer's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Main {
    /// Rounding of weights.
    Weights,
    /// Rounding and clipping of the output.
    Activations,
}

/// What was found of one layer.
pub(super) struct Alone {
    pub(super) source: Option<Source>,
    /// Mean divergence of the probabilities, nats; of features the share of the output's energy that is error.
    pub(super) sensitivity: Option<f64>,
}

/// All layers.
pub(super) struct Analysis {
    pub(super) layers: Vec<Alone>,
    pub(super) pictures: usize,
}

/// A layer that can be run.
enum Step {
    Net(Reference),
    MaxPool { input: Shape, output: Shape, stride: usize },
    Average { channels: usize },
}

impl Step {
    fn new(graph: &Graph, f: &Fused<'_>) -> anyhow::Result<Self> {
        Ok(match (&f.op, f.input, graph.output_shape(f.layer_idx)) {
            (&FusedOp::MaxPool { stride, .. }, ActivationShape::Map(input), ActivationShape::Map(output)) => {
                Self::MaxPool { input, output, stride }
            }
            (FusedOp::GlobalAvgPool | FusedOp::MaxPool { .. }, input, _) => {
                Self::Average { channels: input.channels() }
            }
            (FusedOp::Conv { weights, bias, .. } | FusedOp::Dense { weights, bias, .. }, ..) => {
                Self::Net(linear(f, weights.clone(), bias.clone())?)
            }
        })
    }

    fn run(&self, x: &[f32]) -> anyhow::Result<Vec<f32>> {
        match self {
            Self::Net(reference) => Ok(reference.run(x)?.logits),
            Self::MaxPool { input, output, stride } => Ok(max_pool(x, *input, *output, *stride)),
            Self::Average { channels } => {
                let pixels = (x.len() / channels.max(&1)).max(1) as f32;
                let sum = |c: usize| x.iter().skip(c).step_by(*channels).sum::<f32>();
                Ok((0..*channels).map(|c| sum(c) / pixels).collect())
            }
        }
    }
}

/// A convolution or dense layer with its ReLU as a network of its own.
fn linear(f: &Fused<'_>, weights: Tensor, bias: Tensor) -> anyhow::Result<Reference> {
    let layer = |name: &str, op: Op| Layer { name: name.to_owned(), op, fused: false };
    let (op, relu) = match f.op {
        FusedOp::Conv { relu, .. } => (Op::Conv { weights, bias: Some(bias) }, relu),
        FusedOp::Dense { relu, .. } => (Op::Dense { weights, bias: Some(bias) }, relu),
        FusedOp::MaxPool { .. } | FusedOp::GlobalAvgPool => {
            anyhow::bail!("layer `{}` has no weights", f.name)
        }
    };
    let shape = match f.input {
        ActivationShape::Map(shape) => shape,
        ActivationShape::Vector(n) => Shape::new(1, 1, n),
    };
    let mut layers = Vec::new();
    if matches!(op, Op::Dense { .. }) {
        layers.push(layer("values", Op::Flatten));
    }
    layers.push(layer(f.name, op));
    if relu {
        layers.push(layer("relu", Op::Relu));
    }
    let context = || format!("layer `{}` alone", f.name);
    Ok(Reference::new(&Graph::new("layer", shape, layers).with_context(context)?)?)
}

/// 2x2 windows from `stride * (y, x)` on; values beyond the edge do not count.
fn max_pool(x: &[f32], input: Shape, output: Shape, stride: usize) -> Vec<f32> {
    let mut out = vec![f32::NEG_INFINITY; output.height * output.width * output.channels];
    for (i, out) in out.chunks_exact_mut(output.channels.max(1)).enumerate() {
        let (row, column) = (i / output.width * stride, i % output.width * stride);
        for (r, c) in [(row, column), (row, column + 1), (row + 1, column), (row + 1, column + 1)] {
            if r < input.height && c < input.width {
                let pixel = &x[(r * input.width + c) * input.channels..][..input.channels];
                out.iter_mut().zip(pixel).for_each(|(out, v)| *out = out.max(*v));
            }
        }
    }
    out
}

/// What a map of these values becomes when it is stored.
fn rounded(values: &[f32], quant: Quantization) -> Vec<f32> {
    let zero_point = f32::from(quant.zero_point);
    let store = |v: &f32| ((v / quant.scale).round() + zero_point).clamp(-128.0, 127.0);
    values.iter().map(|v| (store(v) - zero_point) * quant.scale).collect()
}

/// What a layer of the model is, for the device.
struct Quantized {
    net: Option<Reference>,
    /// How the output is stored; `None` for logits, floats and pools, which round nothing.
    out: Option<Quantization>,
}

fn quantized(f: &Fused<'_>, layer: &NewLayer, rule: Option<&Stored>) -> anyhow::Result<Quantized> {
    let weights = real(f, layer, rule);
    let net = weights.map(|Real { weights, bias, .. }| linear(f, weights, bias)).transpose()?;
    let rounds = layer.out_quant.scale > 0.0 && !matches!(f.op, FusedOp::MaxPool { .. });
    Ok(Quantized { net, out: rounds.then_some(layer.out_quant) })
}

/// Sums over one picture.
struct OfPicture {
    weights: Sqnr,
    activations: Sqnr,
    both: Sqnr,
    sensitivity: f64,
    next: Vec<f32>,
}

/// Multiply-accumulates of a layer.
pub(super) fn macs(graph: &Graph, f: &Fused<'_>) -> u64 {
    let (FusedOp::Conv { weights, bias, .. } | FusedOp::Dense { weights, bias, .. }) = &f.op else {
        return 0;
    };
    let pixels = graph.output_shape(f.layer_idx).len() / bias.len().max(1);
    weights.len() as u64 * pixels as u64
}

/// Runs every layer of `fused` alone. `model` stores them directly.
///
/// # Errors
/// A picture that cannot be read, a failure of the reference.
pub(super) fn alone(
    graph: &Graph,
    fused: &[Fused<'_>],
    model: &NewModel,
    samples: &Samples,
    rule: &Preprocess,
    progress: &Progress,
) -> anyhow::Result<Analysis> {
    let work: Vec<u64> = fused.iter().map(|f| macs(graph, f)).collect();
    let behind = (0..work.len()).filter(|i| work[*i] > 0).map(|i| work[i..].iter().sum::<u64>()).sum::<u64>();
    let of_picture = (behind + 2 * work.iter().sum::<u64>()).max(1);
    let n = PICTURES.min((MAX_MACS / of_picture) as usize).max(1);
    let samples = samples.clone().thin(n);
    let steps = fused.iter().map(|f| Step::new(graph, f)).collect::<anyhow::Result<Vec<_>>>()?;
    let input = |i| anyhow::Ok(rule.normalize(&samples.picture(i)?.data)?);
    let mut maps: Vec<Vec<f32>> = (0..samples.len()).map(input).collect::<anyhow::Result<_>>()?;
    let through = |from: usize, x: Vec<f32>| steps[from..].iter().try_fold(x, |x, step| step.run(&x));
    let wanted: Vec<Vec<f32>> =
        maps.par_iter().map(|x| through(0, x.clone())).collect::<anyhow::Result<_>>()?;
    let is_classifier = graph.is_classifier();
    let loss = |wanted: &[f32], found: &[f32]| {
        if is_classifier {
            return kl(wanted, found).max(0.0);
        }
        let mut sqnr = Sqnr::default();
        sqnr.add(wanted, found);
        sqnr.noise_share()
    };
    let bar = progress.bar("layers alone", fused.len());
    let mut layers = Vec::with_capacity(fused.len());
    for (i, (f, layer)) in fused.iter().zip(&model.layers).enumerate() {
        let quantized = quantized(f, layer, (i == 0).then_some(&model.preprocess))?;
        let touched = quantized.net.is_some() || quantized.out.is_some();
        let of_picture = |(x, wanted): (&Vec<f32>, &Vec<f32>)| {
            let y = steps[i].run(x)?;
            let [mut weights, mut activations, mut both] = [Sqnr::default(); 3];
            let mut sensitivity = 0.0;
            if touched {
                let with_weights = match &quantized.net {
                    Some(net) => net.run(x)?.logits,
                    None => y.clone(),
                };
                let store =
                    |values: &[f32]| quantized.out.map_or_else(|| values.to_vec(), |q| rounded(values, q));
                weights.add(&y, &with_weights);
                activations.add(&y, &store(&y));
                let stored = store(&with_weights);
                both.add(&y, &stored);
                sensitivity = loss(wanted, &through(i + 1, stored)?);
            }
            anyhow::Ok(OfPicture { weights, activations, both, sensitivity, next: y })
        };
        let found: Vec<OfPicture> =
            maps.par_iter().zip(&wanted).map(of_picture).collect::<anyhow::Result<_>>()?;
        layers.push(summed(&found, touched));
        maps = found.into_iter().map(|of_picture| of_picture.next).collect();
        bar.inc(1);
    }
    Ok(Analysis { layers, pictures: samples.len() })
}

/// In the pictures' order: sums do not depend on threads.
fn summed(found: &[OfPicture], touched: bool) -> Alone {
    let sum = |of: fn(&OfPicture) -> &Sqnr| {
        let mut sum = Sqnr::default();
        found.iter().for_each(|f| sum.merge(of(f)));
        sum
    };
    let [weights, activations, both] = [sum(|f| &f.weights), sum(|f| &f.activations), sum(|f| &f.both)];
    let finite = |sqnr: &Sqnr| Some(f64::from(sqnr.db())).filter(|db| db.is_finite());
    let main = match weights.noise_share() > activations.noise_share() {
        true => Main::Weights,
        false => Main::Activations,
    };
    let source = touched.then(|| Source {
        weights_db: finite(&weights),
        activations_db: finite(&activations),
        both_db: finite(&both),
        main,
    });
    let mean = found.iter().map(|f| f.sensitivity).sum::<f64>() / found.len().max(1) as f64;
    Alone { source, sensitivity: touched.then_some(mean).filter(|mean| mean.is_finite()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_follow_their_output_shape() {
        let x: Vec<f32> = (0..9).map(|v| v as f32).collect();
        let input = Shape::new(3, 3, 1);
        assert_eq!(max_pool(&x, input, Shape::new(1, 1, 1), 2), [4.0]);
        assert_eq!(max_pool(&x, input, Shape::new(2, 2, 1), 2), [4.0, 5.0, 7.0, 8.0]);
        assert_eq!(max_pool(&x, input, Shape::new(2, 2, 1), 1), [4.0, 5.0, 7.0, 8.0]);
        assert_eq!(
            max_pool(&x, input, Shape::new(3, 3, 1), 1),
            [4.0, 5.0, 5.0, 7.0, 8.0, 8.0, 7.0, 8.0, 8.0]
        );
    }

    #[test]
    fn values_are_stored_in_256_steps() {
        let quant = Quantization { scale: 0.5, zero_point: -128 };
        assert_eq!(rounded(&[-1.0, 0.2, 0.3, 1000.0], quant), [0.0, 0.0, 0.5, 127.5]);
    }
}
