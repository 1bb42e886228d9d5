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
        (nan, none, "layer `classifier.0`: kernel value 31 is NaN, expected a finite number"),
        (
            torch(&[CONV, BIAS]),
            none,
            "the input size is not in the file (a network without dense layers takes any), expected it to be given",
        ),
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
            "layer `features.0`: filter is 5x5, expected 3x3 or 1x1",
        ),
        (
            torch(&[CONV, ("features.2.weight", "F32", &[4, 6, 3, 3]), DENSE]),
            none,
            "layer `features.2`: weight has shape [4, 6, 3, 3], expected [4, 4, 3, 3]",
        ),
        (
            torch(&[CONV, conv2("features.5.weight"), DENSE]),
            none,
            "layer `features.5`: index is 5 after `features.0`, expected 2 (convolution, relu) or 3 (and max-pool)",
        ),
        (
            torch(&[CONV, ("classifier.0.weight", "I32", &[2, 16])]),
            none,
            "layer `classifier.0`: weight has type I32, expected f32, f16, bf16 or f64",
        ),
        (
            torch(&[CONV, ("classifier.0.weight", "F32", &[2, 20])]),
            none,
            "layer `classifier.0`: takes 20 values, expected 4 x a square number (a flattened map of 4 channels)",
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
            "layer `features.1`: running_var is missing, expected shape [4]",
        ),
        (
            good.clone(),
            ImportOptions { arch: Some(Arch::Vgg16), ..input32() },
            "layer `features.0`: weight has shape [4, 3, 3, 3], expected [64, 3, 3, 3]",
        ),
    ]);
}

#[test]
fn names_and_gaps() {
    let _alone = alone();
    let none = ImportOptions::default();
    let norm = |layer: &str| -> Vec<(String, Vec<usize>)> {
        ["weight", "bias", "running_mean", "running_var"].map(|w| (format!("{layer}.{w}"), vec![4])).into()
    };
    let file = |layers: &[&str], more: Vec<(String, Vec<usize>)>| {
        let shape = |name: &&str| match name.contains("features") {
            true => vec![4, if name.ends_with("s.0") { 3 } else { 4 }, 3, 3],
            false => vec![4, if name.ends_with("r.0") { 16 } else { 4 }],
        };
        let layers = layers.iter().map(|name| (format!("{name}.weight"), shape(name)));
        let all: Vec<_> = layers.chain(more).collect();
        torch(&all.iter().map(|(name, shape)| (name.as_str(), "F32", shape.as_slice())).collect::<Vec<_>>())
    };
    check(&[
        (file(&["features.0", "classifier.0"], norm("features.1")), none, "imports"),
        (file(&["features.0", "features.3", "classifier.0"], norm("features.2")), none, {
            "layer `features.2`: index is 2 after `features.0`, expected 1 (convolution, batch normalization)"
        }),
        (file(&["features.0", "features.2", "classifier.0"], norm("features.1")), none, {
            "layer `features.2`: index is 1 after `features.1`, expected 2 (convolution, relu) or 3 (and max-pool)"
        }),
        (file(&["features.0", "features.1", "classifier.0"], vec![]), none, {
            "layer `features.1`: index is 1 after `features.0`, expected 2 (convolution, relu) or 3 (and max-pool)"
        }),
        (file(&["features.0", "classifier.0"], [norm("features.1"), norm("features.2")].concat()), none, {
            "layer `features.2`: index is 1 after `features.1`, expected 1 (convolution, batch normalization)"
        }),
        (file(&["features.2", "classifier.0"], vec![]), none, {
            "layer `features.2`: nothing with weights is in front of it, expected features.0 to be the first"
        }),
        (file(&["features.0", "classifier.0", "classifier.1"], vec![]), none, {
            "layer `classifier.1`: index is 1 after `classifier.0`, expected 2 (dense, relu) or 3 (and dropout)"
        }),
        (file(&["features.0", "classifier.0", "classifier.6"], vec![]), none, {
            "layer `classifier.6`: index is 6 after `classifier.0`, expected 2 (dense, relu) or 3 (and dropout)"
        }),
        (file(&["features.0", "classifier.0"], norm("classifier.2")), none, {
            "layer `classifier.2`: index is 2 after `classifier.0`, expected 1 (dense, batch normalization)"
        }),
        (file(&["features.0", "classifier.4"], vec![]), none, {
            "layer `classifier.4`: nothing with weights is in front of it, expected index 0, 1 or 2 to be the first"
        }),
        (file(&["features.0", "classifier.0", "head.fc"], vec![]), none, {
            "layers `classifier.0` and `head.fc` are both a head, expected one"
        }),
        (file(&["features.0", "classifier.0", "fc.2"], vec![]), none, {
            "layers `classifier.0` and `fc.2` are both a head, expected one"
        }),
        (file(&["features.0", "module.features.0", "classifier.0"], vec![]), none, {
            "layer `features.0` is there twice, expected unique layer names"
        }),
        (file(&["features.0"], vec![("pre_logits.fc1.weight".into(), vec![8, 4, 2, 2])]), none, {
            "layer `head.fc` is missing, expected the dense layer that gives class scores"
        }),
        (
            file(
                &["features.0"],
                vec![
                    ("pre_logits.fc1.weight".into(), vec![4, 4, 2, 3]),
                    ("head.fc.weight".into(), vec![2, 4]),
                ],
            ),
            none,
            "layer `pre_logits.fc1`: weight has shape [4, 4, 2, 3], expected a square filter",
        ),
        (file(&["features.0", "classifier.0"], vec![("features.x.weight".into(), vec![4])]), none, {
            "tensor `features.x.weight` is not part of a VGG, expected features.N and classifier.N weights and biases"
        }),
        (file(&["features.0", "classifier.0"], vec![("features.1.weight_orig".into(), vec![4])]), none, {
            "tensor `features.1.weight_orig` is not part of a VGG, expected features.N and classifier.N weights and biases"
        }),
    ]);
}

#[test]
fn mutants() {
    let _alone = alone();
    let good = torch(&[CONV, BIAS, ("classifier.0.weight", "F32", &[2, 1024])]);
    mutate("safetensors", &good, 2000, 420, 500);
}
