//! From layers to steps: what runs when, on which rows, in which bytes of the arena.
//!
//! A block (the convolutions of a conv block and its pool) runs in *bands* of output rows. Only the block's
//! input and output are whole maps; between its layers there are *windows* of a few rows:
//!
//! ```text
//! input map ──► conv ──► window ──► conv ──► window ──► pool ──► output map
//!               a band of rows      the same rows less the filter's reach
//! ```
//!
//! Rows that the next band still needs (two under a 3x3 filter) move to the top of their window, so no row is
//! computed twice. A band is as large as keeps traffic to memory low: small where maps are large and weights
//! small (early blocks), the whole map where it is the other way round.
//!
//! A pool of stride 2 behind tiles of int8 is no work of its own: the convolution's steps pool their pixels as they make them
//! ([`Pooled`]), and the window between stays untouched. Only who looks at every layer's output has all of them made.

use alloc::vec;
use alloc::vec::Vec;

use vgg_edge_blob::layout::{ALIGN, padded};
use vgg_edge_blob::{Layer, LayerOp, Scheme, Shape};

use crate::blocks::BlockMap;
use crate::tiling::{Sizes, Tiling};
use crate::traffic::{copies, is_pooled, price, traffic};

/// Values that a strip may read behind a buffer's last row: see `S8Strip::run_len` and `S4Strip::input`.
const SLACK: usize = 64;

/// Where a map, or a window of its rows, lies. Rows are `width + 2 * halo` pixels of `channels` values; a
/// halo of 1 puts a pixel of padding around the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer {
    /// First byte in the arena.
    pub(crate) start: usize,
    /// Rows there is room for, halo rows included.
    pub(crate) rows: usize,
    /// Columns, without halo.
    pub(crate) width: usize,
    /// Channels as stored.
    pub(crate) channels: usize,
    /// Padding pixels on each side: 0 or 1.
    pub(crate) halo: usize,
    /// Bytes of a value: 1 or 4.
    pub(crate) value_size: usize,
}

impl Buffer {
    /// Values between two rows. A group's 8 channels are a part of a pixel, the same in every pixel, and so their lines lie in
    /// some of the cache's sets only, where a pixel is more than a line: a line between rows makes it other sets in each. A map
    /// without padding may be read as one run of values.
    pub(crate) fn pitch(&self) -> usize {
        let line = ALIGN / self.value_size;
        let skew = if self.halo > 0 && self.channels > line { line } else { 0 };
        (self.width + 2 * self.halo) * self.channels + skew
    }

    /// Bytes, slack included.
    pub(crate) fn len(&self) -> usize {
        ((self.rows * self.pitch() + SLACK) * self.value_size).next_multiple_of(ALIGN)
    }

    /// Byte range in the arena.
    pub(crate) fn range(&self) -> core::ops::Range<usize> {
        self.start..self.start + self.len()
    }
}

/// Some output rows of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Which layer.
    pub(crate) layer_idx: usize,
    /// Where it reads.
    pub(crate) source: Buffer,
    /// Buffer row with the first row that the first output row reads.
    pub(crate) source_row: usize,
    /// Where it writes.
    pub(crate) target: Buffer,
    /// Buffer row of the first output row.
    pub(crate) target_row: usize,
    /// First output row, in the map.
    pub(crate) first_row: usize,
    /// Output rows.
    pub(crate) n_rows: usize,
    /// Before: move this many rows, from this buffer row on, to the top of the target.
    pub(crate) keep: (usize, usize),
    /// The map's first row is among the output rows: fill the halo row above it.
    pub(crate) pad_above: bool,
    /// The map's last row is among the output rows: fill the halo row below it.
    pub(crate) pad_below: bool,
    /// Of tiles whose pixels a pool takes: where they go when no one looks at the map between.
    pub(crate) pooled: Option<Pooled>,
    /// A pool whose pixels come from the steps before it, unless someone looks at the map between.
    pub(crate) is_done: bool,
}

/// Where a convolution's pixels go that are pooled, two by two rows and columns, as they are made. Tiles begin in even rows and
/// columns, so that none has a part of another's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pooled {
    /// The pool's output map.
    pub(crate) target: Buffer,
    /// Buffer row of the step's first pooled row.
    pub(crate) target_row: usize,
    /// Pooled rows.
    pub(crate) n_rows: usize,
    /// As for the step.
    pub(crate) pad_above: bool,
    /// As for the step.
    pub(crate) pad_below: bool,
}

