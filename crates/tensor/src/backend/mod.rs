//! The backend trait: few, coarse kernels of tensors behind an object-safe interface. No differentiation in here.

mod batch_norm;
mod elementwise;
mod matmul;
mod window;

pub use batch_norm::{BatchNormSaved, BatchNormed, Norm};
pub use elementwise::{Binary, Extreme, Random, Unary};
pub use matmul::{Product, Strided, Transpose};
pub use window::{Conv, ConvShape, Pool, PoolShape};

use crate::array::{Array, Buffer, DType, HostSlice, HostVec};
use crate::captured::Captured;
use crate::extensions::{AugmentBackend, NtXentBackend, OptimizerBackend};
use crate::key::Key;
use crate::shape::{Shape, Split};
use std::fmt::Debug;
use std::sync::Arc;

/// A device: a shared handle on its backend.
pub type Device = Arc<dyn Backend>;

/// The kernels of a device: what an own backend implements.
///
/// Kernels that are no ops of tensors, such as augmentation, are optional [`extensions`](crate::extensions).
/// Operands are contiguous, row-major, of the shapes that the caller has already checked; a kernel
/// returns the memory of its result and the caller knows its shape. Two calls with the same operands
/// give the same bits.
pub trait Backend: Debug + Send + Sync {
    /// A name for messages, such as `cpu (2 threads)`.
    fn name(&self) -> String;
    /// Whether it computes with elements of this type; all do but with Bf16.
    fn computes(&self, dtype: DType) -> bool {
        dtype != DType::Bf16
    }

