//! Calibration: pictures through the f32 reference, histograms of every layer's output, ranges from them.
//!
//! ```text
//! pictures ─► reference (all layers) ─► Histogram a layer ─► Method (minmax, percentile) ─► Range a layer
//! ```
//!
//! Memory does not grow with the number of pictures, and the result does not depend on their order or on the
//! number of threads: histograms add up exactly.

mod histogram;
mod minmax;
mod percentile;

use rayon::prelude::*;

pub use histogram::Histogram;

use crate::graph::Graph;
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::samples::Samples;

/// How a range is chosen from a histogram.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Method {
    /// From the smallest to the largest value seen.
    MinMax,
    /// So that this share of the values, in percent, lies inside; the rest is clipped.
    Percentile(f64),
}

impl Method {
    /// The range that this method takes from what was seen.
    pub fn range(self, histogram: &Histogram) -> Range {
        match self {
            Self::MinMax => minmax::range(histogram),
            Self::Percentile(percent) => percentile::range(histogram, percent),
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.write_str("minmax"),
            Self::Percentile(percent) => write!(f, "percentile {percent}"),
        }
    }
}

/// Real values that a quantized map can hold; always includes 0.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Range {
    /// Lower end, <= 0.
    pub min: f32,
    /// Upper end, >= 0.
    pub max: f32,
}

/// Histograms of one network's layers over a set of pictures.
#[derive(Clone, Debug)]
pub struct Calibration {
    histograms: Vec<Histogram>,
    n_pictures: usize,
}

impl Calibration {
    /// Runs every picture through the reference. `samples` are pictures of the network's input size.
    ///
    /// # Errors
    /// A picture that cannot be read, or a failure of the reference.
    pub fn run(
        graph: &Graph,
        reference: &Reference,
        samples: &Samples,
        rule: &Preprocess,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let bar = progress.bar("calibrate", samples.len());
        let n_layers = graph.layers().len();
        let empty = || vec![Histogram::default(); n_layers];
        let histograms = (0..samples.len())
            .into_par_iter()
            .try_fold(empty, |mut histograms, i| {
                let picture = samples.picture(i)?;
                let input = rule.normalize(&picture.data)?;
                for output in reference.run_with_outputs(&input)?.1 {
                    histograms[output.layer_idx].add(&output.data);
                }
                bar.inc(1);
                anyhow::Ok(histograms)
            })
            .try_reduce(empty, |mut a, b| {
                for (a, b) in a.iter_mut().zip(&b) {
                    a.merge(b);
                }
                Ok(a)
            })?;
        Ok(Self { histograms, n_pictures: samples.len() })
    }

    /// What layer `layer_idx` of the graph put out.
    pub fn histogram(&self, layer_idx: usize) -> &Histogram {
        &self.histograms[layer_idx]
    }

    /// Pictures seen.
    pub fn n_pictures(&self) -> usize {
        self.n_pictures
    }
}
