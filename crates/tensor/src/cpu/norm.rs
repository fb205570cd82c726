//! Batch normalization of `(rows, c)` and per-channel affine maps.

use super::deferred::{Affine, Mapped};
use super::memory::{Block, Pooled};
use super::pointwise::Env;
use super::real::Real;
use super::wide::wide;
use crate::backend::Norm;
use std::ops::{Add, Mul};

/// Rows of one piece of the statistics; pieces are combined in order.
const ROWS: usize = 512;

/// Maps of fewer channels are too short for the loops of a row.
pub(super) const NARROW: usize = 16;

/// What the statistics of a batch make of a batch norm.
pub(super) struct Stats<R: Real> {
    pub(super) scale: Block<R>,
    pub(super) shift: Block<R>,
    pub(super) mean: Block<R>,
    pub(super) variance: Block<R>,
}

/// The map that normalizes with the statistics of the batch.
pub(super) fn batch_norm<R: Real>(env: &Env<'_>, x: &[R], weight: &[R], bias: &[R], norm: Norm) -> Stats<R> {
    let c = weight.len();
    let (mean, variance) = moments(env, x, c);
    let mut scale = env.memory.block(c);
    let mut shift = env.memory.block(c);
    for i in 0..c {
        scale[i] = weight[i] * inverse_deviation(variance[i], norm.eps);
        shift[i] = bias[i] - mean[i] * scale[i];
    }
    Stats { scale, shift, mean, variance }
}

/// A map of all pixels of `x`.
pub(super) fn channel_affine<R: Real>(env: &Env<'_>, x: &[R], affine: &Affine<'_, R>) -> Block<R> {
    let c = affine.scale.len();
    env.fill_rows(x.len() / c, c, |first, out| apply(affine, &x[first * c..][..out.len()], out))
}

/// What [`apply`] computes with.
pub(super) trait Scalar: Pooled + PartialOrd + Add<Output = Self> + Mul<Output = Self> {}

impl<T: Pooled + PartialOrd + Add<Output = T> + Mul<Output = T>> Scalar for T {}

/// Channels that are taken together through all pixels, their constants in registers.
const LINE: usize = 16;

/// `each(y, x, scale, shift)` on all elements of some whole pixels, few enough for the first-level cache.
#[inline(always)]
fn by_channel<R: Copy>(affine: &Affine<'_, R>, x: &[R], y: &mut [R], each: impl Fn(&mut R, R, R, R)) {
    let c = affine.scale.len();
    let (scales, rest) = affine.scale.as_chunks::<LINE>();
    let (shifts, _) = affine.shift.as_chunks::<LINE>();
    for (i, (&scale, &shift)) in scales.iter().zip(shifts).enumerate() {
        let channels = i * LINE..(i + 1) * LINE;
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            let (y, x) = (&mut y[channels.clone()], &x[channels.clone()]);
            for k in 0..LINE {
                each(&mut y[k], x[k], scale[k], shift[k]);
            }
        }
    }
    if !rest.is_empty() {
        let first = c - rest.len();
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for k in first..c {
                each(&mut y[k], x[k], affine.scale[k], affine.shift[k]);
            }
        }
    }
}

wide! {
    /// A map of some whole pixels.
    pub(super) fn apply<R: Scalar>(affine: &Affine<'_, R>, from: &[R], to: &mut [R]) {
        if affine.relu {
            by_channel(affine, from, to, |y, x, a, b| *y = positive(x * a + b));
        } else {
            by_channel(affine, from, to, |y, x, a, b| *y = x * a + b);
        }
    }
}

/// `max(a + b, 0)`
pub(super) fn add_relu<R: Real>(env: &Env<'_>, a: Mapped<'_, R>, b: Mapped<'_, R>) -> Block<R> {
    match (a.affine, b.affine) {
        (None, None) => {
            env.fill(a.data.len(), |start, out| add_relu_plain(&a.data[start..], &b.data[start..], out))
        }
        (None, Some(_)) => add_relu(env, b, a),
        (Some(ref affine), _) => {
            let c = affine.scale.len();
            env.fill_rows(a.data.len() / c, c, |first, out| {
                let range = first * c..first * c + out.len();
                match &b.affine {
                    None => out.copy_from_slice(&b.data[range.clone()]),
                    Some(other) => apply(other, &b.data[range.clone()], out),
                }
                add_relu_onto(affine, &a.data[range], out);
            })
        }
    }
}

wide! {
    fn add_relu_plain<R: Real>(a: &[R], b: &[R], out: &mut [R]) {
        out.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (&a, &b))| *y = positive(a + b));
    }
}

