//! ONNX: a chain of operators with their weights, from tf2onnx, PyTorch's exporters and the model zoo.
//!
//! ```text
//! Conv 3x3 or 1x1, also behind a Pad by one                                         ─► Conv
//! BatchNormalization; Mul, Add, Sub, Div with a constant a channel                 ─► BatchNorm, Affine
//! Relu, Clip from 0; MaxPool 2x2; Dropout; Softmax                                 ─► Relu, MaxPool, Dropout, Softmax
//! GlobalAveragePool, AveragePool over the whole map, ReduceMean of height, width   ─► GlobalAvgPool
//! Flatten, Reshape to a vector (its target may be computed from shapes), Squeeze   ─► Flatten
//! Gemm, MatMul and Add                                                             ─► Dense
//! Transpose                                                                        ─► nothing: the order is kept in mind
//! ```
//!
//! ONNX' maps are NCHW, the graph's NHWC: filters change their axes, and the rows of the dense layer behind a flattened NCHW
//! map their order. See `wire` for how the file is read, `values` for what is known of its weights, `chain` for the walk along
//! its nodes.

mod chain;
mod constants;
mod dense;
mod error;
mod files;
mod layout;
mod model;
mod ops;
mod pool;
mod shapes;
mod values;
mod wire;

use std::fs::File;
use std::path::Path;

use chain::{Chain, Form, Picture};
use model::{Model, Node, ValueInfo};
use values::Values;
use wire::Wire;

pub use error::OnnxProblem;
pub(super) use wire::is_model;

use crate::graph::Shape;

use super::options::check_graph;
use super::stored::Source;
use super::{Format, ImportOptions, Imported, Problem};

/// Reads an ONNX file of `len` bytes at `path`.
pub(super) fn import(
    path: &Path,
    file: File,
    len: u64,
    options: &ImportOptions,
) -> Result<Imported, Problem> {
    let mut wire = Wire::new(Source::new(file, len));
    let mut model = Model::read(&mut wire)?;
    model.sort()?;
    let mut notes = Vec::new();
    let picture = picture(&model, options, &mut notes)?;
    let mut values = Values::new(wire, path);
    for (name, tensor) in std::mem::take(&mut model.initializers) {
        values.define(&name, &tensor)?;
    }
    let mut chain = Chain::new(values, model.opset, picture);
    chain.run(&model)?;
    let name = if model.name.is_empty() { "onnx" } else { &model.name };
    let graph = chain.finish(name, &mut notes)?;
    check_graph(&graph, options)?;
    Ok(Imported { graph, format: Format::Onnx, notes })
}

/// The picture: the graph's one input, checked against or replaced by what the user asked for.
fn picture(model: &Model, options: &ImportOptions, notes: &mut Vec<String>) -> Result<Picture, Problem> {
    // Old files list the weights among the inputs.
    let pictures: Vec<&ValueInfo> =
        model.inputs.iter().filter(|i| !model.initializers.contains_key(&i.name)).collect();
    let problem =
        |what, found: String, expected: String| Problem::from(OnnxProblem::Model { what, found, expected });
    let [picture] = pictures[..] else {
        return Err(problem("number of inputs", pictures.len().to_string(), "1".into()));
    };
    if !matches!(picture.elem_type, 1 | 10 | 11 | 16) {
        let found = format!("of type {}", picture.elem_type);
        return Err(problem("input", found, "of type 1 (f32), 10 (f16), 11 (f64) or 16 (bf16)".into()));
    }
    // A file may leave open even how many axes there are.
    let dims = picture.dims.as_deref().unwrap_or(&[None; 4]);
    let &[batch, a, b, c] = dims else {
        let axes: Vec<String> =
            dims.iter().map(|d| d.map_or_else(|| "?".into(), |n| n.to_string())).collect();
        return Err(problem("input", format!("of shape [{}]", axes.join(", ")), "of 4 axes".into()));
    };
    let form = form(&model.nodes, &picture.name, [a, c]);
    let (height, width, channels) = if form == Form::Nhwc { (a, b, c) } else { (b, c, a) };
    let Some(channels) = channels.or(options.input.map(|i| i.channels)) else {
        return Err(Problem::InputUnknown);
    };
    let stated = height.zip(width).map(|(height, width)| Shape::new(height, width, channels));
    let shape = match (options.input, stated) {
        (Some(asked), _) if asked.channels != channels => {
            let (found, layer) = (asked.channels, picture.name.clone());
            return Err(Problem::InputChannels { found, layer, expected: channels });
        }
        (Some(asked), Some(stated)) if asked != stated => {
            notes.push(format!("input {asked} as asked for, the file says {stated}"));
            asked
        }
        (Some(asked), _) => asked,
        (None, Some(stated)) => stated,
        (None, None) => return Err(Problem::InputUnknown),
    };
    if let Some(batch @ 2..) = batch {
        notes.push(format!("one picture at a time, the file says {batch}"));
    }
    Ok(Picture { name: picture.name.clone(), shape, form, stated, batch })
}

/// The order of the picture's axes: NHWC if a transposition to NCHW is what it meets first, arithmetic aside. Of one channel
/// (`ends` are the first and the last axis behind the batch) a `Reshape` does the same.
fn form(nodes: &[Node], picture: &str, ends: [Option<usize>; 2]) -> Form {
    let mut name = picture;
    for node in nodes {
        if !node.inputs.iter().any(|i| i == name) || node.op == "Shape" {
            continue;
        }
        match node.op.as_str() {
            "Transpose" if node.ints("perm") == Some(&[0, 3, 1, 2]) => return Form::Nhwc,
            "Reshape" if ends[1] == Some(1) && ends[0] != Some(1) => return Form::Nhwc,
            // Keras' padding comes before the transposition.
            "Pad" | "Identity" | "Cast" | "Mul" | "Add" | "Sub" | "Div" => {
                name = node.outputs.first().map_or("", String::as_str);
            }
            _ => break,
        }
    }
    Form::Nchw
}
