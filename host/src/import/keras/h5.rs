//! HDF5 for Keras: a window of a file opened with limits, lists of strings, tensors read in slabs straight to their place.
//!
//! ```text
//! file:  … │ window: superblock, groups, attributes, datasets │ …      a whole .h5, or the entry of a .keras archive
//! ```
//!
//! Types are f16, bf16, f32 and f64 in either byte order, contiguous or chunked, with deflate, shuffle and the other filters
//! of the reader. No read is longer than [`MAX_READ`], and all tensors together are not longer than the file allows: a
//! small file that describes huge, aliased or unwritten tensors is an error before anything is allocated for it.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use half::{bf16, f16};
use hdf5_reader::error::{ByteOrder, Error, Result as Hdf5Result};
use hdf5_reader::group::Group;
use hdf5_reader::{
    Attribute, Dataset, Datatype, ExternalLinkResolver, H5Type, Hdf5File, OpenOptions, SliceInfo,
    SliceInfoElem, Storage, StorageBuffer,
};

use crate::graph::Tensor;

use super::super::Problem;

/// Longest single read of the file, for data as for directories.
const MAX_READ: usize = 64 << 20;
/// Values of a contiguous tensor that are read at once.
const SLAB_VALUES: usize = 1 << 20;
/// Values of a chunked tensor that are read at once, so that most chunks are decoded once.
const CHUNKED_SLAB_VALUES: usize = 2 << 20;
/// Longest object header: attributes beyond 64 KiB do not lie in it.
const MAX_OBJECT_HEADER: usize = 4 << 20;
/// Bytes that all tensors of a file may have beyond five quarters of its length: compressed ones are longer than the file.
const TENSOR_ALLOWANCE: u64 = 16 << 20;

/// Part of a file, addressed from 0.
struct Window {
    file: Mutex<File>,
    start: u64,
    len: u64,
}

impl Storage for Window {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_range(&self, offset: u64, len: usize) -> Hdf5Result<StorageBuffer> {
        let needed = len as u64;
        if offset.checked_add(needed).is_none_or(|end| end > self.len) {
            let available = self.len.saturating_sub(offset);
            return Err(Error::UnexpectedEof { offset, needed, available });
        }
        if len > MAX_READ {
            return Err(Error::ResourceLimit(format!("a read of {len} bytes, expected at most {MAX_READ}")));
        }
        let mut bytes = vec![0; len];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.start + offset))?;
        file.read_exact(&mut bytes)?;
        Ok(StorageBuffer::from_vec(bytes))
    }
}

/// Links to other files are errors: the reader alone would pass over them.
struct NoOtherFiles;

impl ExternalLinkResolver for NoOtherFiles {
    fn resolve_external_link(&self, filename: &str) -> Hdf5Result<Option<Hdf5File>> {
        Err(Error::InvalidData(format!("a link to another file, `{}`", filename.escape_debug())))
    }
}

/// An HDF5 file.
pub(super) struct H5 {
    /// Its root group.
    pub(super) root: Group,
    len: u64,
    /// Bytes of tensors that may still be read.
    budget: Cell<u64>,
}

impl H5 {
    /// Opens `len` bytes of `file` from `start` on; `whole` is the length of what the user has on disk.
    pub(super) fn open(file: File, start: u64, len: u64, whole: u64) -> Result<Self, Problem> {
        let budget = most_bytes(whole);
        let most = usize::try_from(budget).unwrap_or(usize::MAX).min(MAX_READ);
        let options = OpenOptions::default()
            .with_chunk_cache_bytes(0)
            .with_max_chunk_bytes(most)
            .with_max_read_bytes(most)
            .with_max_object_header_bytes(MAX_OBJECT_HEADER)
            .with_external_link_resolver(Arc::new(NoOtherFiles));
        let window = Arc::new(Window { file: Mutex::new(file), start, len });
        let file = Hdf5File::from_storage_with_options(window, options).map_err(|e| hdf5("HDF5 file", e))?;
        let root = file.root_group().map_err(|e| hdf5("root group", e))?;
        Ok(Self { root, len: whole, budget: Cell::new(budget) })
    }

