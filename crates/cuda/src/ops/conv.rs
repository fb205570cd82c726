//! Convolutions of `(n, h, w, c)` in cuDNN, or as matrix products of patches where cuDNN will not do.
//!
//! `y = patches(x)·w`, where a row of `patches(x)` holds the pixels below the taps of one output pixel. The adjoints
//! are the products with the other factor transposed: `dw = patches(x)ᵀ·dy`, and `dx` collects `dy·wᵀ` from patches
//! back to pixels. Patches are made for some images at a time, in a bounded block. For taps of one pixel at every
//! pixel the patches are the images themselves.

use super::conv_cudnn as cudnn;
use crate::driver::{Block, read};
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::libraries::cublaslt::Epilogue;
use crate::ops::layout;
use crate::ops::matmul::{Gemm, Matrix, gemm};
use crate::ops::pointwise;
use crate::ops::sizes::size;
use std::sync::Arc;
use tarrl_tensor::{Array, ConvShape, DType};

/// Elements of a block of patches at most, unless one image has more.
const PATCHES: usize = 1 << 26;

pub(crate) fn forward(gpu: &Arc<Gpu>, x: &Array, w: &Array, shape: &ConvShape) -> Block {
    if let Some(block) = cudnn::forward(gpu, x, w, shape) {
        return block;
    }
    let op = "conv2d";
    let plan = Plan::new(shape, x.dtype());
    let y = gpu.block(op, shape.output().len() * size(x.dtype()));
    let (x, w) = (read(gpu, op, x), read(gpu, op, w));
    let buffer = plan.buffer(gpu, op);
    for images in plan.chunks() {
        let (a, b, c) =
            (plan.patches(gpu, x, buffer.as_ref(), images), plan.weights(w), plan.outputs(&y, images));
        let (m, n, k) = (images.count * plan.pixels, plan.own_out, plan.terms);
        gemm(gpu, &plan.gemm([m, n, k], [a, b, c], plan.dtype, Epilogue::None));
    }
    y
}

pub(crate) fn input_adjoint(gpu: &Arc<Gpu>, dy: &Array, w: &Array, shape: &ConvShape) -> Block {
    if let Some(block) = cudnn::input_adjoint(gpu, dy, w, shape) {
        return block;
    }
    let op = "conv2d_input";
    let plan = Plan::new(shape, dy.dtype());
    let dx = gpu.block(op, shape.input().len() * size(dy.dtype()));
    let (dy, w) = (read(gpu, op, dy), read(gpu, op, w));
    let buffer = plan.buffer(gpu, op);
    for images in plan.chunks() {
        let c = plan.rows(&dx, buffer.as_ref(), images);
        let (a, b) = (plan.outputs(dy, images), Matrix { transposed: true, ..plan.weights(w) });
        let (m, n, k) = (images.count * plan.pixels, plan.terms, plan.own_out);
        gemm(gpu, &plan.gemm([m, n, k], [a, b, c], plan.dtype, Epilogue::None));
        if let Some(patches) = &buffer {
            plan.collect(gpu, patches, &dx, images);
        }
    }
    dx
}

pub(crate) fn weight_adjoint(gpu: &Arc<Gpu>, x: &Array, dy: &Array, shape: &ConvShape) -> Block {
    if let Some(block) = cudnn::weight_adjoint(gpu, x, dy, shape) {
        return block;
    }
    let op = "conv2d_weight";
    if shape.output().is_empty() {
        return layout::full(gpu, x.dtype(), shape.weight().len(), 0.0);
    }
    let plan = Plan::new(shape, x.dtype());
    // Chunks of bf16 are added in f32.
    let to = x.dtype().wide();
    let dw = gpu.block(op, shape.weight().len() * size(to));
    let narrow = (x.dtype() != to).then_some((x.device(), x.dtype()));
    let (x, dy) = (read(gpu, op, x), read(gpu, op, dy));
    let buffer = plan.buffer(gpu, op);
    for images in plan.chunks() {
        let a = Matrix { transposed: true, ..plan.patches(gpu, x, buffer.as_ref(), images) };
        let (b, c) = (plan.outputs(dy, images), plan.weights(&dw));
        let (m, n, k) = (plan.terms, plan.own_out, images.count * plan.pixels);
        let end = if images.first > 0 { Epilogue::Accumulate } else { Epilogue::None };
        gemm(gpu, &plan.gemm([m, n, k], [a, b, c], to, end));
    }
    match narrow {
        Some((device, dtype)) => {
            pointwise::cast(gpu, &Array::wrap(device, shape.weight(), to, Arc::new(dw)), dtype)
        }
        None => dw,
    }
}

/// Some images of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Images {
    first: usize,
    count: usize,
}

/// How a convolution becomes products, one for each group.
struct Plan<'s> {
    shape: &'s ConvShape,
    dtype: DType,
    groups: usize,
    /// Output pixels of an image.
    pixels: usize,
    /// Terms of a sum: the length of a patch.
    terms: usize,
    /// Output channels of a group.
    own_out: usize,
    /// Whether the patches are the images.
    direct: bool,
    /// Images at a time.
    at_a_time: usize,
}

impl<'s> Plan<'s> {
    fn new(shape: &'s ConvShape, dtype: DType) -> Plan<'s> {
        let (groups, pixels) = (shape.conv.groups, shape.out_h() * shape.out_w());
        let terms = shape.kh * shape.kw * (shape.c_in / groups);
        let direct = (shape.kh, shape.kw, shape.conv.stride, shape.conv.pad) == (1, 1, 1, 0);
        let all = shape.n.max(1);
        let at_a_time = if direct { all } else { (PATCHES / (pixels * terms * groups).max(1)).clamp(1, all) };
        Plan { shape, dtype, groups, pixels, terms, own_out: shape.c_out / groups, direct, at_a_time }
    }

    /// A product for each group.
    fn gemm<'a>(
        &self,
        [m, n, k]: [usize; 3],
        [a, b, c]: [Matrix<'a>; 3],
        to: DType,
        epilogue: Epilogue,
    ) -> Gemm<'a> {
        Gemm { from: self.dtype, to, batch: self.groups, m, n, k, a, b, c, epilogue, bias: None }
    }

