//! Calibration pictures by their pixels alone: one colour, the same twice, noise, saturated.
//!
//! And what the rule makes of the pixels.
//!
//! Neighbouring pixels of a photograph are nearly the same. Half of their mean squared difference over the variance
//! (J. von Neumann, 1941) is 1 where they are unrelated. Of 1,500 CIFAR pictures and 64 photographs at 224x224 it is 0.43 at
//! most, and at most 4.7 times the median of the set.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{DEVIATIONS, Doubt};
use crate::preprocess::Preprocess;
use crate::samples::Samples;

/// A picture whose pixels differ by no more in any channel is of one colour; JPEG's noise is less.
const CONSTANT_SPREAD: u8 = 4;
/// Roughness from which a picture is noise, and the same as a multiple of the median of all pictures: enlarged noise is smooth,
/// but so are enlarged photographs.
const ROUGH: f64 = 0.7;
const ROUGHER: f64 = 6.0;
/// Pictures from which on their median says something.
const MIN_PICTURES: usize = 8;
/// Share of values at either end of the range from which a picture is saturated; of the pictures above 0.68 at most.
const SATURATED: f64 = 0.9;
/// How near to 0 or 255 a value is saturated: JPEG moves it by a little.
const END: u8 = 2;
/// Distance of a channel's mean from 0, in deviations: plain pixels, no mean taken off, have about 2.
const FAR: f64 = 4.0;
/// The same of every channel, where no mean is taken off, and the pixel range from which it is not simply 0..1.
const OFF_CENTRE: f64 = 1.0;
const UNIT_RANGE: f64 = 1.5;

/// What one picture's pixels are.
pub(super) struct Looked {
    hash: u64,
    /// Largest difference within a channel.
    spread: u8,
    /// Count, sum and sum of squares of each channel.
    sums: Vec<[u64; 3]>,
    /// Half of the mean squared difference of neighbours over the variance, of the roughest channel.
    roughness: f64,
    /// Share of values that are 0 or 255, nearly.
    saturated: f64,
}

impl Looked {
    /// Looks at a picture, u8 NHWC, of `channels` and so many pixels a row.
    pub(super) fn at(pixels: &[u8], channels: usize, width: usize) -> Self {
        let mut hasher = DefaultHasher::new();
        pixels.hash(&mut hasher);
        let channels = channels.max(1);
        let of_channel = |c: usize| pixels.iter().skip(c).step_by(channels).copied();
        let spread = |c| of_channel(c).max().unwrap_or(0) - of_channel(c).min().unwrap_or(0);
        let sums = |c| {
            of_channel(c)
                .map(u64::from)
                .fold([0; 3], |[n, sum, squares], p| [n + 1, sum + p, squares + p * p])
        };
        let sums: Vec<[u64; 3]> = (0..channels).map(sums).collect();
        let variance = |c: usize| {
            let [n, sum, squares] = sums[c].map(|v| v as f64);
            squares / n.max(1.0) - (sum / n.max(1.0)).powi(2)
        };
        let roughness = |c: usize| {
            let values: Vec<f64> = of_channel(c).map(f64::from).collect();
            let rows = values.chunks(width.max(1));
            let across = rows.clone().flat_map(|row| row.windows(2).map(|w| w[1] - w[0]));
            let down = rows.clone().zip(rows.skip(1)).flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| b - a));
            let (n, sum) = across.chain(down).fold((0.0, 0.0), |(n, sum), d| (n + 1.0, sum + d * d));
            if variance(c) > 0.0 && n > 0.0 { sum / n / (2.0 * variance(c)) } else { 0.0 }
        };
        let saturated = pixels.iter().filter(|p| **p <= END || **p >= 255 - END).count();
        Self {
            hash: hasher.finish(),
            spread: (0..channels).map(spread).max().unwrap_or(0),
            // Alpha is no picture.
            roughness: (0..channels.min(3)).map(roughness).fold(0.0, f64::max),
            saturated: saturated as f64 / pixels.len().max(1) as f64,
            sums,
        }
    }
}

/// Pictures that should not be among the others; `looked` are those of `samples`.
pub(super) fn of_pictures(samples: &Samples, looked: &[Looked]) -> anyhow::Result<Vec<Doubt>> {
    let names: Vec<String> = samples.labelled().map(|(path, _)| path.display().to_string()).collect();
    let which = |wanted: &dyn Fn(&Looked) -> bool| -> Vec<String> {
        names.iter().zip(looked).filter(|(_, l)| wanted(l)).map(|(name, _)| name.clone()).collect()
    };
    let is_constant = |l: &Looked| l.spread <= CONSTANT_SPREAD;
    let mut doubts = Vec::new();
    let constant = which(&is_constant);
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
    let mut all: Vec<f64> = looked.iter().map(|l| l.roughness).collect();
    all.sort_by(f64::total_cmp);
    let too_rough = match all.get(all.len() / 2) {
        Some(median) if all.len() >= MIN_PICTURES && *median > 0.0 => ROUGH.min(ROUGHER * median),
        _ => ROUGH,
    };
    let noise = which(&|l| !is_constant(l) && l.roughness > too_rough);
    if !noise.is_empty() {
        doubts.push(Doubt::Noise { names: noise });
    }
    let saturated = which(&|l| !is_constant(l) && l.roughness <= too_rough && l.saturated > SATURATED);
    if !saturated.is_empty() {
        doubts.push(Doubt::Saturated { names: saturated });
    }
    Ok(doubts)
}

/// Mean and deviation of a channel, in the order of the network.
#[derive(Clone, Copy)]
struct Statistics {
    channel: usize,
    mean: f64,
    deviation: f64,
}

