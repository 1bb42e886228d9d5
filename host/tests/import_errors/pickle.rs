//! Broken and hostile pickles, in archives and in legacy files.

use vgg_edge_host::import::ImportOptions;

use crate::support::torch::{
    View, dict, int, legacy, legacy_with, pickle, state_dict, tensor, text, tuple, values, zip,
};
use crate::{FORMATS, alone, check, input32, mutate};

/// An archive of this pickle.
fn pth(pickle: &[u8]) -> Vec<u8> {
    zip(&[("net/data.pkl", pickle), ("net/data/0", &values(108)), ("net/data/1", &values(2048))])
}

/// An archive of a pickle of this object.
fn object(body: impl AsRef<[u8]>) -> Vec<u8> {
    pth(&pickle(body))
}

fn conv() -> View {
    View::of("0", &[4, 3, 3, 3])
}

/// A state_dict of a convolution and a good dense layer.
fn with_conv(conv: &View) -> Vec<u8> {
    object(dict(&[
        (text("features.0.weight"), tensor(conv)),
        (text("classifier.0.weight"), tensor(&View::of("1", &[2, 1024]))),
    ]))
}

#[test]
fn pickles_that_would_run_code() {
    let _alone = alone();
    let none = ImportOptions::default();
    let call = |global: &str, arguments: &[u8]| [global.as_bytes(), arguments, b"R"].concat();
    let shell = call("cposix\nsystem\n", &tuple(&[text("touch /tmp/owned")]));
    let in_dict = |value: &[u8]| {
        object(dict(&[(text("features.0.weight"), tensor(&conv())), (text("x"), value.to_vec())]))
    };
    let short = |text: &str| [&[0x8c, text.len() as u8], text.as_bytes()].concat();
    let stack_global =
        [short("builtins"), short("eval"), vec![0x93], tuple(&[text("1")]), vec![b'R']].concat();
    check(&[
        (object(&shell), none, {
            "pickle byte 2: refers to `posix.system`, expected nothing but plain data and tensors"
        }),
        (in_dict(&shell), none, {
            "pickle byte 199: refers to `posix.system`, expected nothing but plain data and tensors"
        }),
        (pth(&[b"\x80\x04".as_slice(), &stack_global, b"."].concat()), none, {
            "pickle byte 18: refers to `builtins.eval`, expected nothing but plain data and tensors"
        }),
        (in_dict(b"c__builtin__\ngetattr\n"), none, {
            "pickle byte 199: refers to `__builtin__.getattr`, expected nothing but plain data and tensors"
        }),
        (in_dict(b"ctorch\nload\n"), none, {
            "pickle byte 199: refers to `torch.load`, expected nothing but plain data and tensors"
        }),
        (in_dict(b"cnumpy.core.multiarray\nscalar\n"), none, {
            "pickle byte 199: refers to `numpy.core.multiarray.scalar`, expected nothing but plain data and tensors"
        }),
        (in_dict(b"c\x1b[2J\nx\n"), none, {
            "pickle byte 199: refers to `\\u{1b}[2J.x`, expected nothing but plain data and tensors"
        }),
        (in_dict(b"cargparse\nNamespace\nq\x07)\x81}b"), none, {
            "the file holds an object of class `argparse.Namespace`, expected a state_dict (a dict of tensors)"
        }),
        (
            object(
                b"ctorchvision.models.vgg\nVGG\nq\x00)\x81q\x01}q\x02(X\x08\x00\x00\x00trainingq\x03\x88ub",
            ),
            none,
            {
                "the file holds an object of class `torchvision.models.vgg.VGG`, expected a state_dict (a dict of tensors)"
            },
        ),
        (object(b"(iposix\nsystem\n"), none, {
            "pickle byte 3: opcode 0x69 is not supported, expected those of pickle protocols 2 to 5"
        }),
        (object(b"cposix\nsystem"), none, {
            "pickle byte 2: found no end of a name, expected a line feed behind it"
        }),
        // What is in the list cannot be used for something else.
        (object(b"ccollections\nOrderedDict\nccollections\nOrderedDict\nR"), none, {
            "pickle byte 52: found a function or class, expected a tuple of arguments"
        }),
        (object([b"ctorch\nSize\n".as_slice(), &tuple(&[text("x")]), b"R"].concat()), none, {
            "pickle byte 22: `torch.Size` has other arguments than torch writes, expected those of a state_dict"
        }),
        (object([text("x"), tuple(&[]), vec![b'R']].concat()), none, {
            "pickle byte 10: found text, expected a function or class to call"
        }),
        (object(b"K\x01}b"), none, {
            "pickle byte 5: found an integer, expected a dict or a tensor to set attributes of"
        }),
        (object(b"Pposix\n"), none, {
            "pickle byte 2: opcode 0x50 is not supported, expected those of pickle protocols 2 to 5"
        }),
    ]);
}

