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

mod error;
mod shape;
mod spec;
mod summary;
mod tensor;

use std::collections::HashSet;
use std::fmt;

pub use error::GraphError;
pub use shape::{ActivationShape, MAX_ACTIVATION, ParseShapeError, Shape};
pub use spec::{Arch, ConvBlock, ParseArchError, Spec, SpecLayer};
pub use summary::{FC4_MIN_WEIGHTS, SchemeBytes, Summary, SummaryRow};
pub use tensor::Tensor;

/// Border of a 2x2 max-pooling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Padding {
    /// Whole windows only; what does not fill one is dropped.
    Valid,
    /// Windows may hang over the right and bottom border; nothing outside the map counts.
    Same,
}

/// What a layer does, without its weights.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// 3x3 same or 1x1 convolution, stride 1, with bias.
    Conv {
        /// Side of the filter: 3 or 1.
        filter_size: usize,
        /// Output channels.
        filters: usize,
    },
    /// max(x, 0).
    Relu,
    /// 2x2 max-pooling.
    MaxPool {
        /// 1 or 2, both ways.
        stride: usize,
        /// Border rule.
        padding: Padding,
    },
    /// Mean over height and width.
    GlobalAvgPool,
    /// Map to vector, HWC order.
    Flatten,
    /// Fully connected, with bias.
    Dense {
        /// Outputs.
        units: usize,
    },
    /// Nothing at inference; kept because it is a row of the summary table.
    Dropout {
        /// Share dropped while training, 0 to 1.
        rate: f32,
    },
    /// Probabilities from logits; only as the last layer.
    Softmax,
}

impl Kind {
    /// Its Keras class name, as the summary table prints it.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "Conv2D",
            Self::Relu => "ReLU",
            Self::MaxPool { .. } => "MaxPooling2D",
            Self::GlobalAvgPool => "GlobalAveragePooling2D",
            Self::Flatten => "Flatten",
            Self::Dense { .. } => "Dense",
            Self::Dropout { .. } => "Dropout",
            Self::Softmax => "Softmax",
        }
    }

    /// Shapes of its weights and bias for an input with `channels` (or that many values); `None` if it has none.
    pub fn weight_shapes(&self, channels: usize) -> Option<(Vec<usize>, Vec<usize>)> {
        match *self {
            Self::Conv { filter_size, filters } => {
                Some((vec![filter_size, filter_size, channels, filters], vec![filters]))
            }
            Self::Dense { units } => Some((vec![channels, units], vec![units])),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class();
        match self {
            Self::Conv { filter_size, filters } => {
                write!(f, "{class} {filter_size}x{filter_size}, {filters} filters")
            }
            Self::MaxPool { stride, padding: Padding::Valid } => {
                write!(f, "{class} 2x2, stride {stride}, valid")
            }
            Self::MaxPool { stride, padding: Padding::Same } => {
                write!(f, "{class} 2x2, stride {stride}, same")
            }
            Self::Dense { units } => write!(f, "{class}, {units} units"),
            Self::Dropout { rate } => write!(f, "{class} {rate}"),
            Self::Relu | Self::GlobalAvgPool | Self::Flatten | Self::Softmax => f.write_str(class),
        }
    }
}

/// What a layer does, with its weights.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// Convolution, stride 1, padded with zeros to the same size.
    Conv {
        /// HWIO: `[3][3][in channels][filters]` or `[1][1][in channels][filters]`.
        weights: Tensor,
        /// `[filters]`.
        bias: Tensor,
    },
    /// max(x, 0).
    Relu,
    /// 2x2 max-pooling.
    MaxPool {
        /// 1 or 2, both ways.
        stride: usize,
        /// Border rule.
        padding: Padding,
    },
    /// Mean over height and width: map to vector.
    GlobalAvgPool,
    /// Map to vector, HWC order. Importers of CHW files permute the rows of the dense layer that follows.
    Flatten,
    /// Fully connected.
    Dense {
        /// `[in][out]`.
        weights: Tensor,
        /// `[out]`.
        bias: Tensor,
    },
    /// Nothing at inference.
    Dropout {
        /// Share dropped while training, 0 to 1.
        rate: f32,
    },
    /// Probabilities from logits; only as the last layer.
    Softmax,
}

