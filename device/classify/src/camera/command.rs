//! `classify camera`: prints what the camera shows, a line a change, or in place on a terminal.
//!
//! ```text
//! $ classify camera model.vgg
//! camera  /dev/video0: 320x240 YUYV, 30 frames a second
//!       1  0.8123  tabby cat
//!      57  0.7741  lynx
//! ```

use std::io::{IsTerminal, Write, stdout};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::{fs, io};

use anyhow::{Context, Result};
use clap::error::ErrorKind;

use super::args::Camera;
use super::{list, observe};
use crate::answer::{Class, Classifier, Found, TOP};
use crate::args::wrong_use;
use crate::model::{self, ModelFile};
use crate::observation::Observation;
use crate::picture::Rule;
use crate::{output, stop};

/// Classes shown in place.
const IN_PLACE: usize = 3;

pub(crate) fn camera(args: &Camera) -> Result<ExitCode> {
    let Some(model) = args.model.as_deref().filter(|_| args.list.is_none()) else {
        list::list(args.list.clone().flatten().as_deref())?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut settings = args.settings.clone();
    settings.device.clone_from(&args.device);
    settings.preview = args.preview.is_some();
    let kernel = model::kernel(&args.engine)?;
    let file = ModelFile::open(model)?;
    file.check_signature(&args.trust)?;
    let blob = file.blob()?;
    if !blob.is_classifier() {
        let gives =
            format!("{}: its network gives features of {}, not classes", model.display(), blob.output());
        let wrong = |option| {
            wrong_use(
                "camera",
                ErrorKind::ArgumentConflict,
                format!("the argument '{option}' cannot be used with {gives}"),
            )
        };
        if args.top.is_some() {
            return Err(wrong("--top <K>").into());
        }
        if settings.smooth.n_frames() > 1 {
            return Err(wrong("--smooth <N>").into());
        }
    }
    let pool = model::pool(&args.engine, kernel)?;
    let engine = file.engine(&blob, kernel, &pool, &args.engine, false)?;
    output::warn_of_repacking(&file, &engine);
    if args.verbose {
        output::print_setup(&file, &blob, &engine, &pool);
    }
    let mut classifier = Classifier::new(&blob, engine, args.top.map_or(TOP, NonZeroUsize::get));
    let stop = stop::on_signals()?;
    let mut printer = Printer { json: args.json, in_place: !args.json && stdout().is_terminal(), best: None };
    let (mut n_left, mut failed) = (args.count.map(NonZeroUsize::get), None);
    observe(
        &settings,
        &Rule::of(&blob),
        &stop,
        &mut |input| classifier.classify_probabilities(&input, &mut |p| settings.smooth.smooth(p)),
        &mut |observation| {
            let kept = args.preview.as_deref().map_or(Ok(()), |path| keep(path, &observation));
            failed = kept.and_then(|()| printer.print(&observation)).err();
            n_left = n_left.map(|n| n - 1);
            if failed.is_some() || n_left == Some(0) {
                stop.store(true, Ordering::Relaxed);
            }
        },
    )?;
    printer.finish()?;
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Replaces the preview at `path` as a whole: who reads it never sees half a picture.
fn keep(path: &Path, observation: &Observation) -> Result<()> {
    let Some(jpeg) = &observation.jpeg else { return Ok(()) };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let write = || -> io::Result<()> {
        fs::write(&part, jpeg)?;
        fs::rename(&part, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Prints observations on stdout.
struct Printer {
    json: bool,
    in_place: bool,
    /// What was printed last.
    best: Option<usize>,
}

impl Printer {
    fn print(&mut self, observation: &Observation) -> Result<()> {
        if self.json {
            return output::print_line(format_args!("{}", serde_json::to_string(observation)?));
        }
        let sequence = observation.sequence;
        let top = match &observation.found {
            Found::Classes { top } => top,
            Found::Features { shape, features } => {
                return output::print_line(format_args!(
                    "{sequence:7}  {}",
                    output::features(*shape, features)
                ));
            }
        };
        if self.in_place {
            let classes: Vec<String> = top.iter().take(IN_PLACE).map(class).collect();
            // To the beginning of the line; the rest of it is cleared.
            print!("\r{}  ({:.1} a second)\x1b[K", classes.join("   "), observation.fps);
            return Ok(stdout().flush()?);
        }
        let Some(best) = top.first().filter(|best| self.best != Some(best.class)) else { return Ok(()) };
        self.best = Some(best.class);
        output::print_line(format_args!("{sequence:7}  {}", class(best)))
    }

    /// Ends the line that is printed in place.
    fn finish(&self) -> Result<()> {
        if self.in_place {
            output::print_line(format_args!(""))?;
        }
        Ok(())
    }
}

fn class(class: &Class) -> String {
    match &class.label {
        Some(label) => format!("{:.4}  {label}", class.probability),
        None => format!("{:.4}  class {}", class.probability, class.class),
    }
}
