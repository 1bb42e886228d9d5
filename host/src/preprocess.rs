//! From a picture's bytes to the network's numbers: channel order, scale, mean, std, and how the picture is resized.
//!
//! `value = (pixel * scale - mean) / std`, channels in `order`, pixel in 0..=255. The rule is never guessed: it is asked
//! for, or read from the sidecar `<weights without extension>.preprocess.toml`:
//!
//! ```toml
//! order = "bgr"                       # rgb | bgr | gray | rgba
//! scale = 1.0
//! mean = [103.939, 116.779, 123.68]    # as many as the order has channels, and as many deviations
//! std = [1.0, 1.0, 1.0]
//! resize = "stretch"                  # stretch | "shorter-side 256, center-crop"
//! filter = "bilinear"                 # nearest | box | bilinear | bicubic | lanczos, as PIL has them
//! ```
//!
//! ```
//! use vgg_edge_host::graph::Shape;
//! use vgg_edge_host::preprocess::{Preprocess, Preset};
//! let rule = Preset::KerasCaffe.preprocess(Shape::new(1, 1, 3));
//! let values = rule.normalize(&[10, 20, 30]).unwrap();
//! assert_eq!(values, [30.0 - 103.939, 20.0 - 116.779, 10.0 - 123.68]);
//! ```

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vgg_edge_blob::{ChannelOrder, ResizeFilter, ResizeRule};

use crate::graph::Shape;

/// The whole rule. One `mean` and `std` a channel, in `order`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Channels, in order.
    #[serde(with = "words::order")]
    pub order: ChannelOrder,
    /// Factor of the pixel, finite, not 0.
    pub scale: f64,
    /// Subtracted after scaling; finite.
    pub mean: Vec<f64>,
    /// Divides what is left; finite, > 0.
    pub std: Vec<f64>,
    /// Size rule.
    #[serde(with = "words::resize")]
    pub resize: ResizeRule,
    /// Resampling filter, antialiased when shrinking, as PIL has it.
    #[serde(with = "words::filter")]
    pub filter: ResizeFilter,
}

/// A rule by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preset {
    /// Keras' VGG16: BGR, the ImageNet means taken off, no scaling.
    KerasCaffe,
    /// torchvision: RGB in 0..1, ImageNet mean and deviation, shorter side 256 for 224, cut out of the middle.
    Torchvision,
    /// RGB in 0..1.
    Unit,
    /// RGB in -1..1.
    Tf,
}

impl Preset {
    /// Every name.
    pub const ALL: [Self; 4] = [Self::KerasCaffe, Self::Torchvision, Self::Unit, Self::Tf];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::KerasCaffe => "keras-caffe",
            Self::Torchvision => "torchvision",
            Self::Unit => "unit",
            Self::Tf => "tf",
        }
    }

    /// The preset called `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    /// The rule for a network that takes `input`. A gray network gets the mean of the preset's channels. One of four
    /// takes RGBA: colours as the preset has them (in this order for `keras-caffe`, too), alpha scaled like them, with
    /// mean 0 and deviation 1: `alpha * scale`.
    pub fn preprocess(self, input: Shape) -> Preprocess {
        let (order, scale, mean, std) = match self {
            Self::KerasCaffe => (ChannelOrder::Bgr, 1.0, [103.939, 116.779, 123.68], [1.0; 3]),
            Self::Torchvision => {
                (ChannelOrder::Rgb, 1.0 / 255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
            }
            Self::Unit => (ChannelOrder::Rgb, 1.0 / 255.0, [0.0; 3], [1.0; 3]),
            Self::Tf => (ChannelOrder::Rgb, 1.0 / 127.5, [1.0; 3], [1.0; 3]),
        };
        let resize = match self {
            Self::Torchvision => {
                let side = input.height.max(input.width);
                ResizeRule::ShorterSideCenterCrop(((side * 256 + 112) / 224) as u32)
            }
            _ => ResizeRule::Stretch,
        };
        let (order, mean, std) = match input.channels {
            1 => {
                let middle = |v: [f64; 3]| vec![v.iter().sum::<f64>() / 3.0];
                (ChannelOrder::Gray, middle(mean), middle(std))
            }
            4 => {
                let rgba = |v: [f64; 3], alpha| {
                    let colour = |c| v[order.network_channel(c)];
                    vec![colour(0), colour(1), colour(2), alpha]
                };
                (ChannelOrder::Rgba, rgba(mean, 0.0), rgba(std, 1.0))
            }
            _ => (order, mean.to_vec(), std.to_vec()),
        };
        Preprocess { order, scale, mean, std, resize, filter: ResizeFilter::Bilinear }
    }
}

