//! How a Winograd layer's tiles are cut into bands and batches, and the memory that takes.
//!
//! ```text
//! map ─► bands of tiles ─► batches of up to 12 tiles     values  [batch][taps][channels / 8][tiles][8]      i16 or i8
//!                                                         sums    [unit: group x batch][rows][columns][tiles][8]  i32
//! by band   all taps' values of a band stay in the cache, and one unit's sums on each thread;
//!           each group of 8 outputs reads its weights once a band
//! by row    a row of taps after the other: its values stay in the cache, the sums of all units go through memory, but for
//!           the last row's; bands are six times as large, and so weights are read once
//! in pairs  the same with rows 1 and 2, and 3 and 4, together: of filters only, which by row are read 14/3 times, in pairs 8/3
//! ```
//!
//! By band is for maps with many tiles, by row for those with many weights. Which moves less is computed, not measured.
//!
//! Of a layer whose file has filters, each task makes the weights of its rows of taps and one group, just before the batches
//! that use them: beside the task's sums there is room for them.

use core::ops::Range;

use vgg_edge_blob::layout::{ALIGN, GROUP, padded};
use vgg_edge_blob::winograd::{TILE, WINDOW};
use vgg_edge_blob::{Layer, LayerOp, S8Layout, Weights};

use crate::kernels::{MAX_BATCH, tiles};

/// Most memory for values and sums, bytes, where a band may be smaller.
const MAX_BYTES: usize = 6 << 20;
/// Tasks for every thread: enough that threads end together.
const TASKS_PER_THREAD: usize = 4;
/// Bytes to and from memory that are worth making the 36 weights of one channel and 8 outputs once: about 110 cycles of a
/// Cortex-A53, which waits longer for 256 bytes, and less elsewhere.
const MADE_PRICE: usize = 256;
/// Most sums in use at a time, band by band.
const MAX_SLOTS: usize = 64;

/// What the tiles of a Winograd algorithm are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Rows and columns of outputs of a tile.
    pub(crate) tile: usize,
    /// Rows and columns of its taps.
    pub(crate) window: usize,
    /// Bytes of a value: a transformed activation.
    value: usize,
    /// Bytes of a transformed weight.
    weight: usize,
    /// Bytes of an activation.
    pixel: usize,
}

impl Sizes {
    pub(crate) const EXACT: Self = Self { tile: TILE, window: WINDOW, value: 2, weight: 2, pixel: 1 };

    /// Those of a layer's algorithm; `None` when that is not Winograd.
    pub(crate) fn of(layer: &Layer<'_>) -> Option<Self> {
        let LayerOp::Conv { linear, .. } = layer.op else { return None };
        match linear.weights {
            Weights::S16Winograd { .. } => Some(Self::EXACT),
            Weights::S8 { winograd: true, layout: S8Layout::K4, .. } => Some(Self::EXACT),
            Weights::S8Winograd { form, .. } => {
                Some(Self { tile: form.tile(), window: form.window(), value: 1, weight: 1, pixel: 1 })
            }
            Weights::F16Winograd { half, .. } => {
                Some(Self { value: if half { 2 } else { 4 }, pixel: 4, ..Self::EXACT })
            }
            Weights::S8 { .. } | Weights::S4 { .. } | Weights::F16 { .. } => None,
        }
    }

    /// Tiles of `n_rows x width` output pixels.
    pub(crate) fn n_tiles(&self, n_rows: usize, width: usize) -> usize {
        n_rows.div_ceil(self.tile) * width.div_ceil(self.tile)
    }

    fn taps(&self) -> usize {
        self.window * self.window
    }
}

/// How one layer's tiles are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    /// Of the layer's algorithm.
    pub(crate) sizes: Sizes,
    /// Input channels as stored.
    pub(crate) channels: usize,
    /// Groups of 8 output channels.
    pub(crate) n_groups: usize,
    /// Most tiles of a band.
    band: usize,
    /// One row of taps after the other, with the sums of all groups kept, instead of one group after the other.
    pub(crate) by_row: bool,
    /// By row, but for rows that are made of filters together.
    pairs: bool,
    /// The file has filters.
    filters: bool,
    /// Threads to have tasks for.
    n_threads: usize,
    /// Batches of a band besides those of 12 tiles: at ragged edges there are up to three more shapes of tiles.
    n_edges: usize,
}

/// What may be counted on of a cache: its sets do not fill evenly.
pub(crate) fn room(l2: usize) -> usize {
    l2 / 8 * 7
}

