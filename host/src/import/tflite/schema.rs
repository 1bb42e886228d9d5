//! TFLite's schema, version 3: the tables and numbers that a float network of this family uses.
//!
//! ```text
//! Model 0 version, 1 operator_codes, 2 subgraphs, 4 buffers
//!   OperatorCode 0 code (i8, old files), 1 custom_code, 3 code (i32)
//!   SubGraph     0 tensors, 1 inputs, 2 outputs, 3 operators, 4 name
//!     Tensor     0 shape, 1 type, 2 buffer, 3 name, 6 sparsity, 7 shape_signature (-1: any)
//!     Operator   0 opcode_index, 1 inputs, 2 outputs, 4 builtin_options
//!   Buffer       0 data, or 1 offset and 2 size in the file (files beyond 2 GB)
//! ```
//!
//! Field numbers and codes: `schema.fbs` of TensorFlow Lite (LiteRT).

use super::error::TfliteProblem;
use super::flat::{Flat, Table, Vector};
use crate::import::Problem;
use crate::import::stored::{Dtype, Source, Stored};

/// Operators the importer knows, as messages list them.
pub(super) const SUPPORTED: &str = "CONV_2D, MAX_POOL_2D, AVERAGE_POOL_2D, MEAN, FULLY_CONNECTED, RELU, SOFTMAX, \
                                    RESHAPE, SQUEEZE, PAD, ADD, SUB, MUL, DIV, DEQUANTIZE";

/// Most operators of a network.
const MAX_OPERATORS: usize = 4096;
/// Most tensors that an operator takes or gives.
const MAX_ARITY: usize = 64;
/// Most axes of a tensor.
const MAX_AXES: usize = 8;
/// Most bytes of a name.
const MAX_NAME: usize = 100;

/// Operator codes.
pub(super) mod code {
    pub(in super::super) const ADD: u32 = 0;
    pub(in super::super) const AVERAGE_POOL_2D: u32 = 1;
    pub(in super::super) const CONCATENATION: u32 = 2;
    pub(in super::super) const CONV_2D: u32 = 3;
    pub(in super::super) const DEQUANTIZE: u32 = 6;
    pub(in super::super) const FULLY_CONNECTED: u32 = 9;
    pub(in super::super) const MAX_POOL_2D: u32 = 17;
    pub(in super::super) const MUL: u32 = 18;
    pub(in super::super) const RELU: u32 = 19;
    pub(in super::super) const RESHAPE: u32 = 22;
    pub(in super::super) const SOFTMAX: u32 = 25;
    pub(in super::super) const CUSTOM: u32 = 32;
    pub(in super::super) const PAD: u32 = 34;
    pub(in super::super) const GATHER: u32 = 36;
    pub(in super::super) const MEAN: u32 = 40;
    pub(in super::super) const SUB: u32 = 41;
    pub(in super::super) const DIV: u32 = 42;
    pub(in super::super) const SQUEEZE: u32 = 43;
    pub(in super::super) const STRIDED_SLICE: u32 = 45;
    pub(in super::super) const CAST: u32 = 53;
    pub(in super::super) const SLICE: u32 = 65;
    pub(in super::super) const SHAPE: u32 = 77;
    pub(in super::super) const REDUCE_PROD: u32 = 81;
    pub(in super::super) const PACK: u32 = 83;
}

