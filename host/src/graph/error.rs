//! What can be wrong with a graph: where, found, expected.
//!
//! Every variant names the layer. [`GraphError::kind`] is stable and meant for programs.

use super::shape::MAX_ACTIVATION;
use super::{ActivationShape, Shape};

/// A graph that cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum GraphError {
    #[error("the network has no layers, expected at least one convolution or dense layer")]
    Empty,
    #[error("layer `{name}` is there twice, expected unique layer names")]
    DuplicateLayer { name: String },
    #[error("layer `{layer}`: filter is {found}x{found}, expected 3x3 or 1x1")]
    FilterSize { layer: String, found: usize },
    #[error("layer `{layer}`: pool stride is {found}, expected 1 or 2")]
    PoolStride { layer: String, found: usize },
    #[error("layer `{layer}`: {kind} got a vector of {found} values, expected height x width x channels")]
    NeedsMap { layer: String, kind: &'static str, found: usize },
    #[error("layer `{layer}`: {kind} got a {found} map, expected a vector")]
    NeedsVector { layer: String, kind: &'static str, found: Shape },
    #[error("layer `{layer}`: 2x2 max-pooling got a {found} map, expected at least 2x2")]
    MapTooSmall { layer: String, found: Shape },
    #[error("layer `{layer}`: output is {found}, expected 1 to {MAX_ACTIVATION} values")]
    ActivationSize { layer: String, found: ActivationShape },
    #[error("layer `{layer}`: softmax is followed by `{next}`, expected it to be last")]
    SoftmaxNotLast { layer: String, next: String },
    #[error("layer `{layer}`: dropout rate is {found}, expected 0 to 1")]
    DropoutRate { layer: String, found: f32 },
    #[error("layer `{layer}`: {what} has shape {found:?}, expected {expected:?}")]
    WeightShape { layer: String, what: &'static str, found: Vec<usize>, expected: Vec<usize> },
    #[error("layer `{layer}`: {what} is missing, expected shape {expected:?}")]
    MissingWeights { layer: String, what: &'static str, expected: Vec<usize> },
    #[error("layer `{layer}`: moving_variance value {index} is {value}, expected at least 0")]
    Variance { layer: String, index: usize, value: f32 },
    #[error("layer `{layer}`: epsilon is {found}, expected a finite number of at least 0")]
    Epsilon { layer: String, found: f64 },
    #[error(
        "layer `{layer}`: folding `{from}` into it makes {what} value {index} {value}, expected a finite number"
    )]
    Fold { layer: String, from: String, what: &'static str, index: usize, value: f32 },
    #[error("layer `{layer}`: {what} value {index} is {value}, expected a finite number")]
    NotFinite { layer: String, what: &'static str, index: usize, value: f32 },
}

impl GraphError {
    /// A stable word for the error.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::DuplicateLayer { .. } => "duplicate-layer",
            Self::FilterSize { .. } => "filter-size",
            Self::PoolStride { .. } => "pool-stride",
            Self::NeedsMap { .. } => "needs-map",
            Self::NeedsVector { .. } => "needs-vector",
            Self::MapTooSmall { .. } => "map-too-small",
            Self::ActivationSize { .. } => "activation-size",
            Self::SoftmaxNotLast { .. } => "softmax-not-last",
            Self::DropoutRate { .. } => "dropout-rate",
            Self::WeightShape { .. } => "weight-shape",
            Self::MissingWeights { .. } => "missing-tensor",
            Self::Variance { .. } => "variance",
            Self::Epsilon { .. } => "epsilon",
            Self::Fold { .. } => "fold",
            Self::NotFinite { .. } => "not-finite",
        }
    }
}
