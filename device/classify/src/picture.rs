//! From a picture file to the network's input, by the rules in the model file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use vgg_edge_blob::Blob;
use vgg_edge_engine::image::{Limits, decode, prepare};

use crate::model::milliseconds;

/// Largest picture file: more than an uncompressed picture of the largest size.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// Reads, decodes and fits the picture at `path`; u8, NHWC, of the model's input size.
///
/// # Errors
/// When it cannot be read or is no picture.
pub(crate) fn load(path: &Path, blob: &Blob<'_>) -> Result<Vec<u8>> {
    let start = Instant::now();
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("the file is larger than the limit of {MAX_FILE_BYTES} bytes");
    }
    let picture = decode(&bytes, Limits::default())?;
    let (width, height) = (picture.width(), picture.height());
    let input = prepare(picture, blob.preprocess(), blob.input());
    let ms = milliseconds(start);
    defmt::info!("picture decoded: {=usize}x{=usize}, {=f32} ms", width, height, ms);
    Ok(input)
}
