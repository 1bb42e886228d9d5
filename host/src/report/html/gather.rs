//! Fills a report's figures: from the conversion where it has them, measured anew where it does not.

use anyhow::Context;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use vgg_edge_blob::{Blob, Layer, LayerOp, Quantization};
use vgg_edge_engine::kernels;

use super::data::{
    Accuracy, BoardData, Bytes, Histogram, LayerData, Range, ReportData, Versions, WeightSteps,
};
use super::layers;
use super::{Subject, pictures};
use crate::calibrate::{self, Calibration};
use crate::eval;
use crate::plan::{self, BOARDS, Board, Estimate, Sketch};
use crate::progress::Progress;
use crate::quantize::{self, Fused, FusedOp};
use crate::reference::Reference;
use crate::report::{self, Comparison, Rates};

/// Bars of a histogram.
const BARS: usize = 48;
/// Pictures of the histograms where the conversion needed none.
const HISTOGRAM_PICTURES: usize = 16;

impl ReportData {
    /// Measures what the conversion did not.
    ///
    /// # Errors
    /// A picture that cannot be read, a failure of the reference.
    pub fn new(subject: &Subject<'_>, progress: &Progress) -> anyhow::Result<Self> {
        let Subject { converted, board, method, samples, .. } = *subject;
        let (graph, rule) = (&converted.graph, &converted.rule);
        let fused = quantize::lower(graph)?;
        let blob = Blob::parse(converted.bytes.as_slice())?;
        let sketch = Sketch::of_blob(&blob);
        // Not every kernel has a price on every board: those of f16 Winograd were not counted yet.
        let estimate = Estimate::new(&sketch, board, board.n_cores).ok();
        let own;
        let calibration = match &converted.calibration {
            Some(calibration) => calibration,
            None => {
                let reference = Reference::with_outputs(graph).context("f32 reference")?;
                let samples = samples.clone().thin(HISTOGRAM_PICTURES);
                own = Calibration::run(graph, &reference, &samples, rule, progress)?;
                &own
            }
        };
        let scheme = blob.scheme();
        let again;
        let model = match &converted.direct {
            Some(direct) => direct,
            None => {
                again = quantize::to_f16(graph, &rule.to_blob(), board, None)?;
                &again
            }
        };
        let analysis = layers::alone(graph, &fused, model, samples, rule, progress)?;
        let row = |(i, f): (usize, &Fused<'_>)| {
            let layer = blob.layer(i).with_context(|| format!("layer `{}` is not in the blob", f.name))?;
            let stored = &model.layers[i];
            let steps = quantize::real(f, stored, (i == 0).then_some(&model.preprocess)).map(|r| r.steps);
            let alone = &analysis.layers[i];
            // `[picture]` comes first.
            let estimated = estimate.as_ref().and_then(|estimate| estimate.rows.get(i + 1));
            let weights = match &f.op {
                FusedOp::Conv { weights, .. } | FusedOp::Dense { weights, .. } => Some(weights.data()),
                _ => None,
            };
            let seen = calibration.histogram(f.layer_idx);
            let maps = !matches!(f.op, FusedOp::MaxPool { .. });
            anyhow::Ok(LayerData {
                name: f.name.to_owned(),
                kind: kind(f),
                output: graph.output_shape(f.layer_idx).dims().to_vec(),
                algorithm: sketch.layers[i].op.kind().name().to_owned(),
                params: params(f),
                macs: layers::macs(graph, f),
                bytes: bytes(&layer),
                sqnr_db: Some(f64::from(converted.sqnr[i].db)).filter(|db| db.is_finite()),
                predicted_db: converted.sqnr[i].predicted_db.map(f64::from).filter(|db| db.is_finite()),
                source: alone.source,
                sensitivity: alone.sensitivity,
                ms_1: estimated.map(|row| row.ms_1),
                ms_n: estimated.map(|row| row.ms_n),
                range: maps
                    .then(|| {
                        range(stored.out_quant, seen, calibration.method(f.layer_idx, method).to_string())
                    })
                    .flatten(),
                activations: maps.then(|| of_bins(seen)),
                weights: weights.map(of_values),
                weight_steps: steps.and_then(|steps| weight_steps(&steps)),
            })
        };
        let layers = fused.iter().enumerate().map(row).collect::<anyhow::Result<Vec<_>>>()?;
        let truth = eval::truth(&converted.measured, subject.labels, graph.classes()).ok();
        let truth = truth.filter(|_| graph.is_classifier());
        let (summary, figures) = (graph.summary(), &converted.figures);
        Ok(Self {
            format: 1,
            network: figures.network.clone(),
            weights: subject.weights.clone(),
            weights_format: subject.weights_format.clone(),
            command: subject.command.clone(),
            versions: versions(figures.tool.clone(), converted.bytes.as_slice()),
            input: [graph.input().height, graph.input().width, graph.input().channels],
            outputs: graph.classes(),
            classifier: graph.is_classifier(),
            params: summary.params,
            macs: summary.macs,
            scheme: scheme.name().to_owned(),
            method: scheme.is_int8().then(|| method.to_string()),
            board: board.name.to_owned(),
            calibration_pictures: calibration.n_pictures(),
            layer_pictures: analysis.pictures,
            bytes: Bytes {
                weights: summary.bytes,
                file: converted.bytes.as_slice().len() as u64,
                arena: converted.arena_bytes as u64,
            },
            accuracy: accuracy(subject, truth.as_deref()),
            layers,
            boards: BOARDS.iter().filter_map(|board| on_board(&sketch, board)).collect(),
            worst: pictures::worst(subject, truth.as_deref()),
        })
    }
}

