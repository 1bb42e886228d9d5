//! PyTorch's state_dict with torchvision's VGG names, from any container.
//!
//! ```text
//! features.N.weight    [out][in][3][3]   OIHW ─► HWIO
//! classifier.N.weight  [out][in]              ─► [in][out]; in of the first is CHW, permuted to HWC
//! ```
//!
//! Only layers with weights have names, so the rest follows from the indices: a convolution two after the last one is
//! behind a ReLU, three after it behind a ReLU and a max-pooling, and after the last convolution comes a max-pooling.

mod safetensors;

use std::collections::BTreeMap;
use std::fs::File;

use crate::graph::{ActivationShape, Kind, Role, Shape, Tensor};

use super::outline::{self, Item, Outline};
use super::stored::{Dense, Filter, Source, Stored};
use super::{Format, ImportOptions, Imported, Problem};

/// The tensors of a file.
struct StateDict {
    tensors: BTreeMap<String, Entry>,
    source: Source,
}

/// One of them.
struct Entry {
    shape: Vec<usize>,
    /// Where it is, or the name of a type that no weight has.
    place: Result<Stored, String>,
}

/// Reads a safetensors file of `len` bytes.
pub(super) fn import_safetensors(file: File, len: u64, options: &ImportOptions) -> Result<Imported, Problem> {
    import(safetensors::open(file, len)?, Format::Safetensors, options)
}

fn import(mut tensors: StateDict, format: Format, options: &ImportOptions) -> Result<Imported, Problem> {
    let layers = Layers::new(&tensors.tensors)?;
    let outline = layers.outline(&tensors.tensors)?;
    let mut notes = vec![
        "layers named as in Keras, in the order of the file: features.0 is block1_conv1".to_string(),
        "a max-pooling after the last convolution, as torchvision has it".to_string(),
    ];
    let spec = outline::to_spec("vgg", &outline, options, &mut notes)?;
    let shapes = spec.shapes()?;

    let mut convs = layers.convs.iter();
    let mut dense = layers.dense.iter();
    let mut source = "";
    let graph = spec.attach(|layer_idx, role, shape| {
        if role == Role::Kernel {
            let next = if shape.len() == 4 { convs.next() } else { dense.next() };
            let Some(next) = next else { return Ok(None) };
            source = next;
        }
        match (role, shape) {
            (Role::Kernel, &[height, width, inputs, filters]) => {
                tensors.filter(source, [height, width, inputs, filters]).map(Some)
            }
            (Role::Kernel, &[inputs, units]) => {
                let before = layer_idx.checked_sub(1);
                let map =
                    before.filter(|&i| spec.layers[i].kind == Kind::Flatten).and_then(|flatten| match shapes
                        [flatten.checked_sub(1)?]
                    {
                        ActivationShape::Map(map) => Some(map),
                        ActivationShape::Vector(_) => None,
                    });
                tensors.dense(source, [inputs, units], map).map(Some)
            }
            (Role::Bias, &[n]) => tensors.bias(source, n),
            _ => Ok(None),
        }
    })?;
    match convs.next().or(dense.next()) {
        Some(extra) => Err(Problem::ExtraLayer { layer: extra.clone(), arch: spec.name.clone() }),
        None => Ok(Imported { graph, format, notes }),
    }
}

/// The layers of the two lists, each in order of its index.
struct Layers {
    convs: Vec<String>,
    dense: Vec<String>,
}

impl Layers {
    fn new(info: &BTreeMap<String, Entry>) -> Result<Self, Problem> {
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
    fn outline(&self, info: &BTreeMap<String, Entry>) -> Result<Outline, Problem> {
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
        info: &BTreeMap<String, Entry>,
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

impl StateDict {
    /// A tensor of exactly that shape; `None` if there is none of that name.
    fn find(&self, layer: &str, what: &str, expected: &[usize]) -> Result<Option<Stored>, Problem> {
        let Some(entry) = self.tensors.get(&format!("{layer}.{what}")) else { return Ok(None) };
        if entry.shape != expected {
            let (found, expected) = (entry.shape.clone(), format!("{expected:?}"));
            return Err(Problem::WeightShape { layer: layer.into(), what: what.into(), found, expected });
        }
        match &entry.place {
            Ok(stored) => Ok(Some(stored.clone())),
            Err(found) => {
                let found = found.clone();
                Err(Problem::DataType { layer: layer.into(), what: what.into(), found })
            }
        }
    }

    fn weight(&self, layer: &str, expected: &[usize]) -> Result<Stored, Problem> {
        self.find(layer, "weight", expected)?.ok_or_else(|| Problem::MissingTensor {
            layer: layer.into(),
            what: "weight",
            expected: expected.to_vec(),
        })
    }

    fn bias(&mut self, layer: &str, units: usize) -> Result<Option<Tensor>, Problem> {
        let stored = self.find(layer, "bias", &[units])?;
        stored.map(|stored| self.source.vector(&stored)).transpose()
    }

    fn filter(&mut self, layer: &str, hwio: [usize; 4]) -> Result<Tensor, Problem> {
        let stored = self.weight(layer, &Filter::Oihw.stored(hwio))?;
        self.source.filter(&stored, Filter::Oihw, hwio)
    }

    fn dense(
        &mut self,
        layer: &str,
        [inputs, units]: [usize; 2],
        map: Option<Shape>,
    ) -> Result<Tensor, Problem> {
        let stored = self.weight(layer, &[units, inputs])?;
        self.source.dense(&stored, Dense::OutIn, [inputs, units], map)
    }
}
