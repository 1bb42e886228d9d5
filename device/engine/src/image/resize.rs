//! The resampler, byte for byte Pillow's: 8-bit pixels, 22-bit fixed-point filters, rows then columns.
//!
//! ```text
//! centre(x)  = (x + 0.5) * scale                 scale = input size / output size
//! reach      = support * max(scale, 1)           the filter widens when shrinking (antialiasing)
//! k(x, i)    = round(2^22 * f((i - centre + 0.5) / max(scale, 1)) / sum)     |i + 0.5 - centre| within reach
//! out(x)     = clamp((2^21 + sum over i of in(i) * k(x, i)) >> 22, 0, 255)
//! ```
//!
//! Between the two passes values are rounded to 8 bits, as there; [`columns_first`] has the exception to
//! the order. Only the asked-for window of the output is computed, input rows it does not need are skipped,
//! and the columns pass adds each row to the output rows that use it, so memory stays at a few rows
//! whatever the size of the input.
//!
//! With alpha, the last of 2 or 4 channels, colours are weighted by it (`Image.resize`: `RGBA` to `RGBa`, resize, and
//! back, unless the size stays or the filter is nearest; `MULDIV255` and `CLIP8` of Pillow's `Convert.c`):
//!
//! ```text
//! t = colour * alpha + 128    premultiplied = (t + (t >> 8)) >> 8
//! colour = min(255 * premultiplied / alpha, 255), rounded down; unchanged where alpha is 0 or 255
//! ```

use alloc::{vec, vec::Vec};

use vgg_edge_blob::ResizeFilter;

use super::ImageView;

/// Fraction bits of a filter coefficient.
const PRECISION: u32 = 22;

/// Radius of `filter` in input pixels when enlarging.
fn support(filter: ResizeFilter) -> f64 {
    match filter {
        ResizeFilter::Nearest | ResizeFilter::Box => 0.5,
        ResizeFilter::Bilinear => 1.0,
        ResizeFilter::Bicubic => 2.0,
        ResizeFilter::Lanczos => 3.0,
    }
}

/// Value of `filter` at distance `x` from its centre.
fn weight(filter: ResizeFilter, x: f64) -> f64 {
    let d = libm::fabs(x);
    match filter {
        ResizeFilter::Nearest | ResizeFilter::Box if x > -0.5 && x <= 0.5 => 1.0,
        ResizeFilter::Bilinear if d < 1.0 => 1.0 - d,
        ResizeFilter::Bicubic if d < 1.0 => ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0,
        ResizeFilter::Bicubic if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * A,
        ResizeFilter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
        _ => 0.0,
    }
}

/// The free parameter of the cubic.
const A: f64 = -0.5;

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * core::f64::consts::PI;
    libm::sin(x) / x
}

/// The part of one output axis to compute: positions `start..start + len` of `full`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Output size of the whole axis, at least 1.
    pub(super) full: usize,
    /// First position wanted.
    pub(super) start: usize,
    /// Positions wanted; `start + len <= full`.
    pub(super) len: usize,
}

/// The coefficients of one axis: position `i` reads inputs `first[i]..end[i]`.
struct Taps {
    first: Vec<usize>,
    end: Vec<usize>,
    /// Start of each position's coefficients.
    at: Vec<usize>,
    coefficients: Vec<i32>,
}

impl Taps {
    fn new(size: usize, window: Window, filter: ResizeFilter) -> Self {
        let scale = size as f64 / window.full as f64;
        let widening = scale.max(1.0);
        let reach = support(filter) * widening;
        let step = 1.0 / widening;
        let mut taps = Taps { first: vec![], end: vec![], at: vec![], coefficients: vec![] };
        let mut weights = Vec::new();
        for x in window.start..window.start + window.len {
            let centre = (x as f64 + 0.5) * scale;
            // Float to integer casts truncate and saturate, as the clamps of the original do.
            let first = (centre - reach + 0.5) as usize;
            let end = ((centre + reach + 0.5) as usize).min(size);
            weights.clear();
            weights.extend((first..end).map(|i| weight(filter, (i as f64 - centre + 0.5) * step)));
            let sum: f64 = weights.iter().sum();
            taps.at.push(taps.coefficients.len());
            taps.first.push(first);
            taps.end.push(end);
            taps.coefficients.extend(weights.iter().map(|w| {
                let k = if sum == 0.0 { *w } else { w / sum } * f64::from(1u32 << PRECISION);
                if k < 0.0 { (k - 0.5) as i32 } else { (k + 0.5) as i32 }
            }));
        }
        taps
    }

