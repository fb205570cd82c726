//! Adversarial views of a method: the attack's loss, the views that it moves, and how they enter the objective.

use super::error::{MethodError, not_negative, pixel_radius};
use serde::{Deserialize, Serialize};
use tarrl_attacks::Start;
use tarrl_bound::{InnerConfig, InnerKind};
use tarrl_encoders::BnBranch;

/// An attack on the views of a batch, whose results enter the objective. The settings of [`attack`](Adversary::attack) are
/// those of a regularizer, so that methods can be compared at equal cost and radius.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adversary {
    /// The loss that the attack maximizes.
    pub ascends: AdversaryLoss,
    /// The images that it perturbs.
    pub attacks: AdversaryView,
    /// The reference of a single attacked view during the attack.
    pub against: AdversaryReference,
    /// How the attacked views enter the objective.
    pub enters: AdversaryCombine,
    /// The factor of the attacked views: of the objective on them (`replace`, `second`) or of the pair of the attack (`pair`,
    /// `third`); 1 if absent, but 0 for `third`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The factor of the objective on clean views, where there is such a term.
    pub clean_weight: f64,
    /// How much weight moves to the attacked views: with `w` rising from 0 towards `shift` with the stages of
    /// [`Strength`](super::Strength), or with the epochs, the factors become `clean_weight·(1 − w)` and `weight·(1 + w)`.
    pub shift: f64,
    /// The set of batch norm for attacked views; `"adversarial"` needs dual batch norm.
    pub branch: BnBranch,
    /// The network that is attacked.
    pub mode: EncoderMode,
    /// Threat model and steps.
    pub attack: InnerConfig,
}

/// The loss that an attack maximizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdversaryLoss {
    /// The objective itself: instance-wise where that has no labels, the label loss where it has.
    #[default]
    Objective,
    /// The squared displacement of the representation.
    Representation,
}

/// The images that an attack perturbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdversaryView {
    /// The first view.
    #[default]
    First,
    /// The first two views together.
    Both,
    /// A weak view of its own.
    Weak,
    /// The image itself.
    Clean,
}

/// The reference that an attacked view is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdversaryReference {
    /// The other views of the objective.
    #[default]
    Others,
    /// The view that it was made of.
    Original,
}

/// How attacked views enter the objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdversaryCombine {
    /// In place of the views that they were made of. A momentum network sees those as they are.
    #[default]
    Replace,
    /// As one more view of the objective; `weight` times the objective of the pair of the attack may be added.
    Third,
    /// Through the objective once more: `clean_weight · L(views) + weight · L(attacked views)`.
    Second,
    /// As one pair: `clean_weight · L(views) + weight · L(attacked, what it was attacked against)`.
    Pair,
}

/// The mode of batch norm in the attacked network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderMode {
    /// Evaluation: running statistics, which are folded into the weights.
    #[default]
    Eval,
    /// Training: statistics of the attacked batch, which update no running statistics.
    Train,
}

/// The first view, instance-wise, in place of itself.
impl Default for Adversary {
    fn default() -> Self {
        Adversary {
            ascends: AdversaryLoss::default(),
            attacks: AdversaryView::default(),
            against: AdversaryReference::default(),
            enters: AdversaryCombine::default(),
            weight: None,
            clean_weight: 1.0,
            shift: 0.0,
            branch: BnBranch::default(),
            mode: EncoderMode::default(),
            attack: InnerConfig::default(),
        }
    }
}

impl Adversary {
    /// The factors of the objective on clean and on attacked views when `share` of the shift is made.
    pub fn weights(&self, share: f64) -> [f64; 2] {
        let w = self.shift * share;
        [self.clean_weight * (1.0 - w), self.weight() * (1.0 + w)]
    }

    fn weight(&self) -> f64 {
        self.weight.unwrap_or(if self.enters == AdversaryCombine::Third { 0.0 } else { 1.0 })
    }

    pub(super) fn check(&self) -> Result<(), MethodError> {
        check_attack("adversary.attack", &self.attack)?;
        not_negative("adversary.weight", self.weight())?;
        not_negative("adversary.clean_weight", self.clean_weight)?;
        if !(0.0..=1.0).contains(&self.shift) {
            let requirement = "more than all of the weight cannot go over";
            return Err(MethodError::out_of_range("adversary.shift", self.shift, requirement));
        }
        if self.shift > 0.0 && self.enters != AdversaryCombine::Second {
            return Err(MethodError::ShiftWithoutSecond);
        }
        if self.ascends == AdversaryLoss::Representation && self.attack.start == Start::Clean {
            return Err(MethodError::DeadStart);
        }
        if self.attacks == AdversaryView::Both {
            if self.enters == AdversaryCombine::Pair {
                return Err(MethodError::PairOfBoth);
            }
            if self.against == AdversaryReference::Original {
                return Err(MethodError::OriginalOfBoth);
            }
        }
        let replaces = matches!(self.enters, AdversaryCombine::Replace | AdversaryCombine::Second);
        match self.attacks {
            AdversaryView::Weak if replaces => Err(MethodError::NoViewToReplace { attacks: "weak" }),
            AdversaryView::Clean if replaces => Err(MethodError::NoViewToReplace { attacks: "clean" }),
            _ => Ok(()),
        }
    }
}

/// Checks an attack inside training: PGD or FGSM, one run from a random or the clean point.
pub(super) fn check_attack(place: &'static str, attack: &InnerConfig) -> Result<(), MethodError> {
    let fault = |problem| Err(MethodError::Attack { place, problem });
    match attack.kind {
        InnerKind::Jacobian => return fault("kind = \"jacobian\" finds no image; use \"pgd\" or \"fgsm\""),
        InnerKind::Apgd => {
            return fault("kind = \"apgd\" is for the regularizer; use \"pgd\" or \"fgsm\"");
        }
        InnerKind::Adversary => {
            return fault("kind = \"adversary\" is for the regularizer; use \"pgd\" or \"fgsm\"");
        }
        InnerKind::Fgsm if attack.steps.is_some_and(|steps| steps != 1) => {
            return fault("kind = \"fgsm\" takes one step; remove steps or use \"pgd\"");
        }
        InnerKind::Fgsm | InnerKind::Pgd => {}
    }
    if attack.steps == Some(0) {
        return fault("steps is 0; take at least one");
    }
    if attack.restarts != 1 {
        let (key, restarts) = (format!("{place}.restarts"), attack.restarts as f64);
        return Err(MethodError::out_of_range(key, restarts, "an attack inside training makes one ascent"));
    }
    if !matches!(attack.start, Start::Clean | Start::Random) {
        return fault("start has to be \"random\" or \"clean\"");
    }
    not_negative(format!("{place}.epsilon"), attack.epsilon)?;
    pixel_radius(place, attack)?;
    not_negative(format!("{place}.step_size"), attack.step())
}
