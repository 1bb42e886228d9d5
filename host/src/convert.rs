//! The whole way: graph and calibration pictures to a checked blob, with what it lost.
//!
//! ```text
//! calibrate ─► quantize ─► plan ─► pack ─► run on this machine's engine against f32 ─► pack again, with the
//!                           ▲ │                                                        self-test and the figures inside
//!                           │ └─► faster, approximate layers (approximate.rs) ─► measure ─► inside the gate?
//!                           └──────────────────────────────────────────────────────────── fewer of them: no
//! ```
//!
//! Without a gate a plan is exact: direct and exact Winograd give the same bytes, so that results do not depend on the board
//! that was named, and none is lost by not measuring. Who asks for speed says what it may cost: the usual allowance is
//! [`USUAL_MAX_DROP`] points.

mod approximate;
mod int8;

use std::collections::HashMap;

use anyhow::{Context, bail, ensure};
use rayon::prelude::*;
use serde::Serialize;
use vgg_edge_blob::{AlignedBytes, Blob, NewModel, NewOp, Scheme};
use vgg_edge_engine::pool::Serial;
use vgg_edge_engine::{Engine, Options, kernels};

use approximate::Search;
pub use int8::Tuning;

use crate::calibrate::{Calibration, Method};
use crate::gate::{Gate, Judge, Measure};
use crate::graph::Graph;
use crate::pack;
use crate::plan::{self, Board};
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::quantize::{self, Exponents, Factors, Fused, Int8, Rounding};
use crate::reference::Reference;
use crate::report::{Comparison, LayerSqnr, Sqnr};
use crate::samples::Samples;

/// Pictures on which a conversion is measured, at most; calibration uses all.
const MEASURED_PICTURES: usize = 128;
/// The same where layers are approximate: the gate's own number.
const MEASURED_PICTURES_GATED: usize = 64;
/// Points of top-1 that a plan for speed usually may lose.
pub const USUAL_MAX_DROP: f64 = 0.3;

/// How to convert.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// Number format.
    pub scheme: Scheme,
    /// How activation ranges are chosen (int8).
    pub method: Method,
    /// How weights are made fit for 8 bits (int8).
    pub tuning: Tuning,
    /// For which board each layer's algorithm is chosen.
    pub board: &'static Board,
    /// What may be lost (int8), measured; `None` measures nothing and plans exactly.
    pub gate: Option<Gate>,
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
    /// What calibration saw, with what `auto` chose; absent where nothing was calibrated. Of `graph`.
    pub calibration: Option<Calibration>,
    /// The network that was quantized: canonical, input absorbed, channels equalized.
    pub graph: Graph,
    /// Its preprocessing.
    pub rule: Preprocess,
    /// It in int8 with every layer direct, before the plan.
    pub direct: Option<NewModel>,
    /// The pictures that it was measured on.
    pub measured: Samples,
    /// Both networks' answers for each of them.
    pub answers: Vec<Answers>,
}

/// Logits, or features, of one picture.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The reference's.
    pub reference: Vec<f32>,
    /// The blob's.
    pub blob: Vec<f32>,
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
    /// How weights were made fit for 8 bits; absent for f16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuning: Option<String>,
    /// Quarter octaves that each channel of a layer's output is scaled by: real values are 2^(e / 4) times the file's.
    #[serde(skip_serializing_if = "Exponents::is_empty")]
    pub equalized: Exponents,
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
    /// What the gate measured; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateFigures>,
    /// Every convolution; absent where all are exact.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<PlanFigures>,
}

/// What the gate allowed and measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GateFigures {
    /// Allowed.
    pub max_drop: f64,
    /// Measured.
    pub drop: f64,
    /// The unit of both.
    pub measure: Measure,
    /// Pictures of this measurement.
    pub pictures: usize,
    /// Agreement on them; absent for a feature extractor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Divergence on them, nats; absent for a feature extractor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_kl: Option<f64>,
}

/// How a layer is computed, and what that was predicted and measured to lose.
#[derive(Clone, Debug, Serialize)]
pub struct PlanFigures {
    /// Layer.
    pub layer: String,
    /// Algorithm.
    pub algorithm: &'static str,
    /// SQNR of an approximate algorithm alone, dB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_db: Option<f32>,
    /// SQNR of the layer with all before it, dB.
    pub measured_db: f32,
}

