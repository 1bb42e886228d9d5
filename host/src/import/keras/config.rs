//! Keras `model_config` JSON to a [`Spec`]: Keras 1 to 3, Functional and Sequential, nested models.
//!
//! ```text
//! {"class_name": "Functional", "config": {"name": "small_vgg", "layers": [
//!     {"class_name": "InputLayer", "config": {"batch_shape": [null, 32, 32, 3], …}, "inbound_nodes": []},
//!     {"class_name": "Conv2D",     "config": {"name": "block1_conv1", "filters": 16, …}, "inbound_nodes": […]}, …
//! ```
//!
//! The layers must form a chain. Nested models are replaced by their own chains; each layer remembers the [`Place`] of its
//! weights in a file. What a layer does is decided in `layers`.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::graph::{Shape, Spec};

use super::super::{ImportOptions, Problem};
use super::{layers, unsupported};

/// Longest description. Parsed, JSON takes up to a hundred times its length.
pub(super) const MAX_CONFIG: usize = 1 << 20;
/// Most objects in a description.
const MAX_OBJECTS: usize = 1 << 15;

/// A network as its description has it.
pub(super) struct Model {
    /// Its layers.
    pub(super) spec: Spec,
    /// For each layer of `spec` where its tensors come from.
    pub(super) sources: Vec<Source>,
}

/// Where the tensors of a layer come from.
pub(super) enum Source {
    /// It has none.
    Nothing,
    /// The file's weights.
    Stored {
        /// Where they lie.
        place: Place,
        /// Which there are.
        parameters: Parameters,
    },
    /// The description has them: scale and shift for each channel.
    Given {
        /// `[channels]`.
        scale: Vec<f32>,
        /// `[channels]`.
        shift: Vec<f32>,
    },
}

/// The tensors a layer has in the file.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Parameters {
    /// Kernel and, perhaps, bias.
    Linear { bias: bool },
    /// Perhaps gamma, perhaps beta, mean, variance.
    BatchNorm { gamma: bool, beta: bool },
    /// Mean and variance of the pictures, and their count.
    Normalization,
}

/// Where a layer is in a model of models.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its own name.
    pub(super) name: String,
    /// Name of the outermost layer it is part of: its group in an HDF5 file of Keras 1 to 3.
    pub(super) top: String,
    /// From the outermost model inwards, class and index among the layers of that class: its groups in `.weights.h5`.
    pub(super) path: Vec<(String, usize)>,
}

/// A layer of the chain.
pub(super) struct Described<'a> {
    pub(super) name: &'a str,
    pub(super) class: &'a str,
    pub(super) config: &'a Value,
    pub(super) place: Place,
    /// Name of the model it is a direct part of.
    pub(super) model: &'a str,
    /// Shape it was built with, where the file says.
    built: Option<&'a Vec<Value>>,
}

/// The network `json` describes.
pub(super) fn parse(json: &str, options: &ImportOptions, notes: &mut Vec<String>) -> Result<Model, Problem> {
    let text = |found: String, expected| Problem::Config { place: "text".into(), found, expected };
    if json.len() > MAX_CONFIG {
        return Err(text(format!("{} bytes long", json.len()), "at most 1 MiB"));
    }
    let objects = json.bytes().filter(|&b| b == b'{').count();
    if objects > MAX_OBJECTS {
        return Err(text(format!("{objects} objects"), "at most 32768"));
    }
    let mut root: Value =
        serde_json::from_str(json).map_err(|e| text(format!("not JSON ({e})"), "a JSON object"))?;
    modernize(&mut root);
    let name = root["config"]["name"].as_str().unwrap_or("sequential").to_string();
    let mut chain = Vec::new();
    flatten(&root, None, &mut chain)?;
    let shape = input(&chain, &root, options, notes)?;
    layers::build(Spec::new(name, shape), &chain, notes)
}

/// Options of Keras 1 under their later names.
fn modernize(value: &mut Value) {
    const NAMES: [(&str, &str); 8] = [
        ("nb_filter", "filters"),
        ("border_mode", "padding"),
        ("subsample", "strides"),
        ("output_dim", "units"),
        ("bias", "use_bias"),
        ("p", "rate"),
        ("batch_input_shape", "batch_shape"),
        ("dim_ordering", "data_format"),
    ];
    match value {
        Value::Array(items) => items.iter_mut().for_each(modernize),
        Value::Object(fields) => {
            for (old, new) in NAMES {
                if !fields.contains_key(new)
                    && let Some(found) = fields.remove(old)
                {
                    fields.insert(new.into(), found);
                }
            }
            if let (Some(rows), Some(columns)) = (fields.remove("nb_row"), fields.remove("nb_col")) {
                fields.insert("kernel_size".into(), Value::Array(vec![rows, columns]));
            }
            match fields.get("data_format").and_then(Value::as_str) {
                Some("tf") => fields.insert("data_format".into(), "channels_last".into()),
                Some("th") => fields.insert("data_format".into(), "channels_first".into()),
                _ => None,
            };
            fields.values_mut().for_each(modernize);
        }
        _ => {}
    }
}

