//! What the writer takes is what the reader gives, weight by weight.

mod support;

use support::{
    Part, Random, aligned, bytes, filters_twin, half_twin, int4_twin, k8_twin, model, shape, small,
    winograd_twin, winograd8_twin,
};
use vgg_edge_blob::winograd::s16_w36o8;
use vgg_edge_blob::winograd8::Form;
use vgg_edge_blob::{
    Blob, ChannelOrder, LayerOp, NewLayer, NewLinear, NewModel, NewOp, NewWeights, Padding, ResizeFilter,
    ResizeRule, S8Layout, Scheme, Shape, Weights,
};

/// Output channels, kernels, strides and paddings off every group and edge.
fn parts() -> Vec<Part> {
    vec![
        Part::Conv { kernel: 3, filters: 5, block: 1 },
        Part::Conv { kernel: 1, filters: 13, block: 1 },
        Part::Pool { stride: 2, padding: Padding::Same, block: 1 },
        Part::Conv { kernel: 3, filters: 8, block: 2 },
        Part::Pool { stride: 1, padding: Padding::Valid, block: 2 },
        Part::Dense { units: 20 },
        Part::Dense { units: 3 },
    ]
}

/// Compares a written linear layer with the one read, by the index equations of FORMAT.md.
fn check_linear(layer: &str, new: &NewLinear, read: &vgg_edge_blob::Linear<'_>, taps: [usize; 4]) {
    let [n_runs, pixels, channels, stored] = taps;
    let (outputs, run_len) = (new.outputs as usize, read.run_len as usize);
    assert_eq!((read.relu, read.n_runs as usize, read.pad), (new.relu, n_runs, new.pad), "{layer}");
    let mut seen = 0;
    let at = |o: usize, r: usize, k: usize| match (&new.weights, read.weights) {
        (NewWeights::S8(..), Weights::S8 { layout, data, .. }) => {
            assert_eq!(layout, new.layout, "{layer}");
            let together = layout.together();
            let block = (o / 8 * n_runs + r) * run_len * 8 + k / together * together * 8;
            i64::from(data[block + o % 8 * together + k % together])
        }
        (NewWeights::F16(..), Weights::F16 { data, .. }) => {
            i64::from(data[((o / 8 * n_runs + r) * run_len + k) * 8 + o % 8])
        }
        other => panic!("{layer}: {other:?}"),
    };
    for o in 0..outputs.next_multiple_of(8) {
        for r in 0..n_runs {
            for k in 0..run_len {
                let (pixel, channel) = (k / stored, k % stored);
                let real = o < outputs && pixel < pixels && channel < channels;
                let index = ((o * n_runs + r) * pixels + pixel) * channels + channel;
                let expected = match &new.weights {
                    _ if !real => 0,
                    NewWeights::S8(w, _) => i64::from(w[index]),
                    NewWeights::F16(w, _) => i64::from(w[index]),
                    NewWeights::S8Winograd { .. } | NewWeights::F16Winograd { .. } => {
                        panic!("{layer}: transformed weights")
                    }
                    NewWeights::S4 { .. } => panic!("{layer}: 4 bits"),
                };
                assert_eq!(at(o, r, k), expected, "{layer}: output {o}, run {r}, element {k}");
                seen += usize::from(real);
            }
        }
    }
    assert_eq!(seen, outputs * n_runs * pixels * channels, "{layer}");
    match (&new.weights, read.weights) {
        (NewWeights::S8(_, p), Weights::S8 { params, .. }) => assert_eq!(p, params, "{layer}"),
        (NewWeights::F16(_, p), Weights::F16 { params, .. }) => assert_eq!(p, params, "{layer}"),
        other => panic!("{layer}: {other:?}"),
    }
}

