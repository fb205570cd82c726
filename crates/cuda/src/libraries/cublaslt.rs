//! Matrix products with cuBLASLt: a plan for each specification of a product, made once.
//!
//! A plan holds descriptors and the algorithm that cuBLASLt would take first. It is kept for the life of the device, so
//! that the same product gives the same bits however much memory is free when it comes again. Sums are taken in f32
//! (f64 of f64) and rounded once: algorithms that add parts in the type of the result are left out.

use crate::driver::DeviceAllocation;
use crate::error::CudaError;
use crate::options::Arithmetic;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{self, cublasComputeType_t, cublasLtEpilogue_t, cudaDataType_t};
use cudarc::driver::CudaStream;
use std::collections::HashMap;
use std::ffi::c_void;
use tarrl_tensor::DType;

/// Bytes that an algorithm may use beside its operands: what cuBLAS asks for on Hopper.
const WORKSPACE: usize = 32 << 20;

/// Parts of a long sum may be added in the type of the sum, in the workspace; not in the type of the result.
const REDUCTIONS: u32 = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;

/// Everything that determines a plan. cuBLASLt stores by columns, in which every row-major matrix is its transpose: the
/// product is `cᵀ = op(b)ᵀ·op(a)ᵀ`, and extents and operands stand here in the order of what is computed, `a·b = c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MatmulSpec {
    /// The type of the factors.
    pub(crate) from: DType,
    /// The type of the result.
    pub(crate) to: DType,
    pub(crate) arithmetic: Arithmetic,
    pub(crate) batch: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: MatrixLayout,
    pub(crate) b: MatrixLayout,
    pub(crate) c: MatrixLayout,
    pub(crate) epilogue: Epilogue,
}

/// How matrices of a batch lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MatrixLayout {
    /// Elements from one row to the next.
    pub(crate) row: usize,
    /// Elements from one matrix to the next.
    pub(crate) step: usize,
    /// Whether the rows that are stored are the columns that are meant.
    pub(crate) transposed: bool,
    /// The largest power of two that divides the address, at most 256.
    pub(crate) alignment: u32,
}

/// What is done with the product before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Epilogue {
    /// Nothing.
    None,
    /// It is added to what is there.
    Accumulate,
    /// A bias of each column is added.
    Bias,
}

/// The library with the plans made so far and the one workspace, which products on one stream share.
pub(crate) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    workspace: DeviceAllocation,
    plans: HashMap<MatmulSpec, Plan>,
}

// SAFETY: the handle and the descriptors are plain memory of the library, bound to no thread; the one `CublasLt` of a device
// stands behind a mutex.
unsafe impl Send for CublasLt {}

impl CublasLt {
    pub(crate) fn new(stream: &CudaStream) -> Result<CublasLt, CudaError> {
        let failed = CudaError::failed("opening cuBLASLt");
        let handle = match result::create_handle() {
            Ok(handle) => handle,
            Err(error) => return Err(failed(format!("{error:?}"))),
        };
        let workspace =
            DeviceAllocation::new(stream, WORKSPACE).map_err(|error| failed(error.to_string()))?;
        Ok(CublasLt { handle, workspace, plans: HashMap::new() })
    }

    /// Such as `13.0.2`.
    pub(crate) fn version() -> String {
        // SAFETY: it takes nothing.
        let version = unsafe { sys::cublasLtGetVersion() };
        format!("{}.{}.{}", version / 10000, version / 100 % 100, version % 100)
    }

