//! What the tests share: the folder of real networks and pictures, and NumPy's file format.
//!
//! The folder is `VGG_EDGE_SHARED`, or `shared` beside the workspace. Where it is missing a test says so and passes; with
//! `CI` set it fails.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod torch;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// A file or folder of the shared folder, or `None` after saying that it is missing.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let folder = env::var_os("VGG_EDGE_SHARED").map_or_else(default, PathBuf::from);
    let found = folder.join(path);
    if found.exists() {
        return Some(found);
    }
    assert!(env::var_os("CI").is_none(), "{} is missing, and CI must have it", found.display());
    eprintln!("not run: {} is missing; set VGG_EDGE_SHARED", found.display());
    None
}

/// A NumPy array in C order.
pub(crate) struct Npy {
    pub(crate) shape: Vec<usize>,
    dtype: String,
    bytes: Vec<u8>,
}

impl Npy {
    /// `\x93NUMPY`, version, header length, `{'descr': '<f4', 'fortran_order': False, 'shape': (64, 10), }`, values.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(&bytes[..6], b"\x93NUMPY", "{}", path.display());
        let (start, len) = match bytes[6] {
            1 => (10, usize::from(u16::from_le_bytes([bytes[8], bytes[9]]))),
            _ => (12, u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize),
        };
        let header = std::str::from_utf8(&bytes[start..start + len]).expect("header is text");
        assert!(header.contains("'fortran_order': False"), "{header}");
        let between = |from: &str, to: &str| -> String {
            let rest = header.split_once(from).expect(from).1;
            rest.split_once(to).expect(to).0.to_string()
        };
        let shape = between("'shape': (", ")");
        let shape = shape.split(',').filter_map(|d| d.trim().parse().ok()).collect();
        Self { shape, dtype: between("'descr': '", "'"), bytes: bytes[start + len..].to_vec() }
    }

    /// Row `i` of the first axis.
    pub(crate) fn f32_row(&self, i: usize) -> Vec<f32> {
        assert_eq!(self.dtype, "<f4");
        let n: usize = self.shape[1..].iter().product();
        let row = &self.bytes[i * n * 4..(i + 1) * n * 4];
        row.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// Row `i` of the first axis.
    pub(crate) fn u8_row(&self, i: usize) -> &[u8] {
        assert_eq!(self.dtype, "|u1");
        let n: usize = self.shape[1..].iter().product();
        &self.bytes[i * n..(i + 1) * n]
    }
}
