//! A plan for speed: layers in requantized Winograd, as many as the gate lets through.
//!
//! ```text
//! exact int8 network ─► its maps ─► TapStats a layer and form ─► Winograd8 ─► loss with that layer alone changed
//!        │                                                                          │
//!        └► inside the gate? no: stop           board's seconds ───────────────────► order of steps
//!                                                                                   │
//!                     the longest beginning of it that is inside the gate, whole network measured ◄─┘
//! ```

use std::sync::Mutex;

use anyhow::Context;
use rayon::prelude::*;
use vgg_edge_blob::winograd8::Form;
use vgg_edge_blob::{AlignedBytes, Blob, NewLayer, NewLinear, NewModel, NewOp};

use super::engine;
use crate::calibrate::{Calibration, TapStats};
use crate::gate::{Gate, GateError, Judge, Loss};
use crate::pack;
use crate::plan::search::{Candidate, Step, longest, order};
use crate::plan::{Board, Conv, OpSketch, Sketch};
use crate::progress::Progress;
use crate::quantize::{Fused, Winograd8, filters};
use crate::samples::Samples;

/// Pictures whose maps the taps see, at most.
const TAP_PICTURES: usize = 256;
/// Pictures that each layer alone is measured on: divergence is smooth, so few are enough for an order.
const ORDER_PICTURES: usize = 16;
/// An approximate algorithm must save this share of a layer's time to be worth a loss.
const LEAST_SAVING: f64 = 0.03;

/// What a search needs.
pub(super) struct Search<'a> {
    pub(super) fused: &'a [Fused<'a>],
    pub(super) calibration: &'a Calibration,
    pub(super) samples: &'a Samples,
    pub(super) board: &'a Board,
    pub(super) gate: &'a Gate,
    pub(super) judge: &'a Judge,
    pub(super) progress: &'a Progress,
}

/// What a search found.
pub(super) struct Found {
    /// Loss of the whole network.
    pub(super) loss: Loss,
    /// A layer: predicted SQNR of its algorithm on an input without error, dB; `None` for exact ones.
    pub(super) predicted: Vec<Option<f32>>,
}

/// A layer in a form, and what it is worth.
struct Option8 {
    candidate: Candidate,
    linear: NewLinear,
    predicted_db: f32,
}

/// A layer that may change.
struct Place {
    layer_idx: usize,
    conv: Conv,
    exact_seconds: f64,
    forms: Vec<(Form, f64)>,
}

