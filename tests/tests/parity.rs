//! The classifier program against this machine's engine, bit for bit: every kernel, several thread counts.
//!
//! ```text
//! VGG_EDGE_CLASSIFY        the program; else it is built for this machine
//! VGG_EDGE_EMULATOR        command that runs it, as in `qemu-aarch64 -cpu max`
//! VGG_EDGE_EXPECT_KERNELS  variants that it must run, best first
//! VGG_EDGE_MODELS          folder with more models, in whose answers the program must agree
//! VGG_EDGE_LARGE_MODELS    folder with large models, whose self-tests the program must repeat
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vgg_edge_blob::{AlignedBytes, Blob, LayerOp, Layout, NewModel, NewOp, S8Layout, Scheme, write};
use vgg_edge_engine::image::{Image, Limits, decode, prepare};
use vgg_edge_engine::kernels::{by_name, variant};
use vgg_edge_engine::pool::Serial;
use vgg_edge_engine::topk::{softmax, top_k};
use vgg_edge_engine::{Engine, Options};
use vgg_edge_tests::{
    TempDir, classify, files, run, temp_dir, vgg_of_two_blocks, winograd_of_two_blocks, workspace_root,
};

/// The random model with exact Winograd, made for CPUs without dot products.
const WINOGRAD: &str = "random.winograd.vgg";

/// Thread counts, none of which may change a bit.
const THREADS: [&str; 3] = ["1", "2", "4"];

/// Models to test with: random ones, whose self-test plain loops computed, and those of `VGG_EDGE_MODELS`.
fn models() -> (TempDir, Vec<PathBuf>) {
    let dir = temp_dir();
    let mut models = Vec::new();
    for (model, name) in [
        (vgg_of_two_blocks(Scheme::Int8), "random.int8.vgg"),
        (vgg_of_two_blocks(Scheme::F16), "random.f16.vgg"),
        (vgg_of_two_blocks(Scheme::Int8Fc4), "random.int8-fc4.vgg"),
        (winograd_of_two_blocks(), WINOGRAD),
        (k8(vgg_of_two_blocks(Scheme::Int8)), "random.k8.vgg"),
    ] {
        let path = dir.path().join(name);
        save(model, &path);
        models.push(path);
    }
    if let Some(folder) = std::env::var_os("VGG_EDGE_MODELS").map(PathBuf::from) {
        let more = files(&folder).into_iter().filter(|p| p.extension().is_some_and(|e| e == "vgg"));
        models.extend(more);
        assert!(models.len() > 5, "{}: no model", folder.display());
    }
    (dir, models)
}

/// The same model with 8 weights together in its convolutions, as boards with matrix products have it.
fn k8(mut model: NewModel) -> NewModel {
    for layer in &mut model.layers {
        if let NewOp::Conv { linear, .. } = &mut layer.op {
            linear.layout = S8Layout::K8;
        }
    }
    model
}

fn save(model: NewModel, path: &Path) {
    let mut bytes = Vec::new();
    write(model, &mut bytes).expect("a legal model");
    fs::write(path, bytes).expect("a file in a temporary folder");
}

/// Kernels that the program's machine has, best first, as `verify` lists them.
fn kernels(model: &Path) -> Vec<String> {
    let ran = run(classify().arg("verify").arg(model));
    assert_eq!(ran.code, Some(0), "{}: {ran:?}", model.display());
    let names = ran.stdout.lines().filter_map(|line| line.strip_prefix("self-test  ok, "));
    names.map(str::to_owned).collect()
}

/// Whether `kernel` says that it repacks layers of the blob: it changes their algorithm, not only the order of weights.
fn repacks(blob: &Blob<'_>, kernel: &str) -> bool {
    let direct = ["dotprod", "i8mm"].contains(&variant(kernel));
    let repacked = |op: &LayerOp<'_>| matches!(op, LayerOp::Conv { linear, .. } if direct && linear.weights.layout() == Layout::S16W36O8);
    blob.layers().any(|layer| repacked(&layer.op))
}

/// Pictures of several sizes and kinds.
fn pictures() -> Vec<PathBuf> {
    let root = workspace_root();
    let mut pictures = files(&root.join("device/engine/tests/fixtures/pictures"));
    let test = files(&root.join("tests/fixtures/cifar10/test"));
    pictures.extend(test.into_iter().step_by(150));
    pictures.retain(|path| path.extension().is_some_and(|e| e == "png" || e == "jpg"));
    assert!(pictures.len() > 20, "{} pictures", pictures.len());
    pictures
}

