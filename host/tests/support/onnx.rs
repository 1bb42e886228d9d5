//! ONNX files made by hand: protobuf's wire format, as little of it as tests need.
#![allow(dead_code, reason = "each test file uses a part of it")]

/// A field of bytes.
pub(crate) fn bytes(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field that is a number.
pub(crate) fn int(number: u64, value: i64) -> Vec<u8> {
    [varint(number << 3), varint(value.cast_unsigned())].concat()
}

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

pub(crate) fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A `TensorProto` of raw data; 1 f32, 7 i64, 10 f16.
pub(crate) fn tensor(name: &str, data_type: i64, dims: &[i64], raw: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|d| int(1, *d)).collect();
    [dims, int(2, data_type), bytes(8, name.as_bytes()), bytes(9, raw)].concat()
}

/// An f32 tensor of small distinct values.
pub(crate) fn weights(name: &str, dims: &[i64]) -> Vec<u8> {
    let n: i64 = dims.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((i * 37 + 11) % 64) as f32 / 64.0 - 0.5).collect();
    tensor(name, 1, dims, &f32s(&values))
}

/// An i64 tensor.
pub(crate) fn int_tensor(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, 7, &[values.len() as i64], &raw)
}

/// An attribute.
pub(crate) enum Attr {
    Int(i64),
    Float(f32),
    Text(&'static str),
    Ints(Vec<i64>),
    Tensor(Vec<u8>),
}

/// A `NodeProto`; named after its first output.
pub(crate) fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Attr)]) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i.as_bytes())).collect();
    node.extend(outputs.iter().flat_map(|o| bytes(2, o.as_bytes())));
    node.extend(bytes(4, op.as_bytes()));
    for (name, attribute) in attributes {
        let content = match attribute {
            Attr::Int(v) => int(3, *v),
            Attr::Float(v) => [varint(2 << 3 | 5), v.to_le_bytes().to_vec()].concat(),
            Attr::Text(text) => bytes(4, text.as_bytes()),
            Attr::Ints(list) => list.iter().flat_map(|v| int(8, *v)).collect(),
            Attr::Tensor(tensor) => bytes(5, tensor),
        };
        node.extend(bytes(5, &[bytes(1, name.as_bytes()), content].concat()));
    }
    node
}

/// A `ValueInfoProto` of f32; an axis below 0 is open.
pub(crate) fn value(name: &str, elem_type: i64, dims: &[i64]) -> Vec<u8> {
    let dim = |d: &i64| bytes(1, &if *d < 0 { bytes(2, b"n") } else { int(1, *d) });
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let of_type = bytes(1, &[int(1, elem_type), bytes(2, &shape)].concat());
    [bytes(1, name.as_bytes()), bytes(2, &of_type)].concat()
}

/// A model on its way to a file.
pub(crate) struct Net {
    pub(crate) opset: i64,
    pub(crate) nodes: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    pub(crate) inputs: Vec<Vec<u8>>,
    pub(crate) outputs: Vec<Vec<u8>>,
}

impl Net {
    /// A picture `x` of these axes, nothing that is done to it, the output `y`.
    pub(crate) fn new(dims: &[i64]) -> Self {
        let (inputs, outputs) = (vec![value("x", 1, dims)], vec![value("y", 1, &[-1, 2])]);
        Self { opset: 17, nodes: Vec::new(), tensors: Vec::new(), inputs, outputs }
    }

    /// Convolution, ReLU, pool, average and a dense layer over pictures of 4x4x3.
    pub(crate) fn small() -> Self {
        let mut net = Self::new(&[-1, 3, 4, 4]);
        net.conv("x", "c", &[]);
        net.node("Relu", &["c"], "r", &[]);
        let two = || Attr::Ints(vec![2, 2]);
        net.node("MaxPool", &["r"], "p", &[("kernel_shape", two()), ("strides", two())]);
        net.node("GlobalAveragePool", &["p"], "g", &[]);
        net.node("Flatten", &["g"], "f", &[]);
        net.head("f", 4);
        net
    }

    /// A 3x3 convolution with 4 filters of 3 channels, weights `cw` and `cb`, padding unless `attributes` say otherwise.
    pub(crate) fn conv(&mut self, from: &str, to: &str, attributes: &[(&str, Attr)]) {
        self.tensors.extend([weights("cw", &[4, 3, 3, 3]), weights("cb", &[4])]);
        let pads = [("pads", Attr::Ints(vec![1; 4]))];
        self.node("Conv", &[from, "cw", "cb"], to, if attributes.is_empty() { &pads } else { attributes });
    }

    /// A dense layer to the output, weights `dw` and `db`.
    pub(crate) fn head(&mut self, from: &str, inputs: i64) {
        self.tensors.extend([weights("dw", &[2, inputs]), weights("db", &[2])]);
        self.node("Gemm", &[from, "dw", "db"], "y", &[("transB", Attr::Int(1))]);
    }

    pub(crate) fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, Attr)]) {
        self.nodes.push(node(op, inputs, &[output], attributes));
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let all = |number: u64, list: &[Vec<u8>]| -> Vec<u8> {
            list.iter().flat_map(|item| bytes(number, item)).collect()
        };
        let graph = [
            all(1, &self.nodes),
            bytes(2, b"net"),
            all(5, &self.tensors),
            all(11, &self.inputs),
            all(12, &self.outputs),
        ];
        [int(1, 8), bytes(7, &graph.concat()), bytes(8, &int(2, self.opset))].concat()
    }
}
