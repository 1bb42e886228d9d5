//! `auto`: for each layer the observer whose range disturbs the next layer least.
//!
//! ```text
//! reference ─► layer's output ─┬─► quantized with each method's range ─► next layer, f32 ─┐
//!                              └──────────────────────── what it puts out in f32 ◄────────┴─► squared error
//! ```
//!
//! A range's own error says too little: what it clips are the largest values, and whether they matter is for the weights
//! behind them to say. The next convolution or dense layer, with its pooling and ReLU, says it, at the price of one layer a
//! candidate instead of a network.

use std::collections::HashMap;

use rayon::prelude::*;

use super::{Calibration, Method, Range};
use crate::graph::{ActivationShape, Graph, Layer, Op, Shape};
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::quantize::{Fused, FusedOp, Rounded};
use crate::reference::Reference;
use crate::samples::Samples;

/// Pictures on which candidates are compared, at most.
const PICTURES: usize = 16;
/// What is tried, the first of equals wins.
pub(super) const CANDIDATES: [Method; 4] =
    [Method::Mse, Method::Entropy, Method::Percentile(99.99), Method::MinMax];

/// A layer whose range is chosen, and the part of the network that judges it.
struct Trial {
    layer_idx: usize,
    /// The layer whose output is compared.
    judge_idx: usize,
    candidates: Vec<(Method, Rounded)>,
    segment: Reference,
}

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
        let samples = samples.clone().thin(PICTURES);
        let bar = progress.bar("choose ranges", samples.len());
        let errors: Vec<Vec<Vec<f64>>> = (0..samples.len())
            .into_par_iter()
            .map(|i| {
                let picture = samples.picture(i)?;
                let outputs = reference.run_with_outputs(&rule.normalize(&picture.data)?)?.1;
                let outputs: HashMap<usize, Vec<f32>> =
                    outputs.into_iter().map(|o| (o.layer_idx, o.data)).collect();
                let errors = trials.iter().map(|t| t.errors(&outputs)).collect::<anyhow::Result<_>>();
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
        Ok(())
    }

    /// What there is to choose for layer `i`; nothing where all ranges are the same, or no layer follows.
    fn trial(&self, graph: &Graph, fused: &[Fused<'_>], i: usize) -> anyhow::Result<Option<Trial>> {
        let linear = |f: &&Fused<'_>| matches!(f.op, FusedOp::Conv { .. } | FusedOp::Dense { .. });
        let own = &fused[i];
        let Some(judge) = fused[i + 1..].iter().find(linear) else { return Ok(None) };
        if matches!(own.op, FusedOp::MaxPool { .. }) {
            return Ok(None);
        }
        let histogram = self.histogram(own.layer_idx);
        let mut candidates: Vec<(Method, Range)> = Vec::new();
        for method in CANDIDATES {
            let range = method.of(histogram);
            if !candidates.iter().any(|(_, known)| *known == range) {
                candidates.push((method, range));
            }
        }
        if candidates.len() < 2 {
            return Ok(None);
        }
        let candidates = candidates.into_iter().map(|(m, r)| (m, Rounded::new(r, r.min == 0.0))).collect();
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
    /// Squared error of the judge's output for each candidate.
    fn errors(&self, outputs: &HashMap<usize, Vec<f32>>) -> anyhow::Result<Vec<f64>> {
        let (Some(values), Some(wanted)) = (outputs.get(&self.layer_idx), outputs.get(&self.judge_idx))
        else {
            return Ok(vec![0.0; self.candidates.len()]);
        };
        let error = |(_, rounded): &(Method, Rounded)| {
            let values: Vec<f32> = values.iter().map(|&v| rounded.value(v)).collect();
            let found = self.segment.run(&values)?.logits;
            Ok(wanted.iter().zip(&found).map(|(w, f)| f64::from(w - f).powi(2)).sum())
        };
        self.candidates.iter().map(error).collect()
    }
}
