//! Winograd steps: tiles become batches, a batch's taps are multiplied, sums become pixels; all in the scratch memory.
//!
//! ```text
//! for each band of tiles (see `tiling`):
//!   by band   windows ─► values;                 for group, batch: 6 rows of taps ─► sums ─► pixels
//!   by row    for each row of taps: windows ─► values; for group, batch: that row ─► sums, behind the last ─► pixels
//! ```
//!
//! A task is a batch, or some groups and batches: whatever the number of threads, each value is made in one way.

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use vgg_edge_blob::Layer;
use vgg_edge_blob::layout::{GROUP, S8Params};
use vgg_edge_blob::winograd::{TILE, WINDOW};
use zerocopy::FromBytes;

use super::Context;
use crate::arena;
use crate::kernels::{Requant, WinogradInput, WinogradOutput, WinogradRow};
use crate::plan::Step;
use crate::pool;
use crate::tiling::{Tiling, n_tiles};

/// Channels that are transformed before the next tile's: what a batch writes at a time then fits the first level cache.
const CHANNELS_AT_A_TIME: usize = 32;

/// A layer's weights and what goes with them.
pub(super) struct Filters<'a> {
    pub(super) layer: &'a Layer<'a>,
    pub(super) weights: &'a [i16],
    pub(super) params: &'a [S8Params],
    pub(super) tiling: &'a Tiling,
}

/// Some tiles of a step, in batches.
struct Band<'a> {
    step: &'a Step,
    first: usize,
    n_tiles: usize,
    n_batches: usize,
    /// Tiles of the widest batch: all batches have room for as many.
    widest: usize,
}

/// One batch of a band.
#[derive(Clone, Copy)]
struct Batch {
    index: usize,
    first: usize,
    n_tiles: usize,
}

impl<'a> Band<'a> {
    fn new(step: &'a Step, tiling: &Tiling, first: usize, n_tiles: usize) -> Self {
        let n_batches = tiling.n_batches(n_tiles);
        Self { step, first, n_tiles, n_batches, widest: n_tiles.div_ceil(n_batches) }
    }

    /// Batch `index`, as even as [`tiles`] cuts.
    fn batch(&self, index: usize) -> Batch {
        let (width, wider) = (self.n_tiles / self.n_batches, self.n_tiles % self.n_batches);
        let first = self.first + index * width + index.min(wider);
        Batch { index, first, n_tiles: width + usize::from(index < wider) }
    }

    /// First output row and column of a tile.
    fn place(&self, tile: usize) -> (usize, usize) {
        let per_row = self.step.target.width.div_ceil(TILE);
        (tile / per_row * TILE, tile % per_row * TILE)
    }
}

impl Context<'_, '_> {
    pub(super) fn winograd(
        &self,
        step: &Step,
        filters: &Filters<'_>,
        scratch: &Range<usize>,
        bytes: &mut [u8],
    ) {
        let (maps, scratch) = bytes.split_at_mut(scratch.start);
        let (from, to) = arena::split(maps, step.source.range(), step.target.range());
        let from = <[i8]>::ref_from_bytes(from).unwrap_or(&[]);
        let to = <[AtomicU64]>::mut_from_bytes(to).map_or(&[][..], |words| words);
        let tiling = filters.tiling;
        let (values, sums) = scratch.split_at_mut(tiling.values_bytes());
        let values = <[i16]>::mut_from_bytes(values).unwrap_or(&mut []);
        let sums = <[i32]>::mut_from_bytes(&mut sums[..tiling.sums_bytes()]).unwrap_or(&mut []);
        for (first, n) in tiling.bands(n_tiles(step.n_rows, step.target.width)) {
            let band = Band::new(step, tiling, first, n);
            let (of_groups, of_batches) = tiling.parts(band.n_batches);
            let batch_len = tiling.batch_len(band.widest);
            let task_len = tiling.task_len(band.n_batches, band.widest);
            if !tiling.by_row && of_groups == 1 && of_batches == band.n_batches {
                // A batch from its windows to its pixels on one thread: no other one waits for its values.
                let (rows, shape) = (0..WINDOW, (task_len, tiling.n_slots()));
                let task = |index: usize, values: &mut [i16], sums: &mut [i32]| {
                    self.input(&band, band.batch(index), &rows, tiling, from, values);
                    let whole = (0..tiling.n_groups, index..index + 1, &rows);
                    self.multiply(&band, filters, whole, (values, index), sums, to);
                };
                let values = (&mut *values, batch_len);
                pool::each_chunk_and_slot(self.executor, values, sums, shape, band.n_batches, &task);
                continue;
            }
            let n_rows = if tiling.by_row { 1 } else { WINDOW };
            for first_row in (0..WINDOW).step_by(n_rows) {
                let rows = first_row..first_row + n_rows;
                pool::each_chunk(self.executor, values, batch_len, band.n_batches, &|index, values| {
                    self.input(&band, band.batch(index), &rows, tiling, from, values);
                });
                let values = &*values;
                let task = |task: usize, sums: &mut [i32]| {
                    let groups = part(task / of_batches, of_groups, tiling.n_groups);
                    let batches = part(task % of_batches, of_batches, band.n_batches);
                    self.multiply(&band, filters, (groups, batches, &rows), (values, 0), sums, to);
                };
                if tiling.by_row {
                    pool::each_chunk(self.executor, sums, task_len, of_groups, &task);
                } else {
                    let slots = (task_len, tiling.n_slots());
                    pool::each_slot(self.executor, sums, slots, of_groups * of_batches, &task);
                }
            }
        }
    }

