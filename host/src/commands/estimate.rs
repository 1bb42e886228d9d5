//! `estimate`: what a network takes on a board, a row a layer, without running it.
//!
//! ```text
//! estimate MODEL.vgg --board rpi4             the plan that the blob holds
//! estimate WEIGHTS --board rpi4               the exact plan that `quantize --board rpi4` would choose
//! estimate MODEL.vgg --board rpi5 --compare   every way to compute each 3x3 layer, the chosen one marked
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use vgg_edge_blob::{Blob, Scheme};

use super::quantize::{SchemeArg, board};
use super::{WeightsArgs, bench, human_bytes, out, out_text};
use crate::boards::Real;
use crate::pack;
use crate::plan::{Board, Conv, Estimate, Kind, OpSketch, Row, Sketch};
use crate::quantize;

/// Predicts latency and memory traffic on a board, a row a layer, with the algorithm and kernel of each
#[derive(Args, Clone, Debug)]
pub struct EstimateArgs {
    /// A blob, as it is; or a weights file, planned for the board without quantizing
    pub model: PathBuf,
    /// Board to predict for [default: the one that the blob was planned for, else generic]
    #[arg(long, value_name = "BOARD", value_parser = board, hide_possible_values = true)]
    pub board: Option<&'static Board>,
    /// Threads of the second time [default: the board's big cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Every algorithm of each 3x3 layer, the chosen one marked
    #[arg(long)]
    pub compare: bool,
    /// Number format, for a weights file [default: int8]
    #[arg(long, value_enum)]
    pub scheme: Option<SchemeArg>,
    /// JSON instead of tables
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub weights_args: WeightsArgs,
}

/// What a file says.
struct Model {
    sketch: Sketch,
    /// By layer, dB, as far as known.
    measured: HashMap<String, f64>,
    predicted: HashMap<String, f64>,
    /// Board in the blob.
    planned_for: Option<String>,
    file_bytes: Option<usize>,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a Path,
    board: &'static str,
    title: &'static str,
    core: &'static str,
    cores: usize,
    ghz: f64,
    gbs: f64,
    real_over_bound: f64,
    threads: usize,
    planned_for: Option<&'a str>,
    layers: Vec<LayerReport<'a>>,
    total: Total,
    arena_bytes: usize,
    file_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<Vec<Candidate>>,
}

#[derive(Serialize)]
struct LayerReport<'a> {
    #[serde(flatten)]
    row: &'a Row,
    predicted_sqnr_db: Option<f64>,
    sqnr_db: Option<f64>,
}

#[derive(Serialize)]
struct Total {
    cycles: f64,
    bytes: f64,
    ms_1: f64,
    ms_n: f64,
}

/// One way to compute one layer.
#[derive(Serialize)]
struct Candidate {
    name: String,
    algorithm: &'static str,
    exact: bool,
    cycles: f64,
    bytes: f64,
    ms_n: f64,
    chosen: bool,
}

