//! Winograd steps: tiles become batches, a batch's taps are multiplied, sums become pixels; all in the scratch memory.
//!
//! ```text
//! for each band of tiles (see `tiling`):
//!   by band   windows ─► values;                 for group, batch: 6 rows of taps ─► sums ─► pixels
//!   by row    for each row of taps: windows ─► values; for group, batch: that row ─► sums, behind the last ─► pixels
//!             in pairs: rows 0, 1 and 2, 3 and 4, 5
//! ```
//!
//! Of filters, a group's weights at these rows are made before its batches.
//!
//! A task is a batch, or some groups and batches: whatever the number of threads, each value is made in one way.

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use vgg_edge_blob::layout::GROUP;
use vgg_edge_blob::winograd8::{MAX_TILE, MAX_WINDOW};
use zerocopy::{FromBytes, IntoBytes};

use super::arithmetic::{Arithmetic, Pixels, RowOfTaps, Windows};
use super::{Context, pooling};
use crate::arena;
use crate::kernels::{CUT_TAPS, Cut, MAX_BATCH};
use crate::plan::{Buffer, Step};
use crate::pool;
use crate::tiling::Tiling;

/// Channels that are transformed before the next tile's: what a batch writes at a time then fits the first level cache.
const CHANNELS_AT_A_TIME: usize = 32;

/// Tiles of one shape, a rectangle of the map. A step has up to four: [`shapes`].
#[derive(Clone, Copy, Default)]
struct Shape {
    /// Tiles of a row.
    per_row: usize,
    n_tiles: usize,
    /// First output row and column.
    start: (usize, usize),
    /// No more than two rows, two columns of each tile are in the map, and the kernel uses that.
    cut: Cut,
}

/// Some tiles of a step, in batches. Tiles are numbered shape by shape, in each from left to right and down.
struct Band<'a> {
    step: &'a Step,
    /// Rows and columns of a tile.
    tile: usize,
    /// What the band has of each shape.
    shapes: [Part; 4],
    n_tiles: usize,
    n_batches: usize,
    /// Tiles of the widest batch: all batches have room for as many.
    widest: usize,
}

/// A band's tiles of one shape.
struct Part {
    shape: Shape,
    /// First tile, in its shape.
    first: usize,
    n_tiles: usize,
    n_batches: usize,
}

/// One batch of a band.
#[derive(Clone, Copy)]
struct Batch {
    index: usize,
    shape: Shape,
    /// First tile, in its shape.
    first: usize,
    n_tiles: usize,
    /// Tiles of the band before it.
    before: usize,
}

/// The shapes of a step's tiles: whole ones, then those at the right edge, at the lower edge and in the corner, where the
/// last tile has one or two columns or rows and the kernel makes less of it. Else all are one shape.
fn shapes(step: &Step, tile: usize, cuts: bool) -> [Shape; 4] {
    let along = |n: usize| match cuts && (1..=2).contains(&(n % tile)) {
        true => (n / tile, 1),
        false => (n.div_ceil(tile), 0),
    };
    let ((tall, short), (wide, narrow)) = (along(step.n_rows), along(step.target.width));
    let shape = |rows: usize, columns: usize, cut: Cut| Shape {
        per_row: columns,
        n_tiles: rows * columns,
        start: (if cut.short { tall * tile } else { 0 }, if cut.narrow { wide * tile } else { 0 }),
        cut,
    };
    [
        shape(tall, wide, Cut::default()),
        shape(tall, narrow, Cut { short: false, narrow: true }),
        shape(short, wide, Cut { short: true, narrow: false }),
        shape(short, narrow, Cut { short: true, narrow: true }),
    ]
}

impl Batch {
    /// Whether its tiles have none of these rows of taps.
    fn skips(&self, tap_rows: &Range<usize>) -> bool {
        self.shape.cut.short && CUT_TAPS.contains(&tap_rows.start) && CUT_TAPS.contains(&(tap_rows.end - 1))
    }
}

