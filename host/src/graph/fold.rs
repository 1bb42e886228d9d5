//! Factors a channel (batch normalization, mul and add) folded into the linear layers around them.
//!
//! With `y = x * s + t` a channel, in f64 until the last rounding:
//!
//! ```text
//! back      s * (W x + b) + t          =  (s W) x + (s b + t)            conv or dense before it
//! forward   W (s x + t) + b            =  (W s) x + (W t + b)            dense or 1x1 conv behind it
//!           the same for a 3x3 conv only if t = 0: its padding is 0 behind the factor, not in front of it
//! through   max(s x + t) = s max(x) + t  for s >= 0;  mean(s x + t) = s mean(x) + t;  flattening repeats s and t
//! ```
//!
//! What fits none of these (behind a ReLU and in front of a padded convolution, say) stays a layer of its own.
//! The first line is the usual one: S. Ioffe and C. Szegedy, "Batch Normalization", 2015.

use super::{ActivationShape, GraphError, Layer, Op, Tensor};

/// A layer on its way through the passes.
pub(super) struct Item {
    pub(super) layer: Layer,
    /// What the layer takes.
    pub(super) input: ActivationShape,
}

impl Item {
    fn affine(&self) -> Option<Affine> {
        Affine::of(&self.layer.name, &self.layer.op)
    }
}

/// `x * scale + shift`, one of each a channel.
pub(super) struct Affine {
    name: String,
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    /// The factors of a layer that is one.
    pub(super) fn of(name: &str, op: &Op) -> Option<Self> {
        let f64s = |t: &Tensor| -> Vec<f64> { t.data().iter().map(|v| f64::from(*v)).collect() };
        let (scale, shift) = match op {
            Op::Affine { scale, shift } => (f64s(scale), f64s(shift)),
            Op::BatchNorm { gamma, beta, mean, variance, epsilon } => {
                let at = |t: &Option<Tensor>, c: usize, absent: f64| {
                    t.as_ref().map_or(absent, |t| f64::from(t.data()[c]))
                };
                let scale: Vec<f64> = (f64s(variance).iter().enumerate())
                    .map(|(c, variance)| at(gamma, c, 1.0) / (variance + epsilon).sqrt())
                    .collect();
                let shift = (f64s(mean).iter().zip(&scale).enumerate())
                    .map(|(c, (mean, scale))| at(beta, c, 0.0) - mean * scale)
                    .collect();
                (scale, shift)
            }
            _ => return None,
        };
        Some(Self { name: name.to_string(), scale, shift })
    }

    fn keeps_order(&self) -> bool {
        self.scale.iter().all(|s| *s >= 0.0)
    }

    /// This one, then `next`.
    fn then(mut self, next: &Self) -> Self {
        for (c, (scale, shift)) in self.scale.iter_mut().zip(&mut self.shift).enumerate() {
            *scale *= next.scale[c];
            *shift = *shift * next.scale[c] + next.shift[c];
        }
        self
    }

    /// As a layer of its own.
    pub(super) fn into_op(self) -> Result<Op, GraphError> {
        let own = |what, values: &[f64]| round(&self.name, &self.name, what, values);
        Ok(Op::Affine { scale: own("scale", &self.scale)?, shift: own("shift", &self.shift)? })
    }
}

/// Folds every factor that can be; the others become [`Op::Affine`].
pub(super) fn fold(items: &mut Vec<Item>) -> Result<(), GraphError> {
    let mut i = 0;
    while i < items.len() {
        let Some(mut affine) = items[i].affine() else {
            i += 1;
            continue;
        };
        if let Some(to) = back(items, i, &affine) {
            into_outputs(&mut items[to].layer, &affine)?;
            items.remove(i);
        } else if let Some(to) = forward(items, i, &mut affine) {
            match items[to].affine() {
                Some(next) => {
                    let op = affine.then(&next).into_op()?;
                    items[to].layer.op = op;
                }
                None => into_inputs(&mut items[to].layer, &affine)?,
            }
            items.remove(i);
        } else {
            let op = affine.into_op()?;
            items[i].layer.op = op;
            i += 1;
        }
    }
    Ok(())
}

