//! What Keras writes: `.keras` archives, whole models and weights in HDF5, `.weights.h5`.
//!
//! | file | description | weights |
//! |---|---|---|
//! | `.keras` | `config.json` | `model.weights.h5`, groups by class: `weights` |
//! | `.h5` of `model.save` | attribute `model_config` | groups by layer name: `legacy` |
//! | `.h5` of `save_weights` (Keras 1, 2, `tf.keras`), published weights | none: `outline` | groups by layer name: `legacy` |
//! | `.weights.h5` of `save_weights` (Keras 3) | none: `outline` | groups by class: `weights` |

mod config;
mod describe;
mod error;
mod h5;
mod layers;
mod legacy;
mod stored;
#[cfg(test)]
mod tests;
mod weights;

use std::fs::File;
use std::io::Seek;
use std::path::Path;

pub use error::KerasProblem;

use super::archive::{Archive, Window};
use super::{Format, ImportOptions, Imported, Problem, options, outline};
use h5::{H5, hdf5};

/// The description in an archive.
const CONFIG: &str = "config.json";
/// The weights in an archive.
const WEIGHTS: &str = "model.weights.h5";

/// Whether an archive is one of Keras, whole or not.
pub(super) fn is_keras(archive: &Archive) -> bool {
    archive.find(WEIGHTS).is_some() || archive.find(CONFIG).is_some()
}

/// Reads the archive `file` of `len` bytes. The weights are read where they are, or, if the archive was packed again with
/// compression, from a temporary file.
pub(super) fn import_archive(
    mut file: File,
    len: u64,
    archive: &Archive,
    options: &ImportOptions,
) -> Result<Imported, Problem> {
    let json = archive.require(CONFIG)?.read(&mut file, config::MAX_CONFIG as u64)?;
    let json = String::from_utf8(json).map_err(|e| Problem::Config {
        place: "text".into(),
        found: e.to_string(),
        expected: "UTF-8",
    })?;
    let mut notes = Vec::new();
    let model = config::parse(&json, options, &mut notes)?;
    options::check_spec(&model.spec, options)?;
    let entry = archive.require(WEIGHTS)?;
    let h5 = match entry.window() {
        Ok(Window { start, len: window }) => {
            entry.verify(&mut file)?;
            H5::open(file, start, window, len)?
        }
        Err(_) => {
            let mut inflated = tempfile::tempfile()?;
            entry.copy(&mut file, h5::most_bytes(len), &mut inflated)?;
            inflated.rewind()?;
            H5::open(inflated, 0, entry.size, len)?
        }
    };
    let (stored, order) = weights::assign(&h5.root, &model)?;
    let graph = stored::graph(&h5, &model, &stored, &order)?;
    Ok(Imported { graph, format: Format::KerasArchive, notes })
}

/// Reads the HDF5 `file` of `len` bytes.
pub(super) fn import_h5(
    file: File,
    len: u64,
    path: &Path,
    options: &ImportOptions,
) -> Result<Imported, Problem> {
    let h5 = H5::open(file, 0, len, len)?;
    let mut notes = Vec::new();
    let attributes = h5.root.attributes().map_err(|e| hdf5("root attributes", e))?;
    if let Some(config) = attributes.iter().find(|a| a.name == "model_config") {
        let config = config.read_string().map_err(|e| hdf5("attribute `model_config`", e))?;
        drop(attributes);
        let model = config::parse(&config, options, &mut notes)?;
        let weights = h5.root.group("model_weights").map_err(|e| hdf5("group `model_weights`", e))?;
        let (_, stored) = legacy::layers(&weights)?;
        options::check_spec(&model.spec, options)?;
        let order = legacy::assign(&model, &stored, &mut notes)?;
        let graph = stored::graph(&h5, &model, &stored, &order)?;
        return Ok(Imported { graph, format: Format::KerasModel, notes });
    }
    let name = path.file_stem().map_or_else(|| "vgg".into(), |s| s.to_string_lossy().into_owned());
    let numbered = weights::container(&h5.root);
    let (stored, outline) = match &numbered {
        Some(layers) => weights::outline(layers, options, &mut notes)?,
        None => {
            let (names, stored) = legacy::layers(&h5.root)?;
            let outline = legacy::outline(&names, &stored, options, &mut notes)?;
            (stored, outline)
        }
    };
    // Groups by class without names take no more than the places of the poolings from the architecture.
    let by_class = numbered.is_some();
    let known = ImportOptions { arch: options.arch.filter(|_| !by_class), ..*options };
    let spec = outline::to_spec(&name, &outline, &known, &mut notes)?;
    if by_class && weights::has_names(&outline) {
        options::check_spec(&spec, options)?;
    }
    let mut model = legacy::model(spec);
    let order = legacy::assign(&model, &stored, &mut notes)?;
    legacy::settle(&mut model, &stored, &order);
    let graph = stored::graph(&h5, &model, &stored, &order)?;
    Ok(Imported { graph, format: Format::KerasWeights, notes })
}

/// The error for a layer that is none of a VGG.
fn unsupported(layer: &str, what: impl Into<String>) -> Problem {
    KerasProblem::Unsupported { layer: layer.into(), what: what.into() }.into()
}
