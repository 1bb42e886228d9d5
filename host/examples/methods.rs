//! What int8 loses by each way to choose ranges and to round weights: a Markdown table.
//!
//! ```text
//! cargo run --release -p vgg-edge-host --example methods -- CALIB TEST WEIGHTS...
//! ```
//!
//! CALIB and TEST hold one folder of pictures a class; ranges come from CALIB alone. Preprocessing is the file beside the
//! weights. Seconds are of calibration and conversion, with its own measurements.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use vgg_edge_blob::Scheme;
use vgg_edge_host::calibrate::Method;
use vgg_edge_host::convert::{Conversion, Tuning};
use vgg_edge_host::eval::{Network, evaluate};
use vgg_edge_host::import::{ImportOptions, import};
use vgg_edge_host::plan::Board;
use vgg_edge_host::preprocess::Preprocess;
use vgg_edge_host::progress::Progress;
use vgg_edge_host::quantize::Rounding;
use vgg_edge_host::samples::Samples;

const METHODS: [Method; 5] =
    [Method::MinMax, Method::Percentile(99.99), Method::Entropy, Method::Mse, Method::Auto];

/// Plain, then with one more of the improvements each time.
const TUNINGS: [Tuning; 4] = [
    Tuning { rounding: Rounding::Nearest, equalize: false, correct_bias: false },
    Tuning { rounding: Rounding::Nearest, equalize: false, correct_bias: true },
    Tuning { rounding: Rounding::Gptq, equalize: false, correct_bias: true },
    Tuning { rounding: Rounding::Gptq, equalize: true, correct_bias: true },
];

fn main() -> anyhow::Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    ensure!(args.len() >= 3, "expected CALIB TEST WEIGHTS...");
    println!("| network | ranges | weights | drop | agreement % | seconds |\n|---|---|---|---:|---:|---:|");
    args[2..].iter().try_for_each(|weights| table(weights, &args[0], &args[1]))
}

/// One network's rows.
fn table(weights: &Path, calib: &Path, test: &Path) -> anyhow::Result<()> {
    let graph = import(weights, &ImportOptions::default())?.graph;
    let (rule, _) = Preprocess::find(None, weights, graph.input())?;
    let s = graph.input();
    let input =
        vgg_edge_blob::Shape { height: s.height as u32, width: s.width as u32, channels: s.channels as u32 };
    let samples = Samples::open(calib, &rule.to_blob(), input)?;
    let reference = Network::of_graph(&graph, rule.clone())?;
    let name = weights.file_stem().unwrap_or_default().to_string_lossy();
    for (method, tuning) in METHODS.into_iter().flat_map(|method| TUNINGS.map(|tuning| (method, tuning))) {
        let start = Instant::now();
        let (scheme, board) = (Scheme::Int8, Board::generic());
        let conversion = Conversion { scheme, method, tuning, board, gate: None, labels: Vec::new() };
        let converted = conversion.run(&graph, &rule, &samples, &Progress::Hidden)?;
        let seconds = start.elapsed().as_secs_f64();
        let blob = Network::Blob(converted.bytes);
        let found = evaluate(&blob, Some(&reference), test, &Progress::Hidden)?;
        let drop = 100.0 * found.drop.context("no labels in the test pictures")?;
        let agreement = 100.0 * found.agreement.context("no reference")?;
        println!("| {name} | {method} | {tuning} | {drop:.2} | {agreement:.2} | {seconds:.1} |");
    }
    Ok(())
}
