//! The graph in f32 on tract-core: what the quantized network is compared with, and where calibration looks inside.
//!
//! ```text
//! input f32 NHWC, one picture ─► conv (HWIO, same) + bias ─► relu ─► … ─► dense ─► logits ─► softmax
//!                                                             └─► output of every layer, on request
//! ```
//!
//! One [`Reference`] serves any number of threads at once, a picture each; tract itself runs on the calling thread.
//!
//! ```
//! use vgg_edge_host::{graph::{Shape, Spec}, reference::Reference};
//! let graph = Spec::vggnet(Shape::new(32, 32, 3), 10).with_random_weights(1)?;
//! let answer = Reference::new(&graph)?.run(&vec![0.5; 32 * 32 * 3])?;
//! assert_eq!(answer.logits.len(), 10);
//! assert!((answer.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use anyhow::Context;

use tract_core::internal::{
    Datum, DatumExt, IntoRunnable, IntoTValue, OutletId, SpecialOps, Tensor as TractTensor, ToDim,
    TypedModel, TypedSimplePlan, tvec,
};
use tract_core::ops::change_axes::{AxisOp, wire_with_rank_broadcast};
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math;
use tract_core::ops::nn::{DataFormat, Reduce, Reducer};

use crate::graph::{ActivationShape, Graph, Op, Padding, Tensor};

/// A graph ready to run in f32.
pub struct Reference {
    plan: Arc<TypedSimplePlan>,
    input: [usize; 4],
    taps: Vec<Tap>,
}

/// A layer whose output is asked for, and which of the plan's outputs it is.
struct Tap {
    layer_idx: usize,
    name: String,
    shape: ActivationShape,
    output: usize,
}

/// Class scores of one picture.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// Scores before softmax, one a class.
    pub logits: Vec<f32>,
    /// Softmax of the logits: each in 0..=1, their sum 1.
    pub probabilities: Vec<f32>,
}

/// What one layer put out for one picture.
#[derive(Clone, PartialEq, Debug)]
pub struct LayerOutput {
    /// Index of the layer in [`Graph::layers`].
    pub layer_idx: usize,
    /// Its name.
    pub name: String,
    /// `[h][w][c]` or `[n]`.
    pub shape: ActivationShape,
    /// The values, row-major, after the ReLU that follows the layer, if one does.
    pub data: Vec<f32>,
}

/// A graph that tract refuses, or a picture of the wrong size.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum ReferenceError {
    #[error("f32 reference: layer `{layer}`: {message}")]
    Layer { layer: String, message: String },
    #[error("f32 reference: {message}")]
    Plan { message: String },
    #[error("f32 reference: input has {found} values, expected {expected} (height x width x channels)")]
    Input { found: usize, expected: usize },
}

impl Reference {
    /// The fastest form: layers are fused, only class scores come out.
    pub fn new(graph: &Graph) -> Result<Self, ReferenceError> {
        Self::build(graph, false)
    }

    /// The form that also gives every layer's output: all but dropout, softmax and a ReLU that follows another layer,
    /// which is part of that layer's output.
    pub fn with_outputs(graph: &Graph) -> Result<Self, ReferenceError> {
        Self::build(graph, true)
    }

    /// Class scores for one picture: f32 NHWC, preprocessed.
    pub fn run(&self, input: &[f32]) -> Result<Answer, ReferenceError> {
        self.run_with_outputs(input).map(|(answer, _)| answer)
    }

    /// Class scores and layer outputs, in the order of the layers; none if built by [`Reference::new`].
    pub fn run_with_outputs(&self, input: &[f32]) -> Result<(Answer, Vec<LayerOutput>), ReferenceError> {
        let expected = self.input.iter().product();
        if input.len() != expected {
            return Err(ReferenceError::Input { found: input.len(), expected });
        }
        let plan = |e: tract_core::internal::TractError| ReferenceError::Plan { message: format!("{e:#}") };
        let input = TractTensor::from_shape(&self.input, input).map_err(plan)?;
        let outputs = self.plan.run(tvec![input.into_tvalue()]).map_err(plan)?;
        let values = |output: usize| -> Result<Vec<f32>, ReferenceError> {
            let view = outputs[output].to_plain_array_view::<f32>().map_err(plan)?;
            Ok(view.iter().copied().collect())
        };
        let logits = values(0)?;
        let layers = self.taps.iter().map(|tap| {
            let data = values(tap.output)?;
            Ok(LayerOutput { layer_idx: tap.layer_idx, name: tap.name.clone(), shape: tap.shape, data })
        });
        let layers = layers.collect::<Result<_, ReferenceError>>()?;
        Ok((Answer { probabilities: softmax(&logits), logits }, layers))
    }

