//! Any bytes as a blob: the reader, its checksums, and everything a parsed blob gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vgg_edge_tests::inputs;

fuzz_target!(|bytes: &[u8]| {
    inputs::blob(bytes);
    let mut sealed = bytes.to_vec();
    inputs::seal(&mut sealed);
    inputs::blob(&sealed);
});