/// Where a rule came from, for messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A preset that was asked for.
    Preset(Preset),
    /// A file that was asked for.
    File(PathBuf),
    /// The sidecar beside the weights.
    Sidecar(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(p) => f.write_str(p.name()),
            Self::File(path) | Self::Sidecar(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A rule that cannot be had or used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum PreprocessError {
    #[error(
        "no preprocessing for {weights}: found no {sidecar}, expected that file or a preset (keras-caffe, torchvision, unit, tf)"
    )]
    Unknown { weights: String, sidecar: String },
    #[error("preprocessing is `{found}`, expected keras-caffe, torchvision, unit, tf or a .toml file")]
    NoSuchPreset { found: String },
    #[error("{file}: cannot read: {source}")]
    Io { file: String, source: std::io::Error },
    #[error("{file}: {message}")]
    Toml { file: String, message: String },
    #[error("{file}: {field} is {found}, expected {expected}")]
    Field { file: String, field: String, found: String, expected: String },
    #[error("picture has {found} bytes, expected whole pixels of {channels} bytes")]
    Pixels { found: usize, channels: usize },
}

impl Preprocess {
    /// The rule for `weights` and a network that takes `input`: what was asked for (a preset or a `.toml` file), else the
    /// sidecar.
    pub fn find(
        asked: Option<&str>,
        weights: &Path,
        input: Shape,
    ) -> Result<(Self, Origin), PreprocessError> {
        if let Some(asked) = asked {
            if let Some(preset) = Preset::by_name(asked) {
                return Ok((preset.preprocess(input), Origin::Preset(preset)));
            }
            let path = Path::new(asked);
            if path.extension().is_none_or(|e| e != "toml") {
                return Err(PreprocessError::NoSuchPreset { found: asked.to_string() });
            }
            return Ok((Self::load(path, input)?, Origin::File(path.to_path_buf())));
        }
        let sidecars = sidecars(weights);
        for path in &sidecars {
            if path.exists() {
                return Ok((Self::load(path, input)?, Origin::Sidecar(path.clone())));
            }
        }
        let sidecar = sidecars.first().map_or_else(String::new, |p| p.display().to_string());
        Err(PreprocessError::Unknown { weights: weights.display().to_string(), sidecar })
    }

    /// The rule in a file, checked for a network that takes `input`.
    pub fn load(path: &Path, input: Shape) -> Result<Self, PreprocessError> {
        let file = path.display().to_string();
        let text =
            fs::read_to_string(path).map_err(|source| PreprocessError::Io { file: file.clone(), source })?;
        Self::parse(&text, &file, input)
    }

    /// The rule in `text`; errors call it `file`.
    pub fn parse(text: &str, file: &str, input: Shape) -> Result<Self, PreprocessError> {
        let rule: Self = toml::from_str(text).map_err(|e| {
            // The parser's own text draws the line over several lines; one line with its number is enough here.
            let line = e.span().map(|s| text.get(..s.start).unwrap_or("").matches('\n').count() + 1);
            let at = line.map_or_else(String::new, |n| format!("line {n}: "));
            PreprocessError::Toml { file: file.to_string(), message: format!("{at}{}", e.message()) }
        })?;
        rule.check(file, input)?;
        Ok(rule)
    }

