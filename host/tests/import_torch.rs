//! Files of PyTorch: names, wrappers, types and strides of all kinds.

mod support;

use std::fs;
use std::path::Path;

use support::torch::{View, dict, legacy, pickle, state_dict, tensor, text, tuple, values, zip};
use vgg_edge_host::graph::{Arch, Graph, Op, Shape};
use vgg_edge_host::import::{Format, ImportError, ImportOptions, Imported, import};

fn open(path: &Path, input: Option<&str>) -> Imported {
    let input = input.map(|s| s.parse().expect("a shape"));
    import(path, &ImportOptions { input, ..Default::default() }).unwrap_or_else(|e| panic!("{e}"))
}

fn try_bytes(bytes: &[u8], options: &ImportOptions) -> Result<Imported, ImportError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.pth");
    fs::write(&path, bytes).expect("writes");
    import(&path, options)
}

fn open_bytes(bytes: &[u8]) -> Imported {
    let input = Some(Shape::new(32, 32, 3));
    try_bytes(bytes, &ImportOptions { input, ..Default::default() }).unwrap_or_else(|e| panic!("{e}"))
}

fn canonical(graph: &Graph) -> Graph {
    graph.canonical().expect("folds")
}

/// Names and kinds of the layers, without fused activations.
fn rows(graph: &Graph) -> Vec<String> {
    let shown = graph.layers().iter().filter(|l| !l.fused);
    shown.map(|l| format!("{} {}", l.name, l.op.kind())).collect()
}

const CONV: (&str, &[usize]) = ("features.0.weight", &[4, 3, 3, 3]);

#[test]
fn layers_are_named_as_in_the_file_and_their_places_follow_from_the_gaps() {
    let found = open_bytes(&state_dict(&[
        CONV,
        ("features.0.bias", &[4]),
        ("features.1.weight", &[4]),
        ("features.1.bias", &[4]),
        ("features.1.running_mean", &[4]),
        ("features.1.running_var", &[4]),
        ("features.3.weight", &[6, 4, 1, 1]),
        ("features.6.weight", &[8, 6, 3, 3]),
        ("classifier.1.weight", &[16, 512]),
        ("classifier.2.weight", &[16]),
        ("classifier.2.bias", &[16]),
        ("classifier.2.running_mean", &[16]),
        ("classifier.2.running_var", &[16]),
        ("classifier.5.weight", &[12, 16]),
        ("classifier.7.weight", &[10, 12]),
        ("classifier.7.bias", &[10]),
    ]));
    assert_eq!(
        rows(&found.graph),
        [
            "features.0 Conv2D 3x3, 4 filters",
            "features.1 BatchNormalization",
            "features.3 Conv2D 1x1, 6 filters",
            "features.5 MaxPooling2D 2x2, stride 2, valid",
            "features.6 Conv2D 3x3, 8 filters",
            "features.8 MaxPooling2D 2x2, stride 2, valid",
            "flatten Flatten",
            "classifier.0 Dropout 0.5",
            "classifier.1 Dense, 16 units",
            "classifier.2 BatchNormalization",
            "classifier.4 Dropout 0.5",
            "classifier.5 Dense, 12 units",
            "classifier.7 Dense, 10 units",
        ]
    );
    let found = open_bytes(&state_dict(&[CONV, ("classifier.weight", &[10, 4])]));
    assert_eq!(rows(&found.graph)[2..], ["avgpool GlobalAveragePooling2D", "classifier Dense, 10 units"]);
    let features = open_bytes(&state_dict(&[("module.features.0.weight", &[4, 3, 3, 3])]));
    assert!(!features.graph.is_classifier());
    assert_eq!(features.graph.output().to_string(), "16x16x4");
    assert!(features.notes.iter().any(|n| n.contains("`module.`")), "{:?}", features.notes);
}

