//! The gate: how many points of top-1 a quantized network may lose, and how the loss is measured.
//!
//! ```text
//! with labels        drop = top-1 of f32 - top-1 of the int8 network
//! without labels     drop = mean over pictures of  p[first class of f32] - p[first class of int8],   p: f32's probabilities
//! features           drop = 100 * sum (f32 - int8)^2 / sum f32^2:  percent of the output's energy that is error
//! ```
//!
//! Why that estimate, and not the share of pictures that disagree: a network's answer is right with a probability, and if f32's
//! probabilities are right, answering `k` is right with probability `p[k]`. So the estimate is the expected drop itself.
//! A flip between two classes that f32 holds equally likely costs nothing, as it does on average over real pictures, while
//! counting it as a whole point would make the figure of 64 pictures jump in steps of 1.6 points. It is never negative.
//! The share that agrees is reported beside it.
//!
//! A feature extractor has no top-1. Its gate is the signal to noise of the output: a drop of P means that at most P percent
//! of the energy is error, an SQNR of at least `20 - 10 log10 P` dB: 25.2 dB for 0.3.

use anyhow::{Context, ensure};
use rayon::prelude::*;
use serde::Serialize;
use vgg_edge_blob::{AlignedBytes, Blob};

use crate::convert::engine;
use crate::eval;
use crate::graph::Graph;
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::reference::{Reference, softmax};
use crate::report::{Accuracy, Comparison, Sqnr};
use crate::samples::Samples;

/// Calibration pictures that the whole network is measured on, at most.
const PICTURES: usize = 64;
/// Labelled pictures, at most.
const LABELLED_PICTURES: usize = 1000;

/// What a conversion may lose.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Points of top-1 against f32.
    pub max_drop: f64,
    /// Whether only exact algorithms are allowed: then the gate measures, and refuses or not.
    pub exact: bool,
    /// Labelled pictures in a folder a class; `None` measures on calibration pictures.
    pub data: Option<Samples>,
}

/// How a drop was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Counted against labels.
    Labels,
    /// Expected from f32's probabilities.
    Expected,
    /// Percent of the output's energy that is error.
    OutputNoise,
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Measure::Labels => "points of top-1 (counted)",
            Measure::Expected => "points of top-1 (expected)",
            Measure::OutputNoise => "percent of the output's energy",
        })
    }
}

/// What a network lost against f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Pictures it was measured on.
    pub pictures: usize,
    /// In the unit of [`Measure`].
    pub drop: f64,
    /// Share of pictures with the same first class; NaN for features.
    pub agreement: f64,
    /// Mean divergence of the probabilities, nats; for features the share of noise.
    pub divergence: f64,
}

/// Not even the exact network is inside the gate.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("exact int8 loses {found:.4} {measure} on {pictures} pictures, allowed are {allowed}")]
pub struct GateError {
    /// Loss of the exact network, the least there is.
    pub found: f64,
    /// Loss that is allowed.
    pub allowed: f64,
    /// How both are measured.
    pub measure: Measure,
    /// On how many pictures.
    pub pictures: usize,
}

/// Pictures with f32's answers.
pub struct Judge {
    samples: Samples,
    /// Class of each picture, where there are labels.
    truth: Option<Vec<usize>>,
    /// f32's logits or features.
    wanted: Vec<Vec<f32>>,
    measure: Measure,
}

impl Judge {
    /// Runs the f32 network over the gate's pictures: its own, or those of the calibration.
    ///
    /// # Errors
    /// Labelled pictures of other classes than the network's; a picture that cannot be read.
    pub fn new(
        gate: &Gate,
        graph: &Graph,
        rule: &Preprocess,
        calibration: &Samples,
        labels: &[String],
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let (samples, truth, measure) = match (&gate.data, graph.is_classifier()) {
            (Some(_), false) => anyhow::bail!("labelled pictures, but the network is a feature extractor"),
            (Some(data), true) => {
                let samples = data.clone().thin(LABELLED_PICTURES);
                let truth = eval::truth(&samples, labels, graph.classes())?;
                (samples, Some(truth), Measure::Labels)
            }
            (None, true) => (calibration.clone().thin(PICTURES), None, Measure::Expected),
            (None, false) => (calibration.clone().thin(PICTURES), None, Measure::OutputNoise),
        };
        let reference = Reference::new(graph).context("f32 reference")?;
        let bar = progress.bar("reference", samples.len());
        let run = |i| {
            let picture = samples.picture(i)?;
            let answer = reference.run(&rule.normalize(&picture.data)?)?;
            bar.inc(1);
            anyhow::Ok(answer.logits)
        };
        let wanted: Vec<_> = (0..samples.len()).into_par_iter().map(run).collect::<anyhow::Result<_>>()?;
        let finite = wanted.iter().flatten().all(|v| v.is_finite());
        ensure!(finite, "the f32 network's answers are not finite");
        Ok(Self { samples, truth, wanted, measure })
    }

