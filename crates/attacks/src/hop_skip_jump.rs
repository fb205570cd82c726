//! An attack that sees decisions alone: no gradients, no logits.

use crate::ball::{Ball, row_index};
use crate::driver::AttackDriver;
use crate::minimal::{Classifier, MinimalAdversarial, is_mistake, same_config};
use crate::outcome::{Outcome, with_rows};
use crate::problem::Limits;
use crate::state::{SearchState, StateError, Stored};
use crate::steepest::{by_rows, dense, per_sample, unit_rows};
use crate::threat::Norm;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Random, Tensor};

/// HopSkipJump (Chen, Jordan & Wainwright 2020), l2 and l-infinity: walks along the decision boundary, with
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

/// HopSkipJump in progress: `while run.step() {}` and then [`finish`](HopSkipJumpRun::finish), with a
/// [`state`](HopSkipJumpRun::state) to write down between steps. See [`Classifier::nearest`].
///
/// Tensors hold all samples of the problem.
pub struct HopSkipJumpRun<'a> {
    config: HopSkipJump,
    search: AttackDriver<'a>,
    center: Tensor,
    keys: Vec<Key>,
    /// Points on the wrong side, near the boundary.
    point: Tensor,
    /// Samples for which there is such a point.
    found: Vec<usize>,
    /// Steps taken; the first one looks for a mistake.
    taken: usize,
    norm: Norm,
    d: f64,
}

