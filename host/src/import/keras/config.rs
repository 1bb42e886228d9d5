//! Keras `model_config` JSON to a [`Spec`]: Keras 2 and 3, Functional and Sequential, nested models.
//!
//! ```text
//! {"class_name": "Functional", "config": {"name": "small_vgg", "layers": [
//!     {"class_name": "InputLayer", "config": {"batch_shape": [null, 32, 32, 3], …}, "inbound_nodes": []},
//!     {"class_name": "Conv2D",     "config": {"name": "block1_conv1", "filters": 16, …}, "inbound_nodes": […]}, …
//! ```
//!
//! The layers must form a chain. An option of a layer that would change its result and is not what the engine does
//! (strides, dilation, `channels_first`…) is an error that names it.

use std::collections::HashMap;

use serde_json::Value;

use crate::graph::{Kind, Padding, Shape, Spec};

use crate::import::{ImportOptions, Problem};

/// The network `json` describes.
pub(super) fn parse(json: &str, options: &ImportOptions, notes: &mut Vec<String>) -> Result<Spec, Problem> {
    let root: Value = serde_json::from_str(json).map_err(|e| Problem::Config {
        place: "text".into(),
        found: format!("not JSON ({e})"),
        expected: "a JSON object",
    })?;
    let name = root["config"]["name"].as_str().unwrap_or("sequential").to_string();
    let mut layers = Vec::new();
    flatten(&root, &mut layers)?;
    let mut spec = Spec::new(name, input(&layers, options, notes)?);
    for layer in &layers {
        push(&mut spec, layer)?;
    }
    if !matches!(spec.layers.last(), Some(l) if l.kind == Kind::Softmax) {
        notes.push("the model ends without softmax: its outputs are taken as logits, softmax added".into());
        spec.push_activation(Kind::Softmax);
    }
    Ok(spec)
}

/// A layer of the chain.
struct Described<'a> {
    name: &'a str,
    class: &'a str,
    config: &'a Value,
}

/// The chain of `model`, nested models replaced by their own chains.
fn flatten<'a>(model: &'a Value, chain: &mut Vec<Described<'a>>) -> Result<(), Problem> {
    let class = model["class_name"].as_str().unwrap_or("");
    let config = &model["config"];
    let layers =
        config["layers"].as_array().or_else(|| config.as_array()).ok_or_else(|| Problem::Config {
            place: "config.layers".into(),
            found: kind_of(&config["layers"]).into(),
            expected: "a list of layers",
        })?;
    let ordered = match class {
        "Functional" | "Model" => order(layers)?,
        "Sequential" => layers.iter().collect(),
        _ => {
            return Err(Problem::Config {
                place: "class_name".into(),
                found: format!("`{class}`"),
                expected: "Functional or Sequential",
            });
        }
    };
    for layer in ordered {
        let class = layer["class_name"].as_str().unwrap_or("");
        match class {
            "Functional" | "Model" | "Sequential" => flatten(layer, chain)?,
            _ => chain.push(Described { name: layer_name(layer), class, config: &layer["config"] }),
        }
    }
    Ok(())
}

fn layer_name(layer: &Value) -> &str {
    layer["config"]["name"].as_str().or_else(|| layer["name"].as_str()).unwrap_or("(no name)")
}

