//! Requantized Winograd: real weights and what the taps saw to 8-bit taps and their scales.
//!
//! ```text
//! U[t][o][c] = (G w G')[t]        from the real weights, in f64
//! step[t][c]                      of an input tap, in steps of the map; multiplier = 2^15 / step, the offset centres tap (1, 1)
//! su[t][o]                        of a weight tap:  weight = round(U * step / su)
//! unit[o]                         of the sums that the output transform takes:  scale = 2^31 * su * s_in / unit
//! ```
//!
//! A tap's error has three parts: its input's rounding, its input's clipping, its weights' rounding. Larger steps mean more of
//! the first, less of the second, and a channel's step moves the third to or from its weights. Per tap the steps are
//!
//! ```text
//! step[c] = g * range_v[c]^alpha / range_u[c]^(1 - alpha)
//! ```
//!
//! the balance of SmoothQuant (G. Xiao et al., 2022), with the `alpha` and `g` that make the predicted error least.
//! Clipping counts [`CLIPPING`] times: where a window is extreme many channels are at once, and their errors do not average
//! out as those of rounding do.

use rayon::prelude::*;
use vgg_edge_blob::layout::{GROUP, S8Params};
use vgg_edge_blob::requant::{ACC_LIMIT, Fixed};
use vgg_edge_blob::winograd8::{Form, rdmulh32};
use vgg_edge_blob::{NewLinear, NewWeights, Quantization, S8Layout};

use super::QuantizeError;
use super::fold::OhwiWeights;
use crate::calibrate::TapStats;

/// What clipping counts against rounding.
const CLIPPING: f64 = 10.0;
/// Shares of the input's range in the balance: 0 leaves the channels' ranges to the weights, 1 evens the inputs out.
const ALPHAS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
/// Ranges tried, as powers of 2^-1/4 of the full one.
const RANGES: i32 = 7;
/// A channel's range counts as at least this share of the tap's largest.
const LEAST_RANGE: f64 = 0.01;
/// Shares of the full range tried for weight taps.
const WEIGHT_RANGES: [f64; 7] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];

/// A 3x3 layer to transform and quantize.
#[derive(Clone, Copy)]
pub struct Winograd8<'a> {
    /// Layer name.
    pub name: &'a str,
    /// Real weights, `[out][9][in]`, and bias.
    pub filters: &'a OhwiWeights,
    /// The map it takes.
    pub input: Quantization,
    /// The map it gives.
    pub output: Quantization,
    /// Whether a ReLU follows.
    pub relu: bool,
}

/// A layer as the blob's writer takes it.
#[derive(Clone, Debug)]
pub struct QuantizedTaps {
    /// Weights and parameters, for the form's algorithm.
    pub linear: NewLinear,
    /// Predicted mean squared error of an output in front of the ReLU, real values squared: what this algorithm adds.
    pub noise: f64,
}

/// One tap of all channels.
struct Tap {
    /// `[out][in]`.
    weights: Vec<i8>,
    multipliers: Vec<i16>,
    /// A channel: what v is off by where V, zero point removed, is 0.
    constants: Vec<f64>,
    offsets: Vec<i16>,
    /// Real value of an accumulator's step in steps of the map, an output.
    steps: Vec<f64>,
    /// Mean error of rounded weights, in steps of the map, an output.
    shifts: Vec<f64>,
    /// Mean squared error of a sum, in squared steps of the map.
    noise: f64,
}

