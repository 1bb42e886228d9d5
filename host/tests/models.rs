//! Every weights file of the shared networks against its framework's outputs, and against the network's other files.
//!
//! All files of a network must give one graph, one table and one blob.
//!
//! A file in the folder that is not in [`NETWORKS`] fails the test, so that none is left out unseen.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use support::{Npy, distance, shared};
use vgg_edge_blob::{AlignedBytes, Scheme, Shape as BlobShape};
use vgg_edge_host::calibrate::Method;
use vgg_edge_host::convert::{Conversion, Tuning};
use vgg_edge_host::graph::{Graph, Shape};
use vgg_edge_host::import::{ImportOptions, import};
use vgg_edge_host::plan::Board;
use vgg_edge_host::preprocess::Preprocess;
use vgg_edge_host::progress::Progress;
use vgg_edge_host::reference::Reference;
use vgg_edge_host::samples::Samples;
use vgg_edge_tests::workspace_root;

/// Largest difference of a probability.
const PROBABILITY: f32 = 1e-4;
/// Largest difference of a logit, as a share of the largest logit.
const LOGIT: f32 = 1e-3;

/// Files that hold one network.
struct Network {
    /// Pictures that the outputs are of.
    pictures: &'static str,
    n_pictures: usize,
    /// What the user must say for files that do not: the size of the picture.
    input: &'static str,
    files: &'static [File],
}

struct File {
    name: &'static str,
    /// Whether it says the size of its picture.
    says_input: bool,
    /// Start of the names of its framework's outputs.
    outputs: &'static str,
}

const fn whole(name: &'static str, outputs: &'static str) -> File {
    File { name, says_input: true, outputs }
}

const fn weights(name: &'static str, outputs: &'static str) -> File {
    File { name, says_input: false, outputs }
}

const NETWORKS: [Network; 5] = [
    Network {
        pictures: "golden_images_u8_nhwc_rgb",
        n_pictures: 64,
        input: "32x32",
        files: &[
            whole("small_vgg.h5", "small_vgg"),
            whole("small_vgg.keras", "small_vgg"),
            weights("small_vgg.weights.h5", "small_vgg"),
            weights("small_vgg_keras2_weights.h5", "small_vgg"),
            weights("small_vgg_weights_tf_dim_ordering_tf_kernels.h5", "small_vgg"),
            weights("small_vgg_torchvision.pth", "small_vgg_torch"),
            weights("small_vgg_torchvision_legacy.pth", "small_vgg_torch"),
            weights("small_vgg.safetensors", "small_vgg_torch"),
            whole("small_vgg.onnx", "small_vgg_onnx"),
            whole("small_vgg_torch.onnx", "small_vgg_torch"),
            whole("small_vgg.tflite", "small_vgg_tflite"),
        ],
    },
    Network {
        pictures: "golden_images_u8_nhwc_rgb",
        n_pictures: 64,
        input: "32x32",
        files: &[
            whole("small_vgg_bn.h5", "small_vgg_bn"),
            whole("small_vgg_bn.keras", "small_vgg_bn"),
            weights("small_vgg_bn_torchvision.pth", "small_vgg_bn_torch"),
            weights("small_vgg_bn_torchvision.safetensors", "small_vgg_bn_torch"),
        ],
    },
    Network {
        pictures: "golden_images_u8_nhwc_rgb",
        n_pictures: 64,
        input: "32x32",
        files: &[
            whole("small_vgg_fc.h5", "small_vgg_fc"),
            whole("small_vgg_fc.keras", "small_vgg_fc"),
            weights("small_vgg_fc_torchvision.pth", "small_vgg_fc_torch"),
            weights("small_vgg_fc_torchvision.safetensors", "small_vgg_fc_torch"),
        ],
    },
    // Flattened from 2x2: a wrong order of the dense layer's inputs shows.
    Network {
        pictures: "small_vgg_fc64_input_u8_nhwc_rgb",
        n_pictures: 64,
        input: "64x64",
        files: &[
            whole("small_vgg_fc64.h5", "small_vgg_fc64"),
            whole("small_vgg_fc64.keras", "small_vgg_fc64"),
            whole("small_vgg_fc64_torchvision.pth", "small_vgg_fc64_torch"),
            whole("small_vgg_fc64_torchvision.safetensors", "small_vgg_fc64_torch"),
            whole("small_vgg_fc64_torch.onnx", "small_vgg_fc64_torch"),
        ],
    },
    Network {
        pictures: "vgg16_cifar10_input_u8_nhwc_rgb_96",
        n_pictures: 8,
        input: "96x96",
        files: &[whole("vgg16_cifar10.h5", "vgg16_cifar10")],
    },
];

/// What is refused, and why.
const REFUSED: [(&str, &str); 1] = [(
    "small_vgg_int8.tflite",
    "tensor `serving_default_input:0`: type is INT8, expected FLOAT32 (quantized networks are not read)",
)];

fn graph(models: &Path, network: &Network, file: &File) -> Graph {
    let input = (!file.says_input).then(|| network.input.parse::<Shape>().expect("a shape"));
    let imported = import(&models.join(file.name), &ImportOptions { input, ..Default::default() });
    imported.unwrap_or_else(|error| panic!("{error}")).graph
}

fn rule(models: &Path, network: &Network, file: &File, input: Shape) -> Preprocess {
    // Files that share another one's rule have none of their own.
    let own = Preprocess::find(None, &models.join(file.name), input);
    own.or_else(|_| Preprocess::find(None, &models.join(network.files[0].name), input)).expect("a sidecar").0
}

