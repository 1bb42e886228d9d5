//! What the four Winograd F(4x4,3x3) methods of a kernel take: a window, filters, a batch at a row of taps, a tile.
//!
//! ```text
//! window   6x6 pixels, i8 NHWC ──── winograd_input ──► taps, i16: all 36 or some rows of 6
//! batch    up to 12 tiles      ──── winograd_row ────► 4 column sums of a row of taps, i32     one group of 8 outputs
//!            for each of 6 taps: [channels / 8][tiles][8] x [channels][8], then times A'
//! filters  3x3, i8          ──── winograd_filters ► their taps, i16, where the file has none
//! tiles    6 rows of 4 column sums ─ winograd_output ► 4x4 pixels, i8
//! ```
//!
//! Matrices and arithmetic are `vgg_edge_blob::winograd`: everything is exact modulo 2^16 and 2^32, so results are equal on
//! every kernel, and equal to the direct convolution.

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use vgg_edge_blob::winograd::{TILE, WINDOW};

use crate::kernels::{GROUP, Requant};

/// Most tiles of a batch: 12 times 8 i32 sums fill 24 of Arm's 32 vector registers.
pub const MAX_BATCH: usize = 12;

/// Taps, down and across, that a [`Cut`] tile does not have.
pub const CUT_TAPS: Range<usize> = 3..5;

/// What is left of a tile at an edge, where one or two of its rows or columns are in the map: F(2,3) in that direction,
/// on the taps 0, 1, 2 and 5 of the same weights.
///
/// ```text
///      4  0 -4  0
/// B =  0  3  3  0        A =  1  1  1  0        24 times two outputs, as F(4,3) gives 24 times four
///      0  3 -3  0             0  1 -1  1
///      0 -4  0  4
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// No rows 3 and 4 of taps.
    pub short: bool,
    /// No columns 3 and 4 of taps.
    pub narrow: bool,
}

/// The 6x6 pixels of one tile, and where its taps go.
#[derive(Clone, Debug)]
pub struct WinogradInput<'a> {
    /// Activations, NHWC.
    pub input: &'a [i8],
    /// First value of each row of the window. Rows that no output needs may repeat another one.
    pub rows: [usize; WINDOW],
    /// Values from there to the first channel of each column of the window.
    pub columns: [usize; WINDOW],
    /// Channels to transform, a multiple of 8.
    pub channels: usize,
    /// Rows of taps to compute, within `0..6`.
    pub tap_rows: Range<usize>,
    /// Taps that the tile does not have: their places stay as they are. Where the kernel
    /// [has cut tiles](crate::kernels::Kernel::has_cut_tiles).
    pub cut: Cut,
    /// Channel `c` of tap `(i, j)` becomes `taps[t * tap_stride + c / 8 * group_stride + c % 8]`, with
    /// `t = 6 * (i - tap_rows.start) + j`.
    pub tap_stride: usize,
    /// Values between groups of 8 channels.
    pub group_stride: usize,
}

/// The 3x3 filters of 8 outputs, as direct convolution has them, and the rows of taps to make of them.
#[derive(Clone, Debug)]
pub struct WinogradFilters<'a> {
    /// `[3 rows][3 columns][channels / 4][8 outputs][4 channels]`, layout `s8-o8k4`. Of rows 0 and 5 of the taps, only the first or
    /// the last row is read.
    pub filters: &'a [i8],
    /// Input channels, a multiple of 8.
    pub channels: usize,
    /// Rows of taps to make, within `0..6`. Rows 1 and 2, and 3 and 4, are made faster together.
    pub tap_rows: Range<usize>,
}

/// One row of 6 taps of a batch of tiles times one group of 8 output channels.
#[derive(Clone, Copy, Debug)]
pub struct WinogradRow<'a> {
    /// Transformed input: tap `j` is `[channels / 8][n_tiles][8]` from `values[j * tap_stride]` on. Of a last group of 4
    /// channels, the other places do not count.
    pub values: &'a [i16],
    /// Values between taps.
    pub tap_stride: usize,
    /// Tiles, 1 to [`MAX_BATCH`].
    pub n_tiles: usize,
    /// Input channels, a multiple of 4.
    pub channels: usize,
    /// Transformed weights, `[6 taps][channels][8]`.
    pub weights: &'a [i16],
    /// All tiles are without the taps of [`CUT_TAPS`]; columns 2 and 3 of the sums then have no meaning.
    pub narrow: bool,
}