/// What `rule` makes of the pixels: colours alone, for alpha is of one value in most pictures. Nothing where all pictures are
/// of one colour.
fn statistics(rule: &Preprocess, looked: &[Looked]) -> Vec<Statistics> {
    let varied = looked.iter().any(|l| l.spread > CONSTANT_SPREAD);
    let of_channel = |channel: usize| {
        let pixel = rule.order.network_channel(channel);
        let mut total = [0u64; 3];
        for l in looked {
            total.iter_mut().zip(&l.sums[pixel]).for_each(|(a, b)| *a += b);
        }
        let [n, sum, squares] = total.map(|v| v as f64);
        let mean = sum / n.max(1.0);
        let deviation = (squares / n.max(1.0) - mean * mean).max(0.0).sqrt();
        let (shift, std) = (rule.mean.get(channel)?, rule.std.get(channel)?);
        let mean = (mean * rule.scale - shift) / std;
        Some(Statistics { channel, mean, deviation: deviation * rule.scale.abs() / std })
    };
    (0..rule.order.channels().min(3)).filter(|_| varied).filter_map(of_channel).collect()
}

/// Centre and spread of what the rule makes of the pixels; the worst channel speaks for all.
pub(super) fn of_values(rule: &Preprocess, looked: &[Looked]) -> Option<Doubt> {
    let statistics = statistics(rule, looked);
    let centre = statistics
        .iter()
        .filter(|s| s.mean.abs() > FAR * s.deviation)
        .max_by(|a, b| (a.mean.abs() / a.deviation).total_cmp(&(b.mean.abs() / b.deviation)));
    if let Some(&Statistics { channel, mean, deviation }) = centre {
        return Some(Doubt::Centre { channel, mean, deviation });
    }
    if let Some(s) = statistics.iter().find(|s| !(DEVIATIONS[0]..=DEVIATIONS[1]).contains(&s.deviation)) {
        return Some(Doubt::Spread { channel: s.channel, deviation: s.deviation });
    }
    // Values from 0 to 1 are usual, others without a mean are not.
    let to_unit = rule.std.iter().all(|std| 255.0 * rule.scale.abs() / std < UNIT_RANGE);
    let first = statistics.first().filter(|_| !to_unit && is_uncentred(rule, looked));
    first.map(|s| Doubt::NoMean { mean: s.mean, deviation: s.deviation })
}

/// Whether no mean is taken off and all values lie on one side of 0.
pub(super) fn is_uncentred(rule: &Preprocess, looked: &[Looked]) -> bool {
    let statistics = statistics(rule, looked);
    let off = |s: &Statistics| s.mean.abs() > OFF_CENTRE * s.deviation;
    rule.mean.iter().all(|mean| *mean == 0.0) && !statistics.is_empty() && statistics.iter().all(off)
}

/// `rule` with the mean of the pictures taken off.
pub(super) fn centred(rule: &Preprocess, looked: &[Looked]) -> Preprocess {
    let mut centred = rule.clone();
    for s in statistics(rule, looked) {
        centred.mean[s.channel] += s.mean * rule.std[s.channel];
    }
    centred
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;
    use crate::preprocess::Preset;

    #[test]
    fn a_mean_in_pixels_under_a_scale_to_one_is_far_off() {
        let mut rule = Preset::Unit.preprocess(Shape::new(1, 2, 3));
        let looked = [Looked::at(&[10, 20, 30, 200, 210, 220], 3, 2)];
        assert_eq!(of_values(&rule, &looked), None);
        rule.mean = vec![123.68, 116.779, 103.939];
        assert!(matches!(of_values(&rule, &looked), Some(Doubt::Centre { channel: 0, .. })));
        let mut rule = Preset::Unit.preprocess(Shape::new(1, 2, 3));
        rule.std = vec![255.0; 3];
        assert!(matches!(of_values(&rule, &looked), Some(Doubt::Spread { channel: 0, .. })));
    }

    #[test]
    fn plain_pixels_without_a_mean_are_noticed_and_centred() {
        let looked = [Looked::at(&[100, 110, 120, 140, 150, 160], 3, 2)];
        let mut rule = Preset::KerasCaffe.preprocess(Shape::new(1, 2, 3));
        assert_eq!(of_values(&rule, &looked), None);
        rule.mean = vec![0.0; 3];
        let found = of_values(&rule, &looked);
        assert!(matches!(found, Some(Doubt::Centre { .. })), "{found:?}");
        let looked = [Looked::at(&[20, 30, 40, 220, 230, 240], 3, 2)];
        assert_eq!(of_values(&rule, &looked), Some(Doubt::NoMean { mean: 140.0, deviation: 100.0 }));
        assert_eq!(centred(&rule, &looked).mean, [140.0, 130.0, 120.0]);
        assert_eq!(of_values(&Preset::Unit.preprocess(Shape::new(1, 2, 3)), &looked), None);
    }

    #[test]
    fn neighbours_of_noise_are_unrelated() {
        let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
        let of = |pixel: &dyn Fn(usize) -> u8| Looked::at(&(0..1024).map(pixel).collect::<Vec<_>>(), 1, 32);
        let (ramp, noise) = (of(&|i| (i % 32 * 8) as u8), of(&noise));
        assert!(ramp.roughness < 0.02 && noise.roughness > 0.8, "{} {}", ramp.roughness, noise.roughness);
        let halves = of(&|i| if i % 32 < 16 { 0 } else { 255 });
        assert!(halves.saturated > 0.99 && halves.roughness < 0.1, "{}", halves.roughness);
    }
}