impl<'a> Band<'a> {
    fn new(step: &'a Step, tiling: &Tiling, cuts: bool, first: usize, n_tiles: usize) -> Self {
        let (mut start, mut n_batches, mut widest) = (0, 0, 0);
        let tile = tiling.sizes.tile;
        let shapes = shapes(step, tile, cuts).map(|shape| {
            let from = first.clamp(start, start + shape.n_tiles) - start;
            let to = (first + n_tiles).clamp(start, start + shape.n_tiles) - start;
            start += shape.n_tiles;
            let n = to - from;
            // Edges are too few to be worth as many batches as threads.
            let of_shape =
                if shape.cut == Cut::default() { tiling.n_batches(n) } else { n.div_ceil(MAX_BATCH) };
            n_batches += of_shape;
            widest = widest.max(n.div_ceil(of_shape.max(1)));
            Part { shape, first: from, n_tiles: n, n_batches: of_shape }
        });
        Self { step, tile, shapes, n_tiles, n_batches, widest }
    }

    /// Batch `index`. A shape's are as even as [`tiles`](crate::kernels) are cut.
    fn batch(&self, index: usize) -> Batch {
        let (mut i, mut before) = (index, 0);
        for &Part { shape, first, n_tiles: n, n_batches } in &self.shapes {
            if i < n_batches {
                let (width, wider) = (n / n_batches, n % n_batches);
                let skip = i * width + i.min(wider);
                let n_tiles = width + usize::from(i < wider);
                return Batch { index, shape, first: first + skip, n_tiles, before: before + skip };
            }
            (i, before) = (i - n_batches, before + n);
        }
        // There is no such batch: one without tiles.
        Batch { index, shape: Shape::default(), first: 0, n_tiles: 0, before }
    }

    /// The batch's tiles by rows of tiles: (index of the first in the batch, tiles, its first output row and column).
    fn runs(&self, batch: Batch) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let (tile, Shape { per_row, start: (top, left), .. }) = (self.tile, batch.shape);
        let mut done = 0;
        core::iter::from_fn(move || {
            let (at, first) = (batch.first + done, done);
            let n = (per_row - at % per_row).min(batch.n_tiles - done);
            done += n;
            (n > 0).then_some((first, n, top + at / per_row * tile, left + at % per_row * tile))
        })
    }
}

/// Tiles and batches of each shape in a band of tiles (first, number) of a step.
pub(crate) fn band_parts(
    step: &Step,
    tiling: &Tiling,
    cuts: bool,
    (first, n_tiles): (usize, usize),
) -> impl Iterator<Item = (Cut, usize, usize)> + use<> {
    let parts = Band::new(step, tiling, cuts, first, n_tiles).shapes;
    parts.into_iter().map(|part| (part.shape.cut, part.n_tiles, part.n_batches))
}

