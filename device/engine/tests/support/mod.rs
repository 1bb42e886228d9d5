//! Small random networks, and what they must compute, in plain loops over the network's own order.
//!
//! No packing, no bands, no kernels: nothing is shared with the engine but the rounding rule.

use vgg_edge_blob::layout::{F16Params, S8Params};
use vgg_edge_blob::requant::{Fixed, requantize};
use vgg_edge_blob::{
    Algorithm, AlignedBytes, ChannelOrder, NewLayer, NewLinear, NewModel, NewOp, NewWeights, Padding,
    Preprocess, Quantization, ResizeFilter, ResizeRule, S8Layout, Scheme, Shape, write,
};

#[allow(dead_code, reason = "each test program uses a part")]
mod half;
#[allow(dead_code, reason = "each test program uses a part")]
mod winograd8;

#[allow(unused_imports, reason = "each test program uses a part")]
pub(crate) use half::half_twin;
#[allow(unused_imports, reason = "each test program uses a part")]
pub(crate) use winograd8::winograd8_twin;

/// xorshift64*; the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// In `low..=high`.
    pub(crate) fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }
}

/// What a test network is made of.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Conv { kernel: u8, filters: u32, block: u16 },
    Pool { stride: u8, padding: Padding, block: u16 },
    Gap,
    Dense { units: u32 },
}

fn linear(
    r: &mut Random,
    scheme: Scheme,
    outputs: u32,
    per_output: usize,
    relu: bool,
    pad: [i8; 4],
) -> NewLinear {
    let n = outputs as usize * per_output;
    let groups = outputs.div_ceil(8) as usize;
    let weights = match scheme {
        Scheme::Int8 | Scheme::Int8Fc4 => {
            // Scale so that outputs use the whole range, whatever the fan-in.
            let scale = 2.0 / (per_output as f64).sqrt() / 64.0;
            let params = (0..groups)
                .map(|_| {
                    let mut p = S8Params::default();
                    for o in 0..8 {
                        let f = Fixed::from_scale(scale * (0.5 + r.range(0, 1000) as f64 / 1000.0)).unwrap();
                        p.bias[o] = r.range(-20_000, 20_000) as i32;
                        (p.multiplier[o], p.shift[o]) = (f.multiplier, f.shift);
                        p.scale[o] = 0.001 * r.range(1, 100) as f32;
                    }
                    p
                })
                .collect();
            NewWeights::S8((0..n).map(|_| r.range(-127, 127) as i8).collect(), params)
        }
        Scheme::F16 => {
            let params = (0..groups)
                .map(|_| F16Params { bias: core::array::from_fn(|_| r.range(-100, 100) as f32 / 100.0) })
                .collect();
            let weight =
                |r: &mut Random| ::half::f16::from_f32(r.range(-1000, 1000) as f32 / 1000.0).to_bits();
            NewWeights::F16((0..n).map(|_| weight(r)).collect(), params)
        }
    };
    NewLinear { outputs, relu, pad, layout: S8Layout::K4, weights }
}

