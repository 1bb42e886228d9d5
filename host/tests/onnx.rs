//! ONNX: every way to write the same network gives the same graph.

#[path = "support/onnx.rs"]
mod file;

use std::fs;
use std::path::Path;

use file::{Attr, Net, bytes, f32s, int, int_tensor, tensor, weights};
use half::f16;
use vgg_edge_host::graph::{Graph, Op, Padding, Shape};
use vgg_edge_host::import::{Format, ImportOptions, Imported, import};

fn import_bytes(folder: &Path, bytes: &[u8], options: ImportOptions) -> Imported {
    let path = folder.join("net.onnx");
    fs::write(&path, bytes).expect("writes");
    import(&path, &options).unwrap_or_else(|error| panic!("{error}"))
}

fn imported(net: &Net) -> Imported {
    let folder = tempfile::tempdir().expect("a folder");
    import_bytes(folder.path(), &net.bytes(), ImportOptions::default())
}

#[track_caller]
fn same(net: &Net, expected: &Net) {
    let canonical = |net: &Net| imported(net).graph.canonical().expect("folds");
    let (found, expected) = (canonical(net), canonical(expected));
    assert!(found == expected, "{}\nexpected\n{}", found.summary().render(), expected.summary().render());
}

fn ints(values: &[i64]) -> Attr {
    Attr::Ints(values.to_vec())
}

/// A network of these steps from a 4x4x3 picture (`x`) to something flat (`f`), its head behind it.
fn with_tail(inputs: i64, build: impl FnOnce(&mut Net)) -> Net {
    let mut net = Net::new(&[1, 3, 4, 4]);
    build(&mut net);
    net.head("f", inputs);
    net
}

#[test]
fn a_small_network() {
    let Imported { graph, format, notes } = imported(&Net::small());
    assert_eq!((format, graph.input(), graph.name()), (Format::Onnx, Shape::new(4, 4, 3), "net"));
    let names: Vec<&str> = graph.layers().iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["c", "r", "p", "g", "y", "y_softmax"]);
    assert_eq!(notes, ["the model ends without softmax: its outputs are taken as logits, softmax added"]);
    let filter = graph.layers()[0].op.kernel().expect("a kernel");
    let stored = |i: usize| ((i * 37 + 11) % 64) as f32 / 64.0 - 0.5;
    assert_eq!(filter.shape(), [3, 3, 3, 4]);
    for (i, value) in filter.data().iter().enumerate() {
        let (tap, input, output) = (i / 12, i / 4 % 3, i % 4);
        assert_eq!(*value, stored(output * 27 + input * 9 + tap));
    }
}

#[test]
fn convolutions_in_other_words() {
    let plain = with_tail(64, |net| {
        net.conv("x", "c", &[]);
        net.node("Flatten", &["c"], "f", &[]);
    });
    let auto = with_tail(64, |net| {
        net.conv("x", "c", &[("auto_pad", Attr::Text("SAME_UPPER"))]);
        net.node("Flatten", &["c"], "f", &[("axis", Attr::Int(1))]);
    });
    let padded = with_tail(64, |net| {
        net.tensors.push(int_tensor("p", &[0, 0, 1, 1, 0, 0, 1, 1]));
        net.node("Pad", &["x", "p"], "xp", &[]);
        net.conv("xp", "c", &[("pads", ints(&[0; 4]))]);
        net.node("Flatten", &["c"], "f", &[]);
    });
    // Filters stored HWIO behind a transposition, bias as an addition.
    let transposed = with_tail(64, |net| {
        let oihw: Vec<f32> = (0..108).map(|i| ((i * 37 + 11) % 64) as f32 / 64.0 - 0.5).collect();
        let hwio: Vec<f32> = (0..108).map(|i| oihw[i % 4 * 27 + i / 4 % 3 * 9 + i / 12]).collect();
        net.tensors.extend([tensor("hwio", 1, &[3, 3, 3, 4], &f32s(&hwio)), weights("cb", &[1, 4, 1, 1])]);
        net.node("Transpose", &["hwio"], "cw", &[("perm", ints(&[3, 2, 0, 1]))]);
        net.node("Conv", &["x", "cw"], "c", &[("pads", ints(&[1; 4]))]);
        net.node("Add", &["c", "cb"], "b", &[]);
        net.node("Flatten", &["b"], "f", &[]);
    });
    // In pictures as NHWC, flattened from NCHW; nodes in the wrong order, a name for nothing in between.
    let nhwc = {
        let mut net = Net::new(&[-1, 4, 4, 3]);
        net.node("Flatten", &["i"], "f", &[]);
        net.node("Identity", &["c"], "i", &[]);
        net.conv("t", "c", &[]);
        net.node("Transpose", &["x"], "t", &[("perm", ints(&[0, 3, 1, 2]))]);
        net.head("f", 64);
        net
    };
    for net in [auto, padded, transposed, nhwc] {
        same(&net, &plain);
    }
}

