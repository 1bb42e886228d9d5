//! A blob in ordinary memory: bytes that start at a multiple of 64, as the reader wants them.
//!
//! ```
//! use std::io::Write;
//! let mut bytes = vgg_edge_blob::AlignedBytes::default();
//! bytes.write_all(b"VGGE")?;
//! assert_eq!(bytes.as_slice(), b"VGGE");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;

use zerocopy::{FromZeros, IntoBytes};

use crate::layout::{ALIGN, Line};

/// Growing, aligned bytes; for programs that may not map a file.
#[derive(Clone, Default)]
pub struct AlignedBytes {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBytes {
    /// Everything that `reader` gives.
    ///
    /// # Errors
    /// Those of `reader`.
    pub fn read(reader: &mut impl io::Read) -> io::Result<Self> {
        let mut bytes = Self::default();
        io::copy(reader, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes, starting at a multiple of 64.
    pub fn as_slice(&self) -> &[u8] {
        &self.lines.as_bytes()[..self.len]
    }
}

impl io::Write for AlignedBytes {
    fn write(&mut self, new: &[u8]) -> io::Result<usize> {
        let end = self.len + new.len();
        self.lines.resize(end.div_ceil(ALIGN), Line::new_zeroed());
        self.lines.as_mut_bytes()[self.len..end].copy_from_slice(new);
        self.len = end;
        Ok(new.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
