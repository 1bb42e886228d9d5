//! A log file that never grows beyond its bound: full files are renamed, the oldest goes away.
//!
//! ```text
//! FILE.2 ─► FILE.3 (replaced)    FILE.1 ─► FILE.2    FILE ─► FILE.1    a new FILE        with 4 files
//! ```
//!
//! A program that starts goes on behind what is there. A frame is one write, so whoever kills this process leaves whole
//! frames; a piece that a full or failing storage leaves is taken back. Where the folder allows no renaming, the file is
//! emptied instead: the bound holds, and the newest messages are kept.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::count_dropped;
use super::sink::About;

/// The most that a log may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a file.
    pub(super) bytes: u64,
    /// Files, with the current one; at least 1.
    pub(super) files: u32,
}

/// The current file of a log.
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    len: u64,
    limits: Limits,
    /// The next write opens a part.
    starts: bool,
    /// The last line has no end.
    torn: bool,
    /// Frames lost since the last one that was written.
    dropped: u64,
}

impl RotatingFile {
    /// Opens or creates the file at `path`, to write behind what it has. `is_text`: lines, not frames.
    ///
    /// # Errors
    /// When it cannot be created, is no regular file, or another program writes to it.
    pub(super) fn open(path: &Path, limits: Limits, is_text: bool) -> io::Result<Self> {
        // A pipe without a reader would keep us waiting in `open`.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(io::Error::other("not a regular file"));
        }
        let mut file = append(path)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(io::Error::other("another program writes to it"));
        }
        let len = file.metadata()?.len();
        let mut last = [b'\n'];
        if is_text && len > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        // Left by a run that was allowed more files.
        let mut extra = (limits.files.max(1)..).map(|n| numbered(path, n));
        while extra.next().is_some_and(|path| fs::remove_file(path).is_ok()) {}
        Ok(Self { path: path.to_owned(), file, len, limits, starts: true, torn: last != [b'\n'], dropped: 0 })
    }

    /// Writes a frame, to the next file if this one is full. What cannot be written is dropped and counted.
    pub(super) fn write(&mut self, frame: &[u8], about: &mut About) {
        match self.try_write(frame, about) {
            Ok(()) => self.dropped = 0,
            Err(_) => {
                self.dropped += 1;
                count_dropped();
            }
        }
    }

    fn try_write(&mut self, frame: &[u8], about: &mut About) -> io::Result<()> {
        let mut bytes = self.framed(frame, about);
        if self.len > 0 && self.len + bytes.len() as u64 > self.limits.bytes {
            self.rotate()?;
            bytes = self.framed(frame, about);
        }
        if self.len + bytes.len() as u64 > self.limits.bytes {
            return Err(ErrorKind::FileTooLarge.into());
        }
        if let Err(error) = self.file.write_all(&bytes) {
            self.take_back();
            return Err(error);
        }
        self.len += bytes.len() as u64;
        (self.starts, self.torn) = (false, false);
        Ok(())
    }

    /// The frame behind the notes that belong before it.
    fn framed(&self, frame: &[u8], about: &mut About) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.torn && about.is_text() {
            bytes.push(b'\n');
        }
        if self.starts {
            bytes.extend(about.start());
        }
        bytes.extend(about.gap(self.dropped));
        bytes.extend_from_slice(frame);
        bytes
    }

    /// Removes the piece of a frame that was written.
    fn take_back(&mut self) {
        if self.file.set_len(self.len).is_err() {
            self.len = self.file.metadata().map_or(self.len, |found| found.len());
            (self.starts, self.torn) = (true, true);
        }
    }

    /// Begins a new file.
    fn rotate(&mut self) -> io::Result<()> {
        if self.limits.files > 1 && self.shift().is_ok() {
            let file = append(&self.path)?;
            // Nobody else has it: it is new.
            let _ = file.try_lock();
            self.len = file.metadata()?.len();
            self.file = file;
        } else {
            self.file.set_len(0)?;
            self.len = 0;
        }
        (self.starts, self.torn) = (true, false);
        Ok(())
    }

    /// Renames every file to the next older name; those that are missing leave a gap.
    fn shift(&self) -> io::Result<()> {
        if !self.path.try_exists()? {
            return Ok(());
        }
        for n in (1..self.limits.files).rev() {
            let from = if n == 1 { self.path.clone() } else { numbered(&self.path, n - 1) };
            match fs::rename(from, numbered(&self.path, n)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

/// `FILE.n`.
fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}
