//! Weights in f32: a shape and its values, shared by every graph that uses them.
//!
//! Row-major, last axis fastest. The axes have one order in the whole host crate: filters are HWIO
//! (`[height][width][in channel][out channel]`), dense weights `[in][out]`, a bias `[out]`.
//!
//! ```
//! use vgg_edge_host::graph::Tensor;
//! let bias = Tensor::new(vec![2], vec![0.5, -1.0]).unwrap();
//! assert_eq!(bias.shape(), [2]);
//! assert!(Tensor::new(vec![3], vec![0.5, -1.0]).is_none());
//! ```

use std::fmt;
use std::sync::Arc;

/// An f32 array; cloning shares the values.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Arc<Vec<f32>>,
}

impl Tensor {
    /// An array of `shape` over `data`; `None` if the two disagree on the number of values.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Option<Self> {
        let expected = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (expected == data.len()).then(|| Self { shape, data: Arc::new(data) })
    }

    /// A vector of `n` zeros: the bias of a layer that has none.
    pub fn zeros(n: usize) -> Self {
        Self { shape: vec![n], data: Arc::new(vec![0.0; n]) }
    }

    /// A vector of these values.
    pub fn vector(data: Vec<f32>) -> Self {
        Self { shape: vec![data.len()], data: Arc::new(data) }
    }

    /// An array without values.
    pub(super) fn none() -> Self {
        Self::zeros(0)
    }

    /// Length of each axis, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, row-major.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether it holds no value at all.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The values for changing; copies them first if another graph shares them.
    pub fn data_mut(&mut self) -> &mut [f32] {
        let values: &mut Vec<f32> = Arc::make_mut(&mut self.data);
        values
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor{:?}", self.shape)
    }
}
