//! `estimate`: exit code, standard output and standard error, word for word but for the figures, which follow the kernels.

use std::fs;
use std::path::Path;
use std::process::Command;

use vgg_edge_blob::{Algorithm, NewModel, NewOp, Scheme};
use vgg_edge_host::pack;
use vgg_edge_tests::{Ran, TempDir, run, temp_dir, vgg_of_two_blocks, workspace_root};

fn host(dir: &Path, words: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
    run(command.arg("estimate").args(words.split_whitespace()).current_dir(dir))
}

fn save(dir: &Path, name: &str, model: NewModel) {
    fs::write(dir.join(name), pack::to_bytes(model).unwrap().as_slice()).unwrap();
}

/// `m.vgg`: two blocks, planned for a Pi 4, one layer in Winograd; `f16.vgg`; `small_vgg.h5`.
fn folder() -> TempDir {
    let dir = temp_dir();
    let mut model = vgg_of_two_blocks(Scheme::Int8);
    model.metadata = r#"{"board": "rpi4", "predicted_sqnr_db": {"layer1": 35.5}}"#.to_owned();
    model.layers[0].sqnr_db = 40.25;
    let NewOp::Conv { algorithm, .. } = &mut model.layers[1].op else { panic!("layer 1 is a convolution") };
    *algorithm = Algorithm::WinogradF43;
    save(dir.path(), "m.vgg", model);
    save(dir.path(), "f16.vgg", vgg_of_two_blocks(Scheme::F16));
    let weights = workspace_root().join("tests/fixtures/small_vgg/small_vgg.h5");
    fs::copy(weights, dir.path().join("small_vgg.h5")).unwrap();
    dir
}

/// Numbers with a point become `#`, resources `@`, runs of blanks one: figures follow the kernels, words do not.
fn words(text: &str) -> String {
    let resources = ["issue", "F", "F0", "F1", "V", "V0", "V1", "L", "S", "I"];
    let word = |word: &str| match word.parse::<f64>() {
        Ok(_) if word.contains('.') => "#".to_owned(),
        Err(_) if resources.contains(&word) => "@".to_owned(),
        _ => word.to_owned(),
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ") + "\n";
    text.lines().map(line).collect()
}

#[test]
fn a_blob_as_it_is() {
    let dir = folder();
    let ran = host(dir.path(), "m.vgg --board rpi4");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let (head, table) = ran.stdout.split_once("\n\n").unwrap();
    assert_eq!(
        head,
        "Pi 4 (rpi4): 4 cores a72 at 1.8 GHz, 4.5 GB/s; ms: 1.45 x the port model's bound, as published for another engine"
    );
    let expected = "\
layer algorithm kernel tile binds M cycles MB ms, 1 ms, 4 predicted dB SQNR dB
[picture] picture - - @ # # # # - -
layer0 first neon 4 pixels x 8 @ # # # # - #
layer1 winograd-f43 neon 12 tiles x 8 @ # # # # # -
layer2 pool - - @ # # # # - -
layer3 direct neon 4 pixels x 8 @ # # # # - -
layer4 direct neon 4 pixels x 8 @ # # # # - -
layer5 direct neon 4 pixels x 8 @ # # # # - -
layer6 pool - - @ # # # # - -
layer7 average - - @ # # # # - -
layer8 dense neon 1 pixel x 8 @ # # # # - -
layer9 dense neon 1 pixel x 8 @ # # # # - -
[output] output - - @ # # # # - -
total - - - - # # # # - -

arena # kB
file # kB
";
    assert_eq!(words(table), expected, "{table}");
    // The blob's own board is the default.
    assert_eq!(host(dir.path(), "m.vgg"), ran);
}

#[test]
fn another_board_is_told() {
    let dir = folder();
    let ran = host(dir.path(), "m.vgg --board rpi5");
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.contains("dotprod  8 pixels x 8"), "{}", ran.stdout);
    assert!(ran.stderr.starts_with("warning: planned for rpi4, estimated for rpi5"), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[test]
fn compare_shows_every_algorithm_and_marks_the_chosen_one() {
    let dir = folder();
    let ran = host(dir.path(), "m.vgg --compare --threads 2");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let (_, table) = ran.stdout.split_once("\n\n").unwrap();
    let expected = "\
layer algorithm exact M cycles MB ms, 2 chosen
layer1 direct yes # # #
layer1 winograd-f43 yes # # # <--
layer1 winograd-f43-filters yes # # #
layer1 winograd8-f23 no # # #
layer1 winograd8-f43 no # # #
layer3 direct yes # # # <--
";
    assert!(words(table).starts_with(expected), "{table}");
    let ran = host(dir.path(), "f16.vgg --compare");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert_eq!(ran.stderr, "error: found no int8 3x3 layer behind the first, expected one to compare\n");
}

#[test]
fn json_has_the_same_rows() {
    let dir = folder();
    let ran = host(dir.path(), "m.vgg --board rpi4 --json --compare");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["board"], &json["threads"]), (&"rpi4".into(), &4.into()));
    let rows = json["layers"].as_array().unwrap();
    assert_eq!(rows.len(), 12);
    assert_eq!(
        (&rows[2]["algorithm"], &rows[2]["predicted_sqnr_db"]),
        (&"winograd-f43".into(), &35.5.into())
    );
    assert_eq!(rows[1]["sqnr_db"], 40.25);
    for sum in ["cycles", "bytes", "ms_1", "ms_n"] {
        let all: f64 = rows.iter().map(|row| row[sum].as_f64().unwrap()).sum();
        assert_eq!(json["total"][sum].as_f64().unwrap(), all, "{sum}");
        assert!(all > 0.0, "{sum}");
    }
    let ms = |row: &serde_json::Value| [&row["ms_1"], &row["ms_n"]].map(|ms| ms.as_f64().unwrap());
    assert!(rows.iter().map(ms).all(|[one, many]| many <= one && one < 4.01 * many), "{json}");
    assert_eq!(json["candidates"].as_array().unwrap().iter().filter(|c| c["chosen"] == true).count(), 3);
}

