//! What can be wrong with a weights file: file, layer, found, expected.
//!
//! ```text
//! import small_vgg.h5: layer `block1_conv1`: kernel has shape [3, 3, 4, 16], expected [3, 3, 3, 16]
//! ```

use std::path::{Path, PathBuf};

use super::{ArchiveProblem, KerasProblem, OnnxProblem, TfliteProblem, TorchProblem};
use crate::graph::{GraphError, Shape};

/// Layers an importer knows, as messages list them.
pub(super) const SUPPORTED: &str = "Conv2D, MaxPooling2D, GlobalAveragePooling2D, Flatten, Dense, Dropout, Activation, \
                                    ReLU, Softmax";
/// Formats an importer knows, as messages list them.
const FORMATS: &str = "Keras (.keras, .h5), PyTorch (.pth), safetensors, ONNX or TFLite";

/// A file that cannot be imported.
#[derive(Debug, thiserror::Error)]
#[error("import {}: {problem}", file.display())]
pub struct ImportError {
    /// The file, as it was given.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

impl ImportError {
    pub(super) fn new(file: &Path, problem: Problem) -> Self {
        Self { file: file.to_path_buf(), problem }
    }

    /// A stable word for the error.
    pub fn kind(&self) -> &'static str {
        self.problem.kind()
    }
}

/// What is wrong with a weights file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum Problem {
    #[error("cannot read: {0}")]
    Io(#[from] std::io::Error),
    #[error("the file is empty, expected {FORMATS}")]
    Empty,
    #[error("the file is {found}, expected {FORMATS}")]
    UnknownFormat { found: &'static str },
    #[error("{what} is not supported yet, expected {FORMATS}")]
    UnsupportedFormat { what: &'static str },
    #[error("{what}: {message}")]
    Hdf5 { what: String, message: String },
    #[error("safetensors header: {message}")]
    SafetensorsHeader { message: String },
    #[error("tensors end at byte {need}, but the file has {len} bytes")]
    FileLength { need: u64, len: u64 },
    #[error("{place} is missing, expected {expected}")]
    Missing { place: String, expected: &'static str },
    #[error("model_config: {place} is {found}, expected {expected}")]
    Config { place: String, found: String, expected: &'static str },
    #[error("layer `{layer}`: {what} is not supported, supported are {SUPPORTED}")]
    UnsupportedLayer { layer: String, what: String },
    #[error("layer `{layer}`: {option} is {found}, expected {expected}")]
    Option { layer: String, option: String, found: String, expected: &'static str },
    #[error("layer `{layer}`: has {found} inputs, expected 1 (the network must be a chain)")]
    NotAChain { layer: String, found: usize },
    #[error("layer `{layer}`: feeds {found} layers, expected 1 (the network must be a chain)")]
    Branches { layer: String, found: usize },
    #[error("layer `{name}` is there twice, expected unique layer names")]
    DuplicateLayer { name: String },
    #[error("tensor `{name}` is there twice, expected unique tensor names")]
    DuplicateTensor { name: String },
    #[error("layer `{layer}`: no weights in the file, expected a kernel of shape {expected:?}")]
    MissingLayer { layer: String, expected: Vec<usize> },
    #[error("layer `{layer}`: {what} is missing, expected shape {expected:?}")]
    MissingTensor { layer: String, what: &'static str, expected: Vec<usize> },
    #[error("layer `{layer}`: has weights, but {arch} has no such layer")]
    ExtraLayer { layer: String, arch: String },
    #[error("layer `{layer}`: {what} has shape {found:?}, expected {expected}")]
    WeightShape { layer: String, what: String, found: Vec<usize>, expected: String },
    #[error("layer `{layer}`: {what} has type {found}, expected f32, f16, bf16 or f64")]
    DataType { layer: String, what: String, found: String },
    #[error("layer `{layer}`: {what} has {need} bytes, but the file has {len}")]
    TensorTooLarge { layer: String, what: String, need: u64, len: u64 },
    #[error("tensor `{name}` is not part of a VGG, expected features.N and classifier.N weights and biases")]
    UnknownTensor { name: String },
    #[error(
        "layer `{layer}`: name says neither convolution block nor pooling, expected names as block1_conv1 and block1_pool, or an architecture"
    )]
    ArchUnknown { layer: String },
    #[error(
        "layer `{layer}`: takes {found} values, expected {channels} x a square number (a flattened map of {channels} channels)"
    )]
    HeadSize { layer: String, found: usize, channels: usize },
    #[error("the input size is not in the file (global average pooling takes any), expected it to be given")]
    InputUnknown,
    #[error(
        "the input size is not in the file (a network without dense layers takes any), expected it to be given"
    )]
    InputUnknownFeatures,
    #[error("the input has {found} channels, but layer `{layer}` takes {expected}")]
    InputChannels { found: usize, layer: String, expected: usize },
    #[error("the model takes {expected} pictures, but {found} was asked for")]
    InputMismatch { found: Shape, expected: Shape },
    #[error("the network has {found} classes, but {expected} were asked for")]
    Classes { found: usize, expected: usize },
    #[error("the model is not {arch}: layer {position} is {found}, expected {expected}")]
    ArchMismatch { arch: String, position: usize, found: String, expected: String },
    #[error(transparent)]
    Keras(#[from] KerasProblem),
    #[error(transparent)]
    Archive(#[from] ArchiveProblem),
    #[error(transparent)]
    Torch(#[from] TorchProblem),
    #[error(transparent)]
    Tflite(#[from] TfliteProblem),
    #[error(transparent)]
    Onnx(#[from] OnnxProblem),
    #[error(transparent)]
    Graph(#[from] GraphError),
}

impl Problem {
    /// A stable word for the problem.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Io(_) => "io",
            Self::Empty => "empty-file",
            Self::UnknownFormat { .. } => "unknown-format",
            Self::UnsupportedFormat { .. } => "unsupported-format",
            Self::Hdf5 { .. } => "hdf5",
            Self::SafetensorsHeader { .. } => "safetensors-header",
            Self::FileLength { .. } => "file-length",
            Self::Missing { .. } => "missing",
            Self::Config { .. } => "config",
            Self::UnsupportedLayer { .. } => "unsupported-layer",
            Self::Option { .. } => "layer-option",
            Self::NotAChain { .. } | Self::Branches { .. } => "not-a-chain",
            Self::DuplicateLayer { .. } => "duplicate-layer",
            Self::DuplicateTensor { .. } => "duplicate-tensor",
            Self::MissingLayer { .. } => "missing-layer",
            Self::MissingTensor { .. } => "missing-tensor",
            Self::ExtraLayer { .. } => "extra-layer",
            Self::WeightShape { .. } => "weight-shape",
            Self::DataType { .. } => "data-type",
            Self::TensorTooLarge { .. } => "tensor-too-large",
            Self::UnknownTensor { .. } => "unknown-tensor",
            Self::ArchUnknown { .. } => "arch-unknown",
            Self::HeadSize { .. } => "head-size",
            Self::InputUnknown | Self::InputUnknownFeatures => "input-unknown",
            Self::InputChannels { .. } => "input-channels",
            Self::InputMismatch { .. } => "input-mismatch",
            Self::Classes { .. } => "classes",
            Self::ArchMismatch { .. } => "arch-mismatch",
            Self::Keras(e) => e.kind(),
            Self::Archive(e) => e.kind(),
            Self::Torch(e) => e.kind(),
            Self::Tflite(e) => e.kind(),
            Self::Onnx(e) => e.kind(),
            Self::Graph(e) => e.kind(),
        }
    }
}
