//! A log file with those that were rotated away, oldest first, as one stream; followed on request.
//!
//! ```text
//! FILE.3  FILE.2  FILE.1  FILE  ─► ... FILE was renamed to FILE.1: the rest of it, then what came after ─► new FILE
//! ```

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Between two looks at a file that is followed.
const PAUSE: Duration = Duration::from_millis(100);
/// Rotated files that are looked for.
const MAX_FILES: u32 = 1_000;

/// Reads a log's files.
pub struct Files {
    path: PathBuf,
    follow: bool,
    current: File,
    next: VecDeque<File>,
}

impl Files {
    /// Opens the log `path` and its rotated files `path.N` .. `path.1`; `follow`: its end is waited at.
    ///
    /// # Errors
    /// When `path` cannot be opened.
    pub fn open(path: &Path, follow: bool) -> io::Result<Self> {
        let current = File::open(path)?;
        let mut next = VecDeque::from([current]);
        // From the newest on: one that is renamed meanwhile is found twice, not missed.
        newer_than(path, 1, None, &mut next)?;
        let current = next.pop_front().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { path: path.to_owned(), follow, current, next })
    }

    /// Files that came behind the current one.
    fn successors(&self) -> io::Result<VecDeque<File>> {
        let mut next = VecDeque::new();
        newer_than(&self.path, 0, Some(&self.current), &mut next)?;
        Ok(next)
    }
}

impl Read for Files {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.current.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            if let Some(next) = self.next.pop_front() {
                self.current = next;
                continue;
            }
            if !self.follow {
                return Ok(0);
            }
            if self.current.metadata()?.len() < self.current.stream_position()? {
                // It was emptied.
                self.current.rewind()?;
                continue;
            }
            // The current file may have grown before it was renamed: it is read once more.
            self.next = self.successors()?;
            if self.next.is_empty() {
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Adds to the front of `found`: the files `path.<from>` (0: `path`) and older ones, up to `end`, which is left out.
fn newer_than(path: &Path, from: u32, end: Option<&File>, found: &mut VecDeque<File>) -> io::Result<()> {
    let end = end.map(identity).transpose()?;
    for n in from..MAX_FILES {
        let name = if n == 0 { path.to_owned() } else { numbered(path, n) };
        let Ok(file) = File::open(&name) else {
            // A file is away for a moment while it is rotated; a missing older one is the last.
            if n == 0 { continue } else { break }
        };
        let this = identity(&file)?;
        if Some(this) == end {
            break;
        }
        let is_new = match found.front() {
            Some(last) => identity(last)? != this,
            None => true,
        };
        if is_new {
            found.push_front(file);
        }
    }
    Ok(())
}

/// Tells files apart, whatever their names.
#[cfg(unix)]
fn identity(file: &File) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata()?;
    Ok((found.dev(), found.ino()))
}

/// Tells files apart by when they were created.
#[cfg(not(unix))]
fn identity(file: &File) -> io::Result<(u64, u64)> {
    let created = file.metadata()?.created()?.duration_since(std::time::UNIX_EPOCH);
    Ok(created.map_or((0, 0), |time| (time.as_secs(), u64::from(time.subsec_nanos()))))
}

/// `FILE.n`.
fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}
