//! Checks and measurements of the GPU backend: what needs it, with a GPU and without.
//!
//! ```text
//! |f_GPU(x) − f_CPU(x)|  ≤  a few roundings of each op's own arithmetic
//! ```
//!
//! - [`run`] checks one GPU and writes `gpu-check.json` and `gpu-check.md`: the conformance suite in f32 and f64,
//!   agreement with the CPU, captured functions and trainings against plain runs, ranks over NCCL, and speed beside the card's
//!   limits.
//! - [`check_emulated`] needs no GPU: it compiles every kernel with NVRTC and runs the checks on an emulated driver.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod agreement;
mod batches;
mod check;
mod conformance;
mod cudnn;
mod emulator;
mod kernels;
mod measure;
mod progress;
mod pytorch;
mod ranks;
mod replay;
mod report_writer;
mod steps;
mod trainer;
mod workloads;

pub use check::{Part, run};
pub use kernels::check as check_emulated;
