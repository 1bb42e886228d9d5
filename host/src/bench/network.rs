//! A whole network: what one inference costs in the steady state, and which layers and functions hold it.
//!
//! ```text
//! classify bench MODEL --threads 1 --warmup 0 --runs 1 | 2      the difference is one inference
//! ```
//!
//! Layers: `--profile` reads the clock after every step of the engine, and the counter tells what happened between
//! two readings. The last inference is the one before the last reading:
//!
//! ```text
//! ... start  [picture]  step 0  step 1  ...  step n-1  [output]  end
//! ```

use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use vgg_edge_blob::Blob;

use super::strips::busiest;
use super::{Emulator, demangle};
use crate::boards::{Board, Counts, Laps};
use crate::pack;

/// How a network is measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Layer by layer, too: one more run, which is not counted.
    pub layers: bool,
}

/// One inference in the steady state.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkCost {
    /// Instructions.
    pub instructions: i64,
    /// Cycles of the bound.
    pub cycles: f64,
    /// The resource that binds.
    pub resource: &'static str,
    /// Multiply-accumulates a cycle.
    pub mac_per_cycle: f64,
    /// Milliseconds of the bound at the board's clock.
    pub ms: f64,
    /// Milliseconds that a board is expected to take, from published times of another engine.
    pub expected_ms: Option<f64>,
    /// Bytes between the last cache and DRAM, if caches were modelled.
    pub dram_bytes: Option<f64>,
    /// Milliseconds that the board's DRAM takes for them.
    pub dram_ms: Option<f64>,
    /// Cycles of every resource, busiest first.
    pub resources: Vec<(&'static str, f64)>,
    /// Instructions by class, most first.
    pub classes: Vec<(String, i64)>,
    /// Instructions by function, most first.
    pub functions: Vec<(String, i64)>,
    /// In order; empty when not asked for.
    pub layers: Vec<LayerCost>,
}

/// One layer of an inference.
#[derive(Clone, Debug, Serialize)]
pub struct LayerCost {
    /// Name; `[picture]` and `[output]` for what comes before the first layer and after the last.
    pub name: String,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Instructions.
    pub instructions: i64,
    /// Cycles of the layer's own bound: their sum is more than the network's where layers wait for different
    /// resources.
    pub cycles: f64,
    /// The resource that binds.
    pub resource: &'static str,
    /// Milliseconds of the bound.
    pub ms: f64,
    /// Bytes between the last cache and DRAM, if caches were modelled.
    pub dram_bytes: Option<f64>,
}

/// What `classify bench --profile --json` says besides times.
#[derive(Deserialize)]
struct Profiled {
    steps: Vec<usize>,
}

/// Counts `model` on `classify`. `progress` is told of each run.
///
/// # Errors
/// A model that cannot be read, the emulator's and the program's errors.
pub fn measure_network(
    emulator: &Emulator,
    board: &Board,
    model: &Path,
    options: Options,
    progress: impl Fn(&str),
) -> anyhow::Result<(NetworkCost, Counts)> {
    let bytes = pack::load(model)?;
    let blob = Blob::parse(bytes.as_slice()).with_context(|| format!("cannot load {}", model.display()))?;
    let layers: Vec<(String, u64)> = blob.layers().map(|l| (l.name.to_owned(), l.macs())).collect();
    let macs: u64 = layers.iter().map(|(_, macs)| macs).sum();
    let path = std::path::absolute(model).with_context(|| format!("path {}", model.display()))?;
    let args = |runs: usize, more: &[&str]| -> Vec<String> {
        let runs = runs.to_string();
        let words = ["--threads", "1", "--warmup", "0", "--runs", &runs];
        ["bench".to_owned(), path.to_string_lossy().into_owned()]
            .into_iter()
            .chain(words.iter().chain(more).map(|word| (*word).to_owned()))
            .collect()
    };
    let more: &[&str] = if options.layers { &["--profile"] } else { &[] };
    progress("one inference");
    let one = emulator.count(&args(1, more))?;
    progress("two inferences");
    let (two, laps) = emulator.count_laps(&args(2, more))?;
    let steady = two.minus(&one);
    let mut cost = price(board, &steady, macs);
    if options.layers {
        progress("the order of the layers");
        let printed = emulator.run(&args(1, &["--profile", "--json"]))?;
        let profiled: Profiled =
            serde_json::from_str(&printed).context("output of `classify bench --json`")?;
        cost.layers = by_layer(board, &layers, &profiled.steps, &laps, &steady)?;
    }
    Ok((cost, steady))
}

