//! Every model that cannot be written, and the words that say why.

mod support;

use std::io;

use support::{
    Part, Random, aligned, bytes, filters_twin, half_twin, int4_twin, model, shape, small, winograd_twin,
    winograd8_twin,
};
use vgg_edge_blob::layout::S8Params;
use vgg_edge_blob::requant::ACC_LIMIT;
use vgg_edge_blob::winograd8::Form;
use vgg_edge_blob::{
    Algorithm, Blob, ChannelOrder, NewLayer, NewLinear, NewModel, NewOp, NewWeights, Padding, Quantization,
    S8Layout, Scheme, write,
};

fn refused(model: NewModel) -> String {
    write(model, &mut io::sink()).expect_err("a model that cannot be written").to_string()
}

/// A dense int8 network: 8 inputs of weight `weight`, one output with `bias`.
fn dense(weight: i8, bias: i32) -> NewModel {
    let mut new = model(&mut Random(1), Scheme::Int8, shape(2, 4, 1), &[Part::Dense { units: 1 }]);
    let mut params = S8Params::default();
    params.bias[0] = bias;
    linear(&mut new, 0).weights = NewWeights::S8(vec![weight; 8], vec![params]);
    new
}

fn linear(new: &mut NewModel, layer: usize) -> &mut NewLinear {
    match &mut new.layers[layer].op {
        NewOp::Conv { linear, .. } | NewOp::Dense(linear) => linear,
        other => panic!("{other:?}"),
    }
}

/// 128 * 8 * 127 below the limit is the largest bias of weights of 127, in both directions; one more is not.
#[test]
fn the_overflow_proof_is_exact() {
    let largest = (ACC_LIMIT - 1 - 128 * 8 * 127) as i32;
    for weight in [127, -127] {
        for sign in [1, -1] {
            let written = aligned(&bytes(dense(weight, sign * largest)));
            assert!(Blob::parse(written.as_slice()).is_ok());
            assert_eq!(
                refused(dense(weight, sign * (largest + 1))),
                "layer `layer0`, channel 0: partial sums can reach 1073741824, the accumulator's limit is 1073741824"
            );
        }
    }
    assert_eq!(
        refused(dense(0, i32::MIN)),
        "layer `layer0`, channel 0: partial sums can reach 2147483648, the accumulator's limit is 1073741824"
    );
}

#[test]
fn the_overflow_proof_names_the_channel() {
    let mut new = small(Scheme::Int8);
    let NewWeights::S8(_, params) = &mut linear(&mut new, 0).weights else { panic!("int8") };
    params[0].bias[4] = i32::MAX;
    assert!(refused(new).starts_with("layer `layer0`, channel 4: partial sums can reach 214"));
}

/// A convolution of 8 channels behind the first layer in exact Winograd, all weights `weight`, with `bias`.
fn winograd(twin: fn(NewModel) -> NewModel, weight: i8, bias: i32) -> NewModel {
    let conv = |block| Part::Conv { kernel: 3, filters: 8, block };
    let mut new = twin(model(&mut Random(1), Scheme::Int8, shape(2, 4, 1), &[conv(1), conv(2)]));
    let params = S8Params { bias: [bias; 8], ..S8Params::default() };
    linear(&mut new, 1).weights = NewWeights::S8(vec![weight; 8 * 9 * 8], vec![params]);
    new
}

/// 72 weights of 127 reach 127 * 127 * 72 above and 128 * 127 * 72 below the bias.
#[test]
fn the_winograd_proof_is_exact() {
    let (limit, near, far) = (1 << 25, 127 * 127 * 72, 128 * 127 * 72);
    let both = [(127, far, near), (-127, near, far)];
    for (twin, (weight, lowest, highest)) in
        both.into_iter().flat_map(|b| [(winograd_twin as fn(_) -> _, b), (filters_twin, b)])
    {
        for good in [limit - 1 - highest, -limit + lowest] {
            let written = aligned(&bytes(winograd(twin, weight, good)));
            assert!(Blob::parse(written.as_slice()).is_ok());
            let bad = good + good.signum();
            let message = format!(
                "layer `layer1`, channel 0: accumulators from {} to {}, winograd-f43 is exact from -33554432 to 33554431",
                bad - lowest,
                bad + highest
            );
            assert_eq!(refused(winograd(twin, weight, bad)), message);
        }
    }
}

