//! What the Winograd methods of a kernel for f16 blobs take: a window, a batch at a row of taps, a tile.
//!
//! ```text
//! window   6x6 pixels, f32 NHWC ─ winograd16_input_f32 ─► taps, f32         all 36 or some rows of 6
//!                               ─ winograd16_input_f16 ─► taps, f16 bits
//! batch    up to 12 tiles       ─ winograd16_row_f32 ───► 4 column sums of a row of taps, f32     one group of 8 outputs
//!                               ─ winograd16_row_f16 ───► the same
//! tile     6 rows of 4 sums     ─ winograd16_output ────► 4x4 pixels, f32
//! ```
//!
//! Places are those of `winograd.rs`. The order of operations is `kernels/scalar_winograd16.rs`: floating point has no other
//! way to be equal everywhere.

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use vgg_edge_blob::winograd::{TILE, WINDOW};

use crate::kernels::GROUP;
use crate::winograd::{MAX_BATCH, check_channels, check_end};

/// The 6x6 pixels of one tile, and where its taps go.
#[derive(Clone, Debug)]
pub struct Winograd16Input<'a> {
    /// Activations, NHWC.
    pub input: &'a [f32],
    /// First value of each row of the window. Rows that no output needs may repeat another one.
    pub rows: [usize; WINDOW],
    /// Values from there to the first channel of each column of the window.
    pub columns: [usize; WINDOW],
    /// Channels to transform, a multiple of 8.
    pub channels: usize,
    /// Rows of taps to compute, within `0..6`.
    pub tap_rows: Range<usize>,
    /// What the input is multiplied by first, a power of two; 1 for f32 taps.
    pub scale: f32,
    /// Channel `c` of tap `(i, j)` becomes `taps[t * tap_stride + c / 8 * group_stride + c % 8]`, with
    /// `t = 6 * (i - tap_rows.start) + j`.
    pub tap_stride: usize,
    /// Values between groups of 8 channels.
    pub group_stride: usize,
}

/// One row of 6 taps of a batch of tiles times one group of 8 output channels.
#[derive(Clone, Copy, Debug)]
pub struct Winograd16Row<'a, V> {
    /// Transformed input: tap `j` is `[channels / 8][n_tiles][8]` from `values[j * tap_stride]` on; f32, or f16 bits.
    pub values: &'a [V],
    /// Values between taps.
    pub tap_stride: usize,
    /// Tiles, 1 to [`MAX_BATCH`].
    pub n_tiles: usize,
    /// Input channels, a multiple of 8.
    pub channels: usize,
    /// Transformed weights, `[6 taps][channels][8]`, f16 bits.
    pub weights: &'a [u16],
}

/// The column sums of one tile and one group of 8 output channels, and where its pixels go.
#[derive(Clone, Copy, Debug)]
pub struct Winograd16Output<'a> {
    /// Channel `o` of column `x` of the row `i` of taps is `sums[(4 * i + x) * column_stride + o]`.
    pub sums: &'a [f32],
    /// Values between columns.
    pub column_stride: usize,
    /// Biases of the group.
    pub bias: &'a [f32; GROUP],
    /// What sums are multiplied by before the bias is added.
    pub scale: f32,
    /// Clamp results at 0, and what NaN becomes: as in [`F16Strip`](crate::kernels::F16Strip).
    pub relu: bool,
    /// Rows of the tile that are in the map, 1 to 4.
    pub n_rows: usize,
    /// Columns of the tile that are in the map, 1 to 4.
    pub n_columns: usize,
    /// Pixel `(y, x)` becomes `words[y * row_stride + x * pixel_stride ..][..4]`: 8 channels, f32 bits, channel 0 in the
    /// lowest half of the first word.
    pub words: &'a [AtomicU64],
    /// Words between rows.
    pub row_stride: usize,
    /// Words between neighbouring pixels.
    pub pixel_stride: usize,
}

impl Winograd16Input<'_> {
    /// Checks every extent against its slice, once a call, so that a kernel may then read and write by pointer. `taps` is
    /// the number of places.
    pub(crate) fn check(&self, taps: usize) {
        let Self { rows, columns, channels, tap_stride, group_stride, .. } = *self;
        check_channels(channels);
        let Range { start, end } = self.tap_rows;
        assert!(start < end && end <= WINDOW, "rows {start}..{end} of taps, expected some of 0..{WINDOW}");
        let last = |places: [usize; WINDOW]| places.into_iter().fold(0, Ord::max);
        let input_end = last(rows).checked_add(last(columns)).and_then(|n| n.checked_add(channels));
        check_end("input", self.input.len(), input_end);
        let last_tap = (WINDOW * (end - start) - 1).checked_mul(tap_stride);
        let last_group = (channels / GROUP - 1).checked_mul(group_stride);
        let end = last_tap.zip(last_group).and_then(|(t, g)| t.checked_add(g)?.checked_add(GROUP));
        check_end("taps", taps, end);
    }
}

impl<V> Winograd16Row<'_, V> {
    /// Checks every extent against its slice, as for [`Winograd16Input`].
    pub(crate) fn check(&self, sums: &[f32]) {
        let Self { n_tiles, channels, tap_stride, .. } = *self;
        check_channels(channels);
        assert!((1..=MAX_BATCH).contains(&n_tiles), "{n_tiles} tiles, expected 1 to {MAX_BATCH}");
        let last_tap = (WINDOW - 1).checked_mul(tap_stride);
        let end = last_tap.zip(channels.checked_mul(n_tiles)).and_then(|(tap, n)| tap.checked_add(n));
        check_end("values", self.values.len(), end);
        check_end("weights", self.weights.len(), channels.checked_mul(WINDOW * GROUP));
        check_end("sums", sums.len(), Some(TILE * n_tiles * GROUP));
    }
}

impl Winograd16Output<'_> {
    /// Checks every extent against its slice, as for [`Winograd16Input`].
    pub(crate) fn check(&self) {
        let Self { n_rows, n_columns, row_stride, pixel_stride, .. } = *self;
        let inside = |n: usize| (1..=TILE).contains(&n);
        let side = "expected 1 to 4 a side";
        assert!(inside(n_rows) && inside(n_columns), "tile of {n_rows}x{n_columns}, {side}");
        let end = (WINDOW * TILE - 1).checked_mul(self.column_stride).and_then(|n| n.checked_add(GROUP));
        check_end("sums", self.sums.len(), end);
        let last_row = (n_rows - 1).checked_mul(row_stride);
        let last_column = (n_columns - 1).checked_mul(pixel_stride);
        let end = last_row.zip(last_column).and_then(|(r, c)| r.checked_add(c)?.checked_add(GROUP / 2));
        check_end("output", self.words.len(), end);
    }
}
