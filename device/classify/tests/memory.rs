//! How much memory the program takes for itself: a VGG16 at 224x224 runs in 12 MB, its weights apart.
//!
//! ```text
//! RssFile   the model: pages of the file, which the system drops and reads again as it likes
//! RssAnon   all else: arena, tables, stacks, the picture      <= 12 MB
//! ```
//!
//! The weights are random and without the first dense layers: neither changes what is measured.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use vgg_edge_blob::{NewLinear, NewModel, NewOp, NewWeights, Padding, Scheme, Shape, write};

#[path = "../../engine/tests/support/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod support;

use support::{Part, Random, filters_twin, model, winograd_twin};

/// Most bytes of anonymous memory.
const LIMIT: u64 = 12_000_000;
/// Pictures: enough that the program is seen at work.
const N_PICTURES: usize = 12;

/// The convolutions and pools of VGG16, as a board without dot products gets them.
fn write_vgg16(path: &Path, twin: fn(NewModel) -> NewModel) {
    let mut parts = Vec::new();
    for (block, (filters, n)) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)].into_iter().enumerate() {
        let block = block as u16 + 1;
        parts.extend(vec![Part::Conv { kernel: 3, filters, block }; n]);
        parts.push(Part::Pool { stride: 2, padding: Padding::Valid, block });
    }
    parts.extend([Part::Gap, Part::Dense { units: 1000 }]);
    let input = Shape { height: 224, width: 224, channels: 3 };
    let mut direct = model(&mut Random(0x5EED_0007), Scheme::Int8, input, &parts);
    for layer in &mut direct.layers {
        if let NewOp::Conv { linear: NewLinear { weights: NewWeights::S8(weights, _), .. }, .. } =
            &mut layer.op
        {
            // Within the proof of exact Winograd, as trained filters are.
            weights.iter_mut().for_each(|w| *w /= 2);
        }
    }
    let mut file = BufWriter::new(File::create(path).unwrap());
    write(twin(direct), &mut file).unwrap();
    file.flush().unwrap();
}

/// A field of `/proc/PID/status`, bytes; `None` when the process has ended.
fn status(pid: u32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[test]
fn a_vgg16_runs_in_12_megabytes_of_its_own() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vgg16.vgg");
    let twins = [winograd_twin, filters_twin];
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/red.png");
    for (twin, threads) in twins.into_iter().flat_map(|twin| ["1", "2"].map(|threads| (twin, threads))) {
        write_vgg16(&path, twin);
        let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
        command.arg("run").arg(&path).args(vec![&picture; N_PICTURES]).args(["--threads", threads]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let (mut anonymous, mut of_files) = (0, 0);
        while child.try_wait().unwrap().is_none() {
            anonymous = status(child.id(), "RssAnon").unwrap_or(0).max(anonymous);
            of_files = status(child.id(), "RssFile").unwrap_or(0).max(of_files);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(child.wait().unwrap().success());
        println!("{threads} threads: {anonymous} bytes of its own, {of_files} of files");
        // It was seen at work: the model was read, the arena was written.
        let n_bytes = fs::metadata(&path).unwrap().len();
        assert!(of_files >= n_bytes && anonymous > 2_000_000, "{anonymous} and {of_files} of {n_bytes}");
        assert!(anonymous <= LIMIT, "{threads} threads: {anonymous} bytes, the limit is {LIMIT}");
    }
}
