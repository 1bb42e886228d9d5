//! Convolution and dense steps: rows and output groups become strips, strips become tasks.

use core::sync::atomic::AtomicU64;

use vgg_edge_blob::layout::GROUP;
use vgg_edge_blob::{Layer, Linear, Weights};
use zerocopy::FromBytes;

use super::Context;
use crate::arena;
use crate::kernels::{F16Strip, Requant, S8Output, S8Strip};
use crate::plan::{Buffer, Step};

/// Tasks handed out for every thread: enough that threads end together, few enough that handing out is free.
const TASKS_PER_THREAD: usize = 4;

/// Output words: 8 i8 or 2 f32 each.
fn words(bytes: &mut [u8]) -> &[AtomicU64] {
    <[AtomicU64]>::mut_from_bytes(bytes).map_or(&[], |words| words)
}

/// How a step is cut into tasks: `group_parts x row_parts`.
struct Cut {
    n_groups: usize,
    n_rows: usize,
    group_parts: usize,
    row_parts: usize,
}

impl Cut {
    /// Groups first: threads then share no weights, and each one's weights stay in its own cache.
    fn new(n_groups: usize, n_rows: usize, n_threads: usize) -> Self {
        let wanted = if n_threads == 1 { 1 } else { n_threads * TASKS_PER_THREAD };
        let group_parts = n_groups.min(wanted);
        let row_parts = (wanted / group_parts).clamp(1, n_rows);
        Self { n_groups, n_rows, group_parts, row_parts }
    }

    fn n_tasks(&self) -> usize {
        self.group_parts * self.row_parts
    }

    /// Calls `strip(group, row)` for every pair of task `t`, rows innermost: a group's weights are used for all
    /// rows before the next group's are read.
    fn each(&self, t: usize, mut strip: impl FnMut(usize, usize)) {
        let (g, r) = (t / self.row_parts, t % self.row_parts);
        let part = |i: usize, parts: usize, n: usize| (i * n / parts)..((i + 1) * n / parts);
        for group in part(g, self.group_parts, self.n_groups) {
            for row in part(r, self.row_parts, self.n_rows) {
                strip(group, row);
            }
        }
    }
}

impl Context<'_, '_> {
    pub(super) fn conv(&self, step: &Step, layer: &Layer<'_>, linear: &Linear<'_>, bytes: &mut [u8]) {
        let (source, target) = (&step.source, &step.target);
        let (from, to) = arena::split(bytes, source.range(), target.range());
        let to = words(to);
        let at = |row: usize| (step.source_row + row) * source.pitch();
        let place = |row: usize, group: usize, per_pixel: usize| {
            let pixel = (step.target_row + row) * (target.width + 2 * target.halo) + target.halo;
            pixel * per_pixel + group * (per_pixel / (target.channels / GROUP))
        };
        let n_groups = target.channels / GROUP;
        let cut = Cut::new(n_groups, step.n_rows, self.executor.n_threads());
        let (n_runs, run_len) = (linear.n_runs as usize, linear.run_len as usize);
        let filter = n_runs * run_len * GROUP;
        match linear.weights {
            Weights::S8 { data, params } => {
                let from = <[i8]>::ref_from_bytes(from).unwrap_or(&[]);
                self.executor.run(cut.n_tasks(), &|t| {
                    cut.each(t, |group, row| {
                        let p = &params[group];
                        let strip = S8Strip {
                            input: &from[at(row)..],
                            n_pixels: target.width,
                            pixel_stride: source.channels,
                            n_runs,
                            run_stride: source.pitch(),
                            run_len,
                            weights: &data[group * filter..(group + 1) * filter],
                            bias: &p.bias,
                        };
                        let requant = Requant {
                            multiplier: &p.multiplier,
                            shift: &p.shift,
                            zero_point: layer.out_quant.zero_point,
                        };
                        let words = &to[place(row, group, n_groups)..];
                        self.kernel.s8(&strip, S8Output::Activations { requant, words, stride: n_groups });
                    });
                });
            }
            Weights::S16Winograd { .. } => {} // `winograd` runs it
            Weights::F16 { data, params } => {
                let from = <[f32]>::ref_from_bytes(from).unwrap_or(&[]);
                let stride = target.channels / 2;
                self.executor.run(cut.n_tasks(), &|t| {
                    cut.each(t, |group, row| {
                        self.kernel.f16(&F16Strip {
                            input: &from[at(row)..],
                            n_pixels: target.width,
                            pixel_stride: source.channels,
                            n_runs,
                            run_stride: source.pitch(),
                            run_len,
                            weights: &data[group * filter..(group + 1) * filter],
                            bias: &params[group].bias,
                            relu: linear.relu,
                            words: &to[place(row, group, stride)..],
                            stride,
                        });
                    });
                });
            }
        }
    }

