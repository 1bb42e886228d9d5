//! Broken and hostile weights files: the exact message of each, and a bound on the memory each may take.
//!
//! A file is given by its bytes. Each import runs alone (see [`alone`]) on a counting allocator: beside the file it may take
//! [`MOST_TIMES`] its size and [`MOST_BYTES`].

#[path = "../support/onnx.rs"]
mod onnx_file;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tflite.rs"]
mod tflite_file;

mod keras;
mod keras_archive;
mod onnx;
mod onnx_nodes;
mod pickle;
mod tflite;
mod torch;
mod zip;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use peak_alloc::PeakAlloc;
use vgg_edge_host::graph::Shape;
use vgg_edge_host::import::{ImportError, ImportOptions, import};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Times its size that a file may take in memory.
const MOST_TIMES: f64 = 1.5;
/// Bytes that any file may take.
const MOST_BYTES: f64 = 64e6;

/// Held by every test from its first line: what others allocate must not count.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Imports the file at `path`, within its memory.
fn bounded(path: &Path, options: &ImportOptions) -> Result<(), ImportError> {
    let len = fs::metadata(path).map_or(0, |m| m.len());
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = import(path, options).map(drop);
    let taken = MEMORY.peak_usage().saturating_sub(before) as f64;
    assert!(
        taken <= MOST_TIMES * len as f64 + MOST_BYTES,
        "{} bytes of file took {taken} bytes of memory: {result:?}",
        len
    );
    result
}

/// A file of `tests/fixtures`.
fn fixture(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(file);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Error for a file of these bytes, without the part that names the file.
fn message(bytes: &[u8], options: &ImportOptions) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.h5");
    fs::write(&path, bytes).expect("writes");
    let Err(error) = bounded(&path, options) else { return "imports".into() };
    assert!(!error.kind().is_empty());
    let text = error.to_string();
    let start = format!("import {}: ", path.display());
    text.strip_prefix(&start).unwrap_or_else(|| panic!("`{text}` does not begin with `{start}`")).to_string()
}

/// Errors of all cases at once: bytes of the file, what the user said, the message.
fn check(cases: &[(Vec<u8>, ImportOptions, &str)]) {
    let wrong: Vec<String> = (cases.iter())
        .map(|(bytes, options, expected)| (message(bytes, options), expected))
        .filter(|(found, expected)| found != *expected)
        .map(|(found, expected)| format!("found    {found}\nexpected {expected}\n"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn input32() -> ImportOptions {
    ImportOptions { input: Some(Shape::new(32, 32, 3)), ..Default::default() }
}

/// `bytes` with occurrence `nth` of `from` replaced by `to` of the same length.
fn patch(bytes: &[u8], from: &[u8], nth: usize, to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "a patch keeps the length");
    let mut places = (0..bytes.len() - from.len()).filter(|&i| bytes[i..].starts_with(from));
    let at = places.nth(nth).unwrap_or_else(|| panic!("{} is not there", String::from_utf8_lossy(from)));
    let mut patched = bytes.to_vec();
    patched[at..at + to.len()].copy_from_slice(to);
    patched
}

/// Imports `rounds` mutants of `good`, one to three bytes of the first `within` changed, or the end cut off: none may panic,
/// and at least `refused` must be found out.
fn mutate(name: &str, good: &[u8], rounds: usize, within: usize, refused: usize) {
    let mut state = 0x2545_F491_4F6C_DD1D;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mutant");
    let mut errors = 0;
    for round in 0..rounds {
        let mut bytes = good.to_vec();
        for _ in 0..1 + next(&mut state) % 3 {
            let at = next(&mut state) % within.min(bytes.len());
            bytes[at] = next(&mut state) as u8;
        }
        if round % 8 == 7 {
            bytes.truncate(next(&mut state) % good.len());
        }
        fs::write(&path, &bytes).expect("writes");
        errors += usize::from(bounded(&path, &input32()).is_err());
    }
    println!("{name}: {errors} of {rounds} mutants refused");
    assert!(errors >= refused, "{name}: {errors} of {rounds} mutants refused, expected at least {refused}");
}

/// xorshift: the same mutants on every machine.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

const FORMATS: &str = "expected Keras (.keras, .h5), PyTorch (.pth), safetensors, ONNX or TFLite";

#[test]
fn files_of_no_known_format() {
    let _alone = alone();
    let none = ImportOptions::default();
    let pickle = [b"\x80\x02}q\x00".as_slice(), &[0; 64]].concat();
    let cases: [(&[u8], String); 7] = [
        (b"", format!("the file is empty, {FORMATS}")),
        (b"these are not weights\n", format!("the file is text, {FORMATS}")),
        (&[0; 300], format!("the file is all zeros, {FORMATS}")),
        (&[0xfe; 300], format!("the file is of no known format, {FORMATS}")),
        (b"PK\x03\x04\x14\x00\x00\x00", {
            "zip: the file does not end in an end-of-directory record, expected one at its end".to_string()
        }),
        (&pickle, format!("the file is a pickle that torch.save did not write, {FORMATS}")),
        (b"\x1c\x00\x00\x00TFL3\x14\x00", "model at byte 28 is outside the file's 10 bytes".to_string()),
    ];
    for (bytes, expected) in &cases {
        assert_eq!(message(bytes, &none), *expected);
    }
    let error = import(Path::new("/nowhere/net.h5"), &none).expect_err("no such file");
    assert_eq!(
        error.to_string(),
        "import /nowhere/net.h5: cannot read: No such file or directory (os error 2)"
    );
    assert_eq!(error.kind(), "io");
}
