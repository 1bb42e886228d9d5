//! Fits the cost table of the planner to counted layers.
//!
//! ```text
//! refit network DIR                        writes blobs of odd sizes, to be counted with the others
//! refit record NAME COUNTS.json...         lines of one network: `bench --cpu CPU MODEL --layers --json`, once a CPU
//! refit timed NAME MODEL CPU GHZ JSON      the same of `classify bench MODEL --profile --json`
//! refit fit COUNTED.tsv TABLE.tsv          the table, on standard output; steps without counts stay as they are
//! refit compare COUNTED.tsv                predicted against counted, a table a network and core
//! ```
//!
//! Each class of instructions is fitted by itself: non-negative least squares of relative errors over all layers that do
//! the step. `benches/record/2026-11-24-planner.md` of the engine has the whole sequence.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use vgg_edge_blob::{Algorithm, Blob, Scheme};
use vgg_edge_host::boards::{BOARDS, Class};
use vgg_edge_host::pack;
use vgg_edge_host::plan::{Counted, Sample, Sketch, Unit, cpu_of};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["network", dir] => network(Path::new(dir)),
        ["record", name, ref files @ ..] if !files.is_empty() => record(name, files),
        ["timed", name, model, cpu, ghz, json] => timed(name, model, cpu, ghz.parse()?, json),
        ["fit", counted, table] => fit(&read(counted)?, &read(table)?),
        ["compare", counted] => compare(&read(counted)?),
        _ => bail!("found {} arguments, expected network, record, timed, fit or compare", args.len()),
    }
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

fn counted(text: &str) -> anyhow::Result<Vec<Counted>> {
    Counted::parse(text).map_err(anyhow::Error::msg)
}

fn network(dir: &Path) -> anyhow::Result<()> {
    for (name, scheme, algorithm) in [
        ("odd", Scheme::Int8, Algorithm::Direct),
        ("odd-winograd", Scheme::Int8, Algorithm::WinogradF43),
        ("odd-filters", Scheme::Int8, Algorithm::WinogradF43Filters),
        ("odd-f16", Scheme::F16, Algorithm::Direct),
    ] {
        let model = vgg_edge_tests::odd_network(scheme, algorithm);
        pack::save(pack::to_bytes(model)?.as_slice(), &dir.join(format!("{name}.vgg")))?;
    }
    Ok(())
}

/// The lines of a network itself.
fn head(name: &str, model: &str) -> anyhow::Result<String> {
    let bytes = pack::load(Path::new(model))?;
    let sketch = Sketch::of_blob(&Blob::parse(bytes.as_slice())?);
    let mut text = format!("network\t{name}\t{}\t{}\n", sketch.scheme.name(), sketch.input);
    for layer in &sketch.layers {
        writeln!(text, "layer\t{}\t{}\t{}", layer.name, layer.block, layer.op)?;
    }
    Ok(text)
}

fn record(name: &str, files: &[&str]) -> anyhow::Result<()> {
    for (i, file) in files.iter().enumerate() {
        let json: Value = serde_json::from_str(&read(file)?).with_context(|| (*file).to_owned())?;
        let text = |key: &str| json[key].as_str().with_context(|| format!("{file}: no `{key}`"));
        if i == 0 {
            print!("{}", head(name, text("model")?)?);
        }
        println!("counts\t{name}\t{}", text("cpu")?);
        for layer in json["layers"].as_array().context("no `layers`")? {
            let classes = layer["classes"].as_array().context("no `classes`")?.iter();
            let all = layer["instructions"].as_f64().unwrap_or(0.0);
            let counted = classes.filter(|pair| pair[1].as_f64().is_some_and(|n| n > all * NOTHING));
            let part = |pair: &Value| Some(format!("{} {}", pair[0].as_str()?, pair[1].as_i64()?));
            let parts: Vec<String> = counted.filter_map(part).collect();
            println!("of\t{}\t{}", layer["name"].as_str().unwrap_or_default(), parts.join(", "));
        }
    }
    Ok(())
}

