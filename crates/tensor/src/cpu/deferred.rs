//! Per-channel affine maps that nobody has asked for yet.
//!
//! A batch norm, folded or not, is followed by a convolution almost everywhere. The convolution copies its input anyway,
//! to put a border around it, and applies scale, shift and ReLU to the copy; so the normalised map is neither written nor
//! kept. A kernel that does not know of this asks for the elements as always and gets them, computed once, with the same
//! bits.

use super::memory::{Block, Memory, Pooled, read};
use super::norm::channel_affine;
use super::pointwise::Env;
use super::real::Real;
use super::threads::Threads;
use crate::array::Array;
use std::sync::{Arc, OnceLock};

/// The map `x·scale + shift` with one scale and shift for each channel, then ReLU if set.
pub(crate) struct Affine<'a, T> {
    pub(crate) scale: &'a [T],
    pub(crate) shift: &'a [T],
    pub(crate) relu: bool,
}

impl<T> Clone for Affine<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Affine<'_, T> {}

/// An array as the convolutions read it: its elements, or the elements behind a map that is still to be applied.
pub(crate) struct Source<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) affine: Option<Affine<'a, T>>,
}

impl<T> Clone for Source<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Source<'_, T> {}

impl<'a, T> Source<'a, T> {
    /// The elements of `range`, which begins at the first channel of a pixel.
    pub(crate) fn slice(&self, range: std::ops::Range<usize>) -> Source<'a, T> {
        Source { data: &self.data[range], ..*self }
    }
}

impl<'a, T> From<&'a [T]> for Source<'a, T> {
    fn from(data: &'a [T]) -> Self {
        Source { data, affine: None }
    }
}

/// Memory of an array whose elements are computed when they are asked for.
pub(super) struct Deferred<E: Pooled> {
    x: Array,
    scale: Block<E>,
    shift: Block<E>,
    relu: bool,
    value: OnceLock<Block<E>>,
    compute: fn(&Deferred<E>) -> Block<E>,
    threads: Arc<Threads>,
    memory: Arc<Memory>,
}

impl<R: Real> Deferred<R> {
    /// The map of `x`, of `(…, c)`, for `c` scales and shifts.
    pub(super) fn new(env: &Env<'_>, x: &Array, scale: Block<R>, shift: Block<R>, relu: bool) -> Self {
        Deferred {
            x: x.clone(),
            scale,
            shift,
            relu,
            value: OnceLock::new(),
            compute: |d| {
                let env = Env { threads: &d.threads, memory: &d.memory };
                channel_affine(&env, read(&d.x), &d.affine())
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

    fn affine(&self) -> Affine<'_, E> {
        Affine { scale: &self.scale, shift: &self.shift, relu: self.relu }
    }
}

/// The elements of `x`, or the map behind them if they have not been computed yet.
pub(super) fn source<E: Pooled>(x: &Array) -> Source<'_, E> {
    match x.buffer().downcast_ref::<Deferred<E>>() {
        Some(deferred) if deferred.value.get().is_none() => {
            Source { data: read(&deferred.x), affine: Some(deferred.affine()) }
        }
        _ => Source::from(read(x)),
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::Conv;
    use crate::{Cpu, DType, Key, Random, Recording, Tensor, pull_back};

    /// Images, kernel and stride for every way in which a convolution reads its input.
    const SHAPES: [([usize; 4], [usize; 4], usize); 6] = [
        ([8, 8, 8, 32], [3, 3, 32, 32], 1),
        ([4, 7, 6, 32], [3, 3, 32, 48], 2),
        ([2, 5, 5, 24], [1, 1, 24, 20], 1),
        ([2, 6, 6, 24], [1, 1, 24, 40], 2),
        ([3, 4, 4, 128], [3, 3, 128, 128], 2),
        ([2, 9, 9, 16], [5, 3, 16, 8], 1),
    ];

    #[test]
    fn a_map_applied_on_the_way_gives_the_same_bits_as_one_written_down() {
        let device = Cpu { threads: 2, ..Cpu::default() }.open();
        for dtype in [DType::F32, DType::F64] {
            for (i, (x, w, stride)) in SHAPES.into_iter().enumerate() {
                let draw = |shape: &[usize], name: &str| {
                    let keys: Vec<Key> =
                        (0..shape[0]).map(|row| Key::new(i as u64).fold(name).fold(row)).collect();
                    Tensor::random(&device, Random::Normal, &keys, &shape[1..], dtype)
                };
                let (scale, shift) = (draw(&[x[3]], "scale"), draw(&[x[3]], "shift"));
                let (x, w) = (draw(&x, "x"), draw(&w, "w").tracked());
                let conv = Conv { stride, pad: w.shape()[0] / 2, groups: 1 };
                for relu in [false, true] {
                    let affine = || x.channel_affine(&scale, &shift, relu);
                    let written = Tensor::new(&device, *x.shape(), &affine().array().to_f64()).cast(dtype);
                    let results = |map: &dyn Fn() -> Tensor| {
                        let y = map().conv2d(&w, conv);
                        let dy = draw(y.shape(), "dy");
                        let dw = pull_back(&y, &dy, &[&w], Recording::Off).remove(0);
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
}
