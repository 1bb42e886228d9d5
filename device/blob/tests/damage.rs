//! Damage anywhere is found: files cut off at every byte, and every single bit of a file the other way.

mod support;

use std::mem::offset_of;

use support::{aligned, bytes, put, seal, section_range, small};
use vgg_edge_blob::layout::Header;
use vgg_edge_blob::{Blob, BlobError, Scheme};

/// The first check that fails, of [`Blob::parse`] and [`Blob::verify_checksums`].
fn check(bytes: &[u8]) -> Result<(), BlobError> {
    Blob::parse(bytes)?.verify_checksums()
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    for scheme in [Scheme::Int8, Scheme::F16] {
        let whole = bytes(small(scheme));
        let copy = aligned(&whole);
        for len in 0..whole.len() {
            let found = len as u64;
            let expected = match len {
                0..128 => BlobError::TooShort { what: "header", need: 128, len: found },
                _ => BlobError::FileLength { found, expected: whole.len() as u64 },
            };
            assert_eq!(check(&copy.as_slice()[..len]), Err(expected), "cut off at {len}");
        }
    }
}

/// As a hostile writer would: the header says the new length, and its checksum is right.
#[test]
fn a_file_that_lies_about_its_length_is_refused() {
    let whole = bytes(small(Scheme::Int8));
    let head_len = section_range(&whole, 0).start;
    for len in (128..whole.len()).chain(whole.len() + 1..whole.len() + 130) {
        let mut lying = whole.clone();
        lying.resize(len, 0);
        put(&mut lying, offset_of!(Header, file_len), &(len as u64).to_le_bytes());
        if len < head_len {
            put(&mut lying, offset_of!(Header, head_len), &(len as u32).to_le_bytes());
        }
        seal(&mut lying);
        let error = check(aligned(&lying).as_slice()).expect_err("a wrong length");
        let good = match error {
            BlobError::HeadLength { .. } => len < head_len,
            BlobError::SectionBounds { end, len: l, .. } => l == len as u64 && end > l,
            BlobError::SectionsEnd { end, len: l } => end == whole.len() as u64 && l == len as u64,
            _ => false,
        };
        assert!(good, "{len} bytes: {error}");
    }
}

#[test]
fn every_bit_the_other_way_is_found() {
    for scheme in [Scheme::Int8, Scheme::F16] {
        let mut copy = bytes(small(scheme));
        assert_eq!(check(aligned(&copy).as_slice()), Ok(()));
        for bit in 0..8 * copy.len() {
            copy[bit / 8] ^= 1 << (bit % 8);
            assert!(check(aligned(&copy).as_slice()).is_err(), "byte {}, bit {}", bit / 8, bit % 8);
            copy[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
