//! Networks for gray, RGB and RGBA pictures, classifiers and feature extractors, from graph to engine against f32.
//!
//! ```text
//! pictures of every kind (gray, palette, alpha, CMYK) ─► samples ─► calibrate ─► blob ─► engine ~ f32 reference
//! ```

use std::fs;

use vgg_edge_blob::{Blob, ChannelOrder, Scheme, Shape as BlobShape};
use vgg_edge_engine::pool::Serial;
use vgg_edge_engine::{Engine, Options, kernels};
use vgg_edge_host::calibrate::Method;
use vgg_edge_host::convert::{Conversion, Tuning};
use vgg_edge_host::graph::{Graph, Kind, Padding, Shape, Spec};
use vgg_edge_host::plan::Board;
use vgg_edge_host::preprocess::Preset;
use vgg_edge_host::progress::Progress;
use vgg_edge_host::reference::Reference;
use vgg_edge_host::report;
use vgg_edge_host::samples::Samples;
use vgg_edge_tests::{temp_dir, workspace_root};

/// How a network ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Classes,
    Vector,
    Map,
}

/// Two blocks, the second with a pool of stride 1; an input that is neither square nor even.
fn network(channels: usize, end: End) -> Graph {
    let conv = |filters| Kind::Conv { filter_size: 3, filters };
    let mut spec = Spec::new("small", Shape::new(45, 38, channels))
        .layer("c1", conv(13))
        .layer("r1", Kind::Relu)
        .layer("p1", Kind::MaxPool { stride: 2, padding: Padding::Valid })
        .layer("c2", conv(21))
        .layer("r2", Kind::Relu)
        .layer("p2", Kind::MaxPool { stride: 1, padding: Padding::Same });
    if end != End::Map {
        spec = spec.layer("g", Kind::GlobalAvgPool);
    }
    if end == End::Classes {
        spec = spec.layer("d", Kind::Dense { units: 6 });
    }
    spec.with_random_weights(7).expect("a network")
}

#[test]
fn every_kind_of_picture_and_output_survives_conversion() {
    let fixtures = workspace_root().join("device/engine/tests/fixtures/pictures");
    let folder = temp_dir();
    // All but what is refused by name.
    for entry in fs::read_dir(fixtures).expect("pictures").flatten() {
        if entry.path().file_stem().is_some_and(|stem| stem != "animated") {
            fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
        }
    }
    let folder = folder.path();
    for (channels, order, preset) in [
        (1, ChannelOrder::Gray, Preset::Unit),
        (3, ChannelOrder::Bgr, Preset::KerasCaffe),
        (4, ChannelOrder::Rgba, Preset::Torchvision),
    ] {
        for (end, output) in [(End::Classes, [1, 1, 6]), (End::Vector, [1, 1, 21]), (End::Map, [22, 19, 21])]
        {
            let graph = network(channels, end);
            let rule = preset.preprocess(graph.input());
            assert_eq!(rule.order, order);
            let input = BlobShape { height: 45, width: 38, channels: channels as u32 };
            let samples = Samples::open(folder, &rule.to_blob(), input).expect("pictures");
            assert!(samples.len() > 15, "{} pictures", samples.len());
            for (scheme, least_db) in [(Scheme::Int8, 20.0), (Scheme::F16, 50.0)] {
                let case = format!("{channels} channels, {end:?}, {}", scheme.name());
                let conversion = Conversion {
                    scheme,
                    method: Method::Mse,
                    tuning: Tuning::default(),
                    board: Board::generic(),
                    gate: None,
                    labels: Vec::new(),
                };
                let converted = conversion.run(&graph, &rule, &samples, &Progress::Hidden).expect(&case);
                for layer in &converted.sqnr {
                    assert!(layer.db >= least_db, "{case}\n{}", report::table(&converted.sqnr));
                }
                let blob = Blob::parse(converted.bytes.as_slice()).expect(&case);
                let shape = blob.output();
                assert_eq!([shape.height, shape.width, shape.channels], output, "{case}");
                assert_eq!((blob.is_classifier(), blob.preprocess().order), (end == End::Classes, order));
                let golden = blob.golden().expect("a self-test");
                assert_eq!(
                    (golden.input.len() as u64, golden.logits.len() as u64),
                    (input.len(), shape.len())
                );

                let reference = Reference::new(&graph).expect("a reference");
                let mut engine =
                    Engine::new(&blob, kernels::best(), &Serial, Options::default()).expect("an engine");
                for i in 0..samples.len() {
                    let picture = samples.picture(i).expect("a picture");
                    let expected =
                        reference.run(&rule.normalize(&picture.data).expect("pixels")).expect("f32");
                    let found = engine.run(&picture.data).expect("the input's size");
                    let power: f32 = expected.logits.iter().map(|v| v * v).sum();
                    let noise: f32 = expected.logits.iter().zip(found).map(|(e, f)| (e - f) * (e - f)).sum();
                    let db = 10.0 * (power / noise).log10();
                    assert!(db >= least_db - 6.0, "{case}: {db} dB on {}", picture.path.display());
                }
            }
        }
    }
}
