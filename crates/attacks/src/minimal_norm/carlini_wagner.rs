//! The l2 attack of Carlini & Wagner (2017): Adam on distance plus hinge, with a bisection of the weight.

use crate::classifier::margins;
use crate::driver::{
    AttackDriver, AttackRun, Limits, Outcome, Problem, StateError, StepRule, Stored, bits, demand,
    demand_positions,
};
use crate::minimal_norm::minimal_adversarial::{Classifier, MinimalAdversarial, is_mistake};
use crate::threat::rows::row_index;
use crate::threat::{Ball, Norm};
use serde::{Deserialize, Serialize};
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bisection {
    #[serde(with = "bits")]
    lo: f64,
    #[serde(with = "bits")]
    hi: f64,
    #[serde(with = "bits")]
    c: f64,
    succeeded: bool,
    /// The objective at the last check.
    #[serde(with = "bits")]
    before: f64,
}

/// The iterates of one search, of the samples that take part.
struct Iterate {
    w: Tensor,
    first: Tensor,
    second: Tensor,
}

/// CW-l2 in progress, with resume. See [`Classifier::nearest`].
pub type CarliniWagnerRun<'a> = AttackRun<'a, CarliniWagnerRule<'a>>;

/// The step rule of CW-l2.
pub struct CarliniWagnerRule<'a> {
    config: CarliniWagner,
    target: &'a MinimalAdversarial<'a>,
    /// The samples that the inputs of are no mistakes, once the inputs have been evaluated.
    open: Option<Vec<usize>>,
    /// `(n)`
    bisections: Vec<Bisection>,
    /// Values of `c` done with, and the steps taken with the present one.
    outer: usize,
    step: usize,
    /// Absent between two values of `c`.
    iterate: Option<Iterate>,
}

/// What [`CarliniWagnerRule`] remembers, stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CarliniWagnerRuleState {
    open: Option<Vec<usize>>,
    bisections: Vec<Bisection>,
    outer: usize,
    step: usize,
    iterate: Option<[Stored; 3]>,
}

impl CarliniWagner {
    /// The nearest mistakes around the centers of `ball`; see [`Outcome::distances`]. A mistake within the
    /// ball is a success.
    ///
    /// The input comes first: a mistake there has distance 0. Costs at most `1 + searches · (steps + 1)` forward and `searches · steps` backward passes.
    ///
    /// # Panics
    /// If the norm is not l2, inputs have no range, there is no search, there are not as many labels as
    /// samples, or `k < 2`.
    #[track_caller]
    pub fn run(&self, classifier: Classifier<'_>, ball: &Ball, limits: Limits) -> Outcome {
        // Nothing is random: any keys do.
        classifier.nearest(ball, &vec![Key::new(0); ball.len()], limits, |target| {
            CarliniWagnerRun::new(*self, target).run()
        })
    }
}

impl<'a> CarliniWagnerRun<'a> {
    /// Nothing done yet.
    ///
    /// # Panics
    /// If the norm is not l2, inputs have no range, or there is no search.
    #[track_caller]
    pub fn new(config: CarliniWagner, target: &'a MinimalAdversarial<'a>) -> Self {
        let threat = target.problem.ball.threat();
        assert!(threat.norm == Norm::L2, "CW: l2 alone, not {}", threat.norm);
        assert!(threat.bounds.is_some(), "CW: a tangent needs a box");
        assert!(config.searches > 0, "CW: no searches, so nothing to do");
        let start = Bisection {
            lo: 0.0,
            hi: f64::INFINITY,
            c: config.initial_c,
            succeeded: false,
            before: f64::INFINITY,
        };
        let bisections = vec![start; target.problem.len()];
        AttackRun::of(CarliniWagnerRule {
            config,
            target,
            open: None,
            bisections,
            outer: 0,
            step: 0,
            iterate: None,
        })
    }
}

impl<'a> StepRule<'a> for CarliniWagnerRule<'a> {
    type Config = CarliniWagner;
    type State = CarliniWagnerRuleState;
    const NAME: &'static str = "cw";

    fn problem(&self) -> &'a Problem<'a> {
        &self.target.problem
    }

    fn config(&self) -> &CarliniWagner {
        &self.config
    }

    fn step(&mut self, driver: &mut AttackDriver<'a>) -> bool {
        if self.outer == self.config.searches {
            return false;
        }
        let Some(open) = &self.open else {
            self.open = Some(evaluate_inputs(driver));
            return true;
        };
        let state = match self.iterate.take() {
            Some(state) => state,
            None => {
                driver.reactivate();
                driver.retain_rows(open);
                self.begin(driver)
            }
        };
        self.iterate = if driver.is_done() { None } else { self.descend(driver, state) };
        self.step += 1;
        if self.iterate.is_none() {
            self.bisections.iter_mut().for_each(Bisection::halve);
            (self.outer, self.step) = (self.outer + 1, 0);
        }
        true
    }

    fn state(&self) -> CarliniWagnerRuleState {
        let stored = |state: &Iterate| [&state.w, &state.first, &state.second].map(Stored::of);
        CarliniWagnerRuleState {
            open: self.open.clone(),
            bisections: self.bisections.clone(),
            outer: self.outer,
            step: self.step,
            iterate: self.iterate.as_ref().map(stored),
        }
    }

    fn restore(
        &mut self,
        state: &CarliniWagnerRuleState,
        driver: &AttackDriver<'a>,
    ) -> Result<(), StateError> {
        demand_positions(state.open.as_deref().unwrap_or_default(), self.target.problem.len())?;
        demand(
            state.bisections.len() == self.bisections.len()
                && state.outer <= self.config.searches
                && state.step <= self.config.steps,
            "a search is not one of those configured",
        )?;
        demand(
            state.iterate.is_none() || state.open.is_some(),
            "a search began before the inputs were evaluated",
        )?;
        let like = driver.ball().center();
        let tensor = |stored: &Stored| stored.restore(like, driver.active().len());
        self.iterate = match &state.iterate {
            None => None,
            Some([w, first, second]) => {
                Some(Iterate { w: tensor(w)?, first: tensor(first)?, second: tensor(second)? })
            }
        };
        self.open.clone_from(&state.open);
        self.bisections.clone_from(&state.bisections);
        (self.outer, self.step) = (state.outer, state.step);
        Ok(())
    }
}

