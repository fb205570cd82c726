//! HopSkipJump (Chen, Jordan & Wainwright 2020): a decision-based attack, without gradients and logits.

use crate::driver::{
    AttackDriver, AttackRun, Limits, Outcome, Problem, StateError, StepRule, Stored, demand, demand_positions,
};
use crate::minimal_norm::minimal_adversarial::{Classifier, MinimalAdversarial, is_mistake};
use crate::threat::rows::{by_rows, per_sample, row_index, unit_rows, with_rows};
use crate::threat::steepest_ascent::dense;
use crate::threat::{Ball, Norm};
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Random, Tensor, math};

/// HopSkipJump (Chen, Jordan & Wainwright 2020), l2 and l-infinity: steps along the decision boundary, with
/// the normal estimated from decisions at random points around the current one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HopSkipJump {
    /// Steps along the boundary.
    pub steps: usize,
    /// Random images tried for a first mistake.
    pub tries: usize,
    /// Decisions of the first estimate of the normal; the t-th takes √t times as many.
    pub initial_queries: usize,
    /// The most decisions of one estimate.
    pub most_queries: usize,
}

/// Twenty steps from 100 decisions, at most 10,000 of each.
impl Default for HopSkipJump {
    fn default() -> Self {
        HopSkipJump { steps: 20, tries: 100, initial_queries: 100, most_queries: 10_000 }
    }
}

/// HopSkipJump in progress, with resume. See [`Classifier::nearest`].
pub type HopSkipJumpRun<'a> = AttackRun<'a, HopSkipJumpRule<'a>>;

/// The step rule of HopSkipJump. Tensors hold all samples of the problem.
pub struct HopSkipJumpRule<'a> {
    config: HopSkipJump,
    problem: &'a Problem<'a>,
    center: Tensor,
    /// Misclassified points near the boundary.
    point: Tensor,
    /// Samples for which there is such a point.
    found: Vec<usize>,
    /// Steps taken; the first one finds a misclassified point.
    taken: usize,
    norm: Norm,
    d: f64,
}

/// What [`HopSkipJumpRule`] remembers, stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HopSkipJumpRuleState {
    point: Stored,
    found: Vec<usize>,
    taken: usize,
}

impl HopSkipJump {
    /// The nearest mistakes around the centers of `ball`; see [`Outcome::distances`]. A mistake within the
    /// ball is a success.
    ///
    /// Every decision is one forward pass; a budget is what it is usually compared at.
    ///
    /// # Panics
    /// If the norm is l1 or l0, inputs have no range, or there are not as many labels or keys as samples.
    #[track_caller]
    pub fn run(&self, classifier: Classifier<'_>, ball: &Ball, keys: &[Key], limits: Limits) -> Outcome {
        classifier.nearest(ball, keys, limits, |target| HopSkipJumpRun::new(*self, target).run())
    }
}

impl<'a> HopSkipJumpRun<'a> {
    /// Nothing done yet.
    ///
    /// # Panics
    /// If the norm is l1 or l0, or inputs have no range.
    #[track_caller]
    pub fn new(config: HopSkipJump, target: &'a MinimalAdversarial<'a>) -> Self {
        let problem = &target.problem;
        let threat = problem.ball.threat();
        let norm = threat.norm;
        assert!(matches!(norm, Norm::L2 | Norm::Linf), "HopSkipJump: l2 and linf alone, not {norm}");
        assert!(threat.bounds.is_some(), "HopSkipJump: random images need a box");
        let center = problem.ball.center().clone();
        let (point, d) = (center.clone(), problem.ball.width() as f64);
        AttackRun::of(HopSkipJumpRule {
            config,
            problem,
            center,
            point,
            found: Vec::new(),
            taken: 0,
            norm,
            d,
        })
    }
}

impl<'a> StepRule<'a> for HopSkipJumpRule<'a> {
    type Config = HopSkipJump;
    type State = HopSkipJumpRuleState;
    const NAME: &'static str = "hop-skip-jump";

    fn problem(&self) -> &'a Problem<'a> {
        self.problem
    }

    fn config(&self) -> &HopSkipJump {
        &self.config
    }

    /// A first misclassified point, or one step along the boundary.
    fn step(&mut self, driver: &mut AttackDriver<'a>) -> bool {
        if self.taken > self.config.steps {
            return false;
        }
        let step = self.taken;
        driver.stage().step = step as u32;
        if step == 0 {
            self.begin(driver, self.config.tries);
        } else {
            let queries = (self.config.initial_queries as f64 * (step as f64).sqrt()) as usize;
            self.step_along(driver, step, queries.clamp(1, self.config.most_queries.max(1)));
        }
        self.taken += 1;
        true
    }

    fn state(&self) -> HopSkipJumpRuleState {
        HopSkipJumpRuleState { point: Stored::of(&self.point), found: self.found.clone(), taken: self.taken }
    }

    fn restore(&mut self, state: &HopSkipJumpRuleState, _: &AttackDriver<'a>) -> Result<(), StateError> {
        demand_positions(&state.found, self.problem.len())?;
        demand(state.taken <= self.config.steps + 1, "more steps were taken than are configured")?;
        let point = state.point.restore(&self.center, self.problem.len())?;
        let (lo, hi) = self.problem.ball.bounds();
        let inside = point.array().to_f64().iter().all(|v| (lo..=hi).contains(v));
        demand(inside, "a point lies outside the box")?;
        self.point = point;
        self.found.clone_from(&state.found);
        self.taken = state.taken;
        Ok(())
    }
}

