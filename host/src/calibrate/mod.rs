//! Calibration: pictures through the f32 reference, histograms of every layer's output, ranges from them.
//!
//! ```text
//! pictures ─► reference (all layers) ─► Histogram a layer ─► Method (auto, mse, ...) ─► Range a layer
//!                                    └► Means a layer ─────► bias correction
//! ```
//!
//! Memory does not grow with the number of pictures (of some layers, up to 512 pictures' outputs may be kept), and the result does not depend on their order or on the
//! number of threads: histograms add up exactly.

mod auto;
mod check;
mod entropy;
mod histogram;
mod means;
mod minmax;
mod moments;
mod mse;
mod percentile;
mod taps;

use std::collections::HashMap;

use rayon::prelude::*;

pub use check::{Doubt, doubts};
pub use histogram::Histogram;
pub use means::Means;
pub use moments::{Moments, Planes};
pub use taps::TapStats;

use crate::graph::{ActivationShape, Graph};
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::quantize::Factors;
use crate::reference::Reference;
use crate::samples::Samples;

/// How a range is chosen from a histogram.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Method {
    /// From the smallest to the largest value seen.
    MinMax,
    /// So that this share of the values, in percent, lies inside; the rest is clipped.
    Percentile(f64),
    /// With the least divergence of the quantized distribution from the real one.
    Entropy,
    /// With the least squared error over what was seen.
    Mse,
    /// From the smallest to the largest value seen, times so much: room for what was not seen.
    Margin(f64),
    /// For each layer the one of these that [`Calibration::choose`] found best; before that, the least squared error.
    Auto,
}

