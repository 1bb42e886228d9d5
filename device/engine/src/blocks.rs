//! Int8 strips over blocks of 8 channels, what `smmla` multiplies: the activations, and how a map becomes blocks.
//!
//! ```text
//! map      [row][x][channels]              NHWC, what layers hand on
//! blocks   [row][channels / 8][x][8]       two neighbouring pixels of a block are one register; columns of a filter are 8 apart
//! picture  [row][window / 8][x][8]         first layer: all values of a pixel's window, `kernel * kernel * channels`
//!
//! S8Blocks: acc[p][o] = bias[o] + sum over r, t, b, k of
//!     input[r * row_stride + b * block_stride + (p + t) * 8 + k] * weights[((r * n_columns + t) * n_blocks + b) * 64 + o * 8 + k]
//! ```
//!
//! A step's rows are copied once, and every group of 8 outputs reads the copy. A dense layer is one pixel: its map is blocks
//! as it lies.

use vgg_edge_blob::layout::padded;
use vgg_edge_blob::{Layer, LayerOp, S8Layout, Weights};

use crate::kernels::{GROUP, S8Output, check_words};

/// One int8 strip over blocks, with weights in layout `s8-o8k8`.
#[derive(Clone, Copy, Debug)]
pub struct S8Blocks<'a> {
    /// Activations in blocks of 8, from the first block that pixel 0 reads.
    pub input: &'a [i8],
    /// Output pixels, at least 1. Where they are odd, and more than 1, the pixel behind the last one is read, too; it
    /// does not count.
    pub n_pixels: usize,
    /// Rows of the filter.
    pub n_rows: usize,
    /// Values between rows.
    pub row_stride: usize,
    /// Columns of the filter: pixel `p` reads the pixels `p..p + n_columns`.
    pub n_columns: usize,
    /// Blocks of a pixel.
    pub n_blocks: usize,
    /// Values between blocks.
    pub block_stride: usize,
    /// Packed weights of the group, `[n_rows][n_columns][n_blocks][8 outputs][8 values]`, in [-127, 127].
    pub weights: &'a [i8],
    /// Start value of every accumulator, as for [`S8Strip`](crate::kernels::S8Strip).
    pub bias: &'a [i32; GROUP],
}

impl S8Blocks<'_> {
    /// Checks every extent against its slice, once a call, so that a kernel may then read and write by pointer.
    pub(crate) fn check(&self, out: &S8Output<'_>) {
        let Self { n_pixels, n_rows, row_stride, n_columns, n_blocks, block_stride, .. } = *self;
        assert!(
            n_pixels > 0 && n_rows > 0 && n_columns > 0 && n_blocks > 0,
            "empty strip: n_pixels {n_pixels}, n_rows {n_rows}, n_columns {n_columns}, n_blocks {n_blocks}"
        );
        let pixels = if n_pixels == 1 { Some(1) } else { n_pixels.checked_next_multiple_of(2) };
        let pixels = pixels.and_then(|n| n.checked_add(n_columns - 1)?.checked_mul(GROUP));
        let (last_row, last_block) =
            ((n_rows - 1).checked_mul(row_stride), (n_blocks - 1).checked_mul(block_stride));
        let end = last_row.zip(last_block).and_then(|(r, b)| r.checked_add(b)?.checked_add(pixels?));
        assert!(
            end.is_some_and(|end| end <= self.input.len()),
            "input has {} values, too few for {n_pixels} pixels of {n_rows} rows {row_stride} apart of {n_columns} columns of {n_blocks} blocks {block_stride} apart",
            self.input.len()
        );
        let end = n_rows.checked_mul(n_columns).and_then(|n| n.checked_mul(n_blocks)?.checked_mul(8 * GROUP));
        assert!(
            end.is_some_and(|end| end <= self.weights.len()),
            "weights have {} values, too few for {n_rows} rows of {n_columns} columns of {n_blocks} blocks times {GROUP} channels",
            self.weights.len()
        );
        match out {
            S8Output::Activations { requant, words, stride } => {
                check_words(words.len(), n_pixels, *stride, 1);
                requant.check();
            }
            S8Output::Accumulators(words) => check_words(words.len(), n_pixels, 4, 4),
        }
    }
}

/// The copy of a convolution's input: rows of `n_blocks x width` blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockMap {
    /// Blocks of a pixel.
    pub(crate) n_blocks: usize,
    /// Pixels of a row, padding inside.
    pub(crate) width: usize,
    /// Rows of the filter that the strips see, and columns: 1 where a pixel's blocks are its whole window.
    pub(crate) side: usize,
}

/// Blocks that a strip may read behind the last row: see [`S8Blocks::n_pixels`].
const SLACK: usize = 1;

impl BlockMap {
    /// What layer `layer_idx` needs; `None` when it reads its map as it lies.
    pub(crate) fn of(layer: &Layer<'_>, layer_idx: usize) -> Option<Self> {
        let LayerOp::Conv { kernel, linear } = layer.op else { return None };
        let Weights::S8 { layout: S8Layout::K8, .. } = linear.weights else { return None };
        let (side, width) = (usize::from(kernel), layer.input.width as usize);
        Some(match layer_idx {
            0 => Self { n_blocks: linear.run_len as usize / GROUP, width, side: 1 },
            _ => Self {
                n_blocks: padded(layer.input.channels) as usize / GROUP,
                width: width + side - 1,
                side,
            },
        })
    }

    /// Blocks of a row.
    pub(crate) fn row_len(&self) -> usize {
        self.n_blocks * self.width
    }

    /// Rows for `n_rows` output rows.
    pub(crate) fn rows(&self, n_rows: usize) -> usize {
        n_rows + self.side - 1
    }

    /// Bytes for `n_rows` output rows.
    pub(crate) fn bytes(&self, n_rows: usize) -> usize {
        (self.rows(n_rows) * self.row_len() + SLACK) * GROUP
    }
}
