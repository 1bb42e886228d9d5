//! The graph as the device runs it: activations fused into the layers they follow, layers that do nothing gone.
//!
//! ```text
//! Conv, Relu, Conv, Relu, MaxPool, Flatten, Dropout, Dense, Softmax
//!   └──┬───┘    └──┬───┘     │                         │
//!    Conv+ReLU  Conv+ReLU  MaxPool                   Dense (logits; softmax runs on the device in f32)
//! ```

use crate::graph::{ActivationShape, Graph, Op, Padding, Tensor};

/// A layer of the device.
#[derive(Clone, Debug)]
pub struct Fused<'g> {
    /// Name of the layer with the weights.
    pub name: &'g str,
    /// What it computes.
    pub op: FusedOp<'g>,
    /// The layer in the graph; the reference gives its output with the ReLU applied.
    pub layer_idx: usize,
    /// What it takes.
    pub input: ActivationShape,
    /// Layers with the same number run together.
    pub block: u16,
}

/// What a [`Fused`] layer computes.
#[derive(Clone, Debug)]
pub enum FusedOp<'g> {
    /// Convolution: HWIO weights.
    Conv {
        /// `[side][side][in][out]`.
        weights: &'g Tensor,
        /// `[out]`.
        bias: &'g Tensor,
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
        weights: &'g Tensor,
        /// `[out]`.
        bias: &'g Tensor,
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
            Op::Conv { weights, bias } => FusedOp::Conv { weights, bias, relu: false },
            Op::Dense { weights, bias } => FusedOp::Dense { weights, bias, relu: false },
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
