//! `classify info --board`: what this board is and can run, and what a model takes here.
//!
//! ```text
//! board    Raspberry Pi 4 Model B Rev 1.4       device-tree/model of /proc or /sys; absent where there is none
//! kernels  aarch64-s8-neon, generic-s8-scalar   what the CPU says that it can (getauxval on Arm), best first
//! cores    4, aarch64
//! memory   3.7 GiB
//! model    arena 1.2 MiB, mapped 1.1 MiB, repacked 0.0 MiB, 4 threads
//! ```
//!
//! `cargo xtask deploy` reads the JSON form, and sets the service's memory limit by it.

use std::fs;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use vgg_edge_engine::kernels::{self, Kernel};

use crate::args::{EngineArgs, Info};
use crate::board;
use crate::model::{self, ModelFile};
use crate::output::print_line;

/// Where the kernel shows the board's name.
const NAMES: [&str; 2] = ["/proc/device-tree/model", "/sys/firmware/devicetree/base/model"];

/// What the board says of itself. Its serialized form is stable: `deploy` reads it.
#[derive(Debug, Serialize)]
struct About {
    /// Architecture that this program was built for, as in `uname -m`.
    arch: &'static str,
    /// Name of the board, where its device tree has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    board: Option<String>,
    /// Kernels that run here, best first.
    kernels: Vec<&'static str>,
    /// Cores that this process may use.
    cores: usize,
    /// Bytes of memory, all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Needs>,
}

/// What a model takes on the best kernel here, bytes.
#[derive(Debug, Serialize)]
struct Needs {
    /// Activations and scratch; nothing is allocated beyond them.
    arena_bytes: usize,
    /// The file, which stays in the page cache.
    mapped_bytes: usize,
    /// Weights laid out anew at load, because the file was made for another CPU.
    repacked_bytes: usize,
    /// Threads that it runs on by default.
    threads: usize,
}

/// Prints what is known of this board and, if a model is named, of the model here.
pub(crate) fn about(args: &Info) -> Result<ExitCode> {
    let cores = board::allowed_cores().len();
    let model = args.model.as_deref().map(ModelFile::open).transpose()?;
    let about = About {
        arch: std::env::consts::ARCH,
        board: NAMES.iter().find_map(|path| name(&fs::read(path).ok()?)),
        kernels: kernels::available().map(Kernel::name).collect(),
        cores,
        memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory(&text)),
        model: model.as_ref().map(needs).transpose()?,
    };
    match args.json {
        true => print_line(format_args!("{}", serde_json::to_string(&about)?))?,
        false => print(&about)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn needs(file: &ModelFile) -> Result<Needs> {
    let blob = file.blob()?;
    let (kernel, args) = (kernels::best(), EngineArgs::default());
    let pool = model::pool(&args, kernel)?;
    let engine = file.engine(&blob, kernel, &pool, &args, false)?;
    Ok(Needs {
        arena_bytes: engine.arena_bytes(),
        mapped_bytes: file.len(),
        repacked_bytes: engine.repacked().iter().map(|layer| layer.bytes).sum(),
        threads: vgg_edge_engine::pool::Executor::n_threads(&pool),
    })
}

/// A device tree's text: it ends with a zero byte.
fn name(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes).trim_end_matches('\0').trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

/// `MemTotal: 3884144 kB`
fn memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn print(about: &About) -> Result<()> {
    if let Some(board) = &about.board {
        print_line(format_args!("board    {board}"))?;
    }
    print_line(format_args!("kernels  {}", about.kernels.join(", ")))?;
    print_line(format_args!("cores    {}, {}", about.cores, about.arch))?;
    if let Some(bytes) = about.memory_bytes {
        print_line(format_args!("memory   {:.1} GiB", bytes as f64 / (1u64 << 30) as f64))?;
    }
    let mib = |bytes: usize| bytes as f64 / (1 << 20) as f64;
    match &about.model {
        Some(needs) => print_line(format_args!(
            "model    arena {:.1} MiB, mapped {:.1} MiB, repacked {:.1} MiB, {} threads",
            mib(needs.arena_bytes),
            mib(needs.mapped_bytes),
            mib(needs.repacked_bytes),
            needs.threads
        )),
        None => Ok(()),
    }
}
