//! Nodes that take nothing from the picture: constants, weights in another shape, arithmetic on shapes.
//!
//! ```text
//! Constant, ConstantOfShape                                ─► weights or whole numbers
//! Identity, Cast, Transpose, Reshape, Squeeze, Unsqueeze   ─► the same weights in the file, other axes
//! anything on whole numbers                                ─► see `shapes`
//! ```

use super::model::Node;
use super::shapes;
use super::values::{Constant, Ints, MAX_INTS, Values};
use crate::import::Problem;
use crate::import::stored::Stored;

impl Values {
    /// Evaluates `node` if it can be; whether it was.
    pub(super) fn evaluate(&mut self, node: &Node) -> Result<bool, Problem> {
        let Some(output) = node.outputs.first() else { return Ok(true) };
        match node.op.as_str() {
            "Constant" => {
                self.literal(node, output)?;
                return Ok(true);
            }
            "ConstantOfShape" => return self.filled(node, output),
            _ => {}
        }
        if let Some(constant) = node.input(0).and_then(|name| self.constants.get(name)).cloned() {
            if node.op == "Shape" {
                let axes = constant.stored.shape.iter().map(|n| *n as i64);
                self.ints.insert(output.clone(), Ints::list(axes));
                return Ok(true);
            }
            let Some(constant) = self.reshaped(node, constant) else { return Ok(false) };
            self.constants.insert(output.clone(), constant);
            return Ok(true);
        }
        // An optional input that is left out is nothing.
        let inputs: Option<Vec<Ints>> = (node.inputs.iter())
            .map(|name| match name.as_str() {
                "" => Some(Ints::list([])),
                name => self.ints.get(name).cloned(),
            })
            .collect();
        let Some(inputs) = inputs.filter(|i| !i.is_empty()) else { return Ok(false) };
        if let Some(ints) = shapes::compute(node, &inputs) {
            self.ints.insert(output.clone(), ints);
        }
        Ok(true)
    }

    /// `Constant`.
    fn literal(&mut self, node: &Node, output: &str) -> Result<(), Problem> {
        if let Some(tensor) = node.tensor("value") {
            return self.define(output, tensor);
        }
        if node.has("value_int") {
            let ints = Ints { is_scalar: true, ..Ints::list([node.int("value_int", 0)]) };
            self.ints.insert(output.into(), ints);
        } else if let Some(list) = node.ints("value_ints") {
            self.ints.insert(output.into(), Ints::list(list.iter().copied()));
        } else if node.has("value_float") {
            self.define_floats(output, Vec::new(), &[node.float("value_float", 0.0)]);
        } else if let Some(list) = node.floats("value_floats") {
            self.define_floats(output, vec![list.len()], list);
        }
        Ok(())
    }

    /// `ConstantOfShape`: one value, repeated.
    fn filled(&mut self, node: &Node, output: &str) -> Result<bool, Problem> {
        let Some(shape) = node.input(0).and_then(|name| self.ints.get(name)?.known()) else {
            return Ok(false);
        };
        let shape: Option<Vec<usize>> = shape.into_iter().map(|n| usize::try_from(n).ok()).collect();
        let len = shape.as_ref().and_then(|s| s.iter().try_fold(1usize, |n, d| n.checked_mul(*d)));
        let (Some(shape), Some(len)) = (shape, len) else { return Ok(false) };
        match node.tensor("value") {
            Some(tensor) => self.define(output, tensor)?,
            None => self.define_floats(output, vec![1], &[0.0]),
        }
        if let Some(ints) = self.ints.get_mut(output) {
            if len > MAX_INTS {
                return Ok(false);
            }
            let value = ints.values.first().copied().flatten();
            *ints = Ints { values: vec![value; len], is_scalar: shape.is_empty() };
        } else if let Some(constant) = self.constants.get(output).cloned() {
            self.repeat(len)?;
            let size = constant.stored.dtype.size();
            let value = self.files.source(constant.file).bytes(constant.stored.start, size)?;
            let file = self.files.add(value.repeat(len));
            if let Some(stored) = Stored::contiguous(shape, constant.stored.dtype, 0).filter(|_| len > 0) {
                self.constants.insert(output.into(), Constant { file, stored, ..constant });
            }
        }
        Ok(true)
    }

    /// Weights behind a node that changes no value.
    fn reshaped(&self, node: &Node, mut constant: Constant) -> Option<Constant> {
        let stored = &mut constant.stored;
        let is_contiguous =
            Stored::contiguous(stored.shape.clone(), stored.dtype, stored.start).as_ref() == Some(stored);
        let list = |i: usize, attribute: &str| match node.input(i) {
            Some(name) => self.ints.get(name)?.known(),
            None => node.ints(attribute).map(<[i64]>::to_vec),
        };
        match node.op.as_str() {
            "Identity" | "Cast" | "Dropout" => {}
            "Transpose" => {
                let rank = stored.shape.len();
                let perm =
                    node.ints("perm").map_or_else(|| (0..rank as i64).rev().collect(), <[i64]>::to_vec);
                let axes: Option<Vec<usize>> =
                    perm.iter().map(|a| usize::try_from(*a).ok().filter(|a| *a < rank)).collect();
                let axes = axes.filter(|a| a.len() == rank && (0..rank).all(|i| a.contains(&i)))?;
                (stored.shape, stored.strides) =
                    axes.iter().map(|&a| (stored.shape[a], stored.strides[a])).unzip();
            }
            "Reshape" | "Squeeze" | "Unsqueeze" if is_contiguous => {
                let shape = match node.op.as_str() {
                    "Reshape" => shapes::reshaped(&stored.shape, &list(1, "shape")?)?,
                    "Squeeze" => shapes::squeezed(&stored.shape, list(1, "axes").as_deref())?,
                    _ => shapes::unsqueezed(&stored.shape, &list(1, "axes")?)?,
                };
                *stored = Stored::contiguous(shape, stored.dtype, stored.start)?;
            }
            _ => return None,
        }
        Some(constant)
    }
}