impl<'a> HopSkipJumpRule<'a> {
    /// Of the samples `rows`, whether each is misclassified at its row of `all`; samples without budget are left out.
    fn decide(driver: &mut AttackDriver<'a>, all: &Tensor, rows: &[usize]) -> Vec<(usize, bool)> {
        driver.reactivate();
        driver.retain_rows(rows);
        if driver.is_done() {
            return Vec::new();
        }
        let decided = driver.active().to_vec();
        let u = driver.ball().into_box(&all.gather(0, &row_index(all, &decided)));
        let seen = driver.evaluate(&u);
        let left = seen.keep_each(&decided);
        left.into_iter().zip(seen.value.iter().map(|&value| is_mistake(value))).collect()
    }

    /// A mistake for each sample: the input, or a random image drawn to the boundary.
    fn begin(&mut self, driver: &mut AttackDriver<'a>, tries: usize) {
        let all: Vec<usize> = (0..self.problem.keys.len()).collect();
        driver.stage().attack = "clean".to_owned();
        let clean = Self::decide(driver, &self.center.clone(), &all);
        driver.stage().attack = Self::NAME.to_owned();
        let mut open: Vec<usize> = clean.iter().filter(|(_, wrong)| !wrong).map(|&(row, _)| row).collect();
        let (lo, hi) = driver.ball().bounds();
        for attempt in 0..tries {
            if open.is_empty() {
                break;
            }
            let image = self.draw(Random::Uniform, |key| key.fold("image").fold(attempt));
            let image = image.mul_scalar(hi - lo).add_scalar(lo);
            let decided = Self::decide(driver, &image, &open);
            let hits: Vec<usize> = decided.iter().filter(|(_, wrong)| *wrong).map(|&(row, _)| row).collect();
            let pairs: Vec<(usize, usize)> = hits.iter().map(|&row| (row, row)).collect();
            self.point = with_rows(&self.point, &image, &pairs);
            self.found.extend(&hits);
            open = decided.into_iter().filter(|(_, wrong)| !wrong).map(|(row, _)| row).collect();
        }
        self.found.sort_unstable();
        self.approach(driver);
    }

    /// One estimate of the normal, one step along it as far as the mistake lasts, and back to the boundary.
    fn step_along(&mut self, driver: &mut AttackDriver<'a>, step: usize, queries: usize) {
        if self.found.is_empty() {
            return;
        }
        let distances = self.distances();
        let (lo, hi) = driver.ball().bounds();
        let reach: Vec<f64> = distances
            .iter()
            .map(|distance| match (step, self.norm) {
                (1, _) => 0.1 * (hi - lo),
                // √d θ and d θ with θ = d^(−3/2) and d^(−2).
                _ => distance / self.d,
            })
            .collect();
        let normal = self.normal(driver, step, queries, &reach);
        let mut size: Vec<f64> = distances.iter().map(|distance| distance / (step as f64).sqrt()).collect();
        let mut open = self.found.clone();
        // Halved until the point is a mistake; forty halvings are beyond the precision of pixels.
        for _ in 0..40 {
            if open.is_empty() {
                break;
            }
            let moved = self.boxed(&(&self.point + &(&normal * &per_sample(&self.point, &size))));
            let decided = Self::decide(driver, &moved, &open);
            let hits: Vec<(usize, usize)> =
                decided.iter().filter(|(_, wrong)| *wrong).map(|&(row, _)| (row, row)).collect();
            self.point = with_rows(&self.point, &moved, &hits);
            open = decided.into_iter().filter(|(_, wrong)| !wrong).map(|(row, _)| row).collect();
            open.iter().for_each(|&row| size[row] *= 0.5);
        }
        self.approach(driver);
    }