    /// Errors unless every number makes sense for a network that takes `input`.
    pub fn check(&self, file: &str, input: Shape) -> Result<(), PreprocessError> {
        let wrong = |field: &str, found: String, expected: String| {
            Err(PreprocessError::Field { file: file.into(), field: field.into(), found, expected })
        };
        let channels = self.order.channels();
        if channels != input.channels {
            let found = format!("{} with {channels} channels", self.order.name());
            return wrong("order", found, format!("{} as the network takes", input.channels));
        }
        if !self.scale.is_finite() || self.scale == 0.0 {
            return wrong("scale", self.scale.to_string(), "a finite number other than 0".into());
        }
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != channels {
                return wrong(
                    field,
                    format!("{} numbers", values.len()),
                    format!("{channels}, one a channel"),
                );
            }
            for v in values {
                if !v.is_finite() {
                    return wrong(field, v.to_string(), "finite numbers".into());
                }
                if field == "std" && *v <= 0.0 {
                    return wrong(field, v.to_string(), "numbers above 0".into());
                }
            }
        }
        let longest = input.height.max(input.width);
        match self.resize {
            ResizeRule::ShorterSideCenterCrop(side) if (side as usize) < longest => wrong(
                "resize",
                format!("shorter side {side}"),
                format!("at least {longest}, the network's input"),
            ),
            _ => Ok(()),
        }
    }

    /// What each pixel value becomes: a row of 256 for each channel of the network, in its order.
    pub fn table(&self) -> Vec<[f32; 256]> {
        let rows = self.mean.iter().zip(&self.std);
        rows.map(|(mean, std)| std::array::from_fn(|p| ((p as f64 * self.scale - mean) / std) as f32))
            .collect()
    }

    /// The network's input for a picture of its size: `pixels` u8 HWC, RGB, or gray or RGBA for a network that takes
    /// that (as `vgg_edge_engine::image::prepare` gives them); the result f32 HWC in the network's channels.
    pub fn normalize(&self, pixels: &[u8]) -> Result<Vec<f32>, PreprocessError> {
        let (table, channels) = (self.table(), self.order.channels());
        // A rule made by hand may have too few means; `check` refuses it.
        if pixels.is_empty() || !pixels.len().is_multiple_of(channels) || table.len() < channels {
            return Err(PreprocessError::Pixels { found: pixels.len(), channels });
        }
        let mut values = Vec::with_capacity(pixels.len());
        for pixel in pixels.chunks_exact(channels) {
            let value = |c: usize| table[c][usize::from(pixel[self.order.network_channel(c)])];
            values.extend((0..channels).map(value));
        }
        Ok(values)
    }

    /// The rule as the blob carries it.
    pub fn to_blob(&self) -> vgg_edge_blob::Preprocess {
        let four =
            |values: &[f64], rest: f32| std::array::from_fn(|c| values.get(c).map_or(rest, |v| *v as f32));
        vgg_edge_blob::Preprocess {
            order: self.order,
            scale: self.scale as f32,
            mean: four(&self.mean, 0.0),
            std: four(&self.std, 1.0),
            resize: self.resize,
            filter: self.filter,
        }
    }

    /// The rule as the sidecar's text.
    pub fn to_toml(&self) -> String {
        let word = |v: serde_json::Value| v.to_string();
        let json = serde_json::to_value(self).unwrap_or_default();
        let fields = ["order", "scale", "mean", "std", "resize", "filter"];
        let lines: Vec<String> =
            fields.iter().map(|f| format!("{f} = {}\n", word(json[*f].clone()))).collect();
        format!(
            "# value = (pixel * scale - mean) / std, channels in this order, pixel in 0..=255\n{}",
            lines.concat()
        )
    }
}

/// Where the sidecar may be: extension replaced, and for `net.weights.h5` also `net.preprocess.toml`.
fn sidecars(weights: &Path) -> Vec<PathBuf> {
    let first = weights.with_extension("preprocess.toml");
    let stem = weights.with_extension("");
    let second =
        stem.extension().is_some_and(|e| e == "weights").then(|| stem.with_extension("preprocess.toml"));
    [Some(first), second].into_iter().flatten().collect()
}

/// The sidecar's words for what the blob numbers.
mod words {
    use serde::de::{Deserialize, Deserializer, Error};

    /// Reads the name of one of `all`.
    fn one_of<'de, D: Deserializer<'de>, T: Copy>(
        deserializer: D,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        all.iter().copied().find(|value| name(*value) == text).ok_or_else(|| {
            let names: Vec<String> = all.iter().map(|value| format!("`{}`", name(*value))).collect();
            D::Error::custom(format_args!("unknown variant `{text}`, expected one of {}", names.join(", ")))
        })
    }

    pub(super) mod order {
        use serde::{Deserializer, Serializer};
        use vgg_edge_blob::ChannelOrder;

        pub(crate) fn serialize<S: Serializer>(order: &ChannelOrder, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_str(order.name())
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ChannelOrder, D::Error> {
            super::one_of(from, &ChannelOrder::ALL, ChannelOrder::name)
        }
    }

    pub(super) mod filter {
        use serde::{Deserializer, Serializer};
        use vgg_edge_blob::ResizeFilter;

        pub(crate) fn serialize<S: Serializer>(filter: &ResizeFilter, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_str(filter.name())
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ResizeFilter, D::Error> {
            super::one_of(from, &ResizeFilter::ALL, ResizeFilter::name)
        }
    }

    pub(super) mod resize {
        use serde::de::{Deserialize, Deserializer, Error};
        use serde::ser::Serializer;
        use vgg_edge_blob::ResizeRule;
        use vgg_edge_blob::layout::MAX_SIDE;

        pub(crate) fn serialize<S: Serializer>(rule: &ResizeRule, to: S) -> Result<S::Ok, S::Error> {
            to.collect_str(rule)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ResizeRule, D::Error> {
            let text = String::deserialize(from)?;
            ResizeRule::from_name(&text).ok_or_else(|| {
                D::Error::custom(format_args!(
                    "resize is `{text}`, expected `stretch` or `shorter-side N, center-crop`, N from 1 to {MAX_SIDE}"
                ))
            })
        }
    }
}
