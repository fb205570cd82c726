//! Counting backend: a device that hands every kernel on to another one, and counts kernels, multiply-adds and transfers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tarrl_tensor::extensions::{NtXentBackend, NtXentForward};
use tarrl_tensor::{
    Array, Backend, BatchNormSaved, BatchNormed, Binary, Buffer, ConvShape, DType, Device, Extreme,
    HostSlice, HostVec, Key, Norm, PoolShape, Product, Random, Shape, Split, Strided, Unary,
};

/// What a device was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernels {
    /// Calls of kernels.
    pub(crate) calls: u64,
    /// Multiply-adds of convolutions, matrix products and their adjoints, whatever algorithm does them.
    pub(crate) multiply_adds: u64,
    /// Copies from and to the host, and looks of the host at values.
    pub(crate) transfers: u64,
}

/// A device that counts and computes on `inner`. A kernel that it does not hand on by name would still compute, as the
/// kernels that its default calls.
#[derive(Debug)]
pub(crate) struct CountingBackend {
    inner: Device,
    calls: AtomicU64,
    multiply_adds: AtomicU64,
    transfers: AtomicU64,
}

impl CountingBackend {
    pub(crate) fn new(inner: Device) -> Arc<Self> {
        let [calls, multiply_adds, transfers] = [0; 3].map(AtomicU64::new);
        Arc::new(CountingBackend { inner, calls, multiply_adds, transfers })
    }

    /// So far.
    pub(crate) fn kernels(&self) -> Kernels {
        let [calls, multiply_adds, transfers] =
            [&self.calls, &self.multiply_adds, &self.transfers].map(|count| count.load(Ordering::Relaxed));
        Kernels { calls, multiply_adds, transfers }
    }

    fn kernel(&self, multiply_adds: usize) -> &Device {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.multiply_adds.fetch_add(multiply_adds as u64, Ordering::Relaxed);
        &self.inner
    }

    fn transfer(&self) -> &Device {
        self.transfers.fetch_add(1, Ordering::Relaxed);
        &self.inner
    }
}

impl Backend for CountingBackend {
    fn name(&self) -> String {
        format!("{}, counted", self.inner.name())
    }

    fn computes(&self, dtype: DType) -> bool {
        self.inner.computes(dtype)
    }

    fn threads(&self) -> usize {
        self.inner.threads()
    }

    fn upload(&self, data: HostSlice<'_>) -> Buffer {
        self.transfer().upload(data)
    }

    fn table(&self, data: HostSlice<'_>) -> Buffer {
        self.transfer().table(data)
    }

    fn download(&self, x: &Array) -> HostVec {
        self.transfer().download(x)
    }

