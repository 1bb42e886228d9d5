//! Calibration pictures by the answers that f32 gives them.
//!
//! Under this rule, another preset's, with red and blue swapped, with the mean taken off.

use rayon::prelude::*;
use vgg_edge_blob::ChannelOrder;

use super::pixels::{Looked, centred, is_uncentred};
use super::{Doubt, Other};
use crate::eval;
use crate::graph::Graph;
use crate::preprocess::{Preprocess, Preset};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::samples::Samples;

/// Pictures whose answers are compared, at most, and at least.
const ANSWERED: usize = 16;
const MIN_ANSWERED: usize = 8;
/// Labelled pictures that are counted, at most, and at least; and those that come with the calibration, at most.
const LABELLED: usize = 64;
const MIN_LABELLED: usize = 16;
const CALIBRATION_LABELLED: usize = 32;
/// Labelled pictures that another rule is counted on, at most, and how many more it must have had right on the few.
const OTHER_LABELLED: usize = 200;
const AHEAD: usize = 2;
/// From this share of the most information there can be on, a rule is not doubted.
const ENOUGH: f64 = 0.5;
/// Another rule must have so much more to be named, as a factor and in nats.
const BETTER: (f64, f64) = (1.5, 0.2);
/// Pictures that both orders of channels are run on, at most, and at least without labels.
const ORDERED: usize = 48;
const MIN_ORDERED: usize = 32;
/// The other order must have so many times the information; the right one has about 1.17 times the wrong one's.
const SWAPPED: f64 = 1.08;

/// Whether another preset's answers tell the pictures apart much better.
pub(super) fn of_answers(
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
pub(super) fn of_order(
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

/// What labels say: whether f32 is right more often than by chance, and than under another rule. Those of the calibration's own
/// folders (`is_data` is not set) may be of something else than classes, so that they only say that another rule is better.
pub(super) fn of_labels(
    graph: &Graph,
    rule: &Preprocess,
    looked: &[Looked],
    (data, is_data): (&Samples, bool),
    labels: &[String],
    progress: &Progress,
) -> anyhow::Result<Option<Doubt>> {
    let few = data.clone().thin(if is_data { LABELLED } else { CALIBRATION_LABELLED });
    if few.len() < MIN_LABELLED || graph.classes() < 2 {
        return Ok(None);
    }
    let truth = match eval::truth(&few, labels, graph.classes()) {
        Ok(truth) => truth,
        Err(error) if is_data => return Err(error),
        Err(_) => return Ok(None),
    };
    let reference = Reference::new(graph)?;
    let count = |right: &[bool]| right.iter().filter(|right| **right).count();
    let on_few = |rule: &Preprocess| anyhow::Ok(count(&right(&reference, rule, &few, &truth, progress)?));
    let correct = on_few(rule)?;
    let (pictures, classes) = (few.len(), graph.classes());
    let (n, chance) = (pictures as f64, 1.0 / classes as f64);
    // Two standard errors above chance still count as chance.
    let by_chance = n * chance + 2.0 * (n * chance * (1.0 - chance)).sqrt();
    if is_data && correct as f64 <= by_chance {
        return Ok(Some(Doubt::Chance { correct, pictures, classes }));
    }
    let mut best = None;
    for (other, changed) in others(graph, rule, looked) {
        let found = on_few(&changed)?;
        // Given labels are worth a closer look at the order, which costs few pictures.
        let least = if is_data && other == Other::Swapped { 0 } else { correct + AHEAD };
        // One change is likelier than another rule that has it, too.
        let score = if matches!(other, Other::Preset(_)) { found } else { found + AHEAD };
        if found >= least && best.as_ref().is_none_or(|(_, _, most)| score > *most) {
            best = Some((other, changed, score));
        }
    }
    let Some((other, changed, _)) = best else { return Ok(None) };
    let data = data.clone().thin(OTHER_LABELLED);
    let truth = eval::truth(&data, labels, graph.classes())?;
    let own = right(&reference, rule, &data, &truth, progress)?;
    let found = right(&reference, &changed, &data, &truth, progress)?;
    let (correct, other_correct, pictures) = (count(&own), count(&found), data.len());
    // Pictures that one rule alone gets right: a fair coin, were both as good, and three deviations of it.
    let changed = own.iter().zip(&found).filter(|(a, b)| a != b).count();
    let is_better =
        other_correct > correct && (other_correct - correct) as f64 > 3.0 * (changed as f64).sqrt();
    Ok(is_better.then_some(Doubt::ByLabels { other, correct, other_correct, pictures }))
}

/// What else the rule might have been meant to be. Pictures stay as `rule` cuts them.
fn others(graph: &Graph, rule: &Preprocess, looked: &[Looked]) -> Vec<(Other, Preprocess)> {
    let mut others: Vec<(Other, Preprocess)> = Vec::new();
    others.extend(swapped(rule).map(|rule| (Other::Swapped, rule)));
    others.extend(is_uncentred(rule, looked).then(|| (Other::Centred, centred(rule, looked))));
    for preset in Preset::ALL {
        let other = preset.preprocess(graph.input());
        let values = |p: &Preprocess| (p.order, p.scale, p.mean.clone(), p.std.clone());
        if values(&other) != values(rule) {
            others.push((Other::Preset(preset), other));
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_all_the_same_inform_of_nothing() {
        assert!(information(&vec![vec![0.9, 0.1]; 8]).abs() < 1e-6);
        let sure = [vec![1.0, 0.0], vec![0.0, 1.0]];
        assert!((information(&sure) - 2f64.ln()).abs() < 1e-6);
    }
}
