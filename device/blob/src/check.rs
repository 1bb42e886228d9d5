//! The checks of a blob's fields: known values, shapes that follow from one another, parameters in range.

use crate::error::{BlobError, Section};
use crate::int4::{self, S4Block};
use crate::layout::{
    F16Params, GROUP, Header, LayerRecord, MAX_MAP_VALUES, MAX_ROWS, MAX_SIDE, NONE, S8Params, SectionRecord,
    padded,
};
use crate::model::{Algorithm, Layout, Padding, S8Layout, Scheme, Shape};
use crate::preprocess::{ChannelOrder, Preprocess, ResizeFilter, ResizeRule};
use crate::read::{self, Blob};
use crate::requant::ACC_LIMIT;
use crate::winograd::TAPS;
use crate::winograd8::Form;
use crate::winograd16;

pub(crate) const CONV: u8 = 1;
pub(crate) const MAX_POOL: u8 = 2;
pub(crate) const GLOBAL_AVG_POOL: u8 = 3;
pub(crate) const DENSE: u8 = 4;
pub(crate) const RELU: u8 = 1;
pub(crate) const DIRECT: u8 = Algorithm::Direct as u8;
pub(crate) const WINOGRAD_F43: u8 = Algorithm::WinogradF43 as u8;
pub(crate) const WINOGRAD_F43_F16: u8 = Algorithm::WinogradF43F16 as u8;
pub(crate) const WINOGRAD_F43_FILTERS: u8 = Algorithm::WinogradF43Filters as u8;
pub(crate) const LAYOUT_S8_O8K4: u8 = Layout::S8O8K4 as u8;
pub(crate) const LAYOUT_S8_O8K8: u8 = Layout::S8O8K8 as u8;
pub(crate) const LAYOUT_F16_O8: u8 = Layout::F16O8 as u8;
pub(crate) const LAYOUT_S16_W36O8: u8 = Layout::S16W36O8 as u8;
pub(crate) const LAYOUT_S4_O8K64: u8 = Layout::S4O8K64 as u8;
pub(crate) const LAYOUT_F16_W36O8: u8 = Layout::F16W36O8 as u8;

/// Pixels of which an int8 average may be made: no sum of `value - zero_point` leaves the accumulator's range.
const MAX_AVERAGE: u64 = (ACC_LIMIT as u64 - 1) / 255;

pub(crate) fn scheme(header: &Header) -> Result<Scheme, BlobError> {
    [Scheme::Int8, Scheme::F16, Scheme::Int8Fc4]
        .into_iter()
        .find(|s| *s as u8 == header.scheme)
        .ok_or(BlobError::HeaderField { field: "scheme", found: u32::from(header.scheme) })
}

pub(crate) fn section_kind(index: u16, record: &SectionRecord) -> Result<Section, BlobError> {
    let found = record.kind.get();
    Section::from_u16(found).ok_or(BlobError::SectionKind { index, found })
}

pub(crate) fn preprocess(header: &Header) -> Result<Preprocess, BlobError> {
    let field = |field, found: u32| BlobError::HeaderField { field, found };
    let number = |field| BlobError::HeaderNumber { field };
    let channels = header.input_channels.get();
    if !matches!(channels, 1 | 3 | 4) {
        return Err(field("input_channels", channels));
    }
    let order = ChannelOrder::ALL.get(usize::from(header.order)).copied();
    let order = order.ok_or(field("order", u32::from(header.order)))?;
    if order.channels() != channels as usize {
        return Err(BlobError::Channels { order, found: channels });
    }
    let shorter = header.shorter_side.get();
    if shorter > MAX_SIDE {
        return Err(field("shorter_side", shorter));
    }
    let resize = match header.resize {
        0 => ResizeRule::Stretch,
        1 if shorter > 0 => ResizeRule::ShorterSideCenterCrop(shorter),
        other => return Err(field("resize", u32::from(other))),
    };
    let filter = ResizeFilter::ALL.get(usize::from(header.filter)).copied();
    let filter = filter.ok_or(field("filter", u32::from(header.filter)))?;
    let scale = header.scale.get();
    if !scale.is_finite() || scale == 0.0 {
        return Err(number("scale"));
    }
    let mean = header.mean.map(|v| v.get());
    let std = header.std.map(|v| v.get());
    if mean.iter().any(|v| !v.is_finite()) {
        return Err(number("mean"));
    }
    if std.iter().any(|v| !v.is_finite() || *v <= 0.0) {
        return Err(number("std"));
    }
    Ok(Preprocess { order, scale, mean, std, resize, filter })
}

