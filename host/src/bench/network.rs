//! A whole network: what one inference costs in the steady state, and which layers and functions hold it.
//!
//! ```text
//! classify bench MODEL --threads 1 --warmup 0 --runs 2
//! ```
//!
//! The program reads the clock before and after each inference, and the counter tells what happened between two
//! readings. The second inference is the steady state: two inferences minus one, without the digits that the program
//! prints in the end. With `--profile` the engine reads the clock before the first of its steps and after each, which
//! gives layers:
//!
//! ```text
//! ... start  [picture]  step 0  step 1  ...  step n-1  [output]  end     once more the same     end of the program
//! ```

use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use vgg_edge_blob::Blob;

use super::strips::busiest;
use super::{Emulator, demangle};
use crate::boards::{Board, Counts, Laps, classify};
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
    /// Instructions by class, most first; `.q` behind the classes of 128-bit forms.
    pub classes: Vec<(String, i64)>,
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
    let steps = match options.layers {
        false => None,
        true => {
            progress("the order of the layers");
            let printed = emulator.run(&args(1, &["--profile", "--json"]))?;
            let profiled: Profiled =
                serde_json::from_str(&printed).context("output of `classify bench --json`")?;
            Some(profiled.steps)
        }
    };
    progress("two inferences");
    let more: &[&str] = if options.layers { &["--profile"] } else { &[] };
    let laps = emulator.count_laps(&args(2, more))?;
    let inference = last_inference(&laps, steps.as_ref().map_or(1, |steps| steps.len() + 2))?;
    let steady = sum(inference);
    let mut cost = price(board, &steady, macs);
    if let Some(steps) = steps {
        cost.layers = by_layer(board, &layers, &steps, inference)?;
    }
    Ok((cost, steady))
}

fn sum(laps: &[Counts]) -> Counts {
    laps.iter().fold(Counts::default(), Counts::plus)
}

/// The laps of the last of two inferences, `n` each. Both execute as much, else these are not the inferences.
fn last_inference(laps: &Laps, n: usize) -> anyhow::Result<&[Counts]> {
    // Between the two, and behind the last, there is one lap more.
    let found = laps.0.len();
    ensure!(found >= 2 * n + 3, "found {found} laps of the clock, expected at least {}", 2 * n + 3);
    let (_, laps) = laps.0.split_at(found - (2 * n + 2));
    let (first, last) = (&laps[..n], &laps[n + 1..2 * n + 1]);
    let [one, two] = [first, last].map(|laps| sum(laps).instructions());
    ensure!(
        one.abs_diff(two) <= two.unsigned_abs() / 100,
        "one inference executes {one} instructions, the next {two}: the program reads the clock at other places"
    );
    Ok(last)
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
        expected_ms: board.published().map(|ratio| ms * ratio),
        dram_bytes,
        dram_ms: dram_bytes.map(|bytes| board.dram_milliseconds(bytes)),
        resources: busiest(&bound),
        classes: steady.classes(),
        functions: steady.functions.largest_by(demangle).into_iter().filter(|(_, n)| *n > 0).collect(),
        layers: Vec::new(),
    }
}

/// The laps of an inference, summed layer by layer. `steps` names the layer of each step.
fn by_layer(
    board: &Board,
    layers: &[(String, u64)],
    steps: &[usize],
    laps: &[Counts],
) -> anyhow::Result<Vec<LayerCost>> {
    let n_layers = layers.len();
    let mut sums = vec![Counts::default(); n_layers + 2];
    let places = std::iter::once(0).chain(steps.iter().map(|layer| layer + 1)).chain([n_layers + 1]);
    for (place, lap) in places.zip(laps) {
        let found = place.saturating_sub(1);
        let sum = sums.get_mut(place);
        let sum =
            sum.with_context(|| format!("found a step of layer {found}, expected one of {n_layers} layers"))?;
        *sum = std::mem::take(sum).plus(lap);
    }
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
        classes: counts.forms.largest_by(|form| {
            let (class, wide) = classify(form);
            class.form_name(wide)
        }),
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

    #[test]
    fn laps_of_the_last_inference_are_summed_by_layer() {
        let (layers, board) = ([("a".to_owned(), 800), ("b".to_owned(), 80)], board("rpi4").unwrap());
        let laps = laps();
        let last = last_inference(&laps, 5).unwrap();
        let rows = by_layer(board, &layers, &[0, 1, 0], last).unwrap();
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
        let (layers, board, laps) = ([("a".to_owned(), 1)], board("rpi4").unwrap(), laps());
        let error = |n| last_inference(&laps, n).unwrap_err().to_string();
        assert_eq!(error(6), "found 13 laps of the clock, expected at least 15");
        assert_eq!(
            error(4),
            "one inference executes 150 instructions, the next 243: the program reads the clock at other places"
        );
        let error = by_layer(board, &layers, &[0, 2, 0], &laps.0[7..12]).unwrap_err().to_string();
        assert_eq!(error, "found a step of layer 2, expected one of 1 layers");
    }
}