/// The best five of a picture on this machine's specification kernel: class and probability.
fn answer(blob: &Blob<'_>, picture: &Path) -> Vec<(u64, f32)> {
    answer_image(blob, decode(&fs::read(picture).expect("a fixture"), Limits::default()).expect("a picture"))
}

fn answer_image(blob: &Blob<'_>, image: Image) -> Vec<(u64, f32)> {
    let scalar = by_name("scalar").expect("the specification runs everywhere");
    let mut engine = Engine::new(blob, scalar, &Serial, Options::default()).expect("a small network");
    let logits = engine.run(&prepare(image, blob.preprocess(), blob.input())).expect("the input's size");
    let mut probabilities = logits.to_vec();
    softmax(&mut probabilities);
    top_k(&probabilities, 5).iter().map(|top| (top.class as u64, top.score)).collect()
}

/// Answers in the program's JSON lines.
fn answers(stdout: &str) -> Vec<Vec<(u64, f32)>> {
    let one = |top: &Value| {
        let class = top["class"].as_u64().expect("a class");
        (class, top["probability"].as_f64().expect("a probability") as f32)
    };
    stdout
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("a line of JSON");
            line["top"].as_array().expect("the best classes").iter().map(one).collect()
        })
        .collect()
}

#[test]
fn every_kernel_repeats_every_models_self_test() {
    let (_dir, models) = models();
    for model in &models {
        let names = kernels(model);
        println!("{}: {}", model.file_name().unwrap_or_default().display(), names.join(" "));
        assert_eq!(names.last().map(String::as_str), Some("generic-s8-scalar"));
        if let Ok(expected) = std::env::var("VGG_EDGE_EXPECT_KERNELS") {
            let found: Vec<&str> = names.iter().map(|name| variant(name)).collect();
            assert_eq!(found, expected.split_whitespace().collect::<Vec<_>>(), "kernels, best first");
        }
    }
}

#[test]
fn every_kernel_and_thread_count_gives_this_machines_answers() {
    let (_dir, models) = models();
    let pictures = pictures();
    for model in &models {
        let mut bytes = AlignedBytes::default();
        std::io::copy(&mut fs::File::open(model).expect("a model"), &mut bytes).expect("a model's bytes");
        let blob = Blob::parse(bytes.as_slice()).expect("a model");
        let expected: Vec<_> = pictures.iter().map(|picture| answer(&blob, picture)).collect();
        for kernel in kernels(model) {
            let warnings = usize::from(repacks(&blob, &kernel));
            for threads in THREADS {
                let mut program = classify();
                program.args(["run", "--json", "--kernel", &kernel, "--threads", threads]);
                let ran = run(program.arg(model).args(&pictures));
                assert_eq!(
                    (ran.code, ran.stderr.lines().count()),
                    (Some(0), warnings),
                    "{program:?}: {ran:?}"
                );
                assert!(warnings == 0 || ran.stderr.starts_with("warning: "), "{program:?}: {ran:?}");
                let found = answers(&ran.stdout);
                assert_eq!(found.len(), expected.len(), "{program:?}");
                for ((found, expected), picture) in found.iter().zip(&expected).zip(&pictures) {
                    let at = format!("{}, {kernel}, {threads} threads", picture.display());
                    assert_eq!(found, expected, "{}: {at}", model.display());
                }
            }
        }
    }
}

/// Recordings in a camera's place: pictures in a folder, and gray YUYV frames, whose pixels are known.
#[test]
fn the_camera_gives_this_machines_answers() {
    let (dir, models) = models();
    let pictures = pictures();
    let folder = dir.path().join("pictures");
    fs::create_dir(&folder).expect("a folder in a temporary folder");
    for (i, picture) in pictures.iter().enumerate() {
        let extension = picture.extension().unwrap_or_default().display();
        fs::copy(picture, folder.join(format!("{i:03}.{extension}"))).expect("a copy of a picture");
    }
    // Frames of 20x10 pixels; gray is (Y - 16) 255/219, which is never halfway between two numbers.
    let (width, height) = (20, 10);
    let luma = |frame: usize, i: usize| (16 + (frame * 31 + i * i * 7 + i) % 220) as u8;
    let frames: Vec<u8> =
        (0..4).flat_map(|frame| (0..width * height).flat_map(move |i| [luma(frame, i), 128])).collect();
    let clip = dir.path().join("clip.yuyv");
    fs::write(&clip, &frames).expect("a file in a temporary folder");
    let gray = |y: u8| ((f64::from(y) - 16.0) * 255.0 / 219.0).round().clamp(0.0, 255.0) as u8;
    for model in &models {
        let mut bytes = AlignedBytes::default();
        std::io::copy(&mut fs::File::open(model).expect("a model"), &mut bytes).expect("a model's bytes");
        let blob = Blob::parse(bytes.as_slice()).expect("a model");
        let watch = |source: String, more: &[&str]| {
            let mut program = classify();
            let ran = run(program.args(["camera", "--json"]).args(more).arg(model).arg(source));
            assert_eq!(ran.code, Some(0), "{program:?}: {ran:?}");
            answers(&ran.stdout)
        };
        let expected: Vec<_> = pictures.iter().map(|picture| answer(&blob, picture)).collect();
        assert!(watch(format!("file:{}", folder.display()), &[]) == expected, "{}", model.display());
        let expected: Vec<_> = frames
            .chunks(width * height * 2)
            .map(|frame| {
                let rgb = frame.iter().step_by(2).flat_map(|&y| [gray(y); 3]).collect();
                answer_image(&blob, Image::new(rgb, width, height, 3).expect("a picture"))
            })
            .collect();
        let size = format!("{width}x{height}");
        let found = watch(format!("file:{}", clip.display()), &["--size", &size]);
        assert_eq!(found, expected, "{}", model.display());
    }
}

