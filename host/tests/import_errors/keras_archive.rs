//! Broken `.keras` archives: bombs, tricks with names and sizes, descriptions and weights that disagree.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde_json::Value;
use vgg_edge_host::graph::{Arch, Shape};
use vgg_edge_host::import::ImportOptions;

use crate::{alone, check, fixture, mutate, patch};

/// An entry as it is written, and what the directory says of it.
struct Entry {
    name: String,
    stored: Vec<u8>,
    method: u16,
    crc32: u32,
    size: u32,
}

impl Entry {
    fn stored(name: &str, data: &[u8]) -> Self {
        let (crc32, size) = (crc32fast::hash(data), data.len() as u32);
        Self { name: name.into(), stored: data.to_vec(), method: 0, crc32, size }
    }

    fn deflated(name: &str, data: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).expect("writes");
        Self { stored: encoder.finish().expect("writes"), method: 8, ..Self::stored(name, data) }
    }
}

/// A zip archive of `entries`.
fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = bytes.len() as u32;
        let sizes = |into: &mut Vec<u8>| {
            for number in [entry.crc32, entry.stored.len() as u32, entry.size] {
                into.extend(number.to_le_bytes());
            }
            into.extend((entry.name.len() as u16).to_le_bytes());
        };
        let method = entry.method.to_le_bytes();
        bytes.extend([b"PK\x03\x04\x14\0\0\0".as_slice(), &method, &[0; 4]].concat());
        sizes(&mut bytes);
        bytes.extend([&[0; 2], entry.name.as_bytes(), &entry.stored].concat());
        directory.extend([b"PK\x01\x02\x14\0\x14\0\0\0".as_slice(), &method, &[0; 4]].concat());
        sizes(&mut directory);
        directory.extend([&[0; 12], offset.to_le_bytes().as_slice(), entry.name.as_bytes()].concat());
    }
    let (start, count) = (bytes.len() as u32, (entries.len() as u16).to_le_bytes());
    let len = (directory.len() as u32).to_le_bytes();
    bytes.extend(directory);
    bytes.extend(
        [b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count, &len, &start.to_le_bytes(), &[0; 2]].concat(),
    );
    bytes
}

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.weights.h5";

fn weights() -> Vec<u8> {
    fixture("keras/tiny.weights.h5")
}

fn config() -> Vec<u8> {
    fixture("keras/tiny.json")
}

/// The tiny network with another description and other weights.
fn archive(config: &[u8], weights: &[u8]) -> Vec<u8> {
    zip(&[
        Entry::stored("metadata.json", b"{}"),
        Entry::stored(CONFIG, config),
        Entry::stored(WEIGHTS, weights),
    ])
}

/// The description after `change` of its list of layers.
fn edited(change: impl Fn(&mut Vec<Value>)) -> Vec<u8> {
    let mut json: Value = serde_json::from_slice(&config()).expect("JSON");
    change(json["config"]["layers"].as_array_mut().expect("a list"));
    serde_json::to_vec(&json).expect("JSON")
}

/// The description with one option of one layer changed.
fn option(layer_idx: usize, name: &str, value: &str) -> Vec<u8> {
    let value: Value = serde_json::from_str(value).expect("JSON");
    edited(|layers| layers[layer_idx]["config"][name] = value.clone())
}

