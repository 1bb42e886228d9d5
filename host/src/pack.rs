//! The model to a file: written under a temporary name, synced, checked, renamed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use vgg_edge_blob::{AlignedBytes, Blob, NewModel, write};

/// The model's blob, in memory.
///
/// # Errors
/// [`vgg_edge_blob::WriteError`], among them an overflow proof that fails.
pub fn to_bytes(model: NewModel) -> anyhow::Result<AlignedBytes> {
    let mut bytes = AlignedBytes::default();
    write(model, &mut bytes)?;
    Ok(bytes)
}

/// Writes `bytes` to `path`, whole or not at all: a reader never sees half a file, and a failure (a full disk, a
/// folder without write permission) leaves what was there before.
///
/// # Errors
/// The operation that failed.
pub fn save(bytes: &[u8], path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let context = || format!("cannot write {}", path.display());
    let temporary = tempfile::Builder::new()
        .prefix(".vgg-edge-")
        .suffix(".tmp")
        .permissions(permissions())
        .tempfile_in(folder)
        .with_context(context)?;
    let mut out = BufWriter::with_capacity(1 << 20, temporary.as_file());
    out.write_all(bytes).with_context(context)?;
    out.flush().with_context(context)?;
    drop(out);
    temporary.as_file().sync_all().with_context(context)?;
    temporary.persist(path).with_context(context)?;
    // The name itself must outlive a power cut too; some file systems cannot sync a folder.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Readable by all, as an ordinary new file: a temporary file is private to its owner.
fn permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o644)
}

/// Reads and validates a blob file; every checksum is compared.
///
/// # Errors
/// A file that cannot be read, or is no intact blob.
pub fn load(path: &Path) -> anyhow::Result<AlignedBytes> {
    let context = || format!("cannot load {}", path.display());
    let bytes = AlignedBytes::read(&mut File::open(path).with_context(context)?).with_context(context)?;
    Blob::parse(bytes.as_slice()).and_then(|blob| blob.verify_checksums()).with_context(context)?;
    Ok(bytes)
}

/// Whether a file starts as a blob does.
pub fn is_blob(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    File::open(path)
        .and_then(|mut f| f.read_exact(&mut magic))
        .is_ok_and(|()| magic == vgg_edge_blob::layout::MAGIC)
}
