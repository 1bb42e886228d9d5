//! Weights files to graphs: the content decides the format, not the name.
//!
//! | starts with | format | importer |
//! |---|---|---|
//! | `\x89HDF\r\n\x1a\n` | Keras HDF5, whole model or weights only | `keras` |
//! | `PK\x03\x04`, with `model.weights.h5` in it | Keras archive | `keras` |
//! | u64 header length, then `{` | safetensors with PyTorch's names | `torch` |
//! | `PK\x03\x04`, with `data.pkl` in it | PyTorch's state_dict, zip | `torch` |
//! | `\x80`, with PyTorch's magic number | PyTorch's state_dict, legacy | `torch` |
//! | `TFL3` at byte 4 | TFLite, float | `tflite` |
//! | a protobuf with the fields of ONNX' `ModelProto` | ONNX | `onnx` |
//!
//! Keras' and PyTorch's files become a [`Spec`](crate::graph::Spec) first, ONNX and TFLite layers as their operators come. All
//! of them hand over one tensor at a time in the host's layouts (HWIO, `[in][out]`), so that peak memory stays near the size
//! of the weights in f32.
//!
//! ```no_run
//! use vgg_edge_host::import::{ImportOptions, import};
//! let imported = import("vgg16_cifar10.h5".as_ref(), &ImportOptions::default())?;
//! println!("{}", imported.graph.summary().render());
//! # Ok::<(), vgg_edge_host::import::ImportError>(())
//! ```

mod archive;
mod error;
mod keras;
mod onnx;
mod options;
mod outline;
mod stored;
mod tflite;
mod torch;

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

pub use archive::ArchiveProblem;
pub use error::{ImportError, Problem};
pub use keras::KerasProblem;
pub use onnx::OnnxProblem;
pub use tflite::TfliteProblem;
pub use torch::{PickleProblem, TorchProblem};

use crate::graph::{Arch, Graph, Shape};

/// What the user knows about a file beyond its content. Everything is checked against the file.
#[derive(Clone, Copy, Default, Debug)]
pub struct ImportOptions {
    /// The architecture, for files that do not describe one.
    pub arch: Option<Arch>,
    /// The picture the network takes, for files that do not say.
    pub input: Option<Shape>,
    /// The number of classes.
    pub classes: Option<usize>,
}

/// Where a graph came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Keras archive.
    KerasArchive,
    /// Keras HDF5 with the model's description.
    KerasModel,
    /// Keras HDF5 with weights alone.
    KerasWeights,
    /// safetensors with PyTorch's names.
    Safetensors,
    /// Archive of `torch.save`.
    Torch,
    /// `torch.save` before PyTorch 1.6.
    TorchLegacy,
    /// TFLite, float.
    Tflite,
    /// ONNX.
    Onnx,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KerasArchive => "Keras archive (.keras)",
            Self::KerasModel => "Keras HDF5 model",
            Self::KerasWeights => "Keras HDF5 weights",
            Self::Safetensors => "safetensors, torchvision names",
            Self::Torch => "PyTorch state_dict",
            Self::TorchLegacy => "PyTorch state_dict, legacy format",
            Self::Tflite => "TFLite model",
            Self::Onnx => "ONNX model",
        })
    }
}

/// A file's network.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network.
    pub graph: Graph,
    /// What the file was.
    pub format: Format,
    /// What was concluded rather than read, a sentence each: show them to the user.
    pub notes: Vec<String>,
}

/// Reads the network in `path`.
///
/// Errors name the file, the layer, what was found and what was expected. No file makes it panic, and none makes it take
/// memory out of proportion to the file.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    read(path, options).map_err(|problem| ImportError::new(path, problem))
}

fn read(path: &Path, options: &ImportOptions) -> Result<Imported, Problem> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut start = Vec::new();
    file.by_ref().take(4096).read_to_end(&mut start)?;
    file.rewind()?;
    match sniff(&start, len)? {
        Sniffed::Hdf5 => keras::import_h5(file, len, path, options),
        Sniffed::Zip => {
            let archive = archive::Archive::open(&mut file, len)?;
            if keras::is_keras(&archive) {
                keras::import_archive(file, len, &archive, options)
            } else if torch::is_torch(&archive) {
                torch::import_archive(file, len, &archive, options)
            } else {
                Err(Problem::UnknownFormat {
                    found: "a zip archive without `model.weights.h5` or `data.pkl`",
                })
            }
        }
        Sniffed::Onnx => onnx::import(path, file, len, options),
        Sniffed::Tflite => tflite::import(file, len, options),
        Sniffed::Safetensors => torch::import_safetensors(file, len, options),
        Sniffed::TorchLegacy => torch::import_legacy(file, len, options),
    }
}

enum Sniffed {
    Hdf5,
    Zip,
    Safetensors,
    TorchLegacy,
    Tflite,
    Onnx,
}

/// The format of a file of `len` bytes that begins with `start`.
fn sniff(start: &[u8], len: u64) -> Result<Sniffed, Problem> {
    const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
    if start.is_empty() {
        return Err(Problem::Empty);
    }
    // HDF5 allows a user block: the signature is at 0, 512, 1024, 2048...
    if [0, 512, 1024, 2048].iter().any(|&at| start.get(at..).is_some_and(|s| s.starts_with(HDF5))) {
        return Ok(Sniffed::Hdf5);
    }
    if start.starts_with(b"PK\x03\x04") {
        return Ok(Sniffed::Zip);
    }
    if torch::is_legacy(start) {
        return Ok(Sniffed::TorchLegacy);
    }
    if start.get(4..8) == Some(b"TFL3") {
        return Ok(Sniffed::Tflite);
    }
    if let (Some(header), Some(b'{')) = (start.first_chunk::<8>(), start.get(8))
        && u64::from_le_bytes(*header) < len.max(1 << 32)
    {
        return Ok(Sniffed::Safetensors);
    }
    let printable = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    Err(match start {
        [0x80, 2..=5, ..] => Problem::UnknownFormat { found: "a pickle that torch.save did not write" },
        _ if start.get(257..262) == Some(b"ustar") => {
            Problem::UnsupportedFormat { what: "a tar archive (PyTorch before 0.1.10)" }
        }
        _ if start.iter().take(256).all(printable) => Problem::UnknownFormat { found: "text" },
        _ if start.iter().all(|&b| b == 0) => Problem::UnknownFormat { found: "all zeros" },
        _ if onnx::is_model(start) => return Ok(Sniffed::Onnx),
        _ => Problem::UnknownFormat { found: "of no known format" },
    })
}
