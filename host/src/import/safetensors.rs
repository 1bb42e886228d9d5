//! safetensors with torchvision's VGG names.
//!
//! ```text
//! u64 header length │ JSON {"features.0.weight": {"dtype": "F32", "shape": [64, 3, 3, 3], "data_offsets": [0, 6912]}, …} │ bytes
//!
//! features.N.weight    [out][in][3][3]   OIHW ─► HWIO
//! classifier.N.weight  [out][in]              ─► [in][out]; in of the first is CHW, permuted to HWC
//! ```
//!
//! Only layers with weights have names, so the rest follows from the indices: a convolution two after the last one is
//! behind a ReLU, three after it behind a ReLU and a max-pooling, and after the last convolution comes a max-pooling.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::graph::{ActivationShape, Kind, Shape, Tensor};

use super::outline::{self, Item, Outline};
use super::{Format, ImportOptions, Imported, Problem};

/// Longest header the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// Most bytes read at once, beside the tensor they go to.
const SLAB_BYTES: usize = 16 << 20;

/// Reads a safetensors file of `len` bytes.
pub(super) fn import(file: File, len: u64, options: &ImportOptions) -> Result<Imported, Problem> {
    let mut tensors = Tensors::open(file, len)?;
    let layers = Layers::new(&tensors.info)?;
    let outline = layers.outline(&tensors.info)?;
    let mut notes = vec![
        "layers named as in Keras, in the order of the file: features.0 is block1_conv1".to_string(),
        "a max-pooling after the last convolution, as torchvision has it".to_string(),
    ];
    let spec = outline::to_spec("vgg", &outline, options, &mut notes)?;
    let shapes = spec.shapes()?;

    let mut convs = layers.convs.iter();
    let mut dense = layers.dense.iter();
    // Map in front of the flattening, until the dense layer that takes it is read.
    let mut flattened: Option<Shape> = None;
    let mut done = 0;
    let graph = spec.attach(|layer_idx, kernel, bias| {
        for (i, layer) in spec.layers.iter().enumerate().take(layer_idx).skip(done) {
            if let (Kind::Flatten, Some(ActivationShape::Map(map))) =
                (layer.kind, i.checked_sub(1).map(|before| shapes[before]))
            {
                flattened = Some(map);
            }
        }
        done = layer_idx;
        let source = if kernel.len() == 4 { convs.next() } else { dense.next() };
        let Some(source) = source else {
            return Err(Problem::MissingLayer {
                layer: spec.layers[layer_idx].name.clone(),
                expected: kernel,
            });
        };
        let weights = match kernel[..] {
            [height, width, inputs, filters] => tensors.conv(source, [filters, inputs, height, width])?,
            [inputs, units] => tensors.dense(source, units, inputs, flattened.take())?,
            _ => return Err(Problem::MissingLayer { layer: source.clone(), expected: kernel }),
        };
        Ok((weights, tensors.bias(source, bias[0])?))
    })?;
    match convs.next().or(dense.next()) {
        Some(extra) => Err(Problem::ExtraLayer { layer: extra.clone(), arch: spec.name.clone() }),
        None => Ok(Imported { graph, format: Format::Safetensors, notes }),
    }
}

/// The layers of the two lists, each in order of its index.
struct Layers {
    convs: Vec<String>,
    dense: Vec<String>,
}

impl Layers {
    fn new(info: &BTreeMap<String, TensorInfo>) -> Result<Self, Problem> {
        let mut found: BTreeMap<(&str, usize), String> = BTreeMap::new();
        for name in info.keys() {
            let unknown = || Problem::UnknownTensor { name: name.clone() };
            let (layer, parameter) = name.rsplit_once('.').ok_or_else(unknown)?;
            let (list, index) = layer.rsplit_once('.').ok_or_else(unknown)?;
            let list = match list.strip_prefix("module.").unwrap_or(list) {
                "features" => "features",
                "classifier" => "classifier",
                _ => return Err(unknown()),
            };
            let index: usize = index.parse().map_err(|_| unknown())?;
            if matches!(parameter, "running_mean" | "running_var" | "num_batches_tracked") {
                let what = "batch normalization".to_string();
                return Err(Problem::UnsupportedLayer { layer: layer.into(), what });
            }
            if !matches!(parameter, "weight" | "bias") {
                return Err(unknown());
            }
            match found.insert((list, index), layer.to_string()) {
                Some(other) if other != layer => return Err(Problem::DuplicateLayer { name: other }),
                _ => {}
            }
        }
        let list =
            |wanted: &str| found.iter().filter(|((l, _), _)| *l == wanted).map(|(_, n)| n.clone()).collect();
        Ok(Self { convs: list("features"), dense: list("classifier") })
    }

