//! `.weights.h5` of Keras 3, also inside `.keras`: groups by class and number.
//!
//! ```text
//! /layers/conv2d/vars/0, 1          kernel, bias of the first Conv2D; attribute `name` of `vars`: block1_conv1
//! /layers/conv2d_1/vars/0, 1        the second one
//! /layers/batch_normalization/vars  gamma, beta, mean, variance, without those the layer does not have
//! /layers/functional/layers/conv2d  the first Conv2D of a nested model
//! ```
//!
//! Keras 2 (`tf.keras` 2.12 and later) writes `_layer_checkpoint_dependencies` for `layers`, with gaps between the numbers.
//! With a description each layer's group follows from it. Without one, the order within a class is that of the numbers; where
//! the poolings are follows from names as `block1_conv1`, or from the architecture.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use hdf5_reader::group::Group;

use crate::graph::{Kind, Shape};

use super::super::outline::{Item, Outline};
use super::super::{ImportOptions, Problem};
use super::config::{Model, Place, Source};
use super::h5::hdf5;
use super::layers::{self, Class};
use super::legacy::{EPSILON, block_of, item};
use super::stored::Stored;
use super::{KerasProblem, unsupported};

/// Group of a model's layers: of Keras 3, and of Keras 2 with gaps between the numbers.
const CONTAINERS: [(&str, bool); 2] = [("layers", false), ("_layer_checkpoint_dependencies", true)];
/// Models in models, at most.
const MAX_DEPTH: usize = 8;
/// Groups of layers that a file may have, each counted as often as it is linked.
const MAX_GROUPS: usize = 1 << 14;

/// The groups of each class, in the order of their numbers.
type Classes = BTreeMap<String, Vec<(usize, String)>>;

/// The layers of a model.
pub(super) struct Container {
    group: Group,
    /// Its path in the file, for messages.
    path: String,
    /// Whether numbers have gaps.
    gaps: bool,
    classes: OnceCell<Classes>,
    /// Models in it that were looked at, by group.
    inner: RefCell<HashMap<String, Option<Rc<Container>>>>,
    /// Groups seen in the whole file.
    seen: Rc<Cell<usize>>,
}

/// The layers of the file's outermost model.
pub(super) fn container(root: &Group) -> Option<Container> {
    Container::open(root, "", Rc::default())
}

impl Container {
    fn open(model: &Group, path: &str, seen: Rc<Cell<usize>>) -> Option<Self> {
        CONTAINERS.iter().find_map(|&(name, gaps)| {
            let group = model.group(name).ok()?;
            let path = format!("{path}{name}");
            let seen = Rc::clone(&seen);
            Some(Self { group, path, gaps, classes: OnceCell::new(), inner: RefCell::default(), seen })
        })
    }

    fn problem(&self, what: &'static str, found: impl Into<String>, expected: &str) -> Problem {
        let (group, found, expected) = (self.path.clone(), found.into(), expected.into());
        KerasProblem::Group { group, what, found, expected }.into()
    }

    fn too_deep(&self) -> Problem {
        self.problem("depth", format!("more than {MAX_DEPTH} models in models"), "fewer")
    }

    fn classes(&self) -> Result<&Classes, Problem> {
        if let Some(classes) = self.classes.get() {
            return Ok(classes);
        }
        let classes = self.list()?;
        Ok(self.classes.get_or_init(|| classes))
    }