wide! {
    fn add_relu_onto<R: Real>(affine: &Affine<'_, R>, x: &[R], out: &mut [R]) {
        let c = affine.scale.len();
        // What a ReLU cuts off is cut off before the sum.
        let floor = if affine.relu { R::ZERO } else { R::of(f64::NEG_INFINITY) };
        for (out, x) in out.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            let values = x.iter().zip(affine.scale).zip(affine.shift).map(|((&x, &a), &b)| x * a + b);
            for (y, v) in out.iter_mut().zip(values) {
                *y = positive(if v < floor { floor } else { v } + *y);
            }
        }
    }
}

/// `dy` where `y` is positive, else zero.
pub(super) fn mask<R: Real>(env: &Env<'_>, dy: &[R], y: Mapped<'_, R>) -> Block<R> {
    let c = y.affine.as_ref().map_or(1, |affine| affine.scale.len());
    env.fill_rows(dy.len() / c, c, |first, out| {
        let range = first * c..first * c + out.len();
        mask_rows(&dy[range.clone()], &y.slice(range), out);
    })
}

/// The same of some whole pixels.
#[inline(always)]
pub(super) fn mask_rows<R: Scalar>(dy: &[R], y: &Mapped<'_, R>, out: &mut [R]) {
    match &y.affine {
        None => mask_plain(dy, y.data, out),
        Some(affine) => mask_affine(affine, dy, y.data, out),
    }
}

wide! {
    fn mask_plain<R: Scalar>(dy: &[R], y: &[R], out: &mut [R]) {
        let zero = R::default();
        out.iter_mut().zip(dy.iter().zip(y)).for_each(|(to, (&d, &y))| *to = if y > zero { d } else { zero });
    }
}

wide! {
    fn mask_affine<R: Scalar>(affine: &Affine<'_, R>, dy: &[R], x: &[R], out: &mut [R]) {
        out.copy_from_slice(dy);
        let zero = R::default();
        by_channel(affine, x, out, |d, x, a, b| *d = if x * a + b > zero { *d } else { zero });
    }
}

/// `a + b` where `y` is positive, else zero.
pub(super) fn add_mask<R: Real>(env: &Env<'_>, a: &[R], b: &[R], y: &[R]) -> Block<R> {
    env.fill(a.len(), |start, out| add_mask_plain(&a[start..], &b[start..], &y[start..], out))
}

wide! {
    fn add_mask_plain<R: Real>(a: &[R], b: &[R], y: &[R], out: &mut [R]) {
        for (to, ((&a, &b), &y)) in out.iter_mut().zip(a.iter().zip(b).zip(y)) {
            *to = if y > R::ZERO { a + b } else { R::ZERO };
        }
    }
}

/// Not `max`: a NaN must stay one.
#[inline(always)]
fn positive<R: Pooled + PartialOrd>(x: R) -> R {
    if x < R::default() { R::default() } else { x }
}

/// What the adjoint needs of the forward pass.
pub(super) struct Saved<'a, R> {
    pub(super) x: &'a [R],
    pub(super) weight: &'a [R],
    pub(super) bias: &'a [R],
    pub(super) mean: &'a [R],
    pub(super) variance: &'a [R],
}

/// The adjoints in the input, the weight and the bias.
pub(super) fn batch_norm_adjoint<R: Real>(
    env: &Env<'_>,
    s: &Saved<'_, R>,
    dy: &[R],
    norm: Norm,
) -> [Block<R>; 3] {
    let constants = Constants::new(env, s, norm.eps);
    let gate = constants.gate(s, norm.relu);
    let c = s.weight.len();
    let mut partial = env.memory.block(dy.len().div_ceil(ROWS * c) * 2 * c);
    env.threads.for_each_chunk(&mut partial, 2 * c, |piece, sums| {
        let range = piece * ROWS * c..((piece + 1) * ROWS * c).min(dy.len());
        accumulate(&gate, &s.x[range.clone()], &dy[range], sums);
    });
    finish(env, s, &gate, &constants.inverse, &partial, dy)
}

