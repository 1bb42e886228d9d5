//! Poolings, averages, and paddings in front of them or of convolutions.
//!
//! ```text
//! MaxPool 2x2 of a 5x5 map   stride 2, no pads ─► valid, 2x2    pads or a Pad below and right, ceil_mode ─► same, 3x3
//! AveragePool of the whole map, ReduceMean of height and width ─► GlobalAvgPool
//! ```

use super::chain::{Chain, Form, Padded};
use super::model::Node;
use super::shapes;
use crate::graph::{ActivationShape, Op, Padding};
use crate::import::Problem;

impl Chain {
    pub(super) fn max_pool(&mut self, node: &Node) -> Result<(), Problem> {
        let map = self.map(node, Form::Nchw)?;
        let kernel = node.ints("kernel_shape").unwrap_or(&[]);
        if kernel != [2, 2] {
            return Err(node.problem("kernel_shape", format!("{kernel:?}"), "[2, 2]"));
        }
        let stride = match node.ints("strides").unwrap_or(&[1, 1]) {
            [1, 1] => 1,
            [2, 2] => 2,
            other => return Err(node.problem("strides", format!("{other:?}"), "[1, 1] or [2, 2]")),
        };
        let dilations = node.ints("dilations").unwrap_or(&[1, 1]);
        if dilations != [1, 1] {
            return Err(node.problem("dilations", format!("{dilations:?}"), "[1, 1]"));
        }
        let mut pads = node.ints("pads").unwrap_or(&[0; 4]).to_vec();
        let is_ceil = node.int("ceil_mode", 0) != 0;
        let auto_pad = node.text("auto_pad").unwrap_or("NOTSET");
        if let Some(padded) = self.padded.take() {
            if pads != [0; 4] || is_ceil || !matches!(auto_pad, "NOTSET" | "VALID") {
                return Err(node.problem("pads", "behind a Pad", "no pads of its own"));
            }
            if !self.is_lost_in_maximum(padded.value) {
                let found = format!("padded with {:?}", padded.value);
                return Err(node.problem(
                    "input",
                    found,
                    "padded with the lowest value, or with 0 behind a ReLU",
                ));
            }
            pads = padded.pads.to_vec();
        }
        // Rows and columns that come out, as the operator's specification has it.
        let sides = [(map.height, 0), (map.width, 1)].map(|(n, axis)| {
            let end = pads.get(axis + 2).copied().unwrap_or(0).clamp(0, 1) as usize;
            let span = (n + end).saturating_sub(2);
            if is_ceil { span.div_ceil(stride) + 1 } else { span / stride + 1 }
        });
        let same = [map.height.div_ceil(stride), map.width.div_ceil(stride)];
        let valid = [map.height, map.width].map(|n| n.saturating_sub(2) / stride + 1);
        let padding = match auto_pad {
            "SAME_UPPER" => Padding::Same,
            // Nothing to pad, so at no side in particular.
            "SAME_LOWER" if same == valid => Padding::Valid,
            "NOTSET" | "VALID" if matches!(pads[..], [0, 0, 0 | 1, 0 | 1]) && sides == valid => {
                Padding::Valid
            }
            "NOTSET" | "VALID" if matches!(pads[..], [0, 0, 0 | 1, 0 | 1]) && sides == same => Padding::Same,
            "NOTSET" | "VALID" => {
                let found = format!("{pads:?} for a {map} map{}", if is_ceil { ", rounded up" } else { "" });
                return Err(node.problem("pads", found, "none, or by one below and to the right"));
            }
            other => return Err(node.problem("auto_pad", other, "NOTSET, VALID or SAME_UPPER")),
        };
        self.push(&node.name, Op::MaxPool { stride, padding })
    }

    /// Whether a maximum of anything that comes now and `value` is never `value`.
    fn is_lost_in_maximum(&self, value: f32) -> bool {
        let is_positive = self.layers.last().is_some_and(|l| matches!(l.op, Op::Relu));
        value <= f32::MIN || (value <= 0.0 && is_positive)
    }

    pub(super) fn global_average_pool(&mut self, node: &Node) -> Result<(), Problem> {
        if self.form != Form::Nc11 {
            self.map(node, Form::Nchw)?;
            self.push(&node.name, Op::GlobalAvgPool)?;
            self.form = Form::Nc11;
        }
        Ok(())
    }