    fn build(graph: &Graph, outputs: bool) -> Result<Self, ReferenceError> {
        let mut model = TypedModel::default();
        let shape = graph.input();
        let input = [1, shape.height, shape.width, shape.channels];
        let plan = |e: tract_core::internal::TractError| ReferenceError::Plan { message: format!("{e:#}") };
        let mut current = model.add_source("input", f32::fact(input)).map_err(plan)?;
        let mut taps: Vec<(Tap, OutletId)> = Vec::new();
        for (layer_idx, layer) in graph.layers().iter().enumerate() {
            let shape = graph.input_shape(layer_idx);
            current = wire(&mut model, &layer.name, &layer.op, shape, current).map_err(|e| {
                ReferenceError::Layer { layer: layer.name.clone(), message: format!("{e:#}") }
            })?;
            match (&layer.op, taps.last_mut()) {
                (Op::Dropout { .. } | Op::Softmax, _) => {}
                (Op::Relu, Some((tap, outlet))) if tap.layer_idx + 1 == layer_idx => *outlet = current,
                _ => {
                    let (name, shape) = (layer.name.clone(), graph.output_shape(layer_idx));
                    taps.push((Tap { layer_idx, name, shape, output: 0 }, current));
                }
            }
        }
        let mut outlets = vec![current];
        let mut kept = Vec::new();
        for (mut tap, outlet) in taps.into_iter().filter(|_| outputs) {
            // The last layer's output is the logits; tract wants each outlet once.
            tap.output = outlets.iter().position(|o| *o == outlet).unwrap_or(outlets.len());
            if tap.output == outlets.len() {
                outlets.push(outlet);
            }
            kept.push(tap);
        }
        model.select_output_outlets(&outlets).map_err(plan)?;
        let plan = model.into_optimized().and_then(|m| m.into_runnable()).map_err(plan)?;
        Ok(Self { plan, input, taps: kept })
    }
}

/// Adds one layer behind `x`. Softmax is left out: it is done in plain Rust on the logits.
fn wire(
    model: &mut TypedModel,
    name: &str,
    op: &Op,
    shape: ActivationShape,
    x: OutletId,
) -> tract_core::internal::TractResult<OutletId> {
    let channels = shape.channels();
    let pool_spec = |side: usize, padding: PaddingSpec, stride: usize, out: usize| {
        PoolSpec::new(
            DataFormat::NHWC,
            tvec![side, side],
            padding,
            None,
            Some(tvec![stride, stride]),
            channels,
            out,
        )
    };
    let constant = |model: &mut TypedModel, what: &str, tensor: &Tensor| {
        model.add_const(format!("{name}.{what}"), TractTensor::from_shape(tensor.shape(), tensor.data())?)
    };
    let flat =
        AxisOp::Reshape(1, shape.dims().iter().map(|d| d.to_dim()).collect(), tvec![shape.len().to_dim()]);
    let or_zeros =
        |bias: &Option<Tensor>, n: usize| bias.as_ref().map_or_else(|| Tensor::zeros(n), Tensor::clone);
    Ok(match op {
        Op::Conv { weights, bias } => {
            let side = weights.shape()[0];
            let kernel = constant(model, "kernel", weights)?;
            let bias = constant(model, "bias", &or_zeros(bias, weights.shape()[3]))?;
            let pool = pool_spec(side, PaddingSpec::SameUpper, 1, weights.shape()[3]);
            model.wire_node(name, Conv::new(pool, KernelFormat::HWIO, 1, None), &[x, kernel, bias])?[0]
        }
        Op::BatchNorm { .. } | Op::Affine { .. } => {
            let (scale, shift) = op.affine().context("its factors leave the range of f32")?;
            let (scale, shift) = (constant(model, "scale", &scale)?, constant(model, "shift", &shift)?);
            let scaled =
                wire_with_rank_broadcast(format!("{name}.scaled"), model, math::mul(), &[x, scale])?[0];
            wire_with_rank_broadcast(name, model, math::add(), &[scaled, shift])?[0]
        }
        Op::Relu => {
            let zero = model.add_const(format!("{name}.zero"), TractTensor::from(0f32))?;
            wire_with_rank_broadcast(name, model, math::max(), &[x, zero])?[0]
        }
        Op::MaxPool { stride, padding } => {
            let padding = match padding {
                Padding::Valid => PaddingSpec::Valid,
                Padding::Same => PaddingSpec::SameUpper,
            };
            model.wire_node(name, MaxPool::new(pool_spec(2, padding, *stride, channels), None), &[x])?[0]
        }
        Op::GlobalAvgPool => {
            let sum = model.wire_node(format!("{name}.sum"), Reduce::new(tvec![1, 2], Reducer::Sum), &[x])?;
            let n = TractTensor::from(1.0 / (shape.len() / channels) as f32);
            let n = model.add_const(format!("{name}.n"), n)?;
            let mean = wire_with_rank_broadcast(format!("{name}.mean"), model, math::mul(), &[sum[0], n])?;
            let one = || 1.to_dim();
            let squeeze =
                AxisOp::Reshape(1, tvec![one(), one(), channels.to_dim()], tvec![channels.to_dim()]);
            model.wire_node(name, squeeze, &mean)?[0]
        }
        Op::Flatten => match shape {
            ActivationShape::Map(_) => model.wire_node(name, flat, &[x])?[0],
            ActivationShape::Vector(_) => x,
        },
        Op::Dense { weights, bias } => {
            let kernel = constant(model, "kernel", weights)?;
            let product = EinSum::new("ni,io->no".parse()?, f32::datum_type());
            let product = model.wire_node(format!("{name}.product"), product, &[x, kernel])?[0];
            let bias = constant(model, "bias", &or_zeros(bias, weights.shape()[1]))?;
            wire_with_rank_broadcast(name, model, math::add(), &[product, bias])?[0]
        }
        Op::Dropout { .. } | Op::Softmax => x,
    })
}

/// exp(x - max) over its sum.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = logits.iter().map(|l| f64::from(l - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|e| (e / sum) as f32).collect()
}
