//! Graph, builders and summary table: shapes, names and every error message.

use vgg_edge_host::graph::{
    Arch, ConvBlock, Graph, GraphError, Kind, Layer, Op, Padding, Shape, Spec, Tensor,
};

fn map(side: usize, channels: usize) -> Shape {
    Shape::new(side, side, channels)
}

fn tensor(shape: &[usize]) -> Tensor {
    Tensor::new(shape.to_vec(), vec![0.5; shape.iter().product()]).expect("sizes agree")
}

fn layer(name: &str, op: Op) -> Layer {
    Layer { name: name.to_string(), op, fused: false }
}

fn conv(name: &str, kernel: &[usize]) -> Layer {
    layer(name, Op::Conv { weights: tensor(kernel), bias: Some(tensor(&kernel[3..])) })
}

fn dense(name: &str, inputs: usize, outputs: usize) -> Layer {
    layer(name, Op::Dense { weights: tensor(&[inputs, outputs]), bias: Some(tensor(&[outputs])) })
}

/// Values of all weights and biases.
fn params(spec: &Spec) -> usize {
    let shapes = spec.shapes().expect("fits");
    let channels = |i: usize| if i == 0 { spec.input.channels } else { shapes[i - 1].channels() };
    let of_layer = |i: usize| spec.layers[i].kind.tensors(channels(i));
    (0..spec.layers.len()).flat_map(of_layer).map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

#[test]
fn vgg16_has_the_published_layers_and_parameters() {
    let spec = Spec::vgg16(map(224, 3), 1000);
    let shapes = spec.shapes().expect("vgg16 fits 224");
    let named: Vec<_> = spec.layers.iter().zip(&shapes).filter(|(l, _)| !l.fused).collect();
    let names: Vec<&str> = named.iter().map(|(l, _)| l.name.as_str()).collect();
    assert_eq!(names[..3], ["block1_conv1", "block1_conv2", "block1_pool"]);
    assert_eq!(names[names.len() - 5..], ["block5_pool", "flatten", "fc1", "fc2", "predictions"]);
    assert_eq!(named.len(), 22);
    assert_eq!(named[17].1.to_string(), "7x7x512");
    assert_eq!(named[18].1.len(), 25088);
    assert_eq!(params(&spec), 138_357_544);
}

#[test]
fn every_architecture_has_its_known_parameter_count() {
    let expected = [
        (Arch::Vggnet, 14_777_458),
        (Arch::Vgg11, 28_144_010),
        (Arch::Vgg13, 28_328_522),
        (Arch::Vgg16, 33_638_218),
        (Arch::Vgg19, 38_947_914),
    ];
    for (arch, params) in expected {
        let spec = arch.spec(map(32, 3), 10);
        assert_eq!(self::params(&spec), params, "{arch}");
        assert_eq!(arch.name().parse::<Arch>(), Ok(arch));
    }
    assert_eq!(
        "resnet".parse::<Arch>().unwrap_err().to_string(),
        "architecture is `resnet`, expected one of vggnet, vgg11, vgg13, vgg16, vgg19"
    );
}

#[test]
fn pool_strides_and_padding_decide_the_map() {
    let side = |input: usize, stride, padding| {
        Spec::new("pool", map(input, 3))
            .layer("pool", Kind::MaxPool { stride, padding })
            .layer("gap", Kind::GlobalAvgPool)
            .dense("dense", 2, Kind::Softmax)
            .shapes()
            .map(|s| s[0].dims()[0])
    };
    assert_eq!(side(6, 2, Padding::Valid), Ok(3));
    assert_eq!(side(7, 2, Padding::Valid), Ok(3));
    assert_eq!(side(7, 2, Padding::Same), Ok(4));
    assert_eq!(side(7, 1, Padding::Valid), Ok(6));
    assert_eq!(side(7, 1, Padding::Same), Ok(7));
    assert_eq!(side(1, 2, Padding::Same), Ok(1));
    let block = ConvBlock { filters: 8, repeats: 2, pool_strides: 1, block_id: 4 };
    let spec = Spec::new("block", map(8, 3)).conv_block(block);
    let names: Vec<&str> = spec.layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(
        names,
        ["block4_conv1", "block4_conv1_relu", "block4_conv2", "block4_conv2_relu", "block4_pool"]
    );
}

#[test]
fn random_weights_repeat_for_a_seed_and_are_he_scaled() {
    let spec = Spec::vggnet(map(32, 3), 10);
    let graph = spec.with_random_weights(1).expect("builds");
    assert_eq!(graph, spec.with_random_weights(1).expect("builds"));
    assert_ne!(graph, spec.with_random_weights(2).expect("builds"));
    assert_eq!(graph.params(), 14_777_458);
    let weights = graph.layers()[2].op.kernel().expect("block1_conv2");
    let var = weights.data().iter().map(|v| v * v).sum::<f32>() / weights.len() as f32;
    assert!((var * 288.0 - 1.0).abs() < 0.02, "variance x fan-in / 2 is {}", var * 288.0);
}

#[test]
fn canonical_form_ignores_names_dropout_and_synonyms() {
    let relu = |name: &str| layer(name, Op::Relu);
    let pool = |padding| layer("p", Op::MaxPool { stride: 2, padding });
    let a = Graph::new(
        "a",
        map(2, 3),
        vec![
            conv("c", &[3, 3, 3, 4]),
            relu("r"),
            pool(Padding::Same),
            layer("g", Op::GlobalAvgPool),
            dense("d", 4, 2),
        ],
    )
    .expect("builds");
    let b = Graph::new(
        "b",
        map(2, 3),
        vec![
            conv("features.0", &[3, 3, 3, 4]),
            relu("x"),
            pool(Padding::Valid),
            layer("f", Op::Flatten),
            layer("drop", Op::Dropout { rate: 0.5 }),
            dense("y", 4, 2),
        ],
    )
    .expect("builds");
    assert_ne!(a, b);
    assert_eq!(a.canonical().expect("folds"), b.canonical().expect("folds"));
    let mut other = tensor(&[4, 2]);
    other.data_mut()[3] = 0.25;
    let (_, input, mut layers) = b.clone().into_layers();
    layers[5].op = Op::Dense { weights: other, bias: Some(tensor(&[2])) };
    let c = Graph::new("c", input, layers).expect("builds");
    assert_ne!(b.canonical().expect("folds"), c.canonical().expect("folds"));
}

#[test]
fn errors_say_where_found_and_expected() {
    let gap = || layer("gap", Op::GlobalAvgPool);
    let soft = || layer("soft", Op::Softmax);
    let pool = || layer("pool", Op::MaxPool { stride: 2, padding: Padding::Valid });
    let nan = {
        let mut t = tensor(&[3, 2]);
        t.data_mut()[4] = f32::NAN;
        layer("d", Op::Dense { weights: t, bias: Some(tensor(&[2])) })
    };
    let short_bias = layer("c", Op::Conv { weights: tensor(&[3, 3, 3, 8]), bias: Some(tensor(&[7])) });
    let huge = Shape::new(usize::MAX, 2, 3);
    let too_big = format!("layer `input`: output is {huge}, expected 1 to 1073741824 values");
    let cases: Vec<(Shape, Vec<Layer>, &str)> = vec![
        (map(4, 3), vec![], "the network has no layers, expected at least one convolution or dense layer"),
        (
            map(4, 3),
            vec![conv("c", &[3, 3, 3, 8]), conv("c", &[3, 3, 8, 8])],
            "layer `c` is there twice, expected unique layer names",
        ),
        (map(4, 3), vec![conv("c", &[5, 5, 3, 8])], "layer `c`: filter is 5x5, expected 3x3 or 1x1"),
        (
            map(4, 3),
            vec![layer("p", Op::MaxPool { stride: 3, padding: Padding::Same })],
            "layer `p`: pool stride is 3, expected 1 or 2",
        ),
        (
            map(4, 3),
            vec![gap(), pool()],
            "layer `pool`: MaxPooling2D got a vector of 3 values, expected height x width x channels",
        ),
        (map(4, 3), vec![dense("fc", 3, 2)], "layer `fc`: Dense got a 4x4x3 map, expected a vector"),
        (
            map(1, 3),
            vec![pool(), gap()],
            "layer `pool`: 2x2 max-pooling got a 1x1x3 map, expected at least 2x2",
        ),
        (huge, vec![gap()], &too_big),
        (map(0, 3), vec![gap()], "layer `input`: output is 0x0x3, expected 1 to 1073741824 values"),
        (
            map(4, 3),
            vec![gap(), soft(), dense("d", 3, 2)],
            "layer `soft`: softmax is followed by `d`, expected it to be last",
        ),
        (
            map(4, 3),
            vec![layer("drop", Op::Dropout { rate: 1.5 })],
            "layer `drop`: dropout rate is 1.5, expected 0 to 1",
        ),
        (
            map(4, 3),
            vec![conv("c", &[3, 3, 4, 8]), gap()],
            "layer `c`: kernel has shape [3, 3, 4, 8], expected [3, 3, 3, 8]",
        ),
        (map(4, 3), vec![short_bias, gap()], "layer `c`: bias has shape [7], expected [8]"),
        (map(4, 3), vec![gap(), nan], "layer `d`: kernel value 4 is NaN, expected a finite number"),
    ];
    for (input, layers, message) in cases {
        let error: GraphError = Graph::new("net", input, layers).expect_err(message);
        assert_eq!(error.to_string(), message);
        assert!(!error.kind().is_empty());
    }
}

#[test]
fn summary_is_the_keras_table() {
    let spec = Spec::new("tiny", map(8, 3))
        .conv_block(ConvBlock { filters: 16, repeats: 1, pool_strides: 2, block_id: 1 })
        .layer("flatten", Kind::Flatten)
        .dense("predictions", 10, Kind::Softmax);
    let summary = spec.with_random_weights(3).expect("builds").summary();
    let expected = "\
Model: \"tiny\"
Layer (type)                Output Shape      Param #    MACs  f16 bytes  int8 bytes
input (InputLayer)          (None, 8, 8, 3)         0       0          0           0
block1_conv1 (Conv2D)       (None, 8, 8, 16)      448  27,648        928         624
block1_pool (MaxPooling2D)  (None, 4, 4, 16)        0       0          0           0
flatten (Flatten)           (None, 256)             0       0          0           0
predictions (Dense)         (None, 10)          2,570   2,560      5,160       2,680

Total params: 3,018
MACs:         30,208
Weights:      f32 11.8 KiB, f16 5.9 KiB, int8 3.2 KiB, int8-fc4 3.2 KiB
";
    assert_eq!(summary.render(), expected);
    assert_eq!(summary.rows.len(), 5);
    assert_eq!((summary.params, summary.macs), (3018, 27_648 + 2_560));
    assert_eq!(summary.bytes.f32, 4 * 3018);
    assert_eq!(summary.bytes.int8, 432 + 2560 + 12 * 26);
    assert_eq!(summary.bytes.int8_fc4, summary.bytes.int8);
}
