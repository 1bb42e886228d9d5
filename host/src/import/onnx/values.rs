//! What is known of a graph's values: weights in files, and whole numbers computed from shapes.
//!
//! ```text
//! TensorProto of f32, f16, bf16, f64   ─► Constant: file, first byte, shape, strides
//! TensorProto of i32, i64, bool        ─► Ints, if they are few: axes, pads and shapes
//! ```
//!
//! A [`Constant`] becomes a tensor when a layer takes it: whatever else is in the file is never read.

use std::collections::HashMap;
use std::path::Path;

use super::error::OnnxProblem;
use super::files::Files;
use super::model::{Node, TensorProto};
use super::wire::{Span, Wire};
use crate::graph::{Shape, Tensor};
use crate::import::Problem;
use crate::import::stored::{Dense, Dtype, Filter, Stored};

/// Most values of a tensor that is stored as varints (f16 in `int32_data`): they may take more memory than file.
const MAX_VARINTS: usize = 1 << 22;
/// Most whole numbers of a list.
pub(super) const MAX_INTS: usize = 64;
/// Most values that are made from single ones, of all layers together: they take memory that the file does not have.
const MAX_REPEATED: usize = 1 << 22;

/// Whole numbers, `None` where one is only known when the network runs (the batch).
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Ints {
    pub(super) values: Vec<Option<i64>>,
    pub(super) is_scalar: bool,
}

impl Ints {
    /// A list of numbers.
    pub(super) fn list(values: impl IntoIterator<Item = i64>) -> Self {
        Self { values: values.into_iter().map(Some).collect(), is_scalar: false }
    }

    /// The numbers, if all are known.
    pub(super) fn known(&self) -> Option<Vec<i64>> {
        self.values.iter().copied().collect()
    }
}

/// A tensor of weights: which file, and where in it. It has at least one value.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Constant {
    pub(super) name: String,
    pub(super) file: usize,
    pub(super) stored: Stored,
}

impl Constant {
    /// The same values as a vector: axes of length 1 left out.
    pub(super) fn flattened(&self) -> Self {
        let mut flat = self.clone();
        let Stored { shape, strides, .. } = &mut flat.stored;
        (*shape, *strides) =
            shape.iter().zip(&*strides).filter(|(n, _)| **n != 1).map(|(n, s)| (*n, *s)).unzip();
        if shape.is_empty() {
            (*shape, *strides) = (vec![1], vec![1]);
        }
        flat
    }
}

/// How weights become a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Use {
    Vector,
    Filter,
    Dense(Dense, Option<Shape>),
}

/// Everything that does not depend on the picture.
pub(super) struct Values {
    pub(super) files: Files,
    pub(super) constants: HashMap<String, Constant>,
    pub(super) ints: HashMap<String, Ints>,
    /// Tensors that were read before: exporters store equal biases once.
    read: HashMap<(usize, Stored, Use), Tensor>,
    bytes_read: u64,
    n_repeated: usize,
}

impl Values {
    pub(super) fn new(model: Wire, path: &Path) -> Self {
        Self {
            files: Files::new(model, path),
            constants: HashMap::new(),
            ints: HashMap::new(),
            read: HashMap::new(),
            bytes_read: 0,
            n_repeated: 0,
        }
    }

    /// Makes `tensor` known as `name`.
    pub(super) fn define(&mut self, name: &str, tensor: &TensorProto) -> Result<(), Problem> {
        let shape: Option<Vec<usize>> = tensor.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
        let len = shape.as_ref().and_then(|s| s.iter().try_fold(1usize, |n, d| n.checked_mul(*d)));
        let (Some(shape), Some(len)) = (shape, len) else {
            return Err(problem(name, "shape", format!("{:?}", tensor.dims), "a size that fits a file"));
        };
        let dtype = match tensor.data_type {
            1 => Dtype::F32,
            10 => Dtype::F16,
            11 => Dtype::F64,
            16 => Dtype::Bf16,
            6 | 7 | 9 => return self.define_ints(name, tensor, &shape, len),
            // Whatever it is, it is no weight; an operator that takes it as one says so.
            _ => return Ok(()),
        };
        if len == 0 {
            return Ok(());
        }
        let need = (len as u64).saturating_mul(dtype.size() as u64);
        let (file, start, found) = match (tensor.int32_data, self.place(name, tensor, need)?) {
            (_, Some(place)) => place,
            (Some(span), None) if matches!(dtype, Dtype::F16 | Dtype::Bf16) => {
                let bytes = self.halves(name, span, len)?;
                let found = bytes.len() as u64;
                (self.files.add(bytes), 0, found)
            }
            _ => (0, 0, 0),
        };
        if found != need {
            let expected = format!("{need} for shape {shape:?}");
            return Err(problem(name, "data", format!("{found} bytes"), &expected));
        }
        self.constant(name, file, Stored::contiguous(shape, dtype, start));
        Ok(())
    }

    /// Where the bytes of `tensor` are: file, first byte and length; `None` if they are not there as such.
    fn place(
        &mut self,
        name: &str,
        tensor: &TensorProto,
        need: u64,
    ) -> Result<Option<(usize, u64, u64)>, Problem> {
        match &tensor.external {
            Some(external) => self.files.external(name, external, need).map(Some),
            None => Ok(tensor.bytes.map(|span| (0, span.start, span.len()))),
        }
    }

