//! Protobuf's wire format, read from a file without holding it.
//!
//! ```text
//! message = fields;  field = tag varint (number << 3 | type), then
//!     type 0: varint   1: 8 bytes   2: varint length, that many bytes   5: 4 bytes
//! ```
//!
//! Generated readers (`prost`) decode a whole message into memory: weights of 550 MB would be held twice. Here a field of
//! bytes is a [`Span`] of the file, and what is not asked for is skipped by its length. Every span lies within the one it was
//! found in, so no length can lead out of the file or around in circles.

use super::error::OnnxProblem;
use crate::import::Problem;
use crate::import::stored::Source;

/// Most fields that are kept: many times those of the largest network of this family. What a field becomes in memory is larger
/// than what it takes in the file.
const MAX_FIELDS: usize = 40_000;
/// Bytes read ahead.
const CHUNK: u64 = 1 << 16;

/// Some bytes of the file: `start..end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) fn len(self) -> u64 {
        self.end - self.start
    }
}

/// A field's content.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Value {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    Bytes(Span),
}

/// An open file.
pub(super) struct Wire {
    pub(super) source: Source,
    chunk: Vec<u8>,
    chunk_start: u64,
    n_fields: usize,
}

impl Wire {
    pub(super) fn new(source: Source) -> Self {
        Self { source, chunk: Vec::new(), chunk_start: 0, n_fields: 0 }
    }

    /// The whole file.
    pub(super) fn all(&self) -> Span {
        Span { start: 0, end: self.source.len() }
    }

    /// The next field of the message in `rest`, which becomes what is behind it; `None` at the end.
    pub(super) fn field(&mut self, rest: &mut Span) -> Result<Option<(u64, Value)>, Problem> {
        if rest.start == rest.end {
            return Ok(None);
        }
        let at = rest.start;
        let problem = |what| Err(OnnxProblem::Wire { at, what }.into());
        let tag = self.varint(rest)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint(rest)?),
            1 => Value::Fixed64(self.array(rest)?),
            2 => {
                let len = self.varint(rest)?;
                if len > rest.len() {
                    return problem("a field is longer than what it is part of");
                }
                let span = Span { start: rest.start, end: rest.start + len };
                rest.start = span.end;
                Value::Bytes(span)
            }
            5 => Value::Fixed32(self.array(rest)?),
            _ => return problem("no field begins here"),
        };
        self.n_fields += 1;
        match tag >> 3 {
            0 => problem("no field begins here"),
            _ if self.n_fields > MAX_FIELDS => {
                Err(OnnxProblem::TooMany { what: "fields", limit: MAX_FIELDS }.into())
            }
            number => Ok(Some((number, value))),
        }
    }

    /// A number of 7 bits a byte, lowest first.
    pub(super) fn varint(&mut self, rest: &mut Span) -> Result<u64, Problem> {
        let at = rest.start;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array(rest)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(OnnxProblem::Wire { at, what: "a number has more than 64 bits" }.into())
    }

    fn array<const N: usize>(&mut self, rest: &mut Span) -> Result<[u8; N], Problem> {
        if rest.len() < N as u64 {
            return Err(OnnxProblem::Wire { at: rest.start, what: "a field ends early" }.into());
        }
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.byte(rest.start)?;
            rest.start += 1;
        }
        Ok(bytes)
    }

    fn byte(&mut self, at: u64) -> Result<u8, Problem> {
        let in_chunk =
            |start: u64, chunk: &[u8]| chunk.get(usize::try_from(at.checked_sub(start)?).ok()?).copied();
        if let Some(byte) = in_chunk(self.chunk_start, &self.chunk) {
            return Ok(byte);
        }
        let n = CHUNK.min(self.source.len().saturating_sub(at)).max(1);
        self.chunk = self.source.bytes(at, n as usize)?;
        self.chunk_start = at;
        Ok(self.chunk[0])
    }

    /// Text of at most `limit` bytes; what is not UTF-8 is replaced.
    pub(super) fn text(&mut self, span: Span, limit: u64) -> Result<String, Problem> {
        if span.len() > limit {
            return Err(OnnxProblem::Wire { at: span.start, what: "a name is too long" }.into());
        }
        let bytes = self.source.bytes(span.start, span.len() as usize)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Appends the numbers of a repeated field, packed or one by one, up to `limit` of them.
    pub(super) fn integers(
        &mut self,
        value: Value,
        limit: usize,
        numbers: &mut Vec<i64>,
    ) -> Result<(), Problem> {
        match value {
            Value::Varint(v) => numbers.push(v.cast_signed()),
            Value::Bytes(mut span) => {
                while span.len() > 0 && numbers.len() <= limit {
                    numbers.push(self.varint(&mut span)?.cast_signed());
                }
            }
            _ => {}
        }
        match numbers.len() <= limit {
            true => Ok(()),
            false => Err(OnnxProblem::TooMany { what: "numbers in a list", limit }.into()),
        }
    }
}
