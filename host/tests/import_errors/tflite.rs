//! Broken and foreign TFLite models.

use std::fs;
use std::os::unix::fs::FileExt;

use vgg_edge_host::graph::{Arch, Shape};
use vgg_edge_host::import::ImportOptions;

use crate::support::shared;
use crate::tflite_file::{F16, Field, I8, I32, Net, Node, OpSpec, code, f32s, i32s, values};
use crate::{alone, bounded, check, mutate, next, patch};

/// The small network after `change`.
fn net(change: impl FnOnce(&mut Net)) -> Vec<u8> {
    let mut net = Net::small();
    change(&mut net);
    net.bytes()
}

const NONE: ImportOptions = ImportOptions { arch: None, input: None, classes: None };

fn option(op: &mut OpSpec, n: u16, field: Field) {
    op.options.retain(|(i, _)| *i != n);
    op.options.push((n, field));
}

#[test]
fn operators_and_options_that_are_not_of_the_family() {
    let _alone = alone();
    const SUPPORTED: &str = "not supported, supported are CONV_2D, MAX_POOL_2D, AVERAGE_POOL_2D, MEAN, \
                             FULLY_CONNECTED, RELU, SOFTMAX, RESHAPE, SQUEEZE, PAD, ADD, SUB, MUL, DIV, DEQUANTIZE";
    let unsupported = |op: &str| format!("{op}: {SUPPORTED}");
    let (depthwise, tanh, number) = (
        unsupported("operator 0 DEPTHWISE_CONV_2D `conv`"),
        unsupported("operator 1 TANH `pool`"),
        unsupported("operator 0 number 100000 `conv`"),
    );
    let mut split = Net::small();
    split.giving("pool").code = 49;
    let twin = split.computed("twin", &[1, 2, 2, 4]);
    split.giving("pool").outputs.push(twin);
    let split_message = unsupported("operator 1 SPLIT `pool`");
    let custom = unsupported("operator 1 CUSTOM  `pool`");
    let conv = |n, field| net(|net| option(net.giving("conv"), n, field));
    let pool = |n, field| net(|net| option(net.giving("pool"), n, field));
    let average = |padding: u8, side: i32| {
        net(|net| {
            let side = Field::I32(side);
            let options = [(0, Field::U8(padding)), (1, Field::I32(1)), (2, Field::I32(1))];
            let op = net.giving("mean");
            (op.code, op.options) = (code::AVERAGE_POOL_2D, options.to_vec());
            op.options.extend([(3, side.clone()), (4, side)]);
        })
    };
    check(&[
        (net(|net| net.giving("conv").code = code::DEPTHWISE_CONV_2D), NONE, depthwise.as_str()),
        (net(|net| net.giving("pool").code = 28), NONE, &tanh),
        (net(|net| net.giving("conv").code = 100_000), NONE, &number),
        (net(|net| net.giving("pool").code = 32), NONE, &custom),
        (split.bytes(), NONE, &split_message),
        (conv(0, Field::U8(1)), NONE, "operator 0 CONV_2D `conv`: padding is VALID, expected SAME"),
        (
            conv(0, Field::U8(7)),
            NONE,
            "operator 0 CONV_2D `conv`: padding is number 7, expected SAME or VALID",
        ),
        (conv(1, Field::I32(2)), NONE, "operator 0 CONV_2D `conv`: stride is 1x2, expected 1x1"),
        (conv(2, Field::I32(-1)), NONE, "operator 0 CONV_2D `conv`: stride is -1x1, expected 1x1"),
        (conv(5, Field::I32(2)), NONE, "operator 0 CONV_2D `conv`: dilation is 2x1, expected 1x1"),
        (conv(3, Field::U8(3)), NONE, {
            "operator 0 CONV_2D `conv`: fused activation is RELU6, expected NONE or RELU"
        }),
        (conv(3, Field::U8(255)), NONE, {
            "operator 0 CONV_2D `conv`: fused activation is number 255, expected NONE or RELU"
        }),
        (pool(3, Field::I32(3)), NONE, "operator 1 MAX_POOL_2D `pool`: filter is 2x3, expected 2x2"),
        (pool(2, Field::I32(3)), NONE, "operator 1 MAX_POOL_2D `pool`: stride is 3x2, expected 1x1 or 2x2"),
        (average(1, 1), NONE, {
            "operator 2 AVERAGE_POOL_2D `mean`: filter is 1x1, expected 2x2, the whole map"
        }),
        (average(0, 2), NONE, {
            "operator 2 AVERAGE_POOL_2D `mean`: padding is SAME with stride 1x1, expected VALID"
        }),
        (net(|net| net.named("mean/axes").data = i32s(&[1, 3])), NONE, {
            "operator 2 MEAN `mean`: axes is [1, 3], expected [1, 2], height and width"
        }),
        (net(|net| net.named("mean/axes").data.clear()), NONE, {
            "operator 2 MEAN `mean`: axes is not in the file, expected [1, 2], height and width"
        }),
        (net(|net| option(net.giving("softmax"), 0, Field::F32(0.5))), NONE, {
            "operator 4 SOFTMAX `softmax`: beta is 0.5, expected 1"
        }),
        (net(|net| option(net.giving("dense"), 1, Field::U8(1))), NONE, {
            "operator 3 FULLY_CONNECTED `dense`: weights format is number 1, expected DEFAULT"
        }),
    ]);
}

