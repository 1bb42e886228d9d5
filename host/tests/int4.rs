//! `int8-fc4` on a trained network with dense layers: what it loses on pictures that calibration has not seen.

use vgg_edge_blob::{Blob, LayerOp, Layout, Scheme, Shape};
use vgg_edge_host::calibrate::Method;
use vgg_edge_host::convert::{Conversion, Converted, Tuning};
use vgg_edge_host::eval::{Evaluation, Network, evaluate};
use vgg_edge_host::graph::Graph;
use vgg_edge_host::import::{ImportOptions, import};
use vgg_edge_host::plan::Board;
use vgg_edge_host::preprocess::Preprocess;
use vgg_edge_host::progress::Progress;
use vgg_edge_host::samples::Samples;
use vgg_edge_tests::shared_dir;

fn convert(
    graph: &Graph,
    rule: &Preprocess,
    samples: &Samples,
    scheme: Scheme,
    from: usize,
) -> anyhow::Result<Converted> {
    let (method, board) = (Method::Mse, Board::generic());
    let conversion =
        Conversion { scheme, method, tuning: Tuning::default(), board, gate: None, labels: Vec::new() };
    conversion.run_int4_from(from, graph, rule, samples, &Progress::Hidden)
}

#[test]
fn dense_layers_in_4_bits_keep_the_answers() {
    let Some(shared) = shared_dir() else { return };
    let weights = shared.join("models/small_vgg_fc.h5");
    let graph = import(&weights, &ImportOptions::default()).expect("weights").graph;
    let (rule, _) = Preprocess::find(None, &weights, graph.input()).expect("a sidecar");
    let s = graph.input();
    let input = Shape { height: s.height as u32, width: s.width as u32, channels: s.channels as u32 };
    let calib = shared.join("data/cifar10_calib");
    let samples = Samples::open(&calib, &rule.to_blob(), input).expect("pictures").thin(100);

    let error = convert(&graph, &rule, &samples, Scheme::Int8Fc4, 1 << 30).err().expect("no such layer");
    let words = "no dense layer before the last has 1073741824 weights or more: int8-fc4 would be int8";
    assert_eq!(error.to_string(), words);

    let int8 = convert(&graph, &rule, &samples, Scheme::Int8, 1).expect("a conversion");
    let int4 = convert(&graph, &rule, &samples, Scheme::Int8Fc4, 1).expect("a conversion");
    let blob = Blob::parse(int4.bytes.as_slice()).expect("a blob");
    assert_eq!((blob.scheme(), int4.figures.scheme), (Scheme::Int8Fc4, "int8-fc4"));
    let layouts: Vec<Layout> = blob
        .layers()
        .filter_map(|layer| match layer.op {
            LayerOp::Dense(linear) => Some(linear.weights.layout()),
            _ => None,
        })
        .collect();
    let (last, others) = layouts.split_last().expect("dense layers");
    assert_eq!(*last, Layout::S8O8K4);
    assert!(!others.is_empty() && others.iter().all(|layout| *layout == Layout::S4O8K64), "{layouts:?}");
    assert!(int4.bytes.as_slice().len() < int8.bytes.as_slice().len());

    let reference = Network::of_graph(&graph, rule.clone()).expect("a reference");
    let evaluate = |converted: Converted| {
        let data = shared.join("data/cifar10_test1000");
        evaluate(&Network::Blob(converted.bytes), Some(&reference), &data, &Progress::Hidden)
            .expect("pictures")
    };
    let (int8, int4) = (evaluate(int8), evaluate(int4));
    let top1 = |e: &Evaluation| e.rates.as_ref().expect("labels").top1;
    let figures = format!(
        "int8: top-1 {:.4}, agreement {:?}; int8-fc4: top-1 {:.4}, agreement {:?}",
        top1(&int8),
        int8.agreement,
        top1(&int4),
        int4.agreement
    );
    println!("{figures}");
    assert!(top1(&int4) >= top1(&int8) - 0.01, "{figures}");
    assert!(int4.agreement.expect("a reference") >= 0.97, "{figures}");
}
