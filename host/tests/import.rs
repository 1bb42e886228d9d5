//! Importers on real files: the summary table, types and options. `models` compares the files of one network.

mod support;

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use support::shared;
use vgg_edge_host::graph::{Arch, Graph, Shape, Spec};
use vgg_edge_host::import::{Format, ImportOptions, import};

fn graph(path: &Path, input: Option<&str>) -> (Graph, Format) {
    let input = input.map(|s| s.parse().expect("a shape"));
    let imported = import(path, &ImportOptions { input, ..Default::default() }).expect("imports");
    (imported.graph, imported.format)
}

#[test]
fn the_summary_of_the_seed_network_is_that_of_keras() {
    let Some(models) = shared("models") else { return };
    let (graph, _) = graph(&models.join("vgg16_cifar10.h5"), None);
    let summary = graph.summary();
    let table: Vec<String> =
        summary.rows.iter().map(|r| format!("{} {} {:?} {}", r.name, r.class, r.output, r.params)).collect();
    let expected = "\
input InputLayer [96, 96, 3] 0
block1_conv1 Conv2D [96, 96, 64] 1792
block1_conv2 Conv2D [96, 96, 64] 36928
block1_pool MaxPooling2D [48, 48, 64] 0
block2_conv1 Conv2D [48, 48, 128] 73856
block2_conv2 Conv2D [48, 48, 128] 147584
block2_pool MaxPooling2D [24, 24, 128] 0
block3_conv1 Conv2D [24, 24, 256] 295168
block3_conv2 Conv2D [24, 24, 256] 590080
block3_conv3 Conv2D [24, 24, 256] 590080
block3_pool MaxPooling2D [12, 12, 256] 0
block4_conv1 Conv2D [12, 12, 512] 1180160
block4_conv2 Conv2D [12, 12, 512] 2359808
block4_conv3 Conv2D [12, 12, 512] 2359808
block4_pool MaxPooling2D [6, 6, 512] 0
block5_conv1 Conv2D [6, 6, 512] 2359808
block5_conv2 Conv2D [6, 6, 512] 2359808
block5_conv3 Conv2D [6, 6, 512] 2359808
block5_pool MaxPooling2D [3, 3, 512] 0
global_average_pooling2d GlobalAveragePooling2D [512] 0
dropout Dropout [512] 0
dense Dense [120] 61560
dropout_1 Dropout [120] 0
dense_1 Dense [10] 1210";
    assert_eq!(table.join("\n"), expected);
    assert_eq!(summary.params, 14_777_458);
    assert_eq!(summary.macs, 2_818_831_536);
    let text = summary.render();
    assert!(text.contains("block1_conv1 (Conv2D)") && text.contains("(None, 96, 96, 64)"), "{text}");
    assert!(text.contains("Total params: 14,777,458"), "{text}");
    // The same network by name: nothing but the name and the seed differ.
    let spec = Spec::vggnet(Shape::new(96, 96, 3), 10).with_random_weights(0).expect("builds");
    assert_eq!(spec.summary().rows, summary.rows);
}

#[test]
fn an_architecture_by_name_agrees_or_is_an_error() {
    let Some(models) = shared("models") else { return };
    let options = |arch| ImportOptions { arch: Some(arch), ..Default::default() };
    let seed = models.join("vgg16_cifar10.h5");
    assert!(import(&seed, &options(Arch::Vggnet)).is_ok());
    let message = import(&seed, &options(Arch::Vgg19)).expect_err("another network").to_string();
    let tail = "the model is not vgg19: layer 17 is MaxPooling2D 2x2, stride 2, valid, expected Conv2D 3x3, 256 filters";
    assert!(message.ends_with(tail), "{message}");
}

#[test]
fn a_pooled_network_takes_another_input_size_and_says_so() {
    let Some(models) = shared("models") else { return };
    let options = ImportOptions { input: Some(Shape::new(64, 48, 3)), ..Default::default() };
    let imported = import(&models.join("small_vgg.h5"), &options).expect("imports");
    assert_eq!(imported.graph.input(), Shape::new(64, 48, 3));
    assert_eq!(imported.notes, ["input 64x48x3 as asked for, the file says 32x32x3"]);
    let flat = import(&models.join("small_vgg_fc.h5"), &options).expect_err("flattened").to_string();
    assert!(flat.ends_with("the model takes 32x32x3 pictures, but 64x48x3 was asked for"), "{flat}");
}

/// Bytes of a value in another type.
type Convert = fn(f32) -> Vec<u8>;

/// The tensors of a torchvision file, rewritten in `dtype` by `convert`.
fn rewrite(from: &Path, to: &Path, dtype: Dtype, convert: Convert) {
    let bytes = std::fs::read(from).expect("reads");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("parses");
    let converted: HashMap<String, (Vec<usize>, Vec<u8>)> = file
        .iter()
        .map(|(name, t)| {
            let values = t.data().as_chunks().0.iter().flat_map(|b| convert(f32::from_le_bytes(*b)));
            (name.to_string(), (t.shape().to_vec(), values.collect()))
        })
        .collect();
    let views = converted.iter().map(|(name, (shape, data))| {
        (name.as_str(), TensorView::new(dtype, shape.clone(), data).expect("sizes agree"))
    });
    std::fs::write(to, safetensors::serialize(views, None).expect("serializes")).expect("writes");
}