impl Tiling {
    /// Cuts a layer that computes `n_tiles` tiles at a time, for a cache of `l2` bytes.
    pub(crate) fn new(sizes: Sizes, layer: &Layer<'_>, n_tiles: usize, l2: usize, n_threads: usize) -> Self {
        let channels = padded(layer.input.channels) as usize;
        let n_groups = padded(layer.output.channels) as usize / GROUP;
        let ragged = |n: u32| usize::from((1..=2).contains(&(n as usize % sizes.tile)));
        let n_edges = match sizes == Sizes::EXACT {
            true => (1 + ragged(layer.output.width)) * (1 + ragged(layer.output.height)) - 1,
            false => 0,
        };
        let filters = match layer.op {
            LayerOp::Conv { linear, .. } => matches!(linear.weights, Weights::S8 { winograd: true, .. }),
            _ => false,
        };
        let of = |band: usize, [by_row, pairs]: [bool; 2]| Self {
            sizes,
            channels,
            n_groups,
            band,
            by_row,
            pairs,
            filters,
            n_threads,
            n_edges,
        };
        let (by_band, by_row, in_pairs) = ([false, false], [true, false], [true, true]);
        let room = room(l2);
        let (whole, rows, pairs) = (of(n_tiles.max(1), by_band), of(1, by_row), of(1, in_pairs));
        let (all, group) = (whole.weight_bytes(), whole.weight_bytes() / n_groups);
        // Between two looks at a value, the other values come by, the weights of a group, and pixels: first those that
        // values are made of, later those of one group, a line each.
        let stays = |per_tile: usize, beside: usize| room.saturating_sub(beside) / per_tile;
        let line = sizes.tile * sizes.tile * ALIGN;
        let unit = (4 * whole.unit_len(MAX_BATCH) + whole.made_bytes()) * whole.n_slots();
        let band = |pixels: usize, weights: usize| stays(whole.values_a_tile() + pixels, weights + unit);
        let row = |of: &Self, beside: usize| {
            let sums = 4 * of.rows_at_a_time() * sizes.tile * GROUP;
            let most = MAX_BYTES / (of.values_of(1) + of.sums_of(1));
            stays(of.values_a_tile() + sums + beside, of.weights_of_a_row()).min(most)
        };
        // Whole batches, where that costs no weights: narrow ones load more of them a product.
        let whole_batches = |band: usize| if band < MAX_BATCH { band } else { band / MAX_BATCH * MAX_BATCH };
        // A small one, where it is as good: it leaves room to what comes before and after. Some tasks for every thread.
        let few = if n_threads <= 1 { MAX_BATCH } else { MAX_BATCH * TASKS_PER_THREAD * n_threads };
        let candidates = [
            (few.min(band(whole.pixels_of(1) + whole.outputs_of(1), all)), by_band),
            (whole_batches(band(whole.pixels_of(1) + whole.outputs_of(1), all)), by_band),
            (band(whole.pixels_of(1).max(line), group), by_band),
            (row(&rows, rows.pixels_of(1)), by_row),
            (row(&rows, 0), by_row),
            (row(&pairs, pairs.pixels_of(1)), in_pairs),
            (row(&pairs, 0), in_pairs),
        ];
        let cut = |(band, how): (usize, [bool; 2])| {
            let n_bands = n_tiles.div_ceil(band.max(1)).max(1);
            of(n_tiles.div_ceil(n_bands).max(1), how)
        };
        let good = candidates.into_iter().filter(|&(band, [by_row, pairs])| {
            let batches = by_row || band >= n_tiles.min(MAX_BATCH);
            batches && (filters || !pairs)
        });
        let cost = |cut: &Self| (cut.traffic(n_tiles, l2) + cut.price(n_tiles), cut.at_work());
        good.map(cut).min_by_key(cost).unwrap_or(whole)
    }

    /// Bytes to and from memory for `n_tiles` tiles, with a cache of `l2` bytes: weights, and what does not stay.
    pub(crate) fn traffic(&self, n_tiles: usize, l2: usize) -> usize {
        let weights = self.weight_bytes();
        let n_bands = n_tiles.div_ceil(self.band);
        if self.by_row {
            // Sums are fetched when they are written, go out, and come back; so do values, once a row, where they and
            // the input that each row reads do not stay together.
            let (input, values) = (self.pixels_of(n_tiles), self.values_of(n_tiles));
            let stay = (input + values) / n_bands + self.weights_of_a_row() <= room(l2);
            let again = if stay { 0 } else { self.passes().count() * (input + 2 * values) };
            // Rows 0 and 5 of taps take a third of a filter.
            let thirds = match (self.filters, self.pairs) {
                (false, _) => 3,
                (true, false) => 14,
                (true, true) => 8,
            };
            let weights = if self.weights_stay(l2) { weights } else { weights * n_bands * thirds / 3 };
            return weights + 3 * self.sums_of(n_tiles) + again;
        }
        weights * if self.weights_stay(l2) { 1 } else { n_bands }
    }

