//! Every way Keras writes one small network gives the same graph.
//!
//! The files are written by `tests/fixtures/keras/make.py` in the layouts of Keras 1 to 3.

use std::path::{Path, PathBuf};

use vgg_edge_host::graph::{Graph, Op, Shape};
use vgg_edge_host::import::{Format, ImportOptions, Imported, import};

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
