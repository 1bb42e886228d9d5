//! Broken and hostile ONNX files.

use std::fs;

use vgg_edge_host::graph::{Arch, Shape};
use vgg_edge_host::import::ImportOptions;

use crate::onnx_file::{Attr, Net, bytes, f32s, int, int_tensor, node, tensor, value, weights};
use crate::support::shared;
use crate::{alone, bounded, check, message, mutate};

pub(super) fn ints(values: &[i64]) -> Attr {
    Attr::Ints(values.to_vec())
}

/// The small network, changed.
pub(super) fn small(change: impl FnOnce(&mut Net)) -> Vec<u8> {
    let mut net = Net::small();
    change(&mut net);
    net.bytes()
}

/// The small network with another convolution.
fn conv(attributes: &[(&str, Attr)]) -> Vec<u8> {
    small(|net| net.nodes[0] = node("Conv", &["x", "cw", "cb"], &["c"], attributes))
}

/// The small network with something between the ReLU and the pool.
fn between(op: &str, inputs: &[&str], attributes: &[(&str, Attr)]) -> Vec<u8> {
    small(|net| {
        net.tensors.push(weights("w", &[4]));
        net.nodes[1] = node("Relu", &["c"], &["s"], &[]);
        net.nodes.insert(2, node(op, inputs, &["r"], attributes));
    })
}

#[test]
fn nodes_that_are_not_of_the_family() {
    let _alone = alone();
    let none = ImportOptions::default();
    let supported = "not supported, supported are Conv, BatchNormalization, Relu, Clip, Max, MaxPool, GlobalAveragePool, AveragePool, \
                     ReduceMean, Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Gemm, MatMul, Add, Sub, Mul, Div, Pad, Identity, \
                     Dropout, Softmax, Cast, Constant, ConstantOfShape, and Shape, Gather, Slice, Concat and ReduceProd of shapes";
    check(&[
        (between("LeakyRelu", &["s"], &[]), none, &format!("node `r` (LeakyRelu): {supported}")),
        (
            small(|net| {
                net.nodes[1] = [node("Relu", &["c"], &["r"], &[]), bytes(7, b"com.example")].concat();
            }),
            none,
            &format!("node `r` (com.example.Relu): {supported}"),
        ),
        (
            between("Add", &["s", "c"], &[]),
            none,
            "node `r` (Add): takes 2 tensors that were computed, expected 1 (the network must be a chain)",
        ),
        (
            small(|net| {
                net.nodes[1] = node("Relu", &["c"], &["s"], &[]);
                net.nodes.insert(2, node("Dropout", &["c"], &["t"], &[]));
                net.nodes.insert(3, node("Add", &["s", "t"], &["r"], &[]));
            }),
            none,
            "node `t` (Dropout): takes `c`, expected `s` (the network must be a chain)",
        ),
        (
            between("Clip", &["s"], &[("min", Attr::Float(0.0)), ("max", Attr::Float(6.0))]),
            none,
            "node `r` (Clip): range is 0.0 to 6.0, expected 0 to no bound (ReLU)",
        ),
        (conv(&[("group", Attr::Int(3))]), none, "node `c` (Conv): group is 3, expected 1"),
        (
            conv(&[("pads", ints(&[0; 4]))]),
            none,
            "node `c` (Conv): pads is [0, 0, 0, 0], expected [1, 1, 1, 1]",
        ),
        (conv(&[("strides", ints(&[2, 2]))]), none, "node `c` (Conv): strides is [2, 2], expected [1, 1]"),
        (
            conv(&[("dilations", ints(&[2, 2]))]),
            none,
            "node `c` (Conv): dilations is [2, 2], expected [1, 1]",
        ),
        (
            conv(&[("auto_pad", Attr::Text("SAME"))]),
            none,
            "node `c` (Conv): auto_pad is SAME, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER",
        ),
        (
            small(|net| net.tensors[0] = weights("cw", &[4, 3, 5, 5])),
            none,
            "node `c` (Conv): filter is 5x5, expected 3x3 or 1x1",
        ),
        (
            small(|net| net.tensors[0] = weights("cw", &[3, 4, 3, 3])),
            none,
            "node `c` (Conv): number of the filter's channels is 4, expected 3, as its input has",
        ),
        (
            small(|net| net.tensors[0] = weights("cw", &[4, 27])),
            none,
            "node `c` (Conv): filter is of shape [4, 27], expected 4 axes",
        ),
        (
            small(|net| drop(net.tensors.remove(0))),
            none,
            "node `c` (Conv): filter is not in the file, expected a tensor of f32, f16, bf16 or f64",
        ),
        (
            small(|net| drop(net.tensors.remove(1))),
            none,
            "node `c` (Conv): bias is `cb`, expected weights in the file",
        ),
        (
            small(|net| net.tensors[1] = weights("cb", &[5])),
            none,
            "layer `c`: bias has shape [5], expected [4]",
        ),
        (
            between("Mul", &["s", "w"], &[]),
            none,
            "node `r` (Mul): constant is of shape [4], expected one value, or one for each of 4 channels",
        ),
        (
            between("Transpose", &["s"], &[("perm", ints(&[0, 3, 2, 1]))]),
            none,
            "node `r` (Transpose): perm is [0, 3, 2, 1], expected [0, 2, 3, 1], NCHW to NHWC",
        ),
        (
            small(|net| net.tensors[2] = weights("dw", &[4, 2])),
            none,
            "node `y` (Gemm): number of the weights' inputs is 2, expected 4, as its input has",
        ),
        (
            small(|net| net.nodes[4] = node("Flatten", &["g"], &["f"], &[("axis", Attr::Int(2))])),
            none,
            "node `f` (Flatten): axis is 2, expected 1",
        ),
        (
            small(|net| {
                net.tensors.push(int_tensor("s", &[2, 2]));
                net.nodes[4] = node("Reshape", &["g", "s"], &["f"], &[]);
            }),
            none,
            "node `f` (Reshape): shape is [2, 2], expected [-1, 4]",
        ),
        (
            small(|net| net.nodes[4] = node("Reshape", &["g", "cb"], &["f"], &[])),
            none,
            "node `f` (Reshape): shape is not a constant, expected whole numbers, or computed from a shape",
        ),
    ]);
}

