//! Frames from files: for tests, for people without a camera, and for cameras that another program reads.
//!
//! A file gives each frame, however long the network takes; at a rate (`--capture-fps`), or from a pipe, it is like a camera:
//! frames that come too early are dropped. See [`super::source`] for what files hold.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Settings;
use super::choose::Size;
use super::frame::{Captured, Frame, Pixels};
use super::mjpeg::Splitter;
use super::source::{Next, Source};
use super::yuv::Colours;
use crate::picture;

/// Names of pictures in a folder.
const PICTURES: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];
/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// A folder or a stream, replayed.
pub(super) struct Recording {
    frames: Frames,
    description: String,
    is_live: bool,
    repeat: bool,
    interval: Option<Duration>,
    /// When the next frame is due, at a rate.
    due: Instant,
    /// Frames given since the beginning or the last repetition.
    n_frames: u64,
}

enum Frames {
    Folder { pictures: Vec<PathBuf>, next: usize },
    Stream(Stream),
}

/// A file or a pipe.
struct Stream {
    file: File,
    is_pipe: bool,
    /// The first bytes, which told what it is.
    start: VecDeque<u8>,
    cut: Cut,
    is_at_end: bool,
}

/// How a stream is cut into frames.
enum Cut {
    Mjpeg(Splitter),
    Yuyv { size: (usize, usize), bytes: Vec<u8> },
}

impl Recording {
    /// Opens the folder or the file at `path`; standard input for `-`.
    pub(super) fn open(path: &Path, settings: &Settings) -> Result<Self> {
        let frames = if path.is_dir() {
            Frames::Folder { pictures: pictures(path)?, next: 0 }
        } else if path == Path::new("-") {
            Frames::Stream(Stream::new(File::from(io::stdin().as_fd().try_clone_to_owned()?), settings.size)?)
        } else {
            Frames::Stream(Stream::new(File::open(path)?, settings.size)?)
        };
        let (mut description, is_pipe) = match &frames {
            Frames::Folder { pictures, .. } => (format!("{} pictures", pictures.len()), false),
            Frames::Stream(Stream { cut: Cut::Mjpeg(_), is_pipe, .. }) => {
                ("a stream of MJPEG".to_owned(), *is_pipe)
            }
            Frames::Stream(Stream { cut: Cut::Yuyv { size, .. }, is_pipe, .. }) => {
                (format!("a stream of {}x{} YUYV", size.0, size.1), *is_pipe)
            }
        };
        if is_pipe && settings.repeat {
            bail!("a pipe cannot be repeated, expected a file or a folder");
        }
        if let Some(rate) = settings.capture_fps {
            description += &format!(", {rate} frames a second");
        }
        Ok(Self {
            frames,
            description,
            is_live: is_pipe || settings.capture_fps.is_some(),
            repeat: settings.repeat,
            interval: settings.capture_fps.map(|fps| Duration::from_secs_f64(1.0 / f64::from(fps))),
            due: Instant::now(),
            n_frames: 0,
        })
    }

    /// Begins anew; whether there is anything to begin with.
    fn rewind(&mut self) -> Result<bool> {
        if !self.repeat || self.n_frames == 0 {
            return Ok(false);
        }
        self.n_frames = 0;
        match &mut self.frames {
            Frames::Folder { next, .. } => *next = 0,
            Frames::Stream(stream) => {
                stream.file.rewind()?;
                stream.is_at_end = false;
            }
        }
        Ok(true)
    }
}

impl Source for Recording {
    fn describe(&self) -> &str {
        &self.description
    }

    fn is_live(&self) -> bool {
        self.is_live
    }

    fn may_return(&self) -> bool {
        false
    }

    fn next(&mut self, _spare: Vec<u8>, timeout: Duration) -> Result<Next> {
        let now = Instant::now();
        if self.interval.is_some() && now < self.due {
            sleep((self.due - now).min(timeout));
            if Instant::now() < self.due {
                return Ok(Next::Nothing);
            }
        }
        let next = match &mut self.frames {
            Frames::Folder { pictures, next } => match pictures.get(*next) {
                Some(picture) => {
                    *next += 1;
                    picture_of(picture)
                }
                None => Next::End,
            },
            Frames::Stream(stream) => stream.next(timeout)?,
        };
        match next {
            Next::End if self.rewind()? => return Ok(Next::Nothing),
            Next::Frame(_) | Next::Damaged(_) => {
                self.n_frames += 1;
                // From when it was due, so that the rate is kept; not from long ago, after a pause.
                if let Some(interval) = self.interval {
                    self.due = (self.due + interval).max(now);
                }
            }
            Next::End | Next::Nothing => {}
        }
        Ok(next)
    }
}