#[test]
fn flattening_in_both_orders() {
    let by_channel = with_tail(48, |net| {
        net.node("Relu", &["x"], "r", &[]);
        net.node("Flatten", &["r"], "f", &[]);
    });
    // The same weights, their rows in HWC order.
    let by_pixel = {
        let mut net = Net::new(&[1, 3, 4, 4]);
        net.node("Relu", &["x"], "r", &[]);
        net.node("Transpose", &["r"], "t", &[("perm", ints(&[0, 2, 3, 1]))]);
        net.node("Flatten", &["t"], "f", &[]);
        let value = |o: usize, i: usize| (((o * 48 + i) as i64 * 37 + 11) % 64) as f32 / 64.0 - 0.5;
        let moved: Vec<f32> = (0..96).map(|n| value(n / 48, n % 48 % 3 * 16 + n % 48 / 3)).collect();
        net.tensors.extend([tensor("dw", 1, &[2, 48], &f32s(&moved)), weights("db", &[2])]);
        net.node("Gemm", &["f", "dw", "db"], "y", &[("transB", Attr::Int(1))]);
        net
    };
    same(&by_pixel, &by_channel);
    let reshapes: [&[i64]; 5] = [&[-1, 48], &[0, -1], &[1, -1], &[1, 48], &[0, 48]];
    for target in reshapes {
        let reshaped = with_tail(48, |net| {
            net.tensors.push(int_tensor("s", target));
            net.node("Relu", &["x"], "r", &[]);
            net.node("Reshape", &["r", "s"], "f", &[]);
        });
        same(&reshaped, &by_channel);
    }
    // x.view(x.size(0), -1), and the size by Slice and ReduceProd.
    let computed = with_tail(48, |net| {
        net.tensors.extend([tensor("zero", 7, &[], &[0; 8]), int_tensor("minus", &[-1])]);
        net.node("Relu", &["x"], "r", &[]);
        net.node("Shape", &["r"], "shape", &[]);
        net.node("Gather", &["shape", "zero"], "batch", &[("axis", Attr::Int(0))]);
        net.node("Unsqueeze", &["batch"], "b", &[("axes", ints(&[0]))]);
        net.node("Concat", &["b", "minus"], "s", &[("axis", Attr::Int(0))]);
        net.node("Reshape", &["r", "s"], "f", &[]);
    });
    let product = with_tail(48, |net| {
        net.tensors.extend(["one", "four", "minus"].iter().zip([1, 4, -1]).map(|(n, v)| int_tensor(n, &[v])));
        net.node("Relu", &["x"], "r", &[]);
        net.node("Shape", &["r"], "shape", &[]);
        net.node("Slice", &["shape", "one", "four"], "chw", &[]);
        net.node("ReduceProd", &["chw"], "n", &[]);
        net.node("Cast", &["n"], "n64", &[("to", Attr::Int(7))]);
        net.node("Concat", &["minus", "n64"], "s", &[("axis", Attr::Int(0))]);
        net.node("Reshape", &["r", "s"], "f", &[]);
    });
    for net in [computed, product] {
        same(&net, &by_channel);
    }
}

