//! What each operator does, as layers.

use super::chain::Chain;
use super::constants::Use;
use super::error::TfliteProblem;
use super::schema::{Operator, code};
use crate::graph::{ActivationShape, Op, Padding, Shape, Tensor};
use crate::import::Problem;

/// Axes of a shape, -1 for any length.
type Axes = Vec<i64>;
/// What becomes of a constant.
type Each = fn(f32) -> f32;

impl Chain {
    pub(super) fn conv(&mut self, op: &Operator) -> Result<(), Problem> {
        let stored = self.weights(op, 1, 4, "filter")?;
        let [_, height, width, _] = stored.shape[..] else { return Ok(()) };
        if !matches!((height, width), (1, 1) | (3, 3)) {
            return Err(op.problem("filter", format!("{height}x{width}"), "3x3 or 1x1"));
        }
        let is_same = self.is_same(op)?;
        match (self.padded.take(), is_same, height) {
            (None, true, _) | (None, false, 1) | (Some(_), false, 3) => {}
            (None, false, _) => return Err(op.problem("padding", "VALID", "SAME")),
            (Some(_), ..) => {
                let found = format!("{height}x{width} {}", if is_same { "SAME" } else { "VALID" });
                return Err(op.problem("filter and padding behind a PAD", found, "3x3 VALID"));
            }
        }
        for (option, what) in [(1, "stride"), (4, "dilation")] {
            let (h, w) = self.sides(op, option, 1, what)?;
            if (h, w) != (1, 1) {
                return Err(op.problem(what, format!("{h}x{w}"), "1x1"));
            }
        }
        let weights = self.read(&stored, Use::Filter)?;
        let bias = self.bias(op)?;
        self.push_with_activation(op, Op::Conv { weights, bias }, 3)
    }

    pub(super) fn max_pool(&mut self, op: &Operator) -> Result<(), Problem> {
        let (height, width) = self.sides(op, 3, 0, "filter of a pool")?;
        if (height, width) != (2, 2) {
            return Err(op.problem("filter", format!("{height}x{width}"), "2x2"));
        }
        let stride = match self.sides(op, 1, 0, "stride")? {
            (1, 1) => 1,
            (2, 2) => 2,
            (h, w) => return Err(op.problem("stride", format!("{h}x{w}"), "1x1 or 2x2")),
        };
        let padding = if self.is_same(op)? { Padding::Same } else { Padding::Valid };
        self.push_with_activation(op, Op::MaxPool { stride, padding }, 5)
    }

    pub(super) fn relu(&mut self, op: &Operator) -> Result<(), Problem> {
        self.push(&op.name, Op::Relu)
    }

    pub(super) fn softmax(&mut self, op: &Operator) -> Result<(), Problem> {
        let beta = self.f32_option(op, 0, "beta")?;
        if beta != 1.0 {
            return Err(op.problem("beta", beta, 1));
        }
        self.push(&op.name, Op::Softmax)
    }

    /// Over the whole map, which is its mean.
    pub(super) fn average_pool(&mut self, op: &Operator) -> Result<(), Problem> {
        let map = self.map(op)?;
        let (height, width) = self.sides(op, 3, 0, "filter of a pool")?;
        let side = |n: i32| usize::try_from(n).unwrap_or(0);
        if (side(height), side(width)) != (map.height, map.width) {
            let expected = format!("{}x{}, the whole map", map.height, map.width);
            return Err(op.problem("filter", format!("{height}x{width}"), expected));
        }
        let (h, w) = self.sides(op, 1, 0, "stride")?;
        // A smaller stride would put further windows, which hang over the border, beside the one.
        if self.is_same(op)? && (side(h) < map.height || side(w) < map.width) {
            return Err(op.problem("padding", format!("SAME with stride {h}x{w}"), "VALID"));
        }
        self.push_with_activation(op, Op::GlobalAvgPool, 5)
    }