    /// Blocks from the gaps between indices, names as in Keras.
    fn outline(&self, info: &BTreeMap<String, TensorInfo>) -> Result<Outline, Problem> {
        let mut outline = Outline::new();
        let (mut block, mut conv, mut last) = (1, 0, None);
        for layer in &self.convs {
            let index = layer.rsplit('.').next().and_then(|i| i.parse::<usize>().ok()).unwrap_or(0);
            match last.map(|last| index - last) {
                None | Some(2) => conv += 1,
                Some(3) => {
                    outline.push((format!("block{block}_pool"), Item::Pool));
                    (block, conv) = (block + 1, 1);
                }
                Some(found) => return Err(Problem::FeatureGap { layer: layer.clone(), found }),
            }
            last = Some(index);
            let [filters, inputs, height, width] = self.shape(info, layer)?;
            if height != width {
                let (found, expected) = (vec![filters, inputs, height, width], "a square filter".to_string());
                return Err(Problem::WeightShape {
                    layer: layer.clone(),
                    what: "weight".into(),
                    found,
                    expected,
                });
            }
            outline.push((
                format!("block{block}_conv{conv}"),
                Item::Conv { filter_size: height, inputs, filters },
            ));
        }
        if !self.convs.is_empty() {
            outline.push((format!("block{block}_pool"), Item::Pool));
        }
        let n_dense = self.dense.len();
        for (i, layer) in self.dense.iter().enumerate() {
            let [units, inputs] = self.shape(info, layer)?;
            // Three dense layers are VGG's own head, fewer that of `vggnet`.
            let name = match (n_dense, i) {
                (3.., i) if i + 1 == n_dense => "predictions".to_string(),
                (3.., i) => format!("fc{}", i + 1),
                (_, 0) => "dense".to_string(),
                (_, i) => format!("dense_{i}"),
            };
            outline.push((name, Item::Dense { inputs, units }));
        }
        Ok(outline)
    }

    fn shape<const N: usize>(
        &self,
        info: &BTreeMap<String, TensorInfo>,
        layer: &str,
    ) -> Result<[usize; N], Problem> {
        let weight = info.get(&format!("{layer}.weight")).ok_or_else(|| Problem::Missing {
            place: format!("layer `{layer}`: weight"),
            expected: "a tensor beside its bias",
        })?;
        <[usize; N]>::try_from(weight.shape.as_slice()).map_err(|_| Problem::WeightShape {
            layer: layer.into(),
            what: "weight".into(),
            found: weight.shape.clone(),
            expected: format!("{N} axes"),
        })
    }
}

/// An open file: where each tensor is, and its bytes on request.
struct Tensors {
    file: File,
    /// Offset of the first tensor byte.
    base: u64,
    info: BTreeMap<String, TensorInfo>,
}

impl Tensors {
    fn open(mut file: File, len: u64) -> Result<Self, Problem> {
        let header = |message: String| Problem::SafetensorsHeader { message };
        let mut size = [0; 8];
        file.rewind()?;
        file.read_exact(&mut size)?;
        let size = u64::from_le_bytes(size);
        let base = size.checked_add(8).filter(|base| *base <= len && size <= MAX_HEADER);
        let Some(base) = base else {
            return Err(header(format!("header has {size} bytes, but the file has {len}")));
        };
        let mut json = Vec::new();
        file.by_ref().take(size).read_to_end(&mut json)?;
        let names = serde_json::Deserializer::from_slice(&json)
            .deserialize_map(UniqueNames)
            .map_err(|e| header(e.to_string()))?;
        if let Err(name) = names {
            return Err(Problem::DuplicateTensor { name });
        }
        // Deserializing checks that shapes, types and offsets agree and that tensors follow each other without gaps.
        let metadata: Metadata = serde_json::from_slice(&json).map_err(|e| header(e.to_string()))?;
        let need = base.saturating_add(metadata.data_len() as u64);
        if need != len {
            return Err(Problem::FileLength { need, len });
        }
        let info = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok(Self { file, base, info })
    }

