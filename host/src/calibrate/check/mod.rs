//! What makes calibration pictures, or the preprocessing of them, doubtful: said before anything is computed from them.
//!
//! ```text
//! pictures ─┬─► pixels: too few, of one colour, the same twice
//!           ├─► values: what the rule makes of the pixels has a centre and a spread that no network is trained with
//!           └─► f32 answers: told apart under this rule? under another preset's? right at all, where there are labels?
//! ```
//!
//! How well answers tell pictures apart is their mutual information with the pictures, in nats:
//! `H(mean of the probabilities) - mean of H(probabilities)`, 0 when all pictures get the same answer. It needs no labels, and
//! scale and centre of the input decide it: VGG16 with Keras' preprocessing has 1.41 on 63 CIFAR pictures, with values in
//! 0..1 0.01. Channels in the wrong order cost it 15 to 17 % only: both orders are run on the same pictures, and the other one is
//! named where it has [`SWAPPED`] times as much. Labels say it more surely. What cannot be seen are two rules that differ little, such as -1..1 for unit deviation, which hardly changes the answers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::Context;
use rayon::prelude::*;
use vgg_edge_blob::ChannelOrder;

use crate::eval;
use crate::graph::Graph;
use crate::preprocess::{Preprocess, Preset};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::samples::Samples;

/// Fewer calibration pictures than this deserve a warning.
const FEW_PICTURES: usize = 32;
/// A picture whose pixels differ by no more in any channel is of one colour; JPEG's noise is less.
const CONSTANT_SPREAD: u8 = 4;
/// Names in a message, at most.
const MAX_NAMES: usize = 3;
/// Pictures whose answers are compared, at most, and at least.
const ANSWERED: usize = 16;
const MIN_ANSWERED: usize = 8;
/// Labelled pictures that are counted, at most, and at least.
const LABELLED: usize = 64;
const MIN_LABELLED: usize = 16;
/// Labelled pictures that both orders of channels are counted on, at most.
const ORDER_LABELLED: usize = 200;
/// From this share of the most information there can be on, a rule is not doubted.
const ENOUGH: f64 = 0.5;
/// Another rule must have so much more to be named, as a factor and in nats.
const BETTER: (f64, f64) = (1.5, 0.2);
/// Pictures that both orders of channels are run on, at most, and at least without labels.
const ORDERED: usize = 48;
const MIN_ORDERED: usize = 32;
/// The other order must have so many times the information; the right one has about 1.17 times the wrong one's.
const SWAPPED: f64 = 1.08;
/// Distance of a channel's mean from 0, in deviations: plain pixels, no mean taken off, have about 2.
const FAR: f64 = 4.0;
/// Deviations of a channel's values that networks are trained with: 0.25 for 0..1, 64 for plain pixels.
const DEVIATIONS: [f64; 2] = [0.02, 200.0];

