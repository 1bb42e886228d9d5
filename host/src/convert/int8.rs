//! What int8 needs before it can be quantized: equal channels, ranges, moments of what the filters see.
//!
//! ```text
//! some pictures ─► f32 ─► largest value a channel ─► equalized network ─► calibrate ─► int8, rounded to nearest
//!                                                                                        │ pictures
//!                                                    int8, rounded by the moments ◄── moments of its maps
//! ```

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;
use vgg_edge_blob::{Blob, NewModel};

use super::engine;
use crate::calibrate::{self, Moments, Planes};
use crate::graph::Graph;
use crate::pack;
use crate::preprocess::Preprocess;
use crate::progress::Progress;
use crate::quantize::{self, Fused, FusedOp, Rounding};
use crate::reference::Reference;
use crate::samples::Samples;

/// How weights are made fit for 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// How they are rounded.
    pub rounding: Rounding,
    /// Whether channels are equalized between layers.
    pub equalize: bool,
    /// Whether biases take back what rounding shifts.
    pub correct_bias: bool,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { rounding: Rounding::default(), equalize: false, correct_bias: true }
    }
}

impl std::fmt::Display for Tuning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let equalize = if self.equalize { "equalized, " } else { "" };
        let correct = if self.correct_bias { "" } else { ", biases not corrected" };
        write!(f, "{equalize}rounded {}{correct}", self.rounding)
    }
}

/// Pictures that say how large channels get, at most: only the balance between layers depends on it.
const MAXIMA_PICTURES: usize = 32;
/// Pictures whose maps moments are of, at most.
const MOMENTS_PICTURES: usize = 512;
/// Values of all strips of a layer's input, and positions in them, about, at most.
const STRIP_VALUES: usize = 1 << 23;
const STRIP_POSITIONS: usize = 24 << 10;
/// Rows of a strip, at least: with fewer, most windows would hang over its edges.
const STRIP_ROWS: usize = 8;

/// Largest value of every channel of every layer of `graph`, on the part of the pictures that ranges are not judged on.
pub(super) fn maxima(
    graph: &Graph,
    reference: &Reference,
    samples: &Samples,
    rule: &Preprocess,
    progress: &Progress,
) -> anyhow::Result<Vec<Vec<f32>>> {
    let all = calibrate::for_equalizing(samples.len());
    let n_pictures = all.len().min(MAXIMA_PICTURES);
    let bar = progress.bar("equalize", n_pictures);
    let n = graph.layers().len();
    let none = || (0..n).map(|i| vec![0f32; graph.output_shape(i).channels()]).collect::<Vec<_>>();
    let larger = |a: &mut [f32], b: &[f32]| a.iter_mut().zip(b).for_each(|(a, b)| *a = a.max(b.abs()));
    (0..n_pictures)
        .into_par_iter()
        .try_fold(none, |mut maxima, i| {
            let picture = samples.picture(all[i * all.len() / n_pictures])?;
            for output in reference.run_with_outputs(&rule.normalize(&picture.data)?)?.1 {
                let of_layer = &mut maxima[output.layer_idx];
                let channels = of_layer.len().max(1);
                output.data.chunks_exact(channels).for_each(|pixel| larger(of_layer, pixel));
            }
            bar.inc(1);
            anyhow::Ok(maxima)
        })
        .try_reduce(none, |mut a, b| {
            a.iter_mut().zip(&b).for_each(|(a, b)| larger(a, b));
            Ok(a)
        })
}

/// A layer with 8-bit weights, and which part of its input is looked at.
struct Watched {
    layer_idx: usize,
    shape: [usize; 3],
    side: usize,
    n_rows: usize,
    /// Every so many pictures.
    every: usize,
}

impl Watched {
    fn new(f: &Fused<'_>, layer_idx: usize, n_pictures: usize) -> Self {
        let (shape, side) = match (&f.op, f.input) {
            (FusedOp::Conv { weights, .. }, crate::graph::ActivationShape::Map(s)) => {
                ([s.height, s.width, s.channels], weights.shape()[0])
            }
            _ => ([1, 1, f.input.len()], 1),
        };
        let [height, width, channels] = shape;
        let positions = STRIP_POSITIONS.min(STRIP_VALUES / channels.max(1)).max(1);
        let n_rows = (positions / n_pictures.max(1) / width.max(1)).max(STRIP_ROWS).min(height);
        let n_strips = (positions / (n_rows * width).max(1)).max(2);
        Self { layer_idx, shape, side, n_rows, every: (n_pictures / n_strips).max(1) }
    }

