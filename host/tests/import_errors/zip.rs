//! Broken and hostile archives around a good pickle.

use vgg_edge_host::import::ImportOptions;

use crate::support::torch::{Record, View, Zip, dict, pickle, state_dict, tensor, text, values, zip};
use crate::{FORMATS, alone, check, input32, mutate};

/// Entries of a file that imports.
fn good() -> [(&'static str, Vec<u8>); 3] {
    let object = dict(&[
        (text("features.0.weight"), tensor(&View::of("0", &[4, 3, 3, 3]))),
        (text("classifier.0.weight"), tensor(&View::of("1", &[2, 1024]))),
    ]);
    [("net/data.pkl", pickle(object)), ("net/data/0", values(108)), ("net/data/1", values(2048))]
}

/// That file with a record changed, put in front of or added to the others.
fn with(change: impl FnOnce(&mut Vec<Record>)) -> Vec<u8> {
    let mut records: Vec<Record> = good().iter().map(|(name, data)| Record::stored(name, data)).collect();
    change(&mut records);
    let mut zip = Zip::default();
    records.into_iter().for_each(|record| zip.add(record));
    zip.end()
}

/// Where the local header of the entry with that data is in the file.
fn offset_of(file: &[u8], name: &str) -> usize {
    let header =
        |i: &usize| file[*i..].starts_with(b"PK\x03\x04") && file[*i + 30..].starts_with(name.as_bytes());
    (0..file.len()).find(header).expect("is there")
}

#[test]
fn archives() {
    let _alone = alone();
    let none = ImportOptions::default();
    let file = with(|_| {});
    let end = file.len() - 22;
    let add = |name: &str| with(|records| records.push(Record::stored(name, b"x")));
    let set = |at: usize, value: &[u8]| {
        let mut file = file.clone();
        file[at..at + value.len()].copy_from_slice(value);
        file
    };
    let swapped = {
        // The record of the last entry refers to the entry in front of it.
        let mut swapped = file.clone();
        let at = end - (46 + "net/data/1".len()) + 42;
        swapped[at..at + 4].copy_from_slice(&(offset_of(&file, "net/data/0") as u32).to_le_bytes());
        swapped
    };
    check(&[
        (file.clone(), input32(), "imports"),
        (
            file[..file.len() / 2].to_vec(),
            none,
            "zip: the file does not end in an end-of-directory record, expected one at its end",
        ),
        (
            [file.as_slice(), b"\0"].concat(),
            none,
            "zip: the file does not end in an end-of-directory record, expected one at its end",
        ),
        (b"PK\x03\x04\x14\x00\x00\x00".to_vec(), none, {
            "zip: the file does not end in an end-of-directory record, expected one at its end"
        }),
        (add("net/data/0"), none, "zip: entry `net/data/0` is there twice, expected unique names"),
        (add("../../etc/cron.d/net"), none, {
            "zip: entry `../../etc/cron.d/net` has `..` in its path, expected a relative path of plain names"
        }),
        (add("/etc/passwd"), none, {
            "zip: entry `/etc/passwd` has an absolute path, expected a relative path of plain names"
        }),
        (add("net\\data\\0"), none, {
            "zip: entry `net\\\\data\\\\0` has a backslash in its name, expected a relative path of plain names"
        }),
        (add("net/\u{1b}[2J"), none, {
            "zip: entry `net/\\u{1b}[2J` has a control character in its name, expected a relative path of plain names"
        }),
        (add(""), none, "zip: entry `` has an empty name, expected a relative path of plain names"),
        (swapped, none, {
            "zip: entry `net/data/0` ends at byte 448, but entry `net/data/1` begins at byte 408"
        }),
        (with(|r| r[1].local_name = "net/data/9".into()), none, {
            "zip: entry `net/data/0`: local header is another one at byte 408, expected the name and method of the directory"
        }),
        (with(|r| r[2].stored += 4000), none, {
            "zip: entry `net/data/1`: size is 8192, expected 12192, its stored length"
        }),
        (with(|r| (r[2].stored, r[2].size) = (12192, 12192)), none, {
            "zip: entry `net/data/1` ends at byte 13112, but the directory begins at byte 9112"
        }),
        (with(|r| r[1].flags |= 1), none, {
            "zip: entry `net/data/0`: flags word is 0x0801, expected an entry without encryption"
        }),
        (with(|r| r[1].method = 12), none, {
            "zip: entry `net/data/0`: method is 12, expected 0 (stored) or 8 (deflate)"
        }),
        (with(|r| r[1].crc32 ^= 1), input32(), {
            "zip: entry `net/data/0` has CRC-32 978a1b87, expected 978a1b86"
        }),
        (with(|r| r[1] = Record::deflated("net/data/0", &values(108))), input32(), {
            "zip: entry `net/data/0` is compressed, expected it stored as it is"
        }),
        (with(|r| r[1] = Record::stored("net/data/0", &values(107))), input32(), {
            "storage `0` has 428 bytes in the file, expected 432 as the pickle says"
        }),
        (with(|r| drop(r.remove(1))), input32(), "zip: entry `net/data/0` is missing"),
        (set(end + 8, &[4, 0, 4, 0]), none, {
            "zip: entry 3 of the directory at byte 9282 is no directory record, expected PK\\x01\\x02 and 46 bytes"
        }),
        (set(end + 10, &[2, 0]), none, {
            "zip: length of the directory is 170, expected 114, the 2 records in it"
        }),
        (set(end + 12, &[0; 4]), none, {
            "zip: end of the directory is 9112, expected 9282, where the end record begins"
        }),
        (set(end + 4, &[1, 0]), none, "zip: disk number is 1, expected 0"),
        (set(end - 56 + 32, b"\xff\xff"), none, {
            "zip: entry 2 of the directory at byte 9226 is cut off, expected name, extra fields and comment in the directory"
        }),
    ]);
}

#[test]
fn archives_of_something_else() {
    let _alone = alone();
    let none = ImportOptions::default();
    let formats = |found: &str| format!("the file is {found}, {FORMATS}");
    let more = |name: &'static str, data: &'static [u8]| {
        let entries = good();
        let mut entries: Vec<(&str, &[u8])> = entries.iter().map(|(n, d)| (*n, d.as_slice())).collect();
        entries.push((name, data));
        zip(&entries)
    };
    check(&[
        (
            zip(&[("word/document.xml", b"<xml/>")]),
            none,
            &formats("a zip archive without `model.weights.h5` or `data.pkl`"),
        ),
        (
            zip(&[("net/DATA.PKL", b"x")]),
            none,
            &formats("a zip archive without `model.weights.h5` or `data.pkl`"),
        ),
        (more("net/constants.pkl", b"\x80\x02)."), none, {
            "the file is a TorchScript archive, expected a state_dict saved with torch.save"
        }),
        (more("net/code/__torch__.py", b"pass"), none, {
            "the file is a TorchScript archive, expected a state_dict saved with torch.save"
        }),
        (more("other/data.pkl", b"\x80\x02}."), none, {
            "the archive has `net/data.pkl` and `other/data.pkl`, expected one data.pkl"
        }),
        (more("net/byteorder", b"big"), none, "the weights are big-endian, expected little-endian ones"),
        (more("net/byteorder", b"\x1b[2J"), none, {
            "the weights are in byte order `\\x1b[2J`, expected little-endian ones"
        }),
        (
            more("net/byteorder", &[b'x'; 65]),
            none,
            "zip: entry `net/byteorder` has 65 bytes, expected at most 64",
        ),
        (more("net/byteorder", b"little"), input32(), "imports"),
    ]);
}

#[test]
fn bombs() {
    let _alone = alone();
    let none = ImportOptions::default();
    let zeros = Record::deflated("net/data.pkl", &vec![b'0'; 60 << 20]);
    let bomb = |change: fn(&mut Record)| {
        let mut record = zeros.clone();
        change(&mut record);
        let mut zip = Zip::default();
        zip.add(record);
        zip.end()
    };
    // As many as may be.
    let mut many = Zip::default();
    for i in 0..60_000 {
        many.add(Record::stored(&format!("net/{i}"), b""));
    }
    let cut = |r: &mut Record| {
        r.size = 1 << 20;
        r.data[500..].fill(0xff);
    };
    let huge = format!(
        "zip: entry `net/data.pkl`: size is 4294967294, expected at most 1032 times its {} stored bytes",
        zeros.stored
    );
    check(&[
        (bomb(|_| {}), none, "zip: entry `net/data.pkl` has 62914560 bytes, expected at most 8388608"),
        (bomb(|r| r.size = 1000), none, {
            "zip: entry `net/data.pkl`: inflates to more than the 1000 bytes of the directory"
        }),
        (bomb(|r| r.size = u32::MAX - 1), none, &huge),
        (bomb(cut), none, { "zip: entry `net/data.pkl`: corrupt deflate stream" }),
        (
            many.end(),
            none,
            &format!("the file is a zip archive without `model.weights.h5` or `data.pkl`, {FORMATS}"),
        ),
    ]);
    // Entries of a 46-byte record each and no data: a million of them in 52 MB.
    let record = Record::stored("x", b"");
    let mut directory = Zip::default();
    for _ in 0..400_000 {
        directory.refer(&record, 0, vec![0; 26]);
    }
    let plain = directory.end_with(0xffff);
    let mut file = b"PK\x03\x04".to_vec();
    file.extend(&plain[..plain.len() - 22]);
    let (start, len) = (4u64, plain.len() as u64 - 22);
    let end64 = file.len() as u64;
    file.extend(b"PK\x06\x06");
    file.extend(44u64.to_le_bytes());
    file.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for v in [400_000, 400_000, len, start] {
        file.extend(u64::to_le_bytes(v));
    }
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend(end64.to_le_bytes());
    file.extend([1, 0, 0, 0]);
    file.extend(&plain[plain.len() - 22..]);
    check(&[(file, none, "zip: number of entries is 400000, expected at most 65536")]);
}

#[test]
fn mutants() {
    let _alone = alone();
    let file = state_dict(&[("features.0.weight", &[4, 3, 3, 3]), ("classifier.0.weight", &[2, 4])]);
    mutate("zip", &file, 2000, usize::MAX, 1900);
}
