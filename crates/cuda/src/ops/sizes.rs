//! Sizes of elements and arrays in memory.

use crate::driver::Block;
use crate::gpu::Gpu;
use std::sync::Arc;
use tarrl_tensor::{Array, DType};

/// Bytes of an element.
pub(crate) fn size(dtype: DType) -> usize {
    match dtype {
        DType::F32 | DType::U32 => 4,
        DType::F64 => 8,
        DType::Bf16 => 2,
    }
}

/// Memory for an array of the same shape and type.
#[track_caller]
pub(crate) fn like(gpu: &Arc<Gpu>, op: &str, x: &Array) -> Block {
    gpu.block(op, x.len() * size(x.dtype()))
}
