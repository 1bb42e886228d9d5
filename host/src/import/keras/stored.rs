//! The tensors of a layer in a Keras file, and the graph of a network with them.
//!
//! | files | what a tensor is says |
//! |---|---|
//! | HDF5 of Keras 1 to 3 | its name: `block1_conv1/kernel:0`, `block1_conv1_W_1:0`, `block1_bn1/moving_mean` |
//! | `.weights.h5`, `.keras` | its place: kernel, bias; gamma, beta, mean, variance, without those a layer does not have |

use hdf5_reader::Dataset;

use crate::graph::{Graph, Role, Tensor};

use super::super::Problem;
use super::config::{Model, Parameters, Source};
use super::h5::{H5, shape};
use super::layers::normalization;
use super::unsupported;

/// The tensors of one layer.
pub(super) struct Stored {
    /// Group they lie in: the layer, or the nested model it belongs to.
    pub(super) group: String,
    /// Layer the weights' names say.
    pub(super) owner: String,
    /// Names and datasets, in the file's order.
    pub(super) tensors: Vec<(String, Dataset)>,
    /// Whether names say what a tensor is, or its place.
    pub(super) named: bool,
}

/// What a tensor is by its name.
#[derive(Clone, Copy, PartialEq)]
enum Named {
    Is(Role),
    /// Counters of the training that inference does not need.
    Counter,
    Unknown,
}

