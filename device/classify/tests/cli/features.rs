//! Networks that give features, and the channels that a network gets of a picture.

use snapbox::str;
use vgg_edge_blob::ChannelOrder;
use vgg_edge_engine::kernels;

use super::{Bench, features};
use crate::support::colours::{End, network};

#[test]
fn feature_extractors_print_their_features() {
    let bench = Bench::new();
    bench.write("means.vgg", &features(ChannelOrder::Rgb, End::Means));
    bench.write("map.vgg", &features(ChannelOrder::Rgb, End::Map));
    bench.run("run means.vgg red.png blue.png").is(
        0,
        str![[r#"
red.png  features 1x1x8: mean 32.5000, min 0.0000, max 230.0000
blue.png  features 1x1x8: mean 35.0000, min 0.0000, max 240.0000

"#]],
        str![""],
    );
    bench.run("run map.vgg green.png").is(
        0,
        str![[r#"
green.png  features 7x7x8: mean 33.7500, min 0.0000, max 220.0000

"#]],
        str![""],
    );
    for kernel in kernels::available() {
        let ran = bench.run(&format!("run map.vgg --json red.png bad.png --kernel {}", kernel.name()));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let line: serde_json::Value = serde_json::from_str(ran.stdout.trim()).unwrap();
        assert_eq!((&line["image"], &line["shape"]), (&"red.png".into(), &serde_json::json!([7, 7, 8])));
        assert!(line["ms"].as_f64().unwrap() >= 0.0 && line.get("top").is_none(), "{line}");
        let features: Vec<f64> =
            line["features"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(features, [230.0, 20.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0].repeat(7 * 7));
    }
}

#[test]
fn features_have_no_best_classes() {
    let bench = Bench::new();
    bench.write("map.vgg", &features(ChannelOrder::Rgb, End::Map));
    bench.run("run map.vgg red.png --top 3").is(
        2,
        str![""],
        str![[r#"
error: the argument '--top <K>' cannot be used with map.vgg: its network gives features of 7x7x8, not classes

Usage: classify run [OPTIONS] <MODEL> [IMAGE]...

For more information, try '--help'.

"#]],
    );
}

#[test]
fn feature_extractors_are_shown_tested_and_timed() {
    let bench = Bench::new();
    let bytes = features(ChannelOrder::Rgb, End::Map);
    bench.write("map.vgg", &bytes);
    bench.run("info map.vgg").is(
        0,
        str![[r#"
model       int8, 2944 bytes, blob version 1
input       8x8x3, resize stretch, bilinear
preprocess  rgb, scale 1, mean [0.0, 0.0, 0.0], std [1.0, 1.0, 1.0]
features    7x7x8
self-test   yes
work        13824 multiply-accumulates

layer         kind              output      weights         MACs  block  SQNR dB
block1_conv1  conv3x3            8x8x8          384        13824      0     40.0
block1_pool   maxpool            7x7x8            0            0      0     40.0

"#]],
        str![""],
    );
    let json: serde_json::Value = serde_json::from_str(&bench.run("info map.vgg --json").stdout).unwrap();
    assert_eq!((&json["output"], json.get("classes")), (&serde_json::json!([7, 7, 8]), None));
    let mut expected = format!("checksums  ok, {} bytes\n", bytes.len());
    for kernel in kernels::available() {
        expected += &format!("self-test  ok, {}\n", kernel.name());
    }
    bench.run("verify map.vgg").is(0, expected, "");
    let wrong = network(ChannelOrder::Rgb, End::Means, &[], Some((vec![7; 192], vec![9.0; 8])));
    bench.write("wrong.vgg", &wrong);
    let ran = bench.run("verify wrong.vgg --kernel scalar");
    assert_eq!(ran.code, Some(1));
    let expected = "error: wrong.vgg: generic-s8-scalar: self-test: feature 0 is 7, expected 9\n";
    assert!(ran.stderr.starts_with(expected), "{ran:?}");
    assert_eq!(bench.run("bench map.vgg --runs 2").code, Some(0));
}

/// Alpha is seen by a network that takes it and by no other; gray is PIL's.
#[test]
fn every_network_gets_its_channels_of_a_picture() {
    let bench = Bench::new();
    for (order, picture, expected) in [
        (ChannelOrder::Rgba, "clear.png", [229.0, 20.0, 10.0, 100.0]),
        (ChannelOrder::Rgba, "red.png", [230.0, 20.0, 10.0, 255.0]),
        (ChannelOrder::Rgb, "clear.png", [230.0, 20.0, 10.0, 0.0]),
        (ChannelOrder::Gray, "clear.png", [82.0, 0.0, 0.0, 0.0]),
        (ChannelOrder::Gray, "blue.png", [48.0, 0.0, 0.0, 0.0]),
    ] {
        bench.write("means.vgg", &features(order, End::Means));
        let ran = bench.run(&format!("run means.vgg {picture} --json"));
        let line: serde_json::Value = serde_json::from_str(&ran.stdout).expect(&ran.stderr);
        let found: Vec<f64> = (0..4).map(|c| line["features"][c].as_f64().unwrap()).collect();
        assert_eq!(found, expected, "{} of {picture}", order.name());
    }
    bench.write("model.vgg", &network(ChannelOrder::Rgba, End::Classes, &["r", "g", "b", "opaque"], None));
    bench.run("run model.vgg clear.png red.png --top 1").is(
        0,
        str![[r#"
clear.png
  0.9061  r
red.png
  0.6161  opaque

"#]],
        str![""],
    );
    let json: serde_json::Value = serde_json::from_str(&bench.run("info model.vgg --json").stdout).unwrap();
    assert_eq!(json["preprocess"]["order"], "rgba");
    assert_eq!(json["preprocess"]["mean"].as_array().unwrap().len(), 4);
}
