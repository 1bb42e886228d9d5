//! What each Keras layer does: class and options to kinds of the graph.
//!
//! | Keras | graph |
//! |---|---|
//! | Conv2D 3x3 same, 3x3 valid behind ZeroPadding2D(1), 1x1 | convolution, activation |
//! | BatchNormalization over the last axis | batch normalization |
//! | Rescaling, Normalization | affine |
//! | MaxPooling2D 2x2, GlobalAveragePooling2D, AveragePooling2D over the whole map | pooling |
//! | Flatten, Reshape to a vector | flatten |
//! | Dense, Activation, ReLU, Softmax, Dropout | the same |
//! | SpatialDropout2D, noise, Random… augmentation, Identity | nothing at inference |
//!
//! An option of a layer that would change its result and is not what the engine does (strides, dilation,
//! `channels_first`…) is an error that names it.

use std::collections::HashMap;

use crate::graph::{ActivationShape, Kind, Padding, Shape, Spec};

use super::super::Problem;
use super::config::{Described, Model, Parameters, Source, snake_case};
use super::unsupported;

/// What keeps Keras from dividing by zero in `Normalization`.
const NORMALIZATION_EPSILON: f64 = 1e-7;

/// What the layers of a class do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Input,
    Conv,
    ZeroPadding,
    MaxPool,
    AveragePool,
    GlobalAveragePool,
    Flatten,
    Reshape,
    Permute,
    Resizing,
    Dense,
    BatchNorm,
    Rescaling,
    Normalization,
    Activation,
    Relu,
    Softmax,
    Dropout,
    /// Does nothing at inference.
    Nothing,
}

/// The classes, those of augmentation (`RandomFlip`) aside.
const CLASSES: [(&str, Class); 34] = [
    ("InputLayer", Class::Input),
    ("Conv2D", Class::Conv),
    ("Convolution2D", Class::Conv),
    ("ZeroPadding2D", Class::ZeroPadding),
    ("MaxPooling2D", Class::MaxPool),
    ("MaxPool2D", Class::MaxPool),
    ("AveragePooling2D", Class::AveragePool),
    ("AvgPool2D", Class::AveragePool),
    ("GlobalAveragePooling2D", Class::GlobalAveragePool),
    ("GlobalAvgPool2D", Class::GlobalAveragePool),
    ("Flatten", Class::Flatten),
    ("Reshape", Class::Reshape),
    ("Permute", Class::Permute),
    ("Resizing", Class::Resizing),
    ("Dense", Class::Dense),
    ("BatchNormalization", Class::BatchNorm),
    ("BatchNormalizationV1", Class::BatchNorm),
    ("BatchNormalizationV2", Class::BatchNorm),
    ("SyncBatchNormalization", Class::BatchNorm),
    ("Rescaling", Class::Rescaling),
    ("Normalization", Class::Normalization),
    ("Activation", Class::Activation),
    ("ReLU", Class::Relu),
    ("Softmax", Class::Softmax),
    ("Dropout", Class::Dropout),
    ("SpatialDropout2D", Class::Nothing),
    ("AlphaDropout", Class::Nothing),
    ("GaussianDropout", Class::Nothing),
    ("GaussianNoise", Class::Nothing),
    ("ActivityRegularization", Class::Nothing),
    ("Identity", Class::Nothing),
    ("RandAugment", Class::Nothing),
    ("AugMix", Class::Nothing),
    ("MixUp", Class::Nothing),
];

impl Class {
    fn of(name: &str) -> Option<Self> {
        let found = CLASSES.iter().find(|(class, _)| *class == name).map(|(_, class)| *class);
        // Random layers leave pictures alone at inference, but for the one that crops their middle.
        found.or((name.starts_with("Random") && name != "RandomCrop").then_some(Self::Nothing))
    }
}

/// What the layers of a group of `.weights.h5` do: `max_pooling2d`.
pub(super) fn class_of_group(group: &str) -> Option<Class> {
    let found = CLASSES.iter().find(|(class, _)| snake_case(class) == group).map(|(_, class)| *class);
    found.or((group.starts_with("random_") && group != "random_crop").then_some(Class::Nothing))
}

/// Whether a class is one of the table.
pub(super) fn is_supported(class: &str) -> bool {
    Class::of(class).is_some()
}

/// Whether a layer may put out another shape than it takes.
pub(super) fn changes_shape(class: &str) -> bool {
    use Class::{Dropout, Input, Normalization, Nothing, Rescaling};
    !matches!(Class::of(class), Some(Input | Nothing | Dropout | Rescaling | Normalization))
}

