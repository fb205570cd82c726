//! Guided adversarial margin attack (GAMA-PGD): margins of probabilities, led away from the clean prediction at first.

use crate::classifier::attack::{ClassifierOutcome, verdicts};
use crate::classifier::losses::margins;
use crate::driver::{
    AttackDriver, AttackRun, Evaluation, Limits, Problem, Query, Stage, StateError, StepRule, Stored,
};
use crate::threat::{Ball, Threat, rows::row_index};
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Random, Tensor};

/// Settings of [`gama_pgd`] (Sriramanan et al. 2020).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gama {
    /// Steps. The step is 2 ε at first, a tenth of it from 60 % of the steps on, and a hundredth from 85 % on.
    pub steps: usize,
    /// λ: the factor of the squared distance from the clean probabilities at the first step; it falls to 0 in a quarter of
    /// the steps, linearly.
    pub weight: f64,
}

impl Default for Gama {
    /// A hundred steps with λ = 50.
    fn default() -> Self {
        Gama { steps: 100, weight: 50.0 }
    }
}

impl Gama {
    /// λ at an evaluation, numbered from 0.
    fn weight_at(&self, evaluation: u32) -> f64 {
        let quarter = 0.25 * self.steps as f64;
        self.weight * (1.0 - f64::from(evaluation) / quarter).max(0.0)
    }

    /// The length of a step over ε.
    fn length_at(&self, step: usize) -> f64 {
        let share = step as f64 / self.steps as f64;
        match share {
            _ if share < 0.6 => 2.0,
            _ if share < 0.85 => 0.2,
            _ => 0.02,
        }
    }
}

/// Ascends `max_{i≠y} p_i − p_y + λ ‖p − p(x)‖²` of the probabilities `p` of each sample of `x (n, …)`, from a random corner of
/// the ball, with one label and one key for each sample. A sample leaves at its first misclassification.
///
/// # Panics
/// If there are not as many labels or keys as samples, a label is out of range, there are fewer than two classes or no steps.
#[track_caller]
pub fn gama_pgd(
    logits: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    labels: &[u32],
    threat: &Threat,
    config: &Gama,
    keys: &[Key],
) -> ClassifierOutcome {
    assert!(config.steps > 0, "gama_pgd: no steps");
    let clean = logits(x).softmax().detach();
    let evaluate = |u: &Tensor, query: Query<'_>| {
        let z = logits(u);
        let labels: Vec<u32> = query.rows.iter().map(|&row| labels[row]).collect();
        let p = z.softmax();
        let far =
            (&p - &clean.gather(0, &row_index(&clean, query.rows))).square().sum(1).reshape([labels.len()]);
        let weights: Vec<f64> = query.passes.iter().map(|&passes| config.weight_at(passes)).collect();
        let weights = Tensor::new(z.device(), [labels.len()], &weights).cast(z.dtype());
        let value = &margins(&p, &labels).neg() + &(&far * &weights);
        Evaluation { value, verdict: Some(verdicts(&z, &labels)) }
    };
    let limits = Limits { early_stop: true, ..Limits::default() };
    let problem = Problem::new(threat.around(x), &evaluate, keys, limits);
    AttackRun::of(GamaRule { config: *config, problem: &problem, step: 0, u: None }).run().into()
}

/// The step rule of GAMA-PGD.
struct GamaRule<'a> {
    config: Gama,
    problem: &'a Problem<'a>,
    step: usize,
    u: Option<Tensor>,
}

/// What [`GamaRule`] remembers, stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct GamaState {
    step: usize,
    u: Option<Stored>,
}

