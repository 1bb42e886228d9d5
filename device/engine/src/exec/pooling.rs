//! Max-pool and global average pool.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use vgg_edge_blob::layout::{ALIGN, GROUP, Line};
use vgg_edge_blob::requant::requantize;
use vgg_edge_blob::winograd8::MAX_TILE;
use vgg_edge_blob::{Layer, LayerOp, Padding};
use zerocopy::{FromBytes, FromZeros, IntoBytes, KnownLayout};

use super::Context;
use crate::arena;
use crate::kernels::MAX_BATCH;
use crate::plan::Step;
use crate::pool;

impl Context<'_, '_> {
    pub(super) fn max_pool(&self, step: &Step, layer: &Layer<'_>, bytes: &mut [u8]) {
        if step.target.value_size == 1 {
            self.pool_rows::<i8>(step, layer, bytes, &|a, b| if b > a { b } else { a });
        } else {
            self.pool_rows::<f32>(step, layer, bytes, &|a, b| if b > a { b } else { a });
        }
    }

    fn pool_rows<T>(
        &self,
        step: &Step,
        layer: &Layer<'_>,
        bytes: &mut [u8],
        larger: &(impl Fn(T, T) -> T + Sync),
    ) where
        T: Copy + Send + Sync + FromBytes + IntoBytes + KnownLayout + zerocopy::Immutable,
    {
        let LayerOp::MaxPool { stride, padding } = layer.op else { return };
        let stride = usize::from(stride);
        let (source, target) = (&step.source, &step.target);
        let (from, to) = arena::split(bytes, source.range(), target.range());
        let from = <[T]>::ref_from_bytes(from).unwrap_or(&[]);
        let to = <[T]>::mut_from_bytes(to).unwrap_or(&mut []);
        let channels = source.channels;
        // Behind the lower and right edge a "same" window sees the edge again: the maximum stays the same.
        let below = |row: usize| match padding {
            Padding::Same if (step.first_row + row) * stride + 1 >= layer.input.height as usize => 0,
            _ => source.pitch(),
        };
        let rows = &mut to[step.target_row * target.pitch()..][..step.n_rows * target.pitch()];
        pool::each_chunk(self.executor, rows, target.pitch(), step.n_rows, &|row, to| {
            let top = (step.source_row + row * stride + source.halo) * source.pitch();
            let pixels = to[target.halo * channels..].chunks_exact_mut(channels).take(target.width);
            for (x, out) in pixels.enumerate() {
                let right = (x * stride + 1).min(source.width - 1);
                let pixel = |column: usize, down: usize| {
                    &from[top + down + (column + source.halo) * channels..][..channels]
                };
                let (a, b) = (pixel(x * stride, 0), pixel(right, 0));
                let (c, d) = (pixel(x * stride, below(row)), pixel(right, below(row)));
                // Over slices of one length: compiled to vector instructions.
                for ((((out, &a), &b), &c), &d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                    *out = larger(larger(a, b), larger(c, d));
                }
            }
        });
    }
}

/// Pixels of a run of tiles, 8 channels of int8, which are pooled before they go to the map.
pub(super) struct Tiles {
    /// `[row][column][8]`.
    pixels: [Line; ROWS * COLUMNS / (ALIGN / GROUP)],
    /// The larger of two rows.
    row: [[u8; 2 * GROUP]; COLUMNS / 2],
    /// Pooled.
    words: [[u8; GROUP]; COLUMNS / 2],
}

/// Most rows and columns of a run.
const ROWS: usize = MAX_TILE;
const COLUMNS: usize = MAX_BATCH * MAX_TILE;

impl Tiles {
    pub(super) fn new() -> Self {
        let pixels = core::array::from_fn(|_| Line::new_zeroed());
        Self { pixels, row: [[0; 2 * GROUP]; COLUMNS / 2], words: [[0; GROUP]; COLUMNS / 2] }
    }

    /// Lets `write` store pixels: it gets words and the number of them between rows.
    pub(super) fn fill(&mut self, write: impl FnOnce(&[AtomicU64], usize)) {
        let words = <[AtomicU64]>::mut_from_bytes(self.pixels.as_mut_bytes());
        write(words.map_or(&[], |words| words), COLUMNS);
    }

    /// Pools windows of two by two of the first `(rows, columns)` pixels into `(rows, columns)` words; a window that leaves the
    /// pixels sees the last of them again.
    pub(super) fn pool(
        &mut self,
        (height, width): (usize, usize),
        (rows, columns): (usize, usize),
        to: &[AtomicU64],
        (row_stride, pixel_stride): (usize, usize),
    ) {
        let larger = |a: u8, b: u8| (a as i8).max(b as i8) as u8;
        let pixels = self.pixels.as_bytes();
        for y in 0..rows {
            // A loop a step, over bytes in memory: compiled to vector instructions, which words would not be.
            let row = |y: usize| &pixels[y.min(height - 1) * COLUMNS * GROUP..][..width * GROUP];
            let both = self.row.as_flattened_mut();
            for ((m, &a), &b) in both.iter_mut().zip(row(2 * y)).zip(row(2 * y + 1)) {
                *m = larger(a, b);
            }
            if width % 2 == 1 {
                both.copy_within((width - 1) * GROUP..width * GROUP, width * GROUP);
            }
            for (word, pair) in self.words.iter_mut().zip(&self.row[..columns]) {
                let (left, right) = pair.split_at(GROUP);
                for ((m, &a), &b) in word.iter_mut().zip(left).zip(right) {
                    *m = larger(a, b);
                }
            }
            for (x, word) in self.words[..columns].iter().enumerate() {
                to[y * row_stride + x * pixel_stride].store(u64::from_le_bytes(*word), Relaxed);
            }
        }
    }
}

/// Mean over rows and columns. int8: the i32 sum of `x - zero_point`, requantized; f32: the sum in row order,
/// divided once.
pub(super) fn global_avg(
    step: &Step,
    layer: &Layer<'_>,
    multiplier: i32,
    shift: i32,
    scratch: &Range<usize>,
    bytes: &mut [u8],
) {
    let (source, target) = (&step.source, &step.target);
    let channels = source.channels;
    let (maps, scratch) = bytes.split_at_mut(scratch.start);
    let (from, to) = arena::split(maps, source.range(), target.range());
    let pixels = (source.width * (source.rows - 2 * source.halo)).max(1);
    if source.value_size == 1 {
        let Ok((sums, _)) = <[i32]>::mut_from_prefix_with_elems(scratch, channels) else { return };
        sums.fill(0);
        for pixel in from.chunks_exact(channels).take(pixels) {
            for (sum, &v) in sums.iter_mut().zip(pixel) {
                *sum = sum.wrapping_add(i32::from(v as i8) - i32::from(layer.in_quant.zero_point));
            }
        }
        for (out, &sum) in to.iter_mut().zip(&*sums) {
            *out = requantize(sum, multiplier, shift, layer.out_quant.zero_point) as u8;
        }
    } else {
        let from = <[f32]>::ref_from_bytes(from).unwrap_or(&[]);
        let Ok((sums, _)) = <[f32]>::mut_from_prefix_with_elems(to, channels) else { return };
        sums.fill(0.0);
        for pixel in from.chunks_exact(channels).take(pixels) {
            for (sum, &v) in sums.iter_mut().zip(pixel) {
                *sum += v;
            }
        }
        for sum in sums {
            *sum /= pixels as f32;
        }
    }
}
