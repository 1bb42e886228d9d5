//! vgg-edge inference: runs a blob's network, tiled by blocks, on the best kernel this CPU has.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod image;
pub mod kernels;
pub mod pool;
pub mod topk;