    /// The values of `dataset` in f32, if it has the shape `expected`. `layer` and `what` name it in messages.
    pub(super) fn tensor(
        &self,
        dataset: &Dataset,
        layer: &str,
        what: &'static str,
        expected: &[usize],
    ) -> Result<Tensor, Problem> {
        let found = shape(dataset);
        if found != expected {
            let expected = format!("{expected:?}");
            return Err(Problem::WeightShape { layer: layer.into(), what: what.into(), found, expected });
        }
        let format = Format::of(dataset).map_err(|found| Problem::DataType {
            layer: layer.into(),
            what: what.into(),
            found,
        })?;
        let values: u64 = dataset.shape().iter().fold(1, |n, &d| n.saturating_mul(d));
        let need = values.saturating_mul(format.size());
        let left = self.budget.get().checked_sub(need);
        let (Some(left), Ok(values)) = (left, usize::try_from(values)) else {
            let len = self.len;
            return Err(Problem::TensorTooLarge { layer: layer.into(), what: what.into(), need, len });
        };
        self.budget.set(left);
        let place = || format!("layer `{layer}`: {what}");
        let mut data = vec![0f32; values];
        match format {
            Format::Bf16 => read_slabs::<Value<true>>(dataset, &mut data, |v| v.0),
            Format::Ieee(_) => read_slabs::<Value<false>>(dataset, &mut data, |v| v.0),
        }
        .map_err(|e| hdf5(place(), e))?;
        Tensor::new(expected.to_vec(), data).ok_or_else(|| hdf5(place(), "wrong length"))
    }
}

/// Bytes that the tensors of a file of `len` bytes may have, and what it inflates to.
pub(super) fn most_bytes(len: u64) -> u64 {
    (len / 4).saturating_mul(5).saturating_add(TENSOR_ALLOWANCE)
}

pub(super) fn hdf5(what: impl Into<String>, error: impl fmt::Display) -> Problem {
    Problem::Hdf5 { what: what.into(), message: error.to_string() }
}

/// Length of each axis.
pub(super) fn shape(dataset: &Dataset) -> Vec<usize> {
    dataset.shape().iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect()
}

/// Dataset `path` below `group`.
pub(super) fn dataset(group: &Group, path: &str) -> Hdf5Result<Dataset> {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let mut group = group.clone();
    for part in folders.split('/').filter(|p| !p.is_empty()) {
        group = group.group(part)?;
    }
    group.dataset(name)
}

/// A list of strings, which Keras splits into `name0`, `name1`… when it is long, and writes as floats when it is empty.
pub(super) fn strings(group: &Group, name: &str) -> Result<Option<Vec<String>>, Problem> {
    let what = || format!("group `{}`: attribute `{name}`", group.name());
    let attributes = group.attributes().map_err(|e| hdf5(what(), e))?;
    let read = |a: &Attribute| match a.num_elements() {
        Ok(0) => Ok(Vec::new()),
        _ => a.read_strings().map_err(|e| hdf5(what(), e)),
    };
    if let Some(found) = attributes.iter().find(|a| a.name == name) {
        return read(found).map(Some);
    }
    let mut parts = None;
    for i in 0.. {
        let part = format!("{name}{i}");
        match attributes.iter().find(|a| a.name == part) {
            Some(found) => parts.get_or_insert_with(Vec::new).extend(read(found)?),
            None => break,
        }
    }
    Ok(parts)
}

/// How the values of a dataset are stored.
enum Format {
    /// f16, f32 or f64, in the byte order of the dataset's type.
    Ieee(u64),
    /// The upper half of an f32.
    Bf16,
}

impl Format {
    fn of(dataset: &Dataset) -> Result<Self, String> {
        match *dataset.dtype() {
            Datatype::FloatingPoint { size, .. } => {
                // Class and flags, size, bit offset and precision, then the widths of exponent and mantissa.
                let raw = dataset.raw_datatype().unwrap_or_default();
                match (size, raw.get(13), raw.get(15)) {
                    (2, Some(5), Some(10)) | (4, Some(8), Some(23)) | (8, Some(11), Some(52)) => {
                        Ok(Self::Ieee(size.into()))
                    }
                    (2, Some(8), Some(7)) => Ok(Self::Bf16),
                    _ => Err(format!("f{} of another kind than IEEE 754", u32::from(size) * 8)),
                }
            }
            // NumPy knows no bfloat16: Keras stores it as two opaque bytes.
            Datatype::Opaque { size: 2, .. } => Ok(Self::Bf16),
            Datatype::FixedPoint { size, signed, .. } => {
                Err(format!("{}{}", if signed { "i" } else { "u" }, u32::from(size) * 8))
            }
            Datatype::String { .. } | Datatype::VarLen { .. } => Err("text".into()),
            _ => Err("no number type".into()),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Ieee(size) => *size,
            Self::Bf16 => 2,
        }
    }
}

