//! Broken weights files: the exact message of each.

mod support;

use std::fs;
use std::path::Path;

use support::shared;
use vgg_edge_host::graph::{Arch, Shape};
use vgg_edge_host::import::{ImportOptions, import};

/// Error for a file of these bytes, without the part that names the file.
fn message(bytes: &[u8], options: &ImportOptions) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.h5");
    fs::write(&path, bytes).expect("writes");
    let error = import(&path, options).map(|i| i.graph.name().to_string()).expect_err("the file is broken");
    assert!(!error.kind().is_empty());
    let text = error.to_string();
    let start = format!("import {}: ", path.display());
    text.strip_prefix(&start).unwrap_or_else(|| panic!("`{text}` does not begin with `{start}`")).to_string()
}

fn input32() -> ImportOptions {
    ImportOptions { input: Some(Shape::new(32, 32, 3)), ..Default::default() }
}

/// `bytes` with occurrence `nth` of `from` replaced by `to` of the same length.
fn patch(bytes: &[u8], from: &[u8], nth: usize, to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "a patch keeps the length");
    let mut places = (0..bytes.len() - from.len()).filter(|&i| bytes[i..].starts_with(from));
    let at = places.nth(nth).unwrap_or_else(|| panic!("{} is not there", String::from_utf8_lossy(from)));
    let mut patched = bytes.to_vec();
    patched[at..at + to.len()].copy_from_slice(to);
    patched
}

