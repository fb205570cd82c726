//! Steepest ascent in each norm: the direction that raises a linear function most for its length.

use crate::threat::ball::{Ball, representable};
use crate::threat::directed_rounding::Real;
use crate::threat::rows::{by_rows, per_sample, unit_rows};
use crate::threat::threat_model::Norm;
use tarrl_tensor::{DType, Tensor};

/// The share of coordinates that an l1 step moves.
const SHARE: f64 = 0.01;

impl Ball {
    /// A move of length `size` from `u` along the direction of steepest ascent of the ball's norm. Not
    /// projected.
    ///
    /// - l-infinity: the sign of the gradient; l2: the unit gradient.
    /// - l1: equal moves of the one per cent of the coordinates with the largest gradients, at least one,
    ///   of those that the box does not block (Tramèr & Boneh 2019). The direction of steepest ascent, one
    ///   coordinate, needs too many steps.
    /// - l0: the gradient scaled to a largest element of one, so that `size` is that of the largest
    ///   move of a coordinate; projection chooses the coordinates.
    ///
    /// A sample whose gradient is zero stays.
    #[track_caller]
    pub fn step(&self, u: &Tensor, gradient: &Tensor, size: f64) -> Tensor {
        match self.threat().norm {
            Norm::L1 => self.sparse_step(u, gradient, &vec![size; self.len()]),
            norm => u + &dense(norm, gradient).mul_scalar(size),
        }
    }

    /// The same with a size for each sample.
    ///
    /// # Panics
    /// If there are not as many sizes as samples.
    #[track_caller]
    pub fn step_each(&self, u: &Tensor, gradient: &Tensor, sizes: &[f64]) -> Tensor {
        assert_eq!(sizes.len(), self.len(), "step: {} sizes for {} samples", sizes.len(), self.len());
        match self.threat().norm {
            Norm::L1 => self.sparse_step(u, gradient, sizes),
            norm => u + &(&dense(norm, gradient) * &per_sample(u, sizes)),
        }
    }

    /// The gradient at the points `u` without the coordinates that the box blocks: those at a face of it along
    /// which the gradient points outside. They belong neither to a step nor to its length.
    pub(crate) fn unblocked(&self, u: &Tensor, gradient: &Tensor) -> Tensor {
        if self.threat().bounds.is_none() {
            return gradient.clone();
        }
        let (lo, hi) = representable(self.bounds(), u.dtype());
        let zero = gradient.zeros_like();
        let not = |mask: &Tensor| mask.neg().add_scalar(1.0);
        let up = &gradient.greater(&zero) * &not(&zero.add_scalar(hi).greater(u));
        let down = &zero.greater(gradient) * &not(&u.greater(&zero.add_scalar(lo)));
        up.maximum(&down).select(&zero, gradient)
    }

    fn sparse_step(&self, u: &Tensor, gradient: &Tensor, sizes: &[f64]) -> Tensor {
        match u.dtype() {
            DType::F64 => sparse::<f64>(self, u, gradient, sizes),
            _ => sparse::<f32>(self, u, gradient, sizes),
        }
    }
}

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
fn sparse<R: Real>(ball: &Ball, u: &Tensor, gradient: &Tensor, sizes: &[f64]) -> Tensor {
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
