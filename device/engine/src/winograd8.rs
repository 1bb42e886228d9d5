//! What the three requantized Winograd methods of a kernel take: a run of windows, a batch at a row of taps, a run of tiles.
//!
//! ```text
//! run      neighbouring tiles, i8 NHWC ─ winograd8_input ─► taps, i8: all of the form or some rows of them
//! batch    up to 12 tiles            ─── winograd8_row ───► TILE column sums of a row of taps, i32    one group of 8 outputs
//!            for each tap of the row: [channels / 8][tiles][8] x [channels / 4][8][4], times its scales; then times A'
//! run      WINDOW rows of column sums ── winograd8_output ► TILE x TILE pixels a tile, i8
//! ```
//!
//! Matrices and arithmetic are `vgg_edge_blob::winograd8`; sums wrap modulo 2^32 in a file that breaks the writer's promise. So
//! every kernel gives the bytes of `scalar`.

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use vgg_edge_blob::winograd8::{Form, MAX_WINDOW};

use crate::kernels::{GROUP, Requant};
use crate::winograd::{MAX_BATCH, check_channels, check_end};

/// The windows of some neighbouring tiles of a row of tiles, and where their taps go.
#[derive(Clone, Debug)]
pub struct Winograd8Input<'a> {
    /// Tile size and matrices.
    pub form: Form,
    /// Activations, NHWC.
    pub input: &'a [i8],
    /// First value of each row of the windows: as many as the form's window has. Rows that no output needs may repeat another
    /// one.
    pub rows: &'a [usize],
    /// Values from there to the first channel of each column: of `n` tiles, `n * tile + 2`, of which tile `p` reads a window
    /// from column `p * tile` on.
    pub columns: &'a [usize],
    /// Channels to transform, a multiple of 8.
    pub channels: usize,
    /// Rows of taps to compute, within the form's window.
    pub tap_rows: Range<usize>,
    /// Channel `c` of tap `t` (of all taps, row by row) is multiplied by `multipliers[t * multiplier_stride + c]`, Q15, not
    /// negative.
    pub multipliers: &'a [i16],
    /// Values between the multipliers of two taps.
    pub multiplier_stride: usize,
    /// What is added to each channel of tap (1, 1).
    pub offsets: &'a [i16],
    /// Channel `c` of tap `(i, j)` of tile `p` becomes `taps[t * tap_stride + c / 8 * group_stride + p * 8 + c % 8]`, with
    /// `t = window * (i - tap_rows.start) + j`.
    pub tap_stride: usize,
    /// Values between groups of 8 channels: at least 8 a tile.
    pub group_stride: usize,
}

/// One row of taps of a batch of tiles times one group of 8 output channels.
#[derive(Clone, Copy, Debug)]
pub struct Winograd8Row<'a> {
    /// Tile size and matrices.
    pub form: Form,
    /// Transformed input: tap `j` is `[channels / 8][n_tiles][8]` from `values[j * tap_stride]` on.
    pub values: &'a [i8],
    /// Values between taps.
    pub tap_stride: usize,
    /// Tiles, 1 to [`MAX_BATCH`].
    pub n_tiles: usize,
    /// Input channels, a multiple of 8.
    pub channels: usize,
    /// Transformed weights, `[window taps][channels / 4][8 outputs][4 channels]`, in [-127, 127].
    pub weights: &'a [i8],
    /// `[window taps][8]`, Q31, not negative.
    pub scales: &'a [i32],
}

/// The column sums of some neighbouring tiles of a row of tiles and one group of 8 output channels, and where their pixels go.
#[derive(Clone, Copy, Debug)]
pub struct Winograd8Output<'a> {
    /// Tile size and matrices.
    pub form: Form,
    /// Channel `o` of column `x` of the row `i` of taps of tile `p` is `sums[(tile * i + x) * column_stride + 8 * p + o]`.
    pub sums: &'a [i32],
    /// Values between columns.
    pub column_stride: usize,
    /// Added to the sum of tap (1, 1): at row 1, to each column. With it, sums are in (-2^30, 2^30): the writer has proved it.
    pub bias: &'a [i32; GROUP],
    /// The requantization of the group.
    pub requant: Requant<'a>,
    /// Rows of the tiles that are in the map, 1 to the form's tile.
    pub n_rows: usize,
    /// Columns of all tiles together that are in the map: only the last tile may have fewer than the form's.
    pub n_columns: usize,
    /// Pixel `(y, x)` of the run becomes `words[y * row_stride + x * pixel_stride]`: 8 channels, i8, channel 0 in the lowest
    /// byte.
    pub words: &'a [AtomicU64],
    /// Words between rows.
    pub row_stride: usize,
    /// Words between neighbouring pixels.
    pub pixel_stride: usize,
}

