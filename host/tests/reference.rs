//! Imported networks on the f32 reference give what Keras and PyTorch gave, for every file with golden outputs.

mod support;

use support::{Npy, shared};
use vgg_edge_host::graph::{ConvBlock, Graph, Kind, Op, Padding, Shape, Spec, Tensor};
use vgg_edge_host::import::{ImportOptions, import};
use vgg_edge_host::preprocess::{Origin, Preprocess};
use vgg_edge_host::reference::{Reference, softmax};

/// Largest probability difference allowed.
const TOLERANCE: f32 = 1e-4;

struct Golden {
    file: &'static str,
    /// Given by the user where the file cannot say.
    input: Option<&'static str>,
    pictures: &'static str,
    outputs: &'static str,
    n: usize,
}

const fn small(file: &'static str, input: Option<&'static str>, outputs: &'static str) -> Golden {
    Golden { file, input, pictures: "golden_images_u8_nhwc_rgb", outputs, n: 64 }
}

fn check(golden: &Golden) {
    let Some(models) = shared("models") else { return };
    let input = golden.input.map(|s| s.parse::<Shape>().expect("a shape"));
    let path = models.join(golden.file);
    let imported = import(&path, &ImportOptions { input, ..Default::default() }).expect("imports");
    let graph = &imported.graph;
    let (rule, origin) = Preprocess::find(None, &path, graph.input())
        .or_else(|_| {
            // Files that share another one's rule.
            Preprocess::find(None, &models.join("small_vgg.h5"), graph.input())
        })
        .expect("rule");
    assert!(matches!(origin, Origin::Sidecar(_)));
    let npy = |name: &str| Npy::read(&models.join("golden").join(format!("{name}.npy")));
    let pictures = npy(golden.pictures);
    let logits = npy(&format!("{}_logits", golden.outputs));
    let probabilities = npy(&format!("{}_softmax", golden.outputs));
    let reference = Reference::new(graph).expect("builds");
    let (mut worst, mut worst_logit) = (0f32, 0f32);
    for i in 0..golden.n {
        let answer = reference.run(&rule.normalize(pictures.u8_row(i)).expect("pixels")).expect("runs");
        worst = worst.max(distance(&answer.probabilities, &probabilities.f32_row(i)));
        worst_logit = worst_logit.max(distance(&answer.logits, &logits.f32_row(i)));
    }
    println!(
        "{}: {} pictures, probabilities differ by {worst:.1e}, logits by {worst_logit:.1e}",
        golden.file, golden.n
    );
    assert!(worst <= TOLERANCE, "{}: probabilities differ by {worst}", golden.file);
    assert!(worst_logit <= 1e-3, "{}: logits differ by {worst_logit}", golden.file);
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // `max` would drop a NaN.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |w, d| if d <= w { w } else { d })
}

#[test]
fn small_vgg_keras_model() {
    check(&small("small_vgg.h5", None, "small_vgg"));
}

#[test]
fn small_vgg_keras2_weights() {
    check(&small("small_vgg_keras2_weights.h5", Some("32x32"), "small_vgg"));
}

#[test]
fn small_vgg_keras1_weights() {
    check(&small("small_vgg_weights_tf_dim_ordering_tf_kernels.h5", Some("32x32"), "small_vgg"));
}

#[test]
fn small_vgg_keras_archive() {
    check(&small("small_vgg.keras", None, "small_vgg"));
}

#[test]
fn small_vgg_keras3_weights() {
    check(&small("small_vgg.weights.h5", Some("32x32"), "small_vgg"));
}

#[test]
fn small_vgg_bn_keras_model_and_archive() {
    check(&small("small_vgg_bn.h5", None, "small_vgg_bn"));
    check(&small("small_vgg_bn.keras", None, "small_vgg_bn"));
}

/// A network with batch normalization, as stored and folded by this crate, and the twin that was folded elsewhere.
#[test]
fn small_vgg_bn_agrees_with_its_folded_twin() {
    let Some(models) = shared("models") else { return };
    let graph = |file: &str| import(&models.join(file), &ImportOptions::default()).expect("imports").graph;
    let stored = graph("small_vgg_bn.keras");
    let folded = stored.canonical().expect("folds");
    let twin = graph("small_vgg.h5");
    assert!(stored.layers().iter().any(|l| matches!(l.op, Op::BatchNorm { .. })));
    assert!(!folded.layers().iter().any(|l| matches!(l.op, Op::BatchNorm { .. } | Op::Affine { .. })));
    let (rule, _) = Preprocess::find(None, &models.join("small_vgg.h5"), twin.input()).expect("rule");
    let pictures = Npy::read(&models.join("golden/golden_images_u8_nhwc_rgb.npy"));
    let networks = [&stored, &folded, &twin].map(|g| Reference::new(g).expect("builds"));
    let mut worst = 0f32;
    for i in 0..64 {
        let input = rule.normalize(pictures.u8_row(i)).expect("pixels");
        let [stored, folded, twin] = [0, 1, 2].map(|n| networks[n].run(&input).expect("runs").logits);
        worst = worst.max(distance(&stored, &twin)).max(distance(&folded, &twin));
    }
    println!("batch normalization as stored, folded here, folded elsewhere: logits differ by {worst:.1e}");
    assert!(worst <= 1e-4, "logits differ by {worst}");
}

