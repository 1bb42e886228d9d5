//! What makes calibration pictures, or the preprocessing of them, doubtful: said before anything is computed from them.
//!
//! ```text
//! pictures ─┬─► pixels: too few, of one colour, the same twice, noise, black and white alone
//!           ├─► values: what the rule makes of the pixels has a centre and a spread that no network is trained with
//!           ├─► f32 answers: told apart under this rule? under another preset's? under the other order of channels?
//!           └─► labels, given or those of the calibration's folders: right at all? more often under another rule?
//! ```
//!
//! How well answers tell pictures apart is their mutual information with the pictures, in nats:
//! `H(mean of the probabilities) - mean of H(probabilities)`, 0 when all pictures get the same answer. It needs no labels, and
//! scale and centre of the input decide it: VGG16 with Keras' preprocessing has 1.41 on 63 CIFAR pictures, with values in
//! 0..1 0.01. Channels in the wrong order cost it 15 to 17 % only: both orders are run on the same pictures, and the other one is
//! named where it has 1.08 times as much. It does not tell apart rules that differ little, such as -1..1 and unit deviation: more
//! contrast alone raises VGG16's to 1.62. Labels do.

mod answers;
mod pixels;

use std::fmt;

use anyhow::Context;
use rayon::prelude::*;

use crate::graph::Graph;
use crate::preprocess::{Preprocess, Preset};
use crate::progress::Progress;
use crate::samples::Samples;

use pixels::Looked;

/// Fewer calibration pictures than this deserve a warning.
const FEW_PICTURES: usize = 32;
/// Names in a message, at most.
const MAX_NAMES: usize = 3;
/// Deviations of a channel's values that networks are trained with: 0.25 for 0..1, 64 for plain pixels.
const DEVIATIONS: [f64; 2] = [0.02, 200.0];

/// What a rule might have been meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// This preset.
    Preset(Preset),
    /// The same, red and blue the other way round.
    Swapped,
    /// The same, the pictures' mean taken off.
    Centred,
}

/// One doubt. Its text is the warning.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum Doubt {
    Few { pictures: usize },
    Constant { names: Vec<String> },
    Duplicates { pairs: Vec<(String, String)> },
    Noise { names: Vec<String> },
    Saturated { names: Vec<String> },
    Centre { channel: usize, mean: f64, deviation: f64 },
    Spread { channel: usize, deviation: f64 },
    NoMean { mean: f64, deviation: f64 },
    OtherRule { nats: f64, other: Preset, other_nats: f64 },
    Chance { correct: usize, pictures: usize, classes: usize },
    Swapped { nats: f64, swapped_nats: f64 },
    ByLabels { other: Other, correct: usize, other_correct: usize, pictures: usize },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Few { pictures: 1 } => {
                write!(f, "1 calibration picture is few; ranges are reliable from about {FEW_PICTURES} on")
            }
            Self::Few { pictures } => write!(
                f,
                "{pictures} calibration pictures are few; ranges are reliable from about {FEW_PICTURES} on"
            ),
            Self::Constant { names } => {
                write!(f, "calibration pictures of one colour: {} ({})", names.len(), listed(names))
            }
            Self::Duplicates { pairs } => {
                let texts: Vec<String> =
                    pairs.iter().map(|(name, first)| format!("{name} is {first}")).collect();
                write!(
                    f,
                    "calibration pictures with the pixels of another: {} ({})",
                    pairs.len(),
                    listed(&texts)
                )
            }
            Self::Noise { names } => write!(
                f,
                "calibration pictures like noise, neighbouring pixels unrelated: {} ({})",
                names.len(),
                listed(names)
            ),
            Self::Saturated { names } => write!(
                f,
                "saturated calibration pictures, nearly all values 0 or 255: {} ({})",
                names.len(),
                listed(names)
            ),
            Self::Centre { channel, mean, deviation } => write!(
                f,
                "preprocessing: values of channel {channel} have mean {mean:.3} and deviation {deviation:.3}, expected a mean near 0"
            ),
            Self::Spread { channel, deviation } => write!(
                f,
                "preprocessing: values of channel {channel} have deviation {deviation:.3e}, expected {} to {}",
                DEVIATIONS[0], DEVIATIONS[1]
            ),
            Self::NoMean { mean, deviation } => write!(
                f,
                "preprocessing takes no mean off: values of channel 0 have mean {mean:.3} and deviation {deviation:.3}; networks that take other values than 0 to 1 are trained with a mean near 0"
            ),
            Self::OtherRule { nats, other, other_nats } => write!(
                f,
                "preprocessing may be wrong: f32's answers tell the pictures apart by {nats:.2} nats, with `{}` by {other_nats:.2}",
                other.name()
            ),
            Self::Chance { correct, pictures, classes } => write!(
                f,
                "f32 is right on {correct} of {pictures} labelled pictures, no better than chance for {classes} classes: most likely the preprocessing is wrong, else the order of the labels"
            ),
            Self::Swapped { nats, swapped_nats } => write!(
                f,
                "preprocessing may have red and blue swapped: f32's answers tell the pictures apart by {nats:.2} nats, with the other order by {swapped_nats:.2}"
            ),
            Self::ByLabels { other, correct, other_correct, pictures } => {
                let (what, with) = match other {
                    Other::Preset(preset) => ("is wrong", format!("with `{}`", preset.name())),
                    Other::Swapped => ("has red and blue swapped", "with the other order".to_owned()),
                    Other::Centred => ("lacks the mean", "with the pictures' mean taken off".to_owned()),
                };
                write!(
                    f,
                    "preprocessing most likely {what}: f32 is right on {correct} of {pictures} labelled pictures, {with} on {other_correct}"
                )
            }
        }
    }
}

