//! All printing: answers and tables on stdout, errors with their hints and everything else on stderr.
//!
//! ```text
//! $ classify run model.vgg cat.jpg
//!   0.8123  tabby cat
//!   0.1030  tiger cat
//! ```

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

use anyhow::{Error, Result};
use serde::Serialize;
use vgg_edge_blob::{Blob, BlobError, S8Layout, layout};
use vgg_edge_engine::image::DecodeError;
use vgg_edge_engine::kernels::{self, Kernel};
use vgg_edge_engine::pool::{Executor, Pool};
use vgg_edge_engine::{Engine, EngineError, Repacked};

use crate::answer::{Answer, Found};
use crate::bench::{Measurement, quantile};
use crate::board::{Reading, Throttled};
use crate::info::{Facts, kind};
use crate::log::NoMessages;
use crate::model::ModelFile;

/// A line of data.
pub(crate) fn print_line(line: Arguments<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// A line for people; a closed stderr is no reason to stop.
pub(crate) fn note(line: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whether `error` says that the reader of stdout has gone (`classify ... | head`).
pub(crate) fn is_closed_pipe(error: &Error) -> bool {
    let broken = |e: &io::Error| e.kind() == ErrorKind::BrokenPipe;
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(broken)
}

/// `error: ...` and, after an empty line, what may help.
pub(crate) fn print_error(error: &Error) {
    defmt::error!("{=str}", format!("{error:#}").as_str());
    note(format_args!("error: {error:#}"));
    if let Some(hint) = hint(error) {
        note(format_args!("\nhint: {hint}"));
    }
}

/// The remedy for an error, where there is one.
pub(crate) fn hint(error: &Error) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<BlobError>() {
        return Some(match error {
            BlobError::BadMagic { .. } => "the first argument is a model that `cargo xtask quantize` wrote",
            BlobError::UnsupportedVersion { .. } | BlobError::RecordSize { .. } => {
                "re-create the model with `cargo xtask quantize`, or install a newer `classify`"
            }
            BlobError::TooShort { .. } | BlobError::FileLength { .. } => {
                "the copy may be incomplete; run `cargo xtask deploy` again"
            }
            BlobError::HeadChecksum { .. }
            | BlobError::SectionChecksum { .. }
            | BlobError::Padding { .. } => {
                "copy the model again; if the error stays, the storage may be failing"
            }
            _ => "re-create the model with `cargo xtask quantize`",
        });
    }
    if let Some(error) = error.downcast_ref::<EngineError>() {
        return match error {
            EngineError::Arena { .. } | EngineError::OutOfMemory { .. } => {
                Some("use a smaller network or input size, or a board with more memory")
            }
            EngineError::SelfTest { .. } => {
                Some("this kernel computes wrong results here; please report it with `classify info --json`")
            }
            _ => None,
        };
    }
    if error.downcast_ref::<NoMessages>().is_some() {
        return Some("use `--log-format defmt`, or the program as `cargo xtask build` makes it");
    }
    match error.downcast_ref::<DecodeError>()? {
        DecodeError::Unsupported { .. } => Some("convert the picture to JPEG, PNG, WebP or BMP"),
        DecodeError::Truncated { .. } => Some("the copy may be incomplete; copy the picture again"),
        DecodeError::TooLarge { .. } => Some("make the picture smaller before classifying it"),
        _ => None,
    }
}

/// How answers look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// One JSON object a line, instead of lines for people.
    pub(crate) json: bool,
    /// JSON has the times.
    pub(crate) times: bool,
    /// Classes follow the picture's name.
    pub(crate) named: bool,
}

/// An answer that depends on the picture alone.
#[derive(Serialize)]
struct Untimed<'a> {
    image: &'a str,
    #[serde(flatten)]
    found: &'a Found,
}

/// One picture's answer, written out before it returns; features for people take one line.
pub(crate) fn print_answer(answer: &Answer, style: Style) -> Result<()> {
    if style.json {
        return match style.times {
            true => print_line(format_args!("{}", serde_json::to_string(answer)?)),
            false => {
                let untimed = Untimed { image: &answer.image, found: &answer.found };
                print_line(format_args!("{}", serde_json::to_string(&untimed)?))
            }
        };
    }
    let top = match &answer.found {
        Found::Classes { top } => top,
        Found::Features { shape, features } => {
            return print_line(format_args!("{}  {}", answer.image, self::features(*shape, features)));
        }
    };
    if style.named {
        print_line(format_args!("{}", answer.image))?;
    }
    for class in top {
        match &class.label {
            Some(label) => print_line(format_args!("  {:.4}  {label}", class.probability))?,
            None => print_line(format_args!("  {:.4}  class {}", class.probability, class.class))?,
        }
    }
    Ok(())
}

