//! Writing: a model in the network's own order becomes a blob; the overflow proof happens here.

use std::io;
use std::mem::size_of;

use zerocopy::{FromZeros, IntoBytes};

use crate::check;
use crate::error::Section;
use crate::int4;
use crate::layout::{
    ALIGN, HEAD_CRC_START, Header, LayerRecord, MAGIC, MAX_ROWS, NONE, SectionRecord, VERSION, padded,
};
use crate::model::{Algorithm, Layout, Padding, S8Layout, Scheme, Shape};
use crate::new::{NewLayer, NewLinear, NewModel, NewOp, NewWeights};
use crate::pack::{self, Runs};
use crate::preprocess::{Preprocess, ResizeRule};
use crate::winograd;
use crate::winograd8::{Form, NewTaps};
use crate::winograd16;
use crate::write_error::WriteError;

struct Pending {
    kind: Section,
    layer: u16,
    bytes: Vec<u8>,
}

/// Writes `model` to `out`, start to end, without seeking.
///
/// # Errors
/// [`WriteError::Overflow`] when the accumulator of some channel is not proved safe; the others when the
/// model contradicts itself or `out` fails.
pub fn write(model: NewModel, out: &mut impl io::Write) -> Result<(), WriteError> {
    let NewModel { scheme, input, preprocess, layers, labels, golden, metadata } = model;
    let limit = usize::from(NONE) / 2 - 8;
    if layers.len() > limit {
        return Err(WriteError::TooMany { what: "layers", found: layers.len(), limit });
    }
    let order = preprocess.order;
    if order.channels() != input.channels as usize {
        return Err(WriteError::Channels { order, found: input.channels });
    }
    let (mut names, mut records, mut sections) = (String::new(), Vec::new(), Vec::new());
    let (mut shape, mut first) = (input, true);
    for (index, layer) in layers.into_iter().enumerate() {
        let packer = Packer { scheme, layer: index as u16, input: shape, first };
        let record = packer.layer(layer, &mut names, &mut sections)?;
        shape = Shape {
            height: record.out_height.get(),
            width: record.out_width.get(),
            channels: record.out_channels.get(),
        };
        first = false;
        records.push(record);
    }
    let rows: u64 = records.iter().map(|r| u64::from(r.out_height.get())).sum();
    if rows > MAX_ROWS {
        let (found, limit) = (rows as usize, MAX_ROWS as usize);
        return Err(WriteError::TooMany { what: "rows of all maps", found, limit });
    }
    let n_classes = shape.len();
    let is_classifier = records.last().is_some_and(|last| last.kind == check::DENSE);
    let n_labels = if is_classifier && !labels.is_empty() { n_classes } else { 0 };
    check_extras(&labels, golden.as_ref(), input, [n_labels, n_classes])?;
    let mut global = |kind, bytes: Vec<u8>| sections.push(Pending { kind, layer: NONE, bytes });
    global(Section::Names, names.into_bytes());
    if !labels.is_empty() {
        global(Section::Labels, labels.join("\n").into_bytes());
    }
    if let Some((picture, logits)) = golden {
        global(Section::GoldenInput, picture);
        global(Section::GoldenLogits, logits.as_bytes().to_vec());
    }
    if !metadata.is_empty() {
        global(Section::Metadata, metadata.into_bytes());
    }
    if sections.len() >= usize::from(NONE) {
        let (what, found) = ("sections", sections.len());
        return Err(WriteError::TooMany { what, found, limit: usize::from(NONE) - 1 });
    }
    // Small sections first: what a reader looks at lies together, the weights stream behind.
    sections.sort_by_key(|s| (s.kind == Section::Weights, s.layer));
    let mut header = header(scheme, input, &preprocess, n_classes as u32);
    emit(&mut header, &mut records, sections, out)
}

/// What is beside the layers must fit the network.
fn check_extras(
    labels: &[String],
    golden: Option<&(Vec<u8>, Vec<f32>)>,
    input: Shape,
    [n_labels, n_classes]: [u64; 2],
) -> Result<(), WriteError> {
    let mut counts = vec![("labels", labels.len(), n_labels)];
    if let Some((picture, logits)) = golden {
        counts.push(("bytes of self-test picture", picture.len(), input.len()));
        counts.push(("self-test logits", logits.len(), n_classes));
    }
    for (what, found, expected) in counts {
        if found as u64 != expected {
            return Err(WriteError::Count { what, found, expected });
        }
    }
    match labels.iter().position(|label| label.contains('\n')) {
        Some(class) => Err(WriteError::Label { class }),
        None => Ok(()),
    }
}

struct Packer {
    scheme: Scheme,
    layer: u16,
    input: Shape,
    first: bool,
}

