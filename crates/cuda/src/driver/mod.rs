//! The CUDA driver: context and stream, memory, copies, capture.

mod allocation;
mod block;
mod capture;
mod context;
mod counters;
mod fault;
mod upload;

pub(crate) use allocation::DeviceAllocation;
pub(crate) use block::{Block, read};
pub(crate) use capture::{Recorded, record};
pub(crate) use context::{Arena, Context};
