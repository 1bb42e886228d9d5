//! Max-pool and global average pool.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use vgg_edge_blob::requant::requantize;
use vgg_edge_blob::{Layer, LayerOp, Padding};
use zerocopy::FromBytes;

use super::Context;
use crate::arena;
use crate::plan::Step;

/// Values of one output word under max-pool: 8 i8 or 2 f32.
trait Lanes: Copy {
    fn of(word: u64) -> Self;
    fn max(self, other: Self) -> Self;
    fn word(self) -> u64;
}

#[derive(Clone, Copy)]
struct Bytes([i8; 8]);

impl Lanes for Bytes {
    fn of(word: u64) -> Self {
        Self(word.to_le_bytes().map(|b| b as i8))
    }

    fn max(self, other: Self) -> Self {
        let mut lanes = self.0;
        for (a, b) in lanes.iter_mut().zip(other.0) {
            *a = (*a).max(b);
        }
        Self(lanes)
    }

    fn word(self) -> u64 {
        u64::from_le_bytes(self.0.map(|v| v as u8))
    }
}

#[derive(Clone, Copy)]
struct Floats([f32; 2]);

impl Lanes for Floats {
    fn of(word: u64) -> Self {
        Self([f32::from_bits(word as u32), f32::from_bits((word >> 32) as u32)])
    }

    fn max(self, other: Self) -> Self {
        let larger = |a: f32, b: f32| if b > a { b } else { a };
        Self([larger(self.0[0], other.0[0]), larger(self.0[1], other.0[1])])
    }

    fn word(self) -> u64 {
        u64::from(self.0[0].to_bits()) | u64::from(self.0[1].to_bits()) << 32
    }
}

impl Context<'_, '_> {
    pub(super) fn max_pool(&self, step: &Step, layer: &Layer<'_>, bytes: &mut [u8]) {
        if step.target.value_size == 1 {
            self.pool_rows::<Bytes>(step, layer, bytes);
        } else {
            self.pool_rows::<Floats>(step, layer, bytes);
        }
    }

    fn pool_rows<L: Lanes>(&self, step: &Step, layer: &Layer<'_>, bytes: &mut [u8]) {
        let LayerOp::MaxPool { stride, padding } = layer.op else { return };
        let stride = usize::from(stride);
        let (source, target) = (&step.source, &step.target);
        let (from, to) = arena::split(bytes, source.range(), target.range());
        let to = <[AtomicU64]>::mut_from_bytes(to).map_or(&[][..], |words| words);
        let from = <[u64]>::ref_from_bytes(from).unwrap_or(&[]);
        let per_pixel = source.channels * source.value_size / 8;
        let row_words = |b: &crate::plan::Buffer| b.pitch() * b.value_size / 8;
        // Behind the lower and right edge a "same" window sees the edge again: the maximum stays the same.
        let below = |row: usize| match padding {
            Padding::Same if (step.first_row + row) * stride + 1 >= layer.input.height as usize => 0,
            _ => row_words(source),
        };
        self.executor.run(step.n_rows, &|row| {
            let top = (step.source_row + row * stride + source.halo) * row_words(source);
            let target_row = (step.target_row + row) * row_words(target);
            for x in 0..target.width {
                let left = x * stride;
                let right = (left + 1).min(source.width - 1);
                let window = |column: usize, down: usize| top + down + (column + source.halo) * per_pixel;
                let corners =
                    [window(left, 0), window(right, 0), window(left, below(row)), window(right, below(row))];
                let out = target_row + (x + target.halo) * per_pixel;
                for i in 0..per_pixel {
                    let [a, b, c, d] = corners.map(|start| L::of(from[start + i]));
                    to[out + i].store(a.max(b).max(c.max(d)).word(), Ordering::Relaxed);
                }
            }
        });
    }
}

/// Mean over rows and columns. int8: the i32 sum of `x - zero_point`, requantized; f32: the sum in row order,
/// divided once.
pub(super) fn global_avg(
    step: &Step,
    layer: &Layer<'_>,
    multiplier: i32,
    shift: i32,
    scratch: &Range<usize>,
    bytes: &mut [u8],
) {
    let (source, target) = (&step.source, &step.target);
    let channels = source.channels;
    let (maps, scratch) = bytes.split_at_mut(scratch.start);
    let (from, to) = arena::split(maps, source.range(), target.range());
    let pixels = (source.width * (source.rows - 2 * source.halo)).max(1);
    if source.value_size == 1 {
        let Ok((sums, _)) = <[i32]>::mut_from_prefix_with_elems(scratch, channels) else { return };
        sums.fill(0);
        for pixel in from.chunks_exact(channels).take(pixels) {
            for (sum, &v) in sums.iter_mut().zip(pixel) {
                *sum = sum.wrapping_add(i32::from(v as i8) - i32::from(layer.in_quant.zero_point));
            }
        }
        for (out, &sum) in to.iter_mut().zip(&*sums) {
            *out = requantize(sum, multiplier, shift, layer.out_quant.zero_point) as u8;
        }
    } else {
        let from = <[f32]>::ref_from_bytes(from).unwrap_or(&[]);
        let Ok((sums, _)) = <[f32]>::mut_from_prefix_with_elems(to, channels) else { return };
        sums.fill(0.0);
        for pixel in from.chunks_exact(channels).take(pixels) {
            for (sum, &v) in sums.iter_mut().zip(pixel) {
                *sum += v;
            }
        }
        for sum in sums {
            *sum /= pixels as f32;
        }
    }
}