impl EstimateArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A file that is neither weights nor an intact blob; threads that the board does not have.
    pub fn run(&self) -> anyhow::Result<()> {
        let is_blob = pack::is_blob(&self.model);
        ensure!(
            !is_blob || self.scheme.is_none(),
            "--scheme goes with a weights file, {} is a blob",
            self.model.display()
        );
        let mut model = if is_blob { of_blob(&self.model)? } else { self.of_weights()? };
        let of_blob = model.planned_for.as_deref().and_then(Board::find);
        let board = self.board.or(of_blob).unwrap_or(Board::generic());
        let n_threads = self.threads.unwrap_or(board.n_cores);
        ensure!(
            (1..=board.n_cores).contains(&n_threads),
            "--threads is {n_threads}, expected 1 to {} on {}",
            board.n_cores,
            board.name
        );
        if is_blob {
            warn_of_another_plan(&model, board, n_threads)?;
        } else {
            model.sketch.plan(board);
            let winograd = [Kind::WinogradF43, Kind::WinogradF43Filters];
            if model.sketch.layers.iter().any(|layer| winograd.contains(&layer.op.kind())) {
                eprintln!("note: not quantized: a layer for which Winograd's proof fails stays direct");
            }
        }
        let estimate = Estimate::new(&model.sketch, board, n_threads)?;
        let candidates = self.compare.then(|| candidates(&model.sketch, board, n_threads)).transpose()?;
        if self.json {
            return self.print_json(&model, board, &estimate, candidates);
        }
        out_text(&head(board))?;
        match candidates {
            Some(candidates) => out_text(&compare_table(&candidates, n_threads)),
            None => out_text(&layer_table(&model, &estimate)),
        }?;
        out(format_args!(""))?;
        out(format_args!("arena  {}", human_bytes(estimate.arena_bytes as u64)))?;
        if let Some(bytes) = model.file_bytes {
            out(format_args!("file   {}", human_bytes(bytes as u64)))?;
        }
        Ok(())
    }

    fn of_weights(&self) -> anyhow::Result<Model> {
        let graph = self.weights_args.import(&self.model)?.graph.canonical()?;
        let scheme = match self.scheme {
            Some(SchemeArg::F16) => Scheme::F16,
            Some(SchemeArg::Int8) | None => Scheme::Int8,
            Some(SchemeArg::Int8Fc4) => Scheme::Int8Fc4,
        };
        let sketch = Sketch::of_graph(scheme, graph.input(), &quantize::lower(&graph)?);
        let (measured, predicted) = (HashMap::new(), HashMap::new());
        Ok(Model { sketch, measured, predicted, planned_for: None, file_bytes: None })
    }

    fn print_json(
        &self,
        model: &Model,
        board: &Board,
        estimate: &Estimate,
        candidates: Option<Vec<Candidate>>,
    ) -> anyhow::Result<()> {
        let layer = |row| LayerReport {
            row,
            predicted_sqnr_db: model.predicted.get(&row.name).copied(),
            sqnr_db: model.measured.get(&row.name).copied(),
        };
        let Row { cycles, bytes, ms_1, ms_n, .. } = estimate.total();
        let report = Report {
            model: &self.model,
            board: board.name,
            title: board.title,
            core: board.core.name,
            cores: board.n_cores,
            ghz: board.ghz,
            gbs: board.gbs,
            real_over_bound: board.real.factor(),
            threads: estimate.n_threads,
            planned_for: model.planned_for.as_deref(),
            layers: estimate.rows.iter().map(layer).collect(),
            total: Total { cycles, bytes, ms_1, ms_n },
            arena_bytes: estimate.arena_bytes,
            file_bytes: model.file_bytes,
            candidates,
        };
        out(format_args!("{}", serde_json::to_string(&report)?))
    }
}

fn of_blob(path: &Path) -> anyhow::Result<Model> {
    let bytes = pack::load(path)?;
    let blob = Blob::parse(bytes.as_slice())?;
    let metadata: serde_json::Value = serde_json::from_str(blob.metadata()).unwrap_or_default();
    let db = |layer: vgg_edge_blob::Layer<'_>| {
        let db = f64::from(layer.sqnr_db);
        db.is_finite().then(|| (layer.name.to_owned(), db))
    };
    let predicted = metadata["predicted_sqnr_db"].as_object().into_iter().flatten();
    Ok(Model {
        sketch: Sketch::of_blob(&blob),
        measured: blob.layers().filter_map(db).collect(),
        predicted: predicted.filter_map(|(name, db)| Some((name.clone(), db.as_f64()?))).collect(),
        planned_for: metadata["board"].as_str().map(str::to_owned),
        file_bytes: Some(blob.file_len()),
    })
}

/// Says when a blob was planned for another board, and what a plan for this one would save.
fn warn_of_another_plan(model: &Model, board: &Board, n_threads: usize) -> anyhow::Result<()> {
    let Some(other) = model.planned_for.as_deref().filter(|other| *other != board.name) else {
        return Ok(());
    };
    let mut own = model.sketch.clone();
    own.plan(board);
    let ms = |sketch| anyhow::Ok(Estimate::new(sketch, board, n_threads)?.total().ms_n);
    let (here, planned) = (ms(&model.sketch)?, ms(&own)?);
    let gain = match planned < 0.98 * here {
        true => format!("; an exact plan for {} takes {planned:.1} ms instead of {here:.1}", board.name),
        false => String::new(),
    };
    eprintln!("warning: planned for {other}, estimated for {}{gain}", board.name);
    Ok(())
}

