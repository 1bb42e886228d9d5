//! Broken files of Keras.

use std::fs;

use vgg_edge_host::graph::{Arch, Shape};
use vgg_edge_host::import::{ImportOptions, import};

use crate::support::shared;
use crate::{alone, check, fixture, input32, message, mutate, patch};

#[test]
fn keras_models() {
    let _alone = alone();
    let Some(models) = shared("models") else { return };
    let none = ImportOptions::default();
    let good = fs::read(models.join("small_vgg.h5")).expect("reads");
    let edit = |from: &str, nth: usize, to: &str| patch(&good, from.as_bytes(), nth, to.as_bytes());
    let kernel = import(&models.join("small_vgg.h5"), &none).expect("imports").graph;
    let first: Vec<u8> = {
        let weights = kernel.layers()[2].op.kernel().expect("block1_conv2");
        weights.data()[..8].iter().flat_map(|v| v.to_le_bytes()).collect()
    };
    let nan = [&first[..20], &f32::NAN.to_le_bytes(), &first[24..]].concat();
    let inf = [&f32::NEG_INFINITY.to_le_bytes(), &first[4..]].concat();
    check(&[
        (
            edit("\"data_format\": \"channels_last\"", 1, "\"data_format\":\"channels_first\""),
            none,
            "layer `block1_conv2`: data_format is \"channels_first\", expected channels_last",
        ),
        (
            edit("\"padding\": \"same\"", 0, "\"padding\":\"valid\""),
            none,
            "layer `block1_conv1`: padding is \"valid\", expected same",
        ),
        (
            edit("\"strides\": [1, 1]", 2, "\"strides\": [2, 2]"),
            none,
            "layer `block2_conv1`: strides is [2,2], expected [1,1]",
        ),
        (
            edit("\"kernel_size\": [3, 3]", 0, "\"kernel_size\": [5, 5]"),
            none,
            "layer `block1_conv1`: kernel_size is [5,5], expected [3,3] or [1,1]",
        ),
        (
            edit("\"activation\": \"relu\"", 0, "\"activation\": \"tanh\""),
            none,
            "layer `block1_conv1`: activation is \"tanh\", expected relu, softmax or linear",
        ),
        (
            edit("\"filters\": 16", 0, "\"filters\": 24"),
            none,
            "layer `block1_conv1`: kernel has shape [3, 3, 3, 16], expected [3, 3, 3, 24]",
        ),
        (
            edit("\"filters\": 16", 0, "\"filters\": -1"),
            none,
            "layer `block1_conv1`: filters is -1, expected a number of at least 1",
        ),
        (
            edit("null, 32, 32, 3", 0, "null, 32, 32, 4"),
            none,
            "layer `block1_conv1`: kernel has shape [3, 3, 3, 16], expected [3, 3, 4, 16]",
        ),
        (
            edit("null, 32, 32, 3", 0, "null, 16, 32, 3"),
            none,
            "layer `block5_pool`: 2x2 max-pooling got a 1x2x128 map, expected at least 2x2",
        ),
        (
            edit("[null, 32, 32, 3]", 0, "[null, 32, null] "),
            none,
            "model_config: batch_shape is [null,32,null], expected [null, height, width, channels]",
        ),
        (
            edit("\"class_name\": \"Conv2D\"", 1, "\"class_name\": \"Conv3D\""),
            none,
            "layer `block1_conv2`: Conv3D is not supported, supported are Conv2D, BatchNormalization, MaxPooling2D, \
             AveragePooling2D and GlobalAveragePooling2D, Flatten, Dense, Dropout, Activation, ReLU, Softmax, Rescaling, \
             Normalization, ZeroPadding2D",
        ),
        (
            edit("\"Functional\"", 0, "\"Functionel\""),
            none,
            "model_config: class_name is `Functionel`, expected Functional or Sequential",
        ),
        (
            edit("{\"class_name\": ", 0, "{\"class_name\"; "),
            none,
            "model_config: text is not JSON (expected `:` at line 1 column 14), expected a JSON object",
        ),
        (
            edit("[\"block1_conv1\", 0, 0]", 0, "[\"block1_pool0\", 0, 0]"),
            none,
            "model_config: layer `block1_conv2` is not reachable from the input, expected one chain of layers",
        ),
        (
            edit("[\"block1_conv2\", 0, 0]", 0, "[\"block1_conv1\", 0, 0]"),
            none,
            "layer `block1_conv1`: feeds 2 layers, expected 1 (the network must be a chain)",
        ),
        (
            patch(&good, &first, 0, &nan),
            none,
            "layer `block1_conv2`: kernel value 5 is NaN, expected a finite number",
        ),
        (
            patch(&good, &first, 0, &inf),
            none,
            "layer `block1_conv2`: kernel value 0 is -inf, expected a finite number",
        ),
        (
            edit("model_config", 0, "model_konfig"),
            none,
            "attribute `layer_names` is missing, expected the list of layers Keras writes",
        ),
        (
            good.clone(),
            ImportOptions { classes: Some(11), ..none },
            "the network has 10 classes, but 11 were asked for",
        ),
        (
            good.clone(),
            ImportOptions { input: Some(Shape::new(32, 32, 1)), ..none },
            "the input has 1 channels, but layer `input` takes 3",
        ),
        (
            good.clone(),
            ImportOptions { arch: Some(Arch::Vgg16), ..none },
            "the model is not vgg16: layer 1 is Conv2D 3x3, 16 filters, expected Conv2D 3x3, 64 filters",
        ),
    ]);
}

