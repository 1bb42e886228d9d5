//! Broken state_dicts of PyTorch.

use std::fs;

use vgg_edge_host::graph::{Arch, Shape};
use vgg_edge_host::import::{ImportOptions, import};

use crate::{alone, check, input32, mutate};

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
    let _alone = alone();
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
        (raw("{}"), none, "a convolution is missing, expected one that takes the picture"),
        (good[..good.len() - 8].to_vec(), none, "tensors end at byte 815, but the file has 807 bytes"),
        ([good.as_slice(), &[0; 4]].concat(), none, "tensors end at byte 815, but the file has 819 bytes"),
        (nan, none, "layer `dense`: kernel value 31 is NaN, expected a finite number"),
        (torch(&[CONV, BIAS]), none, {
            "the input size is not in the file (a network without dense layers takes any), expected it to be given"
        }),
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

#[test]
fn mutants() {
    let _alone = alone();
    let good = torch(&[CONV, BIAS, ("classifier.0.weight", "F32", &[2, 1024])]);
    mutate("safetensors", &good, 2000, 420, 500);
}
