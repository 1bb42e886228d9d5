//! The log of this program: defmt messages to a file, to stderr or to a Unix socket, as frames or as text.
//!
//! ```text
//! defmt::info!(..) ─► frames (ids and values) ─┬─ rzCOBS ──────────────► file | stderr | socket ─► cargo xtask logs
//!                                              └─ text (own symbols) ─┘
//!
//! --log stderr            --log FILE: FILE, FILE.1 .. FILE.<N-1>, oldest last        --log unix:PATH: any number come and go
//! ```
//!
//! defmt is the only source of messages. A message's text is the name of a symbol in a section that is never loaded; what
//! is written are its address and the values. The text form decodes that here: `cargo xtask build` strips the program, but
//! leaves those names (a few KB), and `--log-format text` reads them from the program's own file. A second set of formatted
//! strings at every call would be larger, and would have to be kept the same by hand.
//!
//! A log that cannot be written must not stop the work: frames are dropped, counted ([`dropped`]), and the stream says
//! how many once it can be written again.

mod elf;
mod file;
mod frames;
mod sink;
mod socket;
#[allow(dead_code, reason = "reading is for `cargo xtask logs`, which has this file, too")]
mod stream;
mod text;

use std::fs::File;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap::error::ErrorKind;

use self::file::{Limits, RotatingFile};
use self::sink::{Log, Sink};
use self::socket::Readers;
use self::text::Dictionary;
pub(crate) use self::text::NoMessages;

/// Where the log goes.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LogArgs {
    /// Log to FILE, to `stderr`, or to the readers of the Unix socket `unix:PATH`; `cargo xtask logs` decodes it
    #[arg(id = "log", long = "log", global = true, value_name = "SINK")]
    sink: Option<PathBuf>,
    /// defmt: ids and values, a few bytes a message; text: lines for people [default: defmt]
    #[arg(id = "log-format", long = "log-format", global = true, value_name = "FORMAT")]
    format: Option<LogFormat>,
    /// KiB that a log file may have before the next one is begun [default: 1024]
    #[arg(id = "log-size", long = "log-size", global = true, value_name = "KIB", value_parser = clap::value_parser!(u32).range(4..))]
    size: Option<u32>,
    /// Log files kept, with the current one; older ones are FILE.1, FILE.2 ... [default: 4]
    #[arg(id = "log-files", long = "log-files", global = true, value_name = "N")]
    files: Option<NonZeroU32>,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Defmt,
    Text,
}

/// Frames that could not be written, to any reader.
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// So that a program full of open files does not turn in circles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Of the thread that waits for readers.
const STACK_BYTES: usize = 128 << 10;

/// Starts logging as `args` say; without `--log` nothing is logged.
///
/// # Errors
/// When the file or the socket cannot be opened, when another program writes to it, when this program has no messages to
/// make text of, and as wrong usage when an option has nothing to act on.
pub(crate) fn start(args: &LogArgs) -> Result<()> {
    let is_file =
        args.sink.as_deref().is_some_and(|sink| sink != Path::new("stderr") && socket_path(sink).is_none());
    let needs_file = [("--log-size <KIB>", args.size.is_some()), ("--log-files <N>", args.files.is_some())];
    if let Some((option, _)) = needs_file.iter().find(|(_, given)| *given && !is_file) {
        return Err(wrong_use(option, "--log <FILE>"));
    }
    let Some(sink) = args.sink.as_deref() else {
        return match args.format {
            Some(_) => Err(wrong_use("--log-format <FORMAT>", "--log <SINK>")),
            None => Ok(()),
        };
    };
    frames::start_clock();
    let cannot = || format!("cannot write the log {}", sink.display());
    let text = match args.format {
        Some(LogFormat::Text) => Some(own_messages().with_context(cannot)?),
        _ => None,
    };
    let (sink, listener) = if let Some(path) = socket_path(sink) {
        let listener = socket::listen(path).with_context(cannot)?;
        (Sink::Socket(Readers::new(path)), Some(listener))
    } else if is_file {
        let limits = Limits {
            bytes: u64::from(args.size.unwrap_or(1024)) * 1024,
            files: args.files.map_or(4, NonZeroU32::get),
        };
        (Sink::File(RotatingFile::open(sink, limits, text.is_some()).with_context(cannot)?), None)
    } else {
        (Sink::Stderr { starts: true, dropped: 0 }, None)
    };
    frames::set(Some(Log::new(sink, text, own_build())));
    if let Some(listener) = listener {
        let accept = move || loop {
            match listener.accept() {
                Ok((reader, _)) => frames::with(|log| log.add_reader(reader)),
                Err(_) => thread::sleep(ACCEPT_PAUSE),
            }
        };
        let spawned = thread::Builder::new().name("log".to_owned()).stack_size(STACK_BYTES).spawn(accept);
        spawned.context("cannot start the log's thread")?;
    }
    Ok(())
}

/// Ends the log: what readers have not been sent is sent as far as they take it, and a socket's name goes away.
pub(crate) fn finish() {
    frames::with(Log::finish);
    frames::set(None);
}

/// Frames that could not be written since the start: the storage was full, or a reader was too slow.
#[cfg_attr(not(feature = "serve"), allow(dead_code, reason = "for the server's metrics"))]
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

fn count_dropped() {
    DROPPED.fetch_add(1, Ordering::Relaxed);
}

/// The path behind `unix:`.
fn socket_path(sink: &Path) -> Option<&Path> {
    use std::os::unix::ffi::OsStrExt;
    let path = sink.as_os_str().as_bytes().strip_prefix(b"unix:")?;
    Some(Path::new(std::ffi::OsStr::from_bytes(path)))
}

/// This program's file, even when a newer one has taken its name.
fn own_file() -> std::io::Result<File> {
    File::open("/proc/self/exe")
}

/// The id that the linker gave this program; absent where the system does not show programs themselves.
fn own_build() -> Option<String> {
    elf::build_id(&mut own_file().ok()?).ok()?
}

fn own_messages() -> Result<Dictionary> {
    let mut file = own_file().context("cannot read this program's messages")?;
    Ok(Dictionary::read(&mut file).context("cannot read this program's messages")?.ok_or(NoMessages)?)
}

fn wrong_use(option: &str, needed: &str) -> anyhow::Error {
    let message = format!("the argument '{option}' cannot be used without '{needed}'");
    crate::args::Args::command().error(ErrorKind::MissingRequiredArgument, message).into()
}
