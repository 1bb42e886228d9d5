//! ONNX nodes that are almost what a layer does.

use vgg_edge_host::graph::Shape;
use vgg_edge_host::import::ImportOptions;

use super::onnx::{ints, small};
use crate::onnx_file::{Attr, Net, f32s, int_tensor, node, tensor};
use crate::{alone, check};

/// The small network with a node of its own in place of the ReLU, and one in place of the pool.
fn middle(first: Vec<u8>, second: Vec<u8>, tensors: &[Vec<u8>]) -> Vec<u8> {
    small(|net| {
        net.tensors.extend_from_slice(tensors);
        net.nodes[1] = first;
        net.nodes[2] = second;
    })
}

fn pool(attributes: &[(&str, Attr)]) -> Vec<u8> {
    let two = || ints(&[2, 2]);
    let attributes: Vec<(&str, Attr)> = attributes
        .iter()
        .map(|(name, value)| (*name, value.clone()))
        .chain([("kernel_shape", two()), ("strides", two())])
        .collect();
    node("MaxPool", &["r"], &["p"], &attributes)
}

#[test]
fn paddings_that_no_layer_can_make_its_own() {
    let _alone = alone();
    let none = ImportOptions::default();
    let pad = |pads: &[i64], more: &[(&str, Attr)]| {
        let more = more.iter().map(|(name, value)| (*name, value.clone()));
        node("Pad", &["c"], &["r"], &more.chain([("pads", ints(pads))]).collect::<Vec<_>>())
    };
    let below = [0, 0, 0, 0, 0, 0, 1, 1];
    let relu = || node("Relu", &["r"], &["p"], &[]);
    check(&[
        (middle(pad(&below, &[]), pool(&[]), &[]), none, {
            "node `p` (MaxPool): input is padded with 0.0, expected padded with the lowest value, or with 0 behind a ReLU"
        }),
        (
            middle(
                pad(&below, &[("value", Attr::Float(f32::MIN))]),
                pool(&[("ceil_mode", Attr::Int(1))]),
                &[],
            ),
            none,
            "node `p` (MaxPool): pads is behind a Pad, expected no pads of its own",
        ),
        (
            middle(pad(&[0, 0, 1, 1, 0, 0, 0, 0], &[("value", Attr::Float(f32::MIN))]), pool(&[]), &[]),
            none,
            "node `p` (MaxPool): pads is [1, 1, 0, 0] for a 4x4x4 map, expected none, or by one below and to the right",
        ),
        (middle(pad(&below, &[]), relu(), &[]), none, {
            "node `r` (Pad): padding is followed by node `p` (Relu), expected part of a 3x3 Conv without pads behind it, or of a MaxPool"
        }),
        (middle(pad(&[0, 0, 2, 2, 0, 0, 2, 2], &[]), pool(&[]), &[]), none, {
            "node `r` (Pad): pads is [0, 0, 2, 2, 0, 0, 2, 2], expected by one at most, at the sides of the map"
        }),
        (middle(pad(&[0, 1, 0, 0, 0, 0, 0, 0], &[]), pool(&[]), &[]), none, {
            "node `r` (Pad): pads is [0, 1, 0, 0, 0, 0, 0, 0], expected by one at most, at the sides of the map"
        }),
        (middle(pad(&[1, 1], &[]), pool(&[]), &[]), none, {
            "node `r` (Pad): pads is [1, 1], expected by one at most, at the sides of the map"
        }),
        (middle(pad(&below, &[("mode", Attr::Text("reflect"))]), pool(&[]), &[]), none, {
            "node `r` (Pad): mode is reflect, expected constant"
        }),
        (
            small(|net| {
                net.nodes[0] = node("Pad", &["x"], &["xp"], &[("pads", ints(&below))]);
                net.nodes.insert(1, node("Conv", &["xp", "cw", "cb"], &["c"], &[]));
            }),
            none,
            "node `c` (Conv): input is padded by [0, 0, 1, 1] with 0.0, expected padded by [1, 1, 1, 1] with 0.0",
        ),
        (
            small(|net| {
                net.nodes.truncate(1);
                net.nodes.push(node("Pad", &["c"], &["y"], &[("pads", ints(&below))]));
            }),
            none,
            "node `y` (Pad): padding is the end, expected part of a 3x3 Conv without pads behind it, or of a MaxPool",
        ),
    ]);
}

