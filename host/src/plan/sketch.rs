//! A network as the planner sees it: shapes and kinds, no weights.
//!
//! ```text
//! blob ──┐
//! model ─┼─► Sketch: scheme, input, layers (name, block, op, kind) ─► forecast of the engine's own plan
//! graph ─┘
//! ```
//!
//! Written as words, an op is `conv3:64:direct`, `conv1:20:direct`, `pool:2:valid`, `average` or `dense:4096:dense`.
//!
//! ```
//! use vgg_edge_host::plan::{Kind, OpSketch};
//! let op: OpSketch = "conv3:64:winograd-f43".parse()?;
//! assert_eq!(op, OpSketch::Conv { side: 3, outputs: 64, kind: Kind::WinogradF43 });
//! assert_eq!(op.to_string(), "conv3:64:winograd-f43");
//! # Ok::<(), String>(())
//! ```

use std::fmt;
use std::str::FromStr;

use vgg_edge_blob::int4::{INPUTS, S4Block};
use vgg_edge_blob::layout::{GROUP, padded};
use vgg_edge_blob::winograd8::Form;
use vgg_edge_blob::{
    Blob, Layer, LayerOp, Linear, NewModel, NewOp, NewWeights, Padding, Quantization, S8Layout, Scheme,
    Shape, Weights,
};
use vgg_edge_engine::{Forecast, KernelTiles, Options, forecast};
use zerocopy::{FromBytes, IntoBytes};

use super::Kind;
use crate::boards::Core;
use crate::graph;
use crate::quantize::{Fused, FusedOp, INT4_FROM, blob_shape};

/// A network without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    /// Number format.
    pub scheme: Scheme,
    /// The picture.
    pub input: Shape,
    /// In order.
    pub layers: Vec<LayerSketch>,
}

/// A layer without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSketch {
    /// Name.
    pub name: String,
    /// Layers with the same number run together.
    pub block: u16,
    /// What it computes, and how.
    pub op: OpSketch,
}

/// What a layer computes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpSketch {
    /// Stride-1 "same" convolution.
    Conv {
        /// Side of the filter: 1 or 3.
        side: u8,
        /// Output channels.
        outputs: u32,
        /// How.
        kind: Kind,
    },
    /// 2x2 maximum.
    Pool {
        /// 1 or 2.
        stride: u8,
        /// Edge rule.
        padding: Padding,
    },
    /// Mean over rows and columns.
    Average,
    /// Dense over the whole map before it.
    Dense {
        /// Outputs.
        outputs: u32,
        /// How.
        kind: Kind,
    },
}

impl OpSketch {
    /// How it is computed.
    pub fn kind(self) -> Kind {
        match self {
            OpSketch::Conv { kind, .. } | OpSketch::Dense { kind, .. } => kind,
            OpSketch::Pool { .. } => Kind::Pool,
            OpSketch::Average => Kind::Average,
        }
    }

    /// The map behind it.
    pub fn output(self, input: Shape) -> Shape {
        match self {
            OpSketch::Conv { outputs, .. } => Shape { channels: outputs, ..input },
            OpSketch::Pool { stride, padding } => {
                let stride = u32::from(stride).max(1);
                let side = |n: u32| match padding {
                    Padding::Same => n.div_ceil(stride),
                    Padding::Valid => n.saturating_sub(2) / stride + 1,
                };
                Shape { height: side(input.height), width: side(input.width), ..input }
            }
            OpSketch::Average => Shape { height: 1, width: 1, ..input },
            OpSketch::Dense { outputs, .. } => Shape { height: 1, width: 1, channels: outputs },
        }
    }
}

impl fmt::Display for OpSketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpSketch::Conv { side, outputs, kind } => write!(f, "conv{side}:{outputs}:{}", kind.name()),
            OpSketch::Pool { stride, padding: Padding::Valid } => write!(f, "pool:{stride}:valid"),
            OpSketch::Pool { stride, padding: Padding::Same } => write!(f, "pool:{stride}:same"),
            OpSketch::Average => write!(f, "average"),
            OpSketch::Dense { outputs, kind } => write!(f, "dense:{outputs}:{}", kind.name()),
        }
    }
}