/// The network of `chain`, whose input `spec` has.
pub(super) fn build(spec: Spec, chain: &[Described<'_>], notes: &mut Vec<String>) -> Result<Model, Problem> {
    let at = ActivationShape::Map(spec.input);
    let mut builder = Builder {
        model: Model { spec, sources: Vec::new() },
        at,
        pending: Pending::Nothing,
        names: HashMap::new(),
    };
    for layer in chain {
        builder.push(layer)?;
    }
    if let Pending::Padding(name) = &builder.pending {
        return Err(padding_alone(name));
    }
    let mut model = builder.model;
    let behind = model.spec.layers.iter().rev().find(|l| !matches!(l.kind, Kind::Dropout { .. }));
    if matches!(behind, Some(l) if matches!(l.kind, Kind::Dense { .. })) {
        notes.push("the model ends without softmax: its outputs are taken as logits, softmax added".into());
        model.spec.push_activation(Kind::Softmax);
        model.sources.push(Source::Nothing);
    }
    Ok(model)
}

/// What a layer left for the next one.
enum Pending {
    Nothing,
    /// A border of zeros, by the layer of this name.
    Padding(String),
    /// A map of 1x1 where the graph has a vector, by the layer of this name.
    Pooled(String),
}

struct Builder<'a> {
    model: Model,
    /// What the last layer puts out.
    at: ActivationShape,
    pending: Pending,
    /// Model that a layer name is of.
    names: HashMap<String, &'a str>,
}

fn padding_alone(name: &str) -> Problem {
    let what = "ZeroPadding2D without a valid 3x3 Conv2D behind it";
    unsupported(name, what)
}

impl<'a> Builder<'a> {
    /// Appends what `layer` does.
    fn push(&mut self, layer: &Described<'a>) -> Result<(), Problem> {
        let refused = || unsupported(layer.name, layer.class);
        let class = Class::of(layer.class).ok_or_else(refused)?;
        let passes = matches!(class, Class::Input | Class::Nothing | Class::Dropout);
        match &self.pending {
            Pending::Padding(name) if class != Class::Conv && !passes => return Err(padding_alone(name)),
            Pending::Pooled(name) if !matches!(class, Class::Flatten | Class::Reshape) && !passes => {
                return Err(Problem::Option {
                    layer: name.clone(),
                    option: "output".into(),
                    found: "a map of 1x1".into(),
                    expected: "a vector, or Flatten behind it",
                });
            }
            _ => {}
        }
        match class {
            Class::Input | Class::Nothing => {}
            Class::Conv => self.conv(layer)?,
            Class::ZeroPadding => {
                layer.channels_last()?;
                let one = ["[[1,1],[1,1]]", "[1,1]", "1"];
                layer.require("padding", &one, "[[1,1],[1,1]]")?;
                self.pending = Pending::Padding(layer.name.into());
            }
            Class::MaxPool => self.max_pool(layer)?,
            Class::AveragePool => self.average_pool(layer)?,
            Class::GlobalAveragePool => {
                layer.channels_last()?;
                layer.require("keepdims", &["false", "true", "null"], "false")?;
                self.global_pool(layer, layer.config["keepdims"] == true)?;
            }
            Class::Flatten => {
                layer.channels_last()?;
                self.flatten(layer)?;
            }
            Class::Reshape => self.reshape(layer)?,
            Class::Permute => layer.require("dims", &["[1,2,3]", "[1]"], "the order it has")?,
            Class::Resizing => {
                let same = |option, side| layer.config[option].as_u64() == Some(side as u64);
                let fits = matches!(self.at, ActivationShape::Map(s)
                    if same("height", s.height) && same("width", s.width));
                if !fits {
                    return Err(refused());
                }
            }
            Class::Dense => {
                let units = layer.number("units")?;
                let parameters = Parameters::Linear { bias: layer.flag("use_bias")? };
                self.stored(layer, Kind::Dense { units }, parameters)?;
                self.at = ActivationShape::Vector(units);
                self.activation(layer)?;
            }
            Class::BatchNorm => self.batch_norm(layer)?,
            Class::Rescaling => {
                let channels = self.at.channels();
                let scale = layer.values("scale", channels)?;
                let shift = if layer.config["offset"].is_null() {
                    vec![0.0; channels]
                } else {
                    layer.values("offset", channels)?
                };
                self.given(layer, &scale, &shift)?;
            }
            Class::Normalization => self.normalization(layer)?,
            Class::Activation => {
                if let Some(kind) = layer.activation()? {
                    self.named(layer, kind, Source::Nothing)?;
                }
            }
            Class::Relu => {
                layer.plain_relu("", layer.config)?;
                self.named(layer, Kind::Relu, Source::Nothing)?;
            }
            Class::Softmax => {
                self.last_axis(layer)?;
                self.named(layer, Kind::Softmax, Source::Nothing)?;
            }
            Class::Dropout => {
                let rate = layer.config["rate"].as_f64().unwrap_or(0.0) as f32;
                self.named(layer, Kind::Dropout { rate }, Source::Nothing)?;
            }
        }
        Ok(())
    }

