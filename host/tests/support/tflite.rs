//! Writes TFLite files, correct ones and ones that no converter would write.
//!
//! ```text
//! Net::small()   input 4x4x3 ─ CONV_2D 4 filters, RELU ─ MAX_POOL_2D ─ MEAN ─ FULLY_CONNECTED 2 ─ SOFTMAX
//! ```
#![allow(dead_code, reason = "each test file uses a part of it")]

/// Something that an offset leads to.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Table(Vec<(u16, Field)>),
    Numbers(Vec<i32>),
    Nodes(Vec<Node>),
    Bytes(Vec<u8>),
}

/// A field of a table.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    U8(u8),
    I32(i32),
    F32(f32),
    U64(u64),
    To(Node),
}

/// A FlatBuffer with the identifier of TFLite.
fn file(root: &Node) -> Vec<u8> {
    let mut bytes = b"\0\0\0\0TFL3".to_vec();
    let place = append(root, &mut bytes);
    bytes[..4].copy_from_slice(&(place as u32).to_le_bytes());
    bytes
}

/// Writes `node` behind `bytes`, what it leads to behind it; where it is.
fn append(node: &Node, bytes: &mut Vec<u8>) -> usize {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let mut open: Vec<(usize, &Node)> = Vec::new();
    let start = match node {
        Node::Table(fields) => {
            let entries = fields.iter().map(|(n, _)| usize::from(*n) + 1).max().unwrap_or(0);
            // Every field gets 8 bytes, from a multiple of 8 on.
            let size = 4 + 8 * fields.len();
            let start = (bytes.len() + 4 + 2 * entries).next_multiple_of(8) + 4;
            bytes.resize(start - 4 - 2 * entries, 0);
            let vtable = bytes.len();
            bytes.extend((4 + 2 * entries as u16).to_le_bytes());
            bytes.extend((size as u16).to_le_bytes());
            bytes.resize(start, 0);
            bytes.extend(((start - vtable) as i32).to_le_bytes());
            for (n, field) in fields {
                let place = bytes.len();
                let entry = vtable + 4 + 2 * usize::from(*n);
                bytes[entry..entry + 2].copy_from_slice(&((place - start) as u16).to_le_bytes());
                match field {
                    Field::U8(v) => bytes.push(*v),
                    Field::I32(v) => bytes.extend(v.to_le_bytes()),
                    Field::F32(v) => bytes.extend(v.to_le_bytes()),
                    Field::U64(v) => bytes.extend(v.to_le_bytes()),
                    Field::To(node) => open.push((place, node)),
                }
                bytes.resize(place + 8, 0);
            }
            start
        }
        Node::Numbers(list) => {
            let start = bytes.len();
            bytes.extend((list.len() as u32).to_le_bytes());
            bytes.extend(list.iter().flat_map(|n| n.to_le_bytes()));
            start
        }
        Node::Nodes(list) => {
            let start = bytes.len();
            bytes.extend((list.len() as u32).to_le_bytes());
            open.extend(list.iter().enumerate().map(|(i, node)| (start + 4 + 4 * i, node)));
            bytes.resize(start + 4 + 4 * list.len(), 0);
            start
        }
        Node::Bytes(list) => {
            let start = bytes.len();
            bytes.extend((list.len() as u32).to_le_bytes());
            bytes.extend(list);
            bytes.push(0);
            start
        }
    };
    for (place, node) in open {
        let at = append(node, bytes);
        bytes[place..place + 4].copy_from_slice(&((at - place) as u32).to_le_bytes());
    }
    start
}

/// Codes of operators.
pub(crate) mod code {
    pub(crate) const ADD: i32 = 0;
    pub(crate) const AVERAGE_POOL_2D: i32 = 1;
    pub(crate) const CONV_2D: i32 = 3;
    pub(crate) const DEPTHWISE_CONV_2D: i32 = 4;
    pub(crate) const DEQUANTIZE: i32 = 6;
    pub(crate) const FULLY_CONNECTED: i32 = 9;
    pub(crate) const MAX_POOL_2D: i32 = 17;
    pub(crate) const MUL: i32 = 18;
    pub(crate) const RELU: i32 = 19;
    pub(crate) const RESHAPE: i32 = 22;
    pub(crate) const SOFTMAX: i32 = 25;
    pub(crate) const PAD: i32 = 34;
    pub(crate) const MEAN: i32 = 40;
    pub(crate) const SUB: i32 = 41;
    pub(crate) const DIV: i32 = 42;
    pub(crate) const SQUEEZE: i32 = 43;
    pub(crate) const STRIDED_SLICE: i32 = 45;
    pub(crate) const SHAPE: i32 = 77;
    pub(crate) const PACK: i32 = 83;
}