#[test]
fn graphs_that_are_no_chain() {
    let _alone = alone();
    let none = ImportOptions::default();
    check(&[
        (
            small(|net| net.outputs.push(value("p", 1, &[-1, 4, 2, 2]))),
            none,
            "the model's number of outputs is 2 (`y`, `p`), expected 1",
        ),
        (
            small(|net| net.outputs = vec![value("nothing", 1, &[1])]),
            none,
            "the model's output is `nothing`, expected `x`",
        ),
        (
            small(|net| net.inputs.push(value("z", 1, &[1, 3, 4, 4]))),
            none,
            "the model's number of inputs is 2 (`x`, `z`), expected 1",
        ),
        (
            small(|net| net.inputs = vec![value("x", 1, &[1, 48])]),
            none,
            "the model's input is of shape [1, 48], expected of 4 axes",
        ),
        (
            small(|net| net.inputs = vec![value("x", 3, &[1, 3, 4, 4])]),
            none,
            "the model's input is of type 3, expected of type 1 (f32), 2 (u8), 10 (f16), 11 (f64) or 16 (bf16)",
        ),
        (
            small(|net| net.inputs = vec![value("x", 1, &[1, 3, -1, -1])]),
            none,
            "the input size is not in the file (global average pooling takes any), expected it to be given",
        ),
        (
            small(|net| {
                net.nodes[0] = node("Add", &["x", "r"], &["c"], &[]);
            }),
            none,
            "node `r` (Relu): is part of a cycle, expected every node behind those it takes from",
        ),
        (
            small(|net| net.nodes[1] = node("Relu", &["r"], &["r"], &[])),
            none,
            "node `r` (Relu): is part of a cycle, expected every node behind those it takes from",
        ),
        (
            small(|net| net.nodes.push(node("Relu", &["c"], &["r"], &[]))),
            none,
            "node `r` (Relu): output is `r` again, expected a name of its own",
        ),
        (
            small(|net| net.tensors.push(weights("cw", &[1]))),
            none,
            "tensor `cw` is there twice, expected unique tensor names",
        ),
        (
            small(|_| {}),
            ImportOptions { classes: Some(3), ..none },
            "the network has 2 classes, but 3 were asked for",
        ),
        (
            small(|_| {}),
            ImportOptions { arch: Some(Arch::Vgg11), ..none },
            "the model is not vgg11: layer 1 is Conv2D 3x3, 4 filters, expected Conv2D 3x3, 64 filters",
        ),
        (
            small(|_| {}),
            ImportOptions { input: Some(Shape::new(4, 4, 1)), ..none },
            "the input has 1 channels, but layer `x` takes 3",
        ),
        (
            [int(1, 8), bytes(8, &int(2, 17))].concat(),
            none,
            "the model's graph is missing, expected one graph",
        ),
    ]);
}

