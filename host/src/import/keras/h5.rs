//! Keras HDF5: whole models (`model_config` and `/model_weights`) and weights alone.
//!
//! ```text
//! /                      attributes model_config (whole models), layer_names (weights alone)
//! /model_weights         attribute  layer_names = [input, block1_conv1, …]
//!   /block1_conv1        attribute  weight_names = [block1_conv1/kernel:0, block1_conv1/bias:0]
//!     /block1_conv1/kernel:0        f32 [3, 3, in, out]      Keras 1: block1_conv1_W_1:0
//!     /block1_conv1/bias:0          f32 [out]                Keras 1: block1_conv1_b_1:0
//! ```
//!
//! Kernels are HWIO and dense weights `[in][out]` already. Big datasets are read in slabs straight to their place.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use half::f16;
use hdf5_reader::group::Group;
use hdf5_reader::{Attribute, Dataset, Datatype, Hdf5File, OpenOptions, SliceInfo, SliceInfoElem};
use zerocopy::IntoBytes;

use crate::graph::{Kind, Role, Spec, Tensor};

use super::config;
use crate::import::outline::{self, Item, Outline};
use crate::import::{Format, ImportOptions, Imported, Problem};

/// Most bytes read at once from a dataset, beside the tensor they go to.
const SLAB_BYTES: usize = 16 << 20;
/// Deflate cannot shrink more than so many times.
const MAX_COMPRESSION: u64 = 1032;

/// Reads a Keras file of `len` bytes.
pub(in crate::import) fn import(path: &Path, len: u64, options: &ImportOptions) -> Result<Imported, Problem> {
    let open = OpenOptions::default().with_chunk_cache_bytes(0).with_max_chunk_bytes(1 << 28);
    let file = Hdf5File::open_with_options(path, open).map_err(|e| hdf5("HDF5 file", e))?;
    let root = file.root_group().map_err(|e| hdf5("root group", e))?;
    let mut notes = Vec::new();
    let attributes = root.attributes().map_err(|e| hdf5("root attributes", e))?;
    let config = attributes.iter().find(|a| a.name == "model_config");
    let (format, spec, stored) = if let Some(config) = config {
        let config = config.read_string().map_err(|e| hdf5("attribute `model_config`", e))?;
        let spec = config::parse(&config, options, &mut notes)?;
        let weights = root.group("model_weights").map_err(|e| hdf5("group `model_weights`", e))?;
        let (_, stored) = stored_layers(&weights)?;
        check_options(&spec, options)?;
        (Format::KerasModel, spec, stored)
    } else {
        if root.group("layers").is_ok() || root.group("_layer_checkpoint_dependencies").is_ok() {
            return Err(Problem::UnsupportedFormat { what: "a Keras 3 .weights.h5 file" });
        }
        let (names, stored) = stored_layers(&root)?;
        let outline = outline_of(&names, &stored, options)?;
        let name = path.file_stem().map_or_else(|| "vgg".into(), |s| s.to_string_lossy().into_owned());
        let spec = outline::to_spec(&name, &outline, options, &mut notes)?;
        (Format::KerasWeights, spec, stored)
    };
    let order = assign(&spec, &stored, &mut notes)?;
    let graph = spec.attach(|layer_idx, role, expected| {
        let layer = &spec.layers[layer_idx].name;
        let Some(stored) = order[layer_idx].map(|i| &stored[i]) else {
            return Err(Problem::MissingLayer { layer: layer.clone(), expected: expected.to_vec() });
        };
        let found = match role {
            Role::Kernel => stored.tensor(layer, expected.len(), "kernel", expected),
            // `use_bias=False`: the kernel is all there is.
            Role::Bias if stored.tensors.len() == 1 => return Ok(None),
            Role::Bias => stored.tensor(layer, 1, "bias", expected),
            _ => return Ok(None),
        };
        found?.read(len, expected).map(Some)
    })?;
    Ok(Imported { graph, format, notes })
}

fn hdf5(what: impl Into<String>, error: impl fmt::Display) -> Problem {
    Problem::Hdf5 { what: what.into(), message: error.to_string() }
}

/// The weights of one layer.
struct Stored {
    /// Group they lie in: the layer, or the nested model it belongs to.
    group: String,
    /// Layer the weights' names say: the component before the last.
    owner: String,
    tensors: Vec<(String, Dataset)>,
}