/// How one block runs, for `estimate` and `info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlan {
    /// First layer.
    pub first_layer: usize,
    /// Number of layers.
    pub n_layers: usize,
    /// Output rows of a band.
    pub band_rows: usize,
    /// Bands.
    pub n_bands: usize,
    /// Bytes of the windows between its layers.
    pub window_bytes: usize,
    /// Bytes of its whole input map and output map.
    pub map_bytes: usize,
}

/// All steps of one picture.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) blocks: Vec<BlockPlan>,
    /// Where the picture goes.
    pub(crate) input: Buffer,
    /// Where the last layer's values are.
    pub(crate) output: Buffer,
    /// Scratch: an average's sums, a convolution's input in blocks, or a Winograd layer's values and sums.
    pub(crate) scratch: core::ops::Range<usize>,
    /// How the tiles of each Winograd layer are cut.
    pub(crate) tilings: Vec<Option<Tiling>>,
    pub(crate) arena_bytes: usize,
}

/// Rows of its input that a layer reads for output rows: `[first, end)`, as rows of the padded map when it
/// reads a halo (row 0 is the halo row above).
fn rows_needed(layer: &Layer<'_>, first: usize, end: usize) -> (usize, usize) {
    match layer.op {
        LayerOp::Conv { kernel, .. } => (first, end + usize::from(kernel) - 1),
        LayerOp::MaxPool { stride, .. } => {
            let s = usize::from(stride);
            (first * s, ((end - 1) * s + 2).min(layer.input.height as usize))
        }
        LayerOp::GlobalAvgPool { .. } | LayerOp::Dense(_) => (0, layer.input.height as usize),
    }
}

/// Whether the layer reads a pixel of padding around its input.
fn halo(layer: &Layer<'_>) -> usize {
    usize::from(matches!(layer.op, LayerOp::Conv { kernel: 3, .. }))
}

/// The map between `before` and `after`, whole.
fn map(shape: Shape, stored: usize, after: Option<&Layer<'_>>, value_size: usize) -> Buffer {
    let halo = after.map_or(0, halo);
    Buffer {
        start: 0,
        rows: shape.height as usize + 2 * halo,
        width: shape.width as usize,
        channels: stored,
        halo,
        value_size,
    }
}

/// Splits layers into blocks: neighbours with one block number that all work row by row.
fn blocks(layers: &[Layer<'_>]) -> Vec<core::ops::Range<usize>> {
    let by_rows = |l: &Layer<'_>| matches!(l.op, LayerOp::Conv { .. } | LayerOp::MaxPool { .. });
    let mut blocks: Vec<core::ops::Range<usize>> = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        match blocks.last_mut() {
            Some(b) if by_rows(layer) && by_rows(&layers[i - 1]) && layers[i - 1].block == layer.block => {
                b.end = i + 1;
            }
            _ => blocks.push(i..i + 1),
        }
    }
    blocks
}

