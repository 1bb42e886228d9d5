//! The program from outside: exit codes, stdout and stderr of every command and of its errors.
//!
//! The models are written here: one says which of red, green and blue a picture has most of, others give features.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use snapbox::assert_data_eq;
use snapbox::data::Data;
use snapbox::str;
use tempfile::TempDir;
use vgg_edge_blob::layout::S8Params;
use vgg_edge_blob::requant::Fixed;
use vgg_edge_blob::{
    Algorithm, Blob, ChannelOrder, NewLayer, NewLinear, NewModel, NewOp, NewWeights, Padding, Preprocess,
    Quantization, ResizeFilter, ResizeRule, S8Layout, Scheme, Shape, write,
};
use vgg_edge_engine::pool::Serial;
use vgg_edge_engine::{Engine, Options, kernels};

/// Real value of a logit's step: one for each unit of a weight of 127 times a pixel.
const LOGIT_SCALE: f32 = 0.02 / 127.0;

/// 127 on the diagonal: channel `o` of the output is channel `o` of the input. `taps` inputs a channel, of
/// which the middle one counts.
fn diagonal(outputs: usize, inputs: usize, taps: usize, scale: f64, relu: bool) -> NewLinear {
    let mut weights = vec![0i8; outputs * taps * inputs];
    let mut params = S8Params::default();
    for o in 0..outputs.min(inputs) {
        weights[(o * taps + taps / 2) * inputs + o] = 127;
        // The input's zero point of -128 taken out.
        params.bias[o] = 128 * 127;
    }
    let fixed = Fixed::from_scale(scale).unwrap();
    if relu {
        (params.multiplier, params.shift) = ([fixed.multiplier; 8], [fixed.shift; 8]);
    }
    params.scale = [LOGIT_SCALE; 8];
    NewLinear {
        outputs: outputs as u32,
        relu,
        pad: [-128; 4],
        layout: S8Layout::K4,
        weights: NewWeights::S8(weights, vec![params]),
    }
}

/// A self-test: a picture, and what it gives.
type Golden = Option<(Vec<u8>, Vec<f32>)>;

/// How a network ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// Pooled, then a class a channel of the picture.
    Classes,
    /// Pooled: the mean of each channel of the picture, then zeros.
    Means,
    /// The map of the pool of stride 1.
    Map,
}

/// Says which of red, green and blue a picture has most of.
fn model(labels: &[&str], golden: Golden) -> Vec<u8> {
    network(ChannelOrder::Rgb, End::Classes, labels, golden)
}

fn network(order: ChannelOrder, end: End, labels: &[&str], golden: Golden) -> Vec<u8> {
    let channels = order.channels();
    let pixels = Quantization { scale: 1.0, zero_point: -128 };
    let layer = |name: &str, op, block, out_quant| NewLayer {
        name: name.to_owned(),
        op,
        block,
        in_quant: pixels,
        out_quant,
        sqnr_db: 40.0,
    };
    let mean = Fixed::from_scale(1.0 / 16.0).unwrap();
    let pool = NewOp::GlobalAvgPool { multiplier: mean.multiplier, shift: mean.shift };
    let conv = NewOp::Conv {
        kernel: 3,
        algorithm: Algorithm::Direct,
        linear: diagonal(8, channels, 9, 1.0 / 127.0, true),
    };
    let stride = if end == End::Map { 1 } else { 2 };
    let max_pool = NewOp::MaxPool { stride, padding: Padding::Valid };
    let dense = NewOp::Dense(diagonal(channels, 8, 1, 0.0, false));
    let mut layers = vec![layer("block1_conv1", conv, 0, pixels), layer("block1_pool", max_pool, 0, pixels)];
    if end != End::Map {
        layers.push(layer("avgpool", pool, 1, pixels));
    }
    if end == End::Classes {
        layers.push(layer("dense", dense, 2, Quantization { scale: 0.0, zero_point: 0 }));
    }
    let new = NewModel {
        scheme: Scheme::Int8,
        input: Shape { height: 8, width: 8, channels: channels as u32 },
        preprocess: Preprocess {
            order,
            scale: 1.0,
            mean: [0.0; 4],
            std: [1.0; 4],
            resize: ResizeRule::Stretch,
            filter: ResizeFilter::Bilinear,
        },
        layers,
        labels: labels.iter().map(|&l| l.to_owned()).collect(),
        golden,
        metadata: r#"{"made_by": "a test"}"#.to_owned(),
    };
    let mut bytes = Vec::new();
    write(new, &mut bytes).unwrap();
    bytes
}

