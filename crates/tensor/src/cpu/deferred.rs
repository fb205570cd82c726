//! Deferred elementwise passes, fused into the kernel that reads their result: affine maps of channels, and ReLU's masks of derivatives.
//!
//! A batch norm, folded or not, is followed by a convolution almost everywhere, and on the way back a ReLU's mask by the
//! adjoint of one. The convolution copies what it reads anyway, to put a border around it, and applies scale, shift and
//! ReLU, or the mask, to the copy; so what is in between is neither written nor kept. A kernel that does not know of this
//! asks for the elements as always and gets them, computed once, with the same bits.

use super::memory::{Block, Memory, Pooled, read};
use super::norm::{self, Scalar};
use super::pointwise::Env;
use super::real::Real;
use super::threads::Threads;
use crate::array::Array;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// The map `x·scale + shift` with one scale and shift for each channel, then ReLU if set.
pub(crate) struct Affine<'a, T> {
    pub(crate) scale: &'a [T],
    pub(crate) shift: &'a [T],
    pub(crate) relu: bool,
}

/// Elements, or the elements behind a map that is still to be applied.
pub(crate) struct Mapped<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) affine: Option<Affine<'a, T>>,
}

/// An array as the convolutions read it.
pub(crate) enum Source<'a, T> {
    Mapped(Mapped<'a, T>),
    /// The elements where the gate is above zero, elsewhere zero.
    Masked(&'a [T], Mapped<'a, T>),
}

impl<T> Clone for Affine<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Affine<'_, T> {}

impl<T> Clone for Mapped<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Mapped<'_, T> {}

impl<T> Clone for Source<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Source<'_, T> {}

impl<'a, T> Mapped<'a, T> {
    /// The elements of `range`, which begins at the first channel of a pixel.
    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        Mapped { data: &self.data[range], ..*self }
    }
}

impl<'a, T> Source<'a, T> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Source::Mapped(of) => of.data.len(),
            Source::Masked(of, _) => of.len(),
        }
    }

    /// The elements of `range`, which begins at the first channel of a pixel.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Source::Mapped(of) => Source::Mapped(of.slice(range)),
            Source::Masked(of, gate) => Source::Masked(&of[range.clone()], gate.slice(range)),
        }
    }

    /// The elements where they lie, if nothing is left to be done with them.
    pub(crate) fn plain(&self) -> Option<&'a [T]> {
        match self {
            Source::Mapped(Mapped { data, affine: None }) => Some(data),
            _ => None,
        }
    }
}

impl<T: Scalar> Source<'_, T> {
    /// Writes the elements from `start` on, which are some whole pixels.
    #[inline(always)]
    pub(crate) fn copy(&self, start: usize, to: &mut [T]) {
        let range = start..start + to.len();
        match self {
            Source::Mapped(Mapped { data, affine: None }) => to.copy_from_slice(&data[range]),
            Source::Mapped(Mapped { data, affine: Some(affine) }) => norm::apply(affine, &data[range], to),
            Source::Masked(of, gate) => norm::mask_rows(&of[range.clone()], &gate.slice(range), to),
        }
    }
}

impl<'a, T> From<&'a [T]> for Mapped<'a, T> {
    fn from(data: &'a [T]) -> Self {
        Mapped { data, affine: None }
    }
}

impl<'a, T> From<&'a [T]> for Source<'a, T> {
    fn from(data: &'a [T]) -> Self {
        Source::Mapped(Mapped::from(data))
    }
}

/// Memory of an array whose elements are computed when they are asked for.
pub(super) struct Deferred<E: Pooled> {
    x: Array,
    pass: Pass<E>,
    value: OnceLock<Block<E>>,
    compute: fn(&Deferred<E>) -> Block<E>,
    threads: Arc<Threads>,
    memory: Arc<Memory>,
}

/// What is to be done with the elements.
enum Pass<E: Pooled> {
    /// Scale and shift, and whether ReLU follows.
    Affine([Block<E>; 2], bool),
    /// The gate.
    Mask(Array),
}

impl<R: Real> Deferred<R> {
    /// The map of `x`, of `(…, c)`, for `c` scales and shifts.
    pub(super) fn affine(env: &Env<'_>, x: &Array, scale: Block<R>, shift: Block<R>, relu: bool) -> Self {
        Deferred::new(env, x, Pass::Affine([scale, shift], relu))
    }

    /// `x` where `gate`, of the same shape, is above zero, elsewhere zero.
    pub(super) fn mask(env: &Env<'_>, x: &Array, gate: &Array) -> Self {
        Deferred::new(env, x, Pass::Mask(gate.clone()))
    }

    fn new(env: &Env<'_>, x: &Array, pass: Pass<R>) -> Self {
        Deferred {
            x: x.clone(),
            pass,
            value: OnceLock::new(),
            compute: |d| {
                let env = Env { threads: &d.threads, memory: &d.memory };
                match d.source() {
                    Source::Mapped(Mapped { data, affine }) => {
                        norm::channel_affine(&env, data, &affine.expect("the pass of this array"))
                    }
                    Source::Masked(of, gate) => norm::mask(&env, of, gate),
                }
            },
            threads: env.threads.clone(),
            memory: env.memory.clone(),
        }
    }
}

impl<E: Pooled> Deferred<E> {
    /// The elements, computed at the first call.
    pub(super) fn force(&self) -> &[E] {
        self.value.get_or_init(|| (self.compute)(self))
    }