#[test]
fn keras_archives() {
    let _alone = alone();
    let none = ImportOptions::default();
    let (config, weights) = (config(), weights());
    let with = |entries: Vec<Entry>| zip(&entries);
    let good = |name| Entry::stored(name, if name == CONFIG { &config } else { &weights });
    let named = |name: &str| zip(&[Entry::stored(name, &config), Entry::stored(WEIGHTS, &weights)]);
    let zeros = vec![0; 100 << 20];
    let lies = Entry { size: 1000, ..Entry::deflated(CONFIG, &config) };
    let flipped = {
        let mut bytes = archive(&config, &weights);
        let at = bytes.len() - 2000;
        bytes[at] ^= 1;
        bytes
    };
    let cut = |n: usize| archive(&config, &weights)[..n].to_vec();
    check(&[
        (with(vec![good(WEIGHTS)]), none, "zip: entry `config.json` is missing"),
        (with(vec![good(CONFIG)]), none, "zip: entry `model.weights.h5` is missing"),
        (with(vec![good(CONFIG), good(CONFIG), good(WEIGHTS)]), none, {
            "zip: entry `config.json` is there twice, expected unique names"
        }),
        (named("../config.json"), none, {
            "zip: entry `../config.json` has `..` in its path, expected a relative path of plain names"
        }),
        (named("/etc/config.json"), none, {
            "zip: entry `/etc/config.json` has an absolute path, expected a relative path of plain names"
        }),
        (named("a\\config.json"), none, {
            "zip: entry `a\\\\config.json` has a backslash in its name, expected a relative path of plain names"
        }),
        (named("model/config.json"), none, "zip: entry `config.json` is missing"),
        (with(vec![Entry::deflated(CONFIG, &zeros), good(WEIGHTS)]), none, {
            "zip: entry `config.json` has 104857600 bytes, expected at most 1048576"
        }),
        (with(vec![good(CONFIG), Entry::deflated(WEIGHTS, &zeros)]), none, {
            "zip: entry `model.weights.h5` has 104857600 bytes, expected at most 16907861"
        }),
        (with(vec![lies, good(WEIGHTS)]), none, {
            "zip: entry `config.json`: inflates to more than the 1000 bytes of the directory"
        }),
        (with(vec![Entry { size: 5, ..good(CONFIG) }, good(WEIGHTS)]), none, {
            "zip: entry `config.json`: size is 5, expected 2431, its stored length"
        }),
        (with(vec![Entry { method: 12, ..good(CONFIG) }, good(WEIGHTS)]), none, {
            "zip: entry `config.json`: method is 12, expected 0 (stored) or 8 (deflate)"
        }),
        (flipped, none, "zip: entry `model.weights.h5` has CRC-32 c2af2ed6, expected dd29d42d"),
        (cut(20), none, "zip: the file does not end in an end-of-directory record, expected one at its end"),
        (
            cut(20_000),
            none,
            "zip: the file does not end in an end-of-directory record, expected one at its end",
        ),
        (archive(&config, b""), none, { "HDF5 file: invalid HDF5 magic bytes" }),
        (archive(&config, &vec![b'x'; 5000]), none, "HDF5 file: invalid HDF5 magic bytes"),
        (archive(&config, &fixture("keras/tiny_f16.h5")), none, {
            "group `/`: `layers` is missing, expected the groups of weights Keras 3 writes"
        }),
        (archive(b"\xff\xfe", &weights), none, {
            "model_config: text is invalid utf-8 sequence of 1 bytes from index 0, expected UTF-8"
        }),
        (archive(b"{}", &weights), none, {
            "model_config: class_name is ``, expected Functional or Sequential"
        }),
        (archive("[".repeat(1000).as_bytes(), &weights), none, {
            "model_config: text is not JSON (recursion limit exceeded at line 1 column 128), expected a JSON object"
        }),
    ]);
}

