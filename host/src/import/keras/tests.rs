//! Descriptions of networks, layer by layer: what each becomes, and what is refused.

use crate::graph::{ActivationShape, Kind, Shape};

use super::super::{ImportOptions, Problem};
use super::config::{Model, Parameters, Source, parse, snake_case};

fn read(json: &str) -> Result<(Model, Vec<String>), Problem> {
    let mut notes = Vec::new();
    parse(json, &ImportOptions::default(), &mut notes).map(|model| (model, notes))
}

/// `{"class_name": class, "config": {"name": name, …options}}`, with quotes for the apostrophes.
fn layer(class: &str, name: &str, options: &str) -> String {
    let comma = if options.is_empty() { "" } else { ", " };
    format!("{{'class_name': '{class}', 'config': {{'name': '{name}'{comma}{options}}}}}").replace('\'', "\"")
}

fn model(class: &str, name: &str, layers: &[String]) -> String {
    layer(class, name, &format!("'layers': [{}]", layers.join(", ")))
}

fn input(shape: &str) -> String {
    layer("InputLayer", "in", &format!("'batch_shape': [null, {shape}]"))
}

const CONV: &str =
    "'filters': 4, 'kernel_size': [3, 3], 'strides': [1, 1], 'padding': 'same', 'activation': 'relu'";
const VALID: &str = "'filters': 4, 'kernel_size': [3, 3], 'strides': [1, 1], 'padding': 'valid'";
const DENSE: &str = "'units': 2, 'activation': 'softmax'";

/// The layers of a Sequential model of these, behind an 8x8x3 input.
fn sequential(layers: &[String]) -> Result<(Model, Vec<String>), Problem> {
    let layers: Vec<String> = std::iter::once(input("8, 8, 3")).chain(layers.iter().cloned()).collect();
    read(&model("Sequential", "s", &layers))
}

fn names(model: &Model) -> Vec<&str> {
    model.spec.layers.iter().map(|l| l.name.as_str()).collect()
}

fn message(layers: &[String]) -> String {
    sequential(layers).err().expect("is refused").to_string()
}

/// A Functional model of these layers, each of which takes the one before it; layer and what it takes.
fn functional(layers: &[(String, &str)], outputs: &str) -> String {
    let layers: Vec<String> = (layers.iter())
        .map(|(layer, inputs)| {
            let name = layer.split("\"name\": \"").nth(1).and_then(|l| l.split('"').next()).expect("a name");
            let nodes: Vec<String> =
                inputs.split_whitespace().map(|i| format!("[\"{i}\", 0, 0, {{}}]")).collect();
            let nodes = if nodes.is_empty() { "[]".into() } else { format!("[[{}]]", nodes.join(", ")) };
            let open = layer.strip_suffix('}').expect("an object");
            format!("{open}, \"name\": \"{name}\", \"inbound_nodes\": {nodes}}}")
        })
        .collect();
    let outputs = if outputs.is_empty() { String::new() } else { format!(", 'output_layers': {outputs}") };
    layer("Functional", "f", &format!("'layers': [{}]{outputs}", layers.join(", ")))
}

#[test]
fn functional_layers_in_any_order() {
    let mut layers = vec![
        (input("8, 8, 3"), ""),
        (layer("Dense", "d", "'units': 2, 'activation': 'linear'"), "g"),
        (layer("GlobalAveragePooling2D", "g", ""), "c"),
        (layer("Conv2D", "c", CONV), "in"),
    ];
    let (model, notes) = read(&functional(&layers, "['d', 0, 0]")).expect("parses");
    assert_eq!(names(&model), ["c", "c_relu", "g", "d", "d_softmax"]);
    assert_eq!(model.spec.input, Shape::new(8, 8, 3));
    assert_eq!(notes, ["the model ends without softmax: its outputs are taken as logits, softmax added"]);

    let error = |layers: &[(String, &str)], outputs| read(&functional(layers, outputs)).err().expect("fails");
    assert_eq!(
        error(&layers, "[['g', 0, 0], ['d', 0, 0]]").to_string(),
        "model_config: config.output_layers is `g`, `d`, expected the last layer of the chain alone"
    );
    layers[3].1 = "d";
    assert_eq!(
        error(&layers, "").to_string(),
        "model_config: layer `d` is not reachable from the input, expected one chain of layers"
    );
    layers[3].1 = "in d";
    assert_eq!(
        error(&layers, "").to_string(),
        "layer `c`: has 2 inputs, expected 1 (the network must be a chain)"
    );
}