/// Names in `layer_names`, in order, and the layers among them that have weights.
fn stored_layers(root: &Group) -> Result<(Vec<String>, Vec<Stored>), Problem> {
    let names = strings(root, "layer_names")?.ok_or_else(|| Problem::Missing {
        place: "attribute `layer_names`".into(),
        expected: "the list of layers Keras writes",
    })?;
    let mut seen = HashSet::new();
    let mut stored: Vec<Stored> = Vec::new();
    for layer in &names {
        if !seen.insert(layer) {
            return Err(Problem::DuplicateLayer { name: layer.clone() });
        }
        let group = root.group(layer).map_err(|e| hdf5(format!("layer `{layer}`"), e))?;
        let weights = strings(&group, "weight_names")?.ok_or_else(|| Problem::Missing {
            place: format!("layer `{layer}`: attribute `weight_names`"),
            expected: "the list of weights Keras writes",
        })?;
        let first = stored.len();
        for weight in weights {
            let owner = weight.rsplit('/').nth(1).unwrap_or(layer).to_string();
            let dataset = dataset(&group, &weight)
                .map_err(|e| hdf5(format!("layer `{layer}`: weight `{weight}`"), e))?;
            match stored[first..].iter_mut().find(|s| s.owner == owner) {
                Some(s) if s.tensors.iter().any(|(name, _)| *name == weight) => {
                    return Err(Problem::DuplicateTensor { name: weight });
                }
                Some(s) => s.tensors.push((weight, dataset)),
                None => stored.push(Stored { group: layer.clone(), owner, tensors: vec![(weight, dataset)] }),
            }
        }
    }
    Ok((names, stored))
}

fn dataset(group: &Group, path: &str) -> Result<Dataset, hdf5_reader::error::Error> {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut group = group.clone();
    for part in folders.split('/').filter(|p| !p.is_empty()) {
        group = group.group(part)?;
    }
    group.dataset(name)
}

/// A list of strings, which Keras splits into `name0`, `name1`… when it is long, and writes as floats when it is empty.
fn strings(group: &Group, name: &str) -> Result<Option<Vec<String>>, Problem> {
    let what = || format!("group `{}`: attribute `{name}`", group.name());
    let attributes = group.attributes().map_err(|e| hdf5(what(), e))?;
    let read = |a: &Attribute| match a.num_elements() {
        Ok(0) => Ok(Vec::new()),
        _ => a.read_strings().map_err(|e| hdf5(what(), e)),
    };
    if let Some(found) = attributes.iter().find(|a| a.name == name) {
        return read(found).map(Some);
    }
    let mut parts = None;
    for i in 0.. {
        let part = format!("{name}{i}");
        match attributes.iter().find(|a| a.name == part) {
            Some(found) => parts.get_or_insert_with(Vec::new).extend(read(found)?),
            None => break,
        }
    }
    Ok(parts)
}

/// The network as names and shapes of a weights-only file show it.
fn outline_of(names: &[String], stored: &[Stored], options: &ImportOptions) -> Result<Outline, Problem> {
    let mut outline = Outline::new();
    let mut block: Option<&str> = None;
    let named_pools = names.iter().any(|n| word(n) == Word::Pool);
    for name in names {
        let Some(stored) = stored.iter().find(|s| s.group == *name) else {
            match word(name) {
                Word::Pool => outline.push((name.clone(), Item::Pool)),
                Word::Gap => outline.push((name.clone(), Item::GlobalAvgPool)),
                Word::Flatten => outline.push((name.clone(), Item::Flatten)),
                Word::Dropout => outline.push((name.clone(), Item::Dropout)),
                Word::Nothing => {}
                Word::Unknown if options.arch.is_some() => {}
                Word::Unknown => return Err(Problem::ArchUnknown { layer: name.clone() }),
            }
            continue;
        };
        let kernel = stored.tensors.iter().map(|(_, d)| d).find(|d| d.ndim() >= 2);
        let dims: Vec<usize> = kernel.map_or_else(Vec::new, shape);
        let item = match dims[..] {
            [height, width, inputs, filters] if height == width => {
                let new_block = block_of(name);
                if !named_pools && options.arch.is_none() {
                    let Some(new_block) = new_block else {
                        return Err(Problem::ArchUnknown { layer: name.clone() });
                    };
                    if let Some(done) = block.filter(|b| *b != new_block) {
                        outline.push((format!("{done}_pool"), Item::Pool));
                    }
                    block = Some(new_block);
                }
                Item::Conv { filter_size: height, inputs, filters }
            }
            [inputs, units] => {
                if let Some(done) = block.take() {
                    outline.push((format!("{done}_pool"), Item::Pool));
                }
                Item::Dense { inputs, units }
            }
            _ => {
                let shapes: Vec<Vec<usize>> = stored.tensors.iter().map(|(_, d)| shape(d)).collect();
                let what = format!("a layer with weights of shapes {shapes:?}");
                return Err(Problem::UnsupportedLayer { layer: name.clone(), what });
            }
        };
        outline.push((name.clone(), item));
    }
    Ok(outline)
}

