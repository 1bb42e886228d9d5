//! Requantized Winograd twins of random int8 networks, and of one layer the plain arithmetic, by the matrices alone.
//!
//! ```text
//! winograd8_twin(model, form)   every 3x3 layer behind the first; multipliers for activations of random, even spread
//! ```

use vgg_edge_blob::layout::S8Params;
use vgg_edge_blob::requant::Fixed;
use vgg_edge_blob::winograd8::Form;
use vgg_edge_blob::{NewLinear, NewModel, NewOp, NewWeights};

/// Standard deviation of the activations that multipliers are made for.
const SPREAD: f64 = 60.0;
/// Standard deviations that 8 bits reach.
const REACH: f64 = 3.5;

/// The same model in requantized Winograd wherever the format has it: approximately the same results.
pub(crate) fn winograd8_twin(mut model: NewModel, form: Form) -> NewModel {
    let mut channels = model.input.channels as usize;
    for (i, layer) in model.layers.iter_mut().enumerate() {
        match &mut layer.op {
            NewOp::Conv { kernel, algorithm, linear } => {
                if i > 0 && *kernel == 3 && matches!(linear.weights, NewWeights::S8(..)) {
                    *algorithm = form.algorithm();
                    transform(linear, channels, form);
                }
                channels = linear.outputs as usize;
            }
            NewOp::Dense(linear) => channels = linear.outputs as usize,
            NewOp::MaxPool { .. } | NewOp::GlobalAvgPool { .. } => {}
        }
    }
    model
}

/// Replaces direct weights by transformed ones. What is quantized is only tested, not good: trained networks have better ways.
fn transform(linear: &mut NewLinear, channels: usize, form: Form) {
    let NewWeights::S8(weights, params) = &linear.weights else { return };
    let (outputs, n_taps, window) = (linear.outputs as usize, form.taps(), form.window());
    let size = |i: usize| {
        f64::from(form.input_matrix()[i].iter().map(|b| i32::from(*b) * i32::from(*b)).sum::<i32>()).sqrt()
    };
    let seen = f64::from(form.input_matrix()[1].iter().sum::<i16>());
    let bias_tap = form.bias_tap();
    let multiplier = |t: usize| {
        // Tap (1, 1) sees what a channel always has: it needs room for the whole range.
        let reach = if t == bias_tap {
            128.0 * seen * seen
        } else {
            REACH * SPREAD * size(t / window) * size(t % window)
        };
        let real = 124.0 / reach;
        ((real * 32768.0).round() as i16).max(1)
    };
    let multipliers: Vec<i16> = (0..n_taps).flat_map(|t| vec![multiplier(t); channels]).collect();
    // Any number that leaves that room; the bias takes it back.
    let offset = |c: usize| (c % 7) as i16 - 3;
    let (mut taps, mut scales) = (vec![0; n_taps * outputs * channels], vec![0; n_taps * outputs]);
    let mut new_params = vec![S8Params::default(); params.len()];
    for output in 0..outputs {
        let filter = &weights[output * 9 * channels..][..9 * channels];
        let real: Vec<Vec<f64>> = (0..channels)
            .map(|c| form.transform_weights(&core::array::from_fn(|k| f64::from(filter[k * channels + c]))))
            .collect();
        let most = |t: usize| real.iter().map(|taps| taps[t].abs()).fold(1e-9, f64::max);
        // A sum's real value is acc * step: times `unit` it is below 1 for all taps.
        let step = |t: usize| most(t) / 127.0 / (f64::from(multiplier(t)) / 32768.0);
        let unit = 0.999 / (0..n_taps).map(step).fold(0.0, f64::max);
        let (group, lane) = (output / 8, output % 8);
        let (old, new) = (&params[group], &mut new_params[group]);
        let scale_of = |multiplier: i32, shift: i32| f64::from(multiplier) / 2f64.powi(31 + shift);
        let whole = scale_of(old.multiplier[lane], old.shift[lane]) / unit;
        // A network whose outputs are few steps keeps fewer bits before the last product.
        let unit = if whole < 1.0 { unit } else { unit * whole * 1.001 };
        let whole = whole.min(0.999);
        let mut bias = f64::from(old.bias[lane]) * unit;
        for t in 0..n_taps {
            let scale = (step(t) * unit).min(0.999_999);
            scales[t * outputs + output] = (scale * 2f64.powi(31)) as i32;
            for (c, real) in real.iter().enumerate() {
                let tap = (real[t] / most(t) * 127.0).round();
                taps[(t * outputs + output) * channels + c] = tap as i8;
                if t == bias_tap {
                    bias -= f64::from(offset(c)) * tap * scale;
                }
            }
        }
        let fixed = Fixed::from_scale(whole).unwrap_or(Fixed { multiplier: 0, shift: 0 });
        new.bias[lane] = bias.round() as i32;
        (new.multiplier[lane], new.shift[lane]) = (fixed.multiplier, fixed.shift);
        new.scale[lane] = (f64::from(old.scale[lane]) / unit) as f32;
    }
    linear.weights = NewWeights::S8Winograd {
        form,
        taps,
        params: new_params,
        multipliers,
        offsets: (0..channels).map(offset).collect(),
        scales,
    };
}