/// Every layer's fields, and that each layer's input is what the one before gives.
pub(crate) fn layers(blob: &Blob<'_>) -> Result<(), BlobError> {
    let mut input = blob.input();
    let (mut zero_point, mut rows) = (None, 0);
    for (name, side) in [("input_height", input.height), ("input_width", input.width)] {
        if side == 0 {
            return Err(BlobError::HeaderField { field: name, found: side });
        }
    }
    if blob.records().is_empty() {
        return Err(BlobError::HeaderField { field: "n_layers", found: 0 });
    }
    let n_layers = blob.records().len();
    for (index, record) in blob.records().iter().enumerate() {
        let check = LayerCheck {
            blob,
            record,
            layer: index as u16,
            first: index == 0,
            last: index + 1 == n_layers,
            input,
            zero_point,
        };
        input = check.run()?;
        zero_point = Some(record.out_zero_point);
        rows += u64::from(input.height);
    }
    if rows > MAX_ROWS {
        return Err(BlobError::TooManyRows { found: rows });
    }
    let (found, expected) = (u64::from(blob.header().n_classes.get()), input.len());
    if found != expected {
        return Err(BlobError::HeaderField { field: "n_classes", found: found as u32 });
    }
    Ok(())
}

struct LayerCheck<'a, 'b> {
    blob: &'b Blob<'a>,
    record: &'a LayerRecord,
    layer: u16,
    first: bool,
    last: bool,
    /// What the layer before gives.
    input: Shape,
    /// Its output's zero point; `None` for the first layer, which sees the picture.
    zero_point: Option<i8>,
}

impl LayerCheck<'_, '_> {
    /// Checks the layer; its output shape.
    fn run(&self) -> Result<Shape, BlobError> {
        let r = self.record;
        self.map_size(self.input)?;
        let output = match r.kind {
            CONV => {
                self.without_pool()?;
                self.one_of("kernel", r.kernel, &[1, 3])?;
                self.expect_input(self.input)?;
                let output = Shape { channels: r.out_channels.get(), ..self.input };
                let values = u64::from(r.kernel) * u64::from(self.stored_channels());
                self.linear(u64::from(r.kernel), values)?;
                output
            }
            MAX_POOL => {
                self.without_weights(2)?;
                self.one_of("stride", r.stride, &[1, 2])?;
                self.one_of("padding", r.padding, &[Padding::Valid as u8, Padding::Same as u8])?;
                self.expect_input(self.input)?;
                let same = r.padding == Padding::Same as u8;
                let side = |n: u32| pooled(n, u32::from(r.stride), same);
                Shape {
                    height: side(self.input.height),
                    width: side(self.input.width),
                    channels: self.input.channels,
                }
            }
            GLOBAL_AVG_POOL => {
                self.without_weights(0)?;
                self.without_pool()?;
                self.expect_input(self.input)?;
                let pixels = u64::from(self.input.height) * u64::from(self.input.width);
                if self.blob.scheme().is_int8() && pixels > MAX_AVERAGE {
                    let (layer, found, limit) = (self.layer, pixels, MAX_AVERAGE);
                    return Err(BlobError::AverageTooLarge { layer, found, limit });
                }
                let (multiplier, shift) = (r.pool_multiplier.get(), r.pool_shift.get());
                self.in_range(0, "pool_multiplier", multiplier, 0, i32::MAX)?;
                self.in_range(0, "pool_shift", shift, 0, 31)?;
                Shape { height: 1, width: 1, channels: self.input.channels }
            }
            DENSE => {
                self.expect("kernel", r.kernel.into(), 0)?;
                self.without_pool()?;
                let flat = Shape { height: 1, width: 1, channels: self.input.len() as u32 };
                self.expect_input(flat)?;
                let pixels = u64::from(self.input.height) * u64::from(self.input.width);
                self.linear(1, pixels * u64::from(self.stored_channels()))?;
                Shape { height: 1, width: 1, channels: r.out_channels.get() }
            }
            found => {
                return Err(BlobError::LayerValue { layer: self.layer, field: "kind", found: found.into() });
            }
        };
        self.expect("out_height", r.out_height.get().into(), output.height.into())?;
        self.expect("out_width", r.out_width.get().into(), output.width.into())?;
        self.expect("out_channels", r.out_channels.get().into(), output.channels.into())?;
        self.map_size(output)?;
        self.scales()?;
        self.zero_points()?;
        Ok(output)
    }

