//! PyTorch's state_dict of a VGG, from any container.
//!
//! ```text
//! safetensors ─┐
//! zip, legacy ─┴► StateDict: name ─► place in the file ─► Layers (names, gaps) ─► Spec ─► Graph
//!
//! features.N.weight    [out][in][3][3]   OIHW ─► HWIO
//! classifier.N.weight  [out][in]              ─► [in][out]; in of the first is CHW, permuted to HWC
//! ```
//!
//! A pickle is data of strangers: `pickle` reads it without running anything. Tensors are read from the file a slab at a time,
//! with the strides they have there.

mod checkpoint;
mod error;
mod globals;
mod names;
mod pickle;
mod rebuild;
mod safetensors;

use std::collections::BTreeMap;
use std::fs::File;

pub use error::{PickleProblem, TorchProblem};

use crate::graph::{ActivationShape, Kind, Role, Shape, Tensor};

pub(super) use checkpoint::{is_legacy, is_torch};

use super::archive::Archive;
use super::outline;
use super::stored::{Dense, Filter, Source, Stored};
use super::{Format, ImportOptions, Imported, Problem};
use names::Layers;

/// The tensors of a file.
struct StateDict {
    tensors: BTreeMap<String, Entry>,
    source: Source,
}

/// One of them.
struct Entry {
    shape: Vec<usize>,
    /// Where it is, or the name of a type that no weight has.
    place: Result<Stored, String>,
}

/// Reads a safetensors file of `len` bytes.
pub(super) fn import_safetensors(file: File, len: u64, options: &ImportOptions) -> Result<Imported, Problem> {
    import(safetensors::open(file, len)?, Format::Safetensors, options, Vec::new())
}

/// Reads an archive of `torch.save` of `len` bytes.
pub(super) fn import_archive(
    file: File,
    len: u64,
    archive: &Archive,
    options: &ImportOptions,
) -> Result<Imported, Problem> {
    let mut notes = Vec::new();
    let tensors = checkpoint::open_archive(file, len, archive, &mut notes)?;
    import(tensors, Format::Torch, options, notes)
}

/// Reads a file of `len` bytes that `torch.save` wrote before PyTorch 1.6.
pub(super) fn import_legacy(file: File, len: u64, options: &ImportOptions) -> Result<Imported, Problem> {
    let mut notes = Vec::new();
    let tensors = checkpoint::open_legacy(file, len, &mut notes)?;
    import(tensors, Format::TorchLegacy, options, notes)
}

fn import(
    mut tensors: StateDict,
    format: Format,
    options: &ImportOptions,
    mut notes: Vec<String>,
) -> Result<Imported, Problem> {
    let layers = Layers::new(&tensors.tensors, &mut notes)?;
    let spec = outline::to_spec("vgg", &layers.outline, options, &mut notes)?;
    let shapes = spec.shapes()?;
    // The map that a layer takes flattened.
    let flattened = |layer_idx: usize| {
        let flatten = layer_idx.checked_sub(1).filter(|&i| spec.layers[i].kind == Kind::Flatten)?;
        match shapes[flatten.checked_sub(1)?] {
            ActivationShape::Map(map) => Some(map),
            ActivationShape::Vector(_) => None,
        }
    };
    let mut sources = [&layers.convs, &layers.norms, &layers.dense].map(|list| list.iter());
    let mut source = "";
    let mut asked = None;
    let graph = spec.attach(|layer_idx, role, shape| {
        if asked != Some(layer_idx) {
            asked = Some(layer_idx);
            let [convs, norms, dense] = &mut sources;
            let list = match spec.layers[layer_idx].kind {
                Kind::Conv { .. } => convs,
                Kind::BatchNorm { .. } => norms,
                _ => dense,
            };
            let Some(next) = list.next() else { return Ok(None) };
            source = next;
        }
        match (role, shape) {
            (Role::Kernel, &[height, width, inputs, filters]) => {
                tensors.filter(source, [height, width, inputs, filters]).map(Some)
            }
            (Role::Kernel, &[inputs, units]) => {
                tensors.dense(source, [inputs, units], flattened(layer_idx)).map(Some)
            }
            (_, &[n]) => {
                let what = parameter(role);
                let values = tensors.vector(source, what, n)?;
                if values.is_none() && !role.is_optional() {
                    let (layer, expected) = (source.to_string(), shape.to_vec());
                    return Err(Problem::MissingTensor { layer, what, expected });
                }
                Ok(match (values, flattened(layer_idx)) {
                    (Some(values), Some(map)) if role != Role::Bias => Some(to_hwc(&values, map)),
                    (values, _) => values,
                })
            }
            _ => Ok(None),
        }
    })?;
    let [convs, norms, dense] = &mut sources;
    match convs.next().or(norms.next()).or(dense.next()) {
        Some(extra) => Err(Problem::ExtraLayer { layer: extra.clone(), arch: spec.name.clone() }),
        None => Ok(Imported { graph, format, notes }),
    }
}

