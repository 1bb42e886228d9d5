//! Any bytes as a picture: JPEG, PNG, WebP or BMP, upright, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vgg_edge_tests::inputs;

fuzz_target!(|bytes: &[u8]| {
    inputs::picture(bytes);
});