    /// Queues `batch` products of the factors at `a` and `b` to `c`; `bias` is read if the spec has one.
    ///
    /// # Safety
    /// The matrices, and the bias of `n` elements of the result's type, lie in memory that was allocated on `stream`.
    pub(crate) unsafe fn multiply(
        &mut self,
        spec: &MatmulSpec,
        [a, b, c, bias]: [u64; 4],
        stream: &CudaStream,
    ) -> Result<(), CublasError> {
        if !self.plans.contains_key(spec) {
            let plan = Plan::new(self.handle, spec)?;
            self.plans.insert(*spec, plan);
        }
        let plan = &self.plans[spec];
        if spec.epilogue == Epilogue::Bias {
            plan.product
                .set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        let beta = if spec.epilogue == Epilogue::Accumulate { 1.0 } else { 0.0 };
        let (one, beta) = (Factor::new(spec.from, 1.0), Factor::new(spec.from, beta));
        let at = |pointer: u64| pointer as *const c_void;
        // SAFETY: the descriptors live as long as the plan, and factors on the host are read before the call returns;
        // the rest is the caller's word.
        unsafe {
            result::matmul(
                self.handle,
                plan.product.0,
                one.pointer(),
                beta.pointer(),
                at(b),
                plan.b.0,
                at(a),
                plan.a.0,
                at(c),
                plan.c.0,
                c as *mut c_void,
                plan.c.0,
                &plan.algorithm,
                self.workspace.pointer() as *mut c_void,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        }
    }

    /// Gives the memory back, once.
    pub(crate) fn free(&mut self, stream: &CudaStream) {
        self.workspace.free(stream);
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: made in `new`, and not used again.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// Descriptors and algorithm of one kind of product.
struct Plan {
    product: Product,
    a: Layout,
    b: Layout,
    c: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, spec: &MatmulSpec) -> Result<Plan, CublasError> {
        let product = product(spec)?;
        let [a, b, c] = layouts(spec)?;
        let preference = preference(spec)?;
        // SAFETY: all descriptors were made above.
        let found = unsafe {
            result::get_matmul_algo_heuristic(handle, product.0, b.0, a.0, c.0, c.0, preference.0)
        }?;
        Ok(Plan { product, a, b, c, algorithm: found.algo })
    }
}

fn product(spec: &MatmulSpec) -> Result<Product, CublasError> {
    use sys::cublasLtMatmulDescAttributes_t as At;
    // CUBLAS_OP_N and CUBLAS_OP_T
    let operation = |stored: &MatrixLayout| i32::from(stored.transposed);
    let product = Product(result::create_matmul_desc(compute(spec.from, spec.arithmetic), scale(spec.from))?);
    product.set(At::CUBLASLT_MATMUL_DESC_TRANSA, &operation(&spec.b))?;
    product.set(At::CUBLASLT_MATMUL_DESC_TRANSB, &operation(&spec.a))?;
    product.set(At::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue(spec.epilogue))?;
    Ok(product)
}

/// Of `a`, `b` and `c`.
fn layouts(spec: &MatmulSpec) -> Result<[Layout; 3], CublasError> {
    Ok([
        Layout::new(spec.from, [spec.m, spec.k], &spec.a, spec.batch)?,
        Layout::new(spec.from, [spec.k, spec.n], &spec.b, spec.batch)?,
        Layout::new(spec.to, [spec.m, spec.n], &spec.c, spec.batch)?,
    ])
}

fn preference(spec: &MatmulSpec) -> Result<Preference, CublasError> {
    use sys::cublasLtMatmulPreferenceAttributes_t as At;
    let preference = Preference(result::create_matmul_pref()?);
    preference.set(At::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
    preference.set(At::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &REDUCTIONS)?;
    preference.set(At::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &spec.b.alignment)?;
    preference.set(At::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &spec.a.alignment)?;
    preference.set(At::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &spec.c.alignment)?;
    preference.set(At::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &spec.c.alignment)?;
    Ok(preference)
}

fn epilogue(epilogue: Epilogue) -> cublasLtEpilogue_t {
    match epilogue {
        Epilogue::None | Epilogue::Accumulate => cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
        Epilogue::Bias => cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
    }
}

fn compute(from: DType, arithmetic: Arithmetic) -> cublasComputeType_t {
    match (from, arithmetic) {
        (DType::F64, _) => cublasComputeType_t::CUBLAS_COMPUTE_64F,
        (DType::F32, Arithmetic::Tf32) => cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        _ => cublasComputeType_t::CUBLAS_COMPUTE_32F,
    }
}

fn scale(from: DType) -> cudaDataType_t {
    if from == DType::F64 { cudaDataType_t::CUDA_R_64F } else { cudaDataType_t::CUDA_R_32F }
}

#[track_caller]
fn data(dtype: DType) -> cudaDataType_t {
    match dtype {
        DType::F32 => cudaDataType_t::CUDA_R_32F,
        DType::F64 => cudaDataType_t::CUDA_R_64F,
        DType::Bf16 => cudaDataType_t::CUDA_R_16BF,
        DType::U32 => panic!("matmul: indices have no arithmetic (cast them first)"),
    }
}

/// A number on the host of the type that sums are taken in.
struct Factor([u8; 8]);

impl Factor {
    fn new(from: DType, value: f64) -> Factor {
        let mut bytes = [0; 8];
        match from {
            DType::F64 => bytes = value.to_ne_bytes(),
            _ => bytes[..4].copy_from_slice(&(value as f32).to_ne_bytes()),
        }
        Factor(bytes)
    }

    fn pointer(&self) -> *const c_void {
        self.0.as_ptr().cast()
    }
}

/// A descriptor of the library, destroyed when it is dropped.
macro_rules! descriptor {
    ($name:ident, $handle:ty, $attribute:ty, $set:ident, $destroy:ident) => {
        struct $name($handle);

        impl $name {
            fn set<T>(&self, attribute: $attribute, value: &T) -> Result<(), CublasError> {
                // SAFETY: the descriptor lives, and the value has as many bytes as are told; the library checks that
                // it is as many as the attribute has.
                unsafe { result::$set(self.0, attribute, (&raw const *value).cast(), size_of::<T>()) }
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made once, and not used again.
                let _ = unsafe { result::$destroy(self.0) };
            }
        }
    };
}

descriptor!(
    Product,
    sys::cublasLtMatmulDesc_t,
    sys::cublasLtMatmulDescAttributes_t,
    set_matmul_desc_attribute,
    destroy_matmul_desc
);
descriptor!(
    Layout,
    sys::cublasLtMatrixLayout_t,
    sys::cublasLtMatrixLayoutAttribute_t,
    set_matrix_layout_attribute,
    destroy_matrix_layout
);
descriptor!(
    Preference,
    sys::cublasLtMatmulPreference_t,
    sys::cublasLtMatmulPreferenceAttributes_t,
    set_matmul_pref_attribute,
    destroy_matmul_pref
);

impl Layout {
    /// Of matrices that are meant as `(rows, columns)`, by columns as they are stored.
    fn new(
        dtype: DType,
        [rows, columns]: [usize; 2],
        stored: &MatrixLayout,
        batch: usize,
    ) -> Result<Layout, CublasError> {
        use sys::cublasLtMatrixLayoutAttribute_t as At;
        let (down, across) = if stored.transposed { (rows, columns) } else { (columns, rows) };
        let layout =
            result::create_matrix_layout(data(dtype), down as u64, across as u64, stored.row as i64)?;
        let layout = Layout(layout);
        layout.set(At::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &(batch as i32))?;
        layout.set(At::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &(stored.step as i64))?;
        Ok(layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Places;

    /// The library takes the descriptors without a GPU, and checks the size of every attribute.
    #[test]
    fn cublaslt_accepts_the_descriptors_where_it_is_installed() {
        if let Err(error) = Places::usual().blas() {
            return println!("did not make descriptors: {error}");
        }
        let stored = |row, transposed| MatrixLayout { row, step: 12, transposed, alignment: 16 };
        for (from, to) in [
            (DType::F32, DType::F32),
            (DType::F64, DType::F64),
            (DType::Bf16, DType::Bf16),
            (DType::Bf16, DType::F32),
        ] {
            for epilogue in [Epilogue::None, Epilogue::Accumulate, Epilogue::Bias] {
                let (a, b, c) = (stored(4, false), stored(4, true), stored(2, false));
                let arithmetic = Arithmetic::Exact;
                let spec = MatmulSpec { from, to, arithmetic, batch: 2, m: 3, n: 2, k: 4, a, b, c, epilogue };
                let made = product(&spec).and_then(|product| {
                    product
                        .set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &256u64)
                });
                assert_eq!(made, Ok(()), "{spec:?}");
                assert!(layouts(&spec).is_ok() && preference(&spec).is_ok(), "{spec:?}");
            }
        }
    }
}
