//! APGD (Croce & Hein 2020; for l1 Croce & Hein 2021): gradient ascent that sets its own step.

use crate::driver::{AttackDriver, StepResult};
use crate::outcome::Outcome;
use crate::problem::Problem;
use crate::suite::cell::Cell;
use crate::suite::climb::Climb;
use crate::suite::mode::Mode;
use crate::threat::Norm;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Tensor};

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

/// APGD on any objective: a label loss, the displacement of a representation, a term of a bound.
///
/// Each restart costs `steps` backward and `steps + 1` forward passes, with `wide_start` two forward
/// passes more. Samples leave at success if the limits of the problem say so.
///
/// ```
/// use tarrl_attacks::{Apgd, Evaluation, Limits, Problem, Threat, Query, apgd};
/// use tarrl_tensor::{Key, Tensor, cpu};
///
/// let x = Tensor::new(&cpu(), [1, 2], &[0.5f32, 0.5]); // (n, d)
/// let w = Tensor::new(&cpu(), [2, 1], &[1.0f32, -2.0]);
/// let rise = |u: &Tensor, _: Query<'_>| Evaluation::of(u.matmul(&w).reshape([1]));
/// let ball = Threat::l2(0.1).around(&x);
/// let problem = Problem::new(ball, &rise, &[Key::new(7)], Limits::default());
/// let found = apgd(&problem, &Apgd { steps: 40, ..Apgd::default() });
/// assert!((found.value[0] - (-0.5 + 0.1 * 5f64.sqrt())).abs() < 1e-5); // ε‖w‖₂ above the clean −0.5
/// ```
///
/// # Panics
/// If there are no restarts, the norm is l0, or the evaluation answers in another shape than `(m)`.
#[track_caller]
pub fn apgd(problem: &Problem<'_>, config: &Apgd) -> Outcome {
    config.check(problem.ball.threat().norm);
    let mut search = AttackDriver::new(problem);
    search.stage().attack = "apgd".to_owned();
    for restart in 0..config.restarts {
        search.reopen();
        if search.is_done() {
            break;
        }
        search.stage().restart = restart as u32;
        ascend_all(&mut search, config, restart);
    }
    search.finish()
}

impl Apgd {
    #[track_caller]
    pub(crate) fn check(&self, norm: Norm) {
        assert!(self.restarts > 0, "apgd: no restarts, so nothing to do");
        assert!(norm != Norm::L0, "apgd: there is no step rule for l0");
    }
}

/// The random numbers that a restart of an ascent begins with: see [`Cell::start`].
pub(crate) fn noise(norm: Norm, width: usize, key: Key) -> Vec<f64> {
    let mut stream = key.stream();
    let mut draw = || match norm {
        Norm::Linf => stream.uniform(-1.0, 1.0),
        _ => stream.normal(),
    };
    (0..width).map(|_| draw()).collect()
}

fn ascend_all(search: &mut AttackDriver<'_>, config: &Apgd, restart: usize) {
    let ball = search.ball().clone();
    let (threat, width) = (*ball.threat(), ball.width());
    let centers = ball.center().array().cast(tarrl_tensor::DType::F32).to_vec::<f32>();
    let start = |(i, key): (usize, &Key)| {
        let cell = Cell::new(&threat, ball.radii()[i], &centers[i * width..][..width]);
        let key = key.fold("apgd").fold(restart);
        let climb = Climb::new(&cell, config, &noise(threat.norm, width, key));
        (cell, climb)
    };
    let mut climbs: Vec<(Cell, Climb)> = search.keys().iter().enumerate().map(start).collect();
    while !climbs.is_empty() {
        search.stage().step = climbs[0].1.taken;
        let points = stack(climbs.iter().map(|(_, climb)| climb.point()), ball.center());
        // All climbs take the same steps, so that they want gradients together.
        let seen = if climbs[0].1.wants_gradient() {
            search.evaluate_with_grad(&points)
        } else {
            search.evaluate(&points)
        };
        climbs = advance(climbs, &seen);
    }
}

fn advance(climbs: Vec<(Cell, Climb)>, seen: &StepResult) -> Vec<(Cell, Climb)> {
    let left = seen.left.clone().unwrap_or_else(|| (0..climbs.len()).collect());
    let gradients = seen.gradient.as_ref().map(|g| g.array().cast(tarrl_tensor::DType::F32).to_vec::<f32>());
    let mut climbs: Vec<Option<(Cell, Climb)>> = climbs.into_iter().map(Some).collect();
    let mut go_on = Vec::with_capacity(left.len());
    for (position, &i) in left.iter().enumerate() {
        let (cell, mut climb) = climbs[i].take().expect("positions of survivors are distinct");
        let width = cell.width();
        let gradient = gradients.as_ref().map_or(&[][..], |g| &g[position * width..][..width]);
        if climb.advance(&cell, seen.value[position], gradient) {
            go_on.push((cell, climb));
        }
    }
    go_on
}

/// Points as a batch `(m, …)` of samples shaped as those of `like`.
pub(crate) fn stack<'a>(points: impl Iterator<Item = &'a [f32]>, like: &Tensor) -> Tensor {
    stack_in(&mut Vec::new(), points, like)
}

/// The same by way of `room`, which is kept.
pub(crate) fn stack_in<'a>(
    room: &mut Vec<f32>,
    points: impl Iterator<Item = &'a [f32]>,
    like: &Tensor,
) -> Tensor {
    room.clear();
    let mut count = 0;
    for point in points {
        room.extend_from_slice(point);
        count += 1;
    }
    Tensor::new(like.device(), like.shape().with(0, count), room).cast(like.dtype())
}
