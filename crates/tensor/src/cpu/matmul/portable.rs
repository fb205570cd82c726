//! Matrix products by faer, which chooses its kernels for the processor.

use super::matrix::Matrix;
use crate::cpu::real::Real;
use faer::linalg::matmul::matmul;
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par};

/// An element of a product.
pub(in crate::cpu) trait Factor: Real + ComplexField {}
impl<T: Real + ComplexField> Factor for T {}

/// Overwrites `c`, on this thread.
pub(super) fn multiply<T: Factor>(c: Matrix<&mut [T]>, a: Matrix<&[T]>, b: Matrix<&[T]>) {
    let Matrix { data, rows, columns, row_step, column_step } = c;
    assert_eq!(column_step, 1, "products are written row by row");
    // The function that takes the step takes it for that of columns (faer 0.24.4).
    let c = MatMut::from_row_major_slice_mut(data, rows, row_step).subcols_mut(0, columns);
    matmul(c, Accum::Replace, view(a), view(b), T::one_impl(), Par::Seq);
}

fn view<T>(x: Matrix<&[T]>) -> MatRef<'_, T> {
    let Matrix { data, rows, columns, row_step, column_step } = x;
    if column_step == 1 {
        MatRef::from_row_major_slice_with_stride(data, rows, columns, row_step)
    } else {
        assert_eq!(row_step, 1, "one of the two steps is 1");
        MatRef::from_column_major_slice_with_stride(data, rows, columns, column_step)
    }
}
