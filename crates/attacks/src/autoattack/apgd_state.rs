//! One ascent of APGD (Croce & Hein 2020, algorithm 1; for l1 Croce & Hein 2021, algorithm 2), of one
//! sample, as a state: it names a point, takes in the value and gradient there, and moves.

use crate::autoattack::checkpoints::{checkpoints, sparse_checkpoints};
use crate::autoattack::mode::Mode;
use crate::autoattack::sample_ball::SampleBall;
use crate::driver::bits;
use crate::threat::Norm;
use serde::{Deserialize, Serialize};
use tarrl_tensor::Key;

/// The weight of the new step beside the last one's momentum.
const MOMENTUM: f32 = 0.75;
/// The radii and lengths of the three stages of an l1 ascent that begins wide.
const STAGES: [(f64, f64); 3] = [(3.0, 0.3), (2.0, 0.3), (1.0, 0.4)];
/// The share of coordinates that an l1 step moves at first.
const FIRST_SHARE: f32 = 0.2;
/// The fall of the number of moved coordinates that starts l1 steps anew.
const SPARSER: f32 = 0.95;

/// How APGD ascends. There is no step to choose: it begins at 2ε (l1: ε) and shrinks by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Apgd {
    /// Steps of each restart.
    pub steps: usize,
    /// ρ: the step is halved at a checkpoint if fewer steps than this share have raised the value.
    pub rho: f64,
    /// Independent ascents, all from random points; at least one.
    pub restarts: usize,
    /// l1: spend three tenths of the steps in the ball of radius 3ε and as many in that of 2ε, each from the
    /// best point of the one before (Croce & Hein 2021, section 3.3).
    pub wide_start: bool,
    /// Whose checkpoints and conditions.
    pub mode: Mode,
}

/// One ascent of a hundred steps.
impl Default for Apgd {
    fn default() -> Self {
        Apgd { steps: 100, rho: 0.75, restarts: 1, wide_start: false, mode: Mode::Reference }
    }
}

impl Apgd {
    #[track_caller]
    pub(crate) fn check(&self, norm: Norm) {
        assert!(self.restarts > 0, "apgd: no restarts, so nothing to do");
        assert!(norm != Norm::L0, "apgd: there is no step rule for l0");
    }
}

/// An ascent of one sample in progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApgdState {
    config: Apgd,
    /// Radii in units of ε and the steps of each stage still to come, the present one first.
    stages: Vec<(f64, usize)>,
    /// Steps taken in this stage.
    step: usize,
    /// Steps taken in all.
    #[serde(rename = "taken")]
    pub(crate) steps: u32,
    /// Checkpoints still to come.
    checks: Vec<usize>,
    /// The last checkpoint.
    checked: usize,
    /// Rises of the value since then.
    rises: usize,
    #[serde(with = "bits")]
    last: f64,
    #[serde(with = "bits")]
    best_at_check: f64,
    /// Whether the last checkpoint shortened the step.
    shortened: bool,
    /// η, the length of a step.
    #[serde(with = "bits")]
    size: f64,
    /// l1: the share of coordinates that a step moves.
    #[serde(with = "bits")]
    share: f32,
    /// l1: coordinates that differed from the sample's at the last checkpoint.
    moved: usize,
    #[serde(with = "bits")]
    u: Vec<f32>,
    #[serde(with = "bits")]
    previous: Vec<f32>,
    #[serde(with = "bits")]
    best: Vec<f32>,
    #[serde(with = "bits")]
    best_gradient: Vec<f32>,
    #[serde(with = "bits")]
    best_value: f64,
}

impl ApgdState {
    /// An ascent from the point at distance ε that random numbers name: uniform in [−1, 1) for l-infinity, else normal.
    pub fn new(ball: &SampleBall, config: &Apgd, noise: &[f64]) -> Self {
        let radius = stages(config, ball.norm)[0].0 * ball.epsilon;
        Self::from_point(ball, config, ball.start(noise, radius))
    }

    /// An ascent from a point of the ball.
    pub fn from_point(ball: &SampleBall, config: &Apgd, start: Vec<f32>) -> Self {
        let stages = stages(config, ball.norm);
        let mut state = ApgdState {
            config: *config,
            stages,
            step: 0,
            steps: 0,
            checks: Vec::new(),
            checked: 0,
            rises: 0,
            last: 0.0,
            best_at_check: f64::NEG_INFINITY,
            shortened: false,
            size: 0.0,
            share: FIRST_SHARE,
            moved: ball.width(),
            u: Vec::new(),
            previous: Vec::new(),
            best: Vec::new(),
            best_gradient: Vec::new(),
            best_value: f64::NEG_INFINITY,
        };
        let wide = state.stages.len() > 1;
        state.begin(ball, start);
        if wide {
            state.warm(ball);
        }
        state
    }