impl Packer {
    fn layer(
        &self,
        new: NewLayer,
        names: &mut String,
        sections: &mut Vec<Pending>,
    ) -> Result<LayerRecord, WriteError> {
        let NewLayer { name, op, block, in_quant, out_quant, sqnr_db } = new;
        let mut r = LayerRecord::new_zeroed();
        let found = name.len();
        let name_len = u16::try_from(found).map_err(|_| WriteError::TooMany {
            what: "bytes of a layer name",
            found,
            limit: usize::from(u16::MAX),
        })?;
        r.name_start = (names.len() as u32).into();
        r.name_len = name_len.into();
        names.push_str(&name);
        r.block = block.into();
        (r.weights, r.params) = (NONE.into(), NONE.into());
        (r.in_scale, r.out_scale) = (in_quant.scale.into(), out_quant.scale.into());
        (r.in_zero_point, r.out_zero_point) = (in_quant.zero_point, out_quant.zero_point);
        r.sqnr_db = sqnr_db.into();
        r.stride = 1;
        let Shape { height, width, channels } = self.input;
        let stored = if self.first { channels } else { padded(channels) } as usize;
        let mut input = self.input;
        let fits = |shape: Shape| match check::fits(shape) {
            true => Ok(()),
            false => Err(WriteError::Map { layer: name.clone(), shape }),
        };
        let known = |field, found, known: [u8; 2]| match known.contains(&found) {
            true => Ok(()),
            false => Err(WriteError::Unsupported { layer: name.clone(), field, found, known }),
        };
        fits(input)?;
        let output = match op {
            NewOp::Conv { kernel, algorithm, linear } => {
                known("kernel", kernel, [1, 3])?;
                let of_scheme = match self.scheme {
                    Scheme::Int8 | Scheme::Int8Fc4 => algorithm != Algorithm::WinogradF43F16,
                    Scheme::F16 => matches!(algorithm, Algorithm::WinogradF43 | Algorithm::WinogradF43F16),
                };
                let may_transform = kernel == 3 && check::may_transform(self.first) && of_scheme;
                if algorithm != Algorithm::Direct && !may_transform {
                    return Err(WriteError::Algorithm { layer: name, algorithm });
                }
                (r.kind, r.kernel) = (check::CONV, kernel);
                let side = usize::from(kernel);
                let runs = Runs {
                    outputs: linear.outputs as usize,
                    n_runs: side,
                    pixels: side,
                    channels: channels as usize,
                    stored,
                };
                let output = Shape { channels: linear.outputs, ..self.input };
                fits(output)?;
                self.linear(&name, linear, &runs, algorithm, &mut r, sections)?;
                output
            }
            NewOp::MaxPool { stride, padding } => {
                known("stride", stride, [1, 2])?;
                (r.kind, r.kernel, r.stride, r.padding) = (check::MAX_POOL, 2, stride, padding as u8);
                let side = |n| check::pooled(n, u32::from(stride), padding == Padding::Same);
                Shape { height: side(height), width: side(width), channels }
            }
            NewOp::GlobalAvgPool { multiplier, shift } => {
                r.kind = check::GLOBAL_AVG_POOL;
                (r.pool_multiplier, r.pool_shift) = (multiplier.into(), shift.into());
                Shape { height: 1, width: 1, channels }
            }
            NewOp::Dense(linear) => {
                r.kind = check::DENSE;
                let runs = Runs {
                    outputs: linear.outputs as usize,
                    n_runs: 1,
                    pixels: height as usize * width as usize,
                    channels: channels as usize,
                    stored,
                };
                input = Shape { height: 1, width: 1, channels: self.input.len() as u32 };
                let output = Shape { height: 1, width: 1, channels: linear.outputs };
                fits(output)?;
                self.linear(&name, linear, &runs, Algorithm::Direct, &mut r, sections)?;
                output
            }
        };
        fits(output)?;
        (r.in_height, r.in_width) = (input.height.into(), input.width.into());
        r.in_channels = input.channels.into();
        (r.out_height, r.out_width) = (output.height.into(), output.width.into());
        r.out_channels = output.channels.into();
        Ok(r)
    }