/// PyTorch's name of a vector.
fn parameter(role: Role) -> &'static str {
    match role {
        Role::Kernel | Role::Gamma | Role::Scale => "weight",
        Role::Bias | Role::Beta | Role::Shift => "bias",
        Role::Mean => "running_mean",
        Role::Variance => "running_var",
    }
}

/// Values of a flattened CHW `map` in HWC order.
fn to_hwc(values: &Tensor, map: Shape) -> Tensor {
    let area = map.height * map.width;
    let at = |i: usize| i % map.channels * area + i / map.channels;
    Tensor::vector((0..values.len()).map(|i| values.data()[at(i)]).collect())
}

impl StateDict {
    /// A tensor of exactly that shape; `None` if there is none of that name.
    fn find(&self, layer: &str, what: &str, expected: &[usize]) -> Result<Option<Stored>, Problem> {
        let Some(entry) = self.tensors.get(&format!("{layer}.{what}")) else { return Ok(None) };
        if entry.shape != expected {
            let (found, expected) = (entry.shape.clone(), format!("{expected:?}"));
            return Err(Problem::WeightShape { layer: layer.into(), what: what.into(), found, expected });
        }
        match &entry.place {
            Ok(stored) => Ok(Some(stored.clone())),
            Err(found) => {
                let found = found.clone();
                Err(Problem::DataType { layer: layer.into(), what: what.into(), found })
            }
        }
    }

    fn weight(&self, layer: &str, expected: &[usize]) -> Result<Stored, Problem> {
        self.find(layer, "weight", expected)?.ok_or_else(|| Problem::MissingTensor {
            layer: layer.into(),
            what: "weight",
            expected: expected.to_vec(),
        })
    }

    fn vector(&mut self, layer: &str, what: &str, n: usize) -> Result<Option<Tensor>, Problem> {
        let stored = self.find(layer, what, &[n])?;
        stored.map(|stored| self.source.vector(&stored)).transpose()
    }

    fn filter(&mut self, layer: &str, hwio: [usize; 4]) -> Result<Tensor, Problem> {
        let stored = self.weight(layer, &Filter::Oihw.stored(hwio))?;
        self.source.filter(&stored, Filter::Oihw, hwio)
    }

    /// Dense weights, or those of a convolution over the whole map.
    fn dense(
        &mut self,
        layer: &str,
        [inputs, units]: [usize; 2],
        map: Option<Shape>,
    ) -> Result<Tensor, Problem> {
        let axes = self.tensors.get(&format!("{layer}.weight")).map_or(2, |entry| entry.shape.len());
        if axes != 4 {
            let stored = self.weight(layer, &[units, inputs])?;
            return self.source.dense(&stored, Dense::OutIn, [inputs, units], map);
        }
        let Shape { height, width, channels } = map.unwrap_or(Shape::new(1, 1, inputs));
        let stored = self.weight(layer, &[units, channels, height, width])?;
        let &[unit, channel, row, column] = stored.strides.as_slice() else {
            return Err(layout(layer, &stored));
        };
        // One stride from input to input, in CHW or in HWC order.
        let (input, map) = match (height * width, row, column, channel) {
            (1, ..) => (channel, None),
            (area, row, 1, channel) if row == width && channel == area => (1, map),
            (_, row, column, 1) if column == channels && row == width * channels => (1, None),
            _ => return Err(layout(layer, &stored)),
        };
        let stored = Stored { shape: vec![units, inputs], strides: vec![unit, input], ..stored };
        self.source.dense(&stored, Dense::OutIn, [inputs, units], map)
    }
}

fn layout(layer: &str, stored: &Stored) -> Problem {
    TorchProblem::Strides { layer: layer.into(), found: stored.strides.clone() }.into()
}
