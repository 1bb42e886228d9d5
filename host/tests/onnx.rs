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

/// `cw` in another file.
fn external(location: &str, offset: i64, length: i64) -> Vec<u8> {
    let entry =
        |key: &str, value: &str| bytes(13, &[bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat());
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