#[test]
fn every_weights_file_is_in_the_table() {
    let Some(models) = shared("models") else { return };
    let formats = ["h5", "keras", "pth", "safetensors", "onnx", "tflite"];
    let found: BTreeSet<String> = std::fs::read_dir(&models)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| formats.iter().any(|f| name.ends_with(&format!(".{f}"))))
        .collect();
    let listed = NETWORKS.iter().flat_map(|n| n.files.iter().map(|f| f.name));
    let listed: BTreeSet<String> = listed.chain(REFUSED.map(|(name, _)| name)).map(String::from).collect();
    assert_eq!(found, listed);
    for (name, expected) in REFUSED {
        let error = import(&models.join(name), &ImportOptions::default()).expect_err(name).to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn outputs_are_those_of_the_framework() {
    let Some(models) = shared("models") else { return };
    let npy = |name: &str| Npy::read(&models.join("golden").join(format!("{name}.npy")));
    for network in &NETWORKS {
        let pictures = npy(network.pictures);
        for file in network.files {
            let graph = graph(&models, network, file);
            let rule = rule(&models, network, file, graph.input());
            let outputs = |what: &str| {
                let name = format!("{}_{what}", file.outputs);
                models.join("golden").join(format!("{name}.npy")).exists().then(|| npy(&name))
            };
            let (logits, probabilities) = (outputs("logits"), outputs("softmax"));
            assert!(logits.is_some() || probabilities.is_some(), "{}: no outputs", file.name);
            // As the file has it, and as it runs.
            for graph in [&graph, &graph.canonical().expect("folds")] {
                let reference = Reference::new(graph).expect("builds");
                let (mut logit, mut probability) = (0f32, 0f32);
                for i in 0..network.n_pictures {
                    let picture = rule.normalize(pictures.u8_row(i)).expect("pixels");
                    let answer = reference.run(&picture).expect("runs");
                    if let Some(expected) = &logits {
                        logit = logit.max(relative(&answer.logits, &expected.f32_row(i)));
                    }
                    if let Some(expected) = &probabilities {
                        probability = probability.max(distance(&answer.probabilities, &expected.f32_row(i)));
                    }
                }
                println!(
                    "{}: {} pictures, probabilities differ by {probability:.1e}, logits by {logit:.1e} of the largest",
                    file.name, network.n_pictures
                );
                assert!(probability <= PROBABILITY, "{}: probabilities differ by {probability}", file.name);
                assert!(logit <= LOGIT, "{}: logits differ by {logit} of the largest", file.name);
            }
        }
    }
}

fn relative(a: &[f32], b: &[f32]) -> f32 {
    distance(a, b) / b.iter().fold(0f32, |m, v| m.max(v.abs()))
}

#[test]
fn files_of_one_network_give_one_graph_one_table_and_one_blob() {
    let Some(models) = shared("models") else { return };
    for network in &NETWORKS {
        let mut first: Option<(Graph, Vec<AlignedBytes>)> = None;
        for file in network.files {
            let stored = graph(&models, network, file);
            let canonical = stored.canonical().expect("folds");
            let blobs = match network.files.len() {
                1 => Vec::new(),
                _ => blobs(&stored, &rule(&models, network, file, stored.input())),
            };
            let Some((graph, expected)) = &first else {
                first = Some((canonical, blobs));
                continue;
            };
            let other = network.files[0].name;
            assert_eq!(canonical.summary().render(), graph.summary().render(), "{} and {other}", file.name);
            assert!(canonical == *graph, "{}: another graph than {other}", file.name);
            for (a, b) in blobs.iter().zip(expected) {
                assert!(a.as_slice() == b.as_slice(), "{}: other bytes than {other}", file.name);
            }
        }
    }
}

/// Blobs of both schemes, calibrated on a few pictures.
fn blobs(graph: &Graph, rule: &Preprocess) -> Vec<AlignedBytes> {
    let input = graph.input();
    let input =
        BlobShape { height: input.height as u32, width: input.width as u32, channels: input.channels as u32 };
    let folder = workspace_root().join("tests/fixtures/cifar10/calib");
    let samples = Samples::open(&folder, &rule.to_blob(), input).expect("pictures").thin(6);
    let convert = |scheme| {
        let conversion = Conversion {
            scheme,
            method: Method::Mse,
            tuning: Tuning::default(),
            board: Board::generic(),
            gate: None,
            labels: Vec::new(),
        };
        conversion.run(graph, rule, &samples, &Progress::Hidden).expect("converts").bytes
    };
    vec![convert(Scheme::Int8), convert(Scheme::F16)]
}

#[test]
fn batch_normalization_gives_what_the_folded_twin_gives() {
    let Some(models) = shared("models") else { return };
    let pictures = Npy::read(&models.join("golden/golden_images_u8_nhwc_rgb.npy"));
    let [plain, normalized] = [&NETWORKS[0], &NETWORKS[1]];
    let twin = Reference::new(&graph(&models, plain, &plain.files[0])).expect("builds");
    let rule = rule(&models, plain, &plain.files[0], Shape::new(32, 32, 3));
    for file in normalized.files {
        let reference =
            Reference::new(&graph(&models, normalized, file).canonical().expect("folds")).expect("builds");
        let mut worst = 0f32;
        for i in 0..64 {
            let picture = rule.normalize(pictures.u8_row(i)).expect("pixels");
            let run = |r: &Reference| r.run(&picture).expect("runs").logits;
            worst = worst.max(distance(&run(&reference), &run(&twin)));
        }
        println!("{}: logits differ from the folded twin's by {worst:.1e}", file.name);
        assert!(worst <= 1e-4, "{}: logits differ by {worst}", file.name);
    }
}
