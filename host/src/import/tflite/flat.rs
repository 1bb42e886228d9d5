//! A FlatBuffers reader over a file: every offset checked, nothing read that is not asked for.
//!
//! ```text
//! file   u32 root │ "TFL3" │ …                       offsets are from where they stand, forward
//! table  i32 back to its vtable │ fields …           a field's place is in the vtable, 0 where it is absent
//! vtable u16 size of it │ u16 size of the table │ u16 field 0 │ u16 field 1 …
//! vector u32 count │ items …                         a string is a vector of bytes
//! ```
//!
//! The generated readers of other libraries want the file in memory, and a checked walk over all of it first: for half a GB
//! of weights that is what this importer must not do. The structure is a few kB; it is read through a window.

use super::error::TfliteProblem;
use crate::import::Problem;
use crate::import::stored::Source;

/// Bytes read at once.
const WINDOW: u64 = 1 << 12;

/// Where a table begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Table(u64);

/// Where a vector's items are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Vector {
    /// First byte of the first item.
    pub(super) start: u64,
    /// Number of items; all of them are in the file.
    pub(super) len: usize,
}

/// A file of FlatBuffers.
pub(super) struct Flat {
    source: Source,
    len: u64,
    window: Vec<u8>,
    window_start: u64,
}

/// Message parts: what is read.
type What = &'static str;

