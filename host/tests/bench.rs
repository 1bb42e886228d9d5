//! `bench`: usage and errors, word for word; what it counts is in `counts.rs`.

use std::fs;
use std::path::Path;
use std::process::Command;

use vgg_edge_blob::Scheme;
use vgg_edge_host::pack;
use vgg_edge_tests::{Ran, run, temp_dir, vgg_of_two_blocks};

fn host(dir: &Path, words: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
    run(command.arg("bench").args(words.split_whitespace()).current_dir(dir))
}

#[test]
fn wrong_usage_is_2() {
    let dir = temp_dir();
    for (words, expected) in [
        (
            "",
            "error: the following required arguments were not provided:\n  --cpu <CPU>\n  --counter <FILE>\n  --program \
             <FILE>\n\nUsage: vgg-edge bench --cpu <CPU> --counter <FILE> --program <FILE> [MODEL]\n\nFor more \
             information, try '--help'.\n",
        ),
        (
            "--cpu max --counter c --program p --memory",
            "error: the following required arguments were not provided:\n  <MODEL>\n\nUsage: vgg-edge bench --cpu \
             <CPU> --counter <FILE> --program <FILE> --memory <MODEL>\n\nFor more information, try '--help'.\n",
        ),
    ] {
        let ran = host(dir.path(), words);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(2), "", expected), "{words}");
    }
}

#[test]
fn errors_come_before_anything_is_counted() {
    let dir = temp_dir();
    let at = |name: &str| dir.path().join(name);
    let bytes = pack::to_bytes(vgg_of_two_blocks(Scheme::Int8)).unwrap();
    fs::write(at("m.vgg"), bytes.as_slice()).unwrap();
    fs::write(at("bad.vgg"), &bytes.as_slice()[1..]).unwrap();
    fs::write(at("bad.tsv"), "form\tsmlal.4s\t1\nform smlal 2\n").unwrap();
    fs::write(at("empty.tsv"), "").unwrap();
    let programs = "--counter c --program p";
    for (words, expected) in [
        (
            "--cpu cortex-m4",
            "no prices for CPU `cortex-m4`, expected one of cortex-a53 cortex-a72 cortex-a76 max",
        ),
        ("--cpu max --core m4", "no prices for core `m4`, expected one of a53 a55 a72 a76 n2"),
        ("--cpu max m.vgg --against no.tsv", "counts no.tsv: No such file or directory (os error 2)"),
        ("--cpu max m.vgg --against bad.tsv", "counts bad.tsv: line 2: found 1 columns, expected 3"),
        (
            "--cpu max m.vgg --against empty.tsv",
            "counts empty.tsv: found no `form` line, expected executed instructions",
        ),
        ("--cpu max no.vgg", "cannot load no.vgg: No such file or directory (os error 2)"),
        (
            "--cpu max bad.vgg",
            "cannot load bad.vgg: not a vgg-edge model: it starts with bytes [47, 47, 45, 01], expected [56, 47, 47, 45]",
        ),
    ] {
        let ran = host(dir.path(), &format!("{words} {programs}"));
        let found = ran.stderr.split("\n\nhint").next().unwrap_or_default().trim_end();
        assert_eq!(
            (ran.code, ran.stdout.as_str(), found),
            (Some(1), "", &*format!("error: {expected}")),
            "{words}"
        );
    }
}

/// Stands for the emulator, on a path of its own.
#[cfg(unix)]
#[test]
fn an_emulator_that_fails_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let dir = temp_dir();
    let emulator = |script: &str| {
        let path = dir.path().join("qemu-aarch64");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let ran = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vgg-edge"));
        let words = "bench --cpu cortex-a53 --counter c.so --program some/strip_bench";
        run(command.args(words.split(' ')).current_dir(dir.path()).env("PATH", dir.path()))
    };
    let error = |ran: Ran| ran.stderr.find("error: ").map_or(String::new(), |at| ran.stderr[at..].to_owned());
    assert_eq!(error(ran()), "error: cannot start qemu-aarch64: No such file or directory (os error 2)\n");
    emulator("echo 'error: neon differs from scalar' >&2; exit 1");
    assert_eq!(
        error(ran()),
        "error: `strip_bench neon 576 224 8` on an emulated cortex-a53 failed: exit status: 1: error: neon differs \
         from scalar\n"
    );
    emulator("exit 0");
    assert_eq!(error(ran()), "error: the emulator wrote no counts: No such file or directory (os error 2)\n");
    // The counter's file is behind `out=` of the fourth argument.
    emulator("out=\"${4##*out=}\"; echo 'form smull' > \"$out\"");
    assert_eq!(error(ran()), "error: counts of the emulator: line 1: found 1 columns, expected 3\n");
}
