//! A picture becomes the first layer's input map.

use vgg_edge_blob::{Blob, Layer, LayerOp, Scheme};
use zerocopy::FromBytes;

use crate::plan::Buffer;

/// Writes `picture` (u8, NHWC) and the padding around it into `buffer`.
///
/// int8: `pixel - 128`, padding is the picture value nearest to the mean. f16: `(pixel * scale - mean) / std`,
/// padding 0.
pub(super) fn load(blob: &Blob<'_>, first: &Layer<'_>, buffer: &Buffer, picture: &[u8], bytes: &mut [u8]) {
    let bytes = &mut bytes[buffer.range()];
    match blob.scheme() {
        Scheme::Int8 | Scheme::Int8Fc4 => {
            let pad = match first.op {
                LayerOp::Conv { linear, .. } => linear.pad.map(|v| v as u8),
                _ => [0; 4],
            };
            fill(buffer, picture, bytes, |c| pad[c], |_, pixel| pixel ^ 0x80);
        }
        Scheme::F16 => {
            let rule = *blob.preprocess();
            let value = |c: usize, pixel: u8| {
                let (mean, std) = rule.of_picture_channel(c);
                (f32::from(pixel) * rule.scale - mean) / std
            };
            let floats = <[f32]>::mut_from_bytes(bytes).unwrap_or(&mut []);
            fill(buffer, picture, floats, |_| 0.0, value);
        }
    }
}

fn fill<T: Copy>(
    buffer: &Buffer,
    picture: &[u8],
    map: &mut [T],
    pad: impl Fn(usize) -> T,
    value: impl Fn(usize, u8) -> T,
) {
    let Buffer { rows, width, channels, halo, .. } = *buffer;
    for (r, row) in map.chunks_exact_mut(buffer.pitch()).take(rows).enumerate() {
        let inside = (halo..rows - halo).contains(&r);
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            if inside && (halo..width + halo).contains(&x) {
                let source = &picture[((r - halo) * width + x - halo) * channels..][..channels];
                for (c, (v, &p)) in pixel.iter_mut().zip(source).enumerate() {
                    *v = value(c, p);
                }
            } else {
                for (c, v) in pixel.iter_mut().enumerate() {
                    *v = pad(c);
                }
            }
        }
    }
}
