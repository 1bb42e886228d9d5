//! What pickles make of plain values: storages from persistent ids, tensors from `_rebuild_tensor_v2` and its like.
//!
//! ```text
//! ('storage', FloatStorage, '0', 'cpu', 432)                              storage 0: 432 f32
//! _rebuild_tensor_v2(storage, 0, (16, 3, 3, 3), (27, 9, 3, 1), False, {})  all of it, OIHW
//! ```
//!
//! Nothing of torch or Python runs: a function here is an arm of a `match`. A tensor is made only if it lies in its storage.

use super::error::PickleProblem;
use super::globals::{Global, Stated};
use super::pickle::{Id, MAX_TENSORS, MAX_VALUES, Machine, Step, Value};

/// Most axes of a tensor.
const MAX_AXES: usize = 8;
/// Most arguments looked at.
const MAX_ARGUMENTS: usize = 8;

/// Elements of one type, side by side in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Storage {
    /// Its name: `data/KEY` in an archive.
    pub(super) key: String,
    /// Type of its elements; bytes for one without a type.
    pub(super) dtype: Stated,
    /// Number of elements.
    pub(super) len: u64,
}

/// A view of a storage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TensorRef {
    /// Index of the storage.
    pub(super) storage: u32,
    /// Type of the elements.
    pub(super) dtype: Stated,
    /// First element.
    pub(super) offset: u64,
    /// Length of each axis, slowest first.
    pub(super) shape: Vec<usize>,
    /// Elements from one index of an axis to the next.
    pub(super) strides: Vec<usize>,
}

/// Axes and where a tensor lies, as values of the pickle.
#[derive(Clone, Copy)]
struct View {
    storage: Id,
    offset: Id,
    shape: Id,
    strides: Id,
    /// The storage's type if absent.
    dtype: Option<Id>,
}

