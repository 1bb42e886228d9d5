//! A restricted unpickler: plain data and references to tensors, and nothing is ever called.
//!
//! ```text
//! GLOBAL torch._utils _rebuild_tensor_v2 ─► a name out of a fixed list, anything else is refused by name
//! BINPERSID ('storage', FloatStorage, '0', 'cpu', 432) ─► Storage { key: "0", dtype: F32, len: 432 }
//! REDUCE (storage, 0, (16, 3, 3, 3), (27, 9, 3, 1), …) ─► TensorRef { storage, offset, shape, strides }
//! ```
//!
//! Values live in one list and refer to each other by index, so a cycle is no danger: nothing walks a value's depth. Every
//! opcode costs a bounded amount, and objects, opcodes and marks are counted. Protocols 2 to 5, binary opcodes.
//!
//! No crate does this: `pytorch-reader` (0.22) takes any class by any name without a word (`posix.system` is an unused value to
//! it) and hands out each tensor as one `Vec<u8>` in row-major order, so that the 411 MB of VGG's first dense layer would be held
//! twice, with no way to the offset in the file. `serde-pickle` knows no persistent ids, `candle` no legacy files.
//!
//! ```ignore
//! let pickle = Pickle::parse(&bytes)?;
//! let Value::Dict(items) = pickle.root() else { … };
//! ```

use std::collections::HashMap;
use std::ops::Range;

use super::error::PickleProblem;
use super::globals::{self, Global};
use super::rebuild::{Storage, TensorRef};

/// Longest pickle read. That of VGG19 with BatchNorm has 30 KB.
pub(super) const MAX_PICKLE: u64 = 8 << 20;
/// Most values.
pub(super) const MAX_VALUES: usize = 1 << 18;
/// Most opcodes.
const MAX_OPCODES: usize = 1 << 21;
/// Most tensors, and most storages.
pub(super) const MAX_TENSORS: usize = 1 << 16;
/// Most unfinished lists, tuples and dicts inside each other.
const MAX_MARKS: usize = 1 << 10;
/// Longest name of a function, class, storage or tensor.
pub(super) const MAX_NAME: usize = 1000;

/// Index of a value.
pub(super) type Id = u32;

/// What a pickle says.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Plain data that says nothing about a network: what it is, for messages.
    Other(&'static str),
    None,
    Bool(bool),
    Int(i64),
    /// Place of UTF-8 text in the pickle.
    Text(Range<u32>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Keys and values in their order; a key may be there twice.
    Dict(Vec<(Id, Id)>),
    /// A function or class of the fixed list.
    Global(Global),
    /// Index into the storages, and the first element of a view of one (files of 2017).
    Storage(u32, u64),
    Tensor(Box<TensorRef>),
}

/// A read pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    data: &'a [u8],
    values: Vec<Value>,
    root: Id,
    /// Storages referred to, in the order of the first reference.
    pub(super) storages: Vec<Storage>,
    /// Bytes read, from the protocol to the stop.
    pub(super) len: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle that `data` begins with.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, PickleProblem> {
        let mut machine = Machine {
            data,
            at: 0,
            pos: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            storages: Vec::new(),
            keys: HashMap::new(),
            tensors: 0,
            copied: 0,
        };
        let root = machine.run()?;
        let Machine { values, storages, pos, .. } = machine;
        Ok(Self { data, values, root, storages, len: pos })
    }

    /// The value it holds.
    pub(super) fn root(&self) -> &Value {
        self.value(self.root)
    }

    /// A value of it.
    pub(super) fn value(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::Other("nothing"))
    }

    /// The text that value is, if it may be a name: checking long ones again and again would take its time.
    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        name(text_bytes(self.data, self.value(id))?)
    }
}

impl Value {
    /// What it is, for messages.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Other(what) => what,
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an integer",
            Self::Text(_) => "text",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a function or class",
            Self::Storage(..) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

fn text_bytes<'a>(data: &'a [u8], value: &Value) -> Option<&'a [u8]> {
    let Value::Text(range) = value else { return None };
    data.get(range.start as usize..range.end as usize)
}

fn name(bytes: &[u8]) -> Option<&str> {
    (bytes.len() <= MAX_NAME).then(|| std::str::from_utf8(bytes).ok())?
}

/// The pickle machine.
pub(super) struct Machine<'a> {
    data: &'a [u8],
    /// Offset of the opcode at work.
    pub(super) at: usize,
    /// Offset of the next byte.
    pos: usize,
    values: Vec<Value>,
    pub(super) stack: Vec<Id>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: Vec<Option<Id>>,
    pub(super) storages: Vec<Storage>,
    /// Index of each storage.
    pub(super) keys: HashMap<String, u32>,
    /// Tensors made.
    pub(super) tensors: usize,
    /// Items copied from one dict or list to another.
    pub(super) copied: usize,
}