#[test]
fn winograd_is_for_3x3_behind_the_first_layer() {
    let words = "winograd-f43 is for int8 and f16 3x3 convolutions behind the first layer";
    let only_int8 = "winograd-f43-filters is for int8 3x3 convolutions behind the first layer";
    let set = |new: &mut NewModel, layer: usize, side: u8, wanted: Algorithm| {
        let NewOp::Conv { kernel, algorithm, .. } = &mut new.layers[layer].op else {
            panic!("a convolution")
        };
        (*kernel, *algorithm) = (side, wanted);
    };
    for (scheme, layer, side) in
        [(Scheme::Int8, 0, 3), (Scheme::F16, 0, 3), (Scheme::F16, 1, 1), (Scheme::Int8, 1, 1)]
    {
        let conv = |kernel| Part::Conv { kernel, filters: 8, block: 1 };
        let mut new = model(&mut Random(1), scheme, shape(2, 4, 3), &[conv(3), conv(side)]);
        let mut filters = new.clone();
        set(&mut new, layer, side, Algorithm::WinogradF43);
        assert_eq!(refused(new), format!("layer `layer{layer}`: {words}"));
        set(&mut filters, layer, side, Algorithm::WinogradF43Filters);
        assert_eq!(refused(filters), format!("layer `layer{layer}`: {only_int8}"));
    }
}

/// A layer of f16 Winograd behind the first.
fn half(half: bool) -> NewModel {
    let conv = |block| Part::Conv { kernel: 3, filters: 8, block };
    half_twin(model(&mut Random(1), Scheme::F16, shape(2, 4, 1), &[conv(1), conv(2)]), half)
}

#[test]
fn f16_winograd_has_its_own_weights_algorithms_and_scales() {
    let algorithm = |new: &mut NewModel, wanted| {
        let NewOp::Conv { algorithm, .. } = &mut new.layers[1].op else { panic!("a convolution") };
        *algorithm = wanted;
    };
    for (wanted, words) in [
        (Algorithm::Direct, "transformed weights, expected those of direct"),
        (Algorithm::Winograd8F43, "winograd8-f43 is for int8 3x3 convolutions behind the first layer"),
    ] {
        let mut new = half(true);
        algorithm(&mut new, wanted);
        assert_eq!(refused(new), format!("layer `layer1`: {words}"));
    }
    let conv = |block| Part::Conv { kernel: 3, filters: 8, block };
    let parts = [conv(1), conv(2)];
    for (scheme, words) in [
        (Scheme::F16, "weights that are not transformed, expected those of winograd-f43-f16"),
        (Scheme::Int8, "winograd-f43-f16 is for f16 3x3 convolutions behind the first layer"),
    ] {
        let mut new = model(&mut Random(1), scheme, shape(2, 4, 1), &parts);
        algorithm(&mut new, Algorithm::WinogradF43F16);
        assert_eq!(refused(new), format!("layer `layer1`: {words}"));
    }
    let expected = "expected a power of two, or 1 for the input of f32 arithmetic";
    for (is_half, bad, words) in
        [(true, 3.0, "in_scale is 3e0"), (true, 0.0, "in_scale is 0e0"), (false, 2.0, "in_scale is 2e0")]
    {
        let mut new = half(is_half);
        let NewWeights::F16Winograd { in_scale, .. } = &mut linear(&mut new, 1).weights else {
            panic!("f16")
        };
        *in_scale = bad;
        assert_eq!(refused(new), format!("layer `layer1`: {words}, {expected}"));
    }
    let mut new = half(true);
    let NewWeights::F16Winograd { filters, .. } = &mut linear(&mut new, 1).weights else { panic!("f16") };
    filters.taps.pop();
    assert_eq!(refused(new), "layer `layer1`: 2303 weights, expected 2304");
}

/// A layer of requantized Winograd behind the first, 8 channels and outputs, all weights and scales alike, with `bias`.
fn winograd8(form: Form, weight: i8, scale: i32, bias: i32) -> NewModel {
    let conv = |block| Part::Conv { kernel: 3, filters: 8, block };
    let new = model(&mut Random(1), Scheme::Int8, shape(2, 4, 1), &[conv(1), conv(2)]);
    let mut new = winograd8_twin(new, form);
    let NewWeights::S8Winograd { taps, params, scales, .. } = &mut linear(&mut new, 1).weights else {
        panic!("transformed weights")
    };
    taps.fill(weight);
    scales.fill(scale);
    params.iter_mut().for_each(|p| p.bias = [bias; 8]);
    new
}