#[test]
fn weights_are_planned_for_the_board() {
    let dir = folder();
    let ran = host(dir.path(), "small_vgg.h5 --board rpi4");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let note = "note: not quantized: a layer for which Winograd's proof fails stays direct\n";
    assert!(ran.stderr.ends_with(note), "{}", ran.stderr);
    assert!(ran.stdout.contains("winograd-f43"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("file   "), "{}", ran.stdout);
    let ran = host(dir.path(), "small_vgg.h5 --board rpi5");
    assert_eq!((ran.code, ran.stdout.contains("winograd-f43")), (Some(0), false), "{}", ran.stdout);
    let ran = host(dir.path(), "small_vgg.h5 --scheme f16");
    assert_eq!((ran.code, ran.stdout.contains("generic Arm (generic): 4 cores a72")), (Some(0), true));
}

#[test]
fn errors_say_what_was_found_and_expected() {
    let dir = folder();
    for (words, code, expected) in [
        ("m.vgg --threads 5", 1, "error: --threads is 5, expected 1 to 4 on rpi4\n"),
        ("m.vgg --threads 0", 1, "error: --threads is 0, expected 1 to 4 on rpi4\n"),
        ("m.vgg --scheme f16", 1, "error: --scheme goes with a weights file, m.vgg is a blob\n"),
        ("no.vgg", 1, "error: import no.vgg: cannot read: No such file or directory (os error 2)\n"),
        (
            "m.vgg --board rpi9",
            2,
            "error: invalid value 'rpi9' for '--board <BOARD>': expected rpi3, rpi4, rk3566, rpi5, rk3588, armv8-i8mm, \
             x86-64, generic\n\nFor more information, try '--help'.\n",
        ),
    ] {
        let ran = host(dir.path(), words);
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (Some(code), "", expected),
            "{words}"
        );
    }
    let ran = host(dir.path(), "--help");
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stdout.contains("Every algorithm of each 3x3 layer, the chosen one marked"),
        "{}",
        ran.stdout
    );
}
