//! The graph as the device runs it: activations fused into the layers they follow, layers that do nothing gone.
//!
//! ```text
//! Conv, Relu, Affine, Conv, Relu, MaxPool, Flatten, Dense, Softmax
//!   └──┬───┘     │      └──┬───┘     │                │
//!  Conv+ReLU  Conv 1x1  Conv+ReLU  MaxPool          Dense (logits; softmax runs on the device in f32)
//! ```
//!
//! A factor a channel that could not be folded becomes a 1x1 convolution, or a dense layer, with a diagonal of weights: in
//! int8 each is 127 steps of its own scale, so nothing but the output's rounding is lost, and every kernel runs it as it
//! is. It costs a ninth of the 3x3 convolution behind it.

use crate::graph::{ActivationShape, Graph, Layer, Op, Padding, Tensor};

/// Most channels of a factor that stays a layer: 64 MB of weights in f32.
const MAX_DIAGONAL: usize = 4096;

/// A layer of the device.
#[derive(Clone, Debug)]
pub struct Fused<'g> {
    /// Name of the layer with the weights.
    pub name: &'g str,
    /// What it computes.
    pub op: FusedOp,
    /// The layer in the graph; the reference gives its output with the ReLU applied.
    pub layer_idx: usize,
    /// What it takes.
    pub input: ActivationShape,
    /// Layers with the same number run together.
    pub block: u16,
}

/// What a [`Fused`] layer computes.
#[derive(Clone, Debug)]
pub enum FusedOp {
    /// Convolution: HWIO weights.
    Conv {
        /// `[side][side][in][out]`.
        weights: Tensor,
        /// `[out]`.
        bias: Tensor,
        /// Whether a ReLU follows.
        relu: bool,
    },
    /// 2x2 max-pool.
    MaxPool {
        /// 1 or 2.
        stride: usize,
        /// Border rule.
        padding: Padding,
    },
    /// Mean over height and width.
    GlobalAvgPool,
    /// Dense: `[in][out]` weights.
    Dense {
        /// `[in][out]`.
        weights: Tensor,
        /// `[out]`.
        bias: Tensor,
        /// Whether a ReLU follows.
        relu: bool,
    },
}

/// A network that the device cannot run.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// A ReLU with nothing to fuse into.
    #[error("layer `{layer}`: ReLU follows {before}, expected a convolution or dense layer")]
    Relu {
        /// The ReLU.
        layer: String,
        /// What comes before.
        before: &'static str,
    },
    /// The last layer gives logits, which a ReLU would cut.
    #[error("layer `{layer}`: the last dense layer ends in ReLU, expected logits or softmax")]
    LastRelu {
        /// The dense layer.
        layer: String,
    },
    /// A factor a channel that would need too large a diagonal.
    #[error(
        "layer `{layer}`: {found} factors that cannot be folded into a layer, the limit is {MAX_DIAGONAL}"
    )]
    Affine {
        /// The layer with the factors.
        layer: String,
        /// How many.
        found: usize,
    },
    /// Stored layers number blocks with 16 bits.
    #[error("{found} blocks, the limit is 65535")]
    TooManyBlocks {
        /// Number found.
        found: usize,
    },
}