/// Numbers of tensor types.
pub(crate) const F32: u8 = 0;
pub(crate) const F16: u8 = 1;
pub(crate) const I32: u8 = 2;
pub(crate) const I8: u8 = 9;

#[derive(Clone, Debug)]
pub(crate) struct TensorSpec {
    pub(crate) name: String,
    pub(crate) shape: Vec<i32>,
    pub(crate) signature: Vec<i32>,
    pub(crate) dtype: u8,
    pub(crate) data: Vec<u8>,
    pub(crate) more: Vec<(u16, Field)>,
}

#[derive(Clone, Debug)]
pub(crate) struct OpSpec {
    pub(crate) code: i32,
    pub(crate) inputs: Vec<i32>,
    pub(crate) outputs: Vec<i32>,
    pub(crate) options: Vec<(u16, Field)>,
}

/// A network to be written.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) version: i32,
    pub(crate) subgraphs: usize,
    pub(crate) tensors: Vec<TensorSpec>,
    pub(crate) ops: Vec<OpSpec>,
    pub(crate) inputs: Vec<i32>,
    pub(crate) outputs: Vec<i32>,
    /// Whether values lie behind the FlatBuffer, as in files beyond 2 GB.
    pub(crate) outside: bool,
}

/// Numbers that f16 holds exactly, not all the same.
pub(crate) fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7 % 11) as f32 / 8.0 - 0.5).collect()
}