impl Context<'_, '_> {
    pub(super) fn winograd<A: Arithmetic>(
        &self,
        step: &Step,
        (layer, tiling): (&A, &Tiling),
        scratch: &Range<usize>,
        bytes: &mut [u8],
    ) {
        let (maps, scratch) = bytes.split_at_mut(scratch.start);
        let target = step.pooled.map_or(step.target, |pooled| pooled.target);
        let (from, to) = arena::split(maps, step.source.range(), target.range());
        let from = <[A::Input]>::ref_from_bytes(from).unwrap_or(&[]);
        let to = <[AtomicU64]>::mut_from_bytes(to).map_or(&[][..], |words| words);
        let (values, sums) = scratch.split_at_mut(tiling.values_bytes());
        let values = <[A::Value]>::mut_from_bytes(values).unwrap_or(&mut []);
        let sums = <[A::Sum]>::mut_from_bytes(&mut sums[..tiling.sums_bytes()]).unwrap_or(&mut []);
        let (sizes, window) = (tiling.sizes, tiling.sizes.window);
        for (first, n) in tiling.bands(sizes.n_tiles(step.n_rows, step.target.width)) {
            let band = Band::new(step, tiling, layer.cuts(self.kernel), first, n);
            let (of_groups, of_batches) = tiling.parts(band.n_batches);
            let batch_len = tiling.batch_len(band.widest);
            let task_len = tiling.task_len(band.n_tiles, band.n_batches, band.widest);
            if !tiling.by_row && of_groups == 1 && of_batches == band.n_batches {
                // A batch from its windows to its pixels on one thread: no other one waits for its values.
                let (rows, shape) = (0..window, (task_len, tiling.n_slots()));
                let task = |index: usize, values: &mut [A::Value], sums: &mut [A::Sum]| {
                    self.input(&band, band.batch(index), &rows, (layer, tiling), from, values);
                    let whole = (0..tiling.n_groups, index..index + 1, &rows);
                    self.multiply(&band, (layer, tiling), whole, (values, index), sums, to);
                };
                let values = (&mut *values, batch_len);
                pool::each_chunk_and_slot(self.executor, values, sums, shape, band.n_batches, &task);
                continue;
            }
            for rows in tiling.passes() {
                pool::each_chunk(self.executor, values, batch_len, band.n_batches, &|index, values| {
                    let batch = band.batch(index);
                    if !batch.skips(&rows) {
                        self.input(&band, batch, &rows, (layer, tiling), from, values);
                    }
                });
                let values = &*values;
                let task = |task: usize, sums: &mut [A::Sum]| {
                    let groups = part(task / of_batches, of_groups, tiling.n_groups);
                    let batches = part(task % of_batches, of_batches, band.n_batches);
                    let what = (groups, batches, &rows);
                    self.multiply(&band, (layer, tiling), what, (values, 0), sums, to);
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
    fn input<A: Arithmetic>(
        &self,
        band: &Band<'_>,
        batch: Batch,
        tap_rows: &Range<usize>,
        (layer, tiling): (&A, &Tiling),
        from: &[A::Input],
        values: &mut [A::Value],
    ) {
        let (step, sizes) = (band.step, tiling.sizes);
        let source = &step.source;
        for channel in (0..source.channels).step_by(CHANNELS_AT_A_TIME) {
            for (first, n_tiles, y, x) in band.runs(batch) {
                // Beyond the padded map, where no output looks, a window sees its last row and column again.
                let row = |i: usize| (step.source_row + (y + i).min(step.n_rows + 1)) * source.pitch();
                let column = |i: usize| (x + i).min(source.width + 1) * source.channels + channel;
                let rows: [usize; MAX_WINDOW] = core::array::from_fn(row);
                let columns: [usize; MAX_BATCH * MAX_TILE + 2] = core::array::from_fn(column);
                let run = Windows {
                    input: from,
                    rows: &rows[..sizes.window],
                    columns: &columns[..n_tiles * sizes.tile + 2],
                    first_channel: channel,
                    // A pixel of the picture ends in the next one's values, which meet weights of 0.
                    channels: (source.channels - channel).min(CHANNELS_AT_A_TIME).next_multiple_of(GROUP),
                    tap_rows: tap_rows.clone(),
                    cut: batch.shape.cut,
                    tap_stride: tiling.tap_len(batch.n_tiles),
                    group_stride: batch.n_tiles * GROUP,
                };
                let place = channel * batch.n_tiles + first * GROUP;
                layer.input(self.kernel, &run, &mut values[place..]);
            }
        }
    }

    /// Multiplies groups times batches at some rows of taps; behind the last row, stores their pixels. `values` begin
    /// with those of batch `first`.
    fn multiply<A: Arithmetic>(
        &self,
        band: &Band<'_>,
        (layer, tiling): (&A, &Tiling),
        (groups, batches, tap_rows): (Range<usize>, Range<usize>, &Range<usize>),
        (values, first): (&[A::Value], usize),
        sums: &mut [A::Sum],
        to: &[AtomicU64],
    ) {
        let (made, sums) = sums.split_at_mut(tiling.made_len());
        let made = <[A::Value]>::mut_from_bytes(made.as_mut_bytes()).unwrap_or(&mut []);
        let made_len = if made.is_empty() { 0 } else { tiling.sizes.window * tiling.channels * GROUP };
        // By row, all units of the task are kept but for their last row, which is where the next unit's begin: there, the
        // last unit comes first.
        let is_last = tap_rows.end == tiling.sizes.window;
        let back = tiling.by_row && is_last;
        for nth in 0..groups.len() {
            let group = if back { groups.end - 1 - nth } else { groups.start + nth };
            layer.make(self.kernel, group, tap_rows, made);
            for i in batches.clone() {
                // By band values fit the cache: always forth, each is looked at again after the same time. By row, where not
                // all may fit, to and fro: what the last group used last is still there.
                let forth = !tiling.by_row || !back && group % 2 == 0;
                let batch = band.batch(if forth { i } else { batches.start + batches.end - 1 - i });
                // By band, one unit after the other uses the same memory.
                let before = (group - groups.start) * band.n_tiles + batch.before;
                let values = &values[(batch.index - first) * tiling.batch_len(band.widest)..];
                let start = if tiling.by_row { tiling.kept_len(before) } else { 0 };
                let sums = &mut sums[start..][..tiling.unit_len(batch.n_tiles)];
                let tap_stride = tiling.tap_len(batch.n_tiles);
                let row_len = tiling.sizes.window * tap_stride;
                let columns_len = tiling.sizes.tile * batch.n_tiles * GROUP;
                for (nth, row) in tap_rows.clone().enumerate() {
                    if batch.skips(&(row..row + 1)) {
                        continue;
                    }
                    let row_of_taps = RowOfTaps {
                        values: &values[nth * row_len..][..row_len],
                        tap_stride,
                        n_tiles: batch.n_tiles,
                        channels: tiling.channels,
                        group,
                        row,
                        narrow: batch.shape.cut.narrow,
                        made: &made[nth * made_len..][..made_len],
                    };
                    layer.row(self.kernel, &row_of_taps, &mut sums[row * columns_len..][..columns_len]);
                }
                if is_last {
                    self.output(band, layer, (group, batch), sums, to);
                }
            }
        }
    }

    fn output<A: Arithmetic>(
        &self,
        band: &Band<'_>,
        layer: &A,
        (group, batch): (usize, Batch),
        sums: &[A::Sum],
        to: &[AtomicU64],
    ) {
        let step = band.step;
        let run = |(first, n_tiles, y, x): (usize, usize, usize, usize)| Pixels {
            sums: &sums[first * GROUP..],
            column_stride: batch.n_tiles * GROUP,
            group,
            short: batch.shape.cut.short,
            n_rows: (step.n_rows - y).min(band.tile),
            n_columns: (step.target.width - x).min(n_tiles * band.tile),
            words: to,
            row_stride: 0,
            pixel_stride: 0,
        };
        // Words of a group's 8 channels, between two pixels, and between two rows.
        let strides = |target: &Buffer| {
            let group_words = GROUP * target.value_size / size_of::<AtomicU64>();
            let row_stride = target.pitch() * target.value_size / size_of::<AtomicU64>();
            (group_words, target.channels / GROUP * group_words, row_stride)
        };
        if let Some(pooled) = &step.pooled {
            let (_, pixel_stride, row_stride) = strides(&pooled.target);
            let mut pixels = pooling::Tiles::new();
            for (first, n_tiles, y, x) in band.runs(batch) {
                let run = run((first, n_tiles, y, x));
                let side = (run.n_rows, run.n_columns);
                let rows = (pooled.n_rows - y / 2).min(band.tile / 2);
                let columns = (pooled.target.width - x / 2).min(side.1.div_ceil(2));
                if rows == 0 || columns == 0 {
                    // The last row or column, of which a pool without padding makes nothing.
                    continue;
                }
                pixels.fill(|words, row_stride| {
                    layer.output(self.kernel, &Pixels { words, row_stride, pixel_stride: 1, ..run });
                });
                let first_word = (pooled.target_row + y / 2) * row_stride
                    + (pooled.target.halo + x / 2) * pixel_stride
                    + group;
                pixels.pool(side, (rows, columns), &to[first_word..], (row_stride, pixel_stride));
            }
            return;
        }
        let target = &step.target;
        let (group_words, pixel_stride, row_stride) = strides(target);
        for (first, n_tiles, y, x) in band.runs(batch) {
            let first_word = (step.target_row + y) * row_stride + (target.halo + x) * pixel_stride;
            let words = &to[first_word + group * group_words..];
            let run = Pixels { words, row_stride, pixel_stride, ..run((first, n_tiles, y, x)) };
            layer.output(self.kernel, &run);
        }
    }
}

/// Part `i` of `0..n` in `parts`.
fn part(i: usize, parts: usize, n: usize) -> Range<usize> {
    (i * n / parts)..((i + 1) * n / parts)
}