    /// The instruction set, or the versions of driver and libraries, as (name, value), for provenance. Two devices with the
    /// same facts are expected to give the same bits.
    fn facts(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    /// Threads of the host that compute, which a caller may use for its own work between ops.
    fn threads(&self) -> usize {
        1
    }
    /// From now on at most `n` of those that the device was opened with compute, and at least one: for a process that shares
    /// the cores with others. Results keep their bits.
    fn limit_threads(&self, _n: usize) {}
    /// Bytes of the device's own memory that were in use at most since [`reset_peak_memory`](Backend::reset_peak_memory);
    /// `None` where arrays are memory of the process.
    fn peak_memory(&self) -> Option<u64> {
        None
    }
    /// Resets [`peak_memory`](Backend::peak_memory).
    fn reset_peak_memory(&self) {}

    /// Copies from the host.
    fn upload(&self, data: HostSlice<'_>) -> Buffer;
    /// The same for constants that recur: a device may keep them, and return the copy that it has.
    fn table(&self, data: HostSlice<'_>) -> Buffer {
        self.upload(data)
    }
    /// Copies to the host; Bf16 as F32.
    fn download(&self, x: &Array) -> HostVec;
    /// Calls `see` with the values, without a copy if they are on the host.
    fn peek(&self, x: &Array, see: &mut dyn FnMut(HostSlice<'_>)) {
        match self.download(x) {
            HostVec::F32(v) => see(HostSlice::F32(&v)),
            HostVec::F64(v) => see(HostSlice::F64(&v)),
            HostVec::U32(v) => see(HostSlice::U32(&v)),
        }
    }
    /// `len` copies of one value.
    fn full(&self, dtype: DType, len: usize, value: f64) -> Buffer;
    /// The values in another element type.
    fn cast(&self, x: &Array, to: DType) -> Buffer;
    /// Rows of random numbers: row `i` holds `width` numbers of the stream at `rows[i]`.
    fn random(&self, dtype: DType, law: Random, rows: &[Key], width: usize) -> Buffer;

    /// An elementwise function.
    fn unary(&self, op: Unary, x: &Array) -> Buffer;
    /// An elementwise function of two operands, broadcast to `shape`.
    fn binary(&self, op: Binary, a: &Array, b: &Array, shape: &Shape) -> Buffer;
    /// `a + b` where `gate` is above zero, elsewhere zero, all of one shape; `None` where the device has no fused kernel.
    fn add_mask(&self, _a: &Array, _b: &Array, _gate: &Array) -> Option<Buffer> {
        None
    }
    /// `max(a + b, 0)` of two arrays of one shape: where a residual block ends.
    fn add_relu(&self, a: &Array, b: &Array) -> Buffer {
        let sum = self.binary(Binary::Add, a, b, a.shape());
        self.unary(Unary::Relu, &Array::wrap(a.device(), *a.shape(), a.dtype(), sum))
    }
    /// `a` where `condition` is not zero, else `b`; all of one shape.
    fn select(&self, condition: &Array, a: &Array, b: &Array) -> Buffer;

    /// The sums over the middle axis of `split`.
    fn sum(&self, x: &Array, split: Split) -> Buffer;
    /// The position of the first largest (or smallest) element along the middle axis of `split`,
    /// as U32: its index on that axis, or in the whole array if `flat`.
    fn arg_extreme(&self, x: &Array, split: Split, which: Extreme, flat: bool) -> Buffer;

    /// `op(a) · op(b)` for each of a batch of matrices.
    fn matmul(&self, a: &Array, b: &Array, product: &Product) -> Buffer;
    /// `x · wᵀ + bias` of `(n, k)`, `(m, k)` and `(m)`.
    fn linear(&self, x: &Array, w: &Array, bias: &Array, [n, m, k]: [usize; 3]) -> Buffer {
        let product = Product { batch: 1, m: n, n: m, k, transpose: Transpose::RIGHT };
        let y = self.matmul(x, w, &product);
        let shape = [n, m].into();
        self.binary(Binary::Add, &Array::wrap(x.device(), shape, x.dtype(), y), bias, &shape)
    }

    /// `x + xᵀ` of a square matrix: what the gradient of `x·xᵀ` multiplies.
    fn add_transposed(&self, x: &Array) -> Buffer {
        let mut strides = [0; crate::shape::MAX_RANK];
        strides[..2].copy_from_slice(&[1, x.shape()[0]]);
        let turned = self.strided(x, x.shape(), &Strided { offset: 0, strides });
        let turned = Array::wrap(x.device(), *x.shape(), x.dtype(), turned);
        self.binary(Binary::Add, x, &turned, x.shape())
    }

    /// The elements at `offset + Σ index·stride` for every index of `shape`: permute, broadcast, slice.
    fn strided(&self, x: &Array, shape: &Shape, view: &Strided) -> Buffer;
    /// An array of `shape`, zero but for the parts, each placed at its own start.
    fn place(&self, parts: &[(&Array, Shape)], shape: &Shape) -> Buffer;
    /// Rows of the middle axis of `split` by index: `(outer, index.len(), inner)`.
    fn gather(&self, x: &Array, index: &Array, split: Split) -> Buffer;
    /// The adjoint of `gather`: adds each row to its place in `(outer, split.extent, inner)`.
    fn scatter_add(&self, x: &Array, index: &Array, split: Split) -> Buffer;

    /// Convolution of `(n, h, w, c_in)` with `(kh, kw, c_in/groups, c_out)`.
    fn conv2d(&self, x: &Array, w: &Array, shape: &ConvShape) -> Buffer;
    /// Its adjoint in the input.
    fn conv2d_input(&self, dy: &Array, w: &Array, shape: &ConvShape) -> Buffer;
    /// Its adjoint in the weights.
    fn conv2d_weight(&self, x: &Array, dy: &Array, shape: &ConvShape) -> Buffer;
    /// Convolution of images and weights, plus a bias for each channel, of the type [`DType::wide`], plus `skip` if there is one, then ReLU if
    /// asked; `None` where the device has no fused kernel.
    fn conv2d_bias(
        &self,
        _: [&Array; 3],
        _skip: Option<&Array>,
        _shape: &ConvShape,
        _relu: bool,
    ) -> Option<Buffer> {
        None
    }

    /// Sums over windows of `(n, h, w, c)`; padding counts as zero.
    fn sum_pool(&self, x: &Array, shape: &PoolShape) -> Buffer;
    /// Its adjoint.
    fn sum_pool_adjoint(&self, dy: &Array, shape: &PoolShape) -> Buffer;
    /// The flat position of the first largest element of each window, as U32.
    fn max_pool(&self, x: &Array, shape: &PoolShape) -> Buffer;

    /// Batch normalization of `(rows, c)` with the statistics of the batch, then ReLU if asked. Statistics, weight and
    /// bias are of the type [`DType::wide`] of the rows.
    fn batch_norm(&self, x: &Array, weight: &Array, bias: &Array, norm: Norm) -> BatchNormed;
    /// Its adjoints in the input, the weight and the bias.
    fn batch_norm_adjoint(&self, saved: &BatchNormSaved<'_>, dy: &Array, norm: Norm) -> [Buffer; 3];
    /// `max(batch_norm(x) + skip, 0)`: where a residual block ends.
    fn batch_norm_add_relu(
        &self,
        x: &Array,
        weight: &Array,
        bias: &Array,
        skip: &Array,
        eps: f64,
    ) -> BatchNormed {
        let out = self.batch_norm(x, weight, bias, Norm { eps, relu: false });
        let normed = Array::wrap(x.device(), *x.shape(), x.dtype(), out.y);
        BatchNormed { y: self.add_relu(&normed, skip), ..out }
    }
    /// Its adjoints in the input, the weight, the bias and what was added, from its value `y`, for the gradient `dy`, or
    /// `dy + more`.
    fn batch_norm_add_relu_adjoint(
        &self,
        saved: &BatchNormSaved<'_>,
        y: &Array,
        dy: &Array,
        more: Option<&Array>,
        eps: f64,
    ) -> [Buffer; 4] {
        let of = |buffer| Array::wrap(dy.device(), *dy.shape(), dy.dtype(), buffer);
        let sum = more.map(|more| of(self.binary(Binary::Add, dy, more, dy.shape())));
        let dy = sum.as_ref().unwrap_or(dy);
        let dz = self.binary(Binary::Mask, dy, y, dy.shape());
        let [dx, dw, db] = self.batch_norm_adjoint(saved, &of(dz.clone()), Norm { eps, relu: false });
        [dx, dw, db, dz]
    }
    /// `x·scale + shift` with one scale and shift, of the type [`DType::wide`], for each channel of `(rows, c)`, then
    /// ReLU if asked.
    fn channel_affine(&self, x: &Array, scale: &Array, shift: &Array, relu: bool) -> Buffer;

    /// Softmax of the rows of `(rows, k)`, or its logarithm.
    fn softmax(&self, x: &Array, k: usize, log: bool) -> Buffer;
    /// Its adjoint, from its value.
    fn softmax_adjoint(&self, y: &Array, dy: &Array, k: usize, log: bool) -> Buffer;
    /// The cross-entropy of each row of `(n, k)` against its label, accurate also where it is tiny.
    fn cross_entropy(&self, logits: &Array, labels: &Array) -> Buffer;
    /// Its adjoint: `dy_i·(softmax − one-hot)`, with the label's entry as minus the sum of the others.
    fn cross_entropy_adjoint(&self, logits: &Array, labels: &Array, dy: &Array) -> Buffer;
    /// Whether [`capture`](Backend::capture) may record anything.
    fn captures(&self) -> bool {
        false
    }
    /// The work of `run(inputs)`, recorded for any number of replays; `None` if the device does not record, or `run` reads or
    /// uploads host values. It may run `run` more than once.
    fn capture(&self, _: &[Array], _run: &dyn Fn(&[Array]) -> Vec<Array>) -> Option<Box<dyn Captured>> {
        None
    }

    /// Augmentation of images on the device, if it has kernels for that.
    fn augment(&self) -> Option<&dyn AugmentBackend> {
        None
    }
    /// Optimizer updates of all parameters in one call, if it has kernels for that.
    fn optimizer(&self) -> Option<&dyn OptimizerBackend> {
        None
    }
    /// NT-Xent in one kernel, if it has one.
    fn nt_xent(&self) -> Option<&dyn NtXentBackend> {
        None
    }
}
