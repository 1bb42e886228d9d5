#![doc = include_str!("../FORMAT.md")]
#![cfg_attr(not(any(feature = "write", test)), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "write")]
mod aligned;
mod check;
mod error;
pub mod int4;
pub mod layout;
mod model;
#[cfg(feature = "write")]
mod new;
#[cfg(feature = "write")]
pub mod pack;
mod preprocess;
mod read;
pub mod requant;
pub mod signature;
pub mod winograd;
pub mod winograd16;
pub mod winograd8;
#[cfg(feature = "write")]
mod write;
#[cfg(feature = "write")]
mod write_error;

#[cfg(feature = "write")]
pub use aligned::AlignedBytes;
pub use error::{BlobError, Section};
pub use model::{
    Algorithm, Golden, Layer, LayerOp, Layout, Linear, Padding, Quantization, S8Layout, Scheme, Shape,
    Weights,
};
#[cfg(feature = "write")]
pub use new::{NewLayer, NewLinear, NewModel, NewOp, NewWeights};
pub use preprocess::{ChannelOrder, Preprocess, ResizeFilter, ResizeRule};
pub use read::Blob;
#[cfg(feature = "write")]
pub use write::write;
#[cfg(feature = "write")]
pub use write_error::WriteError;