fn versions(tool: String, blob: &[u8]) -> Versions {
    let digest = Sha256::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect();
    Versions {
        tool,
        blob_format: vgg_edge_blob::layout::VERSION,
        kernel: kernels::best().name().to_owned(),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        rust: env!("CARGO_PKG_RUST_VERSION").to_owned(),
        blob_sha256: digest,
    }
}

fn accuracy(subject: &Subject<'_>, truth: Option<&[usize]>) -> Accuracy {
    let (answers, classifier) = (&subject.converted.answers, subject.graph.is_classifier());
    let mut comparison = Comparison::default();
    let [mut real, mut found] = [report::Accuracy::default(); 2];
    for (i, a) in answers.iter().enumerate().filter(|_| classifier) {
        comparison.add(&a.reference, &a.blob);
        if let Some(class) = truth.and_then(|truth| truth.get(i)) {
            real.add(&a.reference, *class);
            found.add(&a.blob, *class);
        }
    }
    Accuracy {
        pictures: answers.len(),
        f32: truth.map(|_| Rates::from(&real)),
        blob: truth.map(|_| Rates::from(&found)),
        agreement: classifier.then(|| comparison.agreement()),
        agreement_interval: classifier.then(|| comparison.interval()),
        mean_kl: classifier.then(|| comparison.mean_kl().max(0.0)),
        gate: subject.converted.figures.gate,
        gate_labelled: subject.gate_labelled,
    }
}

fn on_board(sketch: &Sketch, board: &'static Board) -> Option<BoardData> {
    let estimate = Estimate::new(sketch, board, board.n_cores).ok()?;
    let plan::Row { bytes, ms_1, ms_n, .. } = estimate.total();
    Some(BoardData {
        name: board.name.to_owned(),
        title: board.title.to_owned(),
        cores: board.n_cores,
        ms_1,
        ms_n,
        traffic: bytes,
        arena: estimate.arena_bytes,
    })
}

fn kind(f: &Fused<'_>) -> String {
    match &f.op {
        FusedOp::Conv { weights, .. } => format!("conv {0}x{0}", weights.shape().first().unwrap_or(&0)),
        FusedOp::MaxPool { .. } => "max-pool".to_owned(),
        FusedOp::GlobalAvgPool => "average".to_owned(),
        FusedOp::Dense { .. } => "dense".to_owned(),
    }
}

