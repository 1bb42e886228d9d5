//! A model file in memory: mapped, so that pages load when they are read and are shared between processes.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, bail};
use memmap2::Mmap;

/// Maps the file at `path`; a map starts at a page, as `Blob::parse` wants.
///
/// # Errors
/// When it cannot be opened, is empty, or is no regular file.
#[allow(unsafe_code)]
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        bail!("not a regular file");
    }
    if metadata.len() == 0 {
        bail!("the file is empty, expected a vgg-edge model");
    }
    // SAFETY: the map is private and read-only. A program that shortens the file under us would end this
    // process with SIGBUS, and one that writes into it would change weights, not sizes: those are checked
    // values copied at load. `deploy` therefore replaces a model by renaming, which leaves the mapped file.
    Ok(unsafe { Mmap::map(&file)? })
}