/// All 36 sums times the magnitudes of A: 144 for the last output of F43, 9 for each of F23.
#[test]
fn the_requantized_winograd_proof_is_exact() {
    for (form, terms) in [(Form::F23, 9), (Form::F43, 144)] {
        for (weight, scale) in [(127, 1 << 30), (-127, 1 << 20), (1, i32::MAX)] {
            let acc = 128 * 8 * i64::from(i32::from(weight).abs());
            let sum = (2 * acc * i64::from(scale) + (1 << 31)) >> 32;
            let largest = (ACC_LIMIT - 1 - terms * sum) as i32;
            for sign in [1, -1] {
                let written = aligned(&bytes(winograd8(form, weight, scale, sign * largest)));
                assert!(Blob::parse(written.as_slice()).is_ok());
                assert_eq!(
                    refused(winograd8(form, weight, scale, sign * (largest + 1))),
                    format!(
                        "layer `layer1`, channel 0: sums of {} can reach 1073741824, the accumulator's limit is 1073741824",
                        form.algorithm().name()
                    )
                );
            }
        }
    }
}

#[test]
fn transformed_layers_must_fit_their_form() {
    let taps = |change: fn(&mut NewWeights)| {
        let mut new = winograd8(Form::F43, 1, 1, 0);
        change(&mut linear(&mut new, 1).weights);
        refused(new)
    };
    macro_rules! edited {
        ($field:ident, $edit:expr) => {
            taps(|weights| {
                let NewWeights::S8Winograd { $field, .. } = weights else { panic!("transformed weights") };
                let edit: fn(&mut Vec<_>) = $edit;
                edit($field);
            })
        };
    }
    for (found, expected) in [
        (edited!(taps, |v| v.truncate(2303)), "2303 weights, expected 2304"),
        (edited!(params, Vec::clear), "0 parameter groups, expected 1"),
        (edited!(multipliers, |v| v.push(0)), "289 input multipliers, expected 288"),
        (edited!(offsets, |v| v.truncate(7)), "7 input offsets, expected 8"),
        (edited!(scales, |v| v.truncate(287)), "287 tap scales, expected 288"),
    ] {
        assert_eq!(found, format!("layer `layer1`: {expected}"));
    }
    assert_eq!(
        edited!(taps, |v| v[(35 * 8 + 6) * 8] = -128),
        "layer `layer1`, channel 6: weight -128, the range is [-127, 127]"
    );
    assert_eq!(
        edited!(multipliers, |v| v[35 * 8 + 2] = -3),
        "layer `layer1`, tap 35, channel 2: input multiplier is -3, expected 0 or more"
    );
    assert_eq!(
        edited!(scales, |v| v[7 * 8 + 1] = -4),
        "layer `layer1`, tap 7, channel 1: tap scale is -4, expected 0 or more"
    );
    let set = |new: &mut NewModel, to: Algorithm| {
        let NewOp::Conv { algorithm, .. } = &mut new.layers[1].op else { panic!("a convolution") };
        *algorithm = to;
    };
    let mut new = winograd8(Form::F43, 1, 1, 0);
    set(&mut new, Algorithm::Winograd8F23);
    assert_eq!(
        refused(new.clone()),
        "layer `layer1`: weights of winograd8-f43, expected those of winograd8-f23"
    );
    set(&mut new, Algorithm::Direct);
    assert_eq!(refused(new), "layer `layer1`: weights of winograd8-f43, expected those of direct");
    let mut new = winograd(winograd_twin, 1, 0);
    set(&mut new, Algorithm::Winograd8F43);
    assert_eq!(
        refused(new),
        "layer `layer1`: weights that are not transformed, expected those of winograd8-f43"
    );
}

#[test]
fn k8_is_for_8_bit_weights() {
    let words = "s8-o8k8 is for 8-bit weights";
    let conv = Part::Conv { kernel: 3, filters: 8, block: 1 };
    for (scheme, layer) in [(Scheme::Int8, 1), (Scheme::F16, 0)] {
        let mut new = winograd_twin(model(&mut Random(1), scheme, shape(2, 4, 3), &[conv, conv]));
        linear(&mut new, layer).layout = S8Layout::K8;
        assert_eq!(refused(new), format!("layer `layer{layer}`: {words}"));
    }
}