/// `small` with an operator between the convolution and the pool.
fn between(code: i32, constant: &[i32], data: Vec<u8>, dtype: u8) -> Vec<u8> {
    let mut net = Net::new(&[1, 4, 4, 3]);
    net.conv("conv", 0, &[4, 3, 3, 3], &[1, 4, 4, 4]);
    let constant = net.tensor("constant", constant, dtype, data);
    net.op(code, "between", &[constant], &[1, 4, 4, 4], &[]);
    net.pool("pool");
    net.mean("mean");
    net.dense("dense", 2, 4);
    net.bytes()
}

#[test]
fn chains_that_are_none() {
    let _alone = alone();
    let mut residual = Net::small();
    residual.ops.truncate(1);
    residual.outputs = residual.ops[0].outputs.clone();
    residual.conv("conv2", 0, &[4, 3, 3, 4], &[1, 4, 4, 4]);
    let first = residual.ops[0].outputs[0];
    residual.op(code::ADD, "sum", &[first], &[1, 4, 4, 4], &[]);
    let mut twice = residual.clone();
    let second = twice.ops[1].outputs[0];
    twice.giving("sum").inputs = vec![second, second];
    let mut skip = residual.clone();
    skip.giving("sum").code = code::RELU;
    skip.giving("sum").inputs = vec![first];
    let pads = |paddings: &[i32]| between(code::PAD, &[4, 2], i32s(paddings), I32);
    let one = [0, 0, 1, 1, 1, 1, 0, 0];
    let mut last = Net::small();
    let paddings = last.numbers("paddings", &one);
    last.ops.truncate(1);
    last.outputs = last.ops[0].outputs.clone();
    last.op(code::PAD, "pad", &[paddings], &[1, 6, 6, 4], &[]);
    let mut same = last.clone();
    same.conv("conv2", 0, &[4, 3, 3, 4], &[1, 6, 6, 4]);
    let reshape = |to: &[i32]| between(code::RESHAPE, &[to.len() as i32], i32s(to), I32);
    let mut late = Net::small();
    late.outputs = late.ops[2].outputs.clone();
    check(&[
        (residual.bytes(), NONE, {
            "operator 2 ADD `sum`: takes 2 tensors that were computed, expected 1 (the network must be a chain)"
        }),
        (twice.bytes(), NONE, {
            "operator 2 ADD `sum`: takes 2 tensors that were computed, expected 1 (the network must be a chain)"
        }),
        (skip.bytes(), NONE, {
            "operator 2 RELU `sum`: takes `conv`, expected `conv2` (the network must be a chain)"
        }),
        (net(|net| net.ops.swap(0, 1)), NONE, {
            "operator 0 MAX_POOL_2D `pool`: takes `conv`, expected `input` (the network must be a chain)"
        }),
        (net(|net| net.giving("pool").inputs.clear()), NONE, {
            "operator 1 MAX_POOL_2D `pool`: takes `nothing`, expected `conv` (the network must be a chain)"
        }),
        (net(|net| net.giving("pool").outputs = vec![0]), NONE, {
            "operator 2 MEAN `mean`: takes `pool`, expected `input` (the network must be a chain)"
        }),
        (late.bytes(), NONE, "output is `mean`, expected `softmax`, which the last operator gives"),
        (net(|net| net.outputs.push(1)), NONE, "number of outputs is 2, expected 1"),
        (net(|net| net.inputs.clear()), NONE, "number of inputs is 0, expected 1"),
        (net(|net| net.subgraphs = 2), NONE, "number of subgraphs is 2, expected 1"),
        (net(|net| net.giving("pool").outputs.clear()), NONE, {
            "operator 1 MAX_POOL_2D: number of outputs is 0, expected 1"
        }),
        (pads(&[0, 0, 2, 2, 1, 1, 0, 0]), NONE, {
            "operator 1 PAD `between`: padding is [0, 0, 2, 2, 1, 1, 0, 0], expected [0, 0, 1, 1, 1, 1, 0, 0], one on \
             each side of the map"
        }),
        (pads(&one), NONE, {
            "operator 1 PAD `between`: padding is followed by operator 2 MAX_POOL_2D `pool`, expected part of a 3x3 \
             CONV_2D with VALID padding behind it"
        }),
        (last.bytes(), NONE, {
            "operator 1 PAD `pad`: padding is the end, expected part of a 3x3 CONV_2D with VALID padding behind it"
        }),
        (same.bytes(), NONE, {
            "operator 2 CONV_2D `conv2`: filter and padding behind a PAD is 3x3 SAME, expected 3x3 VALID"
        }),
        (reshape(&[1, 8, 8]), NONE, {
            "operator 1 RESHAPE `between`: shape is [1, 8, 8], expected [1, 64] or the same, 4x4x4"
        }),
        (reshape(&[2, 32]), NONE, {
            "operator 1 RESHAPE `between`: shape is [2, 32], expected [1, 64] or the same, 4x4x4"
        }),
        (
            reshape(&[-1, -1]),
            NONE,
            "layer `pool`: MaxPooling2D got a vector of 64 values, expected height x width x channels",
        ),
        (reshape(&[i32::MIN, i32::MIN, i32::MIN]), NONE, {
            "operator 1 RESHAPE `between`: shape is [-2147483648, -2147483648, -2147483648], expected [1, 64] or the \
             same, 4x4x4"
        }),
        (between(code::SQUEEZE, &[1], i32s(&[1]), I32), NONE, {
            "operator 1 SQUEEZE `between`: input is a 4x4x4 map, expected a 1x1 map"
        }),
        (between(code::MUL, &[1, 4, 4, 1], f32s(&values(16)), 0), NONE, {
            "operator 1 MUL `between`: constant is of shape [1, 4, 4, 1], expected one value, or one for each of 4 channels"
        }),
        (between(code::ADD, &[3], f32s(&values(3)), 0), NONE, {
            "operator 1 ADD `between`: constant is of shape [3], expected one value, or one for each of 4 channels"
        }),
        (between(code::DIV, &[], f32s(&[0.0]), 0), NONE, {
            "layer `between`: scale value 0 is inf, expected a finite number"
        }),
        (between(code::DEQUANTIZE, &[1], vec![1], I8), NONE, {
            "operator 1 DEQUANTIZE `between`: input is FLOAT32 `conv`, expected FLOAT16 values in the file"
        }),
    ]);
}