#[test]
fn tensors_that_are_not_what_they_say() {
    let _alone = alone();
    let none = ImportOptions::default();
    let first = |tensor: Vec<u8>| small(|net| net.tensors[0] = tensor);
    let external = |location: &str, offset: &str| {
        let entry = |key: &str, value: &str| {
            bytes(13, &[bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat())
        };
        let dims: Vec<u8> = [4, 3, 3, 3].iter().flat_map(|d| int(1, *d)).collect();
        let place = [entry("location", location), entry("offset", offset)].concat();
        first([dims, int(2, 1), bytes(8, b"cw"), place, int(14, 1)].concat())
    };
    let nan = {
        let mut values = vec![0f32; 108];
        values[5] = f32::NAN;
        first(tensor("cw", 1, &[4, 3, 3, 3], &f32s(&values)))
    };
    let whole = small(|_| {});
    let deep = (0..2000).fold(int(1, 1), |inner, _| bytes(7, &inner));
    check(&[
        (
            first(tensor("cw", 1, &[4, 3, 3, 3], &f32s(&[0.0; 107]))),
            none,
            "tensor `cw`: data is 428 bytes, expected 432 for shape [4, 3, 3, 3]",
        ),
        (
            first(tensor("cw", 1, &[1 << 40, 1 << 40, 3, 3], &[])),
            none,
            "tensor `cw`: shape is [1099511627776, 1099511627776, 3, 3], expected a size that fits a file",
        ),
        (
            first(tensor("cw", 1, &[1 << 20, 1 << 20, 3, 3], &[])),
            none,
            "tensor `cw`: data is 0 bytes, expected 39582418599936 for shape [1048576, 1048576, 3, 3]",
        ),
        (
            first(tensor("cw", 1, &[-4, 3, 3, 3], &[])),
            none,
            "tensor `cw`: shape is [-4, 3, 3, 3], expected a size that fits a file",
        ),
        (
            first(tensor("cw", 3, &[4, 3, 3, 3], &[0; 108])),
            none,
            "node `c` (Conv): filter is not in the file, expected a tensor of f32, f16, bf16 or f64",
        ),
        (
            first([tensor("cw", 1, &[4, 3, 3, 3], &f32s(&[0.0; 108])), bytes(9, &[])].concat()),
            none,
            "tensor `cw`: data is in several pieces, expected one piece",
        ),
        (nan, none, "layer `c`: kernel value 60 is NaN, expected a finite number"),
        (
            external("../secret", "0"),
            none,
            "tensor `cw`: external data `../secret`: expected a path inside the model's folder",
        ),
        (
            external("/etc/passwd", "0"),
            none,
            "tensor `cw`: external data `/etc/passwd`: expected a path inside the model's folder",
        ),
        (
            external("gone.bin", "0"),
            none,
            "tensor `cw`: external data `gone.bin`: cannot read: No such file or directory (os error 2)",
        ),
        (
            external("net.h5", "99999"),
            none,
            "tensor `cw`: external data `net.h5`: ends at byte 100431, but the file has 397 bytes",
        ),
        (external("net.h5", "-1"), none, "byte 230: offset and length must be numbers"),
        (whole[..whole.len() - 1].to_vec(), none, "byte 790: a field is longer than what it is part of"),
        (
            whole[..whole.len() - 4].to_vec(),
            none,
            "the model's opset_import is missing, expected a version of the standard operators",
        ),
        (whole[..400].to_vec(), none, "byte 2: a field is longer than what it is part of"),
        (
            [whole.clone(), vec![0x3a]].concat(),
            none,
            &format!("byte {}: a field ends early", whole.len() + 1),
        ),
        ([whole.clone(), vec![0x0b]].concat(), none, &format!("byte {}: no field begins here", whole.len())),
        (
            [whole.clone(), vec![0xff; 20]].concat(),
            none,
            &format!("byte {}: a number has more than 64 bits", whole.len()),
        ),
        (
            [int(1, 8), bytes(7, &[bytes(2, b"net"), deep].concat()), bytes(8, &int(2, 17))].concat(),
            none,
            "the model's number of inputs is 0, expected 1",
        ),
        (
            [int(1, 8), bytes(7, &bytes(1, &[]).repeat(50_000)), bytes(8, &int(2, 17))].concat(),
            none,
            "the model has more than 40000 fields",
        ),
    ]);
}

/// Weights used over and over, in ever other shapes, are more than there are.
#[test]
fn one_tensor_in_many_shapes() {
    let _alone = alone();
    let mut net = Net::new(&[1, 512, 4, 4]);
    net.tensors.push(weights("w", &[512, 512, 1, 1]));
    net.node("Identity", &["x"], "c0", &[]);
    for i in 0..300 {
        let (from, to, kernel) = (format!("c{i}"), format!("c{}", i + 1), format!("k{i}"));
        net.tensors.push(int_tensor(&format!("s{i}"), &[512, 512, 1, 1]));
        net.node("Transpose", &["w"], &format!("t{i}"), &[("perm", ints(&[i % 2, 1 - i % 2, 2, 3]))]);
        net.node("Identity", &[&format!("t{i}")], &kernel, &[]);
        net.node("Conv", &[&from, &kernel], &to, &[]);
    }
    net.node("Identity", &["c300"], "y", &[]);
    let text = message(&net.bytes(), &ImportOptions::default());
    assert!(text.starts_with("tensors take 2097152 bytes, but there are "), "{text}");
}

#[test]
fn cuts_and_mutants() {
    let _alone = alone();
    let good = small(|_| {});
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.onnx");
    for cut in 0..good.len() {
        fs::write(&path, &good[..cut]).expect("writes");
        assert!(bounded(&path, &ImportOptions::default()).is_err(), "cut at {cut}");
    }
    mutate("small ONNX", &good, 3000, good.len(), 1000);
    let Some(models) = shared("models") else { return };
    for file in ["small_vgg.onnx", "small_vgg_torch.onnx"] {
        let good = fs::read(models.join(file)).expect("reads");
        mutate(file, &good, 100, 4000, 20);
    }
}

/// A few bytes that ask for gigabytes.
#[test]
fn single_numbers_that_become_many() {
    let _alone = alone();
    let none = ImportOptions::default();
    let mut factor = Net::new(&[1, 1, 32768, 32768]);
    factor.tensors.push(tensor("two", 1, &[], &f32s(&[2.0])));
    factor.node("Flatten", &["x"], "f", &[]);
    factor.node("Mul", &["f", "two"], "y", &[]);
    let mut filled = Net::new(&[1, 3, 4, 4]);
    filled.tensors.push(int_tensor("n", &[1 << 30]));
    filled.node("ConstantOfShape", &["n"], "w", &[]);
    filled.node("Add", &["x", "w"], "y", &[]);
    let mut many = Net::new(&[1, 1, 1000, 1000]);
    many.tensors.push(tensor("two", 1, &[], &f32s(&[2.0])));
    many.node("Flatten", &["x"], "f0", &[]);
    for i in 0..100 {
        many.node("Mul", &[&format!("f{i}"), "two"], &format!("f{}", i + 1), &[]);
    }
    many.node("Identity", &["f100"], "y", &[]);
    let message = "the model has more than 4194304 values made of single numbers";
    check(&[(factor.bytes(), none, message), (filled.bytes(), none, message), (many.bytes(), none, message)]);
}

#[test]
fn external_data_that_leads_elsewhere() {
    let _alone = alone();
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("secret.bin"), f32s(&[0.25; 108])).expect("writes");
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("sub")).expect("a folder");
    let path = folder.path().join("net.onnx");
    let message = |location: &str, is_external: i64| {
        let entry = bytes(13, &[bytes(1, b"location"), bytes(2, location.as_bytes())].concat());
        let dims: Vec<u8> = [4, 3, 3, 3].iter().flat_map(|d| int(1, *d)).collect();
        let tensor = [dims, int(2, 1), bytes(8, b"cw"), entry, int(14, is_external)].concat();
        fs::write(&path, small(|net| net.tensors[0] = tensor)).expect("writes");
        match bounded(&path, &ImportOptions::default()) {
            Ok(()) => "imports".to_string(),
            Err(error) => error.problem.to_string(),
        }
    };
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outside.path().join("secret.bin"), folder.path().join("link.bin"))
            .expect("a link");
        std::os::unix::fs::symlink(outside.path(), folder.path().join("away")).expect("a link");
        let leads_out = |location: &str| {
            format!("tensor `cw`: external data `{location}`: is a link that leads out of the model's folder")
        };
        assert_eq!(message("link.bin", 1), leads_out("link.bin"));
        assert_eq!(message("away/secret.bin", 1), leads_out("away/secret.bin"));
    }
    let inside = "expected a path inside the model's folder";
    assert_eq!(message("sub/../../x", 1), format!("tensor `cw`: external data `sub/../../x`: {inside}"));
    assert_eq!(message("", 1), format!("tensor `cw`: external data ``: {inside}"));
    assert_eq!(message("sub", 1), "tensor `cw`: external data `sub`: is not a file");
    // A location that does not count.
    assert_eq!(message("sub", 0), "tensor `cw`: data is 0 bytes, expected 432 for shape [4, 3, 3, 3]");
}

#[test]
fn protobufs_that_are_no_models() {
    let _alone = alone();
    let none = ImportOptions::default();
    // TensorFlow's SavedModel and a frozen graph of it.
    let saved = [int(1, 1), bytes(2, &bytes(1, &bytes(4, b"serve")))].concat();
    let frozen = bytes(1, &[bytes(1, b"input"), bytes(2, b"Placeholder")].concat());
    for bytes in [saved, frozen] {
        let text = message(&bytes, &none);
        assert!(text.starts_with("the file is of no known format, expected "), "{text}");
    }
}
