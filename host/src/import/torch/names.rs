//! Names of a state_dict to layers: torchvision's and timm's VGG.
//!
//! ```text
//! features.N    conv 4-D weight, relu N+1, [pool N+2]        classifier.N  dense, relu, [dropout]      torchvision
//!               conv, batch norm N+1, relu, [pool]                         dense, batch norm, relu, [dropout]
//! pre_logits.fc1, .fc2    7x7 and 1x1 convolutions           head.fc       dense                       timm
//! classifier, fc, head    dense, behind global average pooling or flattening
//! ```
//!
//! Only layers with weights have names; the rest follows from the gaps between indices, and a gap that fits no pattern is an
//! error. `module.`, `model.` and `_orig_mod.` in front of a name are what wrappers add.
//!
//! ```ignore
//! let layers = Layers::new(&tensors, &mut notes)?;
//! assert_eq!(layers.outline[0], ("features.0".into(), Item::Conv { filter_size: 3, inputs: 3, filters: 64 }));
//! ```

use std::collections::BTreeMap;

use super::Entry;
use super::error::TorchProblem;
use crate::import::Problem;
use crate::import::outline::{Item, Outline};

/// What wrappers put in front of names: `DataParallel`, training scripts, `torch.compile`.
const PREFIXES: [&str; 3] = ["module.", "model.", "_orig_mod."];
/// PyTorch's default, which no state_dict says.
const EPSILON: f64 = 1e-5;

/// Layers of a state_dict, in the order of computation.
pub(super) struct Layers {
    /// All of them, also what is concluded from gaps.
    pub(super) outline: Outline,
    /// Those with weights: prefixes of their tensors, as the file has them.
    pub(super) convs: Vec<String>,
    pub(super) norms: Vec<String>,
    pub(super) dense: Vec<String>,
}

/// The place of a layer: part of the network, index in it.
type Slot = (Part, usize);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Features,
    PreLogits,
    Head,
}

/// A layer with weights.
struct Module {
    /// Without prefixes: `features.0`.
    name: String,
    /// As the file has it: `module.features.0`.
    key: String,
    item: Item,
}

impl Layers {
    /// Finds the layers of `tensors`.
    pub(super) fn new(tensors: &BTreeMap<String, Entry>, notes: &mut Vec<String>) -> Result<Self, Problem> {
        let modules = modules(tensors, notes)?;
        let mut layers =
            Self { outline: Outline::new(), convs: Vec::new(), norms: Vec::new(), dense: Vec::new() };
        let part = |wanted: Part| -> Vec<(usize, &Module)> {
            let found = modules.iter().filter(|((part, _), _)| *part == wanted);
            found.map(|((_, index), module)| (*index, module)).collect()
        };
        layers.features(&part(Part::Features), notes)?;
        layers.pre_logits(&part(Part::PreLogits))?;
        layers.head(&part(Part::Head))?;
        if !layers.norms.is_empty() {
            notes.push(format!(
                "batch normalization with epsilon {EPSILON:e}, PyTorch's default: not in the file"
            ));
        }
        if layers.dense.is_empty() && !layers.convs.is_empty() {
            notes.push("no dense layers: a feature extractor, which gives its last map".into());
        }
        Ok(layers)
    }

    fn features(&mut self, modules: &[(usize, &Module)], notes: &mut Vec<String>) -> Result<(), Problem> {
        const CONV: &str = "2 (convolution, relu) or 3 (and max-pool)";
        const NORM: &str = "1 (convolution, batch normalization)";
        for (i, (index, module)) in modules.iter().enumerate() {
            let before = i.checked_sub(1).map(|i| (modules[i].0, modules[i].1));
            let is_norm = |module: &Module| matches!(module.item, Item::BatchNorm { .. });
            match before {
                None if *index == 0 => {}
                None => return Err(first(module, "features.0")),
                Some((last, conv)) if is_norm(module) => {
                    if is_norm(conv) || index - last != 1 {
                        return Err(gap(module, conv, index - last, NORM));
                    }
                }
                // Normalization of the picture.
                Some((0, norm)) if is_norm(norm) && i == 1 => {
                    if *index != 1 {
                        return Err(gap(module, norm, *index, "1 (batch normalization, convolution)"));
                    }
                }
                Some((last, before)) => match index - last {
                    2 => {}
                    3 => self.outline.push((format!("features.{}", index - 1), Item::Pool)),
                    found => return Err(gap(module, before, found, CONV)),
                },
            }
            self.push(module);
        }
        if let Some((last, _)) = modules.last() {
            self.outline.push((format!("features.{}", last.saturating_add(2)), Item::Pool));
            notes.push("a max-pooling after the last convolution, as torchvision has it".into());
        }
        Ok(())
    }

