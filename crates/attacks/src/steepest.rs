//! Directions of ascent.

use crate::ball::Ball;
use crate::round::Real;
use crate::threat::Norm;
use tarrl_tensor::{DType, Tensor};

/// The share of coordinates that an l1 step moves.
pub(crate) const SHARE: f64 = 0.01;

/// The unit step of a norm along a gradient `(n, …)`, for l1 and l0 the gradient over its largest element;
/// see [`Ball::step`].
pub(crate) fn dense(norm: Norm, gradient: &Tensor) -> Tensor {
    match norm {
        Norm::Linf => gradient.sign(),
        Norm::L2 => by_rows(gradient, unit_rows),
        Norm::L1 | Norm::L0 => by_rows(gradient, |rows| {
            let largest = rows.abs().max(1);
            rows / &(&largest + &largest.equal(&largest.zeros_like()))
        }),
    }
}

/// `u` moved by sizes `(n)` along the sign of the gradient at the [`SHARE`] of the coordinates with the
/// largest ones, ties included, each by `size / count`. Coordinates at the box whose gradient points
/// outside do not count.
pub(crate) fn sparse<R: Real>(ball: &Ball, u: &Tensor, gradient: &Tensor, sizes: &[f64]) -> Tensor {
    let (lo, hi) = ball.bounds();
    let width = ball.width().max(1);
    let mut scratch = ball.scratch.lock();
    let ([points, slopes], (order, _)) = R::room(&mut scratch);
    u.array().read_into(points);
    gradient.array().read_into(slopes);
    let count = ((SHARE * width as f64).ceil() as usize).clamp(1, width);
    for ((point, slopes), &size) in points.chunks_mut(width).zip(slopes.chunks(width)).zip(sizes) {
        let free = |v: &R, g: &R| {
            let (v, g) = (v.wide(), g.wide());
            if (v >= hi && g > 0.0) || (v <= lo && g < 0.0) { 0.0 } else { g }
        };
        order.clear();
        order.extend(point.iter().zip(slopes.iter()).map(|(v, g)| free(v, g).abs()));
        let (_, least, _) = order.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        let least = *least;
        let chosen = |g: f64| g != 0.0 && g.abs() >= least;
        let moved = point.iter().zip(slopes.iter()).filter(|(v, g)| chosen(free(v, g))).count();
        for (v, g) in point.iter_mut().zip(slopes.iter()) {
            let g = free(v, g);
            if chosen(g) {
                *v = R::nearest(v.wide() + g.signum() * size / moved as f64);
            }
        }
    }
    Tensor::new(u.device(), *u.shape(), points)
}

/// `(n, 1, …)`: a number for each sample of a batch `(n, …)`, to be broadcast over its coordinates.
pub(crate) fn per_sample(like: &Tensor, values: &[f64]) -> Tensor {
    let extents: Vec<usize> =
        (0..like.shape().rank()).map(|axis| if axis == 0 { values.len() } else { 1 }).collect();
    // One number need not be brought from the host.
    if let Some((first, rest)) = values.split_first()
        && rest.iter().all(|value| value.to_bits() == first.to_bits())
    {
        return Tensor::full(like.device(), &extents[..], DType::F64, *first).cast(like.dtype());
    }
    Tensor::new(like.device(), &extents[..], values).cast(like.dtype())
}

/// Applies `f` to the batch as rows `(n, d)`.
pub(crate) fn by_rows(batch: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let shape = *batch.shape();
    let width: usize = shape[1..].iter().product();
    f(&batch.reshape([shape[0], width])).reshape(shape)
}

/// Rows divided by their length, zero rows left: first by their largest element, so that squares
/// neither vanish nor overflow.
pub(crate) fn unit_rows(rows: &Tensor) -> Tensor {
    let largest = rows.abs().max(1);
    let zero = largest.equal(&largest.zeros_like());
    let scaled = rows / &(&largest + &zero);
    &scaled / &(&scaled.norm(1) + &zero)
}
