//! What the user said about a file, checked against the network in it.
//!
//! A file that describes its network must agree with `--arch` and `--classes`. Dropout, and what is folded into other
//! layers before the network runs, does not count; a network without its dense layers (`include_top=False`) agrees with
//! the architecture as far as it goes.

use crate::graph::{Graph, Kind, Shape, Spec};

use super::{ImportOptions, Problem};

/// Errors unless `spec` is what `options` say.
pub(super) fn check_spec(spec: &Spec, options: &ImportOptions) -> Result<(), Problem> {
    let kinds: Vec<Kind> = spec.layers.iter().map(|l| l.kind).collect();
    check(&kinds, spec.input, options)
}

/// Errors unless `graph` is what `options` say.
pub(super) fn check_graph(graph: &Graph, options: &ImportOptions) -> Result<(), Problem> {
    let kinds: Vec<Kind> = graph.layers().iter().map(|l| l.op.kind()).collect();
    check(&kinds, graph.input(), options)
}

/// What `kinds` do one after the other, without what does not make an architecture.
fn skeleton(kinds: &[Kind]) -> Vec<Kind> {
    let counts = |kind: &&Kind| !matches!(kind, Kind::Dropout { .. } | Kind::BatchNorm { .. } | Kind::Affine);
    kinds.iter().filter(counts).copied().collect()
}

fn check(kinds: &[Kind], input: Shape, options: &ImportOptions) -> Result<(), Problem> {
    let mut found = skeleton(kinds);
    let classes = found.iter().rev().find_map(|kind| match kind {
        Kind::Dense { units } => Some(*units),
        _ => None,
    });
    if let Some(expected) = options.classes
        && classes != Some(expected)
    {
        return Err(Problem::Classes { found: classes.unwrap_or(0), expected });
    }
    let Some(arch) = options.arch else { return Ok(()) };
    let expected: Vec<Kind> = arch.spec(input, classes.unwrap_or(1)).layers.iter().map(|l| l.kind).collect();
    let mut expected = skeleton(&expected);
    if classes.is_none() {
        for list in [&mut found, &mut expected] {
            let end = list
                .iter()
                .position(|k| matches!(k, Kind::GlobalAvgPool | Kind::Flatten | Kind::Dense { .. }));
            list.truncate(end.unwrap_or(list.len()));
        }
    }
    let at = |list: &[Kind], i: usize| list.get(i).map_or_else(|| "nothing".into(), Kind::to_string);
    match (0..found.len().max(expected.len())).find(|&i| at(&found, i) != at(&expected, i)) {
        None => Ok(()),
        Some(i) => Err(Problem::ArchMismatch {
            arch: arch.to_string(),
            position: i + 1,
            found: at(&found, i),
            expected: at(&expected, i),
        }),
    }
}
