//! Line search: a step that satisfies the strong Wolfe conditions.

use serde::{Deserialize, Serialize};

/// The conditions that a step `a` along a descent direction must meet, for `φ(a) = f(x + a·p)`:
/// `φ(a) ≤ φ(0) + decrease·a·φ′(0)` and `|φ′(a)| ≤ curvature·|φ′(0)|`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wolfe {
    /// Share of the linear decrease that is demanded.
    pub decrease: f64,
    /// Share of the slope that may remain.
    pub curvature: f64,
    /// Evaluations of `φ` after which the search gives up.
    pub max_evaluations: usize,
}

impl Default for Wolfe {
    fn default() -> Self {
        Wolfe { decrease: 1e-4, curvature: 0.9, max_evaluations: 40 }
    }
}

/// A point of the line: the step, the value and the slope there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Distance from the start, in lengths of the direction.
    pub length: f64,
    /// `φ(length)`.
    pub value: f64,
    /// `φ′(length)`.
    pub slope: f64,
}

impl Wolfe {
    /// Whether `step` satisfies both conditions against `start`, up to the rounding of the values.
    pub fn accepts(&self, start: &Step, step: &Step) -> bool {
        self.decreases(start, step) && step.slope.abs() <= self.curvature * start.slope.abs()
    }

    /// A step that both conditions accept, found by bracketing and then by safeguarded cubic
    /// interpolation (Nocedal and Wright, Numerical Optimization, algorithms 3.5 and 3.6).
    ///
    /// `phi` maps a step length to value and slope; `start` is its point at 0 and must slope down.
    /// `None` if no such step was found within the evaluations: `φ` has no minimum along the line, or
    /// the decrease is lost in rounding. The accepted step is always the last one that `phi` saw.
    pub fn search(
        &self,
        phi: &mut dyn FnMut(f64) -> (f64, f64),
        start: Step,
        first_length: f64,
    ) -> Option<Step> {
        let mut evaluate = |length: f64| {
            let (value, slope) = phi(length);
            Step { length, value, slope }
        };
        let (mut low, mut length) = (start, first_length);
        for evaluation in 1..=self.max_evaluations {
            let step = evaluate(length);
            if self.accepts(&start, &step) {
                return Some(step);
            }
            // A value that is not a number has left the domain, like one that is too high.
            let too_far = !self.decreases(&start, &step) || (evaluation > 1 && step.value >= low.value);
            if too_far || step.slope >= 0.0 {
                let (low, high) = if too_far { (low, step) } else { (step, low) };
                return self.zoom(&mut evaluate, start, low, high, self.max_evaluations - evaluation);
            }
            low = step;
            length *= 2.0;
        }
        None
    }

    /// Narrows an interval that holds an acceptable step: `low` is its best end and slopes towards `high`.
    fn zoom(
        &self,
        evaluate: &mut dyn FnMut(f64) -> Step,
        start: Step,
        mut low: Step,
        mut high: Step,
        evaluations: usize,
    ) -> Option<Step> {
        for _ in 0..evaluations {
            let step = evaluate(inside(&low, &high));
            if self.accepts(&start, &step) {
                return Some(step);
            }
            if !self.decreases(&start, &step) || step.value >= low.value {
                high = step;
            } else {
                if step.slope * (high.length - low.length) >= 0.0 {
                    high = low;
                }
                low = step;
            }
        }
        None
    }

    fn decreases(&self, start: &Step, step: &Step) -> bool {
        // Near the minimum the true decrease is below the rounding of the value: a sum's last bits.
        let rounding = 8.0 * f64::EPSILON * start.value.abs();
        step.value <= start.value + self.decrease * step.length * start.slope + rounding
    }
}

/// The minimizer of the cubic through both ends, kept off the ends by a tenth of the interval.
fn inside(low: &Step, high: &Step) -> f64 {
    let width = high.length - low.length;
    let d1 = low.slope + high.slope - 3.0 * (high.value - low.value) / width;
    let d2 = width.signum() * (d1 * d1 - low.slope * high.slope).sqrt();
    let share = 1.0 - (high.slope + d2 - d1) / (high.slope - low.slope + 2.0 * d2);
    let share = if share.is_finite() { share.clamp(0.1, 0.9) } else { 0.5 };
    low.length + share * width
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cubic_is_exact_for_a_cubic() {
        // φ(a) = a³ − 3a has its minimum at 1.
        let at = |a: f64| Step { length: a, value: a * a * a - 3.0 * a, slope: 3.0 * a * a - 3.0 };
        assert!((inside(&at(0.0), &at(2.5)) - 1.0).abs() < 1e-14);
        assert!((inside(&at(2.5), &at(0.0)) - 1.0).abs() < 1e-14);
    }

    #[test]
    fn a_line_without_minimum_is_given_up() {
        let start = Step { length: 0.0, value: 0.0, slope: -1.0 };
        assert_eq!(Wolfe::default().search(&mut |a| (-a, -1.0), start, 1.0), None);
    }

    proptest! {
        /// A convex bowl with ripples: bounded below, many local minima, and a domain that ends at 60.
        #[test]
        fn accepted_steps_satisfy_both_conditions(
            center in 0.01f64..50.0, ripple in 0.0f64..3.0, wave in 0.1f64..5.0, first in 1e-4f64..100.0,
            curvature in 0.1f64..0.9,
        ) {
            let value = |a: f64| (a - center).powi(2) - ripple * (wave * a).sin();
            let slope = |a: f64| 2.0 * (a - center) - ripple * wave * (wave * a).cos();
            let start = Step { length: 0.0, value: value(0.0), slope: slope(0.0) };
            prop_assume!(start.slope < -1e-3);
            let wolfe = Wolfe { curvature, ..Wolfe::default() };
            let mut last = 0.0;
            let step = wolfe.search(
                &mut |a| { last = a; if a > 60.0 { (f64::NAN, f64::NAN) } else { (value(a), slope(a)) } },
                start, first,
            );
            let step = step.expect("a function that is bounded below has such a step");
            prop_assert_eq!(step.length, last);
            prop_assert!(value(step.length) <= start.value + 1e-4 * step.length * start.slope + 1e-12);
            prop_assert!(slope(step.length).abs() <= curvature * start.slope.abs());
        }
    }
}
