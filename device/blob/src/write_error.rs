//! Why a model cannot be written: one variant a check of the writer.

use std::io;

use crate::layout::{MAX_MAP_VALUES, MAX_SIDE};
use crate::model::{Algorithm, Scheme, Shape};
use crate::preprocess::ChannelOrder;
use crate::requant::ACC_LIMIT;
use crate::winograd::LIMIT;

/// Why a model cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A partial sum of some order could leave the accumulator's range.
    #[error(
        "layer `{layer}`, channel {channel}: partial sums can reach {bound}, the accumulator's limit is {ACC_LIMIT}"
    )]
    Overflow {
        /// Layer name.
        layer: String,
        /// Output channel.
        channel: usize,
        /// `|bias| + 128 * sum(|w|)`.
        bound: i64,
    },
    /// An accumulator of a Winograd layer could leave the range in which its arithmetic is exact: the layer needs
    /// the direct algorithm.
    #[error(
        "layer `{layer}`, channel {channel}: accumulators from {low} to {high}, winograd-f43 is exact from -{LIMIT} to {}",
        LIMIT - 1
    )]
    Winograd {
        /// Layer name.
        layer: String,
        /// Output channel.
        channel: usize,
        /// Smallest accumulator of any input, bias inside.
        low: i64,
        /// Largest.
        high: i64,
    },
    /// An output of a requantized Winograd layer could leave the accumulator's range.
    #[error("layer `{layer}`, channel {channel}: sums of {algorithm} can reach {bound}, the accumulator's limit is {ACC_LIMIT}", algorithm = .algorithm.name())]
    Winograd8 {
        /// Layer name.
        layer: String,
        /// Which form.
        algorithm: Algorithm,
        /// Output channel.
        channel: usize,
        /// The magnitudes of all terms of an output together, for the output where they are most.
        bound: i64,
    },
    /// A negative multiplier or scale of a requantized Winograd layer.
    #[error("layer `{layer}`, tap {tap}, channel {channel}: {what} is {found}, expected 0 or more")]
    TapRange {
        /// Layer name.
        layer: String,
        /// Which number.
        what: &'static str,
        /// Tap, row by row.
        tap: usize,
        /// Input channel of a multiplier, output channel of a scale.
        channel: usize,
        /// Value found.
        found: i32,
    },
    /// Weights of another form than the algorithm multiplies.
    #[error("layer `{layer}`: {found}, expected those of {algorithm}", algorithm = .algorithm.name())]
    Weights {
        /// Layer name.
        layer: String,
        /// The weights.
        found: String,
        /// The algorithm asked for.
        algorithm: Algorithm,
    },
    /// An algorithm that is not for this layer.
    #[error("layer `{layer}`: {algorithm} is for int8 3x3 convolutions behind the first layer", algorithm = .algorithm.name())]
    Algorithm {
        /// Layer name.
        layer: String,
        /// The algorithm asked for.
        algorithm: Algorithm,
    },
    /// A weight of -128, which the kernels' 16-bit pairs do not allow.
    #[error("layer `{layer}`, channel {channel}: weight -128, the range is [-127, 127]")]
    WeightRange {
        /// Layer name.
        layer: String,
        /// Output channel.
        channel: usize,
    },
    /// Weights or parameters do not have the size that the shapes give.
    #[error("layer `{layer}`: {found} {what}, expected {expected}")]
    Size {
        /// Layer name.
        layer: String,
        /// What was counted.
        what: &'static str,
        /// Number found.
        found: usize,
        /// Number expected.
        expected: usize,
    },
    /// Weights of another format than the model's scheme.
    #[error("layer `{layer}`: weights are not {scheme}", scheme = .scheme.name())]
    Scheme {
        /// Layer name.
        layer: String,
        /// The model's scheme.
        scheme: Scheme,
    },
    /// A filter side or pool stride that the format does not have.
    #[error("layer `{layer}`: {field} is {found}, expected {low} or {high}", low = .known[0], high = .known[1])]
    Unsupported {
        /// Layer name.
        layer: String,
        /// Field name.
        field: &'static str,
        /// Value found.
        found: u8,
        /// Values the format has.
        known: [u8; 2],
    },
    /// A map without values, or over the format's limits.
    #[error(
        "layer `{layer}`: a map of {shape}, the limits are 1 to {MAX_MAP_VALUES} values and {MAX_SIDE} a side"
    )]
    Map {
        /// Layer name.
        layer: String,
        /// The layer's input or output.
        shape: Shape,
    },
    /// The channel order has another number of channels than the input picture.
    #[error("an input of {found} channels, expected {} for order {}", .order.channels(), .order.name())]
    Channels {
        /// Order of the preprocessing rule.
        order: ChannelOrder,
        /// Channels of the input.
        found: u32,
    },
    /// Labels, self-test picture or self-test logits do not fit the network.
    #[error("{found} {what}, expected {expected}")]
    Count {
        /// What was counted.
        what: &'static str,
        /// Number found.
        found: usize,
        /// Number expected.
        expected: u64,
    },
    /// A label with a line break in it: the format has a label a line.
    #[error("label of class {class}: holds a line break")]
    Label {
        /// Class.
        class: usize,
    },
    /// More layers, a longer name or more rows than the format allows.
    #[error("{what}: {found}, the limit is {limit}")]
    TooMany {
        /// What was counted.
        what: &'static str,
        /// Number found.
        found: usize,
        /// Largest number.
        limit: usize,
    },
    /// The output failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
