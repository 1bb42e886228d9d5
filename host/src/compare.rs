//! Weights and blob side by side on one picture, layer by layer, up to the first layer that is wrong.
//!
//! ```text
//! picture ─┬─► weights' preprocessing ─► f32 reference ─► every layer's output ─┐
//!          └─► blob's own             ─► engine        ─► every layer's output ─┴─► dB, largest difference
//! ```
//!
//! Each figure holds the errors of all layers before it, so the first layer below the floor is where to look.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use vgg_edge_blob::{Blob, Preprocess as Stored, Shape};
use vgg_edge_engine::image::{Limits, decode, prepare};

use crate::convert::engine;
use crate::graph::Graph;
use crate::pack;
use crate::preprocess::Preprocess;
use crate::quantize::{self, Exponents, Factors, absorb_input};
use crate::reference::Reference;
use crate::report::Sqnr;

/// One layer of both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// Layer name.
    pub layer: String,
    /// Rows, columns, channels of its output.
    pub output: [u32; 3],
    /// Signal to noise on this picture, dB; absent where the reference is all 0.
    pub sqnr_db: Option<f32>,
    /// Largest difference of two values.
    pub largest_difference: f32,
    /// Largest magnitude in the reference.
    pub largest: f32,
}

/// What [`compare`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Layers in order, up to and with the first that is below the floor.
    pub layers: Vec<Compared>,
    /// The first layer below the floor.
    pub first_bad: Option<String>,
}

/// Runs both on the picture `image`. A layer is bad below `floor` dB. Tensors are written to `dump`, if it is there, as
/// `.npy` files: `NN_LAYER.f32.npy` and `NN_LAYER.model.npy`, f32, rows x columns x channels.
///
/// # Errors
/// A blob that does not hold this network (other layers, shapes or preprocessing), a picture that cannot be read, a
/// folder that cannot be written.
pub fn compare(
    graph: &Graph,
    rule: &Preprocess,
    bytes: &[u8],
    image: &Path,
    floor: f32,
    dump: Option<&Path>,
) -> anyhow::Result<Comparison> {
    let blob = Blob::parse(bytes)?;
    let (graph, rule) = absorb_input(graph.canonical()?, rule.clone())?;
    let fused = quantize::lower(&graph)?;
    same_preprocessing(&rule.to_blob(), blob.preprocess(), blob.input())?;
    let names: Vec<&str> = blob.layers().map(|l| l.name).collect();
    let expected: Vec<&str> = fused.iter().map(|f| f.name).collect();
    ensure!(names == expected, "the model's layers are {names:?}, the weights' are {expected:?}");
    let context = || format!("picture {}", image.display());
    let file = fs::read(image).with_context(context)?;
    let picture =
        prepare(decode(&file, Limits::default()).with_context(context)?, &rule.to_blob(), blob.input());
    let factors = Factors::new(&graph, &exponents(blob.metadata())?);
    let (_, wanted) = Reference::with_outputs(&graph)?.run_with_outputs(&rule.normalize(&picture)?)?;
    let wanted: HashMap<usize, Vec<f32>> = wanted.into_iter().map(|o| (o.layer_idx, o.data)).collect();
    let mut found: Vec<Vec<f32>> = vec![Vec::new(); fused.len()];
    // Bands come in order, so a layer's rows do, too.
    engine(&blob)?.run_visiting(&picture, |layer, _, values| found[layer].extend_from_slice(values))?;
    let mut result = Comparison { layers: Vec::new(), first_bad: None };
    for (i, (layer, found)) in blob.layers().zip(&mut found).enumerate() {
        let Some(wanted) = wanted.get(&fused[i].layer_idx) else { continue };
        // To the network's own channels.
        let of_channels = factors.of(fused[i].layer_idx).iter().cycle();
        found.iter_mut().zip(of_channels).for_each(|(value, factor)| *value *= factor);
        ensure!(
            wanted.len() == found.len(),
            "layer `{}`: the model gives {} values, the weights {}",
            layer.name,
            found.len(),
            wanted.len()
        );
        let output = layer.output;
        if let Some(folder) = dump {
            for (what, values) in [("f32", wanted), ("model", found)] {
                save_npy(
                    &folder.join(format!("{:02}_{}.{what}.npy", i + 1, file_name(layer.name))),
                    output,
                    values,
                )?;
            }
        }
        let compared = compared(layer.name, output, wanted, found);
        // A reference of zeros has no figure: then any difference is too much.
        let good = compared.sqnr_db.map_or(compared.largest_difference == 0.0, |db| db >= floor);
        let name = compared.layer.clone();
        result.layers.push(compared);
        if !good {
            result.first_bad = Some(name);
            break;
        }
    }
    Ok(result)
}