impl FromStr for OpSketch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("found op `{text}`, expected such as conv3:64:direct, pool:2:valid, average");
        let number = |text: &str| text.parse().map_err(|_| wrong());
        let kind = |name: &str| Kind::find(name).ok_or_else(wrong);
        match text.split(':').collect::<Vec<_>>()[..] {
            ["conv3", outputs, how] => {
                Ok(OpSketch::Conv { side: 3, outputs: number(outputs)?, kind: kind(how)? })
            }
            ["conv1", outputs, how] => {
                Ok(OpSketch::Conv { side: 1, outputs: number(outputs)?, kind: kind(how)? })
            }
            ["pool", stride @ ("1" | "2"), padding @ ("valid" | "same")] => {
                let padding = if padding == "valid" { Padding::Valid } else { Padding::Same };
                Ok(OpSketch::Pool { stride: if stride == "1" { 1 } else { 2 }, padding })
            }
            ["average"] => Ok(OpSketch::Average),
            ["dense", outputs, how] => Ok(OpSketch::Dense { outputs: number(outputs)?, kind: kind(how)? }),
            _ => Err(wrong()),
        }
    }
}

impl Sketch {
    /// Of a blob: as it is stored.
    pub fn of_blob(blob: &Blob<'_>) -> Self {
        let op = |(i, layer): (usize, &Layer<'_>)| match layer.op {
            LayerOp::Conv { kernel, linear } => {
                let how = linear.weights.algorithm().into();
                OpSketch::Conv { side: kernel, outputs: layer.output.channels, kind: first_or(i, how) }
            }
            LayerOp::MaxPool { stride, padding } => OpSketch::Pool { stride, padding },
            LayerOp::GlobalAvgPool { .. } => OpSketch::Average,
            LayerOp::Dense(linear) => {
                let int4 = matches!(linear.weights, Weights::S4 { .. });
                OpSketch::Dense { outputs: layer.output.channels, kind: dense(int4) }
            }
        };
        let layers: Vec<Layer<'_>> = blob.layers().collect();
        let sketch = |(i, layer): (usize, &Layer<'_>)| LayerSketch {
            name: layer.name.to_owned(),
            block: layer.block,
            op: op((i, layer)),
        };
        let layers = layers.iter().enumerate().map(sketch).collect();
        Self { scheme: blob.scheme(), input: blob.input(), layers }
    }

    /// Of a model that is about to be written.
    pub fn of_model(model: &NewModel) -> Self {
        let op = |(i, op): (usize, &NewOp)| match op {
            NewOp::Conv { kernel, algorithm, linear } => {
                let kind = first_or(i, (*algorithm).into());
                OpSketch::Conv { side: *kernel, outputs: linear.outputs, kind }
            }
            NewOp::MaxPool { stride, padding } => OpSketch::Pool { stride: *stride, padding: *padding },
            NewOp::GlobalAvgPool { .. } => OpSketch::Average,
            NewOp::Dense(linear) => {
                let int4 = matches!(linear.weights, NewWeights::S4 { .. });
                OpSketch::Dense { outputs: linear.outputs, kind: dense(int4) }
            }
        };
        let layers = model.layers.iter().enumerate().map(|(i, layer)| LayerSketch {
            name: layer.name.clone(),
            block: layer.block,
            op: op((i, &layer.op)),
        });
        Self { scheme: model.scheme, input: model.input, layers: layers.collect() }
    }