    fn linear(
        &self,
        name: &str,
        linear: NewLinear,
        runs: &Runs,
        algorithm: Algorithm,
        r: &mut LayerRecord,
        sections: &mut Vec<Pending>,
    ) -> Result<(), WriteError> {
        let layer = name.to_owned();
        let form = match &linear.weights {
            NewWeights::S8Winograd { form, .. } => Some(*form),
            _ => None,
        };
        let needed = Form::ALL.into_iter().find(|form| form.algorithm() == algorithm);
        if form != needed {
            let of = |form: Form| format!("weights of {}", form.algorithm().name());
            let found = form.map_or_else(|| "weights that are not transformed".to_owned(), of);
            return Err(WriteError::Weights { layer, found, algorithm });
        }
        let transformed = matches!(linear.weights, NewWeights::F16Winograd { .. });
        if self.scheme == Scheme::F16 && transformed != (algorithm != Algorithm::Direct) {
            let found = if transformed { "transformed weights" } else { "weights that are not transformed" };
            return Err(WriteError::Weights { layer, found: found.to_owned(), algorithm });
        }
        let (n_weights, n_params, fits) = match &linear.weights {
            NewWeights::S8(w, p) => (w.len(), p.len(), self.scheme.is_int8()),
            // `NewTaps` counts its own.
            NewWeights::S8Winograd { .. } => (runs.len(), runs.groups(), self.scheme.is_int8()),
            NewWeights::S4 { weights, params, .. } => {
                (weights.len(), params.len(), self.scheme == Scheme::Int8Fc4)
            }
            NewWeights::F16(w, p) => (w.len(), p.len(), self.scheme == Scheme::F16),
            NewWeights::F16Winograd { filters, params, .. } => {
                (filters.taps.len(), params.len(), self.scheme == Scheme::F16)
            }
        };
        if !fits {
            return Err(WriteError::Scheme { layer, scheme: self.scheme });
        }
        for (what, found, expected) in [
            ("weights", n_weights, if transformed { 4 * runs.len() } else { runs.len() }),
            ("parameter groups", n_params, runs.groups()),
        ] {
            if found != expected {
                return Err(WriteError::Size { layer, what, found, expected });
            }
        }
        let layout = linear.layout;
        let transforms = algorithm == Algorithm::WinogradF43;
        if layout != S8Layout::default() && (!self.scheme.is_int8() || transforms) {
            return Err(WriteError::Layout { layer, layout });
        }
        // Winograd's partial sums may wrap; the accumulator itself must lie in [-2^25, 2^25).
        let proved = transforms || algorithm == Algorithm::WinogradF43Filters;
        let overflow = if proved { linear.winograd_overflow() } else { None };
        let (weight_layout, n_runs, run_len, weights, params) = match linear.weights {
            NewWeights::S8(weights, params) => {
                pack::prove(name, runs, &weights, &params)?;
                if let Some((channel, low, high)) = overflow {
                    return Err(WriteError::Winograd { layer, channel, low, high });
                }
                let params = params.as_bytes().to_vec();
                if transforms {
                    let packed = winograd::s16_w36o8(runs.outputs, runs.channels, runs.stored, &weights);
                    (check::LAYOUT_S16_W36O8, winograd::TAPS, runs.stored, packed, params)
                } else {
                    let runs = if layout == S8Layout::K8 && self.first { runs.joined() } else { *runs };
                    let packed = match layout {
                        S8Layout::K4 => pack::s8_o8k4(&runs, &weights),
                        S8Layout::K8 => pack::s8_o8k8(&runs, &weights),
                    };
                    (Layout::S8O8K4.with(layout) as u8, runs.n_runs, runs.s8_run_len(), packed, params)
                }
            }
            NewWeights::S8Winograd { form, taps, params, multipliers, offsets, scales } => {
                let new = NewTaps {
                    form,
                    layout,
                    outputs: runs.outputs,
                    channels: runs.channels,
                    stored: runs.stored,
                    taps: &taps,
                    params: &params,
                    multipliers: &multipliers,
                    offsets: &offsets,
                    scales: &scales,
                };
                let packed = new.pack(name)?;
                for (kind, bytes) in [(Section::InputTaps, packed.input), (Section::TapScales, packed.scales)]
                {
                    sections.push(Pending { kind, layer: self.layer, bytes });
                }
                let params = params.as_bytes().to_vec();
                (check::layout_of(form, layout), form.taps(), runs.stored, packed.weights, params)
            }
            NewWeights::S4 { weights, scales, params } => {
                if r.kind != check::DENSE {
                    return Err(WriteError::Int4 { layer });
                }
                let run_len = runs.f16_run_len().next_multiple_of(int4::INPUTS);
                let (found, expected) = (scales.len(), runs.outputs * run_len / int4::INPUTS);
                if found != expected {
                    return Err(WriteError::Size { layer, what: "scales", found, expected });
                }
                int4::prove(name, runs, (&weights, &scales), &params)?;
                let packed = int4::s4_o8k64(runs, &weights, &scales);
                (check::LAYOUT_S4_O8K64, runs.n_runs, run_len, packed, params.as_bytes().to_vec())
            }
            NewWeights::F16(weights, params) => {
                let packed = pack::f16_o8(runs, &weights);
                (check::LAYOUT_F16_O8, runs.n_runs, runs.f16_run_len(), packed, params.as_bytes().to_vec())
            }
            NewWeights::F16Winograd { filters, params, in_scale } => {
                let half = algorithm == Algorithm::WinogradF43F16;
                let out_scale = 1.0 / (in_scale * filters.scale);
                for (field, scale) in [("in_scale", in_scale), ("out_scale", out_scale)] {
                    if !winograd16::is_scale(scale) || !(half || field != "in_scale" || scale == 1.0) {
                        return Err(WriteError::Scale { layer, field, found: scale });
                    }
                }
                (r.in_scale, r.out_scale) = (in_scale.into(), out_scale.into());
                let packed = winograd16::f16_w36o8(runs.outputs, runs.channels, runs.stored, &filters.taps);
                let params = params.as_bytes().to_vec();
                (check::LAYOUT_F16_W36O8, winograd::TAPS, runs.stored, packed, params)
            }
        };
        r.activation = if linear.relu { check::RELU } else { 0 };
        (r.algorithm, r.layout, r.pad) = (algorithm as u8, weight_layout, linear.pad);
        (r.n_runs, r.run_len) = ((n_runs as u32).into(), (run_len as u32).into());
        // Section indices are filled in once the order is known: see `emit`.
        sections.push(Pending { kind: Section::Params, layer: self.layer, bytes: params });
        sections.push(Pending { kind: Section::Weights, layer: self.layer, bytes: weights });
        Ok(())
    }
}

