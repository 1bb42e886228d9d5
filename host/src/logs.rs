//! The device's defmt stream as text, with the message texts taken from the unstripped program.
//!
//! ```text
//! 0.001234 INFO  classify::run  result: class 3, probability 0.81, 41.2 ms (device/classify/src/run.rs:98)
//! seconds  level module         message                                    (file:line, on request)
//! ```
//!
//! The program on the board may be stripped; ids in the stream are the same. rzCOBS frames end with a zero
//! byte, so a damaged frame is skipped and the next one is whole again.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use defmt_decoder::{DecodeError, Frame, Locations, Table};

/// What a stream held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames printed.
    pub frames: u64,
    /// Frames skipped: damaged, cut off, or of another program.
    pub malformed: u64,
}

/// Why a program cannot decode a stream.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The program has no `.defmt` section, or no symbols: it was stripped, or logs nothing.
    #[error("{path} has no .defmt messages")]
    NoMessages {
        /// The program's file.
        path: String,
    },
}

/// Decodes `stream` with the messages of the program `elf` and writes a line a frame to `out`, which is
/// flushed whenever the stream pauses. `show_locations` adds file and line of the log call.
///
/// # Errors
/// [`LogsError::NoMessages`]; when `elf` is no program, or its defmt version is another; when reading or
/// writing fails. Malformed frames are counted, not errors.
pub fn decode(
    elf: &Path,
    mut stream: impl Read,
    mut out: impl Write,
    show_locations: bool,
) -> Result<Summary> {
    let bytes = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let table = Table::parse(&bytes).with_context(|| format!("cannot use {}", elf.display()))?;
    let Some(table) = table.filter(|table| !table.is_empty()) else {
        bail!(LogsError::NoMessages { path: elf.display().to_string() });
    };
    // Without debug information there are no locations; the messages themselves do not need them.
    let locations = table.get_locations(&bytes).unwrap_or_default();
    decode_stream(&table, &locations, &mut stream, &mut out, show_locations)
}

fn decode_stream(
    table: &Table,
    locations: &Locations,
    stream: &mut impl Read,
    out: &mut impl Write,
    show_locations: bool,
) -> Result<Summary> {
    let mut decoder = table.new_stream_decoder();
    let mut summary = Summary::default();
    let mut chunk = [0; 4096];
    let mut cut_off = false;
    loop {
        let n = stream.read(&mut chunk).context("cannot read the log")?;
        let Some(last) = chunk[..n].last() else { break };
        cut_off = *last != 0;
        decoder.received(&chunk[..n]);
        loop {
            match decoder.decode() {
                Ok(frame) => {
                    print(&frame, locations, show_locations, out)?;
                    summary.frames += 1;
                }
                Err(DecodeError::Malformed) => summary.malformed += 1,
                Err(DecodeError::UnexpectedEof) => break,
            }
        }
        out.flush()?;
    }
    summary.malformed += u64::from(cut_off);
    Ok(summary)
}

fn print(
    frame: &Frame<'_>,
    locations: &Locations,
    show_locations: bool,
    out: &mut impl Write,
) -> std::io::Result<()> {
    if let Some(timestamp) = frame.display_timestamp() {
        write!(out, "{timestamp} ")?;
    }
    let level = frame.level().map_or("-", |level| level.as_str()).to_uppercase();
    let location = locations.get(&frame.index());
    let module = location.map_or("-", |location| location.module.as_str());
    write!(out, "{level:<5} {module}  {}", frame.display_message())?;
    if let Some(location) = location.filter(|_| show_locations) {
        write!(out, " ({}:{})", short(&location.file).display(), location.line)?;
    }
    writeln!(out)
}

/// A source path from its package folder on: builds record absolute paths.
fn short(file: &Path) -> &Path {
    let src = file.ancestors().find(|path| path.ends_with("src"));
    let package = src.and_then(Path::parent);
    let root = package.and_then(Path::parent).and_then(Path::parent);
    root.and_then(|root| file.strip_prefix(root).ok()).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_start_at_the_package() {
        let path = |s| Path::new(s);
        assert_eq!(
            short(path("/home/me/vgg/device/classify/src/run.rs")),
            path("device/classify/src/run.rs")
        );
        assert_eq!(short(path("device/classify/src/run.rs")), path("device/classify/src/run.rs"));
        assert_eq!(short(path("src/run.rs")), path("src/run.rs"));
        assert_eq!(short(path("run.rs")), path("run.rs"));
    }

    #[test]
    fn a_program_without_messages_is_refused() {
        // This test program logs nothing through defmt.
        let me = std::env::current_exe().unwrap();
        let error = decode(&me, &b"\x01\x00"[..], Vec::new(), false).unwrap_err();
        assert!(error.to_string().ends_with(" has no .defmt messages"), "{error}");
        assert!(error.downcast_ref::<LogsError>().is_some());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let error = decode(&file, &b""[..], Vec::new(), false).unwrap_err();
        assert!(error.to_string().starts_with("cannot use "), "{error}");
        let error = decode(Path::new("no/such/file"), &b""[..], Vec::new(), false).unwrap_err();
        assert_eq!(error.to_string(), "cannot read no/such/file");
    }
}
