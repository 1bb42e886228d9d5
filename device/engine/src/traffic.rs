//! Bytes that a block's layers move to and from memory: what decides how many bands it runs in.
//!
//! ```text
//! weights   once, or once a band of rows or tiles where they do not stay in the cache in between
//! maps      the block's input is fetched, its output fetched and written; rows between two layers that do not stay: all three
//! ```
//!
//! What is looked at in turn stays in a cache up to its size; a quarter above it nothing does, since the oldest goes first.

use alloc::vec::Vec;

use vgg_edge_blob::{Layer, LayerOp};

use crate::blocks::BlockMap;
use crate::plan::Buffer;
use crate::tiling::{Tiling, room};

/// Bytes of the largest copy in blocks that a block makes of an input, with at most so many rows a step.
pub(crate) fn copies(layers: &[Layer<'_>], first_layer: usize, most_rows: &[usize]) -> usize {
    let of_layer = |(i, rows): (usize, &usize)| {
        BlockMap::of(&layers[first_layer + i], first_layer + i).map_or(0, |map| map.bytes(*rows))
    };
    most_rows.iter().enumerate().map(of_layer).max().unwrap_or(0)
}

/// Bytes that one layer moves to and from memory for one picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Weights, and a Winograd layer's values and sums.
    pub(crate) weights: usize,
    /// Its share of the maps.
    pub(crate) maps: usize,
}

/// Bytes that each layer of a block moves to and from memory for one picture: their sum decides the block's band. `maps`
/// are the bytes of the block's input and output, `copies` those of the largest input in blocks.
pub(crate) fn traffic(
    layers: &[Layer<'_>],
    windows: &[Buffer],
    tilings: &[Option<Tiling>],
    (maps, copies): ([usize; 2], usize),
    n_bands: usize,
    l2: usize,
) -> Vec<Traffic> {
    let weights: usize = layers.iter().map(weight_bytes).sum();
    // Nothing is in the last window where tiles are pooled as they are made.
    let pooled = is_pooled(layers, tilings, windows.last().map_or(4, |w| w.value_size));
    let windows = if pooled { &windows[..windows.len() - 1] } else { windows };
    let at_work =
        windows.iter().map(Buffer::len).sum::<usize>() + maps.iter().sum::<usize>() / n_bands + copies;
    let scratch = |t: &Tiling| if t.by_row { usize::MAX / 2 } else { t.at_work() };
    let scratch = tilings.iter().flatten().map(scratch).max().unwrap_or(0);
    // What is looked at in turn stays up to a size, and a little above it nothing stays: the oldest goes first.
    let gone = |bytes: usize, size: usize| bytes.saturating_sub(size).min(l2 / 4) as u128;
    let part = |whole: usize, gone: u128| (whole as u128 * gone / (l2 / 4).max(1) as u128) as usize;
    let weights_gone = gone(weights + at_work + scratch, room(l2));
    // A Winograd layer reads its weights once a band of tiles, and by tap its values, too.
    let read = |layer: &Layer<'_>, tiling: &Option<Tiling>| {
        let once = weight_bytes(layer);
        let every_time = match tiling {
            Some(tiling) => {
                let sizes = tiling.sizes;
                let rows = (layer.output.height as usize).div_ceil(n_bands).next_multiple_of(sizes.tile);
                tiling.traffic(sizes.n_tiles(rows, layer.output.width as usize), l2) * n_bands
            }
            None => once * n_bands,
        };
        once + part(every_time.saturating_sub(once), weights_gone)
    };
    // A value between two layers that does not stay is fetched and goes out where it is written, and is fetched where it is
    // read. Half the cache is left to weights and to what else runs, more where tiles look at more all the time.
    let busy = tilings.iter().flatten().map(|tiling| tiling.busy(l2)).max().unwrap_or(0).max(l2 / 2);
    let windows_gone = gone(at_work, l2.saturating_sub(busy));
    let between = |i: usize| {
        let whole = windows.get(i).map_or(0, |w| layers[i].output.height as usize * w.pitch() * w.value_size);
        part(whole, windows_gone)
    };
    let [input, output] = maps;
    let n = layers.len();
    let of_layer = |(i, (layer, tiling)): (usize, (&Layer<'_>, &Option<Tiling>))| {
        let reads = if i == 0 { input } else { between(i - 1) };
        let writes = match (i + 1 == n, pooled && i + 2 == n) {
            (true, _) if pooled => 0,
            (true, _) | (_, true) => output,
            _ => between(i),
        };
        let reads = if pooled && i + 1 == n { 0 } else { reads };
        Traffic { weights: read(layer, tiling), maps: reads + 2 * writes }
    };
    layers.iter().zip(tilings).enumerate().map(of_layer).collect()
}

/// The bytes to and from memory that making a block's weights of filters is worth, in `n_bands` bands of so many rows.
pub(crate) fn price(
    layers: &[Layer<'_>],
    most_rows: &[usize],
    tilings: &[Option<Tiling>],
    n_bands: usize,
) -> usize {
    let of_layer = |((layer, rows), tiling): ((&Layer<'_>, &usize), &Option<Tiling>)| {
        tiling.as_ref().map_or(0, |t| t.price(t.sizes.n_tiles(*rows, layer.output.width as usize)))
    };
    n_bands * layers.iter().zip(most_rows).zip(tilings).map(of_layer).sum::<usize>()
}

/// Whether a block's last convolution has tiles of int8 and a pool of stride 2 behind it: they are pooled as they are made.
pub(crate) fn is_pooled(layers: &[Layer<'_>], tilings: &[Option<Tiling>], value_size: usize) -> bool {
    let is_pool = layers.last().is_some_and(|l| matches!(l.op, LayerOp::MaxPool { stride: 2, .. }));
    let conv = layers.len().checked_sub(2).and_then(|i| tilings.get(i).copied().flatten());
    is_pool && conv.is_some() && value_size == 1
}

fn weight_bytes(layer: &Layer<'_>) -> usize {
    match layer.op {
        LayerOp::Conv { linear, .. } | LayerOp::Dense(linear) => linear.weights.len(),
        _ => 0,
    }
}