#[test]
fn keras_weights() {
    let _alone = alone();
    let Some(models) = shared("models") else { return };
    let none = ImportOptions::default();
    let good = fs::read(models.join("small_vgg_weights_tf_dim_ordering_tf_kernels.h5")).expect("reads");
    let edit = |from: &str, nth: usize, to: &str| patch(&good, from.as_bytes(), nth, to.as_bytes());
    let dims = |d: [u64; 4]| d.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let f32_type = [0x11, 0x20, 0x1f, 0, 4, 0, 0, 0];
    let i32_type = [0x10, 0x08, 0, 0, 4, 0, 0, 0];
    check(&[
        (
            good.clone(),
            none,
            "the input size is not in the file (global average pooling takes any), expected it to be given",
        ),
        (
            good.clone(),
            ImportOptions { input: Some(Shape::new(32, 32, 1)), ..none },
            "the input has 1 channels, but layer `block1_conv1` takes 3",
        ),
        (
            good.clone(),
            ImportOptions { arch: Some(Arch::Vgg11), ..input32() },
            "layer `block1_conv2`: has weights, but vgg11 has no such layer",
        ),
        (
            good.clone(),
            ImportOptions { arch: Some(Arch::Vggnet), ..input32() },
            "layer `block1_conv1`: kernel has shape [3, 3, 3, 16], expected [3, 3, 3, 64]",
        ),
        (
            edit("block1_conv2", 0, "block1_conv1"),
            input32(),
            "layer `block1_conv1` is there twice, expected unique layer names",
        ),
        (
            edit("block2_pool", 0, "block2_what"),
            input32(),
            "layer `block2_what`: group not found: block2_what",
        ),
        (
            edit("block1_conv1_b_1:0", 0, "block1_conv1_c_1:0"),
            input32(),
            "layer `block1_conv1`: weight `block1_conv1_b_1:0`: dataset not found: block1_conv1_b_1:0",
        ),
        (
            patch(&good, &dims([3, 3, 3, 16]), 0, &dims([1, 9, 3, 16])),
            input32(),
            "layer `block1_conv1`: a layer with weights of shapes [[1, 9, 3, 16], [16]] is not supported, supported are \
             Conv2D, BatchNormalization, MaxPooling2D, AveragePooling2D and GlobalAveragePooling2D, Flatten, Dense, Dropout, \
             Activation, ReLU, Softmax, Rescaling, Normalization, ZeroPadding2D",
        ),
        (
            patch(&good, &dims([3, 3, 16, 16]), 0, &dims([3, 3, 8, 32])),
            input32(),
            "layer `block1_conv2`: kernel has shape [3, 3, 8, 32], expected [3, 3, 16, 32]",
        ),
        (
            patch(&good, &f32_type, 0, &i32_type),
            input32(),
            "layer `block1_conv1`: kernel has type i32, expected f32, f16, bf16 or f64",
        ),
    ]);
    for cut in [12, 600, 5000, good.len() / 2, good.len() - 1000] {
        let text = message(&good[..cut], &input32());
        assert!(text.contains(": "), "cut at {cut}: {text}");
    }
}