    /// Fields that mean nothing here have one value: what this version cannot do is refused, not ignored.
    fn without_weights(&self, kernel: u8) -> Result<(), BlobError> {
        let r = self.record;
        self.expect("kernel", r.kernel.into(), kernel.into())?;
        self.expect("activation", r.activation.into(), 0)?;
        self.expect("algorithm", r.algorithm.into(), 0)?;
        self.expect("layout", r.layout.into(), 0)?;
        self.expect("weights", r.weights.get().into(), NONE.into())?;
        self.expect("params", r.params.get().into(), NONE.into())?;
        self.expect("n_runs", r.n_runs.get().into(), 0)?;
        self.expect("run_len", r.run_len.get().into(), 0)
    }

    fn without_pool(&self) -> Result<(), BlobError> {
        self.expect("stride", self.record.stride.into(), 1)?;
        self.expect("padding", self.record.padding.into(), 0)
    }

    /// Channels of the input map in memory.
    fn stored_channels(&self) -> u32 {
        if self.first { self.input.channels } else { padded(self.input.channels) }
    }

    fn expect_input(&self, shape: Shape) -> Result<(), BlobError> {
        self.map_size(shape)?;
        self.expect("in_height", self.record.in_height.get().into(), shape.height.into())?;
        self.expect("in_width", self.record.in_width.get().into(), shape.width.into())?;
        self.expect("in_channels", self.record.in_channels.get().into(), shape.channels.into())
    }

    fn map_size(&self, shape: Shape) -> Result<(), BlobError> {
        let (layer, Shape { height, width, channels }) = (self.layer, shape);
        if shape.is_empty() {
            return Err(BlobError::MapEmpty { layer, height, width, channels });
        }
        if !fits(shape) {
            return Err(BlobError::MapTooLarge { layer, height, width, channels });
        }
        Ok(())
    }

    /// Run lengths, section sizes and parameters of a convolution or dense layer.
    fn linear(&self, n_runs: u64, values: u64) -> Result<(), BlobError> {
        let r = self.record;
        self.one_of("activation", r.activation, &[0, RELU])?;
        let transforms: &[u8] = match self.blob.scheme() {
            Scheme::Int8 | Scheme::Int8Fc4 => &[
                WINOGRAD_F43,
                WINOGRAD_F43_FILTERS,
                Algorithm::Winograd8F23 as u8,
                Algorithm::Winograd8F43 as u8,
            ],
            Scheme::F16 => &[WINOGRAD_F43, WINOGRAD_F43_F16],
        };
        if !(self.may_transform() && transforms.contains(&r.algorithm)) {
            self.one_of("algorithm", r.algorithm, &[DIRECT])?;
        }
        let form = form(r);
        let groups = u64::from(r.out_channels.get()).div_ceil(GROUP as u64);
        let int8 = self.blob.scheme().is_int8();
        // Bytes of the weights of 8 outputs: `size` for `per` values of their runs.
        let (weight_layout, n_runs, run_len, (size, per)) = match (self.blob.scheme(), form) {
            (_, Some(form)) => {
                (layout_of(form, s8_layout(r)), form.taps() as u64, self.stored_channels().into(), (GROUP, 1))
            }
            (Scheme::F16, None) if r.algorithm != DIRECT => {
                (LAYOUT_F16_W36O8, TAPS as u64, self.stored_channels().into(), (2 * GROUP, 1))
            }
            (Scheme::F16, None) => (LAYOUT_F16_O8, n_runs, values, (2 * GROUP, 1)),
            (Scheme::Int8Fc4, None) if r.kind == DENSE && r.layout == LAYOUT_S4_O8K64 => {
                let run_len = values.next_multiple_of(int4::INPUTS as u64);
                (LAYOUT_S4_O8K64, n_runs, run_len, (size_of::<S4Block>(), int4::INPUTS as u64))
            }
            _ if r.algorithm == WINOGRAD_F43 => {
                (LAYOUT_S16_W36O8, TAPS as u64, self.stored_channels().into(), (2 * GROUP, 1))
            }
            _ => {
                let k8 = s8_layout(r) == S8Layout::K8;
                // The picture's convolution has one run, of all rows of its window.
                let (n_runs, values) = if k8 && self.first { (1, n_runs * values) } else { (n_runs, values) };
                let layout = if k8 { LAYOUT_S8_O8K8 } else { LAYOUT_S8_O8K4 };
                (layout, n_runs, values.next_multiple_of(GROUP as u64), (GROUP, 1))
            }
        };
        let params_size = if int8 { size_of::<S8Params>() } else { size_of::<F16Params>() };
        self.one_of("layout", r.layout, &[weight_layout])?;
        self.expect("n_runs", r.n_runs.get().into(), n_runs)?;
        self.expect("run_len", r.run_len.get().into(), run_len)?;
        let weights = groups.checked_mul(n_runs * run_len / per).and_then(|n| n.checked_mul(size as u64));
        let weights = weights.unwrap_or(u64::MAX);
        self.section(r.weights.get(), "weights", Section::Weights, weights)?;
        let params = self.section(r.params.get(), "params", Section::Params, groups * params_size as u64)?;
        if let Some(form) = form {
            self.taps(form, groups)?;
        }
        if int8 { self.s8_params(params) } else { self.f16_params(params) }
    }