/// A [`HopSkipJumpRun`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HopSkipJumpState {
    config: HopSkipJump,
    search: SearchState,
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
        classifier.nearest(ball, keys, limits, |target| {
            let mut run = HopSkipJumpRun::new(*self, target);
            while run.step() {}
            run.finish()
        })
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
        let mut search = AttackDriver::new(problem);
        search.stage().attack = "hop-skip-jump".to_owned();
        let center = problem.ball.center().clone();
        let (keys, d) = (problem.keys.clone(), problem.ball.width() as f64);
        let point = center.clone();
        HopSkipJumpRun { config, search, center, keys, point, found: Vec::new(), taken: 0, norm, d }
    }

    /// The search for a first mistake, or one step along the boundary. `false` if there is nothing left to do.
    #[track_caller]
    pub fn step(&mut self) -> bool {
        if self.taken > self.config.steps {
            return false;
        }
        let step = self.taken;
        self.search.stage().step = step as u32;
        if step == 0 {
            self.begin(self.config.tries);
        } else {
            let queries = (self.config.initial_queries as f64 * (step as f64).sqrt()) as usize;
            self.walk(step, queries.clamp(1, self.config.most_queries.max(1)));
        }
        self.taken += 1;
        true
    }

    /// What was found.
    pub fn finish(self) -> Outcome {
        self.search.finish()
    }

    /// All of it. Whoever goes on from it comes to the same bits.
    pub fn state(&self) -> HopSkipJumpState {
        HopSkipJumpState {
            config: self.config,
            search: self.search.state(),
            point: Stored::of(&self.point),
            found: self.found.clone(),
            taken: self.taken,
        }
    }

    /// The run that a state was taken of.
    ///
    /// # Errors
    /// If it was taken of another problem or configuration.
    ///
    /// # Panics
    /// As [`new`](HopSkipJumpRun::new).
    #[track_caller]
    pub fn resume(
        config: HopSkipJump,
        target: &'a MinimalAdversarial<'a>,
        state: &HopSkipJumpState,
    ) -> Result<Self, StateError> {
        same_config(&state.config, &config)?;
        let mut run = HopSkipJumpRun::new(config, target);
        run.search = AttackDriver::resume(&target.problem, &state.search)?;
        run.point = state.point.on(run.center.device());
        run.found.clone_from(&state.found);
        run.taken = state.taken;
        Ok(run)
    }

    /// Which of the samples `rows` are mistaken at their rows of `all`; samples without budget are not
    /// among the pairs.
    fn ask(&mut self, all: &Tensor, rows: &[usize]) -> Vec<(usize, bool)> {
        self.search.reopen();
        self.search.only(rows);
        if self.search.is_done() {
            return Vec::new();
        }
        let asked = self.search.rows().to_vec();
        let u = self.search.ball().into_box(&all.gather(0, &row_index(all, &asked)));
        let seen = self.search.evaluate(&u);
        let left = seen.keep_each(&asked);
        left.into_iter().zip(seen.value.iter().map(|&value| is_mistake(value))).collect()
    }

    /// A mistake for each sample: the input, or a random image drawn to the boundary.
    fn begin(&mut self, tries: usize) {
        let all: Vec<usize> = (0..self.keys.len()).collect();
        let clean = self.ask(&self.center.clone(), &all);
        let mut open: Vec<usize> = clean.iter().filter(|(_, wrong)| !wrong).map(|&(row, _)| row).collect();
        let (lo, hi) = self.search.ball().bounds();
        for attempt in 0..tries {
            if open.is_empty() {
                break;
            }
            let image = self.draw(Random::Uniform, |key| key.fold("image").fold(attempt));
            let image = image.mul_scalar(hi - lo).add_scalar(lo);
            let asked = self.ask(&image, &open);
            let hits: Vec<usize> = asked.iter().filter(|(_, wrong)| *wrong).map(|&(row, _)| row).collect();
            let pairs: Vec<(usize, usize)> = hits.iter().map(|&row| (row, row)).collect();
            self.point = with_rows(&self.point, &image, &pairs);
            self.found.extend(&hits);
            open = asked.into_iter().filter(|(_, wrong)| !wrong).map(|(row, _)| row).collect();
        }
        self.found.sort_unstable();
        self.approach();
    }

    /// One estimate of the normal, one step along it as far as the mistake lasts, and back to the boundary.
    fn walk(&mut self, step: usize, queries: usize) {
        if self.found.is_empty() {
            return;
        }
        let distances = self.distances();
        let (lo, hi) = self.search.ball().bounds();
        let reach: Vec<f64> = distances
            .iter()
            .map(|distance| match (step, self.norm) {
                (1, _) => 0.1 * (hi - lo),
                // √d θ and d θ with θ = d^(−3/2) and d^(−2).
                _ => distance / self.d,
            })
            .collect();
        let normal = self.normal(step, queries, &reach);
        let mut size: Vec<f64> = distances.iter().map(|distance| distance / (step as f64).sqrt()).collect();
        let mut open = self.found.clone();
        // Halved until the point is a mistake; forty halvings are beyond the precision of pixels.
        for _ in 0..40 {
            if open.is_empty() {
                break;
            }
            let moved = self.boxed(&(&self.point + &(&normal * &per_sample(&self.point, &size))));
            let asked = self.ask(&moved, &open);
            let hits: Vec<(usize, usize)> =
                asked.iter().filter(|(_, wrong)| *wrong).map(|&(row, _)| (row, row)).collect();
            self.point = with_rows(&self.point, &moved, &hits);
            open = asked.into_iter().filter(|(_, wrong)| !wrong).map(|(row, _)| row).collect();
            open.iter().for_each(|&row| size[row] *= 0.5);
        }
        self.approach();
    }

    /// The estimated direction into the mistakes: the mean of random directions, signed by the decisions
    /// less their mean.
    fn normal(&mut self, step: usize, queries: usize, reach: &[f64]) -> Tensor {
        let n = self.keys.len();
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
            for (row, wrong) in self.ask(&moved, &found) {
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
        dense(self.norm, &(&signed - &(&plain * &per_sample(&plain, &means))))
    }

    /// Draws the points towards their centers as far as they stay mistakes, by bisection: along the line
    /// for l2, by cutting with a shrinking cube for l-infinity.
    fn approach(&mut self) {
        let distances = self.distances();
        let start = self.point.clone();
        let tolerance = |row: usize| match self.norm {
            Norm::L2 => self.d.powf(-1.5),
            _ => self.d.powi(-2) * distances[row].min(1.0),
        };
        let mut hi: Vec<f64> =
            distances.iter().map(|&distance| if self.norm == Norm::L2 { 1.0 } else { distance }).collect();
        let mut lo = vec![0.0; hi.len()];
        let finest: Vec<f64> = (0..hi.len()).map(|row| tolerance(row).max(1e-9)).collect();
        let mut open = self.found.clone();
        loop {
            open.retain(|&row| hi[row] - lo[row] > finest[row]);
            if open.is_empty() {
                break;
            }
            let middle: Vec<f64> = lo.iter().zip(&hi).map(|(lo, hi)| 0.5 * (lo + hi)).collect();
            let at = self.between(&start, &middle);
            let asked = self.ask(&at, &open);
            let hits: Vec<(usize, usize)> =
                asked.iter().filter(|(_, wrong)| *wrong).map(|&(row, _)| (row, row)).collect();
            self.point = with_rows(&self.point, &at, &hits);
            for &(row, wrong) in &asked {
                if wrong { hi[row] = middle[row] } else { lo[row] = middle[row] }
            }
            open = asked.into_iter().map(|(row, _)| row).collect();
        }
        let part: Vec<usize> = self.found.clone();
        self.search.reopen();
        self.search.only(&part);
        self.found = self.search.rows().to_vec();
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
        self.search.ball().into_box(u)
    }

    fn draw(&self, law: Random, path: impl Fn(Key) -> Key) -> Tensor {
        let keys: Vec<Key> = self.keys.iter().map(|key| path(key.fold("hop-skip-jump"))).collect();
        Tensor::random(self.center.device(), law, &keys, &self.center.shape()[1..], self.center.dtype())
    }
}
