//! What can be wrong with an ONNX file: node or tensor, found, expected.
//!
//! ```text
//! node `block2_conv1` (Conv): strides is [2, 2], expected [1, 1]
//! ```

/// Operators an importer knows, as messages list them.
pub(super) const SUPPORTED: &str = "Conv, BatchNormalization, Relu, Clip, MaxPool, GlobalAveragePool, AveragePool, ReduceMean, \
                                    Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Gemm, MatMul, Add, Sub, Mul, Div, Pad, \
                                    Identity, Dropout, Softmax, Cast, Constant, and Shape, Gather, Slice, Concat and \
                                    ReduceProd of shapes";

/// What is wrong with an ONNX file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum OnnxProblem {
    #[error("byte {at}: {what}")]
    Wire { at: u64, what: &'static str },
    #[error("the model has more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
    #[error("the model's {what} is {found}, expected {expected}")]
    Model { what: &'static str, found: String, expected: String },
    #[error("{node}: not supported, supported are {SUPPORTED}")]
    Unsupported { node: String },
    #[error("{node}: {what} is {found}, expected {expected}")]
    Node { node: Box<str>, what: &'static str, found: Box<str>, expected: Box<str> },
    #[error("{node}: takes `{found}`, expected `{expected}` (the network must be a chain)")]
    NotAChain { node: String, found: String, expected: String },
    #[error("{node}: takes {found} tensors that were computed, expected 1 (the network must be a chain)")]
    Joins { node: String, found: usize },
    #[error("{node}: is part of a cycle, expected every node behind those it takes from")]
    Cycle { node: String },
    #[error("tensor `{tensor}`: {what} is {found}, expected {expected}")]
    Tensor { tensor: Box<str>, what: &'static str, found: Box<str>, expected: Box<str> },
    #[error("tensor `{tensor}`: external data `{location}`: {problem}")]
    External { tensor: Box<str>, location: Box<str>, problem: Box<str> },
    #[error("tensors take {found} bytes, but there are {len} bytes of file")]
    Amplified { found: u64, len: u64 },
}

impl OnnxProblem {
    /// A stable word for the problem.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Wire { .. } => "onnx-wire",
            Self::TooMany { .. } => "onnx-size",
            Self::Model { .. } => "onnx-model",
            Self::Unsupported { .. } => "unsupported-layer",
            Self::Node { .. } => "layer-option",
            Self::NotAChain { .. } | Self::Joins { .. } | Self::Cycle { .. } => "not-a-chain",
            Self::Tensor { .. } => "onnx-tensor",
            Self::External { .. } => "onnx-external",
            Self::Amplified { .. } => "tensor-too-large",
        }
    }
}