/// A random model of these parts.
pub(crate) fn model(r: &mut Random, scheme: Scheme, input: Shape, parts: &[Part]) -> NewModel {
    let mut layers: Vec<NewLayer> = Vec::new();
    let mut shape = input;
    let mut zero_point = -128;
    for (i, part) in parts.iter().enumerate() {
        let last = i + 1 == parts.len();
        // Some layers without a ReLU, whose zero point lies inside the range.
        let relu = r.range(0, 3) > 0;
        let pad = if i == 0 { core::array::from_fn(|_| r.range(-128, 127) as i8) } else { [zero_point; 4] };
        let in_zero_point = zero_point;
        let c = shape.channels as usize;
        let (op, block, output) = match *part {
            Part::Conv { kernel, filters, block } => {
                let per_output = c * usize::from(kernel) * usize::from(kernel);
                zero_point = if relu { -128 } else { r.range(-100, 100) as i8 };
                let linear = linear(r, scheme, filters, per_output, relu, pad);
                let op = NewOp::Conv { kernel, algorithm: Algorithm::Direct, linear };
                (op, block, Shape { channels: filters, ..shape })
            }
            Part::Pool { stride, padding, block } => {
                let side = |n: u32| match padding {
                    Padding::Same => n.div_ceil(u32::from(stride)),
                    Padding::Valid => (n - 2) / u32::from(stride) + 1,
                };
                let output = Shape { height: side(shape.height), width: side(shape.width), ..shape };
                (NewOp::MaxPool { stride, padding }, block, output)
            }
            Part::Gap => {
                let f = Fixed::from_scale(0.9 / f64::from(shape.height * shape.width)).unwrap();
                let op = NewOp::GlobalAvgPool { multiplier: f.multiplier, shift: f.shift };
                (op, i as u16 + 100, Shape { height: 1, width: 1, ..shape })
            }
            Part::Dense { units } => {
                zero_point = if relu { -128 } else { r.range(-100, 100) as i8 };
                let linear =
                    linear(r, scheme, units, shape.len() as usize, relu && !last, [in_zero_point; 4]);
                (NewOp::Dense(linear), i as u16 + 100, Shape { height: 1, width: 1, channels: units })
            }
        };
        let out_scale = if last && matches!(op, NewOp::Dense(_)) { 0.0 } else { 0.1 };
        layers.push(NewLayer {
            name: format!("layer{i}"),
            op,
            block,
            in_quant: Quantization { scale: 0.1, zero_point: in_zero_point },
            out_quant: Quantization { scale: out_scale, zero_point },
            sqnr_db: f32::NAN,
        });
        shape = output;
    }
    let used = |values: [f32; 4], rest| {
        core::array::from_fn(|c| if c < input.channels as usize { values[c] } else { rest })
    };
    NewModel {
        scheme,
        input,
        preprocess: Preprocess {
            order: match input.channels {
                1 => ChannelOrder::Gray,
                4 => ChannelOrder::Rgba,
                _ => ChannelOrder::Rgb,
            },
            scale: 1.0 / 255.0,
            mean: used([0.5, 0.4, 0.3, 0.1], 0.0),
            std: used([0.2, 0.3, 0.4, 0.5], 1.0),
            resize: ResizeRule::Stretch,
            filter: ResizeFilter::Bilinear,
        },
        layers,
        labels: Vec::new(),
        golden: None,
        metadata: String::new(),
    }
}

/// The same model with Winograd wherever the format has it.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn winograd_twin(mut model: NewModel) -> NewModel {
    let behind_first = model.layers.iter_mut().skip(1);
    for layer in behind_first.filter(|_| model.scheme.is_int8()) {
        if let NewOp::Conv { kernel: 3, algorithm, .. } = &mut layer.op {
            *algorithm = Algorithm::WinogradF43;
        }
    }
    model
}

/// The same model with Winograd from filters wherever the format has it.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn filters_twin(model: NewModel) -> NewModel {
    let mut model = winograd_twin(model);
    for layer in &mut model.layers {
        if let NewOp::Conv { algorithm: algorithm @ Algorithm::WinogradF43, .. } = &mut layer.op {
            *algorithm = Algorithm::WinogradF43Filters;
        }
    }
    model
}

/// The same int8 model with random 4-bit weights in every dense layer, at about the same size of sums.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn int4_twin(r: &mut Random, mut model: NewModel) -> NewModel {
    model.scheme = Scheme::Int8Fc4;
    let mut shape = model.input;
    for (i, layer) in model.layers.iter_mut().enumerate() {
        if let NewOp::Dense(linear) = &mut layer.op {
            let channels = shape.channels as usize;
            let stored = (shape.height * shape.width) as usize * stored(i, channels);
            let outputs = linear.outputs as usize;
            let NewWeights::S8(weights, params) = &linear.weights else { panic!("int8 model") };
            let weights: Vec<i8> = (0..weights.len()).map(|_| r.range(-8, 7) as i8).collect();
            let scales = (0..outputs * stored.div_ceil(64)).map(|_| r.range(0, 31) as u8).collect();
            linear.weights = NewWeights::S4 { weights, scales, params: params.clone() };
        }
        shape = output(shape, &layer.op);
    }
    model
}

/// The same model with its 8-bit weights in the layouts for `smmla`.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn k8_twin(mut model: NewModel) -> NewModel {
    for layer in model.layers.iter_mut().filter(|_| model.scheme == Scheme::Int8) {
        match &mut layer.op {
            NewOp::Conv { algorithm: Algorithm::WinogradF43, .. } => {}
            NewOp::Conv { linear, .. } | NewOp::Dense(linear) => linear.layout = S8Layout::K8,
            NewOp::MaxPool { .. } | NewOp::GlobalAvgPool { .. } => {}
        }
    }
    model
}

/// Channels in memory of what layer `layer_idx` reads.
fn stored(layer_idx: usize, channels: usize) -> usize {
    if layer_idx == 0 { channels } else { channels.next_multiple_of(8) }
}