    /// How drops are measured.
    pub fn measure(&self) -> Measure {
        self.measure
    }

    /// Runs a blob over at most `n` of the pictures, evenly spaced. Sums are in the pictures' order, so that they do not depend
    /// on threads.
    ///
    /// # Errors
    /// A blob that the engine refuses, a picture that cannot be read.
    pub fn loss(&self, bytes: &AlignedBytes, n: usize, progress: &Progress) -> anyhow::Result<Loss> {
        let blob = Blob::parse(bytes.as_slice())?;
        let total = self.samples.len();
        let n = n.min(total);
        let chosen: Vec<usize> = (0..n).map(|i| i * total / n).collect();
        let bar = progress.bar("measure", n);
        let found: Vec<Vec<f32>> = chosen
            .par_iter()
            .map_init(
                || engine(&blob),
                |engine, &i| {
                    let engine = engine.as_mut().map_err(|e| anyhow::anyhow!("{e:#}"))?;
                    let answer = engine.run(&self.samples.picture(i)?.data)?.to_vec();
                    bar.inc(1);
                    anyhow::Ok(answer)
                },
            )
            .collect::<anyhow::Result<_>>()?;
        let pairs = || chosen.iter().map(|&i| self.wanted[i].as_slice()).zip(found.iter().map(Vec::as_slice));
        if self.measure == Measure::OutputNoise {
            let mut sqnr = Sqnr::default();
            pairs().for_each(|(wanted, found)| sqnr.add(wanted, found));
            let share = sqnr.noise_share();
            return Ok(Loss { pictures: n, drop: 100.0 * share, agreement: f64::NAN, divergence: share });
        }
        let mut comparison = Comparison::default();
        pairs().for_each(|(wanted, found)| comparison.add(wanted, found));
        let drop = match &self.truth {
            Some(truth) => {
                let (mut real, mut quantized) = (Accuracy::default(), Accuracy::default());
                for ((wanted, found), &i) in pairs().zip(&chosen) {
                    real.add(wanted, truth[i]);
                    quantized.add(found, truth[i]);
                }
                real.top1() - quantized.top1()
            }
            None => {
                pairs().map(|(wanted, found)| expected_drop(wanted, found)).sum::<f64>() / n.max(1) as f64
            }
        };
        Ok(Loss {
            pictures: n,
            drop: 100.0 * drop,
            agreement: comparison.agreement(),
            divergence: comparison.mean_kl(),
        })
    }

    /// Pictures there are.
    pub fn n_pictures(&self) -> usize {
        self.samples.len()
    }
}

/// What answering with `found`'s first class instead of `wanted`'s costs, if `wanted`'s probabilities are right: 0 to 1.
fn expected_drop(wanted: &[f32], found: &[f32]) -> f64 {
    let first = |logits: &[f32]| vgg_edge_engine::topk::top_k(logits, 1).first().map(|t| t.class);
    let probabilities = softmax(wanted);
    let of = |class: Option<usize>| class.and_then(|c| probabilities.get(c)).map_or(0.0, |p| f64::from(*p));
    of(first(wanted)) - of(first(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flip_costs_what_the_classes_differ_in_probability() {
        assert_eq!(expected_drop(&[1.0, 3.0, 2.0], &[0.0, 9.0, 1.0]), 0.0);
        // Equally likely: nothing is lost, although the answers differ.
        assert_eq!(expected_drop(&[2.0, 2.0, 0.0], &[1.0, 2.0, 0.0]), 0.0);
        // p = 3/4 and 1/4.
        let wanted = [3f32.ln(), 0.0];
        assert!((expected_drop(&wanted, &[0.0, 1.0]) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_error_says_what_is_lost_and_allowed() {
        let error = GateError { found: 0.4211, allowed: 0.1, measure: Measure::Expected, pictures: 64 };
        assert_eq!(
            error.to_string(),
            "exact int8 loses 0.4211 points of top-1 (expected) on 64 pictures, allowed are 0.1"
        );
    }
}
