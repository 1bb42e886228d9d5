//! What a layer does: [`Kind`] without weights, [`Op`] with them, and which tensors each kind has.
//!
//! | kind | tensors, axes slowest first |
//! |---|---|
//! | `Conv` | kernel HWIO `[3][3][in][filters]` or `[1][1][in][filters]`, bias `[filters]` or none |
//! | `Dense` | kernel `[in][units]`, bias `[units]` or none |
//! | `BatchNorm` | gamma, beta (or none), moving mean and variance, each `[channels]` |
//! | `Affine` | scale, shift, each `[channels]` |
//!
//! Channels are the last axis: those of a map, or all values of a vector.

use std::fmt;

use super::Tensor;
use super::fold::Affine;

/// Border of a 2x2 max-pooling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Padding {
    /// Whole windows only; what does not fill one is dropped.
    Valid,
    /// Windows may hang over the right and bottom border; nothing outside the map counts.
    Same,
}

/// What a tensor is to its layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Filters of a convolution, weights of a dense layer.
    Kernel,
    /// Added to every output channel; 0 if absent.
    Bias,
    /// Scale of a normalized channel; 1 if absent.
    Gamma,
    /// Shift of a normalized channel; 0 if absent.
    Beta,
    /// Mean of a channel over the training pictures.
    Mean,
    /// Variance of a channel over the training pictures, at least 0.
    Variance,
    /// Factor of a channel.
    Scale,
    /// Added to a channel after the factor.
    Shift,
}

impl Role {
    /// Its name in Keras, as messages say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Bias => "bias",
            Self::Gamma => "gamma",
            Self::Beta => "beta",
            Self::Mean => "moving_mean",
            Self::Variance => "moving_variance",
            Self::Scale => "scale",
            Self::Shift => "shift",
        }
    }

    /// Whether a layer may do without it.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Bias | Self::Gamma | Self::Beta)
    }
}