/// The layers of a functional model from its input to its end.
fn order(layers: &[Value]) -> Result<Vec<&Value>, Problem> {
    let mut after: HashMap<&str, Vec<&Value>> = HashMap::new();
    let mut starts = Vec::new();
    for layer in layers {
        let mut inputs = Vec::new();
        inbound(&layer["inbound_nodes"], &mut inputs);
        match inputs[..] {
            [] => starts.push(layer),
            [input] => after.entry(input).or_default().push(layer),
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
    while let Some(next) = after.remove(layer_name_key(current)) {
        let [layer] = next[..] else {
            return Err(Problem::Branches { layer: layer_name(current).into(), found: next.len() });
        };
        ordered.push(layer);
        current = layer;
    }
    match layers.iter().find(|l| !ordered.iter().any(|o| std::ptr::eq(*o, *l))) {
        Some(left) => Err(Problem::Config {
            place: format!("layer `{}`", layer_name(left)),
            found: "not reachable from the input".into(),
            expected: "one chain of layers",
        }),
        None => Ok(ordered),
    }
}

/// The name other layers know this one by.
fn layer_name_key(layer: &Value) -> &str {
    layer["name"].as_str().unwrap_or_else(|| layer_name(layer))
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

/// The picture: from the first layer that says, checked against or replaced by what the user asked for.
fn input(
    layers: &[Described<'_>],
    options: &ImportOptions,
    notes: &mut Vec<String>,
) -> Result<Shape, Problem> {
    let shape = layers
        .iter()
        .take(2)
        .find_map(|l| ["batch_shape", "batch_input_shape"].iter().find_map(|key| l.config[*key].as_array()))
        .ok_or_else(|| Problem::Missing {
            place: "model_config: batch_shape".into(),
            expected: "the input's shape",
        })?;
    let sides: Vec<Option<usize>> =
        shape.iter().skip(1).map(|v| v.as_u64().and_then(|n| usize::try_from(n).ok())).collect();
    let [height, width, Some(channels)] = sides[..] else {
        return Err(Problem::Config {
            place: "batch_shape".into(),
            found: Value::from(shape.clone()).to_string(),
            expected: "[null, height, width, channels]",
        });
    };
    let in_file = height.zip(width).map(|(h, w)| Shape::new(h, w, channels));
    match (options.input, in_file) {
        (Some(asked), _) if asked.channels != channels => {
            let layer = layers.first().map_or("input", |l| l.name).to_string();
            Err(Problem::InputChannels { found: asked.channels, layer, expected: channels })
        }
        (Some(found), Some(expected)) if found != expected => {
            // A map of another size still fits unless it is flattened.
            if layers.iter().any(|l| l.class == "Flatten") {
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

/// Appends what `layer` does.
fn push(spec: &mut Spec, layer: &Described<'_>) -> Result<(), Problem> {
    let name = layer.name;
    match layer.class {
        "InputLayer" => {}
        "Conv2D" | "Convolution2D" => {
            layer.require("data_format", &["\"channels_last\"", "null"], "channels_last")?;
            layer.require("kernel_size", &["[3,3]", "[1,1]"], "[3,3] or [1,1]")?;
            let filter_size = layer.size("kernel_size", 0)?;
            layer.require("strides", &["[1,1]"], "[1,1]")?;
            layer.require("dilation_rate", &["[1,1]", "null"], "[1,1]")?;
            layer.require("groups", &["1", "null"], "1")?;
            if filter_size == 3 {
                layer.require("padding", &["\"same\""], "same")?;
            }
            spec.push(name, Kind::Conv { filter_size, filters: layer.number("filters")? });
            activation(spec, layer)?;
        }
        "MaxPooling2D" => {
            layer.require("data_format", &["\"channels_last\"", "null"], "channels_last")?;
            layer.require("pool_size", &["[2,2]"], "[2,2]")?;
            layer.require("strides", &["[2,2]", "[1,1]", "null"], "[2,2] or [1,1]")?;
            layer.require("padding", &["\"valid\"", "\"same\""], "valid or same")?;
            let stride = if layer.config["strides"].is_null() { 2 } else { layer.size("strides", 0)? };
            let padding = if layer.config["padding"] == "same" { Padding::Same } else { Padding::Valid };
            spec.push(name, Kind::MaxPool { stride, padding });
        }
        "GlobalAveragePooling2D" => {
            layer.require("data_format", &["\"channels_last\"", "null"], "channels_last")?;
            layer.require("keepdims", &["false", "null"], "false")?;
            spec.push(name, Kind::GlobalAvgPool);
        }
        "Flatten" => {
            layer.require("data_format", &["\"channels_last\"", "null"], "channels_last")?;
            spec.push(name, Kind::Flatten);
        }
        "Dropout" => {
            let rate = layer.config["rate"].as_f64().unwrap_or(0.0) as f32;
            spec.push(name, Kind::Dropout { rate });
        }
        "Dense" => {
            spec.push(name, Kind::Dense { units: layer.number("units")? });
            activation(spec, layer)?;
        }
        "Activation" => {
            if let Some(kind) = layer.activation()? {
                spec.push(name, kind);
            }
        }
        "ReLU" => {
            layer.require("max_value", &["null"], "null")?;
            layer.require("negative_slope", &["0.0", "0", "null"], "0")?;
            layer.require("threshold", &["0.0", "0", "null"], "0")?;
            spec.push(name, Kind::Relu);
        }
        "Softmax" => spec.push(name, Kind::Softmax),
        class => {
            return Err(Problem::UnsupportedLayer { layer: name.into(), what: class.into() });
        }
    }
    Ok(())
}

fn activation(spec: &mut Spec, layer: &Described<'_>) -> Result<(), Problem> {
    if let Some(kind) = layer.activation()? {
        spec.push_activation(kind);
    }
    Ok(())
}

impl Described<'_> {
    fn option(&self, option: &str, found: String, expected: &'static str) -> Problem {
        Problem::Option { layer: self.name.into(), option: option.into(), found, expected }
    }

    /// Errors unless the option's JSON is one of `allowed`.
    fn require(&self, option: &str, allowed: &[&str], expected: &'static str) -> Result<(), Problem> {
        let found = self.config[option].to_string();
        if allowed.contains(&found.as_str()) { Ok(()) } else { Err(self.option(option, found, expected)) }
    }

    fn number(&self, option: &str) -> Result<usize, Problem> {
        let value = &self.config[option];
        (value.as_u64())
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or_else(|| self.option(option, value.to_string(), "a number of at least 1"))
    }

    fn size(&self, option: &str, axis: usize) -> Result<usize, Problem> {
        let value = &self.config[option][axis];
        (value.as_u64())
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| self.option(option, value.to_string(), "a number"))
    }

    /// `"relu"`, `{"class_name": "ReLU", …}` or `{"class_name": "function", "config": "relu"}`; `None` for linear.
    fn activation(&self) -> Result<Option<Kind>, Problem> {
        let value = &self.config["activation"];
        let word = match value {
            Value::Object(_) if value["class_name"] == "function" => value["config"].as_str(),
            Value::Object(_) => value["class_name"].as_str(),
            _ => value.as_str(),
        };
        match word {
            Some("relu" | "ReLU") => Ok(Some(Kind::Relu)),
            Some("softmax" | "Softmax") => Ok(Some(Kind::Softmax)),
            Some("linear") => Ok(None),
            None if value.is_null() => Ok(None),
            _ => Err(self.option("activation", value.to_string(), "relu, softmax or linear")),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: &str) -> Result<(Spec, Vec<String>), Problem> {
        let mut notes = Vec::new();
        parse(json, &ImportOptions::default(), &mut notes).map(|spec| (spec, notes))
    }

    const CONV: &str = r#"{"class_name": "Conv2D", "config": {"name": "c", "filters": 4, "kernel_size": [3, 3],
        "strides": [1, 1], "padding": "same", "activation": "relu"}, "name": "c",
        "inbound_nodes": [[["in", 0, 0, {}]]]}"#;
    const POOL: &str = r#"{"class_name": "GlobalAveragePooling2D", "config": {"name": "g"}, "name": "g",
        "inbound_nodes": [[["c", 0, 0, {}]]]}"#;
    const DENSE: &str = r#"{"class_name": "Dense", "config": {"name": "d", "units": 2, "activation": "linear"},
        "name": "d", "inbound_nodes": [[["g", 0, 0, {}]]]}"#;

    #[test]
    fn keras_2_functional_layers_in_any_order() {
        let input = r#"{"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [null, 8, 8, 3]},
            "name": "in", "inbound_nodes": []}"#;
        let json = format!(
            r#"{{"class_name": "Model", "config": {{"name": "m", "layers": [{input}, {DENSE}, {POOL}, {CONV}]}}}}"#
        );
        let (spec, notes) = names(&json).expect("parses");
        let layers: Vec<&str> = spec.layers.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(layers, ["c", "c_relu", "g", "d", "d_softmax"]);
        assert_eq!(spec.input, Shape::new(8, 8, 3));
        assert_eq!(notes, ["the model ends without softmax: its outputs are taken as logits, softmax added"]);
    }

    #[test]
    fn a_base_model_inside_a_sequential_one() {
        let input = r#"{"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [null, 8, 8, 3]},
            "name": "in", "inbound_nodes": []}"#;
        let base = format!(
            r#"{{"class_name": "Functional", "config": {{"name": "vgg16", "layers": [{input}, {CONV}]}}, "name": "vgg16"}}"#
        );
        let json = format!(
            r#"{{"class_name": "Sequential", "config": {{"name": "s", "layers": [{base}, {POOL}, {DENSE}]}}}}"#
        );
        let (spec, _) = names(&json).expect("parses");
        let layers: Vec<&str> = spec.layers.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(layers, ["c", "c_relu", "g", "d", "d_softmax"]);
    }

    #[test]
    fn an_old_sequential_model_is_a_bare_list() {
        let conv = CONV.replace(r#""filters""#, r#""batch_input_shape": [null, 6, 5, 1], "filters""#);
        let json = format!(r#"{{"class_name": "Sequential", "config": [{conv}, {POOL}, {DENSE}]}}"#);
        assert_eq!(names(&json).expect("parses").0.input, Shape::new(6, 5, 1));
    }

    #[test]
    fn layers_with_two_inputs_and_open_sizes_are_errors() {
        let input = r#"{"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [null, null, null, 3]},
            "name": "in", "inbound_nodes": []}"#;
        let model = |layers: &str| {
            format!(r#"{{"class_name": "Functional", "config": {{"name": "m", "layers": [{layers}]}}}}"#)
        };
        let error = names(&model(&format!("{input}, {CONV}, {POOL}, {DENSE}"))).expect_err("open size");
        assert_eq!(error.kind(), "input-unknown");
        let add = r#"{"class_name": "Add", "config": {"name": "add"}, "name": "add",
            "inbound_nodes": [[["in", 0, 0, {}], ["c", 0, 0, {}]]]}"#;
        let error = names(&model(&format!("{input}, {CONV}, {add}"))).expect_err("a sum");
        assert_eq!(error.to_string(), "layer `add`: has 2 inputs, expected 1 (the network must be a chain)");
    }
}
