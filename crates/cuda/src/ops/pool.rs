//! Pooling of `(n, h, w, c)`.

use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::ops::sizes::size;
use std::sync::Arc;
use tarrl_tensor::{Array, DType, PoolShape};

pub(crate) fn sum_pool(gpu: &Arc<Gpu>, x: &Array, shape: &PoolShape) -> Block {
    pool(gpu, "sum_pool", x, shape, shape.output().len(), x.dtype())
}

pub(crate) fn sum_pool_adjoint(gpu: &Arc<Gpu>, dy: &Array, shape: &PoolShape) -> Block {
    pool(gpu, "sum_pool_adjoint", dy, shape, shape.n * shape.h * shape.w * shape.c, dy.dtype())
}

pub(crate) fn max_pool(gpu: &Arc<Gpu>, x: &Array, shape: &PoolShape) -> Block {
    pool(gpu, "max_pool", x, shape, shape.output().len(), DType::U32)
}

fn pool(gpu: &Arc<Gpu>, op: &'static str, x: &Array, s: &PoolShape, len: usize, to: DType) -> Block {
    let out = gpu.block(op, len * size(to));
    let windows = [s.h, s.w, s.c, s.pool.window, s.pool.stride, s.pool.pad, s.out_h(), s.out_w()];
    let launch = gpu.launch(op, Element::real(op, x.dtype())).arg(read(gpu, op, x)).arg(&out);
    launch.arg(len).arg(windows).over(len);
    out
}