/// The linear layer before item `i` that can take `affine`.
fn back(items: &[Item], i: usize, affine: &Affine) -> Option<usize> {
    for (at, item) in items[..i].iter().enumerate().rev() {
        match item.layer.op {
            Op::Conv { .. } | Op::Dense { .. } => return Some(at),
            Op::GlobalAvgPool => {}
            Op::MaxPool { .. } if affine.keeps_order() => {}
            _ => return None,
        }
    }
    None
}

/// The linear layer, or another factor, behind item `i` that can take `affine`, which becomes what it is there. If there is
/// none, `affine` is what it was.
fn forward(items: &[Item], i: usize, affine: &mut Affine) -> Option<usize> {
    let no_shift = affine.shift.iter().all(|t| *t == 0.0);
    let mut repeats = 1;
    let found = items[i + 1..].iter().enumerate().find_map(|(at, item)| {
        let here = Some(i + 1 + at);
        match &item.layer.op {
            Op::Dense { .. } | Op::Affine { .. } | Op::BatchNorm { .. } => Some(here),
            Op::Conv { weights, .. } => Some(here.filter(|_| weights.shape()[0] == 1 || no_shift)),
            Op::Flatten => {
                repeats = item.input.len() / item.input.channels().max(1);
                None
            }
            Op::GlobalAvgPool => None,
            Op::MaxPool { .. } if affine.keeps_order() => None,
            _ => Some(None),
        }
    })??;
    (affine.scale, affine.shift) = (affine.scale.repeat(repeats), affine.shift.repeat(repeats));
    Some(found)
}

/// `s * (W x + b) + t`.
fn into_outputs(layer: &mut Layer, affine: &Affine) -> Result<(), GraphError> {
    let name = layer.name.clone();
    let (Op::Conv { weights, bias } | Op::Dense { weights, bias }) = &mut layer.op else { return Ok(()) };
    let outputs = affine.scale.len();
    for row in weights.data_mut().chunks_exact_mut(outputs) {
        for (w, s) in row.iter_mut().zip(&affine.scale) {
            *w = (f64::from(*w) * s) as f32;
        }
    }
    check(&name, &affine.name, "kernel", weights.data())?;
    let value = |o: usize| bias.as_ref().map_or(0.0, |b| f64::from(b.data()[o]));
    let values: Vec<f64> = (0..outputs).map(|o| value(o) * affine.scale[o] + affine.shift[o]).collect();
    *bias = Some(round(&name, &affine.name, "bias", &values)?);
    Ok(())
}

/// `W (s x + t) + b`.
fn into_inputs(layer: &mut Layer, affine: &Affine) -> Result<(), GraphError> {
    let name = layer.name.clone();
    let (Op::Conv { weights, bias } | Op::Dense { weights, bias }) = &mut layer.op else { return Ok(()) };
    let outputs = weights.shape().last().copied().unwrap_or(1).max(1);
    let mut values: Vec<f64> = match bias {
        Some(bias) => bias.data().iter().map(|b| f64::from(*b)).collect(),
        None => vec![0.0; outputs],
    };
    let inputs = affine.scale.len();
    for (i, row) in weights.data_mut().chunks_exact_mut(outputs).enumerate() {
        let (scale, shift) = (affine.scale[i % inputs], affine.shift[i % inputs]);
        for (w, value) in row.iter_mut().zip(&mut values) {
            *value += f64::from(*w) * shift;
            *w = (f64::from(*w) * scale) as f32;
        }
    }
    check(&name, &affine.name, "kernel", weights.data())?;
    *bias = Some(round(&name, &affine.name, "bias", &values)?);
    Ok(())
}

/// Values of layer `layer`, changed by `from`, in f32.
fn round(layer: &str, from: &str, what: &'static str, values: &[f64]) -> Result<Tensor, GraphError> {
    let data: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    check(layer, from, what, &data)?;
    Ok(Tensor::vector(data))
}

fn check(layer: &str, from: &str, what: &'static str, values: &[f32]) -> Result<(), GraphError> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(GraphError::Fold {
            layer: layer.to_string(),
            from: from.to_string(),
            what,
            index,
            value: values[index],
        }),
    }
}
