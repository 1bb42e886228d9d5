//! Convolutions, normalization, activations, and how nodes get at their weights.
//!
//! ```text
//! Conv 3x3 of pads 1, or 1x1 of none ─► Conv, its filter OIHW ─► HWIO
//! Clip from 0 to nothing ─► Relu        BatchNormalization ─► BatchNorm
//! ```

use super::chain::{Chain, Form};
use super::model::Node;
use super::shapes;
use super::values::{Constant, Ints, Use};
use crate::graph::{ActivationShape, Op, Shape, Tensor};
use crate::import::Problem;

impl Chain {
    pub(super) fn conv(&mut self, node: &Node) -> Result<(), Problem> {
        self.map(node, Form::Nchw)?;
        let weights = self.weights(node, 1, 4, "filter")?;
        let &[_, inputs, height, width] = weights.stored.shape.as_slice() else { return Ok(()) };
        let group = node.int("group", 1);
        if group != 1 {
            return Err(node.problem("group", group, 1));
        }
        if (height, width) != (3, 3) && (height, width) != (1, 1) {
            return Err(node.problem("filter", format!("{height}x{width}"), "3x3 or 1x1"));
        }
        if inputs != self.shape.channels() {
            let expected = format!("{}, as its input has", self.shape.channels());
            return Err(node.problem("number of the filter's channels", inputs, expected));
        }
        for option in ["strides", "dilations"] {
            let found = node.ints(option).unwrap_or(&[1, 1]);
            if found != [1, 1] {
                return Err(node.problem(option, format!("{found:?}"), "[1, 1]"));
            }
        }
        let explicit = node.ints("pads").unwrap_or(&[0; 4]).to_vec();
        let pads = match node.text("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => explicit,
            "VALID" => vec![0; 4],
            // Of a filter of odd side at stride 1 both are the same.
            "SAME_UPPER" | "SAME_LOWER" => vec![i64::from(height == 3); 4],
            other => return Err(node.problem("auto_pad", other, "NOTSET, VALID, SAME_UPPER or SAME_LOWER")),
        };
        let kernel = node.ints("kernel_shape").unwrap_or(&[]);
        if !kernel.is_empty() && kernel != [height as i64, width as i64] {
            return Err(node.problem(
                "kernel_shape",
                format!("{kernel:?}"),
                format!("[{height}, {width}], as its filter has"),
            ));
        }
        let expected = match (self.padded.take(), height) {
            (None, 3) => [1; 4],
            (Some(padded), 3) if padded.pads == [1; 4] && padded.value == 0.0 => [0; 4],
            (Some(padded), 3) => {
                let found = format!("padded by {:?} with {:?}", padded.pads, padded.value);
                return Err(node.problem("input", found, "padded by [1, 1, 1, 1] with 0.0"));
            }
            (Some(padded), _) => return Err(node.problem("filter behind a Pad", padded.place, "3x3")),
            _ => [0; 4],
        };
        if pads != expected {
            return Err(node.problem("pads", format!("{pads:?}"), format!("{expected:?}")));
        }
        let bias = self.optional_vector(node, 2, "bias")?;
        let weights = self.values.read(&weights, Use::Filter)?;
        self.push(&node.name, Op::Conv { weights, bias })
    }

    pub(super) fn batch_norm(&mut self, node: &Node) -> Result<(), Problem> {
        if matches!(self.form, Form::Nhwc | Form::N11c) {
            return Err(node.problem("input", "of order NHWC", "NCHW"));
        }
        if node.int("training_mode", 0) != 0 || node.int("is_test", 1) != 1 {
            return Err(node.problem("training_mode", 1, 0));
        }
        if node.int("spatial", 1) != 1 {
            return Err(node.problem("spatial", node.int("spatial", 1), 1));
        }
        let [gamma, beta] = [(1, "scale"), (2, "bias")].map(|(i, what)| self.channel_vector(node, i, what));
        let [mean, variance] =
            [(3, "mean"), (4, "variance")].map(|(i, what)| self.channel_vector(node, i, what));
        let (gamma, beta) = (Some(gamma?), Some(beta?));
        // The nearest f32 to 1e-5 is meant to be 1e-5, as other formats have it.
        let epsilon = node.float("epsilon", 1e-5);
        let epsilon = epsilon.to_string().parse().unwrap_or(f64::from(epsilon));
        self.push(&node.name, Op::BatchNorm { gamma, beta, mean: mean?, variance: variance?, epsilon })
    }

    pub(super) fn clip(&mut self, node: &Node) -> Result<(), Problem> {
        let min = self.values.number(node, 1)?.unwrap_or_else(|| node.float("min", f32::MIN));
        let max = self.values.number(node, 2)?.unwrap_or_else(|| node.float("max", f32::MAX));
        match min == 0.0 && max >= f32::MAX {
            true => self.push(&node.name, Op::Relu),
            false => Err(node.problem("range", format!("{min:?} to {max:?}"), "0 to no bound (ReLU)")),
        }
    }

