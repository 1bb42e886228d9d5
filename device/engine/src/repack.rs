//! Repacking at load: a blob whose layers lie as another CPU's kernels want them runs as fast as one made for this CPU.
//!
//! ```text
//! s16-w36o8  [groups][36 taps][channels][8]   ─► s8-o8k4  [groups][3][3 * channels / 4][8][4]      kernels with dot products
//!            taps of exact Winograd, i16           the filters that they are transforms of, i8
//! ```
//!
//! The kernel says which layout it wants ([`Kernel::wants`]). Only exact repacking is done: a layer whose taps are not the
//! transforms of i8 filters, or whose accumulators Winograd may wrap, keeps its own. Repacked weights lie in anonymous
//! memory, an eighth of the taps' bytes; all other layers stay in the map.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use vgg_edge_blob::layout::{GROUP, Line, S8Params};
use vgg_edge_blob::winograd::{self, TAPS};
use vgg_edge_blob::{Layer, LayerOp, Layout, Linear, S8Layout, Weights};
use zerocopy::{FromBytes, IntoBytes};

use crate::arena;
use crate::kernels::Kernel;
use crate::pool::{self, Executor};

/// A layer that was repacked at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repacked {
    /// Which layer.
    pub layer_idx: usize,
    /// Layout in the file.
    pub from: Layout,
    /// Layout that the kernel reads.
    pub to: Layout,
    /// Bytes of memory that the copy takes.
    pub bytes: usize,
}

/// The layers of a blob that were repacked, with their weights.
#[derive(Default)]
pub(crate) struct Repack {
    layers: Vec<Repacked>,
    weights: Vec<Vec<Line>>,
}

impl Repack {
    /// Repacks what `kernel` wants otherwise, as far as that is exact and memory is there.
    pub(crate) fn new(layers: &[Layer<'_>], kernel: &dyn Kernel, executor: &dyn Executor) -> Self {
        let mut all = Self::default();
        for (layer_idx, layer) in layers.iter().enumerate() {
            let LayerOp::Conv { kernel: 3, linear } = layer.op else { continue };
            let (from, weights) = (linear.weights.layout(), &linear.weights);
            let to = kernel.wants(from);
            let lines = match (weights, to) {
                (Weights::S16Winograd { data, params }, Layout::S8O8K4) => {
                    filters(data, params, linear.run_len as usize, executor)
                }
                _ => None,
            };
            if let Some(lines) = lines {
                let bytes = lines.as_bytes().len();
                all.layers.push(Repacked { layer_idx, from, to, bytes });
                all.weights.push(lines);
            }
        }
        all
    }

    /// What was repacked, in the order of the layers.
    pub(crate) fn layers(&self) -> &[Repacked] {
        &self.layers
    }

    /// Layer `layer_idx`, which the file has as `layer`, with the weights that the kernel reads.
    pub(crate) fn view<'l>(&'l self, layer_idx: usize, layer: &Layer<'l>) -> Layer<'l> {
        let Ok(i) = self.layers.binary_search_by_key(&layer_idx, |layer| layer.layer_idx) else {
            return *layer;
        };
        let LayerOp::Conv { kernel, linear } = layer.op else { return *layer };
        let Weights::S16Winograd { params, .. } = linear.weights else { return *layer };
        // Whole cache lines: what lies behind the weights is 0, and nothing reads it.
        let data = <[i8]>::ref_from_bytes(self.weights[i].as_bytes()).unwrap_or(&[]);
        let (n_runs, run_len) = (3, 3 * linear.run_len);
        let weights = Weights::S8 { layout: S8Layout::K4, data, params };
        Layer {
            op: LayerOp::Conv { kernel, linear: Linear { n_runs, run_len, weights, ..linear } },
            ..*layer
        }
    }
}

/// The filters of a Winograd layer as `s8-o8k4`; `None` when that would not be exact, or there is no memory.
fn filters(taps: &[i16], params: &[S8Params], channels: usize, executor: &dyn Executor) -> Option<Vec<Line>> {
    let group_len = 9 * channels * GROUP;
    let mut lines = arena::allocate(params.len() * group_len)?;
    let packed = <[i8]>::mut_from_bytes(lines.as_mut_bytes()).ok()?;
    let inexact = AtomicBool::new(false);
    pool::each_chunk(executor, packed, group_len, params.len(), &|group, packed| {
        let taps = &taps[group * TAPS * channels * GROUP..][..TAPS * channels * GROUP];
        if !group_filters(taps, &params[group], channels, packed) {
            inexact.store(true, Relaxed);
        }
    });
    (!inexact.into_inner()).then_some(lines)
}

/// One group of 8 outputs; whether it is exact.
fn group_filters(taps: &[i16], params: &S8Params, channels: usize, packed: &mut [i8]) -> bool {
    let (taps, _) = taps.as_chunks::<GROUP>();
    let (mut positive, mut negative) = ([0i64; GROUP], [0i64; GROUP]);
    for channel in 0..channels {
        let of_channel = core::array::from_fn(|tap| taps[tap * channels + channel]);
        let Some(filters) = winograd::filters(&of_channel) else { return false };
        for (tap, outputs) in filters.into_iter().enumerate() {
            let (row, element) = (tap / 3, tap % 3 * channels + channel);
            let start = row * 3 * channels * GROUP + element / 4 * (4 * GROUP) + element % 4;
            for (o, weight) in outputs.into_iter().enumerate() {
                packed[start + 4 * o] = weight;
                positive[o] += i64::from(weight.max(0));
                negative[o] -= i64::from(weight.min(0));
            }
        }
    }
    // Beyond these bounds Winograd's sums may wrap, which the direct ones do not.
    (0..GROUP).all(|o| {
        let (low, high) = winograd::bounds(positive[o], negative[o], params.bias[o]);
        low >= -winograd::LIMIT && high < winograd::LIMIT
    })
}
