//! What Winograd's arithmetics do differently in the executor: the types of values and weights, the kernel's methods.
//!
//! ```text
//! Run     tiles next to one another in a row of tiles       a batch is one run, or some
//! Exact        i16 values and weights, from the file or made of its filters; a window a call, a run of tiles
//! Requantized  i8 values and weights, scales; a run a call
//! Float        f32 activations and sums, f32 or half-precision values, half-precision weights: `float.rs`
//! ```

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use vgg_edge_blob::layout::{GROUP, S8Params};
use vgg_edge_blob::winograd::{TILE, WINDOW};
use vgg_edge_blob::winograd8::Form;
use vgg_edge_blob::{Layer, S8Layout};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::kernels::{
    Cut, Kernel, Requant, Winograd8Input, Winograd8Output, Winograd8Row, WinogradFilters, WinogradInput,
    WinogradOutput, WinogradRow,
};

/// The windows of a run, some of their channels, and the rows of taps that are wanted.
pub(super) struct Windows<'a, I> {
    pub(super) input: &'a [I],
    /// First value of each row of the windows.
    pub(super) rows: &'a [usize],
    /// Values from there to the first of the channels, a column of the run.
    pub(super) columns: &'a [usize],
    pub(super) first_channel: usize,
    pub(super) channels: usize,
    pub(super) tap_rows: Range<usize>,
    pub(super) cut: Cut,
    pub(super) tap_stride: usize,
    pub(super) group_stride: usize,
}

/// A batch at a row of taps.
pub(super) struct RowOfTaps<'a, V> {
    pub(super) values: &'a [V],
    pub(super) tap_stride: usize,
    pub(super) n_tiles: usize,
    pub(super) channels: usize,
    pub(super) group: usize,
    pub(super) row: usize,
    pub(super) narrow: bool,
    /// What [`Arithmetic::make`] has made for the row.
    pub(super) made: &'a [V],
}

/// The pixels of a run, and its sums.
pub(super) struct Pixels<'a, S> {
    pub(super) sums: &'a [S],
    pub(super) column_stride: usize,
    pub(super) group: usize,
    pub(super) short: bool,
    pub(super) n_rows: usize,
    pub(super) n_columns: usize,
    pub(super) words: &'a [AtomicU64],
    pub(super) row_stride: usize,
    pub(super) pixel_stride: usize,
}

/// A layer's weights and what it takes to use them.
pub(super) trait Arithmetic: Sync {
    /// An activation.
    type Input: FromBytes + Immutable + Sync;
    /// A transformed activation.
    type Value: FromBytes + IntoBytes + Send + Sync;
    /// A sum over channels, 4 bytes.
    type Sum: FromBytes + IntoBytes + Send;

    /// Whether tiles at the right and lower edge may be [`Cut`].
    fn cuts(&self, _kernel: &dyn Kernel) -> bool {
        false
    }