#[test]
fn weights_of_minus_128_are_refused() {
    assert_eq!(refused(dense(-128, 0)), "layer `layer0`, channel 0: weight -128, the range is [-127, 127]");
}

/// A dense layer of 128 inputs in 4 bits, all weights `weight`, with the scales of its two groups and a bias.
fn int4(weight: i8, scales: [u8; 2], bias: i32) -> NewModel {
    let parts = [Part::Dense { units: 1 }];
    let mut new = int4_twin(&mut Random(1), model(&mut Random(1), Scheme::Int8, shape(16, 8, 1), &parts));
    let params = S8Params { bias: [bias; 8], ..S8Params::default() };
    linear(&mut new, 0).weights =
        NewWeights::S4 { weights: vec![weight; 128], scales: scales.to_vec(), params: vec![params] };
    new
}

/// 64 weights of -8 count 255 times, 64 once.
#[test]
fn the_int4_proof_is_exact() {
    let largest = (ACC_LIMIT - 1 - 128 * 64 * 8 * 256) as i32;
    for sign in [1, -1] {
        let written = aligned(&bytes(int4(-8, [255, 1], sign * largest)));
        assert!(Blob::parse(written.as_slice()).is_ok());
        assert_eq!(
            refused(int4(-8, [255, 1], sign * (largest + 1))),
            "layer `layer0`, channel 0: partial sums can reach 1073741824, the accumulator's limit is 1073741824"
        );
    }
}

#[test]
fn int4_weights_must_be_4_bits_of_a_dense_layer_in_a_blob_for_them() {
    for weight in [8, -9] {
        let words = format!("layer `layer0`, channel 0: weight {weight}, the range is [-8, 7]");
        assert_eq!(refused(int4(weight, [1, 1], 0)), words);
    }
    let mut new = int4(1, [1, 1], 0);
    let NewWeights::S4 { scales, .. } = &mut linear(&mut new, 0).weights else { panic!("4 bits") };
    scales.pop();
    assert_eq!(refused(new), "layer `layer0`: 1 scales, expected 2");
    let new = NewModel { scheme: Scheme::Int8, ..int4(1, [1, 1], 0) };
    assert_eq!(refused(new), "layer `layer0`: weights are not int8");
    let conv = Part::Conv { kernel: 1, filters: 1, block: 1 };
    let mut new = model(&mut Random(1), Scheme::Int8, shape(4, 4, 1), &[conv]);
    new.scheme = Scheme::Int8Fc4;
    linear(&mut new, 0).weights =
        NewWeights::S4 { weights: vec![1], scales: vec![1], params: vec![S8Params::default()] };
    assert_eq!(refused(new), "layer `layer0`: 4-bit weights are for dense layers");
}

#[test]
fn sizes_must_fit() {
    let mut new = small(Scheme::Int8);
    let NewWeights::S8(weights, _) = &mut linear(&mut new, 0).weights else { panic!("int8") };
    weights.pop();
    assert_eq!(refused(new), "layer `layer0`: 134 weights, expected 135");
    let mut new = small(Scheme::F16);
    let NewWeights::F16(_, params) = &mut linear(&mut new, 3).weights else { panic!("f16") };
    params.clear();
    assert_eq!(refused(new), "layer `layer3`: 0 parameter groups, expected 1");
}

#[test]
fn weights_must_have_the_models_scheme() {
    let new = NewModel { scheme: Scheme::F16, ..small(Scheme::Int8) };
    assert_eq!(refused(new), "layer `layer0`: weights are not f16");
}

#[test]
fn filters_and_strides_must_be_known() {
    let mut new = small(Scheme::Int8);
    let NewOp::Conv { kernel, .. } = &mut new.layers[0].op else { panic!("a convolution") };
    *kernel = 5;
    assert_eq!(refused(new), "layer `layer0`: kernel is 5, expected 1 or 3");
    let mut new = small(Scheme::Int8);
    new.layers[1].op = NewOp::MaxPool { stride: 3, padding: Padding::Same };
    assert_eq!(refused(new), "layer `layer1`: stride is 3, expected 1 or 2");
}

