//! Operators on whole numbers: what exporters compute the target of a `Reshape` with.
//!
//! ```text
//! Shape ─► [?, 512, 7, 7] ─► Gather 0 ─► ? ─► Unsqueeze ─► [?] ─► Concat [-1] ─► [?, -1] ─► Reshape
//! ```
//!
//! The batch is the one number that is not known; what depends on it is not known either.

use super::model::Node;
use super::values::{Ints, MAX_INTS};

/// What `node` gives for `inputs`; `None` if it does something else.
pub(super) fn compute(node: &Node, inputs: &[Ints]) -> Option<Ints> {
    let data = inputs.first()?;
    let known = |i: usize| inputs.get(i).and_then(Ints::known);
    let list = |values: Vec<Option<i64>>| Some(Ints { values, is_scalar: false });
    match node.op.as_str() {
        "Identity" => Some(data.clone()),
        // Whole numbers only: divided as floats they would not be what they are here.
        "Cast" => Some(data.clone()).filter(|_| matches!(node.int("to", 7), 6 | 7)),
        "Gather" => {
            let len = data.values.len() as i64;
            let indices = known(1)?;
            let at =
                |i: &i64| data.values.get(usize::try_from(if *i < 0 { i + len } else { *i }).ok()?).copied();
            let values = indices.iter().map(at).collect::<Option<Vec<_>>>()?;
            Some(Ints { values, is_scalar: inputs.get(1)?.is_scalar })
        }
        "Slice" => {
            // An input, or an attribute before version 10; one number, as a list of numbers has one axis.
            let bound = |i: usize, attribute: &str, default: i64| match inputs.get(i) {
                Some(ints) if !ints.values.is_empty() => single(&ints.known()?),
                _ => node.ints(attribute).map_or(Some(default), single),
            };
            let len = data.values.len() as i64;
            let (start, end) = (bound(1, "starts", 0)?, bound(2, "ends", len)?);
            let clamp = |i: i64| if i < 0 { i.saturating_add(len).max(0) } else { i.min(len) } as usize;
            if bound(4, "steps", 1)? != 1 {
                return None;
            }
            list(data.values.get(clamp(start)..clamp(end)).unwrap_or(&[]).to_vec())
        }
        "Concat" => {
            let values: Vec<_> = inputs.iter().flat_map(|i| i.values.iter().copied()).collect();
            if values.len() > MAX_INTS { None } else { list(values) }
        }
        "Unsqueeze" => list(data.values.clone()).filter(|_| data.values.len() == 1),
        "Squeeze" => {
            Some(Ints { values: data.values.clone(), is_scalar: true }).filter(|i| i.values.len() == 1)
        }
        "Reshape" => {
            let target = known(1).or_else(|| node.ints("shape").map(<[i64]>::to_vec))?;
            let len = data.values.len();
            match target[..] {
                [] if len == 1 => Some(Ints { values: data.values.clone(), is_scalar: true }),
                [n] if n == -1 || n == len as i64 => list(data.values.clone()),
                _ => None,
            }
        }
        "ReduceProd" => {
            let product = data.values.iter().try_fold(Some(1i64), |p, v| match (p, v) {
                (Some(p), Some(v)) => p.checked_mul(*v).map(Some),
                _ => Some(None),
            })?;
            Some(Ints { values: vec![product], is_scalar: node.int("keepdims", 1) == 0 })
        }
        "Mul" | "Add" | "Sub" | "Div" => {
            let other = inputs.get(1)?;
            let n = data.values.len().max(other.values.len());
            let at = |ints: &Ints, i: usize| *ints.values.get(if ints.values.len() == 1 { 0 } else { i })?;
            let both = |i: usize| {
                let (a, b) = (at(data, i)?, at(other, i)?);
                match node.op.as_str() {
                    "Mul" => a.checked_mul(b),
                    "Add" => a.checked_add(b),
                    "Sub" => a.checked_sub(b),
                    _ => a.checked_div(b),
                }
            };
            let values = (0..n).map(both).collect();
            Some(Ints { values, is_scalar: data.is_scalar && other.is_scalar })
        }
        _ => None,
    }
}

