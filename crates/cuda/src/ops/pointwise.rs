//! Elementwise functions and conversions.

use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::ops::layout;
use crate::ops::sizes::{like, size};
use std::sync::Arc;
use tarrl_tensor::{Array, Binary, DType, MAX_RANK, Shape, Strided, Unary};

pub(crate) fn unary(gpu: &Arc<Gpu>, op: Unary, x: &Array) -> Block {
    let (kernel, first, second) = match op {
        Unary::Neg => ("unary_neg", 0.0, 0.0),
        Unary::Exp => ("unary_exp", 0.0, 0.0),
        Unary::Log => ("unary_log", 0.0, 0.0),
        Unary::Sqrt => ("unary_sqrt", 0.0, 0.0),
        Unary::Relu => ("unary_relu", 0.0, 0.0),
        Unary::Gelu => ("unary_gelu", 0.0, 0.0),
        Unary::Silu => ("unary_silu", 0.0, 0.0),
        Unary::Tanh => ("unary_tanh", 0.0, 0.0),
        Unary::Sigmoid => ("unary_sigmoid", 0.0, 0.0),
        Unary::Erf => ("unary_erf", 0.0, 0.0),
        Unary::Sign => ("unary_sign", 0.0, 0.0),
        Unary::Abs => ("unary_abs", 0.0, 0.0),
        Unary::Powf(p) => ("unary_powf", p, 0.0),
        Unary::AddScalar(c) => ("unary_add_scalar", c, 0.0),
        Unary::MulScalar(c) => ("unary_mul_scalar", c, 0.0),
        Unary::Clamp(lo, hi) => ("unary_clamp", lo, hi),
    };
    let element = Element::real(kernel, x.dtype());
    let to = like(gpu, kernel, x);
    let launch = gpu.launch(kernel, element).arg(read(gpu, kernel, x)).arg(&to).arg(x.len());
    launch.arg(first).arg(second).over_packs(x.len());
    to
}

pub(crate) fn binary(gpu: &Arc<Gpu>, op: Binary, a: &Array, b: &Array, shape: &Shape) -> Block {
    let kernel = match op {
        Binary::Add => "binary_add",
        Binary::Sub => "binary_sub",
        Binary::Mul => "binary_mul",
        Binary::Div => "binary_div",
        Binary::Max => "binary_max",
        Binary::Min => "binary_min",
        Binary::Greater => "binary_greater",
        Binary::GreaterEqual => "binary_greater_equal",
        Binary::Equal => "binary_equal",
        Binary::Mask => "binary_mask",
    };
    let element = Element::real(kernel, a.dtype());
    let to = gpu.block(kernel, shape.len() * size(a.dtype()));
    let (left, right) = (Operand::new(gpu, kernel, a, shape), Operand::new(gpu, kernel, b, shape));
    let launch = gpu.launch(kernel, element).arg(left.block()).arg(right.block()).arg(&to).arg(shape.len());
    let launch = launch.arg(left.repeat).arg(right.repeat);
    match [left.repeat, right.repeat] == [[1, shape.len()]; 2] {
        true => launch.over_packs(shape.len()),
        false => launch.over(shape.len()),
    }
    to
}

pub(crate) fn add_relu(gpu: &Arc<Gpu>, a: &Array, b: &Array) -> Block {
    let op = "add_relu";
    let to = like(gpu, op, a);
    let launch = gpu.launch(op, Element::real(op, a.dtype()));
    launch.arg(read(gpu, op, a)).arg(read(gpu, op, b)).arg(&to).arg(a.len()).over_packs(a.len());
    to
}

pub(crate) fn add_mask(gpu: &Arc<Gpu>, a: &Array, b: &Array, gate: &Array) -> Block {
    let op = "add_mask";
    let to = like(gpu, op, a);
    let launch = gpu.launch(op, Element::real(op, a.dtype()));
    let launch = launch.arg(read(gpu, op, a)).arg(read(gpu, op, b)).arg(read(gpu, op, gate));
    launch.arg(&to).arg(a.len()).over_packs(a.len());
    to
}

pub(crate) fn select(gpu: &Arc<Gpu>, condition: &Array, a: &Array, b: &Array) -> Block {
    let op = "select";
    let to = like(gpu, op, a);
    let launch = gpu.launch(op, Element::real(op, a.dtype())).arg(read(gpu, op, condition));
    launch.arg(read(gpu, op, a)).arg(read(gpu, op, b)).arg(&to).arg(a.len()).over(a.len());
    to
}

