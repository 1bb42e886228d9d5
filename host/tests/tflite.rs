//! TFLite: a real file with its golden outputs, and every way to write the same network gives the same graph.

mod support;
#[path = "support/tflite.rs"]
mod tflite;

use half::f16;
use support::{Npy, shared};
use tflite::{F16, Field, I32, Net, code, f32s, values};
use vgg_edge_host::graph::{Graph, Op, Padding, Shape};
use vgg_edge_host::import::{Format, ImportOptions, Imported, import};
use vgg_edge_host::preprocess::Preprocess;
use vgg_edge_host::reference::Reference;

fn imported(net: &Net, options: ImportOptions) -> Imported {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.tflite");
    std::fs::write(&path, net.bytes()).expect("writes");
    import(&path, &options).unwrap_or_else(|error| panic!("{error}"))
}

fn graph(net: &Net) -> Graph {
    imported(net, ImportOptions::default()).graph
}

#[track_caller]
fn same(net: &Net, expected: &Net) {
    let canonical = |net: &Net| graph(net).canonical().expect("folds");
    let (found, expected) = (canonical(net), canonical(expected));
    assert!(found == expected, "{}\nexpected\n{}", found.summary().render(), expected.summary().render());
}

#[test]
fn the_float_model_of_the_converter() {
    let Some(models) = shared("models") else { return };
    let path = models.join("small_vgg.tflite");
    let Imported { graph, format, notes } = import(&path, &ImportOptions::default()).expect("imports");
    assert_eq!((format, graph.input(), notes.len()), (Format::Tflite, Shape::new(32, 32, 3), 0));
    assert_eq!(graph.layers()[0].name, "small_vgg_1/block1_conv1_1/Relu");
    let rule = Preprocess::find(None, &path, graph.input()).expect("a sidecar").0;
    let npy = |name: &str| Npy::read(&models.join("golden").join(name));
    let (pictures, golden) = (npy("golden_images_u8_nhwc_rgb.npy"), npy("small_vgg_tflite_softmax.npy"));
    let reference = Reference::new(&graph).expect("builds");
    let mut worst = 0f32;
    for i in 0..64 {
        let answer = reference.run(&rule.normalize(pictures.u8_row(i)).expect("pixels")).expect("runs");
        for (a, b) in answer.probabilities.iter().zip(golden.f32_row(i)) {
            assert!((a - b).abs() <= 1e-4, "picture {i}: {a}, TFLite {b}");
            worst = worst.max((a - b).abs());
        }
    }
    println!("probabilities differ by {worst:.1e}");
    // What the user says is checked.
    let options = ImportOptions { input: Some(Shape::new(64, 48, 3)), ..Default::default() };
    let resized = import(&path, &options).expect("imports");
    assert_eq!(resized.graph.input(), Shape::new(64, 48, 3));
    assert_eq!(resized.notes, ["input 64x48x3 as asked for, the file says 32x32x3"]);
}

#[test]
fn filters_and_weights_land_where_they_belong() {
    let graph = graph(&Net::small());
    let names: Vec<&str> = graph.layers().iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["conv", "conv_relu", "pool", "mean", "dense", "softmax"]);
    let kernel = |i: usize| graph.layers()[i].op.kernel().expect("a kernel").clone();
    let (filter, stored) = (kernel(0), values(4 * 27));
    assert_eq!(filter.shape(), [3, 3, 3, 4]);
    for (i, value) in filter.data().iter().enumerate() {
        let (tap, input, output) = (i / 12, i / 4 % 3, i % 4);
        assert_eq!(*value, stored[output * 27 + tap * 3 + input]);
    }
    let (weights, stored) = (kernel(4), values(8));
    assert_eq!(weights.shape(), [4, 2]);
    assert!((0..8).all(|i| weights.data()[i] == stored[i % 2 * 4 + i / 2]));
}