fn head(board: &Board) -> String {
    let Board { title, name, core, n_cores, ghz, gbs, .. } = board;
    let real = match board.real {
        Real::Published(factor) => {
            format!("ms: {factor} x the port model's bound, as published for another engine")
        }
        Real::Assumed(factor) => format!("ms: {factor} x the port model's bound, assumed"),
        Real::Measured => "cycles: measured, not the port model's bound".to_owned(),
    };
    format!("{title} ({name}): {n_cores} cores {} at {ghz} GHz, {gbs} GB/s; {real}\n\n", core.name)
}

fn millions(n: f64) -> String {
    format!("{:.2}", n / 1e6)
}

fn layer_table(model: &Model, estimate: &Estimate) -> String {
    let threads = format!("ms, {}", estimate.n_threads);
    let header = [
        "layer",
        "algorithm",
        "kernel",
        "tile",
        "binds",
        "M cycles",
        "MB",
        "ms, 1",
        &threads,
        "predicted dB",
        "SQNR dB",
    ];
    let db = |of: &HashMap<String, f64>, row: &Row| {
        of.get(&row.name).map_or_else(|| "-".to_owned(), |db| format!("{db:.2}"))
    };
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let line = |row: &Row, algorithm: &str| {
        [
            row.name.clone(),
            algorithm.to_owned(),
            dash(row.kernel),
            dash(row.tile.as_deref().unwrap_or("")),
            dash(row.resource),
            millions(row.cycles),
            millions(row.bytes),
            format!("{:.2}", row.ms_1),
            format!("{:.2}", row.ms_n),
            db(&model.predicted, row),
            db(&model.measured, row),
        ]
    };
    let rows = estimate.rows.iter().map(|row| line(row, row.algorithm.name()));
    let rows = rows.chain([line(&estimate.total(), "-")]);
    if model.predicted.is_empty() {
        // Without its column.
        let without = |[a, b, c, d, e, f, g, h, i, _, k]: [String; 11]| [a, b, c, d, e, f, g, h, i, k];
        let [a, b, c, d, e, f, g, h, i, _, k] = header;
        return bench::table([a, b, c, d, e, f, g, h, i, k], 5, rows.map(without));
    }
    bench::table(header, 5, rows)
}

/// Every way to compute each 3x3 layer behind the first, the whole network's plan otherwise as it is.
fn candidates(sketch: &Sketch, board: &Board, n_threads: usize) -> anyhow::Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    let maps = sketch.maps();
    for (i, layer) in sketch.layers.iter().enumerate() {
        let OpSketch::Conv { side: 3, outputs, kind: chosen } = layer.op else { continue };
        if chosen == Kind::First || !sketch.scheme.is_int8() {
            continue;
        }
        for kind in Kind::CONVOLUTIONS {
            let conv =
                Conv { height: maps[i].height, width: maps[i].width, inputs: maps[i].channels, outputs };
            let cost = conv.cost(kind, board);
            candidates.push(Candidate {
                name: layer.name.clone(),
                algorithm: kind.name(),
                exact: kind.is_exact(),
                cycles: cost.cycles,
                bytes: cost.bytes,
                ms_n: 1e3 * cost.seconds_on(board, n_threads),
                chosen: kind == chosen,
            });
        }
    }
    ensure!(!candidates.is_empty(), "found no int8 3x3 layer behind the first, expected one to compare");
    Ok(candidates)
}

fn compare_table(candidates: &[Candidate], n_threads: usize) -> String {
    let threads = format!("ms, {n_threads}");
    let header = ["layer", "algorithm", "exact", "M cycles", "MB", &threads, "chosen"];
    bench::table(
        header,
        3,
        candidates.iter().map(|c| {
            [
                c.name.clone(),
                c.algorithm.to_owned(),
                if c.exact { "yes" } else { "no" }.to_owned(),
                millions(c.cycles),
                millions(c.bytes),
                format!("{:.2}", c.ms_n),
                if c.chosen { "<--" } else { "" }.to_owned(),
            ]
        }),
    )
}