/// The pictures in a folder, by name.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        if extension.is_some_and(|e| PICTURES.contains(&e.as_str())) && path.is_file() {
            pictures.push(path);
        }
    }
    if pictures.is_empty() {
        bail!("no picture in the folder, expected names that end in {}", PICTURES.join(", "));
    }
    pictures.sort();
    Ok(pictures)
}

fn picture_of(path: &Path) -> Next {
    match File::open(path).map_err(Error::from).and_then(picture::read) {
        Ok(bytes) => Next::Frame(frame(bytes, Pixels::File)),
        Err(error) => Next::Damaged(error.context(format!("cannot read {}", path.display()))),
    }
}

fn frame(bytes: Vec<u8>, pixels: Pixels) -> Frame {
    Frame { bytes, pixels, captured: Captured::ago(Duration::ZERO) }
}

impl Stream {
    fn new(mut file: File, size: Option<Size>) -> Result<Self> {
        let is_pipe = !file.metadata()?.is_file();
        let mut start = Vec::new();
        (&mut file).take(3).read_to_end(&mut start).context("cannot read")?;
        let cut = match (start.as_slice(), size) {
            ([], _) => bail!("the stream is empty, expected MJPEG or YUYV frames"),
            ([0xff, 0xd8, 0xff], _) => Cut::Mjpeg(Splitter::default()),
            (_, Some((width, height))) if width % 2 == 0 => {
                Cut::Yuyv { size: (width as usize, height as usize), bytes: Vec::new() }
            }
            (_, Some((width, height))) => {
                bail!("YUYV frames of {width}x{height} pixels, expected an even width");
            }
            (_, None) => {
                bail!("not MJPEG (ff d8 ff); the size of raw YUYV frames is expected, as in --size 640x480")
            }
        };
        if is_pipe {
            return Ok(Self { file, is_pipe, start: start.into(), cut, is_at_end: false });
        }
        file.rewind()?;
        Ok(Self { file, is_pipe, start: VecDeque::new(), cut, is_at_end: false })
    }

    fn next(&mut self, timeout: Duration) -> Result<Next> {
        loop {
            if let Some(frame) = self.cut.next() {
                return Ok(Next::Frame(frame));
            }
            if self.is_at_end {
                return Ok(self.cut.rest().map_or(Next::End, Next::Frame));
            }
            if self.is_pipe && self.start.is_empty() && !is_ready(&self.file, timeout)? {
                return Ok(Next::Nothing);
            }
            let mut piece = [0; PIECE];
            let n_bytes =
                if self.start.is_empty() { self.file.read(&mut piece) } else { self.start.read(&mut piece) };
            match n_bytes {
                Ok(0) => self.is_at_end = true,
                Ok(n_bytes) => self.cut.push(&piece[..n_bytes]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read"),
            }
        }
    }
}

/// Whether a pipe has bytes, or its end, within `timeout`.
fn is_ready(file: &File, timeout: Duration) -> Result<bool> {
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
    match poll(&mut fds, Some(&timeout)) {
        Ok(n_ready) => Ok(n_ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Cut {
    fn push(&mut self, piece: &[u8]) {
        match self {
            Self::Mjpeg(splitter) => splitter.push(piece),
            Self::Yuyv { bytes, .. } => bytes.extend_from_slice(piece),
        }
    }

    fn next(&mut self) -> Option<Frame> {
        match self {
            Self::Mjpeg(splitter) => splitter.next().map(|bytes| frame(bytes, Pixels::Mjpeg)),
            Self::Yuyv { size, bytes } => {
                let n_bytes = size.0 * size.1 * 2;
                if bytes.len() < n_bytes {
                    return None;
                }
                let rest = bytes.split_off(n_bytes);
                Some(frame(std::mem::replace(bytes, rest), yuyv(*size)))
            }
        }
    }

    /// What is left at the end: half a frame, which the decoder refuses.
    fn rest(&mut self) -> Option<Frame> {
        match self {
            Self::Mjpeg(splitter) => splitter.rest().map(|bytes| frame(bytes, Pixels::Mjpeg)),
            Self::Yuyv { bytes, .. } if bytes.is_empty() => None,
            Self::Yuyv { size, bytes } => Some(frame(std::mem::take(bytes), yuyv(*size))),
        }
    }
}

fn yuyv(size: (usize, usize)) -> Pixels {
    Pixels::Yuyv { size, bytes_per_line: size.0 * 2, colours: Colours::DEFAULT }
}