/// The self-test compares logits bit for bit with those that the workstation's fastest kernel gave.
#[test]
fn every_kernel_and_thread_count_repeats_large_models_self_tests() {
    let Some(folder) = std::env::var_os("VGG_EDGE_LARGE_MODELS").map(PathBuf::from) else {
        println!("VGG_EDGE_LARGE_MODELS is not set: no large model tested");
        return;
    };
    let models: Vec<PathBuf> =
        files(&folder).into_iter().filter(|p| p.extension().is_some_and(|e| e == "vgg")).collect();
    assert!(!models.is_empty(), "{}: no model", folder.display());
    let (_dir, small) = self::models();
    for model in &models {
        for kernel in kernels(&small[0]) {
            for threads in THREADS {
                let mut program = classify();
                program.args(["verify", "--kernel", &kernel, "--threads", threads]).arg(model);
                let ran = run(&mut program);
                assert_eq!(ran.code, Some(0), "{program:?}: {ran:?}");
                assert!(ran.stdout.ends_with(&format!("self-test  ok, {kernel}\n")), "{ran:?}");
                println!("{}: {kernel}, {threads} threads", model.file_name().unwrap_or_default().display());
            }
        }
    }
}

/// One line says what was repacked, and an option keeps the file's algorithm; the answers are the same.
#[test]
fn repacking_is_said_in_one_line_and_changes_no_answer() {
    let dir = temp_dir();
    let path = dir.path().join(WINOGRAD);
    save(winograd_of_two_blocks(), &path);
    let picture = pictures().swap_remove(0);
    for kernel in kernels(&path) {
        let with = |more: &[&str]| {
            let mut program = classify();
            let ran = run(program.args(["run", "--kernel", &kernel]).args(more).arg(&path).arg(&picture));
            assert_eq!(ran.code, Some(0), "{program:?}: {ran:?}");
            ran
        };
        let (repacked, as_it_is) = (with(&[]), with(&["--no-repack"]));
        let line = format!(
            "warning: {}: made for another CPU, 3 layers repacked for {kernel} (s16-w36o8 to s8-o8k4, 10 KiB); --no-repack runs them as they are\n",
            path.display()
        );
        match variant(&kernel) {
            "dotprod" => assert_eq!(repacked.stderr, line),
            // The directly used layers as well, in the layout for matrix products.
            "i8mm" => {
                let lines: Vec<&str> = repacked.stderr.lines().collect();
                assert_eq!(lines.len(), 1, "{lines:?}");
                assert!(lines[0].contains("s16-w36o8 to s8-o8k8"), "{lines:?}");
                assert!(lines[0].ends_with("; --no-repack runs them as they are"), "{lines:?}");
            }
            _ => assert_eq!(repacked.stderr, ""),
        }
        assert_eq!(as_it_is.stderr, "", "{kernel}");
        assert_eq!(repacked.stdout, as_it_is.stdout, "{kernel}");
    }
}

#[test]
fn a_wrong_self_test_is_found() {
    let dir = temp_dir();
    let path = dir.path().join("wrong.vgg");
    let mut model = vgg_of_two_blocks(Scheme::Int8);
    if let Some((_, logits)) = &mut model.golden {
        logits[3] = f32::from_bits(logits[3].to_bits() ^ 1);
    }
    save(model, &path);
    let ran = run(classify().arg("verify").arg(&path));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("self-test"), "{ran:?}");
}
