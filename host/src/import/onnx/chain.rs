//! The walk along the nodes: each must take what the one before it gave.

use std::collections::{HashMap, HashSet};

use super::error::OnnxProblem;
use super::model::{Model, Node, is_standard};
use super::values::{Ints, Values};
use crate::graph::{ActivationShape, Graph, Layer, Op, Shape, output_shape};
use crate::import::Problem;

/// How the current values lie in ONNX' tensor, batch first. The graph has them as HWC in any case.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Form {
    /// A map as `[n][c][h][w]`.
    Nchw,
    /// A map as `[n][h][w][c]`.
    Nhwc,
    /// A vector as `[n][c][1][1]`.
    Nc11,
    /// A vector as `[n][1][1][c]`.
    N11c,
    /// A vector as `[n][values]`; of a flattened NCHW map in that order, channel by channel.
    Flat(Option<Shape>),
}

impl Form {
    /// The axis of the channels, and the number of axes.
    pub(super) fn channel_axis(self) -> (usize, usize) {
        match self {
            Self::Nchw | Self::Nc11 => (1, 4),
            Self::Nhwc | Self::N11c => (3, 4),
            Self::Flat(_) => (1, 2),
        }
    }
}

/// A padding that the next node must make its own.
pub(super) struct Padded {
    /// The node that pads.
    pub(super) place: String,
    /// Top, left, bottom, right: 0 or 1 each.
    pub(super) pads: [i64; 4],
    pub(super) value: f32,
}

/// What a picture is: the graph's input.
pub(super) struct Picture {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) form: Form,
    /// The shape that the file says.
    pub(super) stated: Option<Shape>,
    /// The batch, if it is fixed.
    pub(super) batch: Option<usize>,
}

/// The layers so far, and what the next node must take.
pub(super) struct Chain {
    pub(super) values: Values,
    pub(super) opset: u64,
    input: Shape,
    stated: Option<Shape>,
    pub(super) batch: Option<usize>,
    pub(super) layers: Vec<Layer>,
    names: HashSet<String>,
    /// The value that the last node gave, its shape for one picture, and its form.
    pub(super) current: String,
    pub(super) shape: ActivationShape,
    pub(super) form: Form,
    /// Axes of every value of the picture's so far, the batch unknown: for `Shape`.
    seen: HashMap<String, Vec<Option<i64>>>,
    pub(super) padded: Option<Padded>,
}

impl Chain {
    pub(super) fn new(values: Values, opset: u64, picture: Picture) -> Self {
        let Picture { name, shape: input, form, stated, batch } = picture;
        let mut chain = Self {
            values,
            opset,
            input,
            stated,
            batch,
            layers: Vec::new(),
            names: HashSet::new(),
            current: String::new(),
            shape: ActivationShape::Map(input),
            form,
            seen: HashMap::new(),
            padded: None,
        };
        chain.gives(&name);
        chain
    }

    /// `name` is what there is now.
    fn gives(&mut self, name: &str) {
        self.current = name.to_string();
        let axes = match self.padded {
            // The padding has yet to become part of a layer.
            Some(_) => vec![None; self.form.channel_axis().1],
            None => self.axes().into_iter().map(|n| n.map(|n| n as i64)).collect(),
        };
        self.seen.insert(name.to_string(), axes);
    }

    /// ONNX' axes of what there is now.
    pub(super) fn axes(&self) -> Vec<Option<usize>> {
        let len = self.shape.len();
        match (self.form, self.shape) {
            (Form::Nchw, ActivationShape::Map(s)) => {
                vec![None, Some(s.channels), Some(s.height), Some(s.width)]
            }
            (Form::Nhwc, ActivationShape::Map(s)) => {
                vec![None, Some(s.height), Some(s.width), Some(s.channels)]
            }
            (Form::Nchw | Form::Nc11, _) => vec![None, Some(len), Some(1), Some(1)],
            (Form::Nhwc | Form::N11c, _) => vec![None, Some(1), Some(1), Some(len)],
            (Form::Flat(_), _) => vec![None, Some(len)],
        }
    }

    /// All nodes.
    pub(super) fn run(&mut self, model: &Model) -> Result<(), Problem> {
        for node in &model.nodes {
            self.node(node)?;
        }
        if let Some(padded) = &self.padded {
            return Err(unused_padding(padded, "the end"));
        }
        match model.outputs.as_slice() {
            [output] if output.name == self.current => Ok(()),
            [output] => {
                let (found, expected) = (format!("`{}`", output.name), format!("`{}`", self.current));
                Err(OnnxProblem::Model { what: "output", found, expected }.into())
            }
            outputs => {
                let (found, expected) = (format!("{}", outputs.len()), "1".into());
                Err(OnnxProblem::Model { what: "number of outputs", found, expected }.into())
            }
        }
    }

