//! Rows of random numbers, each row its own stream: bits do not depend on the other rows.

use crate::driver::Block;
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::ops::sizes::size;
use std::sync::Arc;
use tarrl_tensor::{DType, Key, Random};

pub(crate) fn random(gpu: &Arc<Gpu>, dtype: DType, law: Random, rows: &[Key], width: usize) -> Block {
    let kernel = match law {
        Random::Uniform => "uniform",
        Random::Normal => "normal",
    };
    let element = Element::real(kernel, dtype);
    let out = gpu.block(kernel, rows.len() * width * size(dtype));
    let keys: Vec<u64> = rows.iter().map(|key| key.seed()).collect();
    let keys = gpu.expect(kernel, Block::upload(gpu, &keys));
    let blocks = width.div_ceil(4);
    let n = rows.len() * blocks;
    gpu.launch(kernel, element).arg(&keys).arg(&out).arg(n).arg(blocks).arg(width).over(n);
    out
}