fn header(scheme: Scheme, input: Shape, preprocess: &Preprocess, n_classes: u32) -> Header {
    let mut h = Header::new_zeroed();
    h.magic = MAGIC;
    h.version = VERSION.into();
    h.header_len = (size_of::<Header>() as u16).into();
    h.layer_len = (size_of::<LayerRecord>() as u16).into();
    h.section_len = (size_of::<SectionRecord>() as u16).into();
    h.scheme = scheme as u8;
    h.order = preprocess.order as u8;
    (h.resize, h.shorter_side) = match preprocess.resize {
        ResizeRule::Stretch => (0, 0.into()),
        ResizeRule::ShorterSideCenterCrop(side) => (1, side.into()),
    };
    h.filter = preprocess.filter as u8;
    (h.input_height, h.input_width) = (input.height.into(), input.width.into());
    h.input_channels = input.channels.into();
    h.n_classes = n_classes.into();
    h.scale = preprocess.scale.into();
    h.mean = preprocess.mean.map(Into::into);
    h.std = preprocess.std.map(Into::into);
    h
}

/// Lays the sections out, fills in the tables and writes everything in file order.
fn emit(
    header: &mut Header,
    records: &mut [LayerRecord],
    sections: Vec<Pending>,
    out: &mut impl io::Write,
) -> Result<(), WriteError> {
    let head_len = size_of::<Header>() + size_of_val(records) + sections.len() * size_of::<SectionRecord>();
    let mut table = Vec::new();
    let mut end = head_len;
    for (index, section) in sections.iter().enumerate() {
        let start = end.next_multiple_of(ALIGN);
        end = start + section.bytes.len();
        let mut record = SectionRecord::new_zeroed();
        record.kind = (section.kind as u16).into();
        record.layer = section.layer.into();
        record.crc = crc32fast::hash(&section.bytes).into();
        (record.start, record.len) = ((start as u64).into(), (section.bytes.len() as u64).into());
        table.push(record);
        let index = index as u16;
        match (section.kind, records.get_mut(usize::from(section.layer))) {
            (Section::Weights, Some(layer)) => layer.weights = index.into(),
            (Section::Params, Some(layer)) => layer.params = index.into(),
            (Section::InputTaps, Some(layer)) => layer.input_taps = index.into(),
            (Section::TapScales, Some(layer)) => layer.tap_scales = index.into(),
            _ => {}
        }
    }
    header.n_layers = (records.len() as u16).into();
    header.n_sections = (table.len() as u16).into();
    header.head_len = (head_len as u32).into();
    header.file_len = (end as u64).into();
    let mut head = header.as_bytes().to_vec();
    head.extend_from_slice(records.as_bytes());
    head.extend_from_slice(table.as_bytes());
    let crc = crc32fast::hash(&head[HEAD_CRC_START..]);
    head[8..12].copy_from_slice(&crc.to_le_bytes());
    out.write_all(&head)?;
    let mut at = head.len();
    for section in sections {
        let start = at.next_multiple_of(ALIGN);
        out.write_all(&[0; ALIGN][..start - at])?;
        out.write_all(&section.bytes)?;
        at = start + section.bytes.len();
    }
    Ok(())
}
