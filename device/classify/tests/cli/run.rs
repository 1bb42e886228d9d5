//! `classify run`: classes and JSON for people and programs, pictures that are none, where the log goes.

use std::fs;
use std::process::Command;

use snapbox::str;
use vgg_edge_engine::kernels;

use super::{Bench, fixtures};
use crate::support::colours::model;

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