    pub(super) fn mean(&mut self, op: &Operator) -> Result<(), Problem> {
        self.map(op)?;
        let axes = self.integers(op, 1)?;
        let mut sorted: Vec<i64> =
            axes.clone().unwrap_or_default().iter().map(|axis| axis.rem_euclid(4)).collect();
        sorted.sort_unstable();
        if sorted != [1, 2] {
            let found = axes.map_or_else(|| "not in the file".to_owned(), |axes| format!("{axes:?}"));
            return Err(op.problem("axes", found, "[1, 2], height and width"));
        }
        self.push(&op.name, Op::GlobalAvgPool)
    }

    fn map(&self, op: &Operator) -> Result<Shape, Problem> {
        match self.shape {
            ActivationShape::Map(map) => Ok(map),
            ActivationShape::Vector(n) => {
                Err(op.problem("input", format!("a vector of {n} values"), "a map"))
            }
        }
    }

    pub(super) fn dense(&mut self, op: &Operator) -> Result<(), Problem> {
        let stored = self.weights(op, 1, 2, "weights")?;
        let format = self.u8_option(op, 1, "weights format")?;
        if format != 0 {
            return Err(op.problem("weights format", format!("number {format}"), "DEFAULT"));
        }
        if matches!(self.shape, ActivationShape::Map(_)) {
            self.push(&format!("{}_flatten", op.name), Op::Flatten)?;
        }
        let weights = self.read(&stored, Use::Dense)?;
        let bias = self.bias(op)?;
        self.push_with_activation(op, Op::Dense { weights, bias }, 0)
    }

    /// A padding by one on each side, which becomes part of the next convolution.
    pub(super) fn pad(&mut self, op: &Operator) -> Result<(), Problem> {
        let paddings = self.integers(op, 1)?;
        if paddings.as_deref() != Some(&[0, 0, 1, 1, 1, 1, 0, 0]) {
            let found = paddings.map_or_else(|| "not in the file".to_owned(), |p| format!("{p:?}"));
            return Err(op.problem(
                "padding",
                found,
                "[0, 0, 1, 1, 1, 1, 0, 0], one on each side of the map",
            ));
        }
        self.padded = Some(op.place.clone());
        Ok(())
    }

    /// Something with a constant, a value or one a channel.
    pub(super) fn affine(&mut self, op: &Operator) -> Result<(), Problem> {
        let &[a, b] = op.inputs.as_slice() else {
            return Err(op.problem("number of inputs", op.inputs.len(), 2));
        };
        let constant = match (a == self.current, b == self.current) {
            (true, false) => 1,
            (false, true) => 0,
            (true, true) => {
                return Err(TfliteProblem::Joins { operator: op.place.clone(), found: 2 }.into());
            }
            (false, false) => return self.takes_current(op),
        };
        let index = op.inputs[constant];
        if !self.f16.contains_key(&index) && self.model.tensor(index)?.data.is_none() {
            return Err(TfliteProblem::Joins { operator: op.place.clone(), found: 2 }.into());
        }
        let Some(stored) = self.stored(op, constant)? else { return self.takes_current(op) };
        let channels = self.shape.channels();
        let n = stored.shape.last().copied().unwrap_or(1);
        let outer = stored.shape.len().saturating_sub(1);
        if stored.shape[..outer].iter().any(|n| *n != 1) || (n != 1 && n != channels) {
            let expected = format!("one value, or one for each of {channels} channels");
            return Err(op.problem("constant", format!("of shape {:?}", stored.shape), expected));
        }
        let values = self.read(&stored, Use::Vector)?;
        // One value for as many channels as the file cares to state.
        self.constants.expand(2 * 4 * channels as u64, self.model.flat().len())?;
        let each = |f: Each| -> Tensor {
            let of = |channel: usize| values.data()[if n == 1 { 0 } else { channel }];
            Tensor::vector((0..channels).map(|channel| f(of(channel))).collect())
        };
        let (scale, shift): (Each, Each) = match (op.code, constant) {
            (code::ADD, _) => (|_| 1.0, |c| c),
            (code::SUB, 1) => (|_| 1.0, |c| -c),
            (code::SUB, _) => (|_| -1.0, |c| c),
            (code::MUL, _) => (|c| c, |_| 0.0),
            (_, 1) => (|c| 1.0 / c, |_| 0.0),
            _ => return Err(op.problem("divisor", "computed", "a constant")),
        };
        self.push_with_activation(op, Op::Affine { scale: each(scale), shift: each(shift) }, 0)
    }

