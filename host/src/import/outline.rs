//! A network concluded from its weights: convolutions, pools and dense layers in order become a [`Spec`].
//!
//! ```text
//! conv conv pool … conv pool │ [flatten | global pooling] │ dense … dense
//!   each followed by relu    │ concluded if not named      │ relu between, softmax last
//!   (behind its batch norm)  │ nothing follows: features   │
//! ```

use crate::graph::{Kind, Padding, Shape, Spec};

use super::{ImportOptions, Problem};

/// One layer as a weights file shows it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Item {
    Conv {
        filter_size: usize,
        inputs: usize,
        filters: usize,
    },
    BatchNorm {
        channels: usize,
        epsilon: f64,
    },
    /// Factor and shift of each channel.
    Affine,
    /// A ReLU that the file shows. Where it shows none behind a convolution or dense layer and its batch normalizations, one
    /// is concluded there.
    Relu,
    Pool,
    GlobalAvgPool,
    Flatten,
    Dropout,
    Dense {
        inputs: usize,
        units: usize,
    },
}

impl Item {
    fn is_linear(&self) -> bool {
        matches!(self, Self::Conv { .. } | Self::Dense { .. })
    }

    fn is_norm(&self) -> bool {
        matches!(self, Self::BatchNorm { .. })
    }
}

/// Named items, in the order of computation.
pub(super) type Outline = Vec<(String, Item)>;