    /// The rows of picture `i`; none for most pictures where they are large.
    fn rows(&self, i: usize) -> Option<Range<usize>> {
        let (turn, room) = (i / self.every, self.shape[0] - self.n_rows + 1);
        // Steps of the golden ratio reach all of the picture.
        let share = (turn as f64 * 0.618_033_988_75).fract();
        let start = (share * room as f64) as usize;
        i.is_multiple_of(self.every).then(|| start..start + self.n_rows)
    }
}

/// Moments of the inputs of every layer with 8-bit weights, from the maps of `model`, an int8 network.
pub(super) fn moments(
    model: &NewModel,
    fused: &[Fused<'_>],
    int4_from: usize,
    samples: &Samples,
    progress: &Progress,
) -> anyhow::Result<Vec<Option<Moments>>> {
    let bytes = pack::to_bytes(model.clone())?;
    let blob = Blob::parse(bytes.as_slice())?;
    let samples = samples.clone().thin(MOMENTS_PICTURES);
    let watched: Vec<Watched> = (0..fused.len())
        .filter(|i| quantize::is_int8(fused, *i, int4_from))
        .map(|i| Watched::new(&fused[i], i, samples.len()))
        .collect();
    let bar = progress.bar("moments", samples.len());
    let found: Vec<Mutex<Vec<(usize, Planes)>>> = watched.iter().map(|_| Mutex::default()).collect();
    let keep = |w: usize, i: usize, planes: Planes| {
        found[w]
            .lock()
            .map(|mut found| found.push((i, planes)))
            .map_err(|_| anyhow::anyhow!("another picture failed"))
    };
    let pad = quantize::picture_padding(&model.preprocess, model.input.channels as usize);
    (0..samples.len()).into_par_iter().try_for_each_init(
        || engine(&blob),
        |engine, i| {
            let engine = engine.as_mut().map_err(|e| anyhow::anyhow!("{e:#}"))?;
            let picture = samples.picture(i)?.data;
            let rows: Vec<Option<Range<usize>>> = watched.iter().map(|w| w.rows(i)).collect();
            // Of each watched layer the input's values; padding is 0.
            let mut maps: Vec<Vec<i16>> = vec![Vec::new(); watched.len()];
            let channels = model.input.channels.max(1) as usize;
            if watched.first().is_some_and(|w| w.layer_idx == 0 && rows[0].is_some()) {
                maps[0] =
                    picture.iter().enumerate().map(|(j, p)| i16::from(*p) - pad[j % channels % 4]).collect();
            }
            engine.run_visiting(&picture, |layer_idx, _, values| {
                let next = watched.iter().position(|w| w.layer_idx == layer_idx + 1);
                let (Some(w), Some(layer)) = (next, blob.layer(layer_idx)) else { return };
                if rows[w].is_some() {
                    // Real values are whole steps: rounding takes back what f32 lost.
                    let step = layer.out_quant.scale;
                    maps[w].extend(values.iter().map(|v| (v / step).round() as i16));
                }
            })?;
            for (w, rows) in rows.into_iter().enumerate() {
                if let Some(rows) = rows {
                    keep(w, i, Planes::new(&maps[w], watched[w].shape, watched[w].side, rows))?;
                }
            }
            bar.inc(1);
            anyhow::Ok(())
        },
    )?;
    let mut moments: Vec<Option<Moments>> = fused.iter().map(|_| None).collect();
    let bar = progress.bar("products", watched.len());
    for (w, found) in watched.iter().zip(found) {
        let mut found = found.into_inner().map_err(|_| anyhow::anyhow!("a picture failed"))?;
        found.sort_by_key(|(i, _)| *i);
        let planes: Vec<Planes> = found.into_iter().map(|(_, planes)| planes).collect();
        moments[w.layer_idx] = Some(Moments::new(&planes, w.side));
        bar.inc(1);
    }
    Ok(moments)
}