/// Names of the operators, by code.
#[rustfmt::skip]
const OPERATORS: [&str; 159] = [
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE",
    "DEQUANTIZE", "EMBEDDING_LOOKUP", "FLOOR", "FULLY_CONNECTED", "HASHTABLE_LOOKUP", "L2_NORMALIZATION",
    "L2_POOL_2D", "LOCAL_RESPONSE_NORMALIZATION", "LOGISTIC", "LSH_PROJECTION", "LSTM", "MAX_POOL_2D",
    "MUL", "RELU", "RELU_N1_TO_1", "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RNN", "SOFTMAX",
    "SPACE_TO_DEPTH", "SVDF", "TANH", "CONCAT_EMBEDDINGS", "SKIP_GRAM", "CALL", "CUSTOM",
    "EMBEDDING_LOOKUP_SPARSE", "PAD", "UNIDIRECTIONAL_SEQUENCE_RNN", "GATHER", "BATCH_TO_SPACE_ND",
    "SPACE_TO_BATCH_ND", "TRANSPOSE", "MEAN", "SUB", "DIV", "SQUEEZE", "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "STRIDED_SLICE", "BIDIRECTIONAL_SEQUENCE_RNN", "EXP", "TOPK_V2", "SPLIT", "LOG_SOFTMAX", "DELEGATE",
    "BIDIRECTIONAL_SEQUENCE_LSTM", "CAST", "PRELU", "MAXIMUM", "ARG_MAX", "MINIMUM", "LESS", "NEG",
    "PADV2", "GREATER", "GREATER_EQUAL", "LESS_EQUAL", "SELECT", "SLICE", "SIN", "TRANSPOSE_CONV",
    "SPARSE_TO_DENSE", "TILE", "EXPAND_DIMS", "EQUAL", "NOT_EQUAL", "LOG", "SUM", "SQRT", "RSQRT", "SHAPE",
    "POW", "ARG_MIN", "FAKE_QUANT", "REDUCE_PROD", "REDUCE_MAX", "PACK", "LOGICAL_OR", "ONE_HOT",
    "LOGICAL_AND", "LOGICAL_NOT", "UNPACK", "REDUCE_MIN", "FLOOR_DIV", "REDUCE_ANY", "SQUARE",
    "ZEROS_LIKE", "FILL", "FLOOR_MOD", "RANGE", "RESIZE_NEAREST_NEIGHBOR", "LEAKY_RELU",
    "SQUARED_DIFFERENCE", "MIRROR_PAD", "ABS", "SPLIT_V", "UNIQUE", "CEIL", "REVERSE_V2", "ADD_N",
    "GATHER_ND", "COS", "WHERE", "RANK", "ELU", "REVERSE_SEQUENCE", "MATRIX_DIAG", "QUANTIZE",
    "MATRIX_SET_DIAG", "ROUND", "HARD_SWISH", "IF", "WHILE", "NON_MAX_SUPPRESSION_V4",
    "NON_MAX_SUPPRESSION_V5", "SCATTER_ND", "SELECT_V2", "DENSIFY", "SEGMENT_SUM", "BATCH_MATMUL",
    "PLACEHOLDER_FOR_GREATER_OP_CODES", "CUMSUM", "CALL_ONCE", "BROADCAST_TO", "RFFT2D", "CONV_3D", "IMAG",
    "REAL", "COMPLEX_ABS", "HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_SIZE",
    "REDUCE_ALL", "CONV_3D_TRANSPOSE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "BROADCAST_ARGS",
    "RANDOM_STANDARD_NORMAL", "BUCKETIZE", "RANDOM_UNIFORM", "MULTINOMIAL", "GELU", "DYNAMIC_UPDATE_SLICE",
    "RELU_0_TO_1", "UNSORTED_SEGMENT_PROD", "UNSORTED_SEGMENT_MAX", "UNSORTED_SEGMENT_SUM", "ATAN2",
    "UNSORTED_SEGMENT_MIN", "SIGN",
];

/// Tensor types, by number.
const TYPES: [&str; 19] = [
    "FLOAT32",
    "FLOAT16",
    "INT32",
    "UINT8",
    "INT64",
    "STRING",
    "BOOL",
    "INT16",
    "COMPLEX64",
    "INT8",
    "FLOAT64",
    "COMPLEX128",
    "UINT64",
    "RESOURCE",
    "VARIANT",
    "UINT32",
    "UINT16",
    "INT4",
    "BFLOAT16",
];

