//! Convolution and dense steps: rows and output groups become strips, strips become tasks.

use core::sync::atomic::AtomicU64;

use vgg_edge_blob::int4::INPUTS;
use vgg_edge_blob::layout::{GROUP, S8Params};
use vgg_edge_blob::{Layer, Linear, Weights};
use zerocopy::FromBytes;

use super::Context;
use crate::arena;
use crate::kernels::{F16Strip, Requant, S4Strip, S8Output, S8Strip};
use crate::plan::{Buffer, Step};

/// Tasks handed out for every thread: enough that threads end together, few enough that handing out is free.
const TASKS_PER_THREAD: usize = 4;
/// Weights that stay in a core's second level cache beside the pixels, bytes.
const SMALL_WEIGHTS: usize = 128 << 10;

/// How a step is cut into tasks: `group_parts x row_parts`.
pub(super) struct Cut {
    n_groups: usize,
    n_rows: usize,
    group_parts: usize,
    row_parts: usize,
}

impl Cut {
    /// Groups first: threads then share no weights, and each one's weights stay in its own cache. Rows first where all
    /// weights (of `weight_bytes`) stay there anyway: threads then write no cache line together.
    pub(super) fn new(n_groups: usize, n_rows: usize, weight_bytes: usize, n_threads: usize) -> Self {
        let wanted = if n_threads == 1 { 1 } else { n_threads * TASKS_PER_THREAD };
        let (group_parts, row_parts) = if weight_bytes <= SMALL_WEIGHTS {
            let row_parts = n_rows.min(wanted);
            ((wanted / row_parts).clamp(1, n_groups), row_parts)
        } else {
            let group_parts = n_groups.min(wanted);
            (group_parts, (wanted / group_parts).clamp(1, n_rows))
        };
        Self { n_groups, n_rows, group_parts, row_parts }
    }

    pub(super) fn n_tasks(&self) -> usize {
        self.group_parts * self.row_parts
    }

    /// Calls `strip(group, row)` for every pair of task `t`, rows innermost: a group's weights are used for all
    /// rows before the next group's are read.
    pub(super) fn each(&self, t: usize, mut strip: impl FnMut(usize, usize)) {
        let (g, r) = (t / self.row_parts, t % self.row_parts);
        let part = |i: usize, parts: usize, n: usize| (i * n / parts)..((i + 1) * n / parts);
        for group in part(g, self.group_parts, self.n_groups) {
            for row in part(r, self.row_parts, self.n_rows) {
                strip(group, row);
            }
        }
    }
}

/// Where a step's output words are.
pub(super) struct Places {
    pub(super) n_groups: usize,
    /// Words between two pixels.
    pub(super) stride: usize,
    /// Words between two rows.
    pitch: usize,
    /// The first pixel's.
    first: usize,
    /// Words of a group's 8 channels.
    group_words: usize,
}

impl Places {
    pub(super) fn new(step: &Step) -> Self {
        let target = &step.target;
        let (n_groups, group_words) = (target.channels / GROUP, GROUP * target.value_size / 8);
        let stride = n_groups * group_words;
        let pitch = target.pitch() * target.value_size / size_of::<AtomicU64>();
        let first = step.target_row * pitch + target.halo * stride;
        Self { n_groups, stride, pitch, first, group_words }
    }

    /// First word of a group in the step's row `row`.
    pub(super) fn of(&self, row: usize, group: usize) -> usize {
        self.first + row * self.pitch + group * self.group_words
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
        let input = |row: usize| (step.source_row + row) * source.pitch();
        let places = Places::new(step);
        let stride = places.stride;
        let filter = |group: usize| group * n_runs * run_len * GROUP..(group + 1) * n_runs * run_len * GROUP;
        let cut = Cut::new(places.n_groups, step.n_rows, linear.weights.len(), self.executor.n_threads());
        match linear.weights {
            Weights::S8 { data, params, .. } => {
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
                        let words = &to[places.of(row, group)..];
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
            Weights::S4 { blocks, params } => {
                let from = <[i8]>::ref_from_bytes(from).unwrap_or(&[]);
                let n_blocks = run_len / INPUTS;
                self.executor.run(cut.n_tasks(), &|t| {
                    cut.each(t, |group, row| {
                        let S8Params { bias, multiplier, shift, .. } = &params[group];
                        let blocks = &blocks[group * n_blocks..][..n_blocks];
                        let words = &to[places.of(row, group)..];
                        let zero_point = layer.out_quant.zero_point;
                        let out = match gives_logits {
                            true => S8Output::Accumulators(words),
                            false => {
                                let requant = Requant { multiplier, shift, zero_point };
                                S8Output::Activations { requant, words, stride }
                            }
                        };
                        self.kernel.s4(&S4Strip { input: &from[input(row)..], blocks, bias }, out);
                    });
                });
            }
            Weights::S16Winograd { .. } | Weights::S8Winograd { .. } | Weights::F16Winograd { .. } => {} // `winograd` runs them
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
                            words: &to[places.of(row, group)..],
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
    let (Weights::S8 { params, .. } | Weights::S4 { params, .. }) = linear.weights else { return };
    let accs = <[i32]>::ref_from_bytes(&bytes[buffer.range()]).unwrap_or(&[]);
    let scales = params.iter().flat_map(|p| p.scale);
    for ((logit, &acc), scale) in out.iter_mut().zip(accs).zip(scales) {
        *logit = acc as f32 * scale;
    }
}
