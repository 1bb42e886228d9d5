//! Single pictures of an evaluation: which classes are taken for which, and where the network is furthest off.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use vgg_edge_engine::topk::top_k;

use crate::report::{kl, log_softmax};

/// Pairs and pictures that are listed, at most.
const LISTED: usize = 10;

/// Pictures of one class that were taken for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Their class.
    pub class: String,
    /// What the network says.
    pub answer: String,
    /// How many.
    pub pictures: u64,
    /// How many the reference takes for the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
}

/// One picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worst {
    /// File, from the folder on.
    pub picture: PathBuf,
    /// Its class, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What the network says.
    pub answer: String,
    /// How sure it is, 0 to 1.
    pub probability: f64,
    /// What the reference says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// How sure that is of its own answer, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_probability: Option<f64>,
    /// Divergence of the probabilities from the reference's, nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
}

/// All pictures of an evaluation: files, classes, logits.
pub(super) struct Pictures<'a> {
    pub(super) paths: Vec<PathBuf>,
    pub(super) truth: &'a [Option<usize>],
    pub(super) found: &'a [Vec<f32>],
    pub(super) wanted: Option<&'a [Vec<f32>]>,
}

/// The first class and its probability.
fn answer(logits: &[f32]) -> (usize, f64) {
    let class = top_k(logits, 1).first().map_or(0, |t| t.class);
    (class, log_softmax(logits).get(class).map_or(0.0, |p| p.exp()))
}

impl Pictures<'_> {
    /// How many pictures only the reference has right, and how many only the network.
    pub(super) fn lost(&self) -> Option<(u64, u64)> {
        let (mut lost, mut won) = (0, 0);
        for ((wanted, found), truth) in self.wanted?.iter().zip(self.found).zip(self.truth) {
            let right = |logits: &[f32]| Some(answer(logits).0) == *truth;
            lost += u64::from(right(wanted) && !right(found));
            won += u64::from(!right(wanted) && right(found));
        }
        Some((lost, won))
    }

    /// The most frequent mistakes.
    pub(super) fn confusion(&self, name: impl Fn(usize) -> String) -> Vec<Confusion> {
        let count = |logits: &[Vec<f32>]| {
            let mut pairs: BTreeMap<(usize, usize), u64> = BTreeMap::new();
            for (logits, truth) in logits.iter().zip(self.truth) {
                if let (Some(truth), (answer, _)) = (*truth, answer(logits))
                    && truth != answer
                {
                    *pairs.entry((truth, answer)).or_default() += 1;
                }
            }
            pairs
        };
        let reference = self.wanted.map(count);
        let mut pairs: Vec<_> = count(self.found).into_iter().collect();
        pairs.sort_by_key(|(pair, n)| (std::cmp::Reverse(*n), *pair));
        let listed = pairs.into_iter().take(LISTED).map(|((class, answer), pictures)| Confusion {
            class: name(class),
            answer: name(answer),
            pictures,
            reference: reference.as_ref().map(|r| r.get(&(class, answer)).copied().unwrap_or(0)),
        });
        listed.collect()
    }

    /// The pictures that are furthest off.
    pub(super) fn worst(&self, name: impl Fn(usize) -> String) -> Vec<Worst> {
        // How far off: the divergence, else the surprise at the right class.
        let off = |i: usize| match (self.wanted, self.truth[i]) {
            (Some(wanted), _) => kl(&wanted[i], &self.found[i]),
            (None, Some(class)) => log_softmax(&self.found[i]).get(class).map_or(0.0, |p| -p),
            (None, None) => 0.0,
        };
        let mut order: Vec<(usize, f64)> = (0..self.found.len()).map(|i| (i, off(i))).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let listed = order.into_iter().filter(|(_, off)| *off > 0.0).take(LISTED).map(|(i, off)| {
            let (class, probability) = answer(&self.found[i]);
            let reference = self.wanted.map(|wanted| answer(&wanted[i]));
            Worst {
                picture: self.paths[i].clone(),
                class: self.truth[i].map(&name),
                answer: name(class),
                probability,
                reference: reference.map(|(class, _)| name(class)),
                reference_probability: reference.map(|(_, probability)| probability),
                kl: self.wanted.map(|_| off),
            }
        });
        listed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_counted_and_the_worst_picture_comes_first() {
        let found = vec![vec![1.0, 0.0], vec![0.0, 4.0], vec![0.0, 9.0], vec![0.0, 1.0]];
        let wanted = vec![vec![1.0, 0.0], vec![1.0, 0.0], vec![0.0, 9.0], vec![0.0, 1.0]];
        let truth = [Some(0), Some(0), Some(0), Some(1)];
        let paths = (0..4).map(|i| PathBuf::from(format!("{i}.png"))).collect();
        let pictures = Pictures { paths, truth: &truth, found: &found, wanted: Some(&wanted) };
        let name = |class: usize| ["cat", "dog"][class].to_owned();
        assert_eq!(pictures.lost(), Some((1, 0)));
        let confusion = pictures.confusion(name);
        assert_eq!((confusion.len(), confusion[0].pictures, confusion[0].reference), (1, 2, Some(1)));
        assert_eq!((confusion[0].class.as_str(), confusion[0].answer.as_str()), ("cat", "dog"));
        let worst = pictures.worst(name);
        assert_eq!(worst.len(), 1, "{worst:?}");
        assert_eq!(
            (&worst[0].picture, worst[0].reference.as_deref()),
            (&PathBuf::from("1.png"), Some("cat"))
        );
        let alone = Pictures { wanted: None, ..pictures };
        assert_eq!(
            (alone.worst(name)[0].picture.as_path(), alone.lost()),
            (std::path::Path::new("2.png"), None)
        );
    }
}