/// Walks one block in bands of `band_rows`: hands every step to `step` and gives the windows, with the rows each
/// needs. `from_picture`: its first layer runs as [`Sizes::EXACT`], whatever its weights.
fn walk(
    layers: &[Layer<'_>],
    first_layer: usize,
    [source, target]: [Buffer; 2],
    (band_rows, from_picture): (usize, bool),
    mut step: impl FnMut(Step),
) -> Vec<Buffer> {
    let n = layers.len();
    let height = |i: usize| layers[i].output.height as usize;
    // windows[i] is what layer i writes, but for the last layer, which writes the target.
    let mut windows: Vec<Buffer> = (0..n - 1)
        .map(|i| {
            let shape = layers[i].output;
            let full = map(shape, padded(shape.channels) as usize, Some(&layers[i + 1]), source.value_size);
            Buffer { rows: 0, ..full }
        })
        .collect();
    let mut produced = vec![0; n];
    // First padded-map row that each window holds, and how many it holds.
    let (mut base, mut held) = (vec![0; n], vec![0; n]);
    while produced[n - 1] < height(n - 1) {
        let mut ends = vec![0; n];
        ends[n - 1] = (produced[n - 1] + band_rows).min(height(n - 1));
        for i in (0..n).rev() {
            if let Some(sizes) = sizes_of(&layers[i], i == 0 && from_picture) {
                // Whole tiles, but at the lower edge.
                ends[i] = ends[i].next_multiple_of(sizes.tile).min(height(i));
            }
            if i == 0 {
                break;
            }
            let (_, end) = rows_needed(&layers[i], 0, ends[i]);
            // Rows of the padded map include the halo row above.
            ends[i - 1] = end.saturating_sub(halo(&layers[i])).min(height(i - 1)).max(produced[i - 1]);
        }
        for i in 0..n {
            let (first, end) = (produced[i], ends[i]);
            if first == end {
                continue;
            }
            let last = i + 1 == n;
            let pad = if last { target.halo } else { windows[i].halo };
            let (mut keep, mut base_row) = ((0, 0), 0);
            if !last {
                let needed = rows_needed(&layers[i + 1], produced[i + 1], produced[i + 1] + 1).0;
                let drop = needed.saturating_sub(base[i]).min(held[i]);
                if drop > 0 {
                    keep = (drop, held[i] - drop);
                    base[i] += drop;
                    held[i] -= drop;
                }
                let (above, below) = (pad * usize::from(first == 0), pad * usize::from(end == height(i)));
                held[i] += above + (end - first) + below;
                windows[i].rows = windows[i].rows.max(held[i]);
                base_row = base[i];
            }
            let (reads, _) = rows_needed(&layers[i], first, end);
            let source_row = if i == 0 { reads } else { reads - base[i - 1] };
            step(Step {
                layer_idx: first_layer + i,
                source,
                source_row,
                target,
                target_row: first + pad - base_row,
                first_row: first,
                n_rows: end - first,
                keep,
                pad_above: pad == 1 && first == 0,
                pad_below: pad == 1 && end == height(i),
                pooled: None,
                is_done: false,
            });
            produced[i] = end;
        }
    }
    windows
}

fn sizes_of(layer: &Layer<'_>, from_picture: bool) -> Option<Sizes> {
    if from_picture { Some(Sizes::EXACT) } else { Sizes::of(layer) }
}

/// How each Winograd layer of a block cuts its tiles: for the most rows that one of its steps has.
fn tilings(
    layers: &[Layer<'_>],
    most_rows: &[usize],
    from_picture: bool,
    (l2, n_threads): (usize, usize),
) -> Vec<Option<Tiling>> {
    let tiling = |(i, (layer, rows)): (usize, (&Layer<'_>, &usize))| {
        let sizes = sizes_of(layer, i == 0 && from_picture)?;
        let n_tiles = sizes.n_tiles(*rows, layer.output.width as usize);
        Some(Tiling::new(sizes, layer, n_tiles, l2, n_threads))
    };
    layers.iter().zip(most_rows).enumerate().map(tiling).collect()
}

/// So many bytes of windows beyond the cache are worth one byte that is moved.
const WINDOW_PRICE: usize = 8;

/// Plans a network. `l2` is the cache, in bytes, that a band should fit; `first` says that the first layer's weights are
/// made for exact Winograd when the network is loaded.
pub(crate) fn plan(
    scheme: Scheme,
    input: Shape,
    (layers, first): (&[Layer<'_>], bool),
    l2: usize,
    n_threads: usize,
) -> Plan {
    let value_size = if scheme.is_int8() { 1 } else { 4 };
    let mut picture = map(input, input.channels as usize, layers.first(), value_size);
    let (mut steps, mut plans, mut all_tilings) = (Vec::new(), Vec::new(), Vec::new());
    let mut source = picture;
    let mut arena_bytes = source.len();
    // Maps alternate between the low and the high end of the arena; windows lie between.
    let mut regions: Vec<(usize, Buffer, Buffer, Vec<Buffer>)> = Vec::new();
    for range in blocks(layers) {
        let block = &layers[range.clone()];
        let from_picture = first && range.start == 0;
        let shape = layers[range.end - 1].output;
        // Logits need the whole accumulator.
        let is_logits = range.end == layers.len() && matches!(block[0].op, LayerOp::Dense(_));
        let size = if is_logits { 4 } else { value_size };
        let target = map(shape, padded(shape.channels) as usize, layers.get(range.end), size);
        let rows = shape.height as usize;
        let map_bytes = source.len() + target.len();
        let best = (1..=rows)
            .filter(|n_bands| *n_bands == 1 || rows.div_ceil(*n_bands) != rows.div_ceil(*n_bands - 1))
            .map(|n_bands| {
                let band_rows = rows.div_ceil(n_bands);
                let mut most_rows = vec![0; block.len()];
                let windows = walk(block, range.start, [source, target], (band_rows, from_picture), |step| {
                    let most = &mut most_rows[step.layer_idx - range.start];
                    *most = step.n_rows.max(*most);
                });
                let tilings = tilings(block, &most_rows, from_picture, (l2, n_threads));
                let maps = ([source.len(), target.len()], copies(layers, range.start, &most_rows));
                let traffic = traffic(block, &windows, &tilings, maps, n_bands, l2);
                // Memory has a price, too: else one band would be best where no window stays in the cache.
                let memory = windows.iter().map(Buffer::len).sum::<usize>().saturating_sub(l2) / WINDOW_PRICE;
                let price = price(block, &most_rows, &tilings, n_bands);
                let cost = memory + price + traffic.iter().map(|t| t.weights + t.maps).sum::<usize>();
                (cost, band_rows, tilings)
            })
            .min_by_key(|(cost, ..)| *cost);
        let Some((_, band_rows, tilings)) = best else { continue };
        all_tilings.extend(tilings);
        let first_step = steps.len();
        let windows =
            walk(block, range.start, [source, target], (band_rows, from_picture), |step| steps.push(step));
        let window_bytes: usize = windows.iter().map(Buffer::len).sum();
        plans.push(BlockPlan {
            first_layer: range.start,
            n_layers: range.len(),
            band_rows,
            n_bands: rows.div_ceil(band_rows),
            window_bytes,
            map_bytes,
        });
        arena_bytes = arena_bytes.max(map_bytes + window_bytes);
        regions.push((first_step, source, target, windows));
        source = target;
    }
    place(&mut steps, &regions, layers, arena_bytes);
    pool_tiles(&mut steps, layers, &all_tilings);
    picture.start = 0;
    let mut output = source;
    output.start = steps.last().map_or(0, |s| s.target.start);
    let widest = layers.iter().map(|l| padded(l.output.channels) as usize).max().unwrap_or(0);
    let of_tiles = all_tilings.iter().flatten().map(|t: &Tiling| t.values_bytes() + t.sums_bytes());
    let of_blocks = steps.iter().filter_map(|s| {
        let map = BlockMap::of(&layers[s.layer_idx], s.layer_idx)?;
        Some(map.bytes(s.n_rows))
    });
    let scratch = of_tiles.chain(of_blocks).max().unwrap_or(0).max(4 * widest);
    let scratch = arena_bytes..(arena_bytes + scratch).next_multiple_of(ALIGN);
    let arena_bytes = scratch.end;
    Plan { steps, blocks: plans, input: picture, output, scratch, tilings: all_tilings, arena_bytes }
}

/// Gives every buffer its bytes: block `k` reads at the low end when `k` is even, at the high end when odd,
/// and writes at the other end.
fn place(
    steps: &mut [Step],
    regions: &[(usize, Buffer, Buffer, Vec<Buffer>)],
    layers: &[Layer<'_>],
    arena_bytes: usize,
) {
    let first_layers: Vec<usize> = blocks(layers).iter().map(|r| r.start).collect();
    for (k, (first_step, source, target, windows)) in regions.iter().enumerate() {
        let at_end =
            |b: &Buffer, low: bool| Buffer { start: if low { 0 } else { arena_bytes - b.len() }, ..*b };
        let low = k % 2 == 0;
        let (source, target) = (at_end(source, low), at_end(target, !low));
        let mut free = if low { source.len() } else { target.len() };
        let windows: Vec<Buffer> = windows
            .iter()
            .map(|w| {
                let placed = Buffer { start: free, ..*w };
                free += placed.len();
                placed
            })
            .collect();
        let end_step = regions.get(k + 1).map_or(steps.len(), |r| r.0);
        for step in &mut steps[*first_step..end_step] {
            let i = step.layer_idx - first_layers[k];
            step.source = if i == 0 { source } else { windows[i - 1] };
            step.target = windows.get(i).copied().unwrap_or(target);
        }
    }
}

/// Where tiles are pooled as they are made, tells the convolution's steps where to, and the pool's that they are done.
fn pool_tiles(steps: &mut [Step], layers: &[Layer<'_>], tilings: &[Option<Tiling>]) {
    for range in blocks(layers) {
        let (Some(conv), pool) = (range.end.checked_sub(2), range.end - 1) else { continue };
        let Some(target) = steps.iter().find(|step| step.layer_idx == pool).map(|step| step.target) else {
            continue;
        };
        if !is_pooled(&layers[range.clone()], &tilings[range], target.value_size) {
            continue;
        }
        let [height, n_rows] = [conv, pool].map(|i| layers[i].output.height as usize);
        for step in steps.iter_mut() {
            if step.layer_idx == pool {
                step.is_done = true;
            } else if step.layer_idx == conv {
                let (first, end) = (step.first_row, step.first_row + step.n_rows);
                // The last row may be half of a window: there the padding decides.
                let (first, end) = (first / 2, if end == height { n_rows } else { end / 2 });
                step.pooled = Some(Pooled {
                    target,
                    target_row: first + target.halo,
                    n_rows: end - first,
                    pad_above: target.halo == 1 && first == 0,
                    pad_below: target.halo == 1 && end == n_rows,
                });
            }
        }
    }
}
