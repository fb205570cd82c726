//! The ops: forward and adjoint next to each other, adjoints written in ops.

mod conv;
mod index;
mod layout;
mod matmul;
mod norm;
mod nt_xent;
mod pointwise;
mod pool;
mod reduce;
mod softmax;

pub use norm::BatchNorm;

use crate::array::{Array, Buffer, DType};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The result of a kernel as an array of the operand's device.
fn wrap(like: &Tensor, shape: impl Into<Shape>, dtype: DType, buffer: Buffer) -> Array {
    Array::wrap(like.device(), shape, dtype, buffer)
}

/// Panics unless both operands have one element type.
#[track_caller]
fn same_dtype(op: &str, a: &Tensor, b: &Tensor) {
    assert_eq!(
        a.dtype(),
        b.dtype(),
        "{op}: operands of {:?}{:?} and {:?}{:?} (cast one of them)",
        a.dtype(),
        a.shape(),
        b.dtype(),
        b.shape()
    );
}
