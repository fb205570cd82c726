//! Softmax, its logarithm and cross-entropy of rows.

use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::ops::reduce::line;
use crate::ops::sizes::{like, size};
use std::sync::Arc;
use tarrl_tensor::Array;

pub(crate) fn softmax(gpu: &Arc<Gpu>, x: &Array, k: usize, log: bool) -> Block {
    let op = "softmax";
    let to = like(gpu, op, x);
    let launch = gpu.launch(op, Element::real(op, x.dtype())).arg(read(gpu, op, x)).arg(&to);
    launch.arg(k).arg(log).run([x.len() / k.max(1), 1], [line(k), 1]);
    to
}

pub(crate) fn softmax_adjoint(gpu: &Arc<Gpu>, y: &Array, dy: &Array, k: usize, log: bool) -> Block {
    let op = "softmax_adjoint";
    let to = like(gpu, op, y);
    let launch = gpu.launch(op, Element::real(op, y.dtype())).arg(read(gpu, op, y)).arg(read(gpu, op, dy));
    launch.arg(&to).arg(k).arg(log).run([y.len() / k.max(1), 1], [line(k), 1]);
    to
}

pub(crate) fn cross_entropy(gpu: &Arc<Gpu>, logits: &Array, labels: &Array) -> Block {
    let op = "cross_entropy";
    let k = logits.len() / labels.len().max(1);
    let to = gpu.block(op, labels.len() * size(logits.dtype()));
    let launch = gpu.launch(op, Element::real(op, logits.dtype())).arg(read(gpu, op, logits));
    let launch = launch.arg(read(gpu, op, labels)).arg(&to).arg(k).arg(gpu.fault());
    launch.run([labels.len(), 1], [line(k), 1]);
    to
}

pub(crate) fn cross_entropy_adjoint(gpu: &Arc<Gpu>, logits: &Array, labels: &Array, dy: &Array) -> Block {
    let op = "cross_entropy_adjoint";
    let k = logits.len() / labels.len().max(1);
    let to = like(gpu, op, logits);
    let launch = gpu.launch(op, Element::real(op, logits.dtype())).arg(read(gpu, op, logits));
    let launch = launch.arg(read(gpu, op, labels)).arg(read(gpu, op, dy)).arg(&to).arg(k).arg(gpu.fault());
    launch.run([labels.len(), 1], [line(k), 1]);
    to
}