    fn list(&self) -> Result<Classes, Problem> {
        let (names, _) = self.group.member_names().map_err(|e| hdf5(format!("group `{}`", self.path), e))?;
        self.seen.set(self.seen.get().saturating_add(names.len()));
        if self.seen.get() > MAX_GROUPS {
            return Err(self.problem(
                "number of groups",
                "too large",
                &format!("at most {MAX_GROUPS} in a file"),
            ));
        }
        let mut classes = Classes::new();
        for name in names {
            let number = |digits: &str| match digits.bytes().all(|b| b.is_ascii_digit()) {
                true => digits.parse::<usize>().ok(),
                false => None,
            };
            let (class, number) = match name.rsplit_once('_') {
                Some((class, digits)) if number(digits).is_some() => (class, number(digits).unwrap_or(0)),
                _ => (name.as_str(), 0),
            };
            classes.entry(class.to_string()).or_default().push((number, name));
        }
        for (class, list) in &mut classes {
            list.sort();
            let clash = list.windows(2).find(|two| two[0].0 == two[1].0);
            if let Some([(_, a), (_, b)]) = clash {
                return Err(self.problem("number", format!("the same of `{a}` and `{b}`"), "one of its own"));
            }
            let gap = (0..).zip(list.iter()).find(|(i, (number, _))| i != number);
            if let (false, Some((i, _))) = (self.gaps, gap) {
                let layer = numbered(class, i);
                let group = format!("{}/{layer}", self.path);
                return Err(KerasProblem::MissingGroup { layer, group }.into());
            }
        }
        Ok(classes)
    }

    /// The tensors of the layer in group `name`, and the layer's name if the file has it.
    fn read(&self, name: &str) -> Result<(Stored, Option<String>), Problem> {
        let path = format!("{}/{name}/vars", self.path);
        let problem = |e| hdf5(format!("group `{path}`"), e);
        let layer = self.group.group(name).map_err(problem)?;
        let mut stored = Stored { group: name.into(), owner: name.into(), tensors: Vec::new(), named: false };
        let Ok(vars) = layer.group("vars") else { return Ok((stored, None)) };
        let named = vars.attributes().map_err(problem)?.into_iter().find(|a| a.name == "name");
        let own = match named {
            Some(attribute) => Some(attribute.read_string().map_err(problem)?),
            None => None,
        };
        let (_, mut names) = vars.member_names().map_err(problem)?;
        names.sort();
        for (i, name) in names.iter().enumerate() {
            // One digit each: no layer of the family has more than four.
            if *name != i.to_string() {
                let (what, expected) = ("name of a dataset", format!("`{i}`"));
                return Err(
                    KerasProblem::Group { group: path, what, found: format!("`{name}`"), expected }.into()
                );
            }
            let dataset = vars.dataset(name).map_err(problem)?;
            stored.tensors.push((format!("vars/{name}"), dataset));
        }
        Ok((stored, own))
    }

    /// The model that group `name` is, if it is one.
    fn inner(&self, name: &str) -> Option<Rc<Self>> {
        let open = || {
            let path = format!("{}/{name}/", self.path);
            let model = self.group.group(name).ok()?;
            Self::open(&model, &path, Rc::clone(&self.seen)).map(Rc::new)
        };
        self.inner.borrow_mut().entry(name.to_string()).or_insert_with(open).clone()
    }
}

/// Group of layer `number` of a class.
fn numbered(class: &str, number: usize) -> String {
    if number == 0 { class.to_string() } else { format!("{class}_{number}") }
}

/// For each layer of a described network its tensors, and their indices.
pub(super) fn assign(root: &Group, model: &Model) -> Result<(Vec<Stored>, Vec<Option<usize>>), Problem> {
    let Some(outermost) = container(root) else {
        return Err(KerasProblem::Group {
            group: "/".into(),
            what: "`layers`",
            found: "missing".into(),
            expected: "the groups of weights Keras 3 writes".into(),
        }
        .into());
    };
    let mut stored = Vec::new();
    let mut order = vec![None; model.sources.len()];
    let mut used = HashSet::new();
    for (layer_idx, source) in model.sources.iter().enumerate() {
        let Source::Stored { place, .. } = source else { continue };
        let (tensors, path) = find(&outermost, place)?;
        used.insert(path);
        order[layer_idx] = Some(stored.len());
        stored.push(tensors);
    }
    unused(&outermost, &used, &model.spec.name, 0)?;
    Ok((stored, order))
}

