//! PGD as a step rule: evaluate the points with their gradient, step along it, project.

use crate::driver::{
    AttackDriver, AttackRun, Evaluate, Evaluation, Limits, Outcome, Problem, Query, Stage, StateError,
    StepRule, Stored, demand,
};
use crate::pgd::config::{Pgd, Start};
use crate::threat::rows::{by_rows, per_sample, row_index, unit_rows};
use crate::threat::{Ball, Threat};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tarrl_tensor::{Key, Random, Tensor};

/// Gradients of a spectral start, and how far from the input they are taken, as a share of ε.
const SPECTRAL_ITERATIONS: usize = 3;
const SPECTRAL_SHARE: f64 = 0.1;

/// What an attack ascends: points `(m, …)` and the rows of the batch they belong to, to values `(m)`,
/// each a function of its own point alone.
pub type Objective<'a> = dyn Fn(&Tensor, &[usize]) -> Tensor + 'a;

/// Projected gradient ascent of `objective` around each sample of `x` `(n, …)`, with one key per sample.
///
/// Costs `restarts · steps` backward and `restarts · (steps + 1)` forward passes, and one forward
/// more if the clean input competes from a random start.
///
/// # Panics
/// As [`ascend`].
#[track_caller]
pub fn pgd(x: &Tensor, objective: &Objective<'_>, threat: &Threat, config: &Pgd, keys: &[Key]) -> Outcome {
    let evaluate = |u: &Tensor, query: Query<'_>| Evaluation::of(objective(u, query.rows));
    ascend(x, &evaluate, threat, config, keys)
}

/// Projected gradient ascent of `evaluate` around each sample of `x` `(n, …)`, with one key per sample.
///
/// The first restart begins where `config.start` says, the others at random points. Each takes
/// `config.steps` steps; the last point is evaluated without a backward pass. With
/// `config.early_stop`, a sample leaves the batch, and all restarts, at its first success: it is
/// evaluated no more.
///
/// A gradient that is not finite counts as zero, a NaN value as minus infinity; both are flagged.
/// Points are compared by strict improvement, so that the first of equals is kept.
///
/// # Panics
/// If there are not as many keys as samples, the configuration is invalid, `x` leaves the box
/// ([`Threat::around`]), or `evaluate` answers in another shape than `(m)`.
#[track_caller]
pub fn ascend(x: &Tensor, evaluate: &Evaluate<'_>, threat: &Threat, config: &Pgd, keys: &[Key]) -> Outcome {
    let limits = Limits { early_stop: config.early_stop, ..Limits::default() };
    config.run(&Problem::new(threat.around(x), evaluate, keys, limits))
}

impl Pgd {
    /// The attack on a problem, whose limits hold in place of `early_stop`.
    ///
    /// # Panics
    /// As [`ascend`].
    #[track_caller]
    pub fn run(&self, problem: &Problem<'_>) -> Outcome {
        PgdRun::new(*self, problem).run()
    }
}

/// One step of length ε from the input, kept where it improves the objective.
///
/// # Panics
/// As [`ascend`].
#[track_caller]
pub fn fgsm(x: &Tensor, objective: &Objective<'_>, threat: &Threat) -> Outcome {
    // Nothing is random from a clean start with one restart: any keys do.
    let keys = vec![Key::new(0); x.shape().first().copied().unwrap_or(0)];
    pgd(x, objective, threat, &Pgd::single_step(threat.epsilon), &keys)
}

/// PGD in progress, with resume.
pub type PgdRun<'a> = AttackRun<'a, PgdRule<'a>>;

/// The step rule of PGD.
pub struct PgdRule<'a> {
    config: Pgd,
    problem: &'a Problem<'a>,
    position: Position,
    /// The points to evaluate next, and the accumulated directions.
    u: Option<Tensor>,
    velocity: Option<Tensor>,
}

/// What is to be evaluated next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Position {
    /// The inputs, which compete.
    Clean,
    /// The point of a restart after so many steps.
    Ascent { restart: usize, step: usize },
    /// Nothing.
    End,
}

/// What [`PgdRule`] remembers, stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PgdRuleState {
    position: Position,
    u: Option<Stored>,
    velocity: Option<Stored>,
}