#[test]
fn models_in_models() {
    let base = [input("null, null, 3"), layer("Conv2D", "c", CONV), layer("BatchNormalization", "b", "")];
    let augment = model("Sequential", "augment", &[layer("RandomFlip", "flip", "'mode': 'horizontal'")]);
    let head = model("Sequential", "head", &[layer("Dense", "c", DENSE)]);
    let outer = [
        input("8, 6, 3"),
        augment,
        model("Functional", "vgg16", &[]).replace("[]", &base_layers(&base)),
        layer("GlobalAveragePooling2D", "g", ""),
        head,
    ];
    let (model, _) = read(&model("Sequential", "s", &outer)).expect("parses");
    // The second `c` is that of another model.
    assert_eq!(names(&model), ["c", "c_relu", "b", "g", "head/c", "head/c_softmax"]);
    assert_eq!(model.spec.input, Shape::new(8, 6, 3));
    let path = |layer_idx: usize| match &model.sources[layer_idx] {
        Source::Stored { place, .. } => (place.top.as_str(), place.name.as_str(), place.path.clone()),
        _ => panic!("layer {layer_idx} has weights"),
    };
    let step = |class: &str, number| (class.to_string(), number);
    assert_eq!(path(0), ("vgg16", "c", vec![step("functional", 0), step("conv2d", 0)]));
    assert_eq!(path(2), ("vgg16", "b", vec![step("functional", 0), step("batch_normalization", 0)]));
    assert_eq!(path(4), ("head", "c", vec![step("sequential", 1), step("dense", 0)]));
}

/// The list of a Functional model's layers, each behind the one before it.
fn base_layers(layers: &[String]) -> String {
    let before = ["", "in", "c"];
    let listed: Vec<(String, &str)> = layers.iter().cloned().zip(before).collect();
    let whole = functional(&listed, "");
    let (start, end) = (whole.find('[').expect("a list"), whole.rfind(']').expect("a list"));
    whole[start..=end].to_string()
}

#[test]
fn keras_1_options_and_a_bare_list() {
    let conv = "'nb_filter': 4, 'nb_row': 3, 'nb_col': 3, 'border_mode': 'same', 'subsample': [1, 1], 'dim_ordering': 'tf', \
                'bias': false, 'activation': 'relu', 'batch_input_shape': [null, 6, 5, 1]";
    let layers = [
        layer("Convolution2D", "c", conv),
        layer(
            "MaxPooling2D",
            "p",
            "'pool_size': [2, 2], 'strides': [2, 2], 'border_mode': 'valid', 'dim_ordering': 'tf'",
        ),
        layer("Flatten", "f", ""),
        layer("Dropout", "o", "'p': 0.25"),
        layer("Dense", "d", "'output_dim': 2, 'activation': 'softmax'"),
    ];
    let json = format!("{{\"class_name\": \"Sequential\", \"config\": [{}]}}", layers.join(", "));
    let (model, _) = read(&json).expect("parses");
    assert_eq!(model.spec.input, Shape::new(6, 5, 1));
    assert_eq!(names(&model), ["c", "c_relu", "p", "f", "o", "d", "d_softmax"]);
    assert!(matches!(
        model.sources[0],
        Source::Stored { parameters: Parameters::Linear { bias: false }, .. }
    ));
    assert_eq!(model.spec.layers[4].kind, Kind::Dropout { rate: 0.25 });
    let error = read(&json.replace("\"tf\"", "\"th\"")).err().expect("channels first").to_string();
    assert_eq!(error, "layer `c`: data_format is \"channels_first\", expected channels_last");
}

#[test]
fn zero_padding_and_a_valid_convolution_are_same_padding() {
    let pad = || layer("ZeroPadding2D", "pad", "'padding': [[1, 1], [1, 1]], 'data_format': 'channels_last'");
    let (model, _) = sequential(&[pad(), layer("Conv2D", "c", VALID)]).expect("parses");
    assert_eq!(names(&model), ["c"]);
    assert_eq!(message(&[layer("Conv2D", "c", VALID)]), "layer `c`: padding is \"valid\", expected same");
    let alone =
        "layer `pad`: ZeroPadding2D without a valid 3x3 Conv2D behind it is not supported, supported are ";
    for behind in [layer("Conv2D", "c", CONV), layer("MaxPooling2D", "p", "'pool_size': [2, 2]")] {
        assert!(message(&[pad(), behind]).starts_with(alone));
    }
    assert!(message(&[pad()]).starts_with(alone));
    assert_eq!(
        message(&[layer("ZeroPadding2D", "pad", "'padding': [[0, 1], [0, 1]]")]),
        "layer `pad`: padding is [[0,1],[0,1]], expected [[1,1],[1,1]]"
    );
}

