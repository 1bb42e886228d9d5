//! What is known of a graph's values: weights in files, and whole numbers computed from shapes.
//!
//! Exporters compute the target of a `Reshape` with operators: `Shape`, `Gather`, `Concat`… These are evaluated here, with the
//! batch as the one unknown number.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use super::error::OnnxProblem;
use super::model::{Node, TensorProto};
use super::wire::Wire;
use crate::graph::{Shape, Tensor};
use crate::import::Problem;
use crate::import::stored::{Dense, Dtype, Filter, Source, Stored};

/// Most values of a tensor that is stored as varints (f16 in `int32_data`): they take more memory than file.
const MAX_VARINTS: usize = 1 << 22;
/// Most whole numbers of a computed list.
const MAX_INTS: usize = 64;

/// Whole numbers, `None` where one is only known when the network runs (the batch).
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Ints {
    pub(super) values: Vec<Option<i64>>,
    pub(super) is_scalar: bool,
}

impl Ints {
    /// The numbers, if all are known.
    pub(super) fn known(&self) -> Option<Vec<i64>> {
        self.values.iter().copied().collect()
    }
}

/// A tensor of weights: which file, and where in it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Constant {
    pub(super) name: String,
    file: usize,
    pub(super) stored: Stored,
}

impl Constant {
    /// The same values, axes of length 1 left out: a vector, if it is one value a channel.
    pub(super) fn flattened(mut self) -> Self {
        let axes = self.stored.shape.iter().zip(&self.stored.strides).filter(|(n, _)| **n != 1);
        (self.stored.shape, self.stored.strides) = axes.map(|(n, stride)| (*n, *stride)).unzip();
        if self.stored.shape.is_empty() {
            (self.stored.shape, self.stored.strides) = (vec![1], vec![1]);
        }
        self
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
    /// The model's folder: external data lies in it.
    folder: PathBuf,
    /// The model itself, then external files and unpacked values, as they are met.
    sources: Vec<Source>,
    paths: HashMap<PathBuf, usize>,
    pub(super) constants: HashMap<String, Constant>,
    pub(super) ints: HashMap<String, Ints>,
    /// Tensors that were read before: exporters store equal biases once.
    read: HashMap<(usize, Stored, Use), Tensor>,
    bytes_read: u64,
}

impl Values {
    pub(super) fn new(wire: Wire, path: &Path) -> Self {
        Self {
            folder: path.parent().map_or_else(PathBuf::new, Path::to_path_buf),
            sources: vec![wire.source],
            paths: HashMap::new(),
            constants: HashMap::new(),
            ints: HashMap::new(),
            read: HashMap::new(),
            bytes_read: 0,
        }
    }

