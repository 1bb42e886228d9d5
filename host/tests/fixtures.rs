//! Every file of `tests/fixtures/import`, which the frameworks themselves wrote: outputs, graphs, messages.
//!
//! The lists beside the files say what each holds. All files of a network, whatever wrote them, must give one graph; a file
//! that must not import gives the message in `refused.txt`.

mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use support::{Npy, distance};
use vgg_edge_host::graph::Graph;
use vgg_edge_host::import::{ImportOptions, import};
use vgg_edge_host::reference::Reference;
use vgg_edge_tests::workspace_root;

/// The lists, one a script that wrote files.
const LISTS: [&str; 6] = ["keras", "torch", "onnx_keras", "onnx_torch", "onnx", "tflite"];
/// Largest difference of an output, as a share of the largest.
const TOLERANCE: f32 = 1e-4;
/// The same where weights were rounded.
const ROUNDED: f32 = 2e-2;

struct Fixture {
    file: String,
    network: Option<String>,
    /// `same`, `near` or `rounded`; `None` for a file that must not import.
    graph: Option<String>,
    options: ImportOptions,
}

fn folder() -> PathBuf {
    workspace_root().join("tests/fixtures/import")
}

fn fixtures(list: &str) -> Vec<Fixture> {
    let text = std::fs::read(folder().join(format!("{list}.json"))).expect("a list of files");
    let list: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let fixture = |entry: &serde_json::Value| {
        let text = |key: &str| entry[key].as_str().map(str::to_string);
        let mut options = ImportOptions::default();
        let words = text("options").unwrap_or_default();
        for pair in words.split_whitespace().collect::<Vec<_>>().chunks(2) {
            match pair {
                ["--input", shape] => options.input = Some(shape.parse().expect("a shape")),
                ["--arch", arch] => options.arch = Some(arch.parse().expect("an architecture")),
                other => panic!("{other:?}"),
            }
        }
        let graph = text("graph").filter(|_| entry["refused"].is_null());
        Fixture { file: text("file").expect("a name"), network: text("network"), graph, options }
    };
    list["files"].as_array().expect("a list").iter().map(fixture).collect()
}

#[test]
fn outputs_and_graphs_are_those_of_the_framework() {
    let mut first: HashMap<String, (String, Graph)> = HashMap::new();
    let mut wrong = Vec::new();
    for list in LISTS {
        let mut n = 0;
        for Fixture { file, network, graph, options } in fixtures(list) {
            let (Some(graph), Some(network)) = (graph, network) else { continue };
            n += 1;
            let imported = match import(&folder().join(&file), &options) {
                Ok(imported) => imported.graph,
                Err(error) => {
                    wrong.push(format!("{file}: {}", error.problem));
                    continue;
                }
            };
            let canonical = imported.canonical().expect("folds");
            let tolerance = if graph == "rounded" { ROUNDED } else { TOLERANCE };
            for graph in [&imported, &canonical] {
                let worst = golden(graph, &folder().join("golden"), &network);
                if worst > tolerance {
                    wrong.push(format!("{file}: outputs differ by {worst}"));
                }
            }
            if graph == "same" {
                let (before, graph) =
                    first.entry(network).or_insert_with(|| (file.clone(), canonical.clone()));
                if *graph != canonical {
                    wrong.push(format!("{file} is another graph than {before}"));
                }
            }
        }
        println!("{list}: {n} files imported");
        assert!(n > 0, "{list}: no files");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_not_of_the_family_is_refused_by_name() {
    let mut messages = String::new();
    for fixture in LISTS.iter().flat_map(|list| fixtures(list)).filter(|f| f.graph.is_none()) {
        let message = match import(&folder().join(&fixture.file), &fixture.options) {
            Ok(_) => panic!("{} imports, expected it to be refused", fixture.file),
            Err(error) => error.problem.to_string(),
        };
        messages.push_str(&format!("{}: {message}\n", fixture.file));
    }
    let path = folder().join("refused.txt");
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(messages, expected, "{} says otherwise", path.display());
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
        let largest = expected.iter().fold(1f32, |m, v| m.max(v.abs()));
        worst = worst.max(distance(&found, &expected) / largest);
    }
    worst
}