/// Reads `dataset` row-major into `data`, a slab at a time: the reader holds what it reads several times over.
fn read_slabs<T: H5Type>(dataset: &Dataset, data: &mut [f32], value: impl Fn(&T) -> f32) -> Hdf5Result<()> {
    let dims = dataset.shape();
    if dims.is_empty() || data.is_empty() {
        let read = dataset.read_array::<T>()?;
        read.iter().zip(data).for_each(|(from, to)| *to = value(from));
        return Ok(());
    }
    let chunks = dataset.chunks();
    let most = if chunks.is_some() { CHUNKED_SLAB_VALUES } else { SLAB_VALUES } as u64;
    // Along `axis` a slab takes `step` of `inner` values each; the axes before it are walked one by one.
    let mut axis = dims.len() - 1;
    let mut inner = 1u64;
    while axis > 0 && inner.saturating_mul(dims[axis]) <= most {
        inner *= dims[axis];
        axis -= 1;
    }
    let mut step = (most / inner).clamp(1, dims[axis]);
    if let Some(&chunk) = chunks.as_ref().and_then(|c| c.get(axis)).filter(|&&c| u64::from(c) < step) {
        step -= step % u64::from(chunk.max(1));
    }
    let mut outer = vec![0u64; axis];
    let mut rest = data;
    loop {
        for start in (0..dims[axis]).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            let end = (start + step).min(dims[axis]);
            let slice = |start, end| SliceInfoElem::Slice { start, end, step: 1 };
            let selections = (outer.iter().map(|&i| slice(i, i + 1)))
                .chain([slice(start, end)])
                .chain(dims[axis + 1..].iter().map(|&d| slice(0, d)))
                .collect();
            let read = dataset.read_slice::<T>(&SliceInfo { selections })?;
            let (slab, behind) = std::mem::take(&mut rest)
                .split_at_mut_checked(read.len())
                .ok_or_else(|| Error::InvalidData("a slab is longer than the tensor".into()))?;
            read.iter().zip(slab).for_each(|(from, to)| *to = value(from));
            rest = behind;
        }
        let Some(next) = (0..axis).rev().find(|&i| outer[i] + 1 < dims[i]) else { return Ok(()) };
        outer[next] += 1;
        outer[next + 1..].fill(0);
    }
}

/// A number of any float type, as f32; with `BF16` two bytes are a bf16 and not an f16.
#[derive(Clone, Copy)]
struct Value<const BF16: bool>(f32);

impl<const BF16: bool> Value<BF16> {
    fn decode(bytes: &[u8], order: ByteOrder) -> Option<Self> {
        let little = order == ByteOrder::LittleEndian;
        let value = match *bytes {
            [a, b] => {
                let bits = if little { u16::from_le_bytes([a, b]) } else { u16::from_be_bytes([a, b]) };
                if BF16 { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() }
            }
            [a, b, c, d] if little => f32::from_le_bytes([a, b, c, d]),
            [a, b, c, d] => f32::from_be_bytes([a, b, c, d]),
            _ => {
                let bytes = <[u8; 8]>::try_from(bytes).ok()?;
                (if little { f64::from_le_bytes(bytes) } else { f64::from_be_bytes(bytes) }) as f32
            }
        };
        Some(Self(value))
    }
}

/// Size and byte order of a type that [`Value`] decodes.
fn layout(dtype: &Datatype) -> Option<(usize, ByteOrder)> {
    match dtype {
        Datatype::FloatingPoint { size: size @ (2 | 4 | 8), byte_order } => {
            Some(((*size).into(), *byte_order))
        }
        Datatype::Opaque { size: 2, .. } => Some((2, ByteOrder::LittleEndian)),
        _ => None,
    }
}

impl<const BF16: bool> H5Type for Value<BF16> {
    fn hdf5_type() -> Datatype {
        Datatype::FloatingPoint { size: 4, byte_order: ByteOrder::LittleEndian }
    }

    fn from_bytes(bytes: &[u8], dtype: &Datatype) -> Hdf5Result<Self> {
        layout(dtype)
            .and_then(|(size, order)| Self::decode(bytes.get(..size)?, order))
            .ok_or_else(|| Error::InvalidData("not a float".into()))
    }

    fn element_size(dtype: &Datatype) -> usize {
        layout(dtype).map_or(4, |(size, _)| size)
    }

    fn decode_vec(raw: &[u8], dtype: &Datatype, count: usize) -> Option<Hdf5Result<Vec<Self>>> {
        let (size, order) = layout(dtype)?;
        let raw = raw.get(..count.checked_mul(size)?)?;
        raw.chunks_exact(size).map(|bytes| Self::decode(bytes, order)).collect::<Option<Vec<_>>>().map(Ok)
    }
}
