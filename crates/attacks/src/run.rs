//! Projected gradient ascent, one look at a time.

use crate::ball::Ball;
use crate::driver::{AttackDriver, Stage};
use crate::outcome::Outcome;
use crate::pgd::{Pgd, Start};
use crate::problem::Problem;
use crate::state::{SearchState, StateError, Stored};
use crate::steepest::{by_rows, per_sample, unit_rows};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tarrl_tensor::{Key, Random, Tensor};

/// Gradients of a spectral start, and how far from the input they are taken, as a share of ε.
const SPECTRAL_ITERATIONS: usize = 3;
const SPECTRAL_SHARE: f64 = 0.1;

/// Projected gradient ascent in progress: `while run.step() {}` and then [`finish`](PgdRun::finish), with
/// a [`state`](PgdRun::state) to write down wherever it may be interrupted.
pub struct PgdRun<'a> {
    config: Pgd,
    search: AttackDriver<'a>,
    place: Place,
    /// The points to look at next, and the accumulated directions.
    u: Option<Tensor>,
    velocity: Option<Tensor>,
}

/// What is to be looked at next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// The inputs, which compete.
    Clean,
    /// The point of a restart after so many steps.
    Climb { restart: usize, step: usize },
    /// Nothing.
    End,
}

/// A [`PgdRun`] written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PgdState {
    config: Pgd,
    search: SearchState,
    place: Place,
    u: Option<Stored>,
    velocity: Option<Stored>,
}

impl<'a> PgdRun<'a> {
    /// Nothing done yet.
    ///
    /// # Panics
    /// If the configuration is senseless.
    #[track_caller]
    pub fn new(config: Pgd, problem: &'a Problem<'a>) -> Self {
        config.check();
        let place = if config.looks_at_clean() { Place::Clean } else { Place::Climb { restart: 0, step: 0 } };
        PgdRun { config, search: AttackDriver::new(problem), place, u: None, velocity: None }
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
        PgdRun { u: Some(start.detach()), ..PgdRun::new(config, problem) }
    }

    /// One look and, if the restart goes on, one step. `false` if there is nothing left to do.
    #[track_caller]
    pub fn step(&mut self) -> bool {
        if self.search.is_done() {
            self.place = Place::End;
        }
        match self.place {
            Place::End => return false,
            Place::Clean => {
                self.search.stage().attack = "clean".to_owned();
                let clean = self.search.ball().center().clone();
                self.search.glance_end(&clean, false);
                self.place = Place::Climb { restart: 0, step: 0 };
            }
            Place::Climb { restart, step } => {
                let u = match self.u.take() {
                    Some(u) => u,
                    None => self.begin(restart),
                };
                if self.search.is_done() {
                    self.place = Place::End;
                    return true;
                }
                let at_input = step == 0 && restart == 0 && self.config.start == Start::Clean;
                *self.search.stage() = Stage {
                    attack: if at_input { "clean" } else { "pgd" }.to_owned(),
                    restart: restart as u32,
                    step: step as u32,
                    ..Stage::default()
                };
                if step < self.config.steps {
                    self.climb(&u);
                    self.place = Place::Climb { restart, step: step + 1 };
                } else if restart + 1 < self.config.restarts {
                    self.search.glance_end(&u, false);
                    self.place = Place::Climb { restart: restart + 1, step: 0 };
                } else {
                    self.search.glance_end(&u, true);
                    self.place = Place::End;
                }
            }
        }
        true
    }

    /// The points of largest value `(n, …)` alone. Where nobody judges and there is no budget, the host has not waited for the
    /// device until then.
    pub fn into_best(self) -> Tensor {
        self.search.into_best()
    }

    /// What was found.
    pub fn finish(self) -> Outcome {
        self.search.finish()
    }

    /// All of it. Whoever goes on from it comes to the same bits.
    pub fn state(&self) -> PgdState {
        PgdState {
            config: self.config,
            search: self.search.state(),
            place: self.place,
            u: self.u.as_ref().map(Stored::of),
            velocity: self.velocity.as_ref().map(Stored::of),
        }
    }

    /// The run that a state was taken of.
    ///
    /// # Errors
    /// If it was taken of another problem or configuration.
    pub fn resume(config: Pgd, problem: &'a Problem<'a>, state: &PgdState) -> Result<Self, StateError> {
        if state.config != config {
            let (found, wanted) = (format!("{:?}", state.config), format!("{config:?}"));
            return Err(StateError::OtherConfig { found, wanted });
        }
        let search = AttackDriver::resume(problem, &state.search)?;
        let tensor = |stored: &Stored| stored.on(problem.ball.center().device());
        let (u, velocity) = (state.u.as_ref().map(tensor), state.velocity.as_ref().map(tensor));
        Ok(PgdRun { config, search, place: state.place, u, velocity })
    }

    fn begin(&mut self, restart: usize) -> Tensor {
        self.velocity = None;
        let ball = self.search.ball();
        let keys = of_restart(&self.search.keys(), restart);
        let first = if restart == 0 { self.config.start } else { self.config.start.again() };
        match first.of(ball, &keys) {
            Some(points) => points,
            None => self.spectral(&keys),
        }
    }

    /// Power iteration with the gradient at a small distance, which for a squared displacement is
    /// twice JᵀJ times the direction; then a step of length ε along what came out.
    fn spectral(&mut self, keys: &[Key]) -> Tensor {
        let x = self.search.ball().center();
        let drawn = Tensor::random(x.device(), Random::Normal, keys, &x.shape()[1..], x.dtype());
        let mut direction = by_rows(&drawn, unit_rows);
        self.search.stage().attack = "spectral-start".to_owned();
        for _ in 0..SPECTRAL_ITERATIONS {
            let ball = self.search.ball();
            let size: Vec<f64> = ball.radii().iter().map(|radius| SPECTRAL_SHARE * radius).collect();
            let u = ball.project(&(ball.center() + &(&direction * &per_sample(&direction, &size))));
            let seen = self.search.evaluate_with_grad(&u);
            let Some(gradient) = &seen.gradient else { return u };
            direction = by_rows(gradient, unit_rows);
        }
        let ball = self.search.ball();
        ball.project(&ball.step_each(ball.center(), &direction, ball.radii()))
    }

    fn climb(&mut self, u: &Tensor) {
        let seen = self.search.glance_back(u);
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
        let ball = self.search.ball();
        self.u = Some(ball.project(&ball.step(&seen.keep(u), &direction, self.config.step_size)));
    }
}

impl Start {
    /// Points of the balls, from one key per sample; `None` if that takes a look at the model.
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
    /// Where the first ascent begins `(n, …)`, from one key per sample; `None` if that takes a look at the model. To be
    /// drawn before the attack, for [`PgdRun::from`].
    ///
    /// # Panics
    /// If there are not as many keys as samples.
    pub fn start(&self, ball: &Ball, keys: &[Key]) -> Option<Tensor> {
        self.start.of(ball, &of_restart(keys, 0))
    }

    /// How many forward passes a sample has had before each look of its first ascent.
    pub(crate) fn first_ascent(&self) -> Range<u32> {
        let spectral = if self.start == Start::Spectral { SPECTRAL_ITERATIONS as u32 } else { 0 };
        let first = u32::from(self.looks_at_clean()) + spectral;
        first..first + self.steps as u32 + 1
    }

    /// Whether the inputs are looked at beside the ascents.
    fn looks_at_clean(&self) -> bool {
        self.include_clean && self.start != Start::Clean
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
