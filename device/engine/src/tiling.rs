//! How a Winograd layer's tiles are cut into bands and batches, and the memory that takes.
//!
//! ```text
//! map ─► bands of tiles ─► batches of up to 12 tiles        values  [batch][36 taps][channels / 8][tiles][8]     i16
//!                                                            sums    [slot, or group x batch][36 taps][tiles][8]  i32
//! by band   the band's values stay in the cache; each group of 8 outputs reads its weights, once a band
//! by tap    each weight is read once; values and sums of the whole band go through memory, once
//! ```
//!
//! By band is for maps with many tiles, by tap for those with many weights. Which moves less is computed, not measured.

use vgg_edge_blob::Layer;
use vgg_edge_blob::layout::{ALIGN, GROUP, padded};
use vgg_edge_blob::winograd::{TAPS, TILE};

use crate::kernels::{MAX_BATCH, tiles};

/// Values between the taps of a batch, besides its own: a cache line, so that the 36 places that one tile is written to
/// do not share a set of the cache.
const TAP_GAP: usize = ALIGN / 2;
/// Most memory for values and sums, bytes, where a band may be smaller.
const MAX_BYTES: usize = 6 << 20;
/// Tasks for every thread: enough that threads end together.
const TASKS_PER_THREAD: usize = 4;
/// Most sums in use at a time, band by band.
const MAX_SLOTS: usize = 64;

/// How one layer's tiles are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Input channels as stored.
    pub(crate) channels: usize,
    /// Groups of 8 output channels.
    pub(crate) n_groups: usize,
    /// Most tiles of a band.
    band: usize,
    /// Tap by tap, with the sums of all groups kept, instead of group by group.
    pub(crate) by_tap: bool,
    /// Threads to have tasks for.
    n_threads: usize,
}

/// Tiles of `n_rows x width` output pixels.
pub(crate) fn n_tiles(n_rows: usize, width: usize) -> usize {
    n_rows.div_ceil(TILE) * width.div_ceil(TILE)
}

impl Tiling {
    /// Cuts a layer that computes `n_tiles` tiles at a time, for a cache of `l2` bytes.
    pub(crate) fn new(layer: &Layer<'_>, n_tiles: usize, l2: usize, n_threads: usize) -> Self {
        let channels = padded(layer.input.channels) as usize;
        let n_groups = padded(layer.output.channels) as usize / GROUP;
        let whole = Self { channels, n_groups, band: n_tiles.max(1), by_tap: false, n_threads };
        // An eighth is left to what else passes: input, output, stacks.
        let room = l2 - l2 / 8;
        let per_tile = whole.values_of(1);
        let stays = |beside: usize| room.saturating_sub(beside + whole.sums_bytes()) / per_tile;
        let (group, all) = (whole.weight_bytes() / n_groups, whole.weight_bytes());
        let by_tap = MAX_BYTES / (per_tile + n_groups * GROUP * TAPS * 4);
        let candidates = [(stays(all), false), (stays(group), false), (by_tap.max(1), true)];
        let cut = |(band, by_tap): (usize, bool)| {
            let n_bands = n_tiles.div_ceil(band.max(1)).max(1);
            Self { band: n_tiles.div_ceil(n_bands).max(1), by_tap, ..whole }
        };
        let good = candidates.into_iter().filter(|(band, by_tap)| *by_tap || *band >= n_tiles.min(MAX_BATCH));
        good.map(cut).min_by_key(|cut| cut.traffic(n_tiles, room)).unwrap_or(whole)
    }

    /// Bytes to and from memory for `n_tiles` tiles, in a cache of `room` bytes: weights, and what does not stay.
    pub(crate) fn traffic(&self, n_tiles: usize, room: usize) -> usize {
        let weights = self.weight_bytes();
        let n_bands = n_tiles.div_ceil(self.band);
        if self.by_tap {
            let sums = n_tiles * self.n_groups * GROUP * TAPS * 4;
            return weights * n_bands + 2 * (self.values_of(n_tiles) + sums);
        }
        let stay = weights + self.values_of(self.band) + self.sums_bytes() <= room;
        weights * if stay { 1 } else { n_bands }
    }

    /// Bands of `n_tiles` tiles: (first tile, tiles).
    pub(crate) fn bands(&self, n_tiles: usize) -> impl Iterator<Item = (usize, usize)> {
        tiles(n_tiles, self.band)
    }

    /// Values of a batch of `n_tiles` tiles, all taps.
    pub(crate) fn batch_len(&self, n_tiles: usize) -> usize {
        TAPS * self.tap_len(n_tiles)
    }

    /// Values from one tap of a batch to the next.
    pub(crate) fn tap_len(&self, n_tiles: usize) -> usize {
        self.channels * n_tiles + TAP_GAP
    }

    /// Tasks of a band of `n_batches`: `(parts of the groups, parts of the batches)`. Batches first: threads then
    /// read the same weights at the same time. By tap, groups only: each sum then has one owner.
    pub(crate) fn parts(&self, n_batches: usize) -> (usize, usize) {
        let wanted = if self.n_threads == 1 { 1 } else { self.n_threads * TASKS_PER_THREAD };
        let of_batches = if self.by_tap { 1 } else { n_batches.min(wanted) };
        let of_groups = if self.by_tap { wanted.min(2 * self.n_threads) } else { wanted / of_batches };
        (of_groups.clamp(1, self.n_groups), of_batches)
    }