#[test]
fn broken_pickles() {
    let _alone = alone();
    let none = ImportOptions::default();
    let good = pickle(dict(&[(text("features.0.weight"), tensor(&conv()))]));
    check(&[
        (pth(b""), none, "pickle byte 0: needs 1 bytes, but 0 are left"),
        (pth(&good[..good.len() - 1]), none, "pickle byte 194: needs 1 bytes, but 0 are left"),
        (pth(&good[..100]), none, "pickle byte 100: needs 4 bytes, but 0 are left"),
        (object(b"X\xff\xff\xff\xff"), none, "pickle byte 7: needs 4294967295 bytes, but 1 are left"),
        (object(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), none, {
            "pickle byte 11: needs 18446744073709551615 bytes, but 1 are left"
        }),
        (object(b"\x8b\xff\xff\xff\x7f"), none, "pickle byte 7: needs 2147483647 bytes, but 1 are left"),
        (object(b"\x8e\x00\x00\x00\x00\x00\x01\x00\x00"), none, {
            "pickle byte 11: needs 1099511627776 bytes, but 1 are left"
        }),
        (object(b"X\x02\x00\x00\x00\xff\xfe"), none, {
            "pickle byte 2: found text that is not UTF-8, expected UTF-8"
        }),
        (pth(b"\x80\x09}."), none, "pickle byte 0: found another protocol, expected pickle protocol 2 to 5"),
        (object(b""), none, "pickle byte 2: found an empty stack, expected a value"),
        (
            object(b"h\x07"),
            none,
            "pickle byte 2: found a memo entry that was never set, expected one set before",
        ),
        (object(b"}r\xff\xff\xff\xff"), none, "pickle byte 3: more than 262144 memo entries"),
        (object(b"t"), none, "pickle byte 2: found no mark, expected the start of a list, tuple or dict"),
        (object(b"K\x01(0"), none, "pickle byte 5: found an empty stack, expected a value"),
        (object(b"}(K\x01u"), none, {
            "pickle byte 6: found a key without a value, expected keys and values of a dict"
        }),
        (object(b"K\x01K\x01a"), none, "pickle byte 6: found an integer, expected a list to append to"),
        (object(b"]K\x01K\x02s"), none, "pickle byte 7: found a list, expected a dict to set items of"),
        (object(b"c\xff\nx\n"), none, "pickle byte 2: found a name that is not UTF-8, expected UTF-8"),
        (
            object(b"K\x01K\x02\x93"),
            none,
            "pickle byte 6: found a name that is no text, expected module and name",
        ),
    ]);
}

