//! Files of `torch.save`: a zip archive, or the legacy stream of pickles; and the state_dict in what was saved.
//!
//! ```text
//! zip      NAME/data.pkl   the pickle; tensors are views of storages
//!          NAME/data/KEY   bytes of a storage, stored as they are
//!          NAME/byteorder  "little"; not in older files
//! legacy   pickles: magic number, 1001, {little_endian: True, …}, the object, [key, …]
//!          then a storage for each key: u64 number of elements, bytes
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::error::{PickleProblem, TorchProblem};
use super::globals::Stated;
use super::pickle::{Id, MAX_PICKLE, MAX_TENSORS, Pickle, Value};
use super::rebuild::TensorRef;
use super::{Entry, StateDict};
use crate::import::archive::{Archive, Window};
use crate::import::stored::{Dtype, Source, Stored};
use crate::import::{ArchiveProblem, Problem};

/// Bytes of the number that every legacy file begins with, as the pickle has them.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Where a checkpoint keeps its state_dict.
const KEYS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "weights"];

/// Whether an archive holds what `torch.save` writes.
pub(in crate::import) fn is_torch(archive: &Archive) -> bool {
    archive.entries().any(|entry| is_pickle(&entry.name))
}

fn is_pickle(name: &str) -> bool {
    name == "data.pkl" || name.ends_with("/data.pkl")
}

/// Whether a file that begins with `start` is one of the legacy format.
pub(in crate::import) fn is_legacy(start: &[u8]) -> bool {
    matches!(start, [0x80, 2..=5, ..]) && start[..start.len().min(32)].windows(10).any(|w| w == MAGIC)
}

/// The state_dict of an archive.
pub(super) fn open_archive(
    mut file: File,
    len: u64,
    archive: &Archive,
    notes: &mut Vec<String>,
) -> Result<StateDict, Problem> {
    let mut pickles = archive.entries().filter(|entry| is_pickle(&entry.name));
    let Some(entry) = pickles.next() else {
        return Err(ArchiveProblem::Missing { name: "data.pkl".into() }.into());
    };
    if let Some(other) = pickles.next() {
        let (first, second) = (entry.name.clone(), other.name.clone());
        return Err(TorchProblem::TwoPickles { first, second }.into());
    }
    let folder = entry.name.strip_suffix("data.pkl").unwrap_or_default();
    let script = |name: &str| {
        name.strip_prefix(folder).is_some_and(|n| n == "constants.pkl" || n.starts_with("code/"))
    };
    if archive.entries().any(|entry| script(&entry.name)) {
        return Err(TorchProblem::Container { found: "a TorchScript archive" }.into());
    }
    if let Some(entry) = archive.find(&format!("{folder}byteorder")) {
        let order = entry.read(&mut file, 64)?;
        if order != b"little" {
            let found = match order.as_slice() {
                b"big" => "big-endian".to_string(),
                other => format!("in byte order `{}`", other.escape_ascii()),
            };
            return Err(TorchProblem::ByteOrder { found }.into());
        }
    }
    let bytes = entry.read(&mut file, MAX_PICKLE)?;
    let pickle = Pickle::parse(&bytes).map_err(TorchProblem::from)?;
    let mut starts: HashMap<u32, u64> = HashMap::new();
    let tensors = tensors(&pickle, notes, |index| {
        if let Some(start) = starts.get(&index) {
            return Ok(*start);
        }
        let storage = &pickle.storages[index as usize];
        let entry = archive.require(&format!("{folder}data/{}", storage.key))?;
        let Window { start, len: found } = entry.window()?;
        let expected = storage.len.saturating_mul(storage.dtype.bytes());
        if found != expected {
            let key = storage.key.clone();
            return Err(TorchProblem::StorageLength { key, found, expected }.into());
        }
        entry.verify(&mut file)?;
        starts.insert(index, start);
        Ok(start)
    })?;
    Ok(StateDict { tensors, source: Source::new(file, len) })
}

