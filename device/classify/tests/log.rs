//! Parts of the log by themselves: notes in a stream, times, what a program's file tells, and that all of it can be text.

#[path = "../src/log/elf.rs"]
#[allow(dead_code, unreachable_pub)]
mod elf;
#[path = "../src/log/stream.rs"]
#[allow(dead_code, unreachable_pub)]
mod stream;
#[path = "../src/log/text.rs"]
#[allow(dead_code, unreachable_pub)]
mod text;

use std::fs::{self, File};
use std::io::Cursor;
use std::time::{Duration, UNIX_EPOCH};

use stream::{Note, Start, utc};
use text::Dictionary;

#[test]
fn times_are_those_of_the_calendar() {
    let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00.000000Z"),
        (951_782_399, "2000-02-28T23:59:59.000000Z"),
        (951_782_400, "2000-02-29T00:00:00.000000Z"),
        (951_868_800, "2000-03-01T00:00:00.000000Z"),
        (1_709_164_800, "2024-02-29T00:00:00.000000Z"),
        (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
    ] {
        assert_eq!(at(seconds), expected, "{seconds}");
    }
    assert_eq!(utc(UNIX_EPOCH + Duration::from_micros(1_500_001)), "1970-01-01T00:00:01.500001Z");
    assert_eq!(utc(UNIX_EPOCH - Duration::from_secs(9)), at(0));
    // Every day has the day after it.
    let days = (0..60_000).map(|day| at(day * 86_400)).collect::<Vec<_>>();
    assert!(days.windows(2).all(|pair| pair[0] < pair[1] && pair[0].len() == 27));
}

#[test]
fn notes_are_read_as_they_are_written() {
    let start = Start {
        build: Some("31cf60".to_owned()),
        version: "0.1.0".to_owned(),
        started: at_some_time(),
        process: 812,
        part: 3,
        frames: u64::MAX,
    };
    let unknown = Start { build: None, ..start.clone() };
    for note in [Note::Start(start), Note::Start(unknown), Note::Dropped(12)] {
        assert_eq!(Note::parse(note.to_string().as_bytes()), Some(note));
    }
    // Of a later program, with more to say; and what is none.
    let later = Note::parse(b"vgg-edge-log 1 build=00 board=rpi5 process=many").unwrap();
    assert_eq!(later, Note::Start(Start { build: Some("00".to_owned()), ..Start::default() }));
    for wrong in
        [&b""[..], b"vgg-edge-log 1 ", b"vgg-edge-log 2 dropped=1", b"vgg-edge-log 1 dropped=-1", b"\xff"]
    {
        assert_eq!(Note::parse(wrong), None, "{wrong:?}");
    }
}

fn at_some_time() -> String {
    utc(UNIX_EPOCH + Duration::from_secs(1_800_000_000))
}

#[test]
fn every_message_of_the_program_can_be_text() {
    let mut program = File::open(env!("CARGO_BIN_EXE_classify")).unwrap();
    let dictionary = Dictionary::read(&mut program).unwrap().expect("messages");
    assert_eq!(dictionary.unsupported(), [""; 0], "use other types, or add them to src/log/text.rs");
    let id = elf::build_id(&mut program).unwrap().expect("a build id");
    assert!(id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    // What is no frame of it is shown, not decoded.
    assert_eq!(dictionary.line(&[]), "- ?     \n");
    assert_eq!(dictionary.line(&[0xff, 0xff, 1]), "- ?     ffff01\n");
    for id in 0..64u8 {
        // Too short, and too long, for any message.
        for frame in [vec![id, 0], [vec![id, 0], vec![0; 500]].concat()] {
            assert!(dictionary.line(&frame).starts_with("- ?"), "{id}");
        }
    }
}

#[test]
fn damaged_programs_are_errors() {
    let bytes = fs::read(env!("CARGO_BIN_EXE_classify")).unwrap();
    let read = |bytes: &[u8]| {
        let mut file = Cursor::new(bytes);
        (elf::build_id(&mut file).ok(), elf::symbols(&mut file, ".defmt").ok())
    };
    let (id, symbols) = read(&bytes);
    assert!(id.unwrap().is_some() && symbols.unwrap().len() > 5);
    for wrong in [&b""[..], b"#!/bin/sh\n", &bytes[..63], &[0x7f; 64]] {
        assert_eq!(read(wrong), (None, None));
    }
    // Cut off: the sections are at the end, the notes at the front.
    let (id, symbols) = read(&bytes[..bytes.len() / 2]);
    assert!(id.is_some() && symbols.is_none());
    // Every byte of the header, of the first program headers and of the section table, turned: no panic, no endless work.
    let sections = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    let places = (0..64).chain(64..400).chain(sections..sections + 640);
    let mut damaged = bytes.clone();
    let mut n_errors = 0;
    for at in places {
        for value in [0, 0x7f, 0xff] {
            damaged[at] = value;
            // The sections' names and symbols are many: only their table is looked at here.
            let mut file = Cursor::new(&damaged[..]);
            n_errors += usize::from(elf::build_id(&mut file).is_err());
            if at >= sections && value == 0xff {
                n_errors += usize::from(elf::symbols(&mut file, ".defmt").is_err());
            }
        }
        damaged[at] = bytes[at];
    }
    // The first six bytes alone, which say what kind of file it is, make sixteen.
    assert!(n_errors >= 16, "{n_errors}: the damage is seen");
}