    /// Appends a layer under its own name, or, if a layer of another model has that, under `model/name`.
    fn named(&mut self, layer: &Described<'a>, kind: Kind, source: Source) -> Result<(), Problem> {
        let name = match self.names.get(layer.name) {
            Some(model) if *model != layer.model => format!("{}/{}", layer.model, layer.name),
            _ => layer.name.to_string(),
        };
        if self.names.insert(name.clone(), layer.model).is_some() {
            return Err(Problem::DuplicateLayer { name });
        }
        self.model.spec.push(name, kind);
        self.model.sources.push(source);
        Ok(())
    }

    fn stored(&mut self, layer: &Described<'a>, kind: Kind, parameters: Parameters) -> Result<(), Problem> {
        self.named(layer, kind, Source::Stored { place: layer.place.clone(), parameters })
    }

    /// Appends `x * scale + shift`.
    fn given(&mut self, layer: &Described<'a>, scale: &[f64], shift: &[f64]) -> Result<(), Problem> {
        let f32s = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
        self.named(layer, Kind::Affine, Source::Given { scale: f32s(scale), shift: f32s(shift) })
    }

    fn activation(&mut self, layer: &Described<'_>) -> Result<(), Problem> {
        if let Some(kind) = layer.activation()? {
            self.model.spec.push_activation(kind);
            self.model.sources.push(Source::Nothing);
        }
        Ok(())
    }