fn named(name: &str) -> Named {
    let last = name.rsplit('/').next().unwrap_or(name);
    let last = last.split(':').next().unwrap_or(last);
    // TensorFlow makes names unique by a number behind them.
    let last = match last.rsplit_once('_') {
        Some((name, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => last,
    };
    let ends = |word: &str| last == word || last.strip_suffix(word).is_some_and(|l| l.ends_with('_'));
    if name.contains("seed_generator") || last == "count" {
        Named::Counter
    } else if ends("kernel") || ends("W") {
        Named::Is(Role::Kernel)
    } else if ends("bias") || ends("b") {
        Named::Is(Role::Bias)
    } else if ends("gamma") {
        Named::Is(Role::Gamma)
    } else if ends("beta") {
        Named::Is(Role::Beta)
    } else if ends("mean") {
        Named::Is(Role::Mean)
    } else if ends("variance") || ends("running_std") {
        // What Keras 1 calls `running_std` is the variance.
        Named::Is(Role::Variance)
    } else {
        Named::Unknown
    }
}

impl Parameters {
    /// The tensors, in the order Keras 3 numbers them.
    fn roles(self) -> Vec<Role> {
        let list: &[(Role, bool)] = match self {
            Self::Linear { bias } => &[(Role::Kernel, true), (Role::Bias, bias)],
            Self::BatchNorm { gamma, beta } => {
                &[(Role::Gamma, gamma), (Role::Beta, beta), (Role::Mean, true), (Role::Variance, true)]
            }
            Self::Normalization => &[(Role::Mean, true), (Role::Variance, true)],
        };
        list.iter().filter(|(_, there)| *there).map(|(role, _)| *role).collect()
    }
}

impl Stored {
    /// The tensors a file without a description has for this layer; `None` if that is no layer of a VGG.
    pub(super) fn parameters(&self) -> Option<Parameters> {
        let has = |role| self.tensors.iter().any(|(name, _)| named(name) == Named::Is(role));
        let ranks: Vec<usize> = self.tensors.iter().map(|(_, d)| d.ndim()).collect();
        match (self.named, &ranks[..]) {
            (true, _) if has(Role::Kernel) => Some(Parameters::Linear { bias: has(Role::Bias) }),
            (true, _) if self.tensors.iter().any(|(name, _)| named(name) == Named::Counter) => {
                Some(Parameters::Normalization)
            }
            (true, _) if has(Role::Variance) => {
                Some(Parameters::BatchNorm { gamma: has(Role::Gamma), beta: has(Role::Beta) })
            }
            (false, [2 | 4]) => Some(Parameters::Linear { bias: false }),
            (false, [2 | 4, 1]) => Some(Parameters::Linear { bias: true }),
            (false, [1, 1, 0]) => Some(Parameters::Normalization),
            (false, [1, 1]) => Some(Parameters::BatchNorm { gamma: false, beta: false }),
            (false, [1, 1, 1, 1]) => Some(Parameters::BatchNorm { gamma: true, beta: true }),
            _ => None,
        }
    }

    /// Shape of the kernel, or of the largest tensor.
    pub(super) fn kernel_shape(&self) -> Vec<usize> {
        let kernel = self.tensors.iter().map(|(_, d)| d).find(|d| d.ndim() >= 2);
        kernel.or(self.tensors.first().map(|(_, d)| d)).map_or_else(Vec::new, shape)
    }

    pub(super) fn shapes(&self) -> Vec<Vec<usize>> {
        self.tensors.iter().map(|(_, d)| shape(d)).collect()
    }

    /// Errors if there are tensors that a layer with `parameters` does not have, or two for one.
    fn check(&self, layer: &str, parameters: Parameters) -> Result<(), Problem> {
        let roles = parameters.roles();
        let extra = |name: &str| unsupported(layer, format!("weight `{name}`"));
        if !self.named {
            let counter = usize::from(parameters == Parameters::Normalization);
            return match self.tensors.get(roles.len() + counter) {
                Some((name, _)) => Err(extra(name)),
                None => Ok(()),
            };
        }
        let mut seen = Vec::new();
        for (name, _) in &self.tensors {
            match named(name) {
                Named::Is(role) if seen.contains(&role) => {
                    return Err(Problem::DuplicateTensor { name: name.clone() });
                }
                Named::Is(role) if roles.contains(&role) => seen.push(role),
                Named::Counter => {}
                _ => return Err(extra(name)),
            }
        }
        Ok(())
    }

    fn find(&self, role: Role, parameters: Parameters) -> Option<&Dataset> {
        let found = if self.named {
            self.tensors.iter().find(|(name, _)| named(name) == Named::Is(role))
        } else {
            self.tensors.get(parameters.roles().iter().position(|r| *r == role)?)
        };
        found.map(|(_, dataset)| dataset)
    }
}

/// The graph of `model` with the tensors of `stored`; `order` has for each layer the index of its tensors.
pub(super) fn graph(
    h5: &H5,
    model: &Model,
    stored: &[Stored],
    order: &[Option<usize>],
) -> Result<Graph, Problem> {
    let mut shift = None;
    model.spec.attach(|layer_idx, role, expected| {
        let layer = &model.spec.layers[layer_idx].name;
        let parameters = match &model.sources[layer_idx] {
            Source::Nothing => return Ok(None),
            Source::Given { scale, .. } if role == Role::Scale => {
                return Ok(Some(Tensor::vector(scale.clone())));
            }
            Source::Given { shift, .. } => return Ok(Some(Tensor::vector(shift.clone()))),
            Source::Stored { parameters, .. } => *parameters,
        };
        if role == Role::Shift {
            return Ok(shift.take());
        }
        let Some(tensors) = order[layer_idx].map(|i| &stored[i]) else {
            return Err(Problem::MissingLayer { layer: layer.clone(), expected: expected.to_vec() });
        };
        let read = |role: Role| match tensors.find(role, parameters) {
            Some(dataset) => h5.tensor(dataset, layer, role.name(), expected),
            None => Err(Problem::MissingTensor {
                layer: layer.clone(),
                what: role.name(),
                expected: expected.to_vec(),
            }),
        };
        if matches!(role, Role::Kernel | Role::Gamma | Role::Scale) {
            tensors.check(layer, parameters)?;
        }
        if role == Role::Scale {
            let wide = |t: Tensor| t.data().iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
            let (factors, shifts) = normalization(&wide(read(Role::Mean)?), &wide(read(Role::Variance)?));
            let narrow = |values: Vec<f64>| Tensor::vector(values.into_iter().map(|v| v as f32).collect());
            shift = Some(narrow(shifts));
            return Ok(Some(narrow(factors)));
        }
        if !parameters.roles().contains(&role) {
            return Ok(None);
        }
        read(role).map(Some)
    })
}
