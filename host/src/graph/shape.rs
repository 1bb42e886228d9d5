//! Shapes of activations, and the rule that derives each layer's output shape from its input.
//!
//! Everything is NHWC without the batch: a map is `height x width x channels`, a vector `n` values.
//!
//! | layer | input | output |
//! |---|---|---|
//! | conv 3x3 same / 1x1, stride 1 | h x w x c | h x w x filters |
//! | max-pool 2x2, valid | h x w x c | (h-2)/s+1 x (w-2)/s+1 x c |
//! | max-pool 2x2, same | h x w x c | ceil(h/s) x ceil(w/s) x c |
//! | global average pooling | h x w x c | c |
//! | flatten | h x w x c | h\*w\*c, in HWC order |
//! | dense | n | units |
//! | any other | anything | the same |

use std::fmt;
use std::str::FromStr;

use super::{GraphError, Kind, Padding};

/// Most values one activation may have. Far above VGG at 1024x1024; keeps later arithmetic in range.
pub const MAX_ACTIVATION: usize = 1 << 30;

/// A picture or a feature map: height x width x channels, NHWC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

impl Shape {
    /// `height x width x channels`.
    pub const fn new(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels }
    }

    /// Number of values; `None` if it does not fit.
    pub fn checked_len(&self) -> Option<usize> {
        self.height.checked_mul(self.width)?.checked_mul(self.channels)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// Text that is not a shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("input shape is `{found}`, expected HEIGHTxWIDTH or HEIGHTxWIDTHxCHANNELS, each at least 1")]
pub struct ParseShapeError {
    found: String,
}

impl FromStr for Shape {
    type Err = ParseShapeError;

    /// Reads `32x32` (3 channels) or `32x32x1`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseShapeError { found: text.to_string() };
        let sides: Vec<usize> = text
            .split('x')
            .map(|s| s.parse().ok().filter(|&n| n > 0))
            .collect::<Option<_>>()
            .ok_or_else(error)?;
        match sides[..] {
            [height, width] => Ok(Self::new(height, width, 3)),
            [height, width, channels] => Ok(Self::new(height, width, channels)),
            _ => Err(error()),
        }
    }
}

/// What one layer puts out for one picture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ActivationShape {
    /// height x width x channels.
    Map(Shape),
    /// A vector of that many values.
    Vector(usize),
}

impl ActivationShape {
    /// Number of values for one picture. Within [`MAX_ACTIVATION`] for every shape a graph reports.
    pub fn len(&self) -> usize {
        match self {
            Self::Map(s) => s.height * s.width * s.channels,
            Self::Vector(n) => *n,
        }
    }

    /// Whether it holds no value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Axis lengths without the batch: `[h, w, c]` or `[n]`.
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Self::Map(s) => vec![s.height, s.width, s.channels],
            Self::Vector(n) => vec![*n],
        }
    }

    /// Length of the last axis: channels of a map, values of a vector.
    pub fn channels(&self) -> usize {
        match self {
            Self::Map(s) => s.channels,
            Self::Vector(n) => *n,
        }
    }
}

impl fmt::Display for ActivationShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(s) => write!(f, "{s}"),
            Self::Vector(n) => write!(f, "{n}"),
        }
    }
}

/// Output shape of a layer called `layer` that does `kind` to `input`.
pub(crate) fn output_shape(
    layer: &str,
    kind: Kind,
    input: ActivationShape,
) -> Result<ActivationShape, GraphError> {
    let layer_name = || layer.to_string();
    let map = || match input {
        ActivationShape::Map(s) => Ok(s),
        ActivationShape::Vector(found) => {
            Err(GraphError::NeedsMap { layer: layer_name(), kind: kind.class(), found })
        }
    };
    let out = match kind {
        Kind::Conv { filter_size, filters } => {
            if !matches!(filter_size, 1 | 3) {
                return Err(GraphError::FilterSize { layer: layer_name(), found: filter_size });
            }
            ActivationShape::Map(Shape { channels: filters, ..map()? })
        }
        Kind::MaxPool { stride, padding } => {
            if !matches!(stride, 1 | 2) {
                return Err(GraphError::PoolStride { layer: layer_name(), found: stride });
            }
            let s = map()?;
            if padding == Padding::Valid && (s.height < 2 || s.width < 2) {
                return Err(GraphError::MapTooSmall { layer: layer_name(), found: s });
            }
            let side = |n: usize| match padding {
                Padding::Valid => (n - 2) / stride + 1,
                Padding::Same => n.div_ceil(stride),
            };
            ActivationShape::Map(Shape::new(side(s.height), side(s.width), s.channels))
        }
        Kind::GlobalAvgPool => ActivationShape::Vector(map()?.channels),
        Kind::Flatten => ActivationShape::Vector(input.len()),
        Kind::Dense { .. } | Kind::Softmax => match (kind, input) {
            (_, ActivationShape::Map(found)) => {
                return Err(GraphError::NeedsVector { layer: layer_name(), kind: kind.class(), found });
            }
            (Kind::Dense { units }, _) => ActivationShape::Vector(units),
            _ => input,
        },
        Kind::BatchNorm { .. } | Kind::Affine | Kind::Relu | Kind::Dropout { .. } => input,
    };
    check_len(layer, out)?;
    Ok(out)
}

/// Refuses activations without values and absurdly large ones.
pub(super) fn check_len(layer: &str, shape: ActivationShape) -> Result<(), GraphError> {
    let len = match shape {
        ActivationShape::Map(s) => s.checked_len(),
        ActivationShape::Vector(n) => Some(n),
    };
    match len {
        Some(1..=MAX_ACTIVATION) => Ok(()),
        _ => Err(GraphError::ActivationSize { layer: layer.to_string(), found: shape }),
    }
}
