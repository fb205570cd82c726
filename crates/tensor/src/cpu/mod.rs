//! The CPU backend: every kernel in f32 and f64, on a pool of threads.

mod conv;
mod deferred;
mod exp;
mod gemm;
mod layout;
mod limits;
mod line_product;
mod matmul;
mod memory;
mod norm;
mod nt_xent;
mod pointwise;
mod pool;
mod random;
mod real;
mod reduce;
mod softmax;
mod symmetric;
mod threads;
mod wide;

pub use gemm::Arithmetic;
pub use limits::Limits;
pub use line_product::{LINE, LineProduct, LineRun, LineTarget};

use crate::array::{Array, Buffer, DType, HostSlice, HostVec};
use crate::backend::{
    Backend, BatchNormSaved, BatchNormed, Binary, ConvShape, Device, Extreme, Norm, PoolShape, Product,
    Random, Strided, Unary,
};
use crate::extensions::{NtXentBackend, NtXentForward};
use crate::key::Key;
use crate::shape::{Shape, Split};
use deferred::{Affine, Deferred, mapped, source};
use gemm::Scratch;
use memory::{Block, Memory, Pooled, read};
use pointwise::{Env, Operand};
use real::Real;
use std::fmt;
use std::sync::Arc;
use threads::Threads;

/// The CPU with one thread for each core.
///
/// Every call makes a device with threads and memory of its own: make one and clone the handle.
pub fn cpu() -> Device {
    Cpu::default().open()
}

/// How to open the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Threads that compute, the caller included; 0 means one for each core.
    /// Results are the same bits for any number.
    pub threads: usize,
    /// How convolutions are computed.
    pub arithmetic: Arithmetic,
}

impl Cpu {
    /// Opens the device.
    pub fn open(self) -> Device {
        let memory = Arc::new(Memory::default());
        let scratch = Scratch::new(self.arithmetic);
        Arc::new(CpuBackend { threads: Arc::new(Threads::new(self.threads)), memory, scratch })
    }
}

struct CpuBackend {
    threads: Arc<Threads>,
    memory: Arc<Memory>,
    scratch: Scratch,
}

impl CpuBackend {
    fn env(&self) -> Env<'_> {
        Env { threads: &self.threads, memory: &self.memory }
    }

    fn copy<E: Pooled>(&self, data: &[E]) -> Buffer {
        let mut block = self.memory.block(data.len());
        block.copy_from_slice(data);
        block.finish()
    }

    fn binary_of<R: Real>(&self, op: Binary, a: &Array, b: &Array, shape: &Shape) -> Buffer {
        let (a, b) = (self.operand::<R>(a, shape), self.operand::<R>(b, shape));
        pointwise::binary(&self.env(), op, a.as_operand(), b.as_operand(), shape.len()).finish()
    }

    fn operand<'a, R: Real>(&self, x: &'a Array, shape: &Shape) -> Spread<'a, R> {
        match Operand::new(read::<R>(x), x.shape(), shape) {
            Some(operand) => Spread::Borrowed(operand),
            None => {
                let lead = shape.rank() - x.shape().rank();
                let old = x.shape().strides();
                let mut strides = [0; crate::shape::MAX_RANK];
                for axis in lead..shape.rank() {
                    strides[axis] = if x.shape()[axis - lead] == 1 { 0 } else { old[axis - lead] };
                }
                let view = Strided { offset: 0, strides };
                Spread::Owned(layout::strided(&self.env(), read(x), shape, &view))
            }
        }
    }
}

/// A binary operand, spread out if its pattern of repetition has no kernel.
enum Spread<'a, R: Real> {
    Borrowed(Operand<'a, R>),
    Owned(Block<R>),
}

impl<R: Real> Spread<'_, R> {
    fn as_operand(&self) -> Operand<'_, R> {
        match self {
            Spread::Borrowed(operand) => *operand,
            Spread::Owned(block) => Operand::Full(block),
        }
    }
}

/// Runs one generic expression for f32 or f64.
macro_rules! floats {
    ($op:literal, $x:expr, $real:ident => $body:expr) => {
        match $x.dtype() {
            DType::F32 => {
                type $real = f32;
                $body
            }
            DType::F64 => {
                type $real = f64;
                $body
            }
            DType::U32 => panic!(concat!($op, ": indices have no arithmetic (cast them first)")),
            DType::Bf16 => no_bf16($op),
        }
    };
}

/// Runs one generic expression for any element type.
macro_rules! elements {
    ($op:literal, $dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $element = f32;
                $body
            }
            DType::F64 => {
                type $element = f64;
                $body
            }
            DType::U32 => {
                type $element = u32;
                $body
            }
            DType::Bf16 => no_bf16($op),
        }
    };
}