#[test]
fn small_vgg_torchvision() {
    check(&small("small_vgg.safetensors", Some("32x32"), "small_vgg_torch"));
}

#[test]
fn small_vgg_fc_keras() {
    check(&small("small_vgg_fc.h5", None, "small_vgg_fc"));
}

#[test]
fn small_vgg_fc_keras_archive() {
    check(&small("small_vgg_fc.keras", None, "small_vgg_fc"));
}

#[test]
fn small_vgg_fc_torchvision() {
    // One dense input a channel could be pooling over any size: the file alone cannot say.
    check(&small("small_vgg_fc_torchvision.safetensors", Some("32x32"), "small_vgg_fc_torch"));
}

#[test]
fn small_vgg_fc64_keras_flattens_hwc() {
    let pictures = "small_vgg_fc64_input_u8_nhwc_rgb";
    for file in ["small_vgg_fc64.h5", "small_vgg_fc64.keras"] {
        check(&Golden { file, input: None, pictures, outputs: "small_vgg_fc64", n: 64 });
    }
}

#[test]
fn small_vgg_fc64_torchvision_flattens_chw() {
    let (file, pictures) = ("small_vgg_fc64_torchvision.safetensors", "small_vgg_fc64_input_u8_nhwc_rgb");
    check(&Golden { file, input: None, pictures, outputs: "small_vgg_fc64_torch", n: 64 });
}

#[test]
fn vgg16_cifar10_keras_model() {
    let pictures = "vgg16_cifar10_input_u8_nhwc_rgb_96";
    check(&Golden { file: "vgg16_cifar10.h5", input: None, pictures, outputs: "vgg16_cifar10", n: 8 });
}

/// Every op once, with odd sizes, both paddings and both strides.
fn all_ops() -> Graph {
    Spec::new("all", Shape::new(9, 7, 3))
        .conv_block(ConvBlock { filters: 5, repeats: 2, pool_strides: 1, block_id: 1 })
        .layer("point", Kind::Conv { filter_size: 1, filters: 4 })
        .layer("same2", Kind::MaxPool { stride: 2, padding: Padding::Same })
        .layer("same1", Kind::MaxPool { stride: 1, padding: Padding::Same })
        .layer("relu", Kind::Relu)
        .layer("flatten", Kind::Flatten)
        .layer("dropout", Kind::Dropout { rate: 0.5 })
        .dense("fc", 6, Kind::Relu)
        .dense("out", 3, Kind::Softmax)
        .with_random_weights(5)
        .expect("builds")
}

/// A narrow network that averages over a map that is not square.
fn pooled() -> Graph {
    Spec::new("pooled", Shape::new(17, 13, 3))
        .conv_block(ConvBlock { filters: 9, repeats: 1, pool_strides: 2, block_id: 1 })
        .conv_block(ConvBlock { filters: 17, repeats: 2, pool_strides: 2, block_id: 2 })
        .layer("global_average_pooling2d", Kind::GlobalAvgPool)
        .layer("dropout", Kind::Dropout { rate: 0.5 })
        .dense("dense", 12, Kind::Relu)
        .dense("dense_1", 4, Kind::Softmax)
        .with_random_weights(9)
        .expect("builds")
}

