//! What int8 and int8-fc4 lose on pictures that calibration has not seen: dense layers, answers.
//!
//! ```text
//! cargo run --release -p vgg-edge-host --example held_out -- WEIGHTS PRESET CALIB UNSEEN [INT4_FROM]
//! ```
//!
//! PRESET is a preprocessing preset, or `-` for the file beside the weights; INT4_FROM the weights from which on a dense
//! layer takes 4 bits.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use vgg_edge_blob::{Blob, LayerOp, Scheme};
use vgg_edge_engine::pool::Serial;
use vgg_edge_engine::{Engine, Options, kernels};
use vgg_edge_host::calibrate::Method;
use vgg_edge_host::convert::Conversion;
use vgg_edge_host::import::{ImportOptions, import};
use vgg_edge_host::plan::Board;
use vgg_edge_host::preprocess::Preprocess;
use vgg_edge_host::progress::Progress;
use vgg_edge_host::quantize::{INT4_FROM, absorb_input, lower};
use vgg_edge_host::reference::Reference;
use vgg_edge_host::report::{Comparison, Sqnr};
use vgg_edge_host::samples::Samples;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    ensure!((4..=5).contains(&args.len()), "expected WEIGHTS PRESET CALIB UNSEEN [INT4_FROM]");
    let weights = PathBuf::from(&args[0]);
    let from = args.get(4).map_or(Ok(INT4_FROM), |n| n.parse()).context("INT4_FROM")?;
    let graph = import(&weights, &ImportOptions::default())?.graph;
    let preset = (args[1] != "-").then_some(args[1].as_str());
    let (rule, _) = Preprocess::find(preset, &weights, graph.input())?;
    let s = graph.input();
    let input =
        vgg_edge_blob::Shape { height: s.height as u32, width: s.width as u32, channels: s.channels as u32 };
    let open = |folder: &str| Samples::open(folder.as_ref(), &rule.to_blob(), input);
    let (calib, unseen) = (open(&args[2])?, open(&args[3])?);
    println!("{}: {} pictures to calibrate, {} unseen", weights.display(), calib.len(), unseen.len());
    let (canonical, whole) = absorb_input(graph.canonical()?, rule.clone())?;
    let fused = lower(&canonical)?;
    let reference = Reference::with_outputs(&canonical)?;
    for scheme in [Scheme::Int8, Scheme::Int8Fc4] {
        let conversion = Conversion {
            scheme,
            method: Method::Mse,
            board: Board::generic(),
            gate: None,
            labels: Vec::new(),
        };
        let converted = conversion.run_int4_from(from, &graph, &rule, &calib, &Progress::Hidden)?;
        let blob = Blob::parse(converted.bytes.as_slice())?;
        let mut engine = Engine::new(&blob, kernels::best(), &Serial, Options::default())?;
        let mut comparison = Comparison::default();
        let mut layers = vec![Sqnr::default(); fused.len()];
        for i in 0..unseen.len() {
            let picture = unseen.picture(i)?;
            let (answer, outputs) = reference.run_with_outputs(&whole.normalize(&picture.data)?)?;
            let logits = engine.run_visiting(&picture.data, |layer_idx, _, values| {
                let real = outputs.iter().find(|o| o.layer_idx == fused[layer_idx].layer_idx);
                let is_dense =
                    blob.layer(layer_idx).is_some_and(|layer| matches!(layer.op, LayerOp::Dense(_)));
                if let Some(real) = real.filter(|_| is_dense) {
                    layers[layer_idx].add(&real.data, values);
                }
            })?;
            comparison.add(&answer.logits, logits);
        }
        print!("{:<9}{:>12} bytes", scheme.name(), blob.file_len());
        for (layer, sqnr) in blob.layers().zip(&layers) {
            if let LayerOp::Dense(linear) = layer.op {
                print!(", {} {} {:.2} dB", layer.name, linear.weights.layout().name(), sqnr.db());
            }
        }
        println!(", agreement {:.2} %, KL {:.6}", 100.0 * comparison.agreement(), comparison.mean_kl());
    }
    Ok(())
}
