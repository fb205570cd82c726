//! The regularizer as a loss term: the mean over a batch of the largest divergence in each ball.

use super::config::{InnerKind, RegularizerConfig, RegularizerError};
use super::inner_maximizer::{AttackMaximizer, InnerMaximizer, InnerMaximum, InnerProblem};
use super::jacobian::Jacobian;
use crate::divergence::Measure;
use serde::{Deserialize, Serialize};
use tarrl_attacks::{Outcome, Pgd, Threat};
use tarrl_tensor::{Key, Tensor};

/// `R = E max_{x' ∈ B(x)} D(f(x), f(x'))` as a loss term.
///
/// [`term`](Regularizer::term) computes it. With an attack as inner maximizer,
/// [`attack`](Regularizer::attack) finds the points and [`value`](Regularizer::value) is the term at them.
/// By the envelope theorem the gradient of the maximum is the gradient at the maximizer, held fixed:
/// `x'` is a constant, and nothing is differentiated through the attack. Both branches, `f(x)` and
/// `f(x')`, are differentiated: with a stop-gradient on the clean branch the result is not the gradient of the
/// term, and a step against it can increase the term (Theorem G3, docs/theory.md). An attack finds less than the maximum, so that the term is a lower bound of
/// `R`: training on it certifies nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RegularizerConfig", into = "RegularizerConfig")]
pub struct Regularizer {
    config: RegularizerConfig,
}

/// The input of [`Regularizer::term`].
pub struct RegularizerInput<'a> {
    /// The encoder as it is attacked, `(m, …)` to `(m, d)`: in eval mode with constant parameters, its
    /// rows independent of each other.
    pub eval_encoder: &'a dyn Fn(&Tensor) -> Tensor,
    /// The encoder in training mode, `(m, …)` to `(m, d)`, whose parameters require gradients; called once.
    pub train_encoder: &'a dyn Fn(&Tensor) -> Tensor,
    /// The anchors `(n, …)`.
    pub x: &'a Tensor,
    /// The factor of ε, in `[0, 1]`: [`Regularizer::epsilon_scale`].
    pub epsilon_scale: f64,
    /// One key per sample.
    pub keys: &'a [Key],
}

/// The term of a batch.
#[derive(Clone, Debug)]
pub struct RegularizerTerm {
    /// R of the batch, unweighted: a scalar, differentiable in the parameters of the encoder in training.
    pub value: Tensor,
    /// The clean representations `(n, d)` of the encoder in training.
    pub z: Tensor,
    /// Forward passes through either encoder, counted in rows.
    pub forward: u64,
    /// Backward passes, counted in rows, the pass from the value to the parameters included.
    pub backward: u64,
}

impl Regularizer {
    /// The regularizer of a configuration.
    ///
    /// # Errors
    /// If the inner attack begins at the clean input, where its gradient is zero, a scale is controlled twice,
    /// or a number is out of range; the message names the key and the remedy.
    pub fn new(config: RegularizerConfig) -> Result<Self, RegularizerError> {
        config.check()?;
        Ok(Regularizer { config })
    }

    /// The configuration.
    pub fn config(&self) -> &RegularizerConfig {
        &self.config
    }

    /// λ.
    pub fn weight(&self) -> f64 {
        self.config.weight
    }

    /// The divergence with its control of scale.
    pub fn measure(&self) -> Measure {
        let RegularizerConfig { divergence, scale, sigma, .. } = self.config;
        Measure { divergence, scale, sigma: sigma.unwrap_or(1.0) }
    }

    /// The factor of ε when a share `progress` of training is done: linear from 0 to 1 over the ramp, then 1.
    pub fn epsilon_scale(&self, progress: f64) -> f64 {
        risen(progress, self.config.ramp)
    }

    /// The factor of λ when a share `progress` of training is done: linear from 0 to 1 over the ramp of the weight, then 1.
    pub fn weight_scale(&self, progress: f64) -> f64 {
        risen(progress, self.config.weight_ramp)
    }

    /// Whether the attack of the caller serves, so that there is no [`term`](Regularizer::term) but only a
    /// [`value`](Regularizer::value) at its points.
    pub fn shares_attack(&self) -> bool {
        self.config.inner.kind == InnerKind::Adversary
    }

    /// The term of a batch, by the inner maximizer of the configuration.
    ///
    /// # Panics
    /// As [`pgd`](tarrl_attacks::pgd), if an encoder's answer is not `(m, d)`, and if the inner maximizer is
    /// [`InnerKind::Adversary`], which finds no points.
    #[track_caller]
    pub fn term(&self, input: &RegularizerInput<'_>) -> RegularizerTerm {
        match self.config.inner.kind {
            InnerKind::Pgd | InnerKind::Fgsm | InnerKind::Apgd => self.term_with(&AttackMaximizer, input),
            InnerKind::Jacobian => self.term_with(&Jacobian { directions: self.config.inner.steps() }, input),
            InnerKind::Adversary => {
                panic!(
                    "regularizer: Adversary finds no points; use Regularizer::value at those of the attack"
                )
            }
        }
    }

