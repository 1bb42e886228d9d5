//! The vgg-edge model file: format, reader, writer and the requantization rule.
#![cfg_attr(not(any(feature = "write", test)), no_std)]
#![forbid(unsafe_code)]

pub mod requant;
