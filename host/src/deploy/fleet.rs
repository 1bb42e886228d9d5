//! Many boards side by side: workers that take the next one, results in the order of the list.
//!
//! ```text
//! targets ─► jobs workers, a board each ─► outcomes, as many and in the same order
//! ```

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::error::DeployError;
use super::package::Package;
use super::report::{Ended, Outcome};
use super::steps::Board;
use super::target::{TargetError, check_targets};
use super::{Settings, Target};

/// Lines for people while it goes on: name of the board, and what it is about.
pub type Tell<'a> = &'a (dyn Fn(&str, &str) + Sync);

/// Deploys to every target.
///
/// # Errors
/// A list that is empty or names a board twice; what fails on a board is in its outcome.
pub fn deploy(
    targets: &[Target],
    package: &Package,
    settings: &Settings,
    tell: Tell<'_>,
) -> Result<Vec<Outcome>, TargetError> {
    each(targets, settings, tell, |board, target, batch| board.deploy(target, package, batch))
}

/// Goes back on every target: to the release before the running one, or to `id`.
///
/// # Errors
/// A list that is empty or names a board twice; what fails on a board is in its outcome.
pub fn rollback(
    targets: &[Target],
    id: Option<&str>,
    settings: &Settings,
    tell: Tell<'_>,
) -> Result<Vec<Outcome>, TargetError> {
    each(targets, settings, tell, |board, target, batch| board.rollback(target, id, batch))
}

/// Asks every target what is deployed there.
///
/// # Errors
/// A list that is empty or names a board twice; what fails on a board is in its outcome.
pub fn status(targets: &[Target], settings: &Settings, tell: Tell<'_>) -> Result<Vec<Outcome>, TargetError> {
    each(targets, settings, tell, |board, target, batch| board.status(target, batch))
}

fn each(
    targets: &[Target],
    settings: &Settings,
    tell: Tell<'_>,
    work: impl Fn(&mut Board<'_>, &Target, bool) -> Result<(), DeployError> + Sync,
) -> Result<Vec<Outcome>, TargetError> {
    check_targets(targets)?;
    // One board at a terminal: its passphrase can be asked for.
    let batch = targets.len() > 1 || !std::io::stdin().is_terminal();
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(targets.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..settings.jobs.clamp(1, targets.len()) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(target) = targets.get(i) else { break };
                    let outcome = one(target, settings, tell, batch, &work);
                    let mut all = outcomes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    all[i] = Some(outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(outcomes.into_iter().flatten().collect())
}

fn one(
    target: &Target,
    settings: &Settings,
    tell: Tell<'_>,
    batch: bool,
    work: &impl Fn(&mut Board<'_>, &Target, bool) -> Result<(), DeployError>,
) -> Outcome {
    let began = Instant::now();
    let mut outcome = Outcome::new(&target.name);
    let say = |text: &str| tell(&target.name, text);
    let result = work(&mut Board::new(target, settings, &say, &mut outcome), target, batch);
    outcome.seconds = began.elapsed().as_secs_f64();
    if let Err(error) = result {
        if outcome.ended == Ended::Done {
            outcome.ended = Ended::Failed;
        }
        say(&format!("error: {error}; {}", outcome.aftermath()));
        outcome.error = Some(error);
    }
    outcome
}