#[test]
fn averages_and_dense_layers_in_other_words() {
    let plain = with_tail(3, |net| {
        net.node("GlobalAveragePool", &["x"], "g", &[]);
        net.node("Flatten", &["g"], "f", &[]);
    });
    let pooled = with_tail(3, |net| {
        net.node("AveragePool", &["x"], "g", &[("kernel_shape", ints(&[4, 4]))]);
        net.node("Squeeze", &["g"], "f", &[("axes", ints(&[2, 3]))]);
    });
    let reduced = with_tail(3, |net| {
        net.node("ReduceMean", &["x"], "f", &[("axes", ints(&[-1, -2])), ("keepdims", Attr::Int(0))]);
    });
    let kept = with_tail(3, |net| {
        net.tensors.push(int_tensor("a", &[2, 3]));
        net.node("ReduceMean", &["x", "a"], "g", &[]);
        net.node("AveragePool", &["g"], "h", &[("kernel_shape", ints(&[1, 1]))]);
        net.node("Flatten", &["h"], "f", &[]);
    });
    // [in][out] weights by MatMul and Add, a softmax of its own.
    let matmul = {
        let mut net = Net::new(&[1, 3, 4, 4]);
        net.node("GlobalAveragePool", &["x"], "g", &[]);
        net.node("Flatten", &["g"], "f", &[]);
        net.tensors.extend([weights("dw", &[2, 3]), weights("db", &[2])]);
        net.node("Transpose", &["dw"], "w", &[]);
        net.node("MatMul", &["f", "w"], "m", &[]);
        net.node("Add", &["db", "m"], "a", &[]);
        net.node("Softmax", &["a"], "y", &[]);
        net
    };
    // Halved weights and a doubled factor.
    let scaled = {
        let mut net = Net::new(&[1, 3, 4, 4]);
        net.node("GlobalAveragePool", &["x"], "g", &[]);
        net.node("Flatten", &["g"], "f", &[]);
        let half = |n: usize| -> Vec<f32> {
            (0..n).map(|i| (((i * 37 + 11) % 64) as f32 / 64.0 - 0.5) / 2.0).collect()
        };
        net.tensors.push(tensor("dw", 1, &[2, 3], &f32s(&half(6))));
        net.tensors.push(tensor("db", 1, &[1, 2], &f32s(&half(2))));
        let factors = [("alpha", Attr::Float(2.0)), ("beta", Attr::Float(2.0)), ("transB", Attr::Int(1))];
        net.node("Gemm", &["f", "dw", "db"], "y", &factors);
        net
    };
    for net in [pooled, reduced, kept, matmul, scaled] {
        same(&net, &plain);
    }
}

#[test]
fn batch_normalization_folds() {
    let vectors = |net: &mut Net| {
        for name in ["gamma", "beta", "mean"] {
            net.tensors.push(weights(name, &[4]));
        }
        net.tensors.push(tensor("var", 1, &[4], &f32s(&[0.5, 1.0, 2.0, 4.0])));
    };
    let graph = imported(&with_tail(64, |net| {
        vectors(net);
        net.conv("x", "c", &[]);
        let epsilon = [("epsilon", Attr::Float(0.25))];
        net.node("BatchNormalization", &["c", "gamma", "beta", "mean", "var"], "n", &epsilon);
        net.node("Clip", &["n", "", ""], "r", &[("min", Attr::Float(0.0))]);
        net.node("Dropout", &["r"], "d", &[("ratio", Attr::Float(0.25))]);
        net.node("Flatten", &["d"], "f", &[]);
    }))
    .graph;
    let Op::BatchNorm { epsilon, .. } = &graph.layers()[1].op else { panic!("{graph:?}") };
    assert_eq!(*epsilon, 0.25);
    assert_eq!(graph.layers()[3].op, Op::Dropout { rate: 0.25 });
    let classes = |g: &Graph| g.layers().iter().map(|l| l.op.kind().class()).collect::<Vec<_>>().join(" ");
    assert_eq!(classes(&graph.canonical().expect("folds")), "Conv2D ReLU Flatten Dense Softmax");
    // Behind the flattening of an NCHW map: its values are in another order than the graph's.
    let behind = imported(&with_tail(64, |net| {
        net.conv("x", "c", &[]);
        net.node("Flatten", &["c"], "g", &[]);
        net.tensors.push(weights("scale", &[64]));
        net.node("Mul", &["g", "scale"], "f", &[]);
    }))
    .graph;
    let Op::Affine { scale, .. } = &behind.layers()[2].op else { panic!("{behind:?}") };
    assert_eq!(scale.data()[1], ((16 * 37 + 11) % 64) as f32 / 64.0 - 0.5, "channel 1 of pixel 0");
}