    fn source(&self) -> Source<'_, E> {
        let data = read(&self.x);
        match &self.pass {
            Pass::Affine([scale, shift], relu) => {
                Source::Mapped(Mapped { data, affine: Some(Affine { scale, shift, relu: *relu }) })
            }
            Pass::Mask(gate) => Source::Masked(data, mapped(gate)),
        }
    }
}

/// The elements of `x`, or what is behind them if they have not been computed yet.
pub(super) fn source<E: Pooled>(x: &Array) -> Source<'_, E> {
    match x.buffer().downcast_ref::<Deferred<E>>() {
        Some(deferred) if deferred.value.get().is_none() => deferred.source(),
        _ => Source::from(read(x)),
    }
}

/// As [`source`], for a kernel that knows no masks.
pub(super) fn mapped<E: Pooled>(x: &Array) -> Mapped<'_, E> {
    match source(x) {
        Source::Mapped(mapped) => mapped,
        Source::Masked(..) => Mapped::from(read(x)),
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::Conv;
    use crate::{Cpu, DType, Device, Key, Random, Recording, Tensor, vjp};

    /// Images, kernel and stride for every way in which a convolution reads its input.
    const SHAPES: [([usize; 4], [usize; 4], usize); 8] = [
        ([8, 8, 8, 32], [3, 3, 32, 32], 1),
        ([4, 7, 6, 32], [3, 3, 32, 48], 2),
        ([2, 5, 5, 24], [1, 1, 24, 20], 1),
        ([2, 6, 6, 24], [1, 1, 24, 40], 2),
        ([3, 4, 4, 128], [3, 3, 128, 128], 2),
        ([2, 9, 9, 16], [5, 3, 16, 8], 1),
        ([9, 8, 8, 1], [3, 3, 1, 32], 1),
        ([3, 12, 12, 3], [3, 3, 3, 40], 2),
    ];

    fn normal(device: &Device, key: Key, shape: &[usize], dtype: DType) -> Tensor {
        let keys: Vec<Key> = (0..shape[0]).map(|row| key.fold(row)).collect();
        Tensor::random(device, Random::Normal, &keys, &shape[1..], dtype)
    }

    #[test]
    fn a_map_applied_on_the_way_gives_the_same_bits_as_one_written_down() {
        let device = Cpu { threads: 2, ..Cpu::default() }.open();
        for dtype in [DType::F32, DType::F64] {
            for (i, (x, w, stride)) in SHAPES.into_iter().enumerate() {
                let draw = |shape: &[usize], name: &str| {
                    normal(&device, Key::new(i as u64).fold(name), shape, dtype)
                };
                let (scale, shift) = (draw(&[x[3]], "scale"), draw(&[x[3]], "shift"));
                let (x, w) = (draw(&x, "x"), draw(&w, "w").requires_grad());
                let conv = Conv { stride, pad: w.shape()[0] / 2, groups: 1 };
                for relu in [false, true] {
                    let affine = || x.channel_affine(&scale, &shift, relu);
                    let written = Tensor::new(&device, *x.shape(), &affine().array().to_f64()).cast(dtype);
                    let results = |map: &dyn Fn() -> Tensor| {
                        let y = map().conv2d(&w, conv);
                        let dy = draw(y.shape(), "dy");
                        let dw = vjp(&y, &dy, &[&w], Recording::Off).remove(0);
                        let sums =
                            [map().add_relu(&x), x.add_relu(&map()), map().add_relu(&map()), x.mask(&map())];
                        [&[y, dw][..], &sums].concat().iter().map(|t| t.array().to_f64()).collect::<Vec<_>>()
                    };
                    assert!(
                        results(&affine) == results(&|| written.clone()),
                        "{:?} {conv:?} {dtype:?}",
                        x.shape()
                    );
                }
            }
        }
    }

    #[test]
    fn a_mask_applied_on_the_way_gives_the_same_bits_as_one_written_down() {
        let device = Cpu { threads: 2, ..Cpu::default() }.open();
        for dtype in [DType::F32, DType::F64] {
            for (i, (x, w, stride)) in SHAPES.into_iter().enumerate() {
                let draw = |shape: &[usize], name: &str| {
                    normal(&device, Key::new(i as u64).fold(name), shape, dtype)
                };
                let (x, w) = (draw(&x, "x").requires_grad(), draw(&w, "w").requires_grad());
                let y = x.conv2d(&w, Conv { stride, pad: w.shape()[0] / 2, groups: 1 });
                let (dy, z) = (draw(y.shape(), "dy"), draw(y.shape(), "z"));
                let c = y.shape()[3];
                let (scale, shift) = (draw(&[c], "scale"), draw(&[c], "shift"));
                for mapped in [false, true] {
                    let gate = || if mapped { z.channel_affine(&scale, &shift, true) } else { z.clone() };
                    let masked = || dy.mask(&gate());
                    let keep = |(d, y): (f64, f64)| if y > 0.0 { d } else { 0.0 };
                    let [values, gates] = [dy.array().to_f64(), gate().array().to_f64()];
                    let wanted: Vec<f64> = values.into_iter().zip(gates).map(keep).collect();
                    let written = Tensor::new(&device, *dy.shape(), &wanted).cast(dtype);
                    let results = |dy: &dyn Fn() -> Tensor| {
                        let adjoints = vjp(&y, &dy(), &[&x, &w], Recording::Off);
                        let sums = [&dy() + &z, dy().add_relu(&z), z.mask(&dy()), dy()];
                        [adjoints, sums.into()]
                            .concat()
                            .iter()
                            .map(|t| t.array().to_f64())
                            .collect::<Vec<_>>()
                    };
                    assert!(results(&masked) == results(&|| written.clone()), "{:?} {dtype:?}", x.shape());
                }
            }
        }
    }
}
