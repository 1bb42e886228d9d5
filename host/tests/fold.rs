//! Canonical graphs compute what the stored ones do.
//!
//! Factors a channel fold wherever they can and stay where they cannot, in f32 and on the device's engine.

use std::path::Path;

use vgg_edge_blob::{Scheme, Shape as BlobShape};
use vgg_edge_host::calibrate::Method;
use vgg_edge_host::convert::{Conversion, Tuning};
use vgg_edge_host::graph::{Graph, GraphError, Kind, Layer, Op, Padding, Shape, Spec, Tensor};
use vgg_edge_host::plan::Board;
use vgg_edge_host::preprocess::{Preprocess, Preset};
use vgg_edge_host::progress::Progress;
use vgg_edge_host::reference::Reference;
use vgg_edge_host::samples::Samples;
use vgg_edge_tests::workspace_root;

const BN: Kind = Kind::BatchNorm { epsilon: 1e-3 };
const CONV: Kind = Kind::Conv { filter_size: 3, filters: 8 };
const POINT: Kind = Kind::Conv { filter_size: 1, filters: 8 };
const POOL: Kind = Kind::MaxPool { stride: 2, padding: Padding::Valid };
const GAP: Kind = Kind::GlobalAvgPool;
const HEAD: Kind = Kind::Dense { units: 5 };

/// A network of these layers over 9x8x3, every third gamma and scale negative if `negative`.
fn network(kinds: &[Kind], negative: bool) -> Graph {
    let mut spec = Spec::new("net", Shape::new(9, 8, 3));
    for (i, kind) in kinds.iter().enumerate() {
        spec.push(format!("layer{i}"), *kind);
    }
    let graph = spec.with_random_weights(11).expect("builds");
    let (name, input, mut layers) = graph.into_layers();
    for layer in &mut layers {
        let factor = match &mut layer.op {
            Op::BatchNorm { gamma: Some(gamma), .. } => gamma,
            Op::Affine { scale, .. } => scale,
            _ => continue,
        };
        if negative {
            factor.data_mut().iter_mut().step_by(3).for_each(|v| *v = -*v);
        }
    }
    Graph::new(name, input, layers).expect("builds")
}

fn classes(graph: &Graph) -> String {
    graph.layers().iter().map(|l| l.op.kind().class()).collect::<Vec<_>>().join(" ")
}

#[test]
fn factors_fold_where_they_can_and_nothing_changes() {
    use Kind::{Affine, Dropout, Flatten, Relu};
    let drop = Dropout { rate: 0.5 };
    let same = Kind::MaxPool { stride: 2, padding: Padding::Same };
    #[rustfmt::skip]
    let cases: [(&str, &[Kind], bool, &str); 16] = [
        ("behind a convolution", &[CONV, BN, Relu, GAP, HEAD], true, "Conv2D ReLU GlobalAveragePooling2D Dense"),
        ("two behind a convolution", &[CONV, BN, Affine, Relu, GAP, HEAD], true, "Conv2D ReLU GlobalAveragePooling2D Dense"),
        ("behind a dense layer", &[Flatten, HEAD, BN, Relu, drop, HEAD], true, "Flatten Dense ReLU Dense"),
        ("behind dropout", &[CONV, drop, BN, Relu, GAP, HEAD], true, "Conv2D ReLU GlobalAveragePooling2D Dense"),
        ("behind a pool, positive", &[CONV, POOL, BN, Relu, GAP, HEAD], false, "Conv2D ReLU MaxPooling2D GlobalAveragePooling2D Dense"),
        ("behind a pool, negative", &[CONV, POOL, BN, Relu, GAP, HEAD], true, "Conv2D MaxPooling2D Affine ReLU GlobalAveragePooling2D Dense"),
        ("between ReLU and a padded convolution", &[CONV, Relu, BN, CONV, GAP, HEAD], true, "Conv2D ReLU Affine Conv2D GlobalAveragePooling2D Dense"),
        ("between ReLU and a 1x1 convolution", &[CONV, Relu, BN, POINT, GAP, HEAD], true, "Conv2D ReLU Conv2D GlobalAveragePooling2D Dense"),
        ("between ReLU, pool and average", &[CONV, Relu, BN, same, GAP, HEAD], false, "Conv2D ReLU MaxPooling2D GlobalAveragePooling2D Dense"),
        ("between ReLU and flattening", &[CONV, Relu, BN, Flatten, HEAD], true, "Conv2D ReLU Flatten Dense"),
        ("between ReLU and a dense layer", &[Flatten, HEAD, Relu, BN, HEAD], true, "Flatten Dense ReLU Dense"),
        ("behind the average", &[CONV, Relu, GAP, BN, HEAD], true, "Conv2D ReLU GlobalAveragePooling2D Dense"),
        ("behind the last ReLU", &[CONV, Relu, GAP, HEAD, Relu, BN], true, "Conv2D ReLU GlobalAveragePooling2D Dense ReLU Affine"),
        ("in front", &[BN, CONV, Relu, GAP, HEAD], false, "Affine Conv2D ReLU GlobalAveragePooling2D Dense"),
        ("features", &[CONV, BN, Relu, POOL], true, "Conv2D ReLU MaxPooling2D"),
        ("ReLU twice and behind the pool", &[CONV, POOL, Relu, GAP, Relu, HEAD], false, "Conv2D ReLU MaxPooling2D GlobalAveragePooling2D Dense"),
    ];
    let input: Vec<f32> = (0..9 * 8 * 3).map(|i| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0).collect();
    for (name, kinds, negative, expected) in cases {
        let graph = network(kinds, negative);
        let canonical = graph.canonical().expect("folds");
        assert_eq!(classes(&canonical), expected, "{name}");
        assert_eq!(canonical.canonical().expect("folds"), canonical, "{name}: a canonical graph is its own");
        let run = |g: &Graph| Reference::new(g).expect("builds").run(&input).expect("runs").logits;
        let (before, after) = (run(&graph), run(&canonical));
        let largest = before.iter().fold(0f32, |m, v| m.max(v.abs()));
        for (a, b) in before.iter().zip(&after) {
            assert!((a - b).abs() <= 1e-5 * largest.max(1.0), "{name}: {a} became {b}");
        }
    }
}

