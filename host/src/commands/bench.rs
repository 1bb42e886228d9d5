//! `bench --cpu`: kernels or a network on an emulated Arm CPU, in model cycles.
//!
//! ```text
//! bench --cpu cortex-a72 --counter armcount.so --program strip_bench
//! bench --cpu cortex-a72 --counter armcount.so --program classify MODEL.vgg --memory --against COUNTS.tsv
//! ```
//!
//! `cargo xtask bench --cpu` builds the counter and the program and passes the rest on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{human_bytes, out, out_text};
use crate::bench::{Emulator, NetworkCost, Options, StripCost, measure_network, measure_strips};
use crate::boards::{BOARDS, Board, Counts, board_of_core, board_of_cpu};

/// Functions and classes that `-v` shows.
const N_SHOWN: usize = 15;

/// Counts instructions on an emulated Arm CPU and prices them for its core; `cargo xtask bench --cpu` builds what it
/// needs
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Model to run; without it every kernel runs over the shapes of VGG16
    pub model: Option<PathBuf>,
    /// CPU to emulate, as qemu-aarch64 names it
    #[arg(long, value_name = "CPU")]
    pub cpu: String,
    /// Price for this core instead of the CPU's own: a53, a72, a55, a76, n2
    #[arg(long, value_name = "CORE")]
    pub core: Option<String>,
    /// The counter, a plugin of qemu-aarch64
    #[arg(long, value_name = "FILE")]
    pub counter: PathBuf,
    /// `classify`, or without a model `strip_bench`, for Arm Linux
    #[arg(long, value_name = "FILE")]
    pub program: PathBuf,
    /// Model the board's caches, too: bytes from and to DRAM; takes three times as long
    #[arg(long, requires = "model")]
    pub memory: bool,
    /// A row for every layer; one more run
    #[arg(long, requires = "model")]
    pub layers: bool,
    /// Compare with another program's counts
    #[arg(long, value_name = "COUNTS.tsv", requires = "model")]
    pub against: Option<PathBuf>,
    /// Write the counts to a file that --against can read
    #[arg(long, value_name = "COUNTS.tsv", requires = "model")]
    pub save: Option<PathBuf>,
    /// JSON instead of tables
    #[arg(long)]
    pub json: bool,
    /// Resources, classes and functions, most first
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Serialize)]
struct Report<'a, T> {
    cpu: &'a str,
    core: &'static str,
    board: &'static str,
    ghz: f64,
    #[serde(flatten)]
    figures: T,
}

#[derive(Serialize)]
struct Strips {
    strips: Vec<StripCost>,
}

#[derive(Serialize)]
struct Network {
    model: PathBuf,
    #[serde(flatten)]
    cost: NetworkCost,
    against: Option<Ratios>,
}

/// This network over another program's counts.
#[derive(Clone, Copy, Debug, Serialize)]
struct Ratios {
    cycles: f64,
    dram_bytes: Option<f64>,
}

impl BenchArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A CPU or core without prices, a model or counts that cannot be read, an emulator that fails.
    pub fn run(&self) -> anyhow::Result<()> {
        let board = self.board()?;
        // Before minutes of counting.
        let peer = self.against.as_deref().map(read_counts).transpose()?;
        let emulator = Emulator {
            cpu: self.cpu.clone(),
            counter: self.counter.clone(),
            program: self.program.clone(),
            caches_of: self.memory.then_some(board),
        };
        let progress = |what: &str| eprintln!("counting on {}: {what}", self.cpu);
        match &self.model {
            None => {
                let strips = measure_strips(&emulator, board, progress)?;
                let text = strip_tables(&strips, self.verbose);
                self.print(board, Strips { strips }, &text)
            }
            Some(model) => {
                let options = Options { layers: self.layers };
                let (cost, counts) = measure_network(&emulator, board, model, options, progress)?;
                if let Some(path) = &self.save {
                    fs::write(path, counts.to_tsv())
                        .with_context(|| format!("cannot write {}", path.display()))?;
                }
                let against = peer.map(|peer| ratios(board, &cost, &peer));
                let text = network_text(board, &cost, against, self.verbose);
                self.print(board, Network { model: model.clone(), cost, against }, &text)
            }
        }
    }

    fn board(&self) -> anyhow::Result<&'static Board> {
        // Counted boards only.
        let names = |name: fn(&Board, &'static str) -> &'static str| {
            let counted = |board: &'static Board| board.core.emulated_as.map(|cpu| name(board, cpu));
            let mut names: Vec<_> = BOARDS.iter().filter_map(counted).collect();
            names.sort_unstable();
            names.dedup();
            names.join(" ")
        };
        let Some(board) = board_of_cpu(&self.cpu) else {
            bail!("no prices for CPU `{}`, expected one of {}", self.cpu, names(|_, cpu| cpu));
        };
        let Some(core) = &self.core else { return Ok(board) };
        let Some(board) = board_of_core(core).filter(|board| board.core.emulated_as.is_some()) else {
            bail!("no prices for core `{core}`, expected one of {}", names(|b, _| b.core.name));
        };
        Ok(board)
    }

    fn print<T: Serialize>(&self, board: &Board, figures: T, text: &str) -> anyhow::Result<()> {
        if self.json {
            let (core, title) = (board.core.name, board.title);
            let report = Report { cpu: &self.cpu, core, board: title, ghz: board.ghz, figures };
            return out(format_args!("{}", serde_json::to_string(&report)?));
        }
        out(format_args!(
            "{} at {} GHz ({}), counted on {}\n",
            board.title, board.ghz, board.core.name, self.cpu
        ))?;
        out_text(text)
    }
}