    /// Over the whole map, which is its mean; or over single values, which is nothing.
    pub(super) fn average_pool(&mut self, node: &Node) -> Result<(), Problem> {
        let kernel = node.ints("kernel_shape").unwrap_or(&[]);
        let strides = node.ints("strides").unwrap_or(&[1, 1]);
        let pads = node.ints("pads").unwrap_or(&[0; 4]);
        if pads.iter().any(|n| *n != 0) {
            return Err(node.problem("pads", format!("{pads:?}"), "[0, 0, 0, 0]"));
        }
        if kernel == [1, 1] && strides == [1, 1] {
            return Ok(());
        }
        let map = self.map(node, Form::Nchw)?;
        if kernel != [map.height as i64, map.width as i64] {
            let expected = format!("[{}, {}], the whole map", map.height, map.width);
            return Err(self.misfit(node.problem("kernel_shape", format!("{kernel:?}"), expected)));
        }
        if let Some(auto_pad @ ("SAME_UPPER" | "SAME_LOWER")) = node.text("auto_pad") {
            return Err(node.problem("auto_pad", auto_pad, "NOTSET or VALID"));
        }
        self.push(&node.name, Op::GlobalAvgPool)?;
        self.form = Form::Nc11;
        Ok(())
    }

    pub(super) fn reduce_mean(&mut self, node: &Node) -> Result<(), Problem> {
        let (expected, kept) = match (self.form, self.shape) {
            (Form::Nchw, ActivationShape::Map(_)) => ([2, 3], Form::Nc11),
            (Form::Nhwc, ActivationShape::Map(_)) => ([1, 2], Form::N11c),
            _ => return Err(node.problem("input", "a vector", "a map")),
        };
        let given = self.integers(node, 1, "axes")?.unwrap_or_default();
        let mut axes = shapes::positions(&given, 4).unwrap_or_default();
        axes.sort_unstable();
        if axes != expected {
            return Err(node.problem(
                "axes",
                format!("{given:?}"),
                format!("{expected:?}, height and width"),
            ));
        }
        self.push(&node.name, Op::GlobalAvgPool)?;
        self.form = if node.int("keepdims", 1) != 0 { kept } else { Form::Flat(None) };
        Ok(())
    }

    /// A padding, which becomes part of the convolution or pooling behind it.
    pub(super) fn pad(&mut self, node: &Node) -> Result<(), Problem> {
        let (height, width) = match (self.form, self.shape) {
            (Form::Nchw, ActivationShape::Map(_)) => (2, 3),
            (Form::Nhwc, ActivationShape::Map(_)) => (1, 2),
            _ => return Err(node.problem("input", "a vector", "a map")),
        };
        let attribute = if node.has("paddings") { "paddings" } else { "pads" };
        let given = self.integers(node, 1, attribute)?.unwrap_or_default();
        let axes = match self.integers(node, 3, "axes")? {
            Some(axes) => shapes::positions(&axes, 4).unwrap_or_default(),
            None => vec![0, 1, 2, 3],
        };
        let at = |axis: usize, end: usize| -> Option<i64> {
            match axes.iter().position(|a| *a == axis) {
                Some(i) => given.get(i + end * axes.len()).copied(),
                None => Some(0),
            }
        };
        let pads = [at(height, 0), at(width, 0), at(height, 1), at(width, 1)];
        let others = (0..4).filter(|axis| *axis != height && *axis != width);
        let is_map = others.flat_map(|axis| [at(axis, 0), at(axis, 1)]).all(|n| n == Some(0));
        let pads: Option<Vec<i64>> = pads.into_iter().collect();
        let pads: Option<[i64; 4]> = pads.and_then(|pads| pads.try_into().ok());
        let (Some(pads), true) = (pads.filter(|p| p.iter().all(|n| matches!(n, 0 | 1))), is_map) else {
            let expected = "by one at most, at the sides of the map";
            return Err(node.problem("pads", format!("{given:?}"), expected));
        };
        let mode = node.text("mode").unwrap_or("constant");
        if mode != "constant" {
            return Err(node.problem("mode", mode, "constant"));
        }
        let value = self.values.number(node, 2)?.unwrap_or_else(|| node.float("value", 0.0));
        if pads != [0; 4] {
            self.padded = Some(Padded { place: node.place.clone(), pads, value });
        }
        Ok(())
    }
}
