//! vgg-edge inference: runs a blob's network, block by block, on the best kernel this CPU has.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

mod arena;
mod blocks;
mod error;
mod exec;
mod forecast;
pub mod image;
pub mod kernels;
mod plan;
pub mod pool;
mod repack;
mod strip;
mod tiling;
pub mod topk;
mod traffic;
mod winograd;
mod winograd16;
mod winograd8;

pub use error::EngineError;
pub use exec::{Engine, Options};
pub use forecast::{BandForecast, Forecast, KernelTiles, LayerForecast, StepForecast, forecast};
pub use plan::BlockPlan;
pub use repack::Repacked;