/// Features in one line.
pub(crate) fn features(shape: [u32; 3], features: &[f32]) -> String {
    let [mean, min, max] = spread(features);
    format!("features {}: mean {mean:.4}, min {min:.4}, max {max:.4}", self::shape(shape))
}

/// Mean, least and largest value.
fn spread(values: &[f32]) -> [f32; 3] {
    let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    [(sum / values.len() as f64) as f32, min, max]
}

/// Model, kernel, threads and memory, before anything runs.
pub(crate) fn print_setup(file: &ModelFile, blob: &Blob<'_>, engine: &Engine<'_>, pool: &Pool) {
    let name = file.path().file_stem().unwrap_or_default().display();
    note(format_args!(
        "model   {name}, {}, {} layers, {}, blob version {}",
        blob.scheme().name(),
        blob.n_layers(),
        size(blob.file_len()),
        layout::VERSION
    ));
    let available: Vec<&str> = kernels::available().map(Kernel::name).map(kernels::variant).collect();
    note(format_args!("kernel  {} (available: {})", engine.kernel().name(), available.join(" ")));
    note(format_args!("memory  arena {}, {} threads", size(engine.arena_bytes()), pool.n_threads()));
}

/// One line when layers were repacked at load: the file was made for another CPU.
pub(crate) fn warn_of_repacking(file: &ModelFile, engine: &Engine<'_>) {
    if let Some(warning) = repacking(engine.repacked(), engine.kernel()) {
        defmt::warn!("{=str}", warning.as_str());
        note(format_args!("warning: {}: {warning}", file.path().display()));
    }
}

/// What was repacked, or `None`: nothing is said where every layer has its algorithm and only the order of its weights is
/// another.
fn repacking(layers: &[Repacked], kernel: &dyn Kernel) -> Option<String> {
    let is_reorder = |layer: &Repacked| layer.from.with(S8Layout::K4) == layer.to.with(S8Layout::K4);
    if layers.iter().all(is_reorder) {
        return None;
    }
    let mut kinds: Vec<String> = Vec::new();
    for layer in layers {
        let kind = format!("{} to {}", layer.from.name(), layer.to.name());
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let noun = if layers.len() == 1 { "layer" } else { "layers" };
    Some(format!(
        "made for another CPU, {} {noun} repacked for {} ({}, {}); --no-repack runs them as they are",
        layers.len(),
        kernel.name(),
        kinds.join(", "),
        size(layers.iter().map(|layer| layer.bytes).sum())
    ))
}

/// How long loading and the pictures took; sorts `times`.
pub(crate) fn print_times(load_ms: f32, times: &mut [f32]) {
    times.sort_by(f32::total_cmp);
    match *times {
        [] => note(format_args!("time    load {load_ms:.1} ms")),
        [run] => note(format_args!("time    load {load_ms:.1} ms, run {run:.2} ms")),
        [min, .., max] => note(format_args!(
            "time    load {load_ms:.1} ms, run {:.2} ms (median of {}, min {min:.2}, max {max:.2})",
            quantile(times, 0.5),
            times.len()
        )),
    }
}

/// The mean time of every layer, then of every kind of layer. `profile` sums nanoseconds over `n_runs`, which took
/// `total` milliseconds on average.
pub(crate) fn print_profile(engine: &Engine<'_>, profile: &[u64], n_runs: usize, total: f32) {
    let n = n_runs as f32;
    let row = |name: &str, ms: f32| {
        let share = if total > 0.0 { ms / total * 100.0 } else { 0.0 };
        note(format_args!("{name:<24} {ms:9.3} ms {share:5.1} %"));
    };
    let mut kinds: Vec<(&str, f32)> = Vec::new();
    note(format_args!(""));
    for (layer, &ns) in engine.layers().iter().zip(profile) {
        let (kind, ms) = (kind(&layer.op), ns as f32 / 1e6 / n);
        row(layer.name, ms);
        match kinds.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, sum)) => *sum += ms,
            None => kinds.push((kind, ms)),
        }
    }
    kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
    let other = total - kinds.iter().map(|(_, ms)| ms).sum::<f32>();
    kinds.push(("[other]", other.max(0.0)));
    note(format_args!(""));
    kinds.iter().for_each(|(name, ms)| row(name, *ms));
}

