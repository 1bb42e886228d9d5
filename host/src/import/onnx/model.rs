//! The messages of `onnx.proto` that describe a network, weights left in the file.
//!
//! ```text
//! ModelProto  7 graph, 8 opset_import {1 domain, 2 version}
//! GraphProto  1 node, 2 name, 5 initializer, 11 input, 12 output, 15 sparse_initializer
//! NodeProto   1 input, 2 output, 3 name, 4 op_type, 5 attribute, 7 domain
//! Attribute   1 name, 2 f, 3 i, 4 s, 5 t, 7 floats, 8 ints
//! TensorProto 1 dims, 2 data_type, 4 float_data, 5 int32_data, 7 int64_data, 8 name, 9 raw_data, 10 double_data,
//!             13 external_data {1 key, 2 value}, 14 data_location (1 outside)
//! ValueInfo   1 name, 2 type {1 tensor_type {1 elem_type, 2 shape {1 dim {1 dim_value, 2 dim_param}}}}
//! ```

use std::collections::{HashMap, HashSet};

use super::error::OnnxProblem;
use super::wire::{Span, Value, Wire};
use crate::import::Problem;

/// Numbers of an attribute, dims of a tensor, values of a shape.
const LIST_LIMIT: usize = 64;
/// Floats of an attribute.
const FLOATS_LIMIT: usize = 4096;
/// Bytes of a name.
const NAME_LIMIT: u64 = 1 << 12;

/// A network as the file tells it.
pub(super) struct Model {
    pub(super) name: String,
    /// Version of the standard operators.
    pub(super) opset: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) initializers: HashMap<String, TensorProto>,
    pub(super) inputs: Vec<ValueInfo>,
    pub(super) outputs: Vec<ValueInfo>,
}

/// An input or output of the graph.
pub(super) struct ValueInfo {
    pub(super) name: String,
    pub(super) elem_type: u64,
    /// Length of each axis, `None` where it is open. `None` as a whole if the file does not say how many axes there are.
    pub(super) dims: Option<Vec<Option<usize>>>,
}

/// An operator.
#[derive(Debug)]
pub(super) struct Node {
    /// `node `conv1` (Conv)`, for messages.
    pub(super) place: String,
    /// Its name, or that of its output.
    pub(super) name: String,
    pub(super) op: String,
    pub(super) domain: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    attributes: HashMap<String, Attribute>,
}

#[derive(Default, Debug)]
struct Attribute {
    f: Option<f32>,
    i: Option<i64>,
    s: Option<String>,
    t: Option<TensorProto>,
    floats: Vec<f32>,
    ints: Vec<i64>,
}

/// A tensor's description.
#[derive(Clone, Default, Debug)]
pub(super) struct TensorProto {
    pub(super) name: String,
    pub(super) dims: Vec<i64>,
    /// 1 f32, 6 i32, 7 i64, 9 bool, 10 f16, 11 f64, 16 bf16.
    pub(super) data_type: u64,
    /// `raw_data`, or `float_data` or `double_data`, which are packed to the same bytes.
    pub(super) bytes: Option<Span>,
    /// Packed varints.
    pub(super) int32_data: Option<Span>,
    pub(super) int64_data: Vec<i64>,
    pub(super) external: Option<External>,
}

/// Where the values of a tensor lie outside of the file.
#[derive(Clone, Default, Debug)]
pub(super) struct External {
    pub(super) location: String,
    pub(super) offset: u64,
    pub(super) length: Option<u64>,
}

impl Node {
    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        self.attributes.get(name).and_then(|a| a.i).unwrap_or(default)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> f32 {
        self.attributes.get(name).and_then(|a| a.f).unwrap_or(default)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.s.as_deref()
    }

