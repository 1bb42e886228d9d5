//! What the network says about one picture: its best classes, or its features.
//!
//! ```text
//! {"image": "cat.jpg", "top": [{"class": 3, "label": "cat", "probability": 0.81}], "ms": 41.2, "decode_ms": 2.1}
//! ```
//!
//! An [`Answer`] owns all it holds, so it may leave the thread that classifies: to a client, a browser, a broker.

use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use vgg_edge_blob::Blob;
use vgg_edge_engine::Engine;
use vgg_edge_engine::topk::{softmax, top_k};

use crate::info::sides;
use crate::model::milliseconds;

/// Classes shown for each picture unless asked otherwise.
pub(crate) const TOP: usize = 5;

/// One picture's answer; its serialized form is stable.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer {
    /// The picture's name: its path, or what the sender calls it.
    pub(crate) image: String,
    #[serde(flatten)]
    pub(crate) found: Found,
    /// The network alone, milliseconds.
    pub(crate) ms: f32,
    /// Reading, decoding and resizing the picture, milliseconds.
    pub(crate) decode_ms: f32,
}

/// What the network gives.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Found {
    /// The best classes, best first.
    Classes { top: Vec<Class> },
    /// A feature extractor's real values, NHWC; rows, columns, channels.
    Features { shape: [u32; 3], features: Vec<f32> },
}

/// A class of an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Class {
    pub(crate) class: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    /// 0 to 1.
    pub(crate) probability: f32,
}

/// A network ready to answer.
pub(crate) struct Classifier<'a> {
    blob: Blob<'a>,
    engine: Engine<'a>,
    k: usize,
}

impl<'a> Classifier<'a> {
    /// Answers with the best `k` classes of `engine`, which runs `blob`.
    pub(crate) fn new(blob: &Blob<'a>, engine: Engine<'a>, k: usize) -> Self {
        Self { blob: *blob, engine, k }
    }

    /// The engine, to look at.
    pub(crate) fn engine(&self) -> &Engine<'a> {
        &self.engine
    }

    /// From now on, answers with the best `k` classes.
    #[cfg(feature = "serve")]
    pub(crate) fn show(&mut self, k: usize) {
        self.k = k;
    }

    /// What is in `input`, u8 NHWC as [`crate::picture::Rule`] makes it, and the milliseconds that it took.
    ///
    /// # Errors
    /// When `input` has another size than the network's, or a value overflows (f16): no NaN is ever an answer.
    pub(crate) fn classify(&mut self, input: &[u8]) -> Result<(Found, f32)> {
        self.classify_probabilities(input, &mut |_| {})
    }

    /// As [`Classifier::classify`]; `change` gets the probabilities of all classes before the best are chosen.
    ///
    /// # Errors
    /// When `input` has another size than the network's.
    pub(crate) fn classify_probabilities(
        &mut self,
        input: &[u8],
        change: &mut dyn FnMut(&mut [f32]),
    ) -> Result<(Found, f32)> {
        let start = Instant::now();
        let mut values = self.engine.run(input)?.to_vec();
        let ms = milliseconds(start);
        if let Some((i, value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            bail!("the network gives {value} as value {i} of {}, expected finite numbers", values.len());
        }
        if !self.blob.is_classifier() {
            defmt::info!("result: {=usize} features, {=f32} ms", values.len(), ms);
            return Ok((Found::Features { shape: sides(self.blob.output()), features: values }, ms));
        }
        softmax(&mut values);
        change(&mut values);
        let top = self.best(&values);
        if let Some(best) = top.first() {
            defmt::info!(
                "result: class {=usize}, probability {=f32}, {=f32} ms",
                best.class,
                best.probability,
                ms
            );
        }
        Ok((Found::Classes { top }, ms))
    }

    /// The best classes of `probabilities`, one for each class of the network.
    pub(crate) fn best(&self, probabilities: &[f32]) -> Vec<Class> {
        let label = |class| self.blob.label(class).filter(|label| !label.is_empty()).map(str::to_owned);
        let class = |class, probability| Class { class, label: label(class), probability };
        top_k(probabilities, self.k).iter().map(|t| class(t.class, t.score)).collect()
    }
}
