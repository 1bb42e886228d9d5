//! What each unit of work executes on each CPU: the one table of the kernels' costs, `instructions.tsv`.
//!
//! ```text
//! cpu <TAB> step <TAB> unit <TAB> class number, class number, ...      `.q` behind a class: its 128-bit forms
//! cortex-a72      direct          pixel-step      mull.q 7.99, shift.q 4, vload.q 2, ...
//! ```
//!
//! Numbers are executed instructions, so that a core's port prices give its cycles; `cycles` stands for time that was
//! measured, where nothing is counted (x86-64). The table is fitted to counted layers: `host/examples/refit.rs`.

use std::collections::HashMap;
use std::sync::LazyLock;

use vgg_edge_blob::Scheme;

use super::units::{Tile, Units};
use super::{Kind, Unit};
use crate::boards::{Bound, Class, Core};

/// The table as checked in.
const TABLE: &str = include_str!("instructions.tsv");

/// What one unit executes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Executed {
    /// Measured cycles.
    cycles: f64,
    /// Instructions by class, `true` for 128-bit forms.
    classes: Vec<(Class, bool, f64)>,
}

type Instructions = HashMap<(&'static str, &'static str, &'static str), Executed>;

static PARSED: LazyLock<(Instructions, Vec<String>)> = LazyLock::new(|| parse(TABLE));

/// The table, and the lines that say nothing.
fn parse(text: &'static str) -> (Instructions, Vec<String>) {
    let (mut table, mut wrong) = (HashMap::new(), Vec::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let row = |line: &'static str| {
            let [cpu, step, unit, executed] = line.split('\t').collect::<Vec<_>>()[..] else { return None };
            Unit::find(unit)?;
            Some(((cpu, step, unit), executed_of(executed)?))
        };
        // A second line for the same unit would be one too many.
        let known = row(line).is_some_and(|(key, executed)| table.insert(key, executed).is_none());
        if !known {
            wrong.push(line.to_owned());
        }
    }
    (table, wrong)
}

fn executed_of(text: &str) -> Option<Executed> {
    let mut executed = Executed::default();
    for part in text.split(", ") {
        let (name, n) = part.split_once(' ')?;
        let n: f64 = n.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
        match Class::of_form_name(name) {
            Some((class, wide)) => executed.classes.push((class, wide, n)),
            None if name == "cycles" => executed.cycles += n,
            None => return None,
        }
    }
    Some(executed)
}

/// The step's name in the table: f16 has rows of its own.
pub fn step_name(kind: Kind, scheme: Scheme) -> &'static str {
    match (scheme, kind) {
        (Scheme::F16, Kind::Picture) => "f16-picture",
        (Scheme::F16, Kind::First) => "f16-first",
        (Scheme::F16, Kind::Direct) => "f16-direct",
        (Scheme::F16, Kind::WinogradF43) => "f16-winograd-f43",
        (Scheme::F16, Kind::WinogradF43F16) => "f16-winograd-f43-f16",
        (Scheme::F16, Kind::Pool) => "f16-pool",
        (Scheme::F16, Kind::Average) => "f16-average",
        (Scheme::F16, Kind::Dense) => "f16-dense",
        (Scheme::F16, Kind::Output) => "f16-output",
        // The same loops, and the transformation.
        (_, Kind::WinogradF43Filters) => Kind::WinogradF43.name(),
        _ => kind.name(),
    }
}

/// The CPU whose rows are a core's.
pub fn cpu_of(core: &Core) -> &'static str {
    core.emulated_as.unwrap_or(core.name)
}

/// The widest tile of a core's direct kernel.
pub fn tile_of(core: &Core, scheme: Scheme) -> Tile {
    let (pixels, granule) = match (scheme, core.kernel) {
        (Scheme::F16, _) => (12, 1),
        (_, "i8mm") => (12, 2),
        (_, "dotprod") => (8, 1),
        (_, "avx2") => (6, 1),
        _ => (4, 1),
    };
    Tile { pixels, granule, blocks: core.kernel == "i8mm" && scheme.is_int8() }
}

/// Cycles of `units` on a core, and the resource that binds; `None` where the table does not know the step.
pub(super) fn cycles(core: &Core, step: &'static str, units: &Units) -> Option<(f64, &'static str)> {
    let cpu = cpu_of(core);
    let (mut measured, mut classes, mut known) = (0.0, Vec::new(), false);
    for (unit, n) in units.iter() {
        let Some(executed) = PARSED.0.get(&(cpu, step, unit.name())) else { continue };
        known = true;
        measured += executed.cycles * n;
        classes.extend(executed.classes.iter().map(|(class, wide, each)| (*class, *wide, each * n)));
    }
    let Bound { cycles, resource, .. } = core.bound_of(classes.into_iter());
    let resource = if measured > cycles { "time" } else { resource.name() };
    known.then_some((measured + cycles, resource))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards::BOARDS;

    #[test]
    fn every_line_of_the_table_says_something() {
        assert_eq!(PARSED.1, [""; 0]);
        for text in
            ["a\tb", "a\tb\ttile\tmull", "a\tb\ttile\tmull x", "a\tb\ttile\tmul.x 1", "a\tb\tc\tmull 1"]
        {
            assert_eq!(parse(text).1, [text]);
        }
    }

    #[test]
    fn every_board_has_every_int8_step() {
        for board in BOARDS {
            let cpu = cpu_of(board.core);
            // Winograd of f16 blobs was not counted: such a layer has no price.
            for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::WinogradF43F16) {
                let found =
                    PARSED.0.keys().any(|(c, step, _)| (*c, *step) == (cpu, step_name(kind, Scheme::Int8)));
                assert!(found, "{cpu} {}", kind.name());
            }
        }
    }
}