/// The tensors at `place`, and the path of their group.
fn find(outermost: &Container, place: &Place) -> Result<(Stored, String), Problem> {
    let missing = |container: &Container, name: &str| {
        let group = format!("{}/{name}", container.path);
        Problem::from(KerasProblem::MissingGroup { layer: place.name.clone(), group })
    };
    let mut inner: Rc<Container>;
    let mut container = outermost;
    for (depth, (class, number)) in place.path.iter().enumerate() {
        let classes = container.classes()?;
        let list = classes.get(class).map_or(&[][..], Vec::as_slice);
        let name = match container.gaps {
            true => list.get(*number),
            false => list.iter().find(|(n, _)| n == number),
        };
        let Some((_, name)) = name else { return Err(missing(container, &numbered(class, *number))) };
        if depth + 1 == place.path.len() {
            let (stored, own) = container.read(name)?;
            let path = format!("{}/{name}", container.path);
            return match own {
                Some(found) if found != place.name => {
                    Err(KerasProblem::OtherLayer { layer: place.name.clone(), group: path, found }.into())
                }
                _ => Ok((stored, path)),
            };
        }
        inner = container.inner(name).ok_or_else(|| missing(container, name))?;
        container = &inner;
    }
    Err(missing(container, &place.name))
}

/// Errors if a group with tensors was not used.
fn unused(container: &Container, used: &HashSet<String>, arch: &str, depth: usize) -> Result<(), Problem> {
    for (_, name) in container.classes()?.values().flatten() {
        let path = format!("{}/{name}", container.path);
        if used.contains(&path) {
            continue;
        }
        if let Some(inner) = container.inner(name) {
            if depth == MAX_DEPTH {
                return Err(container.too_deep());
            }
            unused(&inner, used, arch, depth + 1)?;
        } else {
            let (stored, own) = container.read(name)?;
            if !stored.tensors.is_empty() {
                let layer = own.unwrap_or(path);
                return Err(Problem::ExtraLayer { layer, arch: arch.into() });
            }
        }
    }
    Ok(())
}

/// What a file without a description shows.
#[derive(Default)]
struct Seen {
    /// `Normalization` with the statistics of the pictures.
    factors: Vec<Stored>,
    convs: Vec<Stored>,
    norms: Vec<Stored>,
    dense: Vec<Stored>,
    pools: usize,
    relus: usize,
    global_pool: bool,
    flatten: bool,
    /// Whether layers without weights have groups, as newer versions of Keras 3 write them.
    all_layers: bool,
}

