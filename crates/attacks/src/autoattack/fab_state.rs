//! FAB of one sample (Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary
//! attack"): steps along the decision boundary towards the sample.

use crate::autoattack::box_projection::{Hyperplane, nearest_on_hyperplane};
use crate::autoattack::logit_losses::{difference, status_of};
use crate::autoattack::mode::Mode;
use crate::autoattack::sample_ball::SampleBall;
use crate::driver::bits;
use crate::threat::Norm;
use serde::{Deserialize, Serialize};

/// Configuration of FAB.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fab {
    /// Steps of each restart.
    pub steps: usize,
    /// Runs for each target: the first from the sample, others from random points; at least one.
    pub restarts: usize,
    /// α_max: the largest weight of the pull towards the sample.
    pub alpha_max: f64,
    /// η: how far beyond the linearized boundary a step goes; at least 1.
    pub overshoot: f64,
    /// β: the share of its displacement that a point beyond the boundary keeps.
    #[serde(rename = "pull_back")]
    pub contraction: f64,
    /// Which starts and which floor of slopes.
    pub mode: Mode,
}

/// The parameters of the paper and of AutoAttack.
impl Default for Fab {
    fn default() -> Self {
        Fab {
            steps: 100,
            restarts: 1,
            alpha_max: 0.1,
            overshoot: 1.05,
            contraction: 0.9,
            mode: Mode::Reference,
        }
    }
}

/// The reference leaves out slopes of at most this size, in l2 and l1.
const SMALL_SLOPE: f64 = 1e-8;
const SMALL_MOVE: f64 = 1e-8;
const SMALL_NORM: f64 = 1e-12;

/// A run of FAB in progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FabState {
    config: Fab,
    label: u32,
    /// The only class to aim at; `None` for the nearest.
    target: Option<u32>,
    /// Steps taken.
    #[serde(rename = "taken")]
    pub(crate) steps: u32,
    /// Whether the point is one that a step led to, and not one that was pulled back.
    stepped: bool,
    /// Whether the last step led beyond the boundary.
    pub(crate) beyond: bool,
    /// The distance of the nearest point beyond the boundary.
    #[serde(with = "bits")]
    pub(crate) nearest: f64,
    #[serde(with = "bits")]
    u: Vec<f32>,
}

impl FabState {
    /// A run from the sample.
    pub(crate) fn new(ball: &SampleBall, config: &Fab, label: u32, target: Option<u32>) -> Self {
        let u = ball.x.clone();
        FabState {
            config: *config,
            label,
            target,
            steps: 0,
            stepped: false,
            beyond: false,
            nearest: f64::INFINITY,
            u,
        }
    }

    /// A run from a random point: half of ε from the sample in the direction of `noise`, in the mode of the
    /// paper half of the `nearest` distance so far if that is less.
    pub(crate) fn restart(mut self, ball: &SampleBall, noise: &[f64], nearest: f64) -> Self {
        let radius = match self.config.mode {
            Mode::Reference => ball.epsilon,
            Mode::Paper => ball.epsilon.min(nearest),
        };
        let length = ball.norm.length(noise.iter().copied());
        let scale = if length > 0.0 { 0.5 * radius / length } else { 0.0 };
        for (u, t) in self.u.iter_mut().zip(noise) {
            *u = (f64::from(*u) + scale * t) as f32;
        }
        ball.clamp(&mut self.u);
        self
    }

    /// Whether a run that begins as `start` can come to this state.
    pub(crate) fn can_follow(&self, start: &FabState) -> bool {
        let fixed = |state: &FabState| (state.config, state.label, state.target, state.u.len());
        fixed(self) == fixed(start) && self.steps as usize <= self.config.steps
    }

    /// The point to evaluate next.
    pub(crate) fn point(&self) -> &[f32] {
        &self.u
    }

    /// Whether no step has been taken, and one will be.
    pub(crate) fn begins(&self) -> bool {
        self.steps == 0 && self.config.steps > 0
    }

    /// Whether logits `z` there, of a point that a step led to, lie beyond the boundary: then the point is
    /// pulled back, and no gradient is needed.
    fn crossed(&self, z: &[f64]) -> bool {
        self.stepped && status_of(z, self.label as usize).success
    }