impl Op {
    /// The same without weights.
    pub fn kind(&self) -> Kind {
        let axis = |t: &Tensor, i: usize| t.shape().get(i).copied().unwrap_or(0);
        match self {
            Self::Conv { weights, .. } => {
                Kind::Conv { filter_size: axis(weights, 0), filters: axis(weights, 3) }
            }
            Self::Relu => Kind::Relu,
            &Self::MaxPool { stride, padding } => Kind::MaxPool { stride, padding },
            Self::GlobalAvgPool => Kind::GlobalAvgPool,
            Self::Flatten => Kind::Flatten,
            Self::Dense { weights, .. } => Kind::Dense { units: axis(weights, 1) },
            &Self::Dropout { rate } => Kind::Dropout { rate },
            Self::Softmax => Kind::Softmax,
        }
    }

    /// Weights and bias of a convolution or dense layer.
    pub fn parameters(&self) -> Option<(&Tensor, &Tensor)> {
        match self {
            Self::Conv { weights, bias } | Self::Dense { weights, bias } => Some((weights, bias)),
            _ => None,
        }
    }
}

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
            let channels = graph.input_shape(layer_idx).channels();
            let Some(((weights, bias), (w_shape, b_shape))) =
                layer.op.parameters().zip(layer.op.kind().weight_shapes(channels))
            else {
                continue;
            };
            for (what, tensor, expected) in [("kernel", weights, w_shape), ("bias", bias, b_shape)] {
                check_weights(&layer.name, what, tensor, expected)?;
            }
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

    /// Number of class scores at the end.
    pub fn classes(&self) -> usize {
        self.shapes.last().map_or(0, ActivationShape::len)
    }

    /// Number of weights and biases.
    pub fn params(&self) -> usize {
        self.layers.iter().filter_map(|l| l.op.parameters()).map(|(w, b)| w.len() + b.len()).sum()
    }

    /// Takes the graph apart, for a pass that builds another one.
    pub fn into_layers(self) -> (String, Shape, Vec<Layer>) {
        (self.name, self.input, self.layers)
    }

    /// The same function in one form, so that `==` compares networks and not files: no dropout, layers named by
    /// position, a pooling or flattening that can be said in two ways said in one.
    pub fn canonical(&self) -> Self {
        let mut layers = Vec::new();
        let mut shapes = Vec::new();
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            let op = match (&layer.op, self.input_shape(layer_idx)) {
                (Op::Dropout { .. }, _) | (Op::Flatten, ActivationShape::Vector(_)) => continue,
                (Op::GlobalAvgPool, ActivationShape::Map(s)) if s.height == 1 && s.width == 1 => Op::Flatten,
                (Op::MaxPool { stride: 2, .. }, ActivationShape::Map(s))
                    if s.height % 2 == 0 && s.width % 2 == 0 =>
                {
                    Op::MaxPool { stride: 2, padding: Padding::Valid }
                }
                (op, _) => op.clone(),
            };
            layers.push(Layer { name: format!("layer{}", layers.len()), op, fused: false });
            shapes.push(self.shapes[layer_idx]);
        }
        Self { name: String::new(), input: self.input, layers, shapes }
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
    if let ActivationShape::Map(found) = current {
        return Err(GraphError::NoClassScores { found });
    }
    Ok(shapes)
}

fn check_weights(
    layer: &str,
    what: &'static str,
    tensor: &Tensor,
    expected: Vec<usize>,
) -> Result<(), GraphError> {
    if tensor.shape() != expected {
        let found = tensor.shape().to_vec();
        return Err(GraphError::WeightShape { layer: layer.to_string(), what, found, expected });
    }
    match tensor.data().iter().position(|v| !v.is_finite()) {
        Some(index) => {
            let value = tensor.data()[index];
            Err(GraphError::NotFinite { layer: layer.to_string(), what, index, value })
        }
        None => Ok(()),
    }
}