impl Winograd8<'_> {
    /// Quantizes for `stats.form()`.
    ///
    /// # Errors
    /// [`QuantizeError::Scale`] when a step has no fixed-point form, so that the layer needs another algorithm.
    pub fn quantize(&self, stats: &TapStats) -> Result<QuantizedTaps, QuantizeError> {
        let form = stats.form();
        let (n, window, channels, outputs) =
            (form.taps(), form.window(), stats.channels(), self.filters.bias.len());
        let transformed = self.transformed(form, channels);
        let zero = self.zero(form);
        let taps: Vec<Tap> = (0..n)
            .into_par_iter()
            .map(|t| {
                Tap::quantize(&transformed[t * outputs * channels..][..outputs * channels], stats, t, zero)
            })
            .collect();
        let a = form.output_matrix();
        // Mean over the outputs of a tile: of the factor, and of its square.
        let mean = |t: usize, square: bool| {
            let of = |k: usize| {
                let column = a.iter().map(|row| f64::from(row[k]));
                column.map(|v| if square { v * v } else { v }).sum::<f64>() / a.len() as f64
            };
            of(t / window) * of(t % window)
        };
        let in_scale = f64::from(self.input.scale);
        let mut params = vec![S8Params::default(); outputs.div_ceil(GROUP)];
        let mut scales = vec![0i32; n * outputs];
        for o in 0..outputs {
            let shift: f64 = (0..n).map(|t| mean(t, false) * taps[t].shifts[o]).sum();
            let real_bias = f64::from(self.filters.bias[o]) + in_scale * shift;
            let fixed = self.output(form, &taps, o, real_bias)?;
            let p = &mut params[o / GROUP];
            (p.bias[o % GROUP], p.scale[o % GROUP]) = (fixed.bias, fixed.unit as f32);
            (p.multiplier[o % GROUP], p.shift[o % GROUP]) = (fixed.fixed.multiplier, fixed.fixed.shift);
            (0..n).for_each(|t| scales[t * outputs + o] = fixed.scales[t]);
        }
        let noise = in_scale * in_scale * (0..n).map(|t| mean(t, true) * taps[t].noise).sum::<f64>();
        let weights = NewWeights::S8Winograd {
            form,
            taps: taps.iter().flat_map(|t| t.weights.iter().copied()).collect(),
            params,
            multipliers: taps.iter().flat_map(|t| t.multipliers.iter().copied()).collect(),
            offsets: taps[form.bias_tap()].offsets.clone(),
            scales,
        };
        let pad = [self.input.zero_point; 4];
        let linear =
            NewLinear { outputs: outputs as u32, relu: self.relu, pad, layout: S8Layout::default(), weights };
        Ok(QuantizedTaps { linear, noise })
    }

    /// `[taps][out][in]`.
    fn transformed(&self, form: Form, channels: usize) -> Vec<f64> {
        let outputs = self.filters.bias.len();
        let mut taps = vec![0f64; form.taps() * outputs * channels];
        for (o, filter) in self.filters.weights.chunks_exact((9 * channels).max(1)).enumerate() {
            for c in 0..channels {
                let filter = core::array::from_fn(|k| f64::from(filter[k * channels + c]));
                for (t, value) in form.transform_weights(&filter).into_iter().enumerate() {
                    taps[(t * outputs + o) * channels + c] = value;
                }
            }
        }
        taps
    }

    /// What tap (1, 1) of a map of zero points is.
    fn zero(&self, form: Form) -> f64 {
        let sum: f64 = form.input_matrix()[1].iter().map(|v| f64::from(*v)).sum();
        sum * sum * f64::from(self.input.zero_point)
    }

    /// The fixed-point numbers of output `o`. Its unit is the coarsest tap's step, the finest for which all scales are below 1,
    /// or as much coarser as the writer's proof asks.
    fn output(
        &self,
        form: Form,
        taps: &[Tap],
        o: usize,
        real_bias: f64,
    ) -> Result<OutputNumbers, QuantizeError> {
        let error = |found| QuantizeError::Scale { layer: self.name.to_owned(), channel: o, found };
        let in_scale = f64::from(self.input.scale);
        let channels = taps[0].multipliers.len();
        let weights = |t: usize| &taps[t].weights[o * channels..][..channels];
        let bounds: Vec<i32> = (0..taps.len())
            .map(|t| 128 * weights(t).iter().map(|w| i32::from(w.unsigned_abs())).sum::<i32>())
            .collect();
        let largest = taps.iter().map(|t| t.steps[o]).fold(0f64, f64::max);
        let bias_tap = form.bias_tap();
        let constant: f64 =
            (weights(bias_tap).iter().zip(&taps[bias_tap].constants)).map(|(w, k)| f64::from(*w) * k).sum();
        let mut unit = largest * in_scale * (1.0 + 1e-9);
        // A channel whose bias would not fit: coarser, as in direct layers.
        unit = unit.max(real_bias.abs() / f64::from(1 << 27));
        if unit <= 0.0 {
            unit = f64::from(self.output.scale) / 2.0;
        }
        loop {
            let scale = |t: usize| (taps[t].steps[o] * in_scale / unit * 2f64.powi(31)).round();
            let scales: Vec<i32> = (0..taps.len()).map(|t| scale(t).min(2_147_483_647.0) as i32).collect();
            let moved = constant * f64::from(scales[bias_tap]) / 2f64.powi(31);
            let bias = (real_bias / unit - moved).round();
            if reach(form, &bounds, &scales) + bias.abs() < ACC_LIMIT as f64 {
                let scale = unit / f64::from(self.output.scale);
                let fixed = Fixed::from_scale(scale).ok_or_else(|| error(scale))?;
                return Ok(OutputNumbers { bias: bias as i32, unit, scales, fixed });
            }
            unit *= 2.0;
            if !unit.is_finite() || unit >= f64::from(self.output.scale) {
                return Err(error(unit / f64::from(self.output.scale)));
            }
        }
    }
}

