//! A network that says which of red, green and blue a picture has most of, written here; and programs run in a folder.

use std::path::Path;
use std::process::{Command, Output};

use vgg_edge_blob::layout::S8Params;
use vgg_edge_blob::requant::Fixed;
use vgg_edge_blob::{
    Algorithm, ChannelOrder, NewLayer, NewLinear, NewModel, NewOp, NewWeights, Padding, Preprocess,
    Quantization, ResizeFilter, ResizeRule, S8Layout, Scheme, Shape, write,
};

/// Channel `o` of the output is channel `o` of the input, of whose `taps` the middle one counts.
fn diagonal(outputs: usize, inputs: usize, taps: usize, scale: f64) -> NewLinear {
    let mut weights = vec![0i8; outputs * taps * inputs];
    let mut params = S8Params::default();
    for o in 0..outputs.min(inputs) {
        weights[(o * taps + taps / 2) * inputs + o] = 127;
        // The input's zero point of -128 taken out.
        params.bias[o] = 128 * 127;
    }
    let relu = scale > 0.0;
    if relu {
        let fixed = Fixed::from_scale(scale).unwrap();
        (params.multiplier, params.shift) = ([fixed.multiplier; 8], [fixed.shift; 8]);
    }
    params.scale = [0.02 / 127.0; 8];
    let weights = NewWeights::S8(weights, vec![params]);
    NewLinear { outputs: outputs as u32, relu, pad: [-128; 4], layout: S8Layout::K4, weights }
}

/// The model file of classes `red`, `green` and `blue`; of the features before them without `is_classifier`.
pub(crate) fn model(is_classifier: bool) -> Vec<u8> {
    let pixels = Quantization { scale: 1.0, zero_point: -128 };
    let layer = |name: &str, op, block, out_quant| NewLayer {
        name: name.to_owned(),
        op,
        block,
        in_quant: pixels,
        out_quant,
        sqnr_db: 40.0,
    };
    let mean = Fixed::from_scale(1.0 / 16.0).unwrap();
    let conv =
        NewOp::Conv { kernel: 3, algorithm: Algorithm::Direct, linear: diagonal(8, 3, 9, 1.0 / 127.0) };
    let max_pool = NewOp::MaxPool { stride: 2, padding: Padding::Valid };
    let pool = NewOp::GlobalAvgPool { multiplier: mean.multiplier, shift: mean.shift };
    let mut layers = vec![
        layer("block1_conv1", conv, 0, pixels),
        layer("block1_pool", max_pool, 0, pixels),
        layer("avgpool", pool, 1, pixels),
    ];
    let mut labels = Vec::new();
    if is_classifier {
        let dense = NewOp::Dense(diagonal(3, 8, 1, 0.0));
        layers.push(layer("dense", dense, 2, Quantization { scale: 0.0, zero_point: 0 }));
        labels = ["red", "green", "blue"].map(str::to_owned).to_vec();
    }
    let new = NewModel {
        scheme: Scheme::Int8,
        input: Shape { height: 8, width: 8, channels: 3 },
        preprocess: Preprocess {
            order: ChannelOrder::Rgb,
            scale: 1.0,
            mean: [0.0; 4],
            std: [1.0; 4],
            resize: ResizeRule::Stretch,
            filter: ResizeFilter::Bilinear,
        },
        layers,
        labels,
        golden: None,
        metadata: r#"{"made_by": "a test"}"#.to_owned(),
    };
    let mut bytes = Vec::new();
    write(new, &mut bytes).unwrap();
    bytes
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command` in `dir` to its end; a minute at most.
pub(crate) fn run(command: &Command, dir: &Path) -> Ran {
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=5", "60"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(dir);
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    let Output { status, stdout, stderr } = limited.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// The program itself, with these arguments.
pub(crate) fn classify(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_classify"));
    command.args(args.split_whitespace());
    command
}

/// A JPEG picture without its Huffman tables, as cameras send it.
pub(crate) fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let (mut bare, mut at) = (jpeg[..2].to_vec(), 2);
    while jpeg[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] != 0xc4 {
            bare.extend_from_slice(&jpeg[at..end]);
        }
        at = end;
    }
    bare.extend_from_slice(&jpeg[at..]);
    bare
}