/// One doubt. Its text is the warning.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum Doubt {
    Few { pictures: usize },
    Constant { names: Vec<String> },
    Duplicates { pairs: Vec<(String, String)> },
    Centre { channel: usize, mean: f64, deviation: f64 },
    Spread { channel: usize, deviation: f64 },
    OtherRule { nats: f64, other: Preset, other_nats: f64 },
    Chance { correct: usize, pictures: usize, classes: usize },
    Swapped { nats: f64, swapped_nats: f64 },
    SwappedByLabels { correct: usize, swapped: usize, pictures: usize },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            Self::Centre { channel, mean, deviation } => write!(
                f,
                "preprocessing: values of channel {channel} have mean {mean:.3} and deviation {deviation:.3}, expected a mean near 0"
            ),
            Self::Spread { channel, deviation } => write!(
                f,
                "preprocessing: values of channel {channel} have deviation {deviation:.3e}, expected {} to {}",
                DEVIATIONS[0], DEVIATIONS[1]
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
            Self::SwappedByLabels { correct, swapped, pictures } => write!(
                f,
                "preprocessing most likely has red and blue swapped: f32 is right on {correct} of {pictures} labelled pictures, with the other order on {swapped}"
            ),
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
        Ok(Looked::at(&picture.data, rule.order.channels()))
    };
    let looked: Vec<Looked> = (0..samples.len()).into_par_iter().map(look).collect::<anyhow::Result<_>>()?;
    let names: Vec<String> = samples.labelled().map(|(path, _)| path.display().to_string()).collect();
    let constant = names.iter().zip(&looked).filter(|(_, l)| l.spread <= CONSTANT_SPREAD);
    let constant: Vec<String> = constant.map(|(name, _)| name.clone()).collect();
    if !constant.is_empty() {
        doubts.push(Doubt::Constant { names: constant });
    }
    let (mut first, mut pairs) = (HashMap::new(), Vec::new());
    for (i, l) in looked.iter().enumerate() {
        match first.entry(l.hash) {
            Entry::Vacant(free) => drop(free.insert(i)),
            // Equal hashes are a reason to look, not proof.
            Entry::Occupied(known) if samples.picture(*known.get())?.data == samples.picture(i)?.data => {
                pairs.push((names[i].clone(), names[*known.get()].clone()));
            }
            Entry::Occupied(_) => {}
        }
    }
    if !pairs.is_empty() {
        doubts.push(Doubt::Duplicates { pairs });
    }
    doubts.extend(of_values(rule, &looked));
    if graph.is_classifier() {
        doubts.extend(of_answers(graph, rule, samples, progress)?);
        let by_labels =
            data.map(|data| of_labels(graph, rule, data, labels, progress)).transpose()?.flatten();
        // Labels know better.
        if by_labels.is_none() && doubts.iter().all(|d| !matches!(d, Doubt::OtherRule { .. })) {
            doubts.extend(of_order(graph, rule, samples, progress)?);
        }
        doubts.extend(by_labels);
    }
    Ok(doubts)
}

/// What one picture's pixels are.
struct Looked {
    hash: u64,
    /// Largest difference within a channel.
    spread: u8,
    /// Count, sum and sum of squares of each channel.
    sums: Vec<[u64; 3]>,
}

impl Looked {
    fn at(pixels: &[u8], channels: usize) -> Self {
        let mut hasher = DefaultHasher::new();
        pixels.hash(&mut hasher);
        let of_channel = |c: usize| pixels.iter().skip(c).step_by(channels.max(1)).copied();
        let spread = |c| of_channel(c).max().unwrap_or(0) - of_channel(c).min().unwrap_or(0);
        let sums = |c| {
            of_channel(c)
                .map(u64::from)
                .fold([0; 3], |[n, sum, squares], p| [n + 1, sum + p, squares + p * p])
        };
        Self {
            hash: hasher.finish(),
            spread: (0..channels).map(spread).max().unwrap_or(0),
            sums: (0..channels).map(sums).collect(),
        }
    }
}

/// Centre and spread of what the rule makes of the pixels; the worst channel speaks for all.
fn of_values(rule: &Preprocess, looked: &[Looked]) -> Option<Doubt> {
    let varied = looked.iter().any(|l| l.spread > CONSTANT_SPREAD);
    let statistics = (0..rule.order.channels()).filter_map(|channel| {
        let pixel = rule.order.network_channel(channel);
        let mut total = [0u64; 3];
        for l in looked {
            total.iter_mut().zip(&l.sums[pixel]).for_each(|(a, b)| *a += b);
        }
        let [n, sum, squares] = total.map(|v| v as f64);
        let mean = sum / n.max(1.0);
        let deviation = (squares / n.max(1.0) - mean * mean).max(0.0).sqrt();
        let (shift, std) = (rule.mean.get(channel)?, rule.std.get(channel)?);
        Some((channel, (mean * rule.scale - shift) / std, deviation * rule.scale.abs() / std))
    });
    let statistics: Vec<_> = statistics.filter(|_| varied).collect();
    // Alpha is of one value in most pictures.
    let judged = || statistics.iter().copied().filter(|(channel, ..)| *channel < 3);
    let centre = judged()
        .filter(|(_, mean, deviation)| mean.abs() > FAR * deviation)
        .max_by(|a, b| (a.1.abs() / a.2).total_cmp(&(b.1.abs() / b.2)));
    if let Some((channel, mean, deviation)) = centre {
        return Some(Doubt::Centre { channel, mean, deviation });
    }
    let spread = judged().find(|(_, _, deviation)| !(DEVIATIONS[0]..=DEVIATIONS[1]).contains(deviation));
    spread.map(|(channel, _, deviation)| Doubt::Spread { channel, deviation })
}

