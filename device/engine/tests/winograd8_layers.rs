//! Whole layers in requantized Winograd: one answer on every kernel, cache and number of threads, and near direct convolution.

#[allow(dead_code, reason = "each test program uses a part")]
mod support;

use support::{Part, Random, blob_bytes, int8_logits, model, winograd8_twin};
use vgg_edge_blob::requant::requantize;
use vgg_edge_blob::winograd8::{Form, rdmulh32, to_i8};
use vgg_edge_blob::{Blob, NewModel, NewOp, NewWeights, Padding, Scheme, Shape};
use vgg_edge_engine::kernels::available;
use vgg_edge_engine::pool::{Executor, Pool, Serial};
use vgg_edge_engine::{Engine, Options};

const SEED: u64 = 0x5eed_2026_1124_0009;

fn random() -> Random {
    println!("seed {SEED:#x}");
    Random(SEED)
}

/// A 1x1 layer that makes `channels`, then a 3x3 one.
fn layer(r: &mut Random, [height, width]: [u32; 2], channels: u32, filters: u32) -> NewModel {
    let conv = |kernel, filters, block| Part::Conv { kernel, filters, block };
    let parts = [conv(1, channels, 1), conv(3, filters, 1)];
    model(r, Scheme::Int8, Shape { height, width, channels: 3 }, &parts)
}

fn picture(r: &mut Random, model: &NewModel) -> Vec<u8> {
    (0..model.input.len()).map(|_| r.range(0, 255) as u8).collect()
}

/// Every kernel, thread count and cache size.
fn check(new: &NewModel, picture: &[u8], expected: &[f32]) {
    let bytes = blob_bytes(new);
    let blob = Blob::parse(bytes.as_slice()).unwrap();
    let pools: [Box<dyn Executor>; 3] =
        [Box::new(Serial), Box::new(Pool::new(2).unwrap()), Box::new(Pool::new(4).unwrap())];
    for kernel in available() {
        for pool in &pools {
            for l2_bytes in [1, 64 << 10, 1 << 20] {
                let options = Options { l2_bytes, ..Options::default() };
                let mut engine = Engine::new(&blob, kernel, pool.as_ref(), options).unwrap();
                let found = engine.run(picture).unwrap();
                let differs = found.iter().zip(expected).position(|(f, e)| f != e);
                let what = format!("{}, {} threads, L2 {l2_bytes}", kernel.name(), pool.n_threads());
                assert_eq!(differs, None, "{what}");
                assert_eq!(found.len(), expected.len());
            }
        }
    }
}

/// The last layer of the model, a requantized 3x3 one, from the matrices: what is in memory, batches and bands have no part.
fn by_the_matrices(new: &NewModel, input: &[i8], [height, width, channels]: [usize; 3]) -> Vec<f32> {
    let layer = new.layers.last().unwrap();
    let NewOp::Conv { linear, .. } = &layer.op else { panic!("a convolution") };
    let NewWeights::S8Winograd { form, taps, params, multipliers, offsets, scales } = &linear.weights else {
        panic!("transformed weights")
    };
    let (outputs, tile, window) = (linear.outputs as usize, form.tile(), form.window());
    let (b, a) = (form.input_matrix(), form.output_matrix());
    let at = |y: usize, x: usize, c: usize| match (y.checked_sub(1), x.checked_sub(1)) {
        (Some(y), Some(x)) if y < height && x < width => input[(y * width + x) * channels + c],
        _ => layer.in_quant.zero_point,
    };
    let mut map = vec![0.0; height * width * outputs];
    for (top, left) in (0..height).step_by(tile).flat_map(|y| (0..width).step_by(tile).map(move |x| (y, x))) {
        let tap = |t: usize, c: usize| -> i8 {
            let term = |k: usize| {
                let (y, x) = (k / window, k % window);
                b[t / window][y] * b[t % window][x] * i16::from(at(top + y, left + x, c))
            };
            let offset = if t == form.bias_tap() { offsets[c] } else { 0 };
            to_i8((0..form.taps()).map(term).sum(), multipliers[t * channels + c], offset)
        };
        let v: Vec<Vec<i8>> = (0..form.taps()).map(|t| (0..channels).map(|c| tap(t, c)).collect()).collect();
        for o in 0..outputs {
            let p = &params[o / 8];
            let sum = |t: usize| {
                let weights = &taps[(t * outputs + o) * channels..][..channels];
                let acc = weights.iter().zip(&v[t]).map(|(u, v)| i32::from(*u) * i32::from(*v)).sum();
                let bias = if t == form.bias_tap() { p.bias[o % 8] } else { 0 };
                rdmulh32(acc, scales[t * outputs + o]) + bias
            };
            let s: Vec<i32> = (0..form.taps()).map(sum).collect();
            for (y, x) in (0..tile).flat_map(|y| (0..tile).map(move |x| (y, x))) {
                if top + y < height && left + x < width {
                    let acc = (0..form.taps()).map(|t| a[y][t / window] * a[x][t % window] * s[t]).sum();
                    let q = requantize(acc, p.multiplier[o % 8], p.shift[o % 8], layer.out_quant.zero_point);
                    let real = f32::from(i16::from(q) - i16::from(layer.out_quant.zero_point));
                    map[((top + y) * width + left + x) * outputs + o] = real * layer.out_quant.scale;
                }
            }
        }
    }
    map
}