#[test]
fn tensors_that_do_not_fit() {
    let _alone = alone();
    let input = |shape: &[i32]| net(|net| net.tensors[0].shape = shape.to_vec());
    let filter = |shape: &[i32]| {
        net(|net| {
            let n = shape.iter().product::<i32>().clamp(0, 4096) as usize;
            let filter = net.named("conv/filter");
            (filter.shape, filter.data) = (shape.to_vec(), f32s(&values(n)));
        })
    };
    let mut nan = values(108);
    nan[4] = f32::NAN;
    let asked = |input: &str| ImportOptions { input: Some(input.parse().expect("a shape")), ..NONE };
    check(&[
        (net(|net| net.tensors[0].dtype = I8), NONE, {
            "tensor `input`: type is INT8, expected FLOAT32 (quantized networks are not read)"
        }),
        (net(|net| net.named("conv/filter").dtype = I8), NONE, {
            "tensor `conv/filter`: type is INT8, expected FLOAT32, FLOAT16 or BFLOAT16"
        }),
        (net(|net| net.named("conv/filter").dtype = 200), NONE, {
            "tensor `conv/filter`: type is number 200, expected FLOAT32, FLOAT16 or BFLOAT16"
        }),
        (net(|net| net.named("conv/filter").dtype = F16), NONE, {
            "tensor `conv/filter`: size is 432 bytes, expected those of a FLOAT16 [4, 3, 3, 3]"
        }),
        (net(|net| net.named("conv/filter").data.truncate(428)), NONE, {
            "tensor `conv/filter`: size is 428 bytes, expected those of a FLOAT32 [4, 3, 3, 3]"
        }),
        (net(|net| net.named("conv/filter").data.clear()), NONE, {
            "tensor `conv/filter`: origin is an operator, expected values in the file"
        }),
        (net(|net| net.named("conv/filter").more = vec![(6, Field::To(Node::Table(vec![])))]), NONE, {
            "tensor `conv/filter`: storage is sparse, expected dense"
        }),
        (net(|net| net.named("conv/filter").shape = vec![1; 9]), NONE, {
            "tensor `conv/filter`: number of axes is 9, expected at most 8"
        }),
        (net(|net| net.named("conv/filter").shape = vec![i32::MAX; 8]), NONE, {
            "tensor `conv/filter`: size is 432 bytes, expected those of a FLOAT32 [2147483647, 2147483647, 2147483647, \
             2147483647, 2147483647, 2147483647, 2147483647, 2147483647]"
        }),
        (filter(&[0, 3, 3, 3]), NONE, {
            "tensor `conv/filter`: origin is an operator, expected values in the file"
        }),
        (filter(&[4, -3, -3, 3]), NONE, {
            "tensor `conv/filter`: size is 432 bytes, expected those of a FLOAT32 [4, -3, -3, 3]"
        }),
        (filter(&[4, 27]), NONE, "operator 0 CONV_2D `conv`: filter is of shape [4, 27], expected 4 axes"),
        (filter(&[4, 5, 5, 3]), NONE, "operator 0 CONV_2D `conv`: filter is 5x5, expected 3x3 or 1x1"),
        (filter(&[4, 3, 1, 3]), NONE, "operator 0 CONV_2D `conv`: filter is 3x1, expected 3x3 or 1x1"),
        (filter(&[4, 3, 3, 1]), NONE, {
            "layer `conv`: kernel has shape [3, 3, 1, 4], expected [3, 3, 3, 4]"
        }),
        (filter(&[3, 3, 3, 3]), NONE, "layer `conv`: bias has shape [4], expected [3]"),
        (net(|net| net.giving("conv").inputs[1] = -1), NONE, {
            "operator 0 CONV_2D `conv`: filter is missing, expected values in the file"
        }),
        (net(|net| net.giving("conv").inputs[1] = 99), NONE, "tensor number is 99, expected less than 11"),
        (net(|net| net.giving("conv").inputs[2] = 0), NONE, {
            "tensor `input`: origin is an operator, expected values in the file"
        }),
        (net(|net| net.giving("conv").inputs.resize(65, 0)), NONE, {
            "operator 0 CONV_2D: number of inputs is 65, expected at most 64"
        }),
        (net(|net| net.named("conv/filter").more = vec![(2, Field::I32(-1))]), NONE, {
            "tensor `conv/filter`: buffer is 4294967295, expected less than 12"
        }),
        (net(|net| net.named("conv/filter").data = f32s(&nan)), NONE, {
            "layer `conv`: kernel value 16 is NaN, expected a finite number"
        }),
        (net(|net| net.named("dense/bias").data = f32s(&[0.0, f32::INFINITY])), NONE, {
            "layer `dense`: bias value 1 is inf, expected a finite number"
        }),
        (net(|net| net.named("dense/weights").shape = vec![4, 2]), NONE, {
            "layer `dense`: kernel has shape [2, 4], expected [4, 4]"
        }),
        (input(&[4, 4, 3]), NONE, {
            "tensor `input`: shape is [4, 4, 3], expected [1, height, width, channels]"
        }),
        (input(&[8, 4, 4, 3]), NONE, {
            "tensor `input`: shape is [8, 4, 4, 3], expected [1, height, width, channels]"
        }),
        (input(&[1, -1, -1, 3]), NONE, {
            "the input size is not in the file (global average pooling takes any), expected it to be given"
        }),
        (input(&[1, i32::MAX, i32::MAX, 3]), NONE, {
            "layer `conv`: output is 2147483647x2147483647x4, expected 1 to 1073741824 values"
        }),
        (net(|_| ()), asked("4x4x1"), "the input has 1 channels, but layer `input` takes 3"),
        (net(|_| ()), ImportOptions { classes: Some(3), ..NONE }, {
            "the network has 2 classes, but 3 were asked for"
        }),
        (net(|_| ()), ImportOptions { arch: Some(Arch::Vgg11), input: Some(Shape::new(4, 4, 3)), ..NONE }, {
            "the model is not vgg11: layer 1 is Conv2D 3x3, 4 filters, expected Conv2D 3x3, 64 filters"
        }),
    ]);
}

