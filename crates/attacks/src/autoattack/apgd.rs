//! APGD on any objective as a step rule (Croce & Hein 2020; for l1 Croce & Hein 2021): gradient ascent that sets its own
//! step size.

use crate::autoattack::apgd_state::{Apgd, ApgdState, start_noise};
use crate::autoattack::sample_ball::SampleBall;
use crate::driver::{AttackDriver, AttackRun, Outcome, Problem, StateError, StepResult, StepRule, demand};
use crate::threat::rows::stack;
use tarrl_tensor::{DType, Key};

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
/// let objective = |u: &Tensor, _: Query<'_>| Evaluation::of(u.matmul(&w).reshape([1]));
/// let ball = Threat::l2(0.1).around(&x);
/// let problem = Problem::new(ball, &objective, &[Key::new(7)], Limits::default());
/// let found = apgd(&problem, &Apgd { steps: 40, ..Apgd::default() });
/// assert!((found.value[0] - (-0.5 + 0.1 * 5f64.sqrt())).abs() < 1e-5); // ε‖w‖₂ above the clean −0.5
/// ```
///
/// # Panics
/// If there are no restarts, the norm is l0, or the evaluation answers in another shape than `(m)`.
#[track_caller]
pub fn apgd(problem: &Problem<'_>, config: &Apgd) -> Outcome {
    config.check(problem.ball.threat().norm);
    AttackRun::of(ApgdRule { config: *config, problem, restart: 0, states: Vec::new(), balls: Vec::new() })
        .run()
}

/// The step rule of APGD.
struct ApgdRule<'a> {
    config: Apgd,
    problem: &'a Problem<'a>,
    /// Restarts begun.
    restart: usize,
    /// The ascents of the active samples, and their balls.
    states: Vec<ApgdState>,
    balls: Vec<SampleBall>,
}

impl<'a> StepRule<'a> for ApgdRule<'a> {
    type Config = Apgd;
    type State = (usize, Vec<ApgdState>);
    const NAME: &'static str = "apgd";

    fn problem(&self) -> &'a Problem<'a> {
        self.problem
    }

    fn config(&self) -> &Apgd {
        &self.config
    }

    fn step(&mut self, driver: &mut AttackDriver<'a>) -> bool {
        if self.states.is_empty() {
            if self.restart == self.config.restarts {
                return false;
            }
            driver.reactivate();
            if driver.is_done() {
                return false;
            }
            self.begin(driver);
        }
        if self.balls.is_empty() {
            self.balls = balls(driver);
        }
        driver.stage().step = self.states[0].steps;
        let points = stack(self.states.iter().map(ApgdState::point), self.problem.ball.center());
        // Ascents are in f32, whose rounding may lead out of a ball around f64.
        let points = if points.dtype() == DType::F64 { driver.ball().project(&points) } else { points };
        // All ascents take the same steps, so that they want gradients together.
        let seen = if self.states[0].wants_gradient() {
            driver.evaluate_with_grad(&points)
        } else {
            driver.evaluate(&points)
        };
        self.advance(&seen);
        true
    }

    fn state(&self) -> (usize, Vec<ApgdState>) {
        (self.restart, self.states.clone())
    }

    fn restore(
        &mut self,
        (restart, states): &(usize, Vec<ApgdState>),
        driver: &AttackDriver<'a>,
    ) -> Result<(), StateError> {
        demand(*restart <= self.config.restarts, "more restarts have begun than are configured")?;
        demand(
            states.is_empty() || states.len() == driver.active().len(),
            "ascents are not of the active samples",
        )?;
        self.balls = balls(driver);
        let (same_step, config) = (states.windows(2).all(|pair| pair[0].keeps_step(&pair[1])), &self.config);
        let fits = |(state, ball): (&ApgdState, &SampleBall)| {
            state.can_follow(&ApgdState::new(ball, config, &vec![0.0; ball.width()]), ball)
        };
        demand(
            same_step && states.iter().zip(&self.balls).all(fits),
            "an ascent is at a step or of a shape that is not configured",
        )?;
        self.restart = *restart;
        self.states.clone_from(states);
        Ok(())
    }
}

impl ApgdRule<'_> {
    /// The ascents of the next restart.
    fn begin(&mut self, driver: &mut AttackDriver<'_>) {
        driver.stage().restart = self.restart as u32;
        self.balls = balls(driver);
        let start = |(ball, key): (&SampleBall, &Key)| {
            let key = key.fold("apgd").fold(self.restart);
            ApgdState::new(ball, &self.config, &start_noise(ball.norm, ball.width(), key))
        };
        self.states = self.balls.iter().zip(&driver.keys()).map(start).collect();
        self.restart += 1;
    }

    /// Moves the ascents of the samples that go on; all others end.
    fn advance(&mut self, seen: &StepResult) {
        let gradients = seen.gradient.as_ref().map(|g| g.array().cast(DType::F32).to_vec::<f32>());
        if seen.kept.is_some() {
            (self.states, self.balls) = (seen.keep_each(&self.states), seen.keep_each(&self.balls));
        }
        let mut goes_on = true;
        for (position, (ball, state)) in self.balls.iter().zip(&mut self.states).enumerate() {
            let width = ball.width();
            let gradient = gradients.as_ref().map_or(&[][..], |g| &g[position * width..][..width]);
            goes_on &= state.advance(ball, seen.value[position], gradient);
        }
        if !goes_on {
            self.states.clear();
            self.balls.clear();
        }
    }
}

/// The balls of the active samples.
fn balls(driver: &AttackDriver<'_>) -> Vec<SampleBall> {
    let ball = driver.ball();
    let width = ball.width();
    let centers = ball.center().array().cast(DType::F32).to_vec::<f32>();
    let of = |i: usize| SampleBall::new(ball.threat(), ball.radii()[i], &centers[i * width..][..width]);
    (0..ball.len()).map(of).collect()
}