#[test]
fn a_mean_over_the_whole_map_however_it_is_said() {
    let conv = || layer("Conv2D", "c", CONV);
    let flatten = || layer("Flatten", "f", "");
    let average =
        |size: &str| layer("AveragePooling2D", "a", &format!("'pool_size': {size}, 'padding': 'valid'"));
    let kept = || layer("GlobalAveragePooling2D", "g", "'keepdims': true");
    for pool in [average("[8, 8]"), kept()] {
        for behind in [flatten(), layer("Reshape", "r", "'target_shape': [-1]")] {
            let (model, _) = sequential(&[conv(), pool.clone(), behind]).expect("parses");
            assert_eq!(model.spec.layers[2].kind, Kind::GlobalAvgPool);
            assert_eq!(model.spec.layers.len(), 3);
        }
        let (model, _) = sequential(&[conv(), pool]).expect("a feature extractor");
        assert_eq!(model.spec.shapes().expect("fits").last(), Some(&ActivationShape::Vector(4)));
    }
    assert_eq!(
        message(&[conv(), average("[4, 4]")]),
        "layer `a`: pool_size is [4,4], expected the whole map"
    );
    assert_eq!(
        message(&[conv(), kept(), layer("Dense", "d", DENSE)]),
        "layer `g`: output is a map of 1x1, expected a vector, or Flatten behind it"
    );
}

#[test]
fn reshapes_and_permutations_that_move_nothing() {
    let conv = || layer("Conv2D", "c", CONV);
    let same = [
        layer("Permute", "p", "'dims': [1, 2, 3]"),
        layer("Reshape", "r", "'target_shape': [8, 8, 4]"),
        layer("Resizing", "z", "'height': 8, 'width': 8"),
        layer("Identity", "i", ""),
        layer("GaussianNoise", "n", "'stddev': 0.1"),
        layer("SpatialDropout2D", "s", "'rate': 0.1"),
        layer("RandomRotation", "t", "'factor': 0.1"),
    ];
    let mut layers = vec![conv()];
    layers.extend(same);
    layers.push(layer("Reshape", "v", "'target_shape': [256]"));
    assert_eq!(names(&sequential(&layers).expect("parses").0), ["c", "c_relu", "v"]);
    let permute = layer("Permute", "p", "'dims': [3, 1, 2]");
    assert_eq!(message(&[conv(), permute]), "layer `p`: dims is [3,1,2], expected the order it has");
    let reshape = layer("Reshape", "r", "'target_shape': [64, 4]");
    assert_eq!(message(&[conv(), reshape]), "layer `r`: target_shape is [64,4], expected [-1]");
    for (class, options) in
        [("Resizing", "'height': 16, 'width': 16"), ("RandomCrop", ""), ("Lambda", ""), ("Add", "")]
    {
        let text = message(&[conv(), layer(class, "x", options)]);
        assert!(
            text.starts_with(&format!("layer `x`: {class} is not supported, supported are Conv2D,")),
            "{text}"
        );
    }
}

#[test]
fn factors_in_front() {
    let rescale = layer("Rescaling", "r", "'scale': 0.5, 'offset': [1, 2, 3]");
    let normalize = layer(
        "Normalization",
        "n",
        "'axis': [-1], 'mean': [[[[1.0, 2.0, 3.0]]]], 'variance': 4, 'invert': false",
    );
    let adapted = layer("Normalization", "m", "'axis': [3], 'mean': null, 'variance': null");
    let (model, _) = sequential(&[rescale, normalize, adapted, layer("Conv2D", "c", CONV)]).expect("parses");
    assert_eq!(names(&model), ["r", "n", "m", "c", "c_relu"]);
    let given = |layer_idx: usize| match &model.sources[layer_idx] {
        Source::Given { scale, shift } => (scale.clone(), shift.clone()),
        _ => panic!("layer {layer_idx} has its factors in the description"),
    };
    assert_eq!(given(0), (vec![0.5; 3], vec![1.0, 2.0, 3.0]));
    assert_eq!(given(1), (vec![0.5; 3], vec![-0.5, -1.0, -1.5]));
    assert!(matches!(model.sources[2], Source::Stored { parameters: Parameters::Normalization, .. }));
    let two = layer("Rescaling", "r", "'scale': [1, 2]");
    assert_eq!(message(&[two]), "layer `r`: scale is [1,2], expected a number, or one for each channel");
    let invert = layer("Normalization", "n", "'axis': [-1], 'invert': true");
    assert_eq!(message(&[invert]), "layer `n`: invert is true, expected false");
}