/// The model with labels and a self-test.
fn model_with_golden() -> Vec<u8> {
    model(&["red", "green", "blue"], golden(&model(&[], None)))
}

/// A self-test that the specification kernel computed.
fn golden(bytes: &[u8]) -> Golden {
    // `Blob::parse` wants a multiple of 64 bytes, as a map has.
    let mut room = vec![0u8; bytes.len() + 64];
    let at = room.as_ptr().align_offset(64);
    room[at..at + bytes.len()].copy_from_slice(bytes);
    let blob = Blob::parse(&room[at..at + bytes.len()]).unwrap();
    let scalar = kernels::by_name("scalar").unwrap();
    let mut engine = Engine::new(&blob, scalar, &Serial, Options::default()).unwrap();
    let picture: Vec<u8> = (0..blob.input().len()).map(|i| (i * 37 % 251) as u8).collect();
    let values = engine.run(&picture).unwrap().to_vec();
    Some((picture, values))
}

/// A feature extractor with its self-test.
fn features(order: ChannelOrder, end: End) -> Vec<u8> {
    network(order, end, &[], golden(&network(order, end, &[], None)))
}

/// A folder with `model.vgg` and the pictures, in which the program runs.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { dir: TempDir::new().unwrap() };
        bench.write("model.vgg", &model_with_golden());
        for entry in fs::read_dir(fixtures()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, bench.path(path.file_name().unwrap().to_str().unwrap())).unwrap();
        }
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn run(&self, args: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
        command.current_dir(self.dir.path()).args(args.split_whitespace());
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn is(self, code: i32, stdout: impl Into<Data>, stderr: impl Into<Data>) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_data_eq!(self.stdout, stdout.into());
        assert_data_eq!(self.stderr, stderr.into());
    }

    fn fails(self, stderr: impl Into<Data>) {
        self.is(1, "", stderr);
    }
}

