//! Files as `torch.save` writes them, byte by byte: also the ones it never would.
//!
//! ```text
//! zip(&[("net/data.pkl", &pickle(dict(&[(text("features.0.weight"), tensor(&View::of("0", &[4, 3, 3, 3])))]))), …])
//! ```

/// A zip archive of stored entries, as `torch.save` writes it.
pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = Zip::default();
    for (name, data) in entries {
        zip.add(Record::stored(name, data));
    }
    zip.end()
}

/// An entry: what its directory record and local header say, and its bytes.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) name: String,
    /// Name in the local header.
    pub(crate) local_name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc32: u32,
    pub(crate) stored: u32,
    pub(crate) size: u32,
}

impl Record {
    pub(crate) fn stored(name: &str, data: &[u8]) -> Self {
        let len = data.len() as u32;
        Self {
            name: name.into(),
            local_name: name.into(),
            data: data.to_vec(),
            flags: 0x0800,
            method: 0,
            crc32: crc32fast::hash(data),
            stored: len,
            size: len,
        }
    }

    pub(crate) fn deflated(name: &str, data: &[u8]) -> Self {
        use std::io::Write;
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).expect("deflates");
        let deflated = encoder.finish().expect("deflates");
        Self { method: 8, stored: deflated.len() as u32, data: deflated, ..Self::stored(name, data) }
    }
}

/// An archive in the making.
#[derive(Default)]
pub(crate) struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    records: u16,
}

impl Zip {
    pub(crate) fn add(&mut self, record: Record) {
        let offset = self.bytes.len() as u32;
        let header = |name: &str| {
            let mut bytes = Vec::new();
            for v in [20, record.flags, record.method, 0, 0] {
                bytes.extend(v.to_le_bytes());
            }
            for v in [record.crc32, record.stored, record.size] {
                bytes.extend(v.to_le_bytes());
            }
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend([0; 2]);
            bytes
        };
        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(header(&record.local_name));
        self.bytes.extend(record.local_name.as_bytes());
        self.bytes.extend(&record.data);
        self.refer(&record, offset, header(&record.name));
    }

    /// A directory record for the entry that is already there, once more.
    pub(crate) fn refer(&mut self, record: &Record, offset: u32, header: Vec<u8>) {
        self.directory.extend(b"PK\x01\x02\x14\x00");
        self.directory.extend(header);
        self.directory.extend([0; 10]);
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(record.name.as_bytes());
        self.records = self.records.wrapping_add(1);
    }

    pub(crate) fn end(self) -> Vec<u8> {
        let records = self.records;
        self.end_with(records)
    }

    /// An archive whose end says that there are `records` entries.
    pub(crate) fn end_with(self, records: u16) -> Vec<u8> {
        let (start, len) = (self.bytes.len() as u32, self.directory.len() as u32);
        let mut bytes = [self.bytes, self.directory].concat();
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([records.to_le_bytes(), records.to_le_bytes()].concat());
        bytes.extend([len.to_le_bytes(), start.to_le_bytes()].concat());
        bytes.extend([0; 2]);
        bytes
    }
}

/// A pickle of protocol 2.
pub(crate) fn pickle(body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"\x80\x02", body.as_ref(), b"."].concat()
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

pub(crate) fn int(value: i32) -> Vec<u8> {
    [b"J".as_slice(), &value.to_le_bytes()].concat()
}

pub(crate) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".as_slice(), &items.concat(), b"t"].concat()
}

/// A dict of keys and values.
pub(crate) fn dict(items: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|(key, value)| [key.as_slice(), value].concat()).collect();
    [b"}(".as_slice(), &items, b"u"].concat()
}

/// A tensor as its pickle describes it.
#[derive(Clone)]
pub(crate) struct View {
    /// Type of the storage: `FloatStorage`.
    pub(crate) class: &'static str,
    pub(crate) key: String,
    /// Elements of the storage.
    pub(crate) len: i32,
    pub(crate) offset: i32,
    pub(crate) shape: Vec<i32>,
    pub(crate) strides: Vec<i32>,
    /// One more item of the persistent id in legacy files.
    pub(crate) legacy: bool,
}

impl View {
    /// All of a storage of f32.
    pub(crate) fn of(key: &str, shape: &[usize]) -> Self {
        let mut strides: Vec<i32> =
            shape.iter().rev().scan(1, |n, d| Some(std::mem::replace(n, *n * *d as i32))).collect();
        strides.reverse();
        Self {
            class: "FloatStorage",
            key: key.into(),
            len: shape.iter().product::<usize>() as i32,
            offset: 0,
            shape: shape.iter().map(|d| *d as i32).collect(),
            strides,
            legacy: false,
        }
    }
}

/// `_rebuild_tensor_v2(storage, offset, shape, strides, False, OrderedDict())`.
pub(crate) fn tensor(view: &View) -> Vec<u8> {
    let class = format!("ctorch\n{}\n", view.class).into_bytes();
    let mut id = vec![text("storage"), class, text(&view.key), text("cpu"), int(view.len)];
    if view.legacy {
        id.push(b"N".to_vec());
    }
    let numbers = |list: &[i32]| tuple(&list.iter().map(|n| int(*n)).collect::<Vec<_>>());
    let arguments = tuple(&[
        [tuple(&id), b"Q".to_vec()].concat(),
        int(view.offset),
        numbers(&view.shape),
        numbers(&view.strides),
        b"\x89".to_vec(),
        b"ccollections\nOrderedDict\n)R".to_vec(),
    ]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n".as_slice(), &arguments, b"R"].concat()
}

/// A state_dict of the tensors of these names and shapes, every value 0.1.
pub(crate) fn state_dict(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let items: Vec<_> = (tensors.iter().enumerate())
        .map(|(i, (name, shape))| (text(name), tensor(&View::of(&i.to_string(), shape))))
        .collect();
    let mut entries = vec![("net/data.pkl".to_string(), pickle(dict(&items)))];
    for (i, (_, shape)) in tensors.iter().enumerate() {
        entries.push((format!("net/data/{i}"), values(shape.iter().product())));
    }
    let entries: Vec<_> = entries.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
    zip(&entries)
}

/// `n` times 0.1.
pub(crate) fn values(n: usize) -> Vec<u8> {
    std::iter::repeat_n(0.1f32.to_le_bytes(), n).flatten().collect()
}

/// A file of the legacy format: the object saved, and its storages.
pub(crate) fn legacy(object: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let info = dict(&[(text("protocol_version"), int(1001)), (text("little_endian"), b"\x88".to_vec())]);
    legacy_with(&pickle(int(1001)), &pickle(info), object, storages)
}

pub(crate) fn legacy_with(version: &[u8], info: &[u8], object: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let keys: Vec<u8> = storages.iter().flat_map(|(key, _)| text(key)).collect();
    let keys = pickle([b"](".as_slice(), &keys, b"e"].concat());
    let mut bytes =
        [&pickle(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"), version, info, &pickle(object), &keys].concat();
    for (_, data) in storages {
        bytes.extend((data.len() as u64 / 4).to_le_bytes());
        bytes.extend(*data);
    }
    bytes
}
