//! The tensor backend of a GPU: [`Backend`] and its extensions by the functions of `ops`.

use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::graph::capture;
use crate::ops::{
    augment, conv, conv_cudnn, layout, matmul, norm, optimizer, pointwise, pool, random, reduce, softmax,
};
use crate::tables::Tables;
use std::fmt;
use std::sync::Arc;
use tarrl_tensor::extensions::{
    AugmentBackend, AugmentBatch, OptimizerBackend, ParamUpdate, UpdateRule, UpdatedParam,
};
use tarrl_tensor::{
    Array, Backend, BatchNormSaved, BatchNormed, Binary, Buffer, Captured, ConvShape, DType, Extreme,
    HostSlice, HostVec, Key, Norm, PoolShape, Product, Random, Shape, Split, Strided, Transpose, Unary,
};

pub(crate) struct CudaBackend(pub(crate) Arc<Gpu>, pub(crate) Tables);

impl Backend for CudaBackend {
    fn name(&self) -> String {
        format!("{:?}", self.0)
    }

    /// Products of bf16 need a card of capability 8.0.
    fn computes(&self, dtype: DType) -> bool {
        dtype != DType::Bf16 || self.0.has_bf16()
    }

    fn facts(&self) -> Vec<(String, String)> {
        self.0.facts.list()
    }

    fn peak_memory(&self) -> Option<u64> {
        self.0.peak_memory()
    }

    fn reset_peak_memory(&self) {
        self.0.reset_peak_memory();
    }

    fn upload(&self, data: HostSlice<'_>) -> Buffer {
        Arc::new(self.0.expect("upload", Block::of(&self.0, data)))
    }

    fn table(&self, data: HostSlice<'_>) -> Buffer {
        self.0.expect("upload", self.1.get(&self.0, data))
    }

    fn download(&self, x: &Array) -> HostVec {
        if x.dtype() == DType::Bf16 {
            let wide = Arc::new(pointwise::cast(&self.0, x, DType::F32));
            return self.download(&Array::wrap(x.device(), *x.shape(), DType::F32, wide));
        }
        let block = read(&self.0, "download", x);
        let host = match x.dtype() {
            DType::F32 => block.download(x.len()).map(HostVec::F32),
            DType::F64 => block.download(x.len()).map(HostVec::F64),
            DType::U32 => block.download(x.len()).map(HostVec::U32),
            DType::Bf16 => unreachable!("widened above"),
        };
        self.0.expect("download", host)
    }

    fn full(&self, dtype: DType, len: usize, value: f64) -> Buffer {
        Arc::new(layout::full(&self.0, dtype, len, value))
    }

    fn cast(&self, x: &Array, to: DType) -> Buffer {
        Arc::new(pointwise::cast(&self.0, x, to))
    }

    fn random(&self, dtype: DType, law: Random, rows: &[Key], width: usize) -> Buffer {
        Arc::new(random::random(&self.0, dtype, law, rows, width))
    }

    fn unary(&self, op: Unary, x: &Array) -> Buffer {
        Arc::new(pointwise::unary(&self.0, op, x))
    }

    fn binary(&self, op: Binary, a: &Array, b: &Array, shape: &Shape) -> Buffer {
        Arc::new(pointwise::binary(&self.0, op, a, b, shape))
    }

    fn add_relu(&self, a: &Array, b: &Array) -> Buffer {
        Arc::new(pointwise::add_relu(&self.0, a, b))
    }

    fn add_mask(&self, a: &Array, b: &Array, gate: &Array) -> Option<Buffer> {
        Some(Arc::new(pointwise::add_mask(&self.0, a, b, gate)))
    }

    fn select(&self, condition: &Array, a: &Array, b: &Array) -> Buffer {
        Arc::new(pointwise::select(&self.0, condition, a, b))
    }

    fn sum(&self, x: &Array, split: Split) -> Buffer {
        Arc::new(reduce::sum(&self.0, x, split))
    }

    fn arg_extreme(&self, x: &Array, split: Split, which: Extreme, flat: bool) -> Buffer {
        Arc::new(reduce::arg_extreme(&self.0, x, split, which, flat))
    }

    fn matmul(&self, a: &Array, b: &Array, product: &Product) -> Buffer {
        Arc::new(matmul::matmul(&self.0, a, b, product))
    }

    /// f64 has no epilogue, and an empty sum no product.
    fn linear(&self, x: &Array, w: &Array, bias: &Array, [n, m, k]: [usize; 3]) -> Buffer {
        if x.dtype() != DType::F64 && k > 0 {
            return Arc::new(matmul::linear(&self.0, x, w, bias, [n, m, k]));
        }
        let product = Product { batch: 1, m: n, n: m, k, transpose: Transpose::RIGHT };
        let (y, shape) = (self.matmul(x, w, &product), [n, m].into());
        self.binary(Binary::Add, &Array::wrap(x.device(), shape, x.dtype(), y), bias, &shape)
    }

    fn strided(&self, x: &Array, shape: &Shape, view: &Strided) -> Buffer {
        Arc::new(layout::strided(&self.0, x, shape, view))
    }

    fn place(&self, parts: &[(&Array, Shape)], shape: &Shape) -> Buffer {
        Arc::new(layout::place(&self.0, parts, shape))
    }