    /// Makes `tensor` known as `name`.
    pub(super) fn define(&mut self, name: &str, tensor: &TensorProto) -> Result<(), Problem> {
        let problem = |what, found: String, expected: &str| -> Problem {
            let tensor = if tensor.name.is_empty() { name } else { &tensor.name };
            OnnxProblem::Tensor {
                tensor: tensor.into(),
                what,
                found: found.into(),
                expected: expected.into(),
            }
            .into()
        };
        let shape: Option<Vec<usize>> = tensor.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
        let len = shape.as_ref().and_then(|s| s.iter().try_fold(1usize, |n, d| n.checked_mul(*d)));
        let (Some(shape), Some(len)) = (shape, len) else {
            return Err(problem("shape", format!("{:?}", tensor.dims), "a size that fits a file"));
        };
        let dtype = match tensor.data_type {
            1 => Dtype::F32,
            10 => Dtype::F16,
            11 => Dtype::F64,
            16 => Dtype::Bf16,
            6 | 7 => return self.define_ints(name, tensor, &shape, len),
            // Whatever it is, it is no weight; an operator that takes it as one says so.
            _ => return Ok(()),
        };
        let need = (len as u64).saturating_mul(dtype.size() as u64);
        let (file, start, found) = match (&tensor.external, tensor.bytes, tensor.int32_data) {
            (Some(external), ..) => {
                let external_problem = |text: String| -> Problem {
                    OnnxProblem::External {
                        tensor: tensor.name.as_str().into(),
                        location: external.location.as_str().into(),
                        problem: text.into(),
                    }
                    .into()
                };
                let file = self.open(&external.location, &external_problem)?;
                let end = external.offset.checked_add(external.length.unwrap_or(need));
                let len = self.sources[file].len();
                if end.is_none_or(|end| end > len) {
                    let end = end.map_or_else(|| "beyond any file".into(), |end| format!("at byte {end}"));
                    return Err(external_problem(format!("ends {end}, but the file has {len} bytes")));
                }
                (file, external.offset, external.length.unwrap_or(need))
            }
            (None, Some(span), _) => (0, span.start, span.len()),
            (None, None, Some(span)) if matches!(dtype, Dtype::F16 | Dtype::Bf16) => {
                if len > MAX_VARINTS {
                    return Err(problem("data", format!("{len} values in int32_data"), "raw_data"));
                }
                let file = self.unpack(span, dtype)?;
                let found = self.sources[file].len() / 4;
                if found != len as u64 {
                    return Err(problem(
                        "data",
                        format!("{found} values"),
                        &format!("{len} for shape {shape:?}"),
                    ));
                }
                let stored = Stored::contiguous(shape, Dtype::F32, 0);
                let Some(stored) = stored else { return Ok(()) };
                self.constants.insert(name.into(), Constant { name: name.into(), file, stored });
                return Ok(());
            }
            _ => (0, 0, 0),
        };
        if found != need {
            return Err(problem("data", format!("{found} bytes"), &format!("{need} for shape {shape:?}")));
        }
        let Some(stored) = Stored::contiguous(shape, dtype, start) else { return Ok(()) };
        self.constants.insert(name.into(), Constant { name: name.into(), file, stored });
        Ok(())
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
        let size = if tensor.data_type == 7 { 8 } else { 4 };
        let values: Vec<i64> = match (tensor.bytes, tensor.int32_data) {
            (Some(span), _) if span.len() == (len * size) as u64 => {
                let bytes = self.sources[0].bytes(span.start, len * size)?;
                match size {
                    8 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
                    _ => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
                }
            }
            (None, Some(span)) => self.varints(span, MAX_INTS)?,
            _ => tensor.int64_data.clone(),
        };
        if values.len() != len {
            return Err(OnnxProblem::Tensor {
                tensor: name.into(),
                what: "data",
                found: format!("{} numbers", values.len()).into(),
                expected: format!("{len} for shape {shape:?}").into(),
            }
            .into());
        }
        let ints = Ints { values: values.into_iter().map(Some).collect(), is_scalar: shape.is_empty() };
        self.ints.insert(name.into(), ints);
        Ok(())
    }

    fn varints(&mut self, span: super::wire::Span, limit: usize) -> Result<Vec<i64>, Problem> {
        // The file is behind `sources[0]`; reading numbers one by one wants a window over it.
        let mut wire = Wire::new(self.sources[0].try_clone()?);
        let mut numbers = Vec::new();
        wire.integers(super::wire::Value::Bytes(span), limit, &mut numbers)?;
        Ok(numbers)
    }

    /// Halves that are stored as varints, as a file of f32.
    fn unpack(&mut self, span: super::wire::Span, dtype: Dtype) -> Result<usize, Problem> {
        let bits = self.varints(span, MAX_VARINTS)?;
        let mut values = Vec::with_capacity(bits.len());
        let raw: Vec<u8> = bits.iter().flat_map(|b| (*b as u16).to_le_bytes()).collect();
        drop(bits);
        dtype.decode(&raw, &mut values);
        self.sources.push(Source::of_values(&values)?);
        Ok(self.sources.len() - 1)
    }

    /// The external file at `location`, opened once.
    fn open(&mut self, location: &str, problem: &dyn Fn(String) -> Problem) -> Result<usize, Problem> {
        let relative = Path::new(location);
        let is_plain = relative.components().all(|c| matches!(c, Component::Normal(_)));
        if location.is_empty() || !is_plain {
            return Err(problem("expected a path inside the model's folder".into()));
        }
        let path = self.folder.join(relative);
        if let Some(file) = self.paths.get(&path) {
            return Ok(*file);
        }
        let inside = |path: &Path| -> std::io::Result<bool> {
            let folder = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
            Ok(path.canonicalize()?.starts_with(folder.canonicalize()?))
        };
        match inside(&path) {
            Ok(true) => {}
            Ok(false) => return Err(problem("is a link that leads out of the model's folder".into())),
            Err(e) => return Err(problem(format!("cannot read: {e}"))),
        }
        let open = || -> std::io::Result<(File, u64)> {
            let file = File::open(&path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(std::io::Error::other("not a file"));
            }
            Ok((file, metadata.len()))
        };
        let (file, len) = open().map_err(|e| problem(format!("cannot read: {e}")))?;
        self.sources.push(Source::new(file, len));
        self.paths.insert(path, self.sources.len() - 1);
        Ok(self.sources.len() - 1)
    }

    /// Bytes of all files.
    fn len(&self) -> u64 {
        self.sources.iter().map(Source::len).sum()
    }