    /// A dense layer is one output pixel with one run: the whole map before it.
    pub(super) fn dense(
        &self,
        step: &Step,
        layer: &Layer<'_>,
        linear: &Linear<'_>,
        gives_logits: bool,
        bytes: &mut [u8],
    ) {
        let (from, to) = arena::split(bytes, step.source.range(), step.target.range());
        let to = words(to);
        let n_groups = step.target.channels / GROUP;
        let cut = Cut::new(n_groups, 1, self.executor.n_threads());
        let run_len = linear.run_len as usize;
        match linear.weights {
            Weights::S8 { data, params } => {
                let from = <[i8]>::ref_from_bytes(from).unwrap_or(&[]);
                self.executor.run(cut.n_tasks(), &|t| {
                    cut.each(t, |group, _| {
                        let p = &params[group];
                        let strip = S8Strip {
                            input: from,
                            n_pixels: 1,
                            pixel_stride: run_len,
                            n_runs: 1,
                            run_stride: run_len,
                            run_len,
                            weights: &data[group * GROUP * run_len..(group + 1) * GROUP * run_len],
                            bias: &p.bias,
                        };
                        let out = if gives_logits {
                            S8Output::Accumulators(&to[group * 4..])
                        } else {
                            let requant = Requant {
                                multiplier: &p.multiplier,
                                shift: &p.shift,
                                zero_point: layer.out_quant.zero_point,
                            };
                            S8Output::Activations { requant, words: &to[group..], stride: 1 }
                        };
                        self.kernel.s8(&strip, out);
                    });
                });
            }
            Weights::S16Winograd { .. } => {} // `winograd` runs it
            Weights::F16 { data, params } => {
                let from = <[f32]>::ref_from_bytes(from).unwrap_or(&[]);
                self.executor.run(cut.n_tasks(), &|t| {
                    cut.each(t, |group, _| {
                        self.kernel.f16(&F16Strip {
                            input: from,
                            n_pixels: 1,
                            pixel_stride: run_len,
                            n_runs: 1,
                            run_stride: run_len,
                            run_len,
                            weights: &data[group * GROUP * run_len..(group + 1) * GROUP * run_len],
                            bias: &params[group].bias,
                            relu: linear.relu,
                            words: &to[group * 4..],
                            stride: 4,
                        });
                    });
                });
            }
        }
    }
}

/// A last int8 dense layer's accumulators as logits: `acc * scale`, one f32 product each.
pub(super) fn logits(linear: &Linear<'_>, buffer: &Buffer, bytes: &[u8], out: &mut [f32]) {
    let Weights::S8 { params, .. } = linear.weights else { return };
    let accs = <[i32]>::ref_from_bytes(&bytes[buffer.range()]).unwrap_or(&[]);
    let scales = params.iter().flat_map(|p| p.scale);
    for ((logit, &acc), scale) in out.iter_mut().zip(accs).zip(scales) {
        *logit = acc as f32 * scale;
    }
}