pub(crate) fn cast(gpu: &Arc<Gpu>, x: &Array, to: DType) -> Block {
    let kernel = match (x.dtype(), to) {
        (DType::F32, DType::F64) => "f32_to_f64",
        (DType::F32, DType::U32) => "f32_to_u32",
        (DType::F64, DType::F32) => "f64_to_f32",
        (DType::F64, DType::U32) => "f64_to_u32",
        (DType::U32, DType::F32) => "u32_to_f32",
        (DType::U32, DType::F64) => "u32_to_f64",
        (DType::F32, DType::Bf16) => "f32_to_bf16",
        (DType::F64, DType::Bf16) => "f64_to_bf16",
        (DType::U32, DType::Bf16) => "u32_to_bf16",
        (DType::Bf16, DType::F32) => "bf16_to_f32",
        (DType::Bf16, DType::F64) => "bf16_to_f64",
        (DType::Bf16, DType::U32) => "bf16_to_u32",
        (same, _) => return layout::copy(gpu, x, same),
    };
    let out = gpu.block(kernel, x.len() * size(to));
    let launch = gpu.launch(kernel, Element::Named).arg(read(gpu, kernel, x)).arg(&out).arg(x.len());
    // The casts of mixed precision take eight elements at a time.
    let eight = [x.dtype(), to].contains(&DType::Bf16) && [x.dtype(), to].contains(&DType::F32);
    launch.over(if eight { x.len().div_ceil(8) } else { x.len() });
    out
}

/// An operand of a binary function, spread out if its pattern of repetition is not one that the kernels know.
struct Operand<'a> {
    given: &'a Block,
    spread: Option<Block>,
    repeat: [usize; 2],
}

impl<'a> Operand<'a> {
    #[track_caller]
    fn new(gpu: &Arc<Gpu>, op: &str, x: &'a Array, shape: &Shape) -> Operand<'a> {
        let given = read(gpu, op, x);
        if let Some(repeat) = repeat(x.shape(), shape) {
            return Operand { given, spread: None, repeat };
        }
        let lead = shape.rank() - x.shape().rank();
        let own = x.shape().strides();
        let mut strides = [0; MAX_RANK];
        for axis in lead..shape.rank() {
            strides[axis] = if x.shape()[axis - lead] == 1 { 0 } else { own[axis - lead] };
        }
        let spread = layout::strided(gpu, x, shape, &Strided { offset: 0, strides });
        Operand { given, spread: Some(spread), repeat: [1, shape.len()] }
    }

    fn block(&self) -> &Block {
        self.spread.as_ref().unwrap_or(self.given)
    }
}

/// How an operand of `from` repeats over `to`: each element so many times, and the whole with this period; `None` for
/// patterns that must be spread out first. Never a zero, by which the kernels could not divide.
fn repeat(from: &Shape, to: &Shape) -> Option<[usize; 2]> {
    if from.len() == to.len() {
        return Some([1, to.len().max(1)]);
    }
    // Axes of extent 1 at either end do not matter for how the rest repeats.
    let lead = to.rank() - from.rank();
    let first = from.iter().position(|&extent| extent != 1).unwrap_or(from.rank());
    let last = from.iter().rposition(|&extent| extent != 1).map_or(first, |axis| axis + 1);
    let same = (first..last).all(|axis| from[axis] == to[axis + lead]);
    same.then(|| [to[lead + last..].iter().product::<usize>().max(1), from.len().max(1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel computes from a pattern is what broadcasting means.
    #[test]
    fn repeat_patterns_equal_broadcasting() {
        let shapes: [(&[usize], &[usize]); 9] = [
            (&[2, 3, 4], &[2, 3, 4]),
            (&[], &[2, 3]),
            (&[4], &[3, 4]),
            (&[3, 1], &[3, 4]),
            (&[1, 4], &[3, 4]),
            (&[2, 1, 1], &[2, 3, 4]),
            (&[1, 3, 1], &[2, 3, 4]),
            (&[3, 4], &[2, 3, 4]),
            (&[2, 1, 4], &[2, 3, 4]),
        ];
        for (from, to) in shapes.map(|(from, to)| (Shape::new(from), Shape::new(to))) {
            let Some([each, cycle]) = repeat(&from, &to) else {
                assert_eq!(from[..], [2, 1, 4], "only this one repeats in the middle");
                continue;
            };
            let (own, wide) = (from.strides(), to.strides());
            for i in 0..to.len() {
                let lead = to.rank() - from.rank();
                let index = |axis: usize| i / wide[axis + lead] % to[axis + lead];
                let at: usize = (0..from.rank())
                    .filter(|&axis| from[axis] != 1)
                    .map(|axis| index(axis) * own[axis])
                    .sum();
                assert_eq!(i / each % cycle, at, "{from:?} over {to:?} at {i}");
            }
        }
    }
}