#[test]
fn keras_archives_that_disagree() {
    let _alone = alone();
    let none = ImportOptions::default();
    let weights = weights();
    let described = |config: Vec<u8>| archive(&config, &weights);
    let weighted = |weights: Vec<u8>| archive(&config(), &weights);
    let unsupported = |layer: &str, class: &str| {
        format!(
            "layer `{layer}`: {class} is not supported, supported are Conv2D, BatchNormalization, MaxPooling2D, \
             AveragePooling2D and GlobalAveragePooling2D, Flatten, Dense, Dropout, Activation, ReLU, Softmax, Rescaling, \
             Normalization, ZeroPadding2D"
        )
    };
    let class =
        |layer_idx: usize, class: &str| edited(|layers| layers[layer_idx]["class_name"] = class.into());
    let ring = edited(|layers| {
        let last = layers[6]["inbound_nodes"].clone();
        layers[1]["inbound_nodes"] = last;
    });
    let shorter = {
        let mut json: Value = serde_json::from_slice(&config()).expect("JSON");
        json["config"]["layers"].as_array_mut().expect("a list").pop();
        json["config"]["output_layers"][0] = "dense".into();
        serde_json::to_vec(&json).expect("JSON")
    };
    let first: Vec<u8> = {
        let at = weights.windows(4).position(|w| w == b"name").expect("an attribute");
        weights[at..at + 4].to_vec()
    };
    assert_eq!(first, b"name");
    check(&[
        (described(option(1, "filters", "5")), none, {
            "layer `block1_conv1`: kernel has shape [3, 3, 3, 4], expected [3, 3, 3, 5]"
        }),
        (described(option(1, "filters", "1099511627776")), none, {
            "layer `block1_conv1`: output is 8x8x1099511627776, expected 1 to 1073741824 values"
        }),
        (described(option(1, "filters", "18446744073709551616")), none, {
            "layer `block1_conv1`: filters is 18446744073709551616, expected a number of at least 1"
        }),
        (described(option(5, "units", "1073741824")), none, {
            "layer `dense`: kernel has shape [4, 3], expected [4, 1073741824]"
        }),
        (described(option(0, "batch_shape", "[null, 4294967296, 4294967296, 3]")), none, {
            "layer `input`: output is 4294967296x4294967296x3, expected 1 to 1073741824 values"
        }),
        (described(option(0, "batch_shape", "[null, 1, 1, 3]")), none, {
            "layer `block1_pool`: 2x2 max-pooling got a 1x1x4 map, expected at least 2x2"
        }),
        (described(option(2, "use_bias", "false")), none, &unsupported("block1_conv2", "weight `vars/1`")),
        (described(option(2, "name", "\"block1_conv9\"")), none, {
            "layer `block1_conv9`: group `layers/conv2d_1` has the weights of `block1_conv2`, expected those of the layer"
        }),
        (described(option(2, "groups", "2")), none, "layer `block1_conv2`: groups is 2, expected 1"),
        (described(class(2, "DepthwiseConv2D")), none, &unsupported("block1_conv2", "DepthwiseConv2D")),
        (described(class(2, "SeparableConv2D")), none, &unsupported("block1_conv2", "SeparableConv2D")),
        (described(class(2, "Conv2DTranspose")), none, &unsupported("block1_conv2", "Conv2DTranspose")),
        (
            described(class(4, "MultiHeadAttention")),
            none,
            &unsupported("global_average_pooling2d", "MultiHeadAttention"),
        ),
        (described(class(4, "Add")), none, &unsupported("global_average_pooling2d", "Add")),
        (described(class(5, "BatchNormalization")), none, {
            "layer `dense`: group `layers/batch_normalization` is missing, expected the layer's weights in it"
        }),
        (
            described(ring),
            none,
            "model_config: layer `block1_conv1` is not reachable from the input, expected one chain of layers",
        ),
        (described(shorter), none, "layer `predictions`: has weights, but tiny has no such layer"),
        (weighted(patch(&weights, b"conv2d_1\0", 0, b"conv2d_7\0")), none, {
            "layer `conv2d_1`: group `layers/conv2d_1` is missing, expected the layer's weights in it"
        }),
        (weighted(patch(&weights, b"dense_1\0", 0, b"dunce_1\0")), none, {
            "layer `dunce`: group `layers/dunce` is missing, expected the layer's weights in it"
        }),
        (described(config()), ImportOptions { classes: Some(7), ..none }, {
            "the network has 2 classes, but 7 were asked for"
        }),
        (described(config()), ImportOptions { arch: Some(Arch::Vgg16), ..none }, {
            "the model is not vgg16: layer 1 is Conv2D 3x3, 4 filters, expected Conv2D 3x3, 64 filters"
        }),
        (described(config()), ImportOptions { input: Some(Shape::new(8, 8, 1)), ..none }, {
            "the input has 1 channels, but layer `input` takes 3"
        }),
    ]);
}

#[test]
fn mutants() {
    let _alone = alone();
    let good = fixture("keras/tiny.keras");
    mutate("tiny.keras", &good, 400, good.len(), 300);
    // Without a checksum nothing but the content can be found out.
    let unchecked = [
        Entry { crc32: 0, ..Entry::stored(CONFIG, &config()) },
        Entry { crc32: 0, ..Entry::stored(WEIGHTS, &weights()) },
    ];
    let good = zip(&unchecked);
    mutate("tiny.keras without checksums", &good, 800, good.len(), 20);
    let good = fixture("keras/tiny_deflated.keras");
    mutate("tiny_deflated.keras", &good, 400, good.len(), 300);
}