    /// A tensor of exactly that shape; `None` if there is none of that name.
    fn info(&self, layer: &str, what: &str, expected: &[usize]) -> Result<Option<TensorInfo>, Problem> {
        let Some(info) = self.info.get(&format!("{layer}.{what}")) else { return Ok(None) };
        if info.shape != expected {
            let (found, expected) = (info.shape.clone(), format!("{expected:?}"));
            return Err(Problem::WeightShape { layer: layer.into(), what: what.into(), found, expected });
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            let found = info.dtype.to_string();
            return Err(Problem::DataType { layer: layer.into(), what: what.into(), found });
        }
        Ok(Some(info.clone()))
    }

    fn weight(&self, layer: &str, expected: &[usize]) -> Result<TensorInfo, Problem> {
        self.info(layer, "weight", expected)?.ok_or_else(|| Problem::MissingTensor {
            layer: layer.into(),
            what: "weight",
            expected: expected.to_vec(),
        })
    }

    /// `[out]`; zeros for a layer without bias.
    fn bias(&mut self, layer: &str, units: usize) -> Result<Tensor, Problem> {
        let Some(info) = self.info(layer, "bias", &[units])? else { return Ok(Tensor::zeros(units)) };
        let data = self.values(&info, 0, units)?;
        tensor(vec![units], data)
    }

    /// OIHW in the file, HWIO out.
    fn conv(&mut self, layer: &str, oihw: [usize; 4]) -> Result<Tensor, Problem> {
        let info = self.weight(layer, &oihw)?;
        let [filters, inputs, height, width] = oihw;
        let from = self.values(&info, 0, filters * inputs * height * width)?;
        let mut data = vec![0f32; from.len()];
        for (i, value) in from.into_iter().enumerate() {
            let (oi, tap) = (i / (height * width), i % (height * width));
            let (o, i) = (oi / inputs, oi % inputs);
            data[(tap * inputs + i) * filters + o] = value;
        }
        tensor(vec![height, width, inputs, filters], data)
    }

    /// `[out][in]` in the file, `[in][out]` out. Inputs that are a flattened CHW `map` change to HWC order. Reads a slab
    /// of outputs at a time: a 400 MB layer needs no second copy.
    fn dense(
        &mut self,
        layer: &str,
        units: usize,
        inputs: usize,
        map: Option<Shape>,
    ) -> Result<Tensor, Problem> {
        let info = self.weight(layer, &[units, inputs])?;
        let row_of = |i: usize| match map {
            Some(Shape { height, width, channels }) => {
                let (channel, position) = (i / (height * width), i % (height * width));
                position * channels + channel
            }
            None => i,
        };
        let mut data = vec![0f32; units * inputs];
        let slab = (SLAB_BYTES / 4 / inputs).clamp(1, units);
        for start in (0..units).step_by(slab) {
            let n = slab.min(units - start);
            let from = self.values(&info, start * inputs, n * inputs)?;
            for i in 0..inputs {
                let to = row_of(i) * units + start;
                for (j, out) in data[to..to + n].iter_mut().enumerate() {
                    *out = from[j * inputs + i];
                }
            }
        }
        tensor(vec![inputs, units], data)
    }

    /// `n` values of a tensor from value `first` on, in f32.
    fn values(&mut self, info: &TensorInfo, first: usize, n: usize) -> Result<Vec<f32>, Problem> {
        let size = info.dtype.bitsize() / 8;
        let start = self.base + (info.data_offsets.0 + first * size) as u64;
        self.file.seek(SeekFrom::Start(start))?;
        let mut raw = vec![0; n * size];
        self.file.read_exact(&mut raw)?;
        Ok(match info.dtype {
            Dtype::F16 => raw.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => raw.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::F64 => raw.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            _ => raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        })
    }
}

fn tensor(shape: Vec<usize>, data: Vec<f32>) -> Result<Tensor, Problem> {
    let message = format!("{} values for shape {shape:?}", data.len());
    Tensor::new(shape, data).ok_or(Problem::SafetensorsHeader { message })
}

/// Names of a JSON object: the first that is there twice is the error. Parsers keep the last value without a word.
struct UniqueNames;

impl<'de> Visitor<'de> for UniqueNames {
    type Value = Result<(), String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut twice = None;
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            if !seen.insert(name.clone()) {
                twice.get_or_insert(name);
            }
        }
        Ok(twice.map_or(Ok(()), Err))
    }
}
