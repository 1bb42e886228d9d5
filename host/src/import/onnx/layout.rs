//! Operators that move no value: in which order the values lie is kept in mind, and used where weights meet them.
//!
//! ```text
//! [n][c][h][w] ─Transpose─ [n][h][w][c]       [n][c][h][w] ─Flatten─► [n][c·h·w], channel by channel
//! [n][c][1][1] ─Squeeze, Reshape, Flatten─► [n][c]
//! ```

use super::chain::{Chain, Form};
use super::model::Node;
use super::shapes;
use crate::graph::{ActivationShape, Op, Shape};
use crate::import::Problem;

/// The batch among the axes of a shape: no length that an axis can have.
const BATCH: usize = usize::MAX;

impl Chain {
    pub(super) fn flatten(&mut self, node: &Node) -> Result<(), Problem> {
        let axis = node.int("axis", 1);
        let rank = self.form.channel_axis().1;
        if shapes::positions(&[axis], rank) != Some(vec![1]) {
            return Err(node.problem("axis", axis, 1));
        }
        self.vectorize(node)
    }

    /// What there is as a vector.
    fn vectorize(&mut self, node: &Node) -> Result<(), Problem> {
        if let ActivationShape::Map(map) = self.shape {
            self.push(&node.name, Op::Flatten)?;
            let by_channel = self.form == Form::Nchw && map.height * map.width > 1;
            self.form = Form::Flat(by_channel.then_some(map));
        } else if !matches!(self.form, Form::Flat(_)) {
            self.form = Form::Flat(None);
        }
        Ok(())
    }

    /// To a vector, or to the same axes with others of length 1 among them.
    pub(super) fn reshape(&mut self, node: &Node) -> Result<(), Problem> {
        let target = match node.input(1) {
            Some(name) => self.values.ints.get(name).map(|ints| ints.values.clone()),
            None => node.ints("shape").map(|list| list.iter().map(|n| Some(*n)).collect()),
        };
        let Some(target) = target else {
            return Err(node.problem("shape", "not a constant", "whole numbers, or computed from a shape"));
        };
        let axes = self.resolve(&target, node.int("allowzero", 0) != 0);
        if axes.is_some_and(|axes| self.becomes(node, &axes).is_ok()) {
            return Ok(());
        }
        let shown: Vec<String> =
            target.iter().map(|n| n.map_or_else(|| "?".into(), |n| n.to_string())).collect();
        let expected = format!("[-1, {}]", self.shape.len());
        Err(self.misfit(node.problem("shape", format!("[{}]", shown.join(", ")), expected)))
    }

    /// Axes behind the batch that `target` means; `None` if it does not fit.
    fn resolve(&self, target: &[Option<i64>], zero_is_zero: bool) -> Option<Vec<usize>> {
        let (batch, rest) = target.split_first()?;
        if zero_is_zero && target.contains(&Some(0)) {
            return None;
        }
        // The batch, as it is written: unknown, what is left, copied, or the number that the file says.
        let is_batch = match batch {
            None | Some(-1..=1) => true,
            Some(n) => self.batch == usize::try_from(*n).ok(),
        };
        let rest: Vec<i64> = rest.iter().copied().collect::<Option<_>>()?;
        if !is_batch || (*batch == Some(-1) && rest.contains(&-1)) {
            return None;
        }
        // Behind a placeholder of 1 the axes have their positions.
        let mut shape: Vec<usize> = self.axes().iter().map(|n| n.unwrap_or(1)).collect();
        shape[0] = 1;
        let target: Vec<i64> = std::iter::once(1).chain(rest).collect();
        shapes::reshaped(&shape, &target).map(|axes| axes[1..].to_vec())
    }

    /// Axes of length 1 that come or go.
    pub(super) fn squeeze(&mut self, node: &Node) -> Result<(), Problem> {
        let axes = self.integers(node, 1, "axes")?;
        let shape: Vec<usize> = self.axes().iter().map(|n| n.unwrap_or(BATCH)).collect();
        let becomes = match (node.op.as_str(), &axes) {
            ("Squeeze", axes) => shapes::squeezed(&shape, axes.as_deref()),
            (_, Some(axes)) => shapes::unsqueezed(&shape, axes),
            (_, None) => None,
        };
        match becomes.as_deref() {
            Some([BATCH, rest @ ..]) => self.becomes(node, rest),
            _ => {
                let found = axes.map_or_else(|| "missing".into(), |axes| format!("{axes:?}"));
                Err(node.problem("axes", found, format!("axes of length 1 of [?, {}]", list(&shape[1..]))))
            }
        }
    }

    /// The same values in the same order, with these axes behind the batch.
    fn becomes(&mut self, node: &Node, axes: &[usize]) -> Result<(), Problem> {
        let known = |form: &Form| match (form, self.shape) {
            (Form::Nchw, ActivationShape::Map(s)) => axes == [s.channels, s.height, s.width],
            (Form::Nhwc, ActivationShape::Map(s)) => axes == [s.height, s.width, s.channels],
            (Form::Nc11, ActivationShape::Vector(n)) => axes == [n, 1, 1],
            (Form::N11c, ActivationShape::Vector(n)) => axes == [1, 1, n],
            _ => false,
        };
        // One channel, or one pixel: both orders are one. tf2onnx writes such a Transpose as a Reshape.
        let is_one_order = match (self.form, self.shape) {
            (_, ActivationShape::Map(Shape { height, width, channels })) => {
                channels == 1 || height * width == 1
            }
            (form, _) => !matches!(form, Form::Flat(Some(_))),
        };
        let forms = [self.form, Form::Nchw, Form::Nhwc, Form::Nc11, Form::N11c];
        let form = forms.into_iter().find(known).filter(|form| *form == self.form || is_one_order);
        if let Some(form) = form {
            self.form = form;
            return Ok(());
        }
        if axes == [self.shape.len()] {
            return self.vectorize(node);
        }
        let expected = format!("[?, {}], or the axes of a map", self.shape.len());
        Err(node.problem("output", format!("of shape [?, {}]", list(axes)), expected))
    }

    pub(super) fn transpose(&mut self, node: &Node) -> Result<(), Problem> {
        let perm = node.ints("perm").unwrap_or(&[]);
        self.form = match (self.form, perm) {
            (Form::Flat(_), [0, 1]) => self.form,
            (form, [0, 1, 2, 3]) if !matches!(form, Form::Flat(_)) => form,
            (Form::Nchw, [0, 2, 3, 1]) => Form::Nhwc,
            (Form::Nhwc, [0, 3, 1, 2]) => Form::Nchw,
            (Form::Nc11, [0, 2, 3, 1]) => Form::N11c,
            (Form::N11c, [0, 3, 1, 2]) => Form::Nc11,
            (form, _) => {
                let expected = match form {
                    Form::Nchw | Form::Nc11 => "[0, 2, 3, 1], NCHW to NHWC",
                    Form::Nhwc | Form::N11c => "[0, 3, 1, 2], NHWC to NCHW",
                    Form::Flat(_) => "[0, 1], as its input is a vector",
                };
                return Err(node.problem("perm", format!("{perm:?}"), expected));
            }
        };
        Ok(())
    }
}

fn list(axes: &[usize]) -> String {
    axes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
