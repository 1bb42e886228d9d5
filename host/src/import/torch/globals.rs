//! The functions, classes and types that a pickled state_dict may refer to, by name. Everything else is refused.
//!
//! | name | what it stands for here |
//! |---|---|
//! | `collections.OrderedDict`, `Counter` | a dict |
//! | `torch._utils._rebuild_tensor{,_v2,_v3}` | a view of a storage |
//! | `torch._utils._rebuild_parameter{,_with_state}` | the tensor it is given |
//! | `torch.FloatStorage` … | the type of a storage |
//! | `torch.float32` … | the type of a tensor |
//! | `torch.Size` | a tuple |
//! | `torch.device`, `builtins.set`, `_codecs.encode` … | plain data that nobody looks at |
//!
//! The list follows that of `torch.load(weights_only=True)`, without sparse and quantized tensors. NumPy's scalars and
//! `argparse.Namespace` are not in it, as there.
//!
//! ```ignore
//! assert_eq!(find("torch", "FloatStorage"), Some(Global::Storage(Stated::F32)));
//! assert_eq!(find("posix", "system"), None);
//! ```

/// Type of the elements of a storage or tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stated {
    F64,
    F32,
    F16,
    Bf16,
    /// A type no weight has: name and bytes.
    Other(&'static str, u64),
}

impl Stated {
    /// Bytes of one element.
    pub(super) fn bytes(self) -> u64 {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(_, bytes) => bytes,
        }
    }
}

/// A name of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Global {
    /// A dict, from nothing or from pairs.
    Dict,
    /// A view: (storage, offset, shape, strides, …).
    Tensor,
    /// The same with the type as argument 6.
    TensorV3,
    /// A view of a type derived from a tensor: (function, type, arguments, state).
    FromType,
    /// The tensor that is argument 0.
    Parameter,
    /// A tuple from a tuple.
    Size,
    /// Type of a storage.
    Storage(Stated),
    /// Type of a tensor.
    Dtype(Stated),
    /// Plain data, whatever the arguments.
    Plain(&'static str),
}

const U8: Stated = Stated::Other("u8", 1);
const I64: Stated = Stated::Other("i64", 8);
const BOOL: Stated = Stated::Other("bool", 1);

const FUNCTIONS: [(&str, &str, Global); 21] = [
    ("collections", "OrderedDict", Global::Dict),
    ("collections", "Counter", Global::Dict),
    ("torch._utils", "_rebuild_tensor", Global::Tensor),
    ("torch._utils", "_rebuild_tensor_v2", Global::Tensor),
    ("torch._utils", "_rebuild_tensor_v3", Global::TensorV3),
    ("torch._utils", "_rebuild_parameter", Global::Parameter),
    ("torch._utils", "_rebuild_parameter_with_state", Global::Parameter),
    ("torch._tensor", "_rebuild_from_type_v2", Global::FromType),
    ("torch.nn.parameter", "Parameter", Global::Parameter),
    ("torch.nn.parameter", "Buffer", Global::Parameter),
    ("torch", "Tensor", Global::Parameter),
    ("torch", "Size", Global::Size),
    ("torch", "device", Global::Plain("a device")),
    ("torch.serialization", "_get_layout", Global::Plain("a layout")),
    ("_codecs", "encode", Global::Plain("bytes")),
    ("builtins", "set", Global::Plain("a set")),
    ("builtins", "bytearray", Global::Plain("bytes")),
    ("builtins", "complex", Global::Plain("a complex number")),
    ("__builtin__", "set", Global::Plain("a set")),
    ("__builtin__", "complex", Global::Plain("a complex number")),
    ("__builtin__", "bytearray", Global::Plain("bytes")),
];

const STORAGES: [(&str, Stated); 14] = [
    ("FloatStorage", Stated::F32),
    ("HalfStorage", Stated::F16),
    ("BFloat16Storage", Stated::Bf16),
    ("DoubleStorage", Stated::F64),
    ("LongStorage", I64),
    ("IntStorage", Stated::Other("i32", 4)),
    ("ShortStorage", Stated::Other("i16", 2)),
    ("CharStorage", Stated::Other("i8", 1)),
    ("ByteStorage", U8),
    ("BoolStorage", BOOL),
    ("ComplexFloatStorage", Stated::Other("complex64", 8)),
    ("ComplexDoubleStorage", Stated::Other("complex128", 16)),
    ("UntypedStorage", U8),
    ("QInt8Storage", Stated::Other("qint8", 1)),
];

const DTYPES: [(&str, Stated); 20] = [
    ("float32", Stated::F32),
    ("float16", Stated::F16),
    ("bfloat16", Stated::Bf16),
    ("float64", Stated::F64),
    ("int64", I64),
    ("int32", Stated::Other("i32", 4)),
    ("int16", Stated::Other("i16", 2)),
    ("int8", Stated::Other("i8", 1)),
    ("uint8", U8),
    ("uint16", Stated::Other("u16", 2)),
    ("uint32", Stated::Other("u32", 4)),
    ("uint64", Stated::Other("u64", 8)),
    ("bool", BOOL),
    ("complex64", Stated::Other("complex64", 8)),
    ("complex128", Stated::Other("complex128", 16)),
    ("float8_e4m3fn", Stated::Other("float8_e4m3fn", 1)),
    ("float8_e5m2", Stated::Other("float8_e5m2", 1)),
    ("float8_e4m3fnuz", Stated::Other("float8_e4m3fnuz", 1)),
    ("float8_e5m2fnuz", Stated::Other("float8_e5m2fnuz", 1)),
    ("float8_e8m0fnu", Stated::Other("float8_e8m0fnu", 1)),
];

/// The entry of the list of that name.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    if let Some((_, _, global)) = FUNCTIONS.iter().find(|(m, n, _)| *m == module && *n == name) {
        return Some(*global);
    }
    let in_list = |list: &[(&str, Stated)]| list.iter().find(|(n, _)| *n == name).map(|(_, dtype)| *dtype);
    match module {
        "torch" | "torch.storage" | "torch.cuda" if name.ends_with("Storage") => {
            in_list(&STORAGES).map(Global::Storage)
        }
        "torch" => in_list(&DTYPES).map(Global::Dtype),
        _ => None,
    }
}

impl Global {
    /// Its name for messages, of all that act alike the one torch writes today.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dict => "collections.OrderedDict",
            Self::Tensor => "torch._utils._rebuild_tensor_v2",
            Self::TensorV3 => "torch._utils._rebuild_tensor_v3",
            Self::FromType => "torch._tensor._rebuild_from_type_v2",
            Self::Parameter => "torch._utils._rebuild_parameter",
            Self::Size => "torch.Size",
            Self::Storage(_) => "torch.Storage",
            Self::Dtype(_) => "torch.dtype",
            Self::Plain(what) => what,
        }
    }
}