#[test]
fn poolings_of_both_kinds() {
    let pooling = |side: i64, attributes: &[(&str, Attr)]| {
        let mut net = Net::new(&[1, 3, side, side]);
        net.node("MaxPool", &["x"], "p", attributes);
        net.node("GlobalAveragePool", &["p"], "g", &[]);
        net.node("Flatten", &["g"], "f", &[]);
        net.head("f", 3);
        imported(&net).graph.layers()[0].op.clone()
    };
    let kernel = || ("kernel_shape", ints(&[2, 2]));
    let by_two = || ("strides", ints(&[2, 2]));
    let op = |stride, padding| Op::MaxPool { stride, padding };
    assert_eq!(pooling(5, &[kernel()]), op(1, Padding::Valid));
    assert_eq!(pooling(5, &[kernel(), by_two()]), op(2, Padding::Valid));
    assert_eq!(pooling(5, &[kernel(), by_two(), ("ceil_mode", Attr::Int(1))]), op(2, Padding::Same));
    assert_eq!(pooling(5, &[kernel(), by_two(), ("pads", ints(&[0, 0, 1, 1]))]), op(2, Padding::Same));
    assert_eq!(pooling(5, &[kernel(), ("auto_pad", Attr::Text("SAME_UPPER"))]), op(1, Padding::Same));
    assert_eq!(pooling(4, &[kernel(), by_two(), ("pads", ints(&[0, 0, 1, 1]))]), op(2, Padding::Valid));
}

#[test]
fn weights_in_other_types_and_places() {
    let plain = Net::small();
    let half = |name: &str, dims: &[i64], in_varints: bool| {
        let n: i64 = dims.iter().product();
        let bits = |i: i64| f16::from_f32(((i * 37 + 11) % 64) as f32 / 64.0 - 0.5).to_bits();
        if !in_varints {
            let raw: Vec<u8> = (0..n).flat_map(|i| bits(i).to_le_bytes()).collect();
            return tensor(name, 10, dims, &raw);
        }
        let dims: Vec<u8> = dims.iter().flat_map(|d| int(1, *d)).collect();
        let data: Vec<u8> = (0..n).flat_map(|i| file::varint(bits(i).into())).collect();
        [dims, int(2, 10), bytes(5, &data), bytes(8, name.as_bytes())].concat()
    };
    for in_varints in [false, true] {
        let mut net = Net::small();
        let tensors: [(&str, &[i64]); 4] =
            [("cw", &[4, 3, 3, 3]), ("cb", &[4]), ("dw", &[2, 4]), ("db", &[2])];
        net.tensors = tensors.iter().map(|(name, dims)| half(name, dims, in_varints)).collect();
        same(&net, &plain);
    }
    // Weights as nodes, behind a cast.
    let mut net = Net::small();
    net.tensors.remove(0);
    net.nodes.insert(
        0,
        file::node("Constant", &[], &["k"], &[("value", Attr::Tensor(half("", &[4, 3, 3, 3], false)))]),
    );
    net.nodes.insert(1, file::node("Cast", &["k"], &["cw"], &[("to", Attr::Int(1))]));
    same(&net, &plain);
    // Weights in a file beside the model.
    let folder = tempfile::tempdir().expect("a folder");
    let raw: Vec<f32> = (0..108).map(|i| ((i * 37 + 11) % 64) as f32 / 64.0 - 0.5).collect();
    fs::write(folder.path().join("net.bin"), [vec![0; 64], f32s(&raw)].concat()).expect("writes");
    let mut net = Net::small();
    net.tensors[0] = external("net.bin", 64, 432);
    let found = import_bytes(folder.path(), &net.bytes(), ImportOptions::default()).graph;
    assert!(found.canonical() == imported(&plain).graph.canonical());
}