    fn peek(&self, x: &Array, see: &mut dyn FnMut(HostSlice<'_>)) {
        self.transfer().peek(x, see);
    }

    fn full(&self, dtype: DType, len: usize, value: f64) -> Buffer {
        self.kernel(0).full(dtype, len, value)
    }

    fn cast(&self, x: &Array, to: DType) -> Buffer {
        self.kernel(0).cast(x, to)
    }

    fn random(&self, dtype: DType, law: Random, rows: &[Key], width: usize) -> Buffer {
        self.kernel(0).random(dtype, law, rows, width)
    }

    fn unary(&self, op: Unary, x: &Array) -> Buffer {
        self.kernel(0).unary(op, x)
    }

    fn binary(&self, op: Binary, a: &Array, b: &Array, shape: &Shape) -> Buffer {
        self.kernel(0).binary(op, a, b, shape)
    }

    fn add_mask(&self, a: &Array, b: &Array, gate: &Array) -> Option<Buffer> {
        self.kernel(0).add_mask(a, b, gate)
    }

    fn add_relu(&self, a: &Array, b: &Array) -> Buffer {
        self.kernel(0).add_relu(a, b)
    }

    fn select(&self, condition: &Array, a: &Array, b: &Array) -> Buffer {
        self.kernel(0).select(condition, a, b)
    }

    fn sum(&self, x: &Array, split: Split) -> Buffer {
        self.kernel(0).sum(x, split)
    }

    fn arg_extreme(&self, x: &Array, split: Split, which: Extreme, flat: bool) -> Buffer {
        self.kernel(0).arg_extreme(x, split, which, flat)
    }

    fn matmul(&self, a: &Array, b: &Array, product: &Product) -> Buffer {
        let Product { batch, m, n, k, .. } = *product;
        self.kernel(batch * m * n * k).matmul(a, b, product)
    }

    fn linear(&self, x: &Array, w: &Array, bias: &Array, [n, m, k]: [usize; 3]) -> Buffer {
        self.kernel(n * m * k).linear(x, w, bias, [n, m, k])
    }

    fn add_transposed(&self, x: &Array) -> Buffer {
        self.kernel(0).add_transposed(x)
    }

    fn strided(&self, x: &Array, shape: &Shape, view: &Strided) -> Buffer {
        self.kernel(0).strided(x, shape, view)
    }

    fn place(&self, parts: &[(&Array, Shape)], shape: &Shape) -> Buffer {
        self.kernel(0).place(parts, shape)
    }

    fn gather(&self, x: &Array, index: &Array, split: Split) -> Buffer {
        self.kernel(0).gather(x, index, split)
    }

    fn scatter_add(&self, x: &Array, index: &Array, split: Split) -> Buffer {
        self.kernel(0).scatter_add(x, index, split)
    }

    fn conv2d(&self, x: &Array, w: &Array, shape: &ConvShape) -> Buffer {
        self.kernel(shape.macs()).conv2d(x, w, shape)
    }

    fn conv2d_input(&self, dy: &Array, w: &Array, shape: &ConvShape) -> Buffer {
        self.kernel(shape.macs()).conv2d_input(dy, w, shape)
    }

    fn conv2d_weight(&self, x: &Array, dy: &Array, shape: &ConvShape) -> Buffer {
        self.kernel(shape.macs()).conv2d_weight(x, dy, shape)
    }

    fn conv2d_bias(
        &self,
        operands: [&Array; 3],
        skip: Option<&Array>,
        shape: &ConvShape,
        relu: bool,
    ) -> Option<Buffer> {
        let found = self.inner.conv2d_bias(operands, skip, shape, relu)?;
        self.kernel(shape.macs());
        Some(found)
    }

    fn sum_pool(&self, x: &Array, shape: &PoolShape) -> Buffer {
        self.kernel(0).sum_pool(x, shape)
    }

    fn sum_pool_adjoint(&self, dy: &Array, shape: &PoolShape) -> Buffer {
        self.kernel(0).sum_pool_adjoint(dy, shape)
    }

    fn max_pool(&self, x: &Array, shape: &PoolShape) -> Buffer {
        self.kernel(0).max_pool(x, shape)
    }

    fn batch_norm(&self, x: &Array, weight: &Array, bias: &Array, norm: Norm) -> BatchNormed {
        self.kernel(0).batch_norm(x, weight, bias, norm)
    }

    fn batch_norm_adjoint(&self, saved: &BatchNormSaved<'_>, dy: &Array, norm: Norm) -> [Buffer; 3] {
        self.kernel(0).batch_norm_adjoint(saved, dy, norm)
    }

    fn batch_norm_add_relu(
        &self,
        x: &Array,
        weight: &Array,
        bias: &Array,
        skip: &Array,
        eps: f64,
    ) -> BatchNormed {
        self.kernel(0).batch_norm_add_relu(x, weight, bias, skip, eps)
    }

    fn batch_norm_add_relu_adjoint(
        &self,
        saved: &BatchNormSaved<'_>,
        y: &Array,
        dy: &Array,
        more: Option<&Array>,
        eps: f64,
    ) -> [Buffer; 4] {
        self.kernel(0).batch_norm_add_relu_adjoint(saved, y, dy, more, eps)
    }

    fn channel_affine(&self, x: &Array, scale: &Array, shift: &Array, relu: bool) -> Buffer {
        self.kernel(0).channel_affine(x, scale, shift, relu)
    }

    fn softmax(&self, x: &Array, k: usize, log: bool) -> Buffer {
        self.kernel(0).softmax(x, k, log)
    }

    fn softmax_adjoint(&self, y: &Array, dy: &Array, k: usize, log: bool) -> Buffer {
        self.kernel(0).softmax_adjoint(y, dy, k, log)
    }

    fn cross_entropy(&self, logits: &Array, labels: &Array) -> Buffer {
        self.kernel(0).cross_entropy(logits, labels)
    }

    fn cross_entropy_adjoint(&self, logits: &Array, labels: &Array, dy: &Array) -> Buffer {
        self.kernel(0).cross_entropy_adjoint(logits, labels, dy)
    }

    fn nt_xent(&self) -> Option<&dyn NtXentBackend> {
        self.inner.nt_xent().is_some().then_some(self as &dyn NtXentBackend)
    }
}

impl CountingBackend {
    /// The inner kernels of NT-Xent, for rows `z` `(m, k)`; each multiplies them with each other once.
    fn nt_xent_kernel(&self, z: &Array) -> &dyn NtXentBackend {
        let (m, k) = (z.shape()[0], z.shape()[1]);
        self.kernel(m * m * k).nt_xent().expect("asked for before")
    }
}

impl NtXentBackend for CountingBackend {
    fn forward(&self, z: &Array, partners: &Array) -> Option<NtXentForward> {
        self.nt_xent_kernel(z).forward(z, partners)
    }

    fn adjoint(&self, z: &Array, partners: &Array, saved: [&Array; 2], dy: &Array) -> Buffer {
        self.nt_xent_kernel(z).adjoint(z, partners, saved, dy)
    }
}