    /// Sums that are in use at a time, band by band: a task's on each thread.
    pub(crate) fn n_slots(&self) -> usize {
        self.n_threads.clamp(1, MAX_SLOTS)
    }

    /// Sums of a task of a band of `n_batches` batches of at most `widest` tiles.
    pub(crate) fn task_len(&self, n_batches: usize, widest: usize) -> usize {
        let unit = TAPS * widest * GROUP;
        if self.by_tap { unit * n_batches * self.n_groups.div_ceil(self.parts(n_batches).0) } else { unit }
    }

    /// Bytes of all values, a multiple of a cache line.
    pub(crate) fn values_bytes(&self) -> usize {
        let n_batches = self.band.div_ceil(MAX_BATCH);
        (2 * n_batches * self.batch_len(self.band.div_ceil(n_batches))).next_multiple_of(ALIGN)
    }

    /// Bytes of all sums.
    pub(crate) fn sums_bytes(&self) -> usize {
        let n_batches = self.band.div_ceil(MAX_BATCH);
        // Band by band, a smaller band may have a wider batch.
        let (n, widest) = match self.by_tap {
            true => (self.parts(n_batches).0, self.band.div_ceil(n_batches)),
            false => (self.n_slots(), self.band.min(MAX_BATCH)),
        };
        4 * n * self.task_len(n_batches, widest)
    }

    fn values_of(&self, n_tiles: usize) -> usize {
        2 * self.batch_len(n_tiles)
    }

    fn weight_bytes(&self) -> usize {
        2 * TAPS * self.channels * GROUP * self.n_groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vgg_edge_blob::{LayerOp, Padding, Quantization, Shape};

    /// Only the channels of a layer matter here.
    fn tiling(channels: u32, outputs: u32, n_tiles: usize, l2: usize, n_threads: usize) -> Tiling {
        let shape = |channels| Shape { height: 1, width: 1, channels };
        let quant = Quantization { scale: 1.0, zero_point: 0 };
        let layer = Layer {
            name: "",
            op: LayerOp::MaxPool { stride: 2, padding: Padding::Valid },
            input: shape(channels),
            output: shape(outputs),
            block: 0,
            in_quant: quant,
            out_quant: quant,
            sqnr_db: f32::NAN,
        };
        Tiling::new(&layer, n_tiles, l2, n_threads)
    }

    /// The layers of a VGG16 at 224x224: inputs, outputs, tiles.
    const VGG16: [(u32, u32, usize); 9] = [
        (64, 64, 3136),
        (64, 128, 784),
        (128, 128, 784),
        (128, 256, 196),
        (256, 256, 196),
        (256, 512, 49),
        (512, 512, 49),
        (512, 512, 16),
        (512, 512, 1),
    ];

    #[test]
    fn early_layers_keep_values_in_the_cache_and_late_ones_read_weights_once() {
        for l2 in [512 << 10, 1 << 20, 2 << 20] {
            for n_threads in [1, 4] {
                for (i, (channels, outputs, n_tiles)) in VGG16.into_iter().enumerate() {
                    let t = tiling(channels, outputs, n_tiles, l2, n_threads);
                    let weights = (channels * outputs) as usize * TAPS * 2;
                    let (values, sums) = (t.values_bytes(), t.sums_bytes());
                    assert!(values + sums <= MAX_BYTES + MAX_BYTES / 8, "layer {i}: {t:?}");
                    if t.by_tap {
                        assert!(i >= 3, "layer {i} with {l2}: {t:?}");
                    } else {
                        assert!(values + sums + weights / t.n_groups <= l2, "layer {i} with {l2}: {t:?}");
                    }
                    if i >= 6 && l2 >= 1 << 20 {
                        assert_eq!(t.bands(n_tiles).count(), 1, "layer {i} with {l2}: {t:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn tasks_have_room_for_their_sums() {
        for (channels, outputs, n_tiles) in VGG16 {
            for l2 in [1, 100 << 10, 1 << 20] {
                for n_threads in [1, 2, 3, 4, 100] {
                    let t = tiling(channels, outputs, n_tiles, l2, n_threads);
                    for n in (1..=t.band).rev().take(40).chain(1..=t.band.min(40)) {
                        let n_batches = n.div_ceil(MAX_BATCH);
                        let widest = n.div_ceil(n_batches);
                        let (of_groups, of_batches) = t.parts(n_batches);
                        let owners = if t.by_tap { of_groups } else { t.n_slots() };
                        assert!(!t.by_tap || of_batches == 1);
                        let sums = 4 * owners * t.task_len(n_batches, widest);
                        assert!(sums <= t.sums_bytes(), "{t:?}: {n} tiles");
                        assert!(2 * n_batches * t.batch_len(widest) <= t.values_bytes(), "{t:?}: {n} tiles");
                    }
                }
            }
        }
    }
}