    /// Whether an ascent that begins as `start` can come to this state.
    pub fn can_follow(&self, start: &ApgdState, ball: &SampleBall) -> bool {
        let width = ball.width();
        let evaluated = self.step == 0 || (self.best.len() == width && self.best_gradient.len() == width);
        self.config == start.config
            && !self.stages.is_empty()
            && start.stages.ends_with(&self.stages)
            && self.step <= self.stages[0].1
            && self.steps as usize <= self.config.steps
            && self.checked.max(self.rises) <= self.step
            && self.moved <= width
            && self.u.len() == width
            && self.previous.len() == width
            && evaluated
    }

    /// Whether another ascent has come as far.
    pub(crate) fn keeps_step(&self, other: &ApgdState) -> bool {
        (self.step, self.steps, &self.stages) == (other.step, other.steps, &other.stages)
    }

    /// The point to evaluate next.
    pub fn point(&self) -> &[f32] {
        &self.u
    }

    /// The best point and value so far of this stage.
    #[cfg(test)]
    pub(crate) fn best(&self) -> (&[f32], f64) {
        (&self.best, self.best_value)
    }

    /// The length of the next step.
    #[cfg(test)]
    pub(crate) fn size(&self) -> f64 {
        self.size
    }

    /// Whose checkpoints and conditions.
    pub(crate) fn mode(&self) -> Mode {
        self.config.mode
    }

    /// Whether the gradient there will be used.
    pub fn wants_gradient(&self) -> bool {
        self.step < self.stages[0].1
    }

    /// Takes in the value at [`point`](ApgdState::point), and the gradient if it was wanted, and moves.
    /// `false` if this was the last point.
    pub fn advance(&mut self, ball: &SampleBall, value: f64, gradient: &[f32]) -> bool {
        let value = if value.is_nan() { f64::NEG_INFINITY } else { value };
        let first = self.step == 0;
        if first || value > self.best_value {
            (self.best, self.best_gradient) = (self.u.clone(), gradient.to_vec());
            self.best_value = value;
        }
        if first {
            // Before the first step the reference compares with a history that is still zero.
            self.last = if self.config.mode == Mode::Reference { 0.0 } else { value };
            self.best_at_check = value;
        } else {
            self.rises += usize::from(value > self.last);
            self.last = value;
        }
        if !self.wants_gradient() {
            return self.next_stage(ball);
        }
        let back = self.checks.first() == Some(&self.step) && self.adapt_at_checkpoint(ball);
        let gradient = if back { std::mem::take(&mut self.best_gradient) } else { gradient.to_vec() };
        match ball.norm {
            Norm::L1 => self.step_sparse(ball, &gradient),
            _ => self.step_dense(ball, &gradient),
        }
        if back {
            self.best_gradient = gradient;
        }
        self.step += 1;
        self.steps += 1;
        true
    }

    /// At a checkpoint: whether the ascent goes back to its best point; adapts the step.
    fn adapt_at_checkpoint(&mut self, ball: &SampleBall) -> bool {
        let interval = self.step - self.checked;
        self.checks.remove(0);
        self.checked = self.step;
        let back = if ball.norm == Norm::L1 { self.adapt_sparse(ball) } else { self.adapt(interval) };
        self.rises = 0;
        if back {
            self.u = self.best.clone();
        }
        back
    }

    /// Halves the step if the value has risen too rarely, or if the best point has not changed and the
    /// step had not been halved before (conditions 1 and 2).
    fn adapt(&mut self, interval: usize) -> bool {
        let (rises, enough) = (self.rises as f64, self.config.rho * interval as f64);
        let rare = match self.config.mode {
            Mode::Reference => rises <= enough,
            Mode::Paper => rises < enough,
        };
        let stuck = !self.shortened && self.best_at_check >= self.best_value;
        self.shortened = rare || stuck;
        self.best_at_check = self.best_value;
        if self.shortened {
            self.size /= 2.0;
        }
        self.shortened
    }

    /// l1: the full step anew from the best point if that has become sparser, else a shorter one.
    fn adapt_sparse(&mut self, ball: &SampleBall) -> bool {
        let radius = self.stages[0].0 * ball.epsilon;
        let moved = ball.moved(&self.best);
        let sparser = self.moved > 0 && (moved as f32 / self.moved as f32) < SPARSER;
        self.share = moved as f32 / ball.width() as f32 / 1.5;
        self.size = if sparser { radius } else { (self.size / 1.5).clamp(radius / 10.0, radius) };
        self.moved = moved;
        sparser
    }