/// The same network in plain loops.
fn plain(graph: &Graph, input: &[f32]) -> Vec<Vec<f32>> {
    let mut outputs: Vec<Vec<f32>> = Vec::new();
    for (idx, layer) in graph.layers().iter().enumerate() {
        let x: &[f32] = if idx == 0 { input } else { &outputs[idx - 1] };
        let (from, to) = (graph.input_shape(idx).dims(), graph.output_shape(idx).dims());
        let at = |r: isize, c: isize, ch: usize| {
            let inside = (0..from[0] as isize).contains(&r) && (0..from[1] as isize).contains(&c);
            inside.then(|| x[(r as usize * from[1] + c as usize) * from[2] + ch])
        };
        let map = |f: &dyn Fn(isize, isize, usize) -> f32| -> Vec<f32> {
            let (rows, columns, channels) = (0..to[0] as isize, 0..to[1] as isize, 0..to[2]);
            let place = rows.flat_map(|r| columns.clone().map(move |c| (r, c)));
            place
                .flat_map(|(r, c)| channels.clone().map(move |ch| (r, c, ch)))
                .map(|(r, c, ch)| f(r, c, ch))
                .collect()
        };
        outputs.push(match &layer.op {
            Op::Conv { weights, bias } => {
                let side = weights.shape()[0] as isize;
                map(&|r, c, o| {
                    let mut acc = bias.as_ref().map_or(0.0, |b| f64::from(b.data()[o]));
                    for (t, (dr, dc)) in (0..side).flat_map(|a| (0..side).map(move |b| (a, b))).enumerate() {
                        for i in 0..from[2] {
                            let w = weights.data()[(t * from[2] + i) * to[2] + o];
                            acc += f64::from(w * at(r + dr - side / 2, c + dc - side / 2, i).unwrap_or(0.0));
                        }
                    }
                    acc as f32
                })
            }
            Op::MaxPool { stride, .. } => {
                let s = *stride as isize;
                map(&|r, c, ch| {
                    let window = [(0, 0), (0, 1), (1, 0), (1, 1)];
                    window.iter().filter_map(|(a, b)| at(r * s + a, c * s + b, ch)).fold(f32::MIN, f32::max)
                })
            }
            Op::Relu => x.iter().map(|v| v.max(0.0)).collect(),
            Op::GlobalAvgPool => (0..from[2])
                .map(|ch| x.iter().skip(ch).step_by(from[2]).sum::<f32>() / (from[0] * from[1]) as f32)
                .collect(),
            Op::Dense { weights, bias } => {
                let product = |o: usize| {
                    x.iter().enumerate().map(|(i, v)| v * weights.data()[i * to[0] + o]).sum::<f32>()
                };
                (0..to[0]).map(|o| product(o) + bias.as_ref().map_or(0.0, |b| b.data()[o])).collect()
            }
            Op::BatchNorm { gamma, beta, mean, variance, epsilon } => {
                let channels = mean.len();
                let of = |t: &Option<Tensor>, c: usize| t.as_ref().map(|t| t.data()[c]);
                (x.iter().enumerate())
                    .map(|(i, v)| {
                        let c = i % channels;
                        let normal = (v - mean.data()[c]) / (variance.data()[c] + *epsilon as f32).sqrt();
                        normal * of(gamma, c).unwrap_or(1.0) + of(beta, c).unwrap_or(0.0)
                    })
                    .collect()
            }
            Op::Affine { scale, shift } => {
                let channels = scale.len();
                (x.iter().enumerate())
                    .map(|(i, v)| v * scale.data()[i % channels] + shift.data()[i % channels])
                    .collect()
            }
            Op::Flatten | Op::Dropout { .. } => x.to_vec(),
            Op::Softmax => softmax(x),
        });
    }
    outputs
}

fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 101) as f32 / 50.0 - 1.0).collect()
}

#[test]
fn every_op_and_every_output_equals_plain_loops() {
    for (name, graph) in [("all ops", all_ops()), ("pooled over 4x3", pooled())] {
        let shape = graph.input();
        let input = noise(shape.height * shape.width * shape.channels);
        let expected = plain(&graph, &input);
        let reference = Reference::with_outputs(&graph).expect("builds");
        let (answer, outputs) = reference.run_with_outputs(&input).expect("runs");
        let mut names = Vec::new();
        for output in &outputs {
            // A ReLU right behind a layer is part of its output.
            let relu = matches!(graph.layers().get(output.layer_idx + 1), Some(l) if l.op == Op::Relu);
            let expected = &expected[output.layer_idx + usize::from(relu)];
            let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
            let off = distance(&output.data, expected);
            assert!(
                off <= 1e-5 * largest.max(1.0),
                "{name}: layer {}: off by {off} of {largest}",
                output.name
            );
            assert_eq!(output.shape, graph.output_shape(output.layer_idx));
            names.push(output.name.as_str());
        }
        let rows = graph.layers().iter().filter(|l| !matches!(l.op, Op::Dropout { .. } | Op::Softmax));
        let rows: Vec<&str> =
            rows.filter(|l| !l.fused && l.name != "relu").map(|l| l.name.as_str()).collect();
        assert_eq!(names, rows, "{name}");
        assert!(distance(&answer.probabilities, expected.last().expect("softmax")) < 1e-5);
        let fast = Reference::new(&graph).expect("builds").run(&input).expect("runs");
        assert!(distance(&fast.logits, &answer.logits) < 1e-4, "{name}");
    }
}

#[test]
fn one_reference_serves_many_threads() {
    fn shareable<T: Send + Sync>(_: &T) {}
    let graph = all_ops();
    let reference = Reference::new(&graph).expect("builds");
    shareable(&reference);
    let inputs: Vec<Vec<f32>> = (1..5).map(|k| noise(189).iter().map(|v| v * k as f32).collect()).collect();
    let alone: Vec<_> = inputs.iter().map(|x| reference.run(x).expect("runs")).collect();
    let together: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            inputs.iter().map(|x| scope.spawn(|| reference.run(x).expect("runs"))).collect();
        threads.into_iter().map(|t| t.join().expect("thread ends")).collect()
    });
    assert_eq!(alone, together);
}

#[test]
fn an_input_of_the_wrong_size_is_an_error() {
    let error = Reference::new(&all_ops()).expect("builds").run(&[0.0; 7]).expect_err("too short");
    assert_eq!(
        error.to_string(),
        "f32 reference: input has 7 values, expected 189 (height x width x channels)"
    );
}
