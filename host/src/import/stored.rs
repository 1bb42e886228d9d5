//! Tensors as files store them, read in slabs straight into the host's layouts.
//!
//! ```text
//! convolution   OIHW (PyTorch, ONNX), OHWI (TFLite) or HWIO ─► HWIO   [height][width][in][out]
//! dense         [out][in] or [in][out]                      ─► [in][out]
//!               its inputs a flattened CHW map              ─► HWC order
//! vector        [n]                                         ─► [n]
//! ```
//!
//! This is the one place that converts layouts. A 400 MB layer is never held twice: beside the tensor that it becomes there
//! is one slab of [`SLAB_BYTES`].

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use half::{bf16, f16};

use crate::graph::{Shape, Tensor};

use super::Problem;

/// Most bytes read at once, beside the tensor they go to.
pub(super) const SLAB_BYTES: usize = 16 << 20;

/// A number type of weights, little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
}

impl Dtype {
    /// Bytes of a value.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn decode(self, raw: &[u8], values: &mut Vec<f32>) {
        match self {
            Self::F16 => values.extend(raw.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
            Self::Bf16 => values.extend(raw.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
            Self::F32 => values.extend(raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Self::F64 => values.extend(raw.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
        }
    }
}

/// Where a tensor lies: `start` is the file's byte with its first value, strides are in values, slowest axis first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Stored {
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dtype: Dtype,
    pub(super) start: u64,
}

impl Stored {
    /// A tensor whose values follow one another, last axis fastest. `None` if its size does not fit a number.
    pub(super) fn contiguous(shape: Vec<usize>, dtype: Dtype, start: u64) -> Option<Self> {
        let mut strides = vec![0; shape.len()];
        let mut values = 1usize;
        for (stride, &n) in strides.iter_mut().zip(&shape).rev() {
            *stride = values;
            values = values.checked_mul(n)?;
        }
        values.checked_mul(dtype.size())?;
        Some(Self { shape, strides, dtype, start })
    }

    /// Values from the first to the last, both included; `None` if that does not fit a number.
    fn span(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let mut axes = self.shape.iter().zip(&self.strides);
        axes.try_fold(1usize, |span: usize, (n, stride)| span.checked_add((n - 1).checked_mul(*stride)?))
    }

    /// First byte behind the tensor; `None` if that does not fit a number.
    pub(super) fn end(&self) -> Option<u64> {
        self.start.checked_add(self.span()?.checked_mul(self.dtype.size())? as u64)
    }
}

/// Axes of a stored filter, slowest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Filter {
    /// PyTorch and ONNX.
    Oihw,
    /// TFLite.
    Ohwi,
}

impl Filter {
    /// The axes of `hwio` in the file's order.
    pub(super) fn stored(self, hwio: [usize; 4]) -> [usize; 4] {
        let [height, width, inputs, outputs] = hwio;
        match self {
            Self::Oihw => [outputs, inputs, height, width],
            Self::Ohwi => [outputs, height, width, inputs],
        }
    }
}

/// Axes of stored dense weights, slowest first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Dense {
    /// PyTorch, TFLite and ONNX' `transB`.
    OutIn,
    /// Keras and ONNX' MatMul.
    InOut,
}

/// An open file of tensors.
#[derive(Debug)]
pub(super) struct Source {
    content: Content,
    len: u64,
}

#[derive(Debug)]
enum Content {
    File(File),
    Memory(Cursor<Vec<u8>>),
}

impl Source {
    /// A file of `len` bytes.
    pub(super) fn new(file: File, len: u64) -> Self {
        Self { content: Content::File(file), len }
    }