fn read_counts(path: &Path) -> anyhow::Result<Counts> {
    let context = || format!("counts {}", path.display());
    let counts = Counts::parse(&fs::read_to_string(path).with_context(context)?).with_context(context)?;
    ensure!(counts.instructions() > 0, "counts {}: found no instruction", path.display());
    Ok(counts)
}

fn ratios(board: &Board, cost: &NetworkCost, peer: &Counts) -> Ratios {
    let peer_bytes = peer.dram_bytes().filter(|bytes| *bytes > 0.0);
    Ratios {
        cycles: cost.cycles / board.core.bound(peer).cycles,
        dram_bytes: cost.dram_bytes.zip(peer_bytes).map(|(ours, theirs)| ours / theirs),
    }
}

/// Columns of text, numbers to the right, without a frame.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    n_text: usize,
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    rows.for_each(|row| {
        table.add_row(row);
    });
    for column in n_text..N {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|l| format!("{}\n", l.strip_prefix(' ').unwrap_or(&l).trim_end())).collect()
}

fn strip_tables(rows: &[StripCost], verbose: bool) -> String {
    let header =
        ["scheme", "layers", "kernel", "binds", "K", "pixels", "cycles", "MAC/cycle", "of peak", "selected"];
    let mut text = table(
        header,
        4,
        rows.iter().map(|row| {
            [
                row.scheme.to_owned(),
                row.layers.to_owned(),
                row.kernel.to_owned(),
                row.resource.to_owned(),
                row.k.to_string(),
                row.pixels.to_string(),
                format!("{:.0}", row.cycles),
                format!("{:.2}", row.mac_per_cycle),
                format!("{:.0} %", row.mac_per_cycle / row.peak * 100.0),
                if row.selected { "<--" } else { "" }.to_owned(),
            ]
        }),
    );
    if verbose {
        text.push_str("\ncycles of each resource\n");
        for row in rows {
            let resources: Vec<String> =
                row.resources.iter().map(|(name, cycles)| format!("{name} {cycles:.0}")).collect();
            let StripCost { scheme, k, pixels, kernel, .. } = row;
            text.push_str(&format!("  {scheme} {kernel} K {k}, {pixels} px: {}\n", resources.join(", ")));
        }
    }
    text
}

fn network_text(board: &Board, cost: &NetworkCost, against: Option<Ratios>, verbose: bool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<12}  {value}\n"));
    line("instructions", format!("{:.1} M", cost.instructions as f64 / 1e6));
    let expected = cost.expected_ms.map_or_else(String::new, |ms| format!(", about {ms:.0} ms expected"));
    line(
        "cycles",
        format!(
            "{:.1} M, bound by {}: {:.1} ms{expected}; {:.2} MAC/cycle",
            cost.cycles / 1e6,
            cost.resource,
            cost.ms,
            cost.mac_per_cycle
        ),
    );
    if let (Some(bytes), Some(ms)) = (cost.dram_bytes, cost.dram_ms) {
        line("DRAM", format!("{:.1} MB: {ms:.1} ms at {} GB/s", bytes / 1e6, board.gbs));
    }
    if let Some(Ratios { cycles, dram_bytes }) = against {
        let bytes = dram_bytes.map_or_else(String::new, |ratio| format!(", DRAM bytes {ratio:.3}"));
        line("of the other", format!("cycles {cycles:.3}{bytes}"));
    }
    if !cost.layers.is_empty() {
        text.push('\n');
        text.push_str(&layer_table(cost));
    }
    if verbose {
        let millions = |n: f64| format!("{:.1}", n / 1e6);
        text.push_str("\nM cycles of each resource\n");
        for (name, cycles) in &cost.resources {
            text.push_str(&format!("  {:>10}  {name}\n", millions(*cycles)));
        }
        for (title, rows) in [("class", &cost.classes), ("function", &cost.functions)] {
            text.push_str(&format!("\nM instructions by {title}\n"));
            for (name, n) in rows.iter().take(N_SHOWN) {
                text.push_str(&format!("  {:>10}  {name}\n", millions(*n as f64)));
            }
        }
    }
    text
}

fn layer_table(cost: &NetworkCost) -> String {
    let sum: f64 = cost.layers.iter().map(|layer| layer.cycles).sum();
    let header = ["layer", "binds", "M instr.", "M cycles", "share", "MAC/cycle", "ms", "DRAM"];
    table(
        header,
        2,
        cost.layers.iter().map(|layer| {
            let dash = || "-".to_owned();
            [
                layer.name.clone(),
                layer.resource.to_owned(),
                format!("{:.2}", layer.instructions as f64 / 1e6),
                format!("{:.2}", layer.cycles / 1e6),
                format!("{:.1} %", layer.cycles / sum * 100.0),
                if layer.macs == 0 { dash() } else { format!("{:.2}", layer.macs as f64 / layer.cycles) },
                format!("{:.2}", layer.ms),
                layer.dram_bytes.map_or_else(dash, |bytes| human_bytes(bytes as u64)),
            ]
        }),
    )
}