    fn step_dense(&mut self, ball: &SampleBall, gradient: &[f32]) {
        let mut toward = self.u.clone();
        match ball.norm {
            Norm::Linf => {
                let size = self.size as f32;
                toward.iter_mut().zip(gradient).for_each(|(v, &g)| *v += size * sign(g));
            }
            _ => {
                let length = Norm::L2.length(gradient.iter().map(|&g| f64::from(g)));
                let scale = if length > 0.0 { self.size / length } else { 0.0 };
                toward.iter_mut().zip(gradient).for_each(|(v, &g)| *v += (scale * f64::from(g)) as f32);
            }
        }
        ball.project(&mut toward);
        let new = if self.step == 0 { 1.0 } else { MOMENTUM };
        let mut next = self.u.clone();
        for (((next, &v), &u), &previous) in next.iter_mut().zip(&toward).zip(&self.u).zip(&self.previous) {
            *next = u + (v - u) * new + (u - previous) * (1.0 - new);
        }
        ball.project(&mut next);
        self.previous = std::mem::replace(&mut self.u, next);
    }

    /// Equal moves of the coordinates with the largest gradients, ties included.
    fn step_sparse(&mut self, ball: &SampleBall, gradient: &[f32]) {
        let width = ball.width();
        let mut sizes: Vec<f32> = gradient.iter().map(|g| g.abs()).collect();
        let rank = (((1.0 - self.share) * width as f32) as usize).min(width - 1);
        let least = *sizes.select_nth_unstable_by(rank, f32::total_cmp).1;
        let chosen = |g: &f32| *g != 0.0 && g.abs() >= least;
        let count = gradient.iter().filter(|g| chosen(g)).count();
        let each = self.size / count.max(1) as f64;
        for (u, g) in self.u.iter_mut().zip(gradient) {
            if chosen(g) {
                *u = (f64::from(*u) + each * f64::from(sign(*g))) as f32;
            }
        }
        ball.project_within(&mut self.u, self.stages[0].0 * ball.epsilon);
    }

    /// The next stage from the best point of this one; `false` if there is none.
    fn next_stage(&mut self, ball: &SampleBall) -> bool {
        if self.stages.len() == 1 {
            return false;
        }
        self.stages.remove(0);
        let mut start = std::mem::take(&mut self.best);
        ball.project_within(&mut start, self.stages[0].0 * ball.epsilon);
        self.begin(ball, start);
        self.warm(ball);
        true
    }

    fn begin(&mut self, ball: &SampleBall, start: Vec<f32>) {
        let (radius, steps) = self.stages[0];
        let sparse = ball.norm == Norm::L1;
        (self.step, self.checked, self.rises) = (0, 0, 0);
        self.checks = if sparse { sparse_checkpoints(steps) } else { checkpoints(steps, self.config.mode) };
        self.size = if sparse { radius * ball.epsilon } else { 2.0 * ball.epsilon };
        // The reference takes the time before the first checkpoint for one with a shortened step.
        self.shortened = self.config.mode == Mode::Reference;
        self.previous = start.clone();
        self.u = start;
    }

    /// l1: the sparsity of a start that is not random.
    fn warm(&mut self, ball: &SampleBall) {
        self.moved = ball.moved(&self.u);
        self.share = self.moved as f32 / ball.width() as f32 / 1.5;
    }
}

/// The random numbers that a restart of an ascent begins with: see [`SampleBall::start`].
pub(crate) fn start_noise(norm: Norm, width: usize, key: Key) -> Vec<f64> {
    let mut stream = key.stream();
    let mut draw = || match norm {
        Norm::Linf => stream.uniform(-1.0, 1.0),
        _ => stream.normal(),
    };
    (0..width).map(|_| draw()).collect()
}

fn stages(config: &Apgd, norm: Norm) -> Vec<(f64, usize)> {
    if norm != Norm::L1 || !config.wide_start {
        return vec![(1.0, config.steps)];
    }
    let mut left = config.steps;
    let mut stages: Vec<(f64, usize)> = Vec::new();
    for (radius, share) in &STAGES[..2] {
        let steps = ((share * config.steps as f64).ceil() as usize).min(left);
        left -= steps;
        stages.push((*radius, steps));
    }
    stages.push((STAGES[2].0, left));
    stages
}

/// The sign, zero of zero.
fn sign(g: f32) -> f32 {
    if g > 0.0 {
        1.0
    } else if g < 0.0 {
        -1.0
    } else {
        0.0
    }
}