    /// Of a lowered graph, every convolution direct.
    pub fn of_graph(scheme: Scheme, input: graph::Shape, fused: &[Fused<'_>]) -> Self {
        let outputs = |bias: &graph::Tensor| bias.data().len() as u32;
        let op = |(i, f): (usize, &Fused<'_>)| match &f.op {
            FusedOp::Conv { weights, bias, .. } => {
                let side = weights.shape().first().map_or(1, |side| *side as u8);
                OpSketch::Conv { side, outputs: outputs(bias), kind: first_or(i, Kind::Direct) }
            }
            FusedOp::MaxPool { stride, padding } => {
                let padding = match padding {
                    graph::Padding::Same => Padding::Same,
                    graph::Padding::Valid => Padding::Valid,
                };
                OpSketch::Pool { stride: *stride as u8, padding }
            }
            FusedOp::GlobalAvgPool => OpSketch::Average,
            FusedOp::Dense { weights, bias, .. } => {
                let (last, large) = (i + 1 == fused.len(), weights.data().len() >= INT4_FROM);
                let int4 = scheme == Scheme::Int8Fc4 && large && !last;
                OpSketch::Dense { outputs: outputs(bias), kind: dense(int4) }
            }
        };
        let layers = fused.iter().enumerate().map(|(i, f)| LayerSketch {
            name: f.name.to_owned(),
            block: f.block,
            op: op((i, f)),
        });
        Self { scheme, input: blob_shape(input), layers: layers.collect() }
    }

    /// The maps: the picture's, then each layer's output.
    pub fn maps(&self) -> Vec<Shape> {
        let mut maps = vec![self.input];
        for layer in &self.layers {
            let input = maps.last().copied().unwrap_or(self.input);
            maps.push(layer.op.output(input));
        }
        maps
    }

    /// Runs and values of a run that an output pixel of layer `i` reads, as packed for direct convolution. In blocks, a
    /// pixel of a first layer has one run.
    pub(super) fn runs(&self, i: usize, input: Shape, blocks: bool) -> (usize, usize) {
        // The picture's channels are stored as they are.
        let stored = if i == 0 { input.channels } else { padded(input.channels) } as usize;
        let (n_runs, len) = match self.layers[i].op {
            OpSketch::Conv { side, kind: Kind::First, .. } if blocks && self.scheme.is_int8() => {
                (1, usize::from(side) * usize::from(side) * stored)
            }
            OpSketch::Conv { side, .. } => (usize::from(side), usize::from(side) * stored),
            _ => (1, input.height as usize * input.width as usize * stored),
        };
        (n_runs, if self.scheme.is_int8() { len.next_multiple_of(GROUP) } else { len })
    }

    /// The network as a core's kernel runs it: kernels with dot products run exact Winograd's layers direct, from the file's
    /// filters or from weights that they repack.
    pub fn on(&self, core: &Core) -> Self {
        let mut sketch = self.clone();
        if self.scheme.is_int8() && matches!(core.kernel, "dotprod" | "i8mm") {
            for layer in &mut sketch.layers {
                if let OpSketch::Conv {
                    kind: kind @ (Kind::WinogradF43 | Kind::WinogradF43Filters), ..
                } = &mut layer.op
                {
                    *kind = Kind::Direct;
                }
            }
        }
        sketch
    }

    /// What the engine's plan does with a core's kernel on `n_threads`, with traffic of a last cache of `cache_bytes`.
    pub fn forecast(&self, core: &Core, n_threads: usize, cache_bytes: usize) -> Forecast {
        let maps = self.maps();
        // Weights whose pages are never touched: only their number counts.
        let blocks = core.kernel == "i8mm";
        let sizes = (0..self.layers.len()).map(|i| self.weight_len(i, maps[i], blocks));
        let zeros = vec![0i16; sizes.clone().max().unwrap_or(0)];
        let layer = |(i, len): (usize, usize)| self.layer(i, [maps[i], maps[i + 1]], &zeros[..len], blocks);
        let layers: Vec<Layer<'_>> = sizes.enumerate().map(layer).collect();
        let kernel = KernelTiles {
            of_pictures: core.kernel == "neon",
            cut: matches!(core.kernel, "neon" | "dotprod" | "i8mm"),
        };
        // What the engine there plans for: it knows the core.
        let l2_bytes = if core.name == "a72" { 1 << 20 } else { 512 << 10 };
        let options = Options { l2_bytes, ..Options::default() };
        forecast(self.scheme, self.input, &layers, &options, n_threads, cache_bytes, kernel)
    }

    /// Bytes of packed weights, in i16: an i8 layer's are half as many, rounded up.
    fn weight_len(&self, i: usize, input: Shape, blocks: bool) -> usize {
        let (n_runs, run_len) = self.runs(i, input, blocks);
        let places = |outputs: u32| padded(outputs) as usize * n_runs * run_len;
        match self.layers[i].op {
            OpSketch::Conv { outputs, kind, .. } => match kind.form() {
                Some(_) if kind == Kind::WinogradF43Filters => places(outputs).div_ceil(2),
                Some(form) => {
                    let pairs = padded(outputs) as usize * padded(input.channels) as usize;
                    pairs * form.window() * form.window() * form.value_bytes / 2
                }
                None if self.scheme.is_int8() => places(outputs).div_ceil(2),
                None => places(outputs),
            },
            OpSketch::Dense { outputs, kind } => match (self.scheme, kind) {
                (Scheme::F16, _) => places(outputs),
                // 64 inputs of 8 outputs are a block.
                (_, Kind::DenseInt4) => {
                    (n_runs * run_len).div_ceil(INPUTS) * padded(outputs) as usize / 8
                        * (size_of::<S4Block>() / 2)
                }
                _ => places(outputs).div_ceil(2),
            },
            OpSketch::Pool { .. } | OpSketch::Average => 0,
        }
    }

    /// The layer as the engine takes it.
    fn layer<'a>(
        &'a self,
        i: usize,
        [input, output]: [Shape; 2],
        zeros: &'a [i16],
        blocks: bool,
    ) -> Layer<'a> {
        let LayerSketch { name, block, op } = &self.layers[i];
        let (n_runs, run_len) = self.runs(i, input, blocks);
        // Dense layers stay as the file has them.
        let in_blocks = blocks && matches!(op, OpSketch::Conv { .. });
        let layout = if in_blocks { S8Layout::K8 } else { S8Layout::K4 };
        let bytes = <[i8]>::ref_from_bytes(zeros.as_bytes()).unwrap_or(&[]);
        let winograd8 =
            |form| Weights::S8Winograd { form, layout, data: bytes, params: &[], input: &[], scales: &[] };
        let weights = match (self.scheme, op.kind()) {
            (Scheme::F16, kind @ (Kind::WinogradF43 | Kind::WinogradF43F16)) => {
                let data = <[u16]>::ref_from_bytes(zeros.as_bytes()).unwrap_or(&[]);
                let half = kind == Kind::WinogradF43F16;
                Weights::F16Winograd { half, data, params: &[], in_scale: 1.0, out_scale: 1.0 }
            }
            (Scheme::F16, _) => {
                let data = <[u16]>::ref_from_bytes(zeros.as_bytes()).unwrap_or(&[]);
                Weights::F16 { data, params: &[] }
            }
            (_, Kind::WinogradF43) => Weights::S16Winograd { data: zeros, params: &[] },
            (_, Kind::Winograd8F23) => winograd8(Form::F23),
            (_, Kind::Winograd8F43) => winograd8(Form::F43),
            (_, Kind::DenseInt4) => Weights::S4 {
                blocks: <[S4Block]>::ref_from_bytes(zeros.as_bytes()).unwrap_or(&[]),
                params: &[],
            },
            (_, kind) => {
                let winograd = kind == Kind::WinogradF43Filters;
                Weights::S8 { layout, winograd, data: bytes, params: &[] }
            }
        };
        let linear =
            Linear { relu: true, n_runs: n_runs as u32, run_len: run_len as u32, pad: [0; 4], weights };
        let quant = Quantization { scale: 1.0, zero_point: 0 };
        let op = match *op {
            OpSketch::Conv { side, .. } => LayerOp::Conv { kernel: side, linear },
            OpSketch::Pool { stride, padding } => LayerOp::MaxPool { stride, padding },
            OpSketch::Average => LayerOp::GlobalAvgPool { multiplier: 0, shift: 0 },
            OpSketch::Dense { .. } => LayerOp::Dense(linear),
        };
        Layer { name, op, input, output, block: *block, in_quant: quant, out_quant: quant, sqnr_db: f32::NAN }
    }
}

