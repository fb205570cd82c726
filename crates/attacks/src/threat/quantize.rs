//! Quantization: points moved to equally spaced levels without leaving their balls.

use crate::threat::directed_rounding::{Real, farther};
use crate::threat::projection::surely_inside;
use crate::threat::threat_model::Norm;
use tarrl_tensor::Tensor;

/// The values `lo + (hi − lo) k / steps`, as the element type rounds them.
pub(crate) struct Levels {
    pub(crate) norm: Norm,
    pub(crate) lo: f64,
    pub(crate) hi: f64,
    pub(crate) steps: f64,
}

impl Levels {
    /// Points `u` `(n, …)` in the balls of `radii` around `x`, moved to levels inside; see
    /// [`Ball::snap`](crate::Ball::snap).
    pub(crate) fn snap<R: Real>(&self, u: &Tensor, x: &[f64], radii: &[f64]) -> Tensor {
        let mut points = u.to_vec::<R>();
        let width = (points.len() / radii.len().max(1)).max(1);
        for ((point, x), &radius) in points.chunks_mut(width).zip(x.chunks(width)).zip(radii) {
            let wanted: Vec<f64> = point.iter().map(|v| v.wide()).collect();
            // Towards the center first: inside whatever the norm.
            for ((v, &wanted), &x) in point.iter_mut().zip(&wanted).zip(x) {
                *v = self.inward(wanted, x);
            }
            self.spend(point, &wanted, x, radius);
        }
        Tensor::new(u.device(), *u.shape(), &points)
    }

    /// Moves coordinates outward by one level where that is nearer to what was wanted, the largest
    /// losses first, as long as the ball allows.
    fn spend<R: Real>(&self, point: &mut [R], wanted: &[f64], x: &[f64], radius: f64) {
        let mut losses: Vec<(usize, R, f64)> = Vec::new();
        for (i, &wanted) in wanted.iter().enumerate() {
            let v = point[i].wide();
            let next: R = self.outward(wanted, x[i]);
            let saved = (wanted - v).abs() - (next.wide() - wanted).abs();
            if wanted != x[i] && saved > 0.0 {
                losses.push((i, next, saved));
            }
        }
        losses.sort_unstable_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
        let mut change: Vec<f64> = point.iter().zip(x).map(|(v, x)| v.wide() - x).collect();
        let (size, most): (fn(f64) -> f64, f64) = match self.norm {
            Norm::L2 => (|v| v * v, radius * radius),
            _ => (f64::abs, radius),
        };
        let mut sum: f64 = change.iter().copied().map(size).sum();
        for (i, next, _) in losses {
            let before = std::mem::replace(&mut change[i], next.wide() - x[i]);
            let longer = sum + size(change[i]) - size(before);
            let inside = match self.norm {
                Norm::Linf => !farther(next.wide(), x[i], radius) && !farther(x[i], next.wide(), radius),
                // A coordinate that moves already.
                Norm::L0 => true,
                // The running sum is good to some 1e-10; nearer to the radius all terms are added anew.
                _ if (longer - most).abs() > 1e-9 * most => longer < most,
                _ => surely_inside(self.norm, &change, radius),
            };
            if inside {
                (point[i], sum) = (next, longer);
            } else {
                change[i] = before;
            }
        }
    }

    /// The level nearest to `wanted` between it and `x`, or `x` if there is none.
    fn inward<R: Real>(&self, wanted: f64, x: f64) -> R {
        let up = wanted >= x;
        let position = (wanted - self.lo) / (self.hi - self.lo) * self.steps;
        // The quotient may be a rounding off: try one level farther on both sides.
        let candidates =
            (-1..=1).map(|k| self.level::<R>((position.round() + f64::from(k)).clamp(0.0, self.steps)));
        let between = candidates.filter(|v| {
            let v = v.wide();
            if up { (x..=wanted).contains(&v) } else { (wanted..=x).contains(&v) }
        });
        between
            .min_by(|a, b| (a.wide() - wanted).abs().total_cmp(&(b.wide() - wanted).abs()))
            .unwrap_or_else(|| R::nearest(x))
    }

    /// The level nearest to `wanted` on the side away from `x`; the last level if there is none.
    fn outward<R: Real>(&self, wanted: f64, x: f64) -> R {
        let position = (wanted - self.lo) / (self.hi - self.lo) * self.steps;
        let k = if wanted >= x { position.ceil() } else { position.floor() };
        self.level(k.clamp(0.0, self.steps))
    }

    fn level<R: Real>(&self, k: f64) -> R {
        R::nearest(self.lo + (self.hi - self.lo) * (k / self.steps))
    }
}
