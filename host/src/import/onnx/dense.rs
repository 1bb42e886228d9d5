//! Dense layers, and arithmetic with constants.
//!
//! ```text
//! Gemm: alpha * x W (or W^T) + beta * C     MatMul: x W     Add behind either, if it has no bias yet ─► Dense
//! Mul, Add, Sub, Div with one number, or one a channel ─► Affine
//! ```

use super::chain::{Chain, Form};
use super::model::Node;
use super::values::Use;
use crate::graph::{Op, Shape, Tensor};
use crate::import::Problem;
use crate::import::stored::Dense;

/// What becomes of a constant.
type Each = fn(f32) -> f32;

impl Chain {
    pub(super) fn gemm(&mut self, node: &Node) -> Result<(), Problem> {
        if node.int("transA", 0) != 0 {
            return Err(node.problem("transA", node.int("transA", 0), 0));
        }
        let order = if node.int("transB", 0) != 0 { Dense::OutIn } else { Dense::InOut };
        let (alpha, beta) = (node.float("alpha", 1.0), node.float("beta", 1.0));
        let weights = self.dense_weights(node, order, alpha)?;
        let units = weights.shape().get(1).copied().unwrap_or(0);
        let bias = match self.optional_vector(node, 2, "bias")? {
            Some(bias) if bias.len() == 1 && units > 1 => {
                self.values.repeat(units)?;
                Some(Tensor::vector(vec![bias.data()[0]; units]))
            }
            bias => bias,
        };
        let bias = bias.map(|bias| scaled(bias, beta));
        self.push(&node.name, Op::Dense { weights, bias })?;
        self.form = Form::Flat(None);
        Ok(())
    }

    pub(super) fn matmul(&mut self, node: &Node) -> Result<(), Problem> {
        if node.input(0) != Some(self.current.as_str()) {
            return Err(node.problem("first input", "a constant", "what was computed"));
        }
        let weights = self.dense_weights(node, Dense::InOut, 1.0)?;
        self.push(&node.name, Op::Dense { weights, bias: None })?;
        self.form = Form::Flat(None);
        Ok(())
    }

    fn dense_weights(&mut self, node: &Node, order: Dense, factor: f32) -> Result<Tensor, Problem> {
        let Form::Flat(map) = self.form else {
            return Err(node.problem("input", format!("a {} map", self.shape), "a vector"));
        };
        let weights = self.weights(node, 1, 2, "weights")?;
        let inputs = weights.stored.shape[usize::from(order == Dense::OutIn)];
        if inputs != self.shape.len() {
            let expected = format!("{}, as its input has", self.shape.len());
            return Err(self.misfit(node.problem("number of the weights' inputs", inputs, expected)));
        }
        let usage = Use::Dense(order, map);
        match factor == 1.0 {
            true => self.values.read(&weights, usage),
            // Not kept for another layer: changing it in place must not copy it.
            false => Ok(scaled(self.values.read_alone(&weights, usage)?, factor)),
        }
    }

    /// Something with a constant, a value or one a channel.
    pub(super) fn affine(&mut self, node: &Node) -> Result<(), Problem> {
        let at = usize::from(node.input(0) == Some(self.current.as_str()));
        let name = node.input(at).unwrap_or("");
        let Some(constant) = self.values.constants.get(name).cloned() else {
            return Err(node.problem("other input", format!("`{name}`"), "weights in the file"));
        };
        let channels = self.shape.channels();
        let (axis, rank) = self.form.channel_axis();
        let shape = &constant.stored.shape;
        // Shapes are matched from the last axis on; before version 7 from where the node says.
        let first = rank.saturating_sub(shape.len());
        let first = match usize::try_from(node.int("axis", -1)) {
            Ok(axis) if self.opset < 7 && node.int("broadcast", 0) != 0 => axis,
            _ => first,
        };
        let fits =
            |(i, n): (usize, &usize)| *n == 1 || (*n == channels && i.checked_add(first) == Some(axis));
        if shape.len() > rank || !shape.iter().enumerate().all(fits) {
            let expected = format!("one value, or one for each of {channels} channels");
            return Err(node.problem("constant", format!("of shape {shape:?}"), expected));
        }
        let values = self.values.read(&constant.flattened(), Use::Vector)?;
        let values = self.in_order(values)?;
        let (scale, shift): (Each, Each) = match (node.op.as_str(), at) {
            ("Add", _) => (|_| 1.0, |c| c),
            ("Sub", 1) => (|_| 1.0, |c| -c),
            ("Sub", _) => (|_| -1.0, |c| c),
            ("Mul", _) => (|c| c, |_| 0.0),
            (_, 1) => (|c| 1.0 / c, |_| 0.0),
            _ => return Err(node.problem("divisor", "computed", "a constant")),
        };
        // What is not one value a channel in the file is made so here.
        self.values.repeat(2 * channels - values.len())?;
        let each = |f: Each| -> Tensor {
            let of = |c: usize| values.data()[if values.len() == 1 { 0 } else { c }];
            Tensor::vector((0..channels).map(|c| f(of(c))).collect())
        };
        if let (true, Some(bias)) = (node.op == "Add", self.missing_bias()) {
            *bias = Some(each(shift));
            return Ok(());
        }
        self.push(&node.name, Op::Affine { scale: each(scale), shift: each(shift) })
    }

    /// The bias of the last layer, if that may have one and has none: exporters write `MatMul` and `Add`.
    fn missing_bias(&mut self) -> Option<&mut Option<Tensor>> {
        match &mut self.layers.last_mut()?.op {
            Op::Dense { bias, .. } | Op::Conv { bias, .. } if bias.is_none() => Some(bias),
            _ => None,
        }
    }

    /// Values of a vector that may be a flattened NCHW map, in the graph's order.
    pub(super) fn in_order(&mut self, values: Tensor) -> Result<Tensor, Problem> {
        let Form::Flat(Some(Shape { height, width, channels })) = self.form else { return Ok(values) };
        if values.len() != height * width * channels {
            return Ok(values);
        }
        self.values.repeat(values.len())?;
        let area = height * width;
        let from = |i: usize| values.data()[i % channels * area + i / channels];
        Ok(Tensor::vector((0..values.len()).map(from).collect()))
    }
}

fn scaled(mut tensor: Tensor, factor: f32) -> Tensor {
    if factor != 1.0 {
        tensor.data_mut().iter_mut().for_each(|v| *v *= factor);
    }
    tensor
}
