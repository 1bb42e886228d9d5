//! The executor against plain loops: every kernel, band size and thread count, `==`.

mod support;

use support::{Part, Random, blob_bytes, f16_logits, int4_twin, int8_logits, k8_twin, model, winograd_twin};
use vgg_edge_blob::{Blob, NewModel, Padding, Scheme, Shape};
use vgg_edge_engine::pool::{Executor, Pool, Serial};
use vgg_edge_engine::{Engine, Options, kernels};

const SEED: u64 = 0x5EED_0001;

fn conv(filters: u32, block: u16) -> Part {
    Part::Conv { kernel: 3, filters, block }
}

fn pool(stride: u8, padding: Padding, block: u16) -> Part {
    Part::Pool { stride, padding, block }
}

/// Networks named by what they are an edge of.
fn networks() -> Vec<(&'static str, Shape, Vec<Part>)> {
    let shape = |height, width, channels| Shape { height, width, channels };
    let (valid, same) = (Padding::Valid, Padding::Same);
    let vgg = vec![
        conv(16, 1),
        conv(16, 1),
        pool(2, valid, 1),
        conv(24, 2),
        conv(24, 2),
        conv(24, 2),
        pool(2, valid, 2),
        Part::Gap,
        Part::Dense { units: 20 },
        Part::Dense { units: 10 },
    ];
    vec![
        ("vgg of two blocks", shape(20, 28, 3), vgg),
        ("one convolution, map output", shape(5, 7, 3), vec![conv(8, 1)]),
        (
            "map output behind pools, off the group",
            shape(15, 9, 3),
            vec![conv(8, 1), pool(2, same, 1), conv(13, 2), conv(21, 2), pool(2, valid, 2)],
        ),
        (
            "map output behind a pool of stride 1, same",
            shape(11, 9, 3),
            vec![conv(13, 1), conv(8, 1), pool(1, same, 1)],
        ),
        (
            "map output behind a pool of stride 1, valid",
            shape(11, 9, 1),
            vec![conv(8, 1), pool(2, valid, 1), conv(5, 2), pool(1, valid, 2)],
        ),
        (
            "map output of a 1x1 filter",
            shape(6, 13, 4),
            vec![conv(8, 1), Part::Conv { kernel: 1, filters: 11, block: 1 }],
        ),
        ("pooled output, off the group", shape(7, 10, 3), vec![conv(13, 1), Part::Gap]),
        (
            "widths off the group",
            shape(9, 11, 3),
            vec![conv(5, 1), conv(13, 1), pool(2, valid, 1), Part::Dense { units: 3 }],
        ),
        (
            "odd sides, valid pool drops an edge",
            shape(13, 7, 1),
            vec![conv(8, 1), pool(2, valid, 1), conv(8, 2), Part::Gap],
        ),
        (
            "odd sides, valid pool, more channels than behind a map",
            shape(13, 11, 3),
            vec![conv(8, 1), conv(136, 1), pool(2, valid, 1), Part::Gap],
        ),
        (
            "odd sides, same pool, padding behind it",
            shape(11, 13, 3),
            vec![conv(8, 1), conv(136, 1), pool(2, same, 1), conv(8, 2), pool(2, same, 2), Part::Gap],
        ),
        (
            "odd sides, same pool keeps it",
            shape(13, 7, 4),
            vec![conv(8, 1), pool(2, same, 1), conv(8, 2), Part::Gap, Part::Dense { units: 2 }],
        ),
        (
            "a picture with alpha",
            shape(12, 17, 4),
            vec![conv(8, 1), conv(24, 1), pool(2, valid, 1), Part::Gap, Part::Dense { units: 5 }],
        ),
        (
            "a gray picture, 1x1 filter first",
            shape(9, 6, 1),
            vec![Part::Conv { kernel: 1, filters: 8, block: 1 }, conv(8, 1), Part::Dense { units: 3 }],
        ),
        ("alpha, dense only", shape(3, 5, 4), vec![Part::Dense { units: 6 }]),
        (
            "pool stride 1, valid",
            shape(12, 10, 3),
            vec![
                conv(8, 1),
                conv(8, 1),
                pool(1, valid, 1),
                conv(8, 2),
                pool(1, valid, 2),
                Part::Dense { units: 4 },
            ],
        ),
        (
            "pool stride 1, same",
            shape(8, 8, 3),
            vec![conv(8, 1), pool(1, same, 1), conv(16, 1), pool(1, same, 1), Part::Dense { units: 9 }],
        ),
        (
            "1x1 filters between",
            shape(10, 6, 3),
            vec![
                conv(16, 1),
                Part::Conv { kernel: 1, filters: 24, block: 1 },
                conv(8, 1),
                pool(2, valid, 1),
                Part::Gap,
                Part::Dense { units: 4 },
            ],
        ),
        ("one row", shape(1, 9, 3), vec![conv(8, 1), conv(8, 1), Part::Gap, Part::Dense { units: 4 }]),
        ("one pixel", shape(1, 1, 3), vec![conv(8, 1), conv(8, 1), Part::Dense { units: 4 }]),
        ("dense only", shape(3, 5, 3), vec![Part::Dense { units: 17 }, Part::Dense { units: 4 }]),
        (
            "two pools in a row",
            shape(16, 16, 3),
            vec![conv(8, 1), pool(2, valid, 1), pool(2, valid, 1), Part::Dense { units: 4 }],
        ),
        (
            "tall map, many bands",
            shape(96, 5, 3),
            vec![conv(8, 1), conv(8, 1), conv(8, 1), pool(2, valid, 1), Part::Gap, Part::Dense { units: 4 }],
        ),
    ]
}