    /// Whether weights stay in a cache of `l2` bytes from band to band.
    fn weights_stay(&self, l2: usize) -> bool {
        (self.filters || !self.by_row) && self.weight_bytes() + self.at_work() <= room(l2)
    }

    /// How often the weights of `n_tiles` tiles are made of filters, all groups and rows of taps.
    pub(crate) fn n_made(&self, n_tiles: usize) -> usize {
        if self.filters { n_tiles.div_ceil(self.band) } else { 0 }
    }

    /// The bytes to and from memory that making the weights of `n_tiles` tiles is worth.
    pub(crate) fn price(&self, n_tiles: usize) -> usize {
        self.n_made(n_tiles) * self.channels * self.n_groups * MADE_PRICE
    }

    /// Whether weights are made one row of taps at a time.
    pub(crate) fn makes_single_rows(&self) -> bool {
        self.by_row && !self.pairs
    }

    /// Rows of taps that are computed together, one such range after the other.
    pub(crate) fn passes(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (window, rows) = (self.sizes.window, self.rows_at_a_time());
        let mut row = 0;
        core::iter::from_fn(move || {
            let first = row;
            // In pairs, the first and the last row are alone.
            row += if rows == 2 && (first == 0 || first + 1 == window) { 1 } else { rows };
            (first < window).then_some(first..row)
        })
    }

    /// Most rows of taps of a pass.
    fn rows_at_a_time(&self) -> usize {
        match (self.by_row, self.pairs) {
            (false, _) => self.sizes.window,
            (true, false) => 1,
            (true, true) => 2,
        }
    }

    /// Sums in whose place a task has the weights that it makes: of a group, at the rows of a pass.
    pub(crate) fn made_len(&self) -> usize {
        self.made_bytes() / 4
    }

    fn made_bytes(&self) -> usize {
        let rows = if self.filters { self.rows_at_a_time() } else { 0 };
        self.sizes.weight * rows * self.sizes.window * self.channels * GROUP
    }

    /// Bytes of weights that come by between two looks at a value, by row: of two groups, and what threads make of them.
    fn weights_of_a_row(&self) -> usize {
        let of_groups = 2 * self.weight_bytes() / self.n_groups;
        if self.filters {
            of_groups + self.made_bytes() * self.n_slots()
        } else {
            of_groups / self.sizes.window
        }
    }

    /// Bytes of a cache of `l2` bytes that are looked at again and again: what is looked at less often does not stay there.
    pub(crate) fn busy(&self, l2: usize) -> usize {
        if self.by_row {
            return 0;
        }
        self.at_work() + self.weight_bytes() / if self.weights_stay(l2) { 1 } else { self.n_groups }
    }

    /// Bands of `n_tiles` tiles: (first tile, tiles).
    pub(crate) fn bands(&self, n_tiles: usize) -> impl Iterator<Item = (usize, usize)> {
        tiles(n_tiles, self.band)
    }

    /// Values of a batch of `n_tiles` tiles: all taps, or a row of them.
    pub(crate) fn batch_len(&self, n_tiles: usize) -> usize {
        self.n_taps() * self.tap_len(n_tiles)
    }

    /// Values from one tap of a batch to the next.
    pub(crate) fn tap_len(&self, n_tiles: usize) -> usize {
        // A cache line more than needed, so that the places that one tile is written to do not share a set of the cache.
        self.channels * n_tiles + ALIGN / self.sizes.value
    }

    /// Batches of a band of `n_tiles`: as few as there must be. Band by band they are the tasks, so that every thread
    /// gets equally many, unless they would be too small to be worth their weights.
    pub(crate) fn n_batches(&self, n_tiles: usize) -> usize {
        let fewest = n_tiles.div_ceil(MAX_BATCH);
        let even = fewest.next_multiple_of(self.n_threads.max(1));
        if !self.by_row && even > 0 && n_tiles / even >= MAX_BATCH / 2 { even } else { fewest }
    }

    /// Tasks of a band of `n_batches`: `(parts of the groups, parts of the batches)`. Batches only, as long as there is
    /// one for each thread: a thread then multiplies the values that it made, and all read the same weights at the
    /// same time. Groups first by row, where each sum then has one owner, and where weights are much more than values:
    /// no two threads read the same ones. Groups are parted where their pixels' cache lines end, as long as there is a
    /// part for each thread: two threads that write one line wait for each other.
    pub(crate) fn parts(&self, n_batches: usize) -> (usize, usize) {
        if self.n_threads == 1 {
            return (1, 1);
        }
        let n_lines = self.n_groups.div_ceil(ALIGN / GROUP);
        let of_groups = |enough: usize, n: usize| {
            let most = if n_lines >= enough { n_lines } else { self.n_groups };
            n.clamp(1, most)
        };
        let heavy = n_lines >= self.n_threads && self.weight_bytes() > 4 * self.values_of(self.band);
        // Weights that are made are made once, by the thread that has their group.
        if self.by_row || heavy || self.filters {
            return (of_groups(self.n_threads, 2 * self.n_threads), 1);
        }
        let wanted = self.n_threads * TASKS_PER_THREAD;
        let of_batches = n_batches.min(wanted);
        let enough = self.n_threads.div_ceil(of_batches);
        (if enough == 1 { 1 } else { of_groups(enough, wanted / of_batches) }, of_batches)
    }