/// The values that the layer before the last gives, by the plain loops.
fn inputs_of_last(new: &NewModel, picture: &[u8]) -> Vec<i8> {
    let mut first = new.clone();
    first.layers.truncate(1);
    let quant = first.layers[0].out_quant;
    let values = int8_logits(&first, picture);
    values.iter().map(|v| ((v / quant.scale).round() as i32 + i32::from(quant.zero_point)) as i8).collect()
}

#[test]
fn layers_of_every_ragged_shape_are_the_matrices() {
    let r = &mut random();
    let sides = [[1, 1], [1, 14], [13, 1], [2, 3], [4, 4], [5, 6], [7, 13], [8, 9], [14, 14], [3, 70]];
    for (i, [height, width]) in sides.into_iter().enumerate() {
        let (channels, filters) = ([8, 3, 16, 24, 40, 33][i % 6], [8, 17, 5, 32, 24][i % 5]);
        for form in Form::ALL {
            let new = winograd8_twin(layer(r, [height, width], channels, filters), form);
            let picture = picture(r, &new);
            let input = inputs_of_last(&new, &picture);
            let expected =
                by_the_matrices(&new, &input, [height as usize, width as usize, channels as usize]);
            check(&new, &picture, &expected);
        }
    }
}

#[test]
fn a_network_is_one_answer_everywhere() {
    let r = &mut random();
    let conv = |kernel, filters, block| Part::Conv { kernel, filters, block };
    let pool = |block| Part::Pool { stride: 2, padding: Padding::Same, block };
    let parts = [
        conv(3, 16, 1),
        conv(3, 24, 1),
        pool(1),
        conv(3, 40, 2),
        conv(3, 33, 2),
        pool(2),
        conv(3, 512, 3),
        conv(3, 8, 3),
        Part::Gap,
        Part::Dense { units: 10 },
    ];
    for form in Form::ALL {
        let new = model(r, Scheme::Int8, Shape { height: 37, width: 41, channels: 3 }, &parts);
        let new = winograd8_twin(new, form);
        let picture = picture(r, &new);
        let bytes = blob_bytes(&new);
        let blob = Blob::parse(bytes.as_slice()).unwrap();
        let scalar = vgg_edge_engine::kernels::by_name("scalar").unwrap();
        let expected =
            Engine::new(&blob, scalar, &Serial, Options::default()).unwrap().run(&picture).unwrap().to_vec();
        check(&new, &picture, &expected);
    }
}

/// The specification is an approximation of direct convolution, not only consistent with itself.
#[test]
fn results_are_near_direct_convolution() {
    let r = &mut random();
    for (form, floor) in [(Form::F23, 33.0), (Form::F43, 25.0)] {
        let mut direct = layer(r, [26, 30], 32, 16);
        // Activations that use their range and do not leave it.
        let NewOp::Conv { linear, .. } = &mut direct.layers[0].op else { panic!("a convolution") };
        let NewWeights::S8(_, params) = &mut linear.weights else { panic!("int8") };
        for p in params {
            (p.bias, p.shift) = ([0; 8], p.shift.map(|shift| shift + 2));
        }
        let picture = picture(r, &direct);
        let expected = int8_logits(&direct, &picture);
        let new = winograd8_twin(direct, form);
        let bytes = blob_bytes(&new);
        let blob = Blob::parse(bytes.as_slice()).unwrap();
        let kernel = vgg_edge_engine::kernels::best();
        let mut engine = Engine::new(&blob, kernel, &Serial, Options::default()).unwrap();
        let found = engine.run(&picture).unwrap();
        let mean = expected.iter().map(|v| f64::from(*v)).sum::<f64>() / expected.len() as f64;
        let power = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let signal = power(&mut expected.iter().map(|v| f64::from(*v) - mean));
        let noise = power(&mut expected.iter().zip(found).map(|(e, f)| f64::from(*e) - f64::from(*f)));
        let sqnr = 10.0 * (signal / noise).log10();
        println!("{form:?}: {sqnr:.1} dB, signal {:.1} steps", (signal / expected.len() as f64).sqrt() / 0.1);
        assert!(sqnr > floor, "{form:?}: {sqnr:.1} dB, expected more than {floor}");
    }
}