#[test]
fn a_fold_beyond_f32_is_an_error() {
    let vector = |v: f32| Tensor::vector(vec![v; 8]);
    let layer = |name: &str, op| Layer { name: name.into(), op, fused: false };
    let kernel = Tensor::new(vec![3, 3, 1, 8], vec![1e20; 72]).expect("fits");
    let graph = Graph::new(
        "net",
        Shape::new(4, 4, 1),
        vec![
            layer("c", Op::Conv { weights: kernel, bias: None }),
            layer("s", Op::Affine { scale: vector(1e20), shift: vector(0.0) }),
        ],
    )
    .expect("builds");
    let error: GraphError = graph.canonical().expect_err("1e40");
    assert_eq!(
        error.to_string(),
        "layer `c`: folding `s` into it makes kernel value 0 inf, expected a finite number"
    );
}

/// Worst SQNR of the conversion, and the number of its layers.
fn convert(graph: &Graph, scheme: Scheme) -> (f64, usize) {
    let rule: Preprocess = Preset::Unit.preprocess(graph.input());
    let (height, width) = (graph.input().height as u32, graph.input().width as u32);
    let input = BlobShape { height, width, channels: 3 };
    let folder = workspace_root().join("tests/fixtures/cifar10/calib");
    let samples = Samples::open(Path::new(&folder), &rule.to_blob(), input).expect("pictures").thin(24);
    let conversion = Conversion {
        scheme,
        method: Method::MinMax,
        tuning: Tuning::default(),
        board: Board::generic(),
        gate: None,
        labels: Vec::new(),
    };
    let converted = conversion.run(graph, &rule, &samples, &Progress::Hidden).expect("converts");
    let worst = converted.sqnr.iter().fold(f64::INFINITY, |m, l| m.min(f64::from(l.db)));
    (worst, converted.sqnr.len())
}

#[test]
fn factors_that_stay_and_features_run_on_the_engine() {
    use Kind::Relu;
    // Factors between ReLU and padding, behind the last pool, and in front: there a positive one is preprocessing.
    let layers = [Kind::Affine, CONV, Relu, BN, CONV, POOL, BN, Relu, GAP, HEAD];
    let kept = network(&layers, true);
    let (name, input, mut layers) = network(&layers, false).into_layers();
    layers[0].op = Op::Affine {
        scale: Tensor::vector(vec![2.0, 4.0, 3.0]),
        shift: Tensor::vector(vec![-1.0, -1.5, 0.0]),
    };
    let absorbed = Graph::new(name, input, layers).expect("builds");
    let features = network(&[CONV, Relu, BN, CONV, Relu, POOL], true);
    let pooled = network(&[CONV, BN, Relu, GAP], true);
    let cases =
        [("kept", kept, 8), ("absorbed", absorbed, 6), ("features", features, 4), ("pooled", pooled, 2)];
    for (name, graph, layers) in cases {
        let (int8, n) = convert(&graph, Scheme::Int8);
        let (f16, _) = convert(&graph, Scheme::F16);
        println!("{name}: int8 {int8:.1} dB, f16 {f16:.1} dB, {n} layers");
        assert!(int8 > 25.0 && f16 > 55.0, "{name}: int8 {int8} dB, f16 {f16} dB");
        assert_eq!(n, layers, "{name}");
    }
}
