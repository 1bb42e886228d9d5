//! `classify run`: the best classes of each picture, or its features.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use vgg_edge_blob::Blob;
use vgg_edge_engine::Engine;
use vgg_edge_engine::topk::{softmax, top_k};

use crate::args::{Run, wrong_run};
use crate::info::sides;
use crate::model::{self, ModelFile, milliseconds};
use crate::{output, picture};

/// Classes shown for each picture unless asked otherwise.
const TOP: usize = 5;

/// One picture's answer; its serialized form is stable.
#[derive(Debug, Serialize)]
pub(crate) struct Answer<'a> {
    pub(crate) image: String,
    #[serde(flatten)]
    pub(crate) found: Found<'a>,
    /// The network alone, milliseconds.
    pub(crate) ms: f32,
    /// Reading, decoding and resizing the picture, milliseconds.
    pub(crate) decode_ms: f32,
}

/// What the network gives.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Found<'a> {
    /// The best classes, best first.
    Classes { top: Vec<Class<'a>> },
    /// A feature extractor's real values, NHWC; rows, columns, channels.
    Features { shape: [u32; 3], features: Vec<f32> },
}

/// A class of an answer.
#[derive(Debug, Serialize)]
pub(crate) struct Class<'a> {
    pub(crate) class: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<&'a str>,
    pub(crate) probability: f32,
}

pub(crate) fn run(args: &Run) -> Result<ExitCode> {
    let kernel = model::kernel(&args.engine)?;
    let file = ModelFile::open(&args.model)?;
    file.check_signature(&args.trust)?;
    let blob = file.blob()?;
    if args.top.is_some() && !blob.is_classifier() {
        return Err(wrong_run(format!(
            "the argument '--top <K>' cannot be used with {}: its network gives features of {}, not classes",
            args.model.display(),
            blob.output()
        ))
        .into());
    }
    let k = args.top.map_or(TOP, NonZeroUsize::get);
    let pool = model::pool(&args.engine, kernel)?;
    let mut engine = file.engine(&blob, kernel, &pool, &args.engine, args.profile)?;
    output::warn_of_repacking(&file, &engine);
    let load_ms = file.age_ms();
    if args.verbose {
        output::print_setup(&file, &blob, &engine, &pool);
    }
    let (mut times, mut n_failed) = (Vec::new(), 0);
    let mut profile = vec![0; engine.layers().len()];
    for image in &args.images {
        match classify(image, k, &blob, &mut engine) {
            Ok(answer) => {
                times.push(answer.ms);
                profile.iter_mut().zip(engine.profile()).for_each(|(sum, ns)| *sum += ns);
                output::print_answer(&answer, args.json, args.images.len() > 1)?;
            }
            Err(error) => {
                n_failed += 1;
                output::print_error(&error);
            }
        }
    }
    if args.verbose {
        output::print_times(load_ms, &mut times);
    }
    if args.profile && !times.is_empty() {
        output::print_profile(&engine, &profile, &times);
    }
    Ok(if n_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn classify<'a>(path: &Path, k: usize, blob: &Blob<'a>, engine: &mut Engine<'_>) -> Result<Answer<'a>> {
    let cannot = || format!("cannot classify {}", path.display());
    let start = Instant::now();
    let input =
        picture::load(path, blob).inspect_err(|_| defmt::warn!("picture refused")).with_context(cannot)?;
    let decode_ms = milliseconds(start);
    let start = Instant::now();
    let mut values = engine.run(&input).with_context(cannot)?.to_vec();
    let ms = milliseconds(start);
    let image = path.display().to_string();
    if !blob.is_classifier() {
        defmt::info!("result: {=usize} features, {=f32} ms", values.len(), ms);
        let found = Found::Features { shape: sides(blob.output()), features: values };
        return Ok(Answer { image, found, ms, decode_ms });
    }
    softmax(&mut values);
    let top = top_k(&values, k);
    if let Some(best) = top.first() {
        defmt::info!("result: class {=usize}, probability {=f32}, {=f32} ms", best.class, best.score, ms);
    }
    let class = |class| blob.label(class).filter(|label| !label.is_empty());
    let top =
        top.iter().map(|t| Class { class: t.class, label: class(t.class), probability: t.score }).collect();
    Ok(Answer { image, found: Found::Classes { top }, ms, decode_ms })
}
