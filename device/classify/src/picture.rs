//! From picture bytes to the network's input, by the rules in the model file.
//!
//! ```text
//! file ─► bytes ─► decode ─► fit (resize, crop, channels) ─► u8 NHWC of the input's size
//! ```

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use vgg_edge_blob::{Blob, Preprocess, Shape};
use vgg_edge_engine::image::{Image, Limits, decode, prepare, size};

use crate::model::milliseconds;

/// Largest picture file: more than an uncompressed picture of the largest size.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// How pictures become the network's input; it borrows nothing, so any thread can prepare pictures.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) preprocess: Preprocess,
    pub(crate) input: Shape,
    limits: Limits,
}

impl Rule {
    /// The rule that the model file carries.
    pub(crate) fn of(blob: &Blob<'_>) -> Self {
        Self { preprocess: *blob.preprocess(), input: blob.input(), limits: Limits::default() }
    }

    /// The pixels that decoding `bytes` takes, by their header; 0 when that cannot be read.
    pub(crate) fn pixels(&self, bytes: &[u8]) -> u64 {
        size(bytes, self.limits).map_or(0, |(width, height)| u64::from(width) * u64::from(height))
    }

    /// The same rule for pictures within `limits`.
    #[cfg(feature = "serve")]
    pub(crate) fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Decodes and fits the picture in `bytes`, the contents of a picture file; u8, NHWC, of the model's input size.
    ///
    /// # Errors
    /// When it is no picture, or larger than the limits allow.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let start = Instant::now();
        let picture = decode(bytes, self.limits)?;
        let (width, height) = (picture.width(), picture.height());
        let input = self.fit(picture);
        let ms = milliseconds(start);
        defmt::info!("picture decoded: {=usize}x{=usize}, {=f32} ms", width, height, ms);
        Ok(input)
    }

    /// Fits a decoded picture.
    pub(crate) fn fit(&self, picture: Image) -> Vec<u8> {
        prepare(picture, &self.preprocess, self.input)
    }
}

/// All bytes of the picture file at `path`.
///
/// # Errors
/// When it cannot be read, or is larger than any picture.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    read(File::open(path)?)
}

/// All bytes of a picture file.
///
/// # Errors
/// As [`read_file`].
pub(crate) fn read(file: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("the file is larger than the limit of {MAX_FILE_BYTES} bytes");
    }
    Ok(bytes)
}
