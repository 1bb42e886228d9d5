//! What can be wrong with a file of PyTorch: the pickle, the containers around it, the names in a state_dict.
//!
//! ```text
//! import net.pth: pickle byte 21: refers to `posix.system`, expected nothing but plain data and tensors
//! ```

use super::pickle::MAX_NAME;

/// What is wrong with a pickle.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum PickleProblem {
    #[error("pickle byte {at}: needs {need} bytes, but {left} are left")]
    Truncated { at: usize, need: u64, left: usize },
    #[error(
        "pickle byte {at}: opcode {found:#04x} is not supported, expected those of pickle protocols 2 to 5"
    )]
    Opcode { at: usize, found: u8 },
    #[error("pickle byte {at}: refers to `{name}`, expected nothing but plain data and tensors")]
    Global { at: usize, name: String },
    #[error("the file holds an object of class `{class}`, expected a state_dict (a dict of tensors)")]
    Object { class: String },
    #[error("pickle byte {at}: found {found}, expected {expected}")]
    Unexpected { at: usize, found: &'static str, expected: &'static str },
    #[error("pickle byte {at}: `{name}` has other arguments than torch writes, expected {expected}")]
    Arguments { at: usize, name: &'static str, expected: &'static str },
    #[error("pickle byte {at}: more than {limit} {what}")]
    Limit { at: usize, limit: usize, what: &'static str },
    #[error("pickle byte {at}: storage `{key}` is described in two ways, expected one type and length")]
    Storage { at: usize, key: String },
}

impl PickleProblem {
    /// The problem of a pickle that begins at byte `start` of its file.
    pub(super) fn behind(mut self, start: usize) -> Self {
        match &mut self {
            Self::Truncated { at, .. }
            | Self::Opcode { at, .. }
            | Self::Global { at, .. }
            | Self::Unexpected { at, .. }
            | Self::Arguments { at, .. }
            | Self::Limit { at, .. }
            | Self::Storage { at, .. } => *at += start,
            Self::Object { .. } => {}
        }
        self
    }

    /// A stable word for the problem.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "pickle-truncated",
            Self::Global { .. } => "pickle-global",
            Self::Object { .. } => "pickle-object",
            Self::Limit { .. } => "pickle-limit",
            Self::Opcode { .. } | Self::Unexpected { .. } => "pickle-opcode",
            Self::Arguments { .. } | Self::Storage { .. } => "pickle-tensor",
        }
    }
}

/// What is wrong with a state_dict or its container.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum TorchProblem {
    #[error(transparent)]
    Pickle(#[from] PickleProblem),
    #[error("the pickle holds {found}, expected a state_dict (a dict of tensors)")]
    NoDict { found: &'static str },
    #[error(
        "the pickle holds a dict without tensors, its keys are {keys}, expected a state_dict, or one under `state_dict`, \
         `model_state_dict`, `model`, `net` or `weights`"
    )]
    NoTensors { keys: String },
    #[error("the state_dict has {found} entries, expected at most {limit}")]
    TooMany { found: usize, limit: usize },
    #[error("key {index} of the state_dict is {found}, expected text of at most {MAX_NAME} bytes")]
    Key { index: usize, found: &'static str },
    #[error("entry `{name}` of the state_dict is {found}, expected a tensor")]
    NotTensor { name: String, found: &'static str },
    #[error("the file is {found}, expected a state_dict saved with torch.save")]
    Container { found: &'static str },
    #[error("the archive has `{first}` and `{second}`, expected one data.pkl")]
    TwoPickles { first: String, second: String },
    #[error("the weights are {found}, expected little-endian ones")]
    ByteOrder { found: String },
    #[error("storage `{key}` has {found} bytes in the file, expected {expected} as the pickle says")]
    StorageLength { key: String, found: u64, expected: u64 },
    #[error("legacy file: {what} is {found}, expected {expected}")]
    Legacy { what: &'static str, found: String, expected: String },
    #[error("layer `{layer}`: index is {found} after `{before}`, expected {expected}")]
    Gap { layer: String, before: String, found: usize, expected: &'static str },
    #[error("layer `{layer}`: nothing with weights is in front of it, expected {expected} to be the first")]
    First { layer: String, expected: &'static str },
    #[error("layers `{first}` and `{second}` are both a head, expected one")]
    TwoHeads { first: String, second: String },
    #[error(
        "layer `{layer}`: weight has strides {found:?}, expected those of a contiguous or channels_last tensor"
    )]
    Strides { layer: String, found: Vec<usize> },
}

impl TorchProblem {
    /// A stable word for the problem.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pickle(e) => e.kind(),
            Self::NoDict { .. }
            | Self::NoTensors { .. }
            | Self::TooMany { .. }
            | Self::Key { .. }
            | Self::NotTensor { .. } => "state-dict",
            Self::Container { .. } | Self::TwoPickles { .. } => "torch-container",
            Self::ByteOrder { .. } => "byte-order",
            Self::StorageLength { .. } => "storage-length",
            Self::Legacy { .. } => "torch-legacy",
            Self::Gap { .. } | Self::First { .. } => "feature-gap",
            Self::TwoHeads { .. } => "two-heads",
            Self::Strides { .. } => "strides",
        }
    }
}
