//! vgg-edge on the workstation: from trained weights to a blob for the board.
//!
//! ```text
//!  weights file ─► import ─► f32 graph ─► calibrate ─► quantized graph ─► plan + pack ─► blob
//!  .h5 .keras      host/     host/        host/         host/              host/          device/blob (writer)
//!  .pth .onnx      import    graph        calibrate     quantize           plan, pack       │
//!  .safetensors                │                                                            │
//!                              └── f32 reference (tract-core) ────── accuracy tests ────────┤ file copy
//!  ─────────────────────────────── host above, device below ────────────────────────────────┼────────
//!                                                                                           ▼
//!  top-k ◄── engine ◄── block executor (tiled) ◄── kernels (scalar neon dotprod i8mm avx2) ◄── mmap + validate
//!  device/   device/    device/engine/exec         device/engine/kernels                      device/blob (reader)
//!  classify  engine
//! ```
#![forbid(unsafe_code)]

pub mod bench;
pub mod boards;
pub mod calibrate;
pub mod commands;
pub mod compare;
pub mod convert;
pub mod deploy;
pub mod eval;
pub mod fetch;
pub mod gate;
pub mod graph;
pub mod import;
pub mod logs;
pub mod pack;
pub mod plan;
pub mod preprocess;
pub mod progress;
pub mod quantize;
pub mod reference;
pub mod report;
pub mod samples;
pub mod sign;