#[test]
fn wrappers_prefixes_and_checkpoints_change_nothing() {
    let names = [("features.0.weight", [4usize, 3, 3, 3].as_slice()), ("classifier.0.weight", &[2, 1024])];
    let plain = open_bytes(&state_dict(&names)).graph;
    for prefix in ["module.", "model.", "_orig_mod.", "module._orig_mod.model."] {
        let names = names.map(|(name, shape)| (format!("{prefix}{name}"), shape));
        let names: Vec<_> = names.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
        assert!(open_bytes(&state_dict(&names)).graph == plain, "{prefix}");
    }
    let items =
        [("0", "features.0.weight", [4usize, 3, 3, 3].as_slice()), ("1", "classifier.0.weight", &[2, 1024])];
    let weights: Vec<_> =
        items.iter().map(|(key, name, shape)| (text(name), tensor(&View::of(key, shape)))).collect();
    let moments = tensor(&View { class: "DoubleStorage", ..View::of("7", &[3]) });
    for key in ["state_dict", "model_state_dict", "model", "net", "weights"] {
        let object = dict(&[
            (text("epoch"), b"K\x07".to_vec()),
            (text("loss"), b"G?\xb9\x99\x99\x99\x99\x99\x9a".to_vec()),
            (text("best"), tensor(&View { class: "DoubleStorage", ..View::of("7", &[3]) })),
            (text("optimizer"), dict(&[(b"K\x00".to_vec(), dict(&[(text("exp_avg"), moments.clone())]))])),
            (
                text("milestones"),
                [b"ccollections\nCounter\n".as_slice(), &tuple(&[dict(&[])]), b"R"].concat(),
            ),
            (text(key), dict(&weights)),
        ]);
        let file = zip(&[
            ("net/data.pkl", &pickle(object)),
            ("net/data/0", &values(108)),
            ("net/data/1", &values(2048)),
        ]);
        let found = open_bytes(&file);
        assert!(found.graph == plain, "{key}");
        assert!(found.notes.iter().any(|n| n.contains(key)), "{:?}", found.notes);
    }
}

#[test]
fn timm_s_convolutions_over_the_whole_map_are_dense_layers() {
    // Values of a kernel that tell where they were: unit, channel, row, column.
    let value = |o: usize, c: usize, y: usize, x: usize| (o * 1000 + c * 100 + y * 10 + x) as f32;
    let places = || (0..24).map(|i| (i / 12, i / 4 % 3, i / 2 % 2, i % 2));
    let nchw: Vec<u8> = places().flat_map(|(o, c, y, x)| value(o, c, y, x).to_le_bytes()).collect();
    let nhwc: Vec<u8> =
        (0..24).flat_map(|i| value(i / 12, i % 3, i / 6 % 2, i / 3 % 2).to_le_bytes()).collect();
    let fc1 = View::of("1", &[2, 3, 2, 2]);
    let channels_last = View { strides: vec![12, 1, 6, 3], ..fc1.clone() };
    for (fc1, bytes) in [(fc1, nchw), (channels_last, nhwc)] {
        let object = dict(&[
            (text("features.0.weight"), tensor(&View::of("0", &[3, 3, 3, 3]))),
            (text("pre_logits.fc1.weight"), tensor(&fc1)),
            (text("pre_logits.fc2.weight"), tensor(&View::of("2", &[2, 2, 1, 1]))),
            (text("head.fc.weight"), tensor(&View::of("3", &[5, 2]))),
            (text("head.fc.bias"), tensor(&View::of("4", &[5]))),
        ]);
        let file = zip(&[
            ("net/data.pkl", &pickle(object)),
            ("net/data/0", &values(81)),
            ("net/data/1", &bytes),
            ("net/data/2", &values(4)),
            ("net/data/3", &values(10)),
            ("net/data/4", &values(5)),
        ]);
        let graph = try_bytes(&file, &ImportOptions::default()).expect("imports").graph;
        assert_eq!(graph.input(), Shape::new(4, 4, 3));
        assert_eq!(
            rows(&graph)[1..],
            [
                "features.2 MaxPooling2D 2x2, stride 2, valid",
                "flatten Flatten",
                "pre_logits.fc1 Dense, 2 units",
                "pre_logits.drop Dropout 0.5",
                "pre_logits.fc2 Dense, 2 units",
                "head.drop Dropout 0.5",
                "head.fc Dense, 5 units",
            ]
        );
        let fc1 = graph.layers().iter().find(|l| l.name == "pre_logits.fc1").expect("is there");
        let Op::Dense { weights, .. } = &fc1.op else { panic!("{}", fc1.op.kind()) };
        for (row, units) in weights.data().chunks(2).enumerate() {
            let (y, x, c) = (row / 6, row / 3 % 2, row % 3);
            assert_eq!(units, [value(0, c, y, x), value(1, c, y, x)]);
        }
    }
}

/// A convolution and a dense layer whose values count up, as f32 unless said otherwise.
fn counting(conv: &View, conv_bytes: &[u8], dense: &View, dense_bytes: &[u8]) -> Vec<u8> {
    let object =
        dict(&[(text("features.0.weight"), tensor(conv)), (text("classifier.0.weight"), tensor(dense))]);
    let mut entries = vec![("net/data.pkl", pickle(object)), ("net/data/0", conv_bytes.to_vec())];
    if dense.key == "1" {
        entries.push(("net/data/1", dense_bytes.to_vec()));
    }
    let entries: Vec<_> = entries.iter().map(|(name, data)| (*name, data.as_slice())).collect();
    zip(&entries)
}