/// The same for a requantized Winograd layer.
fn check_taps(
    layer: &str,
    new: &NewLinear,
    read: &vgg_edge_blob::Linear<'_>,
    [channels, stored]: [usize; 2],
) {
    let NewWeights::S8Winograd { form, taps, params, multipliers, offsets, scales } = &new.weights else {
        panic!("{layer}: {new:?}")
    };
    let Weights::S8Winograd {
        form: read_form,
        layout,
        data,
        params: read_params,
        input,
        scales: read_scales,
    } = read.weights
    else {
        panic!("{layer}: {read:?}")
    };
    let (outputs, n) = (new.outputs as usize, form.taps());
    assert_eq!((read_form, layout, read_params), (*form, new.layout, params.as_slice()), "{layer}");
    let k = layout.together();
    assert_eq!((read.relu, read.pad), (new.relu, new.pad), "{layer}");
    assert_eq!((read.n_runs as usize, read.run_len as usize), (n, stored), "{layer}");
    assert_eq!(input.len(), (n + 1) * stored, "{layer}");
    assert_eq!(read_scales.len(), n * outputs.next_multiple_of(8), "{layer}");
    assert_eq!(data.len(), read_scales.len() * stored, "{layer}");
    for (t, c) in (0..=n).flat_map(|t| (0..stored).map(move |c| (t, c))) {
        let expected = match (c < channels, t < n) {
            (false, _) => 0,
            (true, true) => multipliers[t * channels + c],
            (true, false) => offsets[c],
        };
        assert_eq!(input[t * stored + c], expected, "{layer}: tap {t}, channel {c}");
    }
    for (t, o) in (0..n).flat_map(|t| (0..outputs.next_multiple_of(8)).map(move |o| (t, o))) {
        let expected = if o < outputs { scales[t * outputs + o] } else { 0 };
        assert_eq!(read_scales[(o / 8 * n + t) * 8 + o % 8], expected, "{layer}: tap {t}, output {o}");
        for c in 0..stored {
            let real = o < outputs && c < channels;
            let expected = if real { taps[(t * outputs + o) * channels + c] } else { 0 };
            let place = (o / 8 * n + t) * stored * 8 + c / k * k * 8 + o % 8 * k + c % k;
            assert_eq!(data[place], expected, "{layer}: tap {t}, output {o}, channel {c}");
        }
    }
}

/// Compares a dense layer in 4 bits: every weight and scale, zeros where there is none.
fn check_int4(layer: &str, new: &NewLinear, read: &vgg_edge_blob::Linear<'_>, taps: [usize; 3]) {
    let [pixels, channels, stored] = taps;
    let NewWeights::S4 { weights, scales, params } = &new.weights else { panic!("{layer}: 4 bits") };
    let Weights::S4 { blocks, params: found } = read.weights else { panic!("{layer}: {:?}", read.weights) };
    let (outputs, n) = (new.outputs as usize, (pixels * stored).div_ceil(64));
    assert_eq!((read.relu, read.n_runs, read.run_len as usize), (new.relu, 1, 64 * n), "{layer}");
    assert_eq!((found, blocks.len()), (params.as_slice(), outputs.div_ceil(8) * n), "{layer}");
    for (o, k) in (0..outputs.next_multiple_of(8)).flat_map(|o| (0..64 * n).map(move |k| (o, k))) {
        let (pixel, channel) = (k / stored, k % stored);
        let real = o < outputs && pixel < pixels && channel < channels;
        let weight = if real { i32::from(weights[(o * pixels + pixel) * channels + channel]) } else { 0 };
        let block = &blocks[o / 8 * n + k / 64];
        assert_eq!(block.weight(k % 64, o % 8), weight, "{layer}: output {o}, element {k}");
        let scale = if o < outputs { scales[o * n + k / 64] } else { 0 };
        assert_eq!(block.scales[o % 8], scale, "{layer}: output {o}, element {k}");
    }
}

