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

    /// Text of at most `limit` bytes; what is not UTF-8 or would break a line of output is replaced.
    pub(super) fn text(&mut self, span: Span, limit: u64) -> Result<String, Problem> {
        if span.len() > limit {
            return Err(OnnxProblem::Wire { at: span.start, what: "a name is too long" }.into());
        }
        let bytes = self.source.bytes(span.start, span.len() as usize)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect())
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
        within(numbers, limit)
    }

    /// The same for f32.
    pub(super) fn floats(
        &mut self,
        value: Value,
        limit: usize,
        numbers: &mut Vec<f32>,
    ) -> Result<(), Problem> {
        match value {
            Value::Fixed32(bytes) => numbers.push(f32::from_le_bytes(bytes)),
            Value::Bytes(mut span) => {
                while span.len() > 0 && numbers.len() <= limit {
                    numbers.push(f32::from_le_bytes(self.array(&mut span)?));
                }
            }
            _ => {}
        }
        within(numbers, limit)
    }
}

fn within<T>(numbers: &[T], limit: usize) -> Result<(), Problem> {
    match numbers.len() <= limit {
        true => Ok(()),
        false => Err(OnnxProblem::TooMany { what: "numbers in a list", limit }.into()),
    }
}

/// Whether a file that begins with `start` is an ONNX model: one field after the other is one that `ModelProto` has, up to
/// the graph or the end of `start`. Other protobufs (TensorFlow's SavedModel) begin alike.
pub(in crate::import) fn is_model(start: &[u8]) -> bool {
    let mut rest = start;
    let first = varint(&mut rest);
    if !matches!(first, Some(IR_VERSION | GRAPH)) {
        return false;
    }
    let mut tag = first;
    loop {
        match tag {
            // A version, or one of the model.
            Some(IR_VERSION) if !matches!(varint(&mut rest), Some(1..=100)) => return false,
            Some(IR_VERSION) => {}
            Some(0x28) => {
                if varint(&mut rest).is_none() {
                    return rest.is_empty();
                }
            }
            Some(GRAPH) => {
                let len = varint(&mut rest);
                // Its nodes or its name come first, or the weights.
                return len.is_some()
                    && matches!(rest.first(), None | Some(0x0a | 0x12 | 0x2a | 0x5a | 0x62));
            }
            // Texts, operator sets, metadata, training, functions.
            Some(tag @ (0x12 | 0x1a | 0x22 | 0x32 | 0x42 | 0x72 | 0xa2 | 0xca)) => {
                let Some(len) = varint(&mut rest).and_then(|len| usize::try_from(len).ok()) else {
                    return rest.is_empty();
                };
                let Some((content, behind)) = rest.split_at_checked(len) else { return true };
                let is_text = matches!(tag, 0x12 | 0x1a | 0x22 | 0x32);
                if is_text && content.iter().any(|b| matches!(b, 0..=8 | 0x0e..=0x1f)) {
                    return false;
                }
                rest = behind;
            }
            None => return rest.is_empty(),
            _ => return false,
        }
        tag = varint(&mut rest);
    }
}

const IR_VERSION: u64 = 0x08;
const GRAPH: u64 = 0x3a;

/// The number that `rest` begins with, if it is whole.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(bytes: &[u8]) -> (Wire, Span) {
        let wire = Wire::new(Source::of_bytes(bytes.to_vec()));
        let all = wire.all();
        (wire, all)
    }

    #[test]
    fn fields_of_every_type() {
        let bytes =
            [&[0x08, 0xac, 0x02, 0x15][..], &1.5f32.to_le_bytes(), &[0x19], &[7; 8], b"\x22\x03abc"].concat();
        let (mut wire, mut rest) = wire(&bytes);
        let mut next = || wire.field(&mut rest).unwrap();
        assert_eq!(next(), Some((1, Value::Varint(300))));
        assert_eq!(next(), Some((2, Value::Fixed32(1.5f32.to_le_bytes()))));
        assert_eq!(next(), Some((3, Value::Fixed64([7; 8]))));
        let span = Span { start: 19, end: 22 };
        assert_eq!(next(), Some((4, Value::Bytes(span))));
        assert_eq!(next(), None);
        assert_eq!(wire.text(span, 3).unwrap(), "abc");
        assert!(wire.text(span, 2).is_err());
    }

    #[test]
    fn a_field_ends_within_what_it_is_part_of() {
        let cases: [(&[u8], &str); 8] = [
            (&[0x0a, 5, 1, 2], "byte 0: a field is longer than what it is part of"),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], {
                "byte 0: a field is longer than what it is part of"
            }),
            (&[0x08], "byte 1: a field ends early"),
            (&[0x0d, 1, 2], "byte 1: a field ends early"),
            (&[0x09, 1, 2], "byte 1: a field ends early"),
            (&[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1], {
                "byte 1: a number has more than 64 bits"
            }),
            // The old group, and field 0.
            (&[0x0b, 1], "byte 0: no field begins here"),
            (&[0x00, 1], "byte 0: no field begins here"),
        ];
        for (bytes, expected) in cases {
            let (mut wire, mut rest) = wire(bytes);
            assert_eq!(wire.field(&mut rest).unwrap_err().to_string(), expected);
        }
        // The outer message has more bytes than the inner one may take.
        let (mut wire, mut rest) = wire(&[0x0a, 2, 0x0a, 3, 0x61, 0x62, 0x63]);
        let Some((1, Value::Bytes(mut inner))) = wire.field(&mut rest).unwrap() else { panic!() };
        let error = wire.field(&mut inner).unwrap_err().to_string();
        assert_eq!(error, "byte 2: a field is longer than what it is part of");
    }

    #[test]
    fn lists_are_packed_or_not_and_limited() {
        let (mut wire, all) = wire(&[1, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        let mut numbers = vec![5];
        wire.integers(Value::Varint(6), 5, &mut numbers).unwrap();
        wire.integers(Value::Bytes(all), 5, &mut numbers).unwrap();
        assert_eq!(numbers, [5, 6, 1, 127, -1]);
        let error = wire.integers(Value::Varint(6), 5, &mut numbers).and(wire.integers(
            Value::Varint(7),
            5,
            &mut numbers,
        ));
        assert_eq!(error.unwrap_err().to_string(), "the model has more than 5 numbers in a list");
    }

    #[test]
    fn a_chunk_ends_within_a_number() {
        let mut bytes = vec![0; CHUNK as usize - 1];
        bytes.extend([0x80, 0x01]);
        let (mut wire, mut rest) = wire(&bytes);
        wire.byte(0).unwrap();
        rest.start = CHUNK - 1;
        assert_eq!(wire.varint(&mut rest).unwrap(), 128);
    }

    #[test]
    fn models_and_other_protobufs() {
        assert!(is_model(b"\x08\x08\x12\x07pytorch\x1a\x032.0\x3a\xff\x01\x0a\x10"));
        assert!(is_model(b"\x3a\x10\x12\x03net"));
        // Cut off, in the producer's name and in the graph's length.
        assert!(is_model(b"\x08\x08\x12\x07pyt"));
        assert!(is_model(b"\x08\x08"));
        // A SavedModel: its version, then a message. A frozen TensorFlow graph. Text.
        assert!(!is_model(b"\x08\x01\x12\x09\x0a\x07\x12\x05serve"));
        assert!(!is_model(b"\x0a\x10\x0a\x05input\x12\x0bPlaceholder"));
        assert!(!is_model(b":x these are not weights"));
        assert!(!is_model(b"\x08\x00\x08\x00"));
        assert!(!is_model(b"\x08\x08\xff\xff"));
    }
}