/// The state_dict of a legacy file.
pub(super) fn open_legacy(mut file: File, len: u64, notes: &mut Vec<String>) -> Result<StateDict, Problem> {
    let wrong = |what, found: &str, expected: &str| -> Problem {
        TorchProblem::Legacy { what, found: found.into(), expected: expected.into() }.into()
    };
    file.rewind()?;
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_PICKLE).read_to_end(&mut bytes)?;
    let cut_off = (bytes.len() as u64) < len;
    let mut at = 0;
    let mut next = || -> Result<Pickle<'_>, Problem> {
        let pickle = Pickle::parse(&bytes[at..]).map_err(|problem| match problem {
            // Positions are those in the file.
            PickleProblem::Truncated { at: place, .. } if cut_off => {
                PickleProblem::Limit { at: at + place, limit: MAX_PICKLE as usize, what: "bytes of pickles" }
            }
            other => other.behind(at),
        });
        let pickle = pickle.map_err(TorchProblem::from)?;
        at += pickle.len;
        Ok(pickle)
    };
    next()?;
    let version = next()?;
    match version.root() {
        Value::Int(1001) => {}
        Value::Int(n) => return Err(wrong("protocol version", &n.to_string(), "1001")),
        other => return Err(wrong("protocol version", other.describe(), "1001")),
    }
    let info = next()?;
    let Value::Dict(items) = info.root() else {
        return Err(wrong("system information", info.root().describe(), "a dict"));
    };
    let little = items.iter().find(|(key, _)| info.text(*key) == Some("little_endian"));
    match little.map(|(_, value)| info.value(*value)) {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => {
            return Err(TorchProblem::ByteOrder { found: "big-endian".into() }.into());
        }
        _ => return Err(wrong("system information", "without `little_endian`", "a dict with it")),
    }
    let pickle = next()?;
    let keys = next()?;
    let Value::List(list) = keys.root() else {
        return Err(wrong("list of storages", keys.root().describe(), "a list of keys"));
    };
    let indices: HashMap<&str, u32> =
        (0..).zip(&pickle.storages).map(|(i, storage)| (storage.key.as_str(), i)).collect();
    let mut starts: HashMap<u32, u64> = HashMap::new();
    let mut end = at as u64;
    for &key in list {
        let Some(index) = keys.text(key).and_then(|key| indices.get(key)) else {
            let found = keys.text(key).map_or(keys.value(key).describe().to_string(), |k| format!("`{k}`"));
            return Err(wrong("a storage", &found, "one that a tensor refers to"));
        };
        let storage = &pickle.storages[*index as usize];
        let mut n = [0; 8];
        if end.saturating_add(8) > len {
            return Err(Problem::FileLength { need: end.saturating_add(8), len });
        }
        file.seek(SeekFrom::Start(end))?;
        file.read_exact(&mut n)?;
        let size = storage.dtype.bytes();
        let (found, expected) =
            (u64::from_le_bytes(n).saturating_mul(size), storage.len.saturating_mul(size));
        if found != expected {
            let key = storage.key.clone();
            return Err(TorchProblem::StorageLength { key, found, expected }.into());
        }
        if starts.insert(*index, end + 8).is_some() {
            return Err(wrong("a storage", &format!("`{}` a second time", storage.key), "unique keys"));
        }
        end = (end + 8).saturating_add(expected);
        if end > len {
            return Err(Problem::FileLength { need: end, len });
        }
    }
    let tensors = tensors(&pickle, notes, |index| {
        starts.get(&index).copied().ok_or_else(|| {
            let key = &pickle.storages[index as usize].key;
            wrong("list of storages", &format!("without `{key}`"), "every storage a tensor refers to")
        })
    })?;
    Ok(StateDict { tensors, source: Source::new(file, len) })
}

/// The tensors of the state_dict in a pickle; `start` gives the place of a storage in the file.
fn tensors(
    pickle: &Pickle<'_>,
    notes: &mut Vec<String>,
    mut start: impl FnMut(u32) -> Result<u64, Problem>,
) -> Result<BTreeMap<String, Entry>, Problem> {
    let mut tensors = BTreeMap::new();
    let items = state_dict(pickle, notes)?;
    if items.len() > MAX_TENSORS {
        return Err(TorchProblem::TooMany { found: items.len(), limit: MAX_TENSORS }.into());
    }
    for (index, (key, value)) in items.iter().enumerate() {
        let Some(name) = pickle.text(*key) else {
            let found = match pickle.value(*key) {
                Value::Text(_) => "a long one",
                other => other.describe(),
            };
            return Err(TorchProblem::Key { index, found }.into());
        };
        let name = name.to_string();
        let Value::Tensor(tensor) = pickle.value(*value) else {
            let found = pickle.value(*value).describe();
            return Err(TorchProblem::NotTensor { name, found }.into());
        };
        let TensorRef { storage, dtype, offset, ref shape, ref strides } = **tensor;
        let stated = match dtype {
            Stated::F64 => Ok(Dtype::F64),
            Stated::F32 => Ok(Dtype::F32),
            Stated::F16 => Ok(Dtype::F16),
            Stated::Bf16 => Ok(Dtype::Bf16),
            Stated::Other(name, _) => Err(name.to_string()),
        };
        // The pickle has checked that a tensor lies in its storage, and `start` that this lies in the file.
        let place = match stated {
            Ok(dtype) => Ok(Stored {
                shape: shape.clone(),
                strides: strides.clone(),
                start: start(storage)? + offset * dtype.size() as u64,
                dtype,
            }),
            Err(other) => Err(other),
        };
        if tensors.insert(name.clone(), Entry { shape: shape.clone(), place }).is_some() {
            return Err(Problem::DuplicateTensor { name });
        }
    }
    Ok(tensors)
}

/// The dict of tensors: what was saved, or what a checkpoint keeps under one of the usual keys.
fn state_dict<'p>(pickle: &'p Pickle<'_>, notes: &mut Vec<String>) -> Result<&'p [(Id, Id)], TorchProblem> {
    let Value::Dict(root) = pickle.root() else {
        return Err(TorchProblem::NoDict { found: pickle.root().describe() });
    };
    let has_tensors =
        |items: &[(Id, Id)]| items.iter().any(|(_, value)| matches!(pickle.value(*value), Value::Tensor(_)));
    for wanted in KEYS {
        let found = root.iter().rev().find(|(key, _)| pickle.text(*key) == Some(wanted));
        if let Some(Value::Dict(items)) = found.map(|(_, value)| pickle.value(*value))
            && has_tensors(items)
        {
            notes.push(format!("a checkpoint: the state_dict is under `{wanted}`"));
            return Ok(items);
        }
    }
    if has_tensors(root) {
        return Ok(root);
    }
    let keys = root
        .iter()
        .take(8)
        .map(|(key, _)| pickle.text(*key).map_or("?".into(), |k| format!("`{}`", k.escape_debug())));
    let mut keys = keys.map(|key| key.chars().take(60).collect()).collect::<Vec<String>>().join(", ");
    if root.len() > 8 {
        keys += ", …";
    }
    Err(TorchProblem::NoTensors { keys: if keys.is_empty() { "none".into() } else { keys } })
}