impl Winograd8Input<'_> {
    /// Tiles of the run.
    pub fn n_tiles(&self) -> usize {
        self.columns.len().saturating_sub(2) / self.form.tile()
    }

    /// Checks every extent against its slice, once a call, so that a kernel may then read and write by pointer.
    pub(crate) fn check(&self, taps: &[i8]) {
        let Self { form, rows, columns, channels, multiplier_stride, tap_stride, group_stride, .. } = *self;
        let (window, n_tiles) = (form.window(), self.n_tiles());
        check_channels(channels);
        let Range { start, end } = self.tap_rows;
        assert!(start < end && end <= window, "rows {start}..{end} of taps, expected some of 0..{window}");
        assert!(rows.len() == window, "{} rows, expected {window}", rows.len());
        assert!(
            n_tiles > 0 && columns.len() == n_tiles * form.tile() + 2,
            "{} columns, expected 2 more than of whole tiles of {}",
            columns.len(),
            form.tile()
        );
        let last = |places: &[usize]| places.iter().copied().fold(0, Ord::max);
        let input_end = last(rows).checked_add(last(columns)).and_then(|n| n.checked_add(channels));
        check_end("input", self.input.len(), input_end);
        let last_tap = (window * end - 1).checked_mul(multiplier_stride);
        check_end("multipliers", self.multipliers.len(), last_tap.and_then(|n| n.checked_add(channels)));
        check_end("offsets", self.offsets.len(), Some(channels));
        assert!(group_stride >= n_tiles * GROUP, "groups {group_stride} apart, too few for {n_tiles} tiles");
        let last_tap = (window * (end - start) - 1).checked_mul(tap_stride);
        let last_group = (channels / GROUP - 1).checked_mul(group_stride);
        let end = last_tap.zip(last_group).and_then(|(t, g)| t.checked_add(g)?.checked_add(n_tiles * GROUP));
        check_end("taps", taps.len(), end);
    }
}

impl Winograd8Row<'_> {
    /// Checks every extent against its slice, as for [`Winograd8Input`].
    pub(crate) fn check(&self, sums: &[i32]) {
        let Self { form, n_tiles, channels, tap_stride, .. } = *self;
        let window = form.window();
        check_channels(channels);
        assert!((1..=MAX_BATCH).contains(&n_tiles), "{n_tiles} tiles, expected 1 to {MAX_BATCH}");
        let last_tap = (window - 1).checked_mul(tap_stride);
        let end = last_tap.zip(channels.checked_mul(n_tiles)).and_then(|(tap, n)| tap.checked_add(n));
        check_end("values", self.values.len(), end);
        check_end("weights", self.weights.len(), channels.checked_mul(window * GROUP));
        check_end("scales", self.scales.len(), Some(window * GROUP));
        check_end("sums", sums.len(), Some(form.tile() * n_tiles * GROUP));
    }
}

impl Winograd8Output<'_> {
    /// Tiles of the run.
    pub fn n_tiles(&self) -> usize {
        self.n_columns.div_ceil(self.form.tile())
    }

    /// Checks every extent against its slice, as for [`Winograd8Input`].
    pub(crate) fn check(&self) {
        let Self { form, n_rows, n_columns, row_stride, pixel_stride, column_stride, .. } = *self;
        let (tile, n_tiles) = (form.tile(), self.n_tiles());
        assert!((1..=tile).contains(&n_rows), "tiles of {n_rows} rows, expected 1 to {tile}");
        assert!(
            (1..=MAX_BATCH).contains(&n_tiles),
            "{n_columns} columns, expected 1 to {}",
            MAX_BATCH * tile
        );
        let last = (form.window() * tile - 1).checked_mul(column_stride);
        check_end("sums", self.sums.len(), last.and_then(|n| n.checked_add(n_tiles * GROUP)));
        let last_row = (n_rows - 1).checked_mul(row_stride);
        let last_column = (n_columns - 1).checked_mul(pixel_stride);
        let end = last_row.zip(last_column).and_then(|(r, c)| r.checked_add(c)?.checked_add(1));
        check_end("output", self.words.len(), end);
        self.requant.check();
    }
}

/// `MAX_WINDOW` values of which a form uses the first.
pub(crate) type PerTap<T> = [T; MAX_WINDOW];
