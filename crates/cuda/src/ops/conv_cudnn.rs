//! Convolutions in cuDNN, where it is installed and has an engine.
//!
//! Every function answers `None` where cuDNN will not do: it is absent, the type is f64, or no engine computes the
//! shape deterministically in the arithmetic that was asked for. The caller then computes it as a product of patches.
//! cuDNN wants the taps of an output channel together, `(c_out, kh, kw, c_in)`: weights are transposed before and their
//! gradients after, which is little beside the images.

use super::layout;
use super::sizes::size;
use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::libraries::cudnn::Op;
use std::ops::Deref;
use std::sync::Arc;
use tarrl_tensor::{Array, ConvShape, DType, Shape};

pub(crate) fn forward(gpu: &Arc<Gpu>, x: &Array, w: &Array, shape: &ConvShape) -> Option<Block> {
    let op = "conv2d";
    run(gpu, Op::Forward, shape, x.dtype(), |execute| {
        let w = output_first(gpu, w, shape);
        let y = gpu.block(op, shape.output().len() * size(x.dtype()));
        execute(&[read(gpu, op, x), &w, &y]);
        y
    })
}

/// Of images, weights and bias, and what is added if there is something.
pub(crate) fn forward_bias(
    gpu: &Arc<Gpu>,
    [x, w, bias]: [&Array; 3],
    skip: Option<&Array>,
    shape: &ConvShape,
    relu: bool,
) -> Option<Block> {
    let op = "conv2d_bias";
    run(gpu, Op::Bias { skip: skip.is_some(), relu }, shape, x.dtype(), |execute| {
        let w = output_first(gpu, w, shape);
        let y = gpu.block(op, shape.output().len() * size(x.dtype()));
        let mut operands = vec![read(gpu, op, x), &w, &y, read(gpu, op, bias)];
        operands.extend(skip.map(|skip| read(gpu, op, skip)));
        execute(&operands);
        y
    })
}

pub(crate) fn input_adjoint(gpu: &Arc<Gpu>, dy: &Array, w: &Array, shape: &ConvShape) -> Option<Block> {
    let op = "conv2d_input";
    run(gpu, Op::Input, shape, dy.dtype(), |execute| {
        let w = output_first(gpu, w, shape);
        let dx = gpu.block(op, shape.input().len() * size(dy.dtype()));
        execute(&[&dx, &w, read(gpu, op, dy)]);
        dx
    })
}

pub(crate) fn weight_adjoint(gpu: &Arc<Gpu>, x: &Array, dy: &Array, shape: &ConvShape) -> Option<Block> {
    let op = "conv2d_weight";
    run(gpu, Op::Weight, shape, x.dtype(), |execute| {
        let dw = gpu.block(op, shape.weight().len() * size(x.dtype()));
        execute(&[read(gpu, op, x), &dw, read(gpu, op, dy)]);
        let [terms, outputs] = matrix(shape);
        layout::transpose(gpu, &dw, x.dtype(), [outputs, terms])
    })
}

/// Calls `f` with what executes the plan on images, weights and results, if there is a plan.
#[track_caller]
fn run(
    gpu: &Arc<Gpu>,
    op: Op,
    shape: &ConvShape,
    dtype: DType,
    f: impl FnOnce(&dyn Fn(&[&Block])) -> Block,
) -> Option<Block> {
    let cudnn = gpu.cudnn.as_ref()?;
    let empty = [shape.input(), shape.weight(), shape.output()].iter().any(Shape::is_empty);
    if empty || !matches!(dtype, DType::F32 | DType::Bf16) {
        return None;
    }
    gpu.expect("conv2d", gpu.context.bind_to_thread());
    let find = || {
        let mut cudnn = cudnn.lock().expect("no panic while held");
        cudnn.workspace(op, shape, dtype, gpu.arithmetic)
    };
    let workspace = gpu.block("conv2d", find()?);
    Some(f(&|tensors| {
        // Before the lock, which a thread that records may wait for.
        let guard = gpu.stream_guard();
        let mut cudnn = cudnn.lock().expect("no panic while held");
        assert_eq!(tensors.len(), op.operands(), "conv2d: blocks of {op:?}");
        let pointers: Vec<u64> = tensors.iter().map(|block| block.pointer()).collect();
        // SAFETY: the callers of this file give blocks as large as the tensors of the shape.
        let status =
            unsafe { cudnn.execute((op, shape, dtype, gpu.arithmetic), &pointers, workspace.pointer()) };
        // A panic while it is held would poison it.
        drop(cudnn);
        drop(guard);
        gpu.expect("conv2d", status.expect("the plan was found above"));
    }))
}

/// Rows and columns of weights `(kh·kw·c_in, c_out)`. cuDNN's `(c_out, kh, kw, c_in)` is that matrix transposed.
fn matrix(shape: &ConvShape) -> [usize; 2] {
    [shape.weight().len() / shape.c_out, shape.c_out]
}

/// The weights with the output channels in front. They are kept beside the weights, which stand still while an attack
/// runs, and between the forward pass and its adjoint. A captured function keeps them beside weights that it has made itself;
/// beside others, of which inputs change in place, it takes what was kept before.
fn output_first<'a>(gpu: &Arc<Gpu>, w: &'a Array, shape: &ConvShape) -> Weights<'a> {
    let block = read(gpu, "conv2d", w);
    let make = || layout::transpose(gpu, block, w.dtype(), matrix(shape));
    let stays = !gpu.captures.is_open() || block.is_of_arena();
    match block.cached_transpose() {
        Some(kept) => Weights::Kept(kept),
        None if stays => Weights::Kept(block.transposed_or(make)),
        None => Weights::Own(make()),
    }
}

enum Weights<'a> {
    Kept(&'a Block),
    Own(Block),
}

impl Deref for Weights<'_> {
    type Target = Block;

    fn deref(&self) -> &Block {
        match self {
            Weights::Kept(block) => block,
            Weights::Own(block) => block,
        }
    }
}