/// Whole models of Keras 1 to 3 and weights by layer name, written by `tests/fixtures/keras/make.py`.
#[test]
fn keras_files_by_layer_name() {
    let _alone = alone();
    let (none, size) = (ImportOptions::default(), input8());
    let file = |name: &str| fixture(&format!("keras/{name}"));
    check(&[
        (file("bad_no_bias.h5"), none, "layer `block1_conv2`: bias is missing, expected shape [4]"),
        (
            file("bad_no_kernel.h5"),
            none,
            "layer `block1_conv2`: kernel is missing, expected shape [3, 3, 4, 4]",
        ),
        (file("bad_transposed.h5"), none, {
            "layer `block1_conv1`: kernel has shape [4, 3, 3, 3], expected [3, 3, 3, 4]"
        }),
        (file("bad_twice.h5"), none, "tensor `dense/kernel:0` is there twice, expected unique tensor names"),
        (file("bad_two_kernels.h5"), none, {
            "tensor `dense/kernel_1:0` is there twice, expected unique tensor names"
        }),
        (file("bad_i8.h5"), none, "layer `block1_conv1`: kernel has type i8, expected f32, f16, bf16 or f64"),
        (
            file("bad_text.h5"),
            none,
            "layer `block1_conv1`: kernel has type text, expected f32, f16, bf16 or f64",
        ),
        (file("bad_f80.h5"), none, {
            "layer `block1_conv1`: kernel has type f128 of another kind than IEEE 754, expected f32, f16, bf16 or f64"
        }),
        (file("bad_variance.h5"), size, {
            "layer `block1_bn2`: moving_variance value 2 is -1, expected at least 0"
        }),
        // Never written: the file has no chunk of it.
        (file("bad_unwritten.h5"), none, "layer `dense`: kernel has 419430400 bytes, but the file has 20800"),
        (file("bad_bomb.h5"), none, "layer `dense`: kernel has 30720000 bytes, but the file has 53304"),
        // One dataset under many names.
        (file("bad_aliases.h5"), size, "layer `dense_4`: kernel has 4194304 bytes, but the file has 48640"),
        (file("bad_chunk.h5"), size, {
            "layer `dense`: kernel: resource limit: decoded chunk of 33554432 bytes exceeds the 16847261 byte chunk limit"
        }),
        (file("bad_external.h5"), size, {
            "layer `dense`: kernel: external raw data file '/etc/passwd' could not be resolved"
        }),
        (file("tiny_notop.h5"), none, {
            "the input size is not in the file (a network without dense layers takes any), expected it to be given"
        }),
        (file("tiny_notop.h5"), ImportOptions { classes: Some(10), ..size }, {
            "the network has 0 classes, but 10 were asked for"
        }),
        (file("tiny_notop.h5"), ImportOptions { arch: Some(Arch::Vgg16), ..none }, {
            "layer `block1_conv1`: kernel has shape [3, 3, 3, 4], expected [3, 3, 3, 64]"
        }),
    ]);
}

/// `.weights.h5`, written by `tests/fixtures/keras/make.py`.
#[test]
fn keras_files_by_class() {
    let _alone = alone();
    let size = input8();
    let file = |name: &str| fixture(&format!("keras/{name}.weights.h5"));
    let arch = ImportOptions { arch: Some(Arch::Vgg11), ..input32() };
    let inner = format!("layers/{}", "functional/layers/".repeat(9));
    let supported = "is not supported, supported are Conv2D, BatchNormalization, MaxPooling2D, AveragePooling2D and \
                     GlobalAveragePooling2D, Flatten, Dense, Dropout, Activation, ReLU, Softmax, Rescaling, Normalization, \
                     ZeroPadding2D";
    let text = |start: &str| format!("{start} {supported}");
    let cycle = format!(
        "group `{}`: depth is more than 8 models in models, expected fewer",
        inner.trim_end_matches('/')
    );
    check(&[
        (file("bad_cycle"), size, &cycle),
        (file("bad_loops"), size, &cycle.replace("functional", "sequential")),
        (file("bad_link"), size, "group `layers`: invalid data: a link to another file, `/etc/passwd`"),
        (file("bad_gap"), size, {
            "layer `conv2d`: group `layers/conv2d` is missing, expected the layer's weights in it"
        }),
        (file("bad_number"), size, {
            "group `layers`: number is the same of `conv2d` and `conv2d_00`, expected one of its own"
        }),
        (file("bad_vars"), size, "group `layers/dense/vars`: name of a dataset is `1`, expected `0`"),
        (file("bad_default_names"), size, {
            "layer `conv2d`: name says neither convolution block nor pooling, expected names as block1_conv1 and \
             block1_pool, or an architecture"
        }),
        (file("tiny_unnamed"), size, {
            "layer `conv2d`: name says neither convolution block nor pooling, expected names as block1_conv1 and \
             block1_pool, or an architecture"
        }),
        (file("bad_default_names"), arch, "the file has 2 convolutions, expected the 8 of vgg11"),
        (file("tiny"), ImportOptions { arch: Some(Arch::Vgg11), ..size }, {
            "the model is not vgg11: layer 1 is Conv2D 3x3, 4 filters, expected Conv2D 3x3, 64 filters"
        }),
        (file("bad_residual"), size, &text("layer `add`: add")),
        (file("bad_depthwise"), size, &text("layer `depthwise`: depthwise_conv2d with weights")),
        (
            file("bad_rescaling"),
            size,
            &text("layer `rescaling`: rescaling, whose options are not in the file,"),
        ),
        (
            file("bad_bn_three"),
            size,
            &text("layer `block1_bn1`: a layer with weights of shapes [[4], [4], [4]]"),
        ),
        (file("bad_bn_count"), size, {
            "where the batch normalizations are is not in the file, expected a .keras file, which has it"
        }),
        (file("bad_bn_order"), size, {
            "whether batch normalizations are in front of or behind relu is not in the file, expected a .keras file, which \
             has it"
        }),
        (file("bad_models"), size, {
            "the order of the convolutions of the models in `layers` is not in the file, expected a .keras file, which has it"
        }),
        (file("bad_transposed"), size, "layer `predictions`: kernel has shape [2, 3], expected [3, 3]"),
    ]);
}

