//! Random points of a ball, uniform in it or on its sphere, from one key per sample.

use crate::threat::ball::Ball;
use crate::threat::rows::{by_rows, per_sample, unit_rows};
use crate::threat::threat_model::Norm;
use tarrl_tensor::{Array, DType, Key, Random, Tensor, math};

impl Ball {
    /// A random point of each ball, from one key per sample, then projected. Uniform in the cube, the
    /// Euclidean ball (a normal direction, a radius that is the d-th root of a uniform number) or the
    /// l1 ball (gaps of sorted uniform numbers with random signs); for l0 uniform values at
    /// random coordinates, as many as the radius says.
    ///
    /// # Panics
    /// If there are not as many keys as samples.
    #[track_caller]
    pub fn start(&self, keys: &[Key]) -> Tensor {
        self.check_keys("start", keys);
        self.project(&(self.center() + &inside(self, keys)))
    }

    /// A random point at distance ε, where the box allows it: uniform numbers scaled to the largest of ε
    /// for l-infinity, a normal direction scaled to ε for l2, projected for l1 (the starts of
    /// Croce & Hein 2020 and 2021). For l0 as [`start`](Ball::start).
    ///
    /// # Panics
    /// If there are not as many keys as samples.
    #[track_caller]
    pub fn start_on_sphere(&self, keys: &[Key]) -> Tensor {
        self.check_keys("start_on_sphere", keys);
        self.project(&(self.center() + &on_sphere(self, keys)))
    }

    #[track_caller]
    fn check_keys(&self, verb: &str, keys: &[Key]) {
        assert_eq!(keys.len(), self.len(), "{verb}: {} keys for {} samples", keys.len(), self.len());
    }
}

/// Displacements `(n, …)` that fill the balls uniformly, the box not considered. See [`Ball::start`].
fn inside(ball: &Ball, keys: &[Key]) -> Tensor {
    let d = ball.width().max(1);
    match ball.threat().norm {
        Norm::Linf => &cube(ball, keys) * &per_sample(ball.center(), ball.radii()),
        Norm::L2 => {
            let radius = |(key, epsilon): (&Key, &f64)| {
                epsilon * math::powf(key.fold("radius").stream().uniform(0.0, 1.0), 1.0 / d as f64)
            };
            let radii: Vec<f64> = keys.iter().zip(ball.radii()).map(radius).collect();
            &directions(ball, keys) * &per_sample(ball.center(), &radii)
        }
        Norm::L1 => on_host(ball, keys, |key, epsilon, _| {
            // Exponential numbers over their sum, one more than there are coordinates, are the gaps
            // of sorted uniform numbers.
            let mut stream = key.stream();
            let mut gaps: Vec<f64> = (0..=d).map(|_| -math::ln(1.0 - stream.uniform(0.0, 1.0))).collect();
            let sum: f64 = gaps.iter().sum();
            gaps.truncate(d);
            gaps.iter_mut()
                .for_each(|gap| *gap *= epsilon / sum * if stream.chance(0.5) { 1.0 } else { -1.0 });
            gaps
        }),
        Norm::L0 => on_host(ball, keys, |key, epsilon, x| {
            let mut stream = key.stream();
            let mut order: Vec<usize> = (0..d).collect();
            let (lo, hi) = ball.bounds();
            let mut change = vec![0.0; d];
            for chosen in 0..(epsilon as usize).min(d) {
                order.swap(chosen, chosen + stream.below(d - chosen));
                change[order[chosen]] = stream.uniform(lo, hi) - x[order[chosen]];
            }
            change
        }),
    }
}

/// Displacements `(n, …)` of length ε, the box not considered. See [`Ball::start_on_sphere`].
fn on_sphere(ball: &Ball, keys: &[Key]) -> Tensor {
    let epsilon = per_sample(ball.center(), ball.radii());
    match ball.threat().norm {
        Norm::Linf => {
            let shape = *ball.center().shape();
            let flat = cube(ball, keys).reshape([ball.len(), ball.width()]);
            let largest = flat.abs().max(1);
            let zero = largest.equal(&largest.zeros_like());
            &(&flat / &(&largest + &zero)).reshape(shape) * &epsilon
        }
        Norm::L2 => &directions(ball, keys) * &epsilon,
        // Projection brings the unit normal numbers to length ε, as long as they are longer.
        Norm::L1 => normal(ball, keys),
        Norm::L0 => inside(ball, keys),
    }
}

/// Uniform numbers in [−1, 1).
fn cube(ball: &Ball, keys: &[Key]) -> Tensor {
    draw(ball, Random::Uniform, keys).mul_scalar(2.0).add_scalar(-1.0)
}

fn normal(ball: &Ball, keys: &[Key]) -> Tensor {
    draw(ball, Random::Normal, keys)
}

fn directions(ball: &Ball, keys: &[Key]) -> Tensor {
    by_rows(&normal(ball, keys), unit_rows)
}

fn draw(ball: &Ball, law: Random, keys: &[Key]) -> Tensor {
    let x = ball.center();
    Tensor::random(x.device(), law, keys, &x.shape()[1..], x.dtype())
}

fn on_host(ball: &Ball, keys: &[Key], row: impl Fn(Key, f64, &[f64]) -> Vec<f64>) -> Tensor {
    let x = ball.center();
    let centers = x.array().to_f64();
    let rows = keys.iter().zip(ball.radii()).enumerate();
    let values: Vec<f64> = rows
        .flat_map(|(i, (&key, &epsilon))| row(key, epsilon, &centers[i * ball.width()..][..ball.width()]))
        .collect();
    let array = Array::new(x.device(), *x.shape(), &values);
    Tensor::from(if x.dtype() == DType::F64 { array } else { array.cast(x.dtype()) })
}