#[test]
fn half_precision_and_double_weights_are_read() {
    let Some(models) = shared("models") else { return };
    let source = models.join("small_vgg_fc64_torchvision.safetensors");
    let (exact, _) = graph(&source, None);
    let folder = tempfile::tempdir().expect("a folder");
    let cases: [(Dtype, f32, Convert); 3] = [
        (Dtype::F16, 1.0 / 2048.0, |v| half::f16::from_f32(v).to_le_bytes().to_vec()),
        (Dtype::BF16, 1.0 / 256.0, |v| half::bf16::from_f32(v).to_le_bytes().to_vec()),
        (Dtype::F64, 0.0, |v| f64::from(v).to_le_bytes().to_vec()),
    ];
    for (dtype, relative, convert) in cases {
        let path = folder.path().join(format!("{dtype}.safetensors"));
        rewrite(&source, &path, dtype, convert);
        let (read, _) = graph(&path, None);
        for (a, b) in exact.layers().iter().zip(read.layers()) {
            let (Some(a), Some(b)) = (a.op.kernel(), b.op.kernel()) else { continue };
            for (a, b) in a.data().iter().zip(b.data()) {
                // The small addend is the spacing of f16's subnormals.
                assert!((a - b).abs() <= a.abs() * relative + relative * 1e-3, "{dtype}: {a} became {b}");
            }
        }
    }
}

/// A dense layer of 20 MB is read in more than one slab; every weight must land in its HWC row.
#[test]
fn a_large_dense_layer_is_permuted_across_slabs() {
    let (channels, side, units) = (4, 40, 800);
    let (inputs, area) = (channels * side * side, side * side);
    let bytes =
        |values: &mut dyn Iterator<Item = f32>| -> Vec<u8> { values.flat_map(f32::to_le_bytes).collect() };
    let conv = bytes(&mut (0..108).map(|_| 0.5));
    // Whole numbers below 2^24: exact in f32, and each one says where it came from.
    let dense = bytes(&mut (0..units * inputs).map(|i| i as f32));
    let views = [
        ("features.0.weight", TensorView::new(Dtype::F32, vec![4, 3, 3, 3], &conv).expect("sizes agree")),
        (
            "classifier.0.weight",
            TensorView::new(Dtype::F32, vec![units, inputs], &dense).expect("sizes agree"),
        ),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("large.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).expect("serializes")).expect("writes");
    let (graph, _) = graph(&path, None);
    assert_eq!(graph.input(), Shape::new(2 * side, 2 * side, 3));
    let layer = graph.layers().iter().find(|l| l.name == "classifier.0").expect("the dense layer");
    let weights = layer.op.kernel().expect("it has weights");
    assert_eq!(weights.shape(), [inputs, units]);
    for (row, values) in weights.data().chunks(units).enumerate() {
        let (position, channel) = (row / channels, row % channels);
        for (unit, value) in values.iter().enumerate() {
            let expected = (unit * inputs + channel * area + position) as f32;
            assert!(*value == expected, "row {row}, unit {unit}: {value}, expected {expected}");
        }
    }
}

/// Peak memory of an import stays near the file's size. Needs a full VGG16 file of Keras, 553 MB, in `VGG_EDGE_VGG16_H5`:
/// `.keras`, `.weights.h5` or `.h5`.
#[test]
fn a_full_vgg16_needs_little_more_memory_than_its_file() {
    let Some(path) = std::env::var_os("VGG_EDGE_VGG16_H5") else {
        eprintln!("not run: VGG_EDGE_VGG16_H5 names no full VGG16 weights file");
        return;
    };
    let bytes = std::fs::metadata(&path).expect("the file is there").len();
    let (graph, format) = graph(Path::new(&path), None);
    assert_eq!((graph.params(), graph.input()), (138_357_544, Shape::new(224, 224, 3)));
    assert!(matches!(format, Format::KerasWeights | Format::KerasArchive), "{format}");
    let names: Vec<&str> = graph.layers().iter().filter(|l| !l.fused).map(|l| l.name.as_str()).collect();
    let spec = Spec::vgg16(Shape::new(224, 224, 3), 1000);
    let expected: Vec<&str> = spec.layers.iter().filter(|l| !l.fused).map(|l| l.name.as_str()).collect();
    assert_eq!(names, expected);
    assert_peak(bytes);
}

/// Errors unless this process took less than 1.5 times a file of `bytes`. Run the test alone.
fn assert_peak(bytes: u64) {
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("peak memory");
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        println!("peak memory {} MB for a file of {} MB", kib * 1024 / 1_000_000, bytes / 1_000_000);
        assert!(kib * 1024 * 2 < bytes * 3, "peak memory {kib} KiB for a file of {bytes} bytes");
    }
}

/// The same for ONNX: a full VGG16, 553 MB, in `VGG_EDGE_VGG16_ONNX`. With its weights in `VGG_EDGE_VGG16_H5` both must be one
/// graph.
#[test]
fn a_full_vgg16_as_onnx_needs_little_more_memory_than_its_file() {
    let Some(path) = std::env::var_os("VGG_EDGE_VGG16_ONNX") else {
        eprintln!("not run: VGG_EDGE_VGG16_ONNX names no full VGG16");
        return;
    };
    let bytes = std::fs::metadata(&path).expect("the file is there").len();
    let (onnx, format) = graph(Path::new(&path), None);
    assert_eq!((onnx.params(), onnx.input()), (138_357_544, Shape::new(224, 224, 3)));
    assert_eq!(format, Format::Onnx);
    assert_peak(bytes);
    let Some(twin) = std::env::var_os("VGG_EDGE_VGG16_H5") else { return };
    let (twin, _) = graph(Path::new(&twin), None);
    assert!(onnx.canonical().expect("folds") == twin.canonical().expect("folds"), "two graphs");
}