/// A field of `external_data`.
fn entry(key: &str, value: &str) -> Vec<u8> {
    bytes(13, &[bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat())
}

/// `cw` in another file.
fn external(location: &str, offset: i64, length: i64) -> Vec<u8> {
    let dims: Vec<u8> = [4, 3, 3, 3].iter().flat_map(|d| int(1, *d)).collect();
    let place = [
        entry("location", location),
        entry("offset", &offset.to_string()),
        entry("length", &length.to_string()),
    ];
    [dims, int(2, 1), bytes(8, b"cw"), place.concat(), int(14, 1)].concat()
}

#[test]
fn features_and_open_sizes() {
    let mut net = Net::new(&[-1, 3, -1, -1]);
    net.conv("x", "c", &[]);
    net.node("Relu", &["c"], "y", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let asked = Some(Shape::new(6, 8, 3));
    let options = ImportOptions { input: asked, ..Default::default() };
    let graph = import_bytes(folder.path(), &net.bytes(), options).graph;
    assert!(!graph.is_classifier());
    assert_eq!(graph.output().to_string(), "6x8x4");
    let error = import(&folder.path().join("net.onnx"), &ImportOptions::default()).expect_err("open size");
    assert_eq!(error.kind(), "input-unknown");
}

#[test]
fn paddings_in_front_of_poolings() {
    let pooled = |build: &dyn Fn(&mut Net)| {
        let mut net = Net::new(&[1, 3, 5, 5]);
        build(&mut net);
        let two = || ints(&[2, 2]);
        net.node("MaxPool", &["p"], "m", &[("kernel_shape", two()), ("strides", two())]);
        net.node("GlobalAveragePool", &["m"], "g", &[]);
        net.node("Flatten", &["g"], "f", &[]);
        net.head("f", 3);
        imported(&net).graph.layers().iter().find(|l| l.name == "m").expect("the pool").op.clone()
    };
    let same = Op::MaxPool { stride: 2, padding: Padding::Same };
    // Zeros are lost behind a ReLU, the lowest value is in any case.
    let zeros = pooled(&|net| {
        net.tensors.push(int_tensor("pads", &[0, 0, 0, 0, 0, 0, 1, 1]));
        net.node("Relu", &["x"], "r", &[]);
        net.node("Pad", &["r", "pads"], "p", &[]);
    });
    let lowest = pooled(&|net| {
        net.tensors.extend([int_tensor("pads", &[0, 0, 1, 1]), int_tensor("axes", &[-2, 3])]);
        net.tensors.push(tensor("low", 1, &[], &f32s(&[f32::NEG_INFINITY])));
        net.node("Pad", &["x", "pads", "low", "axes"], "p", &[]);
    });
    let nothing = pooled(&|net| net.node("Pad", &["x"], "p", &[("pads", ints(&[0; 8]))]));
    assert_eq!((zeros, lowest), (same.clone(), same));
    assert_eq!(nothing, Op::MaxPool { stride: 2, padding: Padding::Valid });
}

#[test]
fn what_old_exporters_write() {
    // Version 6: the bias begins at an axis; version 1 of Pad has another name for it.
    let old = {
        let mut net = Net::new(&[1, 3, 4, 4]);
        net.opset = 6;
        net.tensors.extend([weights("cw", &[4, 3, 3, 3]), weights("cb", &[4])]);
        net.node("Pad", &["x"], "xp", &[("paddings", ints(&[0, 0, 1, 1, 0, 0, 1, 1]))]);
        net.node("Conv", &["xp", "cw"], "c", &[]);
        net.node("Add", &["c", "cb"], "b", &[("broadcast", Attr::Int(1)), ("axis", Attr::Int(1))]);
        net.node("Max", &["zero", "b"], "r", &[]);
        net.tensors.push(tensor("zero", 1, &[], &f32s(&[0.0])));
        net.node("Reshape", &["r"], "f", &[("shape", ints(&[0, -1]))]);
        net.head("f", 64);
        net
    };
    let new = with_tail(64, |net| {
        net.conv("x", "c", &[]);
        net.node("Relu", &["c"], "r", &[]);
        net.node("Flatten", &["r"], "f", &[]);
    });
    same(&old, &new);
}

#[test]
fn pictures_of_other_kinds() {
    // One channel: tf2onnx writes the transposition as a Reshape.
    let gray = |dims: &[i64], entry: Option<&[i64]>| {
        let mut net = Net::new(dims);
        if let Some(target) = entry {
            net.tensors.push(int_tensor("t", target));
            net.node("Reshape", &["x", "t"], "n", &[]);
        }
        net.tensors.push(weights("cw", &[4, 1, 3, 3]));
        let from = if entry.is_some() { "n" } else { "x" };
        net.node("Conv", &[from, "cw"], "c", &[("pads", ints(&[1; 4]))]);
        net.node("Flatten", &["c"], "f", &[]);
        net.head("f", 120);
        net
    };
    same(&gray(&[-1, 5, 6, 1], Some(&[-1, 1, 5, 6])), &gray(&[-1, 1, 5, 6], None));
    // Pixels of u8, eight pictures at once.
    let mut many = Net::new(&[8, 3, 4, 4]);
    many.inputs = vec![file::value("x", 2, &[8, 3, 4, 4])];
    many.tensors.push(int_tensor("s", &[8, 48]));
    many.node("Cast", &["x"], "xf", &[("to", Attr::Int(1))]);
    many.node("Reshape", &["xf", "s"], "f", &[]);
    many.head("f", 48);
    let plain = with_tail(48, |net| net.node("Flatten", &["x"], "f", &[]));
    same(&many, &plain);
    assert_eq!(imported(&many).notes[0], "one picture at a time, the file says 8");
    // Not even the number of axes.
    let mut open = with_tail(48, |net| net.node("Flatten", &["x"], "f", &[]));
    open.inputs = vec![[bytes(1, b"x"), bytes(2, &bytes(1, &int(1, 1)))].concat()];
    let folder = tempfile::tempdir().expect("a folder");
    let options = ImportOptions { input: Some(Shape::new(4, 4, 3)), ..Default::default() };
    let graph = import_bytes(folder.path(), &open.bytes(), options).graph;
    assert!(graph.canonical() == imported(&plain).graph.canonical());
}

#[test]
fn constants_in_other_words() {
    let plain = with_tail(48, |net| net.node("Flatten", &["x"], "f", &[]));
    let computed = with_tail(48, |net| {
        let one = file::int_tensor("", &[24]);
        net.tensors.extend([int_tensor("length", &[1]), int_tensor("minus", &[-1])]);
        net.node("ConstantOfShape", &["length"], "n24", &[("value", Attr::Tensor(one))]);
        net.nodes.push(file::node("Constant", &[], &["two"], &[("value_int", Attr::Int(2))]));
        net.node("Mul", &["n24", "two"], "n48", &[]);
        net.node("Reshape", &["n48", "minus"], "list", &[]);
        net.nodes.push(file::node("Constant", &[], &["one"], &[("value_ints", ints(&[1]))]));
        net.node("Concat", &["one", "list"], "s", &[("axis", Attr::Int(0))]);
        net.node("Reshape", &["x", "s"], "f", &[]);
    });
    same(&computed, &plain);
    // A factor of one number, and one a channel that comes with an axis too few.
    let scaled = with_tail(48, |net| {
        net.nodes.push(file::node("Constant", &[], &["half"], &[("value_float", Attr::Float(0.5))]));
        net.tensors.push(weights("shift", &[3]));
        net.node("Unsqueeze", &["shift"], "s", &[("axes", ints(&[1, 2]))]);
        net.node("Div", &["x", "half"], "a", &[]);
        net.node("Sub", &["a", "s"], "b", &[]);
        net.node("Flatten", &["b"], "f", &[]);
    });
    let graph = imported(&scaled).graph;
    let Op::Affine { scale, .. } = &graph.layers()[0].op else { panic!("{graph:?}") };
    let Op::Affine { shift, .. } = &graph.layers()[1].op else { panic!("{graph:?}") };
    let stored = |i: i64| ((i * 37 + 11) % 64) as f32 / 64.0 - 0.5;
    assert_eq!((scale.data(), shift.data()), (&[2.0; 3][..], &[-stored(0), -stored(1), -stored(2)][..]));
}

#[test]
fn an_epsilon_is_the_number_that_was_written() {
    let graph = imported(&with_tail(48, |net| {
        for name in ["gamma", "beta", "mean"] {
            net.tensors.push(weights(name, &[3]));
        }
        net.tensors.push(tensor("var", 1, &[3], &f32s(&[0.5, 1.0, 2.0])));
        net.node("BatchNormalization", &["x", "gamma", "beta", "mean", "var"], "n", &[]);
        net.node("Flatten", &["n"], "f", &[]);
    }))
    .graph;
    let Op::BatchNorm { epsilon, .. } = &graph.layers()[0].op else { panic!("{graph:?}") };
    // As PyTorch has it; the nearest f32 is 9.99999975e-6.
    assert_eq!(*epsilon, 1e-5);
}

#[test]
fn everything_outside_of_the_model() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("data")).expect("a folder");
    fs::write(
        folder.path().join("data/all.bin"),
        [&48i64.to_le_bytes()[..], &[0; 8], &f32s(&[0.5; 108])].concat(),
    )
    .expect("writes");
    #[cfg(unix)]
    std::os::unix::fs::symlink("data/all.bin", folder.path().join("link.bin")).expect("a link");
    let location = if cfg!(unix) { "link.bin" } else { "data/all.bin" };
    let mut net = Net::small();
    net.tensors[0] = external(location, 16, 432);
    let graph = import_bytes(folder.path(), &net.bytes(), ImportOptions::default()).graph;
    let filter = graph.layers()[0].op.kernel().expect("a kernel");
    assert!(filter.data().iter().all(|v| *v == 0.5));
    // Shapes, too, and a path that begins with the folder itself.
    let mut net = Net::new(&[1, 3, 4, 4]);
    let place = [entry("location", "./data/all.bin"), entry("length", "8"), int(14, 1)].concat();
    net.tensors.push([int(1, 1), int(2, 7), bytes(8, b"n"), place].concat());
    net.tensors.push(int_tensor("one", &[1]));
    net.node("Concat", &["one", "n"], "s", &[("axis", Attr::Int(0))]);
    net.node("Reshape", &["x", "s"], "f", &[]);
    net.head("f", 48);
    let graph = import_bytes(folder.path(), &net.bytes(), ImportOptions::default()).graph;
    assert_eq!(graph.input(), Shape::new(4, 4, 3));
}

#[test]
fn a_flattened_map_at_the_end_is_said_to_be_in_another_order() {
    let mut net = Net::new(&[1, 3, 4, 4]);
    net.conv("x", "c", &[]);
    net.node("Flatten", &["c"], "y", &[]);
    let notes = imported(&net).notes;
    let expected =
        "the outputs are a flattened 4x4x4 map: pixel by pixel, where the model has them channel by channel";
    assert_eq!(notes, [expected]);
}
