//! The classifier program.
fn main() {}