impl Flat {
    /// A file of `len` bytes.
    pub(super) fn new(source: Source, len: u64) -> Self {
        Self { source, len, window: Vec::new(), window_start: 0 }
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The file, for the tensors.
    pub(super) fn source(&mut self) -> &mut Source {
        &mut self.source
    }

    fn bytes<const N: usize>(&mut self, at: u64, what: What) -> Result<[u8; N], Problem> {
        let len = self.len;
        let outside = || TfliteProblem::Outside { what, at, len };
        let end = at.checked_add(N as u64).filter(|end| *end <= self.len).ok_or_else(outside)?;
        if at < self.window_start || end > self.window_start + self.window.len() as u64 {
            let n = WINDOW.min(self.len - at);
            self.window = self.source.bytes(at, n as usize)?;
            self.window_start = at;
        }
        let from = (at - self.window_start) as usize;
        let bytes = self.window.get(from..).and_then(|rest| rest.first_chunk::<N>());
        Ok(*bytes.ok_or_else(outside)?)
    }

    fn u16(&mut self, at: u64, what: What) -> Result<u16, Problem> {
        Ok(u16::from_le_bytes(self.bytes(at, what)?))
    }

    fn u32(&mut self, at: u64, what: What) -> Result<u32, Problem> {
        Ok(u32::from_le_bytes(self.bytes(at, what)?))
    }

    /// The place that the offset at `at` says.
    fn follow(&mut self, at: u64, what: What) -> Result<u64, Problem> {
        let place = at.saturating_add(u64::from(self.u32(at, what)?));
        if place >= self.len {
            return Err(TfliteProblem::Outside { what, at: place, len: self.len }.into());
        }
        Ok(place)
    }

    /// The table that everything hangs on.
    pub(super) fn root(&mut self) -> Result<Table, Problem> {
        self.follow(0, "model").map(Table)
    }

    /// Where field `n` of `table` is, if it is there.
    fn field(&mut self, table: Table, n: u16, what: What) -> Result<Option<u64>, Problem> {
        let back = i64::from(i32::from_le_bytes(self.bytes(table.0, what)?));
        let vtable = table.0.checked_add_signed(-back).unwrap_or(u64::MAX);
        let size = self.u16(vtable, what)?;
        if size < 4 {
            return Err(TfliteProblem::Vtable { what, at: vtable, found: size }.into());
        }
        let entry = 4 + 2 * u64::from(n);
        if entry + 2 > u64::from(size) {
            return Ok(None);
        }
        Ok(match self.u16(vtable + entry, what)? {
            0 => None,
            offset => Some(table.0 + u64::from(offset)),
        })
    }

    pub(super) fn get_u8(&mut self, table: Table, n: u16, default: u8, what: What) -> Result<u8, Problem> {
        match self.field(table, n, what)? {
            Some(at) => Ok(u8::from_le_bytes(self.bytes(at, what)?)),
            None => Ok(default),
        }
    }

    pub(super) fn get_i32(&mut self, table: Table, n: u16, default: i32, what: What) -> Result<i32, Problem> {
        match self.field(table, n, what)? {
            Some(at) => Ok(i32::from_le_bytes(self.bytes(at, what)?)),
            None => Ok(default),
        }
    }

    pub(super) fn get_f32(&mut self, table: Table, n: u16, what: What) -> Result<f32, Problem> {
        match self.field(table, n, what)? {
            Some(at) => Ok(f32::from_le_bytes(self.bytes(at, what)?)),
            None => Ok(0.0),
        }
    }

    pub(super) fn get_u64(&mut self, table: Table, n: u16, what: What) -> Result<u64, Problem> {
        match self.field(table, n, what)? {
            Some(at) => Ok(u64::from_le_bytes(self.bytes(at, what)?)),
            None => Ok(0),
        }
    }

    pub(super) fn get_table(&mut self, table: Table, n: u16, what: What) -> Result<Option<Table>, Problem> {
        let at = self.field(table, n, what)?;
        at.map(|at| self.follow(at, what).map(Table)).transpose()
    }

    /// A vector of items of `size` bytes, all of which are in the file.
    pub(super) fn get_vector(
        &mut self,
        table: Table,
        n: u16,
        size: u64,
        what: What,
    ) -> Result<Option<Vector>, Problem> {
        let Some(at) = self.field(table, n, what)? else { return Ok(None) };
        let place = self.follow(at, what)?;
        let len = self.u32(place, what)?;
        let start = place + 4;
        let end = start + u64::from(len) * size;
        if end > self.len {
            return Err(TfliteProblem::Outside { what, at: end, len: self.len }.into());
        }
        Ok(Some(Vector { start, len: len as usize }))
    }

    /// Item `i` of a vector of tables.
    pub(super) fn table_at(&mut self, vector: Vector, i: usize, what: What) -> Result<Table, Problem> {
        self.follow(vector.start + 4 * i as u64, what).map(Table)
    }

    /// A vector of at most `most` numbers of 4 bytes; the number of those that are there where there are more.
    pub(super) fn get_i32s(
        &mut self,
        table: Table,
        n: u16,
        most: usize,
        what: What,
    ) -> Result<Result<Vec<i32>, usize>, Problem> {
        let Some(vector) = self.get_vector(table, n, 4, what)? else { return Ok(Ok(Vec::new())) };
        if vector.len > most {
            return Ok(Err(vector.len));
        }
        let read = |i| Ok(i32::from_le_bytes(self.bytes(vector.start + 4 * i as u64, what)?));
        Ok(Ok((0..vector.len).map(read).collect::<Result<_, Problem>>()?))
    }

    /// A string; what is behind its first `most` bytes is left out, and what would break a line of output.
    pub(super) fn get_string(
        &mut self,
        table: Table,
        n: u16,
        most: usize,
        what: What,
    ) -> Result<String, Problem> {
        let Some(vector) = self.get_vector(table, n, 1, what)? else { return Ok(String::new()) };
        let bytes = self.source.bytes(vector.start, vector.len.min(most))?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn flat(bytes: &[u8]) -> Flat {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Flat::new(Source::new(file, bytes.len() as u64), bytes.len() as u64)
    }

    /// A table at 16 with the i32 7 in field 0 and a string in field 2; its vtable at 4.
    fn good() -> Vec<u8> {
        let mut bytes = 16u32.to_le_bytes().to_vec();
        for entry in [10u16, 12, 4, 0, 8, 0] {
            bytes.extend(entry.to_le_bytes());
        }
        bytes.extend(12i32.to_le_bytes());
        bytes.extend(7i32.to_le_bytes());
        bytes.extend(4u32.to_le_bytes());
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(*b"abc\0");
        bytes
    }

    #[test]
    fn fields_are_found_or_absent() {
        let mut flat = flat(&good());
        let table = flat.root().unwrap();
        assert_eq!(flat.get_i32(table, 0, -1, "x").unwrap(), 7);
        assert_eq!(flat.get_i32(table, 1, -1, "x").unwrap(), -1);
        assert_eq!(flat.get_string(table, 2, 100, "x").unwrap(), "abc");
        assert_eq!(flat.get_string(table, 2, 2, "x").unwrap(), "ab");
        assert_eq!(flat.get_i32(table, 3, -1, "x").unwrap(), -1);
        assert_eq!(flat.get_i32(table, u16::MAX, -1, "x").unwrap(), -1);
        assert_eq!(flat.get_table(table, 1, "x").unwrap(), None);
    }

    #[test]
    fn offsets_stay_in_the_file() {
        let patched = |at: usize, value: u32| {
            let mut bytes = good();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            flat(&bytes)
        };
        let message = |flat: &mut Flat| {
            let root = flat.root().and_then(|table| flat.get_string(table, 2, 9, "name"));
            root.unwrap_err().to_string()
        };
        assert_eq!(message(&mut patched(0, 99)), "model at byte 99 is outside the file's 36 bytes");
        assert_eq!(
            message(&mut patched(24, 1 << 31)),
            "name at byte 2147483672 is outside the file's 36 bytes"
        );
        assert_eq!(message(&mut patched(28, 5)), "name at byte 37 is outside the file's 36 bytes");
        assert_eq!(
            message(&mut patched(28, u32::MAX)),
            "name at byte 4294967327 is outside the file's 36 bytes"
        );
        // The vtable before the file, behind it, and too small.
        let before = message(&mut patched(16, 17));
        assert_eq!(before, "name at byte 18446744073709551615 is outside the file's 36 bytes");
        let behind = message(&mut patched(16, -30i32 as u32));
        assert_eq!(behind, "name at byte 46 is outside the file's 36 bytes");
        let small = message(&mut patched(4, 2));
        assert_eq!(small, "vtable of name at byte 4 has 2 bytes, expected at least 4");
        assert_eq!(message(&mut flat(&[1, 0])), "model at byte 0 is outside the file's 2 bytes");
    }
}
