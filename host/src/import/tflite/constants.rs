//! The values of constants, each read once, in the host's layouts.

use std::collections::HashMap;

use super::chain::Chain;
use super::error::TfliteProblem;
use super::schema::Operator;
use crate::graph::Tensor;
use crate::import::Problem;
use crate::import::stored::{Dense, Filter, Stored};

/// Most bytes of memory that single values become, in a small file.
const MAX_EXPANDED: u64 = 32 << 20;

/// How a constant becomes a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Use {
    Vector,
    Filter,
    Dense,
}

/// Constants that are used more than once, zeros mostly, are read once.
#[derive(Default)]
pub(super) struct Constants {
    read: HashMap<(u64, Vec<usize>, Use), Tensor>,
    /// Bytes of the file that have become tensors.
    bytes: u64,
    /// Bytes of memory that one value has become many in.
    expanded: u64,
}

impl Constants {
    /// Counts `bytes` that no file of `len` bytes holds.
    pub(super) fn expand(&mut self, bytes: u64, len: u64) -> Result<(), Problem> {
        self.expanded = self.expanded.saturating_add(bytes);
        match self.expanded <= MAX_EXPANDED.max(len / 4) {
            true => Ok(()),
            false => Err(TfliteProblem::Amplified { found: self.expanded, len }.into()),
        }
    }
}

impl Chain {
    /// Where input `i` of `op` is stored, if there is one.
    pub(super) fn stored(&mut self, op: &Operator, i: usize) -> Result<Option<Stored>, Problem> {
        let Some(&index) = op.inputs.get(i).filter(|index| **index >= 0) else { return Ok(None) };
        let index = self.f16.get(&index).copied().unwrap_or(index);
        self.model.tensor(index)?.stored().map(Some)
    }

    /// Input `i` of `op`, a filter or a weight that must be there, of `axes` axes.
    pub(super) fn weights(
        &mut self,
        op: &Operator,
        i: usize,
        axes: usize,
        what: &'static str,
    ) -> Result<Stored, Problem> {
        let stored = self.stored(op, i)?.ok_or_else(|| op.problem(what, "missing", "values in the file"))?;
        match stored.shape.len() == axes {
            true => Ok(stored),
            false => Err(op.problem(what, format!("of shape {:?}", stored.shape), format!("{axes} axes"))),
        }
    }

    /// The values of `stored`, read once however often they are used.
    pub(super) fn read(&mut self, stored: &Stored, usage: Use) -> Result<Tensor, Problem> {
        let key = (stored.start, stored.shape.clone(), usage);
        if let Some(tensor) = self.constants.read.get(&key) {
            return Ok(tensor.clone());
        }
        // Tensors over the same bytes in ever other shapes would make more of a file than there is.
        self.constants.bytes += stored.end().unwrap_or(u64::MAX).saturating_sub(stored.start);
        let flat = self.model.flat();
        if self.constants.bytes > flat.len() {
            let (found, len) = (self.constants.bytes, flat.len());
            return Err(TfliteProblem::Amplified { found, len }.into());
        }
        let tensor = match (usage, stored.shape.as_slice()) {
            (Use::Filter, &[outputs, height, width, inputs]) => {
                flat.source().filter(stored, Filter::Ohwi, [height, width, inputs, outputs])?
            }
            (Use::Dense, &[units, inputs]) => {
                flat.source().dense(stored, Dense::OutIn, [inputs, units], None)?
            }
            _ => flat.source().vector(stored)?,
        };
        self.constants.read.insert(key, tensor.clone());
        Ok(tensor)
    }

    /// Input `i` of `op`, if it is whole numbers in the file: axes, paddings.
    pub(super) fn integers(&mut self, op: &Operator, i: usize) -> Result<Option<Vec<i64>>, Problem> {
        let Some(&index) = op.inputs.get(i).filter(|index| **index >= 0) else { return Ok(None) };
        let tensor = self.model.tensor(index)?;
        tensor.integers(self.model.flat())
    }

    /// Input 2 of a convolution or dense layer.
    pub(super) fn bias(&mut self, op: &Operator) -> Result<Option<Tensor>, Problem> {
        let stored = self.stored(op, 2)?;
        stored.map(|stored| self.read(&stored, Use::Vector)).transpose()
    }
}
