//! What the server watches: a camera, or whatever stands in for one, behind one small trait.
//!
//! ```text
//! frame ─► input ─► classify (the desk: turns with requests) ─► observation ─► sink (the hub)
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::answer::Found;
use crate::model::milliseconds;
use crate::observation::Observation;
use crate::picture::Rule;

/// Hands an input to the network and waits for what it says, with the milliseconds that it took.
pub(crate) type Classify<'a> = dyn FnMut(Vec<u8>) -> Result<(Found, f32)> + 'a;

/// Gives observations until it is told to stop.
pub(crate) trait Feed: Send + Sync {
    /// Blocks until `stop`, or until it cannot go on.
    ///
    /// # Errors
    /// When it cannot go on.
    fn observe(
        &self,
        rule: &Rule,
        stop: &AtomicBool,
        classify: &mut Classify<'_>,
        sink: &mut dyn FnMut(Observation),
    ) -> Result<()>;
}

/// JPEG pictures of a folder, one after the other and again from the first, at a rate.
#[derive(Debug)]
pub(crate) struct Pictures {
    folder: PathBuf,
    pause: Duration,
}

impl Pictures {
    /// Pictures of `folder`, `fps` a second.
    pub(crate) fn new(folder: &Path, fps: f32) -> Self {
        Self { folder: folder.to_owned(), pause: Duration::from_secs_f32(1.0 / fps.clamp(0.1, 1000.0)) }
    }

    /// # Errors
    /// When the folder cannot be read or has no JPEG picture.
    fn load(&self) -> Result<Vec<Arc<[u8]>>> {
        let cannot = || format!("cannot read the folder {}", self.folder.display());
        let entries: Result<Vec<_>, _> = fs::read_dir(&self.folder).with_context(cannot)?.collect();
        let mut paths: Vec<_> = entries.with_context(cannot)?.iter().map(|entry| entry.path()).collect();
        paths.sort();
        let bytes = paths.iter().filter_map(|path| fs::read(path).ok());
        let pictures: Vec<_> =
            bytes.filter(|bytes| bytes.starts_with(&[0xff, 0xd8, 0xff])).map(Arc::from).collect();
        if pictures.is_empty() {
            bail!("the folder {} has no JPEG picture, expected one", self.folder.display());
        }
        Ok(pictures)
    }
}

impl Feed for Pictures {
    fn observe(
        &self,
        rule: &Rule,
        stop: &AtomicBool,
        classify: &mut Classify<'_>,
        sink: &mut dyn FnMut(Observation),
    ) -> Result<()> {
        let pictures = self.load()?;
        let start = Instant::now();
        for (i, jpeg) in pictures.iter().cycle().enumerate() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let captured = Instant::now();
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let (input, width, height) = rule.decode_sized(jpeg)?;
            let decode_ms = milliseconds(captured);
            let (found, ms) = classify(input)?;
            sink(Observation {
                sequence: i as u64 + 1,
                unix_ms: unix.as_millis() as u64,
                source: self.folder.display().to_string(),
                width,
                height,
                found,
                ms,
                decode_ms,
                latency_ms: milliseconds(captured),
                fps: (i + 1) as f32 / start.elapsed().as_secs_f32().max(1e-3),
                dropped: 0,
                jpeg: Some(Arc::clone(jpeg)),
            });
            thread::sleep(self.pause.saturating_sub(captured.elapsed()));
        }
        Ok(())
    }
}
