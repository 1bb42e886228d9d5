//! Accuracy of a blob or of a weights file over labelled pictures, alone or against a reference.

mod pictures;

use std::path::Path;

use anyhow::{Context, bail, ensure};
use rayon::prelude::*;
use serde::Serialize;
use vgg_edge_blob::{AlignedBytes, Blob, LayerOp, Shape};

use crate::convert::engine;
use crate::graph::Graph;
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::report::{Accuracy, Comparison, Rates, paired_difference};
use crate::samples::Samples;

use pictures::Pictures;
pub use pictures::{Confusion, Worst};

/// A network that can be asked for logits.
pub enum Network {
    /// A blob, on the device's engine.
    Blob(AlignedBytes),
    /// A weights file, in f32.
    Weights {
        /// The runnable graph.
        reference: Box<Reference>,
        /// Its input.
        input: Shape,
        /// Its classes.
        classes: usize,
        /// From picture to input.
        rule: Preprocess,
    },
}

impl Network {
    /// An imported graph, run in f32.
    ///
    /// # Errors
    /// When the reference cannot be built, or the graph is a feature extractor.
    pub fn of_graph(graph: &Graph, rule: Preprocess) -> anyhow::Result<Self> {
        ensure!(graph.is_classifier(), "the network ends in {}, expected class scores", graph.output());
        let input = crate::quantize::blob_shape(graph.input());
        let reference = Box::new(Reference::new(graph).context("f32 reference")?);
        Ok(Self::Weights { reference, input, classes: graph.classes(), rule })
    }

    /// From picture to input, and the input's shape.
    pub fn rule(&self) -> anyhow::Result<(vgg_edge_blob::Preprocess, Shape)> {
        match self {
            Self::Blob(bytes) => {
                let blob = Blob::parse(bytes.as_slice())?;
                Ok((*blob.preprocess(), blob.input()))
            }
            Self::Weights { rule, input, .. } => Ok((rule.to_blob(), *input)),
        }
    }

    fn classes(&self) -> anyhow::Result<usize> {
        match self {
            Self::Blob(bytes) => {
                let blob = Blob::parse(bytes.as_slice())?;
                let last = blob.layers().last();
                let dense = last.is_some_and(|l| matches!(l.op, LayerOp::Dense(_)));
                ensure!(dense, "the model is a feature extractor, expected class scores");
                Ok(blob.n_classes())
            }
            Self::Weights { classes, .. } => Ok(*classes),
        }
    }

    /// Labels, if the network has them.
    fn labels(&self) -> Vec<String> {
        match self {
            Self::Blob(bytes) => Blob::parse(bytes.as_slice())
                .map(|b| b.labels().map(str::to_owned).collect())
                .unwrap_or_default(),
            Self::Weights { .. } => Vec::new(),
        }
    }

    /// Logits of every picture, in order; every core works. `what` names the work on the progress bar.
    ///
    /// # Errors
    /// A picture that cannot be read, a blob that the engine refuses.
    pub fn logits(
        &self,
        samples: &Samples,
        what: &'static str,
        progress: &Progress,
    ) -> anyhow::Result<Vec<Vec<f32>>> {
        let bar = progress.bar(what, samples.len());
        let pictures = (0..samples.len()).into_par_iter();
        match self {
            Self::Blob(bytes) => {
                let blob = Blob::parse(bytes.as_slice())?;
                let run = |engine: &mut anyhow::Result<_>, i| {
                    let engine: &mut vgg_edge_engine::Engine<'_> =
                        engine.as_mut().map_err(|e| anyhow::anyhow!("{e:#}"))?;
                    let logits = engine.run(&samples.picture(i)?.data)?.to_vec();
                    bar.inc(1);
                    Ok(logits)
                };
                pictures.map_init(|| engine(&blob), run).collect()
            }
            Self::Weights { reference, rule, .. } => {
                let run = |i| {
                    let picture = samples.picture(i)?;
                    let output = reference.run(&rule.normalize(&picture.data)?)?;
                    bar.inc(1);
                    Ok(output.logits)
                };
                pictures.map(run).collect()
            }
        }
    }
}

/// What `eval` prints: rates and their 95 % confidence intervals from 0 to 1, divergence in nats. Fields may be added.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Pictures seen.
    pub pictures: u64,
    /// The network's accuracy; absent where the folder has no sub-folder a class.
    #[serde(flatten)]
    pub rates: Option<Rates>,
    /// The reference's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<Rates>,
    /// What top-1 lost against the reference; negative where it won.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<f64>,
    /// Its interval, from the pictures on which only one of both is right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_interval: Option<[f64; 2]>,
    /// Share of pictures on which both name the same class first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Its interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement_interval: Option<[f64; 2]>,
    /// Mean divergence of the probabilities from the reference's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_kl: Option<f64>,
    /// Classes taken for others, most often first.
    pub confusion: Vec<Confusion>,
    /// The pictures with the largest divergence from the reference, or without one those whose class got the least
    /// probability; worst first.
    pub worst: Vec<Worst>,
}