#[test]
fn convolutions_in_other_words() {
    // PAD by one, then VALID.
    let mut padded = Net::new(&[1, 4, 4, 3]);
    let paddings = padded.numbers("paddings", &[0, 0, 1, 1, 1, 1, 0, 0]);
    padded.op(code::PAD, "pad", &[paddings], &[1, 6, 6, 3], &[]);
    padded.conv("conv", 1, &[4, 3, 3, 3], &[1, 4, 4, 4]);
    padded.pool("pool");
    padded.mean("mean");
    padded.dense("dense", 2, 4);
    padded.softmax("softmax");
    same(&padded, &Net::small());

    // ReLU as an operator, fused with the pool, and behind it.
    let mut relu = Net::new(&[1, 4, 4, 3]);
    relu.conv("conv", 0, &[4, 3, 3, 3], &[1, 4, 4, 4]);
    relu.giving("conv").options.truncate(3);
    relu.op(code::RELU, "relu", &[], &[1, 4, 4, 4], &[]);
    relu.pool("pool");
    relu.giving("pool").options.push((5, Field::U8(1)));
    relu.mean("mean");
    relu.dense("dense", 2, 4);
    same(&relu, &Net::small());

    // 1x1: SAME and VALID are the same. Without bias, too.
    let point = |padding: u8, bias: bool| {
        let mut net = Net::new(&[1, 4, 4, 3]);
        net.conv("conv", padding, &[4, 1, 1, 3], &[1, 4, 4, 4]);
        net.mean("mean");
        net.dense("dense", 2, 4);
        if !bias {
            net.giving("conv").inputs[2] = -1;
            net.giving("dense").inputs.pop();
        }
        net
    };
    same(&point(0, true), &point(1, true));
    let bare = graph(&point(0, false));
    assert!(matches!(&bare.layers()[0].op, Op::Conv { bias: None, .. }));
    assert!(matches!(&bare.layers()[3].op, Op::Dense { bias: None, .. }));
}

#[test]
fn pools_keep_their_stride_and_padding() {
    for (padding, stride) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        let mut net = Net::new(&[1, 5, 5, 3]);
        net.conv("conv", 0, &[4, 3, 3, 3], &[1, 5, 5, 4]);
        net.pool("pool");
        net.giving("pool").options[0].1 = Field::U8(padding);
        net.giving("pool").options[1].1 = Field::I32(stride);
        net.giving("pool").options[2].1 = Field::I32(stride);
        let padding = if padding == 0 { Padding::Same } else { Padding::Valid };
        assert_eq!(graph(&net).layers()[2].op, Op::MaxPool { stride: stride as usize, padding });
    }
}

#[test]
fn the_mean_of_a_map_in_other_words() {
    let with_mean = |axes: &[i32], keep: bool| {
        let mut net = Net::new(&[1, 4, 4, 3]);
        net.conv("conv", 0, &[4, 3, 3, 3], &[1, 4, 4, 4]);
        let list = net.numbers("axes", axes);
        net.op(code::MEAN, "mean", &[list], &[1, 1, 1, 4], &[(0, Field::U8(u8::from(keep)))]);
        net
    };
    let head = |mut net: Net| {
        net.dense("dense", 2, 4);
        net.softmax("softmax");
        net
    };
    let expected = head(with_mean(&[1, 2], false));
    same(&head(with_mean(&[2, 1], false)), &expected);
    same(&head(with_mean(&[-3, -2], true)), &expected);
    let pooled = |padding: u8, stride: i32| {
        let mut net = Net::new(&[1, 4, 4, 3]);
        net.conv("conv", 0, &[4, 3, 3, 3], &[1, 4, 4, 4]);
        let [side, stride] = [4, stride].map(Field::I32);
        let options =
            [(0, Field::U8(padding)), (1, stride.clone()), (2, stride), (3, side.clone()), (4, side)];
        net.op(code::AVERAGE_POOL_2D, "mean", &[], &[1, 1, 1, 4], &options);
        net
    };
    same(&head(pooled(1, 1)), &expected);
    same(&head(pooled(0, 4)), &expected);
    let mut squeezed = pooled(1, 4);
    squeezed.op(code::SQUEEZE, "squeeze", &[], &[1, 4], &[]);
    same(&head(squeezed), &expected);
    let mut reshaped = with_mean(&[1, 2], true);
    let shape = reshaped.numbers("shape", &[1, 4]);
    reshaped.op(code::RESHAPE, "reshape", &[shape], &[1, 4], &[]);
    same(&head(reshaped), &expected);
}

