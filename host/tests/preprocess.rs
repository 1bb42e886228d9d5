//! The preprocessing rule: sidecars, presets, arithmetic, and the message of everything that can be wrong.

mod support;

use std::fs;
use std::path::Path;

use support::{Npy, shared};
use vgg_edge_blob::{ChannelOrder, ResizeFilter, ResizeRule};
use vgg_edge_host::graph::Shape;
use vgg_edge_host::preprocess::{Origin, Preprocess, Preset};

const RGB: Shape = Shape::new(32, 32, 3);
const GOOD: &str = r#"order = "bgr"
scale = 1.0
mean = [103.939, 116.779, 123.68]
std = [1.0, 1.0, 1.0]
resize = "shorter-side 256, center-crop"
filter = "bilinear"
"#;

#[test]
fn a_sidecar_is_found_beside_the_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("net.preprocess.toml"), GOOD).expect("writes");
    for weights in ["net.h5", "net.safetensors", "net.weights.h5"] {
        let (rule, origin) = Preprocess::find(None, &folder.path().join(weights), RGB).expect(weights);
        assert_eq!(rule.order, ChannelOrder::Bgr);
        assert_eq!(
            (rule.resize, rule.filter),
            (ResizeRule::ShorterSideCenterCrop(256), ResizeFilter::Bilinear)
        );
        assert_eq!(origin, Origin::Sidecar(folder.path().join("net.preprocess.toml")));
    }
    let (_, origin) = Preprocess::find(Some("unit"), &folder.path().join("net.h5"), RGB).expect("asked for");
    assert_eq!(origin, Origin::Preset(Preset::Unit));
    let error = Preprocess::find(None, Path::new("other.h5"), RGB).expect_err("no sidecar");
    assert_eq!(
        error.to_string(),
        "no preprocessing for other.h5: found no other.preprocess.toml, expected that file or a preset (keras-caffe, \
         torchvision, unit, tf)"
    );
    let error = Preprocess::find(Some("caffe"), Path::new("net.h5"), RGB).expect_err("no such preset");
    assert_eq!(
        error.to_string(),
        "preprocessing is `caffe`, expected keras-caffe, torchvision, unit, tf or a .toml file"
    );
}

#[test]
fn what_is_written_reads_back() {
    for preset in Preset::ALL {
        assert_eq!(Preset::by_name(preset.name()), Some(preset));
        for input in [Shape::new(224, 224, 3), Shape::new(96, 64, 1), Shape::new(32, 48, 4)] {
            let rule = preset.preprocess(input);
            let text = rule.to_toml();
            assert_eq!(Preprocess::parse(&text, "rule", input).expect(&text), rule);
        }
    }
    let torchvision = Preset::Torchvision.preprocess(Shape::new(224, 224, 3));
    assert_eq!(torchvision.resize, ResizeRule::ShorterSideCenterCrop(256));
}

