//! What a plan will do, before it runs: steps, batches of tiles, bytes to and from memory.
//!
//! ```text
//! layers ─► plan (bands, windows, tilings) ─► forecast: for each layer its steps, for each step its rows and tiles
//! ```
//!
//! Whoever predicts time or chooses algorithms asks the plan itself, so that the two cannot differ. Weights are not read:
//! only their number counts.
//!
//! ```
//! use vgg_edge_blob::{Layer, LayerOp, Padding, Quantization, Scheme, Shape};
//! use vgg_edge_engine::{KernelTiles, Options, forecast};
//! let side = |height| Shape { height, width: height, channels: 8 };
//! let quant = Quantization { scale: 1.0, zero_point: 0 };
//! let pool = Layer {
//!     name: "pool", op: LayerOp::MaxPool { stride: 2, padding: Padding::Valid }, input: side(32), output: side(16),
//!     block: 1, in_quant: quant, out_quant: quant, sqnr_db: f32::NAN,
//! };
//! let forecast = forecast(Scheme::Int8, side(32), &[pool], &Options::default(), 1, 1 << 20, KernelTiles::default());
//! let rows: usize = forecast.layers[0].steps.iter().map(|step| step.n_rows).sum();
//! assert_eq!(rows, 16);
//! ```

use alloc::vec;
use alloc::vec::Vec;

use vgg_edge_blob::layout::{ALIGN, GROUP};
use vgg_edge_blob::{Layer, LayerOp, Scheme, Shape};

use crate::Options;
use crate::blocks::BlockMap;
use crate::exec::band_parts;
use crate::kernels::Cut;
use crate::plan::{self, BlockPlan, Buffer, Plan, Step};
use crate::tiling::{Sizes, Tiling};
use crate::traffic::{self, Traffic};

/// What a network does for one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// A row a layer.
    pub layers: Vec<LayerForecast>,
    /// How each block runs.
    pub blocks: Vec<BlockPlan>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
}

/// What one layer does for one picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerForecast {
    /// In order.
    pub steps: Vec<StepForecast>,
    /// Bytes to and from memory: weights, input that does not stay, a Winograd layer's values and sums.
    pub weight_traffic: usize,
    /// Bytes to and from memory: the layer's share of the maps.
    pub map_traffic: usize,
}

/// Some output rows of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepForecast {
    /// Output rows.
    pub n_rows: usize,
    /// Bytes of rows that move to the top of their window before.
    pub moved_bytes: usize,
    /// Padding pixels on each side of an output row.
    pub halo: usize,
    /// Bytes of input that are copied into blocks before: layout `s8-o8k8`.
    pub copied_bytes: usize,
    /// Of a Winograd layer, shape by shape.
    pub bands: Vec<BandForecast>,
    /// How often all filters of the layer become weights of Winograd.
    pub n_made: usize,
    /// They do so one row of taps at a time.
    pub single_rows: bool,
}

/// The tiles of one shape in a band of a Winograd layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandForecast {
    /// Tiles.
    pub n_tiles: usize,
    /// Batches, as even as possible.
    pub n_batches: usize,
    /// One row of taps after the other, instead of one group of outputs after the other.
    pub by_row: bool,
    /// What these tiles do not have.
    pub cut: Cut,
}

/// What a kernel's exact Winograd does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelTiles {
    /// It runs 3x3 filters over a picture: [`Kernel::has_fast_picture_tiles`](crate::kernels::Kernel::has_fast_picture_tiles).
    pub of_pictures: bool,
    /// It knows [`Cut`] tiles: [`Kernel::has_cut_tiles`](crate::kernels::Kernel::has_cut_tiles).
    pub cut: bool,
}