    fn chunks(&self) -> impl Iterator<Item = Images> + use<> {
        let (n, step) = (self.shape.n, self.at_a_time);
        (0..n).step_by(step).map(move |first| Images { first, count: step.min(n - first) })
    }

    /// Memory for the patches of a chunk, if any are made.
    #[track_caller]
    fn buffer(&self, gpu: &Arc<Gpu>, op: &str) -> Option<Block> {
        let len = self.at_a_time * self.pixels * self.terms * self.groups;
        (!self.direct).then(|| gpu.block(op, len * size(self.dtype)))
    }

    /// The patches of some images, one after the other for each group, written to the buffer if they are made.
    fn patches<'a>(&self, gpu: &Gpu, x: &'a Block, buffer: Option<&'a Block>, images: Images) -> Matrix<'a> {
        if let Some(patches) = buffer {
            let rows = images.count * self.pixels;
            let (width, kernel) = self.by_pack("patches", "patches_by_pack");
            let n = rows * self.terms * self.groups / width;
            let launch = gpu.launch(kernel, Element::real(kernel, self.dtype)).arg(x).arg(patches).arg(n);
            launch.arg(images.first * self.pixels).arg(rows).arg(self.geometry()).over(n);
        }
        self.rows(x, buffer, images)
    }

    /// Adds the patches of some images up to their pixels.
    fn collect(&self, gpu: &Gpu, patches: &Block, dx: &Block, images: Images) {
        let image = self.shape.h * self.shape.w * self.shape.c_in;
        let (width, kernel) = self.by_pack("pixels", "pixels_by_pack");
        let n = images.count * image / width;
        let to = dx.pointer() + (images.first * image * size(self.dtype)) as u64;
        let launch = gpu.launch(kernel, Element::real(kernel, self.dtype)).arg(patches).arg(to).arg(n);
        launch.arg(images.count * self.pixels).arg(self.geometry()).over(n);
    }

    /// The kernel for the channels of a group, and how many it takes at a time.
    fn by_pack(&self, one: &'static str, pack: &'static str) -> (usize, &'static str) {
        let lanes = Element::real(one, self.dtype).lanes();
        if (self.shape.c_in / self.groups).is_multiple_of(lanes) { (lanes, pack) } else { (1, one) }
    }

    /// Where the patches of some images lie: in the buffer, or in the images themselves.
    fn rows<'a>(&self, x: &'a Block, buffer: Option<&'a Block>, images: Images) -> Matrix<'a> {
        match buffer {
            Some(block) => {
                let step = images.count * self.pixels * self.terms;
                Matrix { block, offset: 0, row: self.terms, step, transposed: false }
            }
            None => {
                let offset = images.first * self.pixels * self.shape.c_in;
                Matrix { block: x, offset, row: self.shape.c_in, step: self.terms, transposed: false }
            }
        }
    }

    fn outputs<'a>(&self, block: &'a Block, images: Images) -> Matrix<'a> {
        let offset = images.first * self.pixels * self.shape.c_out;
        Matrix { block, offset, row: self.shape.c_out, step: self.own_out, transposed: false }
    }

    fn weights<'a>(&self, block: &'a Block) -> Matrix<'a> {
        Matrix { block, offset: 0, row: self.shape.c_out, step: self.own_out, transposed: false }
    }

    /// As `Geometry` of `conv.cu`.
    fn geometry(&self) -> [usize; 10] {
        let s = self.shape;
        let conv = s.conv;
        [s.h, s.w, s.c_in, s.kh, s.kw, conv.stride, conv.pad, conv.groups, s.out_h(), s.out_w()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::Conv;

    fn shape(n: usize, k: usize, conv: Conv) -> ConvShape {
        ConvShape { n, h: 32, w: 32, c_in: 64, kh: k, kw: k, c_out: 64, conv }
    }

    #[test]
    fn chunks_cover_the_batch_within_the_bound() {
        let shape = shape(512, 3, Conv { stride: 1, pad: 1, groups: 1 });
        let plan = Plan::new(&shape, DType::F32);
        let chunks: Vec<Images> = plan.chunks().collect();
        assert!(chunks.len() > 1 && plan.at_a_time * plan.pixels * plan.terms <= PATCHES);
        let mut next = 0;
        for images in chunks {
            assert_eq!(images.first, next);
            next += images.count;
        }
        assert_eq!(next, 512);
    }

    #[test]
    fn taps_of_one_pixel_make_no_patches() {
        let direct = |k, conv| Plan::new(&shape(512, k, conv), DType::F32).direct;
        assert!(direct(1, Conv::default()));
        assert!(!direct(1, Conv { stride: 2, ..Conv::default() }) && !direct(3, Conv::default()));
        let shape = shape(512, 1, Conv::default());
        let whole: Vec<Images> = Plan::new(&shape, DType::F64).chunks().collect();
        assert_eq!(whole, [Images { first: 0, count: 512 }]);
    }

    #[test]
    fn one_image_at_least_is_taken_however_large() {
        let conv = Conv { stride: 1, pad: 1, groups: 1 };
        let shape = ConvShape { n: 3, h: 1024, w: 1024, c_in: 64, kh: 3, kw: 3, c_out: 8, conv };
        assert_eq!(Plan::new(&shape, DType::F32).chunks().count(), 3);
    }
}