    fn gather(&self, x: &Array, index: &Array, split: Split) -> Buffer {
        Arc::new(layout::gather(&self.0, x, index, split))
    }

    fn scatter_add(&self, x: &Array, index: &Array, split: Split) -> Buffer {
        Arc::new(layout::scatter_add(&self.0, x, index, split))
    }

    fn conv2d(&self, x: &Array, w: &Array, shape: &ConvShape) -> Buffer {
        Arc::new(conv::forward(&self.0, x, w, shape))
    }

    fn conv2d_bias(
        &self,
        operands: [&Array; 3],
        skip: Option<&Array>,
        shape: &ConvShape,
        relu: bool,
    ) -> Option<Buffer> {
        conv_cudnn::forward_bias(&self.0, operands, skip, shape, relu).map(|block| Arc::new(block) as Buffer)
    }

    fn conv2d_input(&self, dy: &Array, w: &Array, shape: &ConvShape) -> Buffer {
        Arc::new(conv::input_adjoint(&self.0, dy, w, shape))
    }

    fn conv2d_weight(&self, x: &Array, dy: &Array, shape: &ConvShape) -> Buffer {
        Arc::new(conv::weight_adjoint(&self.0, x, dy, shape))
    }

    fn sum_pool(&self, x: &Array, shape: &PoolShape) -> Buffer {
        Arc::new(pool::sum_pool(&self.0, x, shape))
    }

    fn sum_pool_adjoint(&self, dy: &Array, shape: &PoolShape) -> Buffer {
        Arc::new(pool::sum_pool_adjoint(&self.0, dy, shape))
    }

    fn max_pool(&self, x: &Array, shape: &PoolShape) -> Buffer {
        Arc::new(pool::max_pool(&self.0, x, shape))
    }

    fn batch_norm(&self, x: &Array, weight: &Array, bias: &Array, norm: Norm) -> BatchNormed {
        let [y, mean, variance] = norm::batch_norm(&self.0, x, weight, bias, norm);
        BatchNormed { y: Arc::new(y), mean: Arc::new(mean), variance: Arc::new(variance) }
    }

    fn batch_norm_adjoint(&self, saved: &BatchNormSaved<'_>, dy: &Array, norm: Norm) -> [Buffer; 3] {
        norm::batch_norm_adjoint(&self.0, saved, dy, norm).map(|block| Arc::new(block) as Buffer)
    }

    fn batch_norm_add_relu(
        &self,
        x: &Array,
        weight: &Array,
        bias: &Array,
        skip: &Array,
        eps: f64,
    ) -> BatchNormed {
        let [y, mean, variance] = norm::batch_norm_add_relu(&self.0, x, [weight, bias], skip, eps);
        BatchNormed { y: Arc::new(y), mean: Arc::new(mean), variance: Arc::new(variance) }
    }

    fn batch_norm_add_relu_adjoint(
        &self,
        saved: &BatchNormSaved<'_>,
        y: &Array,
        dy: &Array,
        more: Option<&Array>,
        eps: f64,
    ) -> [Buffer; 4] {
        let adjoints = norm::batch_norm_add_relu_adjoint(&self.0, saved, y, (dy, more), eps);
        adjoints.map(|block| Arc::new(block) as Buffer)
    }

    fn channel_affine(&self, x: &Array, scale: &Array, shift: &Array, relu: bool) -> Buffer {
        Arc::new(norm::channel_affine(&self.0, x, scale, shift, relu))
    }

    fn softmax(&self, x: &Array, k: usize, log: bool) -> Buffer {
        Arc::new(softmax::softmax(&self.0, x, k, log))
    }

    fn softmax_adjoint(&self, y: &Array, dy: &Array, k: usize, log: bool) -> Buffer {
        Arc::new(softmax::softmax_adjoint(&self.0, y, dy, k, log))
    }

    fn cross_entropy(&self, logits: &Array, labels: &Array) -> Buffer {
        Arc::new(softmax::cross_entropy(&self.0, logits, labels))
    }

    fn cross_entropy_adjoint(&self, logits: &Array, labels: &Array, dy: &Array) -> Buffer {
        Arc::new(softmax::cross_entropy_adjoint(&self.0, logits, labels, dy))
    }

    fn captures(&self) -> bool {
        self.0.graphs
    }

    fn capture(&self, inputs: &[Array], run: &dyn Fn(&[Array]) -> Vec<Array>) -> Option<Box<dyn Captured>> {
        let graph = self.0.graphs.then(|| capture(&self.0, inputs, run)).flatten();
        graph.map(|graph| Box::new(graph) as Box<dyn Captured>)
    }

    fn augment(&self) -> Option<&dyn AugmentBackend> {
        Some(self)
    }

    fn optimizer(&self) -> Option<&dyn OptimizerBackend> {
        Some(self)
    }
}

impl AugmentBackend for CudaBackend {
    fn apply(&self, batch: &AugmentBatch<'_>) -> Buffer {
        Arc::new(augment::apply(&self.0, batch))
    }
}

impl OptimizerBackend for CudaBackend {
    fn update(&self, rule: UpdateRule, parameters: &[ParamUpdate<'_>]) -> Option<Vec<UpdatedParam>> {
        optimizer::update(&self.0, rule, parameters)
    }
}

impl fmt::Debug for CudaBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