    /// What a requantized Winograd layer has besides: multipliers and scales that are not negative, as kernels expect.
    fn taps(&self, form: Form, groups: u64) -> Result<(), BlobError> {
        let (r, n_taps, stored) = (self.record, form.taps(), self.stored_channels() as usize);
        let len = 2 * (n_taps as u64 + 1) * stored as u64;
        let input = self.section(r.input_taps.get(), "input_taps", Section::InputTaps, len)?;
        let len = 4 * groups * (n_taps * GROUP) as u64;
        let scales = self.section(r.tap_scales.get(), "tap_scales", Section::TapScales, len)?;
        let input = <[i16] as zerocopy::FromBytes>::ref_from_bytes(input).unwrap_or(&[]);
        let multipliers = &input[..(n_taps * stored).min(input.len())];
        for (i, &multiplier) in multipliers.iter().enumerate() {
            self.in_range((i % stored) as u32, "input multiplier", multiplier.into(), 0, i16::MAX.into())?;
        }
        let scales = <[i32] as zerocopy::FromBytes>::ref_from_bytes(scales).unwrap_or(&[]);
        for (i, &scale) in scales.iter().enumerate() {
            let channel = i / (n_taps * GROUP) * GROUP + i % GROUP;
            self.in_range(channel as u32, "tap scale", scale, 0, i32::MAX)?;
        }
        Ok(())
    }

    /// Whether Winograd is an algorithm for the layer: a 3x3 filter over whole groups of channels.
    fn may_transform(&self) -> bool {
        self.record.kind == CONV && self.record.kernel == 3 && may_transform(self.first)
    }

    fn section(&self, index: u16, field: &'static str, kind: Section, len: u64) -> Result<&[u8], BlobError> {
        let layer = self.layer;
        let missing = BlobError::LayerValue { layer, field, found: index.into() };
        if read::is_none(index) {
            return Err(missing);
        }
        let (record, bytes) = self.blob.section(index).ok_or(missing)?;
        if record.kind.get() != kind as u16 || record.layer.get() != layer {
            return Err(missing);
        }
        if bytes.len() as u64 != len {
            return Err(BlobError::LayerSection { layer, kind, found: bytes.len() as u64, expected: len });
        }
        Ok(bytes)
    }

    fn s8_params(&self, bytes: &[u8]) -> Result<(), BlobError> {
        let groups = <[S8Params] as zerocopy::FromBytes>::ref_from_bytes(bytes).unwrap_or(&[]);
        for (g, group) in groups.iter().enumerate() {
            for o in 0..GROUP {
                let channel = (g * GROUP + o) as u32;
                let limit = (ACC_LIMIT - 1) as i32;
                self.in_range(channel, "bias", group.bias[o], -limit, limit)?;
                self.in_range(channel, "multiplier", group.multiplier[o], 0, i32::MAX)?;
                self.in_range(channel, "shift", group.shift[o], 0, 31)?;
                if !group.scale[o].is_finite() {
                    return Err(BlobError::NotFinite { layer: self.layer, channel, field: "scale" });
                }
            }
        }
        Ok(())
    }

    fn f16_params(&self, bytes: &[u8]) -> Result<(), BlobError> {
        let groups = <[F16Params] as zerocopy::FromBytes>::ref_from_bytes(bytes).unwrap_or(&[]);
        let all = groups.iter().flat_map(|g| g.bias).enumerate();
        for (channel, bias) in all {
            if !bias.is_finite() {
                let channel = channel as u32;
                return Err(BlobError::NotFinite { layer: self.layer, channel, field: "bias" });
            }
        }
        Ok(())
    }

