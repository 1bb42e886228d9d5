//! Model files: what `info` and `verify` say of good ones, and every command of bad ones.

use snapbox::str;
use vgg_edge_engine::kernels;

use super::{Bench, model_with_golden};
use crate::support::colours::model;

#[test]
fn info_shows_the_file() {
    let bench = Bench::new();
    bench.run("info model.vgg").is(
        0,
        str![[r#"
model       int8, 1984 bytes, blob version 1
input       8x8x3, resize stretch, bilinear
preprocess  rgb, scale 1, mean [0.0, 0.0, 0.0], std [1.0, 1.0, 1.0]
classes     3, with labels
self-test   yes
work        13848 multiply-accumulates

layer         kind              output      weights         MACs  block  SQNR dB
block1_conv1  conv3x3            8x8x8          384        13824      0     40.0
block1_pool   maxpool            4x4x8            0            0      0     40.0
avgpool       avgpool            1x1x8            0            0      1     40.0
dense         dense              1x1x3           64           24      2     40.0

"#]],
        str![""],
    );
    let json: serde_json::Value = serde_json::from_str(&bench.run("info model.vgg --json").stdout).unwrap();
    assert_eq!(json["labels"], serde_json::json!(["red", "green", "blue"]));
    assert_eq!(json["metadata"]["made_by"], "a test");
    assert_eq!(json["layers"].as_array().unwrap().len(), 4);
}

#[test]
fn verify_runs_the_self_test_on_every_kernel() {
    let bench = Bench::new();
    let mut expected = format!("checksums  ok, {} bytes\n", model_with_golden().len());
    for kernel in kernels::available() {
        expected += &format!("self-test  ok, {}\n", kernel.name());
    }
    bench.run("verify model.vgg").is(0, expected, "");
    // A file whose logits another network gave.
    bench.write("wrong.vgg", &model(&[], Some((vec![7; 192], vec![0.0; 3]))));
    let ran = bench.run("verify wrong.vgg");
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("self-test: logit 0 is "), "{ran:?}");
}

#[test]
fn bad_models_are_explained() {
    let bench = Bench::new();
    let good = model_with_golden();
    bench.run("run missing.vgg red.png").fails(str![[r#"
error: cannot load missing.vgg: No such file or directory (os error 2)

"#]]);
    bench.run("run . red.png").fails(str![[r#"
error: cannot load .: not a regular file

"#]]);
    bench.write("empty.vgg", b"");
    bench.run("info empty.vgg").fails(str![[r#"
error: cannot load empty.vgg: the file is empty, expected a vgg-edge model

"#]]);
    bench.run("run red.png red.png").fails(str![[r#"
error: cannot load red.png: not a vgg-edge model: it starts with bytes [89, 50, 4e, 47], expected [56, 47, 47, 45]

hint: the first argument is a model that `cargo xtask quantize` wrote

"#]]);
    bench.write("cut.vgg", &good[..good.len() - 100]);
    bench.run("verify cut.vgg").fails(str![[r#"
error: cannot load cut.vgg: the file has 1884 bytes, its header says 1984

hint: the copy may be incomplete; run `cargo xtask deploy` again

"#]]);
    let mut version = good.clone();
    version[4] = 9;
    bench.write("version.vgg", &version);
    bench.run("bench version.vgg").fails(str![[r#"
error: cannot load version.vgg: blob version 9, this program reads version 1

hint: re-create the model with `cargo xtask quantize`, or install a newer `classify`

"#]]);
}

#[test]
fn every_damaged_byte_of_a_model_is_found() {
    let bench = Bench::new();
    let good = model_with_golden();
    let last = good.len() - 1;
    for at in [20, 100, 300, last] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        bench.write("model.vgg", &bytes);
        let ran = bench.run("run model.vgg red.png");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "byte {at}: {ran:?}");
        assert!(ran.stderr.starts_with("error: cannot load model.vgg: "), "byte {at}: {ran:?}");
    }
}
