//! From a decoded picture to the network's input bytes, by the rule that the blob carries.

use alloc::vec::Vec;

use vgg_edge_blob::{Preprocess, ResizeFilter, ResizeRule, Shape};

use super::{Filter, Image, Resize, fit};

/// Fits `image` (RGB) to `input` and gives u8 NHWC bytes: RGB, gray for a network of one channel. What is left
/// of the rule, scale, mean and standard deviation, the engine does (f16) or the weights hold (int8).
///
/// Gray is made before the resize, as `Image.convert("L").resize(..)` does. A fourth channel is opaque, 255.
pub fn prepare(image: Image, rule: &Preprocess, input: Shape) -> Vec<u8> {
    let filter = match rule.filter {
        ResizeFilter::Nearest => Filter::Nearest,
        ResizeFilter::Box => Filter::Box,
        ResizeFilter::Bilinear => Filter::Bilinear,
        ResizeFilter::Bicubic => Filter::Bicubic,
        ResizeFilter::Lanczos => Filter::Lanczos,
    };
    let resize = match rule.resize {
        ResizeRule::Stretch => Resize::Stretch,
        ResizeRule::ShorterSideCenterCrop(shorter) => Resize::ShorterSideCenterCrop { shorter },
    };
    let (width, height) = (input.width as usize, input.height as usize);
    let fitted = |image: &Image| fit(image.view(), resize, filter, width, height).into_data();
    match input.channels {
        1 => fitted(&image.to_gray()),
        4 => fitted(&image).chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect(),
        _ => fitted(&image),
    }
}