    /// Transforms a batch's windows to some rows of taps.
    fn input(
        &self,
        band: &Band<'_>,
        batch: Batch,
        tap_rows: &Range<usize>,
        tiling: &Tiling,
        from: &[i8],
        values: &mut [i16],
    ) {
        let step = band.step;
        let source = &step.source;
        for channel in (0..source.channels).step_by(CHANNELS_AT_A_TIME) {
            for p in 0..batch.n_tiles {
                let (y, x) = band.place(batch.first + p);
                // Beyond the padded map, where no output looks, a window sees its last row and column again.
                let row = |i: usize| (step.source_row + (y + i).min(step.n_rows + 1)) * source.pitch();
                let column = |i: usize| (x + i).min(source.width + 1) * source.channels + channel;
                let window = WinogradInput {
                    input: from,
                    rows: core::array::from_fn(row),
                    columns: core::array::from_fn(column),
                    channels: (source.channels - channel).min(CHANNELS_AT_A_TIME),
                    tap_rows: tap_rows.clone(),
                    tap_stride: tiling.tap_len(batch.n_tiles),
                    group_stride: batch.n_tiles * GROUP,
                };
                let place = channel * batch.n_tiles + p * GROUP;
                self.kernel.winograd_input(&window, &mut values[place..]);
            }
        }
    }

    /// Multiplies groups times batches at some rows of taps; behind the last row, stores their pixels. `values` begin
    /// with those of batch `first`.
    fn multiply(
        &self,
        band: &Band<'_>,
        filters: &Filters<'_>,
        (groups, batches, tap_rows): (Range<usize>, Range<usize>, &Range<usize>),
        (values, first): (&[i16], usize),
        sums: &mut [i32],
        to: &[AtomicU64],
    ) {
        let tiling = filters.tiling;
        let unit_len = tiling.unit_len(band.widest);
        for group in groups.clone() {
            for i in batches.clone() {
                // To and fro: what the last group used last is still in the cache.
                let forth = group % 2 == 0;
                let batch = band.batch(if forth { i } else { batches.start + batches.end - 1 - i });
                // By row, all units of the task are kept; by band, one after the other uses the same memory.
                let unit = (group - groups.start) * band.n_batches + batch.index;
                let values = &values[(batch.index - first) * tiling.batch_len(band.widest)..];
                let sums = &mut sums[if tiling.by_row { unit * unit_len } else { 0 }..][..unit_len];
                for row in tap_rows.clone() {
                    self.row(filters, (group, batch, row, row - tap_rows.start), values, sums);
                }
                if tap_rows.end == WINDOW {
                    self.output(band, filters, (group, batch), sums, to);
                }
            }
        }
    }

    /// One row of taps; `nth` of those in the batch's `values`.
    fn row(
        &self,
        filters: &Filters<'_>,
        (group, batch, row, nth): (usize, Batch, usize, usize),
        values: &[i16],
        sums: &mut [i32],
    ) {
        let tiling = filters.tiling;
        let (tap_len, filter_len) = (tiling.tap_len(batch.n_tiles), WINDOW * tiling.channels * GROUP);
        let place = nth * WINDOW * tap_len;
        let columns_len = TILE * batch.n_tiles * GROUP;
        let row_of_taps = WinogradRow {
            values: &values[place..][..WINDOW * tap_len],
            tap_stride: tap_len,
            n_tiles: batch.n_tiles,
            channels: tiling.channels,
            weights: &filters.weights[(group * WINDOW + row) * filter_len..][..filter_len],
        };
        self.kernel.winograd_row(&row_of_taps, &mut sums[row * columns_len..][..columns_len]);
    }

    fn output(
        &self,
        band: &Band<'_>,
        filters: &Filters<'_>,
        (group, batch): (usize, Batch),
        sums: &[i32],
        to: &[AtomicU64],
    ) {
        let (step, params) = (band.step, &filters.params[group]);
        let target = &step.target;
        let n_groups = target.channels / GROUP;
        for p in 0..batch.n_tiles {
            let (y, x) = band.place(batch.first + p);
            let pixel = (step.target_row + y) * (target.width + 2 * target.halo) + target.halo + x;
            self.kernel.winograd_output(&WinogradOutput {
                sums: &sums[p * GROUP..],
                column_stride: batch.n_tiles * GROUP,
                bias: &params.bias,
                requant: Requant {
                    multiplier: &params.multiplier,
                    shift: &params.shift,
                    zero_point: filters.layer.out_quant.zero_point,
                },
                n_rows: (step.n_rows - y).min(TILE),
                n_columns: (target.width - x).min(TILE),
                words: &to[pixel * n_groups + group..],
                row_stride: (target.width + 2 * target.halo) * n_groups,
                pixel_stride: n_groups,
            });
        }
    }
}

/// Part `i` of `0..n` in `parts`.
fn part(i: usize, parts: usize, n: usize) -> Range<usize> {
    (i * n / parts)..((i + 1) * n / parts)
}