/// The CPU would only be slower with it.
#[track_caller]
fn no_bf16(op: &str) -> ! {
    panic!("{op}: the CPU does not compute in bf16, which is storage on GPUs (take f32, or a GPU)")
}

impl Backend for CpuBackend {
    fn name(&self) -> String {
        format!("cpu ({} threads)", self.threads.count())
    }

    fn facts(&self) -> Vec<(String, String)> {
        let level = gemm::level();
        [("instruction set", level.to_owned()), ("threads", self.threads.count().to_string())]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    fn threads(&self) -> usize {
        self.threads.limit()
    }
    fn limit_threads(&self, n: usize) {
        self.threads.set_limit(n);
    }

    fn upload(&self, data: HostSlice<'_>) -> Buffer {
        match data {
            HostSlice::F32(data) => self.copy(data),
            HostSlice::F64(data) => self.copy(data),
            HostSlice::U32(data) => self.copy(data),
        }
    }

    fn download(&self, x: &Array) -> HostVec {
        match x.dtype() {
            DType::F32 => HostVec::F32(read(x).to_vec()),
            DType::F64 => HostVec::F64(read(x).to_vec()),
            DType::U32 => HostVec::U32(read(x).to_vec()),
            DType::Bf16 => no_bf16("download"),
        }
    }

    fn peek(&self, x: &Array, see: &mut dyn FnMut(HostSlice<'_>)) {
        match x.dtype() {
            DType::F32 => see(HostSlice::F32(read(x))),
            DType::F64 => see(HostSlice::F64(read(x))),
            DType::U32 => see(HostSlice::U32(read(x))),
            DType::Bf16 => no_bf16("peek"),
        }
    }

    fn full(&self, dtype: DType, len: usize, value: f64) -> Buffer {
        elements!("full", dtype, E => self.env().fill(len, |_, out: &mut [E]| out.fill(value as E)).finish())
    }

    fn cast(&self, x: &Array, to: DType) -> Buffer {
        elements!("cast", x.dtype(), From => elements!("cast", to, To => {
            let x = read::<From>(x);
            let convert = |start: usize, out: &mut [To]| {
                for (y, &x) in out.iter_mut().zip(&x[start..]) {
                    *y = x as To;
                }
            };
            self.env().fill(x.len(), convert).finish()
        }))
    }

    fn random(&self, dtype: DType, law: Random, rows: &[Key], width: usize) -> Buffer {
        match dtype {
            DType::F32 => random::random::<f32>(&self.env(), law, rows, width).finish(),
            DType::F64 => random::random::<f64>(&self.env(), law, rows, width).finish(),
            DType::U32 => panic!("random: indices are not drawn from {law:?}"),
            DType::Bf16 => no_bf16("random"),
        }
    }

    fn unary(&self, op: Unary, x: &Array) -> Buffer {
        floats!("unary", x, R => pointwise::unary::<R>(&self.env(), op, read(x)).finish())
    }

    fn binary(&self, op: Binary, a: &Array, b: &Array, shape: &Shape) -> Buffer {
        if op == Binary::Mask && a.shape() == b.shape() {
            return floats!("binary", a, R => Arc::new(Deferred::<R>::mask(&self.env(), a, b)));
        }
        floats!("binary", a, R => self.binary_of::<R>(op, a, b, shape))
    }

    fn add_mask(&self, a: &Array, b: &Array, gate: &Array) -> Option<Buffer> {
        Some(
            floats!("add_mask", a, R => norm::add_mask::<R>(&self.env(), read(a), read(b), read(gate)).finish()),
        )
    }

    fn add_relu(&self, a: &Array, b: &Array) -> Buffer {
        floats!("add_relu", a, R => norm::add_relu::<R>(&self.env(), mapped(a), mapped(b)).finish())
    }

    fn select(&self, condition: &Array, a: &Array, b: &Array) -> Buffer {
        floats!("select", a, R => pointwise::select::<R>(&self.env(), read(condition), read(a), read(b)).finish())
    }

    fn sum(&self, x: &Array, split: Split) -> Buffer {
        floats!("sum", x, R => reduce::sum::<R>(&self.env(), read(x), split).finish())
    }

    fn arg_extreme(&self, x: &Array, split: Split, which: Extreme, flat: bool) -> Buffer {
        floats!("argmax", x, R => reduce::arg_extreme::<R>(&self.env(), read(x), split, which, flat).finish())
    }

    fn matmul(&self, a: &Array, b: &Array, product: &Product) -> Buffer {
        floats!("matmul", a, R => {
            let Product { m, n, k, batch, transpose } = *product;
            let one = matmul::Product { m, n, k, ta: transpose.a, tb: transpose.b };
            let (a, b) = (read::<R>(a), read::<R>(b));
            let mut out = self.memory.block(batch * m * n);
            if batch == 1 && transpose == crate::Transpose::RIGHT && symmetric::is_worth(a, b, m) {
                symmetric::gram(&self.env(), a, m, &mut out);
                return out.finish();
            }
            for i in 0..batch {
                let (a, b) = (&a[i * m * k..][..m * k], &b[i * k * n..][..k * n]);
                matmul::matmul(&self.env(), &one, a, b, &mut out[i * m * n..][..m * n]);
            }
            out.finish()
        })
    }

    fn add_transposed(&self, x: &Array) -> Buffer {
        floats!("add_transposed", x, R => symmetric::add_transposed::<R>(&self.env(), read(x), x.shape()[0]).finish())
    }

    fn strided(&self, x: &Array, shape: &Shape, view: &Strided) -> Buffer {
        elements!("strided", x.dtype(), E => layout::strided::<E>(&self.env(), read(x), shape, view).finish())
    }

    fn place(&self, parts: &[(&Array, Shape)], shape: &Shape) -> Buffer {
        elements!("place", parts[0].0.dtype(), E => {
            let parts: Vec<_> = parts.iter().map(|(x, start)| (read::<E>(x), *x.shape(), *start)).collect();
            layout::place(&self.env(), &parts, shape).finish()
        })
    }

    fn gather(&self, x: &Array, index: &Array, split: Split) -> Buffer {
        elements!("gather", x.dtype(), E => layout::gather::<E>(&self.env(), read(x), read(index), split).finish())
    }

    fn scatter_add(&self, x: &Array, index: &Array, split: Split) -> Buffer {
        floats!("scatter_add", x, R => layout::scatter_add::<R>(&self.env(), read(x), read(index), split).finish())
    }

    fn conv2d(&self, x: &Array, w: &Array, shape: &ConvShape) -> Buffer {
        let g = geometry(shape);
        let len = shape.output().len();
        match x.dtype() {
            DType::F32 => {
                let mut y = self.memory.block(len);
                conv::forward_f32(&self.threads, &g, source(x), read(w), &mut y, &self.scratch);
                y.finish()
            }
            _ => {
                let mut y = self.memory.block(len);
                conv::forward_f64(&self.threads, &g, source(x), read(w), &mut y, &self.scratch);
                y.finish()
            }
        }
    }

    fn conv2d_input(&self, dy: &Array, w: &Array, shape: &ConvShape) -> Buffer {
        let g = geometry(shape);
        let len = shape.input().len();
        match dy.dtype() {
            DType::F32 => {
                let mut dx = self.memory.block(len);
                conv::input_adjoint_f32(&self.threads, &g, source(dy), read(w), &mut dx, &self.scratch);
                dx.finish()
            }
            _ => {
                let mut dx = self.memory.block(len);
                conv::input_adjoint_f64(&self.threads, &g, source(dy), read(w), &mut dx, &self.scratch);
                dx.finish()
            }
        }
    }

    fn conv2d_weight(&self, x: &Array, dy: &Array, shape: &ConvShape) -> Buffer {
        let g = geometry(shape);
        let len = shape.weight().len();
        match x.dtype() {
            DType::F32 => {
                let mut dw = self.memory.block(len);
                conv::weight_adjoint_f32(&self.threads, &g, source(x), read(dy), &mut dw, &self.scratch);
                dw.finish()
            }
            _ => {
                let mut dw = self.memory.block(len);
                conv::weight_adjoint_f64(&self.threads, &g, source(x), read(dy), &mut dw, &self.scratch);
                dw.finish()
            }
        }
    }

    fn sum_pool(&self, x: &Array, shape: &PoolShape) -> Buffer {
        floats!("sum_pool", x, R => pool::sum_pool::<R>(&self.env(), read(x), shape).finish())
    }

    fn sum_pool_adjoint(&self, dy: &Array, shape: &PoolShape) -> Buffer {
        floats!("sum_pool_adjoint", dy, R => pool::sum_pool_adjoint::<R>(&self.env(), read(dy), shape).finish())
    }

    fn max_pool(&self, x: &Array, shape: &PoolShape) -> Buffer {
        floats!("max_pool", x, R => pool::max_pool::<R>(&self.env(), read(x), shape).finish())
    }

    fn batch_norm(&self, x: &Array, weight: &Array, bias: &Array, norm: Norm) -> BatchNormed {
        floats!("batch_norm", x, R => {
            let out = norm::batch_norm::<R>(&self.env(), read(x), read(weight), read(bias), norm);
            let y = Deferred::affine(&self.env(), x, out.scale, out.shift, norm.relu);
            BatchNormed { y: Arc::new(y), mean: out.mean.finish(), variance: out.variance.finish() }
        })
    }

    fn batch_norm_adjoint(&self, saved: &BatchNormSaved<'_>, dy: &Array, norm: Norm) -> [Buffer; 3] {
        floats!("batch_norm_adjoint", dy, R => {
            norm::batch_norm_adjoint::<R>(&self.env(), &read_saved(saved), read(dy), norm).map(Block::finish)
        })
    }

    fn batch_norm_add_relu_adjoint(
        &self,
        saved: &BatchNormSaved<'_>,
        y: &Array,
        dy: &Array,
        more: Option<&Array>,
        eps: f64,
    ) -> [Buffer; 4] {
        floats!("batch_norm_add_relu_adjoint", dy, R => {
            let (saved, more) = (read_saved::<R>(saved), more.map(read));
            norm::batch_norm_add_relu_adjoint(&self.env(), &saved, read(y), read(dy), more, eps).map(Block::finish)
        })
    }

    fn channel_affine(&self, x: &Array, scale: &Array, shift: &Array, relu: bool) -> Buffer {
        floats!("channel_affine", x, R => {
            let (scale, shift) = (read::<R>(scale), read::<R>(shift));
            if scale.len() < norm::NARROW {
                let affine = Affine { scale, shift, relu };
                return norm::channel_affine(&self.env(), read(x), &affine).finish();
            }
            let own = |values: &[R]| {
                let mut block = self.memory.block(values.len());
                block.copy_from_slice(values);
                block
            };
            Arc::new(Deferred::affine(&self.env(), x, own(scale), own(shift), relu))
        })
    }

    fn softmax(&self, x: &Array, k: usize, log: bool) -> Buffer {
        floats!("softmax", x, R => softmax::softmax::<R>(&self.env(), read(x), k, log).finish())
    }

    fn softmax_adjoint(&self, y: &Array, dy: &Array, k: usize, log: bool) -> Buffer {
        floats!("softmax_adjoint", y, R => {
            softmax::softmax_adjoint::<R>(&self.env(), read(y), read(dy), k, log).finish()
        })
    }

    fn cross_entropy(&self, logits: &Array, labels: &Array) -> Buffer {
        floats!("cross_entropy", logits, R => {
            softmax::cross_entropy::<R>(&self.env(), read(logits), read(labels)).finish()
        })
    }

    fn cross_entropy_adjoint(&self, logits: &Array, labels: &Array, dy: &Array) -> Buffer {
        floats!("cross_entropy_adjoint", logits, R => {
            softmax::cross_entropy_adjoint::<R>(&self.env(), read(logits), read(labels), read(dy)).finish()
        })
    }

    fn nt_xent(&self) -> Option<&dyn NtXentBackend> {
        Some(self)
    }
}

impl NtXentBackend for CpuBackend {
    fn forward(&self, z: &Array, partners: &Array) -> Option<NtXentForward> {
        floats!("nt_xent", z, R => {
            let [losses, exponentials, sums] = nt_xent::forward::<R>(&self.env(), read(z), read(partners))?;
            let [losses, exponentials, sums] = [losses, exponentials, sums].map(Block::finish);
            Some(NtXentForward { losses, exponentials, sums })
        })
    }

    fn adjoint(&self, z: &Array, partners: &Array, saved: [&Array; 2], dy: &Array) -> Buffer {
        floats!("nt_xent_adjoint", z, R => {
            nt_xent::adjoint::<R>(&self.env(), read(z), read(partners), saved.map(read), read(dy)).finish()
        })
    }
}

fn read_saved<'a, R: Real>(saved: &BatchNormSaved<'a>) -> norm::Saved<'a, R> {
    norm::Saved {
        x: read(saved.x),
        weight: read(saved.weight),
        bias: read(saved.bias),
        mean: read(saved.mean),
        variance: read(saved.variance),
    }
}

fn geometry(s: &ConvShape) -> conv::Geometry {
    conv::Geometry {
        n: s.n,
        h: s.h,
        w: s.w,
        c_in: s.c_in,
        kh: s.kh,
        kw: s.kw,
        c_out: s.c_out,
        stride: s.conv.stride,
        pad: s.conv.pad,
        groups: s.conv.groups,
    }
}

impl fmt::Debug for CpuBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