/// What a step gives.
pub(super) type Step<T = ()> = Result<T, PickleProblem>;

impl<'a> Machine<'a> {
    /// Runs to the stop.
    fn run(&mut self) -> Step<Id> {
        for _ in 0..MAX_OPCODES {
            self.at = self.pos;
            let [opcode] = self.array()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => match self.array()? {
                    [2..=5] => {}
                    [_] => return Err(self.unexpected("another protocol", "pickle protocol 2 to 5")),
                },
                // A frame: nothing but a hint for reading ahead.
                0x95 => drop(self.array::<8>()?),
                _ => self.step(opcode)?,
            }
        }
        Err(self.limit(MAX_OPCODES, "opcodes"))
    }

    fn step(&mut self, opcode: u8) -> Step {
        match opcode {
            b'(' if self.marks.len() == MAX_MARKS => return Err(self.limit(MAX_MARKS, "nested marks")),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Bool(opcode == 0x88))?,
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Other("a float"))?;
            }
            0x8a | 0x8b => self.long(opcode)?,
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.bytes_or_text(opcode)?,
            b']' => self.push(Value::List(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            0x8f => self.push(Value::Other("a set"))?,
            b'l' | b't' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(match opcode {
                    b'l' => Value::List(items),
                    b't' => Value::Tuple(items),
                    _ => Value::Other("a set"),
                })?;
            }
            0x85..=0x87 => {
                let height = self.height_below(usize::from(opcode - 0x84))?;
                let items = self.stack.split_off(height);
                self.push(Value::Tuple(items))?;
            }
            b'd' => {
                let items = pairs(self.pop_mark()?).ok_or_else(|| self.odd())?;
                self.push(Value::Dict(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend_list(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(vec![(key, value)])?;
            }
            b'u' => {
                let items = pairs(self.pop_mark()?).ok_or_else(|| self.odd())?;
                self.extend_dict(items)?;
            }
            // Into a set, whose items nobody asks for.
            0x90 => drop(self.pop_mark()?),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(opcode)?,
            b'c' | 0x93 => self.global(opcode)?,
            b'Q' => self.storage()?,
            b'R' | 0x81 => self.reduce()?,
            b'b' => self.build()?,
            found => return Err(PickleProblem::Opcode { at: self.at, found }),
        }
        Ok(())
    }

    /// Integers of any length; those beyond 64 bits only where nobody asks for their value.
    fn long(&mut self, opcode: u8) -> Step {
        let len = match opcode {
            0x8a => u64::from(u8::from_le_bytes(self.array()?)),
            _ => u64::from(u32::from_le_bytes(self.array()?)),
        };
        let bytes = self.take(len)?;
        let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        let value = match wide.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            None => Value::Other("an integer of more than 64 bits"),
        };
        self.push(value)
    }

    fn bytes_or_text(&mut self, opcode: u8) -> Step {
        let len = match opcode {
            0x8c | b'U' | b'C' => u64::from(u8::from_le_bytes(self.array()?)),
            b'X' | b'T' | b'B' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take(len)?;
        let is_text = std::str::from_utf8(bytes).is_ok();
        let value = match opcode {
            b'B' | b'C' | 0x8e | 0x96 => Value::Other("bytes"),
            // Pickles are at most `MAX_PICKLE` long.
            _ if is_text => Value::Text((self.pos - bytes.len()) as u32..self.pos as u32),
            // Text of Python 2 was bytes.
            b'T' | b'U' => Value::Other("bytes"),
            _ => return Err(self.unexpected("text that is not UTF-8", "UTF-8")),
        };
        self.push(value)
    }

    fn memo(&mut self, opcode: u8) -> Step {
        let index = match opcode {
            0x94 => self.memo.len(),
            b'q' | b'h' => usize::from(u8::from_le_bytes(self.array()?)),
            _ => u32::from_le_bytes(self.array()?) as usize,
        };
        if matches!(opcode, b'h' | b'j') {
            let Some(id) = self.memo.get(index).copied().flatten() else {
                return Err(self.unexpected("a memo entry that was never set", "one set before"));
            };
            self.stack.push(id);
            return Ok(());
        }
        if index >= MAX_VALUES {
            return Err(self.limit(MAX_VALUES, "memo entries"));
        }
        let top = self.top()?;
        if index >= self.memo.len() {
            self.memo.resize(index + 1, None);
        }
        self.memo[index] = Some(top);
        Ok(())
    }

    /// A name out of the list, or the error that says it.
    fn global(&mut self, opcode: u8) -> Step {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let (Some(module), Some(name)) = (self.text(module), self.text(name)) else {
                return Err(self.unexpected("a name that is no text", "module and name"));
            };
            (module, name)
        };
        if let Some(global) = globals::find(module, name) {
            return self.push(Value::Global(global));
        }
        // Names that are no names could fill the screen.
        let chars = module.chars().chain(['.']).chain(name.chars());
        let name: String = chars.take(200).flat_map(char::escape_debug).collect();
        Err(match self.makes_object() {
            true => PickleProblem::Object { class: name },
            false => PickleProblem::Global { at: self.at, name },
        })
    }

    /// Whether an object of the class just named is made: the next opcodes are `)` and `\x81`, with the memo in between, or
    /// the name is inside `('module', class, file, source)`, which the legacy format writes for a class of a module.
    fn makes_object(&self) -> bool {
        let first = self.marks.last().and_then(|&mark| self.stack.get(mark));
        if first.is_some_and(|&id| self.bytes(id) == Some(b"module")) {
            return true;
        }
        let mut rest = self.data.get(self.pos..).unwrap_or_default();
        if let [b'q', _, after @ ..] | [0x94, after @ ..] | [b'r', _, _, _, _, after @ ..] = rest {
            rest = after;
        }
        matches!(rest, [b')', 0x81, ..])
    }

    /// The bytes of a text.
    pub(super) fn bytes(&self, id: Id) -> Option<&'a [u8]> {
        text_bytes(self.data, self.value(id))
    }

    /// A text that may be a name.
    pub(super) fn text(&self, id: Id) -> Option<&'a str> {
        name(self.bytes(id)?)
    }

    pub(super) fn value(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    /// The attributes of a state_dict (`_metadata`) and of parameters say nothing.
    fn build(&mut self) -> Step {
        self.pop()?;
        let target = self.top()?;
        match self.value(target) {
            Value::Dict(_) | Value::Tensor(_) => Ok(()),
            other => {
                let found = other.describe();
                Err(self.unexpected(found, "a dict or a tensor to set attributes of"))
            }
        }
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Step {
        let target = self.top()?;
        match &mut self.values[target as usize] {
            Value::List(list) => list.extend(items),
            // `set` and the like, made by a call.
            Value::Other(_) => {}
            other => {
                let found = other.describe();
                return Err(self.unexpected(found, "a list to append to"));
            }
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<(Id, Id)>) -> Step {
        let target = self.top()?;
        match &mut self.values[target as usize] {
            Value::Dict(dict) => dict.extend(items),
            other => {
                let found = other.describe();
                return Err(self.unexpected(found, "a dict to set items of"));
            }
        }
        Ok(())
    }

    pub(super) fn push(&mut self, value: Value) -> Step {
        if self.values.len() == MAX_VALUES {
            return Err(self.limit(MAX_VALUES, "values"));
        }
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    /// Height of the stack without its top `n` values, which are above the last mark.
    fn height_below(&self, n: usize) -> Step<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let height = self.stack.len().checked_sub(n).filter(|height| *height >= floor);
        height.ok_or_else(|| self.unexpected("an empty stack", "a value"))
    }

    fn top(&self) -> Step<Id> {
        Ok(self.stack[self.height_below(1)?])
    }

    pub(super) fn pop(&mut self) -> Step<Id> {
        let height = self.height_below(1)?;
        let id = self.stack[height];
        self.stack.truncate(height);
        Ok(id)
    }

    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let Some(mark) = self.marks.pop() else {
            return Err(self.unexpected("no mark", "the start of a list, tuple or dict"));
        };
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn take(&mut self, need: u64) -> Step<&'a [u8]> {
        let rest = self.data.get(self.pos..).unwrap_or_default();
        match usize::try_from(need).ok().and_then(|n| rest.get(..n)) {
            Some(bytes) => {
                self.pos += bytes.len();
                Ok(bytes)
            }
            None => Err(PickleProblem::Truncated { at: self.pos, need, left: rest.len() }),
        }
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.take(N as u64)?;
        Ok(bytes.first_chunk().copied().unwrap_or([0; N]))
    }

    /// Text up to a line feed.
    fn line(&mut self) -> Step<&'a str> {
        let rest = self.data.get(self.pos..).unwrap_or_default();
        let Some(len) = rest.iter().position(|&b| b == b'\n') else {
            return Err(self.unexpected("no end of a name", "a line feed behind it"));
        };
        self.pos += len + 1;
        std::str::from_utf8(&rest[..len]).map_err(|_| self.unexpected("a name that is not UTF-8", "UTF-8"))
    }

    fn odd(&self) -> PickleProblem {
        self.unexpected("a key without a value", "keys and values of a dict")
    }

    pub(super) fn unexpected(&self, found: &'static str, expected: &'static str) -> PickleProblem {
        PickleProblem::Unexpected { at: self.at, found, expected }
    }

    pub(super) fn limit(&self, limit: usize, what: &'static str) -> PickleProblem {
        PickleProblem::Limit { at: self.at, limit, what }
    }
}

fn pairs(items: Vec<Id>) -> Option<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks();
    rest.is_empty().then(|| pairs.iter().map(|&[key, value]| (key, value)).collect())
}
