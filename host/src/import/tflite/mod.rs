//! Float TFLite models: a chain of operators, NHWC, with their weights.
//!
//! ```text
//! CONV_2D         filter OHWI, stride 1, SAME (or 1x1; or 3x3 VALID behind a PAD by one)       ─► Conv
//! MAX_POOL_2D     2x2, stride 1 or 2                                                           ─► MaxPool
//! MEAN over height and width, AVERAGE_POOL_2D over the whole map                               ─► GlobalAvgPool
//! FULLY_CONNECTED weights [out][in], its input flattened in HWC order                          ─► Flatten, Dense
//! RESHAPE, SQUEEZE of a map to a vector, also with a computed shape (SHAPE, STRIDED_SLICE…)    ─► Flatten
//! MUL, ADD, SUB, DIV with a constant a channel: what is left of batch normalization            ─► Affine
//! RELU, SOFTMAX, and fused RELU                                                                ─► Relu, Softmax
//! DEQUANTIZE of f16 weights                                                                    ─► read as f32
//! ```
//!
//! No crate reads this for us: `tract-tflite` wants the whole file in memory and gives its own graph, with operators merged;
//! generated readers (`flatbuffers`, `planus`) want the file in memory and bring the whole schema for eight tables.
//! See `flat`.

mod chain;
mod constants;
mod error;
mod flat;
mod ops;
mod schema;

use std::fs::File;

use chain::Chain;
use schema::Model;

pub use error::TfliteProblem;

use crate::graph::Shape;

use super::options::check_graph;
use super::stored::Source;
use super::{Format, ImportOptions, Imported, Problem};

/// Reads a TFLite file of `len` bytes.
pub(super) fn import(file: File, len: u64, options: &ImportOptions) -> Result<Imported, Problem> {
    let mut model = Model::open(Source::new(file, len), len)?;
    let mut notes = Vec::new();
    let (input, is_resized) = input(&mut model, options, &mut notes)?;
    let mut chain = Chain::new(model, input, is_resized);
    chain.run()?;
    let graph = chain.finish(&mut notes)?;
    check_graph(&graph, options)?;
    Ok(Imported { graph, format: Format::Tflite, notes })
}

/// The picture: from the input's description, checked against or replaced by what the user asked for. And whether the file
/// says another one.
fn input(
    model: &mut Model,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<(Shape, bool), Problem> {
    let tensor = model.tensor(model.inputs.first().copied().unwrap_or(-1))?;
    let problem = |what, found: String, expected: &str| -> Problem {
        TfliteProblem::Tensor { tensor: tensor.name.clone(), what, found, expected: expected.to_owned() }
            .into()
    };
    if !tensor.is_f32() {
        return Err(problem("type", tensor.dtype(), "FLOAT32 (quantized networks are not read)"));
    }
    let axes: Vec<Option<usize>> = (tensor.shape.iter().enumerate())
        .map(|(i, n)| usize::try_from(*n).ok().filter(|n| *n > 0 && !tensor.is_open(i)))
        .collect();
    let &[None | Some(1), height, width, Some(channels)] = axes.as_slice() else {
        return Err(problem("shape", format!("{:?}", tensor.shape), "[1, height, width, channels]"));
    };
    let in_file = height.zip(width).map(|(height, width)| Shape::new(height, width, channels));
    match (options.input, in_file) {
        (Some(asked), _) if asked.channels != channels => {
            Err(Problem::InputChannels { found: asked.channels, layer: tensor.name, expected: channels })
        }
        (Some(asked), Some(stated)) if asked != stated => {
            notes.push(format!("input {asked} as asked for, the file says {stated}"));
            Ok((asked, true))
        }
        (Some(asked), _) => Ok((asked, false)),
        (None, Some(stated)) => Ok((stated, false)),
        (None, None) => Err(Problem::InputUnknown),
    }
}