#[derive(PartialEq)]
enum Word {
    Pool,
    Gap,
    Flatten,
    Dropout,
    Nothing,
    Unknown,
}

/// What the name of a layer without weights says it does.
fn word(name: &str) -> Word {
    if name.starts_with("global_average_pool") || name == "gap" || name == "avg_pool" {
        Word::Gap
    } else if name.starts_with("max_pool")
        || name.starts_with("maxpool")
        || (block_of(name).is_some() && name.ends_with("_pool"))
    {
        Word::Pool
    } else if name.starts_with("flatten") {
        Word::Flatten
    } else if name.starts_with("dropout") {
        Word::Dropout
    } else if ["input", "activation", "relu", "re_lu", "softmax"].iter().any(|p| name.starts_with(p)) {
        Word::Nothing
    } else {
        Word::Unknown
    }
}

/// `block3` of `block3_conv2`.
fn block_of(name: &str) -> Option<&str> {
    let (block, _) = name.split_once('_')?;
    let number = block.strip_prefix("block")?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(block)
}

/// For each layer of `spec` the index of its weights: by name, else, if no name fits at all, by position.
fn assign(spec: &Spec, stored: &[Stored], notes: &mut Vec<String>) -> Result<Vec<Option<usize>>, Problem> {
    let weighted = |kind: Kind| matches!(kind, Kind::Conv { .. } | Kind::Dense { .. });
    let mut order = vec![None; spec.layers.len()];
    for (layer_idx, layer) in spec.layers.iter().enumerate().filter(|(_, l)| weighted(l.kind)) {
        let mut found =
            stored.iter().enumerate().filter(|(_, s)| s.owner == layer.name || s.group == layer.name);
        order[layer_idx] = found.next().map(|(i, _)| i);
        if found.next().is_some() {
            return Err(Problem::DuplicateLayer { name: layer.name.clone() });
        }
    }
    if order.iter().all(Option::is_none) {
        let slots = (0..order.len()).filter(|&i| weighted(spec.layers[i].kind));
        for (i, layer_idx) in slots.enumerate().filter(|(i, _)| *i < stored.len()) {
            order[layer_idx] = Some(i);
        }
        notes.push(
            "layer names are not those of the architecture: weights taken in the order of the file".into(),
        );
    }
    for (i, extra) in stored.iter().enumerate() {
        if !order.contains(&Some(i)) {
            return Err(Problem::ExtraLayer { layer: extra.owner.clone(), arch: spec.name.clone() });
        }
    }
    Ok(order)
}

/// A whole model must agree with what the user says it is.
fn check_options(spec: &Spec, options: &ImportOptions) -> Result<(), Problem> {
    let classes = spec.layers.iter().rev().find_map(|l| match l.kind {
        Kind::Dense { units } => Some(units),
        _ => None,
    });
    if let (Some(found), Some(expected)) = (classes, options.classes)
        && found != expected
    {
        return Err(Problem::Classes { found, expected });
    }
    let Some(arch) = options.arch else { return Ok(()) };
    let kinds = |s: &Spec| -> Vec<String> {
        let kept = s.layers.iter().filter(|l| !matches!(l.kind, Kind::Dropout { .. }));
        kept.map(|l| l.kind.to_string()).collect()
    };
    let (found, expected) = (kinds(spec), kinds(&arch.spec(spec.input, classes.unwrap_or(1))));
    let at = |list: &[String], i: usize| list.get(i).cloned().unwrap_or_else(|| "nothing".into());
    match (0..found.len().max(expected.len())).find(|&i| at(&found, i) != at(&expected, i)) {
        None => Ok(()),
        Some(i) => Err(Problem::ArchMismatch {
            arch: arch.to_string(),
            position: i + 1,
            found: at(&found, i),
            expected: at(&expected, i),
        }),
    }
}

fn shape(dataset: &Dataset) -> Vec<usize> {
    dataset.shape().iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect()
}

