//! The log: takes complete frames, makes text of them if it must, and writes them where they belong.

use std::io::{Write, stderr};
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use super::file::RotatingFile;
use super::frames;
use super::socket::Readers;
use super::stream::{Note, Start, utc};
use super::text::Dictionary;

/// Where frames go.
pub(super) enum Sink {
    Stderr {
        /// Nothing was written yet.
        starts: bool,
        /// Frames lost since the last one that was written.
        dropped: u64,
    },
    File(RotatingFile),
    Socket(Readers),
}

/// A log that is being written.
pub(super) struct Log {
    sink: Sink,
    text: Option<Dictionary>,
    about: About,
}

/// What the notes in the stream say.
pub(super) struct About {
    build: Option<String>,
    is_text: bool,
    parts: u64,
    frames: u64,
}

impl Log {
    /// `text`: lines instead of frames, by these messages.
    pub(super) fn new(sink: Sink, text: Option<Dictionary>, build: Option<String>) -> Self {
        let about = About { build, is_text: text.is_some(), parts: 0, frames: 0 };
        Self { sink, text, about }
    }

    pub(super) fn is_text(&self) -> bool {
        self.text.is_some()
    }

    /// Writes a frame: defmt's own bytes if this log [is text](Self::is_text), else rzCOBS with its zero byte.
    pub(super) fn put(&mut self, frame: &[u8]) {
        let line = self.text.as_ref().map(|text| text.line(frame).into_bytes());
        let frame = line.as_deref().unwrap_or(frame);
        match &mut self.sink {
            Sink::Stderr { starts, dropped } => {
                let start = if *starts { self.about.start() } else { Vec::new() };
                let bytes = [start, self.about.gap(*dropped), frame.to_vec()].concat();
                match stderr().write_all(&bytes) {
                    Ok(()) => (*starts, *dropped) = (false, 0),
                    Err(_) => {
                        *dropped += 1;
                        super::count_dropped();
                    }
                }
            }
            Sink::File(file) => file.write(frame, &mut self.about),
            Sink::Socket(readers) => readers.write(frame, &self.about),
        }
        self.about.frames += 1;
    }

    /// A reader has come to the socket.
    pub(super) fn add_reader(&mut self, reader: UnixStream) {
        if let Sink::Socket(readers) = &mut self.sink {
            readers.add(reader, &mut self.about);
        }
    }

    pub(super) fn finish(&mut self) {
        if let Sink::Socket(readers) = &mut self.sink {
            readers.finish(&self.about);
        }
    }
}

impl About {
    /// The note that opens the next part.
    pub(super) fn start(&mut self) -> Vec<u8> {
        let now = SystemTime::now();
        let start = Start {
            build: self.build.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            // A board without a battery for its clock learns the time only after the program began.
            started: utc(now.checked_sub(frames::elapsed()).unwrap_or(now)),
            process: std::process::id(),
            part: self.parts,
            frames: self.frames,
        };
        self.parts += 1;
        self.bytes(&Note::Start(start))
    }

    /// The note that `dropped` frames are missing; empty if none are.
    pub(super) fn gap(&self, dropped: u64) -> Vec<u8> {
        if dropped == 0 { Vec::new() } else { self.bytes(&Note::Dropped(dropped)) }
    }

    pub(super) fn is_text(&self) -> bool {
        self.is_text
    }

    fn bytes(&self, note: &Note) -> Vec<u8> {
        match self.is_text {
            true => format!("{note}\n"),
            // The zero byte in front ends what another process may have left unfinished.
            false => format!("\0{note}\0"),
        }
        .into_bytes()
    }
}