/// Runs `network`, and `reference` if there is one, over the pictures of `folder`.
///
/// # Errors
/// A folder without classes and no reference, or whose classes are not the network's; a picture that cannot be read.
pub fn evaluate(
    network: &Network,
    reference: Option<&Network>,
    folder: &Path,
    progress: &Progress,
) -> anyhow::Result<Evaluation> {
    let (rule, input) = network.rule()?;
    let samples = Samples::open(folder, &rule, input)?;
    let n_classes = network.classes()?;
    let labels = network.labels();
    let folders = samples.classes();
    // A flat folder can be compared with a reference, no more.
    let truth = match folders.is_empty() && reference.is_some() {
        true => vec![None; samples.len()],
        false => {
            let truth = truth(&samples, &labels, n_classes);
            let truth = truth.with_context(|| format!("folder {}", folder.display()))?;
            truth.into_iter().map(Some).collect()
        }
    };
    let labelled = truth.iter().all(Option::is_some);
    let found = network.logits(&samples, "evaluate", progress)?;
    let wanted = match reference {
        Some(reference) => {
            let found = reference.classes()?;
            ensure!(found == n_classes, "the reference has {found} classes, the model {n_classes}");
            let (rule, input) = reference.rule()?;
            Some(reference.logits(&Samples::open(folder, &rule, input)?, "reference", progress)?)
        }
        None => None,
    };
    let accuracy = |logits: &[Vec<f32>]| {
        let mut accuracy = Accuracy::default();
        logits.iter().zip(&truth).filter_map(|(l, t)| Some((l, (*t)?))).for_each(|(l, t)| accuracy.add(l, t));
        accuracy
    };
    let rates = |logits: &Vec<Vec<f32>>| labelled.then(|| Rates::from(&accuracy(logits)));
    let name = |class: usize| match (labels.get(class), folders.get(class)) {
        (Some(label), _) => label.clone(),
        (None, Some(folder)) if labelled => folder.clone(),
        _ => class.to_string(),
    };
    let paths = samples.labelled().map(|(path, _)| path.strip_prefix(folder).unwrap_or(path).to_owned());
    let pictures =
        Pictures { paths: paths.collect(), truth: &truth, found: &found, wanted: wanted.as_deref() };
    let comparison = wanted.as_ref().map(|wanted| {
        let mut comparison = Comparison::default();
        wanted.iter().zip(&found).for_each(|(w, f)| comparison.add(w, f));
        comparison
    });
    let lost = if labelled { pictures.lost() } else { None };
    let n = samples.len() as u64;
    Ok(Evaluation {
        pictures: n,
        rates: rates(&found),
        reference: wanted.as_ref().and_then(rates),
        drop: lost.map(|(lost, won)| (lost as f64 - won as f64) / n as f64),
        drop_interval: lost.map(|(lost, won)| paired_difference(lost, won, n)),
        agreement: comparison.map(|c| c.agreement()),
        agreement_interval: comparison.map(|c| c.interval()),
        mean_kl: comparison.map(|c| c.mean_kl()),
        confusion: pictures.confusion(name),
        worst: pictures.worst(name),
    })
}

/// The network's class of each picture.
///
/// # Errors
/// Folders that are not the network's classes, a picture beside them.
pub(crate) fn truth(samples: &Samples, labels: &[String], n_classes: usize) -> anyhow::Result<Vec<usize>> {
    let class_of = classes(samples.classes(), labels, n_classes)?;
    let class = |(path, class): (&Path, Option<usize>)| match class {
        Some(class) => Ok(class_of[class]),
        None => bail!("picture {} lies beside the class folders, expected inside one", path.display()),
    };
    samples.labelled().map(class).collect()
}

/// The network's class of each folder: by label where the network has labels, else by the order of names, as
/// Keras' and torchvision's folder loaders number them.
fn classes(folders: &[String], labels: &[String], n_classes: usize) -> anyhow::Result<Vec<usize>> {
    ensure!(!folders.is_empty(), "no sub-folder with pictures, expected one a class");
    if !labels.is_empty() {
        let class = |folder: &String| {
            let found = labels.iter().position(|l| l == folder);
            found.with_context(|| format!("sub-folder `{folder}` is not a label of the network"))
        };
        return folders.iter().map(class).collect();
    }
    let found = folders.len();
    ensure!(
        found == n_classes,
        "{found} class folders, the network has {n_classes} classes and no labels to match names with"
    );
    Ok((0..n_classes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn folders_match_labels_or_else_their_order() {
        let labels = names(&["cat", "dog", "ant"]);
        assert_eq!(classes(&names(&["ant", "cat"]), &labels, 3).unwrap(), [2, 0]);
        assert_eq!(classes(&names(&["a", "b"]), &[], 2).unwrap(), [0, 1]);
        let unknown = classes(&names(&["cow"]), &labels, 3).unwrap_err().to_string();
        assert_eq!(unknown, "sub-folder `cow` is not a label of the network");
        let few = classes(&names(&["a"]), &[], 2).unwrap_err().to_string();
        assert_eq!(few, "1 class folders, the network has 2 classes and no labels to match names with");
    }
}
