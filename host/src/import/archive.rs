//! Zip archives, read strictly: the directory is checked before anything else is looked at, and only then are entries read.
//!
//! ```text
//! local header │ data │ local header │ data │ … │ central directory │ [zip64 end, locator] │ end, comment
//!               ▲ Window of a stored entry        ▲ one record an entry: name, method, sizes, CRC-32, where
//! ```
//!
//! `.keras` and `torch.save` files are such archives. The `zip` crate is not used: it recovers where this refuses (an end record
//! that is not last, two entries of one name), and holds some 200 bytes for each of the directory's 46-byte records, so that an
//! archive of 52 MB takes 216 MB to open. Nothing is ever extracted to a file of the entry's name.
//!
//! ```ignore
//! let archive = Archive::open(&mut file, len)?;
//! let config = archive.require("config.json")?.read(&mut file, 1 << 20)?;
//! let Window { start, len } = archive.require("model.weights.h5")?.window()?;
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Most entries an archive may have.
pub(super) const MAX_ENTRIES: u64 = 1 << 16;
/// Most bytes its directory may have.
const MAX_DIRECTORY: u64 = 16 << 20;
/// Deflate cannot shrink more than so many times.
const MAX_COMPRESSION: u64 = 1032;

/// What is wrong with a zip archive.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum ArchiveProblem {
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    #[error("zip: the file does not end in an end-of-directory record, expected one at its end")]
    NoEnd,
    #[error("zip: no zip64 end record at byte {at}, expected one at byte {expected}")]
    NoEnd64 { at: u64, expected: u64 },
    #[error("zip: {what} is {found}, expected {expected}")]
    Directory { what: &'static str, found: u64, expected: String },
    #[error("zip: entry {index} of the directory at byte {at} is {found}, expected {expected}")]
    Record { index: u64, at: u64, found: &'static str, expected: &'static str },
    #[error("zip: entry `{name}` has {found}, expected a relative path of plain names")]
    Name { name: String, found: &'static str },
    #[error("zip: entry `{name}` is there twice, expected unique names")]
    Duplicate { name: String },
    #[error("zip: entry `{name}` is missing")]
    Missing { name: String },
    #[error("zip: entry `{name}`: {what} is {found}, expected {expected}")]
    Entry { name: String, what: &'static str, found: String, expected: String },
    #[error("zip: entry `{name}` ends at byte {end}, but {next} begins at byte {limit}")]
    Overlap { name: String, end: u64, next: String, limit: u64 },
    #[error("zip: entry `{name}` is compressed, expected it stored as it is")]
    Compressed { name: String },
    #[error("zip: entry `{name}` has {found} bytes, expected at most {limit}")]
    TooLarge { name: String, found: u64, limit: u64 },
    #[error("zip: entry `{name}`: {message}")]
    Inflate { name: String, message: String },
    #[error("zip: entry `{name}` has CRC-32 {found:08x}, expected {expected:08x}")]
    Checksum { name: String, found: u32, expected: u32 },
}

impl ArchiveProblem {
    /// A stable word for the problem.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Io(_) => "io",
            Self::NoEnd | Self::NoEnd64 { .. } | Self::Directory { .. } | Self::Record { .. } => {
                "zip-directory"
            }
            Self::Name { .. } => "zip-name",
            Self::Duplicate { .. } => "zip-duplicate",
            Self::Missing { .. } => "zip-missing",
            Self::Entry { .. } | Self::Overlap { .. } => "zip-entry",
            Self::Compressed { .. } => "zip-compressed",
            Self::TooLarge { .. } | Self::Inflate { .. } => "zip-inflate",
            Self::Checksum { .. } => "zip-checksum",
        }
    }
}

/// Bytes of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    /// Offset of the first.
    pub(super) start: u64,
    /// How many.
    pub(super) len: u64,
}

/// The checked directory of an archive: names are unique relative paths, the data of all entries lies in the file, in front of
/// the directory, without overlap.
#[derive(Debug)]
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
}

/// One file of an archive.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its path: `archive/data.pkl`.
    pub(super) name: String,
    /// Where its bytes are, as stored.
    data: Window,
    /// Number of bytes once inflated.
    pub(super) size: u64,
    /// 0 where the writer computed none.
    crc32: u32,
    deflated: bool,
}