fn timed(name: &str, model: &str, cpu: &str, ghz: f64, file: &str) -> anyhow::Result<()> {
    let json: Value = serde_json::from_str(&read(file)?).with_context(|| file.to_owned())?;
    println!("{}counts\t{name}\t{cpu}", head(name, model)?);
    let of = |layer: &str, ms: f64| println!("of\t{layer}\tcycles {:.0}", ms * ghz * 1e6);
    let layers = json["layers"].as_array().context("no `layers`")?;
    let ms = |layer: &Value| layer["ms"].as_f64().unwrap_or(0.0);
    // What no layer takes.
    let rest = json["median"].as_f64().context("no `median`")? - layers.iter().map(ms).sum::<f64>();
    of("[picture]", rest.max(0.0));
    layers.iter().for_each(|layer| of(layer["name"].as_str().unwrap_or_default(), ms(layer)));
    of("[output]", 0.0);
    Ok(())
}

/// All layers that do a step on a CPU.
type BySteps<'a> = BTreeMap<(&'static str, &'static str), Vec<Sample<'a>>>;

fn by_steps(networks: &[Counted]) -> BySteps<'_> {
    let mut samples: BySteps<'_> = BTreeMap::new();
    let mut seen: Vec<&str> = Vec::new();
    for core in BOARDS.iter().map(|board| board.core) {
        let cpu = cpu_of(core);
        if seen.contains(&cpu) {
            continue;
        }
        seen.push(cpu);
        for network in networks {
            for sample in network.samples(cpu, core).unwrap_or_default() {
                samples.entry((cpu, sample.step)).or_default().push(sample);
            }
        }
    }
    samples
}