    /// The gradients in the logits (k) whose vector-Jacobian products in the input the run needs: those of `z_l − z_y`.
    pub(crate) fn cotangents(&self, z: &[f64]) -> Vec<Vec<f64>> {
        if self.crossed(z) || self.steps as usize == self.config.steps {
            return Vec::new();
        }
        self.rivals(z.len()).map(|l| difference(z, l, self.label as usize).1).collect()
    }

    /// Takes in what was seen and moves; `false` if this was the last point.
    pub(crate) fn advance(&mut self, ball: &SampleBall, z: &[f64], gradients: &[Vec<f32>]) -> bool {
        let crossed = self.crossed(z);
        if self.stepped {
            self.beyond = crossed;
        }
        if crossed {
            self.nearest = self.nearest.min(ball.distance(&self.u));
            let keep = self.config.contraction as f32;
            self.u.iter_mut().zip(&ball.x).for_each(|(u, &x)| *u = x + (*u - x) * keep);
            self.stepped = false;
            return (self.steps as usize) < self.config.steps;
        }
        if self.steps as usize == self.config.steps {
            return false;
        }
        self.step(ball, z, gradients);
        self.stepped = true;
        self.steps += 1;
        true
    }

    /// A step towards the linearized boundary, from the point and, with weight α, from the sample.
    fn step(&mut self, ball: &SampleBall, z: &[f64], gradients: &[Vec<f32>]) {
        let y = self.label as usize;
        let gaps: Vec<f64> = self.rivals(z.len()).map(|l| z[l] - z[y]).collect();
        let wide: Vec<Vec<f64>> =
            gradients.iter().map(|g| g.iter().map(|&g| f64::from(g)).collect()).collect();
        let dual = ball.norm.dual().unwrap_or(Norm::L1);
        let far = |i: usize| gaps[i].abs() / (SMALL_NORM + dual.length(wide[i].iter().copied()));
        let choices = (0..gaps.len()).map(|i| (i, far(i)));
        let (s, _) = choices.reduce(|a, b| if b.1 < a.1 { b } else { a }).expect("at least two classes");
        let mut normal = wide[s].clone();
        let mut gap = gaps[s];
        let mut floor = if ball.norm == Norm::Linf { 0.0 } else { SMALL_SLOPE };
        if self.config.mode == Mode::Paper {
            let largest = normal.iter().fold(0.0f64, |m, w| m.max(w.abs()));
            if largest > 0.0 {
                normal.iter_mut().for_each(|w| *w /= largest);
                gap /= largest;
            }
            floor = 0.0;
        }
        // The hyperplane ⟨w, ·⟩ = ⟨w, u⟩ − (z_s − z_y) lies this far from u and from x.
        let between: f64 = normal
            .iter()
            .zip(&ball.x)
            .zip(&self.u)
            .map(|((w, &x), &u)| w * (f64::from(x) - f64::from(u)))
            .sum();
        let (lo, hi) = ball.bounds();
        let bounds = (f64::from(lo), f64::from(hi));
        let d1 =
            nearest_on_hyperplane(ball.norm, &self.u, &Hyperplane { normal: &normal, gap, bounds, floor });
        let d2 = nearest_on_hyperplane(
            ball.norm,
            &ball.x,
            &Hyperplane { normal: &normal, gap: gap + between, bounds, floor },
        );
        let length = |d: &[f64]| ball.norm.length(d.iter().copied()).max(SMALL_MOVE);
        let (a1, a2) = (length(&d1), length(&d2));
        let alpha = (a1 / (a1 + a2)).min(self.config.alpha_max);
        let eta = self.config.overshoot;
        for (((u, &x), d1), d2) in self.u.iter_mut().zip(&ball.x).zip(&d1).zip(&d2) {
            let (here, there) = (f64::from(*u) + eta * d1, f64::from(x) + eta * d2);
            *u = ((1.0 - alpha) * here + alpha * there) as f32;
        }
        ball.clamp(&mut self.u);
    }

    fn rivals(&self, classes: usize) -> impl Iterator<Item = usize> {
        let (label, target) = (self.label as usize, self.target);
        (0..classes).filter(move |&l| l != label && target.is_none_or(|t| t as usize == l))
    }
}