/// A file whose root is at `root` and which is `len` bytes long.
fn rooted(root: u32, len: usize) -> Vec<u8> {
    let mut bytes = [&root.to_le_bytes(), b"TFL3".as_slice()].concat();
    bytes.resize(len, 0);
    bytes
}

#[test]
fn structures_that_are_broken() {
    let _alone = alone();
    let good = Net::small().bytes();
    let cut = |n: usize| good[..n].to_vec();
    let root = u32::from_le_bytes(*good.first_chunk().expect("4 bytes"));
    let mut outside = Net::small();
    outside.outside = true;
    let outside = outside.bytes();
    let (len, short) = (outside.len(), outside[..outside.len() - 4].to_vec());
    let end = format!("end of a buffer at byte {len} is outside the file's {} bytes", len - 4);
    let mut far = outside.clone();
    let start = (len - (108 + 4 + 2 + 8 + 2) * 4) as u64;
    far = patch(&far, &start.to_le_bytes(), 0, &u64::MAX.to_le_bytes());
    let far_message = format!("end of a buffer at byte {} is outside the file's {len} bytes", u64::MAX);
    check(&[
        (rooted(100, 8), NONE, "model at byte 100 is outside the file's 8 bytes"),
        (rooted(u32::MAX, 64), NONE, "model at byte 4294967295 is outside the file's 64 bytes"),
        (rooted(0, 64), NONE, "vtable of version at byte 0 has 0 bytes, expected at least 4"),
        (rooted(8, 64), NONE, "vtable of version at byte 8 has 0 bytes, expected at least 4"),
        (cut(8), NONE, "model at byte 28 is outside the file's 8 bytes"),
        (cut(root as usize + 1), NONE, "version at byte 28 is outside the file's 29 bytes"),
        (net(|net| net.version = 2), NONE, "schema version is 2, expected 3"),
        (net(|net| net.version = 0), NONE, "schema version is 0, expected 3"),
        (short, NONE, &end),
        (far, NONE, &far_message),
        (net(|net| net.ops = vec![net.ops[0].clone(); 5000]), NONE, {
            "number of operators is 5000, expected at most 4096"
        }),
        (
            net(|net| net.ops.clear()),
            NONE,
            "output is `softmax`, expected `input`, which the last operator gives",
        ),
        (net(|net| (net.ops, net.outputs) = (vec![], vec![0])), NONE, {
            "the network has no layers, expected at least one convolution or dense layer"
        }),
    ]);
    // Cut anywhere.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.tflite");
    for n in (8..good.len() - 8).step_by(7) {
        fs::write(&path, &good[..n]).expect("writes");
        assert!(bounded(&path, &NONE).is_err(), "cut after {n} of {} bytes", good.len());
    }
}