    /// Bytes of `len` halves that are stored as varints.
    fn halves(&mut self, name: &str, mut span: Span, len: usize) -> Result<Vec<u8>, Problem> {
        if len > MAX_VARINTS {
            return Err(problem(name, "data", format!("{len} values in int32_data"), "raw_data"));
        }
        let mut bytes = Vec::with_capacity(2 * len.min(span.len() as usize));
        while span.len() > 0 && bytes.len() <= 2 * len {
            let bits = self.files.model.varint(&mut span)?;
            bytes.extend((bits as u16).to_le_bytes());
        }
        Ok(bytes)
    }

    fn define_ints(
        &mut self,
        name: &str,
        tensor: &TensorProto,
        shape: &[usize],
        len: usize,
    ) -> Result<(), Problem> {
        if len > MAX_INTS {
            return Ok(());
        }
        let size = match tensor.data_type {
            7 => 8,
            6 => 4,
            _ => 1,
        };
        let need = len * size;
        let values: Vec<i64> = match (self.place(name, tensor, need as u64)?, tensor.int32_data) {
            (Some((file, start, found)), _) if found == need as u64 => {
                let bytes = self.files.source(file).bytes(start, need)?;
                match size {
                    8 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
                    4 => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
                    _ => bytes.into_iter().map(i64::from).collect(),
                }
            }
            (Some((_, _, found)), _) => {
                let expected = format!("{need} for shape {shape:?}");
                return Err(problem(name, "data", format!("{found} bytes"), &expected));
            }
            (None, Some(span)) => {
                let mut numbers = Vec::new();
                self.files.model.integers(super::wire::Value::Bytes(span), MAX_INTS, &mut numbers)?;
                numbers
            }
            (None, None) => tensor.int64_data.clone(),
        };
        if values.len() != len {
            let expected = format!("{len} for shape {shape:?}");
            return Err(problem(name, "data", format!("{} numbers", values.len()), &expected));
        }
        let ints = Ints { is_scalar: shape.is_empty(), ..Ints::list(values) };
        self.ints.insert(name.into(), ints);
        Ok(())
    }

    /// Makes weights known that no file holds as they are.
    pub(super) fn define_floats(&mut self, name: &str, shape: Vec<usize>, values: &[f32]) {
        if !values.is_empty() {
            let file = self.files.add(values.iter().flat_map(|v| v.to_le_bytes()).collect());
            self.constant(name, file, Stored::contiguous(shape, Dtype::F32, 0));
        }
    }

    fn constant(&mut self, name: &str, file: usize, stored: Option<Stored>) {
        if let Some(stored) = stored {
            self.constants.insert(name.into(), Constant { name: name.into(), file, stored });
        }
    }

    /// The values of `constant`, read once however often they are used.
    pub(super) fn read(&mut self, constant: &Constant, usage: Use) -> Result<Tensor, Problem> {
        let key = (constant.file, constant.stored.clone(), usage);
        if let Some(tensor) = self.read.get(&key) {
            return Ok(tensor.clone());
        }
        let tensor = self.read_alone(constant, usage)?;
        self.read.insert(key, tensor.clone());
        Ok(tensor)
    }

    /// The values of `constant`, shared with no layer: they may be changed in place.
    pub(super) fn read_alone(&mut self, constant: &Constant, usage: Use) -> Result<Tensor, Problem> {
        let Constant { file, stored, .. } = constant;
        // Tensors over the same bytes in ever other shapes would make more of a file than there is.
        self.bytes_read += stored.shape.iter().product::<usize>() as u64 * stored.dtype.size() as u64;
        let len = self.files.len();
        if self.bytes_read > len {
            return Err(OnnxProblem::Amplified { found: self.bytes_read, len }.into());
        }
        let source = self.files.source(*file);
        match (usage, stored.shape.as_slice()) {
            (Use::Filter, &[outputs, inputs, height, width]) => {
                source.filter(stored, Filter::Oihw, [height, width, inputs, outputs])
            }
            (Use::Dense(axes @ Dense::OutIn, map), &[units, inputs]) => {
                source.dense(stored, axes, [inputs, units], map)
            }
            (Use::Dense(axes @ Dense::InOut, map), &[inputs, units]) => {
                source.dense(stored, axes, [inputs, units], map)
            }
            _ => source.vector(stored),
        }
    }

    /// The first value of an input that is one number; `None` if the node does not have the input.
    pub(super) fn number(&mut self, node: &Node, i: usize) -> Result<Option<f32>, Problem> {
        let Some(name) = node.input(i) else { return Ok(None) };
        let Some(constant) = self.constants.get(name).cloned() else {
            return Err(node.problem("input", format!("`{name}`"), "a number in the file"));
        };
        match constant.stored.shape.iter().all(|n| *n == 1) {
            true => Ok(self.read(&constant.flattened(), Use::Vector)?.data().first().copied()),
            false => {
                let found = format!("`{name}` of shape {:?}", constant.stored.shape);
                Err(node.problem("input", found, "one number"))
            }
        }
    }

    /// Accounts for `n` values that are made from a single one.
    pub(super) fn repeat(&mut self, n: usize) -> Result<(), Problem> {
        self.n_repeated = self.n_repeated.saturating_add(n);
        match self.n_repeated <= MAX_REPEATED {
            true => Ok(()),
            false => {
                let what = "values made of single numbers";
                Err(OnnxProblem::TooMany { what, limit: MAX_REPEATED }.into())
            }
        }
    }
}

fn problem(tensor: &str, what: &'static str, found: String, expected: &str) -> Problem {
    OnnxProblem::Tensor { tensor: tensor.into(), what, found: found.into(), expected: expected.into() }.into()
}
