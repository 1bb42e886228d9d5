//! HDF5 of Keras 1 to 3: whole models (`model_config` and `/model_weights`) and weights alone.
//!
//! ```text
//! /                      attributes model_config (whole models), layer_names (weights alone)
//! /model_weights         attribute  layer_names = [input, block1_conv1, …]
//!   /block1_conv1        attribute  weight_names = [block1_conv1/kernel:0, block1_conv1/bias:0]
//!     /block1_conv1/kernel:0        f32 [3, 3, in, out]      Keras 1: block1_conv1_W_1:0
//!     /block1_conv1/bias:0          f32 [out]                Keras 1: block1_conv1_b_1:0
//!   /vgg16               a nested model: weight_names lists the weights of all its layers
//! ```
//!
//! Kernels are HWIO and dense weights `[in][out]` already.

use std::collections::HashSet;

use hdf5_reader::group::Group;

use crate::graph::{Kind, Spec};

use super::super::outline::{Item, Outline};
use super::super::{ImportOptions, Problem};
use super::config::{Model, Parameters, Place, Source};
use super::h5::{dataset, hdf5, strings};
use super::stored::Stored;
use super::unsupported;

/// What Keras has as epsilon of a batch normalization, unless told otherwise.
pub(super) const EPSILON: f64 = 1e-3;

/// Names in `layer_names`, in order, and the layers among them, or in them, that have weights.
pub(super) fn layers(root: &Group) -> Result<(Vec<String>, Vec<Stored>), Problem> {
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
                None => stored.push(Stored {
                    group: layer.clone(),
                    owner,
                    tensors: vec![(weight, dataset)],
                    named: true,
                }),
            }
        }
    }
    // States of random numbers are no weights.
    stored.retain(|s| s.owner != "seed_generator");
    Ok((names, stored))
}