#[test]
fn run_prints_the_best_classes() {
    let bench = Bench::new();
    bench.run("run model.vgg red.png").is(
        0,
        str![[r#"
  0.9735  red
  0.0146  green
  0.0120  blue

"#]],
        str![""],
    );
    bench.run("run model.vgg green.png --top 1").is(
        0,
        str![[r#"
  0.9609  green

"#]],
        str![""],
    );
    bench.run("run model.vgg red.jpg blue.png --top 2 --threads 3").is(
        0,
        str![[r#"
red.jpg
  0.9737  red
  0.0143  green
blue.png
  0.9756  blue
  0.0146  green

"#]],
        str![""],
    );
}

#[test]
fn models_without_labels_name_classes_by_number() {
    let bench = Bench::new();
    bench.write("model.vgg", &model(&[], None));
    bench.run("run model.vgg blue.png --top 1").is(
        0,
        str![[r#"
  0.9756  class 2

"#]],
        str![""],
    );
    bench.run("verify model.vgg").is(
        0,
        str![[r#"
checksums  ok, 1536 bytes
self-test  none: the file has no golden picture

"#]],
        str![""],
    );
    let json = bench.run("run model.vgg blue.png --top 1 --json").stdout;
    assert!(json.contains(r#""top":[{"class":2,"probability":0.9"#), "{json}");
}

#[test]
fn json_is_a_stable_line_a_picture() {
    let bench = Bench::new();
    let ran = bench.run("run model.vgg --json red.png green.png");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for (line, (image, label, class)) in lines.iter().zip([("red.png", "red", 0), ("green.png", "green", 1)])
    {
        assert_eq!(line["image"], image);
        assert_eq!(line["top"].as_array().unwrap().len(), 3);
        assert_eq!((&line["top"][0]["label"], &line["top"][0]["class"]), (&label.into(), &class.into()));
        let sum: f64 = (0..3).map(|i| line["top"][i]["probability"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert!(line["ms"].as_f64().unwrap() >= 0.0);
    }
}

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

#[test]
fn every_kernel_and_thread_count_gives_the_same_answer() {
    let bench = Bench::new();
    let answer = |more: &str| {
        let ran = bench.run(&format!("run model.vgg red.png green.png blue.png red.jpg {more}"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout
    };
    let expected = answer("");
    for kernel in kernels::available() {
        for threads in [1, 2, 5] {
            assert_eq!(answer(&format!("--kernel {} --threads {threads}", kernel.name())), expected);
        }
    }
}

#[test]
fn a_bad_picture_does_not_stop_the_others() {
    let bench = Bench::new();
    bench.write("bad.jpg", b"hello world");
    bench.run("run model.vgg bad.jpg missing.png green.png --top 1").is(1, str![[r#"
green.png
  0.9609  green

"#]], str![[r#"
error: cannot classify bad.jpg: not a picture: starts with 68 65 6c 6c, expected JPEG (ff d8 ff), PNG (89 50 4e 47), WebP (RIFF) or BMP (BM)
error: cannot classify missing.png: No such file or directory (os error 2)

"#]]);
}

#[test]
fn bad_pictures_are_explained() {
    let bench = Bench::new();
    bench.write("empty.jpg", b"");
    bench.run("run model.vgg empty.jpg").fails(str![[r#"
error: cannot classify empty.jpg: 0 bytes, expected a JPEG, PNG, WebP or BMP picture

"#]]);
    bench.write("cut.jpg", &fs::read(fixtures().join("red.jpg")).unwrap()[..400]);
    bench.run("run model.vgg cut.jpg").fails(str![[r#"
error: cannot classify cut.jpg: JPEG picture is cut off: it goes on after the file's 400 bytes

hint: the copy may be incomplete; copy the picture again

"#]]);
    bench.write("photo.png", b"GIF89a");
    bench.run("run model.vgg photo.png").fails(str![[r#"
error: cannot classify photo.png: GIF picture, expected JPEG, PNG, WebP or BMP

hint: convert the picture to JPEG, PNG, WebP or BMP

"#]]);
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

#[test]
fn usage_errors_exit_with_2() {
    let bench = Bench::new();
    bench.run("run model.vgg").is(
        2,
        str![""],
        str![[r#"
error: the following required arguments were not provided:
  <IMAGE>...

Usage: classify run <MODEL> <IMAGE>...

For more information, try '--help'.

"#]],
    );
    bench.run("run model.vgg red.png --topp 3").is(
        2,
        str![""],
        str![[r#"
error: unexpected argument '--topp' found

  tip: a similar argument exists: '--top'

Usage: classify run --top <K> <MODEL> <IMAGE>...

For more information, try '--help'.

"#]],
    );
    bench.run("run model.vgg red.png --top 0").is(
        2,
        str![""],
        str![[r#"
error: invalid value '0' for '--top <K>': number would be zero for non-zero type

For more information, try '--help'.

"#]],
    );
    bench.run("classify").is(
        2,
        str![""],
        str![[r#"
error: unrecognized subcommand 'classify'

Usage: classify [OPTIONS] <COMMAND>

For more information, try '--help'.

"#]],
    );
    assert_eq!(bench.run("").code, Some(2));
    assert_eq!(bench.run("--version").code, Some(0));
    assert_eq!(bench.run("run --help").code, Some(0));
}

#[test]
fn unknown_kernels_list_the_choices() {
    let bench = Bench::new();
    let choices: Vec<&str> = kernels::available().map(|k| kernels::variant(k.name())).collect();
    bench
        .run("run model.vgg red.png --kernel fast")
        .fails(format!("error: unknown kernel `fast`, available here: {}\n", choices.join(" ")));
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
fn bench_times_exactly_so_many_runs() {
    let bench = Bench::new();
    let ran = bench.run("bench model.vgg --threads 1 --runs 7 --json");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["runs"], &json["threads"]), (&7.into(), &1.into()));
    let [min, median, p95, max] = ["min", "median", "p95", "max"].map(|key| json[key].as_f64().unwrap());
    assert!(0.0 < min && min <= median && median <= p95 && p95 <= max, "{json}");
    let ran = bench.run("bench model.vgg --threads 2 --runs 3 --kernel scalar");
    assert!(ran.stdout.contains("scalar, 2 threads, 3 runs\nmedian "), "{ran:?}");
}

#[test]
fn bench_tells_where_the_time_went() {
    let bench = Bench::new();
    let ran = bench.run("bench model.vgg --threads 1 --runs 2 --profile --json");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let layers: Vec<&str> =
        json["layers"].as_array().unwrap().iter().map(|layer| layer["name"].as_str().unwrap()).collect();
    assert_eq!(layers, ["block1_conv1", "block1_pool", "avgpool", "dense"]);
    assert!(
        json["layers"].as_array().unwrap().iter().all(|layer| layer["ms"].as_f64().unwrap() > 0.0),
        "{json}"
    );
    // Small maps: one band.
    assert_eq!(json["steps"], serde_json::json!([0, 1, 2, 3]));
    let ran = bench.run("bench model.vgg --runs 2 --profile");
    // The third line is of the board's sensors, where there are any.
    let lines = ran.stdout.lines().filter(|line| !line.starts_with("board "));
    assert_eq!((ran.code, lines.count()), (Some(0), 2), "{ran:?}");
    assert!(ran.stderr.contains("\navgpool "), "{}", ran.stderr);
    assert!(!bench.run("bench model.vgg --runs 2 --json").stdout.contains("steps"));
}

#[test]
fn bench_can_go_on_and_says_where_it_ran() {
    let bench = Bench::new();
    let ran = bench.run("bench model.vgg --threads 1 --runs 1 --sustain 1 --layers --json");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let sustained = &json["sustained"];
    assert!(sustained["seconds"].as_f64().unwrap() >= 1.0, "{json}");
    assert!(sustained["runs"].as_u64().unwrap() > 1 && sustained["part"].as_f64().unwrap() >= 0.5, "{json}");
    assert!(sustained["first"].as_f64().unwrap() > 0.0 && sustained["slowdown"].is_number(), "{json}");
    assert!(!json["cores"].as_array().unwrap().is_empty(), "{json}");
    assert!(json["board"].as_array().unwrap().iter().all(serde_json::Value::is_object), "{json}");
    assert_eq!(json["layers"].as_array().unwrap().len(), 4);
    let ran = bench.run("bench model.vgg --threads 1 --runs 1 --sustain 1");
    let line = ran.stdout.lines().nth(2).unwrap();
    assert!(line.starts_with("sustained 1.") && line.ends_with(" % slower"), "{ran:?}");
    assert!(!bench.run("bench model.vgg --runs 1 --json").stdout.contains("sustained"));
}

#[test]
fn verbose_and_profile_go_to_stderr() {
    let bench = Bench::new();
    let ran = bench.run("run model.vgg red.png blue.png -v --profile --top 1 --threads 2");
    assert_eq!(ran.code, Some(0));
    assert_eq!(ran.stdout.lines().count(), 4, "{}", ran.stdout);
    let starts: Vec<&str> = ran.stderr.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = ["model", "kernel", "memory", "time", "block1_conv1", "block1_pool", "avgpool", "dense"];
    assert_eq!(starts[..8], expected, "{}", ran.stderr);
    assert_eq!(starts.len(), 8 + 4 + 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("(median of 2, min "), "{}", ran.stderr);
}

#[test]
fn the_log_goes_where_it_is_told() {
    let bench = Bench::new();
    let plain = bench.run("run model.vgg red.png");
    let ran = bench.run("--log log.bin run model.vgg red.png");
    assert_eq!((ran.code, &ran.stdout, &ran.stderr), (Some(0), &plain.stdout, &plain.stderr));
    // rzCOBS: every frame ends with a zero byte; the opening note, start, model, picture and result are five.
    let frames = |bytes: &[u8]| bytes.split(|b| *b == 0).filter(|f| !f.is_empty()).count();
    assert_eq!(frames(&fs::read(bench.path("log.bin")).unwrap()), 5);
    let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
    command.current_dir(bench.dir.path()).args(["run", "model.vgg", "red.png", "--log", "stderr"]);
    assert_eq!(frames(&command.output().unwrap().stderr), 5);
    bench.run("--log no/where.bin run model.vgg red.png").fails(str![[r#"
error: cannot write the log no/where.bin: No such file or directory (os error 2)

"#]]);
}