/// Networks that are no VGG, as Keras itself writes them.
#[test]
fn what_keras_writes_and_is_refused() {
    let _alone = alone();
    let none = ImportOptions::default();
    let file = |name: &str| fixture(&format!("import/keras/{name}"));
    let unsupported = |layer: &str, class: &str| {
        format!(
            "layer `{layer}`: {class} is not supported, supported are Conv2D, BatchNormalization, MaxPooling2D, \
             AveragePooling2D and GlobalAveragePooling2D, Flatten, Dense, Dropout, Activation, ReLU, Softmax, Rescaling, \
             Normalization, ZeroPadding2D"
        )
    };
    check(&[
        (file("refused_residual.keras"), none, &unsupported("residual_add", "Add")),
        (file("refused_residual.h5"), none, &unsupported("residual_add", "Add")),
        (file("refused_residual_keras2.h5"), none, &unsupported("residual_add", "Add")),
        (file("refused_depthwise.keras"), none, &unsupported("depthwise", "DepthwiseConv2D")),
        (file("refused_separable.keras"), none, &unsupported("separable", "SeparableConv2D")),
        (file("refused_transposed.keras"), none, &unsupported("up", "Conv2DTranspose")),
        (file("refused_attention.keras"), none, &unsupported("attention", "MultiHeadAttention")),
        (file("refused_leaky.keras"), none, &unsupported("leaky", "LeakyReLU")),
        (file("refused_lambda.keras"), none, &unsupported("times_two", "Lambda")),
        (file("refused_preprocess_input.keras"), none, &unsupported("get_item", "GetItem")),
        (file("refused_int8.keras"), none, &unsupported("predictions", "weight `vars/2`")),
        (file("refused_grouped.keras"), none, "layer `grouped`: groups is 2, expected 1"),
        (file("refused_strides.keras"), none, "layer `strided`: strides is [2,2], expected [1,1]"),
        (file("refused_dilation.keras"), none, "layer `dilated`: dilation_rate is [2,2], expected [1,1]"),
        (file("refused_5x5.keras"), none, "layer `large`: kernel_size is [5,5], expected [3,3] or [1,1]"),
        (file("refused_valid.keras"), none, "layer `unpadded`: padding is \"valid\", expected same"),
        (file("refused_channels_first.keras"), none, {
            "layer `planes`: data_format is \"channels_first\", expected channels_last"
        }),
        (file("refused_relu6.keras"), none, "layer `relu6`: max_value is 6, expected null"),
        (file("refused_gelu.keras"), none, {
            "layer `conv`: activation is \"gelu\", expected relu, softmax or linear"
        }),
        (file("refused_average_pool.keras"), none, {
            "layer `average`: pool_size is [2,2], expected the whole map"
        }),
        (file("refused_pool3.keras"), none, "layer `pool3`: pool_size is [3,3], expected [2,2]"),
        (file("refused_shared.keras"), none, {
            "layer `first`: has 2 inputs, expected 1 (the network must be a chain)"
        }),
        (file("refused_subclassed.keras"), none, {
            "model_config: class_name is `Subclassed`, expected Functional or Sequential"
        }),
        (file("tiny_lzf.h5"), none, "layer `block1_conv1`: kernel: unsupported filter: filter id 32000"),
        (file("vgg_keras2.weights.h5"), none, {
            "layer `conv2d`: name says neither convolution block nor pooling, expected names as block1_conv1 and \
             block1_pool, or an architecture"
        }),
    ]);
}

fn input8() -> ImportOptions {
    ImportOptions { input: Some(Shape::new(8, 8, 3)), ..Default::default() }
}

#[test]
fn mutants() {
    let _alone = alone();
    for file in ["tiny.h5", "tiny_gzip.h5", "tiny_nested.h5", "tiny_nested.weights.h5", "tiny_bn.weights.h5"]
    {
        let good = fixture(&format!("keras/{file}"));
        mutate(file, &good, 400, good.len(), 20);
    }
    let Some(models) = shared("models") else { return };
    for file in ["small_vgg.h5", "small_vgg_weights_tf_dim_ordering_tf_kernels.h5"] {
        let good = fs::read(models.join(file)).expect("reads");
        mutate(file, &good, 150, 6000, 20);
    }
}
