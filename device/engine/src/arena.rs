//! The engine's only memory: one run of cache lines, handed out as byte ranges.

use alloc::vec::Vec;
use core::ops::Range;

use vgg_edge_blob::layout::{ALIGN, Line};
use zerocopy::FromZeros;

/// `n_bytes` of zeroed memory, or `None` when there is not so much.
pub(crate) fn allocate(n_bytes: usize) -> Option<Vec<Line>> {
    let n_lines = n_bytes.div_ceil(ALIGN);
    let mut lines = Vec::new();
    lines.try_reserve_exact(n_lines).ok()?;
    lines.resize(n_lines, Line::new_zeroed());
    Some(lines)
}

/// Bytes `source` to read and `target` to write. The plan lays them out disjoint.
///
/// # Panics
/// When they overlap or leave `bytes`.
pub(crate) fn split(bytes: &mut [u8], source: Range<usize>, target: Range<usize>) -> (&[u8], &mut [u8]) {
    if source.end <= target.start {
        let (low, high) = bytes.split_at_mut(target.start);
        (&low[source], &mut high[..target.end - target.start])
    } else {
        assert!(target.end <= source.start, "buffers {source:?} and {target:?} overlap");
        let (low, high) = bytes.split_at_mut(source.start);
        (&high[..source.end - source.start], &mut low[target])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn lines_are_aligned_and_split_both_ways() {
        let mut lines = allocate(200).unwrap();
        let bytes = lines.as_mut_bytes();
        assert_eq!((bytes.len(), bytes.as_ptr().align_offset(ALIGN)), (256, 0));
        bytes[10] = 7;
        let (source, target) = split(bytes, 10..12, 64..70);
        target[0] = source[0];
        let (source, target) = split(bytes, 64..70, 0..64);
        target[1] = source[0] + 1;
        assert_eq!((bytes[64], bytes[1]), (7, 8));
    }
}