/// What a layer makes of a map.
fn output(input: Shape, op: &NewOp) -> Shape {
    match op {
        NewOp::Conv { linear, .. } => Shape { channels: linear.outputs, ..input },
        NewOp::MaxPool { stride, padding } => {
            let side = |n: u32| match padding {
                Padding::Same => n.div_ceil(u32::from(*stride)),
                Padding::Valid => (n - 2) / u32::from(*stride) + 1,
            };
            Shape { height: side(input.height), width: side(input.width), ..input }
        }
        NewOp::GlobalAvgPool { .. } => Shape { height: 1, width: 1, ..input },
        NewOp::Dense(linear) => Shape { height: 1, width: 1, channels: linear.outputs },
    }
}

/// The model as a blob in memory.
pub(crate) fn blob_bytes(model: &NewModel) -> AlignedBytes {
    let mut bytes = AlignedBytes::default();
    write(model.clone(), &mut bytes).expect("a legal model");
    bytes
}

/// Numbers of one scheme.
trait Value: Copy {
    fn max(self, other: Self) -> Self;
}

impl Value for i8 {
    fn max(self, other: Self) -> Self {
        Ord::max(self, other)
    }
}

impl Value for f32 {
    fn max(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
}

/// A map without padding of any kind.
struct Map<T> {
    shape: Shape,
    values: Vec<T>,
}

impl<T: Value> Map<T> {
    fn at(&self, y: i64, x: i64, c: usize, outside: impl Fn(usize) -> T) -> T {
        let Shape { height, width, channels } = self.shape;
        if y < 0 || x < 0 || y >= i64::from(height) || x >= i64::from(width) {
            return outside(c);
        }
        self.values[(y as usize * width as usize + x as usize) * channels as usize + c]
    }

    fn pool(&self, stride: u32, padding: Padding) -> Self {
        let side = |n: u32| match padding {
            Padding::Same => n.div_ceil(stride),
            Padding::Valid => (n - 2) / stride + 1,
        };
        let shape = Shape { height: side(self.shape.height), width: side(self.shape.width), ..self.shape };
        let mut values = Vec::new();
        for y in 0..shape.height {
            for x in 0..shape.width {
                for c in 0..shape.channels as usize {
                    let (top, left) = (i64::from(y * stride), i64::from(x * stride));
                    let corner = self.at(top, left, c, |_| unreachable!());
                    let largest = [(0, 1), (1, 0), (1, 1)]
                        .into_iter()
                        .fold(corner, |m, (dy, dx)| m.max(self.at(top + dy, left + dx, c, |_| corner)));
                    values.push(largest);
                }
            }
        }
        Self { shape, values }
    }

