//! `classify info`: what a model file holds, as a table or as JSON.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use vgg_edge_blob::{Blob, Layer, LayerOp, Shape, layout};

use crate::args::Info;
use crate::model::ModelFile;
use crate::output;

/// The facts of a model file.
#[derive(Debug, Serialize)]
pub(crate) struct Facts<'a> {
    pub(crate) model: String,
    pub(crate) bytes: usize,
    pub(crate) version: u16,
    pub(crate) scheme: &'static str,
    /// Rows, columns, channels.
    pub(crate) input: [u32; 3],
    pub(crate) preprocess: Preprocess,
    /// Rows, columns, channels; 1 x 1 x classes.
    pub(crate) output: [u32; 3],
    /// Absent for a network that gives features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) classes: Option<usize>,
    pub(crate) labels: Vec<&'a str>,
    pub(crate) self_test: bool,
    pub(crate) macs: u64,
    pub(crate) layers: Vec<LayerFacts<'a>>,
    /// What the host tool wrote about how the file was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<serde_json::Value>,
}

/// `value = (pixel * scale - mean) / std`, mean and std in the order of `order`.
#[derive(Debug, Serialize)]
pub(crate) struct Preprocess {
    pub(crate) order: &'static str,
    pub(crate) scale: f32,
    pub(crate) mean: Vec<f32>,
    pub(crate) std: Vec<f32>,
    pub(crate) resize: String,
    pub(crate) filter: &'static str,
}

/// One layer.
#[derive(Debug, Serialize)]
pub(crate) struct LayerFacts<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'static str,
    /// Rows, columns, channels.
    pub(crate) output: [u32; 3],
    pub(crate) weight_bytes: usize,
    pub(crate) macs: u64,
    pub(crate) block: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sqnr_db: Option<f32>,
}

pub(crate) fn info(args: &Info) -> Result<ExitCode> {
    let file = ModelFile::open(&args.model)?;
    let blob = file.blob()?;
    output::print_facts(&facts(args.model.display().to_string(), &blob), args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// The facts of `blob`, called `model`.
pub(crate) fn facts<'a>(model: String, blob: &Blob<'a>) -> Facts<'a> {
    let input = blob.input();
    let rule = blob.preprocess();
    let n_channels = input.channels as usize;
    let layers: Vec<LayerFacts<'a>> = blob.layers().map(|layer| layer_facts(&layer)).collect();
    let preprocess = Preprocess {
        order: rule.order.name(),
        scale: rule.scale,
        mean: rule.mean.iter().copied().take(n_channels).collect(),
        std: rule.std.iter().copied().take(n_channels).collect(),
        resize: rule.resize.to_string(),
        filter: rule.filter.name(),
    };
    Facts {
        model,
        bytes: blob.file_len(),
        version: layout::VERSION,
        scheme: blob.scheme().name(),
        input: sides(input),
        preprocess,
        output: sides(blob.output()),
        classes: blob.is_classifier().then(|| blob.n_classes()),
        labels: blob.labels().collect(),
        self_test: blob.golden().is_some(),
        macs: layers.iter().map(|layer| layer.macs).sum(),
        layers,
        metadata: serde_json::from_str(blob.metadata()).ok(),
    }
}

fn layer_facts<'a>(layer: &Layer<'a>) -> LayerFacts<'a> {
    let linear = match layer.op {
        LayerOp::Conv { linear, .. } | LayerOp::Dense(linear) => Some(linear),
        LayerOp::MaxPool { .. } | LayerOp::GlobalAvgPool { .. } => None,
    };
    LayerFacts {
        name: layer.name,
        kind: kind(&layer.op),
        output: sides(layer.output),
        weight_bytes: linear.map_or(0, |linear| linear.weights.len()),
        macs: layer.macs(),
        block: layer.block,
        sqnr_db: layer.sqnr_db.is_finite().then_some(layer.sqnr_db),
    }
}

/// Rows, columns, channels.
pub(crate) fn sides(shape: Shape) -> [u32; 3] {
    [shape.height, shape.width, shape.channels]
}

/// The kind of a layer, as tables name it.
pub(crate) fn kind(op: &LayerOp<'_>) -> &'static str {
    match op {
        LayerOp::Conv { kernel: 3, .. } => "conv3x3",
        LayerOp::Conv { .. } => "conv1x1",
        LayerOp::MaxPool { .. } => "maxpool",
        LayerOp::GlobalAvgPool { .. } => "avgpool",
        LayerOp::Dense(_) => "dense",
    }
}
