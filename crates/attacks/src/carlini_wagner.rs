//! The attack of Carlini & Wagner in the Euclidean norm.

use crate::ball::{Ball, row_index};
use crate::label::margins;
use crate::minimal::{Classifier, nearest_mistake};
use crate::outcome::Outcome;
use crate::problem::{Limits, Problem};
use crate::search::Search;
use crate::threat::Norm;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use tarrl_tensor::{Key, Tensor, grad};

/// How much an input is drawn in before it is written as a hyperbolic tangent, which never reaches ±1.
const DRAWN_IN: f64 = 1e-6;

/// The decay of Adam's moments and what keeps its denominator from zero.
const ADAM: (f64, f64, f64) = (0.9, 0.999, 1e-8);

/// CW-l2 (Carlini & Wagner 2017): Adam on
/// `‖u − x‖² + c max(z_y − max_{i≠y} z_i + κ, 0)` with `u` a hyperbolic tangent scaled to the box, and a
/// bisection for the least `c` that succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CarliniWagner {
    /// Values of `c` tried; at least one.
    pub searches: usize,
    /// The most steps for each.
    pub steps: usize,
    /// The step size of Adam.
    pub learning_rate: f64,
    /// The first `c`.
    pub initial_c: f64,
    /// κ: the margin by which a mistake has to be one before `c` counts as large enough.
    pub confidence: f64,
    /// Whether a sample leaves a search when a tenth of the steps have not improved its objective by a
    /// ten-thousandth.
    pub abort_early: bool,
}

/// Nine searches of 1000 steps of 0.01 from c = 0.001, no confidence, aborted early.
impl Default for CarliniWagner {
    fn default() -> Self {
        CarliniWagner {
            searches: 9,
            steps: 1000,
            learning_rate: 0.01,
            initial_c: 1e-3,
            confidence: 0.0,
            abort_early: true,
        }
    }
}

/// The bisection of one sample.
#[derive(Clone, Copy)]
struct Bisection {
    lo: f64,
    hi: f64,
    c: f64,
    succeeded: bool,
    /// The objective at the last check.
    before: f64,
}

/// The iterates of one search, of the samples that take part.
struct Iterate {
    w: Tensor,
    first: Tensor,
    second: Tensor,
}

impl CarliniWagner {
    /// The nearest mistakes around the centers of `ball`; see [`Outcome::distances`]. A mistake within the
    /// ball is a success.
    ///
    /// Costs at most `searches · (steps + 1)` forward and `searches · steps` backward passes.
    ///
    /// # Panics
    /// If the norm is not l2, inputs have no range, there is no search, there are not as many labels as
    /// samples, or `k < 2`.
    #[track_caller]
    pub fn run(&self, classifier: Classifier<'_>, ball: &Ball, limits: Limits) -> Outcome {
        let (n, threat) = (ball.len(), ball.threat());
        assert!(threat.norm == Norm::L2, "CW: l2 alone, not {}", threat.norm);
        assert!(threat.bounds.is_some(), "CW: a tangent needs a box");
        assert!(self.searches > 0, "CW: no searches, so nothing to do");
        assert_eq!(classifier.labels.len(), n, "CW: {} labels for {n} samples", classifier.labels.len());
        let last = RefCell::new(None);
        let evaluate = nearest_mistake(classifier, ball, &last);
        let problem = Problem::new(ball.clone(), &evaluate, &vec![Key::new(0); n], limits);
        let mut search = Search::new(&problem);
        search.stage().attack = "cw".to_owned();
        let start = Bisection {
            lo: 0.0,
            hi: f64::INFINITY,
            c: self.initial_c,
            succeeded: false,
            before: f64::INFINITY,
        };
        let mut all = vec![start; n];
        for outer in 0..self.searches {
            search.reopen();
            search.stage().restart = outer as u32;
            all.iter_mut().for_each(|b| (b.succeeded, b.before) = (false, f64::INFINITY));
            if outer + 1 == self.searches && outer >= 9 {
                // The last of many searches is at the least c that is known to succeed.
                all.iter_mut().filter(|b| b.hi.is_finite()).for_each(|b| b.c = b.hi);
            }
            self.descend(&mut search, classifier, &last, &mut all);
            all.iter_mut().for_each(Bisection::halve);
        }
        search.finish()
    }

