//! What needs the GPU backend: checks of its kernels, with a GPU and without, and measurements.

pub(crate) mod agreement;
mod batches;
mod beside;
pub(crate) mod check;
pub(crate) mod conformance;
mod cudnn;
pub(crate) mod emulator;
pub(crate) mod kernels;
pub(crate) mod measure;
pub(crate) mod replay;
mod sheet;
mod steps;
mod trainer;
