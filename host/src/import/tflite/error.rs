//! What can be wrong with a TFLite file: operator or tensor, found, expected.
//!
//! ```text
//! operator 3 CONV_2D `block2_conv1/Relu`: stride is 2x2, expected 1x1
//! ```

use super::schema::SUPPORTED;

/// What is wrong with a TFLite file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum TfliteProblem {
    #[error("{what} at byte {at} is outside the file's {len} bytes")]
    Outside { what: &'static str, at: u64, len: u64 },
    #[error("vtable of {what} at byte {at} has {found} bytes, expected at least 4")]
    Vtable { what: &'static str, at: u64, found: u16 },
    #[error("{what} is {found}, expected {expected}")]
    Model { what: String, found: String, expected: String },
    #[error("{operator}: not supported, supported are {SUPPORTED}")]
    Unsupported { operator: String },
    #[error("{operator}: {what} is {found}, expected {expected}")]
    Operator { operator: Box<str>, what: &'static str, found: Box<str>, expected: Box<str> },
    #[error("{operator}: takes `{found}`, expected `{expected}` (the network must be a chain)")]
    NotAChain { operator: String, found: String, expected: String },
    #[error("{operator}: takes {found} tensors that were computed, expected 1 (the network must be a chain)")]
    Joins { operator: String, found: usize },
    #[error("tensor `{tensor}`: {what} is {found}, expected {expected}")]
    Tensor { tensor: String, what: &'static str, found: String, expected: String },
    #[error("tensors take {found} bytes, but the file has {len} bytes")]
    Amplified { found: u64, len: u64 },
}

impl TfliteProblem {
    /// A stable word for the problem.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Outside { .. } => "tflite-outside",
            Self::Vtable { .. } => "tflite-vtable",
            Self::Model { .. } => "tflite-model",
            Self::Unsupported { .. } => "unsupported-layer",
            Self::Operator { .. } => "layer-option",
            Self::NotAChain { .. } | Self::Joins { .. } => "not-a-chain",
            Self::Tensor { .. } => "tflite-tensor",
            Self::Amplified { .. } => "tensor-too-large",
        }
    }
}
