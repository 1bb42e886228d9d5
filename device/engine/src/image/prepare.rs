//! From a decoded picture to the network's input bytes, by the rule that the blob carries.

use alloc::vec::Vec;

use vgg_edge_blob::{Preprocess, Shape};

use super::{Image, fit};

/// Fits `image` (RGB or RGBA) to `input` and gives u8 NHWC bytes: RGB, gray for a network of one channel, RGBA for one
/// of four. What is left of the rule, scale, mean and standard deviation, the engine does (f16) or the weights hold
/// (int8).
///
/// Channels change before the resize, as `Image.convert("L").resize(..)` does it: a network that takes no alpha does
/// not see the colours through it.
pub fn prepare(image: Image, rule: &Preprocess, input: Shape) -> Vec<u8> {
    let image = match input.channels {
        1 => image.to_gray(),
        4 => image.to_rgba(),
        _ => image.to_rgb(),
    };
    fit(image.view(), rule.resize, rule.filter, input.width as usize, input.height as usize).into_data()
}