    /// Axes that RESHAPE asks for, -1 for the one that is to be found: from its second input, else its options, else from
    /// what is said about its output.
    pub(super) fn target(&mut self, op: &Operator) -> Result<Axes, Problem> {
        let output = self.model.tensor(op.output)?;
        let stated =
            || (0..output.shape.len()).map(|i| if output.is_open(i) { -1 } else { output.shape[i].into() });
        match op.inputs.get(1) {
            Some(list) if self.shapes.contains(list) => return Ok(stated().collect()),
            Some(&list) if list >= 0 => {
                let axes = self.integers(op, 1)?;
                return axes.ok_or_else(|| op.problem("shape", "not in the file", "whole numbers"));
            }
            _ => {}
        }
        let new_shape = match op.options {
            Some(options) => self.model.flat().get_i32s(options, 0, 8, "new shape")?,
            None => Ok(Vec::new()),
        };
        match new_shape {
            Ok(axes) if axes.is_empty() => Ok(stated().collect()),
            Ok(axes) => Ok(axes.into_iter().map(i64::from).collect()),
            Err(len) => Err(op.problem("shape", format!("{len} axes"), "at most 8")),
        }
    }

    /// A map to a vector, or nothing at all.
    pub(super) fn squeeze(&mut self, op: &Operator) -> Result<(), Problem> {
        match self.shape {
            ActivationShape::Map(Shape { height: 1, width: 1, .. }) => self.push(&op.name, Op::Flatten),
            ActivationShape::Map(map) => Err(op.problem("input", format!("a {map} map"), "a 1x1 map")),
            ActivationShape::Vector(_) => Ok(()),
        }
    }

    /// A map to a vector, or nothing at all.
    pub(super) fn reshape(&mut self, op: &Operator) -> Result<(), Problem> {
        let target = self.target(op)?;
        let len = self.shape.len() as i64;
        let known = target.iter().filter(|n| **n != -1).try_fold(1i64, |p, n| p.checked_mul(*n));
        let n_open = target.iter().filter(|n| **n == -1).count();
        let axes: Option<Axes> = match (known, n_open) {
            (Some(known), 0) if known == len => Some(target.clone()),
            (Some(known), 1) if known > 0 && len % known == 0 => {
                Some(target.iter().map(|n| if *n == -1 { len / known } else { *n }).collect())
            }
            // Any number of pictures, and a map of any size: the converter says no more about what it computes.
            (Some(1), 2) if target.len() == 2 => Some(vec![1, len]),
            _ => None,
        };
        let of_one = axes.as_deref().map(|axes| {
            axes.split_first().filter(|(n, rest)| **n == 1 && !rest.is_empty()).map_or(axes, |(_, rest)| rest)
        });
        let is_vector = of_one.is_some_and(|axes| axes.iter().filter(|n| **n != 1).all(|n| *n == len));
        match self.shape {
            ActivationShape::Map(map)
                if of_one == Some(&[map.height as i64, map.width as i64, map.channels as i64]) =>
            {
                Ok(())
            }
            ActivationShape::Map(_) if is_vector => self.push(&op.name, Op::Flatten),
            ActivationShape::Vector(_) if is_vector => Ok(()),
            _ if self.is_resized => {
                Err(Problem::InputMismatch { found: self.input, expected: self.stated_input()? })
            }
            shape => {
                Err(op.problem("shape", format!("{target:?}"), format!("[1, {len}] or the same, {shape}")))
            }
        }
    }

    /// The picture that the file says.
    pub(super) fn stated_input(&mut self) -> Result<Shape, Problem> {
        let tensor = self.model.tensor(self.model.inputs.first().copied().unwrap_or(-1))?;
        let side = |i: usize| tensor.shape.get(i).and_then(|n| usize::try_from(*n).ok()).unwrap_or(0);
        Ok(Shape::new(side(1), side(2), side(3)))
    }
}
