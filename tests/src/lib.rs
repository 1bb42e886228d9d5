//! Shared helpers of the tests: where things are, how programs run, what hostile input must not do.
//!
//! ```no_run
//! use std::process::Command;
//! let Some(shared) = vgg_edge_tests::shared_dir() else { return };
//! let ran = vgg_edge_tests::run(Command::new("cat").arg(shared.join("models/README.md")));
//! assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
//! ```

#![forbid(unsafe_code)]

pub mod browser;
pub mod inputs;
#[path = "../../device/engine/tests/support/mod.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, reason = "the engine's tests use the rest")]
mod networks;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

pub use tempfile::TempDir;
use vgg_edge_blob::{Algorithm, NewModel, Padding, Scheme, Shape};

use networks::{Part, Random};

/// Root of the workspace.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder with real networks and pictures: `VGG_EDGE_SHARED`, or `../shared` beside the workspace.
///
/// `None` when it is missing, with a line that says so, for tests to return.
///
/// # Panics
/// When it is missing in CI: nothing may be left out there.
pub fn shared_dir() -> Option<PathBuf> {
    let dir =
        env::var_os("VGG_EDGE_SHARED").map_or_else(|| workspace_root().join("../shared"), PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    let message = format!("shared folder {}: not found, set VGG_EDGE_SHARED", dir.display());
    assert!(env::var_os("CI").is_none(), "{message}");
    println!("left out: {message}");
    None
}

/// A folder that goes away with the value.
///
/// # Panics
/// When the system has no room for temporary files.
pub fn temp_dir() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end.
///
/// # Panics
/// When it cannot be started, or prints what is not UTF-8.
pub fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A program of this workspace, built with the profile of the tests.
///
/// # Panics
/// When it does not build.
pub fn built(package: &str, program: &str) -> PathBuf {
    let test = env::current_exe().expect("this program's path");
    // <target>/<profile's folder>/deps/<test>
    let folder = test.ancestors().nth(2).expect("a folder of the profile");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace_root()).args(["build", "--quiet", "-p", package, "--bin", program]);
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => {}
        Some(profile) => {
            cargo.args(["--profile", profile]);
        }
        None => panic!("{}: not in a target folder", test.display()),
    }
    if let Some(target) = folder.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    let ran = run(&mut cargo);
    assert_eq!(ran.code, Some(0), "{cargo:?}: {}", ran.stderr);
    folder.join(format!("{program}{}", env::consts::EXE_SUFFIX))
}

/// `classify`: the program in `VGG_EDGE_CLASSIFY`, run by the command in `VGG_EDGE_EMULATOR`, if that is set;
/// without them this machine's, built here.
///
/// # Panics
/// When it does not build.
pub fn classify() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| match env::var_os("VGG_EDGE_CLASSIFY") {
        Some(path) => path.into(),
        None => built("vgg-edge-classify", "classify"),
    });
    let emulator = env::var("VGG_EDGE_EMULATOR").unwrap_or_default();
    let mut words = emulator.split_whitespace();
    let Some(first) = words.next() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(words).arg(program);
    command
}

/// Files below `folder`, sorted, without build output and hidden folders other than `.ci` and `.cargo`.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && ![".ci", ".cargo"].contains(&name.as_str());
        match path.is_dir() {
            true if hidden || name == "target" => {}
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// A random network of two VGG blocks for pictures of 3 channels, with the self-test that plain loops
/// computed: no packing, no bands, no kernels.
pub fn vgg_of_two_blocks(scheme: Scheme) -> NewModel {
    let conv = |filters, block| Part::Conv { kernel: 3, filters, block };
    let pool = |stride, padding, block| Part::Pool { stride, padding, block };
    let parts = [
        conv(16, 1),
        conv(13, 1),
        pool(2, Padding::Same, 1),
        conv(24, 2),
        Part::Conv { kernel: 1, filters: 20, block: 2 },
        conv(24, 2),
        pool(1, Padding::Valid, 2),
        Part::Gap,
        Part::Dense { units: 20 },
        Part::Dense { units: 10 },
    ];
    let mut random = Random(0x5EED_0003);
    let input = Shape { height: 21, width: 30, channels: 3 };
    let base = if scheme.is_int8() { Scheme::Int8 } else { scheme };
    let mut model = networks::model(&mut random, base, input, &parts);
    if scheme == Scheme::Int8Fc4 {
        model = networks::int4_twin(&mut random, model);
    }
    let picture: Vec<u8> = (0..input.len()).map(|_| random.next() as u8).collect();
    let logits = match scheme {
        Scheme::Int8 | Scheme::Int8Fc4 => networks::int8_logits(&model, &picture),
        Scheme::F16 => networks::f16_logits(&model, &picture),
    };
    model.golden = Some((picture, logits));
    model
}

/// The int8 network of [`vgg_of_two_blocks`] with Winograd wherever the format has it; its self-test is the same.
pub fn winograd_of_two_blocks() -> NewModel {
    networks::winograd_twin(vgg_of_two_blocks(Scheme::Int8))
}

/// A random network whose rows, columns and channels fill no tile, without a self-test: for counts. `algorithm` is that of its 3x3
/// layers behind the first: direct, exact Winograd from taps or from filters (int8).
pub fn odd_network(scheme: Scheme, algorithm: Algorithm) -> NewModel {
    let conv = |filters, block| Part::Conv { kernel: 3, filters, block };
    let pool = |stride, padding, block| Part::Pool { stride, padding, block };
    let parts = [
        conv(24, 1),
        conv(40, 1),
        pool(2, Padding::Same, 1),
        conv(104, 2),
        conv(72, 2),
        pool(2, Padding::Valid, 2),
        conv(136, 3),
        conv(200, 3),
        pool(1, Padding::Same, 3),
        conv(264, 4),
        pool(2, Padding::Same, 4),
        conv(312, 5),
        conv(88, 5),
        Part::Gap,
        Part::Dense { units: 328 },
        Part::Dense { units: 37 },
    ];
    let mut random = Random(0x5EED_0004);
    let input = Shape { height: 85, width: 59, channels: 3 };
    let model = networks::model(&mut random, scheme, input, &parts);
    match algorithm {
        Algorithm::WinogradF43 => networks::winograd_twin(model),
        Algorithm::WinogradF43Filters => networks::filters_twin(model),
        _ => model,
    }
}
