//! The program run in a folder of its own, with a small network of random weights.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vgg_edge_blob::{NewLayer, NewLinear, NewModel, NewOp, NewWeights, Padding, Scheme, Shape, write};

#[path = "../../../engine/tests/support/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod support;

#[path = "../support/ran.rs"]
mod ran;

pub(crate) use ran::Ran;
use support::{Part, Random};

/// No run takes so long.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What `child` did; a failure when it does not end.
pub(crate) fn finished(mut child: Child) -> Ran {
    let started = Instant::now();
    // Little is written: no pipe fills up.
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("the program does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ran::of(child.wait_with_output().unwrap())
}

/// A folder with `model.vgg`, in which the program runs.
pub(crate) struct Folder {
    dir: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self { dir: TempDir::new().unwrap() };
        folder.write("model.vgg", &bytes(network(Scheme::Int8, 1)));
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn command(&self, args: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
        command.current_dir(self.dir.path()).args(args.split_whitespace());
        command
    }

    #[allow(dead_code, reason = "each test program uses a part")]
    pub(crate) fn run(&self, args: &str) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }
}

/// Pictures of every kind.
pub(crate) fn engine_pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures/pictures")
}

/// `n_convs` convolutions and four classes.
fn network(scheme: Scheme, n_convs: u16) -> NewModel {
    let input = Shape { height: 12, width: 12, channels: 3 };
    let mut parts: Vec<Part> =
        (0..n_convs).map(|block| Part::Conv { kernel: 3, filters: 8, block }).collect();
    parts.extend([
        Part::Pool { stride: 2, padding: Padding::Valid, block: n_convs - 1 },
        Part::Dense { units: 4 },
    ]);
    let mut model = support::model(&mut Random(0x5EED_0012), scheme, input, &parts);
    if let Some(NewLayer { op: NewOp::Dense(NewLinear { weights: NewWeights::S8(_, params), .. }), .. }) =
        model.layers.last_mut()
    {
        // So that no class is certain.
        params.iter_mut().flat_map(|p| &mut p.scale).for_each(|scale| *scale *= 1e-4);
    }
    model
}

fn bytes(model: NewModel) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(model, &mut bytes).unwrap();
    bytes
}

/// An f16 network with the largest weights, layer upon layer.
#[allow(dead_code, reason = "each test program uses a part")]
pub(crate) fn overflowing() -> Vec<u8> {
    let mut model = network(Scheme::F16, 10);
    for layer in &mut model.layers {
        if let NewOp::Conv { linear, .. } | NewOp::Dense(linear) = &mut layer.op
            && let NewWeights::F16(weights, _) = &mut linear.weights
        {
            weights.fill(half::f16::MAX.to_bits());
        }
    }
    bytes(model)
}
