//! The host program from outside: exit codes, standard output and standard error, word for word.
//!
//! Every command runs in a folder of its own, so that messages hold relative names.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use vgg_edge_blob::{AlignedBytes, Blob, LayerOp, Layout};
use vgg_edge_tests::{Ran, TempDir, run, temp_dir, workspace_root};

/// `small_vgg.h5` with its sidecars, and `calib/` with a picture of each of two classes.
fn folder() -> TempDir {
    let dir = temp_dir();
    for file in ["small_vgg.h5", "small_vgg.preprocess.toml", "small_vgg.labels.txt"] {
        copy(&fixture(&format!("small_vgg/{file}")), &dir.path().join(file));
    }
    for class in ["cat", "dog"] {
        let to = dir.path().join("calib").join(class);
        fs::create_dir_all(&to).unwrap();
        let from = fixture(&format!("cifar10/calib/{class}"));
        let first = fs::read_dir(from).unwrap().map(|e| e.unwrap().path()).min().unwrap();
        copy(&first, &to.join("a.jpg"));
    }
    dir
}

fn fixture(name: &str) -> PathBuf {
    workspace_root().join("tests/fixtures").join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
}

/// Runs the program in `dir`.
fn host(dir: &Path, words: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
    run(command.args(words.split_whitespace()).current_dir(dir))
}

/// `quantize` of the bundled network with two pictures, into `m.vgg`.
fn quantized() -> TempDir {
    let dir = folder();
    let ran = host(dir.path(), "quantize small_vgg.h5 --calib calib -o m.vgg");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    dir
}

/// What a failure prints: one line, and a hint behind an empty line where there is one.
fn fails(dir: &Path, words: &str, expected: &str) {
    let before = listing(dir);
    let ran = host(dir, words);
    let from_error = ran.stderr.find("error: ").map_or("", |at| &ran.stderr[at..]);
    assert_eq!(
        (ran.code, from_error, ran.stdout.as_str()),
        (Some(1), expected, ""),
        "{words}: {}",
        ran.stderr
    );
    assert_eq!(listing(dir), before, "{words} left something behind");
}

fn listing(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names
}

#[test]
fn quantize_prints_what_it_did_and_eval_gives_stable_json() {
    let dir = folder();
    let ran = host(dir.path(), "quantize small_vgg.h5 --calib calib -o m.vgg");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (table, rest) = ran.stdout.split_once("\n\n").expect("a table and a list");
    let rows: Vec<f32> =
        table.lines().skip(1).map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(rows.len(), 20, "{table}");
    assert!(rows.is_sorted(), "worst first: {table}");
    let names: Vec<&str> = rest.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["scheme", "ranges", "weights", "agreement", "plan", "arena", "size", "written"]);
    assert!(rest.contains("ranges     auto\n") && rest.ends_with("written    m.vgg\n"), "{rest}");
    let notes: Vec<&str> = ran.stderr.lines().take(5).collect();
    assert_eq!(
        notes,
        [
            "weights: small_vgg.h5, Keras HDF5 model, input 32x32x3, 10 classes",
            "preprocess: small_vgg.preprocess.toml",
            "labels: small_vgg.labels.txt",
            "calibration: calib, 2 pictures",
            "warning: 2 calibration pictures are few; ranges are reliable from about 32 on",
        ]
    );
    let ran = host(dir.path(), "eval m.vgg --data calib --reference small_vgg.h5 --json");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["pictures"], 2);
    let rates = [&json["top1"], &json["top5"], &json["reference"]["top1"], &json["reference"]["top5"]];
    for rate in rates.into_iter().chain([&json["agreement"], &json["mean_kl"]]) {
        assert!((0.0..=1.0).contains(&rate.as_f64().unwrap()), "{json}");
    }
}

