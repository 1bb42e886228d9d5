//! `auto`: for each layer the observer whose range disturbs the next layer least, on pictures that the range does not come from.
//!
//! ```text
//! reference ─► layer's output ─┬─► quantized with each method's range ─► next layer, f32 ─┐
//!                              └──────────────────────── what it puts out in f32 ◄────────┴─► squared error
//! ```
//!
//! A range's own error says too little: what it clips are the largest values, and whether they matter is for the weights
//! behind them to say. The next convolution or dense layer, with its pooling and ReLU, says it, at the price of one layer a
//! candidate instead of a network. Where no layer follows, the range's own error has to do.
//!
//! Every picture may hold larger values than all others do, and the network's next picture will: so the pictures are in
//! [`FOLDS`] parts, and on each part the ranges are tried that the other parts give. One of the candidates is the whole range
//! with a margin, the one whose own error over the parts is least. With less than [`MIN_PICTURES`] there are no parts.
//!
//! Channels that were equalized reach about the same value on the pictures whose largest values they were equalized by, the
//! first half of the parts, and only on these. So their ranges are judged on the other half alone.

use std::collections::HashMap;

use rayon::prelude::*;

use super::{Calibration, FOLDS, MIN_PICTURES, Method, Range, fold, is_for_equalizing, mse};
use crate::graph::{ActivationShape, Graph, Layer, Op, Shape};
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::quantize::{Fused, FusedOp, Rounded};
use crate::reference::Reference;
use crate::samples::Samples;

/// Pictures on which candidates are compared, at most.
const PICTURES: usize = 32;
/// What is tried, the first of equals wins.
const CANDIDATES: [Method; 4] = [Method::Mse, Method::Entropy, Method::Percentile(99.99), Method::MinMax];
/// Margins of the whole range.
const MARGINS: [f64; 6] = [1.1, 1.2, 1.35, 1.5, 1.75, 2.0];

/// A layer whose range is chosen, and the part of the network that judges it.
struct Trial {
    layer_idx: usize,
    /// The layer whose output is compared.
    judge_idx: usize,
    /// Each with its range for the pictures of each part.
    candidates: Vec<(Method, [Rounded; FOLDS])>,
    segment: Reference,
}

/// A method and what it gives without each part of the pictures.
type Candidate = (Method, [Range; FOLDS]);