/// Lowers a graph. Blocks end behind each max-pool, as in the network's own naming.
///
/// # Errors
/// [`LowerError`] when a ReLU cannot be fused.
pub fn lower(graph: &Graph) -> Result<Vec<Fused<'_>>, LowerError> {
    let mut fused: Vec<Fused<'_>> = Vec::new();
    let mut block = 0usize;
    for (layer_idx, layer) in graph.layers().iter().enumerate() {
        let op = match &layer.op {
            Op::Relu => {
                match fused.last_mut().map(|f| &mut f.op) {
                    Some(FusedOp::Conv { relu, .. } | FusedOp::Dense { relu, .. }) => *relu = true,
                    other => {
                        let before = match other {
                            Some(FusedOp::MaxPool { .. }) => "a max-pool",
                            Some(_) => "an average pool",
                            None => "the picture",
                        };
                        return Err(LowerError::Relu { layer: layer.name.clone(), before });
                    }
                }
                continue;
            }
            // In NHWC flattening moves nothing, dropout does nothing, and softmax runs on the logits.
            Op::Flatten | Op::Dropout { .. } | Op::Softmax => continue,
            Op::Conv { weights, bias } => {
                let (weights, bias) = with_bias(weights, bias.as_ref());
                FusedOp::Conv { weights, bias, relu: false }
            }
            Op::Dense { weights, bias } => {
                let (weights, bias) = with_bias(weights, bias.as_ref());
                FusedOp::Dense { weights, bias, relu: false }
            }
            Op::BatchNorm { .. } | Op::Affine { .. } => diagonal(layer, graph.input_shape(layer_idx))?,
            &Op::MaxPool { stride, padding } => FusedOp::MaxPool { stride, padding },
            Op::GlobalAvgPool => FusedOp::GlobalAvgPool,
        };
        let by_rows = matches!(op, FusedOp::Conv { .. } | FusedOp::MaxPool { .. });
        let before = fused.last().map(|f| &f.op);
        let starts_block = match before {
            None => false,
            Some(FusedOp::MaxPool { .. }) => true,
            Some(FusedOp::Conv { .. }) => !by_rows,
            Some(_) => true,
        };
        block += usize::from(starts_block);
        fused.push(Fused {
            name: &layer.name,
            op,
            layer_idx,
            // A flatten in between changes the form of the shape, never its values.
            input: match fused.last() {
                Some(f) => graph.output_shape(f.layer_idx),
                None => graph.input_shape(0),
            },
            block: u16::try_from(block).map_err(|_| LowerError::TooManyBlocks { found: block })?,
        });
    }
    match fused.last() {
        Some(Fused { name, op: FusedOp::Dense { relu: true, .. }, .. }) => {
            Err(LowerError::LastRelu { layer: (*name).to_owned() })
        }
        _ => Ok(fused),
    }
}

fn with_bias(weights: &Tensor, bias: Option<&Tensor>) -> (Tensor, Tensor) {
    let outputs = weights.shape().last().copied().unwrap_or(0);
    (weights.clone(), bias.cloned().unwrap_or_else(|| Tensor::zeros(outputs)))
}

/// A factor a channel as a layer with weights off the diagonal 0.
fn diagonal(layer: &Layer, input: ActivationShape) -> Result<FusedOp, LowerError> {
    let n = input.channels();
    let too_large = || LowerError::Affine { layer: layer.name.clone(), found: n };
    let (scale, shift) = layer.op.affine().filter(|_| n <= MAX_DIAGONAL).ok_or_else(too_large)?;
    let mut weights = vec![0f32; n * n];
    for (c, scale) in scale.data().iter().enumerate() {
        weights[c * n + c] = *scale;
    }
    let (is_map, shape) = match input {
        ActivationShape::Map(_) => (true, vec![1, 1, n, n]),
        ActivationShape::Vector(_) => (false, vec![n, n]),
    };
    let (weights, bias) = (Tensor::new(shape, weights).ok_or_else(too_large)?, shift);
    Ok(match is_map {
        true => FusedOp::Conv { weights, bias, relu: false },
        false => FusedOp::Dense { weights, bias, relu: false },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Kind, Shape, Spec};

    #[test]
    fn activations_fuse_and_blocks_end_behind_pools() {
        let graph = Spec::vggnet(Shape::new(32, 32, 3), 10).with_random_weights(1).unwrap();
        let fused = lower(&graph).unwrap();
        let blocks: Vec<u16> = fused.iter().map(|f| f.block).collect();
        assert_eq!(blocks, [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 6, 7]);
        let relus = fused
            .iter()
            .filter(|f| matches!(f.op, FusedOp::Conv { relu: true, .. } | FusedOp::Dense { relu: true, .. }));
        assert_eq!(relus.count(), 14);
        assert!(matches!(fused[20].op, FusedOp::Dense { relu: false, .. }));
    }

    #[test]
    fn a_relu_that_cannot_fuse_is_named() {
        let input = Shape::new(8, 8, 3);
        let conv = Kind::Conv { filter_size: 3, filters: 8 };
        let pool = Kind::MaxPool { stride: 2, padding: Padding::Valid };
        let head = Kind::Dense { units: 2 };
        let behind_pool = Spec::new("n", input)
            .layer("c", conv)
            .layer("p", pool)
            .layer("r", Kind::Relu)
            .layer("g", Kind::GlobalAvgPool)
            .layer("d", head);
        let graph = behind_pool.with_random_weights(1).unwrap();
        let message = lower(&graph).unwrap_err().to_string();
        assert_eq!(message, "layer `r`: ReLU follows a max-pool, expected a convolution or dense layer");
        let at_end = Spec::new("n", input).layer("f", Kind::Flatten).layer("d", head).layer("r", Kind::Relu);
        let graph = at_end.with_random_weights(1).unwrap();
        let message = lower(&graph).unwrap_err().to_string();
        assert_eq!(message, "layer `d`: the last dense layer ends in ReLU, expected logits or softmax");
    }
}