    /// Appends what `node` does.
    fn node(&mut self, node: &Node) -> Result<(), Problem> {
        let unsupported = || Err(OnnxProblem::Unsupported { node: node.place.clone() }.into());
        if !is_standard(&node.domain) {
            return unsupported();
        }
        let computed: Vec<&str> = (0..node.inputs.len())
            .filter_map(|i| node.input(i))
            .filter(|i| self.seen.contains_key(*i))
            .collect();
        let append = operator(&node.op);
        match computed[..] {
            [] if self.values.evaluate(node)? => return Ok(()),
            [] if append.is_some() => {
                return Err(node.problem("input", "constants alone", "what is computed from the picture"));
            }
            [] => return unsupported(),
            [of] if node.op == "Shape" => return self.shape_of(node, of),
            [found] if found != self.current => {
                return Err(OnnxProblem::NotAChain {
                    node: node.place.clone(),
                    found: found.into(),
                    expected: self.current.clone(),
                }
                .into());
            }
            [_] => {}
            _ => return Err(OnnxProblem::Joins { node: node.place.clone(), found: computed.len() }.into()),
        }
        let Some(append) = append else { return unsupported() };
        let passes = matches!(node.op.as_str(), "Conv" | "MaxPool" | "Transpose" | "Identity" | "Cast");
        if let Some(padded) = self.padded.take_if(|_| !passes) {
            return Err(unused_padding(&padded, &format!("followed by {}", node.place)));
        }
        append(self, node)?;
        // Further outputs (a mask of Dropout, indices of MaxPool) are unknown to those who would take them.
        let output = node.outputs.first().cloned().unwrap_or_default();
        self.gives(&output);
        Ok(())
    }

    /// `Shape` of a value.
    fn shape_of(&mut self, node: &Node, of: &str) -> Result<(), Problem> {
        let axes = self.seen.get(of).cloned().unwrap_or_default();
        let rank = axes.len() as i64;
        let bound = |i: i64| (if i < 0 { i.saturating_add(rank).max(0) } else { i.min(rank) }) as usize;
        let (start, end) = (bound(node.int("start", 0)), bound(node.int("end", rank)));
        let values = axes.get(start..end).unwrap_or(&[]).to_vec();
        if let Some(output) = node.outputs.first() {
            self.values.ints.insert(output.clone(), Ints { values, is_scalar: false });
        }
        Ok(())
    }

    /// `problem`, unless it comes from pictures of another size than the file's.
    pub(super) fn misfit(&self, problem: Problem) -> Problem {
        match self.stated {
            Some(expected) if expected != self.input => {
                Problem::InputMismatch { found: self.input, expected }
            }
            _ => problem,
        }
    }

    /// The graph of all layers; class scores end in softmax.
    pub(super) fn finish(mut self, name: &str, notes: &mut Vec<String>) -> Result<Graph, Problem> {
        // Factors of the scores fold into the layer that they come from.
        let counts = |op: &Op| !matches!(op, Op::Dropout { .. } | Op::Affine { .. } | Op::BatchNorm { .. });
        let last = self.layers.iter().rev().find(|l| counts(&l.op));
        if let Some(Layer { name, op: Op::Dense { .. }, .. }) = last {
            let name = format!("{name}_softmax");
            notes.push(
                "the model ends without softmax: its outputs are taken as logits, softmax added".into(),
            );
            self.push(&name, Op::Softmax)?;
        }
        if let Form::Flat(Some(map)) = self.form {
            notes.push(format!(
                "the outputs are a flattened {map} map: pixel by pixel, where the model has them channel by channel"
            ));
        }
        Ok(Graph::new(name, self.input, self.layers)?)
    }

    pub(super) fn push(&mut self, name: &str, op: Op) -> Result<(), Problem> {
        let mut name = name.to_string();
        if self.names.contains(&name) {
            let numbered = (2..).map(|n| format!("{name}_{n}")).find(|name| !self.names.contains(name));
            name = numbered.unwrap_or(name);
        }
        self.shape = output_shape(&name, op.kind(), self.shape)?;
        self.names.insert(name.clone());
        let fused = matches!(op, Op::Relu | Op::Softmax);
        self.layers.push(Layer { name, op, fused });
        Ok(())
    }
}

/// Appends the layers of a node.
type Append = fn(&mut Chain, &Node) -> Result<(), Problem>;

/// What operator `op` does.
fn operator(op: &str) -> Option<Append> {
    Some(match op {
        "Conv" => Chain::conv,
        "BatchNormalization" => Chain::batch_norm,
        "Relu" => |chain, node| chain.push(&node.name, Op::Relu),
        "Clip" => Chain::clip,
        "MaxPool" => Chain::max_pool,
        "GlobalAveragePool" => Chain::global_average_pool,
        "AveragePool" => Chain::average_pool,
        "ReduceMean" => Chain::reduce_mean,
        "Flatten" => Chain::flatten,
        "Reshape" => Chain::reshape,
        "Squeeze" | "Unsqueeze" => Chain::squeeze,
        "Transpose" => Chain::transpose,
        "Gemm" => Chain::gemm,
        "MatMul" => Chain::matmul,
        "Add" | "Sub" | "Mul" | "Div" => Chain::affine,
        "Pad" => Chain::pad,
        "Dropout" => Chain::dropout,
        "Softmax" => Chain::softmax,
        "Cast" => Chain::cast,
        "Identity" => |_, _| Ok(()),
        _ => return None,
    })
}

fn unused_padding(padded: &Padded, found: &str) -> Problem {
    let expected = "part of a 3x3 Conv without pads behind it, or of a MaxPool".into();
    let node = padded.place.as_str().into();
    OnnxProblem::Node { node, what: "padding", found: found.into(), expected }.into()
}
