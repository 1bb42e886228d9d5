//! What each operator does, as layers.

use super::chain::{Chain, Form};
use super::error::OnnxProblem;
use super::model::Node;
use super::values::{Constant, Use};
use crate::graph::{ActivationShape, Op, Padding, Shape, Tensor};
use crate::import::Problem;
use crate::import::stored::Dense;

/// What becomes of a constant.
type Each = fn(f32) -> f32;

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
        let expected = match (self.padded.take(), height) {
            (None, 3) => [1; 4],
            (Some(pad), 1) => return Err(node.problem("filter behind a Pad", pad, "3x3")),
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
        // A float in the file: 1e-5 there is not quite 1e-5.
        let epsilon = f64::from(node.float("epsilon", 1e-5));
        self.push(&node.name, Op::BatchNorm { gamma, beta, mean: mean?, variance: variance?, epsilon })
    }

    pub(super) fn clip(&mut self, node: &Node) -> Result<(), Problem> {
        let mut bound = |i: usize, attribute: &str, default: f32| -> Result<f32, Problem> {
            match node.input(i) {
                Some(name) => match self.values.constants.get(name).cloned() {
                    Some(constant) => {
                        let values = self.values.read(&constant, Use::Vector)?;
                        Ok(values.data().first().copied().unwrap_or(default))
                    }
                    None => Err(node.problem("bound", format!("`{name}`"), "a constant")),
                },
                None => Ok(node.float(attribute, default)),
            }
        };
        let (min, max) = (bound(1, "min", f32::MIN)?, bound(2, "max", f32::MAX)?);
        if min != 0.0 || max < f32::MAX {
            return Err(node.problem("range", format!("{min:?} to {max:?}"), "0 to no bound (ReLU)"));
        }
        self.push(&node.name, Op::Relu)
    }

    pub(super) fn max_pool(&mut self, node: &Node) -> Result<(), Problem> {
        let map = self.map(node, Form::Nchw)?;
        let kernel = node.ints("kernel_shape").unwrap_or(&[]);
        if kernel != [2, 2] {
            return Err(node.problem("kernel_shape", format!("{kernel:?}"), "[2, 2]"));
        }
        let stride = match node.ints("strides").unwrap_or(&[1, 1]) {
            [1, 1] => 1,
            [2, 2] => 2,
            other => return Err(node.problem("strides", format!("{other:?}"), "[1, 1] or [2, 2]")),
        };
        let dilations = node.ints("dilations").unwrap_or(&[1, 1]);
        if dilations != [1, 1] {
            return Err(node.problem("dilations", format!("{dilations:?}"), "[1, 1]"));
        }
        let pads = node.ints("pads").unwrap_or(&[0; 4]).to_vec();
        let is_ceil = node.int("ceil_mode", 0) != 0;
        // Rows and columns that come out, as the operator's specification has it.
        let sides = [(map.height, 0), (map.width, 1)].map(|(n, axis)| {
            let end = pads.get(axis + 2).copied().unwrap_or(0).clamp(0, 1) as usize;
            let span = (n + end).saturating_sub(2);
            if is_ceil { span.div_ceil(stride) + 1 } else { span / stride + 1 }
        });
        let same = [map.height.div_ceil(stride), map.width.div_ceil(stride)];
        let valid = [map.height, map.width].map(|n| n.saturating_sub(2) / stride + 1);
        let padding = match node.text("auto_pad").unwrap_or("NOTSET") {
            "VALID" => Padding::Valid,
            "SAME_UPPER" => Padding::Same,
            "NOTSET" if matches!(pads[..], [0, 0, 0 | 1, 0 | 1]) && sides == valid => Padding::Valid,
            "NOTSET" if matches!(pads[..], [0, 0, 0 | 1, 0 | 1]) && sides == same => Padding::Same,
            "NOTSET" => {
                let found = format!("{pads:?} for a {map} map{}", if is_ceil { ", rounded up" } else { "" });
                return Err(node.problem("pads", found, "none, or by one below and to the right"));
            }
            other => return Err(node.problem("auto_pad", other, "NOTSET, VALID or SAME_UPPER")),
        };
        self.push(&node.name, Op::MaxPool { stride, padding })
    }

    pub(super) fn global_average_pool(&mut self, node: &Node) -> Result<(), Problem> {
        if self.form != Form::Nc11 {
            self.map(node, Form::Nchw)?;
            self.push(&node.name, Op::GlobalAvgPool)?;
            self.form = Form::Nc11;
        }
        Ok(())
    }

    /// Over the whole map, which is its mean; or over single values, which is nothing.
    pub(super) fn average_pool(&mut self, node: &Node) -> Result<(), Problem> {
        let kernel = node.ints("kernel_shape").unwrap_or(&[]);
        let strides = node.ints("strides").unwrap_or(&[1, 1]);
        if kernel == [1, 1] && strides == [1, 1] {
            return Ok(());
        }
        let map = self.map(node, Form::Nchw)?;
        if kernel != [map.height as i64, map.width as i64] {
            let expected = format!("[{}, {}], the whole map", map.height, map.width);
            return Err(node.problem("kernel_shape", format!("{kernel:?}"), expected));
        }
        let pads = node.ints("pads").unwrap_or(&[0; 4]);
        if pads != [0; 4] || matches!(node.text("auto_pad"), Some("SAME_UPPER" | "SAME_LOWER")) {
            return Err(node.problem("pads", format!("{pads:?}"), "[0, 0, 0, 0]"));
        }
        self.push(&node.name, Op::GlobalAvgPool)?;
        self.form = Form::Nc11;
        Ok(())
    }

    pub(super) fn reduce_mean(&mut self, node: &Node) -> Result<(), Problem> {
        let (expected, kept) = match self.form {
            Form::Nchw => ([2, 3], Form::Nc11),
            Form::Nhwc => ([1, 2], Form::N11c),
            _ => return Err(node.problem("input", "a vector", "a map")),
        };
        let given = self.integers(node, 1, "axes")?;
        let mut axes: Vec<i64> = given.unwrap_or_default().iter().map(|a| a.rem_euclid(4)).collect();
        axes.sort_unstable();
        if axes != expected {
            return Err(node.problem("axes", format!("{axes:?}"), format!("{expected:?}, height and width")));
        }
        self.push(&node.name, Op::GlobalAvgPool)?;
        self.form = if node.int("keepdims", 1) != 0 { kept } else { Form::Flat(None) };
        Ok(())
    }

    pub(super) fn flatten(&mut self, node: &Node) -> Result<(), Problem> {
        let axis = node.int("axis", 1);
        let rank = self.form.channel_axis().1 as i64;
        if axis.checked_rem_euclid(rank) != Some(1) {
            return Err(node.problem("axis", axis, 1));
        }
        self.to_vector(node)
    }

    /// What there is as a vector.
    fn to_vector(&mut self, node: &Node) -> Result<(), Problem> {
        if let ActivationShape::Map(map) = self.shape {
            self.push(&node.name, Op::Flatten)?;
            let by_channel = self.form == Form::Nchw && map.height * map.width > 1;
            self.form = Form::Flat(by_channel.then_some(map));
        } else if !matches!(self.form, Form::Flat(_)) {
            self.form = Form::Flat(None);
        }
        Ok(())
    }

    /// A map to a vector, or nothing at all.
    pub(super) fn reshape(&mut self, node: &Node) -> Result<(), Problem> {
        let target = match node.input(1) {
            Some(name) => self.values.ints.get(name).map(|ints| ints.values.clone()),
            None => node.ints("shape").map(|list| list.iter().map(|n| Some(*n)).collect()),
        };
        let Some(target) = target else {
            return Err(node.problem("shape", "not a constant", "whole numbers, or computed from a shape"));
        };
        let axes = self.axes();
        let len = self.shape.len() as i64;
        // The batch, as it is written: unknown, copied, one, or whatever is left.
        let is_batch = |n: &Option<i64>| matches!(n, None | Some(-1..=1));
        let is_axis = |(i, n): (usize, &Option<i64>)| match n {
            Some(0) => true,
            Some(n) => axes.get(i).copied().flatten() == usize::try_from(*n).ok(),
            None => false,
        };
        let n_open = target.iter().filter(|n| **n == Some(-1)).count();
        let rest = target.get(1..).unwrap_or(&[]);
        let is_same = target.len() == axes.len() && rest.iter().enumerate().all(|(i, n)| is_axis((i + 1, n)));
        let is_vector = matches!(rest, [n] if *n == Some(len) || (*n == Some(-1) && n_open == 1));
        if n_open > 1 || !target.first().is_some_and(is_batch) || !(is_same || is_vector) {
            let shown: Vec<String> =
                target.iter().map(|n| n.map_or_else(|| "?".into(), |n| n.to_string())).collect();
            let expected = format!("[-1, {len}]");
            return Err(node.problem("shape", format!("[{}]", shown.join(", ")), expected));
        }
        if is_same { Ok(()) } else { self.to_vector(node) }
    }

    /// Axes of length 1 taken from a vector.
    pub(super) fn squeeze(&mut self, node: &Node) -> Result<(), Problem> {
        let one_by_one = matches!(self.shape, ActivationShape::Map(s) if s.height * s.width == 1);
        let expected: &[i64] = match self.form {
            Form::Nc11 => &[2, 3],
            Form::N11c => &[1, 2],
            Form::Nchw if one_by_one => &[2, 3],
            Form::Nhwc if one_by_one => &[1, 2],
            _ => return Err(node.problem("input", self.shape, "a 1x1 map or an average")),
        };
        let axes = self.integers(node, 1, "axes")?.unwrap_or_else(|| expected.to_vec());
        let mut sorted: Vec<i64> = axes.iter().map(|a| a.rem_euclid(4)).collect();
        sorted.sort_unstable();
        if node.op != "Squeeze" || sorted != expected {
            return Err(node.problem("axes", format!("{axes:?}"), format!("{expected:?}")));
        }
        self.to_vector(node)
    }

    pub(super) fn transpose(&mut self, node: &Node) -> Result<(), Problem> {
        let perm = node.ints("perm").unwrap_or(&[]);
        self.form = match (self.form, perm) {
            (form, [0, 1, 2, 3] | [0, 1]) => form,
            (Form::Nchw, [0, 2, 3, 1]) => Form::Nhwc,
            (Form::Nhwc, [0, 3, 1, 2]) => Form::Nchw,
            (Form::Nc11, [0, 2, 3, 1]) => Form::N11c,
            (Form::N11c, [0, 3, 1, 2]) => Form::Nc11,
            (Form::Nchw | Form::Nc11, _) => {
                return Err(node.problem("perm", format!("{perm:?}"), "[0, 2, 3, 1], NCHW to NHWC"));
            }
            _ => return Err(node.problem("perm", format!("{perm:?}"), "[0, 3, 1, 2], NHWC to NCHW")),
        };
        Ok(())
    }

    pub(super) fn gemm(&mut self, node: &Node) -> Result<(), Problem> {
        if node.int("transA", 0) != 0 {
            return Err(node.problem("transA", node.int("transA", 0), 0));
        }
        let order = if node.int("transB", 0) != 0 { Dense::OutIn } else { Dense::InOut };
        let mut weights = self.dense_weights(node, order)?;
        let mut bias = self.optional_vector(node, 2, "bias")?;
        for (name, tensor) in [("alpha", Some(&mut weights)), ("beta", bias.as_mut())] {
            let factor = node.float(name, 1.0);
            if let Some(tensor) = tensor.filter(|_| factor != 1.0) {
                tensor.data_mut().iter_mut().for_each(|v| *v *= factor);
            }
        }
        let units = weights.shape().get(1).copied().unwrap_or(0);
        let bias =
            bias.map(|bias| if bias.len() == 1 { Tensor::vector(vec![bias.data()[0]; units]) } else { bias });
        self.push(&node.name, Op::Dense { weights, bias })?;
        self.form = Form::Flat(None);
        Ok(())
    }

    pub(super) fn matmul(&mut self, node: &Node) -> Result<(), Problem> {
        if node.input(0) != Some(self.current.as_str()) {
            return Err(node.problem("first input", "a constant", "what was computed"));
        }
        let weights = self.dense_weights(node, Dense::InOut)?;
        self.push(&node.name, Op::Dense { weights, bias: None })?;
        self.form = Form::Flat(None);
        Ok(())
    }

    fn dense_weights(&mut self, node: &Node, order: Dense) -> Result<Tensor, Problem> {
        let Form::Flat(map) = self.form else {
            return Err(node.problem("input", format!("a {} map", self.shape), "a vector"));
        };
        let weights = self.weights(node, 1, 2, "weights")?;
        let inputs = weights.stored.shape[usize::from(order == Dense::OutIn)];
        if inputs != self.shape.len() {
            let expected = format!("{}, as its input has", self.shape.len());
            return Err(node.problem("number of the weights' inputs", inputs, expected));
        }
        self.values.read(&weights, Use::Dense(order, map))
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
        // Shapes are matched from the last axis on.
        let is_channel = |i: usize| i + rank == axis + shape.len();
        let fits = |(i, n): (usize, &usize)| *n == 1 || (*n == channels && is_channel(i));
        if shape.len() > rank || !shape.iter().enumerate().all(fits) {
            let expected = format!("one value, or one for each of {channels} channels");
            return Err(node.problem("constant", format!("of shape {shape:?}"), expected));
        }
        let flat = constant.flattened();
        let values = self.values.read(&flat, Use::Vector)?;
        let values = self.in_order(values);
        let each = |f: Each| -> Tensor {
            let of = |c: usize| values.data()[if values.len() == 1 { 0 } else { c }];
            Tensor::vector((0..channels).map(|c| f(of(c))).collect())
        };
        if let (true, Some(bias)) = (node.op == "Add", self.missing_bias()) {
            *bias = Some(each(|c| c));
            return Ok(());
        }
        let (scale, shift): (Each, Each) = match (node.op.as_str(), at) {
            ("Add", _) => (|_| 1.0, |c| c),
            ("Sub", 1) => (|_| 1.0, |c| -c),
            ("Sub", _) => (|_| -1.0, |c| c),
            ("Mul", _) => (|c| c, |_| 0.0),
            (_, 1) => (|c| 1.0 / c, |_| 0.0),
            _ => return Err(node.problem("divisor", "computed", "a constant")),
        };
        self.push(&node.name, Op::Affine { scale: each(scale), shift: each(shift) })
    }

    /// The bias of the last layer, if that may have one and has none: exporters write `MatMul` and `Add`.
    fn missing_bias(&mut self) -> Option<&mut Option<Tensor>> {
        match &mut self.layers.last_mut()?.op {
            Op::Dense { bias, .. } | Op::Conv { bias, .. } if bias.is_none() => Some(bias),
            _ => None,
        }
    }

    /// A padding by one on each side, which becomes part of the next convolution.
    pub(super) fn pad(&mut self, node: &Node) -> Result<(), Problem> {
        let expected = match self.form {
            Form::Nchw => [0, 0, 1, 1, 0, 0, 1, 1],
            Form::Nhwc => [0, 1, 1, 0, 0, 1, 1, 0],
            _ => return Err(node.problem("input", "a vector", "a map")),
        };
        let pads = self.integers(node, 1, "pads")?.unwrap_or_default();
        if pads != expected {
            let expected = format!("{expected:?}, one on each side of the map");
            return Err(node.problem("pads", format!("{pads:?}"), expected));
        }
        let mode = node.text("mode").unwrap_or("constant");
        let value = match node.input(2).map(|name| self.values.constants.get(name).cloned()) {
            Some(Some(constant)) => {
                self.values.read(&constant, Use::Vector)?.data().first().copied().unwrap_or(0.0)
            }
            Some(None) => return Err(node.problem("value", "computed", 0)),
            None => node.float("value", 0.0),
        };
        if mode != "constant" || value != 0.0 {
            return Err(node.problem("mode", format!("{mode}, value {value}"), "constant, value 0"));
        }
        self.padded = Some(node.place.clone());
        Ok(())
    }

    pub(super) fn dropout(&mut self, node: &Node) -> Result<(), Problem> {
        let ratio = match node.input(1).and_then(|name| self.values.constants.get(name)).cloned() {
            Some(constant) => {
                self.values.read(&constant, Use::Vector)?.data().first().copied().unwrap_or(0.5)
            }
            None => node.float("ratio", 0.5),
        };
        self.push(&node.name, Op::Dropout { rate: ratio.clamp(0.0, 1.0) })
    }

    pub(super) fn softmax(&mut self, node: &Node) -> Result<(), Problem> {
        let Form::Flat(_) = self.form else {
            return Err(node.problem("input", format!("a {} map", self.shape), "a vector"));
        };
        let default = if self.opset < 13 { 1 } else { -1 };
        let axis = node.int("axis", default);
        if !matches!(axis, 1 | -1) {
            return Err(node.problem("axis", axis, "1"));
        }
        self.push(&node.name, Op::Softmax)
    }

    pub(super) fn cast(&mut self, node: &Node) -> Result<(), Problem> {
        match node.int("to", 1) {
            1 | 10 | 11 | 16 => Ok(()),
            other => Err(node.problem("to", format!("type {other}"), "FLOAT, FLOAT16, BFLOAT16 or DOUBLE")),
        }
    }

    /// The map there is, which must have `form`.
    fn map(&self, node: &Node, form: Form) -> Result<Shape, Problem> {
        match self.shape {
            ActivationShape::Map(map) if self.form == form => Ok(map),
            ActivationShape::Map(_) => Err(node.problem("input", "of order NHWC", "NCHW")),
            ActivationShape::Vector(n) => {
                Err(node.problem("input", format!("a vector of {n} values"), "a map"))
            }
        }
    }

    /// Input `i`, weights of `axes` axes.
    fn weights(&self, node: &Node, i: usize, axes: usize, what: &'static str) -> Result<Constant, Problem> {
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
    fn optional_vector(
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
            true => Ok(self.in_order(values)),
            false => Err(node.problem(
                what,
                format!("{} values", values.len()),
                format!("{channels}, one a channel"),
            )),
        }
    }

    /// Values of a vector that may be a flattened NCHW map, in the graph's order.
    fn in_order(&self, values: Tensor) -> Tensor {
        let Form::Flat(Some(Shape { height, width, channels })) = self.form else { return values };
        if values.len() != height * width * channels {
            return values;
        }
        let area = height * width;
        let from = |i: usize| values.data()[i % channels * area + i / channels];
        Tensor::vector((0..values.len()).map(from).collect())
    }

    /// A list in input `i` or an attribute; `None` if the node has neither.
    fn integers(&self, node: &Node, i: usize, attribute: &'static str) -> Result<Option<Vec<i64>>, Problem> {
        match node.input(i) {
            Some(name) => match self.values.ints.get(name).and_then(super::values::Ints::known) {
                Some(list) => Ok(Some(list)),
                None => Err(OnnxProblem::Node {
                    node: node.place.as_str().into(),
                    what: attribute,
                    found: format!("`{name}`").into(),
                    expected: "whole numbers in the file".into(),
                }
                .into()),
            },
            None => Ok(node.ints(attribute).map(<[i64]>::to_vec)),
        }
    }
}