#[test]
fn flattening_in_other_words() {
    let conv = || {
        let mut net = Net::new(&[1, 4, 4, 3]);
        net.conv("conv", 0, &[4, 3, 3, 3], &[1, 4, 4, 4]);
        net.pool("pool");
        net
    };
    let head = |mut net: Net| {
        net.dense("dense", 2, 16);
        net.softmax("softmax");
        net
    };
    // FULLY_CONNECTED flattens by itself.
    let expected = head(conv());
    for target in [vec![1, 16], vec![-1, 16], vec![1, -1], vec![1, 1, 1, 16]] {
        let mut net = conv();
        let list = net.numbers("target", &target);
        net.op(code::RESHAPE, "flatten", &[list], &[1, 16], &[]);
        same(&head(net), &expected);
        // The shape in the options, or nowhere but in the output.
        let mut net = conv();
        net.op(code::RESHAPE, "flatten", &[], &[1, 16], &[(0, Field::To(tflite::Node::Numbers(target)))]);
        same(&head(net), &expected);
    }
    let mut net = conv();
    net.op(code::RESHAPE, "flatten", &[], &[1, 16], &[]);
    same(&head(net), &expected);
    // Computed from the number of pictures, as converters write it for any number of them.
    let mut net = conv();
    let map = net.last();
    let shape = net.tensor("shape", &[4], I32, Vec::new());
    net.op(code::SHAPE, "unused", &[], &[4], &[]).outputs = vec![shape];
    let slice = net.tensor("slice", &[], I32, Vec::new());
    net.op(code::STRIDED_SLICE, "unused", &[], &[], &[]).outputs = vec![slice];
    net.ops.last_mut().expect("there").inputs = vec![shape];
    let pack = net.tensor("pack", &[2], I32, Vec::new());
    let minus = net.numbers("minus", &[-1]);
    net.op(code::PACK, "unused", &[], &[2], &[]).outputs = vec![pack];
    net.ops.last_mut().expect("there").inputs = vec![slice, minus];
    net.outputs = vec![map];
    net.op(code::RESHAPE, "flatten", &[pack], &[1, 16], &[]);
    net.named("flatten").signature = vec![-1, 16];
    same(&head(net), &expected);
    // To the same shape: nothing.
    let mut net = conv();
    let list = net.numbers("target", &[-1, 2, 2, 4]);
    net.op(code::RESHAPE, "reshape", &[list], &[1, 2, 2, 4], &[]);
    same(&head(net), &expected);
    // Another picture does not fit a flattened map.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.tflite");
    let mut net = conv();
    let list = net.numbers("target", &[-1, 16]);
    net.op(code::RESHAPE, "flatten", &[list], &[1, 16], &[]);
    std::fs::write(&path, head(net).bytes()).expect("writes");
    let options = ImportOptions { input: Some(Shape::new(6, 4, 3)), ..Default::default() };
    let message = import(&path, &options).expect_err("another size").to_string();
    assert!(message.ends_with("the model takes 4x4x3 pictures, but 6x4x3 was asked for"), "{message}");
}

/// Powers of two: folding changes no digit.
#[test]
fn factors_and_shifts_become_part_of_the_layers_around_them() {
    let conv = |scale: f32, shift: f32| {
        let mut net = Net::small();
        let scaled = |t: &mut tflite::TensorSpec, n: usize, shift: f32| {
            t.data = f32s(&values(n).iter().map(|v| v * scale + shift).collect::<Vec<f32>>());
        };
        scaled(net.named("conv/filter"), 108, 0.0);
        scaled(net.named("conv/bias"), 4, shift);
        net
    };
    let with = |ops: &[(i32, &[f32], bool)]| {
        let mut net = Net::new(&[1, 4, 4, 3]);
        net.conv("conv", 0, &[4, 3, 3, 3], &[1, 4, 4, 4]);
        net.giving("conv").options.truncate(3);
        for (i, (code, values, first)) in ops.iter().enumerate() {
            let shape: &[i32] = if values.len() == 1 { &[] } else { &[1, 1, 1, 4] };
            let constant = net.tensor(&format!("c{i}"), shape, 0, f32s(values));
            let op = net.op(*code, &format!("op{i}"), &[constant], &[1, 4, 4, 4], &[]);
            if *first {
                op.inputs.reverse();
            }
        }
        let last = net.ops.last_mut().expect("one at least");
        last.options = vec![(0, Field::U8(1))];
        net.pool("pool");
        net.mean("mean");
        net.dense("dense", 2, 4);
        net.softmax("softmax");
        net
    };
    let half = [0.5; 4];
    same(&with(&[(code::MUL, &half, false), (code::ADD, &[0.25; 4], false)]), &conv(0.5, 0.25));
    same(&with(&[(code::MUL, &[0.5], true), (code::ADD, &[0.25], true)]), &conv(0.5, 0.25));
    same(&with(&[(code::DIV, &[4.0], false), (code::SUB, &half, false)]), &conv(0.25, -0.5));
    same(&with(&[(code::SUB, &half, true)]), &conv(-1.0, 0.5));
    // In front of everything, as a rescaling of the pixels is.
    let mut rescaled = Net::new(&[1, 4, 4, 3]);
    let factor = rescaled.tensor("factor", &[], 0, f32s(&[0.5]));
    rescaled.op(code::MUL, "rescaling", &[factor], &[1, 4, 4, 3], &[]);
    rescaled.conv("conv", 0, &[4, 3, 3, 3], &[1, 4, 4, 4]);
    rescaled.pool("pool");
    rescaled.mean("mean");
    rescaled.dense("dense", 2, 4);
    let mut expected = Net::small();
    expected.named("conv/filter").data = f32s(&values(108).iter().map(|v| v * 0.5).collect::<Vec<f32>>());
    same(&rescaled, &expected);
}

