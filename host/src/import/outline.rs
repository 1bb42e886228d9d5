//! A network concluded from its weights: convolutions, pools and dense layers in order become a [`Spec`].
//!
//! ```text
//! conv conv pool … conv pool │ [flatten | global pooling] │ dense … dense
//!   each followed by relu    │ concluded if not named      │ relu between, softmax last
//! ```

use crate::graph::{Kind, Padding, Shape, Spec};

use super::{ImportOptions, Problem};

/// One layer as a weights file shows it.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Item {
    Conv { filter_size: usize, inputs: usize, filters: usize },
    Pool,
    GlobalAvgPool,
    Flatten,
    Dropout,
    Dense { inputs: usize, units: usize },
}

/// Named items, in the order of computation.
pub(super) type Outline = Vec<(String, Item)>;

/// Classes, input shape and head of `outline`, or of the architecture asked for.
pub(super) fn to_spec(
    name: &str,
    outline: &Outline,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<Spec, Problem> {
    let classes = classes(outline, options)?;
    let input = input(outline, options, notes)?;
    if let Some(arch) = options.arch {
        return Ok(arch.spec(input, classes));
    }
    let mut spec = Spec::new(name, input);
    let mut channels = input.channels;
    let mut vector = false;
    let last = outline.iter().rposition(|(_, item)| matches!(item, Item::Dense { .. }));
    for (i, (name, item)) in outline.iter().enumerate() {
        match *item {
            Item::Conv { filter_size, filters, .. } => {
                spec.push(name, Kind::Conv { filter_size, filters });
                spec.push_activation(Kind::Relu);
                channels = filters;
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
                spec.push_activation(if Some(i) == last { Kind::Softmax } else { Kind::Relu });
            }
        }
        vector |= matches!(item, Item::GlobalAvgPool | Item::Flatten | Item::Dense { .. });
    }
    let count = |f: fn(&Item) -> bool| outline.iter().filter(|(_, item)| f(item)).count();
    notes.push(format!(
        "architecture from names and shapes: {} convolutions, {} max-poolings, {} dense layers; relu after each but the \
         last, which gets softmax",
        count(|i| matches!(i, Item::Conv { .. })),
        count(|i| matches!(i, Item::Pool)),
        count(|i| matches!(i, Item::Dense { .. })),
    ));
    Ok(spec)
}

fn classes(outline: &Outline, options: &ImportOptions) -> Result<usize, Problem> {
    let found = outline.iter().rev().find_map(|(_, item)| match *item {
        Item::Dense { units, .. } => Some(units),
        _ => None,
    });
    match (found, options.classes) {
        (Some(found), Some(expected)) if found != expected => Err(Problem::Classes { found, expected }),
        (Some(n), _) => Ok(n),
        (None, _) => {
            Err(Problem::Missing { place: "a dense layer".into(), expected: "one that gives class scores" })
        }
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
    let pools = outline.iter().filter(|(_, item)| *item == Item::Pool).count();
    let channels = outline.iter().rev().find_map(|(_, item)| match *item {
        Item::Conv { filters, .. } => Some(filters),
        _ => None,
    });
    let dense = outline.iter().find_map(|(name, item)| match *item {
        Item::Dense { inputs, .. } => Some((name, inputs)),
        _ => None,
    });
    let (Some(channels), Some((layer, found))) = (channels, dense) else {
        return Err(Problem::InputUnknown);
    };
    let named_flatten = outline.iter().any(|(_, item)| *item == Item::Flatten);
    let named_gap = outline.iter().any(|(_, item)| *item == Item::GlobalAvgPool);
    if named_gap || (found == channels && !named_flatten) {
        if let Some(arch) = options.arch {
            notes.push(format!("input 224x224x{inputs}: the usual one of {arch}, not in the file"));
            return Ok(Shape::new(224, 224, inputs));
        }
        return Err(Problem::InputUnknown);
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