impl Machine<'_> {
    /// `('storage', type, key, device, elements[, view])`; a view is `(key, first element, elements)`.
    pub(super) fn storage(&mut self) -> Step {
        let id = self.pop()?;
        let Some((storage, first)) = self.stated_storage(id) else {
            let expected = "('storage', type, key, device, number of elements)";
            return Err(PickleProblem::Arguments { at: self.at, name: "storage", expected });
        };
        let next = self.storages.len() as u32;
        let index = *self.keys.entry(storage.key.clone()).or_insert(next);
        match self.storages.get(index as usize) {
            None if next as usize == MAX_TENSORS => return Err(self.limit(MAX_TENSORS, "storages")),
            None => self.storages.push(storage),
            Some(known) if *known == storage => {}
            Some(_) => return Err(PickleProblem::Storage { at: self.at, key: storage.key }),
        }
        self.push(Value::Storage(index, first))
    }

    fn stated_storage(&self, id: Id) -> Option<(Storage, u64)> {
        let Value::Tuple(items) = self.value(id) else { return None };
        let &[kind, dtype, key, _, len, ref view @ ..] = &items[..] else { return None };
        let &Value::Global(Global::Storage(dtype)) = self.value(dtype) else { return None };
        if self.bytes(kind) != Some(b"storage") {
            return None;
        }
        let first = match view.first().map(|&view| self.value(view)) {
            None | Some(Value::None) => 0,
            Some(Value::Tuple(view)) => self.number(*view.get(1)?)?,
            Some(_) => return None,
        };
        Some((Storage { key: self.text(key)?.to_string(), dtype, len: self.number(len)? }, first))
    }

    /// What a function of the list gives for its arguments.
    pub(super) fn reduce(&mut self) -> Step {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let &Value::Global(global) = self.value(function) else {
            let found = self.value(function).describe();
            return Err(self.unexpected(found, "a function or class to call"));
        };
        let Value::Tuple(arguments) = self.value(arguments) else {
            let found = self.value(arguments).describe();
            return Err(self.unexpected(found, "a tuple of arguments"));
        };
        let arguments: Vec<Id> = arguments.iter().copied().take(MAX_ARGUMENTS).collect();
        self.call(global, &arguments)
    }

    fn call(&mut self, global: Global, arguments: &[Id]) -> Step {
        let wrong = |expected| PickleProblem::Arguments { at: self.at, name: global.name(), expected };
        let result = match (global, arguments) {
            (Global::Dict, []) => Value::Dict(Vec::new()),
            (Global::Dict, &[items]) => {
                let dict = self.dict(items).ok_or_else(|| wrong("key and value pairs"))?;
                self.copied += dict.len();
                if self.copied > MAX_VALUES {
                    return Err(self.limit(MAX_VALUES, "items copied"));
                }
                Value::Dict(dict)
            }
            // The tuple itself; the tensor itself, for a parameter is one.
            (Global::Size, &[value]) if matches!(self.value(value), Value::Tuple(_)) => {
                self.stack.push(value);
                return Ok(());
            }
            (Global::Parameter, &[value, ..]) if matches!(self.value(value), Value::Tensor(_)) => {
                self.stack.push(value);
                return Ok(());
            }
            (Global::FromType, &[function, _, inner, ..]) => {
                let (&Value::Global(function @ (Global::Tensor | Global::TensorV3)), Value::Tuple(inner)) =
                    (self.value(function), self.value(inner))
                else {
                    return Err(wrong("a tensor's function and its arguments"));
                };
                let inner: Vec<Id> = inner.iter().copied().take(MAX_ARGUMENTS).collect();
                return self.call(function, &inner);
            }
            (Global::Tensor, &[storage, offset, shape, strides, ..]) => {
                let view = View { storage, offset, shape, strides, dtype: None };
                self.tensor(view).ok_or_else(|| wrong("offset, shape and strides inside of the storage"))?
            }
            (Global::TensorV3, &[storage, offset, shape, strides, _, _, dtype, ..]) => {
                let view = View { storage, offset, shape, strides, dtype: Some(dtype) };
                self.tensor(view).ok_or_else(|| wrong("offset, shape and strides inside of the storage"))?
            }
            (Global::Plain(what), _) => Value::Other(what),
            _ => return Err(wrong("those of a state_dict")),
        };
        if matches!(result, Value::Tensor(_)) {
            self.tensors += 1;
            if self.tensors > MAX_TENSORS {
                return Err(self.limit(MAX_TENSORS, "tensors"));
            }
        }
        self.push(result)
    }

    /// The items of a dict, or pairs.
    fn dict(&self, items: Id) -> Option<Vec<(Id, Id)>> {
        let pair = |&id: &Id| match self.value(id) {
            Value::Tuple(pair) | Value::List(pair) => match pair[..] {
                [key, value] => Some((key, value)),
                _ => None,
            },
            _ => None,
        };
        match self.value(items) {
            // More than the limit is copied to no avail.
            Value::Dict(items) => Some(items.iter().copied().take(MAX_VALUES + 1).collect()),
            Value::List(items) | Value::Tuple(items) => items.iter().map(pair).collect(),
            _ => None,
        }
    }

    /// A view of a storage, if it is inside of it.
    fn tensor(&self, view: View) -> Option<Value> {
        let &Value::Storage(storage, first) = self.value(view.storage) else { return None };
        let (shape, strides) = (self.numbers(view.shape)?, self.numbers(view.strides)?);
        let known = &self.storages[storage as usize];
        let dtype = match view.dtype.map(|id| self.value(id)) {
            None => known.dtype,
            Some(&Value::Global(Global::Dtype(dtype))) => dtype,
            Some(_) => return None,
        };
        let offset = self.number(view.offset)?.checked_add(first)?;
        if shape.len() != strides.len() {
            return None;
        }
        if !shape.contains(&0) {
            let mut last = offset;
            for (&n, &stride) in shape.iter().zip(&strides) {
                last = last.checked_add((n as u64 - 1).checked_mul(stride as u64)?)?;
            }
            let end = last.checked_add(1)?.checked_mul(dtype.bytes())?;
            (end <= known.len.checked_mul(known.dtype.bytes())?).then_some(())?;
        }
        Some(Value::Tensor(Box::new(TensorRef { storage, dtype, offset, shape, strides })))
    }

    /// A number of at least 0.
    fn number(&self, id: Id) -> Option<u64> {
        match self.value(id) {
            &Value::Int(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }

    /// Numbers of at least 0, one an axis.
    fn numbers(&self, id: Id) -> Option<Vec<usize>> {
        match self.value(id) {
            Value::Tuple(items) | Value::List(items) if items.len() <= MAX_AXES => {
                items.iter().map(|&id| usize::try_from(self.number(id)?).ok()).collect()
            }
            _ => None,
        }
    }
}
