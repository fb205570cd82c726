//! Layout kernels: strided views, transposes, gather, and scatter-add, its adjoint.

use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::ops::sizes::{like, size};
use std::sync::Arc;
use tarrl_tensor::{Array, DType, MAX_RANK, Shape, Split, Strided};

pub(crate) fn full(gpu: &Arc<Gpu>, dtype: DType, len: usize, value: f64) -> Block {
    let bits = match dtype {
        DType::F32 => u64::from((value as f32).to_bits()),
        DType::F64 => value.to_bits(),
        DType::U32 => u64::from(value as u32),
        DType::Bf16 => u64::from(bf16(value as f32)),
    };
    let block = gpu.block("full", len * size(dtype));
    fill(gpu, &block, Element::word(dtype), len, bits);
    block
}

/// A copy of the same elements.
pub(crate) fn copy(gpu: &Arc<Gpu>, x: &Array, dtype: DType) -> Block {
    let mut strides = [0; MAX_RANK];
    strides[0] = 1;
    assert_eq!(x.dtype(), dtype, "copy: another element type");
    strided(gpu, x, &[x.len()].into(), &Strided { offset: 0, strides })
}

pub(crate) fn strided(gpu: &Arc<Gpu>, x: &Array, shape: &Shape, view: &Strided) -> Block {
    let op = "strided";
    let to = gpu.block(op, shape.len() * size(x.dtype()));
    let launch = gpu.launch(op, Element::word(x.dtype())).arg(read(gpu, op, x)).arg(&to);
    launch.arg(shape.len()).arg(view.offset).arg(axes(shape, &view.strides)).over(shape.len());
    to
}

/// A matrix `(rows, columns)` as `(columns, rows)`.
pub(crate) fn transpose(gpu: &Arc<Gpu>, x: &Block, dtype: DType, [rows, columns]: [usize; 2]) -> Block {
    const SIDE: usize = 32;
    let to = gpu.block("transpose", rows * columns * size(dtype));
    let launch = gpu.launch("transpose", Element::word(dtype)).arg(x).arg(&to).arg(rows).arg(columns);
    launch.run([rows.div_ceil(SIDE), columns.div_ceil(SIDE)], [SIDE, 8]);
    to
}

pub(crate) fn place(gpu: &Arc<Gpu>, parts: &[(&Array, Shape)], shape: &Shape) -> Block {
    let op = "place";
    let dtype = parts[0].0.dtype();
    let to = gpu.block(op, shape.len() * size(dtype));
    let covered: usize = parts.iter().map(|(x, _)| x.len()).sum();
    if covered < shape.len() {
        fill(gpu, &to, Element::word(dtype), shape.len(), 0);
    }
    let strides = shape.strides();
    for (x, start) in parts {
        let offset: usize = start.iter().zip(strides).map(|(at, stride)| at * stride).sum();
        let launch = gpu.launch(op, Element::word(dtype)).arg(read(gpu, op, x)).arg(&to);
        launch.arg(x.len()).arg(offset).arg(axes(x.shape(), &strides)).over(x.len());
    }
    to
}

pub(crate) fn gather(gpu: &Arc<Gpu>, x: &Array, index: &Array, split: Split) -> Block {
    let op = "gather";
    let len = split.outer * index.len() * split.inner;
    let to = gpu.block(op, len * size(x.dtype()));
    let launch = gpu.launch(op, Element::word(x.dtype())).arg(read(gpu, op, x)).arg(read(gpu, op, index));
    let launch = launch.arg(&to).arg(len).arg(index.len()).arg(split.extent).arg(split.inner);
    launch.arg(gpu.fault()).over(len);
    to
}

pub(crate) fn scatter_add(gpu: &Arc<Gpu>, x: &Array, index: &Array, split: Split) -> Block {
    let op = "scatter_add";
    let element = Element::real(op, x.dtype());
    let len = split.outer * split.extent * split.inner;
    let to = gpu.block(op, len * size(x.dtype()));
    let index_block = read(gpu, op, index);
    let (head, next) = (gpu.block(op, split.extent * 4), like(gpu, op, index));
    fill(gpu, &head, Element::Word4, split.extent, u64::from(u32::MAX));
    let launch = gpu.launch("scatter_link", element).arg(index_block).arg(&head).arg(&next);
    launch.arg(index.len()).arg(split.extent).arg(gpu.fault()).over(index.len());
    let launch =
        gpu.launch("scatter_sum", element).arg(read(gpu, op, x)).arg(index_block).arg(&head).arg(&next);
    launch.arg(&to).arg(len).arg(index.len()).arg(split.extent).arg(split.inner).over(len);
    to
}

/// The nearest bf16, as `bf16.cuh` has it.
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let near = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if value.is_nan() { bits | 0x40_0000 } else { near } >> 16) as u16
}

fn fill(gpu: &Gpu, block: &Block, element: Element, len: usize, bits: u64) {
    gpu.launch("fill", element).arg(block).arg(len).arg(bits).over(len);
}

/// Extents and strides, aligned at the innermost axis; axes in front have extent 1.
fn axes(shape: &Shape, strides: &[usize; MAX_RANK]) -> [usize; 2 * MAX_RANK] {
    let mut axes = [0; 2 * MAX_RANK];
    axes[..MAX_RANK].fill(1);
    let lead = MAX_RANK - shape.rank();
    for axis in 0..shape.rank() {
        axes[lead + axis] = shape[axis];
        axes[MAX_RANK + lead + axis] = strides[axis];
    }
    axes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_the_nearest_and_of_two_the_even_one() {
        let values = [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -1.5, f32::MAX, f32::INFINITY, 0.0, -0.0];
        let bits = [0x3f80, 0x3f80, 0x3f82, 0xbfc0, 0x7f80, 0x7f80, 0, 0x8000];
        assert_eq!(values.map(bf16), bits);
        assert!(f32::from_bits(u32::from(bf16(f32::from_bits(0x7f80_0001))) << 16).is_nan());
    }

    #[test]
    fn axes_are_aligned_at_the_innermost() {
        assert_eq!(axes(&[2, 3].into(), &[3, 1, 0, 0, 0, 0]), [1, 1, 1, 1, 2, 3, 0, 0, 0, 0, 3, 1]);
    }
}
