//! What came of it, a row a board: a table for people, JSON for programs.
//!
//! ```text
//! host     board                      kernel           release                      steps  result   seconds
//! kitchen  Raspberry Pi 4 ... (rpi4)  aarch64-s8-neon  20261124T184556Z-3f2a91bc    8/8    done     12.4
//! gate     Raspberry Pi 5 ... (rpi5)  -                20261124T184556Z-3f2a91bc    3/8    failed   3.1
//! ```

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::error::{DeployError, Step};

/// How it ended on a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Done,
    /// Nothing was to be changed.
    Planned,
    /// It failed before anything that runs was changed.
    Failed,
    /// The new release failed, the one before runs again.
    WentBack,
    /// The new release failed, and there was none before: nothing runs.
    Removed,
    /// The new release failed, and the one before does not start either.
    Broken,
    /// The connection was lost while what runs was changed.
    Unknown,
}

impl Ended {
    /// A word for tables and programs; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Planned => "planned",
            Self::Failed => "failed",
            Self::WentBack => "rolled back",
            Self::Removed => "removed",
            Self::Broken => "broken",
            Self::Unknown => "unknown",
        }
    }
}

/// What came of it on a board.
#[derive(Debug)]
pub struct Outcome {
    /// Name of the target.
    pub host: String,
    /// What it is; empty when it did not get so far.
    pub board: String,
    /// The kernel that its CPU runs, as its program says.
    pub kernel: String,
    /// The release that this is about.
    pub release: Option<String>,
    /// The one that ran, or would run, before it.
    pub previous: Option<String>,
    /// Steps, seconds, whether they succeeded.
    pub steps: Vec<(Step, f64, bool)>,
    /// How it ended.
    pub ended: Ended,
    /// Why it failed.
    pub error: Option<DeployError>,
    /// Warnings and notes.
    pub notes: Vec<String>,
    /// All of it.
    pub seconds: f64,
    /// Status: name of the model.
    pub model: String,
    /// Status: what systemd says of the service; empty without one.
    pub service: String,
    /// Status: whether the service answers.
    pub healthy: Option<bool>,
    /// Status: how often systemd started it again.
    pub restarts: Option<u64>,
    /// Status: memory of the service.
    pub memory_bytes: Option<u64>,
    /// Status: all releases, newest first.
    pub releases: Vec<String>,
}

impl Outcome {
    pub(crate) fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            board: String::new(),
            kernel: String::new(),
            release: None,
            previous: None,
            steps: Vec::new(),
            ended: Ended::Failed,
            error: None,
            notes: Vec::new(),
            seconds: 0.0,
            model: String::new(),
            service: String::new(),
            healthy: None,
            restarts: None,
            memory_bytes: None,
            releases: Vec::new(),
        }
    }

    /// Whether it went as it should.
    pub fn is_ok(&self) -> bool {
        self.error.is_none()
    }

    /// What runs after a failure.
    pub fn aftermath(&self) -> String {
        let previous = self.previous.as_deref();
        match (self.ended, previous) {
            (Ended::WentBack, Some(id)) => format!("went back to {id}, which runs again"),
            (Ended::WentBack, None) => "went back to the release before".to_owned(),
            (Ended::Removed, _) => "there was no release before: the service is removed".to_owned(),
            (Ended::Broken, Some(id)) => format!("{id} does not start either: nothing runs"),
            (Ended::Broken, None) => "going back failed, too".to_owned(),
            (Ended::Unknown, _) => "what runs now is not known".to_owned(),
            (_, Some(id)) => format!("{id} is still current"),
            (_, None) => "nothing was deployed there before".to_owned(),
        }
    }

    /// The row for programs.
    fn json(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|(step, seconds, ok)| json!({"step": step.name(), "seconds": rounded(*seconds), "ok": ok}))
            .collect();
        let error = self.error.as_ref().map(|error| {
            json!({
                "step": error.step.name(),
                "kind": error.problem.kind(),
                "message": error.problem.to_string(),
            })
        });
        json!({
            "host": self.host,
            "board": self.board,
            "kernel": self.kernel,
            "release": self.release,
            "previous": self.previous,
            "steps": steps,
            "result": self.ended.name(),
            "error": error,
            "notes": self.notes,
            "seconds": rounded(self.seconds),
        })
    }

    fn status_json(&self) -> Value {
        let mut row = self.json();
        row["model"] = json!(self.model);
        row["service"] = json!(self.service);
        row["healthy"] = json!(self.healthy);
        row["restarts"] = json!(self.restarts);
        row["memory_bytes"] = json!(self.memory_bytes);
        row["releases"] = json!(self.releases);
        row
    }
}

/// One JSON object for all boards.
pub fn json(outcomes: &[Outcome], is_status: bool) -> String {
    let row = |outcome: &Outcome| if is_status { outcome.status_json() } else { outcome.json() };
    json!({"hosts": outcomes.iter().map(row).collect::<Vec<_>>()}).to_string() + "\n"
}

/// The table for people, and why a board failed behind it.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut table = new_table(&["host", "board", "kernel", "release", "steps", "result", "seconds"]);
    for outcome in outcomes {
        let done = outcome.steps.iter().filter(|(_, _, ok)| *ok).count();
        table.add_row([
            outcome.host.as_str(),
            or_dash(&outcome.board),
            or_dash(&outcome.kernel),
            or_dash(outcome.release.as_deref().unwrap_or_default()),
            &done.to_string(),
            outcome.ended.name(),
            &format!("{:.1}", outcome.seconds),
        ]);
    }
    with_failures(&table, outcomes)
}

/// The table of `status`.
pub fn status_table(outcomes: &[Outcome]) -> String {
    let header = ["host", "board", "release", "model", "service", "healthy", "restarts", "before it"];
    let mut table = new_table(&header);
    for outcome in outcomes {
        let healthy = match outcome.healthy {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        let restarts = outcome.restarts.map_or_else(|| "-".to_owned(), |n| n.to_string());
        table.add_row([
            outcome.host.as_str(),
            or_dash(&outcome.board),
            or_dash(outcome.release.as_deref().unwrap_or_default()),
            or_dash(&outcome.model),
            or_dash(&outcome.service),
            healthy,
            &restarts,
            or_dash(outcome.previous.as_deref().unwrap_or_default()),
        ]);
    }
    with_failures(&table, outcomes)
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for (column, name) in table.column_iter_mut().zip(header) {
        column.set_padding((0, 2));
        if matches!(*name, "steps" | "seconds" | "restarts") {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn with_failures(table: &Table, outcomes: &[Outcome]) -> String {
    let mut text: String = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    for outcome in outcomes {
        if let Some(error) = &outcome.error {
            // Writing to a string never fails.
            let _ = writeln!(text, "\n{}: {error}\n  {}", outcome.host, outcome.aftermath());
        }
    }
    text
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// To milliseconds.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}
