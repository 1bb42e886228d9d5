//! Any bytes as a network: what the reader takes, and is small, runs on the specification kernel.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vgg_edge_engine::kernels;
use vgg_edge_tests::inputs;

fuzz_target!(|bytes: &[u8]| {
    let mut sealed = bytes.to_vec();
    inputs::seal(&mut sealed);
    if let Ok(scalar) = kernels::by_name("scalar") {
        inputs::engine(&sealed, scalar);
    }
    inputs::engine(&sealed, kernels::best());
});
