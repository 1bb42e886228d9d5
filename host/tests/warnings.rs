//! What `quantize` says of doubtful calibration pictures and of wrong preprocessing, word for word.
//!
//! The network is the bundled one, the pictures are four a class of the bundled calibration pictures, with something wrong.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use vgg_edge_tests::{TempDir, run, shared_dir, temp_dir, workspace_root};

fn fixture(name: &str) -> PathBuf {
    workspace_root().join("tests/fixtures").join(name)
}

/// The network, and in `calib/` the first `a_class` pictures of each of the first `classes` classes.
fn folder(classes: usize, a_class: usize) -> TempDir {
    let dir = temp_dir();
    for file in ["small_vgg.h5", "small_vgg.preprocess.toml", "small_vgg.labels.txt"] {
        fs::copy(fixture(&format!("small_vgg/{file}")), dir.path().join(file)).unwrap();
    }
    let listed = |folder: &Path| {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        paths
    };
    for class in listed(&fixture("cifar10/calib")).iter().take(classes) {
        let to = dir.path().join("calib").join(class.file_name().unwrap());
        fs::create_dir_all(&to).unwrap();
        for (i, picture) in listed(class).iter().take(a_class).enumerate() {
            fs::copy(picture, to.join(format!("{i}.jpg"))).unwrap();
        }
    }
    dir
}

/// An RGB picture of 32x32 as PNG.
fn png(pixel: impl Fn(usize) -> u8) -> Vec<u8> {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    for row in 0..32 {
        zlib.write_all(&[0]).unwrap();
        zlib.write_all(&(0..96).map(|i| pixel(row * 96 + i)).collect::<Vec<u8>>()).unwrap();
    }
    let header = [0, 0, 0, 32, 0, 0, 0, 32, 8, 2, 0, 0, 0];
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header.to_vec()), (b"IDAT", zlib.finish().unwrap()), (b"IEND", vec![])] {
        let whole = [kind.as_slice(), &data].concat();
        file.extend((data.len() as u32).to_be_bytes());
        file.extend(&whole);
        file.extend(crc32fast::hash(&whole).to_be_bytes());
    }
    file
}

/// Exit code, and what standard error holds of warnings and errors.
fn says(dir: &Path, words: &str) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
    let ran = run(command.args(words.split_whitespace()).current_dir(dir));
    let told = |line: &&str| line.starts_with("warning: ") || line.starts_with("error: ");
    (ran.code, ran.stderr.lines().filter(told).map(str::to_owned).collect())
}

const QUANTIZE: &str = "quantize small_vgg.h5 --calib calib -o m.vgg";

fn expect(dir: &TempDir, words: &str, lines: &[&str]) {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(says(dir.path(), words), (Some(0), lines), "{words}");
}

fn may_be_wrong(nats: &str, other: &str, other_nats: &str) -> String {
    format!(
        "warning: preprocessing may be wrong: f32's answers tell the pictures apart by {nats} nats, with `{other}` by {other_nats}"
    )
}

#[test]
fn good_pictures_and_the_right_rule_raise_no_doubt() {
    expect(&folder(10, 4), QUANTIZE, &[]);
}

#[test]
fn five_pictures_are_few() {
    let line = "warning: 5 calibration pictures are few; ranges are reliable from about 32 on";
    expect(&folder(5, 1), QUANTIZE, &[line]);
}

#[test]
fn a_black_picture_is_named() {
    let dir = folder(10, 4);
    fs::write(dir.path().join("calib/cat/black.png"), png(|_| 0)).unwrap();
    expect(&dir, QUANTIZE, &["warning: calibration pictures of one colour: 1 (calib/cat/black.png)"]);
}

#[test]
fn pictures_twice_are_counted_and_the_first_few_named() {
    let dir = folder(10, 4);
    for i in 0..4 {
        let at = |name: String| dir.path().join("calib/dog").join(name);
        fs::copy(at(format!("{i}.jpg")), at(format!("{i}_copy.jpg"))).unwrap();
    }
    let line = "warning: calibration pictures with the pixels of another: 4 (calib/dog/0_copy.jpg is calib/dog/0.jpg, \
                calib/dog/1_copy.jpg is calib/dog/1.jpg, calib/dog/2_copy.jpg is calib/dog/2.jpg and 1 more)";
    expect(&dir, QUANTIZE, &[line]);
}

#[test]
fn one_picture_is_enough_to_run() {
    let line = "warning: 1 calibration picture is few; ranges are reliable from about 32 on";
    expect(&folder(1, 1), QUANTIZE, &[line]);
}

/// Noise from black to white is unlike any photograph.
#[test]
fn noise_is_named() {
    let dir = folder(10, 4);
    let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 31) as u8 * 255;
    fs::write(dir.path().join("calib/cat/noise.png"), png(noise)).unwrap();
    let line =
        "warning: calibration pictures like noise, neighbouring pixels unrelated: 1 (calib/cat/noise.png)";
    expect(&dir, QUANTIZE, &[line]);
}

#[test]
fn a_saturated_picture_is_named() {
    let dir = folder(10, 4);
    // A white square on black.
    let inside = |i: usize| (8..24).contains(&i);
    let square = |i: usize| if inside(i / 96) && inside(i % 96 / 3) { 255 } else { 0 };
    fs::write(dir.path().join("calib/cat/square.png"), png(square)).unwrap();
    let line =
        "warning: saturated calibration pictures, nearly all values 0 or 255: 1 (calib/cat/square.png)";
    expect(&dir, QUANTIZE, &[line]);
}