/// The network as names and shapes of a weights-only file show it.
pub(super) fn outline(
    names: &[String],
    stored: &[Stored],
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<Outline, Problem> {
    let mut outline = Outline::new();
    let mut block: Option<String> = None;
    let named_pools = names.iter().any(|n| word(n) == Word::Pool);
    let mut epsilon_noted = false;
    for name in names {
        let mut weighted = stored.iter().filter(|s| s.group == *name).peekable();
        if weighted.peek().is_none() {
            let word = word(name);
            if matches!(word, Word::Gap | Word::Flatten) {
                end_block(&mut outline, &mut block);
            }
            match word {
                Word::Pool => outline.push((name.clone(), Item::Pool)),
                Word::Gap => outline.push((name.clone(), Item::GlobalAvgPool)),
                Word::Flatten => outline.push((name.clone(), Item::Flatten)),
                Word::Dropout => outline.push((name.clone(), Item::Dropout)),
                Word::Relu => outline.push((name.clone(), Item::Relu)),
                Word::Nothing => {}
                Word::Unknown if options.arch.is_some() => {}
                Word::Unknown => return Err(Problem::ArchUnknown { layer: name.clone() }),
            }
            continue;
        }
        for stored in weighted {
            // A nested model's layers have their own names, a layer's weights may have others.
            let nested = stored.group != stored.owner && block_of(&stored.owner).is_some();
            let name = if nested { &stored.owner } else { name };
            let item = item(name, stored)?;
            if let (Item::Conv { .. }, None) = (&item, &options.arch)
                && (!named_pools || nested)
            {
                let Some(new_block) = block_of(name) else {
                    return Err(Problem::ArchUnknown { layer: name.clone() });
                };
                if block.as_ref().is_some_and(|done| done != new_block) {
                    end_block(&mut outline, &mut block);
                }
                block = Some(new_block.to_string());
            }
            if matches!(item, Item::Dense { .. }) {
                end_block(&mut outline, &mut block);
            }
            if matches!(item, Item::BatchNorm { .. }) && !std::mem::replace(&mut epsilon_noted, true) {
                notes.push(format!(
                    "epsilon of batch normalization {EPSILON}, as Keras has it: not in the file"
                ));
            }
            outline.push((name.clone(), item));
        }
    }
    end_block(&mut outline, &mut block);
    // An activation of no known kind behind the last dense layer gives the class scores.
    while matches!(outline.last(), Some((name, Item::Relu)) if !name.contains("relu") && !name.contains("re_lu"))
    {
        outline.pop();
    }
    relu_in_front_of_norms(&mut outline);
    Ok(outline)
}

/// A max-pooling behind each block of convolutions, where poolings are not listed.
fn end_block(outline: &mut Outline, block: &mut Option<String>) {
    if let Some(done) = block.take() {
        outline.push((format!("{done}_pool"), Item::Pool));
    }
}

/// All layers are listed, so a ReLU that is not must be part of the layer in front of the normalization.
fn relu_in_front_of_norms(outline: &mut Outline) {
    let mut i = 0;
    while i < outline.len() {
        let behind = outline[i + 1..].iter().position(|(_, item)| !matches!(item, Item::BatchNorm { .. }));
        let relu = behind.is_some_and(|n| n > 0 && outline[i + 1 + n].1 == Item::Relu);
        let norm = matches!(outline.get(i + 1), Some((_, Item::BatchNorm { .. })));
        if matches!(outline[i].1, Item::Conv { .. } | Item::Dense { .. }) && norm && !relu {
            let name = format!("{}_relu", outline[i].0);
            outline.insert(i + 1, (name, Item::Relu));
        }
        i += 1;
    }
}

/// What a layer with weights is.
pub(super) fn item(name: &str, stored: &Stored) -> Result<Item, Problem> {
    let dims = stored.kernel_shape();
    match (stored.parameters(), &dims[..]) {
        (Some(Parameters::Linear { .. }), &[height, width, inputs, filters]) if height == width => {
            Ok(Item::Conv { filter_size: height, inputs, filters })
        }
        (Some(Parameters::Linear { .. }), &[inputs, units]) => Ok(Item::Dense { inputs, units }),
        (Some(Parameters::BatchNorm { .. }), &[channels]) => {
            Ok(Item::BatchNorm { channels, epsilon: EPSILON })
        }
        (Some(Parameters::Normalization), [_]) => Ok(Item::Affine),
        _ => {
            let what = format!("a layer with weights of shapes {:?}", stored.shapes());
            Err(unsupported(name, what))
        }
    }
}

#[derive(PartialEq)]
enum Word {
    Pool,
    Gap,
    Flatten,
    Dropout,
    Relu,
    Nothing,
    Unknown,
}

/// What the name of a layer without weights says it does.
fn word(name: &str) -> Word {
    let starts = |words: &[&str]| words.iter().any(|w| name.starts_with(w));
    if starts(&["global_average_pool"]) || name == "gap" || name == "avg_pool" {
        Word::Gap
    } else if starts(&["max_pool", "maxpool"]) || (block_of(name).is_some() && name.ends_with("_pool")) {
        Word::Pool
    } else if starts(&["flatten"]) {
        Word::Flatten
    } else if starts(&["dropout"]) {
        Word::Dropout
    } else if name.contains("re_lu") || name.split('_').any(|p| p.starts_with("relu") || p.starts_with("act"))
    {
        Word::Relu
    } else if starts(&["input", "softmax", "zero_padding", "random_", "spatial_dropout", "gaussian_"]) {
        Word::Nothing
    } else {
        Word::Unknown
    }
}

/// `block3` of `block3_conv2`.
pub(super) fn block_of(name: &str) -> Option<&str> {
    let (block, _) = name.split_once('_')?;
    let number = block.strip_prefix("block")?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(block)
}

/// A network without a description. What tensors its layers have is open until [`settle`].
pub(super) fn model(spec: Spec) -> Model {
    let sources = (spec.layers.iter())
        .map(|layer| {
            let parameters = match layer.kind {
                Kind::Conv { .. } | Kind::Dense { .. } => Parameters::Linear { bias: true },
                Kind::BatchNorm { .. } => Parameters::BatchNorm { gamma: true, beta: true },
                Kind::Affine => Parameters::Normalization,
                _ => return Source::Nothing,
            };
            let name = layer.name.clone();
            Source::Stored { place: Place { top: name.clone(), name, path: Vec::new() }, parameters }
        })
        .collect();
    Model { spec, sources }
}

/// Gives every layer the tensors that the file has for it.
pub(super) fn settle(model: &mut Model, stored: &[Stored], order: &[Option<usize>]) {
    for (source, found) in model.sources.iter_mut().zip(order) {
        if let (Source::Stored { parameters, .. }, Some(i)) = (source, found)
            && let Some(there) = stored[*i].parameters()
        {
            *parameters = there;
        }
    }
}

/// For each layer the index of its weights: by name, and by position in a nested model, or in the whole, where no name fits.
pub(super) fn assign(
    model: &Model,
    stored: &[Stored],
    notes: &mut Vec<String>,
) -> Result<Vec<Option<usize>>, Problem> {
    let mut order = vec![None; model.spec.layers.len()];
    let places: Vec<(usize, &Place)> = (model.sources.iter().enumerate())
        .filter_map(|(i, s)| if let Source::Stored { place, .. } = s { Some((i, place)) } else { None })
        .collect();
    for &(layer_idx, place) in &places {
        let of_top: Vec<usize> = (0..stored.len()).filter(|&i| stored[i].group == place.top).collect();
        let of_name: Vec<usize> = of_top.iter().copied().filter(|&i| stored[i].owner == place.name).collect();
        order[layer_idx] = match (&of_top[..], &of_name[..]) {
            (_, [only]) => Some(*only),
            ([only], []) if place.top == place.name => Some(*only),
            ([first, ..], []) => by_position(place, &places, stored, *first, of_top.len()),
            // A model that was nested when its weights were written, or is now.
            ([], _) => {
                let mut owned = (0..stored.len()).filter(|&i| stored[i].owner == place.name);
                let only = owned.next();
                if owned.next().is_some() {
                    return Err(Problem::DuplicateLayer { name: place.name.clone() });
                }
                only
            }
            _ => return Err(Problem::DuplicateLayer { name: place.name.clone() }),
        };
    }
    if order.iter().all(Option::is_none) {
        for (&(layer_idx, _), i) in places.iter().zip(0..stored.len()) {
            order[layer_idx] = Some(i);
        }
        notes.push(
            "layer names are not those of the architecture: weights taken in the order of the file".into(),
        );
    }
    match (0..stored.len()).find(|i| !order.contains(&Some(*i))) {
        Some(i) => {
            let (layer, arch) = (stored[i].owner.clone(), model.spec.name.clone());
            Err(Problem::ExtraLayer { layer, arch })
        }
        None => Ok(order),
    }
}

/// Within a nested model of which no layer is known by its name: TensorFlow renames the weights of a second instance.
fn by_position(
    place: &Place,
    places: &[(usize, &Place)],
    stored: &[Stored],
    first: usize,
    count: usize,
) -> Option<usize> {
    let siblings: Vec<&Place> = places.iter().map(|(_, p)| *p).filter(|p| p.top == place.top).collect();
    let known = siblings.iter().any(|p| stored[first..first + count].iter().any(|s| s.owner == p.name));
    let position = siblings.iter().position(|p| p.name == place.name && p.path == place.path)?;
    (!known && siblings.len() == count).then_some(first + position)
}
