//! Repacking at load: a blob whose layers lie as another CPU's kernels want them runs as fast as one made for this CPU.
//!
//! ```text
//! s16-w36o8   [groups][36 taps][channels][8]   ─► s8-o8k4, s8-o8k8   kernels with dot products, with matrix products
//!             taps of exact Winograd, i16            the filters that they are transforms of, i8
//! ..k4        [..][8 outputs][4 values] x 2   ◄─► ..k8  [..][8 outputs][8 values]           64 bytes to 64 bytes
//! s8-o8k4     of the picture's convolution    ◄─► s8-o8k8            three runs or one
//! ```
//!
//! Layers of `winograd-f43-filters` are in the direct layout and stay in the map: kernels that want filters run them direct.
//!
//! The kernel says which layout it wants ([`Kernel::wants`]). Only exact repacking is done: a layer whose taps are not the
//! transforms of i8 filters, or whose accumulators Winograd may wrap, keeps its own. Repacked weights lie in anonymous
//! memory, taps as an eighth of their bytes; all other layers stay in the map. So do dense layers in `s8-o8k4`, which is no
//! slower where memory decides.

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
    /// The kernel's direct loop is faster than exact Winograd: filters are run by it as they are.
    direct: bool,
}

impl Repack {
    /// Repacks what `kernel` wants otherwise, as far as that is exact and memory is there.
    pub(crate) fn new(layers: &[Layer<'_>], kernel: &dyn Kernel, executor: &dyn Executor) -> Self {
        let direct = kernel.wants(Layout::S16W36O8) != Layout::S16W36O8;
        let mut all = Self { direct, ..Self::default() };
        for (layer_idx, layer) in layers.iter().enumerate() {
            let (linear, side) = match layer.op {
                LayerOp::Conv { linear, kernel } => (linear, usize::from(kernel)),
                LayerOp::Dense(linear) if linear.weights.layout() != Layout::S8O8K4 => (linear, 0),
                _ => continue,
            };
            let (from, weights) = (linear.weights.layout(), &linear.weights);
            let to = kernel.wants(from);
            let lines = match (weights, to) {
                _ if from == to => None,
                (Weights::S16Winograd { data, params }, Layout::S8O8K4) => {
                    filters::<4>(data, params, linear.run_len as usize, executor)
                }
                (Weights::S16Winograd { data, params }, Layout::S8O8K8) => {
                    filters::<8>(data, params, linear.run_len as usize, executor)
                }
                (Weights::S8 { layout, data, params, .. }, _) if layer_idx == 0 && side > 0 => {
                    let len = side * layer.input.channels as usize;
                    windows(*layout, data, params.len(), [side, len])
                }
                (
                    Weights::S8 { layout, data, params, .. }
                    | Weights::S8Winograd { layout, data, params, .. },
                    _,
                ) => blocks(*layout, data, params.len(), executor),
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
        let mut layer = *layer;
        if let LayerOp::Conv { linear: Linear { weights: Weights::S8 { winograd, .. }, .. }, .. } =
            &mut layer.op
        {
            *winograd &= !self.direct;
        }
        let Ok(i) = self.layers.binary_search_by_key(&layer_idx, |layer| layer.layer_idx) else {
            return layer;
        };
        let to = self.layers[i].to;
        // Whole cache lines: what lies behind the weights is 0, and nothing reads it.
        let data = <[i8]>::ref_from_bytes(self.weights[i].as_bytes()).unwrap_or(&[]);
        let layout = if to == to.with(S8Layout::K8) { S8Layout::K8 } else { S8Layout::K4 };
        let view = |linear: Linear<'l>, window: [u32; 2]| match linear.weights {
            Weights::S16Winograd { params, .. } => {
                let (n_runs, run_len) = (3, 3 * linear.run_len);
                Linear {
                    n_runs,
                    run_len,
                    weights: Weights::S8 { layout, winograd: false, data, params },
                    ..linear
                }
            }
            Weights::S8 { winograd, params, .. } => {
                let weights = Weights::S8 { layout, winograd, data, params };
                let [side, len] = window;
                let (n_runs, run_len) = match (layer_idx, side, layout) {
                    (0, 1.., S8Layout::K4) => (side, len.next_multiple_of(GROUP as u32)),
                    (0, 1.., S8Layout::K8) => (1, (side * len).next_multiple_of(GROUP as u32)),
                    _ => (linear.n_runs, linear.run_len),
                };
                Linear { n_runs, run_len, weights, ..linear }
            }
            Weights::S8Winograd { form, params, input, scales, .. } => {
                let weights = Weights::S8Winograd { form, layout, data, params, input, scales };
                Linear { weights, ..linear }
            }
            Weights::S4 { .. } | Weights::F16 { .. } | Weights::F16Winograd { .. } => linear,
        };
        let op = match layer.op {
            LayerOp::Conv { kernel, linear } => {
                let side = u32::from(kernel);
                LayerOp::Conv { kernel, linear: view(linear, [side, side * layer.input.channels]) }
            }
            LayerOp::Dense(linear) => LayerOp::Dense(view(linear, [0, 0])),
            other => other,
        };
        Layer { op, ..layer }
    }
}

/// 8-bit weights with 8 values together instead of 4, or the other way round; `layout` is what they have.
fn blocks(layout: S8Layout, data: &[i8], n_groups: usize, executor: &dyn Executor) -> Option<Vec<Line>> {
    let mut lines = arena::allocate(data.len())?;
    let packed = <[i8]>::mut_from_bytes(lines.as_mut_bytes()).ok()?;
    let group_len = data.len() / n_groups.max(1);
    pool::each_chunk(executor, packed, group_len, n_groups, &|group, packed| {
        let data = &data[group * group_len..][..group_len];
        for (to, from) in packed.chunks_exact_mut(8 * GROUP).zip(data.chunks_exact(8 * GROUP)) {
            for (o, half) in (0..GROUP).flat_map(|o| [(o, 0), (o, 1)]) {
                let (k4, k8) = (half * 4 * GROUP + o * 4, o * 8 + half * 4);
                let (at, place) = if layout == S8Layout::K4 { (k4, k8) } else { (k8, k4) };
                to[place..place + 4].copy_from_slice(&from[at..at + 4]);
            }
        }
    });
    Some(lines)
}

/// The same for the picture's convolution, whose window of `side` rows of `len` values is one run in `s8-o8k8`.
fn windows(layout: S8Layout, data: &[i8], n_groups: usize, [side, len]: [usize; 2]) -> Option<Vec<Line>> {
    let (run, window) = (len.next_multiple_of(GROUP), (side * len).next_multiple_of(GROUP));
    let (k4_len, k8_len) = (side * run * GROUP, window * GROUP);
    let (from_len, to_len) = if layout == S8Layout::K4 { (k4_len, k8_len) } else { (k8_len, k4_len) };
    let mut lines = arena::allocate(n_groups * to_len)?;
    let packed = <[i8]>::mut_from_bytes(lines.as_mut_bytes()).ok()?;
    for (to, from) in packed.chunks_exact_mut(to_len).zip(data.chunks_exact(from_len)) {
        for (e, o) in (0..side * len).flat_map(|e| (0..GROUP).map(move |o| (e, o))) {
            let (row, k) = (e / len, e % len);
            let k4 = row * run * GROUP + k / 4 * (4 * GROUP) + o * 4 + k % 4;
            let k8 = e / 8 * (8 * GROUP) + o * 8 + e % 8;
            let (at, place) = if layout == S8Layout::K4 { (k4, k8) } else { (k8, k4) };
            to[place] = from[at];
        }
    }
    Some(lines)
}

/// The filters of an exact Winograd layer with `K` values together; `None` when that would not be exact, or there is no memory.
fn filters<const K: usize>(
    taps: &[i16],
    params: &[S8Params],
    channels: usize,
    executor: &dyn Executor,
) -> Option<Vec<Line>> {
    let group_len = 9 * channels * GROUP;
    let mut lines = arena::allocate(params.len() * group_len)?;
    let packed = <[i8]>::mut_from_bytes(lines.as_mut_bytes()).ok()?;
    let inexact = AtomicBool::new(false);
    pool::each_chunk(executor, packed, group_len, params.len(), &|group, packed| {
        let taps = &taps[group * TAPS * channels * GROUP..][..TAPS * channels * GROUP];
        if !group_filters::<K>(taps, &params[group], channels, packed) {
            inexact.store(true, Relaxed);
        }
    });
    (!inexact.into_inner()).then_some(lines)
}

/// One group of 8 outputs; whether it is exact.
fn group_filters<const K: usize>(
    taps: &[i16],
    params: &S8Params,
    channels: usize,
    packed: &mut [i8],
) -> bool {
    let (taps, _) = taps.as_chunks::<GROUP>();
    let (mut positive, mut negative) = ([0i64; GROUP], [0i64; GROUP]);
    for channel in 0..channels {
        let of_channel = core::array::from_fn(|tap| taps[tap * channels + channel]);
        let Some(filters) = winograd::filters(&of_channel) else { return false };
        for (tap, outputs) in filters.into_iter().enumerate() {
            let (row, element) = (tap / 3, tap % 3 * channels + channel);
            let start = row * 3 * channels * GROUP + element / K * (K * GROUP) + element % K;
            for (o, weight) in outputs.into_iter().enumerate() {
                packed[start + K * o] = weight;
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
