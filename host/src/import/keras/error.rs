//! What can be wrong with a Keras file alone: archive, groups of weights, what they leave open.

/// Layers the importer knows, as messages list them.
const SUPPORTED: &str = "Conv2D, BatchNormalization, MaxPooling2D, AveragePooling2D and GlobalAveragePooling2D, Flatten, \
                         Dense, Dropout, Activation, ReLU, Softmax, Rescaling, Normalization, ZeroPadding2D";

/// What is wrong with a Keras file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum KerasProblem {
    #[error("layer `{layer}`: {what} is not supported, supported are {SUPPORTED}")]
    Unsupported { layer: String, what: String },
    #[error("layer `{layer}`: group `{group}` has the weights of `{found}`, expected those of the layer")]
    OtherLayer { layer: String, group: String, found: String },
    #[error("layer `{layer}`: group `{group}` is missing, expected the layer's weights in it")]
    MissingGroup { layer: String, group: String },
    #[error("group `{group}`: {what} is {found}, expected {expected}")]
    Group { group: String, what: &'static str, found: String, expected: String },
    #[error("the file has {found} convolutions, expected the {expected} of {arch}")]
    Convolutions { found: usize, expected: usize, arch: String },
    #[error("{what} is not in the file, expected {expected}")]
    Open { what: String, expected: &'static str },
}

impl KerasProblem {
    /// A stable word for the problem.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "unsupported-layer",
            Self::OtherLayer { .. } => "other-layer",
            Self::MissingGroup { .. } => "missing-layer",
            Self::Group { .. } => "weight-group",
            Self::Convolutions { .. } => "arch-mismatch",
            Self::Open { .. } => "not-in-file",
        }
    }
}