/// Where the directory is.
struct End {
    records: u64,
    directory: Window,
}

impl Archive {
    /// Reads and checks the directory of a file of `len` bytes. Takes memory for the directory alone, at most
    /// [`MAX_ENTRIES`] entries.
    pub(super) fn open(file: &mut (impl Read + Seek), len: u64) -> Result<Self, ArchiveProblem> {
        let End { records, directory } = End::find(file, len)?;
        let bytes = read_at(file, directory)?;
        let mut list = Vec::new();
        let mut at = 0;
        for index in 0..records {
            let record = |found, expected| {
                Err(ArchiveProblem::Record { index, at: directory.start + at as u64, found, expected })
            };
            let rest = &bytes[at..];
            if !rest.starts_with(b"PK\x01\x02") || rest.len() < 46 {
                return record("no directory record", "PK\\x01\\x02 and 46 bytes");
            }
            let [name_len, extra_len, comment_len] = [28, 30, 32].map(|i| usize::from(u16_at(rest, i)));
            let total = 46 + name_len + extra_len + comment_len;
            let Some(rest) = rest.get(..total) else {
                return record("cut off", "name, extra fields and comment in the directory");
            };
            let Ok(name) = std::str::from_utf8(&rest[46..46 + name_len]) else {
                return record("of a name that is not UTF-8", "UTF-8");
            };
            check_name(name)?;
            list.push(Header::new(name, rest, &rest[46 + name_len..46 + name_len + extra_len])?);
            at += total;
        }
        if at != bytes.len() {
            return Err(ArchiveProblem::Directory {
                what: "length of the directory",
                found: directory.len,
                expected: format!("{at}, the {records} records in it"),
            });
        }
        // In the order of the file, so that what overlaps is side by side and the disk is read forwards.
        list.sort_by_key(|header| header.offset);
        let mut entries = BTreeMap::new();
        let ends: Vec<(u64, String)> = (list.iter().skip(1))
            .map(|next| (next.offset, format!("entry `{}`", next.entry.name)))
            .chain([(directory.start, "the directory".to_string())])
            .collect();
        for (header, (limit, next)) in list.into_iter().zip(ends) {
            let entry = header.locate(file, limit, next)?;
            if let Some(other) = entries.insert(entry.name.clone(), entry) {
                return Err(ArchiveProblem::Duplicate { name: other.name });
            }
        }
        Ok(Self { entries })
    }

    /// Every entry, by name.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The entry of that name.
    pub(super) fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The entry of that name, or the error that says it is missing.
    pub(super) fn require(&self, name: &str) -> Result<&Entry, ArchiveProblem> {
        self.find(name).ok_or_else(|| ArchiveProblem::Missing { name: name.to_string() })
    }
}

impl Entry {
    /// Where its bytes are in the file; an error if they are compressed.
    pub(super) fn window(&self) -> Result<Window, ArchiveProblem> {
        match self.deflated {
            true => Err(ArchiveProblem::Compressed { name: self.name.clone() }),
            false => Ok(self.data),
        }
    }

    /// All its bytes, inflated and checked; at most `limit`.
    pub(super) fn read(&self, file: &mut (impl Read + Seek), limit: u64) -> Result<Vec<u8>, ArchiveProblem> {
        let mut bytes = Vec::new();
        self.copy(file, limit, &mut bytes)?;
        Ok(bytes)
    }

    /// Checks the CRC-32 of its bytes, unless the writer computed none.
    pub(super) fn verify(&self, file: &mut (impl Read + Seek)) -> Result<(), ArchiveProblem> {
        match self.crc32 {
            0 => Ok(()),
            _ => self.copy(file, u64::MAX, &mut io::sink()),
        }
    }

