//! A first layer of 3x3 filters as exact Winograd: weights for it, made when the network is loaded.
//!
//! ```text
//! direct    [3 runs][run_len / 4][8 outputs][4 values], a run of 3 pixels of 1 to 4 channels and zeros
//! Winograd  [out groups][36 taps][4 channels][8 outputs], i16      18 KB for 3 channels and 64 filters
//! ```
//!
//! A run over a picture of 3 channels has 9 values in the place of 16: a third of the products are for nothing, and Winograd
//! needs a quarter of the rest. The file keeps the direct layout, which every kernel reads; results are equal.

use alloc::vec;
use alloc::vec::Vec;

use vgg_edge_blob::layout::{GROUP, S8Params};
use vgg_edge_blob::winograd::{LIMIT, TAPS, WINDOW, range, transform};
use vgg_edge_blob::{Layer, LayerOp, S8Layout, Weights};

use crate::kernels::Kernel;

/// Channels of a picture's pixel, as they are multiplied.
pub(super) const CHANNELS: usize = 4;

/// The first layer's weights, where the kernel wants them and the layer fits: 3x3 filters over a picture, in int8, with
/// accumulators that [`LIMIT`] allows.
pub(super) fn weights(kernel: &dyn Kernel, layer: &Layer<'_>) -> Option<Vec<i16>> {
    let LayerOp::Conv { kernel: 3, linear } = layer.op else { return None };
    let Weights::S8 { layout: S8Layout::K4, data, params, .. } = linear.weights else { return None };
    let (channels, run_len) = (layer.input.channels as usize, linear.run_len as usize);
    if !kernel.has_fast_picture_tiles() || channels > CHANNELS || run_len < 3 * channels {
        return None;
    }
    let mut packed = vec![0; params.len() * TAPS * CHANNELS * GROUP];
    for (group, S8Params { bias, .. }) in params.iter().enumerate() {
        for (o, &bias) in bias.iter().enumerate() {
            let weight = |row: usize, column: usize, channel: usize| {
                let k = column * channels + channel;
                data[((group * 3 + row) * run_len + k / 4 * 4) * GROUP + o * 4 + k % 4]
            };
            let mut filter = [0; 9 * CHANNELS];
            for channel in 0..channels {
                for (i, place) in filter[channel * 9..][..9].iter_mut().enumerate() {
                    *place = weight(i / 3, i % 3, channel);
                }
                let filter = &filter[channel * 9..];
                let columns = [0, 1, 2].map(|x| transform([0, 1, 2].map(|y| i32::from(filter[3 * y + x]))));
                for (tap, place) in (0..TAPS).map(|tap| (tap, (group * TAPS + tap) * CHANNELS + channel)) {
                    let taps = transform(columns.map(|column| column[tap / WINDOW]));
                    // At most 144 * 128 in magnitude.
                    packed[place * GROUP + o] = taps[tap % WINDOW] as i16;
                }
            }
            let (low, high) = range(&filter, bias);
            if low < -LIMIT || high >= LIMIT {
                return None;
            }
        }
    }
    Some(packed)
}