/// What a layer does, without its weights.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// 3x3 same or 1x1 convolution, stride 1.
    Conv {
        /// Side of the filter: 3 or 1.
        filter_size: usize,
        /// Output channels.
        filters: usize,
    },
    /// (x - mean) / sqrt(variance + epsilon) * gamma + beta, a channel.
    BatchNorm {
        /// Keeps the root away from 0; at least 0.
        epsilon: f64,
    },
    /// x * scale + shift, a channel.
    Affine,
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
    /// Fully connected.
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
            Self::BatchNorm { .. } => "BatchNormalization",
            Self::Affine => "Affine",
            Self::Relu => "ReLU",
            Self::MaxPool { .. } => "MaxPooling2D",
            Self::GlobalAvgPool => "GlobalAveragePooling2D",
            Self::Flatten => "Flatten",
            Self::Dense { .. } => "Dense",
            Self::Dropout { .. } => "Dropout",
            Self::Softmax => "Softmax",
        }
    }

    /// Its tensors and their shapes for an input with `channels` (or that many values), in the order they are asked for.
    pub fn tensors(&self, channels: usize) -> Vec<(Role, Vec<usize>)> {
        let per_channel = |roles: &[Role]| roles.iter().map(|&r| (r, vec![channels])).collect();
        match *self {
            Self::Conv { filter_size, filters } => vec![
                (Role::Kernel, vec![filter_size, filter_size, channels, filters]),
                (Role::Bias, vec![filters]),
            ],
            Self::Dense { units } => {
                vec![(Role::Kernel, vec![channels, units]), (Role::Bias, vec![units])]
            }
            Self::BatchNorm { .. } => per_channel(&[Role::Gamma, Role::Beta, Role::Mean, Role::Variance]),
            Self::Affine => per_channel(&[Role::Scale, Role::Shift]),
            _ => Vec::new(),
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
            _ => f.write_str(class),
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
        bias: Option<Tensor>,
    },
    /// (x - mean) / sqrt(variance + epsilon) * gamma + beta, a channel.
    BatchNorm {
        /// `[channels]`, 1 if absent.
        gamma: Option<Tensor>,
        /// `[channels]`, 0 if absent.
        beta: Option<Tensor>,
        /// `[channels]`.
        mean: Tensor,
        /// `[channels]`, at least 0.
        variance: Tensor,
        /// Keeps the root away from 0; at least 0.
        epsilon: f64,
    },
    /// x * scale + shift, a channel.
    Affine {
        /// `[channels]`.
        scale: Tensor,
        /// `[channels]`.
        shift: Tensor,
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
        bias: Option<Tensor>,
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
            &Self::BatchNorm { epsilon, .. } => Kind::BatchNorm { epsilon },
            Self::Affine { .. } => Kind::Affine,
            Self::Relu => Kind::Relu,
            &Self::MaxPool { stride, padding } => Kind::MaxPool { stride, padding },
            Self::GlobalAvgPool => Kind::GlobalAvgPool,
            Self::Flatten => Kind::Flatten,
            Self::Dense { weights, .. } => Kind::Dense { units: axis(weights, 1) },
            &Self::Dropout { rate } => Kind::Dropout { rate },
            Self::Softmax => Kind::Softmax,
        }
    }

    /// The layer of `kind` with the tensors that `get` has; the inner error is one that is missing and must not be.
    pub(super) fn new<E>(
        kind: Kind,
        channels: usize,
        mut get: impl FnMut(Role, &[usize]) -> Result<Option<Tensor>, E>,
    ) -> Result<Result<Self, (Role, Vec<usize>)>, E> {
        let mut tensors = Vec::new();
        for (role, shape) in kind.tensors(channels) {
            let tensor = get(role, &shape)?;
            if tensor.is_none() && !role.is_optional() {
                return Ok(Err((role, shape)));
            }
            tensors.push(tensor);
        }
        let mut tensors = tensors.into_iter();
        // Required tensors are there: the loop above has returned otherwise.
        let mut optional = || tensors.next().flatten();
        Ok(Ok(match kind {
            Kind::Conv { .. } => {
                Self::Conv { weights: optional().unwrap_or_else(Tensor::none), bias: optional() }
            }
            Kind::Dense { .. } => {
                Self::Dense { weights: optional().unwrap_or_else(Tensor::none), bias: optional() }
            }
            Kind::BatchNorm { epsilon } => Self::BatchNorm {
                gamma: optional(),
                beta: optional(),
                mean: optional().unwrap_or_else(Tensor::none),
                variance: optional().unwrap_or_else(Tensor::none),
                epsilon,
            },
            Kind::Affine => Self::Affine {
                scale: optional().unwrap_or_else(Tensor::none),
                shift: optional().unwrap_or_else(Tensor::none),
            },
            Kind::MaxPool { stride, padding } => Self::MaxPool { stride, padding },
            Kind::GlobalAvgPool => Self::GlobalAvgPool,
            Kind::Flatten => Self::Flatten,
            Kind::Dropout { rate } => Self::Dropout { rate },
            Kind::Softmax => Self::Softmax,
            Kind::Relu => Self::Relu,
        }))
    }

    /// Its tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (Role, &Tensor)> {
        let list = match self {
            Self::Conv { weights, bias } | Self::Dense { weights, bias } => {
                [Some((Role::Kernel, weights)), bias.as_ref().map(|b| (Role::Bias, b)), None, None]
            }
            Self::BatchNorm { gamma, beta, mean, variance, .. } => [
                gamma.as_ref().map(|g| (Role::Gamma, g)),
                beta.as_ref().map(|b| (Role::Beta, b)),
                Some((Role::Mean, mean)),
                Some((Role::Variance, variance)),
            ],
            Self::Affine { scale, shift } => {
                [Some((Role::Scale, scale)), Some((Role::Shift, shift)), None, None]
            }
            _ => [None; 4],
        };
        list.into_iter().flatten()
    }

    /// Scale and shift a channel, of a batch normalization or a factor; `None` for other layers and beyond f32's range.
    pub fn affine(&self) -> Option<(Tensor, Tensor)> {
        match Affine::of("", self)?.into_op().ok()? {
            Self::Affine { scale, shift } => Some((scale, shift)),
            _ => None,
        }
    }

    /// The kernel of a convolution or dense layer.
    pub fn kernel(&self) -> Option<&Tensor> {
        match self {
            Self::Conv { weights, .. } | Self::Dense { weights, .. } => Some(weights),
            _ => None,
        }
    }
}
