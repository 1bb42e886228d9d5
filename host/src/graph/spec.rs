//! Networks without weights: the VGG family by name, and whatever a file describes.
//!
//! ```text
//! conv_block(filters, repeats, pool_strides)
//!   blockB_conv1 3x3 same ─► relu ─► … blockB_convR ─► relu ─► blockB_pool 2x2
//! ```
//!
//! | name | repeats of the five blocks (64, 128, 256, 512, 512 filters) | head |
//! |---|---|---|
//! | vggnet | 2 2 3 3 3 | global average pooling, dropout, dense 120 relu, dropout, dense n softmax |
//! | vgg11 vgg13 vgg16 vgg19 | 1 1 2 2 2, 2 2 2 2 2, 2 2 3 3 3, 2 2 4 4 4 | flatten, dense 4096 relu twice, dense n softmax |
//!
//! ```
//! use vgg_edge_host::graph::{Arch, Shape};
//! let spec = "vgg16".parse::<Arch>().unwrap().spec(Shape::new(224, 224, 3), 1000);
//! assert_eq!(spec.shapes().unwrap().last().unwrap().len(), 1000);
//! ```

use std::fmt;
use std::str::FromStr;

use super::{ActivationShape, Graph, GraphError, Kind, Layer, Op, Padding, Role, Shape, Tensor, infer};

/// One layer of a [`Spec`].
#[derive(Clone, PartialEq, Debug)]
pub struct SpecLayer {
    /// Unique in its network.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// An activation that belongs to the layer before it.
    pub fused: bool,
}

/// A chain of layers without weights.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    /// The network's name.
    pub name: String,
    /// The picture it takes.
    pub input: Shape,
    /// The chain, first layer first.
    pub layers: Vec<SpecLayer>,
}

/// Repeated 3x3 same convolutions with ReLU, then 2x2 max-pooling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvBlock {
    /// Output channels of every convolution.
    pub filters: usize,
    /// Number of convolutions.
    pub repeats: usize,
    /// Strides of the pooling: 2 halves the map, 1 takes one row and one column off it.
    pub pool_strides: usize,
    /// Number in the names: `block1_conv1`, `block1_pool`.
    pub block_id: usize,
}

impl Spec {
    /// A network without layers yet.
    pub fn new(name: impl Into<String>, input: Shape) -> Self {
        Self { name: name.into(), input, layers: Vec::new() }
    }

    /// `create_vggnet`: five blocks, global average pooling, dense 120, dense `classes`.
    pub fn vggnet(input: Shape, classes: usize) -> Self {
        Self::new("vggnet", input)
            .vgg_blocks([2, 2, 3, 3, 3])
            .layer("global_average_pooling2d", Kind::GlobalAvgPool)
            .layer("dropout", Kind::Dropout { rate: 0.5 })
            .dense("dense", 120, Kind::Relu)
            .layer("dropout_1", Kind::Dropout { rate: 0.5 })
            .dense("dense_1", classes, Kind::Softmax)
    }

    /// VGG11, configuration A.
    pub fn vgg11(input: Shape, classes: usize) -> Self {
        Self::vgg("vgg11", input, [1, 1, 2, 2, 2], classes)
    }

    /// VGG13, configuration B.
    pub fn vgg13(input: Shape, classes: usize) -> Self {
        Self::vgg("vgg13", input, [2, 2, 2, 2, 2], classes)
    }

    /// VGG16, configuration D.
    pub fn vgg16(input: Shape, classes: usize) -> Self {
        Self::vgg("vgg16", input, [2, 2, 3, 3, 3], classes)
    }

    /// VGG19, configuration E.
    pub fn vgg19(input: Shape, classes: usize) -> Self {
        Self::vgg("vgg19", input, [2, 2, 4, 4, 4], classes)
    }

    fn vgg(name: &str, input: Shape, repeats: [usize; 5], classes: usize) -> Self {
        Self::new(name, input)
            .vgg_blocks(repeats)
            .layer("flatten", Kind::Flatten)
            .dense("fc1", 4096, Kind::Relu)
            .dense("fc2", 4096, Kind::Relu)
            .dense("predictions", classes, Kind::Softmax)
    }

    fn vgg_blocks(self, repeats: [usize; 5]) -> Self {
        [64, 128, 256, 512, 512].into_iter().zip(repeats).zip(1..).fold(
            self,
            |spec, ((filters, repeats), block_id)| {
                spec.conv_block(ConvBlock { filters, repeats, pool_strides: 2, block_id })
            },
        )
    }

    /// Appends one layer.
    pub fn layer(mut self, name: impl Into<String>, kind: Kind) -> Self {
        self.push(name, kind);
        self
    }

    /// Appends one layer.
    pub fn push(&mut self, name: impl Into<String>, kind: Kind) {
        self.layers.push(SpecLayer { name: name.into(), kind, fused: false });
    }

    /// Appends the activation of the last layer, named after it.
    pub fn push_activation(&mut self, kind: Kind) {
        let suffix = if kind == Kind::Softmax { "softmax" } else { "relu" };
        let owner = self.layers.last().map_or("input", |l| l.name.as_str());
        self.layers.push(SpecLayer { name: format!("{owner}_{suffix}"), kind, fused: true });
    }