    fn of(&self, i: usize) -> &[i32] {
        &self.coefficients[self.at[i]..][..self.end[i] - self.first[i]]
    }

    /// The most positions that one input contributes to while another of them is unfinished.
    fn overlap(&self) -> usize {
        let (mut most, mut next) = (0, 0);
        for (i, &end) in self.end.iter().enumerate() {
            while next < self.first.len() && self.first[next] < end {
                next += 1;
            }
            most = most.max(next.saturating_sub(i));
        }
        most
    }
}

fn clip(acc: i32) -> u8 {
    (acc >> PRECISION).clamp(0, 255) as u8
}

/// One row through the rows pass: `output` is `[taps][C]`.
fn resample_row<const C: usize>(row: &[u8], taps: &Taps, output: &mut [u8]) {
    for (i, pixel) in output.as_chunks_mut::<C>().0.iter_mut().enumerate() {
        let inputs = &row.as_chunks::<C>().0[taps.first[i]..taps.end[i]];
        let mut acc = [1 << (PRECISION - 1); C];
        for (input, k) in inputs.iter().zip(taps.of(i)) {
            for c in 0..C {
                acc[c] += i32::from(input[c]) * k;
            }
        }
        *pixel = acc.map(clip);
    }
}

/// Where a window of the result goes: row `y` of the window starts at `data[y * pitch]`.
pub(super) struct Target<'a> {
    pub(super) data: &'a mut [u8],
    /// Bytes between rows.
    pub(super) pitch: usize,
}

/// Resizes `image` to `columns.full` x `rows.full` and writes the window of it that is asked for.
pub(super) fn resample(
    image: ImageView<'_>,
    filter: ResizeFilter,
    columns: Window,
    rows: Window,
    target: Target<'_>,
) {
    let width = columns.len * image.channels;
    if width == 0 || rows.len == 0 {
        return;
    }
    let outputs = target.data.chunks_mut(target.pitch).take(rows.len).map(|row| &mut row[..width]);
    if filter == ResizeFilter::Nearest {
        return nearest(image, columns, rows, outputs);
    }
    let across = RowPass::new(image, columns, filter);
    let mut source = SourceRows::new(image, columns, rows);
    if rows.full == image.height {
        for (y, output) in outputs.enumerate() {
            across.apply(source.row(rows.start + y), output);
            source.finish(output);
        }
        return;
    }
    let columns_first = across.taps.is_some() && columns_first(image, columns, rows);
    let between = if columns_first { image.width * image.channels } else { width };
    let taps = Taps::new(image.height, rows, filter);
    // Row `y` accumulates in slot `y % slots` from its first input row to its last.
    let slots = taps.overlap();
    let mut acc = vec![0i32; slots * between];
    let mut buffer = vec![0u8; between];
    let mut fed = taps.first[0];
    for (y, output) in outputs.enumerate() {
        while fed < taps.end[y] {
            let row = source.row(fed);
            let input = if columns_first {
                row
            } else {
                across.apply(row, &mut buffer);
                &buffer
            };
            for i in (y..rows.len).take_while(|&i| taps.first[i] <= fed) {
                let slot = &mut acc[i % slots * between..][..between];
                if taps.first[i] == fed {
                    slot.fill(1 << (PRECISION - 1));
                }
                let k = taps.of(i)[fed - taps.first[i]];
                for (a, &v) in slot.iter_mut().zip(input) {
                    *a += i32::from(v) * k;
                }
            }
            fed += 1;
        }
        let sums = &acc[y % slots * between..][..between];
        let finished = if columns_first { &mut buffer } else { &mut *output };
        for (f, a) in finished.iter_mut().zip(sums) {
            *f = clip(*a);
        }
        if columns_first {
            across.apply(&buffer, output);
        }
        source.finish(output);
    }
}

