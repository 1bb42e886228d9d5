//! The whole way: graph and calibration pictures to a checked blob, with what it lost.
//!
//! ```text
//! calibrate ─► quantize ─► pack ─► run on this machine's engine against f32 ─► pack again, with the
//!                                  self-test and the figures inside
//! ```

use std::collections::HashMap;

use anyhow::{Context, bail, ensure};
use rayon::prelude::*;
use serde::Serialize;
use vgg_edge_blob::{AlignedBytes, Blob, NewModel, Scheme};
use vgg_edge_engine::pool::Serial;
use vgg_edge_engine::{Engine, Options, kernels};

use crate::calibrate::{Calibration, Method};
use crate::graph::Graph;
use crate::pack;
use crate::plan::{self, Board};
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::quantize::{self, Fused};
use crate::reference::Reference;
use crate::report::{Comparison, LayerSqnr, Sqnr};
use crate::samples::Samples;

/// Pictures on which a conversion is measured, at most; calibration uses all.
const MEASURED_PICTURES: usize = 128;

/// How to convert.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// Number format.
    pub scheme: Scheme,
    /// How activation ranges are chosen (int8).
    pub method: Method,
    /// For which board each layer's algorithm is chosen.
    pub board: &'static Board,
    /// Labels in class order; empty for none.
    pub labels: Vec<String>,
}

/// A blob and what is known about it.
pub struct Converted {
    /// The blob's bytes.
    pub bytes: AlignedBytes,
    /// Figures, also in the blob.
    pub figures: Figures,
    /// Signal to noise of every layer.
    pub sqnr: Vec<LayerSqnr>,
    /// Convolutions of each algorithm, for a line of text.
    pub algorithms: String,
    /// Layers that Winograd would have been faster for, had its proof not failed.
    pub unproved: Vec<String>,
    /// Bytes of the arena that the engine needs.
    pub arena_bytes: usize,
}

/// The blob's metadata. Nothing in it depends on where or when the conversion ran.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Program and version.
    pub tool: String,
    /// Network name.
    pub network: String,
    /// Scheme name.
    pub scheme: &'static str,
    /// How ranges were chosen; absent for f16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Board that algorithms were chosen for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub board: Option<&'static str>,
    /// Pictures the ranges come from; absent for f16 in f32 arithmetic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_pictures: Option<usize>,
    /// Pictures the next two were measured on.
    pub measured_pictures: usize,
    /// Share of them whose first class equals the reference's; absent for a feature extractor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Mean divergence of the probabilities, nats; absent for a feature extractor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_kl: Option<f64>,
}

impl Conversion {
    /// Converts `graph`, in its canonical form: blobs of one network are the same bytes whatever file it came from.
    ///
    /// # Errors
    /// Whatever stage fails: a picture, the overflow proof, the self-test.
    pub fn run(
        &self,
        graph: &Graph,
        rule: &Preprocess,
        samples: &Samples,
        progress: &Progress,
    ) -> anyhow::Result<Converted> {
        ensure!(
            self.labels.is_empty() || self.labels.len() == graph.classes(),
            "{} labels, the network has {} classes",
            self.labels.len(),
            graph.classes()
        );
        ensure!(
            self.labels.is_empty() || graph.is_classifier(),
            "{} labels, but the network is a feature extractor that ends in {}",
            self.labels.len(),
            graph.output()
        );
        let (graph, rule) = &quantize::absorb_input(graph.canonical()?, rule.clone())?;
        let fused = quantize::lower(graph)?;
        let reference = Reference::with_outputs(graph).context("f32 reference")?;
        let mut unproved = Vec::new();
        let (mut model, calibrated) = match self.scheme {
            Scheme::Int8 => {
                let calibration =
                    Calibration::run(graph, &reference, samples, rule, progress).context("calibrate")?;
                let mut model = quantize::to_int8(graph, &rule.to_blob(), &calibration, self.method)?;
                unproved = plan::apply(&mut model, self.board);
                (model, Some(calibration.n_pictures()))
            }
            Scheme::F16 => {
                // How large inputs are, where arithmetic is in half precision.
                let calibration = plan::f16::multiplies_half(self.board)
                    .then(|| Calibration::run(graph, &reference, samples, rule, progress))
                    .transpose()
                    .context("calibrate")?;
                let model = quantize::to_f16(graph, &rule.to_blob(), self.board, calibration.as_ref())?;
                (model, calibration.map(|c| c.n_pictures()))
            }
        };
        model.labels.clone_from(&self.labels);
        let draft = pack::to_bytes(model.clone())?;
        let measured = samples.clone().thin(MEASURED_PICTURES);
        let (sqnr, comparison) = measure(&reference, &fused, &draft, &measured, rule, progress)?;
        drop(draft);
        let figures = Figures {
            tool: format!("vgg-edge {}", env!("CARGO_PKG_VERSION")),
            network: graph.name().to_owned(),
            scheme: self.scheme.name(),
            method: (self.scheme == Scheme::Int8).then(|| self.method.to_string()),
            board: Some(self.board.name),
            calibration_pictures: calibrated,
            measured_pictures: measured.len(),
            agreement: graph.is_classifier().then(|| comparison.agreement()),
            mean_kl: graph.is_classifier().then(|| comparison.mean_kl()),
        };
        for (layer, sqnr) in model.layers.iter_mut().zip(&sqnr) {
            layer.sqnr_db = sqnr.db;
        }
        model.metadata = serde_json::to_string(&figures)?;
        let algorithms = plan::algorithms(&model);
        let (bytes, arena_bytes) = with_self_test(model, samples)?;
        Ok(Converted { bytes, figures, sqnr, algorithms, unproved, arena_bytes })
    }
}