    /// Appends a dense layer with its activation.
    pub fn dense(mut self, name: &str, units: usize, activation: Kind) -> Self {
        self.push(name, Kind::Dense { units });
        self.push_activation(activation);
        self
    }

    /// Appends a block.
    pub fn conv_block(mut self, block: ConvBlock) -> Self {
        let ConvBlock { filters, repeats, pool_strides, block_id } = block;
        for i in 1..=repeats {
            self.push(format!("block{block_id}_conv{i}"), Kind::Conv { filter_size: 3, filters });
            self.push_activation(Kind::Relu);
        }
        self.layer(
            format!("block{block_id}_pool"),
            Kind::MaxPool { stride: pool_strides, padding: Padding::Valid },
        )
    }

    /// Output shape of every layer, or the first thing wrong with the chain.
    pub fn shapes(&self) -> Result<Vec<ActivationShape>, GraphError> {
        infer(self.input, self.layers.iter().map(|l| (l.name.as_str(), l.kind)))
    }

    /// The graph of this network, with the tensors that `get(layer_idx, role, shape)` gives. Each layer's are asked for in the
    /// order of [`Kind::tensors`], layer after layer; `None` is for what the file does not have.
    ///
    /// # Errors
    /// Those of `get`; [`GraphError::MissingWeights`] for a tensor that no layer can do without.
    pub fn attach<E: From<GraphError>>(
        &self,
        mut get: impl FnMut(usize, Role, &[usize]) -> Result<Option<Tensor>, E>,
    ) -> Result<Graph, E> {
        let shapes = self.shapes()?;
        let mut layers = Vec::with_capacity(self.layers.len());
        for (layer_idx, SpecLayer { name, kind, fused }) in self.layers.iter().enumerate() {
            let channels =
                if layer_idx == 0 { self.input.channels } else { shapes[layer_idx - 1].channels() };
            let op = Op::new(*kind, channels, |role, shape| get(layer_idx, role, shape))?;
            let op = op.map_err(|(role, expected)| GraphError::MissingWeights {
                layer: name.clone(),
                what: role.name(),
                expected,
            })?;
            layers.push(Layer { name: name.clone(), op, fused: *fused });
        }
        Ok(Graph::new(self.name.clone(), self.input, layers)?)
    }

    /// The network with He-normal weights and small biases from `seed`: the same bytes on every machine. For tests and
    /// for timing; the outputs mean nothing.
    pub fn with_random_weights(&self, seed: u64) -> Result<Graph, GraphError> {
        let mut rng = Normal(seed);
        self.attach(|_, role, shape| {
            let fan_in: usize = shape[..shape.len() - 1].iter().product();
            let (mean, std) = match role {
                Role::Kernel => (0.0, (2.0 / fan_in as f64).sqrt()),
                Role::Gamma | Role::Variance | Role::Scale => (1.0, 0.1),
                Role::Bias | Role::Beta | Role::Mean | Role::Shift => (0.0, 0.05),
            };
            let data = (0..shape.iter().product()).map(|_| (mean + rng.next() * std) as f32).collect();
            Tensor::new(shape.to_vec(), data).ok_or(GraphError::Empty).map(Some)
        })
    }
}

/// Standard normal numbers: the sum of four uniform ones, which needs no `libm` and so has the same bits everywhere.
struct Normal(u64);

impl Normal {
    fn next(&mut self) -> f64 {
        let sum: f64 = (0..4).map(|_| (self.split_mix() >> 11) as f64 / (1u64 << 53) as f64).sum();
        (sum - 2.0) * 1.732_050_807_568_877_2
    }

    fn split_mix(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// A network of the family, by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arch {
    /// Five blocks as in VGG16, global average pooling, dense 120.
    Vggnet,
    /// Configuration A.
    Vgg11,
    /// Configuration B.
    Vgg13,
    /// Configuration D.
    Vgg16,
    /// Configuration E.
    Vgg19,
}

impl Arch {
    /// Every name.
    pub const ALL: [Self; 5] = [Self::Vggnet, Self::Vgg11, Self::Vgg13, Self::Vgg16, Self::Vgg19];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vggnet => "vggnet",
            Self::Vgg11 => "vgg11",
            Self::Vgg13 => "vgg13",
            Self::Vgg16 => "vgg16",
            Self::Vgg19 => "vgg19",
        }
    }

    /// The network for one picture shape and number of classes.
    pub fn spec(self, input: Shape, classes: usize) -> Spec {
        match self {
            Self::Vggnet => Spec::vggnet(input, classes),
            Self::Vgg11 => Spec::vgg11(input, classes),
            Self::Vgg13 => Spec::vgg13(input, classes),
            Self::Vgg16 => Spec::vgg16(input, classes),
            Self::Vgg19 => Spec::vgg19(input, classes),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no architecture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("architecture is `{found}`, expected one of vggnet, vgg11, vgg13, vgg16, vgg19")]
pub struct ParseArchError {
    found: String,
}

impl FromStr for Arch {
    type Err = ParseArchError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|a| a.name() == text)
            .ok_or_else(|| ParseArchError { found: text.to_string() })
    }
}