impl Calibration {
    /// Finds for every layer of `fused` what [`Method::Auto`] stands for, on some of the pictures.
    ///
    /// # Errors
    /// A picture that cannot be read, or a failure of the reference.
    pub fn choose(
        &mut self,
        graph: &Graph,
        fused: &[Fused<'_>],
        reference: &Reference,
        samples: &Samples,
        rule: &Preprocess,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let trials: Vec<Trial> = (0..fused.len())
            .filter_map(|i| self.trial(graph, fused, i).transpose())
            .collect::<Result<_, _>>()?;
        let (total, n) = (samples.len(), samples.len().min(PICTURES));
        let bar = progress.bar("choose ranges", n);
        let errors: Vec<Vec<Vec<f64>>> = (0..n)
            .into_par_iter()
            .map(|i| {
                let picture_idx = i * total / n;
                let fold = fold(picture_idx);
                let picture = samples.picture(picture_idx)?;
                let outputs = reference.run_with_outputs(&rule.normalize(&picture.data)?)?.1;
                let outputs: HashMap<usize, Vec<f32>> =
                    outputs.into_iter().map(|o| (o.layer_idx, o.data)).collect();
                let errors = trials
                    .iter()
                    .map(|t| match self.judges(t.layer_idx, fold) {
                        true => t.errors(&outputs, fold, self.factors.of(t.judge_idx)),
                        false => Ok(vec![0.0; t.candidates.len()]),
                    })
                    .collect::<anyhow::Result<_>>();
                bar.inc(1);
                errors
            })
            .collect::<anyhow::Result<_>>()?;
        for (i, trial) in trials.iter().enumerate() {
            // In the pictures' order, so that the sums do not depend on threads.
            let total = |c: usize| errors.iter().map(|of_picture| of_picture[i][c]).sum::<f64>();
            let best = (0..trial.candidates.len()).min_by(|a, b| total(*a).total_cmp(&total(*b)));
            self.chosen[trial.layer_idx] = best.map(|c| trial.candidates[c].0);
        }
        // A feature extractor's last layer.
        if let Some(last) = fused.last().filter(|_| !graph.is_classifier()) {
            let best = self
                .candidates(last.layer_idx)
                .into_iter()
                .map(|c| (self.own_loss(last.layer_idx, &c.1), c.0));
            self.chosen[last.layer_idx] = best.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, method)| method);
            // Pools keep the range of what they take.
            for (of_pool, of_layer) in fused.iter().rev().zip(fused.iter().rev().skip(1)) {
                if !matches!(of_pool.op, FusedOp::MaxPool { .. }) {
                    break;
                }
                let candidates = self.candidates(of_layer.layer_idx).into_iter();
                let losses = candidates.map(|c| (self.own_loss(of_pool.layer_idx, &c.1), c.0));
                self.chosen[of_layer.layer_idx] =
                    losses.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, method)| method);
            }
        }
        Ok(())
    }

    /// What each method gives for a layer; equals once.
    fn candidates(&self, layer_idx: usize) -> Vec<Candidate> {
        let parts = self.n_pictures() >= MIN_PICTURES;
        let histograms: [_; FOLDS] = std::array::from_fn(|fold| match parts {
            true => self.without(layer_idx, fold),
            false => self.histogram(layer_idx).clone(),
        });
        let ranges = |method: Method| std::array::from_fn(|fold| method.of(&histograms[fold]));
        let with_margin = MARGINS.map(|margin| (Method::Margin(margin), ranges(Method::Margin(margin))));
        let losses = with_margin.map(|c| (self.own_loss(layer_idx, &c.1), c));
        let with_margin =
            losses.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate);
        let mut candidates: Vec<Candidate> = Vec::new();
        let plain = CANDIDATES.map(|method| (method, ranges(method)));
        for candidate in plain.into_iter().chain(with_margin.filter(|_| parts)) {
            if !candidates.iter().any(|(_, known)| *known == candidate.1) {
                candidates.push(candidate);
            }
        }
        candidates
    }

    /// Whether part `fold` of the pictures says something about ranges of a layer's output.
    fn judges(&self, layer_idx: usize, fold: usize) -> bool {
        let parts = self.n_pictures() >= MIN_PICTURES;
        !parts || self.factors.of(layer_idx).is_empty() || !is_for_equalizing(fold)
    }

    /// Squared error of a layer's values in ranges, each over its own part of the pictures.
    fn own_loss(&self, layer_idx: usize, ranges: &[Range; FOLDS]) -> f64 {
        let folds = self.layers[layer_idx].folds.iter().zip(ranges).enumerate();
        let judges = folds.filter(|(fold, _)| self.judges(layer_idx, *fold));
        judges.map(|(_, (histogram, range))| mse::loss(histogram, *range)).sum()
    }

    /// What there is to choose for layer `i`; nothing where all ranges are the same, or no layer follows.
    fn trial(&self, graph: &Graph, fused: &[Fused<'_>], i: usize) -> anyhow::Result<Option<Trial>> {
        let linear = |f: &&Fused<'_>| matches!(f.op, FusedOp::Conv { .. } | FusedOp::Dense { .. });
        let own = &fused[i];
        let Some(judge) = fused[i + 1..].iter().find(linear) else { return Ok(None) };
        if matches!(own.op, FusedOp::MaxPool { .. }) {
            return Ok(None);
        }
        let candidates = self.candidates(own.layer_idx);
        if candidates.len() < 2 {
            return Ok(None);
        }
        let rounded = |range: Range| Rounded::new(range, range.min == 0.0);
        let candidates =
            candidates.into_iter().map(|(method, ranges)| (method, ranges.map(rounded))).collect();
        let behind = |layer_idx: usize| {
            let relu = graph.layers().get(layer_idx + 1).is_some_and(|l| matches!(l.op, Op::Relu));
            layer_idx + 1 + usize::from(relu)
        };
        let layers = graph.layers()[behind(own.layer_idx)..behind(judge.layer_idx)].to_vec();
        let segment = segment(graph.output_shape(own.layer_idx), layers)?;
        Ok(Some(Trial { layer_idx: own.layer_idx, judge_idx: judge.layer_idx, candidates, segment }))
    }
}

/// A few layers as a network of their own.
fn segment(input: ActivationShape, mut layers: Vec<Layer>) -> anyhow::Result<Reference> {
    let shape = match input {
        ActivationShape::Map(shape) => shape,
        ActivationShape::Vector(n) => {
            // A graph starts with a map.
            layers.insert(0, Layer { name: "values".to_owned(), op: Op::Flatten, fused: false });
            Shape::new(1, 1, n)
        }
    };
    Ok(Reference::new(&Graph::new("segment", shape, layers)?)?)
}

impl Trial {
    /// Squared error of the judge's output for each candidate, on a picture of part `fold`.
    /// In the judge's real units: `factors` are those of its channels, none for all 1.
    fn errors(
        &self,
        outputs: &HashMap<usize, Vec<f32>>,
        fold: usize,
        factors: &[f32],
    ) -> anyhow::Result<Vec<f64>> {
        let (Some(values), Some(wanted)) = (outputs.get(&self.layer_idx), outputs.get(&self.judge_idx))
        else {
            return Ok(vec![0.0; self.candidates.len()]);
        };
        let error = |(_, rounded): &(Method, [Rounded; FOLDS])| {
            let values: Vec<f32> = values.iter().map(|&v| rounded[fold].value(v)).collect();
            let found = self.segment.run(&values)?.logits;
            let factor = |i: usize| factors.get(i % factors.len().max(1)).map_or(1.0, |f| f64::from(*f));
            let off = wanted.iter().zip(&found).enumerate();
            Ok(off.map(|(i, (w, f))| (factor(i) * f64::from(w - f)).powi(2)).sum())
        };
        self.candidates.iter().map(error).collect()
    }
}
