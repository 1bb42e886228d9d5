//! The program from outside: exit codes, stdout and stderr of every command and of its errors.
//!
//! The models are written here: one says which of red, green and blue a picture has most of, others give features.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod features;
mod models;
mod run;
mod usage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use vgg_edge_blob::{Blob, ChannelOrder};
use vgg_edge_engine::pool::Serial;
use vgg_edge_engine::{Engine, Options, kernels};

use support::Ran;
use support::colours::{End, Golden, model, network};

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
        Ran::of(command.output().unwrap())
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}
