//! f32 graph and ranges to the model that the blob writer takes.
//!
//! ```text
//! Graph ─► lower (fuse) ─► fold (preprocessing into the first layer) ─► int8 | f16 ─► NewModel
//! ```

mod equalize;
mod f16;
mod fold;
mod gptq;
mod int4;
mod int8;
mod lower;
mod real;
mod rounding;
mod winograd8;

use vgg_edge_blob::{
    Algorithm, NewLayer, NewModel, NewOp, Padding, Preprocess, Quantization, Scheme, Shape as BlobShape,
};

pub use equalize::{Exponents, Factors, equalize, exponents};
pub use fold::OhwiWeights;
pub use int4::FROM as INT4_FROM;
pub use int8::Rounded;
pub use lower::{Fused, FusedOp, LowerError, lower};
pub(crate) use real::{Real, real};
pub use rounding::Rounding;
pub use winograd8::{QuantizedTaps, Winograd8};

use crate::calibrate::{Calibration, Method, Moments};
use crate::graph::{self, Graph, GraphError};
use crate::plan::{self, Board, Conv};
use crate::preprocess::Preprocess as Rule;

/// Why a graph cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The device cannot run it.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// A scale that has no fixed-point form.
    #[error("layer `{layer}`, channel {channel}: scale {found:e} has no fixed-point form")]
    Scale {
        /// Layer name.
        layer: String,
        /// Output channel.
        channel: usize,
        /// The scale.
        found: f64,
    },
    /// A weight that half precision cannot hold.
    #[error("layer `{layer}`, channel {channel}: weight {found} is beyond half precision's 65504")]
    HalfRange {
        /// Layer name.
        layer: String,
        /// Output channel.
        channel: usize,
        /// The weight.
        found: f32,
    },
}

/// An input map's shape as the blob writes it.
pub(crate) fn blob_shape(shape: graph::Shape) -> BlobShape {
    BlobShape { height: shape.height as u32, width: shape.width as u32, channels: shape.channels as u32 }
}

/// A factor a channel in front of everything (Keras' `Rescaling`, `Normalization`) goes into the preprocessing, which the
/// first layer's weights take in:
///
/// ```text
/// ((pixel * scale - mean) / std) * s + t  =  (pixel * scale - (mean - t * std / s)) / (std / s)      s > 0
/// ```
///
/// It stays a layer where that cannot be said in pixels: with a factor that is not positive, or where value 0, which the first
/// convolution pads with, would be a pixel outside 0 to 255.
///
/// # Errors
/// None for a graph that was one before.
pub fn absorb_input(graph: Graph, rule: Rule) -> Result<(Graph, Rule), GraphError> {
    let Some((scale, shift)) = graph.layers().first().and_then(|l| l.op.affine()) else {
        return Ok((graph, rule));
    };
    let mut whole = rule.clone();
    for (c, (mean, std)) in whole.mean.iter_mut().zip(&mut whole.std).enumerate() {
        let (s, t) = (f64::from(scale.data()[c]), f64::from(shift.data()[c]));
        *mean -= t * *std / s;
        *std /= s;
    }
    let pixels = whole.mean.iter().map(|mean| mean / whole.scale);
    if !pixels.zip(&whole.std).all(|(zero, std)| *std > 0.0 && (0.0..=255.0).contains(&zero)) {
        return Ok((graph, rule));
    }
    let (name, input, mut layers) = graph.into_layers();
    layers.remove(0);
    Ok((Graph::new(name, input, layers)?, whole))
}

/// How a graph becomes int8.
#[derive(Clone, Copy)]
pub struct Int8<'a> {
    /// What its layers put out.
    pub calibration: &'a Calibration,
    /// How ranges are chosen.
    pub method: Method,
    /// Dense layers of so many weights take 4 bits, but for the last; `usize::MAX` for none.
    pub int4_from: usize,
    /// Of the inputs of each layer that [`lower`] gives; a layer without is rounded to nearest.
    pub moments: &'a [Option<Moments>],
    /// Whether biases take back what rounding the weights shifts on average.
    pub correct_bias: bool,
}

