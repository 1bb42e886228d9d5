//! Every way Keras writes one small network gives the same graph.
//!
//! The files are written by `tests/fixtures/keras/make.py` in the layouts of Keras 1 to 3.

mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use support::Npy;
use vgg_edge_host::graph::{Graph, Op, Shape};
use vgg_edge_host::import::{Format, ImportOptions, Imported, import};
use vgg_edge_host::reference::Reference;

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/keras").join(file)
}

fn read(file: &str, input: Option<Shape>) -> Imported {
    import(&fixture(file), &ImportOptions { input, ..Default::default() })
        .unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn canonical(graph: &Graph) -> Graph {
    graph.canonical().expect("folds")
}

const SIZE: Option<Shape> = Some(Shape::new(8, 8, 3));

#[test]
fn every_layout_gives_the_same_graph() {
    use Format::{KerasArchive, KerasModel, KerasWeights};
    let first = canonical(&read("tiny.h5", None).graph);
    assert_eq!(first.input(), Shape::new(8, 8, 3));
    for (file, input, format) in [
        ("tiny.h5", None, KerasModel),
        ("tiny_fixed_big_endian.h5", None, KerasModel),
        ("tiny_nested.h5", None, KerasModel),
        ("tiny_f16.h5", SIZE, KerasWeights),
        ("tiny_f64_big_endian.h5", SIZE, KerasWeights),
        ("tiny_gzip.h5", SIZE, KerasWeights),
        ("tiny_user_block.h5", SIZE, KerasWeights),
        ("tiny_nested_weights.h5", SIZE, KerasWeights),
        ("tiny.weights.h5", SIZE, KerasWeights),
        ("tiny_bf16.weights.h5", SIZE, KerasWeights),
        ("tiny_nested.weights.h5", SIZE, KerasWeights),
        ("tiny.keras", None, KerasArchive),
        ("tiny_deflated.keras", None, KerasArchive),
        ("tiny_nested.keras", None, KerasArchive),
        ("tiny_keras_2.keras", None, KerasArchive),
    ] {
        let imported = read(file, input);
        assert_eq!(imported.format, format, "{file}");
        assert!(canonical(&imported.graph) == first, "{file} differs: {}", imported.graph.summary().render());
    }
}

#[test]
fn batch_normalization_in_every_layout() {
    let first = read("tiny_bn.keras", None).graph;
    assert_eq!(first.layers().iter().filter(|l| matches!(l.op, Op::BatchNorm { .. })).count(), 2);
    for file in ["tiny_bn.weights.h5", "tiny_bn_weights.h5"] {
        let imported = read(file, SIZE);
        assert!(canonical(&imported.graph) == canonical(&first), "{file}");
        let note = "epsilon of batch normalization 0.001, as Keras has it: not in the file";
        assert!(imported.notes.iter().any(|n| n == note), "{:?}", imported.notes);
    }
}

/// `include_top=False`: what comes out is the last map.
#[test]
fn a_file_without_its_head_is_a_feature_extractor() {
    let imported = read("tiny_notop.h5", SIZE);
    let whole = read("tiny.h5", None).graph;
    assert!(!imported.graph.is_classifier() && whole.is_classifier());
    assert_eq!(imported.graph.output().to_string(), "4x4x4");
    let (features, whole) = (canonical(&imported.graph), canonical(&whole));
    assert_eq!(features.layers(), &whole.layers()[..features.layers().len()]);
}

/// Every file that Keras itself wrote, of `tests/fixtures/import/keras.json`: outputs are those of Keras, and all files of a
/// network are the same graph.
#[test]
fn what_keras_writes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/import");
    let index = std::fs::read(folder.join("keras.json")).expect("the list of files");
    let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    let mut first: HashMap<String, (String, Graph)> = HashMap::new();
    let mut wrong = Vec::new();
    for entry in index["files"].as_array().expect("a list") {
        let (file, network) = (entry["file"].as_str().expect("a name"), entry["network"].as_str());
        let mut options = ImportOptions::default();
        let words: Vec<&str> = entry["options"].as_str().unwrap_or("").split_whitespace().collect();
        for pair in words.chunks(2) {
            match pair {
                ["--input", shape] => options.input = Some(shape.parse().expect("a shape")),
                ["--arch", arch] => options.arch = Some(arch.parse().expect("an architecture")),
                other => panic!("{file}: {other:?}"),
            }
        }
        let imported = import(&folder.join(file), &options);
        let imported = match (imported, entry["refused"].as_str()) {
            (Ok(imported), None) => imported,
            // Messages: tests/import_errors/keras.rs.
            (Err(_), Some(_)) => continue,
            (Ok(_), Some(refused)) => {
                wrong.push(format!("{file} imports, expected to be refused: {refused}"));
                continue;
            }
            (Err(error), None) => {
                wrong.push(format!("{file}: {}", error.problem));
                continue;
            }
        };
        let network = network.expect("a network");
        let canonical = imported.graph.canonical().expect("folds");
        for graph in [&imported.graph, &canonical] {
            let worst = golden(graph, &folder.join("golden"), network);
            if worst > 1e-4 {
                wrong.push(format!("{file}: outputs differ from those of Keras by {worst}"));
            }
        }
        if entry["graph"] == "same" {
            let (before, graph) =
                first.entry(network.into()).or_insert_with(|| (file.into(), canonical.clone()));
            if *graph != canonical {
                wrong.push(format!("{file} is another graph than {before}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Largest difference to the golden outputs, relative to the largest of them if that is above 1.
fn golden(graph: &Graph, folder: &Path, network: &str) -> f32 {
    let npy = |what: &str| folder.join(format!("{network}.{what}.npy"));
    let pictures = Npy::read(&npy("input_u8"));
    let what = ["logits", "map", "vector"].into_iter().find(|what| npy(what).exists()).expect("outputs");
    let outputs = Npy::read(&npy(what));
    let reference = Reference::new(graph).expect("builds");
    let mut worst = 0f32;
    for i in 0..pictures.shape[0] {
        let input: Vec<f32> = pictures.u8_row(i).iter().map(|&v| f32::from(v)).collect();
        let (found, expected) = (reference.run(&input).expect("runs").logits, outputs.f32_row(i));
        assert_eq!(found.len(), expected.len(), "{network}");
        let largest = expected.iter().fold(1f32, |m, v| m.max(v.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            let difference = (found - expected).abs() / largest;
            // `max` would drop a NaN.
            worst = if difference <= worst { worst } else { difference };
        }
    }
    worst
}
