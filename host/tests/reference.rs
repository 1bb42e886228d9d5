//! The f32 reference against plain loops, op by op. `models` compares whole networks with their frameworks.

use vgg_edge_host::graph::{ConvBlock, Graph, Kind, Op, Padding, Shape, Spec, Tensor};
use vgg_edge_host::reference::{Reference, softmax};

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // `max` would drop a NaN.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |w, d| if d <= w { w } else { d })
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