/// The file's tables.
pub(super) struct Model {
    flat: Flat,
    codes: Vector,
    buffers: Vector,
    tensors: Vector,
    operators: Vector,
    /// Name of the subgraph.
    pub(super) name: String,
    /// The tensors it takes.
    pub(super) inputs: Vec<i32>,
    /// The tensors it gives.
    pub(super) outputs: Vec<i32>,
}

/// A tensor's description.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// As messages say it: what is before the first `;`, at most [`MAX_NAME`] bytes.
    pub(super) name: String,
    /// Axes for one picture.
    pub(super) shape: Vec<i32>,
    /// Axes, -1 for any length; empty if it says nothing beyond `shape`.
    signature: Vec<i32>,
    dtype: u8,
    is_sparse: bool,
    /// First byte and number of bytes of its values, if they are in the file.
    pub(super) data: Option<(u64, u64)>,
}

/// An operator.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    /// Its code.
    pub(super) code: u32,
    /// What it takes; -1 for what is left out.
    pub(super) inputs: Vec<i32>,
    /// What it gives.
    pub(super) output: i32,
    /// Its options, if it has any.
    pub(super) options: Option<Table>,
    /// Name of what it gives: the layer's.
    pub(super) name: String,
    /// Number, kind and name, for messages.
    pub(super) place: String,
}

fn model(what: &str, found: impl ToString, expected: impl ToString) -> Problem {
    let (what, found, expected) = (what.to_owned(), found.to_string(), expected.to_string());
    TfliteProblem::Model { what, found, expected }.into()
}

impl Model {
    /// The tables of a file of `len` bytes.
    pub(super) fn open(source: Source, len: u64) -> Result<Self, Problem> {
        let mut flat = Flat::new(source, len);
        let root = flat.root()?;
        let version = flat.get_i32(root, 0, 0, "version")?;
        if version != 3 {
            return Err(model("schema version", version, 3));
        }
        let none = Vector { start: 0, len: 0 };
        let codes = flat.get_vector(root, 1, 4, "operator codes")?.unwrap_or(none);
        let buffers = flat.get_vector(root, 4, 4, "buffers")?.unwrap_or(none);
        let subgraphs = flat.get_vector(root, 2, 4, "subgraphs")?.unwrap_or(none);
        if subgraphs.len != 1 {
            return Err(model("number of subgraphs", subgraphs.len, 1));
        }
        let subgraph = flat.table_at(subgraphs, 0, "subgraph")?;
        let tensors = flat.get_vector(subgraph, 0, 4, "tensors")?.unwrap_or(none);
        let operators = flat.get_vector(subgraph, 3, 4, "operators")?.unwrap_or(none);
        if operators.len > MAX_OPERATORS {
            return Err(model("number of operators", operators.len, format!("at most {MAX_OPERATORS}")));
        }
        let one = |list: Result<Vec<i32>, usize>, what| match list {
            Ok(list) if list.len() == 1 => Ok(list),
            Ok(list) => Err(model(what, list.len(), 1)),
            Err(len) => Err(model(what, len, 1)),
        };
        let inputs = one(flat.get_i32s(subgraph, 1, 1, "inputs")?, "number of inputs")?;
        let outputs = one(flat.get_i32s(subgraph, 2, 1, "outputs")?, "number of outputs")?;
        let name = flat.get_string(subgraph, 4, MAX_NAME, "name of the subgraph")?;
        Ok(Self { flat, codes, buffers, tensors, operators, name, inputs, outputs })
    }

    /// Number of operators.
    pub(super) fn n_operators(&self) -> usize {
        self.operators.len
    }

    /// The file, for the values of tensors.
    pub(super) fn flat(&mut self) -> &mut Flat {
        &mut self.flat
    }

