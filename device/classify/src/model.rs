//! A model file made ready: mapped, parsed, its checksums compared; then a kernel, threads and an engine.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result};
use memmap2::Mmap;
use vgg_edge_blob::Blob;
use vgg_edge_blob::signature::PublicKey;
use vgg_edge_engine::kernels::{self, Kernel};
use vgg_edge_engine::pool::Pool;
use vgg_edge_engine::{Engine, Options};

use crate::args::{EngineArgs, TrustArgs};
use crate::board::{self, Board};
use crate::{map, signature, threads};

/// Larger caches gain no speed, but cost memory.
const MAX_L2_BYTES: usize = 2 << 20;

/// A mapped model file.
pub(crate) struct ModelFile {
    path: PathBuf,
    map: Mmap,
    opened: Instant,
}

impl ModelFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let opened = Instant::now();
        let map = map::map(path).with_context(|| cannot_load(path))?;
        Ok(Self { path: path.to_owned(), map, opened })
    }

    /// The checked contents; reads the file once, to compare every section's checksum.
    pub(crate) fn blob(&self) -> Result<Blob<'_>> {
        let blob = Blob::parse(&self.map).with_context(|| cannot_load(&self.path))?;
        blob.verify_checksums().with_context(|| cannot_load(&self.path))?;
        let load_ms = milliseconds(self.opened);
        defmt::info!(
            "model loaded: {=usize} layers, {=usize} bytes, {=f32} ms",
            blob.n_layers(),
            blob.file_len(),
            load_ms
        );
        Ok(blob)
    }

    /// Fails unless the model is signed as `trust` wants it; returns the key that signed it, if one is wanted.
    pub(crate) fn check_signature(&self, trust: &TrustArgs) -> Result<Option<PublicKey>> {
        let check = |key: &PathBuf| signature::check(&self.path, &self.map, key);
        trust.public_key.as_ref().map(check).transpose()
    }

    /// Bytes of the file, all of them mapped.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Milliseconds since the file was opened.
    pub(crate) fn age_ms(&self) -> f32 {
        milliseconds(self.opened)
    }

    /// The engine for `blob`, which is this file's.
    pub(crate) fn engine<'a>(
        &self,
        blob: &Blob<'a>,
        kernel: &'static dyn Kernel,
        pool: &'a Pool,
        args: &EngineArgs,
        profile: bool,
    ) -> Result<Engine<'a>> {
        let clock = profile.then_some(nanoseconds as fn() -> u64);
        // Its first call reads the clock twice; now none of a run does.
        clock.map(|now| now());
        let repack = !args.no_repack;
        Engine::new(blob, kernel, pool, Options { clock, l2_bytes: l2_bytes(), repack, ..Options::default() })
            .with_context(|| format!("cannot run {}", self.path.display()))
    }
}

/// The cache to plan for. On Arm the default, which is what boards' plans are counted with: there an emulator shows
/// this machine's caches.
fn l2_bytes() -> usize {
    let default = Options::default().l2_bytes;
    let core = board::allowed_cores().first().copied().unwrap_or(0);
    let here = Board::here().l2_bytes(core).filter(|_| cfg!(target_arch = "x86_64"));
    here.map_or(default, |bytes| bytes.clamp(default, MAX_L2_BYTES))
}

fn cannot_load(path: &Path) -> String {
    format!("cannot load {}", path.display())
}

/// The kernel asked for, or the best one.
pub(crate) fn kernel(args: &EngineArgs) -> Result<&'static dyn Kernel> {
    Ok(match &args.kernel {
        Some(name) => kernels::by_name(name)?,
        None => kernels::best(),
    })
}

/// The threads asked for, or one for each big core.
pub(crate) fn pool(args: &EngineArgs, kernel: &'static dyn Kernel) -> Result<Pool> {
    let n_threads = threads::place(&Board::here(), args.threads);
    defmt::info!(
        "classify {=str}: kernel {=str}, {=usize} threads",
        env!("CARGO_PKG_VERSION"),
        kernel.name(),
        n_threads
    );
    Pool::new(n_threads).with_context(|| format!("cannot start {n_threads} threads"))
}

/// Milliseconds since `start`.
pub(crate) fn milliseconds(start: Instant) -> f32 {
    start.elapsed().as_secs_f32() * 1e3
}

/// A clock for the engine's profile.
fn nanoseconds() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}