fn check(cases: &[(Vec<u8>, ImportOptions, &str)]) {
    let wrong: Vec<String> = (cases.iter())
        .map(|(bytes, options, expected)| (message(bytes, options), expected))
        .filter(|(found, expected)| found != *expected)
        .map(|(found, expected)| format!("found    {found}\nexpected {expected}\n"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const FORMATS: &str = "expected Keras HDF5 (.h5) or safetensors";

#[test]
fn files_of_no_known_format() {
    let none = ImportOptions::default();
    let pickle = [b"\x80\x02}q\x00".as_slice(), &[0; 64]].concat();
    let cases: [(&[u8], String); 8] = [
        (b"", format!("the file is empty, {FORMATS}")),
        (b"these are not weights\n", format!("the file is text, {FORMATS}")),
        (&[0; 300], format!("the file is all zeros, {FORMATS}")),
        (&[0xfe; 300], format!("the file is of no known format, {FORMATS}")),
        (b"PK\x03\x04\x14\x00\x00\x00", {
            format!("a zip archive (Keras .keras or PyTorch .pth) is not supported yet, {FORMATS}")
        }),
        (&pickle, format!("a pickle (PyTorch .pth) is not supported yet, {FORMATS}")),
        (b"\x08\x08\x12\x07pytorch", format!("a protobuf (ONNX) is not supported yet, {FORMATS}")),
        (b"\x1c\x00\x00\x00TFL3\x14\x00", format!("a TFLite model is not supported yet, {FORMATS}")),
    ];
    for (bytes, expected) in &cases {
        assert_eq!(message(bytes, &none), *expected);
    }
    let error = import(Path::new("/nowhere/net.h5"), &none).expect_err("no such file");
    assert_eq!(
        error.to_string(),
        "import /nowhere/net.h5: cannot read: No such file or directory (os error 2)"
    );
    assert_eq!(error.kind(), "io");
}

#[test]
fn keras_models() {
    let Some(models) = shared("models") else { return };
    let none = ImportOptions::default();
    let good = fs::read(models.join("small_vgg.h5")).expect("reads");
    let edit = |from: &str, nth: usize, to: &str| patch(&good, from.as_bytes(), nth, to.as_bytes());
    let kernel = import(&models.join("small_vgg.h5"), &none).expect("imports").graph;
    let first: Vec<u8> = {
        let (weights, _) = kernel.layers()[2].op.parameters().expect("block1_conv2");
        weights.data()[..8].iter().flat_map(|v| v.to_le_bytes()).collect()
    };
    let nan = [&first[..20], &f32::NAN.to_le_bytes(), &first[24..]].concat();
    let inf = [&f32::NEG_INFINITY.to_le_bytes(), &first[4..]].concat();
    check(&[
        (
            edit("\"data_format\": \"channels_last\"", 1, "\"data_format\":\"channels_first\""),
            none,
            "layer `block1_conv2`: data_format is \"channels_first\", expected channels_last",
        ),
        (
            edit("\"padding\": \"same\"", 0, "\"padding\":\"valid\""),
            none,
            "layer `block1_conv1`: padding is \"valid\", expected same",
        ),
        (
            edit("\"strides\": [1, 1]", 2, "\"strides\": [2, 2]"),
            none,
            "layer `block2_conv1`: strides is [2,2], expected [1,1]",
        ),
        (
            edit("\"kernel_size\": [3, 3]", 0, "\"kernel_size\": [5, 5]"),
            none,
            "layer `block1_conv1`: kernel_size is [5,5], expected [3,3] or [1,1]",
        ),
        (
            edit("\"activation\": \"relu\"", 0, "\"activation\": \"tanh\""),
            none,
            "layer `block1_conv1`: activation is \"tanh\", expected relu, softmax or linear",
        ),
        (
            edit("\"filters\": 16", 0, "\"filters\": 24"),
            none,
            "layer `block1_conv1`: kernel has shape [3, 3, 3, 16], expected [3, 3, 3, 24]",
        ),
        (
            edit("\"filters\": 16", 0, "\"filters\": -1"),
            none,
            "layer `block1_conv1`: filters is -1, expected a number of at least 1",
        ),
        (
            edit("null, 32, 32, 3", 0, "null, 32, 32, 4"),
            none,
            "layer `block1_conv1`: kernel has shape [3, 3, 3, 16], expected [3, 3, 4, 16]",
        ),
        (
            edit("null, 32, 32, 3", 0, "null, 16, 32, 3"),
            none,
            "layer `block5_pool`: 2x2 max-pooling got a 1x2x128 map, expected at least 2x2",
        ),
        (
            edit("[null, 32, 32, 3]", 0, "[null, 32, null] "),
            none,
            "model_config: batch_shape is [null,32,null], expected [null, height, width, channels]",
        ),
        (
            edit("\"class_name\": \"Conv2D\"", 1, "\"class_name\": \"Conv3D\""),
            none,
            "layer `block1_conv2`: Conv3D is not supported, supported are Conv2D, MaxPooling2D, GlobalAveragePooling2D, \
             Flatten, Dense, Dropout, Activation, ReLU, Softmax",
        ),
        (
            edit("\"Functional\"", 0, "\"Functionel\""),
            none,
            "model_config: class_name is `Functionel`, expected Functional or Sequential",
        ),
        (
            edit("{\"class_name\": ", 0, "{\"class_name\"; "),
            none,
            "model_config: text is not JSON (expected `:` at line 1 column 14), expected a JSON object",
        ),
        (
            edit("[\"block1_conv1\", 0, 0]", 0, "[\"block1_pool0\", 0, 0]"),
            none,
            "model_config: layer `block1_conv2` is not reachable from the input, expected one chain of layers",
        ),
        (
            edit("[\"block1_conv2\", 0, 0]", 0, "[\"block1_conv1\", 0, 0]"),
            none,
            "layer `block1_conv1`: feeds 2 layers, expected 1 (the network must be a chain)",
        ),
        (
            patch(&good, &first, 0, &nan),
            none,
            "layer `block1_conv2`: kernel value 5 is NaN, expected a finite number",
        ),
        (
            patch(&good, &first, 0, &inf),
            none,
            "layer `block1_conv2`: kernel value 0 is -inf, expected a finite number",
        ),
        (
            edit("model_config", 0, "model_konfig"),
            none,
            "attribute `layer_names` is missing, expected the list of layers Keras writes",
        ),
        (
            good.clone(),
            ImportOptions { classes: Some(11), ..none },
            "the network has 10 classes, but 11 were asked for",
        ),
        (
            good.clone(),
            ImportOptions { input: Some(Shape::new(32, 32, 1)), ..none },
            "the input has 1 channels, but layer `input` takes 3",
        ),
        (
            good.clone(),
            ImportOptions { arch: Some(Arch::Vgg16), ..none },
            "the model is not vgg16: layer 1 is Conv2D 3x3, 16 filters, expected Conv2D 3x3, 64 filters",
        ),
        (
            fs::read(models.join("small_vgg_bn.h5")).expect("reads"),
            none,
            "layer `block1_bn1`: BatchNormalization is not supported, supported are Conv2D, MaxPooling2D, \
             GlobalAveragePooling2D, Flatten, Dense, Dropout, Activation, ReLU, Softmax",
        ),
        (
            fs::read(models.join("small_vgg.weights.h5")).expect("reads"),
            none,
            "a Keras 3 .weights.h5 file is not supported yet, expected Keras HDF5 (.h5) or safetensors",
        ),
    ]);
}

#[test]
fn keras_weights() {
    let Some(models) = shared("models") else { return };
    let none = ImportOptions::default();
    let good = fs::read(models.join("small_vgg_weights_tf_dim_ordering_tf_kernels.h5")).expect("reads");
    let edit = |from: &str, nth: usize, to: &str| patch(&good, from.as_bytes(), nth, to.as_bytes());
    let dims = |d: [u64; 4]| d.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let f32_type = [0x11, 0x20, 0x1f, 0, 4, 0, 0, 0];
    let i32_type = [0x10, 0x08, 0, 0, 4, 0, 0, 0];
    check(&[
        (
            good.clone(),
            none,
            "the input size is not in the file (global average pooling takes any), expected it to be given",
        ),
        (
            good.clone(),
            ImportOptions { input: Some(Shape::new(32, 32, 1)), ..none },
            "the input has 1 channels, but layer `block1_conv1` takes 3",
        ),
        (
            good.clone(),
            ImportOptions { arch: Some(Arch::Vgg11), ..input32() },
            "layer `block1_conv2`: has weights, but vgg11 has no such layer",
        ),
        (
            good.clone(),
            ImportOptions { arch: Some(Arch::Vggnet), ..input32() },
            "layer `block1_conv1`: kernel has shape [3, 3, 3, 16], expected [3, 3, 3, 64]",
        ),
        (
            edit("block1_conv2", 0, "block1_conv1"),
            input32(),
            "layer `block1_conv1` is there twice, expected unique layer names",
        ),
        (
            edit("block2_pool", 0, "block2_what"),
            input32(),
            "layer `block2_what`: group not found: block2_what",
        ),
        (
            edit("block1_conv1_b_1:0", 0, "block1_conv1_c_1:0"),
            input32(),
            "layer `block1_conv1`: weight `block1_conv1_b_1:0`: dataset not found: block1_conv1_b_1:0",
        ),
        (
            patch(&good, &dims([3, 3, 3, 16]), 0, &dims([1, 9, 3, 16])),
            input32(),
            "layer `block1_conv1`: a layer with weights of shapes [[1, 9, 3, 16], [16]] is not supported, supported are \
             Conv2D, MaxPooling2D, GlobalAveragePooling2D, Flatten, Dense, Dropout, Activation, ReLU, Softmax",
        ),
        (
            patch(&good, &dims([3, 3, 16, 16]), 0, &dims([3, 3, 8, 32])),
            input32(),
            "layer `block1_conv2`: kernel has shape [3, 3, 8, 32], expected [3, 3, 16, 32]",
        ),
        (
            patch(&good, &f32_type, 0, &i32_type),
            input32(),
            "layer `block1_conv1`: kernel has type i32, expected f32, f16, bf16 or f64",
        ),
    ]);
    for cut in [12, 600, 5000, good.len() / 2, good.len() - 1000] {
        let text = message(&good[..cut], &input32());
        assert!(text.contains(": "), "cut at {cut}: {text}");
    }
}

/// A torchvision file: names, shapes and types of the tensors, all values 0.1.
fn torch(tensors: &[(&str, &str, &[usize])]) -> Vec<u8> {
    let mut header = String::from("{");
    let mut end = 0;
    let mut data = Vec::new();
    for (i, (name, dtype, shape)) in tensors.iter().enumerate() {
        let n = shape.iter().product::<usize>();
        let start = end;
        end += n * 4;
        let comma = if i == 0 { "" } else { "," };
        header += &format!(
            "{comma}\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}"
        );
        data.extend(std::iter::repeat_n(0.1f32.to_le_bytes(), n).flatten());
    }
    header.push('}');
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &data].concat()
}

const CONV: (&str, &str, &[usize]) = ("features.0.weight", "F32", &[4, 3, 3, 3]);
const BIAS: (&str, &str, &[usize]) = ("features.0.bias", "F32", &[4]);
const DENSE: (&str, &str, &[usize]) = ("classifier.0.weight", "F32", &[2, 16]);

#[test]
fn safetensors_files() {
    let none = ImportOptions::default();
    let good = torch(&[CONV, BIAS, DENSE]);
    {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("net.safetensors");
        fs::write(&path, &good).expect("writes");
        let imported = import(&path, &none).expect("imports");
        assert_eq!(imported.graph.input(), Shape::new(4, 4, 3));
    }
    let conv2 = |name| -> (&str, &str, &'static [usize]) { (name, "F32", &[4, 4, 3, 3]) };
    let raw = |json: &str| [(json.len() as u64).to_le_bytes().as_slice(), json.as_bytes()].concat();
    let mut nan = good.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let twice = "{\"a.0.weight\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},\
                 \"a.0.weight\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}";
    let overlap = "{\"features.0.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\
                   \"features.0.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}";
    let huge = "{\"features.0.weight\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,16],\"data_offsets\":[0,4]}}";
    check(&[
        ([9000u64.to_le_bytes().as_slice(), &good[8..]].concat(), none, {
            "safetensors header: header has 9000 bytes, but the file has 815"
        }),
        (raw("{\"a\": }"), none, "safetensors header: expected value at line 1 column 7"),
        (raw(twice), none, "tensor `a.0.weight` is there twice, expected unique tensor names"),
        (raw(overlap), none, "safetensors header: invalid offset for tensor `features.0.bias`"),
        (
            raw(huge),
            none,
            "safetensors header: overflow computing buffer size from shape and/or element type",
        ),
        (raw("{}"), none, "a dense layer is missing, expected one that gives class scores"),
        (good[..good.len() - 8].to_vec(), none, "tensors end at byte 815, but the file has 807 bytes"),
        ([good.as_slice(), &[0; 4]].concat(), none, "tensors end at byte 815, but the file has 819 bytes"),
        (nan, none, "layer `dense`: kernel value 31 is NaN, expected a finite number"),
        (torch(&[CONV, BIAS]), none, "a dense layer is missing, expected one that gives class scores"),
        (torch(&[DENSE]), none, "a convolution is missing, expected one that takes the picture"),
        (
            torch(&[BIAS, DENSE]),
            none,
            "layer `features.0`: weight is missing, expected a tensor beside its bias",
        ),
        (
            torch(&[CONV, ("features.0.bias", "F32", &[5]), DENSE]),
            none,
            "layer `features.0`: bias has shape [5], expected [4]",
        ),
        (
            torch(&[("features.0.weight", "F32", &[4, 27]), DENSE]),
            none,
            "layer `features.0`: weight has shape [4, 27], expected 4 axes",
        ),
        (
            torch(&[("features.0.weight", "F32", &[4, 3, 3, 1]), DENSE]),
            none,
            "layer `features.0`: weight has shape [4, 3, 3, 1], expected a square filter",
        ),
        (
            torch(&[("features.0.weight", "F32", &[4, 3, 5, 5]), DENSE]),
            none,
            "layer `block1_conv1`: filter is 5x5, expected 3x3 or 1x1",
        ),
        (
            torch(&[CONV, ("features.2.weight", "F32", &[4, 6, 3, 3]), DENSE]),
            none,
            "layer `features.2`: weight has shape [4, 6, 3, 3], expected [4, 4, 3, 3]",
        ),
        (
            torch(&[CONV, conv2("features.5.weight"), DENSE]),
            none,
            "layer `features.5`: index is 5 after the convolution before it, expected 2 (convolution, relu) or 3 (and \
             max-pool)",
        ),
        (
            torch(&[CONV, ("classifier.0.weight", "I32", &[2, 16])]),
            none,
            "layer `classifier.0`: weight has type I32, expected f32, f16, bf16 or f64",
        ),
        (
            torch(&[CONV, ("classifier.0.weight", "F32", &[2, 20])]),
            none,
            "layer `dense`: takes 20 values, expected 4 x a square number (a flattened map of 4 channels)",
        ),
        (
            torch(&[CONV, ("classifier.0.weight", "F32", &[2, 4])]),
            none,
            "the input size is not in the file (global average pooling takes any), expected it to be given",
        ),
        (good.clone(), input32(), "layer `classifier.0`: weight has shape [2, 16], expected [2, 1024]"),
        (
            torch(&[CONV, DENSE, ("layer4.0.weight", "F32", &[1])]),
            none,
            "tensor `layer4.0.weight` is not part of a VGG, expected features.N and classifier.N weights and biases",
        ),
        (
            torch(&[CONV, ("features.1.running_mean", "F32", &[4]), DENSE]),
            none,
            "layer `features.1`: batch normalization is not supported, supported are Conv2D, MaxPooling2D, \
             GlobalAveragePooling2D, Flatten, Dense, Dropout, Activation, ReLU, Softmax",
        ),
        (
            good.clone(),
            ImportOptions { arch: Some(Arch::Vgg16), ..input32() },
            "layer `features.0`: weight has shape [4, 3, 3, 3], expected [64, 3, 3, 3]",
        ),
    ]);
}

/// xorshift: the same flips on every machine.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

#[test]
fn flipped_bytes_never_panic() {
    let mut state = 0x2545_F491_4F6C_DD1D;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("flipped");
    let mut run = |good: &[u8], rounds: usize, within: usize| {
        let mut errors = 0;
        for _ in 0..rounds {
            let mut bytes = good.to_vec();
            for _ in 0..1 + next(&mut state) % 3 {
                let at = next(&mut state) % within.min(bytes.len());
                bytes[at] = next(&mut state) as u8;
            }
            fs::write(&path, &bytes).expect("writes");
            errors += usize::from(import(&path, &input32()).is_err());
        }
        errors
    };
    let errors = run(&torch(&[CONV, BIAS, ("classifier.0.weight", "F32", &[2, 1024])]), 2000, 420);
    println!("safetensors: {errors} of 2000 refused");
    assert!(errors > 500);
    let Some(models) = shared("models") else { return };
    for file in ["small_vgg.h5", "small_vgg_weights_tf_dim_ordering_tf_kernels.h5"] {
        let good = fs::read(models.join(file)).expect("reads");
        let errors = run(&good, 150, 6000);
        println!("{file}: {errors} of 150 refused");
        assert!(errors > 20);
    }
}