/// The input's rows as the passes take them: colours times alpha, if there is an alpha and the size changes.
struct SourceRows<'a> {
    image: ImageView<'a>,
    /// A premultiplied row; empty when rows are read in place.
    buffer: Vec<u8>,
}

impl<'a> SourceRows<'a> {
    fn new(image: ImageView<'a>, columns: Window, rows: Window) -> Self {
        let same = (columns.full, rows.full) == (image.width, image.height);
        let has_alpha = image.channels.is_multiple_of(2);
        let len = if has_alpha && !same { image.width * image.channels } else { 0 };
        Self { image, buffer: vec![0; len] }
    }

    fn row(&mut self, y: usize) -> &[u8] {
        let row = self.image.row(y);
        if self.buffer.is_empty() {
            return row;
        }
        self.buffer.copy_from_slice(row);
        for pixel in self.buffer.chunks_exact_mut(self.image.channels) {
            let [colours @ .., alpha] = pixel else { continue };
            for colour in colours {
                let t = u32::from(*colour) * u32::from(*alpha) + 128;
                *colour = ((t + (t >> 8)) >> 8) as u8;
            }
        }
        &self.buffer
    }

    /// Takes alpha out of a finished row's colours again.
    fn finish(&self, output: &mut [u8]) {
        if self.buffer.is_empty() {
            return;
        }
        for pixel in output.chunks_exact_mut(self.image.channels) {
            if let [colours @ .., alpha @ 1..=254] = pixel {
                let alpha = u32::from(*alpha);
                colours.iter_mut().for_each(|c| *c = (255 * u32::from(*c) / alpha).min(255) as u8);
            }
        }
    }
}

/// Whether Pillow 13 runs the columns pass first: when the height shrinks by more than twice as many
/// pixels as the width. Older versions never do; the two orders differ by one step in a few values.
fn columns_first(image: ImageView<'_>, columns: Window, rows: Window) -> bool {
    let fewer_rows = image.height as i64 - rows.full as i64;
    let fewer_columns = image.width as i64 - columns.full as i64;
    fewer_rows > 0 && fewer_rows > fewer_columns.saturating_mul(2)
}

/// The rows pass over one row at a time; a plain copy when the width does not change.
struct RowPass {
    taps: Option<Taps>,
    columns: Window,
    channels: usize,
}

impl RowPass {
    fn new(image: ImageView<'_>, columns: Window, filter: ResizeFilter) -> Self {
        let taps = (columns.full != image.width).then(|| Taps::new(image.width, columns, filter));
        Self { taps, columns, channels: image.channels }
    }

    /// `row` is a whole input row, `output` the window of columns.
    fn apply(&self, row: &[u8], output: &mut [u8]) {
        let channels = self.channels;
        let Some(taps) = &self.taps else {
            return output.copy_from_slice(&row[self.columns.start * channels..][..output.len()]);
        };
        match channels {
            1 => resample_row::<1>(row, taps, output),
            2 => resample_row::<2>(row, taps, output),
            3 => resample_row::<3>(row, taps, output),
            _ => resample_row::<4>(row, taps, output),
        }
    }
}

/// The input position of each output position of the window; Pillow adds the step up in floating point, and so
/// do we.
fn nearest_table(size: usize, window: Window) -> Vec<usize> {
    let step = size as f64 / window.full as f64;
    let mut at = step * 0.5;
    let mut table = Vec::with_capacity(window.len);
    for i in 0..window.start + window.len {
        if i >= window.start {
            table.push((at as usize).min(size - 1));
        }
        at += step;
    }
    table
}

fn nearest<'o>(
    image: ImageView<'_>,
    columns: Window,
    rows: Window,
    outputs: impl Iterator<Item = &'o mut [u8]>,
) {
    let channels = image.channels;
    let columns = nearest_table(image.width, columns);
    for (y, output) in nearest_table(image.height, rows).into_iter().zip(outputs) {
        let row = image.row(y);
        for (x, pixel) in columns.iter().zip(output.chunks_exact_mut(channels)) {
            pixel.copy_from_slice(&row[x * channels..][..channels]);
        }
    }
}
