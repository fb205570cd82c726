//! Batch normalisation of `(rows, c)` and per-channel affine maps.

use super::memory::Block;
use super::pointwise::Env;
use super::real::Real;
use crate::backend::Norm;

/// Rows of one piece of the statistics; pieces are combined in order.
const ROWS: usize = 512;

pub(super) struct Stats<R: Real> {
    pub(super) y: Block<R>,
    pub(super) mean: Block<R>,
    pub(super) variance: Block<R>,
}

/// Normalises with the statistics of the batch.
pub(super) fn batch_norm<R: Real>(env: &Env<'_>, x: &[R], weight: &[R], bias: &[R], norm: Norm) -> Stats<R> {
    let c = weight.len();
    let (mean, variance) = moments(env, x, c);
    let mut scale = env.memory.block(c);
    let mut shift = env.memory.block(c);
    for i in 0..c {
        scale[i] = weight[i] * inverse_deviation(variance[i], norm.eps);
        shift[i] = bias[i] - mean[i] * scale[i];
    }
    Stats { y: channel_affine(env, x, &scale, &shift, norm.relu), mean, variance }
}

/// `x·scale + shift`, then ReLU if asked.
pub(super) fn channel_affine<R: Real>(
    env: &Env<'_>,
    x: &[R],
    scale: &[R],
    shift: &[R],
    relu: bool,
) -> Block<R> {
    let c = scale.len();
    env.fill_rows(x.len() / c, c, |first, out| {
        for (out, x) in out.chunks_exact_mut(c).zip(x[first * c..].chunks_exact(c)) {
            for (((y, &x), &scale), &shift) in out.iter_mut().zip(x).zip(scale).zip(shift) {
                let value = x * scale + shift;
                *y = if relu && value < R::ZERO { R::ZERO } else { value };
            }
        }
    })
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
    let c = s.weight.len();
    let rows = s.x.len() / c;
    let mut inverse = env.memory.block(c);
    let mut scale = env.memory.block(c);
    let mut shift = env.memory.block(c);
    for i in 0..c {
        inverse[i] = inverse_deviation(s.variance[i], norm.eps);
        scale[i] = s.weight[i] * inverse[i];
        shift[i] = s.bias[i] - s.mean[i] * scale[i];
    }
    let floor = if norm.relu { R::ZERO } else { R::of(f64::NEG_INFINITY) };
    let gate = Gate { scale: &scale, shift: &shift, mean: s.mean, floor };

    // Σ dy and Σ dy·x̂ for each channel.
    let pieces = rows.div_ceil(ROWS);
    let mut partial = env.memory.block::<R>(pieces * 2 * c);
    env.threads.for_each_chunk(&mut partial, 2 * c, |piece, out| {
        out.fill(R::ZERO);
        let (sum, dot) = out.split_at_mut(c);
        let range = piece * ROWS * c..((piece + 1) * ROWS * c).min(dy.len());
        for (x, dy) in s.x[range.clone()].chunks_exact(c).zip(dy[range].chunks_exact(c)) {
            gate.accumulate(x, dy, sum, dot);
        }
    });
    let mut d_weight = env.memory.block(c);
    let mut d_bias = env.memory.block(c);
    let mut mean_dy = env.memory.block(c);
    let mut along = env.memory.block(c);
    for i in 0..c {
        let at = |offset: usize| (0..pieces).map(|p| partial[p * 2 * c + offset + i].f64()).sum::<f64>();
        let (sum, dot) = (at(0), at(c) * inverse[i].f64());
        d_bias[i] = R::of(sum);
        d_weight[i] = R::of(dot);
        mean_dy[i] = R::of(sum / rows as f64);
        along[i] = R::of(dot / rows as f64 * inverse[i].f64());
    }
    let dx = env.fill_rows(rows, c, |first, out| {
        let range = first * c..first * c + out.len();
        let inputs = s.x[range.clone()].chunks_exact(c).zip(dy[range].chunks_exact(c));
        for (out, (x, dy)) in out.chunks_exact_mut(c).zip(inputs) {
            gate.input(x, dy, &mean_dy, &along, out);
        }
    });
    [dx, d_weight, d_bias]
}

/// The constants of the adjoint. Its loops are methods that take their results as arguments: those overlap with
/// nothing, and the gradient is read whether it passes or not; without either the compiler uses no vectors.
struct Gate<'a, R> {
    scale: &'a [R],
    shift: &'a [R],
    mean: &'a [R],
    /// The gradient passes where the output is above it.
    floor: R,
}

impl<R: Real> Gate<'_, R> {
    /// Adds a row of gradients to `sum`, and their products with the centred inputs to `dot`.
    fn accumulate(&self, x: &[R], dy: &[R], sum: &mut [R], dot: &mut [R]) {
        let c = x.len();
        let (scale, shift, mean) = (&self.scale[..c], &self.shift[..c], &self.mean[..c]);
        let (dy, sum, dot) = (&dy[..c], &mut sum[..c], &mut dot[..c]);
        for i in 0..c {
            let (y, d) = (x[i] * scale[i] + shift[i], dy[i]);
            let d = if y > self.floor { d } else { R::ZERO };
            sum[i] += d;
            dot[i] += d * (x[i] - mean[i]);
        }
    }

    /// A row of the adjoint in the input: `scale · (dy − mean of dy − (x − mean) · along)`.
    fn input(&self, x: &[R], dy: &[R], mean_dy: &[R], along: &[R], out: &mut [R]) {
        let c = x.len();
        let (scale, shift, mean) = (&self.scale[..c], &self.shift[..c], &self.mean[..c]);
        let (dy, mean_dy, along, out) = (&dy[..c], &mean_dy[..c], &along[..c], &mut out[..c]);
        for i in 0..c {
            let (y, d) = (x[i] * scale[i] + shift[i], dy[i]);
            let d = if y > self.floor { d } else { R::ZERO };
            out[i] = scale[i] * (d - mean_dy[i] - (x[i] - mean[i]) * along[i]);
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
        for row in x.chunks_exact(c) {
            for (m, &x) in mean.iter_mut().zip(row) {
                *m += x;
            }
        }
        let scale = R::of(c as f64 / x.len() as f64);
        for m in mean.iter_mut() {
            *m = *m * scale;
        }
        for row in x.chunks_exact(c) {
            for ((s, &m), &x) in spread.iter_mut().zip(mean.iter()).zip(row) {
                *s += (x - m) * (x - m);
            }
        }
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

fn inverse_deviation<R: Real>(variance: R, eps: f64) -> R {
    R::of(1.0 / (variance.f64() + eps).sqrt())
}
