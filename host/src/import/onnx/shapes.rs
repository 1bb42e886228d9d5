//! Operators on whole numbers: what exporters compute the target of a `Reshape` with.

use super::model::Node;
use super::values::Ints;

/// Longest list.
const MAX_LEN: usize = 64;

/// What `node` gives for `inputs`; `None` if it does something else.
pub(super) fn compute(node: &Node, inputs: &[Ints]) -> Option<Ints> {
    let data = inputs.first()?;
    let known = |i: usize| inputs.get(i).and_then(Ints::known);
    let axes = || known(1).or_else(|| node.ints("axes").map(<[i64]>::to_vec));
    let list = |values: Vec<Option<i64>>| Some(Ints { values, is_scalar: false });
    match node.op.as_str() {
        "Identity" | "Cast" => Some(data.clone()),
        "Gather" => {
            let len = data.values.len() as i64;
            let indices = known(1)?;
            let at =
                |i: &i64| data.values.get(usize::try_from(if *i < 0 { i + len } else { *i }).ok()?).copied();
            let values = indices.iter().map(at).collect::<Option<Vec<_>>>()?;
            Some(Ints { values, is_scalar: inputs.get(1)?.is_scalar })
        }
        "Slice" => {
            let bound = |i: usize, attribute: &str, default: i64| match (known(i), node.ints(attribute)) {
                (Some(list), _) => list.first().copied(),
                (None, Some(list)) if inputs.len() == 1 => list.first().copied(),
                _ => Some(default),
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
            if values.len() > MAX_LEN { None } else { list(values) }
        }
        "Unsqueeze" => list(data.values.clone()).filter(|_| data.values.len() == 1),
        "Squeeze" => {
            let is_scalar = data.values.len() == 1 && axes().is_none_or(|a| a == [0]);
            Some(Ints { values: data.values.clone(), is_scalar })
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