#[test]
fn bombs() {
    let _alone = alone();
    let none = ImportOptions::default();
    let times = |n: usize, bytes: &[u8]| bytes.repeat(n);
    let memo = |body: &[u8]| [b"q\x01", body].concat();
    // A list of 100,000 texts, put into a new dict again and again.
    let pair = tuple(&[text("k"), int(1)]);
    let pairs = [b"](".as_slice(), &pair, b"q\x05", &times(60_000, b"h\x05"), b"e"].concat();
    let copies = [
        b"ccollections\nOrderedDict\nq\x02".as_slice(),
        &pairs,
        b"\x85q\x03",
        &times(10_000, b"h\x02h\x03R0"),
    ]
    .concat();
    // 200 levels, each a tuple of the one before it twice: 2^200 leaves for whoever walks them.
    let laughs = [b"K\x01".as_slice(), &times(200, b"q\x01h\x01\x86")].concat();
    // 30,000 keys that are one long text.
    let long = text(&"k".repeat(1 << 20));
    let keys = [b"}(".as_slice(), &long, &memo(b"K\x02"), &times(900_000, b"h\x01h\x01"), b"u"].concat();
    let view = tensor(&View::of("0", &[4, 3, 3, 3]));
    let tensors = [b"](".as_slice(), &view, b"e"].concat();
    let function = b"ctorch._utils\n_rebuild_tensor_v2\nq\x02".as_slice();
    let arguments = &view[b"ctorch._utils\n_rebuild_tensor_v2\n".len()..view.len() - 1];
    let many = [function, arguments, b"q\x03R", &times(100_000, b"h\x02h\x03R")].concat();
    assert!(tensors.len() > 100);
    check(&[
        (object(times(4 << 20, b"]")), none, "pickle byte 262146: more than 262144 values"),
        (object(times(2 << 20, b"(")), none, "pickle byte 1026: more than 1024 nested marks"),
        (
            object([b"]".as_slice(), &times(3 << 20, b"2")].concat()),
            none,
            "pickle byte 2097152: more than 2097152 opcodes",
        ),
        (
            object([b"N".as_slice(), &times(2 << 20, b"2N")].concat()),
            none,
            "pickle byte 524290: more than 262144 values",
        ),
        (object([b"Nq\x01".as_slice(), &times(250_000, b"]h\x01a")].concat()), none, {
            "the pickle holds a list, expected a state_dict (a dict of tensors)"
        }),
        (object([b"Nq\x01".as_slice(), &times(250_000, b"}h\x01h\x01s")].concat()), none, {
            "the pickle holds a dict without tensors, its keys are ?, expected a state_dict, or one under `state_dict`, \
             `model_state_dict`, `model`, `net` or `weights`"
        }),
        (object([times(200_000, b"]"), times(199_999, b"a")].concat()), none, {
            "the pickle holds a list, expected a state_dict (a dict of tensors)"
        }),
        (object(&copies), none, "pickle byte 120078: more than 262144 items copied"),
        (object(&laughs), none, "the pickle holds a tuple, expected a state_dict (a dict of tensors)"),
        (object(&many), none, "pickle byte 327852: more than 65536 tensors"),
        (object(&keys), none, {
            "the pickle holds a dict without tensors, its keys are ?, ?, ?, ?, ?, ?, ?, ?, …, expected a state_dict, or one \
             under `state_dict`, `model_state_dict`, `model`, `net` or `weights`"
        }),
        // A list that holds itself, and a dict that is its own state_dict.
        (object(b"]q\x01h\x01a"), none, "the pickle holds a list, expected a state_dict (a dict of tensors)"),
        (object([b"}q\x01".as_slice(), &text("state_dict"), b"h\x01s"].concat()), none, {
            "the pickle holds a dict without tensors, its keys are `state_dict`, expected a state_dict, or one under \
             `state_dict`, `model_state_dict`, `model`, `net` or `weights`"
        }),
    ]);
}