/// Plans `layers` as [`Engine::new`](crate::Engine::new) does with `options` and `n_threads`, and tells what the plan does.
/// Traffic is that of a last cache of `cache_bytes`. Layers have the weights that the kernel reads: behind repacking.
pub fn forecast(
    scheme: Scheme,
    input: Shape,
    layers: &[Layer<'_>],
    options: &Options,
    n_threads: usize,
    cache_bytes: usize,
    kernel: KernelTiles,
) -> Forecast {
    let of_picture = |l: &Layer<'_>| matches!(l.op, LayerOp::Conv { kernel: 3, .. }) && l.input.channels <= 4;
    let is_3x3 = layers.first().is_some_and(of_picture);
    let network = (layers, kernel.of_pictures && is_3x3 && scheme.is_int8());
    let plan = plan::plan(scheme, input, network, options.l2_bytes, n_threads);
    let mut forecasts = vec![LayerForecast::default(); layers.len()];
    for step in &plan.steps {
        let tiling = plan.tilings.get(step.layer_idx).copied().flatten();
        forecasts[step.layer_idx].steps.push(of_step(step, &layers[step.layer_idx], tiling, kernel.cut));
    }
    for block in &plan.blocks {
        let range = block.first_layer..block.first_layer + block.n_layers;
        let of_block = block_traffic(layers, block, &plan, cache_bytes);
        for (forecast, traffic) in forecasts[range].iter_mut().zip(of_block) {
            forecast.weight_traffic = traffic.weights;
            forecast.map_traffic = traffic.maps;
        }
    }
    for step in plan.steps.iter().filter(|step| plan.tilings[step.layer_idx].is_none()) {
        forecasts[step.layer_idx].weight_traffic += read_again(&layers[step.layer_idx], step, cache_bytes);
    }
    Forecast { layers: forecasts, blocks: plan.blocks, arena_bytes: plan.arena_bytes }
}

fn of_step(step: &Step, layer: &Layer<'_>, tiling: Option<Tiling>, cuts: bool) -> StepForecast {
    let mut bands = Vec::new();
    if let Some(tiling) = &tiling {
        let cuts = cuts && tiling.sizes == Sizes::EXACT;
        for (first, n) in tiling.bands(tiling.sizes.n_tiles(step.n_rows, step.target.width)) {
            let parts = band_parts(step, tiling, cuts, (first, n));
            bands.extend(parts.filter(|(_, n_tiles, _)| *n_tiles > 0).map(|(cut, n_tiles, n_batches)| {
                BandForecast { n_tiles, n_batches, by_row: tiling.by_row, cut }
            }));
        }
    }
    let made = |t: &Tiling| t.n_made(t.sizes.n_tiles(step.n_rows, step.target.width));
    let copy = BlockMap::of(layer, step.layer_idx).filter(|_| tiling.is_none());
    StepForecast {
        n_rows: step.n_rows,
        moved_bytes: step.keep.1 * step.target.pitch() * step.target.value_size,
        halo: step.target.halo,
        copied_bytes: copy.map_or(0, |map| map.rows(step.n_rows) * map.row_len() * GROUP),
        bands,
        n_made: tiling.as_ref().map_or(0, made),
        single_rows: tiling.is_some_and(|t| t.makes_single_rows()),
    }
}

/// Bytes that a direct convolution moves again for each group of outputs but the first, where a step's rows do not stay.
///
/// A group reads all input of the step and writes 8 values of each pixel: one line a pixel, and these lie in a part of the
/// cache's sets only, where a pixel has more than a line.
fn read_again(layer: &Layer<'_>, step: &Step, cache: usize) -> usize {
    let LayerOp::Conv { kernel, linear } = layer.op else { return 0 };
    let (source, target) = (&step.source, &step.target);
    let n_groups = (target.channels / GROUP).max(1);
    let input = (step.n_rows + usize::from(kernel) - 1) * source.pitch() * source.value_size;
    let beside = input + linear.weights.len() / n_groups;
    let lines = step.n_rows * target.width * ALIGN;
    // Lines of a pixel: its sets are one of so many.
    let part = (target.channels * target.value_size).div_ceil(ALIGN).max(1);
    let again = if beside > cache {
        input + 2 * lines
    } else if beside + part * lines > cache {
        input / part + 2 * lines
    } else {
        0
    };
    again * (n_groups - 1)
}

fn block_traffic(layers: &[Layer<'_>], block: &BlockPlan, plan: &Plan, cache: usize) -> Vec<Traffic> {
    let of_layer = |i: usize| plan.steps.iter().find(|step| step.layer_idx == block.first_layer + i);
    let last = block.n_layers.saturating_sub(1);
    let windows: Vec<Buffer> = (0..last).filter_map(of_layer).map(|step| step.target).collect();
    let [source, target] = [of_layer(0).map(|s| s.source), of_layer(last).map(|s| s.target)];
    let maps = [source, target].map(|map| map.map_or(0, |map| map.len()));
    let range = block.first_layer..block.first_layer + block.n_layers;
    let tilings = plan.tilings.get(range.clone()).unwrap_or(&[]);
    let most_rows = |i: usize| {
        let of_layer = plan.steps.iter().filter(|step| step.layer_idx == block.first_layer + i);
        of_layer.map(|step| step.n_rows).max().unwrap_or(0)
    };
    let most_rows: Vec<usize> = (0..block.n_layers).map(most_rows).collect();
    let copies = traffic::copies(layers, block.first_layer, &most_rows);
    traffic::traffic(&layers[range], &windows, tilings, (maps, copies), block.n_bands, cache)
}
