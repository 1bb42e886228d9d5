//! The walk along the operators: each must take what the one before it gave.

use std::collections::{HashMap, HashSet};

use super::constants::Constants;
use super::error::TfliteProblem;
use super::schema::{Model, Operator, code};
use crate::graph::{ActivationShape, Graph, Layer, Op, Shape, output_shape};
use crate::import::Problem;

/// The layers so far, and what the next operator must take.
pub(super) struct Chain {
    pub(super) model: Model,
    pub(super) input: Shape,
    pub(super) is_resized: bool,
    pub(super) layers: Vec<Layer>,
    pub(super) names: HashSet<String>,
    /// The tensor that the last operator gave, and its shape for one picture.
    pub(super) current: i32,
    pub(super) shape: ActivationShape,
    /// Tensors that are stored as f16: what DEQUANTIZE gave, and what it took.
    pub(super) f16: HashMap<i32, i32>,
    /// Tensors that hold computed shapes.
    pub(super) shapes: HashSet<i32>,
    /// A padding by one that the next operator, a convolution, must use up.
    pub(super) padded: Option<String>,
    pub(super) constants: Constants,
}

impl Operator {
    pub(super) fn problem(
        &self,
        what: &'static str,
        found: impl ToString,
        expected: impl ToString,
    ) -> Problem {
        TfliteProblem::Operator {
            operator: self.place.as_str().into(),
            what,
            found: found.to_string().into(),
            expected: expected.to_string().into(),
        }
        .into()
    }
}

fn unused_padding(operator: &str, found: String) -> Problem {
    let expected = "part of a 3x3 CONV_2D with VALID padding behind it";
    let (what, found) = ("padding", found.into());
    TfliteProblem::Operator { operator: operator.into(), what, found, expected: expected.into() }.into()
}

impl Chain {
    /// No layers yet; pictures are `input`, which may be others than the file says (`is_resized`).
    pub(super) fn new(model: Model, input: Shape, is_resized: bool) -> Self {
        Self {
            input,
            is_resized,
            layers: Vec::new(),
            names: HashSet::new(),
            current: model.inputs.first().copied().unwrap_or(-1),
            shape: ActivationShape::Map(input),
            f16: HashMap::new(),
            shapes: HashSet::new(),
            padded: None,
            constants: Constants::default(),
            model,
        }
    }

    /// All operators.
    pub(super) fn run(&mut self) -> Result<(), Problem> {
        for number in 0..self.model.n_operators() {
            let op = self.model.operator(number)?;
            self.operator(&op)?;
        }
        Ok(())
    }

    /// Appends what `op` does.
    fn operator(&mut self, op: &Operator) -> Result<(), Problem> {
        if self.is_shape_arithmetic(op)? {
            self.shapes.insert(op.output);
            return Ok(());
        }
        if op.code == code::DEQUANTIZE {
            return self.dequantize(op);
        }
        if let Some(pad) = self.padded.take_if(|_| op.code != code::CONV_2D) {
            return Err(unused_padding(&pad, format!("followed by {}", op.place)));
        }
        let append = match op.code {
            code::CONV_2D => Self::conv,
            code::MAX_POOL_2D => Self::max_pool,
            code::AVERAGE_POOL_2D => Self::average_pool,
            code::MEAN => Self::mean,
            code::FULLY_CONNECTED => Self::dense,
            code::RELU => Self::relu,
            code::SOFTMAX => Self::softmax,
            code::RESHAPE => Self::reshape,
            code::SQUEEZE => Self::squeeze,
            code::PAD => Self::pad,
            code::ADD | code::SUB | code::MUL | code::DIV => Self::affine,
            _ => return Err(TfliteProblem::Unsupported { operator: op.place.clone() }.into()),
        };
        // Of the arithmetic operators either input may be the constant.
        if !matches!(op.code, code::ADD | code::SUB | code::MUL | code::DIV) {
            self.takes_current(op)?;
        }
        append(self, op)?;
        self.current = op.output;
        Ok(())
    }

    /// The graph of all layers; class scores end in softmax.
    pub(super) fn finish(mut self, notes: &mut Vec<String>) -> Result<Graph, Problem> {
        if let Some(pad) = &self.padded {
            return Err(unused_padding(pad, "the end".into()));
        }
        let output = self.model.outputs.first().copied().unwrap_or(-1);
        if output != self.current {
            let (found, last) = (self.model.tensor(output)?.name, self.model.tensor(self.current)?.name);
            let expected = format!("`{last}`, which the last operator gives");
            let what = "output".to_owned();
            return Err(TfliteProblem::Model { what, found: format!("`{found}`"), expected }.into());
        }
        let last = self.layers.last().map(|layer| (matches!(layer.op, Op::Dense { .. }), layer.name.clone()));
        if let Some((true, name)) = last {
            notes.push(
                "the model ends without softmax: its outputs are taken as logits, softmax added".into(),
            );
            self.push_fused(&name, Op::Softmax)?;
        }
        let name = if self.model.name.is_empty() { "tflite" } else { &self.model.name };
        Ok(Graph::new(name, self.input, self.layers)?)
    }