/// The number of a list of one.
fn single(list: &[i64]) -> Option<i64> {
    match list {
        [n] => Some(*n),
        _ => None,
    }
}

/// Axes of `shape` behind a `Reshape` to `target`: 0 copies an axis, -1 is what remains.
pub(super) fn reshaped(shape: &[usize], target: &[i64]) -> Option<Vec<usize>> {
    let len = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    let copied = |(i, n): (usize, &i64)| match n {
        0 => shape.get(i).copied(),
        -1 => Some(usize::MAX),
        n => usize::try_from(*n).ok(),
    };
    let mut axes: Vec<usize> = target.iter().enumerate().map(copied).collect::<Option<_>>()?;
    if target.iter().filter(|n| **n == -1).count() > 1 {
        return None;
    }
    if let Some(open) = target.iter().position(|n| *n == -1) {
        axes[open] = 1;
        let others = axes.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        axes[open] = len.checked_div(others)?;
    }
    let product = axes.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    (product == len).then_some(axes)
}

/// Axes of `shape` without those of length 1 that `axes` lists; without all of them if it lists none.
pub(super) fn squeezed(shape: &[usize], axes: Option<&[i64]>) -> Option<Vec<usize>> {
    let Some(axes) = axes else { return Some(shape.iter().copied().filter(|n| *n != 1).collect()) };
    let axes = positions(axes, shape.len())?;
    let fits = axes.iter().all(|a| shape[*a] == 1);
    fits.then(|| shape.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, n)| *n).collect())
}

/// Axes of `shape` with others of length 1 between them, so that those are at `axes`.
pub(super) fn unsqueezed(shape: &[usize], axes: &[i64]) -> Option<Vec<usize>> {
    let rank = shape.len() + axes.len();
    let axes = positions(axes, rank)?;
    let mut rest = shape.iter().copied();
    (0..rank).map(|i| if axes.contains(&i) { Some(1) } else { rest.next() }).collect()
}

/// `axes` of `rank`, negative ones counted from the end, none twice.
pub(super) fn positions(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    let at = |a: &i64| usize::try_from(if *a < 0 { a + rank as i64 } else { *a }).ok().filter(|a| *a < rank);
    let positions: Vec<usize> = axes.iter().map(at).collect::<Option<_>>()?;
    let is_twice = |(i, a): (usize, &usize)| positions[..i].contains(a);
    (!positions.iter().enumerate().any(is_twice)).then_some(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_reshaped() {
        assert_eq!(reshaped(&[2, 3, 4], &[0, -1]), Some(vec![2, 12]));
        assert_eq!(reshaped(&[2, 3, 4], &[-1]), Some(vec![24]));
        assert_eq!(reshaped(&[2, 3, 4], &[4, 6]), Some(vec![4, 6]));
        assert_eq!(reshaped(&[1], &[]), Some(vec![]));
        for target in [&[-1, -1][..], &[5, -1], &[2, 3], &[0, 0, 0, 0], &[-2, 12], &[i64::MAX, i64::MAX]] {
            assert_eq!(reshaped(&[2, 3, 4], target), None, "{target:?}");
        }
    }

    #[test]
    fn axes_of_length_one_come_and_go() {
        assert_eq!(squeezed(&[7, 5, 1, 1], None), Some(vec![7, 5]));
        assert_eq!(squeezed(&[7, 5, 1, 1], Some(&[-1, 2])), Some(vec![7, 5]));
        assert_eq!(squeezed(&[7, 5, 1, 1], Some(&[1])), None);
        assert_eq!(squeezed(&[7, 1], Some(&[1, -1])), None);
        assert_eq!(squeezed(&[7, 1], Some(&[2])), None);
        assert_eq!(squeezed(&[7, 1], Some(&[i64::MIN])), None);
        assert_eq!(unsqueezed(&[7, 5], &[2, 3]), Some(vec![7, 5, 1, 1]));
        assert_eq!(unsqueezed(&[7, 5], &[0, -1]), Some(vec![1, 7, 5, 1]));
        assert_eq!(unsqueezed(&[7], &[3]), None);
    }
}
