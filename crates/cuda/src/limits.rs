//! Limits of a GPU, measured: memory bandwidth and the speed of large products, to which kernels and steps are compared.

use crate::driver::{Block, read};
use crate::handle::Gpu;
use crate::libraries::cublaslt::{Epilogue, MatmulSpec, MatrixLayout};
use crate::options::Arithmetic;
use cudarc::driver::result::memcpy_dtod_async;
use std::time::Instant;
use tarrl_tensor::{DType, Key, Random, Tensor};

/// Limits of a GPU. Two runs differ by a few per cent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// A copy from memory to memory, reads and writes together, in 10⁹ bytes per second.
    pub copy_gb_per_s: f64,
    /// A large product of cuBLASLt in f32, in 10⁹ operations per second.
    pub f32_gflops: f64,
    /// The same with factors rounded to TF32.
    pub tf32_gflops: f64,
    /// The same with factors of bf16 and sums in f32.
    pub bf16_gflops: f64,
}

/// Rows and columns of the factors of the large product.
const SIDE: usize = 8192;
/// Bytes of each side of the large copy.
const COPY: usize = 1 << 30;
/// Runs that are timed, after one that is not.
const RUNS: usize = 5;

impl Limits {
    /// Measures, in about a second and with 2 GiB of memory.
    ///
    /// # Panics
    /// If the device fails.
    pub fn measure(gpu: &Gpu) -> Limits {
        let [from, to] = [0; 2].map(|_| gpu.0.block("measure", COPY));
        let copy = best(gpu, || {
            let guard = gpu.0.stream_guard();
            // SAFETY: both blocks have so many bytes, and the copy is queued on the stream that they belong to.
            let queued =
                unsafe { memcpy_dtod_async(to.pointer(), from.pointer(), COPY, gpu.0.stream.cu_stream()) };
            drop(guard);
            gpu.0.expect("copy", queued);
        });
        // Random numbers: on zeros the card draws less power and runs faster than on anything that is computed.
        let rows: Vec<Key> = (0..SIDE).map(|row| Key::new(0).fold(row)).collect();
        let factor =
            Tensor::random(&gpu.device(), Random::Uniform, &rows, &[SIDE], DType::F32).add_scalar(-0.5);
        let gflops = |dtype, arithmetic| {
            let factor = factor.cast(dtype);
            let from = read(&gpu.0, "measure", factor.array());
            let seconds = best(gpu, || product(gpu, from, &to, dtype, arithmetic));
            2.0 * (SIDE as f64).powi(3) / seconds / 1e9
        };
        Limits {
            copy_gb_per_s: 2.0 * COPY as f64 / copy / 1e9,
            f32_gflops: gflops(DType::F32, Arithmetic::Exact),
            tf32_gflops: gflops(DType::F32, Arithmetic::Tf32),
            bf16_gflops: gflops(DType::Bf16, Arithmetic::Exact),
        }
    }
}

/// Queues the product of a square matrix with itself.
fn product(gpu: &Gpu, from: &Block, to: &Block, dtype: DType, arithmetic: Arithmetic) {
    let whole = MatrixLayout { row: SIDE, step: SIDE * SIDE, transposed: false, alignment: 256 };
    let spec = MatmulSpec {
        from: dtype,
        to: dtype,
        arithmetic,
        batch: 1,
        m: SIDE,
        n: SIDE,
        k: SIDE,
        a: whole,
        b: whole,
        c: whole,
        epilogue: Epilogue::None,
    };
    let pointers = [from.pointer(), from.pointer(), to.pointer(), 0];
    let guard = gpu.0.stream_guard();
    let mut cublaslt = gpu.0.cublaslt.lock().expect("no panic while held");
    // SAFETY: SIDE² elements of four bytes fit into the blocks.
    let queued = unsafe { cublaslt.multiply(&spec, pointers, &gpu.0.stream) };
    drop(cublaslt);
    drop(guard);
    gpu.0.expect("product", queued);
}

fn best(gpu: &Gpu, mut f: impl FnMut()) -> f64 {
    let mut once = || {
        gpu.synchronize();
        let clock = Instant::now();
        f();
        gpu.synchronize();
        clock.elapsed().as_secs_f64()
    };
    once();
    (0..RUNS).map(|_| once()).fold(f64::INFINITY, f64::min)
}