fn fit(counts: &str, table: &str) -> anyhow::Result<()> {
    let networks = counted(counts)?;
    let samples = by_steps(&networks);
    let fitted = |line: &str| {
        let mut columns = line.split('\t');
        let key = (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
        samples.keys().any(|(cpu, step)| (*cpu, *step) == key)
    };
    // Comments, and steps without counts.
    table.lines().filter(|line| !fitted(line)).for_each(|line| println!("{line}"));
    for ((cpu, step), samples) in &samples {
        let lines = fit_step(samples)?;
        for (unit, executed) in lines {
            println!("{cpu}\t{step}\t{}\t{executed}", unit.name());
        }
    }
    Ok(())
}

/// Every unit of a step with what it executes.
fn fit_step(samples: &[Sample<'_>]) -> anyhow::Result<Vec<(Unit, String)>> {
    let units: Vec<Unit> =
        Unit::ALL.into_iter().filter(|u| samples.iter().any(|s| s.units.get(*u) > 0.0)).collect();
    let mut executed: Vec<Vec<String>> = vec![Vec::new(); units.len()];
    let total =
        |s: &Sample<'_>| s.executed.cycles + s.executed.classes.iter().map(|(_, _, n)| n).sum::<f64>();
    let mut targets: Vec<(String, Vec<f64>)> =
        vec![("cycles".to_owned(), samples.iter().map(|s| s.executed.cycles).collect())];
    for class in Class::ALL {
        for wide in [true, false] {
            let n = |s: &Sample<'_>| {
                s.executed.classes.iter().filter(|c| (c.0, c.1) == (class, wide)).map(|c| c.2).sum()
            };
            targets.push((class.form_name(wide), samples.iter().map(n).collect()));
        }
    }
    for (name, target) in targets.iter().filter(|(_, target)| target.iter().any(|n| *n > 0.0)) {
        // Relative to all that the layer executes, so that no layer is drowned.
        let weight = |s: &Sample<'_>| 1.0 / total(s).max(1.0);
        let rows: Vec<Vec<f64>> =
            samples.iter().map(|s| units.iter().map(|u| s.units.get(*u) * weight(s)).collect()).collect();
        let wanted: Vec<f64> = samples.iter().zip(target).map(|(s, n)| n * weight(s)).collect();
        for (a, (executed, n)) in executed.iter_mut().zip(non_negative(&rows, &wanted)).enumerate() {
            // What is nothing in every layer.
            if rows.iter().any(|row| n * row[a] > NOTHING) {
                executed.push(format!("{name} {}", rounded(n)));
            }
        }
    }
    let lines = units.into_iter().zip(executed).filter(|(_, parts)| !parts.is_empty());
    Ok(lines.map(|(unit, parts)| (unit, parts.join(", "))).collect())
}

/// Four digits.
fn rounded(n: f64) -> f64 {
    let digits = 10f64.powf(3.0 - n.log10().floor());
    (n * digits).round() / digits
}

/// Non-negative `x` with the least squares of `rows * x - wanted`, by going through the coordinates.
fn non_negative(rows: &[Vec<f64>], wanted: &[f64]) -> Vec<f64> {
    let n = rows.first().map_or(0, Vec::len);
    let dot = |a: usize, b: usize| rows.iter().map(|row| row[a] * row[b]).sum::<f64>();
    // Columns of one length, so that a small weight on their sizes parts what layers do not tell apart: to what is done most.
    let lengths: Vec<f64> = (0..n).map(|a| dot(a, a).sqrt().max(1e-300)).collect();
    let longest = lengths.iter().fold(0.0f64, |a, b| a.max(*b));
    let gram: Vec<Vec<f64>> =
        (0..n).map(|a| (0..n).map(|b| dot(a, b) / lengths[a] / lengths[b]).collect()).collect();
    let right: Vec<f64> = (0..n)
        .map(|a| rows.iter().zip(wanted).map(|(row, w)| row[a] * w).sum::<f64>() / lengths[a])
        .collect();
    let mut x = vec![0.0f64; n];
    for _ in 0..50_000 {
        let mut moved = 0.0f64;
        for a in 0..n {
            let rest: f64 = (0..n).filter(|b| *b != a).map(|b| gram[a][b] * x[b]).sum();
            let new = ((right[a] - rest) / (1.0 + RIDGE * longest / lengths[a])).max(0.0);
            moved = moved.max((new - x[a]).abs());
            x[a] = new;
        }
        if moved < 1e-12 {
            break;
        }
    }
    x.iter().zip(&lengths).map(|(x, length)| x / length).collect()
}

/// Weight on the size of what is fitted, where columns have length 1.
const RIDGE: f64 = 1e-7;
/// Share of a layer's instructions that is left out.
const NOTHING: f64 = 5e-4;

fn compare(counts: &str) -> anyhow::Result<()> {
    let networks = counted(counts)?;
    ensure!(!networks.is_empty(), "found no network");
    let mut seen: Vec<&str> = Vec::new();
    for core in BOARDS.iter().map(|board| board.core) {
        if seen.contains(&core.name) {
            continue;
        }
        seen.push(core.name);
        for network in &networks {
            let Some(samples) = network.samples(cpu_of(core), core) else { continue };
            let all: f64 = samples.iter().map(|s| s.executed.cycles_on(core)).sum();
            println!(
                "\n{} on {}\n\nlayer | counted | predicted | off\n--- | --- | --- | ---",
                network.name, core.name
            );
            for sample in &samples {
                let (counted, predicted) =
                    (sample.executed.cycles_on(core), sample.predicted(core).unwrap_or(f64::NAN));
                let mark = if counted < 0.01 * all { " (below 1 %)" } else { "" };
                println!(
                    "{} ({}) | {:.3} M | {:.3} M | {:+.1} %{mark}",
                    sample.executed.layer,
                    sample.step,
                    counted / 1e6,
                    predicted / 1e6,
                    (predicted / counted - 1.0) * 100.0
                );
            }
        }
    }
    Ok(())
}
