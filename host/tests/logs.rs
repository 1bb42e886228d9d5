//! The device's log from end to end: `classify --log` writes it, `logs` decodes it against the unstripped program.

use std::fs;
use std::path::Path;
use std::process::Command;

use vgg_edge_tests::{built, run, temp_dir, workspace_root};

fn host(words: &[&str], dir: &Path) -> vgg_edge_tests::Ran {
    run(Command::new(env!("CARGO_BIN_EXE_vgg-edge")).args(words).current_dir(dir))
}

#[test]
fn the_log_of_a_run_decodes_with_levels_and_places() {
    let dir = temp_dir();
    let fixtures = workspace_root().join("tests/fixtures");
    let weights = fixtures.join("small_vgg/small_vgg.h5");
    let calib = fixtures.join("cifar10/calib");
    let picture = fixtures.join("cifar10/test/cat");
    let picture = fs::read_dir(picture).unwrap().next().unwrap().unwrap().path();
    let made = run(Command::new(env!("CARGO_BIN_EXE_vgg-edge"))
        .arg("quantize")
        .arg(&weights)
        .arg("--calib")
        .arg(&calib)
        .args(["-o", "m.vgg", "--max-pictures", "4"])
        .current_dir(dir.path()));
    assert_eq!(made.code, Some(0), "{}", made.stderr);

    let program = built("vgg-edge-classify", "classify");
    let ran = run(Command::new(&program)
        .args(["run", "m.vgg"])
        .arg(&picture)
        .args(["--log", "device.log"])
        .current_dir(dir.path()));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);

    let elf = program.to_string_lossy();
    let decoded = host(&["logs", "device.log", "--elf", &elf], dir.path());
    assert_eq!((decoded.code, decoded.stderr.as_str()), (Some(0), ""), "{}", decoded.stdout);
    println!("{}", decoded.stdout);
    let lines: Vec<&str> = decoded.stdout.lines().collect();
    assert!(lines.len() >= 4, "start, model, picture, result: {}", decoded.stdout);
    assert!(lines.iter().all(|l| l.contains(" INFO ")), "{}", decoded.stdout);
    assert!(lines.iter().all(|l| l.contains(".rs:")), "{}", decoded.stdout);

    // A stream of another program's, or none at all: counted, not fatal.
    fs::write(dir.path().join("noise.log"), [0x55; 64]).unwrap();
    assert_eq!(host(&["logs", "noise.log", "--elf", &elf], dir.path()).code, Some(0));
    // A program without a message table.
    let own = env!("CARGO_BIN_EXE_vgg-edge");
    let refused = host(&["logs", "device.log", "--elf", own], dir.path());
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.ends_with("has no .defmt messages\n\nhint: pass the unstripped program: `--elf target/board/classify.debug`\n"), "{}", refused.stderr);
}