    /// timm's head: a convolution over the whole map is a dense layer.
    fn pre_logits(&mut self, modules: &[(usize, &Module)]) -> Result<(), Problem> {
        for (i, (_, module)) in modules.iter().enumerate() {
            match i {
                0 => self.outline.push(("flatten".into(), Item::Flatten)),
                _ => self.outline.push(("pre_logits.drop".into(), Item::Dropout)),
            }
            self.push(module);
        }
        Ok(())
    }

    fn head(&mut self, modules: &[(usize, &Module)]) -> Result<(), Problem> {
        const DENSE: &str = "2 (dense, relu) or 3 (and dropout)";
        const NORM: &str = "1 (dense, batch normalization)";
        let Some((_, top)) = modules.first() else {
            return match self.dense.is_empty() {
                true => Ok(()),
                false => Err(Problem::Missing {
                    place: "layer `head.fc`".into(),
                    expected: "the dense layer that gives class scores",
                }),
            };
        };
        let channels = self.outline.iter().rev().find_map(|(_, item)| match item {
            Item::Conv { filters, .. } => Some(*filters),
            _ => None,
        });
        if self.dense.is_empty() {
            let (Item::Dense { inputs: n, .. } | Item::BatchNorm { channels: n, .. }) = top.item else {
                return Err(first(top, "a dense layer"));
            };
            self.outline.push(match channels == Some(n) {
                true => ("avgpool".into(), Item::GlobalAvgPool),
                false => ("flatten".into(), Item::Flatten),
            });
        }
        // Names of what has no weights, between the layers that do.
        let dropout = |index: usize| {
            let list = top.name.rsplit_once('.').map_or("head", |(list, _)| list);
            (format!("{list}.{index}"), Item::Dropout)
        };
        if top.name == "head.fc" && !self.dense.is_empty() {
            self.outline.push(("head.drop".into(), Item::Dropout));
        }
        for (i, (index, module)) in modules.iter().enumerate() {
            let is_norm = |module: &Module| matches!(module.item, Item::BatchNorm { .. });
            match i.checked_sub(1).map(|i| (modules[i].0, modules[i].1)) {
                // Dropout or flattening, or both.
                None if matches!(index, 1 | 2) => self.outline.push(dropout(index - 1)),
                None if *index == 0 => {}
                None => return Err(first(module, "index 0, 1 or 2")),
                Some((last, before)) if is_norm(module) => {
                    if is_norm(before) || index - last != 1 {
                        return Err(gap(module, before, index - last, NORM));
                    }
                }
                Some((last, norm)) if is_norm(norm) && i == 1 => match index - last {
                    1 => {}
                    2 => self.outline.push(dropout(index - 1)),
                    found => {
                        return Err(gap(
                            module,
                            norm,
                            found,
                            "1 (batch normalization, dense) or 2 (with dropout)",
                        ));
                    }
                },
                Some((last, before)) => match index - last {
                    2 => {}
                    3 => self.outline.push(dropout(index - 1)),
                    found => return Err(gap(module, before, found, DENSE)),
                },
            }
            self.push(module);
        }
        Ok(())
    }

    fn push(&mut self, module: &Module) {
        let list = match module.item {
            Item::Conv { .. } => &mut self.convs,
            Item::BatchNorm { .. } => &mut self.norms,
            _ => &mut self.dense,
        };
        list.push(module.key.clone());
        self.outline.push((module.name.clone(), module.item.clone()));
    }
}

fn gap(layer: &Module, before: &Module, found: usize, expected: &'static str) -> Problem {
    let (layer, before) = (layer.key.clone(), before.key.clone());
    TorchProblem::Gap { layer, before, found, expected }.into()
}

fn first(layer: &Module, expected: &'static str) -> Problem {
    TorchProblem::First { layer: layer.key.clone(), expected }.into()
}

