//! The safetensors container.
//!
//! ```text
//! u64 header length │ JSON {"features.0.weight": {"dtype": "F32", "shape": [64, 3, 3, 3], "data_offsets": [0, 6912]}, …} │ bytes
//! ```

use std::collections::HashSet;
use std::fs::File;

use safetensors::tensor::{Dtype as Stated, Metadata};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{Entry, StateDict};
use crate::import::Problem;
use crate::import::stored::{Dtype, Source, Stored};

/// Longest header the format allows.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a file of `len` bytes.
pub(super) fn open(file: File, len: u64) -> Result<StateDict, Problem> {
    let header = |message: String| Problem::SafetensorsHeader { message };
    let mut source = Source::new(file, len);
    let size = source.bytes(0, 8)?;
    let size = size.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let base = size.checked_add(8).filter(|base| *base <= len && size <= MAX_HEADER);
    let Some(base) = base else {
        return Err(header(format!("header has {size} bytes, but the file has {len}")));
    };
    let json = source.bytes(8, size as usize)?;
    let names = serde_json::Deserializer::from_slice(&json)
        .deserialize_map(UniqueNames)
        .map_err(|e| header(e.to_string()))?;
    if let Err(name) = names {
        return Err(Problem::DuplicateTensor { name });
    }
    // Deserializing checks that shapes, types and offsets agree and that tensors follow each other without gaps.
    let metadata: Metadata = serde_json::from_slice(&json).map_err(|e| header(e.to_string()))?;
    let need = base.saturating_add(metadata.data_len() as u64);
    if need != len {
        return Err(Problem::FileLength { need, len });
    }
    let tensors = metadata.tensors().into_iter().map(|(name, info)| {
        let dtype = match info.dtype {
            Stated::F16 => Ok(Dtype::F16),
            Stated::BF16 => Ok(Dtype::Bf16),
            Stated::F32 => Ok(Dtype::F32),
            Stated::F64 => Ok(Dtype::F64),
            other => Err(other.to_string()),
        };
        let start = base + info.data_offsets.0 as u64;
        let place = dtype.and_then(|dtype| {
            Stored::contiguous(info.shape.clone(), dtype, start)
                .ok_or_else(|| "a size beyond any file".into())
        });
        (name, Entry { shape: info.shape.clone(), place })
    });
    Ok(StateDict { tensors: tensors.collect(), source })
}

/// Names of a JSON object: the first that is there twice is the error. Parsers keep the last value without a word.
struct UniqueNames;

impl<'de> Visitor<'de> for UniqueNames {
    type Value = Result<(), String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut twice = None;
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            if !seen.insert(name.clone()) {
                twice.get_or_insert(name);
            }
        }
        Ok(twice.map_or(Ok(()), Err))
    }
}