fn check(scheme: Scheme, twin: fn(NewModel) -> NewModel, expect: fn(&NewModel, &[u8]) -> Vec<f32>) {
    println!("seed {SEED:#x}");
    let pools: Vec<Box<dyn Executor>> =
        vec![Box::new(Serial), Box::new(Pool::new(2).unwrap()), Box::new(Pool::new(4).unwrap())];
    for (name, input, parts) in networks() {
        let mut random = Random(SEED);
        let model = twin(model(&mut random, scheme, input, &parts));
        let bytes = blob_bytes(&model);
        let blob = Blob::parse(bytes.as_slice()).unwrap_or_else(|e| panic!("{name}: {e}"));
        blob.verify_checksums().unwrap();
        let pictures: Vec<Vec<u8>> =
            (0..2).map(|_| (0..input.len()).map(|_| random.range(0, 255) as u8).collect()).collect();
        let expected: Vec<Vec<f32>> = pictures.iter().map(|p| expect(&model, p)).collect();
        for kernel in kernels::available() {
            for executor in &pools {
                for l2_bytes in [1, 4 << 10, 32 << 10, 512 << 10] {
                    let options = Options { l2_bytes, repack: false, ..Options::default() };
                    let mut engine = Engine::new(&blob, kernel, executor.as_ref(), options).unwrap();
                    for (picture, expected) in pictures.iter().zip(&expected) {
                        let logits = engine.run(picture).unwrap();
                        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                        assert!(
                            bits(logits) == bits(expected),
                            "{name}, {}, {} threads, L2 {l2_bytes}: {logits:?}, expected {expected:?}",
                            kernel.name(),
                            executor.n_threads(),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn int8_equals_plain_loops() {
    check(Scheme::Int8, |model| model, int8_logits);
}

/// The same networks, the same logits, with Winograd in every 3x3 layer but the first.
#[test]
fn int8_winograd_equals_plain_loops() {
    check(Scheme::Int8, winograd_twin, int8_logits);
}

/// Pools are done with the tiles before them, unless someone looks at the map between: then every layer's values are those of
/// the definition, and the logits stay.
#[test]
fn who_looks_at_maps_sees_those_before_pools() {
    let input = Shape { height: 27, width: 21, channels: 3 };
    let parts = [conv(16, 1), conv(72, 1), pool(2, Padding::Same, 1), conv(8, 2), pool(2, Padding::Valid, 2)];
    let direct = model(&mut Random(SEED), Scheme::Int8, input, &parts);
    let picture: Vec<u8> = (0..input.len()).map(|i| (i * 89 % 256) as u8).collect();
    let bytes = blob_bytes(&winograd_twin(direct));
    let blob = Blob::parse(bytes.as_slice()).unwrap();
    let shapes: Vec<Shape> = blob.layers().map(|layer| layer.output).collect();
    for kernel in kernels::available() {
        for l2_bytes in [1, 100 << 10, 1 << 20] {
            let options = Options { l2_bytes, ..Options::default() };
            let mut engine = Engine::new(&blob, kernel, &Serial, options).unwrap();
            let features = engine.run(&picture).unwrap().to_vec();
            let mut maps: Vec<Vec<f32>> = vec![Vec::new(); parts.len()];
            let visited = engine
                .run_visiting(&picture, |layer_idx, _, values| maps[layer_idx].extend_from_slice(values))
                .unwrap()
                .to_vec();
            assert_eq!(visited, features, "{}, L2 {l2_bytes}", kernel.name());
            for (conv, pool) in [(1, 2), (3, 4)] {
                let ([before, after], channels) =
                    ([shapes[conv], shapes[pool]], shapes[pool].channels as usize);
                let value = |y: u32, x: u32, c: usize| {
                    let (y, x) = (y.min(before.height - 1), x.min(before.width - 1));
                    maps[conv][(y * before.width + x) as usize * channels + c]
                };
                let places = (0..after.height).flat_map(|y| (0..after.width).map(move |x| (y, x)));
                let expected: Vec<f32> = places
                    .flat_map(|(y, x)| (0..channels).map(move |c| (2 * y, 2 * x, c)))
                    .map(|(y, x, c)| {
                        let right = value(y, x + 1, c).max(value(y + 1, x + 1, c));
                        value(y, x, c).max(value(y + 1, x, c)).max(right)
                    })
                    .collect();
                assert_eq!(maps[pool], expected, "{}, L2 {l2_bytes}, layer {pool}", kernel.name());
            }
        }
    }
}

/// The same networks with 4-bit weights in every dense layer, the last one included.
#[test]
fn int8_fc4_equals_plain_loops() {
    check(Scheme::Int8, |model| int4_twin(&mut Random(SEED), model), int8_logits);
}

/// The same networks, the same logits, with weights for `smmla`, on every kernel.
#[test]
fn int8_k8_equals_plain_loops() {
    check(Scheme::Int8, k8_twin, int8_logits);
}

/// Both layouts and algorithms in one network.
#[test]
fn int8_winograd_with_k8_equals_plain_loops() {
    check(Scheme::Int8, |model| k8_twin(winograd_twin(model)), int8_logits);
}

#[test]
fn f16_equals_plain_loops() {
    check(Scheme::F16, |model| model, f16_logits);
}

/// The self-test of a feature extractor: every value of its map, on every kernel.
#[test]
fn features_are_tested_like_logits() {
    for scheme in [Scheme::Int8, Scheme::F16] {
        let input = Shape { height: 14, width: 9, channels: 3 };
        let mut new = model(&mut Random(SEED), scheme, input, &[conv(13, 1), pool(1, Padding::Same, 1)]);
        let picture: Vec<u8> = (0..input.len()).map(|i| (i * 89 % 256) as u8).collect();
        let mut features = match scheme {
            Scheme::Int8 | Scheme::Int8Fc4 => int8_logits(&new, &picture),
            Scheme::F16 => f16_logits(&new, &picture),
        };
        assert_eq!(features.len(), 14 * 9 * 13);
        for expected in [None, Some("self-test: feature 1637 is ")] {
            if expected.is_some() {
                features[1637] += 1.0;
            }
            new.golden = Some((picture.clone(), features.clone()));
            let bytes = blob_bytes(&new);
            let blob = Blob::parse(bytes.as_slice()).unwrap();
            assert!(!blob.is_classifier());
            for kernel in kernels::available() {
                let mut engine = Engine::new(&blob, kernel, &Serial, Options::default()).unwrap();
                let error = engine.self_test().err().map(|e| e.to_string());
                let as_expected = match (&error, expected) {
                    (Some(error), Some(start)) => error.starts_with(start),
                    (error, expected) => error.is_none() && expected.is_none(),
                };
                assert!(as_expected, "{}: {error:?}, expected {expected:?}", kernel.name());
            }
        }
    }
}

#[test]
fn early_blocks_run_in_bands_that_fit_the_cache() {
    let parts = [conv(64, 1), conv(64, 1), pool(2, Padding::Valid, 1), Part::Gap, Part::Dense { units: 10 }];
    let input = Shape { height: 224, width: 224, channels: 3 };
    let bytes = blob_bytes(&model(&mut Random(SEED), Scheme::Int8, input, &parts));
    let blob = Blob::parse(bytes.as_slice()).unwrap();
    let kernel = kernels::available().last().unwrap();
    // The default follows the core.
    let options = Options { l2_bytes: 512 << 10, ..Options::default() };
    let engine = Engine::new(&blob, kernel, &Serial, options).unwrap();
    let block = engine.blocks()[0];
    assert_eq!((block.n_layers, block.n_bands > 10), (3, true), "{block:?}");
    assert!(block.window_bytes < 256 << 10, "{block:?}");
    // Block 1's maps of 224x224x64 would take 3.2 MB each.
    assert!(engine.arena_bytes() < 1_300_000, "{}", engine.arena_bytes());
}

#[test]
fn a_picture_of_another_size_is_refused() {
    let bytes = blob_bytes(&model(
        &mut Random(1),
        Scheme::Int8,
        Shape { height: 2, width: 2, channels: 3 },
        &[conv(8, 1)],
    ));
    let blob = Blob::parse(bytes.as_slice()).unwrap();
    let kernel = kernels::available().last().unwrap();
    let mut engine = Engine::new(&blob, kernel, &Serial, Options::default()).unwrap();
    assert_eq!(
        engine.run(&[0; 11]).unwrap_err().to_string(),
        "the picture has 11 bytes, the network's input 12"
    );
    let small = Options { max_arena_bytes: 100, ..Options::default() };
    let error = Engine::new(&blob, kernel, &Serial, small).err().unwrap().to_string();
    assert!(
        error.starts_with("the network needs an arena of ") && error.ends_with(" bytes, the limit is 100"),
        "{error}"
    );
}
