//! The part of a file that has arrived: `NAME.part`, and in `NAME.part.tag` which version of the file it is of.
//!
//! ```text
//! vgg16.h5.part       the first bytes of vgg16.h5, locked while a program writes to it
//! vgg16.h5.part.tag   "5e1f…" or Tue, 01 Mar 2016 10:00:00 GMT: the server's ETag or Last-Modified, for If-Range
//! ```
//!
//! Without a tag nobody can tell whether the rest still fits, so such a part is not kept.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::Problem;

/// Longest tag that is believed.
const MAX_TAG_BYTES: u64 = 1 << 10;

/// An open, locked part.
pub(super) struct Part {
    path: PathBuf,
    tag_path: PathBuf,
    file: File,
    len: u64,
    tag: Option<String>,
    /// Whether it came in more than one piece.
    pieces: bool,
}

impl Part {
    /// The part of `target` that is there, or an empty one.
    pub(super) fn open(target: &Path) -> Result<Self, Problem> {
        let path = with_suffix(target, ".part");
        let failed = |source| Problem::File { path: path.clone(), source };
        let mut open = OpenOptions::new();
        let file = open.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Problem::Locked { path }),
            Err(TryLockError::Error(source)) if source.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Another program may have renamed the part between opening and locking; then this is its finished file.
        let opened = file.metadata().map_err(failed)?;
        let still = fs::metadata(&path).is_ok_and(|m| (m.dev(), m.ino()) == (opened.dev(), opened.ino()));
        if !still {
            return Err(Problem::Locked { path });
        }
        let tag_path = with_suffix(target, ".part.tag");
        let mut part = Self { path, tag_path, file, len: opened.len(), tag: None, pieces: false };
        match read_tag(&part.tag_path) {
            Some(tag) if part.len > 0 => part.tag = Some(tag),
            _ => part.restart(None)?,
        }
        Ok(part)
    }

    /// Bytes that have arrived.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// What the server called this version of the file.
    pub(super) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Whether it came in more than one piece.
    pub(super) fn pieces(&self) -> bool {
        self.pieces
    }

    /// Notes that a piece follows that another connection brings.
    pub(super) fn resume(&mut self) {
        self.pieces = true;
    }

    /// Throws away what is there; what follows is of version `tag`.
    pub(super) fn restart(&mut self, tag: Option<String>) -> Result<(), Problem> {
        // First the tag: a program that is killed in between leaves a part that nobody trusts.
        match fs::remove_file(&self.tag_path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Problem::File { path: self.tag_path.clone(), source });
            }
            _ => {}
        }
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|source| Problem::File { path: self.path.clone(), source })?;
        (self.len, self.pieces) = (0, false);
        if let Some(tag) = &tag {
            fs::write(&self.tag_path, tag)
                .map_err(|source| Problem::File { path: self.tag_path.clone(), source })?;
        }
        self.tag = tag;
        Ok(())
    }

    /// Adds `bytes` behind what is there.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let written = self.file.seek(io::SeekFrom::Start(self.len)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|source| Problem::File { path: self.path.clone(), source })?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// What `digest` makes of all bytes.
    pub(super) fn read_all<T>(&mut self, digest: impl FnOnce(&File) -> io::Result<T>) -> Result<T, Problem> {
        self.file
            .rewind()
            .and_then(|()| digest(&self.file))
            .map_err(|source| Problem::File { path: self.path.clone(), source })
    }

    /// The part is the whole file: under its own name with it.
    pub(super) fn finish(self, target: &Path) -> Result<(), Problem> {
        let synced = self.file.sync_all();
        synced.map_err(|source| Problem::File { path: self.path.clone(), source })?;
        fs::rename(&self.path, target)
            .map_err(|source| Problem::File { path: target.to_path_buf(), source })?;
        let _ = fs::remove_file(&self.tag_path);
        Ok(())
    }

    /// Leaves it for the next program, if that one could go on with it.
    pub(super) fn leave(self) {
        if self.len == 0 || self.tag.is_none() {
            self.remove();
        }
    }

    /// Throws it away.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.tag_path);
        let _ = fs::remove_file(&self.path);
    }
}

fn with_suffix(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(OsString::from(suffix));
    name.into()
}

/// A tag that can stand in a header.
fn read_tag(path: &Path) -> Option<String> {
    let mut tag = String::new();
    File::open(path).ok()?.take(MAX_TAG_BYTES).read_to_string(&mut tag).ok()?;
    let tag = tag.trim();
    let printable = !tag.is_empty() && tag.bytes().all(|b| (b' '..=b'~').contains(&b));
    printable.then(|| tag.to_owned())
}