impl Method {
    /// The range that this method takes from what was seen.
    fn of(self, histogram: &Histogram) -> Range {
        match self {
            Self::MinMax => minmax::range(histogram),
            Self::Percentile(percent) => percentile::range(histogram, percent),
            Self::Entropy => entropy::range(histogram),
            Self::Mse | Self::Auto => mse::range(histogram),
            Self::Margin(margin) => minmax::range(histogram).times(margin),
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.write_str("minmax"),
            Self::Percentile(percent) => write!(f, "percentile {percent}"),
            Self::Entropy => f.write_str("entropy"),
            Self::Mse => f.write_str("mse"),
            Self::Margin(margin) => write!(f, "minmax x {margin}"),
            Self::Auto => f.write_str("auto"),
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

impl Range {
    fn times(self, factor: f64) -> Self {
        let times = |v: f32| (f64::from(v) * factor) as f32;
        Self { min: times(self.min), max: times(self.max) }
    }
}

/// What one network's layers put out over a set of pictures.
#[derive(Clone, Debug)]
pub struct Calibration {
    picture: Means,
    layers: Vec<Seen>,
    /// What [`Method::Auto`] stands for, layer by layer of the graph.
    chosen: Vec<Option<Method>>,
    kept: HashMap<usize, Kept>,
    /// Those that channels were equalized by.
    factors: Factors,
    n_pictures: usize,
}

/// A layer's output of some pictures: their numbers and values.
type Kept = Vec<(usize, Vec<f32>)>;

/// Most pictures of which outputs are kept, evenly spaced: 51 MB for the 25088 inputs of VGG16's first dense layer.
const MAX_KEPT: usize = 512;

/// What one layer put out.
#[derive(Clone, Debug)]
struct Seen {
    /// Of all pictures.
    histogram: Histogram,
    /// Of each part of the pictures.
    folds: [Histogram; FOLDS],
    means: Means,
}

/// Parts of the pictures: a range is tried on a part that it does not come from.
const FOLDS: usize = 4;

/// With fewer pictures, a part without some of them would be another distribution.
const MIN_PICTURES: usize = 16;

/// Whether channels are equalized by the largest values of part `fold`: half of the parts, so that the others say how far
/// unseen pictures go beyond them.
fn is_for_equalizing(fold: usize) -> bool {
    fold < FOLDS / 2
}

/// The pictures out of `n`, by number, whose largest values channels are equalized by.
pub(crate) fn for_equalizing(n: usize) -> Vec<usize> {
    (0..n).filter(|i| n < MIN_PICTURES || is_for_equalizing(fold(*i))).collect()
}

/// The part that picture `i` is in: mixed, whatever step pictures are picked with.
fn fold(i: usize) -> usize {
    (i + i / FOLDS + i / (FOLDS * FOLDS)) % FOLDS
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
        Self::keeping(graph, reference, samples, rule, &[], progress)
    }

    /// As [`Calibration::run`]; keeps the outputs of some layers, for [`Calibration::kept`].
    ///
    /// # Errors
    /// As [`Calibration::run`].
    pub fn keeping(
        graph: &Graph,
        reference: &Reference,
        samples: &Samples,
        rule: &Preprocess,
        keep: &[usize],
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let every = samples.len().div_ceil(MAX_KEPT).max(1);
        let bar = progress.bar("calibrate", samples.len());
        let shapes = || (0..graph.layers().len()).map(|i| graph.output_shape(i));
        let seen = |s: ActivationShape| Seen {
            histogram: Histogram::default(),
            folds: std::array::from_fn(|_| Histogram::default()),
            means: Means::new(s.len(), s.channels()),
        };
        let input = graph.input_shape(0);
        let none = || keep.iter().map(|layer_idx| (*layer_idx, Kept::new())).collect::<HashMap<_, _>>();
        let empty =
            || (Means::new(input.len(), input.channels()), shapes().map(seen).collect::<Vec<_>>(), none());
        let (picture, mut layers, mut kept) = (0..samples.len())
            .into_par_iter()
            .try_fold(empty, |(mut pixels, mut layers, mut kept), i| {
                let picture = samples.picture(i)?;
                let values: Vec<f32> = picture.data.iter().map(|&p| f32::from(p)).collect();
                pixels.add(&values);
                for output in reference.run_with_outputs(&rule.normalize(&picture.data)?)?.1 {
                    layers[output.layer_idx].folds[fold(i)].add(&output.data);
                    layers[output.layer_idx].means.add(&output.data);
                    if let Some(kept) = kept.get_mut(&output.layer_idx).filter(|_| i % every == 0) {
                        kept.push((i, output.data));
                    }
                }
                bar.inc(1);
                anyhow::Ok((pixels, layers, kept))
            })
            .try_reduce(empty, |mut a, b| {
                a.0.merge(&b.0);
                for (a, b) in a.1.iter_mut().zip(&b.1) {
                    a.folds.iter_mut().zip(&b.folds).for_each(|(a, b)| a.merge(b));
                    a.means.merge(&b.means);
                }
                for (layer_idx, kept) in b.2 {
                    a.2.entry(layer_idx).or_default().extend(kept);
                }
                Ok(a)
            })?;
        for seen in &mut layers {
            seen.folds.iter().for_each(|fold| seen.histogram.merge(fold));
        }
        let chosen = vec![None; layers.len()];
        kept.values_mut().for_each(|kept| kept.sort_by_key(|(i, _)| *i));
        Ok(Self { picture, layers, chosen, kept, factors: Factors::default(), n_pictures: samples.len() })
    }

    /// Says what the channels of the graph were equalized by, so that [`Calibration::choose`] judges in real units.
    pub fn equalized_by(&mut self, factors: &Factors) {
        self.factors = factors.clone();
    }

    /// The range that `method` takes for layer `layer_idx` of the graph.
    pub fn range(&self, layer_idx: usize, method: Method) -> Range {
        self.method(layer_idx, method).of(&self.layers[layer_idx].histogram)
    }

    /// What layer `layer_idx` put out for the pictures that are not in part `fold`.
    fn without(&self, layer_idx: usize, fold: usize) -> Histogram {
        let mut histogram = Histogram::default();
        let others = self.layers[layer_idx].folds.iter().enumerate().filter(|(i, _)| *i != fold);
        others.for_each(|(_, other)| histogram.merge(other));
        histogram
    }

    /// What `method` is for layer `layer_idx`: itself, or what `auto` chose.
    pub fn method(&self, layer_idx: usize, method: Method) -> Method {
        match method {
            Method::Auto => self.chosen[layer_idx].unwrap_or(Method::Mse),
            _ => method,
        }
    }

    /// What layer `layer_idx` of the graph put out.
    pub fn histogram(&self, layer_idx: usize) -> &Histogram {
        &self.layers[layer_idx].histogram
    }

    /// What layer `layer_idx` of the graph put out for some of the pictures, in their order; nothing unless it was asked for.
    pub fn kept(&self, layer_idx: usize) -> Vec<&[f32]> {
        self.kept.get(&layer_idx).into_iter().flatten().map(|(_, values)| values.as_slice()).collect()
    }

    /// Mean of what layer `layer_idx` of the graph put out.
    pub fn means(&self, layer_idx: usize) -> &Means {
        &self.layers[layer_idx].means
    }

    /// Mean picture, in pixel values, channels in the picture's order.
    pub fn picture_means(&self) -> &Means {
        &self.picture
    }

    /// Pictures seen.
    pub fn n_pictures(&self) -> usize {
        self.n_pictures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_equalized_channels_are_judged_on_other_pictures() {
        for n in [16, 17, 32, 500] {
            let by = for_equalizing(n);
            assert!(by.len().abs_diff(n / 2) <= 2, "{} of {n}", by.len());
            assert!((0..n).all(|i| by.contains(&i) == is_for_equalizing(fold(i))));
        }
        // Too few to be in parts.
        assert_eq!(for_equalizing(15).len(), 15);
    }
}