/// The first few of `names`.
fn listed(names: &[String]) -> String {
    let first = names[..names.len().min(MAX_NAMES)].join(", ");
    match names.len() - names.len().min(MAX_NAMES) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// What is doubtful about `samples` and `rule` for this network. `data` are labelled pictures, `labels` the network's classes,
/// none for those of the folders.
///
/// # Errors
/// A picture that cannot be read, a failure of the reference, labelled pictures of other classes.
pub fn doubts(
    graph: &Graph,
    rule: &Preprocess,
    samples: &Samples,
    data: Option<&Samples>,
    labels: &[String],
    progress: &Progress,
) -> anyhow::Result<Vec<Doubt>> {
    let mut doubts = Vec::new();
    if samples.len() < FEW_PICTURES {
        doubts.push(Doubt::Few { pictures: samples.len() });
    }
    let bar = progress.bar("check", samples.len());
    let look = |i: usize| {
        let picture = samples.picture(i).context("calibrate")?;
        bar.inc(1);
        Ok(Looked::at(&picture.data, rule.order.channels(), graph.input().width))
    };
    let looked: Vec<Looked> = (0..samples.len()).into_par_iter().map(look).collect::<anyhow::Result<_>>()?;
    doubts.extend(pixels::of_pictures(samples, &looked)?);
    doubts.extend(pixels::of_values(rule, &looked));
    if graph.is_classifier() {
        doubts.extend(answers::of_answers(graph, rule, samples, progress)?);
        let of_labels = |labelled| answers::of_labels(graph, rule, &looked, labelled, labels, progress);
        let mut by_labels = data.map(|data| of_labels((data, true))).transpose()?.flatten();
        if doubts.iter().all(|d| !matches!(d, Doubt::OtherRule { .. })) {
            if data.is_none() {
                by_labels = of_labels((samples, false))?;
            }
            // Labels know better.
            if by_labels.is_none() {
                by_labels = answers::of_order(graph, rule, samples, progress)?;
            }
        }
        doubts.extend(by_labels);
    }
    Ok(doubts)
}