    /// The term of a batch, by any inner maximizer: another attack, or a bound.
    ///
    /// # Panics
    /// As [`term`](Regularizer::term) and as the maximizer does.
    #[track_caller]
    pub fn term_with(&self, maximizer: &dyn InnerMaximizer, input: &RegularizerInput<'_>) -> RegularizerTerm {
        let n = input.x.shape()[0] as u64;
        match maximizer.maximize(&self.problem(input)) {
            InnerMaximum::Points { points, forward, backward } => {
                let both = (input.train_encoder)(&Tensor::concat(&[input.x, &points], 0)); // (2n, d)
                let rows = n as usize;
                let (z, z_adv) = (both.slice(0, 0, rows), both.slice(0, rows, rows));
                let value = self.value(&z, &z_adv);
                RegularizerTerm { value, z, forward: forward + 2 * n, backward: backward + 2 * n }
            }
            InnerMaximum::Values { values, z, forward, backward } => {
                assert_eq!(values.shape()[..], [n as usize], "maximizer: values {:?}", values.shape());
                RegularizerTerm { value: values.mean_all(), z, forward, backward }
            }
        }
    }

    /// The attacked points `x'` `(n, …)`, constants, around the anchors `x` `(n, …)`, with one key per
    /// sample: see [`inner_maximum`](Regularizer::inner_maximum).
    ///
    /// # Panics
    /// As [`inner_maximum`](Regularizer::inner_maximum).
    #[track_caller]
    pub fn attack(
        &self,
        encoder: &dyn Fn(&Tensor) -> Tensor,
        x: &Tensor,
        epsilon_scale: f64,
        keys: &[Key],
    ) -> Tensor {
        self.inner_maximum(encoder, x, epsilon_scale, keys).best
    }

    /// The attack with its values and passes, at `epsilon_scale` times the radius and the step.
    ///
    /// The encoder, `(n, …)` to `(n, d)`, should be in eval mode and treat rows independently: one forward pass for the anchors,
    /// then one forward and one backward pass per step, in the input alone, and one forward pass for the last point.
    ///
    /// # Panics
    /// As [`pgd`](tarrl_attacks::pgd), and if the inner maximizer is no attack.
    #[track_caller]
    pub fn inner_maximum(
        &self,
        encoder: &dyn Fn(&Tensor) -> Tensor,
        x: &Tensor,
        epsilon_scale: f64,
        keys: &[Key],
    ) -> Outcome {
        let kind = self.config.inner.kind;
        assert!(kind != InnerKind::Jacobian, "regularizer: {kind:?} finds no points; use Regularizer::term");
        assert!(
            kind != InnerKind::Adversary,
            "regularizer: {kind:?} finds no points; they are another attack's"
        );
        self.problem(&RegularizerInput {
            eval_encoder: encoder,
            train_encoder: encoder,
            x,
            epsilon_scale,
            keys,
        })
        .attack()
    }

    /// The term at the attacked points, unweighted: the mean divergence of `z = f(x)` and
    /// `z_adv = f(x')`, both `(n, d)` and both differentiated.
    ///
    /// # Panics
    /// If the shapes differ or are not `(n, d)`.
    #[track_caller]
    pub fn value(&self, z: &Tensor, z_adv: &Tensor) -> Tensor {
        self.measure().mean(z, z_adv)
    }

    /// Initial points of the first ascent of [`term`](Regularizer::term) around anchors `x` `(n, …)` of the box, for
    /// [`AttackMaximizerFrom`](super::AttackMaximizerFrom); `None` for maximizers that need the encoder to choose them, or none.
    ///
    /// # Panics
    /// If there are not as many keys as samples.
    #[track_caller]
    pub fn start(&self, x: &Tensor, epsilon_scale: f64, keys: &[Key]) -> Option<Tensor> {
        let (threat, pgd) = (self.threat(epsilon_scale), self.pgd(epsilon_scale));
        match self.config.inner.kind {
            InnerKind::Pgd | InnerKind::Fgsm => pgd.start(&threat.around_known(x), keys),
            InnerKind::Apgd | InnerKind::Jacobian | InnerKind::Adversary => None,
        }
    }

    fn problem<'a>(&self, input: &'a RegularizerInput<'a>) -> InnerProblem<'a> {
        InnerProblem {
            eval_encoder: input.eval_encoder,
            train_encoder: input.train_encoder,
            x: input.x,
            keys: input.keys,
            measure: self.measure(),
            threat: self.threat(input.epsilon_scale),
            pgd: self.pgd(input.epsilon_scale),
            adaptive: self.config.inner.kind == InnerKind::Apgd,
        }
    }

    fn threat(&self, epsilon_scale: f64) -> Threat {
        let inner = &self.config.inner;
        Threat { bounds: inner.bounds, ..Threat::new(inner.norm, inner.epsilon * epsilon_scale) }
    }

    fn pgd(&self, epsilon_scale: f64) -> Pgd {
        let inner = &self.config.inner;
        Pgd {
            steps: inner.steps(),
            step_size: inner.step() * epsilon_scale,
            restarts: inner.restarts,
            start: inner.start,
            // The displacement of the clean point is zero: it cannot win.
            include_clean: false,
            ..Pgd::default()
        }
    }
}

impl TryFrom<RegularizerConfig> for Regularizer {
    type Error = RegularizerError;

    fn try_from(config: RegularizerConfig) -> Result<Self, RegularizerError> {
        Regularizer::new(config)
    }
}

impl From<Regularizer> for RegularizerConfig {
    fn from(regularizer: Regularizer) -> Self {
        regularizer.config
    }
}

/// The share of a value that rises linearly from 0 to 1 over `ramp`.
fn risen(progress: f64, ramp: f64) -> f64 {
    if progress >= ramp { 1.0 } else { (progress / ramp).max(0.0) }
}