fn price(board: &Board, steady: &Counts, macs: u64) -> NetworkCost {
    let bound = board.core.bound(steady);
    let ms = board.milliseconds(bound.cycles);
    let dram_bytes = steady.dram_bytes();
    NetworkCost {
        instructions: steady.instructions(),
        cycles: bound.cycles,
        resource: bound.resource.name(),
        mac_per_cycle: if bound.cycles > 0.0 { macs as f64 / bound.cycles } else { 0.0 },
        ms,
        expected_ms: board.published.map(|ratio| ms * ratio),
        dram_bytes,
        dram_ms: dram_bytes.map(|bytes| board.dram_milliseconds(bytes)),
        resources: busiest(&bound),
        classes: steady.classes(),
        functions: steady.functions.largest_by(demangle).into_iter().filter(|(_, n)| *n > 0).collect(),
        layers: Vec::new(),
    }
}

/// The laps of the last inference, summed layer by layer. `steps` names the layer of each step.
fn by_layer(
    board: &Board,
    layers: &[(String, u64)],
    steps: &[usize],
    laps: &Laps,
    steady: &Counts,
) -> anyhow::Result<Vec<LayerCost>> {
    let n_layers = layers.len();
    let wrong = steps.iter().find(|&&layer| layer >= n_layers);
    ensure!(
        wrong.is_none(),
        "found a step of layer {}, expected one of {n_layers} layers",
        wrong.unwrap_or(&0)
    );
    // [picture], the steps, [output], then what follows the last reading.
    let n_laps = steps.len() + 2;
    let found = laps.0.len();
    ensure!(found > 2 * n_laps, "found {found} readings of the clock, expected more than {}", 2 * n_laps);
    let last = &laps.0[found - 1 - n_laps..found - 1];
    let mut sums = vec![Counts::default(); n_layers + 2];
    for (lap, counts) in last.iter().enumerate() {
        let place = match lap {
            0 => 0,
            _ if lap == n_laps - 1 => n_layers + 1,
            _ => steps[lap - 1] + 1,
        };
        sums[place] = std::mem::take(&mut sums[place]).plus(counts);
    }
    let (sum, whole) = (sums.iter().map(Counts::instructions).sum::<i64>(), steady.instructions());
    ensure!(
        sum.abs_diff(whole) <= whole.unsigned_abs() / 100,
        "the layers execute {sum} instructions, the inference {whole}: the engine reads the clock at other places"
    );
    let edge = |name: &str| (name.to_owned(), 0);
    let names = std::iter::once(edge("[picture]")).chain(layers.iter().cloned()).chain([edge("[output]")]);
    Ok(names.zip(&sums).map(|((name, macs), counts)| layer(board, name, macs, counts)).collect())
}

fn layer(board: &Board, name: String, macs: u64, counts: &Counts) -> LayerCost {
    let bound = board.core.bound(counts);
    LayerCost {
        name,
        macs,
        instructions: counts.instructions(),
        cycles: bound.cycles,
        resource: bound.resource.name(),
        ms: board.milliseconds(bound.cycles),
        dram_bytes: counts.dram_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::board;

    /// Two inferences of two layers, the first in two bands, between start and end.
    fn laps() -> Laps {
        let run = [5, 100, 40, 100, 3];
        let numbers = [1].iter().chain(&run).chain([&7]).chain(&run).chain([&9]);
        let text: String =
            numbers.enumerate().map(|(lap, n)| format!("{lap}\tform\tsmlal.4s\t{n}\n")).collect();
        Laps::parse(&text).unwrap()
    }

    fn steady(n: i64) -> Counts {
        Counts::parse(&format!("form\tsmlal.4s\t{n}\n")).unwrap()
    }

    #[test]
    fn laps_of_the_last_inference_are_summed_by_layer() {
        let (layers, board) = ([("a".to_owned(), 800), ("b".to_owned(), 80)], board("rpi4").unwrap());
        let rows = by_layer(board, &layers, &[0, 1, 0], &laps(), &steady(248)).unwrap();
        let found: Vec<_> =
            rows.iter().map(|r| (r.name.as_str(), r.instructions, r.cycles, r.resource)).collect();
        assert_eq!(
            found,
            [
                ("[picture]", 5, 5.0, "F0"),
                ("a", 200, 200.0, "F0"),
                ("b", 40, 40.0, "F0"),
                ("[output]", 3, 3.0, "F0")
            ]
        );
    }

    #[test]
    fn laps_that_do_not_fit_are_told() {
        let (layers, board) = ([("a".to_owned(), 1)], board("rpi4").unwrap());
        let error = |steps: &[usize], whole| {
            by_layer(board, &layers, steps, &laps(), &steady(whole)).unwrap_err().to_string()
        };
        assert_eq!(error(&[0, 1], 248), "found a step of layer 1, expected one of 1 layers");
        assert_eq!(error(&[0; 9], 248), "found 13 readings of the clock, expected more than 22");
        assert_eq!(
            error(&[0, 0], 248),
            "the layers execute 150 instructions, the inference 248: the engine reads the clock at other places"
        );
    }
}
