//! What a network loses by each choice of ranges, rounding, bias correction and format: a Markdown table.
//!
//! ```text
//! cargo run --release -p vgg-edge-host --example methods -- CALIB TEST WEIGHTS... [OPTION...]
//! ```
//!
//! CALIB and TEST hold one folder of pictures a class; ranges come from CALIB alone. Preprocessing is the file beside the
//! weights. All combinations are measured, the default first, unless an option picks some of them: `ranges=auto,mse`
//! (`percentile` is 99.99), `rounding=nearest`, `bias=corrected`. Two more columns have their first value alone if not asked for:
//! `equalize=no,yes` and `format=int8,int8-fc4,f16,rpi5,rpi4`. There `int8-fc4` has every dense layer but the last in 4 bits, and a board is int8 planned
//! for it with `--max-drop 0.3`, estimated on calibration pictures. Seconds are the processor's, over all threads: of
//! calibration and conversion with its own measurements, not of the evaluation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use vgg_edge_blob::Scheme;
use vgg_edge_host::calibrate::Method;
use vgg_edge_host::convert::{Conversion, Tuning, USUAL_MAX_DROP};
use vgg_edge_host::eval::Network;
use vgg_edge_host::gate::Gate;
use vgg_edge_host::import::{ImportOptions, import};
use vgg_edge_host::plan::Board;
use vgg_edge_host::preprocess::Preprocess;
use vgg_edge_host::progress::Progress;
use vgg_edge_host::quantize::Rounding;
use vgg_edge_host::report::{Accuracy, Comparison};
use vgg_edge_host::samples::Samples;

/// Columns that an option picks from: its name, and its values.
const OPTIONS: [(&str, &[&str]); 5] = [
    ("ranges", &["auto", "mse", "entropy", "percentile", "minmax"]),
    ("rounding", &["nearest", "gptq"]),
    ("bias", &["corrected", "as-is"]),
    ("equalize", &["no", "yes"]),
    ("format", &["int8", "int8-fc4", "f16", "rpi5", "rpi4"]),
];

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (options, paths): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| arg.contains('='));
    ensure!(paths.len() >= 3, "expected CALIB TEST WEIGHTS... [OPTION...]");
    let combinations = combinations(&options)?;
    println!(
        "| network | ranges | rounding | bias | equalized | format | drop | agreement % | mean KL | processor s |"
    );
    println!("|---|---|---|---|---|---|---:|---:|---:|---:|");
    let folders = [paths[0], paths[1]].map(PathBuf::from);
    paths[2..].iter().try_for_each(|weights| table(Path::new(weights), &folders, &combinations))
}

/// One way to quantize: a value of each of [`OPTIONS`].
type Combination = [&'static str; 5];

/// What `options` ask for, in the order of the table.
fn combinations(options: &[&String]) -> anyhow::Result<Vec<Combination>> {
    let mut asked: [Vec<&'static str>; 5] = OPTIONS.map(|(_, values)| values.to_vec());
    asked[3..].iter_mut().for_each(|values| values.truncate(1));
    for option in options {
        let (name, values) = option.split_once('=').unwrap_or_default();
        let Some(i) = OPTIONS.iter().position(|(known, _)| *known == name) else {
            bail!("option `{option}`: expected {}", OPTIONS.map(|(name, _)| name).join(", "));
        };
        let known = OPTIONS[i].1;
        let value = |value: &str| {
            let found = known.iter().find(|known| **known == value).copied();
            found.with_context(|| format!("option `{option}`: expected {}", known.join(", ")))
        };
        asked[i] = values.split(',').map(value).collect::<anyhow::Result<_>>()?;
    }
    let mut all = Vec::new();
    for format in &asked[4] {
        for equalize in &asked[3] {
            for rounding in &asked[1] {
                for bias in &asked[2] {
                    all.extend(asked[0].iter().map(|ranges| [*ranges, *rounding, *bias, *equalize, *format]));
                }
            }
        }
    }
    Ok(all)
}

fn conversion([ranges, rounding, bias, equalize, format]: Combination) -> Conversion {
    let method = match ranges {
        "minmax" => Method::MinMax,
        "percentile" => Method::Percentile(99.99),
        "entropy" => Method::Entropy,
        "mse" => Method::Mse,
        _ => Method::Auto,
    };
    let rounding = if rounding == "gptq" { Rounding::Gptq } else { Rounding::Nearest };
    let tuning = Tuning { rounding, equalize: equalize == "yes", correct_bias: bias == "corrected" };
    let scheme = match format {
        "int8-fc4" => Scheme::Int8Fc4,
        "f16" => Scheme::F16,
        _ => Scheme::Int8,
    };
    let planned = Board::find(format);
    let gate = planned.map(|_| Gate { max_drop: USUAL_MAX_DROP, exact: false, data: None });
    let board = planned.unwrap_or(Board::generic());
    Conversion { scheme, method, tuning, board, gate, labels: Vec::new() }
}

/// Time that all threads of this program had of the processors.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// One network's rows.
fn table(weights: &Path, [calib, test]: &[PathBuf; 2], combinations: &[Combination]) -> anyhow::Result<()> {
    let graph = import(weights, &ImportOptions::default())?.graph;
    let (rule, _) = Preprocess::find(None, weights, graph.input())?;
    let reference = Network::of_graph(&graph, rule.clone())?;
    let (stored, input) = reference.rule()?;
    let open = |folder: &Path| Samples::open(folder, &stored, input);
    let (calib, test) = (open(calib)?, open(test)?);
    ensure!(test.classes().len() == graph.classes(), "the test pictures are not in a folder a class");
    let truth: Vec<usize> =
        test.labelled().map(|(_, class)| class).collect::<Option<_>>().context("no class")?;
    let wanted = reference.logits(&test, "reference", &Progress::Hidden)?;
    let top1 = |logits: &[Vec<f32>]| {
        let mut accuracy = Accuracy::default();
        logits.iter().zip(&truth).for_each(|(logits, class)| accuracy.add(logits, *class));
        100.0 * accuracy.top1()
    };
    let name = weights.file_stem().unwrap_or_default().to_string_lossy();
    eprintln!(
        "{name}: f32 top-1 {:.2} % of {} pictures, {} to calibrate",
        top1(&wanted),
        test.len(),
        calib.len()
    );
    for combination in combinations {
        let start = processor_time();
        let converted =
            conversion(*combination).run_int4_from(1, &graph, &rule, &calib, &Progress::Hidden)?;
        let seconds = (processor_time() - start).as_secs_f64();
        let found = Network::Blob(converted.bytes).logits(&test, "evaluate", &Progress::Hidden)?;
        let mut comparison = Comparison::default();
        wanted.iter().zip(&found).for_each(|(wanted, found)| comparison.add(wanted, found));
        println!(
            "| {name} | {} | {:.2} | {:.2} | {:.6} | {seconds:.0} |",
            combination.join(" | "),
            top1(&wanted) - top1(&found),
            100.0 * comparison.agreement(),
            comparison.mean_kl(),
        );
    }
    Ok(())
}
