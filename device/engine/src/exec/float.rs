//! Winograd of f16 blobs in the executor: f32 activations and sums, values in f32 or in half precision.

use vgg_edge_blob::layout::{F16Params, GROUP};
use vgg_edge_blob::winograd::{TILE, WINDOW};

use super::arithmetic::{Arithmetic, Pixels, RowOfTaps, Windows};
use crate::kernels::{Kernel, Winograd16Input, Winograd16Output, Winograd16Row};

/// A layer's transformed filters and what goes with them.
pub(super) struct Filters<'a> {
    /// Half-precision bits.
    pub(super) weights: &'a [u16],
    pub(super) params: &'a [F16Params],
    pub(super) in_scale: f32,
    pub(super) out_scale: f32,
    pub(super) relu: bool,
}

/// `winograd-f43` of an f16 blob: values in f32.
pub(super) struct Single<'a>(pub(super) Filters<'a>);

/// `winograd-f43-f16`: values in half precision.
pub(super) struct Half<'a>(pub(super) Filters<'a>);

/// The windows of a run, one by one, with the place of each one's taps.
fn windows<'a>(
    filters: &Filters<'_>,
    run: &'a Windows<'_, f32>,
) -> impl Iterator<Item = (usize, Winograd16Input<'a>)> {
    let scale = filters.in_scale;
    (0..(run.columns.len() - 2) / TILE).map(move |p| {
        let window = Winograd16Input {
            input: run.input,
            rows: core::array::from_fn(|i| run.rows[i]),
            columns: core::array::from_fn(|x| run.columns[p * TILE + x]),
            channels: run.channels,
            tap_rows: run.tap_rows.clone(),
            scale,
            tap_stride: run.tap_stride,
            group_stride: run.group_stride,
        };
        (p * GROUP, window)
    })
}

impl<'a> Filters<'a> {
    fn row<'v, V>(&self, row: &RowOfTaps<'v, V>) -> Winograd16Row<'v, V>
    where
        'a: 'v,
    {
        let &RowOfTaps { values, tap_stride, n_tiles, channels, group, row, .. } = row;
        let len = WINDOW * channels * GROUP;
        let weights = &self.weights[(group * WINDOW + row) * len..][..len];
        Winograd16Row { values, tap_stride, n_tiles, channels, weights }
    }

    fn output(&self, kernel: &dyn Kernel, run: &Pixels<'_, f32>) {
        for (p, x) in (0..run.n_columns).step_by(TILE).enumerate() {
            kernel.winograd16_output(&Winograd16Output {
                sums: &run.sums[p * GROUP..],
                column_stride: run.column_stride,
                bias: &self.params[run.group].bias,
                scale: self.out_scale,
                relu: self.relu,
                n_rows: run.n_rows,
                n_columns: (run.n_columns - x).min(TILE),
                words: &run.words[x * run.pixel_stride..],
                row_stride: run.row_stride,
                pixel_stride: run.pixel_stride,
            });
        }
    }
}

impl Arithmetic for Single<'_> {
    type Input = f32;
    type Value = f32;
    type Sum = f32;

    fn input(&self, kernel: &dyn Kernel, run: &Windows<'_, f32>, taps: &mut [f32]) {
        windows(&self.0, run).for_each(|(at, window)| kernel.winograd16_input_f32(&window, &mut taps[at..]));
    }

    fn row(&self, kernel: &dyn Kernel, row: &RowOfTaps<'_, f32>, sums: &mut [f32]) {
        kernel.winograd16_row_f32(&self.0.row(row), sums);
    }

    fn output(&self, kernel: &dyn Kernel, run: &Pixels<'_, f32>) {
        self.0.output(kernel, run);
    }
}

impl Arithmetic for Half<'_> {
    type Input = f32;
    type Value = u16;
    type Sum = f32;

    fn input(&self, kernel: &dyn Kernel, run: &Windows<'_, f32>, taps: &mut [u16]) {
        windows(&self.0, run).for_each(|(at, window)| kernel.winograd16_input_f16(&window, &mut taps[at..]));
    }

    fn row(&self, kernel: &dyn Kernel, row: &RowOfTaps<'_, u16>, sums: &mut [f32]) {
        kernel.winograd16_row_f16(&self.0.row(row), sums);
    }

    fn output(&self, kernel: &dyn Kernel, run: &Pixels<'_, f32>) {
        self.0.output(kernel, run);
    }
}
