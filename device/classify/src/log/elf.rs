//! Two things that a program's ELF file tells: the linker's build id, and the symbols of one section.
//!
//! ```text
//! header: 64 bits, little endian ─► program headers ─► PT_NOTE: "GNU", type 3, 20 bytes      kept when stripped
//!                                └► sections ─► .symtab, its .strtab: names and addresses    gone when stripped
//! ```
//!
//! Only these parts of the file are read. Nothing in it is trusted: a length beyond the file's is an error.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;
const SHT_SYMTAB: u32 = 2;
/// Bytes of a table that is read at once.
const MAX_BYTES: u64 = 256 << 20;

/// The id that the linker gave the program (`--build-id`), hexadecimal; `None` if it gave none.
///
/// # Errors
/// When the file cannot be read, or is no ELF file of 64 bits, little endian.
pub(crate) fn build_id(file: &mut (impl Read + Seek)) -> io::Result<Option<String>> {
    let header = header(file)?;
    let table = Table { offset: u64_at(&header, 32)?, size: u16_at(&header, 54)?, n: u16_at(&header, 56)? };
    for entry in table.read(file)?.chunks_exact(usize::from(table.size).max(1)) {
        if u32_at(entry, 0)? == PT_NOTE {
            let notes = bytes(file, u64_at(entry, 8)?, u64_at(entry, 32)?)?;
            if let Some(id) = gnu_build_id(&notes) {
                return Ok(Some(id.iter().map(|byte| format!("{byte:02x}")).collect()));
            }
        }
    }
    Ok(None)
}

/// Among the notes of a segment: name's length, value's length, type, then both, each padded to 4 bytes.
fn gnu_build_id(mut notes: &[u8]) -> Option<&[u8]> {
    while notes.len() >= 12 {
        let [name_len, len] = [0, 4].map(|at| u32_at(notes, at).map_or(usize::MAX, |n| n as usize));
        let kind = u32_at(notes, 8).ok()?;
        let value_at = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let value = notes.get(value_at..value_at.checked_add(len)?)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..12 + name_len) == Some(b"GNU\0") && !value.is_empty() {
            return Some(value);
        }
        notes = notes.get(value_at.checked_add(len.checked_next_multiple_of(4)?)?..)?;
    }
    None
}

/// Names and addresses of the symbols that lie in the section `name`; none when the program was stripped of them.
///
/// # Errors
/// As [`build_id`].
pub(crate) fn symbols(file: &mut (impl Read + Seek), name: &str) -> io::Result<Vec<(String, u64)>> {
    let header = header(file)?;
    let table = Table { offset: u64_at(&header, 40)?, size: u16_at(&header, 58)?, n: u16_at(&header, 60)? };
    let sections = table.read(file)?;
    let sections: Vec<&[u8]> = sections.chunks_exact(usize::from(table.size).max(1)).collect();
    let section = |i: usize| sections.get(i).copied().ok_or_else(|| malformed("a section that is not there"));
    let mut contents = |entry: &[u8]| bytes(file, u64_at(entry, 24)?, u64_at(entry, 32)?);
    let names = match usize::from(u16_at(&header, 62)?) {
        0 => return Ok(Vec::new()),
        i => contents(section(i)?)?,
    };
    let mut wanted = None;
    for (i, entry) in sections.iter().enumerate() {
        if text_at(&names, u32_at(entry, 0)?) == Some(name) {
            wanted = Some(i);
        }
    }
    let mut found = Vec::new();
    for entry in &sections {
        if u32_at(entry, 4)? != SHT_SYMTAB {
            continue;
        }
        let (table, names) = (contents(entry)?, contents(section(u32_at(entry, 40)? as usize)?)?);
        for symbol in table.chunks_exact(24) {
            if wanted == Some(usize::from(u16_at(symbol, 6)?))
                && let Some(name) = text_at(&names, u32_at(symbol, 0)?)
            {
                found.push((name.to_owned(), u64_at(symbol, 8)?));
            }
        }
    }
    Ok(found)
}

/// Equal entries, one behind the other.
struct Table {
    offset: u64,
    size: u16,
    n: u16,
}

impl Table {
    fn read(&self, file: &mut (impl Read + Seek)) -> io::Result<Vec<u8>> {
        bytes(file, self.offset, u64::from(self.size) * u64::from(self.n))
    }
}

fn header(file: &mut (impl Read + Seek)) -> io::Result<Vec<u8>> {
    let header = bytes(file, 0, 64)?;
    match header.starts_with(b"\x7fELF\x02\x01") {
        true => Ok(header),
        false => Err(malformed("no ELF file of 64 bits, little endian")),
    }
}

fn bytes(file: &mut (impl Read + Seek), offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let end = file.seek(SeekFrom::End(0))?;
    if len > MAX_BYTES || offset.checked_add(len).is_none_or(|last| last > end) {
        return Err(malformed(&format!("{len} bytes at {offset} of a file of {end}")));
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; len as usize];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not a program: {what}"))
}

fn at<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    field.copied().ok_or_else(|| malformed("an entry is too short"))
}

fn u16_at(bytes: &[u8], offset: usize) -> io::Result<u16> {
    at(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> io::Result<u32> {
    at(bytes, offset).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> io::Result<u64> {
    at(bytes, offset).map(u64::from_le_bytes)
}

fn text_at(strings: &[u8], offset: u32) -> Option<&str> {
    let text = strings.get(offset as usize..)?;
    std::str::from_utf8(&text[..text.iter().position(|&byte| byte == 0)?]).ok()
}