    /// The estimated direction into the mistakes: the mean of random directions, signed by the decisions
    /// less their mean.
    fn normal(
        &mut self,
        driver: &mut AttackDriver<'a>,
        step: usize,
        queries: usize,
        reach: &[f64],
    ) -> Tensor {
        let n = self.problem.keys.len();
        let found = self.found.clone();
        let scale = per_sample(&self.point, reach);
        let mut signed = self.point.zeros_like();
        let mut plain = self.point.zeros_like();
        let mut counts = vec![[0.0; 2]; n];
        for query in 0..queries {
            let law = if self.norm == Norm::L2 { Random::Normal } else { Random::Uniform };
            let drawn = self.draw(law, |key| key.fold("query").fold(step).fold(query));
            let drawn = if self.norm == Norm::L2 { drawn } else { drawn.mul_scalar(2.0).add_scalar(-1.0) };
            let moved = self.boxed(&(&self.point + &(&by_rows(&drawn, unit_rows) * &scale)));
            // What the box has left of the direction; nothing where there is no reach.
            let safe: Vec<f64> = reach.iter().map(|&r| if r > 0.0 { 1.0 / r } else { 0.0 }).collect();
            let direction = &(&moved - &self.point) * &per_sample(&self.point, &safe);
            let mut signs = vec![0.0; n];
            let mut takes_part = vec![0.0; n];
            for (row, wrong) in Self::decide(driver, &moved, &found) {
                signs[row] = if wrong { 1.0 } else { -1.0 };
                takes_part[row] = 1.0;
                counts[row][usize::from(wrong)] += 1.0;
            }
            signed = &signed + &(&direction * &per_sample(&direction, &signs));
            plain = &plain + &(&direction * &per_sample(&direction, &takes_part));
        }
        // Where all decisions agree their mean explains them all: then it is not taken off.
        let baseline = |[right, wrong]: &[f64; 2]| {
            if *right == 0.0 || *wrong == 0.0 { 0.0 } else { (wrong - right) / (wrong + right) }
        };
        let means: Vec<f64> = counts.iter().map(baseline).collect();
        let normal = &signed - &(&plain * &per_sample(&plain, &means));
        dense(self.norm, &self.problem.ball.unblocked(&self.point, &normal))
    }

    /// Draws the points towards their centers as far as they stay mistakes, by bisection: along the line
    /// for l2, by cutting with a shrinking cube for l-infinity.
    fn approach(&mut self, driver: &mut AttackDriver<'a>) {
        let distances = self.distances();
        let start = self.point.clone();
        let tolerance = |row: usize| match self.norm {
            Norm::L2 => math::powf(self.d, -1.5),
            _ => self.d.powi(-2) * distances[row].min(1.0),
        };
        let mut hi: Vec<f64> =
            distances.iter().map(|&distance| if self.norm == Norm::L2 { 1.0 } else { distance }).collect();
        let mut lo = vec![0.0; hi.len()];
        let finest: Vec<f64> = (0..hi.len()).map(|row| tolerance(row).max(1e-9)).collect();
        let mut open = self.found.clone();
        loop {
            let middle: Vec<f64> = lo.iter().zip(&hi).map(|(lo, hi)| 0.5 * (lo + hi)).collect();
            // In a wide box neighboring numbers lie farther apart than the tolerance.
            let halves = |row: usize| lo[row] < middle[row] && middle[row] < hi[row];
            open.retain(|&row| hi[row] - lo[row] > finest[row] && halves(row));
            if open.is_empty() {
                break;
            }
            let at = self.between(&start, &middle);
            let decided = Self::decide(driver, &at, &open);
            let hits: Vec<(usize, usize)> =
                decided.iter().filter(|(_, wrong)| *wrong).map(|&(row, _)| (row, row)).collect();
            self.point = with_rows(&self.point, &at, &hits);
            for &(row, wrong) in &decided {
                if wrong { hi[row] = middle[row] } else { lo[row] = middle[row] }
            }
            open = decided.into_iter().map(|(row, _)| row).collect();
        }
        let part: Vec<usize> = self.found.clone();
        driver.reactivate();
        driver.retain_rows(&part);
        self.found = driver.active().to_vec();
    }

    /// Points between the centers and `start`: a share of the way, or cut with a cube of that radius.
    fn between(&self, start: &Tensor, position: &[f64]) -> Tensor {
        let moved = start - &self.center;
        let position = per_sample(start, position);
        let kept = match self.norm {
            Norm::L2 => &moved * &position,
            _ => moved.minimum(&position).maximum(&position.neg()),
        };
        self.boxed(&(&self.center + &kept))
    }

    fn distances(&self) -> Vec<f64> {
        let (u, x) = (self.point.array().to_f64(), self.center.array().to_f64());
        let width = (self.d as usize).max(1);
        let rows = u.chunks(width).zip(x.chunks(width));
        rows.map(|(u, x)| self.norm.length(u.iter().zip(x).map(|(u, x)| u - x))).collect()
    }

    fn boxed(&self, u: &Tensor) -> Tensor {
        self.problem.ball.into_box(u)
    }

    fn draw(&self, law: Random, path: impl Fn(Key) -> Key) -> Tensor {
        let keys: Vec<Key> = self.problem.keys.iter().map(|key| path(key.fold("hop-skip-jump"))).collect();
        Tensor::random(self.center.device(), law, &keys, &self.center.shape()[1..], self.center.dtype())
    }
}
