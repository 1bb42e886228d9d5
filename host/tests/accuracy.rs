//! What conversion loses on the bundled network: every layer and 1,000 pictures against f32.

use std::path::PathBuf;

use vgg_edge_blob::{AlignedBytes, Scheme};
use vgg_edge_host::calibrate::Method;
use vgg_edge_host::convert::{Conversion, Converted, Tuning};
use vgg_edge_host::eval::{Evaluation, Network, evaluate};
use vgg_edge_host::graph::Graph;
use vgg_edge_host::import::{ImportOptions, import};
use vgg_edge_host::plan::Board;
use vgg_edge_host::preprocess::Preprocess;
use vgg_edge_host::progress::Progress;
use vgg_edge_host::report;
use vgg_edge_host::samples::Samples;
use vgg_edge_tests::{shared_dir, workspace_root};

struct Case {
    graph: Graph,
    rule: Preprocess,
    calib: PathBuf,
}

impl Case {
    fn open(weights: PathBuf, calib: PathBuf) -> Self {
        let graph = import(&weights, &ImportOptions::default()).expect("weights").graph;
        let (rule, _) = Preprocess::find(None, &weights, graph.input()).expect("a sidecar");
        Self { graph, rule, calib }
    }

    fn bundled() -> Self {
        let fixtures = workspace_root().join("tests/fixtures");
        Self::open(fixtures.join("small_vgg/small_vgg.h5"), fixtures.join("cifar10/calib"))
    }

    fn convert(&self, scheme: Scheme, method: Method, n_pictures: usize) -> Converted {
        let s = self.graph.input();
        let input = vgg_edge_blob::Shape {
            height: s.height as u32,
            width: s.width as u32,
            channels: s.channels as u32,
        };
        let samples =
            Samples::open(&self.calib, &self.rule.to_blob(), input).expect("pictures").thin(n_pictures);
        let conversion = Conversion {
            scheme,
            method,
            tuning: Tuning::default(),
            board: Board::generic(),
            gate: None,
            labels: Vec::new(),
        };
        conversion.run(&self.graph, &self.rule, &samples, &Progress::Hidden).expect("a conversion")
    }

    fn evaluate(&self, bytes: AlignedBytes, data: PathBuf) -> Evaluation {
        let reference = Network::of_graph(&self.graph, self.rule.clone()).expect("a reference");
        evaluate(&Network::Blob(bytes), Some(&reference), &data, &Progress::Hidden)
            .expect("labelled pictures")
    }
}

fn test_pictures() -> PathBuf {
    workspace_root().join("tests/fixtures/cifar10/test")
}

fn drop_in_points(e: &Evaluation) -> f64 {
    100.0 * e.drop.expect("labels and a reference")
}

#[test]
fn int8_keeps_every_layer_and_the_answers() {
    let case = Case::bundled();
    let converted = case.convert(Scheme::Int8, Method::Mse, 200);
    println!("{}", report::table(&converted.sqnr));
    for layer in &converted.sqnr {
        assert!(layer.db >= 20.0, "{}: {} dB", layer.name, layer.db);
    }
    let e = case.evaluate(converted.bytes, test_pictures());
    println!("{e:?}");
    assert!(drop_in_points(&e) <= 0.2 && e.agreement.expect("a reference") >= 0.985, "{e:?}");
}

#[test]
fn f16_keeps_every_layer_and_the_answers() {
    let case = Case::bundled();
    let converted = case.convert(Scheme::F16, Method::Mse, 16);
    println!("{}", report::table(&converted.sqnr));
    for layer in &converted.sqnr {
        assert!(layer.db >= 50.0, "{}: {} dB", layer.name, layer.db);
    }
    let e = case.evaluate(converted.bytes, test_pictures());
    assert!(drop_in_points(&e) <= 0.1 && e.agreement.expect("a reference") >= 0.999, "{e:?}");
}

#[test]
fn every_method_converts_and_none_depends_on_threads() {
    let case = Case::bundled();
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    for method in [Method::MinMax, Method::Percentile(99.99), Method::Entropy, Method::Mse, Method::Auto] {
        let many = case.convert(Scheme::Int8, method, 24);
        let one = one_thread.install(|| case.convert(Scheme::Int8, method, 24));
        assert!(many.bytes.as_slice() == one.bytes.as_slice(), "{method}: bytes depend on threads");
        assert!(many.figures.agreement > Some(0.9), "{method}: {:?}", many.figures);
    }
}

#[test]
fn a_whole_vgg16_keeps_its_answers() {
    let Some(shared) = shared_dir() else { return };
    let case = Case::open(shared.join("models/vgg16_cifar10.h5"), shared.join("data/cifar10_calib"));
    let converted = case.convert(Scheme::Int8, Method::Mse, 100);
    println!("{}", report::table(&converted.sqnr));
    println!("{:?}", converted.figures);
    for layer in &converted.sqnr {
        assert!(layer.db >= 24.0, "{}: {} dB", layer.name, layer.db);
    }
    assert!(converted.figures.agreement >= Some(0.97), "{:?}", converted.figures);
}