struct OutputNumbers {
    bias: i32,
    unit: f64,
    scales: Vec<i32>,
    fixed: Fixed,
}

/// The magnitudes of all terms of an output together, bias apart, where they are most.
fn reach(form: Form, bounds: &[i32], scales: &[i32]) -> f64 {
    let (a, window) = (form.output_matrix(), form.window());
    let size = |v: i32| f64::from(v.abs());
    let output = |y: usize, x: usize| -> f64 {
        let term = |t: usize| {
            size(a[y][t / window]) * size(a[x][t % window]) * f64::from(rdmulh32(bounds[t], scales[t]))
        };
        (0..bounds.len()).map(term).sum()
    };
    (0..a.len())
        .flat_map(|y| (0..a.len()).map(move |x| (y, x)))
        .map(|(y, x)| output(y, x))
        .fold(0.0, f64::max)
}

/// What a tap's channels are like.
struct Channels {
    centres: Vec<f64>,
    /// Largest distance from the centre.
    ranges: Vec<f64>,
    /// Mean squared distance.
    powers: Vec<f64>,
    /// Distances with the share of the windows, from the largest.
    distances: Vec<Vec<(f64, f64)>>,
    /// Largest weight, and mean squared weight.
    weights: Vec<(f64, f64)>,
}

impl Channels {
    fn new(real: &[f64], stats: &TapStats, tap: usize) -> Self {
        let channels = stats.channels();
        let outputs = real.len() / channels.max(1);
        let mut new =
            Self { centres: vec![], ranges: vec![], powers: vec![], distances: vec![], weights: vec![] };
        for c in 0..channels {
            let (low, high) = stats.range(tap, c);
            let (low, high) = (f64::from(low), f64::from(high));
            let centre = if tap == stats.form().bias_tap() { (low + high) / 2.0 } else { 0.0 };
            let mut distances = Vec::new();
            stats.distances(tap, c, centre, |distance, share| distances.push((distance, share)));
            distances.sort_by(|a, b| b.0.total_cmp(&a.0));
            new.centres.push(centre);
            new.ranges.push((high - centre).max(centre - low));
            new.powers.push(distances.iter().map(|(d, share)| share * d * d).sum());
            new.distances.push(distances);
            let of_channel = || real.iter().skip(c).step_by(channels);
            let largest = of_channel().fold(0f64, |m, u| m.max(u.abs()));
            new.weights.push((largest, of_channel().map(|u| u * u).sum::<f64>() / outputs.max(1) as f64));
        }
        let least = LEAST_RANGE * new.ranges.iter().copied().fold(0.0, f64::max);
        new.ranges.iter_mut().for_each(|range| *range = range.max(least).max(1e-3));
        new
    }

    /// Mean squared error of an input tap at this step; clipping counts `weight` times.
    fn error(&self, c: usize, step: f64, weight: f64) -> f64 {
        let end = 127.0 * step;
        let beyond = self.distances[c].iter().take_while(|(d, _)| *d > end);
        step * step / 12.0 + weight * beyond.map(|(d, share)| share * (d - end).powi(2)).sum::<f64>()
    }

    /// Mean squared error of a sum: inputs, then weights whose full range is 127 steps.
    fn noise(&self, real: &[f64], steps: &[f64], weight: f64) -> f64 {
        let inputs: f64 = (0..steps.len()).map(|c| self.weights[c].1 * self.error(c, steps[c], weight)).sum();
        let rows = real.chunks_exact(steps.len().max(1));
        let n = rows.len().max(1) as f64;
        let largest = |row: &[f64]| row.iter().zip(steps).fold(0f64, |m, (u, s)| m.max((u * s).abs()));
        let su: f64 = rows.map(|row| (largest(row) / 127.0).powi(2)).sum::<f64>() / n;
        let values: f64 = self.powers.iter().zip(steps).map(|(power, s)| power / (s * s)).sum();
        inputs + su * values / 12.0
    }

