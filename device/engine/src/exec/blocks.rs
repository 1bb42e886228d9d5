//! Steps whose weights are in layout `s8-o8k8`: the input rows become blocks, then rows and output groups become strips.
//!
//! ```text
//! map NHWC ─► scratch [row][channels / 8][x][8] ─► strips        a convolution
//! map NHWC ──────────────────────────────────────► one strip     a dense layer
//! ```

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use vgg_edge_blob::layout::{GROUP, S8Params};
use vgg_edge_blob::{Layer, Linear};
use zerocopy::{FromBytes, IntoBytes};

use super::Context;
use super::linear::{Cut, Places};
use crate::arena;
use crate::blocks::{BlockMap, S8Blocks};
use crate::kernels::{Requant, S8Output};
use crate::plan::Step;
use crate::pool;

/// 8 values.
type Block = [u8; GROUP];

/// A layer's weights and what goes with them.
pub(super) struct Filters<'a> {
    pub(super) layer: &'a Layer<'a>,
    pub(super) linear: &'a Linear<'a>,
    pub(super) weights: &'a [i8],
    pub(super) params: &'a [S8Params],
    /// Accumulators stay in the target.
    pub(super) gives_logits: bool,
}

impl Context<'_, '_> {
    pub(super) fn blocks(
        &self,
        step: &Step,
        filters: &Filters<'_>,
        scratch: &Range<usize>,
        bytes: &mut [u8],
    ) {
        let (maps, scratch) = bytes.split_at_mut(scratch.start);
        let (from, to) = arena::split(maps, step.source.range(), step.target.range());
        let to = <[AtomicU64]>::mut_from_bytes(to).map_or(&[][..], |words| words);
        let Some(map) = BlockMap::of(filters.layer, step.layer_idx) else {
            let n_blocks = filters.linear.run_len as usize / GROUP;
            let map = BlockMap { n_blocks, width: 1, side: 1 };
            return self.strips(step, filters, &map, &from[step.source_row * step.source.pitch()..], to);
        };
        let (blocks, _) = scratch.split_at_mut(map.bytes(step.n_rows));
        let rows = <[Block]>::mut_from_bytes(blocks).unwrap_or(&mut []);
        let is_picture = step.layer_idx == 0;
        pool::each_chunk(self.executor, rows, map.row_len(), map.rows(step.n_rows), &|r, row| {
            let from = &from[(step.source_row + r) * step.source.pitch()..];
            if is_picture {
                windows(filters.linear.run_len as usize, filters.layer, step, from, row);
            } else {
                row_to_blocks(from, map.n_blocks, row);
            }
        });
        self.strips(step, filters, &map, rows.as_bytes(), to);
    }

    fn strips(&self, step: &Step, filters: &Filters<'_>, map: &BlockMap, input: &[u8], to: &[AtomicU64]) {
        let input = <[i8]>::ref_from_bytes(input).unwrap_or(&[]);
        let (row_stride, block_stride) = (map.row_len() * GROUP, map.width * GROUP);
        let filter_len = map.side * map.side * map.n_blocks * GROUP * GROUP;
        let places = Places::new(step);
        let cut =
            Cut::new(places.n_groups, step.n_rows, filters.linear.weights.len(), self.executor.n_threads());
        self.executor.run(cut.n_tasks(), &|t| {
            cut.each(t, |group, row| {
                let S8Params { bias, multiplier, shift, .. } = &filters.params[group];
                let strip = S8Blocks {
                    input: &input[row * row_stride..],
                    n_pixels: step.target.width,
                    n_rows: map.side,
                    row_stride,
                    n_columns: map.side,
                    n_blocks: map.n_blocks,
                    block_stride,
                    weights: &filters.weights[group * filter_len..][..filter_len],
                    bias,
                };
                let words = &to[places.of(row, group)..];
                let zero_point = filters.layer.out_quant.zero_point;
                let requant = Requant { multiplier, shift, zero_point };
                let out = match filters.gives_logits {
                    true => S8Output::Accumulators(words),
                    false => S8Output::Activations { requant, words, stride: places.stride },
                };
                self.kernel.s8_blocks(&strip, out);
            });
        });
    }
}

/// A row of pixels of `n_blocks` blocks each, block by block.
fn row_to_blocks(from: &[u8], n_blocks: usize, row: &mut [Block]) {
    let pixels = from.as_chunks::<GROUP>().0;
    for (b, row) in row.chunks_exact_mut(row.len() / n_blocks).enumerate() {
        for (to, from) in row.iter_mut().zip(pixels[b..].iter().step_by(n_blocks)) {
            *to = *from;
        }
    }
}

/// The windows of a row of the picture, block by block. What lies behind a window's last value does not count.
fn windows(run_len: usize, layer: &Layer<'_>, step: &Step, from: &[u8], row: &mut [Block]) {
    let (channels, pitch) = (step.source.channels, step.source.pitch());
    let side = 1 + 2 * step.source.halo;
    let len = side * channels;
    debug_assert_eq!((side * len).next_multiple_of(GROUP), run_len, "{}", layer.name);
    for (b, row) in row.chunks_exact_mut(step.target.width).enumerate() {
        // The parts of this block: the values of filter row `r` are the window's from `r * len` on.
        let parts = (0..side).filter_map(|r| {
            let (first, end) = ((r * len).max(b * GROUP), ((r + 1) * len).min((b + 1) * GROUP));
            let bits = 8 * end.checked_sub(first).filter(|n| *n > 0)?;
            Some((r * pitch + first - r * len, u64::MAX >> (64 - bits), 8 * (first - b * GROUP)))
        });
        row.fill([0; GROUP]);
        for (start, mask, shift) in parts {
            for (x, to) in row.iter_mut().enumerate() {
                // A block may reach beyond the map's last value: buffers have room there.
                let Some(values) = from.get(start + x * channels..).and_then(|f| f.first_chunk()) else {
                    break;
                };
                let part = (u64::from_le_bytes(*values) & mask) << shift;
                *to = (u64::from_le_bytes(*to) | part).to_le_bytes();
            }
        }
    }
}