impl Stored {
    /// The layer's only tensor of rank `rank`.
    fn tensor<'a>(
        &'a self,
        layer: &'a str,
        rank: usize,
        what: &'static str,
        expected: &[usize],
    ) -> Result<Found<'a>, Problem> {
        let missing = || Problem::MissingTensor { layer: layer.into(), what, expected: expected.to_vec() };
        let is_bias = |name: &str| {
            let last = name.rsplit('/').next().unwrap_or(name).trim_end_matches(":0");
            last.starts_with("bias") || last.ends_with("_b") || last.ends_with("_b_1")
        };
        let mut fitting = self.tensors.iter().filter(|(name, _)| is_bias(name) == (rank == 1));
        let (_, dataset) = fitting.next().ok_or_else(missing)?;
        if let Some((extra, _)) = fitting.next() {
            let what = format!("weight `{extra}`");
            return Err(Problem::UnsupportedLayer { layer: layer.into(), what });
        }
        Ok(Found { layer, what, dataset })
    }
}

fn type_name(dtype: &Datatype) -> String {
    match dtype {
        Datatype::FixedPoint { size, signed, .. } => {
            format!("{}{}", if *signed { "i" } else { "u" }, u32::from(*size) * 8)
        }
        Datatype::FloatingPoint { size, .. } => format!("f{}", u32::from(*size) * 8),
        Datatype::String { .. } | Datatype::VarLen { .. } => "text".into(),
        _ => "no number type".into(),
    }
}

/// A dataset found for a layer.
struct Found<'a> {
    layer: &'a str,
    what: &'static str,
    dataset: &'a Dataset,
}

impl Found<'_> {
    /// Its values in f32, from a file of `len` bytes.
    fn read(&self, len: u64, expected: &[usize]) -> Result<Tensor, Problem> {
        let Self { layer, what, dataset } = *self;
        let found = shape(dataset);
        if found != expected {
            let expected = format!("{expected:?}");
            return Err(Problem::WeightShape { layer: layer.into(), what: what.into(), found, expected });
        }
        let size = match dataset.dtype() {
            Datatype::FloatingPoint { size: size @ (2 | 4 | 8), .. } => usize::from(*size),
            other => {
                let found = type_name(other);
                return Err(Problem::DataType { layer: layer.into(), what: what.into(), found });
            }
        };
        let values: u64 = dataset.shape().iter().fold(1, |n, &d| n.saturating_mul(d));
        let need = values.saturating_mul(size as u64);
        let most = if dataset.chunks().is_some() { len.saturating_mul(MAX_COMPRESSION) } else { len };
        let values = usize::try_from(values).ok().filter(|_| need <= most);
        let Some(values) = values else {
            return Err(Problem::TensorTooLarge { layer: layer.into(), what: what.into(), need, len });
        };
        let data = self.values(values, size).map_err(|e| hdf5(format!("layer `{layer}`: {what}"), e))?;
        Tensor::new(expected.to_vec(), data)
            .ok_or_else(|| hdf5(format!("layer `{layer}`: {what}"), "wrong length"))
    }

    fn values(&self, n: usize, size: usize) -> Result<Vec<f32>, hdf5_reader::error::Error> {
        let dataset = self.dataset;
        if size == 2 {
            let raw = dataset.read_native_bytes()?;
            return Ok(raw.as_chunks().0.iter().map(|b| f16::from_ne_bytes(*b).to_f32()).collect());
        }
        if size == 8 {
            let raw = dataset.read_native_bytes()?;
            return Ok(raw.as_chunks().0.iter().map(|b| f64::from_ne_bytes(*b) as f32).collect());
        }
        let mut data = vec![0f32; n];
        let rows = dataset.shape().first().copied().unwrap_or(1);
        let row = n / usize::try_from(rows).unwrap_or(usize::MAX).max(1);
        if n * 4 <= SLAB_BYTES || row == 0 {
            dataset.read_native_bytes_into(data.as_mut_slice().as_mut_bytes())?;
            return Ok(data);
        }
        let step = (SLAB_BYTES / 4 / row).max(1);
        for (slab, out) in data.chunks_mut(step * row).enumerate() {
            let start = (slab * step) as u64;
            let mut selections =
                vec![SliceInfoElem::Slice { start, end: (start + step as u64).min(rows), step: 1 }];
            let full = |&d: &u64| SliceInfoElem::Slice { start: 0, end: d, step: 1 };
            selections.extend(dataset.shape()[1..].iter().map(full));
            let read = dataset.read_slice::<f32>(&SliceInfo { selections })?;
            match read.as_slice() {
                Some(values) if values.len() == out.len() => out.copy_from_slice(values),
                _ => read.iter().zip(out).for_each(|(from, to)| *to = *from),
            }
        }
        Ok(data)
    }
}