/// What the file says of its channels; nothing where it says nothing.
fn exponents(metadata: &str) -> anyhow::Result<Exponents> {
    #[derive(Deserialize)]
    struct Known {
        #[serde(default)]
        equalized: Exponents,
    }
    if metadata.is_empty() {
        return Ok(Exponents::new());
    }
    let known: Known = serde_json::from_str(metadata).context("the model's metadata")?;
    Ok(known.equalized)
}

fn compared(name: &str, output: Shape, wanted: &[f32], found: &[f32]) -> Compared {
    let mut sqnr = Sqnr::default();
    sqnr.add(wanted, found);
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |m, v| m.max(v.abs()));
    Compared {
        layer: name.to_owned(),
        output: [output.height, output.width, output.channels],
        sqnr_db: Some(sqnr.db()).filter(|db| !db.is_nan()),
        largest_difference: largest(&mut wanted.iter().zip(found).map(|(w, f)| w - f)),
        largest: largest(&mut wanted.iter().copied()),
    }
}

/// Another preprocessing is the most frequent reason for a model that answers nonsense, so it is named.
fn same_preprocessing(weights: &Stored, model: &Stored, input: Shape) -> anyhow::Result<()> {
    let rule = |p: &Stored| {
        let n = input.channels as usize;
        format!(
            "{}, scale {}, mean {:?}, std {:?}, {}, {}",
            p.order.name(),
            p.scale,
            &p.mean[..n.min(4)],
            &p.std[..n.min(4)],
            p.resize,
            p.filter.name()
        )
    };
    let (found, expected) = (rule(model), rule(weights));
    ensure!(found == expected, "the model's preprocessing is {found}; the weights' is {expected}");
    Ok(())
}

/// A layer's name with what a file name cannot hold replaced.
fn file_name(layer: &str) -> String {
    layer.chars().map(|c| if c.is_alphanumeric() || "_-.".contains(c) { c } else { '_' }).collect()
}

/// NumPy's format, version 1.0: a header that Python would read as a dictionary, padded to 64 bytes, then the values.
fn save_npy(path: &Path, shape: Shape, values: &[f32]) -> anyhow::Result<()> {
    let Shape { height, width, channels } = shape;
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({height}, {width}, {channels}), }}");
    // Magic, version and length are 10 bytes, the line feed is one.
    header.extend(std::iter::repeat_n(' ', (64 - (10 + header.len() + 1) % 64) % 64));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    pack::save(&bytes, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_is_what_numpy_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        save_npy(&path, Shape { height: 1, width: 2, channels: 1 }, &[1.0, -2.0]).unwrap();
        let bytes = fs::read(path).unwrap();
        // numpy.save of an array of shape (1, 2, 1): a header of 118 bytes.
        let header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 1), }";
        assert_eq!((&bytes[..10], bytes.len()), (&b"\x93NUMPY\x01\x00\x76\x00"[..], 136));
        assert!(bytes[10..].starts_with(header) && bytes[127] == b'\n');
        assert_eq!(bytes[128..], [0, 0, 128, 63, 0, 0, 0, 192]);
    }

    #[test]
    fn names_become_file_names() {
        assert_eq!(file_name("block1/conv 1:0"), "block1_conv_1_0");
    }
}