impl<'a> PgdRun<'a> {
    /// Nothing done yet.
    ///
    /// # Panics
    /// If the configuration is invalid.
    #[track_caller]
    pub fn new(config: Pgd, problem: &'a Problem<'a>) -> Self {
        AttackRun::of(PgdRule::new(config, problem))
    }

    /// As [`new`](PgdRun::new), from points `start` `(n, …)` of the balls in the first ascent, such as those of
    /// [`Pgd::start`].
    ///
    /// # Panics
    /// If there are not as many points as samples.
    #[track_caller]
    pub fn from(config: Pgd, problem: &'a Problem<'a>, start: &Tensor) -> Self {
        let (shape, balls) = (start.shape(), problem.ball.center().shape());
        assert_eq!(shape, balls, "attack: points {shape:?} to start from, balls {balls:?}");
        AttackRun::of(PgdRule { u: Some(start.detach()), ..PgdRule::new(config, problem) })
    }
}

impl<'a> StepRule<'a> for PgdRule<'a> {
    type Config = Pgd;
    type State = PgdRuleState;
    const NAME: &'static str = "pgd";

    fn problem(&self) -> &'a Problem<'a> {
        self.problem
    }

    fn config(&self) -> &Pgd {
        &self.config
    }

    fn step(&mut self, driver: &mut AttackDriver<'a>) -> bool {
        if driver.is_done() {
            self.position = Position::End;
        }
        match self.position {
            Position::End => return false,
            Position::Clean => {
                driver.stage().attack = "clean".to_owned();
                let clean = driver.ball().center().clone();
                let before = driver.active().to_vec();
                driver.evaluate_deferred(&clean, false);
                // Points to start from, of the samples that go on.
                if let Some(start) = self.u.as_mut().filter(|_| driver.active().len() < before.len()) {
                    let kept = driver.active().iter().filter_map(|row| before.binary_search(row).ok());
                    *start = start.gather(0, &row_index(start, &kept.collect::<Vec<_>>()));
                }
                self.position = Position::Ascent { restart: 0, step: 0 };
            }
            Position::Ascent { restart, step } => {
                let u = match self.u.take() {
                    Some(u) => u,
                    None => self.begin(driver, restart),
                };
                if driver.is_done() {
                    self.position = Position::End;
                    return true;
                }
                let at_input = step == 0 && restart == 0 && self.config.start == Start::Clean;
                *driver.stage() = Stage {
                    attack: if at_input { "clean" } else { PgdRule::NAME }.to_owned(),
                    restart: restart as u32,
                    step: step as u32,
                    ..Stage::default()
                };
                if step < self.config.steps {
                    self.ascend(driver, &u);
                    self.position = Position::Ascent { restart, step: step + 1 };
                } else if restart + 1 < self.config.restarts {
                    driver.evaluate_deferred(&u, false);
                    self.position = Position::Ascent { restart: restart + 1, step: 0 };
                } else {
                    driver.evaluate_deferred(&u, true);
                    self.position = Position::End;
                }
            }
        }
        true
    }

    fn state(&self) -> PgdRuleState {
        PgdRuleState {
            position: self.position,
            u: self.u.as_ref().map(Stored::of),
            velocity: self.velocity.as_ref().map(Stored::of),
        }
    }

    fn restore(&mut self, state: &PgdRuleState, driver: &AttackDriver<'a>) -> Result<(), StateError> {
        if let Position::Ascent { restart, step } = state.position {
            demand(
                restart < self.config.restarts && step <= self.config.steps,
                "a step is not one of those configured",
            )?;
        }
        // None is left of a run that is over, and no direction without points.
        let points = state.u.as_ref().filter(|_| !driver.is_done());
        let tensor = |stored: &Stored| stored.restore(driver.ball().center(), driver.active().len());
        self.velocity = state.velocity.as_ref().filter(|_| points.is_some()).map(tensor).transpose()?;
        self.u = points.map(tensor).transpose()?;
        self.position = state.position;
        Ok(())
    }
}

impl<'a> PgdRule<'a> {
    #[track_caller]
    fn new(config: Pgd, problem: &'a Problem<'a>) -> Self {
        config.check();
        let first = Position::Ascent { restart: 0, step: 0 };
        let position = if config.evaluates_clean() { Position::Clean } else { first };
        PgdRule { config, problem, position, u: None, velocity: None }
    }