    /// The steps with the least error.
    fn steps(&self, real: &[f64]) -> Vec<f64> {
        let mut best = (f64::INFINITY, Vec::new());
        for alpha in ALPHAS {
            let shape: Vec<f64> = (self.ranges.iter().zip(&self.weights))
                .map(|(range, (largest, _))| range.powf(alpha) / (largest + 1e-9).powf(1.0 - alpha))
                .collect();
            // Common to all channels so that none is clipped.
            let full = self.ranges.iter().zip(&shape).fold(0f64, |m, (range, s)| m.max(range / s / 127.0));
            for quarter in 0..RANGES {
                let g = full * (-f64::from(quarter) / 4.0).exp2();
                // Below 1 the multiplier does not fit, and integers gain nothing.
                let steps: Vec<f64> = shape.iter().map(|s| (s * g).clamp(1.0, 32768.0)).collect();
                let noise = self.noise(real, &steps, CLIPPING);
                if noise < best.0 {
                    best = (noise, steps);
                }
            }
        }
        best.1
    }
}

impl Tap {
    /// `real` is `[out][in]`; `zero` is what tap (1, 1) is at real 0.
    fn quantize(real: &[f64], stats: &TapStats, tap: usize, zero: f64) -> Self {
        let channels = Channels::new(real, stats, tap);
        let sees_zero = tap == stats.form().bias_tap();
        let wanted = channels.steps(real);
        let multiplier = |s: &f64| (32768.0 / s).round().clamp(1.0, 32767.0) as i16;
        let multipliers: Vec<i16> = wanted.iter().map(multiplier).collect();
        let steps: Vec<f64> = multipliers.iter().map(|m| 32768.0 / f64::from(*m)).collect();
        let (mut offsets, mut constants) = (Vec::new(), Vec::new());
        for (step, centre) in steps.iter().zip(&channels.centres) {
            let zero = if sees_zero { zero } else { 0.0 };
            let offset = if sees_zero { (-(centre + zero) / step).round() } else { 0.0 };
            offsets.push(offset as i16);
            constants.push(zero / step + offset);
        }
        let means: Vec<f64> = (0..stats.channels()).map(|c| stats.mean(tap, c)).collect();
        let importance: Vec<f64> = channels.powers.iter().zip(&steps).map(|(p, s)| p / (s * s)).collect();
        let (mut weights, mut of_outputs, mut shifts) = (Vec::new(), Vec::new(), Vec::new());
        for row in real.chunks_exact(steps.len().max(1)) {
            let scaled: Vec<f64> = row.iter().zip(&steps).map(|(u, s)| u * s).collect();
            let su = weight_step(&scaled, &importance);
            let quantized = scaled.iter().map(|u| (u / su).round().clamp(-127.0, 127.0));
            let mut shift = 0.0;
            for (c, q) in quantized.enumerate() {
                shift += (row[c] - q * su / steps[c]) * means[c];
                weights.push(q as i8);
            }
            of_outputs.push(su);
            shifts.push(shift);
        }
        let noise = channels.noise(real, &steps, 1.0);
        Self { weights, multipliers, constants, offsets, steps: of_outputs, shifts, noise }
    }
}

