//! Matrix products, by cuBLAS.

use crate::gpu::Gpu;
use crate::memory::{Block, read};
use crate::pointwise::size;
use cudarc::cublas::result;
use cudarc::cublas::sys::cublasOperation_t;
use std::ffi::c_int;
use std::sync::Arc;
use tarrl_tensor::{Array, DType, Product};

/// `c = op(a)·op(b) + sum·c` for each of `batch` matrices, all row-major.
pub(crate) struct Gemm<'a> {
    pub(crate) dtype: DType,
    pub(crate) batch: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: Matrix<'a>,
    pub(crate) b: Matrix<'a>,
    pub(crate) c: Matrix<'a>,
    /// Whether the products are added to what `c` holds.
    pub(crate) add: bool,
}

/// Matrices of a batch inside a block.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) block: &'a Block,
    /// Elements before the first.
    pub(crate) offset: usize,
    /// Elements from one row to the next.
    pub(crate) row: usize,
    /// Elements from one matrix to the next.
    pub(crate) step: usize,
    /// Whether the rows that are stored are the columns that are meant.
    pub(crate) transposed: bool,
}

pub(crate) fn matmul(gpu: &Arc<Gpu>, a: &Array, b: &Array, product: &Product) -> Block {
    let op = "matmul";
    let Product { batch, m, n, k, transpose } = *product;
    let len = batch * m * n;
    if k == 0 {
        return crate::layout::full(gpu, a.dtype(), len, 0.0);
    }
    let out = gpu.block(op, len * size(a.dtype()));
    let matrix = |block, rows: usize, columns: usize, transposed: bool| Matrix {
        block,
        offset: 0,
        row: if transposed { rows } else { columns },
        step: rows * columns,
        transposed,
    };
    gemm(
        gpu,
        &Gemm {
            dtype: a.dtype(),
            batch,
            m,
            n,
            k,
            a: matrix(read(gpu, op, a), m, k, transpose.a),
            b: matrix(read(gpu, op, b), k, n, transpose.b),
            c: matrix(&out, m, n, false),
            add: false,
        },
    );
    out
}

/// Queues the products. cuBLAS stores by columns, in which every row-major matrix is its transpose: so it computes
/// `cᵀ = op(b)ᵀ·op(a)ᵀ`, with the operands in the other order and their flags as they are.
#[track_caller]
pub(crate) fn gemm(gpu: &Gpu, g: &Gemm<'_>) {
    if g.batch * g.m * g.n == 0 {
        return;
    }
    let int =
        |n: usize| c_int::try_from(n).unwrap_or_else(|_| panic!("matmul: {n} is more than cuBLAS can take"));
    let operation = |x: &Matrix<'_>| match x.transposed {
        true => cublasOperation_t::CUBLAS_OP_T,
        false => cublasOperation_t::CUBLAS_OP_N,
    };
    let at = |x: &Matrix<'_>| x.block.pointer() + (x.offset * size(g.dtype)) as u64;
    let [n, m, k, batch] = [g.n, g.m, g.k, g.batch].map(int);
    let [a_row, b_row, c_row] = [g.a, g.b, g.c].map(|x| int(x.row));
    let [a_step, b_step, c_step] = [g.a, g.b, g.c].map(|x| x.step as i64);
    let (on_b, on_a) = (operation(&g.b), operation(&g.a));
    gpu.expect("matmul", gpu.context.bind_to_thread());
    let blas = gpu.blas.lock().expect("no panic while held");
    let handle = *blas.handle();
    macro_rules! call {
        ($function:ident, $real:ty) => {{
            let (alpha, beta): ($real, $real) = (1.0, if g.add { 1.0 } else { 0.0 });
            let [a, b] = [at(&g.a), at(&g.b)].map(|pointer| pointer as *const $real);
            let c = at(&g.c) as *mut $real;
            // SAFETY: the callers of this crate give matrices that lie inside their blocks; factors on the host are
            // read before the call returns.
            unsafe {
                result::$function(
                    handle, on_b, on_a, n, m, k, &alpha, b, b_row, b_step, a, a_row, a_step, &beta, c, c_row,
                    c_step, batch,
                )
            }
        }};
    }
    let status = match g.dtype {
        DType::F32 => call!(sgemm_strided_batched, f32),
        DType::F64 => call!(dgemm_strided_batched, f64),
        DType::U32 => panic!("matmul: indices have no arithmetic (cast them first)"),
    };
    // A panic while it is held would make it useless.
    drop(blas);
    gpu.expect("matmul", status);
}
