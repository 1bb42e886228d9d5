//! `classify camera --list`: the cameras of this machine, with their formats.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::device::survey;
use crate::output;

/// Prints the cameras, or the one at `device`.
///
/// # Errors
/// When there is none.
pub(super) fn list(device: Option<&Path>) -> Result<()> {
    if let Some(path) = device {
        return match survey(path).with_context(|| format!("cannot list {}", path.display()))? {
            Some((card, formats)) => print(path, &card, &formats),
            None => bail!("cannot list {}: it gives no frames, expected a camera", path.display()),
        };
    }
    let (mut n_cameras, mut refused) = (0, Vec::new());
    for path in nodes(Path::new("/dev")) {
        match survey(&path) {
            Ok(Some((card, formats))) => {
                n_cameras += 1;
                print(&path, &card, &formats)?;
            }
            // Metadata and converters.
            Ok(None) => {}
            Err(error) => refused.push(format!("{}: {error:#}", path.display())),
        }
    }
    match (n_cameras, refused.is_empty()) {
        (0, true) => bail!("no camera: no node /dev/video* that gives frames"),
        (0, false) => bail!("no camera: {}", refused.join(", ")),
        _ => refused.iter().for_each(|line| output::note(format_args!("warning: {line}"))),
    }
    Ok(())
}

/// Nodes named `video` and a number, by number.
fn nodes(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("video")?.parse::<u32>().ok();
    let mut nodes: Vec<_> =
        entries.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path()))).collect();
    nodes.sort();
    nodes.into_iter().map(|(_, path)| path).collect()
}

fn print(path: &Path, card: &str, formats: &[String]) -> Result<()> {
    output::print_line(format_args!("{}  {card}", path.display()))?;
    for format in formats {
        output::print_line(format_args!("  {format}"))?;
    }
    Ok(())
}
