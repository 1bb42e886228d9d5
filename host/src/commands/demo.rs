//! `demo`: the main job on the bundled network and pictures.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use vgg_edge_blob::{Blob, Scheme};
use vgg_edge_engine::topk::{softmax, top_k};

use super::quantize::DEFAULT_METHOD;
use super::{WeightsArgs, eval, human_bytes, labels, out};
use crate::convert::{Conversion, Tuning, engine};
use crate::eval::{Network, evaluate};
use crate::pack;
use crate::plan::Board;
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::samples::Samples;

/// Pictures whose top-3 is printed.
const SHOWN_PICTURES: usize = 5;

/// Quantizes the bundled network, classifies the bundled pictures, compares with f32
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Where the blobs go
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    pub output: PathBuf,
}

/// Folder of the bundled files: this program only ever runs from its own workspace.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).join("tests/fixtures")
}

impl DemoArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// A bundled file that is missing, or an output folder that cannot be written.
    pub fn run(&self, progress: &Progress) -> anyhow::Result<()> {
        let start = Instant::now();
        let weights = fixtures().join("small_vgg/small_vgg.h5");
        let (calib, test) = (fixtures().join("cifar10/calib"), fixtures().join("cifar10/test"));
        std::fs::create_dir_all(&self.output).with_context(|| format!("folder {}", self.output.display()))?;
        let graph = WeightsArgs::default().import(&weights)?.graph;
        let (rule, _) = Preprocess::find(None, &weights, graph.input())?;
        let labels = labels(None, &weights)?;
        let input = crate::quantize::blob_shape(graph.input());
        let samples = Samples::open(&calib, &rule.to_blob(), input)?;
        out(format_args!(
            "network    {}: {} layers, {} parameters, input {}, {} classes",
            graph.name(),
            graph.layers().len(),
            graph.params(),
            graph.input(),
            graph.classes()
        ))?;
        out(format_args!("calibrate  {} pictures of {}\n", samples.len(), calib.display()))?;

        let reference = Network::of_graph(&graph, rule.clone())?;
        for (scheme, file) in [(Scheme::Int8, "small_vgg.int8.vgg"), (Scheme::F16, "small_vgg.f16.vgg")] {
            let path = self.output.join(file);
            let conversion = Conversion {
                scheme,
                method: DEFAULT_METHOD,
                tuning: Tuning::default(),
                board: Board::generic(),
                gate: None,
                labels: labels.clone(),
            };
            let converted = conversion.run(&graph, &rule, &samples, progress)?;
            pack::save(converted.bytes.as_slice(), &path)?;
            out(format_args!("{}", scheme.name()))?;
            out(format_args!(
                "file       {}, {}",
                path.display(),
                human_bytes(converted.bytes.as_slice().len() as u64)
            ))?;
            if scheme == Scheme::Int8 {
                show_pictures(&path, &test)?;
            }
            let evaluation = evaluate(&Network::Blob(pack::load(&path)?), Some(&reference), &test, progress)?;
            out(format_args!("{}", eval::text(&evaluation)))?;
        }
        out(format_args!(
            "weights    {}, {}",
            weights.display(),
            human_bytes(std::fs::metadata(&weights)?.len())
        ))?;
        out(format_args!("pictures   {}", test.display()))?;
        out(format_args!(
            "next       cargo xtask build, then copy target/board/classify and a .vgg file to the board:"
        ))?;
        out(format_args!("           ./classify run small_vgg.int8.vgg PICTURE.jpg"))?;
        eprintln!("done in {:.1} s", start.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Top-3 of a few pictures, one of every other class.
fn show_pictures(model: &Path, folder: &Path) -> anyhow::Result<()> {
    let bytes = pack::load(model)?;
    let blob = Blob::parse(bytes.as_slice())?;
    let samples = Samples::open(folder, blob.preprocess(), blob.input())?.thin(SHOWN_PICTURES);
    let mut engine = engine(&blob)?;
    for i in 0..samples.len() {
        let picture = samples.picture(i)?;
        let mut probabilities = engine.run(&picture.data)?.to_vec();
        softmax(&mut probabilities);
        let best = top_k(&probabilities, 3);
        let named = best.iter().map(|t| format!("{:.3} {}", t.score, blob.label(t.class).unwrap_or("?")));
        let name = picture.path.strip_prefix(folder).unwrap_or(&picture.path);
        out(format_args!("           {:24} {}", name.display(), named.collect::<Vec<_>>().join(", ")))?;
    }
    Ok(())
}