    /// `each(output, inputs of that pixel in OHWI order)` for every pixel and output.
    fn convolve(
        &self,
        outputs: u32,
        kernel: u8,
        pad: impl Fn(usize) -> T,
        mut each: impl FnMut(usize, &[T]) -> T,
    ) -> Self {
        let reach = i64::from(kernel / 2);
        let mut values = Vec::new();
        for y in 0..i64::from(self.shape.height) {
            for x in 0..i64::from(self.shape.width) {
                let mut window = Vec::new();
                for dy in -reach..=reach {
                    for dx in -reach..=reach {
                        for c in 0..self.shape.channels as usize {
                            window.push(self.at(y + dy, x + dx, c, &pad));
                        }
                    }
                }
                values.extend((0..outputs as usize).map(|o| each(o, &window)));
            }
        }
        Self { shape: Shape { channels: outputs, ..self.shape }, values }
    }
}

/// Sum of weights times values, each pair as often as `scale` of its place says.
fn products(weights: &[i8], values: &[i8], scale: impl Fn(usize) -> i64) -> i64 {
    let pairs = weights.iter().zip(values).enumerate();
    pairs.map(|(i, (&w, &x))| scale(i) * i64::from(w) * i64::from(x)).sum()
}

/// Logits of an int8 model for a picture.
pub(crate) fn int8_logits(model: &NewModel, picture: &[u8]) -> Vec<f32> {
    let values = picture.iter().map(|&p| (i32::from(p) - 128) as i8).collect();
    let mut map = Map { shape: model.input, values };
    for (layer_idx, layer) in model.layers.iter().enumerate() {
        let (in_zp, out_zp) = (layer.in_quant.zero_point, layer.out_quant.zero_point);
        let channels = map.shape.channels as usize;
        let acc = |l: &NewLinear, o: usize, window: &[i8]| {
            let filter = o * window.len()..(o + 1) * window.len();
            let (sum, p) = match &l.weights {
                NewWeights::S8(w, p) => (products(&w[filter], window, |_| 1), p),
                NewWeights::S4 { weights, scales, params } => {
                    // Groups of 64 inputs as they lie in memory.
                    let element = |i: usize| i / channels * stored(layer_idx, channels) + i % channels;
                    let n_groups = scales.len() / l.outputs as usize;
                    let scale = |i: usize| i64::from(scales[o * n_groups + element(i) / 64]);
                    (products(&weights[filter], window, scale), params)
                }
                NewWeights::S8Winograd { .. } | NewWeights::F16(..) | NewWeights::F16Winograd { .. } => {
                    panic!("direct int8 model")
                }
            };
            let p = &p[o / 8];
            (
                i32::try_from(sum + i64::from(p.bias[o % 8])).unwrap(),
                p.multiplier[o % 8],
                p.shift[o % 8],
                p.scale[o % 8],
            )
        };
        match &layer.op {
            NewOp::Conv { kernel, linear, .. } => {
                map = map.convolve(
                    linear.outputs,
                    *kernel,
                    |c| linear.pad[c % 4],
                    |o, window| {
                        let (acc, m, s, _) = acc(linear, o, window);
                        requantize(acc, m, s, out_zp)
                    },
                );
            }
            NewOp::MaxPool { stride, padding } => map = map.pool(u32::from(*stride), *padding),
            NewOp::GlobalAvgPool { multiplier, shift } => {
                let c = map.shape.channels as usize;
                let sums = (0..c).map(|c0| {
                    let of_channel = map.values.iter().skip(c0).step_by(c);
                    let sum: i32 = of_channel.map(|&v| i32::from(v) - i32::from(in_zp)).sum();
                    requantize(sum, *multiplier, *shift, out_zp)
                });
                map = Map { shape: Shape { height: 1, width: 1, ..map.shape }, values: sums.collect() };
            }
            NewOp::Dense(linear) => {
                let results = (0..linear.outputs as usize).map(|o| acc(linear, o, &map.values));
                if layer_idx + 1 == model.layers.len() {
                    return results.map(|(acc, _, _, scale)| acc as f32 * scale).collect();
                }
                let values = results.map(|(acc, m, s, _)| requantize(acc, m, s, out_zp)).collect();
                map = Map { shape: Shape { height: 1, width: 1, channels: linear.outputs }, values };
            }
        }
    }
    let q = model.layers[model.layers.len() - 1].out_quant;
    map.values.iter().map(|&v| (i32::from(v) - i32::from(q.zero_point)) as f32 * q.scale).collect()
}

/// Logits of an f16 model for a picture: one fused multiply-add a weight, in OHWI order.
pub(crate) fn f16_logits(model: &NewModel, picture: &[u8]) -> Vec<f32> {
    let c = model.input.channels as usize;
    let p = &model.preprocess;
    let normal = |(i, &v): (usize, &u8)| (f32::from(v) * p.scale - p.mean[i % c]) / p.std[i % c];
    let mut map = Map { shape: model.input, values: picture.iter().enumerate().map(normal).collect() };
    for layer in &model.layers {
        let output = |l: &NewLinear, o: usize, window: &[f32]| {
            let NewWeights::F16(w, p) = &l.weights else { panic!("f16 model") };
            let filter = &w[o * window.len()..(o + 1) * window.len()];
            let start = p[o / 8].bias[o % 8];
            let acc = filter
                .iter()
                .zip(window)
                .fold(start, |a, (&w, &x)| x.mul_add(::half::f16::from_bits(w).to_f32(), a));
            if !l.relu || acc > 0.0 { acc } else { 0.0 }
        };
        match &layer.op {
            NewOp::Conv { kernel, linear, .. } => {
                map = map.convolve(linear.outputs, *kernel, |_| 0.0, |o, window| output(linear, o, window));
            }
            NewOp::MaxPool { stride, padding } => map = map.pool(u32::from(*stride), *padding),
            NewOp::GlobalAvgPool { .. } => {
                let c = map.shape.channels as usize;
                let n = (map.values.len() / c) as f32;
                let mean = |c0| map.values.iter().skip(c0).step_by(c).fold(0.0, |a, v| a + v) / n;
                map = Map {
                    shape: Shape { height: 1, width: 1, ..map.shape },
                    values: (0..c).map(mean).collect(),
                };
            }
            NewOp::Dense(linear) => {
                let values = (0..linear.outputs as usize).map(|o| output(linear, o, &map.values)).collect();
                map = Map { shape: Shape { height: 1, width: 1, channels: linear.outputs }, values };
            }
        }
    }
    map.values
}
