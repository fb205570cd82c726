//! Limited-memory BFGS: minimizes a smooth function of many variables from values and gradients.

use crate::wolfe::{Step, Wolfe};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Settings of L-BFGS.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lbfgs {
    /// Pairs of steps and gradient changes that approximate the curvature.
    pub history: usize,
    /// It stops when the largest entry of the gradient is below this.
    pub tolerance: f64,
    /// The largest number of steps.
    pub max_iterations: usize,
    /// The line search.
    pub wolfe: Wolfe,
}

impl Default for Lbfgs {
    fn default() -> Self {
        Lbfgs { history: 10, tolerance: 1e-5, max_iterations: 1000, wolfe: Wolfe::default() }
    }
}

/// A function of a point `(m)`: its value and its gradient `(m)` there.
pub(crate) type Smooth<'a> = dyn FnMut(&[f64]) -> (f64, Vec<f64>) + 'a;

/// Where [`minimize`] ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Minimum {
    /// The point `(m)`.
    pub point: Vec<f64>,
    /// The value there.
    pub value: f64,
    /// The largest entry of the gradient there.
    pub gradient_norm: f64,
    /// Steps taken.
    pub iterations: usize,
    /// Evaluations of the function.
    pub evaluations: usize,
}

/// Minimizes `f` from `start`.
///
/// Two-loop recursion with the strong Wolfe line search (Nocedal and Wright, algorithms 7.4 and 7.5).
/// It ends where the gradient is below the tolerance, or no step decreases the value any more;
/// [`Minimum::gradient_norm`] tells which.
pub(crate) fn minimize(f: &mut Smooth<'_>, start: Vec<f64>, config: &Lbfgs) -> Minimum {
    let (value, mut gradient) = f(&start);
    let mut min =
        Minimum { point: start, value, gradient_norm: largest(&gradient), iterations: 0, evaluations: 1 };
    let mut history = History { pairs: VecDeque::new(), limit: config.history };
    while min.gradient_norm > config.tolerance && min.iterations < config.max_iterations {
        let mut direction = history.direction(&gradient);
        let mut slope = dot(&direction, &gradient);
        if slope.is_nan() || slope >= 0.0 {
            history.pairs.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = dot(&direction, &gradient);
        }
        let first = if history.pairs.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt() } else { 1.0 };
        let mut seen = (Vec::new(), Vec::new());
        let step = config.wolfe.search(
            &mut |length| {
                let point: Vec<f64> = min.point.iter().zip(&direction).map(|(x, p)| x + length * p).collect();
                let (value, gradient) = f(&point);
                min.evaluations += 1;
                let slope = dot(&gradient, &direction);
                seen = (point, gradient);
                (value, slope)
            },
            Step { length: 0.0, value: min.value, slope },
            first,
        );
        let Some(step) = step else { break };
        let (point, new_gradient) = seen;
        history.push(difference(&point, &min.point), difference(&new_gradient, &gradient));
        gradient = new_gradient;
        min = Minimum {
            point,
            value: step.value,
            gradient_norm: largest(&gradient),
            iterations: min.iterations + 1,
            evaluations: min.evaluations,
        };
    }
    min
}

/// The last steps `s` and gradient changes `y`, newest last.
struct History {
    pairs: VecDeque<(Vec<f64>, Vec<f64>)>,
    limit: usize,
}

impl History {
    fn push(&mut self, s: Vec<f64>, y: Vec<f64>) {
        // The Wolfe conditions make s·y positive; where rounding does not, the pair says nothing.
        if dot(&s, &y) > 0.0 && self.limit > 0 {
            if self.pairs.len() == self.limit {
                self.pairs.pop_front();
            }
            self.pairs.push_back((s, y));
        }
    }

    /// Minus the approximate inverse Hessian times `gradient`.
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut weights = Vec::with_capacity(self.pairs.len());
        for (s, y) in self.pairs.iter().rev() {
            let weight = dot(s, &q) / dot(s, y);
            add_scaled(&mut q, -weight, y);
            weights.push(weight);
        }
        if let Some((s, y)) = self.pairs.back() {
            let scale = dot(s, y) / dot(y, y);
            q.iter_mut().for_each(|v| *v *= scale);
        }
        for ((s, y), weight) in self.pairs.iter().zip(weights.into_iter().rev()) {
            let correction = weight - dot(y, &q) / dot(s, y);
            add_scaled(&mut q, correction, s);
        }
        q
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(x, y)| x - y).collect()
}

fn add_scaled(to: &mut [f64], scale: f64, x: &[f64]) {
    to.iter_mut().zip(x).for_each(|(t, v)| *t += scale * v);
}

/// The largest absolute entry; not a number if any entry is not.
fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |top, v| if v.is_nan() || v.abs() > top { v.abs() } else { top })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_valley_of_rosenbrock() {
        let mut f = |x: &[f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            (a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b])
        };
        let min = minimize(&mut f, vec![-1.2, 1.0], &Lbfgs { tolerance: 1e-9, ..Lbfgs::default() });
        // At a gradient of 1e-9 and a smallest curvature of 0.4 the point is within 2.5e-9 of (1, 1).
        assert!((min.point[0] - 1.0).abs() < 1e-8 && (min.point[1] - 1.0).abs() < 1e-8, "{min:?}");
        assert!(min.gradient_norm <= 1e-9 && min.iterations < 60, "{min:?}");
    }

    #[test]
    fn a_start_at_the_minimum_stays() {
        let min = minimize(&mut |x| (x[0] * x[0], vec![2.0 * x[0]]), vec![0.0], &Lbfgs::default());
        assert_eq!((min.iterations, min.evaluations, min.point), (0, 1, vec![0.0]));
    }

    #[test]
    fn a_gradient_that_is_not_a_number_is_not_a_minimum() {
        let min = minimize(&mut |_| (f64::NAN, vec![f64::NAN]), vec![0.0], &Lbfgs::default());
        assert!(min.gradient_norm.is_nan());
    }

    proptest! {
        /// Σ cᵢ (xᵢ − i)² with curvatures over four decades has its minimum at xᵢ = i.
        #[test]
        fn quadratics_are_solved(log_curvatures in proptest::collection::vec(-2.0f64..2.0, 1..12)) {
            let c: Vec<f64> = log_curvatures.iter().map(|l| 10f64.powf(*l)).collect();
            let mut f = |x: &[f64]| {
                let e: Vec<f64> = x.iter().enumerate().map(|(i, x)| x - i as f64).collect();
                let value = e.iter().zip(&c).map(|(e, c)| c * e * e).sum();
                (value, e.iter().zip(&c).map(|(e, c)| 2.0 * c * e).collect())
            };
            let min = minimize(&mut f, vec![0.0; c.len()], &Lbfgs { tolerance: 1e-8, ..Lbfgs::default() });
            prop_assert!(min.gradient_norm <= 1e-8, "{:?}", min);
            for (i, x) in min.point.iter().enumerate() {
                prop_assert!((x - i as f64).abs() <= 1e-8 / (2.0 * c[i]) + 1e-12);
            }
        }
    }
}