impl<'a> StepRule<'a> for GamaRule<'a> {
    type Config = Gama;
    type State = GamaState;
    const NAME: &'static str = "gama-pgd";

    fn problem(&self) -> &'a Problem<'a> {
        self.problem
    }

    fn config(&self) -> &Gama {
        &self.config
    }

    fn step(&mut self, driver: &mut AttackDriver<'a>) -> bool {
        if driver.is_done() || self.step > self.config.steps {
            return false;
        }
        let u = self.u.take().unwrap_or_else(|| corners(driver.ball(), &driver.keys()));
        *driver.stage() =
            Stage { attack: GamaRule::NAME.to_owned(), step: self.step as u32, ..Stage::default() };
        if self.step == self.config.steps {
            driver.evaluate(&u);
        } else {
            let seen = driver.evaluate_with_grad(&u);
            if let Some(gradient) = &seen.gradient {
                let ball = driver.ball();
                let lengths: Vec<f64> =
                    ball.radii().iter().map(|radius| self.config.length_at(self.step) * radius).collect();
                self.u = Some(ball.project(&ball.step_each(&seen.keep(&u), gradient, &lengths)));
            }
        }
        self.step += 1;
        true
    }

    fn state(&self) -> GamaState {
        GamaState { step: self.step, u: self.u.as_ref().map(Stored::of) }
    }

    fn restore(&mut self, state: &GamaState, driver: &AttackDriver<'a>) -> Result<(), StateError> {
        if state.step > self.config.steps + 1 {
            return Err(StateError::Invalid("a step is not one of those configured".to_owned()));
        }
        let points = state.u.as_ref().filter(|_| !driver.is_done());
        let tensor = |stored: &Stored| stored.restore(driver.ball().center(), driver.active().len());
        self.u = points.map(tensor).transpose()?;
        self.step = state.step;
        Ok(())
    }
}

/// A random corner of each ball of l∞; in other norms a step of length ε along random signs.
fn corners(ball: &Ball, keys: &[Key]) -> Tensor {
    let x = ball.center();
    let signs = Tensor::random(x.device(), Random::Normal, keys, &x.shape()[1..], x.dtype()).sign();
    ball.project(&ball.step_each(x, &signs, ball.radii()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{DType, cpu};

    /// Two classes with logits 0 and `wᵀ x + b`: the ball of radius ε around x holds a mistake if and only if
    /// `wᵀ x + b + ε ‖w‖₁ > 0`.
    #[test]
    fn on_a_linear_model_it_breaks_what_can_be_broken_and_nothing_else() {
        let w = [1.0f64, -2.0, 0.5];
        let weight = Tensor::new(&cpu(), [3, 2], &[0.0, w[0], 0.0, w[1], 0.0, w[2]]);
        let x = Tensor::full(&cpu(), [2, 3], DType::F64, 0.5);
        let threat = Threat { bounds: None, ..Threat::linf(0.1) };
        // wᵀ x = −0.25 and ε ‖w‖₁ = 0.35: broken with room 0.01 above b = −0.09, not below b = −0.11.
        for (bias, broken) in [(-0.09, true), (-0.11, false)] {
            let bias = Tensor::new(&cpu(), [1, 2], &[0.0f64, bias]);
            let logits = |u: &Tensor| &u.matmul(&weight) + &bias;
            let keys = [Key::new(1), Key::new(2)];
            let found = gama_pgd(&logits, &x, &[0, 0], &threat, &Gama::default(), &keys);
            assert_eq!(found.success, [broken; 2]);
            let far = (&found.adversarial - &x).abs().max(1).array().to_f64();
            assert!(far.iter().all(|d| *d <= 0.1), "{far:?}");
            if !broken {
                // The corner is reached: the margin there is 0.11 + 0.25 − 0.35.
                assert!(found.margin.iter().all(|m| (m - 0.01).abs() < 1e-12), "{:?}", found.margin);
            }
        }
    }

    #[test]
    fn schedules_are_those_of_the_paper() {
        let gama = Gama::default();
        let lengths = [0, 59, 60, 84, 85, 99].map(|step| gama.length_at(step));
        assert_eq!(lengths, [2.0, 2.0, 0.2, 0.2, 0.02, 0.02]);
        assert_eq!([0, 5, 25, 80].map(|t| gama.weight_at(t)), [50.0, 40.0, 0.0, 0.0]);
    }

    #[test]
    fn samples_do_not_depend_on_each_other() {
        let weight = Tensor::new(&cpu(), [2, 3], &[1.0f64, -1.0, 0.3, 0.2, 0.7, -0.5]);
        let logits = |u: &Tensor| u.matmul(&weight).tanh();
        let x = Tensor::new(&cpu(), [3, 2], &[0.2f64, 0.4, 0.9, 0.1, 0.6, 0.6]);
        let keys = [Key::new(4), Key::new(5), Key::new(6)];
        let (threat, config) = (Threat::linf(0.02), Gama { steps: 10, ..Gama::default() });
        let all = gama_pgd(&logits, &x, &[0, 0, 0], &threat, &config, &keys);
        for i in 0..3 {
            let one = gama_pgd(&logits, &x.slice(0, i, 1), &[0], &threat, &config, &keys[i..=i]);
            assert_eq!((one.success[0], one.margin[0]), (all.success[i], all.margin[i]));
        }
    }
}