/// Step of an output's weights, already in steps of their inputs: the one with the least squared error.
fn weight_step(scaled: &[f64], importance: &[f64]) -> f64 {
    let largest = scaled.iter().fold(0f64, |m, u| m.max(u.abs()));
    if largest == 0.0 {
        return 1e-30;
    }
    let error = |share: f64| {
        let step = largest * share / 127.0;
        let of = |(u, w): (&f64, &f64)| w * ((u / step).round().clamp(-127.0, 127.0) * step - u).powi(2);
        (step, scaled.iter().zip(importance).map(of).sum::<f64>())
    };
    WEIGHT_RANGES.into_iter().map(error).min_by(|a, b| a.1.total_cmp(&b.1)).map_or(1e-30, |(step, _)| step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vgg_edge_blob::requant::requantize;
    use vgg_edge_blob::winograd8::to_i8;

    const SIDE: usize = 24;
    const CHANNELS: usize = 5;
    const OUTPUTS: usize = 9;

    fn uniform(n: usize, state: &mut u32) -> Vec<f32> {
        let next = |_| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(next).collect()
    }

    /// A smooth map behind a ReLU, minus its zero point; channels of very different strength.
    fn map(state: &mut u32) -> Vec<i16> {
        let noise = uniform(SIDE * SIDE * CHANNELS, state);
        let value = |i: usize| {
            let (pixel, c) = (i / CHANNELS, i % CHANNELS);
            let (y, x) = ((pixel / SIDE) as f32, (pixel % SIDE) as f32);
            let wave = (y * 0.4 + c as f32).sin() * (x * 0.3).cos() + 0.4 * noise[i];
            (wave * 180.0 / (1 << c) as f32).clamp(0.0, 255.0).round() as i16
        };
        (0..noise.len()).map(value).collect()
    }

    struct Case {
        filters: OhwiWeights,
        maps: Vec<Vec<i16>>,
        input: Quantization,
        output: Quantization,
    }

    impl Case {
        fn new(zero_point: i8) -> Self {
            let mut state = 0x5EED;
            println!("seed {state:#x}");
            let weights = uniform(OUTPUTS * 9 * CHANNELS, &mut state);
            let filters = OhwiWeights { weights, bias: uniform(OUTPUTS, &mut state) };
            // Enough that the largest tap of a new map is rarely beyond what was seen.
            let maps = (0..48).map(|_| map(&mut state)).collect();
            let input = Quantization { scale: 0.02, zero_point };
            Self { filters, maps, input, output: Quantization { scale: 0.12, zero_point: -3 } }
        }

        fn quantize(&self, form: Form) -> (TapStats, QuantizedTaps) {
            let mut stats = TapStats::new(form, CHANNELS);
            self.maps.iter().for_each(|map| stats.add(map, SIDE, SIDE));
            let (input, output) = (self.input, self.output);
            let new = Winograd8 { name: "l", filters: &self.filters, input, output, relu: false };
            let quantized = new.quantize(&stats).unwrap();
            (stats, quantized)
        }
    }

    /// Real filter taps and those that the 8-bit numbers mean, in steps of the weights.
    #[test]
    fn weights_are_the_real_taps_within_half_a_step() {
        for form in Form::ALL {
            let case = Case::new(-128);
            let (_, quantized) = case.quantize(form);
            let NewWeights::S8Winograd { taps, params, multipliers, scales, .. } = quantized.linear.weights
            else {
                panic!("transformed weights")
            };
            let mut clipped = 0;
            for (o, filter) in case.filters.weights.chunks_exact(9 * CHANNELS).enumerate() {
                let unit = f64::from(params[o / GROUP].scale[o % GROUP]);
                for c in 0..CHANNELS {
                    let filter = core::array::from_fn(|k| f64::from(filter[k * CHANNELS + c]));
                    for (t, real) in form.transform_weights(&filter).into_iter().enumerate() {
                        let su = f64::from(scales[t * OUTPUTS + o]) / 2f64.powi(31) * unit / 0.02;
                        let step = 32768.0 / f64::from(multipliers[t * CHANNELS + c]);
                        let found = taps[(t * OUTPUTS + o) * CHANNELS + c];
                        let off = (real * step / su - f64::from(found)).abs();
                        clipped += usize::from(found.abs() == 127 && off > 0.51);
                        assert!(off < 0.51 || found.abs() == 127, "{form:?} tap {t}: {off} steps");
                    }
                }
            }
            assert!(clipped * 10 < taps.len(), "{clipped} of {}", taps.len());
        }
    }

    /// The device's integers on a map that was not calibrated on, against the real convolution: bias, offset and zero point
    /// included, inside the map and on its edges; and the error is what was predicted.
    #[test]
    fn outputs_are_the_convolution_within_the_predicted_noise() {
        for (form, zero_point, least_db) in
            [(Form::F23, -128, 34.0), (Form::F23, 20, 34.0), (Form::F43, -128, 24.0), (Form::F43, -77, 24.0)]
        {
            let case = Case::new(zero_point);
            let (_, quantized) = case.quantize(form);
            let mut state = 77;
            let map = map(&mut state);
            let value = |y: isize, x: isize, c: usize| {
                let inside = (0..SIDE as isize).contains(&y) && (0..SIDE as isize).contains(&x);
                if inside { i32::from(map[(y as usize * SIDE + x as usize) * CHANNELS + c]) } else { 0 }
            };
            let (mut signal, mut noise, mut rounding, mut n) = (0.0, 0.0, 0.0, 0.0);
            for (y, x) in (0..SIDE / form.tile()).flat_map(|y| (0..SIDE / form.tile()).map(move |x| (y, x))) {
                let at = [y, x].map(|v| (v * form.tile()) as isize);
                let read = |i: usize, j: usize, c: usize| {
                    value(at[0] + i as isize - 1, at[1] + j as isize - 1, c) + i32::from(zero_point)
                };
                for o in 0..OUTPUTS {
                    for (p, (sum, q)) in tile(form, &quantized.linear, o, &read).into_iter().enumerate() {
                        let (i, j) = (p / form.tile(), p % form.tile());
                        let term = |k: usize| {
                            let (dy, dx, c) = (k / CHANNELS / 3, k / CHANNELS % 3, k % CHANNELS);
                            let v = value(at[0] + (i + dy) as isize - 1, at[1] + (j + dx) as isize - 1, c);
                            f64::from(case.filters.weights[o * 9 * CHANNELS + k]) * f64::from(v) * 0.02
                        };
                        let real = f64::from(case.filters.bias[o]) + (0..9 * CHANNELS).map(term).sum::<f64>();
                        signal += real * real;
                        noise += (real - sum).powi(2);
                        let steps = (real / 0.12).clamp(-125.0, 130.0);
                        rounding += (steps - (f64::from(q) + 3.0)).powi(2) * 0.12 * 0.12;
                        n += 1.0;
                    }
                }
            }
            let db = 10.0 * (signal / noise).log10();
            let predicted = 10.0 * (signal / n / quantized.noise).log10();
            println!("{form:?}, zero point {zero_point}: {db:.1} dB, predicted {predicted:.1}");
            assert!(
                db > least_db && (db - predicted).abs() < 4.0,
                "{form:?}: {db} dB, predicted {predicted}"
            );
            assert!(rounding < noise + n * 0.12 * 0.12 / 3.0, "{form:?}: requantized {rounding}, {noise}");
        }
    }

    /// One output channel of a tile as the device computes it: sums in real values, and the requantized outputs.
    fn tile(
        form: Form,
        linear: &NewLinear,
        o: usize,
        read: &dyn Fn(usize, usize, usize) -> i32,
    ) -> Vec<(f64, i8)> {
        let NewWeights::S8Winograd { taps, params, multipliers, offsets, scales, .. } = &linear.weights
        else {
            panic!("transformed weights")
        };
        let (b, a, window) = (form.input_matrix(), form.output_matrix(), form.window());
        let p = &params[o / GROUP];
        let sum = |t: usize| {
            let mut acc = 0;
            for c in 0..CHANNELS {
                let value = |k: usize| {
                    let (i, j) = (k / window, k % window);
                    i32::from(b[t / window][i]) * i32::from(b[t % window][j]) * read(i, j, c)
                };
                let v = (0..window * window).map(value).sum::<i32>() as i16;
                let offset = if t == form.bias_tap() { offsets[c] } else { 0 };
                let v = to_i8(v, multipliers[t * CHANNELS + c], offset);
                acc += i32::from(taps[(t * OUTPUTS + o) * CHANNELS + c]) * i32::from(v);
            }
            let scaled = rdmulh32(acc, scales[t * OUTPUTS + o]);
            if t == form.bias_tap() { scaled + p.bias[o % GROUP] } else { scaled }
        };
        let sums: Vec<i32> = (0..form.taps()).map(sum).collect();
        let output = |k: usize| {
            let (i, j) = (k / form.tile(), k % form.tile());
            (0..sums.len()).map(|t| a[i][t / window] * a[j][t % window] * sums[t]).sum::<i32>()
        };
        let unit = f64::from(p.scale[o % GROUP]);
        (0..form.tile() * form.tile())
            .map(output)
            .map(|y| (f64::from(y) * unit, requantize(y, p.multiplier[o % GROUP], p.shift[o % GROUP], -3)))
            .collect()
    }

    #[test]
    fn dead_layers_and_huge_biases_have_numbers() {
        for bias in [0.0, 1e6, -1e6] {
            let mut case = Case::new(-128);
            case.filters.weights.fill(0.0);
            case.filters.bias.fill(bias);
            case.output.scale = 1e4;
            let (_, quantized) = case.quantize(Form::F43);
            let found = tile(Form::F43, &quantized.linear, 3, &|_, _, _| -128)[5];
            assert_eq!(found.1, (f64::from(bias) / 1e4 - 3.0).round() as i8);
        }
    }
}