/// Classes, input shape and head of `outline`, or of the architecture asked for. Without dense layers it is a feature
/// extractor.
pub(super) fn to_spec(
    name: &str,
    outline: &Outline,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<Spec, Problem> {
    let classes = classes(outline, options)?;
    let input = input(outline, options, notes)?;
    if let Some(arch) = options.arch {
        let mut spec = arch.spec(input, classes.unwrap_or(1));
        if classes.is_none() {
            let head = |kind: Kind| matches!(kind, Kind::GlobalAvgPool | Kind::Flatten | Kind::Dense { .. });
            let end = spec.layers.iter().position(|l| head(l.kind)).unwrap_or(spec.layers.len());
            spec.layers.truncate(end);
        }
        insert_norms(&mut spec, outline);
        return Ok(spec);
    }
    let mut spec = Spec::new(name, input);
    let mut channels = input.channels;
    let mut vector = false;
    let last = outline.iter().rposition(|(_, item)| matches!(item, Item::Dense { .. }));
    // What a linear layer is followed by, once its batch normalizations are there.
    let mut pending: Option<Kind> = None;
    for (i, (name, item)) in outline.iter().enumerate() {
        match *item {
            Item::Conv { filter_size, filters, .. } => {
                spec.push(name, Kind::Conv { filter_size, filters });
                pending = Some(Kind::Relu);
                channels = filters;
            }
            Item::BatchNorm { channels: found, epsilon } => {
                if i > 0 && outline[i - 1].1.is_linear() && found != channels {
                    let (layer, what) = (name.clone(), "moving_variance".to_string());
                    let expected = format!("[{channels}]");
                    return Err(Problem::WeightShape { layer, what, found: vec![found], expected });
                }
                spec.push(name, Kind::BatchNorm { epsilon });
            }
            Item::Affine => spec.push(name, Kind::Affine),
            Item::Relu => {
                pending = None;
                spec.push(name, Kind::Relu);
            }
            Item::Pool => spec.push(name, Kind::MaxPool { stride: 2, padding: Padding::Valid }),
            Item::GlobalAvgPool => spec.push(name, Kind::GlobalAvgPool),
            Item::Flatten => spec.push(name, Kind::Flatten),
            Item::Dropout => spec.push(name, Kind::Dropout { rate: 0.5 }),
            Item::Dense { inputs, units } => {
                if !vector && inputs == channels {
                    spec.push("global_average_pooling2d", Kind::GlobalAvgPool);
                } else if !vector {
                    spec.push("flatten", Kind::Flatten);
                }
                spec.push(name, Kind::Dense { units });
                pending = Some(if Some(i) == last { Kind::Softmax } else { Kind::Relu });
                channels = units;
            }
        }
        vector |= matches!(item, Item::GlobalAvgPool | Item::Flatten | Item::Dense { .. });
        let next = outline.get(i + 1).map(|(_, item)| item);
        if !next.is_some_and(|n| n.is_norm() || *n == Item::Relu)
            && let Some(kind) = pending.take()
        {
            spec.push_activation(kind);
        }
    }
    let count = |f: fn(&Item) -> bool| outline.iter().filter(|(_, item)| f(item)).count();
    notes.push(format!(
        "architecture from names and shapes: {} convolutions, {} max-poolings, {} dense layers; relu after each{}",
        count(|i| matches!(i, Item::Conv { .. })),
        count(|i| matches!(i, Item::Pool)),
        count(|i| matches!(i, Item::Dense { .. })),
        if last.is_some() { " but the last, which gets softmax" } else { "" },
    ));
    Ok(spec)
}

/// Puts the batch normalizations of `outline` behind the linear layers of the same number, in front of or behind their ReLU
/// as the outline has it.
fn insert_norms(spec: &mut Spec, outline: &Outline) {
    let mut behind: Vec<(bool, Vec<(String, f64)>)> = Vec::new();
    for (name, item) in outline {
        match (item, behind.last_mut()) {
            (Item::Conv { .. } | Item::Dense { .. }, _) => behind.push((false, Vec::new())),
            (Item::Relu, Some((after_relu, norms))) => *after_relu |= norms.is_empty(),
            (Item::BatchNorm { epsilon, .. }, Some((_, norms))) => norms.push((name.clone(), *epsilon)),
            _ => {}
        }
    }
    let layers = std::mem::take(&mut spec.layers);
    let mut behind = behind.into_iter();
    let mut after_relu = Vec::new();
    for layer in layers {
        let linear = matches!(layer.kind, Kind::Conv { .. } | Kind::Dense { .. });
        let relu = layer.kind == Kind::Relu;
        spec.layers.push(layer);
        if linear && let Some((late, norms)) = behind.next() {
            after_relu = norms;
            if late {
                continue;
            }
        }
        if linear || relu {
            for (name, epsilon) in after_relu.drain(..) {
                spec.push(name, Kind::BatchNorm { epsilon });
            }
        }
    }
}

/// The outputs of the last dense layer; `None` if there is none.
fn classes(outline: &Outline, options: &ImportOptions) -> Result<Option<usize>, Problem> {
    let found = outline.iter().rev().find_map(|(_, item)| match *item {
        Item::Dense { units, .. } => Some(units),
        _ => None,
    });
    match options.classes {
        Some(expected) if found != Some(expected) => {
            Err(Problem::Classes { found: found.unwrap_or(0), expected })
        }
        _ => Ok(found),
    }
}

/// The picture: as asked for, else from the first dense layer behind a flattened map.
fn input(outline: &Outline, options: &ImportOptions, notes: &mut Vec<String>) -> Result<Shape, Problem> {
    let Some((first, inputs)) = outline.iter().find_map(|(name, item)| match *item {
        Item::Conv { inputs, .. } => Some((name, inputs)),
        _ => None,
    }) else {
        return Err(Problem::Missing {
            place: "a convolution".into(),
            expected: "one that takes the picture",
        });
    };
    if let Some(input) = options.input {
        let found = input.channels;
        return match found == inputs {
            true => Ok(input),
            false => Err(Problem::InputChannels { found, layer: first.clone(), expected: inputs }),
        };
    }
    let pools = match options.arch {
        // Without names the file does not show them.
        Some(arch) => {
            let layers = arch.spec(Shape::new(224, 224, inputs), 1).layers;
            layers.iter().filter(|l| matches!(l.kind, Kind::MaxPool { stride: 2, .. })).count()
        }
        None => outline.iter().filter(|(_, item)| *item == Item::Pool).count(),
    };
    let channels = outline.iter().rev().find_map(|(_, item)| match *item {
        Item::Conv { filters, .. } => Some(filters),
        _ => None,
    });
    let dense = outline.iter().find_map(|(name, item)| match *item {
        Item::Dense { inputs, .. } => Some((name, inputs)),
        _ => None,
    });
    let usual = |notes: &mut Vec<String>, open: Problem| {
        let Some(arch) = options.arch else { return Err(open) };
        notes.push(format!("input 224x224x{inputs}: the usual one of {arch}, not in the file"));
        Ok(Shape::new(224, 224, inputs))
    };
    let (Some(channels), Some((layer, found))) = (channels, dense) else {
        return usual(notes, Problem::InputUnknownFeatures);
    };
    let named_flatten = outline.iter().any(|(_, item)| *item == Item::Flatten);
    let named_gap = outline.iter().any(|(_, item)| *item == Item::GlobalAvgPool);
    if named_gap || (found == channels && !named_flatten) {
        return usual(notes, Problem::InputUnknown);
    }
    let side = (channels > 0 && found.is_multiple_of(channels))
        .then(|| (found / channels).isqrt())
        .filter(|side| side * side * channels == found && *side > 0)
        .ok_or_else(|| Problem::HeadSize { layer: layer.clone(), found, channels })?;
    let input = u32::try_from(pools)
        .ok()
        .and_then(|p| 2usize.checked_pow(p))
        .and_then(|shrink| side.checked_mul(shrink))
        .ok_or_else(|| Problem::HeadSize { layer: layer.clone(), found, channels })?;
    notes.push(format!(
        "input {input}x{input}x{inputs}: layer `{layer}` takes a flattened {side}x{side}x{channels} map, behind {pools} max-poolings"
    ));
    Ok(Shape::new(input, input, inputs))
}