#[test]
fn values_in_half_precision_and_outside_of_the_tables() {
    let mut net = Net::small();
    net.outside = true;
    same(&net, &Net::small());
    // DEQUANTIZE of every constant in f16, as the converter writes it.
    let mut net = Net::small();
    let mut dequantize = Vec::new();
    for name in ["conv/filter", "conv/bias", "dense/weights", "dense/bias"] {
        let index = net.tensors.iter().position(|t| t.name == name).expect("there") as i32;
        let full = net.named(name);
        let halves: Vec<u8> = std::mem::take(&mut full.data)
            .as_chunks()
            .0
            .iter()
            .flat_map(|b| f16::from_f32(f32::from_le_bytes(*b)).to_le_bytes())
            .collect();
        let shape = full.shape.clone();
        let half = net.tensor(&format!("{name} f16"), &shape, F16, halves);
        let (code, options) = (code::DEQUANTIZE, Vec::new());
        dequantize.push(tflite::OpSpec { code, inputs: vec![half], outputs: vec![index], options });
    }
    net.ops.splice(0..0, dequantize);
    same(&net, &Net::small());
}

#[test]
fn what_is_concluded_is_said() {
    let mut logits = Net::small();
    logits.ops.pop();
    logits.outputs = logits.ops.last().expect("there").outputs.clone();
    let found = imported(&logits, ImportOptions::default());
    assert_eq!(
        found.notes,
        ["the model ends without softmax: its outputs are taken as logits, softmax added"]
    );
    same(&logits, &Net::small());
    // Features, not scores: no softmax.
    let mut features = Net::small();
    features.ops.truncate(2);
    features.outputs = features.ops[1].outputs.clone();
    let found = imported(&features, ImportOptions::default());
    assert_eq!(found.notes.len(), 0);
    assert!(!found.graph.is_classifier());
    assert_eq!(found.graph.output().to_string(), "2x2x4");
    // Pictures of any size: the user says which.
    let mut any = Net::small();
    any.tensors[0].signature = vec![-1, -1, -1, 3];
    any.tensors[0].shape = vec![1, 1, 1, 3];
    let options = ImportOptions { input: Some(Shape::new(8, 6, 3)), ..Default::default() };
    let found = imported(&any, options);
    assert_eq!((found.graph.input(), found.notes.len()), (Shape::new(8, 6, 3), 0));
    // Names are cut at the first `;`, and numbered where that leaves two the same.
    let mut named = Net::small();
    named.named("conv").name = "a;conv".into();
    named.named("pool").name = "a;pool".into();
    named.named("mean").name = String::new();
    // What would break a line of output is replaced.
    named.named("dense").name = "den\nse\u{1b}".into();
    let names: Vec<String> = graph(&named).layers().iter().map(|l| l.name.clone()).collect();
    assert_eq!(names, ["a", "a_relu", "a_2", "tensor 6", "den\u{fffd}se\u{fffd}", "softmax"]);
}