    /// Tensor `index`.
    pub(super) fn tensor(&mut self, index: i32) -> Result<Tensor, Problem> {
        let i = usize::try_from(index).ok().filter(|i| *i < self.tensors.len);
        let Some(i) = i else {
            return Err(model("tensor number", index, format!("less than {}", self.tensors.len)));
        };
        let table = self.flat.table_at(self.tensors, i, "tensor")?;
        let name = self.flat.get_string(table, 3, MAX_NAME, "name of a tensor")?;
        let name = match name.split(';').next() {
            Some("") | None => format!("tensor {i}"),
            Some(first) => first.to_owned(),
        };
        let problem = |what, found, expected: String| -> Problem {
            TfliteProblem::Tensor { tensor: name.clone(), what, found, expected }.into()
        };
        let mut axes = |n, what| match self.flat.get_i32s(table, n, MAX_AXES, what)? {
            Ok(axes) => Ok(axes),
            Err(found) => Err(problem("number of axes", found.to_string(), format!("at most {MAX_AXES}"))),
        };
        let shape = axes(0, "shape of a tensor")?;
        let signature = axes(7, "shape signature of a tensor")?;
        let dtype = self.flat.get_u8(table, 1, 0, "type of a tensor")?;
        let is_sparse = self.flat.get_table(table, 6, "sparsity of a tensor")?.is_some();
        let buffer = self.flat.get_i32(table, 2, 0, "buffer of a tensor")?;
        let data = match usize::try_from(buffer).ok().filter(|b| *b < self.buffers.len) {
            Some(buffer) => self.data(buffer)?,
            None => {
                let expected = format!("less than {}", self.buffers.len);
                return Err(problem("buffer", (buffer as u32).to_string(), expected));
            }
        };
        Ok(Tensor { name, shape, signature, dtype, is_sparse, data })
    }

    /// Place and length of a buffer's bytes; `None` for an empty one, which tensors have that are computed.
    fn data(&mut self, buffer: usize) -> Result<Option<(u64, u64)>, Problem> {
        let table = self.flat.table_at(self.buffers, buffer, "buffer")?;
        let (offset, size) = (
            self.flat.get_u64(table, 1, "offset of a buffer")?,
            self.flat.get_u64(table, 2, "size of a buffer")?,
        );
        // 0 and 1 mean that the bytes are in the vector.
        if offset > 1 {
            let end = offset.saturating_add(size);
            if end > self.flat.len() {
                return Err(TfliteProblem::Outside {
                    what: "end of a buffer",
                    at: end,
                    len: self.flat.len(),
                }
                .into());
            }
            return Ok((size > 0).then_some((offset, size)));
        }
        let data = self.flat.get_vector(table, 0, 1, "data of a buffer")?;
        Ok(data.filter(|data| data.len > 0).map(|data| (data.start, data.len as u64)))
    }

    /// Operator `number`, below [`Model::n_operators`].
    pub(super) fn operator(&mut self, number: usize) -> Result<Operator, Problem> {
        let flat = &mut self.flat;
        let table = flat.table_at(self.operators, number, "operator")?;
        let index = flat.get_i32(table, 0, 0, "code of an operator")? as u32;
        if index as usize >= self.codes.len {
            let what = format!("operator {number}: code number");
            return Err(model(&what, index, format!("less than {}", self.codes.len)));
        }
        let entry = flat.table_at(self.codes, index as usize, "operator code")?;
        let old = flat.get_u8(entry, 0, 0, "operator code")?;
        let code = (flat.get_i32(entry, 3, 0, "operator code")? as u32).max(u32::from(old));
        let mut kind =
            OPERATORS.get(code as usize).map_or_else(|| format!("number {code}"), ToString::to_string);
        if code == code::CUSTOM {
            kind = format!("{kind} {}", flat.get_string(entry, 1, MAX_NAME, "name of a custom operator")?);
        }
        let options = flat.get_table(table, 4, "options of an operator")?;
        let mut list = |n, what, named: &str| match flat.get_i32s(table, n, MAX_ARITY, what)? {
            Ok(list) => Ok(list),
            Err(found) => {
                let what = format!("operator {number} {kind}: number of {named}");
                Err(model(&what, found, format!("at most {MAX_ARITY}")))
            }
        };
        let inputs = list(1, "inputs of an operator", "inputs")?;
        let outputs = list(2, "outputs of an operator", "outputs")?;
        let Some(&output) = outputs.first() else {
            return Err(model(&format!("operator {number} {kind}: number of outputs"), 0, 1));
        };
        let name = self.tensor(output)?.name;
        let place = format!("operator {number} {kind} `{name}`");
        if outputs.len() > 1 {
            return Err(TfliteProblem::Unsupported { operator: place }.into());
        }
        Ok(Operator { code, inputs, output, options, name, place })
    }
}