/// The column sums of a run of tiles, neighbours in a row of tiles, and one group of 8 output channels, and where their pixels
/// go.
#[derive(Clone, Copy, Debug)]
pub struct WinogradOutput<'a> {
    /// Channel `o` of column `x` of tile `p` of the run at the row `i` of taps is
    /// `sums[(4 * i + x) * column_stride + 8 * p + o]`.
    pub sums: &'a [i32],
    /// Values between columns.
    pub column_stride: usize,
    /// Biases of the group, zero-point correction inside. With them, accumulators are in [-2^25, 2^25): the writer
    /// has proved it. What [`WinogradOutput::sums`] and biases give is 576 times an accumulator, and so a multiple of 64; of a file
    /// in which it is none, pixels may differ from one kernel to the other.
    pub bias: &'a [i32; GROUP],
    /// The requantization of the group.
    pub requant: Requant<'a>,
    /// The tiles are without the rows of taps of [`CUT_TAPS`]; no more than 2 of their rows are in the map.
    pub short: bool,
    /// Rows of the tiles that are in the map, 1 to 4.
    pub n_rows: usize,
    /// Columns of the run that are in the map, 1 to `4 * MAX_BATCH`: 4 of each tile, fewer of the last.
    pub n_columns: usize,
    /// Pixel `(y, x)` becomes `words[y * row_stride + x * pixel_stride]`: 8 channels, i8, channel 0 in the lowest
    /// byte.
    pub words: &'a [AtomicU64],
    /// Words between rows.
    pub row_stride: usize,
    /// Words between neighbouring pixels.
    pub pixel_stride: usize,
}

impl WinogradInput<'_> {
    /// Checks every extent against its slice, once a call, so that a kernel may then read and write by pointer.
    pub(crate) fn check(&self, taps: &[i16]) {
        let Self { rows, columns, channels, tap_stride, group_stride, .. } = *self;
        check_channels(channels);
        check_rows(&self.tap_rows);
        let last = |places: [usize; WINDOW]| places.into_iter().fold(0, Ord::max);
        let input_end = last(rows).checked_add(last(columns)).and_then(|n| n.checked_add(channels));
        check_end("input", self.input.len(), input_end);
        let last_tap = (WINDOW * self.tap_rows.len() - 1).checked_mul(tap_stride);
        let last_group = (channels / GROUP - 1).checked_mul(group_stride);
        let end = last_tap.zip(last_group).and_then(|(t, g)| t.checked_add(g)?.checked_add(GROUP));
        check_end("taps", taps.len(), end);
    }
}

impl WinogradFilters<'_> {
    /// Checks every extent against its slice, as for [`WinogradInput`].
    pub(crate) fn check(&self, weights: &[i16]) {
        let channels = self.channels;
        check_channels(channels);
        check_rows(&self.tap_rows);
        check_end("filters", self.filters.len(), channels.checked_mul(9 * GROUP));
        check_end("weights", weights.len(), channels.checked_mul(self.tap_rows.len() * WINDOW * GROUP));
    }
}

impl WinogradRow<'_> {
    /// Checks every extent against its slice, as for [`WinogradInput`].
    pub(crate) fn check(&self, sums: &[i32]) {
        let Self { n_tiles, channels, tap_stride, .. } = *self;
        assert!(
            channels > 0 && channels.is_multiple_of(GROUP / 2),
            "{channels} channels, expected a multiple of {}",
            GROUP / 2
        );
        assert!((1..=MAX_BATCH).contains(&n_tiles), "{n_tiles} tiles, expected 1 to {MAX_BATCH}");
        let last_tap = (WINDOW - 1).checked_mul(tap_stride);
        let end = last_tap
            .zip(channels.next_multiple_of(GROUP).checked_mul(n_tiles))
            .and_then(|(tap, n)| tap.checked_add(n));
        check_end("values", self.values.len(), end);
        check_end("weights", self.weights.len(), channels.checked_mul(WINDOW * GROUP));
        check_end("sums", sums.len(), Some(TILE * n_tiles * GROUP));
    }
}

impl WinogradOutput<'_> {
    /// Checks every extent against its slice, as for [`WinogradInput`].
    pub(crate) fn check(&self) {
        let Self { n_rows, n_columns, row_stride, pixel_stride, .. } = *self;
        assert!(
            (1..=TILE).contains(&n_rows) && (1..=MAX_BATCH * TILE).contains(&n_columns),
            "tiles of {n_rows}x{n_columns}, expected 1 to {TILE} rows and 1 to {} columns",
            MAX_BATCH * TILE
        );
        assert!(!self.short || n_rows <= 2, "short tile of {n_rows} rows, expected 1 or 2");
        let end = (WINDOW * TILE - 1).checked_mul(self.column_stride);
        let end = end.and_then(|n| n.checked_add(n_columns.div_ceil(TILE) * GROUP));
        check_end("sums", self.sums.len(), end);
        let last_row = (n_rows - 1).checked_mul(row_stride);
        let last_column = (n_columns - 1).checked_mul(pixel_stride);
        let end = last_row.zip(last_column).and_then(|(r, c)| r.checked_add(c)?.checked_add(1));
        check_end("output", self.words.len(), end);
        self.requant.check();
    }
}

fn check_rows(&Range { start, end }: &Range<usize>) {
    assert!(start < end && end <= WINDOW, "rows {start}..{end} of taps, expected some of 0..{WINDOW}");
}

pub(crate) fn check_channels(channels: usize) {
    assert!(
        channels > 0 && channels.is_multiple_of(GROUP),
        "{channels} channels, expected a multiple of {GROUP}"
    );
}

/// Checks that a slice of `len` values reaches to `end`, which is `None` beyond all addresses.
pub(crate) fn check_end(what: &str, len: usize, end: Option<usize>) {
    assert!(end.is_some_and(|end| end <= len), "{what} has {len} values, too few: {end:?} needed");
}