    /// Writes all its bytes, inflated and checked, to `out`; at most `limit`. Holds 64 KiB at a time.
    pub(super) fn copy(
        &self,
        file: &mut (impl Read + Seek),
        limit: u64,
        out: &mut impl Write,
    ) -> Result<(), ArchiveProblem> {
        let name = || self.name.clone();
        if self.size > limit {
            return Err(ArchiveProblem::TooLarge { name: name(), found: self.size, limit });
        }
        file.seek(SeekFrom::Start(self.data.start))?;
        let stored = file.take(self.data.len);
        let mut source: Box<dyn Read + '_> = match self.deflated {
            true => Box::new(flate2::read::DeflateDecoder::new(stored)),
            false => Box::new(stored),
        };
        let mut crc = crc32fast::Hasher::new();
        let mut buffer = vec![0; 1 << 16];
        let mut done = 0;
        loop {
            let n = match source.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if self.deflated => {
                    return Err(ArchiveProblem::Inflate { name: name(), message: e.to_string() });
                }
                Err(e) => return Err(e.into()),
            };
            done += n as u64;
            if n == 0 || done > self.size {
                break;
            }
            crc.update(&buffer[..n]);
            out.write_all(&buffer[..n])?;
        }
        if done != self.size {
            let more = if done > self.size { "more" } else { "less" };
            let message = format!("inflates to {more} than the {} bytes of the directory", self.size);
            return Err(ArchiveProblem::Inflate { name: name(), message });
        }
        let (found, expected) = (crc.finalize(), self.crc32);
        match expected == 0 || found == expected {
            true => Ok(()),
            false => Err(ArchiveProblem::Checksum { name: name(), found, expected }),
        }
    }
}

impl End {
    /// From the record that ends the file, or the zip64 one in front of it.
    fn find(file: &mut (impl Read + Seek), len: u64) -> Result<Self, ArchiveProblem> {
        let tail_len = len.min(22 + 0xffff);
        let tail_start = len - tail_len;
        let tail = read_at(file, Window { start: tail_start, len: tail_len })?;
        // The last record whose comment reaches exactly to the end of the file.
        let at = (0..tail.len().saturating_sub(21)).rev().find(|&i| {
            tail[i..].starts_with(b"PK\x05\x06") && i + 22 + usize::from(u16_at(&tail, i + 20)) == tail.len()
        });
        let Some(at) = at else { return Err(ArchiveProblem::NoEnd) };
        let end = &tail[at..];
        let mut disks = [4, 6].map(|i| u64::from(u16_at(end, i)));
        let mut records = u64::from(u16_at(end, 10));
        let mut directory = Window { start: u64::from(u32_at(end, 16)), len: u64::from(u32_at(end, 12)) };
        let mut limit = tail_start + at as u64;
        if at >= 20 && tail[at - 20..].starts_with(b"PK\x06\x07") {
            let start = u64_at(&tail, at - 20 + 8);
            let expected = limit.saturating_sub(56 + 20);
            let end = match start == expected {
                true => read_at(file, Window { start, len: 56 })?,
                false => Vec::new(),
            };
            if !end.starts_with(b"PK\x06\x06") {
                return Err(ArchiveProblem::NoEnd64 { at: start, expected });
            }
            disks = [16, 20].map(|i| u64::from(u32_at(&end, i)));
            records = u64_at(&end, 32);
            directory = Window { start: u64_at(&end, 48), len: u64_at(&end, 40) };
            limit = start;
        }
        let check = |ok: bool, what, found, expected: String| match ok {
            true => Ok(()),
            false => Err(ArchiveProblem::Directory { what, found, expected }),
        };
        check(disks == [0, 0], "disk number", disks[0].max(disks[1]), "0".into())?;
        check(records <= MAX_ENTRIES, "number of entries", records, format!("at most {MAX_ENTRIES}"))?;
        let most = format!("at most {MAX_DIRECTORY}");
        check(directory.len <= MAX_DIRECTORY, "length of the directory", directory.len, most)?;
        let end = directory.start.saturating_add(directory.len);
        check(end == limit, "end of the directory", end, format!("{limit}, where the end record begins"))?;
        Ok(Self { records, directory })
    }
}

/// A directory record: an entry whose data is not yet found.
struct Header {
    entry: Entry,
    /// Of its local header.
    offset: u64,
    method: u16,
}

