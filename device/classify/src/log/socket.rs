//! A log that readers of a Unix socket get: they come and go, and a slow one loses frames instead of time for all.
//!
//! ```text
//! reader ── connects ─► opening note ─► frames from now on ─► [its buffer is full: dropped] ─► "dropped=12" ─► frames
//! ```
//!
//! Writes never wait. What the system took only a part of is kept, one frame at most, and goes first next time.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::count_dropped;
use super::sink::About;

/// More are turned away.
const MAX_READERS: usize = 8;

/// Those who read the log now.
pub(super) struct Readers {
    path: PathBuf,
    readers: Vec<Reader>,
}

struct Reader {
    stream: UnixStream,
    /// The rest of a frame.
    rest: Vec<u8>,
    /// Frames lost since the last one that was sent.
    dropped: u64,
}

/// A socket at `path`, in place of one that a program left that no longer runs.
///
/// # Errors
/// When something else is at `path`, a program listens there, or it cannot be created.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::other("something that is no socket has this name"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::other("another program writes to it"));
        }
        fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

impl Readers {
    /// Nobody yet.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), readers: Vec::new() }
    }

    /// A reader gets the opening note at once and frames from now on.
    pub(super) fn add(&mut self, stream: UnixStream, about: &mut About) {
        if self.readers.len() >= MAX_READERS {
            // Those that have gone are noticed when they are written to.
            self.readers.retain_mut(Reader::is_there);
        }
        if self.readers.len() >= MAX_READERS || stream.set_nonblocking(true).is_err() {
            return;
        }
        let mut reader = Reader { stream, rest: about.start(), dropped: 0 };
        if reader.flush().is_ok() {
            self.readers.push(reader);
        }
    }

    /// Sends a frame to everyone who takes it.
    pub(super) fn write(&mut self, frame: &[u8], about: &About) {
        self.readers.retain_mut(|reader| reader.send(frame, about).is_ok());
    }

    /// Sends what is left and what is lost, as far as it is taken, and removes the socket's name.
    pub(super) fn finish(&mut self, about: &About) {
        for reader in &mut self.readers {
            reader.rest.extend(about.gap(reader.dropped));
            // A reader that takes no more, or has gone: so be it.
            let _ = reader.flush();
        }
        self.readers.clear();
        let _ = fs::remove_file(&self.path);
    }
}

impl Reader {
    /// Fails when the reader has gone.
    fn send(&mut self, frame: &[u8], about: &About) -> io::Result<()> {
        self.flush()?;
        if !self.rest.is_empty() {
            return self.drop_one();
        }
        let gap = about.gap(self.dropped);
        self.rest = [&gap, frame].concat();
        let len = self.rest.len();
        self.flush()?;
        if self.rest.len() == len {
            self.rest.clear();
            return self.drop_one();
        }
        self.dropped = 0;
        Ok(())
    }

    fn drop_one(&mut self) -> io::Result<()> {
        self.dropped += 1;
        count_dropped();
        Ok(())
    }

    /// Writes as much of `rest` as the system takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.stream.write(&self.rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => drop(self.rest.drain(..n)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the other end is open: a reader that has gone reads as an end.
    fn is_there(&mut self) -> bool {
        use std::io::Read;
        !matches!(self.stream.read(&mut [0]), Ok(0))
    }
}
