//! Argument parsing of the host program.
fn main() {}