fn params(f: &Fused<'_>) -> u64 {
    match &f.op {
        FusedOp::Conv { weights, bias, .. } | FusedOp::Dense { weights, bias, .. } => {
            (weights.len() + bias.len()) as u64
        }
        FusedOp::MaxPool { .. } | FusedOp::GlobalAvgPool => 0,
    }
}

fn bytes(layer: &Layer<'_>) -> u64 {
    match &layer.op {
        LayerOp::Conv { linear, .. } | LayerOp::Dense(linear) => linear.weights.len() as u64,
        _ => 0,
    }
}

fn range(quant: Quantization, seen: &calibrate::Histogram, method: String) -> Option<Range> {
    let scale = f64::from(quant.scale);
    let end = |stored: f64| (stored - f64::from(quant.zero_point)) * scale;
    let (min, max) = (end(-128.0), end(127.0));
    let outside = |(edge, _): &(f64, u64)| *edge > max || edge + seen.width() < min;
    let clipped: u64 = seen.bins().filter(outside).map(|(_, n)| n).sum();
    (scale > 0.0).then(|| Range { min, max, method, clipped: clipped as f64 / seen.count().max(1) as f64 })
}

fn weight_steps(steps: &[f64]) -> Option<WeightSteps> {
    let finest = steps.iter().copied().min_by(f64::total_cmp)?;
    let coarsest = steps.iter().copied().max_by(f64::total_cmp)?;
    Some(WeightSteps { finest: 127.0 * finest, coarsest: 127.0 * coarsest })
}

/// The bar of `value`.
fn bar(value: f64, from: f64, to: f64) -> usize {
    let at = (value - from) / (to - from) * BARS as f64;
    (at.max(0.0) as usize).min(BARS - 1)
}

fn of_bins(seen: &calibrate::Histogram) -> Histogram {
    let (from, to) = ends(seen.min(), seen.max());
    let mut counts = vec![0; BARS];
    for (edge, n) in seen.bins() {
        counts[bar(edge + seen.width() / 2.0, from, to)] += n;
    }
    Histogram { from, to, counts }
}

fn of_values(values: &[f32]) -> Histogram {
    let (from, to) = values.iter().fold((0f32, 0f32), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    let (from, to) = ends(from, to);
    let count = |values: &[f32]| {
        let mut counts = vec![0u64; BARS];
        values.iter().for_each(|v| counts[bar(f64::from(*v), from, to)] += 1);
        counts
    };
    let add = |mut a: Vec<u64>, b: Vec<u64>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    Histogram { from, to, counts: values.par_chunks(1 << 16).map(count).reduce(|| vec![0; BARS], add) }
}

/// Ends of a histogram; a map of zeros has some width, too.
fn ends(from: f32, to: f32) -> (f64, f64) {
    match to > from {
        true => (f64::from(from), f64::from(to)),
        false => (0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bar() {
        let values: Vec<f32> = (-100..=100).map(|v| v as f32 / 10.0).collect();
        let of_weights = of_values(&values);
        assert_eq!(
            (of_weights.counts.iter().sum::<u64>(), of_weights.from, of_weights.to),
            (201, -10.0, 10.0)
        );
        let mut seen = calibrate::Histogram::default();
        seen.add(&values);
        assert_eq!(of_bins(&seen).counts.iter().sum::<u64>(), 201);
        assert_eq!(of_values(&[0.0; 3]).counts[0], 3);
    }

    #[test]
    fn what_a_map_cannot_hold_is_counted() {
        let mut seen = calibrate::Histogram::default();
        seen.add(&[0.0, 1.0, 2.0, 1000.0]);
        let range = range(Quantization { scale: 0.1, zero_point: -128 }, &seen, "mse".to_owned()).unwrap();
        assert_eq!((range.min, range.clipped), (0.0, 0.25));
        assert!((range.max - 25.5).abs() < 1e-6);
    }
}