/// The adjoints of `max(batch_norm(x) + skip, 0)` in the input, the weight, the bias and what was added, from its value
/// `y`, for the gradient `dy`, or `dy + more`.
pub(super) fn batch_norm_add_relu_adjoint<R: Real>(
    env: &Env<'_>,
    s: &Saved<'_, R>,
    y: &[R],
    dy: &[R],
    more: Option<&[R]>,
    eps: f64,
) -> [Block<R>; 4] {
    let constants = Constants::new(env, s, eps);
    let gate = constants.gate(s, false);
    let c = s.weight.len();
    let mut partial = env.memory.block(dy.len().div_ceil(ROWS * c) * 2 * c);
    let mut masked = env.memory.block(dy.len());
    let pieces = partial.chunks_exact_mut(2 * c).zip(masked.chunks_mut(ROWS * c)).enumerate();
    env.threads.for_each_item(pieces, |(piece, (sums, dz))| {
        let start = piece * ROWS * c;
        let [x, y, dy] = [s.x, y, dy].map(|all| &all[start..start + dz.len()]);
        match more {
            None => mask_plain(dy, y, dz),
            Some(more) => add_mask_plain(dy, &more[start..], y, dz),
        }
        accumulate(&gate, x, dz, sums);
    });
    let [dx, d_weight, d_bias] = finish(env, s, &gate, &constants.inverse, &partial, &masked);
    [dx, d_weight, d_bias, masked]
}

/// The adjoints from the sums `Σ dy` and `Σ dy·(x − mean)` of each channel in each piece.
fn finish<R: Real>(
    env: &Env<'_>,
    s: &Saved<'_, R>,
    gate: &Gate<'_, R>,
    inverse: &[R],
    partial: &[R],
    dy: &[R],
) -> [Block<R>; 3] {
    let c = s.weight.len();
    let rows = dy.len() / c;
    let mut d_weight = env.memory.block(c);
    let mut d_bias = env.memory.block(c);
    let mut mean_dy = env.memory.block(c);
    let mut along = env.memory.block(c);
    for i in 0..c {
        let at = |offset: usize| partial.chunks_exact(2 * c).map(|sums| sums[offset + i].f64()).sum::<f64>();
        let (sum, dot) = (at(0), at(c) * inverse[i].f64());
        d_bias[i] = R::of(sum);
        d_weight[i] = R::of(dot);
        mean_dy[i] = R::of(sum / rows as f64);
        along[i] = R::of(dot / rows as f64 * inverse[i].f64());
    }
    let dx = env.fill_rows(rows, c, |first, out| {
        let range = first * c..first * c + out.len();
        input(gate, &s.x[range.clone()], &dy[range], [&mean_dy, &along], out);
    });
    [dx, d_weight, d_bias]
}

/// What the forward pass computed with.
struct Constants<R: Real> {
    inverse: Block<R>,
    scale: Block<R>,
    shift: Block<R>,
}

impl<R: Real> Constants<R> {
    fn new(env: &Env<'_>, s: &Saved<'_, R>, eps: f64) -> Self {
        let c = s.weight.len();
        let [inverse, scale, shift] = [(); 3].map(|()| env.memory.block(c));
        let mut constants = Constants { inverse, scale, shift };
        for i in 0..c {
            constants.inverse[i] = inverse_deviation(s.variance[i], eps);
            constants.scale[i] = s.weight[i] * constants.inverse[i];
            constants.shift[i] = s.bias[i] - s.mean[i] * constants.scale[i];
        }
        constants
    }

    fn gate<'a>(&'a self, s: &Saved<'a, R>, relu: bool) -> Gate<'a, R> {
        let floor = if relu { R::ZERO } else { R::of(f64::NEG_INFINITY) };
        Gate { scale: &self.scale, shift: &self.shift, mean: s.mean, floor }
    }
}

/// The constants of the adjoint.
struct Gate<'a, R> {
    scale: &'a [R],
    shift: &'a [R],
    mean: &'a [R],
    /// The gradient passes where the output is above it.
    floor: R,
}

impl<R: Real> Gate<'_, R> {
    /// The same with slices of a length that the compiler sees.
    #[inline(always)]
    fn of(&self, c: usize) -> Self {
        Gate { scale: &self.scale[..c], shift: &self.shift[..c], mean: &self.mean[..c], floor: self.floor }
    }

    /// The gradient where it passes. It is read in any case; else the compiler uses no vectors.
    #[inline(always)]
    fn pass(&self, i: usize, x: R, d: R) -> R {
        if x * self.scale[i] + self.shift[i] > self.floor { d } else { R::ZERO }
    }
}

wide! {
    /// The sums of rows of gradients, then those of their products with the centered inputs.
    fn accumulate<R: Real>(gate: &Gate<'_, R>, x: &[R], dy: &[R], sums: &mut [R]) {
        sums.fill(R::ZERO);
        let c = gate.scale.len();
        let gate = gate.of(c);
        let (sum, dot) = sums.split_at_mut(c);
        let sum = &mut sum[..c];
        let dot = &mut dot[..c];
        for (x, dy) in x.chunks_exact(c).zip(dy.chunks_exact(c)) {
            for i in 0..c {
                let d = gate.pass(i, x[i], dy[i]);
                sum[i] += d;
                dot[i] += d * (x[i] - gate.mean[i]);
            }
        }
    }
}