impl Tensor {
    /// Its type, as messages say it.
    pub(super) fn dtype(&self) -> String {
        TYPES
            .get(usize::from(self.dtype))
            .map_or_else(|| format!("number {}", self.dtype), ToString::to_string)
    }

    /// Whether it holds whole numbers that shapes are made of.
    pub(super) fn is_index(&self) -> bool {
        matches!(self.dtype, 2 | 4)
    }

    /// Whether an operator may compute it here.
    pub(super) fn is_f32(&self) -> bool {
        self.dtype == 0
    }

    /// Axis `i` has any length.
    pub(super) fn is_open(&self, i: usize) -> bool {
        self.signature.get(i).is_some_and(|n| *n < 0) || self.shape.get(i).is_some_and(|n| *n < 0)
    }

    /// Where its values lie, checked against its shape.
    pub(super) fn stored(&self) -> Result<Stored, Problem> {
        let problem = |what, found: String, expected: String| -> Problem {
            TfliteProblem::Tensor { tensor: self.name.clone(), what, found, expected }.into()
        };
        let dtype = match self.dtype {
            0 => Dtype::F32,
            1 => Dtype::F16,
            18 => Dtype::Bf16,
            _ => return Err(problem("type", self.dtype(), "FLOAT32, FLOAT16 or BFLOAT16".into())),
        };
        if self.is_sparse {
            return Err(problem("storage", "sparse".into(), "dense".into()));
        }
        let Some((start, len)) = self.data else {
            return Err(problem("origin", "an operator".into(), "values in the file".into()));
        };
        let axes: Option<Vec<usize>> =
            self.shape.iter().map(|n| usize::try_from(*n).ok().filter(|n| *n > 0)).collect();
        let stored = axes.and_then(|axes| Stored::contiguous(axes, dtype, start));
        match stored.filter(|stored| stored.end() == start.checked_add(len)) {
            Some(stored) => Ok(stored),
            None => Err(problem(
                "size",
                format!("{len} bytes"),
                format!("those of a {} {:?}", self.dtype(), self.shape),
            )),
        }
    }

    /// Its values as whole numbers: axes and paddings.
    pub(super) fn integers(&self, flat: &mut Flat) -> Result<Option<Vec<i64>>, Problem> {
        let Some((start, len)) = self.data.filter(|(_, len)| self.is_index() && *len <= 512) else {
            return Ok(None);
        };
        let bytes = flat.source().bytes(start, len as usize)?;
        Ok(Some(match self.dtype {
            4 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
            _ => bytes.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_names() {
        for (code, name) in [
            (code::ADD, "ADD"),
            (code::CONV_2D, "CONV_2D"),
            (code::MAX_POOL_2D, "MAX_POOL_2D"),
            (code::CUSTOM, "CUSTOM"),
            (code::PACK, "PACK"),
            (114, "QUANTIZE"),
            (127, "PLACEHOLDER_FOR_GREATER_OP_CODES"),
            (158, "SIGN"),
        ] {
            assert_eq!(OPERATORS[code as usize], name);
        }
    }
}