    /// Transforms a run's windows.
    fn input(&self, kernel: &dyn Kernel, run: &Windows<'_, Self::Input>, taps: &mut [Self::Value]);

    /// Makes a group's weights at some rows of taps, `[rows][6 taps][channels][8 outputs]`, where the layer has filters.
    fn make(&self, _: &dyn Kernel, _group: usize, _tap_rows: &Range<usize>, _made: &mut [Self::Value]) {}

    /// Multiplies a batch at a row of taps.
    fn row(&self, kernel: &dyn Kernel, row: &RowOfTaps<'_, Self::Value>, sums: &mut [Self::Sum]);

    /// Makes a run's pixels.
    fn output(&self, kernel: &dyn Kernel, run: &Pixels<'_, Self::Sum>);
}

/// What makes activations of a group's sums.
fn requant<'a>(layer: &Layer<'_>, params: &'a S8Params) -> Requant<'a> {
    let zero_point = layer.out_quant.zero_point;
    Requant { multiplier: &params.multiplier, shift: &params.shift, zero_point }
}

/// Weights of exact Winograd.
#[derive(Clone, Copy)]
pub(super) enum ExactWeights<'a> {
    /// `[groups][36 taps][channels][8 outputs]`.
    Taps(&'a [i16]),
    /// Layout `s8-o8k4`: a thread makes taps of them as it needs them.
    Filters(&'a [i8]),
}

/// Exact Winograd.
pub(super) struct Exact<'a> {
    pub(super) layer: &'a Layer<'a>,
    pub(super) weights: ExactWeights<'a>,
    pub(super) params: &'a [S8Params],
    /// Channels that are multiplied: all that are stored, fewer where the input is the picture.
    pub(super) channels: usize,
}

impl Arithmetic for Exact<'_> {
    type Input = i8;
    type Value = i16;
    type Sum = i32;

    fn cuts(&self, kernel: &dyn Kernel) -> bool {
        kernel.has_cut_tiles()
    }

    fn input(&self, kernel: &dyn Kernel, run: &Windows<'_, i8>, taps: &mut [i16]) {
        for p in 0..(run.columns.len() - 2) / TILE {
            let window = WinogradInput {
                input: run.input,
                rows: core::array::from_fn(|i| run.rows[i]),
                columns: core::array::from_fn(|x| run.columns[p * TILE + x]),
                channels: run.channels,
                tap_rows: run.tap_rows.clone(),
                cut: run.cut,
                tap_stride: run.tap_stride,
                group_stride: run.group_stride,
            };
            kernel.winograd_input(&window, &mut taps[p * GROUP..]);
        }
    }

    fn make(&self, kernel: &dyn Kernel, group: usize, tap_rows: &Range<usize>, made: &mut [i16]) {
        if let ExactWeights::Filters(filters) = self.weights {
            let (channels, len) = (self.channels, 9 * self.channels * GROUP);
            let filters = &filters[group * len..][..len];
            kernel.winograd_filters(&WinogradFilters { filters, channels, tap_rows: tap_rows.clone() }, made);
        }
    }

    fn row(&self, kernel: &dyn Kernel, row: &RowOfTaps<'_, i16>, sums: &mut [i32]) {
        let &RowOfTaps { values, tap_stride, n_tiles, group, row, narrow, made, .. } = row;
        let channels = self.channels;
        let len = WINDOW * channels * GROUP;
        let weights = match self.weights {
            ExactWeights::Taps(taps) => &taps[(group * WINDOW + row) * len..][..len],
            ExactWeights::Filters(_) => made,
        };
        kernel.winograd_row(&WinogradRow { values, tap_stride, n_tiles, channels, weights, narrow }, sums);
    }

    fn output(&self, kernel: &dyn Kernel, run: &Pixels<'_, i32>) {
        let params = &self.params[run.group];
        kernel.winograd_output(&WinogradOutput {
            sums: run.sums,
            column_stride: run.column_stride,
            bias: &params.bias,
            requant: requant(self.layer, params),
            short: run.short,
            n_rows: run.n_rows,
            n_columns: run.n_columns,
            words: run.words,
            row_stride: run.row_stride,
            pixel_stride: run.pixel_stride,
        });
    }
}

/// Requantized Winograd.
pub(super) struct Requantized<'a> {
    pub(super) form: Form,
    pub(super) layout: S8Layout,
    pub(super) layer: &'a Layer<'a>,
    pub(super) weights: &'a [i8],
    pub(super) params: &'a [S8Params],
    /// Multipliers a tap and channel, then offsets.
    pub(super) input: &'a [i16],
    pub(super) scales: &'a [i32],
}

impl Arithmetic for Requantized<'_> {
    type Input = i8;
    type Value = i8;
    type Sum = i32;

    fn input(&self, kernel: &dyn Kernel, run: &Windows<'_, i8>, taps: &mut [i8]) {
        let n_taps = self.form.taps();
        let stored = self.input.len() / (n_taps + 1);
        let (multipliers, offsets) = self.input.split_at(n_taps * stored);
        let windows = Winograd8Input {
            form: self.form,
            input: run.input,
            rows: run.rows,
            columns: run.columns,
            channels: run.channels,
            tap_rows: run.tap_rows.clone(),
            multipliers: &multipliers[run.first_channel..],
            multiplier_stride: stored,
            offsets: &offsets[run.first_channel..],
            tap_stride: run.tap_stride,
            group_stride: run.group_stride,
        };
        kernel.winograd8_input(&windows, taps);
    }

    fn row(&self, kernel: &dyn Kernel, row: &RowOfTaps<'_, i8>, sums: &mut [i32]) {
        let &RowOfTaps { values, tap_stride, n_tiles, channels, group, row, .. } = row;
        let window = self.form.window();
        let at = group * window + row;
        let len = window * channels * GROUP;
        let row_of_taps = Winograd8Row {
            form: self.form,
            values,
            tap_stride,
            n_tiles,
            channels,
            weights: &self.weights[at * len..][..len],
            scales: &self.scales[at * window * GROUP..][..window * GROUP],
        };
        match self.layout {
            S8Layout::K4 => kernel.winograd8_row(&row_of_taps, sums),
            S8Layout::K8 => kernel.winograd8_row_k8(&row_of_taps, sums),
        }
    }

    fn output(&self, kernel: &dyn Kernel, run: &Pixels<'_, i32>) {
        let params = &self.params[run.group];
        kernel.winograd8_output(&Winograd8Output {
            form: self.form,
            sums: run.sums,
            column_stride: run.column_stride,
            bias: &params.bias,
            requant: requant(self.layer, params),
            n_rows: run.n_rows,
            n_columns: run.n_columns,
            words: run.words,
            row_stride: run.row_stride,
            pixel_stride: run.pixel_stride,
        });
    }
}
