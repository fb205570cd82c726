//! Matrix products: strided batches, with an epilogue.

use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::libraries::cublaslt::{Epilogue, MatmulSpec, MatrixLayout};
use crate::ops::sizes::size;
use std::sync::Arc;
use tarrl_tensor::{Array, DType, Product};

/// `c = op(a)·op(b)` for each of `batch` matrices, all row-major.
pub(crate) struct Gemm<'a> {
    /// The type of the factors.
    pub(crate) from: DType,
    /// The type of the result: that of the factors, or f32 of bf16.
    pub(crate) to: DType,
    pub(crate) batch: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: Matrix<'a>,
    pub(crate) b: Matrix<'a>,
    pub(crate) c: Matrix<'a>,
    pub(crate) epilogue: Epilogue,
    /// `n` elements of the result's type, if the end asks for them.
    pub(crate) bias: Option<&'a Block>,
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
    let (len, dtype) = (batch * m * n, a.dtype());
    if k == 0 {
        return crate::ops::layout::full(gpu, dtype, len, 0.0);
    }
    let out = gpu.block(op, len * size(dtype));
    let matrix = |block, rows: usize, columns: usize, transposed: bool| Matrix {
        block,
        offset: 0,
        row: if transposed { rows } else { columns },
        step: rows * columns,
        transposed,
    };
    let (a, b) = (matrix(read(gpu, op, a), m, k, transpose.a), matrix(read(gpu, op, b), k, n, transpose.b));
    let c = matrix(&out, m, n, false);
    gemm(
        gpu,
        &Gemm { from: dtype, to: dtype, batch, m, n, k, a, b, c, epilogue: Epilogue::None, bias: None },
    );
    out
}

/// `x · wᵀ + bias` of `(n, k)`, `(m, k)` and `(m)`, the sum taken before the product is written.
pub(crate) fn linear(gpu: &Arc<Gpu>, x: &Array, w: &Array, bias: &Array, [n, m, k]: [usize; 3]) -> Block {
    let (op, dtype) = ("linear", x.dtype());
    let out = gpu.block(op, n * m * size(dtype));
    let matrix = |block, row, transposed| Matrix { block, offset: 0, row, step: 0, transposed };
    let (a, b) = (matrix(read(gpu, op, x), k, false), matrix(read(gpu, op, w), k, true));
    let (c, bias) = (matrix(&out, m, false), Some(read(gpu, op, bias)));
    let epilogue = Epilogue::Bias;
    gemm(gpu, &Gemm { from: dtype, to: dtype, batch: 1, m: n, n: m, k, a, b, c, epilogue, bias });
    out
}

/// Queues the products.
#[track_caller]
pub(crate) fn gemm(gpu: &Gpu, g: &Gemm<'_>) {
    if g.batch * g.m * g.n == 0 {
        return;
    }
    let at = |x: &Matrix<'_>, dtype| x.block.pointer() + (x.offset * size(dtype)) as u64;
    let pointers = [at(&g.a, g.from), at(&g.b, g.from), at(&g.c, g.to), g.bias.map_or(0, Block::pointer)];
    let stored = |x: &Matrix<'_>, pointer: u64| MatrixLayout {
        row: x.row,
        step: x.step,
        transposed: x.transposed,
        alignment: 1 << pointer.trailing_zeros().min(8),
    };
    let spec = MatmulSpec {
        from: g.from,
        to: g.to,
        arithmetic: gpu.arithmetic,
        batch: g.batch,
        m: g.m,
        n: g.n,
        k: g.k,
        a: stored(&g.a, pointers[0]),
        b: stored(&g.b, pointers[1]),
        c: stored(&g.c, pointers[2]),
        epilogue: g.epilogue,
    };
    gpu.expect("matmul", gpu.context.bind_to_thread());
    let guard = gpu.stream_guard();
    let mut cublaslt = gpu.cublaslt.lock().expect("no panic while held");
    // SAFETY: the callers of this crate give matrices that lie inside their blocks, and a bias as long as a row.
    let status = unsafe { cublaslt.multiply(&spec, pointers, &gpu.stream) };
    // A panic while it is held would poison it.
    drop(cublaslt);
    drop(guard);
    gpu.expect("matmul", status);
}