impl Conversion {
    /// Without equalization for methods that look at a map's values alone: they would take small channels, once they are
    /// made large, for as important as the others, and clip these.
    fn effective_tuning(&self) -> Tuning {
        let minds = matches!(self.method, Method::Auto | Method::MinMax | Method::Margin(_));
        Tuning { equalize: self.tuning.equalize && minds, ..self.tuning }
    }

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
        self.run_int4_from(quantize::INT4_FROM, graph, rule, samples, progress)
    }

    /// As [`Conversion::run`]; under [`Scheme::Int8Fc4`] dense layers of `int4_from` weights or more take 4 bits.
    ///
    /// # Errors
    /// As [`Conversion::run`], and a network without such a layer.
    pub fn run_int4_from(
        &self,
        int4_from: usize,
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
        let (mut graph, rule) = quantize::absorb_input(graph.canonical()?, rule.clone())?;
        let mut reference = Reference::with_outputs(&graph).context("f32 reference")?;
        let mut exponents = Exponents::new();
        let tuning = self.effective_tuning();
        if self.scheme.is_int8() && tuning.equalize {
            let maxima = int8::maxima(&graph, &reference, samples, &rule, progress).context("equalize")?;
            exponents = quantize::exponents(&graph, &maxima);
            drop(reference);
            graph = quantize::equalize(graph, &exponents).context("equalize")?;
            reference = Reference::with_outputs(&graph).context("f32 reference")?;
        }
        let (graph, rule) = (&graph, &rule);
        let factors = Factors::new(graph, &exponents);
        let fused = quantize::lower(graph)?;
        let mut direct = None;
        let mut unproved = Vec::new();
        let mut found = None;
        let (mut model, calibration) = match self.scheme {
            Scheme::Int8 | Scheme::Int8Fc4 => {
                let from = if self.scheme == Scheme::Int8 { usize::MAX } else { int4_from };
                let keep = quantize::inputs_of_int4(&fused, from);
                ensure!(
                    self.scheme == Scheme::Int8 || !keep.is_empty(),
                    "no dense layer before the last has {from} weights or more: int8-fc4 would be int8"
                );
                let mut calibration = Calibration::keeping(graph, &reference, samples, rule, &keep, progress)
                    .context("calibrate")?;
                if self.method == Method::Auto {
                    calibration.equalized_by(&factors);
                    let choose = calibration.choose(graph, &fused, &reference, samples, rule, progress);
                    choose.context("choose ranges")?;
                }
                let stored = &rule.to_blob();
                let (method, correct_bias) = (self.method, tuning.correct_bias);
                let how =
                    Int8 { calibration: &calibration, method, int4_from: from, moments: &[], correct_bias };
                let mut model = quantize::to_int8(graph, stored, &how)?;
                if tuning.rounding == Rounding::Gptq {
                    let moments =
                        int8::moments(&model, &fused, from, samples, progress).context("moments")?;
                    let spinner = progress.spinner("round");
                    model = quantize::to_int8(graph, stored, &Int8 { moments: &moments, ..how })?;
                    spinner.finish_and_clear();
                }
                direct = Some(model.clone());
                unproved = plan::apply(&mut model, self.board);
                if let Some(gate) = &self.gate {
                    let judge = Judge::new(gate, graph, rule, samples, &self.labels, progress)?;
                    let (fused, board, calibration, judge) = (&fused, self.board, &calibration, &judge);
                    let search = Search { fused, calibration, samples, board, gate, judge, progress };
                    found = Some((gate, search.run(&mut model)?, judge.measure()));
                }
                plan::lay_out(&mut model, self.board);
                (model, Some(calibration))
            }
            Scheme::F16 => {
                // How large inputs are, where arithmetic is in half precision.
                let calibration = plan::f16::multiplies_half(self.board)
                    .then(|| Calibration::run(graph, &reference, samples, rule, progress))
                    .transpose()
                    .context("calibrate")?;
                let model = quantize::to_f16(graph, &rule.to_blob(), self.board, calibration.as_ref())?;
                (model, calibration)
            }
        };
        model.labels.clone_from(&self.labels);
        let draft = pack::to_bytes(model.clone())?;
        let approximate = found.as_ref().is_some_and(|(_, f, _)| f.predicted.iter().any(Option::is_some));
        let n_measured = if approximate { MEASURED_PICTURES_GATED } else { MEASURED_PICTURES };
        let measured = samples.clone().thin(n_measured);
        let (mut sqnr, comparison, answers) =
            measure(&reference, &fused, &factors, &draft, &measured, rule, progress)?;
        drop(draft);
        if let (true, Some((_, found, _))) = (approximate, &found) {
            for ((layer, sqnr), predicted) in model.layers.iter().zip(&mut sqnr).zip(&found.predicted) {
                if let NewOp::Conv { algorithm, .. } = &layer.op {
                    (sqnr.algorithm, sqnr.predicted_db) = (Some(algorithm.name()), *predicted);
                }
            }
        }
        let in_plan = |l: &LayerSqnr| {
            l.algorithm.map(|algorithm| PlanFigures {
                layer: l.name.clone(),
                algorithm,
                predicted_db: l.predicted_db,
                measured_db: l.db,
            })
        };
        let figures = Figures {
            tool: format!("vgg-edge {}", env!("CARGO_PKG_VERSION")),
            network: graph.name().to_owned(),
            scheme: self.scheme.name(),
            method: (self.scheme == Scheme::Int8).then(|| self.method.to_string()),
            tuning: self.scheme.is_int8().then(|| tuning.to_string()),
            equalized: exponents,
            board: Some(self.board.name),
            calibration_pictures: calibration.as_ref().map(Calibration::n_pictures),
            measured_pictures: measured.len(),
            agreement: graph.is_classifier().then(|| comparison.agreement()),
            mean_kl: graph.is_classifier().then(|| comparison.mean_kl()),
            gate: found.as_ref().map(|(gate, found, measure)| GateFigures {
                max_drop: gate.max_drop,
                drop: found.loss.drop,
                measure: *measure,
                pictures: found.loss.pictures,
                agreement: graph.is_classifier().then_some(found.loss.agreement),
                mean_kl: graph.is_classifier().then_some(found.loss.divergence),
            }),
            plan: sqnr.iter().filter_map(in_plan).collect(),
        };
        for (layer, sqnr) in model.layers.iter_mut().zip(&sqnr) {
            layer.sqnr_db = sqnr.db;
        }
        model.metadata = serde_json::to_string(&figures)?;
        let algorithms = plan::algorithms(&model);
        let (bytes, arena_bytes) = with_self_test(model, samples)?;
        Ok(Converted {
            bytes,
            figures,
            sqnr,
            algorithms,
            unproved,
            arena_bytes,
            calibration,
            graph: graph.clone(),
            rule: rule.clone(),
            direct,
            measured,
            answers,
        })
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
    factors: &Factors,
    bytes: &AlignedBytes,
    samples: &Samples,
    rule: &Preprocess,
    progress: &Progress,
) -> anyhow::Result<(Vec<LayerSqnr>, Comparison, Vec<Answers>)> {
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
                    let factors = factors.of(fused[layer_idx].layer_idx);
                    sums[layer_idx].add_scaled(&real[first_row * row..][..values.len()], values, factors);
                })?;
                comparison.add(&answer.logits, logits);
                bar.inc(1);
                anyhow::Ok((sums, comparison, Answers { reference: answer.logits, blob: logits.to_vec() }))
            },
        )
        .collect::<anyhow::Result<_>>()?;
    // In the pictures' order: sums of floats must not depend on threads, or the blob's bytes would.
    let (mut sums, mut comparison) = empty();
    let mut answers = Vec::with_capacity(pictures.len());
    for (of_layers, of_logits, of_picture) in pictures {
        sums.iter_mut().zip(&of_layers).for_each(|(a, b)| a.merge(b));
        comparison.merge(&of_logits);
        answers.push(of_picture);
    }
    let layers = fused.iter().zip(&sums).map(|(f, s)| LayerSqnr::new(f.name, s.db()));
    Ok((layers.collect(), comparison, answers))
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
