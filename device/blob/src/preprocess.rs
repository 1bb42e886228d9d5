//! From a decoded picture to the network's input: channel order, numbers, size. The one definition of each.
//!
//! `value = (pixel * scale - mean) / std`, pixel in 0..=255. Names are the ones that sidecars and listings show.
//!
//! ```
//! use vgg_edge_blob::{ChannelOrder, ResizeFilter, ResizeRule};
//! assert_eq!(ChannelOrder::from_name("bgr"), Some(ChannelOrder::Bgr));
//! assert_eq!(ResizeFilter::Lanczos.name(), "lanczos");
//! let rule = ResizeRule::from_name("shorter-side 256, center-crop");
//! assert_eq!(rule, Some(ResizeRule::ShorterSideCenterCrop(256)));
//! assert_eq!(ResizeRule::Stretch.to_string(), "stretch");
//! ```

use core::fmt;

use crate::layout::MAX_SIDE;

/// Channel order the network was trained with. Pictures are always RGB (or gray, or RGBA): the first layer's
/// weights are stored for that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChannelOrder {
    /// Red first.
    Rgb = 0,
    /// Blue first: what Caffe's networks, and so Keras' VGG16, were trained on.
    Bgr = 1,
    /// One channel: PIL's `L`, (19595 R + 38470 G + 7471 B + 32768) / 65536.
    Gray = 2,
    /// Red first, then alpha: 255 where a picture is opaque.
    Rgba = 3,
}

impl ChannelOrder {
    /// Every order, by number.
    pub const ALL: [Self; 4] = [Self::Rgb, Self::Bgr, Self::Gray, Self::Rgba];

    /// The name in sidecars and listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Bgr => "bgr",
            Self::Gray => "gray",
            Self::Rgba => "rgba",
        }
    }

    /// The order called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.name() == name)
    }

    /// Channels of the network's input, and of its pictures.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::Bgr => 3,
            Self::Rgba => 4,
        }
    }

    /// Channel of this order that holds the picture's channel `c`, and the other way round.
    pub fn network_channel(self, c: usize) -> usize {
        match (self, c) {
            (Self::Bgr, 0..3) => 2 - c,
            _ => c,
        }
    }
}

/// How a picture gets the network's input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeRule {
    /// To the input size, whatever the aspect ratio.
    Stretch,
    /// Shorter side to so many pixels (at least 1), aspect ratio kept, then the center. What the crop has
    /// beyond the picture is black, as in torchvision.
    ShorterSideCenterCrop(u32),
}

impl ResizeRule {
    /// The rule written as `stretch` or `shorter-side N, center-crop`, N from 1 to [`MAX_SIDE`].
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "stretch" {
            return Some(Self::Stretch);
        }
        let (side, crop) = name.strip_prefix("shorter-side ")?.split_once(',')?;
        let side = side.trim().parse().ok().filter(|side| (1..=MAX_SIDE).contains(side))?;
        (crop.trim() == "center-crop").then_some(Self::ShorterSideCenterCrop(side))
    }
}

impl fmt::Display for ResizeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stretch => f.write_str("stretch"),
            Self::ShorterSideCenterCrop(side) => write!(f, "shorter-side {side}, center-crop"),
        }
    }
}

/// Resampling filter, as PIL names and defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ResizeFilter {
    /// The nearest pixel.
    Nearest = 0,
    /// Mean of the covered pixels.
    Box = 1,
    /// Triangle of radius 1; antialiased when shrinking, unlike most other libraries' "bilinear".
    Bilinear = 2,
    /// Cubic of radius 2 with a = -0.5.
    Bicubic = 3,
    /// Windowed sinc of radius 3.
    Lanczos = 4,
}

impl ResizeFilter {
    /// Every filter, by number.
    pub const ALL: [Self; 5] = [Self::Nearest, Self::Box, Self::Bilinear, Self::Bicubic, Self::Lanczos];

    /// The name in sidecars and listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Box => "box",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Lanczos => "lanczos",
        }
    }

    /// The filter called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.name() == name)
    }
}

/// The whole rule: `value = (pixel * scale - mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocess {
    /// Channel order of the network, and of `mean` and `std`.
    pub order: ChannelOrder,
    /// Pixel factor.
    pub scale: f32,
    /// Mean a channel; unused entries 0.
    pub mean: [f32; 4],
    /// Standard deviation a channel, > 0; unused entries 1.
    pub std: [f32; 4],
    /// Resize and crop rule.
    pub resize: ResizeRule,
    /// Resize filter.
    pub filter: ResizeFilter,
}

impl Preprocess {
    /// Channel of the network's order that holds the picture's channel `c`.
    pub fn network_channel(&self, c: usize) -> usize {
        self.order.network_channel(c)
    }

    /// `(mean, std)` of the picture's channel `c`.
    pub fn of_picture_channel(&self, c: usize) -> (f32, f32) {
        let n = self.network_channel(c);
        (self.mean[n], self.std[n])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_come_back() {
        for (i, order) in ChannelOrder::ALL.into_iter().enumerate() {
            assert_eq!((order as usize, ChannelOrder::from_name(order.name())), (i, Some(order)));
        }
        for (i, filter) in ResizeFilter::ALL.into_iter().enumerate() {
            assert_eq!((filter as usize, ResizeFilter::from_name(filter.name())), (i, Some(filter)));
        }
        for rule in [ResizeRule::Stretch, ResizeRule::ShorterSideCenterCrop(MAX_SIDE)] {
            assert_eq!(ResizeRule::from_name(&rule.to_string()), Some(rule));
        }
    }

    #[test]
    fn what_is_no_rule_is_none() {
        for name in ["", "Stretch", "shorter-side 0, center-crop", "shorter-side 16385, center-crop"] {
            assert_eq!(ResizeRule::from_name(name), None, "{name}");
        }
        for name in ["shorter-side 256", "shorter-side 256, crop", "shorter-side -1, center-crop"] {
            assert_eq!(ResizeRule::from_name(name), None, "{name}");
        }
        assert_eq!((ChannelOrder::from_name("RGB"), ResizeFilter::from_name("linear")), (None, None));
    }
}
