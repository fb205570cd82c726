#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! - Nothing is linked: the driver, cuBLASLt, cuDNN and NVRTC are located when a GPU is opened ([`Places`]), and what is
//!   missing is a [`CudaError`] that says where it was searched for and what to do.
//! - Matrix products run in cuBLASLt, convolutions in cuDNN or, where it is absent or has no suitable engine, as products of
//!   patches in cuBLASLt; everything else in kernels of our own under `kernels/`. They are
//!   compiled for the card when they are first used, and kept on disk.
//! - Two runs give the same bits: sums run in a fixed order, no float is added atomically, and all work is queued on
//!   one stream. The bits are not those of the CPU, except for uniform random numbers and comparisons.
//! - What only the GPU can see, an index or label out of range, panics when a result is next read.
//! - Ranks of a training meet over TCP and exchange their numbers by NCCL ([`NcclRanks`]), from the memory of the host through
//!   that of the GPU.
//! - `emulator/` is a driver, a cuBLASLt, a cuDNN and an NCCL of our own that run the same kernels on the CPU. With it
//!   `cargo xtask gpu-check --emulated` puts this whole crate through the conformance suite on any machine with a C++
//!   compiler and NVRTC. It shows that arithmetic, indices, arguments and barriers are right; it shows nothing about
//!   speed, and nothing about races between warps, because its threads run one after the other from barrier to barrier.

mod backend;
mod driver;
mod error;
mod gpu;
mod graph;
mod handle;
pub mod kernels;
mod launch;
mod libraries;
mod limits;
mod nccl;
mod ops;
mod options;
mod tables;

pub use error::CudaError;
pub use gpu::Facts;
pub use handle::{CallCounts, Gpu, open};
pub use libraries::Places;
pub use libraries::cudnn::finalize_graphs;
pub use libraries::nvrtc::{Compiled, Compiler};
pub use limits::Limits;
pub use nccl::{NcclRanks, nccl_version};
pub use options::{Arithmetic, Cuda};
