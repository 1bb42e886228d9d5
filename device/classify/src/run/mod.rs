//! `classify run`: the best classes of each picture, or its features.
//!
//! ```text
//! sources (files, folders, patterns, -) ─┐
//! watch   (a folder's new pictures)     ─┴─► pipeline (decode ahead, in order) ─► network ─► stdout
//!                                                                                        └─► progress on stderr
//! ```

pub(crate) mod args;
mod pipeline;
mod progress;
mod sources;
mod watch;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use vgg_edge_engine::pool::Executor;

use self::args::Run;
use self::pipeline::{Outcome, Pipeline, Prepared};
use self::progress::Progress;
use self::sources::Source;
use self::watch::Watch;
use crate::answer::{Answer, Classifier, TOP};
use crate::args::wrong_run;
use crate::model::{self, ModelFile};
use crate::output::{self, Style};
use crate::picture::Rule;

/// Times kept for the median; a folder is watched for years.
const MAX_TIMES: usize = 1 << 16;

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
    let mut session = Session::new(args, Classifier::new(&blob, engine, k), blob.n_layers());
    let rule = Rule::of(&blob);
    let code = match &args.watch {
        Some(folder) => {
            let watch = Watch::start(folder, args.existing)
                .with_context(|| format!("cannot watch {}", folder.display()))?;
            session.classify_all(Pipeline::start(watch, &rule, pool.n_threads())?)?;
            // Interrupted, as it was to be; each picture that failed was told of.
            ExitCode::SUCCESS
        }
        None => {
            let sources = sources::list(&args.images);
            session.expect(&sources, args);
            session.classify_all(Pipeline::start(sources.into_iter(), &rule, pool.n_threads())?)?;
            if session.n_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    };
    if args.verbose {
        output::print_times(load_ms, session.times.make_contiguous());
    }
    if args.profile && !session.times.is_empty() {
        let mean_ms = session.sum_ms / session.n_classified as f64;
        output::print_profile(
            session.classifier.engine(),
            &session.profile,
            session.n_classified,
            mean_ms as f32,
        );
    }
    Ok(code)
}

/// One network at work, and what it did.
struct Session<'a> {
    classifier: Classifier<'a>,
    style: Style,
    progress: Progress,
    n_failed: usize,
    n_classified: usize,
    /// The last runs, milliseconds.
    times: VecDeque<f32>,
    /// All runs, milliseconds.
    sum_ms: f64,
    /// All runs, nanoseconds a layer.
    profile: Vec<u64>,
}

impl<'a> Session<'a> {
    fn new(args: &Run, classifier: Classifier<'a>, n_layers: usize) -> Self {
        Self {
            classifier,
            style: Style { json: args.json, times: !args.no_times, named: true },
            progress: Progress::new(0, true),
            n_failed: 0,
            n_classified: 0,
            times: VecDeque::new(),
            sum_ms: 0.0,
            profile: vec![0; n_layers],
        }
    }

    /// So many pictures will come; a single one that was named needs no name.
    fn expect(&mut self, sources: &[Source], args: &Run) {
        self.style.named = match (sources, &args.images[..]) {
            ([Source::File(path)], [image]) => path != image,
            ([Source::Stdin], _) => false,
            _ => true,
        };
        self.progress = Progress::new(sources.len(), args.verbose);
    }

    /// # Errors
    /// When stdout cannot be written; a picture that fails is told of and counted.
    fn classify_all(&mut self, pictures: impl Iterator<Item = Prepared>) -> Result<()> {
        for Prepared { name, outcome } in pictures {
            match outcome {
                Outcome::Input { input, decode_ms } => match self.classifier.classify(&input) {
                    Ok((found, ms)) => {
                        self.count(ms);
                        self.progress.before_data();
                        output::print_answer(&Answer { image: name, found, ms, decode_ms }, self.style)?;
                    }
                    Err(error) => self.fail(&name, error),
                },
                Outcome::Failed(error) => {
                    defmt::warn!("picture refused");
                    self.fail(&name, error);
                }
                Outcome::Note(text) => {
                    self.progress.clear();
                    output::note(format_args!("{text}"));
                    continue;
                }
            }
            self.progress.step();
        }
        self.progress.clear();
        Ok(())
    }

    fn count(&mut self, ms: f32) {
        self.n_classified += 1;
        self.sum_ms += f64::from(ms);
        if self.times.len() == MAX_TIMES {
            self.times.pop_front();
        }
        self.times.push_back(ms);
        self.profile.iter_mut().zip(self.classifier.engine().profile()).for_each(|(sum, ns)| *sum += ns);
    }

    fn fail(&mut self, name: &str, error: Error) {
        self.n_failed += 1;
        self.progress.clear();
        output::print_error(&error.context(format!("cannot classify {name}")));
    }
}
