//! Networks that copy a picture's channels, written by hand: what they answer can be told from the picture.

use vgg_edge_blob::layout::S8Params;
use vgg_edge_blob::requant::Fixed;
use vgg_edge_blob::{
    Algorithm, ChannelOrder, NewLayer, NewLinear, NewModel, NewOp, NewWeights, Padding, Preprocess,
    Quantization, ResizeFilter, ResizeRule, S8Layout, Scheme, Shape, write,
};

/// Channel `o` of the output is channel `o` of the input, of whose `taps` the middle one counts.
fn diagonal(outputs: usize, inputs: usize, taps: usize, scale: f64) -> NewLinear {
    let mut weights = vec![0i8; outputs * taps * inputs];
    let mut params = S8Params::default();
    for o in 0..outputs.min(inputs) {
        weights[(o * taps + taps / 2) * inputs + o] = 127;
        // The input's zero point of -128 taken out.
        params.bias[o] = 128 * 127;
    }
    let relu = scale > 0.0;
    if relu {
        let fixed = Fixed::from_scale(scale).unwrap();
        (params.multiplier, params.shift) = ([fixed.multiplier; 8], [fixed.shift; 8]);
    }
    params.scale = [0.02 / 127.0; 8];
    let weights = NewWeights::S8(weights, vec![params]);
    NewLinear { outputs: outputs as u32, relu, pad: [-128; 4], layout: S8Layout::K4, weights }
}

/// A self-test: a picture, and what it gives.
pub(crate) type Golden = Option<(Vec<u8>, Vec<f32>)>;

/// How a network ends.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum End {
    /// Pooled, then a class a channel of the picture.
    Classes,
    /// Pooled: the mean of each channel of the picture, then zeros.
    Means,
    /// The map of the pool of stride 1.
    Map,
}

/// Says which of red, green and blue a picture has most of.
pub(crate) fn model(labels: &[&str], golden: Golden) -> Vec<u8> {
    network(ChannelOrder::Rgb, End::Classes, labels, golden)
}

/// A network of a convolution and a pool of stride 2 (1 for a map) over 8x8 pixels, and this end.
pub(crate) fn network(order: ChannelOrder, end: End, labels: &[&str], golden: Golden) -> Vec<u8> {
    let channels = order.channels();
    let pixels = Quantization { scale: 1.0, zero_point: -128 };
    let layer = |name: &str, op, block, out_quant| NewLayer {
        name: name.to_owned(),
        op,
        block,
        in_quant: pixels,
        out_quant,
        sqnr_db: 40.0,
    };
    let mean = Fixed::from_scale(1.0 / 16.0).unwrap();
    let pool = NewOp::GlobalAvgPool { multiplier: mean.multiplier, shift: mean.shift };
    let conv = NewOp::Conv {
        kernel: 3,
        algorithm: Algorithm::Direct,
        linear: diagonal(8, channels, 9, 1.0 / 127.0),
    };
    let stride = if end == End::Map { 1 } else { 2 };
    let max_pool = NewOp::MaxPool { stride, padding: Padding::Valid };
    let dense = NewOp::Dense(diagonal(channels, 8, 1, 0.0));
    let mut layers = vec![layer("block1_conv1", conv, 0, pixels), layer("block1_pool", max_pool, 0, pixels)];
    if end != End::Map {
        layers.push(layer("avgpool", pool, 1, pixels));
    }
    if end == End::Classes {
        layers.push(layer("dense", dense, 2, Quantization { scale: 0.0, zero_point: 0 }));
    }
    let new = NewModel {
        scheme: Scheme::Int8,
        input: Shape { height: 8, width: 8, channels: channels as u32 },
        preprocess: Preprocess {
            order,
            scale: 1.0,
            mean: [0.0; 4],
            std: [1.0; 4],
            resize: ResizeRule::Stretch,
            filter: ResizeFilter::Bilinear,
        },
        layers,
        labels: labels.iter().map(|&l| l.to_owned()).collect(),
        golden,
        metadata: r#"{"made_by": "a test"}"#.to_owned(),
    };
    let mut bytes = Vec::new();
    write(new, &mut bytes).unwrap();
    bytes
}