    /// Scales of an int8 layer are positive, but for the last dense layer's output: that one gives logits.
    fn scales(&self) -> Result<(), BlobError> {
        let r = self.record;
        if !self.blob.scheme().is_int8() {
            let transforms = r.kind == CONV && r.algorithm != DIRECT;
            let (in_scale, out_scale) = (r.in_scale.get(), r.out_scale.get());
            let good = |scale: f32| if transforms { winograd16::is_scale(scale) } else { true };
            for (field, good) in [
                ("in_scale", good(in_scale) && (r.algorithm != WINOGRAD_F43 || in_scale == 1.0)),
                ("out_scale", good(out_scale)),
            ] {
                if !good {
                    return Err(BlobError::LayerNumber { layer: self.layer, field });
                }
            }
            return Ok(());
        }
        let gives_logits = self.last && self.record.kind == DENSE;
        for (field, value, needed) in [
            ("in_scale", self.record.in_scale.get(), true),
            ("out_scale", self.record.out_scale.get(), !gives_logits),
        ] {
            let good = if needed { value.is_finite() && value > 0.0 } else { value == 0.0 };
            if !good {
                return Err(BlobError::LayerNumber { layer: self.layer, field });
            }
        }
        Ok(())
    }

    /// Zero points of an int8 layer: a map has one, whoever writes or reads it.
    fn zero_points(&self) -> Result<(), BlobError> {
        if !self.blob.scheme().is_int8() {
            return Ok(());
        }
        let r = self.record;
        let same = |field, found: i8, expected: i8| match found == expected {
            true => Ok(()),
            false => Err(BlobError::ZeroPoint { layer: self.layer, field, found, expected }),
        };
        if let Some(before) = self.zero_point {
            same("in_zero_point", r.in_zero_point, before)?;
            if r.kind == CONV {
                r.pad.iter().try_for_each(|&pad| same("pad", pad, before))?;
            }
        }
        if r.kind == MAX_POOL {
            same("out_zero_point", r.out_zero_point, r.in_zero_point)?;
        }
        if r.activation != RELU {
            return Ok(());
        }
        if self.last && r.kind == DENSE {
            return self.expect("activation", RELU.into(), 0);
        }
        same("out_zero_point", r.out_zero_point, i8::MIN)
    }

    fn in_range(
        &self,
        channel: u32,
        field: &'static str,
        v: i32,
        low: i32,
        high: i32,
    ) -> Result<(), BlobError> {
        if (low..=high).contains(&v) { Ok(()) } else { Err(self.parameter(channel, field, v.into())) }
    }

    fn parameter(&self, channel: u32, field: &'static str, found: i64) -> BlobError {
        BlobError::Parameter { layer: self.layer, channel, field, found }
    }

    fn expect(&self, field: &'static str, found: u64, expected: u64) -> Result<(), BlobError> {
        if found == expected {
            return Ok(());
        }
        Err(BlobError::LayerField { layer: self.layer, field, found, expected })
    }

    fn one_of(&self, field: &'static str, found: u8, known: &[u8]) -> Result<(), BlobError> {
        if known.contains(&found) {
            return Ok(());
        }
        Err(BlobError::LayerValue { layer: self.layer, field, found: found.into() })
    }
}

/// The form of a layer that says it is requantized Winograd.
pub(crate) fn form(record: &LayerRecord) -> Option<Form> {
    let of = |form: &Form| record.kind == CONV && record.algorithm == form.algorithm() as u8;
    Form::ALL.into_iter().find(of)
}

/// How many values lie together in the weights of an int8 layer.
pub(crate) fn s8_layout(record: &LayerRecord) -> S8Layout {
    let k8 = [Layout::S8O8K8, Layout::S8W16O8K8, Layout::S8W36O8K8];
    if k8.iter().any(|layout| *layout as u8 == record.layout) { S8Layout::K8 } else { S8Layout::K4 }
}

/// The layout of a form's weights.
pub(crate) fn layout_of(form: Form, layout: S8Layout) -> u8 {
    let k4 = match form {
        Form::F23 => Layout::S8W16O8K4,
        Form::F43 => Layout::S8W36O8K4,
    };
    k4.with(layout) as u8
}

/// Whether a 3x3 convolution may use Winograd: the picture's channels are not whole groups.
pub(crate) fn may_transform(first: bool) -> bool {
    !first
}

/// Whether a map is within the limits. Two border pixels a side come on top; once it holds, no product of
/// sides, channels and filter taps can overflow.
pub(crate) fn fits(shape: Shape) -> bool {
    let stored = Shape { channels: padded(shape.channels), ..shape };
    !shape.is_empty() && shape.height.max(shape.width) <= MAX_SIDE && stored.len() <= MAX_MAP_VALUES
}

/// Side of a pooled map: 2x2 windows, `stride` 1 or 2.
pub(crate) fn pooled(side: u32, stride: u32, same: bool) -> u32 {
    match (same, stride) {
        (true, s) => side.div_ceil(s.max(1)),
        (false, 1) => side.saturating_sub(1),
        (false, _) => side / 2,
    }
}
