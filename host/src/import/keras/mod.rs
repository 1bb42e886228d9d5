//! What Keras writes.

mod config;
mod h5;

pub(super) use h5::import as import_h5;