/// An engine on the best kernel and the caller's own thread.
pub(crate) fn engine<'a>(blob: &Blob<'a>) -> anyhow::Result<Engine<'a>> {
    Ok(Engine::new(blob, kernels::best(), &Serial, Options::default())?)
}

/// Runs the blob against the reference, layer by layer.
fn measure(
    reference: &Reference,
    fused: &[Fused<'_>],
    bytes: &AlignedBytes,
    samples: &Samples,
    rule: &Preprocess,
    progress: &Progress,
) -> anyhow::Result<(Vec<LayerSqnr>, Comparison)> {
    let blob = Blob::parse(bytes.as_slice())?;
    let bar = progress.bar("compare", samples.len());
    let empty = || (vec![Sqnr::default(); fused.len()], Comparison::default());
    let pictures: Vec<_> = (0..samples.len())
        .into_par_iter()
        .map_init(
            || engine(&blob),
            |engine, i| {
                let engine = engine.as_mut().map_err(|e| anyhow::anyhow!("{e:#}"))?;
                let picture = samples.picture(i)?;
                let (answer, outputs) = reference.run_with_outputs(&rule.normalize(&picture.data)?)?;
                let outputs: HashMap<usize, &[f32]> =
                    outputs.iter().map(|o| (o.layer_idx, o.data.as_slice())).collect();
                let (mut sums, mut comparison) = empty();
                let logits = engine.run_visiting(&picture.data, |layer_idx, first_row, values| {
                    let Some(real) = outputs.get(&fused[layer_idx].layer_idx) else { return };
                    let row =
                        blob.layer(layer_idx).map_or(1, |l| (l.output.width * l.output.channels) as usize);
                    sums[layer_idx].add(&real[first_row * row..][..values.len()], values);
                })?;
                comparison.add(&answer.logits, logits);
                bar.inc(1);
                anyhow::Ok((sums, comparison))
            },
        )
        .collect::<anyhow::Result<_>>()?;
    // In the pictures' order: sums of floats must not depend on threads, or the blob's bytes would.
    let (mut sums, mut comparison) = empty();
    for (of_layers, of_logits) in &pictures {
        sums.iter_mut().zip(of_layers).for_each(|(a, b)| a.merge(b));
        comparison.merge(of_logits);
    }
    let layers = fused.iter().zip(&sums).map(|(f, s)| LayerSqnr { name: f.name.to_owned(), db: s.db() });
    Ok((layers.collect(), comparison))
}

/// Adds the first picture and its logits, packs, and lets every kernel of this machine repeat them.
fn with_self_test(mut model: NewModel, samples: &Samples) -> anyhow::Result<(AlignedBytes, usize)> {
    let picture = samples.picture(0)?.data;
    let logits = {
        let draft = pack::to_bytes(model.clone())?;
        let blob = Blob::parse(draft.as_slice())?;
        engine(&blob)?.run(&picture)?.to_vec()
    };
    if logits.iter().any(|l| !l.is_finite()) {
        bail!("the converted network's logits are not finite");
    }
    model.golden = Some((picture, logits));
    let bytes = pack::to_bytes(model)?;
    let blob = Blob::parse(bytes.as_slice())?;
    blob.verify_checksums()?;
    let mut arena_bytes = 0;
    // The specification itself takes long on large networks; the test suite compares it with the others.
    for kernel in kernels::available().take(1) {
        let mut engine = Engine::new(&blob, kernel, &Serial, Options::default())?;
        engine.self_test().with_context(|| format!("kernel {}", kernel.name()))?;
        arena_bytes = engine.arena_bytes();
    }
    Ok((bytes, arena_bytes))
}
