//! A stream to lines: defmt frames by the program's messages, or lines that are text already.
//!
//! rzCOBS frames end with a zero byte, so a damaged frame is skipped and the next one is whole again. A stream whose first
//! bytes have no zero byte is text.

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use defmt_decoder::Frame;

use super::LogsError;
use super::program::Program;
use super::stream::{MAGIC, Note, Start};

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Less important messages are left out.
    pub level: Level,
    /// Adds file and line of the log call.
    pub locations: bool,
    /// Decodes what other or unknown builds wrote, too.
    pub any_build: bool,
    /// What is written from now on is awaited: when another build goes on writing, that is an error at once.
    pub follow: bool,
    /// One process writes all of the stream, as to a socket: another build is an error at once.
    pub one_process: bool,
}

/// How important a message is, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    /// Everything.
    #[default]
    Trace,
    /// What helps to find an error.
    Debug,
    /// What is done.
    Info,
    /// What may be wrong.
    Warn,
    /// What failed.
    Error,
}

/// What a stream held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames or lines decoded, those that were left out for their level among them.
    pub frames: u64,
    /// Frames skipped: damaged, or cut off.
    pub malformed: u64,
    /// Frames that the device lost: its storage was full, or a reader too slow.
    pub dropped: u64,
    /// Frames skipped because another build wrote them: that build, and how many.
    pub others: Vec<(String, u64)>,
    /// Frames skipped because the stream does not say who wrote them.
    pub unnamed: u64,
}

/// A longer frame or line is damaged.
const MAX_FRAME: usize = 1 << 16;

/// Decodes `stream` with the messages of the program `elf` (not read for a stream of text) and writes a line a frame to
/// `out`, which is flushed whenever the stream pauses.
///
/// # Errors
/// [`LogsError::WrongBuild`] or [`LogsError::UnknownBuild`] when nothing in the stream was written by this program;
/// [`LogsError::NoMessages`]; when `elf` is no program, or its defmt version is another; when reading or writing fails.
/// Damaged frames are counted, not errors.
pub fn decode(elf: &Path, mut stream: impl Read, out: impl Write, options: &Options) -> Result<Summary> {
    let mut out = BufWriter::new(out);
    let mut chunk = vec![0; MAX_FRAME];
    let n = stream.read(&mut chunk).context("cannot read the log")?;
    let lines = Lines { options: *options, out: &mut out, process: None };
    if n > 0 && !chunk[..n].contains(&0) {
        return Text { lines, shown: true, summary: Summary::default() }.decode(&mut chunk, n, &mut stream);
    }
    let program = Program::read(elf)?;
    let part = if options.any_build { Part::Own } else { Part::Unnamed };
    let mut frames = Frames { program: &program, lines, part, found_own: false, summary: Summary::default() };
    frames.decode(&mut chunk, n, &mut stream)?;
    frames.finish()
}