#[test]
fn tensors_that_are_none() {
    let _alone = alone();
    let none = ImportOptions::default();
    let inside = "`torch._utils._rebuild_tensor_v2` has other arguments than torch writes, expected offset, shape and \
                  strides inside of the storage";
    let wrong = |at: usize| format!("pickle byte {at}: {inside}");
    let huge = View { len: i32::MAX, shape: vec![i32::MAX, 1, 1, 1], strides: vec![1, 1, 1, 1], ..conv() };
    // 4 x 3 x 3 x 3 numbers out of one, and 2^90 of them.
    let repeated =
        View { len: 108, strides: vec![0; 4], shape: vec![1 << 30, 1 << 30, 1 << 30, 3], ..conv() };
    let twice = dict(&[
        (text("features.0.weight"), tensor(&conv())),
        (text("features.0.bias"), tensor(&View { len: 109, ..View::of("0", &[4]) })),
    ]);
    let id = |items: &[Vec<u8>]| object([tuple(items), b"Q".to_vec()].concat());
    let float = b"ctorch\nFloatStorage\n".to_vec();
    let storage = "`storage` has other arguments than torch writes, expected ('storage', type, key, device, number of elements)";
    check(&[
        (with_conv(&conv()), input32(), "imports"),
        (with_conv(&View { offset: 1, ..conv() }), none, &wrong(192)),
        (with_conv(&View { offset: -1, ..conv() }), none, &wrong(192)),
        (with_conv(&View { strides: vec![-27, 9, 3, 1], ..conv() }), none, &wrong(192)),
        (with_conv(&View { shape: vec![4, 3, 3], ..conv() }), none, &wrong(187)),
        (with_conv(&View { shape: vec![1; 9], strides: vec![1; 9], ..conv() }), none, &wrong(242)),
        (
            with_conv(&View { shape: vec![i32::MAX; 4], strides: vec![i32::MAX; 4], ..conv() }),
            none,
            &wrong(192),
        ),
        (
            with_conv(&huge),
            none,
            "storage `0` has 432 bytes in the file, expected 8589934588 as the pickle says",
        ),
        (with_conv(&repeated), input32(), {
            "layer `features.0`: weight has shape [1073741824, 1073741824, 1073741824, 3], expected a square filter"
        }),
        (object(twice), none, {
            "pickle byte 300: storage `0` is described in two ways, expected one type and length"
        }),
        (with_conv(&View { key: "../0".into(), ..conv() }), none, "zip: entry `net/data/../0` is missing"),
        (with_conv(&View { class: "LongStorage", len: 54, shape: vec![2, 3, 3, 3], ..conv() }), input32(), {
            "layer `features.0`: weight has type i64, expected f32, f16, bf16 or f64"
        }),
        (with_conv(&View { class: "QuantumStorage", ..conv() }), none, {
            "pickle byte 73: refers to `torch.QuantumStorage`, expected nothing but plain data and tensors"
        }),
        (
            id(&[text("storage"), float.clone(), text("0"), text("cpu")]),
            none,
            &format!("pickle byte 50: {storage}"),
        ),
        (
            id(&[text("other"), float.clone(), text("0"), text("cpu"), int(1)]),
            none,
            &format!("pickle byte 53: {storage}"),
        ),
        (
            id(&[text("storage"), float.clone(), text("0"), text("cpu"), int(-1)]),
            none,
            &format!("pickle byte 55: {storage}"),
        ),
        (
            id(&[text("storage"), text("FloatStorage"), text("0"), text("cpu"), int(1)]),
            none,
            &format!("pickle byte 52: {storage}"),
        ),
        (
            id(&[text("storage"), float, text(&"0".repeat(1001)), text("cpu"), int(1)]),
            none,
            &format!("pickle byte 1055: {storage}"),
        ),
    ]);
}

#[test]
fn objects_that_are_no_state_dict() {
    let _alone = alone();
    let none = ImportOptions::default();
    let weight = || (text("features.0.weight"), tensor(&conv()));
    check(&[
        (object(b"N"), none, "the pickle holds None, expected a state_dict (a dict of tensors)"),
        (
            object(tensor(&conv())),
            none,
            "the pickle holds a tensor, expected a state_dict (a dict of tensors)",
        ),
        (object(b"}"), none, {
            "the pickle holds a dict without tensors, its keys are none, expected a state_dict, or one under `state_dict`, \
             `model_state_dict`, `model`, `net` or `weights`"
        }),
        (object(dict(&[(text("epoch"), int(3)), (text("best"), b"N".to_vec())])), none, {
            "the pickle holds a dict without tensors, its keys are `epoch`, `best`, expected a state_dict, or one under \
             `state_dict`, `model_state_dict`, `model`, `net` or `weights`"
        }),
        (object(dict(&[weight(), (text("classifier.0.weight"), b"]".to_vec())])), none, {
            "entry `classifier.0.weight` of the state_dict is a list, expected a tensor"
        }),
        (object(dict(&[weight(), (int(1), tensor(&conv()))])), none, {
            "key 1 of the state_dict is an integer, expected text of at most 1000 bytes"
        }),
        (object(dict(&[weight(), (text(&"k".repeat(2000)), tensor(&conv()))])), none, {
            "key 1 of the state_dict is a long one, expected text of at most 1000 bytes"
        }),
        (object(dict(&[weight(), weight()])), none, {
            "tensor `features.0.weight` is there twice, expected unique tensor names"
        }),
    ]);
}