fn is_model(class: &str) -> bool {
    matches!(class, "Functional" | "Model" | "Sequential")
}

/// Appends the chain of `model`, nested models replaced by their own chains. `outer` is the place of `model` in another.
fn flatten<'a>(
    model: &'a Value,
    outer: Option<&Place>,
    chain: &mut Vec<Described<'a>>,
) -> Result<(), Problem> {
    let class = model["class_name"].as_str().unwrap_or("");
    let config = &model["config"];
    if !is_model(class) {
        return Err(Problem::Config {
            place: "class_name".into(),
            found: format!("`{class}`"),
            expected: "Functional or Sequential",
        });
    }
    let layers =
        config["layers"].as_array().or_else(|| config.as_array()).ok_or_else(|| Problem::Config {
            place: "config.layers".into(),
            found: kind_of(&config["layers"]).into(),
            expected: "a list of layers",
        })?;
    for layer in layers {
        let class = class_of(layer);
        if !is_model(class) && !layers::is_supported(class) {
            return Err(unsupported(layer_name(layer), class));
        }
    }
    // Keras counts the layers of each class in the order of the list.
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut names = HashSet::new();
    let mut places = Vec::with_capacity(layers.len());
    for layer in layers {
        let name = layer_name(layer);
        if !names.insert(name) {
            return Err(Problem::DuplicateLayer { name: name.into() });
        }
        let group = snake_case(class_of(layer));
        let count = counts.entry(group.clone()).or_default();
        let mut path = outer.map_or_else(Vec::new, |o| o.path.clone());
        path.push((group, *count));
        *count += 1;
        places.push(Place { name: name.into(), top: outer.map_or(name, |o| &o.top).into(), path });
    }
    let ordered = if class == "Sequential" { (0..layers.len()).collect() } else { order(config, layers)? };
    for i in ordered {
        let (layer, place) = (&layers[i], &places[i]);
        let class = class_of(layer);
        if is_model(class) {
            flatten(layer, Some(place), chain)?;
        } else {
            chain.push(Described {
                name: layer_name(layer),
                class,
                config: &layer["config"],
                place: place.clone(),
                model: config["name"].as_str().unwrap_or("sequential"),
                built: layer["build_config"]["input_shape"].as_array(),
            });
        }
    }
    Ok(())
}

fn class_of(layer: &Value) -> &str {
    layer["class_name"].as_str().unwrap_or("")
}

fn layer_name(layer: &Value) -> &str {
    layer["config"]["name"].as_str().or_else(|| layer["name"].as_str()).unwrap_or("(no name)")
}

/// The name other layers know this one by.
fn layer_name_key(layer: &Value) -> &str {
    layer["name"].as_str().unwrap_or_else(|| layer_name(layer))
}

/// `max_pooling2d` of `MaxPooling2D`: the group Keras 3 gives a class.
pub(super) fn snake_case(class: &str) -> String {
    let chars: Vec<char> = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    // Keras inserts `_` before a capital with small letters behind it, then between a small letter and a capital.
    let mut words = String::new();
    let mut i = 0;
    while i < chars.len() {
        words.push(chars[i]);
        if i + 2 < chars.len() && chars[i + 1].is_ascii_uppercase() && chars[i + 2].is_ascii_lowercase() {
            words.push('_');
            words.push(chars[i + 1]);
            i += 2;
            while i < chars.len() && chars[i].is_ascii_lowercase() {
                words.push(chars[i]);
                i += 1;
            }
        } else {
            i += 1;
        }
    }
    let mut snake = String::new();
    let mut last = ' ';
    for c in words.chars() {
        if last.is_ascii_lowercase() && c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
        last = c;
    }
    snake
}