#[test]
fn maps_must_have_a_size() {
    let limits = "the limits are 1 to 268435456 values and 16384 a side";
    let mut new = small(Scheme::Int8);
    new.input.height = 0;
    assert_eq!(refused(new), format!("layer `layer0`: a map of 0x5x3, {limits}"));
    let mut new = small(Scheme::Int8);
    linear(&mut new, 0).outputs = 0;
    assert_eq!(refused(new), format!("layer `layer0`: a map of 6x5x0, {limits}"));
    let mut new = small(Scheme::Int8);
    new.input = shape(u32::MAX, u32::MAX, 3);
    assert_eq!(refused(new), format!("layer `layer0`: a map of 4294967295x4294967295x3, {limits}"));
    let mut new = small(Scheme::Int8);
    new.input = shape(1, 5, 3);
    assert_eq!(refused(new), format!("layer `layer1`: a map of 0x2x5, {limits}"));
}

#[test]
fn channels_must_be_those_of_the_order() {
    let new = NewModel { input: shape(6, 5, 4), ..small(Scheme::Int8) };
    assert_eq!(refused(new), "an input of 4 channels, expected 3 for order rgb");
    let mut new = small(Scheme::F16);
    new.preprocess.order = ChannelOrder::Rgba;
    assert_eq!(refused(new), "an input of 3 channels, expected 4 for order rgba");
}

#[test]
fn labels_and_self_test_must_fit_the_network() {
    let mut new = small(Scheme::Int8);
    new.labels.pop();
    assert_eq!(refused(new), "1 labels, expected 2");
    let features = [Part::Conv { kernel: 3, filters: 2, block: 1 }, Part::Gap];
    let mut new = model(&mut Random(9), Scheme::Int8, shape(4, 4, 3), &features);
    new.labels = vec!["cat".to_owned(), "dog".to_owned()];
    assert_eq!(refused(new), "2 labels, expected 0");
    let mut new = small(Scheme::Int8);
    new.labels[1] = "two\nlines".to_owned();
    assert_eq!(refused(new), "label of class 1: holds a line break");
    let mut new = small(Scheme::Int8);
    new.golden = Some((vec![0; 91], vec![0.0; 2]));
    assert_eq!(refused(new), "91 bytes of self-test picture, expected 90");
    let mut new = small(Scheme::Int8);
    new.golden = Some((vec![0; 90], vec![0.0]));
    assert_eq!(refused(new), "1 self-test logits, expected 2");
}

#[test]
fn counts_are_limited_by_their_fields() {
    let pool = NewLayer {
        name: String::new(),
        op: NewOp::MaxPool { stride: 1, padding: Padding::Same },
        block: 0,
        in_quant: Quantization { scale: 1.0, zero_point: 0 },
        out_quant: Quantization { scale: 1.0, zero_point: 0 },
        sqnr_db: f32::NAN,
    };
    let of = |layers| NewModel { layers, labels: Vec::new(), golden: None, ..small(Scheme::Int8) };
    assert_eq!(refused(of(vec![pool.clone(); 32760])), "layers: 32760, the limit is 32759");
    let rows = NewModel { input: shape(16384, 1, 3), ..of(vec![pool.clone(); 17]) };
    assert_eq!(refused(rows), "rows of all maps: 278528, the limit is 262144");
    let long = NewLayer { name: "x".repeat(65536), ..pool.clone() };
    assert_eq!(refused(of(vec![long])), "bytes of a layer name: 65536, the limit is 65535");
    let most = NewLayer { name: "x".repeat(65535), ..pool };
    let written = aligned(&bytes(of(vec![most])));
    assert_eq!(Blob::parse(written.as_slice()).unwrap().layer(0).unwrap().name.len(), 65535);
}

/// Takes `room` bytes, then fails.
struct Full {
    room: usize,
}

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_wherever_it_happens() {
    let len = bytes(small(Scheme::Int8)).len();
    for room in 0..len {
        let error = write(small(Scheme::Int8), &mut Full { room }).expect_err("not enough room");
        assert_eq!(error.to_string(), io::Error::from(io::ErrorKind::StorageFull).to_string());
    }
    assert!(write(small(Scheme::Int8), &mut Full { room: len }).is_ok());
}