    pub(super) fn push(&mut self, name: &str, op: Op) -> Result<(), Problem> {
        self.push_layer(name.to_owned(), op, false)
    }

    /// The activation of the layer called `owner`.
    pub(super) fn push_fused(&mut self, owner: &str, op: Op) -> Result<(), Problem> {
        let suffix = if matches!(op, Op::Softmax) { "softmax" } else { "relu" };
        self.push_layer(format!("{owner}_{suffix}"), op, true)
    }

    pub(super) fn push_layer(&mut self, mut name: String, op: Op, fused: bool) -> Result<(), Problem> {
        // Names are cut at their first `;`, which may leave two the same.
        if self.names.contains(&name) {
            let numbered = (2..).map(|n| format!("{name}_{n}")).find(|name| !self.names.contains(name));
            name = numbered.unwrap_or(name);
        }
        self.shape = output_shape(&name, op.kind(), self.shape)?;
        self.names.insert(name.clone());
        self.layers.push(Layer { name, op, fused });
        Ok(())
    }

    /// A layer, and the activation that its operator states in option `n`.
    pub(super) fn push_with_activation(&mut self, op: &Operator, layer: Op, n: u16) -> Result<(), Problem> {
        let activation = self.u8_option(op, n, "fused activation")?;
        self.push(&op.name, layer)?;
        match activation {
            0 => Ok(()),
            1 => self.push_fused(&op.name, Op::Relu),
            other => {
                const NAMES: [&str; 4] = ["RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT"];
                let name = NAMES.get(usize::from(other) - 2);
                let found = name.map_or_else(|| format!("number {other}"), ToString::to_string);
                Err(op.problem("fused activation", found, "NONE or RELU"))
            }
        }
    }

    pub(super) fn u8_option(&mut self, op: &Operator, n: u16, what: &'static str) -> Result<u8, Problem> {
        match op.options {
            Some(options) => self.model.flat().get_u8(options, n, 0, what),
            None => Ok(0),
        }
    }

    pub(super) fn i32_option(
        &mut self,
        op: &Operator,
        n: u16,
        default: i32,
        what: &'static str,
    ) -> Result<i32, Problem> {
        match op.options {
            Some(options) => self.model.flat().get_i32(options, n, default, what),
            None => Ok(default),
        }
    }

    pub(super) fn f32_option(&mut self, op: &Operator, n: u16, what: &'static str) -> Result<f32, Problem> {
        match op.options {
            Some(options) => self.model.flat().get_f32(options, n, what),
            None => Ok(0.0),
        }
    }

    /// Whether padding is SAME; option 0 of convolutions and pools.
    pub(super) fn is_same(&mut self, op: &Operator) -> Result<bool, Problem> {
        match self.u8_option(op, 0, "padding")? {
            0 => Ok(true),
            1 => Ok(false),
            other => Err(op.problem("padding", format!("number {other}"), "SAME or VALID")),
        }
    }

    /// Height and width in options `w` and `w + 1`.
    pub(super) fn sides(
        &mut self,
        op: &Operator,
        w: u16,
        default: i32,
        what: &'static str,
    ) -> Result<(i32, i32), Problem> {
        let width = self.i32_option(op, w, default, what)?;
        Ok((self.i32_option(op, w + 1, default, what)?, width))
    }

    /// Errors unless the operator's first input is what the last one gave.
    pub(super) fn takes_current(&mut self, op: &Operator) -> Result<(), Problem> {
        let data = op.inputs.first().copied().unwrap_or(-1);
        if data == self.current {
            return Ok(());
        }
        let found = if data < 0 { "nothing".to_owned() } else { self.model.tensor(data)?.name };
        let (operator, expected) = (op.place.clone(), self.model.tensor(self.current)?.name);
        Err(TfliteProblem::NotAChain { operator, found, expected }.into())
    }

    /// SHAPE, STRIDED_SLICE, PACK and so on: a shape on its way to RESHAPE.
    pub(super) fn is_shape_arithmetic(&mut self, op: &Operator) -> Result<bool, Problem> {
        const CODES: [u32; 13] = [
            code::SHAPE,
            code::STRIDED_SLICE,
            code::SLICE,
            code::PACK,
            code::GATHER,
            code::CONCATENATION,
            code::CAST,
            code::REDUCE_PROD,
            code::MUL,
            code::ADD,
            code::SUB,
            code::RESHAPE,
            code::SQUEEZE,
        ];
        Ok(CODES.contains(&op.code) && self.model.tensor(op.output)?.is_index())
    }

    pub(super) fn dequantize(&mut self, op: &Operator) -> Result<(), Problem> {
        let from = op.inputs.first().copied().unwrap_or(-1);
        let tensor = self.model.tensor(from)?;
        if tensor.data.is_none() || !matches!(tensor.dtype().as_str(), "FLOAT16" | "BFLOAT16") {
            let found = format!("{} `{}`", tensor.dtype(), tensor.name);
            return Err(op.problem("input", found, "FLOAT16 values in the file"));
        }
        self.f16.insert(op.output, from);
        Ok(())
    }
}