pub(crate) fn print_measurement(m: &Measurement, json: bool) -> Result<()> {
    if json {
        return print_line(format_args!("{}", serde_json::to_string(m)?));
    }
    print_line(format_args!("{}: {}, {} threads, {} runs", m.model, m.kernel, m.threads, m.runs))?;
    print_line(format_args!(
        "median {:.3} ms, p95 {:.3} ms, min {:.3} ms, max {:.3} ms",
        m.median, m.p95, m.min, m.max
    ))?;
    if let Some(s) = &m.sustained {
        print_line(format_args!(
            "sustained {:.1} s, {} runs: first {:.1} s {:.2} runs/s, last {:.1} s {:.2} runs/s, {:.1} % slower",
            s.seconds,
            s.runs,
            s.part,
            s.first,
            s.part,
            s.last,
            s.slowdown * 100.0
        ))?;
    }
    let [before, after] = m.board.each_ref().map(reading);
    match (before.is_empty() && after.is_empty(), before == after) {
        (true, _) => Ok(()),
        (_, true) => print_line(format_args!("board {after}")),
        _ => print_line(format_args!("board before {before}; after {after}")),
    }
}

/// What a board's sensors say; empty where it has none.
pub(crate) fn reading(reading: &Reading) -> String {
    let mut words = Vec::new();
    match (reading.clock_mhz, reading.max_clock_mhz) {
        (Some(now), Some(max)) => words.push(format!("{now} of {max} MHz")),
        (Some(now), None) => words.push(format!("{now} MHz")),
        _ => {}
    }
    words.extend(reading.temperature.map(|degrees| format!("{degrees:.1} degrees C")));
    words.extend(reading.fan_rpm.map(|rpm| format!("fan {rpm} rpm")));
    if let Some(Throttled { now, earlier }) = &reading.throttled {
        let list =
            |reasons: &[&str]| if reasons.is_empty() { "no".to_owned() } else { reasons.join(" and ") };
        words.push(format!("throttled now: {}, since the start: {}", list(now), list(earlier)));
    }
    words.join(", ")
}

pub(crate) fn print_facts(facts: &Facts<'_>, json: bool) -> Result<()> {
    if json {
        return print_line(format_args!("{}", serde_json::to_string(facts)?));
    }
    let rule = &facts.preprocess;
    print_line(format_args!(
        "model       {}, {}, blob version {}",
        facts.scheme,
        size(facts.bytes),
        facts.version
    ))?;
    print_line(format_args!("input       {}, resize {}, {}", shape(facts.input), rule.resize, rule.filter))?;
    print_line(format_args!(
        "preprocess  {}, scale {}, mean {:?}, std {:?}",
        rule.order, rule.scale, rule.mean, rule.std
    ))?;
    let labels = if facts.labels.is_empty() { "no labels" } else { "with labels" };
    match facts.classes {
        Some(classes) => print_line(format_args!("classes     {classes}, {labels}"))?,
        None => print_line(format_args!("features    {}", shape(facts.output)))?,
    }
    print_line(format_args!("self-test   {}", if facts.self_test { "yes" } else { "none" }))?;
    print_line(format_args!("work        {} multiply-accumulates\n", count(facts.macs)))?;
    let name_width = facts.layers.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).max(5);
    print_line(format_args!(
        "{:<name_width$}  {:<8} {:>15} {:>12} {:>12} {:>6} {:>8}",
        "layer", "kind", "output", "weights", "MACs", "block", "SQNR dB"
    ))?;
    for layer in &facts.layers {
        let sqnr = layer.sqnr_db.map_or_else(|| "-".to_owned(), |db| format!("{db:.1}"));
        print_line(format_args!(
            "{:<name_width$}  {:<8} {:>15} {:>12} {:>12} {:>6} {sqnr:>8}",
            layer.name,
            layer.kind,
            shape(layer.output),
            layer.weight_bytes,
            layer.macs,
            layer.block
        ))?;
    }
    Ok(())
}

/// Rows, columns and channels for people.
fn shape([height, width, channels]: [u32; 3]) -> String {
    format!("{height}x{width}x{channels}")
}

/// A number for people.
fn count(n: u64) -> String {
    match n {
        0..1_000_000 => n.to_string(),
        _ => format!("{:.1} million", n as f64 / 1e6),
    }
}

/// Bytes for people.
fn size(bytes: usize) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes / 1024),
        _ => format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64),
    }
}