fn check_layer(new: &NewLayer, read: &vgg_edge_blob::Layer<'_>, input: Shape, first: bool) {
    let name = &new.name;
    assert_eq!((read.name, read.block), (name.as_str(), new.block));
    assert_eq!((read.in_quant, read.out_quant), (new.in_quant, new.out_quant), "{name}");
    assert_eq!(read.sqnr_db.to_bits(), new.sqnr_db.to_bits(), "{name}");
    let (channels, pixels) = (input.channels as usize, (input.height * input.width) as usize);
    let stored = if first { channels } else { channels.next_multiple_of(8) };
    match (&new.op, &read.op) {
        (NewOp::Conv { kernel, algorithm, linear }, LayerOp::Conv { kernel: k, linear: read }) => {
            assert_eq!((kernel, *algorithm), (k, read.weights.algorithm()), "{name}");
            let side = usize::from(*kernel);
            match (&linear.weights, read.weights) {
                (NewWeights::S8(w, p), Weights::S16Winograd { data, params }) => {
                    assert_eq!((read.n_runs, read.run_len as usize), (36, stored), "{name}");
                    assert_eq!(
                        (read.relu, read.pad, params),
                        (linear.relu, linear.pad, p.as_slice()),
                        "{name}"
                    );
                    let packed = s16_w36o8(linear.outputs as usize, channels, stored, w);
                    let values = packed.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
                    assert!(values.eq(data.iter().copied()), "{name}");
                }
                (
                    NewWeights::F16Winograd { filters, params: p, in_scale },
                    Weights::F16Winograd { data, params, in_scale: read_scale, out_scale, .. },
                ) => {
                    assert_eq!((read.relu, read.pad), (linear.relu, linear.pad), "{name}");
                    assert_eq!((read.n_runs as usize, read.run_len as usize), (36, stored), "{name}");
                    assert_eq!((params, read_scale), (p.as_slice(), *in_scale), "{name}");
                    assert_eq!(out_scale * in_scale * filters.scale, 1.0, "{name}");
                    let outputs = linear.outputs as usize;
                    assert_eq!(data.len(), 36 * outputs.next_multiple_of(8) * stored, "{name}");
                    for (i, bits) in data.iter().enumerate() {
                        let (lane, channel) = (i % 8, i / 8 % stored);
                        let (tap, output) = (i / 8 / stored % 36, i / 8 / stored / 36 * 8 + lane);
                        let real = output < outputs && channel < channels;
                        let at = (tap * outputs + output) * channels + channel;
                        assert_eq!(*bits, if real { filters.taps[at] } else { 0 }, "{name}: value {i}");
                    }
                }
                (NewWeights::S8Winograd { .. }, Weights::S8Winograd { .. }) => {
                    check_taps(name, linear, read, [channels, stored]);
                }
                _ if first && linear.layout == S8Layout::K8 => {
                    check_linear(name, linear, read, [1, side * side, channels, stored]);
                }
                _ => check_linear(name, linear, read, [side, side, channels, stored]),
            }
        }
        (NewOp::Dense(linear), LayerOp::Dense(read)) if matches!(linear.weights, NewWeights::S4 { .. }) => {
            check_int4(name, linear, read, [pixels, channels, stored]);
        }
        (NewOp::Dense(linear), LayerOp::Dense(read)) => {
            check_linear(name, linear, read, [1, pixels, channels, stored]);
        }
        (&NewOp::MaxPool { stride, padding }, &LayerOp::MaxPool { stride: s, padding: p }) => {
            assert_eq!((stride, padding), (s, p), "{name}");
        }
        (
            &NewOp::GlobalAvgPool { multiplier, shift },
            &LayerOp::GlobalAvgPool { multiplier: m, shift: s },
        ) => {
            assert_eq!((multiplier, shift), (m, s), "{name}");
        }
        (new, read) => panic!("{name}: wrote {new:?}, read {read:?}"),
    }
}

fn check(new: &NewModel, outputs: &[Shape]) {
    let written = aligned(&bytes(new.clone()));
    let blob = Blob::parse(written.as_slice()).unwrap();
    blob.verify_checksums().unwrap();
    assert_eq!((blob.scheme(), blob.input(), *blob.preprocess()), (new.scheme, new.input, new.preprocess));
    assert_eq!((blob.n_layers(), blob.layers().count()), (new.layers.len(), new.layers.len()));
    assert_eq!(blob.file_len(), written.as_slice().len());
    let output = outputs[outputs.len() - 1];
    assert_eq!((blob.n_classes() as u64, blob.output()), (output.len(), output));
    let is_classifier = new.layers.last().is_some_and(|last| matches!(last.op, NewOp::Dense(_)));
    assert_eq!(blob.is_classifier(), is_classifier);
    assert!(blob.layer(new.layers.len()).is_none());
    let mut input = new.input;
    for (i, (new, read)) in new.layers.iter().zip(blob.layers()).enumerate() {
        let dense = matches!(new.op, NewOp::Dense(_));
        assert_eq!(read.input, if dense { shape(1, 1, input.len() as u32) } else { input }, "{}", new.name);
        assert_eq!(read.output, outputs[i], "{}", new.name);
        check_layer(new, &read, input, i == 0);
        input = read.output;
    }
    assert_eq!(blob.labels().collect::<Vec<_>>(), new.labels);
    for (class, label) in new.labels.iter().enumerate() {
        assert_eq!(blob.label(class), Some(label.as_str()));
    }
    assert_eq!(blob.label(blob.n_classes()), None);
    assert_eq!(blob.metadata(), new.metadata);
    let golden = blob.golden().map(|g| (g.input.to_vec(), g.logits.to_vec()));
    assert_eq!(golden, new.golden);
}