/// The layers by place: what each is follows from its tensors.
fn modules(
    tensors: &BTreeMap<String, Entry>,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<Slot, Module>, Problem> {
    let mut keys: BTreeMap<Slot, (&str, &str)> = BTreeMap::new();
    let mut prefix = "";
    for tensor in tensors.keys() {
        let unknown = || Problem::UnknownTensor { name: tensor.clone() };
        let (key, parameter) = tensor.rsplit_once('.').ok_or_else(unknown)?;
        let mut name = key;
        while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
            name = rest;
        }
        if prefix.is_empty() {
            prefix = &key[..key.len() - name.len()];
        }
        let known = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
        let slot = slot(name).filter(|_| known.contains(&parameter)).ok_or_else(unknown)?;
        match keys.insert(slot, (name, key)) {
            Some((other_name, _)) if other_name != name => {
                let (first, second) = (other_name.into(), name.into());
                return Err(TorchProblem::TwoHeads { first, second }.into());
            }
            Some((_, other)) if other != key => return Err(Problem::DuplicateLayer { name: name.into() }),
            _ => {}
        }
    }
    let mut heads = keys.iter().filter(|((part, _), _)| *part == Part::Head).map(|(_, (name, _))| *name);
    if let Some(first) = heads.next() {
        let list = |name: &'static str, of: &str| of == name || of.starts_with(&format!("{name}."));
        let same = |other: &&str| HEADS.iter().any(|name| list(name, first) && list(name, other));
        if let Some(second) = heads.find(|other| !same(other)) {
            return Err(TorchProblem::TwoHeads { first: first.into(), second: second.into() }.into());
        }
    }
    if !prefix.is_empty() {
        notes.push(format!("names without `{prefix}`, which a wrapper put in front of them"));
    }
    let module = |(slot, (name, key)): (Slot, (&str, &str))| {
        let item = item(tensors, slot.0, key)?;
        Ok((slot, Module { name: name.into(), key: key.into(), item }))
    };
    keys.into_iter().map(module).collect()
}

/// Names of the list of dense layers.
const HEADS: [&str; 3] = ["classifier", "head", "fc"];

/// The place of a layer of that name.
fn slot(name: &str) -> Option<Slot> {
    let index = |index: &str| match index.bytes().all(|b| b.is_ascii_digit()) {
        true => index.parse().ok(),
        false => None,
    };
    match name {
        "pre_logits.fc1" => Some((Part::PreLogits, 0)),
        "pre_logits.fc2" => Some((Part::PreLogits, 1)),
        "head.fc" => Some((Part::Head, 0)),
        _ if HEADS.contains(&name) => Some((Part::Head, 0)),
        _ => match name.rsplit_once('.')? {
            ("features", n) => Some((Part::Features, index(n)?)),
            (list, n) if HEADS.contains(&list) => Some((Part::Head, index(n)?)),
            _ => None,
        },
    }
}

/// What the layer is whose tensors begin with `key`.
fn item(tensors: &BTreeMap<String, Entry>, part: Part, key: &str) -> Result<Item, Problem> {
    let shape = |what: &str| tensors.get(&format!("{key}.{what}")).map(|entry| entry.shape.as_slice());
    let wrong = |what: &str, found: &[usize], expected: &str| Problem::WeightShape {
        layer: key.into(),
        what: what.into(),
        found: found.to_vec(),
        expected: expected.into(),
    };
    for what in ["running_var", "running_mean"] {
        match shape(what) {
            Some(&[channels]) => return Ok(Item::BatchNorm { channels, epsilon: EPSILON }),
            Some(found) => return Err(wrong(what, found, "1 axis")),
            None => {}
        }
    }
    let Some(weight) = shape("weight") else {
        return Err(Problem::Missing {
            place: format!("layer `{key}`: weight"),
            expected: "a tensor beside its bias",
        });
    };
    match (part, weight) {
        (Part::Features | Part::PreLogits, &[.., height, width]) if weight.len() == 4 && height != width => {
            Err(wrong("weight", weight, "a square filter"))
        }
        (Part::Features, &[filters, inputs, filter_size, _]) => {
            Ok(Item::Conv { filter_size, inputs, filters })
        }
        (Part::PreLogits, &[units, channels, height, width]) => {
            let inputs = channels.checked_mul(height).and_then(|n| n.checked_mul(width));
            let inputs = inputs.ok_or_else(|| wrong("weight", weight, "a size that fits a number"))?;
            Ok(Item::Dense { inputs, units })
        }
        (Part::Head, &[units, inputs]) => Ok(Item::Dense { inputs, units }),
        (Part::Features | Part::PreLogits, found) => Err(wrong("weight", found, "4 axes")),
        (Part::Head, found) => Err(wrong("weight", found, "2 axes")),
    }
}