impl Header {
    fn new(name: &str, record: &[u8], extra: &[u8]) -> Result<Self, ArchiveProblem> {
        let problem = |what, found: String, expected: &str| ArchiveProblem::Entry {
            name: name.to_string(),
            what,
            found,
            expected: expected.to_string(),
        };
        let (flags, method) = (u16_at(record, 8), u16_at(record, 10));
        if flags & 0x2041 != 0 {
            return Err(problem("flags word", format!("{flags:#06x}"), "an entry without encryption"));
        }
        if !matches!(method, 0 | 8) {
            return Err(problem("method", method.to_string(), "0 (stored) or 8 (deflate)"));
        }
        // Size, stored length and offset, in this order in the zip64 field where they do not fit.
        let mut numbers = [24, 20, 42].map(|i| u64::from(u32_at(record, i)));
        if numbers.contains(&0xffff_ffff) {
            let mut wide = zip64_field(extra).unwrap_or_default();
            for number in numbers.iter_mut().filter(|n| **n == 0xffff_ffff) {
                let Some((value, rest)) = wide.split_first_chunk::<8>() else {
                    return Err(problem("zip64 field", "too short".into(), "64-bit sizes"));
                };
                *number = u64::from_le_bytes(*value);
                wide = rest;
            }
        }
        let [size, stored, offset] = numbers;
        let deflated = method == 8;
        if !deflated && stored != size {
            return Err(problem("size", size.to_string(), &format!("{stored}, its stored length")));
        }
        if deflated && size > stored.saturating_mul(MAX_COMPRESSION) {
            let expected = format!("at most {MAX_COMPRESSION} times its {stored} stored bytes");
            return Err(problem("size", size.to_string(), &expected));
        }
        let data = Window { start: 0, len: stored };
        let entry = Entry { name: name.to_string(), data, size, crc32: u32_at(record, 16), deflated };
        Ok(Self { entry, offset, method })
    }

    /// The entry, with its data behind the local header, which must say the same; `next` begins at byte `limit`.
    fn locate(
        self,
        file: &mut (impl Read + Seek),
        limit: u64,
        next: String,
    ) -> Result<Entry, ArchiveProblem> {
        let Self { mut entry, offset, method } = self;
        let fixed = 30 + entry.name.len() as u64;
        let overlap = |name: &str, end| ArchiveProblem::Overlap { name: name.into(), end, next, limit };
        let header_end = offset.saturating_add(fixed);
        if header_end > limit {
            return Err(overlap(&entry.name, header_end));
        }
        let header = read_at(file, Window { start: offset, len: fixed })?;
        let same = header.starts_with(b"PK\x03\x04")
            && u16_at(&header, 8) == method
            && usize::from(u16_at(&header, 26)) == entry.name.len()
            && header[30..] == *entry.name.as_bytes();
        if !same {
            return Err(ArchiveProblem::Entry {
                what: "local header",
                found: format!("another one at byte {offset}"),
                expected: "the name and method of the directory".into(),
                name: entry.name,
            });
        }
        entry.data.start = header_end + u64::from(u16_at(&header, 28));
        let end = entry.data.start.saturating_add(entry.data.len);
        match end <= limit {
            true => Ok(entry),
            false => Err(overlap(&entry.name, end)),
        }
    }
}

/// The 64-bit sizes among the extra fields of a record.
fn zip64_field(mut extra: &[u8]) -> Option<&[u8]> {
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let field = rest.get(..usize::from(u16_at(head, 2)))?;
        if u16_at(head, 0) == 1 {
            return Some(field);
        }
        extra = &rest[field.len()..];
    }
    None
}

/// Refuses paths that would leave a folder, and names no writer uses.
fn check_name(name: &str) -> Result<(), ArchiveProblem> {
    let found = if name.is_empty() {
        "an empty name"
    } else if name.chars().any(char::is_control) {
        "a control character in its name"
    } else if name.contains('\\') {
        "a backslash in its name"
    } else if name.starts_with('/') {
        "an absolute path"
    } else if name.split('/').any(|part| part == "..") {
        "`..` in its path"
    } else {
        return Ok(());
    };
    let name = name.chars().take(200).flat_map(char::escape_debug).collect();
    Err(ArchiveProblem::Name { name, found })
}

fn read_at(file: &mut (impl Read + Seek), window: Window) -> Result<Vec<u8>, ArchiveProblem> {
    file.seek(SeekFrom::Start(window.start))?;
    let mut bytes = Vec::new();
    file.by_ref().take(window.len).read_to_end(&mut bytes)?;
    match bytes.len() as u64 == window.len {
        true => Ok(bytes),
        false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

// Little-endian numbers at places the callers have checked; 0 beyond the end.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}