    pub(super) fn dropout(&mut self, node: &Node) -> Result<(), Problem> {
        let is_training = node.input(2).is_some_and(|name| {
            let flag = self.values.ints.get(name).and_then(|ints| ints.values.first().copied().flatten());
            flag != Some(0)
        });
        if is_training {
            return Err(node.problem("training_mode", "not known to be false", "false"));
        }
        let ratio = self.values.number(node, 1)?.unwrap_or_else(|| node.float("ratio", 0.5));
        self.push(&node.name, Op::Dropout { rate: ratio.clamp(0.0, 1.0) })
    }

    pub(super) fn softmax(&mut self, node: &Node) -> Result<(), Problem> {
        if let ActivationShape::Map(map) = self.shape {
            return Err(node.problem("input", format!("a {map} map"), "a vector"));
        }
        let (channel_axis, rank) = self.form.channel_axis();
        // Before version 13: over all values from this axis on, of which the others are single.
        let is_coerced = self.opset < 13;
        let axis = node.int("axis", if is_coerced { 1 } else { -1 });
        let fits = |at: &usize| *at == channel_axis || (is_coerced && (1..channel_axis).contains(at));
        match shapes::positions(&[axis], rank).as_deref() {
            Some([at]) if fits(at) => self.push(&node.name, Op::Softmax),
            _ => Err(node.problem("axis", axis, channel_axis)),
        }
    }

    pub(super) fn cast(&mut self, node: &Node) -> Result<(), Problem> {
        match node.int("to", 1) {
            1 | 10 | 11 | 16 => Ok(()),
            other => Err(node.problem("to", format!("type {other}"), "FLOAT, FLOAT16, BFLOAT16 or DOUBLE")),
        }
    }

    /// The map there is, which must have `form`.
    pub(super) fn map(&self, node: &Node, form: Form) -> Result<Shape, Problem> {
        match self.shape {
            ActivationShape::Map(map) if self.form == form => Ok(map),
            ActivationShape::Map(_) => Err(node.problem("input", "of order NHWC", "NCHW")),
            ActivationShape::Vector(n) => {
                Err(node.problem("input", format!("a vector of {n} values"), "a map"))
            }
        }
    }

    /// Input `i`, weights of `axes` axes.
    pub(super) fn weights(
        &self,
        node: &Node,
        i: usize,
        axes: usize,
        what: &'static str,
    ) -> Result<Constant, Problem> {
        let constant = node.input(i).and_then(|name| self.values.constants.get(name)).cloned();
        let constant = constant
            .ok_or_else(|| node.problem(what, "not in the file", "a tensor of f32, f16, bf16 or f64"))?;
        match constant.stored.shape.len() == axes {
            true => Ok(constant),
            false => {
                let found = format!("of shape {:?}", constant.stored.shape);
                Err(node.problem(what, found, format!("{axes} axes")))
            }
        }
    }

    /// Input `i`, a vector, if there is one.
    pub(super) fn optional_vector(
        &mut self,
        node: &Node,
        i: usize,
        what: &'static str,
    ) -> Result<Option<Tensor>, Problem> {
        let Some(name) = node.input(i) else { return Ok(None) };
        let Some(constant) = self.values.constants.get(name).cloned() else {
            return Err(node.problem(what, format!("`{name}`"), "weights in the file"));
        };
        let flat = constant.flattened();
        self.values.read(&flat, Use::Vector).map(Some)
    }

    /// Input `i`, one value a channel, in the graph's order.
    fn channel_vector(&mut self, node: &Node, i: usize, what: &'static str) -> Result<Tensor, Problem> {
        let values = self.optional_vector(node, i, what)?;
        let values = values.ok_or_else(|| node.problem(what, "missing", "one value a channel"))?;
        let channels = self.shape.channels();
        match values.len() == channels {
            true => self.in_order(values),
            false => Err(node.problem(
                what,
                format!("{} values", values.len()),
                format!("{channels}, one a channel"),
            )),
        }
    }

    /// A list in input `i` or an attribute; `None` if the node has neither.
    pub(super) fn integers(
        &self,
        node: &Node,
        i: usize,
        attribute: &'static str,
    ) -> Result<Option<Vec<i64>>, Problem> {
        let Some(name) = node.input(i) else { return Ok(node.ints(attribute).map(<[i64]>::to_vec)) };
        let list = self.values.ints.get(name).and_then(Ints::known);
        list.map(Some)
            .ok_or_else(|| node.problem(attribute, format!("`{name}`"), "whole numbers in the file"))
    }
}