#[test]
fn nodes_that_look_like_others() {
    let _alone = alone();
    let none = ImportOptions::default();
    let nan = tensor("nan", 1, &[], &f32s(&[f32::NAN]));
    let zero = || tensor("zero", 1, &[], &f32s(&[0.0]));
    let yes = tensor("yes", 9, &[], &[1]);
    let fill = int_tensor("", &[2]);
    check(&[
        (
            middle(node("Clip", &["c", "zero", "nan"], &["r"], &[]), pool(&[]), &[nan, zero()]),
            none,
            "node `r` (Clip): range is 0.0 to NaN, expected 0 to no bound (ReLU)",
        ),
        (
            middle(node("Clip", &["c", "cb"], &["r"], &[]), pool(&[]), &[]),
            none,
            "node `r` (Clip): input is `cb` of shape [4], expected one number",
        ),
        (
            middle(node("Max", &["c", "zero", "zero"], &["r"], &[]), pool(&[]), &[zero()]),
            none,
            "node `r` (Max): other input is 0.0, expected 0 (ReLU)",
        ),
        (
            middle(node("Dropout", &["c", "", "yes"], &["r"], &[]), pool(&[]), &[yes]),
            none,
            "node `r` (Dropout): training_mode is not known to be false, expected false",
        ),
        (
            middle(node("Relu", &["cb"], &["r"], &[]), pool(&[]), &[]),
            none,
            "node `r` (Relu): input is constants alone, expected what is computed from the picture",
        ),
        (
            small(|net| {
                net.nodes[3] =
                    node("ReduceMean", &["p"], &["g"], &[("axes", ints(&[3])), ("keepdims", Attr::Int(0))])
            }),
            none,
            "node `f` (Flatten): input is a map averaged over one side, expected ReduceMean over the other side first",
        ),
        (
            small(|net| {
                net.nodes[3] = node("GlobalAveragePool", &["p"], &["s"], &[]);
                net.nodes.insert(4, node("Softmax", &["s"], &["g"], &[]));
            }),
            none,
            "node `g` (Softmax): axis is -1, expected 1",
        ),
        (
            small(|net| net.nodes[4] = node("Squeeze", &["g"], &["f"], &[("axes", ints(&[1]))])),
            none,
            "node `f` (Squeeze): axes is [1], expected axes of length 1 of [?, 4, 1, 1]",
        ),
        (
            small(|net| {
                net.tensors.push(int_tensor("n", &[2]));
                net.nodes[4] = node("Reshape", &["g", "s"], &["f"], &[]);
                net.node("Where", &["n", "n", "n"], "s", &[]);
            }),
            none,
            "node `s` (Where): not supported, supported are Conv, BatchNormalization, Relu, Clip, Max, MaxPool, GlobalAveragePool, \
             AveragePool, ReduceMean, Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Gemm, MatMul, Add, Sub, Mul, Div, Pad, Identity, \
             Dropout, Softmax, Cast, Constant, ConstantOfShape, and Shape, Gather, Slice, Concat and ReduceProd of shapes",
        ),
        (
            small(|net| {
                net.tensors.push(int_tensor("n", &[1 << 40]));
                net.node("ConstantOfShape", &["n"], "s", &[("value", Attr::Tensor(fill))]);
                net.nodes[4] = node("Reshape", &["g", "s"], &["f"], &[]);
            }),
            none,
            "node `s` (ConstantOfShape): not supported, supported are Conv, BatchNormalization, Relu, Clip, Max, MaxPool, \
             GlobalAveragePool, AveragePool, ReduceMean, Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Gemm, MatMul, Add, Sub, Mul, \
             Div, Pad, Identity, Dropout, Softmax, Cast, Constant, ConstantOfShape, and Shape, Gather, Slice, Concat and ReduceProd of \
             shapes",
        ),
        (
            small(|net| net.nodes[1] = node("Relu", &["c"], &["cw"], &[])),
            none,
            "node `cw` (Relu): output is `cw` again, expected a name of its own",
        ),
    ]);
}

/// Pictures of another size than the weights behind a flattening.
#[test]
fn an_input_that_the_weights_do_not_fit() {
    let _alone = alone();
    let asked = ImportOptions { input: Some(Shape::new(8, 8, 3)), ..Default::default() };
    let mismatch = "the model takes 4x4x3 pictures, but 8x8x3 was asked for";
    let tail = |change: &dyn Fn(&mut Net)| {
        let mut net = Net::new(&[1, 3, 4, 4]);
        change(&mut net);
        net.head("f", 48);
        net.bytes()
    };
    check(&[
        (tail(&|net| net.node("Flatten", &["x"], "f", &[])), asked, mismatch),
        (
            tail(&|net| {
                net.tensors.push(int_tensor("s", &[1, 48]));
                net.node("Reshape", &["x", "s"], "f", &[]);
            }),
            asked,
            mismatch,
        ),
        (
            small(|net| {
                net.nodes[3] = node("AveragePool", &["p"], &["g"], &[("kernel_shape", ints(&[2, 2]))])
            }),
            asked,
            mismatch,
        ),
    ]);
}