/// Whether layer `i` of `fused` takes 4 bits: a dense layer of at least `from` weights, neither the first nor the last.
fn is_int4(fused: &[Fused<'_>], i: usize, from: usize) -> bool {
    let weights = |op: &FusedOp| match op {
        FusedOp::Dense { weights, .. } => weights.data().len(),
        _ => 0,
    };
    i > 0 && i + 1 < fused.len() && weights(&fused[i].op) >= from.max(1)
}

/// Layers of the graph whose output layers with 4-bit weights read: what calibration must keep for [`to_int8`].
pub fn inputs_of_int4(fused: &[Fused<'_>], from: usize) -> Vec<usize> {
    (0..fused.len()).filter(|i| is_int4(fused, *i, from)).map(|i| fused[i - 1].layer_idx).collect()
}

/// Which layers take 8-bit weights.
pub(crate) fn is_int8(fused: &[Fused<'_>], i: usize, int4_from: usize) -> bool {
    let linear = matches!(fused[i].op, FusedOp::Conv { .. } | FusedOp::Dense { .. });
    linear && !is_int4(fused, i, int4_from)
}

/// Quantizes to int8, with 4-bit weights in large dense layers if that is wanted. A blob without such a layer is int8.
///
/// # Errors
/// [`QuantizeError`].
pub fn to_int8(graph: &Graph, rule: &Preprocess, how: &Int8<'_>) -> Result<NewModel, QuantizeError> {
    let Int8 { calibration, method, int4_from: from, moments, correct_bias } = *how;
    let fused = lower(graph)?;
    let mut quant = int8::PICTURE;
    let mut inputs = calibration.picture_means();
    let mut layers = Vec::with_capacity(fused.len());
    for (i, f) in fused.iter().enumerate() {
        let last = i + 1 == fused.len();
        let range = || calibration.range(f.layer_idx, method);
        let mut out = quant;
        let op = match f.op {
            FusedOp::MaxPool { stride, padding } => max_pool(stride, padding),
            FusedOp::GlobalAvgPool => {
                let relu = quant.zero_point == -128;
                let pixels = f.input.len() / f.input.channels().max(1);
                let own = int8::activation(range(), relu);
                out = int8::widened(own, quant.scale, &[1.0 / pixels as f64]);
                let fixed = int8::average(f.name, quant, out, pixels)?;
                NewOp::GlobalAvgPool { multiplier: fixed.multiplier, shift: fixed.shift }
            }
            FusedOp::Conv { relu, .. } | FusedOp::Dense { relu, .. } => {
                let weights = ohwi(f, i == 0, rule);
                let weights = if i == 0 { weights.fold(rule, f.input.channels()) } else { weights };
                let scales = int8::weight_scales(&weights, quant.scale);
                let gives_logits = last && matches!(f.op, FusedOp::Dense { .. });
                out = int8::widened(int8::activation(range(), relu), quant.scale, &scales);
                let pad =
                    if i == 0 { fold::padding(rule, f.input.channels()) } else { [quant.zero_point; 4] };
                let target = (!gives_logits).then_some(out);
                let mean = |i: usize| match f.op {
                    _ if !correct_bias => 0.0,
                    FusedOp::Conv { .. } => inputs.channel(i % f.input.channels()),
                    _ => inputs.value(i),
                };
                let linear = if is_int4(&fused, i, from) {
                    let before = fused[i - 1].layer_idx;
                    let dense = int4::Dense {
                        name: f.name,
                        layer: &weights,
                        input: quant,
                        channels: graph.output_shape(before).channels(),
                        pictures: &calibration.kept(before),
                    };
                    dense.quantize(target, relu, &mean)?
                } else {
                    let rounded = match moments.get(i).and_then(Option::as_ref) {
                        Some(moments) => rounding::optimal(&weights, &scales, moments),
                        None => rounding::nearest(&weights, &scales),
                    };
                    let (name, layer, scales) = (f.name, &weights, &scales[..]);
                    let linear = int8::Linear { name, layer, scales, input: quant, rounded };
                    linear.quantize(target, relu, pad, &mean)?
                };
                if gives_logits {
                    out = Quantization { scale: 0.0, zero_point: 0 };
                }
                linear_op(f, linear)
            }
        };
        layers.push(layer(f, op, quant, out));
        quant = out;
        inputs = calibration.means(f.layer_idx);
    }
    let any_int4 = (0..fused.len()).any(|i| is_int4(&fused, i, from));
    let scheme = if any_int4 { Scheme::Int8Fc4 } else { Scheme::Int8 };
    Ok(model(graph, rule, scheme, layers))
}

/// Converts to f16 weights, each 3x3 convolution behind the first layer for its fastest algorithm on `board`. Half-precision
/// arithmetic needs `calibration`, for how large inputs are; without it all arithmetic is f32.
///
/// # Errors
/// [`QuantizeError`].
pub fn to_f16(
    graph: &Graph,
    rule: &Preprocess,
    board: &Board,
    calibration: Option<&Calibration>,
) -> Result<NewModel, QuantizeError> {
    let none = Quantization { scale: 0.0, zero_point: 0 };
    let mut layers = Vec::new();
    let mut largest = None;
    for (i, f) in lower(graph)?.iter().enumerate() {
        let op = match f.op {
            FusedOp::MaxPool { stride, padding } => max_pool(stride, padding),
            FusedOp::GlobalAvgPool => NewOp::GlobalAvgPool { multiplier: 0, shift: 0 },
            FusedOp::Conv { relu, .. } | FusedOp::Dense { relu, .. } => {
                let weights = ohwi(f, i == 0, rule);
                // Refuses what half precision cannot hold, transformed or not.
                let direct = f16::linear(f.name, &weights, relu)?;
                let algorithm = match convolution(f) {
                    Some(conv) if i > 0 => match plan::f16::fastest(&conv, board) {
                        Algorithm::WinogradF43F16 if largest.is_none() => Algorithm::WinogradF43,
                        algorithm => algorithm,
                    },
                    _ => Algorithm::Direct,
                };
                match algorithm {
                    Algorithm::Direct => linear_op(f, direct),
                    _ => {
                        let largest = largest.filter(|_| algorithm == Algorithm::WinogradF43F16);
                        let linear = f16::winograd(&weights, relu, largest);
                        NewOp::Conv { kernel: 3, algorithm, linear }
                    }
                }
            }
        };
        layers.push(layer(f, op, none, none));
        largest = calibration.map(|calibration| {
            let range = calibration.range(f.layer_idx, Method::MinMax);
            range.max.max(-range.min)
        });
    }
    Ok(model(graph, rule, Scheme::F16, layers))
}

/// What stands for 0 around the picture, as pixel values of its channels.
pub(crate) fn picture_padding(rule: &Preprocess, channels: usize) -> [i16; 4] {
    fold::padding(rule, channels).map(|v| i16::from(v) + 128)
}

/// Real weights and bias of a layer behind the first, OHWI.
pub(crate) fn filters(f: &Fused<'_>) -> OhwiWeights {
    let (FusedOp::Conv { weights, bias, .. } | FusedOp::Dense { weights, bias, .. }) = &f.op else {
        return OhwiWeights { weights: Vec::new(), bias: Vec::new() };
    };
    OhwiWeights { weights: fold::to_ohwi(weights.data(), bias.len()), bias: bias.data().to_vec() }
}

/// A layer's weights in OHWI order; the first layer's in the picture's channel order.
fn ohwi(f: &Fused<'_>, first: bool, rule: &Preprocess) -> OhwiWeights {
    let ohwi = filters(f);
    if first { ohwi.in_picture_order(rule, f.input.channels()) } else { ohwi }
}

/// The sizes of a 3x3 convolution.
fn convolution(f: &Fused<'_>) -> Option<Conv> {
    let (FusedOp::Conv { weights, bias, .. }, graph::ActivationShape::Map(input)) = (&f.op, f.input) else {
        return None;
    };
    let input = blob_shape(input);
    (weights.shape()[0] == 3).then(|| Conv {
        height: input.height,
        width: input.width,
        inputs: input.channels,
        outputs: bias.len() as u32,
    })
}

fn linear_op(f: &Fused<'_>, linear: vgg_edge_blob::NewLinear) -> NewOp {
    match &f.op {
        FusedOp::Conv { weights, .. } => {
            NewOp::Conv { kernel: weights.shape()[0] as u8, algorithm: Algorithm::Direct, linear }
        }
        _ => NewOp::Dense(linear),
    }
}

fn max_pool(stride: usize, padding: graph::Padding) -> NewOp {
    let padding = match padding {
        graph::Padding::Valid => Padding::Valid,
        graph::Padding::Same => Padding::Same,
    };
    NewOp::MaxPool { stride: stride as u8, padding }
}

fn layer(f: &Fused<'_>, op: NewOp, in_quant: Quantization, out_quant: Quantization) -> NewLayer {
    NewLayer { name: f.name.to_owned(), op, block: f.block, in_quant, out_quant, sqnr_db: f32::NAN }
}

fn model(graph: &Graph, rule: &Preprocess, scheme: Scheme, layers: Vec<NewLayer>) -> NewModel {
    NewModel {
        scheme,
        input: blob_shape(graph.input()),
        preprocess: *rule,
        layers,
        labels: Vec::new(),
        golden: None,
        metadata: String::new(),
    }
}

/// Numbers in -1..1 for tests, the same for one `state`.
#[cfg(test)]
fn numbers(n: usize, state: &mut u64) -> Vec<f32> {
    let next = |_| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(next).collect()
}