/// Calls `each` for what stands before every `end` in the stream, then for the rest; `false`: it was too long, or has no
/// end. `chunk` has the first `n` bytes.
fn split(
    chunk: &mut [u8],
    mut n: usize,
    stream: &mut impl Read,
    end: u8,
    mut each: impl FnMut(Piece<'_>) -> Result<()>,
) -> Result<()> {
    let (mut piece, mut too_long) = (Vec::new(), false);
    while n > 0 {
        for part in chunk[..n].split_inclusive(|&byte| byte == end) {
            let (part, is_end) = part.strip_suffix(&[end]).map_or((part, false), |part| (part, true));
            too_long |= piece.len() + part.len() > MAX_FRAME;
            if !too_long {
                piece.extend_from_slice(part);
            }
            if is_end {
                each(if too_long { Piece::Damaged } else { Piece::Whole(&piece) })?;
                piece.clear();
                too_long = false;
            }
        }
        each(Piece::Pause)?;
        n = stream.read(chunk).context("cannot read the log")?;
    }
    match (too_long, piece.is_empty()) {
        (true, _) => each(Piece::Damaged),
        (false, true) => Ok(()),
        (false, false) => each(Piece::CutOff(&piece)),
    }
}

enum Piece<'a> {
    Whole(&'a [u8]),
    CutOff(&'a [u8]),
    Damaged,
    /// What was read so far is all there is for now.
    Pause,
}

/// Writes lines.
struct Lines<'a, W: Write> {
    options: Options,
    out: &'a mut W,
    /// Process whose opening note was shown last, and when it started.
    process: Option<(u32, String)>,
}

impl<W: Write> Lines<'_, W> {
    /// One line a process, and whether it was written now: its files and readers all open with the same note.
    fn start(&mut self, start: &Start) -> io::Result<bool> {
        // To the second: the clock may be set while the process runs, a little.
        let key = (start.process, start.started.get(..19).unwrap_or_default().to_owned());
        if start.part > 0 && self.process.as_ref().is_some_and(|shown| shown.0 == key.0) {
            return Ok(false);
        }
        writeln!(
            self.out,
            "-- classify {}, process {}, started {}, build {}",
            clean(&start.version),
            start.process,
            clean(&start.started),
            clean(start.build.as_deref().unwrap_or("unknown"))
        )?;
        self.process = Some(key);
        Ok(true)
    }

    fn dropped(&mut self, n: u64) -> io::Result<()> {
        writeln!(self.out, "-- {n} frames lost here: the storage was full, or this reader too slow")
    }

    fn frame(&mut self, frame: &Frame<'_>, program: &Program) -> io::Result<()> {
        let name = frame.level().map_or("-", |level| level.as_str());
        if Level::from_str(name, true).is_ok_and(|level| level < self.options.level) {
            return Ok(());
        }
        let out = &mut *self.out;
        if let Some(timestamp) = frame.display_timestamp() {
            write!(out, "{timestamp} ")?;
        }
        let location = program.locations.get(&frame.index());
        let module = location.map_or("-", |location| location.module.as_str());
        write!(out, "{:<5} {module}  {}", name.to_uppercase(), clean(&frame.display_message().to_string()))?;
        if let Some(location) = location.filter(|_| self.options.locations) {
            write!(out, " ({}:{})", short(&location.file).display(), location.line)?;
        }
        writeln!(out)
    }
}

/// A stream of defmt frames.
struct Frames<'a, W: Write> {
    program: &'a Program,
    lines: Lines<'a, W>,
    part: Part,
    found_own: bool,
    summary: Summary,
}

/// Who wrote the part of the stream that is being read.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Unnamed,
    Own,
    /// The last one of [`Summary::others`].
    Other,
}

