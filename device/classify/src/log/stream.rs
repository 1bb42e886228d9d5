//! What a log stream says about itself, in frames of plain text between defmt's: whose it is, when it began, what is lost.
//!
//! ```text
//! defmt form   00 "vgg-edge-log 1 build=<hex> ..." 00   frame 00   frame 00   00 "vgg-edge-log 1 dropped=12" 00   frame 00
//! text form    vgg-edge-log 1 build=<hex> started=2026-11-24T18:45:56.120031Z process=812 version=0.1.0 part=0 frames=0
//!              0.001234 INFO  model loaded: 22 layers, 1124352 bytes, 3.1 ms
//!              vgg-edge-log 1 dropped=12
//! ```
//!
//! The first kind opens every file, also after a rotation, and everything that a socket's reader gets. No frame of defmt
//! begins so: its first two bytes would be the id of a message, and there are far fewer. `cargo xtask logs` reads this file,
//! too, so that both sides agree.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What every note begins with: name and version of this form.
pub(crate) const MAGIC: &str = "vgg-edge-log 1 ";
/// Most bytes of a note; what is longer is none.
const MAX_BYTES: usize = 400;

/// A frame or line about the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A part begins.
    Start(Start),
    /// So many frames are missing here.
    Dropped(u64),
}

/// Who writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// The linker's id of the program, hexadecimal; `None` where the program could not read it.
    pub(crate) build: Option<String>,
    /// Of the program.
    pub(crate) version: String,
    /// When the program began, by the clock as it is when this part begins: ISO 8601, UTC.
    pub(crate) started: String,
    /// The program's process.
    pub(crate) process: u32,
    /// Parts that the process began before this one: files, and what other readers got.
    pub(crate) part: u64,
    /// Frames that the process logged before this part.
    pub(crate) frames: u64,
}

impl Note {
    /// The note that a frame (without its zero bytes) or a line is; `None` when it is a message.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..bytes.len().min(MAX_BYTES))?).ok()?.strip_prefix(MAGIC)?;
        let field = |name: &str| {
            text.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let number = |name: &str| field(name)?.parse::<u64>().ok();
        if let Some(n) = number("dropped") {
            return Some(Self::Dropped(n));
        }
        let build = field("build")?;
        Some(Self::Start(Start {
            build: (build != "none").then(|| build.to_owned()),
            version: field("version").unwrap_or_default().to_owned(),
            started: field("started").unwrap_or_default().to_owned(),
            process: number("process").and_then(|n| n.try_into().ok()).unwrap_or_default(),
            part: number("part").unwrap_or_default(),
            frames: number("frames").unwrap_or_default(),
        }))
    }
}

impl Display for Note {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(MAGIC)?;
        match self {
            Self::Dropped(n) => write!(f, "dropped={n}"),
            Self::Start(s) => write!(
                f,
                "build={} started={} process={} version={} part={} frames={}",
                s.build.as_deref().unwrap_or("none"),
                s.started,
                s.process,
                s.version,
                s.part,
                s.frames
            ),
        }
    }
}

/// A time as `2026-11-24T18:45:56.120031Z`; before 1970 it is 1970.
pub(crate) fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years from March: the leap day is the last one. 719,468 days before 1970 such a year 0 began, and 400 years have
    // 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    format!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        era * 400 + year,
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_micros()
    )
}
