//! What int8 and int8-fc4 lose on pictures that calibration has not seen: every layer, answers.
//!
//! ```text
//! cargo run --release -p vgg-edge-host --example held_out -- WEIGHTS PRESET CALIB UNSEEN [OPTION...]
//! ```
//!
//! PRESET is a preprocessing preset, or `-` for the file beside the weights. Options: `scheme=int8-fc4`, `from=N` (the weights
//! from which on a dense layer takes 4 bits), `method=minmax|entropy|mse|auto`, `rounding=gptq`, `equalize=yes`, `bias=no`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use rayon::prelude::*;
use vgg_edge_blob::{Blob, Scheme};
use vgg_edge_engine::pool::Serial;
use vgg_edge_engine::{Engine, Options, kernels};
use vgg_edge_host::calibrate::Method;
use vgg_edge_host::convert::{Conversion, Tuning};
use vgg_edge_host::import::{ImportOptions, import};
use vgg_edge_host::plan::Board;
use vgg_edge_host::preprocess::Preprocess;
use vgg_edge_host::progress::Progress;
use vgg_edge_host::quantize::{Factors, INT4_FROM, Rounding, lower};
use vgg_edge_host::reference::Reference;
use vgg_edge_host::report::{Comparison, Sqnr};
use vgg_edge_host::samples::Samples;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    ensure!(args.len() >= 4, "expected WEIGHTS PRESET CALIB UNSEEN [OPTION...]");
    let weights = PathBuf::from(&args[0]);
    let (mut scheme, mut method, mut tuning, mut from) =
        (Scheme::Int8, Method::Auto, Tuning::default(), INT4_FROM);
    for option in &args[4..] {
        match option.split_once('=') {
            Some(("scheme", "int8-fc4")) => scheme = Scheme::Int8Fc4,
            Some(("from", n)) => from = n.parse().context("from")?,
            Some(("method", "minmax")) => method = Method::MinMax,
            Some(("method", "entropy")) => method = Method::Entropy,
            Some(("method", "mse")) => method = Method::Mse,
            Some(("method", "auto")) => method = Method::Auto,
            Some(("rounding", "gptq")) => tuning.rounding = Rounding::Gptq,
            Some(("equalize", "yes")) => tuning.equalize = true,
            Some(("bias", "no")) => tuning.correct_bias = false,
            _ => bail!("option `{option}`: expected scheme, from, method, rounding, equalize or bias"),
        }
    }
    let graph = import(&weights, &ImportOptions::default())?.graph;
    let preset = (args[1] != "-").then_some(args[1].as_str());
    let (rule, _) = Preprocess::find(preset, &weights, graph.input())?;
    let s = graph.input();
    let input =
        vgg_edge_blob::Shape { height: s.height as u32, width: s.width as u32, channels: s.channels as u32 };
    let open = |folder: &str| Samples::open(folder.as_ref(), &rule.to_blob(), input);
    let (calib, unseen) = (open(&args[2])?, open(&args[3])?);
    let start = Instant::now();
    let conversion =
        Conversion { scheme, method, tuning, board: Board::generic(), gate: None, labels: Vec::new() };
    let converted = conversion.run_int4_from(from, &graph, &rule, &calib, &Progress::Hidden)?;
    let seconds = start.elapsed().as_secs_f64();
    // In the channels' own scale.
    let factors = Factors::new(&converted.graph, &converted.figures.equalized);
    let fused = lower(&converted.graph)?;
    let reference = Reference::with_outputs(&converted.graph)?;
    let blob = Blob::parse(converted.bytes.as_slice())?;
    let found: Vec<(Vec<Sqnr>, Comparison)> = (0..unseen.len())
        .into_par_iter()
        .map(|i| {
            let mut engine = Engine::new(&blob, kernels::best(), &Serial, Options::default())?;
            let (mut layers, mut comparison) = (vec![Sqnr::default(); fused.len()], Comparison::default());
            let picture = unseen.picture(i)?;
            let (answer, outputs) = reference.run_with_outputs(&converted.rule.normalize(&picture.data)?)?;
            let logits = engine.run_visiting(&picture.data, |layer_idx, first_row, values| {
                let graph_idx = fused[layer_idx].layer_idx;
                let real = outputs.iter().find(|o| o.layer_idx == graph_idx);
                let row = blob.layer(layer_idx).map_or(1, |l| (l.output.width * l.output.channels) as usize);
                if let Some(real) = real {
                    let real = &real.data[first_row * row..][..values.len()];
                    layers[layer_idx].add_scaled(real, values, factors.of(graph_idx));
                }
            })?;
            comparison.add(&answer.logits, logits);
            anyhow::Ok((layers, comparison))
        })
        .collect::<anyhow::Result<_>>()?;
    let (mut layers, mut comparison) = (vec![Sqnr::default(); fused.len()], Comparison::default());
    for (of_layers, of_answers) in &found {
        layers.iter_mut().zip(of_layers).for_each(|(a, b)| a.merge(b));
        comparison.merge(of_answers);
    }
    println!(
        "{}, {} pictures to calibrate, {} unseen, {}, ranges {method}, {tuning}, {seconds:.1} s",
        weights.display(),
        calib.len(),
        unseen.len(),
        scheme.name()
    );
    for (layer, sqnr) in fused.iter().zip(&layers) {
        let chosen = converted.calibration.as_ref().map(|c| c.method(layer.layer_idx, method).to_string());
        println!("  {:<14} {:6.2} dB  {}", layer.name, sqnr.db(), chosen.unwrap_or_default());
    }
    if converted.graph.is_classifier() {
        println!("  agreement {:.2} %, KL {:.6}", 100.0 * comparison.agreement(), comparison.mean_kl());
    }
    Ok(())
}