/// Whether another preset's answers tell the pictures apart much better.
fn of_answers(
    graph: &Graph,
    rule: &Preprocess,
    samples: &Samples,
    progress: &Progress,
) -> anyhow::Result<Option<Doubt>> {
    let samples = samples.clone().thin(ANSWERED);
    if samples.len() < MIN_ANSWERED || graph.classes() < 2 {
        return Ok(None);
    }
    let reference = Reference::new(graph)?;
    let most = (samples.len().min(graph.classes()) as f64).ln();
    let nats = |rule: &Preprocess| nats(&reference, rule, &samples, progress);
    let own = nats(rule)?;
    if own >= ENOUGH * most {
        return Ok(None);
    }
    let mut best = None;
    for preset in Preset::ALL {
        // Pictures stay as the given rule cuts them: sizes are not in question.
        let found = nats(&preset.preprocess(graph.input()))?;
        if best.is_none_or(|(_, nats)| found > nats) {
            best = Some((preset, found));
        }
    }
    let better = |nats: f64| nats >= ENOUGH * most && nats > BETTER.0 * own && nats > BETTER.1 + own;
    let best = best.filter(|(_, found)| better(*found));
    Ok(best.map(|(other, other_nats)| Doubt::OtherRule { nats: own, other, other_nats }))
}

/// How well f32's answers under `rule` tell the pictures apart.
fn nats(
    reference: &Reference,
    rule: &Preprocess,
    samples: &Samples,
    progress: &Progress,
) -> anyhow::Result<f64> {
    let bar = progress.bar("check rule", samples.len());
    let answer = |i: usize| {
        let probabilities = reference.run(&rule.normalize(&samples.picture(i)?.data)?)?.probabilities;
        bar.inc(1);
        anyhow::Ok(probabilities)
    };
    let answers: Vec<Vec<f32>> =
        (0..samples.len()).into_par_iter().map(answer).collect::<anyhow::Result<_>>()?;
    Ok(information(&answers))
}

/// The rule with red and blue the other way round; none where there is no such order.
fn swapped(rule: &Preprocess) -> Option<Preprocess> {
    let order = match rule.order {
        ChannelOrder::Rgb => ChannelOrder::Bgr,
        ChannelOrder::Bgr => ChannelOrder::Rgb,
        _ => return None,
    };
    Some(Preprocess { order, ..rule.clone() })
}

/// Whether the other order of channels tells the pictures apart better.
fn of_order(
    graph: &Graph,
    rule: &Preprocess,
    samples: &Samples,
    progress: &Progress,
) -> anyhow::Result<Option<Doubt>> {
    let samples = samples.clone().thin(ORDERED);
    let Some(other) = swapped(rule).filter(|_| samples.len() >= MIN_ORDERED && graph.classes() >= 2) else {
        return Ok(None);
    };
    let reference = Reference::new(graph)?;
    let own = nats(&reference, rule, &samples, progress)?;
    let most = (samples.len().min(graph.classes()) as f64).ln();
    // Answers that hardly differ say nothing of the order.
    if own < ENOUGH * most {
        return Ok(None);
    }
    let found = nats(&reference, &other, &samples, progress)?;
    Ok((found > SWAPPED * own).then_some(Doubt::Swapped { nats: own, swapped_nats: found }))
}