    fn descend(
        &self,
        search: &mut Search<'_>,
        classifier: Classifier<'_>,
        last: &RefCell<Option<crate::minimal::Glimpse>>,
        all: &mut [Bisection],
    ) {
        if search.is_done() {
            return;
        }
        let w = to_tangent(search.ball());
        let mut state = Iterate { first: w.zeros_like(), second: w.zeros_like(), w };
        for step in 0..=self.steps {
            search.stage().step = step as u32;
            let (u, slope) = from_tangent(search.ball(), &state.w);
            let rows = search.rows().to_vec();
            let seen = search.look_open(&u, if step < self.steps { 2 } else { 0 });
            let Some(glimpse) = last.take() else { return };
            let labels: Vec<u32> = rows.iter().map(|&row| classifier.labels[row]).collect();
            let hinge = margins(&glimpse.logits, &labels).add_scalar(self.confidence).relu();
            let missing = hinge.array().to_f64();
            for (&row, &missing) in rows.iter().zip(&missing) {
                all[row].succeeded |= missing <= 0.0;
            }
            if search.is_done() || step == self.steps {
                return;
            }
            let weights: Vec<f64> = rows.iter().map(|&row| all[row].c).collect();
            let pull = &hinge * &Tensor::new(u.device(), [rows.len()], &weights).cast(u.dtype());
            let of_margin = seen.keep(&grad(&pull.sum_all(), &[&glimpse.point]).remove(0));
            search.rows().to_vec().iter().for_each(|&row| search.count(row, 0, 1));
            let moved = &seen.keep(&u) - search.ball().center();
            let gradient = &(&of_margin + &moved.mul_scalar(2.0)) * &seen.keep(&slope);
            state = Iterate {
                w: seen.keep(&state.w),
                first: seen.keep(&state.first),
                second: seen.keep(&state.second),
            };
            self.adam(&mut state, &gradient, step + 1);
            if self.abort_early && (step + 1).is_multiple_of((self.steps / 10).max(1)) {
                let distances = search.ball().distances(&seen.keep(&u));
                let missing = seen.keep_each(&missing);
                let stays = |(i, &row): (usize, &usize)| {
                    let now = distances[i].powi(2) + all[row].c * missing[i];
                    let stays = now <= 0.9999 * all[row].before;
                    all[row].before = now;
                    stays.then_some(i)
                };
                let rows = search.rows().to_vec();
                let stay: Vec<usize> = rows.iter().enumerate().filter_map(stays).collect();
                let pick = |t: &Tensor| t.gather(0, &row_index(t, &stay));
                state = Iterate { w: pick(&state.w), first: pick(&state.first), second: pick(&state.second) };
                search.retain(stay);
                if search.is_done() {
                    return;
                }
            }
        }
    }

    fn adam(&self, state: &mut Iterate, gradient: &Tensor, step: usize) {
        let (beta, gamma, floor) = ADAM;
        state.first = &state.first.mul_scalar(beta) + &gradient.mul_scalar(1.0 - beta);
        state.second = &state.second.mul_scalar(gamma) + &gradient.square().mul_scalar(1.0 - gamma);
        let mean = state.first.mul_scalar(1.0 / (1.0 - beta.powi(step as i32)));
        let size = state.second.mul_scalar(1.0 / (1.0 - gamma.powi(step as i32))).sqrt().add_scalar(floor);
        state.w = &state.w - &(&mean / &size).mul_scalar(self.learning_rate);
    }
}

impl Bisection {
    fn halve(&mut self) {
        if self.succeeded {
            self.hi = self.hi.min(self.c);
        } else {
            self.lo = self.c;
        }
        self.c = if self.hi.is_finite() { 0.5 * (self.lo + self.hi) } else { 10.0 * self.c };
    }
}

/// The centers as inverse hyperbolic tangents.
fn to_tangent(ball: &Ball) -> Tensor {
    let (lo, hi) = ball.bounds();
    let wide = ball.center().add_scalar(-0.5 * (lo + hi)).mul_scalar(2.0 / (hi - lo) * (1.0 - DRAWN_IN));
    // atanh v = ½ ln((1 + v) / (1 − v))
    (&wide.add_scalar(1.0) / &wide.neg().add_scalar(1.0)).log().mul_scalar(0.5)
}

/// The points of `w`, and their derivatives in it.
fn from_tangent(ball: &Ball, w: &Tensor) -> (Tensor, Tensor) {
    let (lo, hi) = ball.bounds();
    let tanh = w.tanh();
    let u = ball.into_box(&tanh.mul_scalar(0.5 * (hi - lo)).add_scalar(0.5 * (lo + hi)));
    (u, tanh.square().neg().add_scalar(1.0).mul_scalar(0.5 * (hi - lo)))
}