impl Search<'_> {
    /// Measures `model`, an exact plan, and unless the gate wants that changes the layers of it that the gate lets through.
    ///
    /// # Errors
    /// [`GateError`] when not even the exact network is inside the gate.
    pub(super) fn run(&self, model: &mut NewModel) -> anyhow::Result<Found> {
        let bytes = pack::to_bytes(model.clone())?;
        let exact = self.judge.loss(&bytes, usize::MAX, self.progress)?;
        // NaN is not inside.
        let fits = |loss: &Loss| loss.drop <= self.gate.max_drop;
        if !fits(&exact) {
            let (found, allowed) = (exact.drop, self.gate.max_drop);
            let error = GateError { found, allowed, measure: self.judge.measure(), pictures: exact.pictures };
            return Err(error.into());
        }
        let none = Found { loss: exact, predicted: vec![None; model.layers.len()] };
        let places = if self.gate.exact { Vec::new() } else { self.places(model) };
        if places.is_empty() {
            return Ok(none);
        }
        let stats = self.taps(&bytes, &places)?;
        let base = self.judge.loss(&bytes, ORDER_PICTURES, self.progress)?.divergence;
        drop(bytes);
        let options = self.options(model, &places, &stats, base)?;
        drop(stats);
        let seconds: Vec<(usize, f64)> = places.iter().map(|p| (p.layer_idx, p.exact_seconds)).collect();
        let candidates: Vec<Candidate> = options.iter().map(|o| o.candidate).collect();
        let steps = order(&seconds, &candidates);
        let mut losses = vec![Some(exact); steps.len() + 1];
        let n = longest(steps.len(), |n| {
            let bytes = pack::to_bytes(changed(model, &steps[..n], &options))?;
            let loss = self.judge.loss(&bytes, usize::MAX, self.progress)?;
            losses[n] = Some(loss);
            anyhow::Ok(fits(&loss))
        })?;
        *model = changed(model, &steps[..n], &options);
        let mut predicted = none.predicted;
        for step in &steps[..n] {
            let option = options.iter().find(|o| o.is(step));
            predicted[step.layer_idx] = option.map(|o| o.predicted_db);
        }
        Ok(Found { loss: losses[n].unwrap_or(exact), predicted })
    }

    /// The layers and forms that are faster on the board than the layer's exact algorithm.
    fn places(&self, model: &NewModel) -> Vec<Place> {
        let sketch = Sketch::of_model(model);
        let maps = sketch.maps();
        let mut places = Vec::new();
        for (layer_idx, layer) in sketch.layers.iter().enumerate().skip(1) {
            let OpSketch::Conv { side: 3, outputs, kind } = layer.op else { continue };
            let input = maps[layer_idx];
            let conv = Conv { height: input.height, width: input.width, inputs: input.channels, outputs };
            let exact_seconds = conv.cost(kind, self.board).seconds(self.board);
            let timed =
                Form::ALL.map(|form| (form, conv.cost(form.algorithm(), self.board).seconds(self.board)));
            let worth = |(_, seconds): &(Form, f64)| *seconds < (1.0 - LEAST_SAVING) * exact_seconds;
            let forms: Vec<_> = timed.into_iter().filter(worth).collect();
            if !forms.is_empty() {
                places.push(Place { layer_idx, conv, exact_seconds, forms });
            }
        }
        places
    }

    /// What the taps of `places` see while the exact network runs.
    fn taps(&self, bytes: &AlignedBytes, places: &[Place]) -> anyhow::Result<Vec<Vec<TapStats>>> {
        let blob = Blob::parse(bytes.as_slice())?;
        let samples = self.samples.clone().thin(TAP_PICTURES);
        let new = |place: &Place, form: Form| Mutex::new(TapStats::new(form, place.conv.inputs as usize));
        let stats: Vec<Vec<Mutex<TapStats>>> =
            places.iter().map(|p| p.forms.iter().map(|(form, _)| new(p, *form)).collect()).collect();
        let bar = self.progress.bar("taps", samples.len());
        let poisoned = |_| anyhow::anyhow!("another picture failed");
        (0..samples.len()).into_par_iter().try_for_each_init(
            || engine(&blob),
            |engine, i| {
                let engine = engine.as_mut().map_err(|e| anyhow::anyhow!("{e:#}"))?;
                let mut maps: Vec<Vec<i16>> = vec![Vec::new(); places.len()];
                engine.run_visiting(&samples.picture(i)?.data, |layer_idx, _, values| {
                    let place = places.iter().position(|p| p.layer_idx == layer_idx + 1);
                    let (Some(place), Some(layer)) = (place, blob.layer(layer_idx)) else { return };
                    // Real values are whole steps: rounding takes back what f32 lost.
                    let step = layer.out_quant.scale;
                    maps[place].extend(values.iter().map(|v| (v / step).round() as i16));
                })?;
                for ((place, map), stats) in places.iter().zip(&maps).zip(&stats) {
                    let [height, width] = [place.conv.height, place.conv.width].map(|n| n as usize);
                    for stats in stats {
                        stats.lock().map_err(poisoned)?.add(map, height, width);
                    }
                }
                bar.inc(1);
                anyhow::Ok(())
            },
        )?;
        let inner =
            |stats: Mutex<TapStats>| stats.into_inner().map_err(|_| anyhow::anyhow!("a picture failed"));
        stats.into_iter().map(|forms| forms.into_iter().map(inner).collect()).collect()
    }

    /// Every layer in every form, with the loss when that alone is changed. A form without fixed-point numbers is none.
    fn options(
        &self,
        model: &NewModel,
        places: &[Place],
        stats: &[Vec<TapStats>],
        base: f64,
    ) -> anyhow::Result<Vec<Option8>> {
        let mut options = Vec::new();
        let n: usize = stats.iter().map(Vec::len).sum();
        let bar = self.progress.bar("layers", n);
        for (place, stats) in places.iter().zip(stats) {
            let (layer, fused) = (&model.layers[place.layer_idx], &self.fused[place.layer_idx]);
            let filters = filters(fused);
            let new = Winograd8 {
                name: &layer.name,
                filters: &filters,
                input: layer.in_quant,
                output: layer.out_quant,
                relu: matches!(&layer.op, NewOp::Conv { linear, .. } if linear.relu),
            };
            for ((form, seconds), stats) in place.forms.iter().zip(stats) {
                bar.inc(1);
                let Ok(quantized) = new.quantize(stats) else { continue };
                let predicted_db = self.predicted_db(layer, fused, quantized.noise, new.relu);
                let mut candidate = Candidate {
                    layer_idx: place.layer_idx,
                    algorithm: form.algorithm(),
                    seconds: *seconds,
                    loss: 0.0,
                };
                let mut option = Option8 { candidate, linear: quantized.linear, predicted_db };
                let mut alone = model.clone();
                option.put(&mut alone);
                // The writer may refuse it: then it is no choice.
                let Ok(bytes) = pack::to_bytes(alone) else { continue };
                let loss = self.judge.loss(&bytes, ORDER_PICTURES, self.progress);
                let loss = loss.with_context(|| format!("layer `{}`", layer.name))?;
                candidate.loss = loss.divergence - base;
                option.candidate = candidate;
                options.push(option);
            }
        }
        Ok(options)
    }

    /// From the error in front of the ReLU, which counts where a value passes, and the rounding of the output.
    fn predicted_db(&self, layer: &NewLayer, fused: &Fused<'_>, noise: f64, relu: bool) -> f32 {
        let histogram = self.calibration.histogram(fused.layer_idx);
        let (half, step) = (histogram.width() / 2.0, f64::from(layer.out_quant.scale));
        let (mut power, mut passed, mut n) = (0.0, 0.0, 0.0);
        for (edge, count) in histogram.bins() {
            let (value, count) = (edge + half, count as f64);
            n += count;
            if value > step / 2.0 || !relu {
                power += count * value * value;
                passed += count;
            }
        }
        let noise = passed / n * (noise + step * step / 12.0);
        (10.0 * (power / n / noise).log10()) as f32
    }
}

impl Option8 {
    fn is(&self, step: &Step) -> bool {
        (self.candidate.layer_idx, self.candidate.algorithm) == (step.layer_idx, step.algorithm)
    }

    /// Changes its layer of `model`.
    fn put(&self, model: &mut NewModel) {
        let Candidate { layer_idx, algorithm, .. } = self.candidate;
        model.layers[layer_idx].op = NewOp::Conv { kernel: 3, algorithm, linear: self.linear.clone() };
    }
}

/// `model` behind `steps`, in their order.
fn changed(model: &NewModel, steps: &[Step], options: &[Option8]) -> NewModel {
    let mut model = model.clone();
    for step in steps {
        options.iter().filter(|option| option.is(step)).for_each(|option| option.put(&mut model));
    }
    model
}