pub(crate) fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub(crate) fn i32s(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

impl Net {
    /// Nothing but an input of that shape.
    pub(crate) fn new(input: &[i32]) -> Self {
        let mut net = Self {
            version: 3,
            subgraphs: 1,
            tensors: Vec::new(),
            ops: Vec::new(),
            inputs: vec![0],
            outputs: vec![0],
            outside: false,
        };
        net.computed("input", input);
        net
    }

    /// The small network of this file's head.
    pub(crate) fn small() -> Self {
        let mut net = Self::new(&[1, 4, 4, 3]);
        net.conv("conv", 0, &[4, 3, 3, 3], &[1, 4, 4, 4]);
        net.pool("pool");
        net.mean("mean");
        net.dense("dense", 2, 4);
        net.softmax("softmax");
        net
    }

    pub(crate) fn tensor(&mut self, name: &str, shape: &[i32], dtype: u8, data: Vec<u8>) -> i32 {
        let (name, shape) = (name.to_owned(), shape.to_vec());
        self.tensors.push(TensorSpec { name, shape, signature: Vec::new(), dtype, data, more: Vec::new() });
        self.tensors.len() as i32 - 1
    }

    pub(crate) fn computed(&mut self, name: &str, shape: &[i32]) -> i32 {
        self.tensor(name, shape, F32, Vec::new())
    }

    pub(crate) fn constant(&mut self, name: &str, shape: &[i32]) -> i32 {
        let n = shape.iter().product::<i32>() as usize;
        self.tensor(name, shape, F32, f32s(&values(n)))
    }

    pub(crate) fn numbers(&mut self, name: &str, values: &[i32]) -> i32 {
        self.tensor(name, &[values.len() as i32], I32, i32s(values))
    }

    /// The tensor that the last operator gave.
    pub(crate) fn last(&self) -> i32 {
        self.outputs[0]
    }

    /// An operator that takes what the last one gave, and `more`.
    pub(crate) fn op(
        &mut self,
        code: i32,
        name: &str,
        more: &[i32],
        shape: &[i32],
        options: &[(u16, Field)],
    ) -> &mut OpSpec {
        let output = self.computed(name, shape);
        let inputs = [&[self.last()], more].concat();
        self.outputs = vec![output];
        self.ops.push(OpSpec { code, inputs, outputs: vec![output], options: options.to_vec() });
        self.ops.last_mut().expect("one was pushed")
    }

    /// With ReLU; `padding` is 0 for SAME, 1 for VALID.
    pub(crate) fn conv(&mut self, name: &str, padding: u8, filter: &[i32], shape: &[i32]) {
        let weights = self.constant(&format!("{name}/filter"), filter);
        let bias = self.constant(&format!("{name}/bias"), &filter[..1]);
        let options = [(0, Field::U8(padding)), (1, Field::I32(1)), (2, Field::I32(1)), (3, Field::U8(1))];
        self.op(code::CONV_2D, name, &[weights, bias], shape, &options);
    }

    /// 2x2, stride 2, VALID.
    pub(crate) fn pool(&mut self, name: &str) {
        let [n, h, w, c] = self.shape()[..] else { panic!("{name} takes a map") };
        let side = |n| Field::I32(n);
        let options = [(0, Field::U8(1)), (1, side(2)), (2, side(2)), (3, side(2)), (4, side(2))];
        self.op(code::MAX_POOL_2D, name, &[], &[n, h / 2, w / 2, c], &options);
    }

    pub(crate) fn mean(&mut self, name: &str) {
        let axes = self.numbers(&format!("{name}/axes"), &[1, 2]);
        let channels = *self.shape().last().expect("axes");
        self.op(code::MEAN, name, &[axes], &[1, channels], &[]);
    }

    pub(crate) fn dense(&mut self, name: &str, units: i32, inputs: i32) {
        let weights = self.constant(&format!("{name}/weights"), &[units, inputs]);
        let bias = self.constant(&format!("{name}/bias"), &[units]);
        self.op(code::FULLY_CONNECTED, name, &[weights, bias], &[1, units], &[(0, Field::U8(0))]);
    }

    pub(crate) fn softmax(&mut self, name: &str) {
        let shape = self.shape();
        self.op(code::SOFTMAX, name, &[], &shape, &[(0, Field::F32(1.0))]);
    }

    /// Shape of the tensor that the last operator gave.
    pub(crate) fn shape(&self) -> Vec<i32> {
        self.tensors[self.last() as usize].shape.clone()
    }

    /// The tensor called `name`.
    pub(crate) fn named(&mut self, name: &str) -> &mut TensorSpec {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The operator that gives the tensor called `name`.
    pub(crate) fn giving(&mut self, name: &str) -> &mut OpSpec {
        let index = self.tensors.iter().position(|t| t.name == name).unwrap_or_else(|| panic!("no {name}"));
        let op = self.ops.iter_mut().find(|op| op.outputs.contains(&(index as i32)));
        op.unwrap_or_else(|| panic!("nothing gives {name}"))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Places of the values behind the FlatBuffer depend on its length, which does not depend on them.
        let inner = file(&self.root(1 << 20));
        if !self.outside {
            return inner;
        }
        let mut bytes = file(&self.root(inner.len() as u64));
        assert_eq!(bytes.len(), inner.len());
        self.tensors.iter().for_each(|t| bytes.extend(&t.data));
        bytes
    }

    /// The tables; values that are not in them begin at byte `end`.
    fn root(&self, end: u64) -> Node {
        use Field::{I32, To, U8};
        let mut codes: Vec<i32> = Vec::new();
        let mut at = end;
        let mut buffers = vec![Node::Table(Vec::new())];
        let mut tensors = Vec::new();
        for (i, t) in self.tensors.iter().enumerate() {
            let buffer = match (t.data.is_empty(), self.outside) {
                (true, _) => Vec::new(),
                (false, false) => vec![(0, To(Node::Bytes(t.data.clone())))],
                (false, true) => {
                    at += t.data.len() as u64;
                    let start = at - t.data.len() as u64;
                    vec![(1, Field::U64(start)), (2, Field::U64(t.data.len() as u64))]
                }
            };
            buffers.push(Node::Table(buffer));
            let mut fields = vec![
                (0, To(Node::Numbers(t.shape.clone()))),
                (1, U8(t.dtype)),
                (2, I32(i as i32 + 1)),
                (3, To(Node::Bytes(t.name.clone().into_bytes()))),
            ];
            if !t.signature.is_empty() {
                fields.push((7, To(Node::Numbers(t.signature.clone()))));
            }
            // The last of two fields of a number counts.
            fields.extend(t.more.clone());
            tensors.push(Node::Table(fields));
        }
        let mut operators = Vec::new();
        for op in &self.ops {
            let index = codes.iter().position(|code| *code == op.code).unwrap_or_else(|| {
                codes.push(op.code);
                codes.len() - 1
            });
            operators.push(Node::Table(vec![
                (0, I32(index as i32)),
                (1, To(Node::Numbers(op.inputs.clone()))),
                (2, To(Node::Numbers(op.outputs.clone()))),
                (4, To(Node::Table(op.options.clone()))),
            ]));
        }
        // New files have the code in field 3, and all have it in field 0 up to 127.
        let entry = |code: &i32| Node::Table(vec![(0, U8((*code).min(127) as u8)), (3, I32(*code))]);
        let subgraph = Node::Table(vec![
            (0, To(Node::Nodes(tensors))),
            (1, To(Node::Numbers(self.inputs.clone()))),
            (2, To(Node::Numbers(self.outputs.clone()))),
            (3, To(Node::Nodes(operators))),
            (4, To(Node::Bytes(b"main".to_vec()))),
        ]);
        Node::Table(vec![
            (0, I32(self.version)),
            (1, To(Node::Nodes(codes.iter().map(entry).collect()))),
            (2, To(Node::Nodes(vec![subgraph; self.subgraphs]))),
            (4, To(Node::Nodes(buffers))),
        ])
    }
}
