//! Winograd steps: tiles become batches, a batch's taps are multiplied, sums become pixels; all in the scratch memory.
//!
//! ```text
//! for each band of tiles (see `tiling`):
//!   input     windows ─► values        a task a batch
//!   by band   for group, batch:  36 taps ─► sums (14 KB, first level cache) ─► pixels
//!   by tap    for tap, group, batch: ─► sums;  for group, batch: ─► pixels
//! ```

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use vgg_edge_blob::Layer;
use vgg_edge_blob::layout::{GROUP, S8Params};
use vgg_edge_blob::winograd::{TAPS, TILE};
use zerocopy::FromBytes;

use super::Context;
use crate::arena;
use crate::kernels::{MAX_BATCH, Requant, WinogradInput, WinogradOutput, WinogradTap, tiles};
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
    fn new(step: &'a Step, first: usize, n_tiles: usize) -> Self {
        let n_batches = n_tiles.div_ceil(MAX_BATCH);
        Self { step, first, n_tiles, n_batches, widest: n_tiles.div_ceil(n_batches) }
    }

    /// Batches `which` of the band.
    fn batches(&self, which: Range<usize>) -> impl Iterator<Item = Batch> {
        let all = tiles(self.n_tiles, MAX_BATCH).enumerate();
        let all = all.map(|(index, (first, n_tiles))| Batch { index, first: self.first + first, n_tiles });
        all.skip(which.start).take(which.len())
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
            let band = Band::new(step, first, n);
            let batch_len = tiling.batch_len(band.widest);
            pool::each_chunk(self.executor, values, batch_len, band.n_batches, &|index, values| {
                let batch = band.batches(index..index + 1);
                batch.for_each(|batch| self.input(&band, batch, tiling, from, values));
            });
            let (of_groups, of_batches) = tiling.parts(band.n_batches);
            let part = |i: usize, parts: usize, n: usize| (i * n / parts)..((i + 1) * n / parts);
            let task_len = tiling.task_len(band.n_batches, band.widest);
            let values = &*values;
            let task = |task: usize, sums: &mut [i32]| {
                let groups = part(task / of_batches, of_groups, tiling.n_groups);
                let batches = part(task % of_batches, of_batches, band.n_batches);
                self.multiply(&band, filters, (groups, batches), (values, sums), to);
            };
            if tiling.by_tap {
                pool::each_chunk(self.executor, sums, task_len, of_groups, &task);
            } else {
                let slots = (task_len, tiling.n_slots());
                pool::each_slot(self.executor, sums, slots, of_groups * of_batches, &task);
            }
        }
    }

    /// Transforms a batch's windows.
    fn input(&self, band: &Band<'_>, batch: Batch, tiling: &Tiling, from: &[i8], values: &mut [i16]) {
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
                    tap_stride: tiling.tap_len(batch.n_tiles),
                    group_stride: batch.n_tiles * GROUP,
                };
                let place = channel * batch.n_tiles + p * GROUP;
                self.kernel.winograd_input(&window, &mut values[place..]);
            }
        }
    }

    /// Multiplies groups times batches, and stores their pixels.
    fn multiply(
        &self,
        band: &Band<'_>,
        filters: &Filters<'_>,
        (groups, batches): (Range<usize>, Range<usize>),
        (values, sums): (&[i16], &mut [i32]),
        to: &[AtomicU64],
    ) {
        let unit_len = TAPS * band.widest * GROUP;
        if !filters.tiling.by_tap {
            for group in groups {
                for batch in band.batches(batches.clone()) {
                    let sums = &mut sums[..unit_len];
                    (0..TAPS).for_each(|tap| self.tap(band, filters, (group, batch, tap), values, sums));
                    self.output(band, filters, (group, batch), sums, to);
                }
            }
            return;
        }
        let unit =
            |group: usize, batch: Batch| ((group - groups.start) * band.n_batches + batch.index) * unit_len;
        for tap in 0..TAPS {
            for group in groups.clone() {
                for batch in band.batches(batches.clone()) {
                    let sums = &mut sums[unit(group, batch)..][..unit_len];
                    self.tap(band, filters, (group, batch, tap), values, sums);
                }
            }
        }
        for group in groups.clone() {
            for batch in band.batches(batches.clone()) {
                let sums = &sums[unit(group, batch)..][..unit_len];
                self.output(band, filters, (group, batch), sums, to);
            }
        }
    }

    fn tap(
        &self,
        band: &Band<'_>,
        filters: &Filters<'_>,
        (group, batch, tap): (usize, Batch, usize),
        values: &[i16],
        sums: &mut [i32],
    ) {
        let tiling = filters.tiling;
        let filter = tiling.channels * GROUP;
        let place = batch.index * tiling.batch_len(band.widest) + tap * tiling.tap_len(batch.n_tiles);
        let tap_sums = &mut sums[tap * batch.n_tiles * GROUP..][..batch.n_tiles * GROUP];
        let tap = WinogradTap {
            values: &values[place..][..tiling.channels * batch.n_tiles],
            n_tiles: batch.n_tiles,
            channels: tiling.channels,
            weights: &filters.weights[(group * TAPS + tap) * filter..][..filter],
        };
        self.kernel.winograd_tap(&tap, tap_sums);
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
                tap_stride: batch.n_tiles * GROUP,
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