/// The layers of a file without a description, in the order that can be concluded.
pub(super) fn outline(
    layers: &Container,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<(Vec<Stored>, Outline), Problem> {
    let mut seen = Seen::default();
    look(layers, &mut seen, 0)?;
    let mut outline = Outline::new();
    let (behind_convs, behind_dense) = norms(&seen)?;
    let mut norms = seen.norms.iter();
    let mut push = |outline: &mut Outline, stored: &Stored, norm: Norm| -> Result<(), Problem> {
        outline.push((stored.owner.clone(), item(&stored.owner, stored)?));
        if norm == Norm::BehindRelu {
            outline.push((format!("{}_relu", stored.owner), Item::Relu));
        }
        if norm != Norm::None
            && let Some(norm) = norms.next()
        {
            outline.push((norm.owner.clone(), item(&norm.owner, norm)?));
        }
        Ok(())
    };
    for factor in &seen.factors {
        push(&mut outline, factor, Norm::None)?;
        notes.push(format!("`{}` is in front of the first convolution", factor.owner));
    }
    let ends = block_ends(&seen.convs, options)?;
    let pools = ends.iter().filter(|end| **end).count();
    if seen.all_layers && seen.pools != pools {
        let expected = format!("{pools}, one behind each block of convolutions");
        return Err(layers.problem("number of max-poolings", seen.pools.to_string(), &expected));
    }
    for (i, (conv, ends)) in seen.convs.iter().zip(&ends).enumerate() {
        push(&mut outline, conv, behind_convs)?;
        if *ends {
            let name =
                block_of(&conv.owner).map_or_else(|| format!("max_pooling2d_{i}"), |b| format!("{b}_pool"));
            outline.push((name, Item::Pool));
        }
    }
    if seen.global_pool {
        outline.push(("global_average_pooling2d".into(), Item::GlobalAvgPool));
    } else if seen.flatten {
        outline.push(("flatten".into(), Item::Flatten));
    }
    for (i, dense) in seen.dense.iter().enumerate() {
        let norm = if i + 1 < seen.dense.len() { behind_dense } else { Norm::None };
        push(&mut outline, dense, norm)?;
    }
    if !seen.norms.is_empty() {
        notes.push(format!("epsilon of batch normalization {EPSILON}, as Keras has it: not in the file"));
    }
    let all = seen.factors.into_iter().chain(seen.convs).chain(seen.norms).chain(seen.dense);
    Ok((all.collect(), outline))
}

/// Whether the convolutions are named by their blocks, so that the file says its architecture.
pub(super) fn has_names(outline: &Outline) -> bool {
    let mut convs = outline.iter().filter(|(_, item)| matches!(item, Item::Conv { .. }));
    convs.all(|(name, _)| block_of(name).is_some())
}

/// For each convolution whether a block, and so a max-pooling, ends behind it: by names as `block1_conv1`, or else as the
/// architecture has it, whatever the widths.
fn block_ends(convs: &[Stored], options: &ImportOptions) -> Result<Vec<bool>, Problem> {
    let blocks: Vec<Option<&str>> = convs.iter().map(|c| block_of(&c.owner)).collect();
    let Some(unnamed) = blocks.iter().position(Option::is_none) else {
        return Ok((1..=blocks.len()).map(|next| blocks.get(next) != blocks.get(next - 1)).collect());
    };
    let Some(arch) = options.arch else {
        return Err(Problem::ArchUnknown { layer: convs[unnamed].owner.clone() });
    };
    let mut ends = Vec::new();
    for layer in arch.spec(Shape::new(224, 224, 3), 1).layers {
        match layer.kind {
            Kind::Conv { .. } => ends.push(false),
            Kind::MaxPool { .. } => ends.iter_mut().last().into_iter().for_each(|last| *last = true),
            _ => {}
        }
    }
    if ends.len() != convs.len() {
        let (found, expected, arch) = (convs.len(), ends.len(), arch.to_string());
        return Err(KerasProblem::Convolutions { found, expected, arch }.into());
    }
    Ok(ends)
}

/// Sorts the layers of `container` and of the models in it by what they do.
fn look(container: &Container, seen: &mut Seen, depth: usize) -> Result<(), Problem> {
    if depth > MAX_DEPTH {
        return Err(container.too_deep());
    }
    // The models in this one come first, then its own layers; of one class only one of the two may have any.
    let mut own: Seen = Seen::default();
    let order = |what: &str| -> Problem {
        let what = format!("the order of the {what} of the models in `{}`", container.path);
        KerasProblem::Open { what, expected: "a .keras file, which has it" }.into()
    };
    for (class, list) in container.classes()? {
        for (_, name) in list {
            if let Some(inner) = container.inner(name) {
                let before = (seen.convs.len(), seen.norms.len(), seen.dense.len());
                look(&inner, seen, depth + 1)?;
                let clash = |before: usize, after: usize| before > 0 && after > before;
                if clash(before.0, seen.convs.len()) || clash(before.1, seen.norms.len()) {
                    return Err(order("convolutions"));
                }
                if clash(before.2, seen.dense.len()) {
                    return Err(order("dense layers"));
                }
                continue;
            }
            let (mut stored, own_name) = container.read(name)?;
            if let Some(name) = own_name {
                // Groups and layers may have each other's names: `batch_normalization_1` is the second of its class.
                (stored.group, stored.owner) = (name.clone(), name);
            }
            let layer = stored.owner.clone();
            let weights = !stored.tensors.is_empty();
            own.all_layers |= !weights;
            match (layers::class_of_group(class), weights) {
                (Some(Class::Conv), true) => own.convs.push(stored),
                (Some(Class::Dense), true) => own.dense.push(stored),
                (Some(Class::BatchNorm), true) => own.norms.push(stored),
                (Some(Class::Normalization), true) => own.factors.push(stored),
                (Some(Class::Conv | Class::Dense | Class::BatchNorm), false) => {
                    return Err(container.problem(
                        "tensors of a layer",
                        format!("none for `{name}`"),
                        "its weights",
                    ));
                }
                (_, true) => return Err(unsupported(&layer, format!("{class} with weights"))),
                (Some(Class::MaxPool), _) => own.pools += 1,
                (Some(Class::Relu | Class::Activation), _) => own.relus += 1,
                (Some(Class::GlobalAveragePool), _) => own.global_pool = true,
                (Some(Class::Flatten), _) => own.flatten = true,
                (
                    Some(
                        Class::Input | Class::Nothing | Class::Dropout | Class::Softmax | Class::ZeroPadding,
                    ),
                    _,
                ) => {}
                (Some(_), _) => {
                    let what = format!("{class}, whose options are not in the file,");
                    return Err(unsupported(&layer, what));
                }
                (None, _) => return Err(unsupported(&layer, class.as_str())),
            }
        }
    }
    for (inner, own, what) in [
        (&mut seen.factors, own.factors, "normalizations"),
        (&mut seen.convs, own.convs, "convolutions"),
        (&mut seen.norms, own.norms, "batch normalizations"),
        (&mut seen.dense, own.dense, "dense layers"),
    ] {
        if !inner.is_empty() && !own.is_empty() {
            return Err(order(what));
        }
        inner.extend(own);
    }
    seen.pools += own.pools;
    seen.relus += own.relus;
    seen.global_pool |= own.global_pool;
    seen.flatten |= own.flatten;
    seen.all_layers |= own.all_layers;
    Ok(())
}

/// Where the batch normalization of a layer is.
#[derive(Clone, Copy, PartialEq)]
enum Norm {
    None,
    InFrontOfRelu,
    BehindRelu,
}

/// Where batch normalizations are behind convolutions and behind dense layers.
fn norms(seen: &Seen) -> Result<(Norm, Norm), Problem> {
    let (convs, hidden, n) = (seen.convs.len(), seen.dense.len().saturating_sub(1), seen.norms.len());
    if n == 0 {
        return Ok((Norm::None, Norm::None));
    }
    let open = |what: &str| {
        let what = what.to_string();
        Problem::from(KerasProblem::Open { what, expected: "a .keras file, which has it" })
    };
    let width = |stored: &Stored| stored.kernel_shape().last().copied().unwrap_or(0);
    let widths: Vec<usize> = seen.norms.iter().map(width).collect();
    let fits = |layers: &mut dyn Iterator<Item = &Stored>| layers.map(width).eq(widths.iter().copied());
    let (of_convs, of_dense) = if n == convs && fits(&mut seen.convs.iter()) {
        (true, false)
    } else if n == convs + hidden && fits(&mut seen.convs.iter().chain(seen.dense.iter().take(hidden))) {
        (true, true)
    } else if n == hidden && fits(&mut seen.dense.iter().take(hidden)) {
        (false, true)
    } else {
        return Err(open("where the batch normalizations are"));
    };
    let bias = |list: &[Stored]| list.iter().any(|s| s.tensors.len() > 1);
    let place = |there: bool, list: &[Stored]| match (there, seen.all_layers, seen.relus) {
        (false, ..) => Ok(Norm::None),
        (true, true, 0) => Ok(Norm::BehindRelu),
        (true, true, _) => Ok(Norm::InFrontOfRelu),
        // A bias would do nothing in front of a normalization, so a layer without one is.
        (true, false, _) if !bias(list) => Ok(Norm::InFrontOfRelu),
        (true, false, _) => Err(open("whether batch normalizations are in front of or behind relu")),
    };
    Ok((place(of_convs, &seen.convs)?, place(of_dense, &seen.dense)?))
}