    /// One step from the points `u`.
    #[track_caller]
    fn ascend(&mut self, driver: &mut AttackDriver<'a>, u: &Tensor) {
        let seen = driver.evaluate_with_grad_deferred(u);
        let Some(gradient) = &seen.gradient else { return };
        let mut direction = gradient.clone();
        if self.config.momentum > 0.0 {
            let unit = by_rows(gradient, |rows| {
                let length = rows.abs().sum(1);
                rows / &(&length + &length.equal(&length.zeros_like()))
            });
            direction = match &self.velocity {
                Some(before) => &seen.keep(before).mul_scalar(self.config.momentum) + &unit,
                None => unit,
            };
            self.velocity = Some(direction.clone());
        }
        let ball = driver.ball();
        self.u = Some(ball.project(&ball.step(&seen.keep(u), &direction, self.config.step_size)));
    }

    /// The first points of a restart.
    fn begin(&mut self, driver: &mut AttackDriver<'a>, restart: usize) -> Tensor {
        self.velocity = None;
        let keys = of_restart(&driver.keys(), restart);
        let first = if restart == 0 { self.config.start } else { self.config.start.again() };
        match first.of(driver.ball(), &keys) {
            Some(points) => points,
            None => spectral_start(driver, &keys),
        }
    }
}

/// Power iteration with the gradient at a small distance, which for a squared displacement is
/// twice JᵀJ times the direction; then a step of length ε along what came out.
fn spectral_start(driver: &mut AttackDriver<'_>, keys: &[Key]) -> Tensor {
    let x = driver.ball().center();
    let drawn = Tensor::random(x.device(), Random::Normal, keys, &x.shape()[1..], x.dtype());
    let mut direction = by_rows(&drawn, unit_rows);
    driver.stage().attack = "spectral-start".to_owned();
    for _ in 0..SPECTRAL_ITERATIONS {
        let ball = driver.ball();
        let size: Vec<f64> = ball.radii().iter().map(|radius| SPECTRAL_SHARE * radius).collect();
        let u = ball.project(&(ball.center() + &(&direction * &per_sample(&direction, &size))));
        let seen = driver.evaluate_with_grad(&u);
        let Some(gradient) = &seen.gradient else { return u };
        direction = by_rows(gradient, unit_rows);
    }
    let ball = driver.ball();
    ball.project(&ball.step_each(ball.center(), &direction, ball.radii()))
}

impl Start {
    /// Points of the balls, from one key per sample; `None` if that takes evaluations.
    fn of(self, ball: &Ball, keys: &[Key]) -> Option<Tensor> {
        match self {
            Start::Clean => Some(ball.center().clone()),
            Start::HalfSigns => Some(half_signs(ball, keys)),
            Start::Random => Some(ball.start(keys)),
            Start::Spectral => None,
        }
    }

    /// That of the restarts after the first.
    fn again(self) -> Start {
        if self == Start::Clean { Start::Random } else { self }
    }
}

impl Pgd {
    /// Where the first ascent begins `(n, …)`, from one key per sample; `None` if that takes evaluations. To be
    /// drawn before the attack, for [`PgdRun::from`].
    ///
    /// # Panics
    /// If there are not as many keys as samples.
    pub fn start(&self, ball: &Ball, keys: &[Key]) -> Option<Tensor> {
        self.start.of(ball, &of_restart(keys, 0))
    }

    /// How many forward passes a sample has had before each evaluation of its first ascent.
    pub(crate) fn first_ascent(&self) -> Range<u32> {
        let spectral = if self.start == Start::Spectral { SPECTRAL_ITERATIONS as u32 } else { 0 };
        let first = u32::from(self.evaluates_clean()) + spectral;
        first..first + self.steps as u32 + 1
    }
}

fn of_restart(keys: &[Key], restart: usize) -> Vec<Key> {
    keys.iter().map(|key| key.fold("restart").fold(restart)).collect()
}

fn half_signs(ball: &Ball, keys: &[Key]) -> Tensor {
    let x = ball.center();
    let signs = Tensor::random(x.device(), Random::Normal, keys, &x.shape()[1..], x.dtype()).sign();
    let half: Vec<f64> = ball.radii().iter().map(|radius| 0.5 * radius).collect();
    ball.project(&(x + &(&signs * &per_sample(x, &half))))
}