#[test]
fn inspect_prints_the_summary_of_weights_and_of_a_blob() {
    let dir = quantized();
    let ran = host(dir.path(), "inspect small_vgg.h5");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.starts_with("Model: \"vgg16\"\nLayer (type) "), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nTotal params: 937,474\n"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("dropout"), "{}", ran.stdout);
    let ran = host(dir.path(), "inspect small_vgg.h5 --as-stored");
    assert!(ran.stdout.starts_with("Model: \"small_vgg\"\nLayer (type) "), "{}", ran.stdout);
    assert!(ran.stdout.contains("\ndropout_1 (Dropout) "), "{}", ran.stdout);
    let ran = host(dir.path(), "inspect m.vgg --json");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["scheme"], &json["classes"]), (&"int8".into(), &10.into()), "{json}");
    assert_eq!(json["layers"].as_array().unwrap().len(), 20);
    assert_eq!(json["metadata"]["calibration_pictures"], 2);
}

#[test]
fn usage_errors_exit_2() {
    let dir = temp_dir();
    for words in [
        "",
        "nonsense",
        "quantize",
        "quantize a.h5 -o b",
        "eval m.vgg",
        "quantize a --calib b -o c --scheme int3",
    ] {
        let ran = host(dir.path(), words);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{words}");
        assert!(
            ran.stderr.contains("Usage: ") || ran.stderr.contains("try '--help'"),
            "{words}: {}",
            ran.stderr
        );
    }
}

#[test]
fn weights_that_are_none() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("text.h5"), "these are no weights\n").unwrap();
    fs::write(at("zero.h5"), "").unwrap();
    let whole = fs::read(at("small_vgg.h5")).unwrap();
    fs::write(at("half.h5"), &whole[..whole.len() / 2]).unwrap();
    copy(&at("small_vgg.h5"), &at("alone.h5"));
    let out = "--calib calib -o m.vgg";
    let preset = "--preprocess unit";
    fails(
        dir.path(),
        &format!("quantize none.h5 {out}"),
        "error: import none.h5: cannot read: No such file or directory (os error 2)\n",
    );
    fails(
        dir.path(),
        &format!("quantize text.h5 {out} {preset}"),
        "error: import text.h5: the file is text, expected Keras (.keras, .h5), PyTorch (.pth), safetensors, ONNX or TFLite\n",
    );
    fails(
        dir.path(),
        &format!("quantize zero.h5 {out} {preset}"),
        "error: import zero.h5: the file is empty, expected Keras (.keras, .h5), PyTorch (.pth), safetensors, ONNX or TFLite\n",
    );
    let ran = host(dir.path(), &format!("quantize half.h5 {out} {preset}"));
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.starts_with("error: import half.h5: ") && ran.stderr.lines().count() == 1,
        "{}",
        ran.stderr
    );
    fails(
        dir.path(),
        &format!("quantize alone.h5 {out}"),
        "error: no preprocessing for alone.h5: found no alone.preprocess.toml, expected that file or a preset \
         (keras-caffe, torchvision, unit, tf)\n\nhint: pass the rule the network was trained with: `--preprocess \
         keras-caffe` for Keras' VGG16, `--preprocess torchvision` for torchvision's\n",
    );
    fails(
        dir.path(),
        &format!("quantize alone.h5 {out} --preprocess caffe"),
        "error: preprocessing is `caffe`, expected keras-caffe, torchvision, unit, tf or a .toml file\n",
    );
}