/// Mutual information of pictures and answers, nats.
fn information(answers: &[Vec<f32>]) -> f64 {
    let entropy =
        |p: &mut dyn Iterator<Item = f64>| -> f64 { p.filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum() };
    let n = answers.len().max(1) as f64;
    let classes = answers.first().map_or(0, Vec::len);
    let mean = |class: usize| answers.iter().map(|a| f64::from(a[class])).sum::<f64>() / n;
    let own = answers.iter().map(|a| entropy(&mut a.iter().map(|p| f64::from(*p)))).sum::<f64>() / n;
    entropy(&mut (0..classes).map(mean)) - own
}

/// Which of the labelled pictures f32 gets right under `rule`.
fn right(
    reference: &Reference,
    rule: &Preprocess,
    data: &Samples,
    truth: &[usize],
    progress: &Progress,
) -> anyhow::Result<Vec<bool>> {
    let bar = progress.bar("check labels", data.len());
    let right = |i: usize| {
        let answer = reference.run(&rule.normalize(&data.picture(i)?.data)?)?.logits;
        bar.inc(1);
        let first = vgg_edge_engine::topk::top_k(&answer, 1).first().map(|t| t.class);
        anyhow::Ok(first == Some(truth[i]))
    };
    (0..data.len()).into_par_iter().map(right).collect()
}

/// Whether f32 is right more often than by chance, and than with the other order of channels.
fn of_labels(
    graph: &Graph,
    rule: &Preprocess,
    data: &Samples,
    labels: &[String],
    progress: &Progress,
) -> anyhow::Result<Option<Doubt>> {
    let few = data.clone().thin(LABELLED);
    if few.len() < MIN_LABELLED {
        return Ok(None);
    }
    let reference = Reference::new(graph)?;
    let count = |right: &[bool]| right.iter().filter(|right| **right).count();
    let truth = eval::truth(&few, labels, graph.classes())?;
    let correct = count(&right(&reference, rule, &few, &truth, progress)?);
    let (pictures, classes) = (few.len(), graph.classes());
    let (n, chance) = (pictures as f64, 1.0 / classes.max(1) as f64);
    // Two standard errors above chance still count as chance.
    let by_chance = n * chance + 2.0 * (n * chance * (1.0 - chance)).sqrt();
    if classes > 1 && correct as f64 <= by_chance {
        return Ok(Some(Doubt::Chance { correct, pictures, classes }));
    }
    let Some(other) = swapped(rule) else { return Ok(None) };
    let data = data.clone().thin(ORDER_LABELLED);
    let truth = eval::truth(&data, labels, graph.classes())?;
    let own = right(&reference, rule, &data, &truth, progress)?;
    let other = right(&reference, &other, &data, &truth, progress)?;
    let (correct, swapped, pictures) = (count(&own), count(&other), data.len());
    // Pictures that one order alone gets right: a fair coin, were both as good, and three deviations of it.
    let changed = own.iter().zip(&other).filter(|(a, b)| a != b).count();
    let is_better = swapped > correct && (swapped - correct) as f64 > 3.0 * (changed as f64).sqrt();
    Ok(is_better.then_some(Doubt::SwappedByLabels { correct, swapped, pictures }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;

    #[test]
    fn answers_that_are_all_the_same_inform_of_nothing() {
        assert!(information(&vec![vec![0.9, 0.1]; 8]).abs() < 1e-6);
        let sure = [vec![1.0, 0.0], vec![0.0, 1.0]];
        assert!((information(&sure) - 2f64.ln()).abs() < 1e-6);
    }

    #[test]
    fn a_mean_in_pixels_under_a_scale_to_one_is_far_off() {
        let mut rule = Preset::Unit.preprocess(Shape::new(1, 2, 3));
        let looked = [Looked::at(&[10, 20, 30, 200, 210, 220], 3)];
        assert_eq!(of_values(&rule, &looked), None);
        rule.mean = vec![123.68, 116.779, 103.939];
        assert!(matches!(of_values(&rule, &looked), Some(Doubt::Centre { channel: 0, .. })));
        let mut rule = Preset::Unit.preprocess(Shape::new(1, 2, 3));
        rule.std = vec![255.0; 3];
        assert!(matches!(of_values(&rule, &looked), Some(Doubt::Spread { channel: 0, .. })));
    }
}