impl<W: Write> Frames<'_, W> {
    fn decode(&mut self, chunk: &mut [u8], n: usize, stream: &mut impl Read) -> Result<()> {
        split(chunk, n, stream, 0, |piece| {
            match piece {
                Piece::Whole([]) => {}
                Piece::Whole(frame) => match Note::parse(frame) {
                    Some(Note::Start(start)) => self.start(&start)?,
                    Some(Note::Dropped(n)) => {
                        self.summary.dropped += n;
                        self.lines.dropped(n)?;
                    }
                    None => self.frame(frame)?,
                },
                Piece::CutOff(_) | Piece::Damaged => self.summary.malformed += 1,
                Piece::Pause => self.lines.out.flush()?,
            }
            Ok(())
        })?;
        Ok(self.lines.out.flush()?)
    }

    fn start(&mut self, start: &Start) -> Result<()> {
        let is_new = self.lines.start(start)?;
        self.part = match &start.build {
            _ if self.lines.options.any_build => Part::Own,
            None => Part::Unnamed,
            build if *build == self.program.build => Part::Own,
            Some(build) => {
                // The last one is who writes now; an update gone back on is one build still.
                let others = &mut self.summary.others;
                let known = others.iter().position(|other| other.0 == *build);
                let other = known.map_or_else(|| (build.clone(), 0), |i| others.remove(i));
                others.push(other);
                Part::Other
            }
        };
        self.found_own |= self.part == Part::Own;
        let is_replaced = self.lines.options.follow && start.part == 0 && self.found_own;
        match self.part {
            Part::Other if is_replaced || self.lines.options.one_process => {
                self.lines.out.flush()?;
                bail!(self.wrong_build());
            }
            // The stream may have no end, at which this would be told.
            _ if !is_new => {}
            Part::Own => {}
            Part::Other => writeln!(self.lines.out, "-- not decoded: {}", self.wrong_build())?,
            Part::Unnamed => {
                let program = self.program.build_name();
                writeln!(self.lines.out, "-- not decoded: {}", LogsError::UnknownBuild { program })?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: &[u8]) -> Result<()> {
        match self.part {
            Part::Unnamed => self.summary.unnamed += 1,
            Part::Other => self.summary.others.iter_mut().last().into_iter().for_each(|other| other.1 += 1),
            Part::Own => {
                let mut decoder = self.program.table.new_stream_decoder();
                decoder.received(frame);
                decoder.received(&[0]);
                match decoder.decode() {
                    Ok(frame) => {
                        self.lines.frame(&frame, self.program)?;
                        self.summary.frames += 1;
                    }
                    Err(_) => self.summary.malformed += 1,
                }
            }
        }
        Ok(())
    }

    fn wrong_build(&self) -> LogsError {
        let program = self.program.build_name();
        match self.summary.others.last() {
            Some((stream, _)) => LogsError::WrongBuild { stream: stream.clone(), program },
            None => LogsError::UnknownBuild { program },
        }
    }

    fn finish(self) -> Result<Summary> {
        let skipped = self.summary.unnamed > 0 || !self.summary.others.is_empty();
        if skipped && !self.found_own && !self.lines.options.any_build {
            bail!(self.wrong_build());
        }
        Ok(self.summary)
    }
}

/// A stream of lines that the device has decoded.
struct Text<'a, W: Write> {
    lines: Lines<'a, W>,
    /// Whether the last message was; lines that are none go with it.
    shown: bool,
    summary: Summary,
}

impl<W: Write> Text<'_, W> {
    fn decode(mut self, chunk: &mut [u8], n: usize, stream: &mut impl Read) -> Result<Summary> {
        split(chunk, n, stream, b'\n', |piece| {
            match piece {
                Piece::Whole(line) | Piece::CutOff(line) => self.line(line)?,
                Piece::Damaged => self.summary.malformed += 1,
                Piece::Pause => self.lines.out.flush()?,
            }
            Ok(())
        })?;
        self.lines.out.flush()?;
        Ok(self.summary)
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        match Note::parse(line) {
            Some(Note::Start(start)) => return self.lines.start(&start).map(drop),
            Some(Note::Dropped(n)) => {
                self.summary.dropped += n;
                return self.lines.dropped(n);
            }
            None => {}
        }
        let text = String::from_utf8_lossy(line);
        let level = text.split_whitespace().nth(1).and_then(|word| Level::from_str(word, true).ok());
        if let Some(level) = level {
            self.shown = level >= self.lines.options.level;
            self.summary.frames += 1;
        }
        if self.shown && !text.is_empty() && !text.starts_with(MAGIC) {
            writeln!(self.lines.out, "{}", clean(&text))?;
        }
        Ok(())
    }
}

/// Without what would steer a terminal: messages hold names of files, which come from anywhere.
fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// A source path from its package folder on: builds record absolute paths.
fn short(file: &Path) -> &Path {
    let src = file.ancestors().find(|path| path.ends_with("src"));
    let package = src.and_then(Path::parent);
    let root = package.and_then(Path::parent).and_then(Path::parent);
    root.and_then(|root| file.strip_prefix(root).ok()).unwrap_or(file)
}