#[test]
fn another_rule_that_tells_pictures_apart_is_named() {
    expect(
        &folder(10, 4),
        &format!("{QUANTIZE} --preprocess unit"),
        &[&may_be_wrong("0.45", "torchvision", "1.65")],
    );
    expect(
        &folder(10, 4),
        &format!("{QUANTIZE} --preprocess keras-caffe"),
        &[&may_be_wrong("0.28", "torchvision", "1.65")],
    );
    // What cannot be seen without labels: unit deviation is almost -1..1. Those of 40 pictures are too few.
    expect(&folder(10, 4), &format!("{QUANTIZE} --preprocess tf"), &[]);
}

/// The folders of the calibration pictures are classes, which is enough to tell rules apart.
#[test]
fn another_rule_that_is_right_more_often_is_named() {
    let (code, told) = says(folder(10, 20).path(), &format!("{QUANTIZE} --preprocess tf"));
    assert_eq!((code, told.len()), (Some(0), 1), "{told:?}");
    assert!(told[0].starts_with("warning: preprocessing most likely is wrong: f32 is right on "), "{told:?}");
    assert!(told[0].contains(" of 200 labelled pictures, with `torchvision` on "), "{told:?}");
}

#[test]
fn a_mean_that_is_not_taken_off_is_noticed() {
    let dir = folder(10, 4);
    let rule = fs::read_to_string(dir.path().join("small_vgg.preprocess.toml")).unwrap();
    let lines: Vec<&str> =
        rule.lines().map(|l| if l.starts_with("mean") { "mean = [0.0, 0.0, 0.0]" } else { l }).collect();
    fs::write(dir.path().join("wrong.toml"), lines.join("\n")).unwrap();
    let (code, told) = says(dir.path(), &format!("{QUANTIZE} --preprocess wrong.toml"));
    assert_eq!(code, Some(0));
    let begin = "warning: preprocessing takes no mean off: values of channel 0 have mean ";
    assert!(told.iter().any(|line| line.starts_with(begin)), "{told:?}");
}

#[test]
fn vgg16_with_values_from_0_to_1_is_noticed() {
    let Some(shared) = shared_dir() else { return };
    let dir = folder(10, 4);
    let weights = shared.join("models/vgg16_cifar10.h5");
    let words = format!("quantize {} --calib calib -o m.vgg --method mse", weights.display());
    expect(&dir, &format!("{words} --preprocess unit"), &[&may_be_wrong("0.01", "keras-caffe", "1.56")]);
}

#[test]
fn a_mean_in_pixels_under_a_scale_to_one_is_noticed() {
    let dir = folder(10, 4);
    let rule = "order = \"rgb\"\nscale = 0.00392156862745098\nmean = [123.68, 116.779, 103.939]\nstd = [1.0, 1.0, 1.0]\n\
                resize = \"stretch\"\nfilter = \"bilinear\"\n";
    fs::write(dir.path().join("wrong.toml"), rule).unwrap();
    expect(
        &dir,
        &format!("{QUANTIZE} --preprocess wrong.toml"),
        &[
            "warning: preprocessing: values of channel 0 have mean -123.200 and deviation 0.238, expected a mean near 0",
            &may_be_wrong("0.00", "torchvision", "1.65"),
        ],
    );
}

#[test]
fn answers_no_better_than_chance_are_noticed() {
    let dir = folder(10, 4);
    let data = fixture("cifar10/test");
    let words = format!("{QUANTIZE} --max-drop 100 --exact --data {}", data.display());
    expect(&dir, &words, &[]);
    expect(
        &dir,
        &format!("{words} --preprocess keras-caffe"),
        &[
            &may_be_wrong("0.28", "torchvision", "1.65"),
            "warning: f32 is right on 9 of 64 labelled pictures, no better than chance for 10 classes: most likely the preprocessing is wrong, else the order of the labels",
        ],
    );
}

/// The bundled network takes red first.
fn swapped(dir: &TempDir) -> &'static str {
    let rule = fs::read_to_string(dir.path().join("small_vgg.preprocess.toml")).unwrap();
    let wrong = rule.replace("order = \"rgb\"", "order = \"bgr\"");
    assert_ne!(rule, wrong, "the bundled rule has another order: {rule}");
    fs::write(dir.path().join("swapped.toml"), wrong).unwrap();
    "--preprocess swapped.toml"
}

#[test]
fn red_and_blue_swapped_is_noticed_without_labels() {
    let dir = folder(10, 4);
    let (code, told) = says(dir.path(), &format!("{QUANTIZE} {}", swapped(&dir)));
    assert_eq!((code, told.len()), (Some(0), 1), "{told:?}");
    assert!(
        told[0].starts_with("warning: preprocessing may have red and blue swapped: f32's answers tell"),
        "{told:?}"
    );
}

#[test]
fn red_and_blue_swapped_is_noticed_by_labels() {
    let dir = folder(10, 4);
    let data = fixture("cifar10/test");
    let words = format!("{QUANTIZE} --max-drop 100 --exact --data {} {}", data.display(), swapped(&dir));
    let (code, told) = says(dir.path(), &words);
    assert_eq!((code, told.len()), (Some(0), 1), "{told:?}");
    assert!(
        told[0].starts_with("warning: preprocessing most likely has red and blue swapped: f32 is right on"),
        "{told:?}"
    );
}