/// A few bytes must not become much memory, however often they are named.
#[test]
fn bytes_that_are_used_again_and_again() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.tflite");
    // Two hundred layers over the same MiB: it is read once.
    let mut shared = Net::new(&[1, 1, 1, 512]);
    let bias = shared.constant("bias", &[512]);
    let weights = shared.constant("weights", &[512, 512]);
    for i in 0..200 {
        shared.op(code::FULLY_CONNECTED, &format!("dense{i}"), &[weights, bias], &[1, 512], &[]);
    }
    fs::write(&path, shared.bytes()).expect("writes");
    bounded(&path, &NONE).expect("imports");
    // As weights of two shapes it would be twice as much.
    let mut shapes = Net::new(&[1, 1, 1, 1024]);
    let weights = shapes.constant("weights", &[256, 1024]);
    shapes.op(code::FULLY_CONNECTED, "dense", &[weights], &[1, 256], &[]);
    let turned = shapes.tensor("turned", &[1024, 256], 0, Vec::new());
    // Buffer 0 is the empty one.
    shapes.named("turned").more = vec![(2, Field::I32(weights + 1))];
    shapes.op(code::FULLY_CONNECTED, "dense2", &[turned], &[1, 1024], &[]);
    let len = shapes.bytes().len();
    let shape_message = format!("tensors take {} bytes, but the file has {len} bytes", 2 << 20);
    // One value, a billion channels.
    let mut channels = Net::new(&[1, 1, 1, 1 << 30]);
    let factor = channels.tensor("factor", &[], 0, f32s(&[2.0]));
    channels.op(code::MUL, "mul", &[factor], &[1, 1, 1, 1 << 30], &[]);
    let channels = channels.bytes();
    let channel_message =
        format!("tensors take {} bytes, but the file has {} bytes", 8u64 << 30, channels.len());
    check(&[(shapes.bytes(), NONE, &shape_message), (channels, NONE, &channel_message)]);
}