    /// Sums that are in use at a time, band by band: a task's on each thread.
    pub(crate) fn n_slots(&self) -> usize {
        self.n_threads.clamp(1, MAX_SLOTS)
    }

    /// Sums, and room for weights, of a task of a band of `n_tiles` in `n_batches` batches of at most `widest` tiles.
    pub(crate) fn task_len(&self, n_tiles: usize, n_batches: usize, widest: usize) -> usize {
        let sums = match self.by_row {
            true => {
                let kept = self.kept_len(n_tiles) * self.n_groups.div_ceil(self.parts(n_batches).0);
                kept + self.unit_len(widest) - self.kept_len(widest)
            }
            false => self.unit_len(widest),
        };
        self.made_len() + sums
    }

    /// Bytes of all values, a multiple of a cache line.
    pub(crate) fn values_bytes(&self) -> usize {
        let (n_batches, widest) = self.batches();
        (self.sizes.value * n_batches * self.batch_len(widest)).next_multiple_of(ALIGN)
    }

    /// Bytes of all sums.
    pub(crate) fn sums_bytes(&self) -> usize {
        let (n_batches, _) = self.batches();
        let n = if self.by_row { self.parts(n_batches).0 } else { self.n_slots() };
        // Band by band, a smaller band may have a wider batch.
        4 * n * self.task_len(self.band, n_batches, self.band.min(MAX_BATCH))
    }

    /// Most batches of a band, and most tiles of one of so many.
    fn batches(&self) -> (usize, usize) {
        if self.n_edges == 0 {
            let n_batches = self.n_batches(self.band);
            return (n_batches, self.band.div_ceil(n_batches));
        }
        // Whole tiles may be in up to `n_threads - 1` batches more than there must be, but in none of less than half the
        // widest; each other shape adds one that is not full.
        let fewest = self.band.div_ceil(MAX_BATCH);
        let even = (fewest + self.n_threads).min(self.band / (MAX_BATCH / 2)).max(fewest);
        (even + self.n_edges, self.band.min(MAX_BATCH))
    }

    /// Bytes of values and sums that are in use: memory may hold more, for edges.
    pub(crate) fn at_work(&self) -> usize {
        self.values_of(self.band) + self.sums_bytes()
    }

    /// Sums of one group times one batch.
    pub(crate) fn unit_len(&self, widest: usize) -> usize {
        self.sizes.window * self.sizes.tile * widest * GROUP
    }

    /// Sums that such a unit keeps by row, from one row of taps to the next: all but the last row's, which are in the place of
    /// the next unit's. The last row takes the units from the last one to the first.
    pub(crate) fn kept_len(&self, widest: usize) -> usize {
        (self.sizes.window - 1) * self.sizes.tile * widest * GROUP
    }

    fn n_taps(&self) -> usize {
        self.rows_at_a_time() * self.sizes.window
    }

    /// Bytes of the sums of all groups, by row.
    fn sums_of(&self, n_tiles: usize) -> usize {
        4 * self.kept_len(n_tiles) * self.n_groups
    }

    /// Bytes of the input pixels.
    fn pixels_of(&self, n_tiles: usize) -> usize {
        n_tiles * self.sizes.tile * self.sizes.tile * self.channels * self.sizes.pixel
    }

    /// Bytes of the output pixels.
    fn outputs_of(&self, n_tiles: usize) -> usize {
        n_tiles * self.sizes.tile * self.sizes.tile * GROUP * self.n_groups * self.sizes.pixel
    }

    /// Bytes of the values.
    fn values_of(&self, n_tiles: usize) -> usize {
        self.sizes.value * self.batch_len(n_tiles)
    }

    /// Bytes of a tile's values in a full batch.
    fn values_a_tile(&self) -> usize {
        self.values_of(MAX_BATCH).div_ceil(MAX_BATCH)
    }

    fn weight_bytes(&self) -> usize {
        let a_filter = if self.filters { 9 } else { self.sizes.weight * self.sizes.taps() };
        a_filter * self.channels * GROUP * self.n_groups
    }
}

#[cfg(test)]
mod tests;