    fn conv(&mut self, layer: &Described<'a>) -> Result<(), Problem> {
        layer.channels_last()?;
        layer.require("kernel_size", &["[3,3]", "[1,1]", "3", "1"], "[3,3] or [1,1]")?;
        let filter_size = if layer.config["kernel_size"].to_string().contains('3') { 3 } else { 1 };
        layer.require("strides", &["[1,1]", "1", "null"], "[1,1]")?;
        layer.require("dilation_rate", &["[1,1]", "1", "null"], "[1,1]")?;
        layer.require("groups", &["1", "null"], "1")?;
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Padding(name) => {
                if filter_size != 3 || layer.config["padding"] != "valid" {
                    return Err(padding_alone(&name));
                }
            }
            _ if filter_size == 3 => layer.require("padding", &["\"same\""], "same")?,
            _ => layer.require("padding", &["\"same\"", "\"valid\"", "null"], "same or valid")?,
        }
        let filters = layer.number("filters")?;
        let parameters = Parameters::Linear { bias: layer.flag("use_bias")? };
        self.stored(layer, Kind::Conv { filter_size, filters }, parameters)?;
        if let ActivationShape::Map(map) = &mut self.at {
            map.channels = filters;
        }
        self.activation(layer)
    }

    fn max_pool(&mut self, layer: &Described<'a>) -> Result<(), Problem> {
        layer.channels_last()?;
        layer.require("pool_size", &["[2,2]", "2"], "[2,2]")?;
        layer.require("strides", &["[2,2]", "2", "[1,1]", "1", "null"], "[2,2] or [1,1]")?;
        layer.require("padding", &["\"valid\"", "\"same\"", "null"], "valid or same")?;
        let stride = if layer.config["strides"].to_string().contains('1') { 1 } else { 2 };
        let padding = if layer.config["padding"] == "same" { Padding::Same } else { Padding::Valid };
        self.named(layer, Kind::MaxPool { stride, padding }, Source::Nothing)?;
        if let ActivationShape::Map(map) = &mut self.at {
            let shrink = |side: usize| match padding {
                Padding::Same => side.div_ceil(stride),
                Padding::Valid => side.saturating_sub(2) / stride + 1,
            };
            (map.height, map.width) = (shrink(map.height), shrink(map.width));
        }
        Ok(())
    }

    /// A window as large as the map, without a border, is the mean over the map.
    fn average_pool(&mut self, layer: &Described<'a>) -> Result<(), Problem> {
        layer.channels_last()?;
        let ActivationShape::Map(Shape { height, width, .. }) = self.at else {
            return Err(layer.option("input", "a vector".into(), "a map"));
        };
        let whole = [format!("[{height},{width}]"), format!("{height}")];
        let whole: Vec<&str> =
            whole.iter().take(1 + usize::from(height == width)).map(String::as_str).collect();
        layer.require("pool_size", &whole, "the whole map")?;
        layer.require("padding", &["\"valid\"", "null"], "valid")?;
        self.global_pool(layer, true)
    }

    fn global_pool(&mut self, layer: &Described<'a>, keeps_axes: bool) -> Result<(), Problem> {
        self.named(layer, Kind::GlobalAvgPool, Source::Nothing)?;
        self.at = ActivationShape::Vector(self.at.channels());
        if keeps_axes {
            self.pending = Pending::Pooled(layer.name.into());
        }
        Ok(())
    }

    fn flatten(&mut self, layer: &Described<'a>) -> Result<(), Problem> {
        self.pending = Pending::Nothing;
        if matches!(self.at, ActivationShape::Map(_)) {
            self.named(layer, Kind::Flatten, Source::Nothing)?;
            self.at = ActivationShape::Vector(self.at.len());
        }
        Ok(())
    }

    /// To a vector, or to the shape there is.
    fn reshape(&mut self, layer: &Described<'a>) -> Result<(), Problem> {
        let target = &layer.config["target_shape"];
        let (to, len) = (target.to_string(), self.at.len());
        if to == "[-1]" || to == format!("[{len}]") {
            return self.flatten(layer);
        }
        match self.at {
            ActivationShape::Map(s) if to == format!("[{},{},{}]", s.height, s.width, s.channels) => Ok(()),
            _ => Err(layer.option("target_shape", to, "[-1]")),
        }
    }

    /// Errors unless the layer works along the last axis.
    fn last_axis(&self, layer: &Described<'_>) -> Result<(), Problem> {
        match self.at {
            ActivationShape::Map(_) => layer.require("axis", &["-1", "[-1]", "3", "[3]", "null"], "-1"),
            ActivationShape::Vector(_) => layer.require("axis", &["-1", "[-1]", "1", "[1]", "null"], "-1"),
        }
    }

    fn batch_norm(&mut self, layer: &Described<'a>) -> Result<(), Problem> {
        self.last_axis(layer)?;
        layer.require("renorm", &["false", "null"], "false")?;
        layer.require("mode", &["0", "null"], "0")?;
        let epsilon = &layer.config["epsilon"];
        let epsilon = match epsilon.as_f64() {
            Some(value) if value.is_finite() && value >= 0.0 => value,
            None if epsilon.is_null() => 1e-3,
            _ => return Err(layer.option("epsilon", epsilon.to_string(), "a number of at least 0")),
        };
        let parameters = Parameters::BatchNorm { gamma: layer.flag("scale")?, beta: layer.flag("center")? };
        self.stored(layer, Kind::BatchNorm { epsilon }, parameters)
    }

    /// `(x - mean) / sqrt(variance)`, with the statistics of the description or of the file.
    fn normalization(&mut self, layer: &Described<'a>) -> Result<(), Problem> {
        layer.require("invert", &["false", "null"], "false")?;
        let (mean, variance) = (&layer.config["mean"], &layer.config["variance"]);
        if mean.is_null() && variance.is_null() {
            self.last_axis(layer)?;
            return self.stored(layer, Kind::Affine, Parameters::Normalization);
        }
        let channels = self.at.channels();
        let mean = layer.values("mean", channels)?;
        let variance = layer.values("variance", channels)?;
        let (scale, shift) = normalization(&mean, &variance);
        self.given(layer, &scale, &shift)
    }
}

/// Scale and shift that take `mean` to 0 and `variance` to 1.
pub(super) fn normalization(mean: &[f64], variance: &[f64]) -> (Vec<f64>, Vec<f64>) {
    mean.iter()
        .zip(variance)
        .map(|(mean, variance)| {
            let root = variance.sqrt();
            // A negative variance stays NaN, and Graph::new says where.
            let scale = 1.0 / if root < NORMALIZATION_EPSILON { NORMALIZATION_EPSILON } else { root };
            (scale, -mean * scale)
        })
        .unzip()
}