#[test]
fn legacy_files() {
    let _alone = alone();
    let none = ImportOptions::default();
    let view = |key: &str, shape: &[usize]| tensor(&View { legacy: true, ..View::of(key, shape) });
    let body = dict(&[
        (text("features.0.weight"), view("94", &[4, 3, 3, 3])),
        (text("classifier.0.weight"), view("17", &[2, 1024])),
    ]);
    let (conv, dense) = (values(108), values(2048));
    let good = legacy(&body, &[("17", &dense), ("94", &conv)]);
    let version = pickle(int(1001));
    let info = |value: &[u8]| pickle(dict(&[(text("little_endian"), value.to_vec())]));
    let made =
        |version: &[u8], info: &[u8]| legacy_with(version, info, &body, &[("17", &dense), ("94", &conv)]);
    let mut longer = good.clone();
    let at = good.len() - 432 - 8;
    longer[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    let module = [
        b"(".as_slice(),
        &text("module"),
        b"ctorchvision.models.vgg\nVGG\n",
        &text("vgg.py"),
        &text("class VGG: ..."),
        b"tQ)\x81}b",
    ]
    .concat();
    check(&[
        (good.clone(), input32(), "imports"),
        (
            b"\x80\x02}q\x00.".to_vec(),
            none,
            &format!("the file is a pickle that torch.save did not write, {FORMATS}"),
        ),
        (good[..15].to_vec(), none, "pickle byte 15: needs 1 bytes, but 0 are left"),
        (good[..200].to_vec(), none, "pickle byte 197: needs 4 bytes, but 3 are left"),
        (
            good[..good.len() - 500].to_vec(),
            input32(),
            "tensors end at byte 8664, but the file has 8604 bytes",
        ),
        (good[..good.len() - 1].to_vec(), input32(), "tensors end at byte 9104, but the file has 9103 bytes"),
        (
            longer,
            none,
            "storage `94` has 18446744073709551615 bytes in the file, expected 432 as the pickle says",
        ),
        (
            made(&pickle(int(1000)), &info(b"\x88")),
            none,
            "legacy file: protocol version is 1000, expected 1001",
        ),
        (
            made(&pickle(text("x")), &info(b"\x88")),
            none,
            "legacy file: protocol version is text, expected 1001",
        ),
        (made(&version, &info(b"\x89")), none, "the weights are big-endian, expected little-endian ones"),
        (made(&version, &info(b"N")), none, {
            "legacy file: system information is without `little_endian`, expected a dict with it"
        }),
        (made(&version, &pickle(b"]")), none, "legacy file: system information is a list, expected a dict"),
        (legacy(&body, &[("17", &dense)]), input32(), {
            "legacy file: list of storages is without `94`, expected every storage a tensor refers to"
        }),
        (legacy(&body, &[("17", &dense), ("17", &dense)]), input32(), {
            "legacy file: a storage is `17` a second time, expected unique keys"
        }),
        (legacy(&body, &[("17", &dense), ("5", &conv)]), input32(), {
            "legacy file: a storage is `5`, expected one that a tensor refers to"
        }),
        (legacy(&body, &[("17", &dense), ("94", &conv[4..])]), input32(), {
            "storage `94` has 428 bytes in the file, expected 432 as the pickle says"
        }),
        (legacy(&module, &[]), none, {
            "the file holds an object of class `torchvision.models.vgg.VGG`, expected a state_dict (a dict of tensors)"
        }),
        (legacy(b"cposix\nsystem\n", &[]), none, {
            "pickle byte 76: refers to `posix.system`, expected nothing but plain data and tensors"
        }),
        (
            [&[0; 257], b"ustar  \0".as_slice(), &[0; 300]].concat(),
            none,
            &format!("a tar archive (PyTorch before 0.1.10) is not supported yet, {FORMATS}"),
        ),
    ]);
    mutate("legacy", &good, 1200, 780, 600);
}

#[test]
fn mutants_of_a_checkpoint() {
    let _alone = alone();
    let mut good = state_dict(&[
        ("module.features.0.weight", &[4, 3, 3, 3]),
        ("module.features.1.weight", &[4]),
        ("module.features.1.running_mean", &[4]),
        ("module.features.1.running_var", &[4]),
        ("module.classifier.0.weight", &[2, 1024]),
    ]);
    // Without checksums, which would find everything out before the pickle is read.
    for at in 0..good.len() - 46 {
        if good[at..].starts_with(b"PK\x01\x02") {
            good[at + 16..at + 20].fill(0);
        }
    }
    mutate("checkpoint", &good, 1200, 1400, 600);
}