#[test]
fn pictures_that_are_none() {
    let dir = folder();
    let calib = dir.path().join("calib");
    let picture = fs::read(calib.join("cat/a.jpg")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    let quantize = "quantize small_vgg.h5 -o m.vgg --calib";
    fails(
        dir.path(),
        &format!("{quantize} empty"),
        "error: folder empty: no .jpg, .jpeg, .png, .webp, .bmp picture in it or its sub-folders\n",
    );
    fails(
        dir.path(),
        &format!("{quantize} gone"),
        "error: folder gone: No such file or directory (os error 2)\n",
    );
    // A header that promises 100,000 x 100,000 pixels.
    let mut huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\x86\xa0\0\x01\x86\xa0\x08\x02\0\0\0".to_vec();
    huge.extend(crc32fast::hash(&huge[12..]).to_be_bytes());
    let cases: [(&[u8], &str); 4] = [
        (b"", "0 bytes, expected a JPEG, PNG, WebP or BMP picture"),
        (&picture[..picture.len() / 2], "JPEG picture is cut off"),
        (b"no picture", "not a picture: starts with 6e 6f 20 70, expected JPEG (ff d8 ff), PNG"),
        (&huge, "100000x100000 pixels, the limit is"),
    ];
    for (bytes, message) in cases {
        fs::write(calib.join("dog/a.jpg"), bytes).unwrap();
        let before = listing(dir.path());
        let ran = host(dir.path(), &format!("{quantize} calib"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{message}");
        let error = &ran.stderr[ran.stderr.find("error: ").unwrap()..];
        assert!(error.starts_with("error: calibrate: picture calib/dog/a.jpg: "), "{error}");
        assert!(error.contains(message) && error.lines().count() == 1, "{error}, expected {message}");
        assert_eq!(listing(dir.path()), before, "{message}");
    }
    // Unusual, but pictures: gray, CMYK, 16 bit.
    let kinds = workspace_root().join("device/engine/tests/fixtures/pictures");
    let unusual: Vec<PathBuf> = vgg_edge_tests::files(&kinds);
    let unusual = unusual.iter().filter(|p| {
        let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ["gray", "cmyk", "16"].iter().any(|kind| name.contains(kind)) && !name.ends_with(".bin")
    });
    let mut n = 0;
    for path in unusual {
        copy(path, &calib.join("dog").join(path.file_name().unwrap()));
        n += 1;
    }
    assert!(n >= 3, "{n} unusual pictures in {}", kinds.display());
    copy(&calib.join("cat/a.jpg"), &calib.join("dog/a.jpg"));
    let ran = host(dir.path(), &format!("{quantize} calib"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

/// Ranges that clip half of all values leave nothing of the network: no plan is inside the gate, and nothing is written.
#[test]
fn the_gate_refuses_what_loses_too_much() {
    let dir = folder();
    fails(
        dir.path(),
        "quantize small_vgg.h5 --calib calib -o m.vgg --percentile 51 --data calib --max-drop 0",
        "error: exact int8 loses 50.0000 points of top-1 (counted) on 2 pictures, allowed are 0\n\nhint: allow more with \
         `--max-drop`, calibrate on more pictures like those the network will see, or use `--scheme f16`\n",
    );
}

#[test]
fn quantize_for_speed_says_what_it_chose_and_lost() {
    let dir = folder();
    let ran = host(dir.path(), "quantize small_vgg.h5 --calib calib -o m.vgg --board rpi5 --max-drop 100");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.starts_with("layer         algorithm      predicted  SQNR dB\n"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("\nplan       rpi5: ") && ran.stdout.contains(" winograd8-f"),
        "{}",
        ran.stdout
    );
    let drop = ran.stdout.lines().find(|l| l.starts_with("drop ")).expect("a drop");
    assert!(drop.ends_with(" points of top-1 (expected) on 2 calibration pictures, allowed 100"), "{drop}");
    let again =
        host(dir.path(), "quantize small_vgg.h5 --calib calib -o e.vgg --board rpi5 --max-drop 100 --exact");
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(!again.stdout.contains("winograd8"), "{}", again.stdout);
}

/// Matrix products read 8 values together: exact and planned layers of such a board lie so, dense ones as everywhere.
#[test]
fn convolutions_lie_as_the_boards_kernel_reads_them() {
    let dir = folder();
    let layouts = |options: &str| -> Vec<&'static str> {
        let ran = host(dir.path(), &format!("quantize small_vgg.h5 --calib calib -o m.vgg {options}"));
        assert_eq!(ran.code, Some(0), "{options}: {}", ran.stderr);
        let mut bytes = AlignedBytes::default();
        std::io::copy(&mut fs::File::open(dir.path().join("m.vgg")).unwrap(), &mut bytes).unwrap();
        let blob = Blob::parse(bytes.as_slice()).unwrap();
        let layout = |op: &LayerOp<'_>| match op {
            LayerOp::Conv { linear, .. } => Some((true, linear.weights.layout())),
            LayerOp::Dense(linear) => Some((false, linear.weights.layout())),
            _ => None,
        };
        let found: Vec<_> = blob.layers().filter_map(|layer| layout(&layer.op)).collect();
        let k8 = [Layout::S8O8K8, Layout::S8W16O8K8, Layout::S8W36O8K8];
        let i8mm = options.contains("i8mm");
        assert!(
            found.iter().all(|(conv, layout)| k8.contains(layout) == (*conv && i8mm)),
            "{options}: {found:?}"
        );
        assert!(found.iter().any(|(conv, _)| *conv) && found.iter().any(|(conv, _)| !*conv));
        found.iter().map(|(_, layout)| layout.name()).collect()
    };
    assert!(layouts("--board armv8-i8mm").contains(&"s8-o8k8"));
    layouts("--board armv8-i8mm --max-drop 100");
    layouts("--board rpi5");
}

#[test]
fn options_and_labels_that_do_not_fit() {
    let dir = folder();
    fs::write(dir.path().join("two.txt"), "cat\ndog\n").unwrap();
    let quantize = "quantize small_vgg.h5 --calib calib -o m.vgg";
    for (options, message) in [
        ("--percentile 30", "--percentile is 30, expected more than 50, at most 100"),
        ("--method minmax --percentile 99", "--percentile goes with --method percentile"),
        ("--scheme f16 --method minmax", "--method and --percentile go with --scheme int8 and int8-fc4"),
        (
            "--scheme f16 --rounding nearest",
            "--rounding, --equalize and --no-bias-correction go with --scheme int8 and int8-fc4",
        ),
        ("--method mse --equalize", "--equalize goes with --method auto and minmax"),
        ("--method entropy --equalize", "--equalize goes with --method auto and minmax"),
        ("--percentile 99.9 --equalize", "--equalize goes with --method auto and minmax"),
        ("--max-pictures 0", "--max-pictures is 0, expected at least 1"),
        ("--max-drop=-1", "--max-drop is -1, expected points of top-1, from 0 to 100"),
        ("--max-drop nan", "--max-drop is NaN, expected points of top-1, from 0 to 100"),
        ("--data calib", "--data goes with --max-drop"),
        ("--scheme f16 --max-drop 1", "--max-drop and --exact go with --scheme int8 and int8-fc4"),
        ("--scheme f16 --exact", "--max-drop and --exact go with --scheme int8 and int8-fc4"),
        ("--max-drop 1 --data none", "folder none: No such file or directory (os error 2)"),
        ("--labels two.txt", "2 labels, the network has 10 classes"),
        ("--labels none.txt", "labels none.txt: No such file or directory (os error 2)"),
    ] {
        fails(dir.path(), &format!("{quantize} {options}"), &format!("error: {message}\n"));
    }
}

#[test]
fn outputs_that_cannot_be_written_leave_nothing_behind() {
    let dir = folder();
    fs::create_dir(dir.path().join("folder.vgg")).unwrap();
    let quantize = "quantize small_vgg.h5 --calib calib -o";
    let ran = |output: &str| {
        let before = listing(dir.path());
        let ran = host(dir.path(), &format!("{quantize} {output}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{output}");
        assert_eq!(listing(dir.path()), before, "{output}");
        ran.stderr[ran.stderr.find("error: ").unwrap()..].to_owned()
    };
    for output in ["gone/m.vgg", "folder.vgg", "/proc/m.vgg"] {
        let error = ran(output);
        assert!(error.starts_with(&format!("error: cannot write {output}: ")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    full_disk(&dir, &ran);
}

/// A file system of 64 KiB; mounting takes root, which CI is.
fn full_disk(dir: &TempDir, ran: &dyn Fn(&str) -> String) {
    let small = dir.path().join("small");
    fs::create_dir(&small).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&small).output();
    if !mount.is_ok_and(|m| m.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "a small tmpfs cannot be mounted");
        println!("left out: a full disk, since mounting a tmpfs takes root");
        return;
    }
    let error = ran("small/m.vgg");
    let left = listing(&small);
    let unmounted = Command::new("umount").arg(&small).status();
    assert_eq!(error, "error: cannot write small/m.vgg: No space left on device (os error 28)\n");
    assert!(left.is_empty(), "left behind: {left:?}");
    assert!(unmounted.is_ok_and(|s| s.success()));
}

#[test]
fn blobs_that_are_damaged() {
    let dir = quantized();
    let at = |name: &str| dir.path().join(name);
    let whole = fs::read(at("m.vgg")).unwrap();
    let eval = |model: &str| format!("eval {model} --data calib");
    let damaged = "\n\nhint: the copy may be incomplete or damaged; create or copy it again\n";
    let newer = |file: &Path, at: u64, byte: u8| {
        let mut file = fs::OpenOptions::new().write(true).open(file).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    fs::write(at("cut.vgg"), &whole[..5000]).unwrap();
    let message = format!(
        "error: cannot load cut.vgg: the file has 5000 bytes, its header says {}{damaged}",
        whole.len()
    );
    fails(dir.path(), &eval("cut.vgg"), &message);
    copy(&at("m.vgg"), &at("new.vgg"));
    newer(&at("new.vgg"), 4, 9);
    fails(
        dir.path(),
        &eval("new.vgg"),
        "error: cannot load new.vgg: blob version 9, this program reads version 1\n\nhint: re-create the blob with \
         `cargo xtask quantize`, or use the program version that wrote it\n",
    );
    copy(&at("m.vgg"), &at("flip.vgg"));
    newer(&at("flip.vgg"), whole.len() as u64 - 1000, whole[whole.len() - 1000] ^ 1);
    let ran = host(dir.path(), &eval("flip.vgg"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("checksum") && ran.stderr.ends_with(damaged), "{}", ran.stderr);
}

#[test]
fn data_that_eval_cannot_number() {
    let dir = quantized();
    fs::create_dir_all(dir.path().join("named/cow")).unwrap();
    copy(&dir.path().join("calib/cat/a.jpg"), &dir.path().join("named/cow/a.jpg"));
    fs::create_dir(dir.path().join("flat")).unwrap();
    copy(&dir.path().join("calib/cat/a.jpg"), &dir.path().join("flat/a.jpg"));
    fails(
        dir.path(),
        "eval m.vgg --data named",
        "error: folder named: sub-folder `cow` is not a label of the network\n",
    );
    fails(
        dir.path(),
        "eval m.vgg --data flat",
        "error: folder flat: no sub-folder with pictures, expected one a class\n",
    );
}

#[test]
fn eval_says_how_sure_it_is_and_where_it_is_wrong() {
    let dir = quantized();
    let ran = host(dir.path(), "eval m.vgg --data calib --reference small_vgg.h5");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let head: Vec<&str> = ran.stdout.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(head[..6], ["pictures", "top-1", "top-5", "reference", "drop", "agreement"], "{}", ran.stdout);
    assert!(ran.stdout.contains("top-5      100.00 % (34.24 to 100.00)\n"), "{}", ran.stdout);
    // Two networks against a flat folder: no classes, but each other.
    fs::create_dir(dir.path().join("flat")).unwrap();
    copy(&dir.path().join("calib/cat/a.jpg"), &dir.path().join("flat/a.jpg"));
    let ran = host(dir.path(), "eval m.vgg --data flat --reference small_vgg.h5 --json");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["pictures"], &json["agreement"]), (&1.into(), &1.0.into()), "{json}");
    assert_eq!((json.get("top1"), json.get("reference"), json.get("drop")), (None, None, None), "{json}");
    assert_eq!(json["worst"][0]["picture"], "a.jpg");
}

#[test]
fn compare_walks_the_layers_and_stops_at_the_first_bad_one() {
    let dir = quantized();
    let compare = "compare small_vgg.h5 m.vgg --image calib/cat/a.jpg";
    let ran = host(dir.path(), &format!("{compare} --dump d"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let names: Vec<&str> = ran.stdout.lines().map(|l| l.split_whitespace().next().unwrap()).collect();
    assert_eq!((names.len(), names[1], names[20]), (21, "block1_conv1", "dense_1"), "{}", ran.stdout);
    let dumped = listing(&dir.path().join("d"));
    assert_eq!(dumped.len(), 40);
    let values = |name: &str| fs::metadata(dir.path().join("d").join(name)).unwrap().len() - 128;
    assert_eq!(values("01_block1_conv1.f32.npy"), 4 * 32 * 32 * 16);
    assert_eq!(values("20_dense_1.model.npy"), 4 * 10);
    let ran = host(dir.path(), &format!("{compare} --floor 99 --json"));
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((json["layers"].as_array().unwrap().len(), &json["first_bad"]), (1, &"block1_conv1".into()));
    assert!(ran.stderr.contains("error: layer `block1_conv1`: ") && ran.code == Some(1), "{}", ran.stderr);
    let ran = host(dir.path(), &format!("{compare} --preprocess unit"));
    assert_eq!(ran.code, Some(1));
    let message = "error: the model's preprocessing is rgb, scale 0.003921569, mean [0.4914, 0.4822, 0.4465]";
    assert!(ran.stderr.contains(message), "{}", ran.stderr);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let dir = folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
    command.args(["inspect", "small_vgg.h5"]).current_dir(dir.path());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = run_with(command.stdout(writer));
    assert_eq!((ran.0, ran.1.as_str()), (Some(0), ""));
}

/// Exit code and standard error of a program whose standard output goes elsewhere.
fn run_with(command: &mut Command) -> (Option<i32>, String) {
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_the_file_does_not_say() {
    let dir = temp_dir();
    copy(&fixture("import/keras/base.weights.h5"), &dir.path().join("base.weights.h5"));
    copy(&fixture("import/keras/vgg_keras2.weights.h5"), &dir.path().join("vgg.weights.h5"));
    fails(
        dir.path(),
        "inspect base.weights.h5",
        "error: import base.weights.h5: the input size is not in the file (a network without dense layers takes any), \
         expected it to be given\n\nhint: say the size of the pictures: `--input 224x224`, or `--input 224x224x1` for \
         gray ones\n",
    );
    fails(
        dir.path(),
        "inspect vgg.weights.h5",
        "error: import vgg.weights.h5: layer `conv2d`: name says neither convolution block nor pooling, expected names \
         as block1_conv1 and block1_pool, or an architecture\n\nhint: name the architecture: `--arch vgg16`\n",
    );
    let ran = host(dir.path(), "inspect base.weights.h5 --input 32x32 --json");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (ran.code, &json["params"], &json["rows"][5]["output"]),
        (Some(0), &1192.into(), &[8, 8, 8].into())
    );
}

/// `include_top=False`: no classes, no agreement, no labels.
#[test]
fn a_feature_extractor_is_quantized_and_not_evaluated() {
    let dir = folder();
    copy(&fixture("import/keras/base.keras"), &dir.path().join("base.keras"));
    let ran = host(dir.path(), "quantize base.keras --calib calib -o m.vgg --preprocess unit");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let line = "weights: base.keras, Keras archive (.keras), input 32x32x3, features 8x8x8";
    assert!(ran.stderr.contains(line), "{}", ran.stderr);
    assert!(!ran.stdout.contains("agreement"), "{}", ran.stdout);
    fails(
        dir.path(),
        "eval m.vgg --data calib",
        "error: the model is a feature extractor, expected class scores\n",
    );
    fails(
        dir.path(),
        "eval base.keras --data calib --preprocess unit",
        "error: the network ends in 8x8x8, expected class scores\n",
    );
}