/// Evaluates the inputs themselves, which tangents only come near to; the samples that are no mistakes there.
fn evaluate_inputs(driver: &mut AttackDriver<'_>) -> Vec<usize> {
    let rows = driver.active().to_vec();
    if rows.is_empty() {
        return rows;
    }
    driver.stage().attack = "clean".to_owned();
    let center = driver.ball().center().clone();
    let seen = driver.evaluate(&center);
    driver.stage().attack = CarliniWagnerRule::NAME.to_owned();
    let seen_of = seen.keep_each(&rows).into_iter().zip(&seen.value);
    seen_of.filter(|(_, value)| !is_mistake(**value)).map(|(row, _)| row).collect()
}

impl CarliniWagnerRule<'_> {
    /// The next value of `c`, from the inputs.
    fn begin(&mut self, driver: &mut AttackDriver<'_>) -> Iterate {
        driver.stage().restart = self.outer as u32;
        self.bisections.iter_mut().for_each(|b| (b.succeeded, b.before) = (false, f64::INFINITY));
        if self.outer + 1 == self.config.searches && self.outer >= 9 {
            // The last of many searches is at the least c that is known to succeed.
            self.bisections.iter_mut().filter(|b| b.hi.is_finite()).for_each(|b| b.c = b.hi);
        }
        let w = to_tangent(driver.ball());
        Iterate { first: w.zeros_like(), second: w.zeros_like(), w }
    }

    /// One evaluation and one step of Adam; nothing if the search is over.
    fn descend(&mut self, driver: &mut AttackDriver<'_>, mut state: Iterate) -> Option<Iterate> {
        let (config, step, all) = (self.config, self.step, &mut self.bisections);
        driver.stage().step = step as u32;
        let (u, slope) = from_tangent(driver.ball(), &state.w);
        let rows = driver.active().to_vec();
        let seen = driver.evaluate_tracked(&u, if step < config.steps { 2 } else { 0 });
        let last = self.target.last.take()?;
        let labels: Vec<u32> = rows.iter().map(|&row| self.target.classifier.labels[row]).collect();
        let hinge = margins(&last.logits, &labels).add_scalar(config.confidence).relu();
        let missing = hinge.array().to_f64();
        for (&row, &missing) in rows.iter().zip(&missing) {
            all[row].succeeded |= missing <= 0.0;
        }
        if driver.is_done() || step == config.steps {
            return None;
        }
        let weights: Vec<f64> = rows.iter().map(|&row| all[row].c).collect();
        let pull = &hinge * &Tensor::new(u.device(), [rows.len()], &weights).cast(u.dtype());
        let of_margin = seen.keep(&grad(&pull.sum_all(), &[&last.point]).remove(0));
        driver.active().to_vec().iter().for_each(|&row| driver.count(row, 0, 1));
        let moved = &seen.keep(&u) - driver.ball().center();
        let gradient = &(&of_margin + &moved.mul_scalar(2.0)) * &seen.keep(&slope);
        state = Iterate {
            w: seen.keep(&state.w),
            first: seen.keep(&state.first),
            second: seen.keep(&state.second),
        };
        config.adam(&mut state, &gradient, step + 1);
        if config.abort_early && (step + 1).is_multiple_of((config.steps / 10).max(1)) {
            let distances = driver.ball().distances(&seen.keep(&u));
            let missing = seen.keep_each(&missing);
            let stays = |(i, &row): (usize, &usize)| {
                let now = distances[i].powi(2) + all[row].c * missing[i];
                let stays = now <= 0.9999 * all[row].before;
                all[row].before = now;
                stays.then_some(i)
            };
            let rows = driver.active().to_vec();
            let stay: Vec<usize> = rows.iter().enumerate().filter_map(stays).collect();
            let pick = |t: &Tensor| t.gather(0, &row_index(t, &stay));
            state = Iterate { w: pick(&state.w), first: pick(&state.first), second: pick(&state.second) };
            driver.retain(stay);
            if driver.is_done() {
                return None;
            }
        }
        Some(state)
    }
}

impl CarliniWagner {
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