fn floats(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

#[test]
fn views_strides_and_types_give_the_values_they_say() {
    let (conv, dense) = (View::of("0", &[4, 3, 3, 3]), View::of("1", &[2, 4]));
    let count = |n: usize| floats((0..n).map(|v| v as f32));
    let plain = open_bytes(&counting(&conv, &count(108), &dense, &count(8))).graph;
    // The memory of OHWI and of [in][out].
    let ohwi = (0..108).map(|i| (i / 27 * 27 + i % 3 * 9 + i / 9 % 3 * 3 + i / 3 % 3) as f32);
    let channels_last = View { strides: vec![27, 1, 9, 3], ..conv.clone() };
    let transposed = View { strides: vec![1, 2], ..dense.clone() };
    let in_out = floats((0..8).map(|i| (i % 2 * 4 + i / 2) as f32));
    let strided = counting(&channels_last, &floats(ohwi), &transposed, &in_out);
    assert!(open_bytes(&strided).graph == plain, "strides");
    // One storage of both, each at its place.
    let shared = floats((0..8).chain(0..108).map(|v| v as f32));
    let conv_view = View { len: 116, offset: 8, ..conv.clone() };
    let dense_view = View { len: 116, key: "0".into(), ..dense.clone() };
    assert!(open_bytes(&counting(&conv_view, &shared, &dense_view, &[])).graph == plain, "views");
    for (class, bytes) in [
        ("DoubleStorage", (0..108).flat_map(|v| f64::from(v).to_le_bytes()).collect::<Vec<u8>>()),
        ("HalfStorage", (0..108).flat_map(|v| half::f16::from_f64(f64::from(v)).to_le_bytes()).collect()),
        (
            "BFloat16Storage",
            (0..108).flat_map(|v| half::bf16::from_f64(f64::from(v)).to_le_bytes()).collect(),
        ),
    ] {
        let conv = View { class, ..conv.clone() };
        assert!(open_bytes(&counting(&conv, &bytes, &dense, &count(8))).graph == plain, "{class}");
    }
    let [conv, dense] = [conv, dense].map(|view| View { legacy: true, ..view });
    let object =
        dict(&[(text("features.0.weight"), tensor(&conv)), (text("classifier.0.weight"), tensor(&dense))]);
    let file = legacy(&object, &[("1", &count(8)), ("0", &count(108))]);
    let found = open_bytes(&file);
    assert_eq!(found.format, Format::TorchLegacy);
    assert!(found.graph == plain, "legacy");
}

#[test]
fn an_architecture_by_name_agrees_with_its_batch_normalized_variant_too() {
    let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
    let (mut index, mut inputs) = (0, 3);
    for (filters, repeats) in [(64, 1), (128, 1), (256, 2), (512, 2), (512, 2)] {
        for _ in 0..repeats {
            tensors.push((format!("features.{index}.weight"), vec![filters, inputs, 3, 3]));
            for what in ["weight", "bias", "running_mean", "running_var"] {
                tensors.push((format!("features.{}.{what}", index + 1), vec![filters]));
            }
            (index, inputs) = (index + 3, filters);
        }
        index += 1;
    }
    let tensors: Vec<_> = tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let file = state_dict(&tensors);
    let options = |arch| ImportOptions { input: Some(Shape::new(32, 32, 3)), arch, classes: None };
    let plain = try_bytes(&file, &options(None)).expect("imports");
    let named = try_bytes(&file, &options(Some(Arch::Vgg11))).expect("imports");
    assert!(canonical(&plain.graph) == canonical(&named.graph));
    assert_eq!(canonical(&plain.graph).name(), "vgg11");
    let error = try_bytes(&file, &options(Some(Arch::Vgg16))).expect_err("is VGG11").to_string();
    assert!(
        error.ends_with("layer `features.4`: weight has shape [128, 64, 3, 3], expected [64, 64, 3, 3]"),
        "{error}"
    );
}

/// Peak memory of an import stays near the file's size. Needs a VGG16 state_dict, 553 MB, in `VGG_EDGE_VGG16_PTH`.
#[test]
fn a_full_vgg16_needs_little_more_memory_than_its_file() {
    let Some(path) = std::env::var_os("VGG_EDGE_VGG16_PTH") else {
        eprintln!("not run: VGG_EDGE_VGG16_PTH names no VGG16 state_dict");
        return;
    };
    let bytes = fs::metadata(&path).expect("the file is there").len();
    let graph = open(Path::new(&path), None).graph;
    assert_eq!((graph.params(), graph.input()), (138_357_544, Shape::new(224, 224, 3)));
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("peak memory");
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        println!("peak memory {} MB for a file of {} MB", kib * 1024 / 1_000_000, bytes / 1_000_000);
        assert!(kib * 1024 * 2 < bytes * 3, "peak memory {kib} KiB for a file of {bytes} bytes");
    }
}
