//! `classify bench`: exactly N timed runs of the network on one picture; then, if asked, as many as a time takes.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use vgg_edge_blob::{Blob, Layer};
use vgg_edge_engine::Engine;
use vgg_edge_engine::pool::Executor;

use crate::args::Bench;
use crate::board::{self, Board, Reading};
use crate::model::{self, ModelFile, milliseconds};
use crate::output;
use crate::sustain::{Sustained, sustained};

/// What was measured; milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) model: String,
    pub(crate) kernel: &'static str,
    pub(crate) threads: usize,
    pub(crate) runs: usize,
    pub(crate) median: f32,
    pub(crate) p95: f32,
    pub(crate) min: f32,
    pub(crate) max: f32,
    /// The cores that the threads may use.
    pub(crate) cores: Vec<usize>,
    /// With `--sustain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sustained: Option<Sustained>,
    /// The board's sensors behind the first run, and behind the last one.
    pub(crate) board: [Reading; 2],
    /// With `--profile`.
    #[serde(flatten)]
    pub(crate) profile: Option<Profile>,
}

/// Where the time went.
#[derive(Debug, Serialize)]
pub(crate) struct Profile {
    /// Every layer's mean time.
    pub(crate) layers: Vec<LayerTime>,
    /// The layer of each step, by its index, in the order in which they run: the layers of a block take turns, a
    /// band of rows each. The engine reads the clock before the first step and after every one.
    pub(crate) steps: Vec<usize>,
}

/// A layer's mean time.
#[derive(Debug, Serialize)]
pub(crate) struct LayerTime {
    pub(crate) name: String,
    pub(crate) ms: f32,
}

pub(crate) fn bench(args: &Bench) -> Result<ExitCode> {
    let kernel = model::kernel(&args.engine)?;
    let file = ModelFile::open(&args.model)?;
    file.check_signature(&args.trust)?;
    let blob = file.blob()?;
    let pool = model::pool(&args.engine, kernel)?;
    let mut engine = file.engine(&blob, kernel, &pool, &args.engine, args.profile)?;
    output::warn_of_repacking(&file, &engine);
    let picture = picture(&blob);
    for _ in 0..args.warmup {
        engine.run(&picture)?;
    }
    let cores = board::allowed_cores();
    let sensors = Board::here().sensors(&cores);
    let before = sensors.read();
    let mut times = Vec::with_capacity(args.runs.get());
    let mut profile = vec![0u64; blob.n_layers()];
    for _ in 0..args.runs.get() {
        let start = Instant::now();
        engine.run(&picture)?;
        times.push(milliseconds(start));
        profile.iter_mut().zip(engine.profile()).for_each(|(sum, ns)| *sum += ns);
    }
    times.sort_by(f32::total_cmp);
    let sustained = args.sustain.map(|seconds| sustain(&mut engine, &picture, seconds)).transpose()?;
    // Now: another run cools.
    let after = sensors.read();
    defmt::info!("bench: {=usize} runs, median {=f32} ms", times.len(), quantile(&times, 0.5));
    if let Some(throttled) = after.throttled.as_ref().filter(|throttled| !throttled.now.is_empty()) {
        defmt::warn!("the board is slowed down: {=str}", throttled.now.join(", ").as_str());
    }
    // For programs the order of the steps, too, which takes another run.
    let for_programs = args.profile && args.json;
    let detail = for_programs.then(|| profiled(&mut engine, &picture, &profile, times.len())).transpose()?;
    if args.profile && !args.json {
        let mean = times.iter().sum::<f32>() / times.len() as f32;
        output::print_profile(&engine, &profile, times.len(), mean);
    }
    output::print_measurement(
        &Measurement {
            model: file.path().display().to_string(),
            kernel: kernel.name(),
            threads: pool.n_threads(),
            runs: times.len(),
            median: quantile(&times, 0.5),
            p95: quantile(&times, 0.95),
            min: quantile(&times, 0.0),
            max: quantile(&times, 1.0),
            cores,
            sustained,
            board: [before, after],
            profile: detail,
        },
        args.json,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Runs for `seconds`, and one run at least.
fn sustain(engine: &mut Engine<'_>, picture: &[u8], seconds: NonZeroUsize) -> Result<Sustained> {
    let limit = Duration::from_secs(seconds.get() as u64);
    let (start, mut ends) = (Instant::now(), Vec::new());
    while ends.last().is_none_or(|&end| end < limit.as_secs_f32()) {
        engine.run(picture)?;
        ends.push(start.elapsed().as_secs_f32());
    }
    Ok(sustained(&ends))
}

/// Mean times, and the order of the steps, which one more run tells.
fn profiled(engine: &mut Engine<'_>, picture: &[u8], profile: &[u64], runs: usize) -> Result<Profile> {
    let mut steps = Vec::new();
    engine.run_visiting(picture, |layer_idx, _, _| steps.push(layer_idx))?;
    let time = |(layer, &ns): (&Layer<'_>, &u64)| LayerTime {
        name: layer.name.to_owned(),
        ms: ns as f32 / 1e6 / runs as f32,
    };
    Ok(Profile { layers: engine.layers().iter().zip(profile).map(time).collect(), steps })
}

/// The self-test's picture, or noise of the same size (the time depends on neither).
fn picture(blob: &Blob<'_>) -> Vec<u8> {
    if let Some(golden) = blob.golden() {
        return golden.input.to_vec();
    }
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..blob.input().len()).map(|_| noise()).collect()
}

/// The smallest value that at least a share `q` of the sorted values do not exceed; the median of an even
/// number is the mean of its two middle values.
pub(crate) fn quantile(sorted: &[f32], q: f32) -> f32 {
    let n = sorted.len();
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f32::NAN);
    if q == 0.5 && n.is_multiple_of(2) && n > 0 {
        return (at(n / 2 - 1) + at(n / 2)) / 2.0;
    }
    at(((q * n as f32).ceil() as usize).clamp(1, n.max(1)) - 1)
}