/// A dense layer's kind.
fn dense(int4: bool) -> Kind {
    if int4 { Kind::DenseInt4 } else { Kind::Dense }
}

/// The first layer reads the picture, in its own way.
fn first_or(i: usize, kind: Kind) -> Kind {
    if i == 0 { Kind::First } else { kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_are_read_as_they_are_written() {
        for text in ["conv3:64:first", "conv1:20:direct", "pool:1:same", "pool:2:valid", "average"] {
            assert_eq!(text.parse::<OpSketch>().unwrap().to_string(), text);
        }
        for text in ["", "conv2:64:direct", "conv3:x:direct", "pool:3:same", "dense:5:soft"] {
            let error = text.parse::<OpSketch>().unwrap_err();
            assert_eq!(
                error,
                format!("found op `{text}`, expected such as conv3:64:direct, pool:2:valid, average")
            );
        }
    }

    #[test]
    fn weights_are_those_that_are_packed() {
        let sketch = |input: u32, op: &str| Sketch {
            scheme: Scheme::Int8,
            input: Shape { height: 7, width: 7, channels: input },
            layers: vec![LayerSketch { name: String::new(), block: 0, op: op.parse().unwrap() }],
        };
        for (input, op, bytes) in [
            (3, "conv3:64:first", 64 * 48),
            (64, "conv3:100:direct", 104 * 9 * 64),
            (64, "conv3:100:winograd-f43", 104 * 72 * 64),
            (64, "conv3:100:winograd-f43-filters", 104 * 9 * 64),
            (64, "conv3:100:winograd8-f23", 104 * 16 * 64),
            (512, "dense:4096:dense", 4096 * 25088),
        ] {
            let sketch = sketch(input, op);
            assert_eq!(2 * sketch.weight_len(0, sketch.input, false), bytes, "{op}");
        }
    }
}
