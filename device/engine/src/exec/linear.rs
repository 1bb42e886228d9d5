//! Convolution and dense steps: rows and output groups become strips, strips become tasks.

use core::sync::atomic::AtomicU64;

use vgg_edge_blob::layout::{GROUP, S8Params};
use vgg_edge_blob::{Layer, Linear, Weights};
use zerocopy::FromBytes;

use super::Context;
use crate::arena;
use crate::kernels::{F16Strip, Requant, S8Output, S8Strip};
use crate::plan::{Buffer, Step};

/// Tasks handed out for every thread: enough that threads end together, few enough that handing out is free.
const TASKS_PER_THREAD: usize = 4;

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
    /// A convolution, or a dense layer: that is one output pixel with one run, the whole map before it. `gives_logits`
    /// leaves an int8 layer's accumulators in the target.
    pub(super) fn linear(
        &self,
        step: &Step,
        layer: &Layer<'_>,
        linear: &Linear<'_>,
        gives_logits: bool,
        bytes: &mut [u8],
    ) {
        let (source, target) = (&step.source, &step.target);
        let (from, to) = arena::split(bytes, source.range(), target.range());
        let to = <[AtomicU64]>::mut_from_bytes(to).map_or(&[][..], |words| words);
        let (n_runs, run_len) = (linear.n_runs as usize, linear.run_len as usize);
        let (pixel_stride, run_stride, n_pixels) = (source.channels, source.pitch(), target.width);
        let n_groups = target.channels / GROUP;
        // Output words of a group's 8 channels, and between two pixels.
        let group_words = GROUP * target.value_size / 8;
        let stride = n_groups * group_words;
        let input = |row: usize| (step.source_row + row) * source.pitch();
        let output = |row: usize, group: usize| {
            let pixel = (step.target_row + row) * (target.width + 2 * target.halo) + target.halo;
            pixel * stride + group * group_words
        };
        let filter = |group: usize| group * n_runs * run_len * GROUP..(group + 1) * n_runs * run_len * GROUP;
        let cut = Cut::new(n_groups, step.n_rows, self.executor.n_threads());
        match linear.weights {
            Weights::S8 { data, params } => {
                let from = <[i8]>::ref_from_bytes(from).unwrap_or(&[]);
                self.executor.run(cut.n_tasks(), &|t| {
                    cut.each(t, |group, row| {
                        let S8Params { bias, multiplier, shift, .. } = &params[group];
                        let (input, weights) = (&from[input(row)..], &data[filter(group)]);
                        let strip = S8Strip {
                            input,
                            n_pixels,
                            pixel_stride,
                            n_runs,
                            run_stride,
                            run_len,
                            weights,
                            bias,
                        };
                        let words = &to[output(row, group)..];
                        let zero_point = layer.out_quant.zero_point;
                        let requant = Requant { multiplier, shift, zero_point };
                        let out = match gives_logits {
                            true => S8Output::Accumulators(words),
                            false => S8Output::Activations { requant, words, stride },
                        };
                        self.kernel.s8(&strip, out);
                    });
                });
            }
            Weights::S16Winograd { .. } | Weights::S8Winograd { .. } => {} // `winograd` runs them
            Weights::F16 { data, params } => {
                let from = <[f32]>::ref_from_bytes(from).unwrap_or(&[]);
                self.executor.run(cut.n_tasks(), &|t| {
                    cut.each(t, |group, row| {
                        self.kernel.f16(&F16Strip {
                            input: &from[input(row)..],
                            n_pixels,
                            pixel_stride,
                            n_runs,
                            run_stride,
                            run_len,
                            weights: &data[filter(group)],
                            bias: &params[group].bias,
                            relu: linear.relu,
                            words: &to[output(row, group)..],
                            stride,
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
