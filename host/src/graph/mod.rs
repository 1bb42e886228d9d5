//! The f32 graph: a straight chain of layers, NHWC, with its weights.
//!
//! ```text
//! Spec  ── names and kinds of layers, no weights; from a builder or a file's description
//!   │  + weights (HWIO filters, [in][out] dense, [out] biases)
//!   ▼
//! Graph ── checked: every shape fits, every weight is finite ──► Summary (the table of `inspect`)
//! ```
//!
//! ```
//! use vgg_edge_host::graph::{Shape, Spec};
//! let graph = Spec::vggnet(Shape::new(32, 32, 3), 10).with_random_weights(7)?;
//! assert_eq!(graph.layers()[0].name, "block1_conv1");
//! assert_eq!(graph.output_shape(0).to_string(), "32x32x64");
//! # Ok::<(), vgg_edge_host::graph::GraphError>(())
//! ```

mod canonical;
mod error;
mod fold;
mod op;
mod shape;
mod spec;
mod summary;
mod tensor;

use std::collections::HashSet;

pub use error::GraphError;
pub use op::{Kind, Op, Padding, Role};
pub(crate) use shape::output_shape;
pub use shape::{ActivationShape, MAX_ACTIVATION, ParseShapeError, Shape};
pub use spec::{Arch, ConvBlock, ParseArchError, Spec, SpecLayer};
pub use summary::{FC4_MIN_WEIGHTS, SchemeBytes, Summary, SummaryRow};
pub use tensor::Tensor;

/// A named layer.
#[derive(Clone, PartialEq, Debug)]
pub struct Layer {
    /// Unique in its graph: `block1_conv1`.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// An activation that belongs to the layer before it (`activation="relu"`): no row of its own in the summary.
    pub fused: bool,
}

/// A checked network: a chain of layers from a picture to class scores.
#[derive(Clone, PartialEq, Debug)]
pub struct Graph {
    name: String,
    input: Shape,
    layers: Vec<Layer>,
    shapes: Vec<ActivationShape>,
}

impl Graph {
    /// Checks the chain: names, shapes from the input to the end, shape and finiteness of every weight.
    pub fn new(name: impl Into<String>, input: Shape, layers: Vec<Layer>) -> Result<Self, GraphError> {
        let shapes = infer(input, layers.iter().map(|l| (l.name.as_str(), l.op.kind())))?;
        let graph = Self { name: name.into(), input, layers, shapes };
        for (layer_idx, layer) in graph.layers.iter().enumerate() {
            check_tensors(layer, graph.input_shape(layer_idx).channels())?;
        }
        Ok(graph)
    }

    /// The network's name: that of the file's model, or of the architecture.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The picture it takes.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// The chain, first layer first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// What layer `layer_idx` takes. Panics if there is no such layer.
    pub fn input_shape(&self, layer_idx: usize) -> ActivationShape {
        match layer_idx {
            0 => ActivationShape::Map(self.input),
            _ => self.shapes[layer_idx - 1],
        }
    }

    /// What layer `layer_idx` puts out. Panics if there is no such layer.
    pub fn output_shape(&self, layer_idx: usize) -> ActivationShape {
        self.shapes[layer_idx]
    }

    /// What the last layer puts out: class scores, or features if [`Graph::is_classifier`] says no.
    pub fn output(&self) -> ActivationShape {
        self.shapes.last().copied().unwrap_or(ActivationShape::Vector(0))
    }

    /// Whether class scores come out: the last layer is dense, not counting softmax and dropout. Anything else is a feature
    /// extractor (`include_top=False`), whose output is a map or its average.
    pub fn is_classifier(&self) -> bool {
        let last = self.layers.iter().rev().find(|l| !matches!(l.op, Op::Softmax | Op::Dropout { .. }));
        last.is_some_and(|l| matches!(l.op, Op::Dense { .. }))
    }

    /// Number of values at the end: class scores of a classifier.
    pub fn classes(&self) -> usize {
        self.output().len()
    }

    /// Number of weights, biases and other values of the layers.
    pub fn params(&self) -> usize {
        self.layers.iter().flat_map(|l| l.op.tensors()).map(|(_, t)| t.len()).sum()
    }

    /// Takes the graph apart, for a pass that builds another one.
    pub fn into_layers(self) -> (String, Shape, Vec<Layer>) {
        (self.name, self.input, self.layers)
    }

    /// The same function in one form, as it is quantized and run, so that files compare by what they compute:
    ///
    /// - no dropout, no flattening or pooling that moves nothing, a pooling that can be said in two ways said in one;
    /// - batch normalization and other factors a channel folded into the linear layer before or behind them;
    /// - every linear layer with a bias, layers named by position (`block1_conv1`), the network by its structure.
    ///
    /// # Errors
    /// A fold that leaves the range of f32.
    pub fn canonical(&self) -> Result<Self, GraphError> {
        canonical::canonical(self)
    }

    /// The table of `model.summary()`, with sizes and work.
    pub fn summary(&self) -> Summary {
        Summary::new(self)
    }
}

/// Output shape of every layer of a chain, or the first thing wrong with it.
fn infer<'a>(
    input: Shape,
    layers: impl Iterator<Item = (&'a str, Kind)>,
) -> Result<Vec<ActivationShape>, GraphError> {
    let mut current = ActivationShape::Map(input);
    shape::check_len("input", current)?;
    let mut names = HashSet::new();
    let mut softmax: Option<&str> = None;
    let mut has_weights = false;
    let mut shapes = Vec::new();
    for (name, kind) in layers {
        let layer = || name.to_string();
        if !names.insert(name) {
            return Err(GraphError::DuplicateLayer { name: layer() });
        }
        if let Some(softmax) = softmax {
            return Err(GraphError::SoftmaxNotLast { layer: softmax.to_string(), next: layer() });
        }
        match kind {
            Kind::Dropout { rate } if !(0.0..=1.0).contains(&rate) => {
                return Err(GraphError::DropoutRate { layer: layer(), found: rate });
            }
            Kind::Softmax => softmax = Some(name),
            Kind::Conv { .. } | Kind::Dense { .. } => has_weights = true,
            _ => {}
        }
        current = shape::output_shape(name, kind, current)?;
        shapes.push(current);
    }
    if !has_weights {
        return Err(GraphError::Empty);
    }
    Ok(shapes)
}

/// Errors unless every tensor of `layer`, which takes `channels`, has its shape and finite values.
fn check_tensors(layer: &Layer, channels: usize) -> Result<(), GraphError> {
    let name = || layer.name.clone();
    let expected = layer.op.kind().tensors(channels);
    for (role, tensor) in layer.op.tensors() {
        let what = role.name();
        let shape = expected.iter().find(|(r, _)| *r == role).map_or(&[][..], |(_, shape)| shape);
        if tensor.shape() != shape {
            let (found, expected) = (tensor.shape().to_vec(), shape.to_vec());
            return Err(GraphError::WeightShape { layer: name(), what, found, expected });
        }
        if let Some(index) = tensor.data().iter().position(|v| !v.is_finite()) {
            return Err(GraphError::NotFinite { layer: name(), what, index, value: tensor.data()[index] });
        }
        if role == Role::Variance
            && let Some(index) = tensor.data().iter().position(|v| *v < 0.0)
        {
            return Err(GraphError::Variance { layer: name(), index, value: tensor.data()[index] });
        }
    }
    match layer.op.kind() {
        Kind::BatchNorm { epsilon } if !(epsilon.is_finite() && epsilon >= 0.0) => {
            Err(GraphError::Epsilon { layer: name(), found: epsilon })
        }
        _ => Ok(()),
    }
}