#[test]
fn the_int8_model_of_the_converter() {
    let _alone = alone();
    let Some(models) = shared("models") else { return };
    let path = models.join("small_vgg_int8.tflite");
    let message = bounded(&path, &NONE).expect_err("it is quantized").to_string();
    assert!(
        message.ends_with(
            "small_vgg_int8.tflite: tensor `serving_default_input:0`: type is INT8, expected FLOAT32 (quantized \
             networks are not read)"
        ),
        "{message}"
    );
}

#[test]
fn mutants() {
    let _alone = alone();
    let good = Net::small().bytes();
    mutate("tflite", &good, 3000, good.len(), 300);
    let mut outside = Net::small();
    outside.outside = true;
    let outside = outside.bytes();
    mutate("tflite, values outside", &outside, 500, outside.len() - 496, 50);
    let Some(models) = shared("models") else { return };
    // The structure of a converter's file: its first 600 bytes and its last 10,000; weights lie between.
    let good = fs::read(models.join("small_vgg.tflite")).expect("reads");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mutant");
    fs::write(&path, &good).expect("writes");
    let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
    let (mut state, mut refused, rounds) = (0x5DEE_CE66, 0, 400);
    for _ in 0..rounds {
        let places: Vec<usize> = (0..1 + next(&mut state) % 3)
            .map(|_| match next(&mut state) % 10_600 {
                at @ 0..600 => at,
                at => good.len() - 10_600 + at,
            })
            .collect();
        for &at in &places {
            file.write_all_at(&[next(&mut state) as u8], at as u64).expect("writes");
        }
        refused += usize::from(bounded(&path, &NONE).is_err());
        for &at in &places {
            file.write_all_at(&good[at..=at], at as u64).expect("writes");
        }
    }
    println!("small_vgg.tflite: {refused} of {rounds} mutants refused");
    assert!(refused >= 60, "small_vgg.tflite: {refused} of {rounds} mutants refused");
    bounded(&path, &NONE).expect("all bytes are back");
}
