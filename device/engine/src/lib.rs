//! vgg-edge inference: runs a blob's network, block by block, on the best kernel this CPU has.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

mod arena;
mod error;
mod exec;
pub mod image;
pub mod kernels;
mod plan;
pub mod pool;
mod tiling;
pub mod topk;
mod winograd;
mod winograd8;

pub use error::EngineError;
pub use exec::{Engine, Options};
pub use plan::BlockPlan;
