//! `classify run`: the best classes of each picture, or its features.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::answer::{Answer, Classifier, TOP};
use crate::args::{Run, wrong_run};
use crate::model::{self, ModelFile, milliseconds};
use crate::output;
use crate::picture::Rule;

pub(crate) fn run(args: &Run) -> Result<ExitCode> {
    let kernel = model::kernel(&args.engine)?;
    let file = ModelFile::open(&args.model)?;
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
    let engine = file.engine(&blob, kernel, &pool, &args.engine, args.profile)?;
    output::warn_of_repacking(&file, &engine);
    let load_ms = file.age_ms();
    if args.verbose {
        output::print_setup(&file, &blob, &engine, &pool);
    }
    let rule = Rule::of(&blob);
    let mut classifier = Classifier::new(&blob, engine, k);
    let (mut times, mut n_failed) = (Vec::new(), 0);
    let mut profile = vec![0; blob.n_layers()];
    for image in &args.images {
        match classify(image, &rule, &mut classifier) {
            Ok(answer) => {
                times.push(answer.ms);
                profile.iter_mut().zip(classifier.engine().profile()).for_each(|(sum, ns)| *sum += ns);
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
        output::print_profile(classifier.engine(), &profile, &times);
    }
    Ok(if n_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn classify(path: &Path, rule: &Rule, classifier: &mut Classifier<'_>) -> Result<Answer> {
    let cannot = || format!("cannot classify {}", path.display());
    let start = Instant::now();
    let input = rule.load(path).inspect_err(|_| defmt::warn!("picture refused")).with_context(cannot)?;
    let decode_ms = milliseconds(start);
    let (found, ms) = classifier.classify(&input).with_context(cannot)?;
    Ok(Answer { image: path.display().to_string(), found, ms, decode_ms })
}