    /// These bytes as a file: the few weights that a file does not hold as they are.
    pub(super) fn of_bytes(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len() as u64, content: Content::Memory(Cursor::new(bytes)) }
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Some bytes of the file.
    pub(super) fn bytes(&mut self, start: u64, n: usize) -> Result<Vec<u8>, Problem> {
        let need = start.saturating_add(n as u64);
        if need > self.len {
            return Err(Problem::FileLength { need, len: self.len });
        }
        self.seek(start)?;
        let mut bytes = vec![0; n];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn seek(&mut self, start: u64) -> io::Result<u64> {
        match &mut self.content {
            Content::File(file) => file.seek(SeekFrom::Start(start)),
            Content::Memory(bytes) => bytes.seek(SeekFrom::Start(start)),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match &mut self.content {
            Content::File(file) => file.read_exact(buffer),
            Content::Memory(bytes) => bytes.read_exact(buffer),
        }
    }

    /// All values of `stored`, a vector.
    pub(super) fn vector(&mut self, stored: &Stored) -> Result<Tensor, Problem> {
        let (n, stride) = match (stored.shape.as_slice(), stored.strides.as_slice()) {
            ([n], [stride]) => (*n, (*stride).max(1)),
            _ => (stored.shape.iter().product(), 1),
        };
        self.check(stored)?;
        let values = self.values(stored, 0, if n == 0 { 0 } else { (n - 1) * stride + 1 })?;
        Ok(Tensor::vector(values.into_iter().step_by(stride).collect()))
    }

    /// The filters `stored`, which has the shape `axes` makes of `hwio`, as HWIO.
    pub(super) fn filter(
        &mut self,
        stored: &Stored,
        axes: Filter,
        hwio: [usize; 4],
    ) -> Result<Tensor, Problem> {
        self.check(stored)?;
        let [height, width, inputs, outputs] = hwio;
        let &[a, b, c, d] = stored.strides.as_slice() else { return Err(self.rank(stored, 4)) };
        let (o, y, x, i) = match axes {
            Filter::Oihw => (a, c, d, b),
            Filter::Ohwi => (a, b, c, d),
        };
        if hwio.contains(&0) {
            return self.tensor(hwio.to_vec(), Vec::new());
        }
        let mut data = vec![0f32; height * width * inputs * outputs];
        // A slab of output channels at a time; those of a filter may lie among each other, so a slab spans them all.
        let one = (height - 1) * y + (width - 1) * x + (inputs - 1) * i + 1;
        let slab = match o >= one {
            true => (SLAB_BYTES / 4 / o).clamp(1, outputs),
            false => outputs,
        };
        for first in (0..outputs).step_by(slab) {
            let n = slab.min(outputs - first);
            let values = self.values(stored, first * o, (n - 1) * o + one)?;
            for (tap, of_tap) in data.chunks_exact_mut(inputs * outputs).enumerate() {
                let start = tap / width * y + tap % width * x;
                for (input, of_input) in of_tap.chunks_exact_mut(outputs).enumerate() {
                    for (output, value) in of_input[first..first + n].iter_mut().enumerate() {
                        *value = values[start + input * i + output * o];
                    }
                }
            }
        }
        self.tensor(hwio.to_vec(), data)
    }

    /// Dense weights as `[inputs][units]`. Inputs that are a flattened CHW `map` change to HWC order.
    pub(super) fn dense(
        &mut self,
        stored: &Stored,
        axes: Dense,
        [inputs, units]: [usize; 2],
        map: Option<Shape>,
    ) -> Result<Tensor, Problem> {
        self.check(stored)?;
        let &[a, b] = stored.strides.as_slice() else { return Err(self.rank(stored, 2)) };
        let (i, o) = match axes {
            Dense::OutIn => (b, a),
            Dense::InOut => (a, b),
        };
        let row_of = |input: usize| match map {
            Some(Shape { height, width, channels }) => {
                let (channel, position) = (input / (height * width), input % (height * width));
                position * channels + channel
            }
            None => input,
        };
        if inputs == 0 || units == 0 {
            return self.tensor(vec![inputs, units], Vec::new());
        }
        let mut data = vec![0f32; units * inputs];
        // Slabs along the axis that is slower in the file.
        let (slow, fast, by_units) = if o >= i { (o, i, true) } else { (i, o, false) };
        let (n_slow, n_fast) = if by_units { (units, inputs) } else { (inputs, units) };
        let one = (n_fast - 1) * fast + 1;
        let slab = (SLAB_BYTES / 4 / slow.max(one)).clamp(1, n_slow);
        for first in (0..n_slow).step_by(slab) {
            let n = slab.min(n_slow - first);
            let values = self.values(stored, first * slow, (n - 1) * slow + one)?;
            if by_units {
                for input in 0..inputs {
                    let to = row_of(input) * units + first;
                    for (j, out) in data[to..to + n].iter_mut().enumerate() {
                        *out = values[j * slow + input * fast];
                    }
                }
            } else {
                for j in 0..n {
                    let to = row_of(first + j) * units;
                    for (unit, out) in data[to..to + units].iter_mut().enumerate() {
                        *out = values[j * slow + unit * fast];
                    }
                }
            }
        }
        self.tensor(vec![inputs, units], data)
    }

    /// Errors unless the whole tensor is in the file, so that no size it states is allocated unseen.
    fn check(&self, stored: &Stored) -> Result<(), Problem> {
        let values = stored.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        // Overlapping strides would let a small file describe a large tensor.
        let bytes = values.and_then(|n| n.checked_mul(stored.dtype.size()));
        match (stored.end(), bytes) {
            (Some(end), Some(bytes)) if end <= self.len && bytes as u64 <= self.len => Ok(()),
            (end, bytes) => {
                let need = end.unwrap_or(u64::MAX).max(bytes.map_or(u64::MAX, |b| b as u64));
                Err(Problem::FileLength { need, len: self.len })
            }
        }
    }

    /// `n` neighbouring values in f32, from the value `first` behind the tensor's first on.
    fn values(&mut self, stored: &Stored, first: usize, n: usize) -> Result<Vec<f32>, Problem> {
        let size = stored.dtype.size();
        self.seek(stored.start + (first * size) as u64)?;
        let mut values = Vec::with_capacity(n);
        let mut raw = vec![0; (n * size).min(1 << 20)];
        let mut left = n * size;
        while left > 0 {
            let part = raw.len().min(left);
            self.read(&mut raw[..part])?;
            stored.dtype.decode(&raw[..part], &mut values);
            left -= part;
        }
        Ok(values)
    }

    fn rank(&self, stored: &Stored, axes: usize) -> Problem {
        let (found, expected) = (stored.shape.clone(), format!("{axes} axes"));
        Problem::WeightShape { layer: String::new(), what: "tensor".into(), found, expected }
    }

    fn tensor(&self, shape: Vec<usize>, data: Vec<f32>) -> Result<Tensor, Problem> {
        let need = data.len() as u64;
        Tensor::new(shape, data).ok_or(Problem::FileLength { need, len: self.len })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn source(values: &[f32]) -> Source {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
        Source::new(file, bytes.len() as u64)
    }

    fn count(n: usize) -> Vec<f32> {
        (0..n).map(|v| v as f32).collect()
    }

    #[test]
    fn filters_of_every_order_become_hwio() {
        let hwio = [3, 3, 2, 4];
        let value = |y: usize, x: usize, i: usize, o: usize| (y * 1000 + x * 100 + i * 10 + o) as f32;
        let mut expected = Vec::new();
        let (mut oihw, mut ohwi) = (vec![0f32; 72], vec![0f32; 72]);
        for (y, x, i, o) in (0..72).map(|n| (n / 24, n / 8 % 3, n / 4 % 2, n % 4)) {
            expected.push(value(y, x, i, o));
            oihw[((o * 2 + i) * 3 + y) * 3 + x] = value(y, x, i, o);
            ohwi[((o * 3 + y) * 3 + x) * 2 + i] = value(y, x, i, o);
        }
        for (axes, data) in [(Filter::Oihw, &oihw), (Filter::Ohwi, &ohwi)] {
            let stored = Stored::contiguous(axes.stored(hwio).to_vec(), Dtype::F32, 0).unwrap();
            let tensor = source(data).filter(&stored, axes, hwio).unwrap();
            assert_eq!(tensor.data(), expected, "{axes:?}");
        }
        // PyTorch's channels_last: the axes of OIHW, the memory of OHWI.
        let stored =
            Stored { shape: vec![4, 2, 3, 3], strides: vec![18, 1, 6, 2], dtype: Dtype::F32, start: 0 };
        assert_eq!(source(&ohwi).filter(&stored, Filter::Oihw, hwio).unwrap().data(), expected);
    }

    #[test]
    fn dense_weights_of_both_orders_and_of_a_flattened_map() {
        let stored = Stored::contiguous(vec![2, 12], Dtype::F32, 0).unwrap();
        let map = Shape::new(2, 2, 3);
        let tensor = source(&count(24)).dense(&stored, Dense::OutIn, [12, 2], Some(map)).unwrap();
        for (row, values) in tensor.data().chunks(2).enumerate() {
            let (position, channel) = (row / 3, row % 3);
            let input = channel * 4 + position;
            assert_eq!(values, [input as f32, (12 + input) as f32]);
        }
        let stored = Stored::contiguous(vec![12, 2], Dtype::F32, 0).unwrap();
        let tensor = source(&count(24)).dense(&stored, Dense::InOut, [12, 2], None).unwrap();
        assert_eq!(tensor.data(), count(24));
        let transposed = Stored { shape: vec![2, 12], strides: vec![1, 2], dtype: Dtype::F32, start: 0 };
        let tensor = source(&count(24)).dense(&transposed, Dense::OutIn, [12, 2], None).unwrap();
        assert_eq!(tensor.data(), count(24));
    }

    #[test]
    fn a_tensor_larger_than_its_file_is_refused() {
        let vast = Stored { shape: vec![1 << 30, 1 << 20], strides: vec![0, 0], dtype: Dtype::F32, start: 0 };
        let error = source(&count(4)).vector(&vast).unwrap_err().to_string();
        assert_eq!(error, "tensors end at byte 4503599627370496, but the file has 16 bytes");
        let behind = Stored::contiguous(vec![4], Dtype::F32, 4).unwrap();
        let error = source(&count(4)).vector(&behind).unwrap_err().to_string();
        assert_eq!(error, "tensors end at byte 20, but the file has 16 bytes");
    }
}
