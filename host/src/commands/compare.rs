//! `compare`: weights and model on one picture, layer by layer.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::{PreprocessArgs, WeightsArgs, out, out_text};
use crate::compare::{Comparison, compare};
use crate::pack;

/// Runs weights and model on one picture and stops at the first layer that differs too much
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// Weights file, run in f32
    pub weights: PathBuf,
    /// The blob made from it
    pub model: PathBuf,
    /// Picture to run both on
    #[arg(long, value_name = "FILE")]
    pub image: PathBuf,
    /// Signal to noise below which a layer is bad, dB
    #[arg(long, value_name = "DB", default_value_t = 15.0, allow_negative_numbers = true)]
    pub floor: f32,
    /// Write every layer's output of both, NumPy's .npy
    #[arg(long, value_name = "DIR")]
    pub dump: Option<PathBuf>,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub preprocess: PreprocessArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub weights_args: WeightsArgs,
}

impl CompareArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A layer below the floor; a blob of another network; files that cannot be read or written.
    pub fn run(&self) -> anyhow::Result<()> {
        let graph = self.weights_args.import(&self.weights)?.graph;
        let rule = self.preprocess.find(&self.weights, graph.input())?;
        let bytes = pack::load(&self.model)?;
        if let Some(folder) = &self.dump {
            std::fs::create_dir_all(folder).with_context(|| format!("folder {}", folder.display()))?;
        }
        let compared =
            compare(&graph, &rule, bytes.as_slice(), &self.image, self.floor, self.dump.as_deref())?;
        match self.json {
            true => out(format_args!("{}", serde_json::to_string(&compared)?))?,
            false => out_text(&table(&compared))?,
        }
        if let (Some(layer), Some(last)) = (&compared.first_bad, compared.layers.last()) {
            match last.sqnr_db {
                Some(db) => bail!("layer `{layer}`: {db:.2} dB, expected at least {}", self.floor),
                None => bail!("layer `{layer}`: all values are 0 in f32, the model's are not"),
            }
        }
        Ok(())
    }
}

fn table(compared: &Comparison) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["layer", "output", "SQNR dB", "largest difference", "of"]);
    for layer in &compared.layers {
        let [height, width, channels] = layer.output;
        table.add_row([
            layer.layer.clone(),
            format!("{height}x{width}x{channels}"),
            layer.sqnr_db.map_or("-".to_owned(), |db| format!("{db:.2}")),
            format!("{:.4}", layer.largest_difference),
            format!("{:.4}", layer.largest),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