#[test]
fn batch_normalization_options() {
    let conv = || layer("Conv2D", "c", CONV);
    let norm = |options: &str| layer("BatchNormalization", "b", options);
    let (model, _) =
        sequential(&[conv(), norm("'axis': [3], 'epsilon': 1e-05, 'scale': false")]).expect("parses");
    assert_eq!(model.spec.layers[2].kind, Kind::BatchNorm { epsilon: 1e-5 });
    let parameters = Parameters::BatchNorm { gamma: false, beta: true };
    assert!(matches!(&model.sources[2], Source::Stored { parameters: p, .. } if *p == parameters));
    for (options, expected) in [
        ("'axis': 1", "layer `b`: axis is 1, expected -1"),
        ("'epsilon': -1", "layer `b`: epsilon is -1, expected a number of at least 0"),
        ("'center': 1", "layer `b`: center is 1, expected true or false"),
        ("'renorm': true", "layer `b`: renorm is true, expected false"),
    ] {
        assert_eq!(message(&[conv(), norm(options)]), expected);
    }
}

#[test]
fn only_plain_relu_is_relu() {
    let conv = |activation: &str| layer("Conv2D", "c", &CONV.replace("'relu'", activation));
    let plain =
        conv("{'class_name': 'ReLU', 'config': {'max_value': null, 'negative_slope': 0.0, 'threshold': 0}}");
    assert_eq!(names(&sequential(&[plain]).expect("parses").0), ["c", "c_relu"]);
    for (layer, expected) in [
        (conv("'relu6'"), "layer `c`: activation is \"relu6\", expected relu, softmax or linear"),
        (
            conv("{'class_name': 'ReLU', 'config': {'max_value': 6}}"),
            "layer `c`: activation: max_value is 6, expected null",
        ),
        (layer("ReLU", "r", "'max_value': 6.0"), "layer `r`: max_value is 6.0, expected null"),
        (layer("ReLU", "r", "'negative_slope': 0.1"), "layer `r`: negative_slope is 0.1, expected 0"),
        (layer("Activation", "r", "'activation': 'swish'"), {
            "layer `r`: activation is \"swish\", expected relu, softmax or linear"
        }),
    ] {
        assert_eq!(message(&[layer]), expected);
    }
}

#[test]
fn descriptions_out_of_bounds() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(read(&deep).err().expect("too deep").to_string().contains("recursion limit exceeded"));
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    let error = read(&long).err().expect("too long").to_string();
    assert_eq!(error, "model_config: text is 1048578 bytes long, expected at most 1 MiB");
    let objects = format!("[{}{{}}]", "{},".repeat(1 << 15));
    let error = read(&objects).err().expect("too many").to_string();
    assert_eq!(error, "model_config: text is 32769 objects, expected at most 32768");
    let open = model("Sequential", "s", &[input("null, null, 3"), layer("Conv2D", "c", CONV)]);
    assert_eq!(read(&open).err().expect("open size").kind(), "input-unknown");
    let twice = [layer("Conv2D", "c", CONV), layer("Conv2D", "c", CONV)];
    assert_eq!(message(&twice), "layer `c` is there twice, expected unique layer names");
}

#[test]
fn groups_are_named_as_keras_names_classes() {
    for (class, group) in [
        ("Conv2D", "conv2d"),
        ("MaxPooling2D", "max_pooling2d"),
        ("GlobalAveragePooling2D", "global_average_pooling2d"),
        ("BatchNormalization", "batch_normalization"),
        ("ReLU", "re_lu"),
        ("InputLayer", "input_layer"),
        ("DepthwiseConv2D", "depthwise_conv2d"),
        ("Functional", "functional"),
    ] {
        assert_eq!(snake_case(class), group);
    }
}
