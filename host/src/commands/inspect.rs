//! `inspect`: what a weights file or a blob holds.

use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use vgg_edge_blob::{Blob, Layer, LayerOp};

use super::{WeightsArgs, human_bytes, out, out_text};
use crate::convert::engine;
use crate::pack;

/// Prints the summary table of a weights file or a blob
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// A weights file or a blob
    pub file: PathBuf,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Of a weights file: layers and names as the file has them, batch normalization and dropout included. Without it, the
    /// network as it will run: the same table for every file of one network
    #[arg(long)]
    pub as_stored: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub weights_args: WeightsArgs,
}

#[derive(Serialize)]
struct BlobRow {
    name: String,
    kind: &'static str,
    output: [u32; 3],
    macs: u64,
    sqnr_db: Option<f32>,
}

#[derive(Serialize)]
struct BlobSummary {
    scheme: &'static str,
    input: [u32; 3],
    classes: usize,
    layers: Vec<BlobRow>,
    macs: u64,
    file_bytes: usize,
    arena_bytes: usize,
    metadata: serde_json::Value,
}

impl InspectArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A file that is neither weights nor an intact blob.
    pub fn run(&self) -> anyhow::Result<()> {
        if pack::is_blob(&self.file) {
            anyhow::ensure!(
                !self.as_stored,
                "--as-stored goes with a weights file, {} is a blob",
                self.file.display()
            );
            return self.blob(&self.file);
        }
        let graph = self.weights_args.import(&self.file)?.graph;
        let graph = if self.as_stored { graph } else { graph.canonical()? };
        let summary = graph.summary();
        if self.json {
            out(format_args!("{}", serde_json::to_string(&summary)?))?;
        } else {
            out_text(&summary.render())?;
        }
        Ok(())
    }

    fn blob(&self, path: &Path) -> anyhow::Result<()> {
        let bytes = pack::load(path)?;
        let blob = Blob::parse(bytes.as_slice())?;
        let summary = summarize(&blob)?;
        if self.json {
            out(format_args!("{}", serde_json::to_string(&summary)?))?;
        } else {
            out_text(&render(&summary))?;
        }
        Ok(())
    }
}

fn summarize(blob: &Blob<'_>) -> anyhow::Result<BlobSummary> {
    let row = |l: Layer<'_>| BlobRow {
        name: l.name.to_owned(),
        kind: kind(&l),
        output: [l.output.height, l.output.width, l.output.channels],
        macs: l.macs(),
        sqnr_db: l.sqnr_db.is_finite().then_some(l.sqnr_db),
    };
    let input = blob.input();
    Ok(BlobSummary {
        scheme: blob.scheme().name(),
        input: [input.height, input.width, input.channels],
        classes: blob.n_classes(),
        layers: blob.layers().map(row).collect(),
        macs: blob.layers().map(|l| l.macs()).sum(),
        file_bytes: blob.file_len(),
        arena_bytes: engine(blob)?.arena_bytes(),
        metadata: serde_json::from_str(blob.metadata()).unwrap_or_default(),
    })
}

fn kind(layer: &Layer<'_>) -> &'static str {
    match layer.op {
        LayerOp::Conv { kernel: 3, linear } if linear.relu => "Conv 3x3 + ReLU",
        LayerOp::Conv { kernel: 3, .. } => "Conv 3x3",
        LayerOp::Conv { linear, .. } if linear.relu => "Conv 1x1 + ReLU",
        LayerOp::Conv { .. } => "Conv 1x1",
        LayerOp::MaxPool { stride: 1, .. } => "MaxPool 2x2, stride 1",
        LayerOp::MaxPool { .. } => "MaxPool 2x2",
        LayerOp::GlobalAvgPool { .. } => "GlobalAvgPool",
        LayerOp::Dense(linear) if linear.relu => "Dense + ReLU",
        LayerOp::Dense(_) => "Dense",
    }
}

fn render(s: &BlobSummary) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["Layer", "Kind", "Output Shape", "MACs", "SQNR dB"]);
    for row in &s.layers {
        let [h, w, c] = row.output;
        let sqnr = row.sqnr_db.map_or_else(|| "-".to_owned(), |db| format!("{db:.2}"));
        table.add_row([
            row.name.clone(),
            row.kind.to_owned(),
            format!("{h}x{w}x{c}"),
            row.macs.to_string(),
            sqnr,
        ]);
    }
    for column in [3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let [h, w, c] = s.input;
    let table: String =
        table.lines().map(|l| format!("{}\n", l.strip_prefix(' ').unwrap_or(&l).trim_end())).collect();
    format!(
        "{table}\nscheme {}, input {h}x{w}x{c}, {} classes, {} MACs\nfile {}, arena {}\n{}\n",
        s.scheme,
        s.classes,
        s.macs,
        human_bytes(s.file_bytes as u64),
        human_bytes(s.arena_bytes as u64),
        s.metadata,
    )
}