/// Indices of the layers of a functional model from its input to its end.
fn order(config: &Value, layers: &[Value]) -> Result<Vec<usize>, Problem> {
    let mut after: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut starts = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let mut inputs = Vec::new();
        inbound(&layer["inbound_nodes"], &mut inputs);
        match inputs[..] {
            [] => starts.push(i),
            [input] => after.entry(input).or_default().push(i),
            _ => return Err(Problem::NotAChain { layer: layer_name(layer).into(), found: inputs.len() }),
        }
    }
    let [start] = starts[..] else {
        return Err(Problem::Config {
            place: "config.layers".into(),
            found: format!("a model with {} inputs", starts.len()),
            expected: "one input",
        });
    };
    let mut ordered = vec![start];
    let mut current = start;
    // Removing each step from the map ends the walk even if the layers form a ring.
    while let Some(next) = after.remove(layer_name_key(&layers[current])) {
        let [only] = next[..] else {
            let layer = layer_name(&layers[current]).into();
            return Err(Problem::Branches { layer, found: next.len() });
        };
        ordered.push(only);
        current = only;
    }
    let reached: HashSet<usize> = ordered.iter().copied().collect();
    if let Some(left) = (0..layers.len()).find(|i| !reached.contains(i)) {
        return Err(Problem::Config {
            place: format!("layer `{}`", layer_name(&layers[left])),
            found: "not reachable from the input".into(),
            expected: "one chain of layers",
        });
    }
    let mut outputs = Vec::new();
    inbound(&config["output_layers"], &mut outputs);
    match outputs[..] {
        [] => Ok(ordered),
        [output] if output == layer_name_key(&layers[current]) => Ok(ordered),
        _ => Err(Problem::Config {
            place: "config.output_layers".into(),
            found: format!("`{}`", outputs.join("`, `")),
            expected: "the last layer of the chain alone",
        }),
    }
}

/// Names of the layers a node takes: Keras 3 `"keras_history": ["name", 0, 0]`, Keras 2 `["name", 0, 0, {}]`.
fn inbound<'a>(node: &'a Value, names: &mut Vec<&'a str>) {
    match node {
        Value::Object(fields) => match fields.get("keras_history").and_then(|h| h[0].as_str()) {
            Some(name) => names.push(name),
            None => fields.values().for_each(|v| inbound(v, names)),
        },
        Value::Array(items) => match items.as_slice() {
            [Value::String(name), Value::Number(_), ..] => names.push(name),
            _ => items.iter().for_each(|v| inbound(v, names)),
        },
        _ => {}
    }
}

/// The picture: from what stands in front of the first layer that computes, checked against or replaced by what the user
/// asked for. A model around a base says more than the base, which may take pictures of any size.
fn input(
    chain: &[Described<'_>],
    root: &Value,
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<Shape, Problem> {
    let first = chain.iter().position(|l| layers::changes_shape(l.class)).map_or(chain.len(), |i| i + 1);
    let said = chain[..first].iter().filter_map(|l| l.config["batch_shape"].as_array());
    let built = chain.first().and_then(|l| l.built);
    let shapes: Vec<&Vec<Value>> =
        said.chain(root["config"]["build_input_shape"].as_array()).chain(built).collect();
    let sides = |shape: &[Value]| -> Option<[Option<usize>; 3]> {
        let size = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        match shape {
            [_, height, width, channels] => Some([size(height), size(width), size(channels)]),
            _ => None,
        }
    };
    let mut found: Option<([Option<usize>; 2], usize)> = None;
    for shape in shapes {
        let Some([height, width, Some(channels)]) = sides(shape) else {
            return Err(Problem::Config {
                place: "batch_shape".into(),
                found: Value::from(shape.clone()).to_string(),
                expected: "[null, height, width, channels]",
            });
        };
        match &mut found {
            None => found = Some(([height, width], channels)),
            Some((size, _)) if size.contains(&None) => *size = [size[0].or(height), size[1].or(width)],
            Some(_) => {}
        }
    }
    let Some(([height, width], channels)) = found else {
        return options.input.ok_or(Problem::Missing {
            place: "model_config: batch_shape".into(),
            expected: "the input's shape",
        });
    };
    let in_file = height.zip(width).map(|(h, w)| Shape::new(h, w, channels));
    match (options.input, in_file) {
        (Some(asked), _) if asked.channels != channels => {
            let layer = chain.first().map_or("input", |l| l.name).to_string();
            Err(Problem::InputChannels { found: asked.channels, layer, expected: channels })
        }
        (Some(found), Some(expected)) if found != expected => {
            // A map of another size still fits unless it is flattened.
            if chain.iter().any(|l| matches!(l.class, "Flatten" | "Reshape")) {
                return Err(Problem::InputMismatch { found, expected });
            }
            notes.push(format!("input {found} as asked for, the file says {expected}"));
            Ok(found)
        }
        (Some(asked), _) => Ok(asked),
        (None, Some(shape)) => Ok(shape),
        (None, None) => Err(Problem::InputUnknown),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