    /// The values of `constant`, read once however often they are used.
    pub(super) fn read(&mut self, constant: &Constant, usage: Use) -> Result<Tensor, Problem> {
        let Constant { file, stored, .. } = constant;
        let key = (*file, stored.clone(), usage);
        if let Some(tensor) = self.read.get(&key) {
            return Ok(tensor.clone());
        }
        // Tensors over the same bytes in ever other shapes would make more of a file than there is.
        self.bytes_read += stored.shape.iter().product::<usize>() as u64 * stored.dtype.size() as u64;
        let len = self.len();
        if self.bytes_read > len {
            return Err(OnnxProblem::Amplified { found: self.bytes_read, len }.into());
        }
        let source = &mut self.sources[*file];
        let tensor = match (usage, stored.shape.as_slice()) {
            (Use::Filter, &[outputs, inputs, height, width]) => {
                source.filter(stored, Filter::Oihw, [height, width, inputs, outputs])?
            }
            (Use::Dense(axes @ Dense::OutIn, map), &[units, inputs]) => {
                source.dense(stored, axes, [inputs, units], map)?
            }
            (Use::Dense(axes @ Dense::InOut, map), &[inputs, units]) => {
                source.dense(stored, axes, [inputs, units], map)?
            }
            _ => source.vector(stored)?,
        };
        self.read.insert(key, tensor.clone());
        Ok(tensor)
    }

    /// Evaluates `node` if it takes nothing that depends on a picture; whether it did.
    pub(super) fn evaluate(&mut self, node: &Node) -> Result<bool, Problem> {
        let Some(output) = node.outputs.first().cloned() else { return Ok(true) };
        if node.op == "Constant" {
            if let Some(tensor) = node.tensor("value") {
                self.define(&output, tensor)?;
            } else if node.has("value_int") || node.has("value_ints") {
                let is_scalar = node.has("value_int");
                let values = match node.ints("value_ints").filter(|_| !is_scalar) {
                    Some(list) => list.iter().map(|v| Some(*v)).collect(),
                    None => vec![Some(node.int("value_int", 0))],
                };
                self.ints.insert(output, Ints { values, is_scalar });
            } else if node.has("value_float") {
                let source = Source::of_values(&[node.float("value_float", 0.0)])?;
                self.sources.push(source);
                let file = self.sources.len() - 1;
                if let Some(stored) = Stored::contiguous(Vec::new(), Dtype::F32, 0) {
                    self.constants.insert(output.clone(), Constant { name: output, file, stored });
                }
            }
            return Ok(true);
        }
        if let Some(constant) = node.input(0).and_then(|name| self.constants.get(name)).cloned() {
            return Ok(match self.reshaped(node, constant) {
                Some(constant) => {
                    self.constants.insert(output, constant);
                    true
                }
                None => false,
            });
        }
        let inputs: Option<Vec<Ints>> = node.inputs.iter().map(|name| self.ints.get(name).cloned()).collect();
        let Some(inputs) = inputs.filter(|i| !i.is_empty()) else { return Ok(false) };
        if let Some(ints) = super::shapes::compute(node, &inputs) {
            self.ints.insert(output, ints);
        }
        Ok(true)
    }

    /// Weights behind an operator that moves no value, or transposes.
    fn reshaped(&self, node: &Node, mut constant: Constant) -> Option<Constant> {
        let stored = &mut constant.stored;
        let is_contiguous =
            Stored::contiguous(stored.shape.clone(), stored.dtype, stored.start).as_ref() == Some(stored);
        let list = |i: usize, attribute: &str| {
            let from_input = node.input(i).and_then(|name| self.ints.get(name)?.known());
            from_input.or_else(|| node.ints(attribute).map(<[i64]>::to_vec))
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
            "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" if is_contiguous => {
                let len: usize = stored.shape.iter().product();
                let shape: Vec<usize> = match node.op.as_str() {
                    "Reshape" => {
                        let target = list(1, "shape")?;
                        let known: i64 =
                            target.iter().filter(|n| **n > 0).try_fold(1i64, |p, n| p.checked_mul(*n))?;
                        let rest = (len as i64).checked_div(known)?;
                        target
                            .iter()
                            .enumerate()
                            .map(|(i, n)| match n {
                                -1 => usize::try_from(rest).ok(),
                                0 => stored.shape.get(i).copied(),
                                n => usize::try_from(*n).ok(),
                            })
                            .collect::<Option<_>>()?
                    }
                    // Which of the axes of length 1 there are does not matter to a vector; nothing else is reshaped so.
                    _ => stored.shape.iter().copied().filter(|n| *n != 1).collect(),
                };
                if shape.iter().try_fold(1usize, |p, n| p.checked_mul(*n))? != len {
                    return None;
                }
                *stored = Stored::contiguous(shape, stored.dtype, stored.start)?;
            }
            _ => return None,
        }
        Some(constant)
    }
}