wide! {
    /// Rows of the adjoint in the input: `scale · (dy − mean of dy − (x − mean) · along)`.
    fn input<R: Real>(gate: &Gate<'_, R>, x: &[R], dy: &[R], constants: [&[R]; 2], out: &mut [R]) {
        let c = gate.scale.len();
        let gate = gate.of(c);
        let [mean_dy, along] = constants.map(|constant| &constant[..c]);
        for (out, (x, dy)) in out.chunks_exact_mut(c).zip(x.chunks_exact(c).zip(dy.chunks_exact(c))) {
            for i in 0..c {
                let d = gate.pass(i, x[i], dy[i]);
                out[i] = gate.scale[i] * (d - mean_dy[i] - (x[i] - gate.mean[i]) * along[i]);
            }
        }
    }
}

/// Mean and biased variance of each channel: each piece about its own mean, pieces combined in order
/// (Chan, Golub & LeVeque 1983).
fn moments<R: Real>(env: &Env<'_>, x: &[R], c: usize) -> (Block<R>, Block<R>) {
    let rows = x.len() / c;
    let pieces = rows.div_ceil(ROWS);
    let mut partial = env.memory.block::<R>(pieces * 2 * c);
    env.threads.for_each_chunk(&mut partial, 2 * c, |piece, out| {
        out.fill(R::ZERO);
        let (mean, spread) = out.split_at_mut(c);
        let x = &x[piece * ROWS * c..((piece + 1) * ROWS * c).min(x.len())];
        add_rows(x, mean);
        let scale = R::of(c as f64 / x.len() as f64);
        for m in mean.iter_mut() {
            *m = *m * scale;
        }
        add_squares(x, mean, spread);
    });
    let mut mean = env.memory.block(c);
    let mut variance = env.memory.block(c);
    for i in 0..c {
        let (mut count, mut m, mut spread) = (0.0, 0.0, 0.0);
        for piece in 0..pieces {
            let n = ROWS.min(rows - piece * ROWS) as f64;
            let delta = partial[piece * 2 * c + i].f64() - m;
            let total = count + n;
            m += delta * n / total;
            spread += partial[piece * 2 * c + c + i].f64() + delta * delta * count * n / total;
            count = total;
        }
        mean[i] = R::of(m);
        variance[i] = R::of(spread / count);
    }
    (mean, variance)
}

wide! {
    /// Adds all rows of `x` to `sums`, four at a time, so that a sum waits for the one before it a quarter as often.
    fn add_rows<R: Real>(x: &[R], sums: &mut [R]) {
        let c = sums.len();
        let four = x.chunks_exact(4 * c);
        for row in four.remainder().chunks_exact(c) {
            sums.iter_mut().zip(row).for_each(|(s, &x)| *s += x);
        }
        for rows in four {
            let (ab, de) = rows.split_at(2 * c);
            let ((a, b), (d, e)) = (ab.split_at(c), de.split_at(c));
            for ((((s, &a), &b), &d), &e) in sums.iter_mut().zip(a).zip(b).zip(d).zip(e) {
                *s += (a + b) + (d + e);
            }
        }
    }
}

wide! {
    /// Adds the squared distances of all rows of `x` from `mean`, four rows at a time.
    fn add_squares<R: Real>(x: &[R], mean: &[R], sums: &mut [R]) {
        let c = sums.len();
        let square = |x: R, m: R| (x - m) * (x - m);
        let four = x.chunks_exact(4 * c);
        for row in four.remainder().chunks_exact(c) {
            sums.iter_mut().zip(mean).zip(row).for_each(|((s, &m), &x)| *s += square(x, m));
        }
        for rows in four {
            let (ab, de) = rows.split_at(2 * c);
            let ((a, b), (d, e)) = (ab.split_at(c), de.split_at(c));
            for (((((s, &m), &a), &b), &d), &e) in sums.iter_mut().zip(mean).zip(a).zip(b).zip(d).zip(e) {
                *s += (square(a, m) + square(b, m)) + (square(d, m) + square(e, m));
            }
        }
    }
}

fn inverse_deviation<R: Real>(variance: R, eps: f64) -> R {
    R::of(1.0 / (variance.f64() + eps).sqrt())
}