#[test]
fn every_field_is_checked_by_name() {
    let cases = [
        (
            "order = \"bgr\"",
            "order = \"gbr\"",
            "line 1: unknown variant `gbr`, expected one of `rgb`, `bgr`, `gray`, `rgba`",
        ),
        (
            "order = \"bgr\"",
            "order = \"gray\"",
            "order is gray with 1 channels, expected 3 as the network takes",
        ),
        (
            "order = \"bgr\"",
            "order = \"rgba\"",
            "order is rgba with 4 channels, expected 3 as the network takes",
        ),
        ("scale = 1.0\n", "", "line 1: missing field `scale`"),
        ("scale = 1.0", "scale = 0.0", "scale is 0, expected a finite number other than 0"),
        ("scale = 1.0", "scale = inf", "scale is inf, expected a finite number other than 0"),
        (
            "scale",
            "factor",
            "line 2: unknown field `factor`, expected one of `order`, `scale`, `mean`, `std`, `resize`, `filter`",
        ),
        (", 123.68]", "]", "mean is 2 numbers, expected 3, one a channel"),
        ("123.68", "nan", "mean is NaN, expected finite numbers"),
        ("[1.0, 1.0, 1.0]", "[1.0, 0.0, 1.0]", "std is 0, expected numbers above 0"),
        ("[1.0, 1.0, 1.0]", "[1.0, 1.0, -2.0]", "std is -2, expected numbers above 0"),
        (
            "shorter-side 256, center-crop",
            "crop",
            "line 5: resize is `crop`, expected `stretch` or `shorter-side N, center-crop`, N from 1 to 16384",
        ),
        ("256", "16", "resize is shorter side 16, expected at least 32, the network's input"),
        (
            "bilinear",
            "linear",
            "line 6: unknown variant `linear`, expected one of `nearest`, `box`, `bilinear`, `bicubic`, `lanczos`",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(GOOD.contains(from));
        let error = Preprocess::parse(&GOOD.replace(from, to), "net.toml", RGB).expect_err(expected);
        assert_eq!(error.to_string(), format!("net.toml: {expected}"));
    }
    let error = Preset::Unit.preprocess(RGB).normalize(&[1, 2, 3, 4]).expect_err("4 bytes");
    assert_eq!(error.to_string(), "picture has 4 bytes, expected whole pixels of 3 bytes");
}

/// Four means and deviations, alpha neither moved nor stretched; what is no whole pixel is refused.
#[test]
fn pictures_with_alpha_have_a_rule() {
    let rgba = Shape::new(32, 32, 4);
    let caffe = Preset::KerasCaffe.preprocess(rgba);
    assert_eq!(
        (caffe.order, caffe.mean.as_slice()),
        (ChannelOrder::Rgba, &[123.68, 116.779, 103.939, 0.0][..])
    );
    let values = caffe.normalize(&[10, 20, 30, 255]).expect("a pixel");
    assert_eq!(values, [10.0 - 123.68, 20.0 - 116.779, 30.0 - 103.939, 255.0].map(|v: f64| v as f32));
    let torchvision = Preset::Torchvision.preprocess(rgba);
    let values = torchvision.normalize(&[255, 0, 255, 51]).expect("a pixel");
    let expected = [(1.0 - 0.485) / 0.229, -0.456 / 0.224, (1.0 - 0.406) / 0.225, 0.2];
    values.iter().zip(expected).for_each(|(v, e): (_, f32)| assert!((v - e).abs() < 1e-6, "{values:?}"));
    let blob = caffe.to_blob();
    assert_eq!((blob.order, blob.mean), (ChannelOrder::Rgba, [123.68, 116.779, 103.939, 0.0]));
    assert_eq!(blob.std, [1.0; 4]);
    let error = caffe.normalize(&[1, 2, 3]).expect_err("3 bytes").to_string();
    assert_eq!(error, "picture has 3 bytes, expected whole pixels of 4 bytes");
    let text = GOOD.replace("bgr", "rgba");
    let error = Preprocess::parse(&text, "net.toml", rgba).expect_err("3 means").to_string();
    assert_eq!(error, "net.toml: mean is 3 numbers, expected 4, one a channel");
    let text = text.replace("123.68]", "123.68, 7.5]").replace("1.0, 1.0]", "1.0, 1.0, 2.0]");
    let rule = Preprocess::parse(&text, "net.toml", rgba).expect("four means");
    assert_eq!(rule.normalize(&[0, 0, 0, 12]).expect("a pixel")[3], (12.0 - 7.5) / 2.0);
}

#[test]
fn pixels_become_what_the_frameworks_made_of_them() {
    let gray = Preset::Unit.preprocess(Shape::new(1, 1, 1));
    assert_eq!(gray.normalize(&[76, 255]).expect("two pixels"), [76.0 / 255.0, 1.0]);
    let tf = Preset::Tf.preprocess(RGB);
    assert_eq!(tf.normalize(&[0, 255, 51]).expect("a pixel"), [-1.0, 1.0, -0.6]);
    let caffe = Preset::KerasCaffe.preprocess(RGB);
    let blue_first = [30.0 - 103.939, 20.0 - 116.779, 10.0 - 123.68];
    assert_eq!(caffe.normalize(&[10, 20, 30]).expect("a pixel"), blue_first);
    let Some(models) = shared("models") else { return };
    let (rule, _) = Preprocess::find(None, &models.join("small_vgg.h5"), RGB).expect("a sidecar");
    let pixels = Npy::read(&models.join("golden/golden_images_u8_nhwc_rgb.npy"));
    let golden = Npy::read(&models.join("golden/small_vgg_input_f32_nhwc.npy"));
    for i in 0..64 {
        let found = rule.normalize(pixels.u8_row(i)).expect("pixels");
        for (a, b) in found.iter().zip(golden.f32_row(i)) {
            assert!((a - b).abs() < 1e-6, "picture {i}: {a}, expected {b}");
        }
    }
}