#[test]
fn layers_of_every_kind_come_back() {
    for scheme in [Scheme::Int8, Scheme::F16] {
        for channels in [1, 3, 4] {
            let new =
                model(&mut Random(0x5EED + u64::from(channels)), scheme, shape(9, 7, channels), &parts());
            let outputs = [
                shape(9, 7, 5),
                shape(9, 7, 13),
                shape(5, 4, 13),
                shape(5, 4, 8),
                shape(4, 3, 8),
                shape(1, 1, 20),
                shape(1, 1, 3),
            ];
            check(&new, &outputs);
            if scheme == Scheme::Int8 {
                check(&int4_twin(&mut Random(6), new.clone()), &outputs);
            }
            check(&k8_twin(new.clone()), &outputs);
            check(&k8_twin(winograd_twin(new.clone())), &outputs);
            check(&filters_twin(new.clone()), &outputs);
            check(&k8_twin(filters_twin(new.clone())), &outputs);
            for form in Form::ALL {
                check(&winograd8_twin(new.clone(), form), &outputs);
                check(&k8_twin(winograd8_twin(new.clone(), form)), &outputs);
            }
            check(&winograd_twin(new.clone()), &outputs);
            check(&half_twin(new.clone(), false), &outputs);
            check(&half_twin(new, true), &outputs);
        }
    }
}

#[test]
fn labels_self_test_and_metadata_come_back() {
    for scheme in [Scheme::Int8, Scheme::F16] {
        let outputs = [shape(6, 5, 5), shape(3, 2, 5), shape(1, 1, 5), shape(1, 1, 2)];
        check(&small(scheme), &outputs);
        let mut empty_labels = small(scheme);
        empty_labels.labels = vec![String::new(), String::new()];
        check(&empty_labels, &outputs);
        let bare = NewModel { labels: Vec::new(), golden: None, metadata: String::new(), ..small(scheme) };
        check(&bare, &outputs);
    }
}

/// A network without a dense layer at its end gives its last map; the self-test has a value each.
#[test]
fn feature_extractors_come_back() {
    let conv = Part::Conv { kernel: 3, filters: 13, block: 1 };
    let pool = Part::Pool { stride: 2, padding: Padding::Same, block: 1 };
    for scheme in [Scheme::Int8, Scheme::F16] {
        for (last, output) in [(pool, shape(3, 2, 13)), (Part::Gap, shape(1, 1, 13))] {
            let mut new = model(&mut Random(4), scheme, shape(5, 4, 3), &[conv, last]);
            let features = (0..output.len()).map(|v| v as f32 / 8.0).collect();
            new.golden = Some((vec![9; 60], features));
            check(&new, &[shape(5, 4, 13), output]);
        }
    }
}

#[test]
fn one_class_may_have_an_empty_label() {
    let mut new = model(&mut Random(7), Scheme::F16, shape(2, 2, 1), &[Part::Dense { units: 1 }]);
    new.labels = vec![String::new()];
    check(&new, &[shape(1, 1, 1)]);
}

#[test]
fn preprocessing_of_every_kind_comes_back() {
    for order in ChannelOrder::ALL {
        let input = shape(4, 5, order.channels() as u32);
        let mut new = model(&mut Random(8), Scheme::Int8, input, &[Part::Dense { units: 2 }]);
        for filter in ResizeFilter::ALL {
            for resize in [ResizeRule::Stretch, ResizeRule::ShorterSideCenterCrop(256)] {
                (new.preprocess.order, new.preprocess.filter, new.preprocess.resize) =
                    (order, filter, resize);
                let written = aligned(&bytes(new.clone()));
                assert_eq!(*Blob::parse(written.as_slice()).unwrap().preprocess(), new.preprocess);
            }
        }
    }
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    assert_eq!(bytes(small(Scheme::Int8)), bytes(small(Scheme::Int8)));
}
