//! From a decoded picture to the network's input bytes, by the rule that the blob carries.

use alloc::vec::Vec;

use vgg_edge_blob::{Preprocess, Shape};

use super::{Image, fit};

/// Fits `image` (RGB) to `input` and gives u8 NHWC bytes: RGB, gray for a network of one channel. What is left
/// of the rule, scale, mean and standard deviation, the engine does (f16) or the weights hold (int8).
///
/// Gray is made before the resize, as `Image.convert("L").resize(..)` does. A fourth channel is opaque, 255.
pub fn prepare(image: Image, rule: &Preprocess, input: Shape) -> Vec<u8> {
    let (width, height) = (input.width as usize, input.height as usize);
    let fitted = |image: &Image| fit(image.view(), rule.resize, rule.filter, width, height).into_data();
    match input.channels {
        1 => fitted(&image.to_gray()),
        4 => fitted(&image).chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect(),
        _ => fitted(&image),
    }
}