    /// A list; `None` if the node does not have it.
    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attributes.get(name).map(|a| a.ints.as_slice())
    }

    pub(super) fn floats(&self, name: &str) -> Option<&[f32]> {
        self.attributes.get(name).map(|a| a.floats.as_slice())
    }

    pub(super) fn tensor(&self, name: &str) -> Option<&TensorProto> {
        self.attributes.get(name)?.t.as_ref()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    /// An input that is there: optional ones may be left out by an empty name.
    pub(super) fn input(&self, i: usize) -> Option<&str> {
        self.inputs.get(i).map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn problem(
        &self,
        what: &'static str,
        found: impl ToString,
        expected: impl ToString,
    ) -> Problem {
        OnnxProblem::Node {
            node: self.place.as_str().into(),
            what,
            found: found.to_string().into(),
            expected: expected.to_string().into(),
        }
        .into()
    }
}

impl Model {
    pub(super) fn read(wire: &mut Wire) -> Result<Self, Problem> {
        let mut graph = None;
        let mut opset = None;
        let mut rest = wire.all();
        while let Some((number, value)) = wire.field(&mut rest)? {
            match (number, value) {
                (7, Value::Bytes(span)) if graph.is_none() => graph = Some(span),
                (7, _) => {
                    let (found, expected) = ("there twice".into(), "one graph".into());
                    return Err(OnnxProblem::Model { what: "graph", found, expected }.into());
                }
                (8, Value::Bytes(span)) => {
                    if let Some(version) = standard_opset(wire, span)? {
                        opset = Some(version);
                    }
                }
                _ => {}
            }
        }
        let Some(graph) = graph else {
            let (found, expected) = ("missing".into(), "one graph".into());
            return Err(OnnxProblem::Model { what: "graph", found, expected }.into());
        };
        let Some(opset) = opset else {
            let (found, expected) = ("missing".into(), "a version of the standard operators".into());
            return Err(OnnxProblem::Model { what: "opset_import", found, expected }.into());
        };
        let mut model = Self {
            name: String::new(),
            opset,
            nodes: Vec::new(),
            initializers: HashMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        model.graph(wire, graph)?;
        Ok(model)
    }

    fn graph(&mut self, wire: &mut Wire, mut rest: Span) -> Result<(), Problem> {
        while let Some((number, value)) = wire.field(&mut rest)? {
            let Value::Bytes(span) = value else { continue };
            match number {
                1 => self.nodes.push(node(wire, span, self.nodes.len())?),
                2 => self.name = wire.text(span, NAME_LIMIT)?,
                5 => {
                    let tensor = tensor(wire, span)?;
                    let name = tensor.name.clone();
                    if self.initializers.insert(name.clone(), tensor).is_some() {
                        return Err(Problem::DuplicateTensor { name });
                    }
                }
                11 => self.inputs.push(value_info(wire, span)?),
                12 => self.outputs.push(value_info(wire, span)?),
                15 => {
                    let (found, expected) = ("there".into(), "dense tensors".into());
                    return Err(OnnxProblem::Model { what: "sparse_initializer", found, expected }.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps the nodes that the output needs, each behind those it takes from.
    pub(super) fn sort(&mut self) -> Result<(), Problem> {
        let mut producer: HashMap<&str, usize> = HashMap::new();
        let given: HashSet<&str> =
            self.initializers.keys().chain(self.inputs.iter().map(|i| &i.name)).map(String::as_str).collect();
        for (i, node) in self.nodes.iter().enumerate() {
            for output in node.outputs.iter().filter(|o| !o.is_empty()) {
                if given.contains(output.as_str()) || producer.insert(output, i).is_some() {
                    return Err(node.problem("output", format!("`{output}` again"), "a name of its own"));
                }
            }
        }
        // Depth first from the outputs, without recursion: a node is done once all it takes from is.
        let mut order = Vec::new();
        let (mut open, mut done) = (HashSet::new(), HashSet::new());
        let roots = self.outputs.iter().filter_map(|o| producer.get(o.name.as_str()).copied());
        let mut stack: Vec<(usize, bool)> = roots.map(|i| (i, false)).collect();
        stack.reverse();
        while let Some((i, is_left)) = stack.pop() {
            if is_left {
                open.remove(&i);
                done.insert(i);
                order.push(i);
                continue;
            }
            if done.contains(&i) {
                continue;
            }
            if !open.insert(i) {
                return Err(OnnxProblem::Cycle { node: self.nodes[i].place.clone() }.into());
            }
            stack.push((i, true));
            for input in self.nodes[i].inputs.iter().rev() {
                let Some(&from) = producer.get(input.as_str()) else { continue };
                if open.contains(&from) {
                    return Err(OnnxProblem::Cycle { node: self.nodes[from].place.clone() }.into());
                }
                if !done.contains(&from) {
                    stack.push((from, false));
                }
            }
        }
        let mut rank = vec![usize::MAX; self.nodes.len()];
        order.into_iter().enumerate().for_each(|(at, i)| rank[i] = at);
        let mut nodes: Vec<(usize, Node)> = rank.into_iter().zip(self.nodes.drain(..)).collect();
        nodes.retain(|(rank, _)| *rank != usize::MAX);
        nodes.sort_by_key(|(rank, _)| *rank);
        self.nodes = nodes.into_iter().map(|(_, node)| node).collect();
        Ok(())
    }
}

/// Version in an `OperatorSetIdProto` of the standard domain.
fn standard_opset(wire: &mut Wire, mut rest: Span) -> Result<Option<u64>, Problem> {
    let (mut domain, mut version) = (String::new(), None);
    while let Some((number, value)) = wire.field(&mut rest)? {
        match (number, value) {
            (1, Value::Bytes(span)) => domain = wire.text(span, NAME_LIMIT)?,
            (2, Value::Varint(v)) => version = Some(v),
            _ => {}
        }
    }
    Ok(version.filter(|_| is_standard(&domain)))
}

/// Whether operators of `domain` are the standard ones.
pub(super) fn is_standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

fn node(wire: &mut Wire, mut rest: Span, index: usize) -> Result<Node, Problem> {
    let mut node = Node {
        place: String::new(),
        name: String::new(),
        op: String::new(),
        domain: String::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        attributes: HashMap::new(),
    };
    while let Some((number, value)) = wire.field(&mut rest)? {
        let Value::Bytes(span) = value else { continue };
        match number {
            1 => node.inputs.push(wire.text(span, NAME_LIMIT)?),
            2 => node.outputs.push(wire.text(span, NAME_LIMIT)?),
            3 => node.name = wire.text(span, NAME_LIMIT)?,
            4 => node.op = wire.text(span, NAME_LIMIT)?,
            5 => {
                let (name, attribute) = attribute(wire, span)?;
                node.attributes.insert(name, attribute);
            }
            7 => node.domain = wire.text(span, NAME_LIMIT)?,
            _ => {}
        }
    }
    if node.name.is_empty() {
        node.name = node.outputs.first().cloned().unwrap_or_else(|| format!("number {index}"));
    }
    let op = if is_standard(&node.domain) { node.op.clone() } else { format!("{}.{}", node.domain, node.op) };
    node.place = format!("node `{}` ({op})", node.name);
    Ok(node)
}

fn attribute(wire: &mut Wire, mut rest: Span) -> Result<(String, Attribute), Problem> {
    let mut name = String::new();
    let mut attribute = Attribute::default();
    while let Some((number, value)) = wire.field(&mut rest)? {
        match (number, value) {
            (1, Value::Bytes(span)) => name = wire.text(span, NAME_LIMIT)?,
            (2, Value::Fixed32(bytes)) => attribute.f = Some(f32::from_le_bytes(bytes)),
            (3, Value::Varint(v)) => attribute.i = Some(v.cast_signed()),
            // Longer texts are documentation.
            (4, Value::Bytes(span)) if span.len() <= NAME_LIMIT => {
                attribute.s = Some(wire.text(span, NAME_LIMIT)?);
            }
            (5, Value::Bytes(span)) => attribute.t = Some(tensor(wire, span)?),
            (7, value) => wire.floats(value, FLOATS_LIMIT, &mut attribute.floats)?,
            (8, value) => wire.integers(value, LIST_LIMIT, &mut attribute.ints)?,
            _ => {}
        }
    }
    Ok((name, attribute))
}

fn tensor(wire: &mut Wire, mut rest: Span) -> Result<TensorProto, Problem> {
    let mut tensor = TensorProto::default();
    let (mut pieces, mut is_external) = (0, false);
    while let Some((number, value)) = wire.field(&mut rest)? {
        match (number, value) {
            (1, value) => wire.integers(value, LIST_LIMIT, &mut tensor.dims)?,
            (2, Value::Varint(v)) => tensor.data_type = v,
            (5, Value::Bytes(span)) => {
                tensor.int32_data = Some(span);
                pieces += 1;
            }
            (7, value) => wire.integers(value, LIST_LIMIT, &mut tensor.int64_data)?,
            (8, Value::Bytes(span)) => tensor.name = wire.text(span, NAME_LIMIT)?,
            (4 | 9 | 10, Value::Bytes(span)) => {
                tensor.bytes = Some(span);
                pieces += 1;
            }
            (4, Value::Fixed32(_)) | (5, Value::Varint(_)) | (10, Value::Fixed64(_)) => pieces = 2,
            (13, Value::Bytes(span)) => external(wire, span, tensor.external.get_or_insert_default())?,
            (14, Value::Varint(location)) => is_external = location == 1,
            _ => {}
        }
    }
    // Either says what the other lacks: values outside that are nowhere, or a file's name that does not count.
    tensor.external = is_external.then(|| tensor.external.unwrap_or_default());
    if pieces > 1 {
        let (found, expected) = ("in several pieces".into(), "one piece".into());
        return Err(OnnxProblem::Tensor { tensor: tensor.name.into(), what: "data", found, expected }.into());
    }
    Ok(tensor)
}

/// One key and value of a tensor's external data.
fn external(wire: &mut Wire, mut rest: Span, external: &mut External) -> Result<(), Problem> {
    let (at, mut key, mut text) = (rest.start, String::new(), String::new());
    while let Some((number, value)) = wire.field(&mut rest)? {
        match (number, value) {
            (1, Value::Bytes(span)) => key = wire.text(span, NAME_LIMIT)?,
            (2, Value::Bytes(span)) => text = wire.text(span, NAME_LIMIT)?,
            _ => {}
        }
    }
    let number =
        || text.parse().map_err(|_| OnnxProblem::Wire { at, what: "offset and length must be numbers" });
    match key.as_str() {
        "location" => external.location = text,
        "offset" => external.offset = number()?,
        "length" => external.length = Some(number()?),
        _ => {}
    }
    Ok(())
}

fn value_info(wire: &mut Wire, mut rest: Span) -> Result<ValueInfo, Problem> {
    let mut info = ValueInfo { name: String::new(), elem_type: 0, dims: None };
    while let Some((number, value)) = wire.field(&mut rest)? {
        match (number, value) {
            (1, Value::Bytes(span)) => info.name = wire.text(span, NAME_LIMIT)?,
            (2, Value::Bytes(mut of_type)) => {
                while let Some((number, value)) = wire.field(&mut of_type)? {
                    if let (1, Value::Bytes(span)) = (number, value) {
                        tensor_type(wire, span, &mut info)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(info)
}

fn tensor_type(wire: &mut Wire, mut rest: Span, info: &mut ValueInfo) -> Result<(), Problem> {
    while let Some((number, value)) = wire.field(&mut rest)? {
        match (number, value) {
            (1, Value::Varint(v)) => info.elem_type = v,
            (2, Value::Bytes(mut shape)) => {
                let dims = info.dims.insert(Vec::new());
                while let Some((_, Value::Bytes(mut dim))) = wire.field(&mut shape)? {
                    let mut len = None;
                    while let Some((number, value)) = wire.field(&mut dim)? {
                        if let (1, Value::Varint(v)) = (number, value) {
                            len = usize::try_from(v.cast_signed()).ok().filter(|n| *n > 0);
                        }
                    }
                    dims.push(len);
                }
            }
            _ => {}
        }
    }
    Ok(())
}
