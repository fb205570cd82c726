//! Attacks inside training: what they ascend, on which views, and how what they find enters the loss.

use serde::{Deserialize, Serialize};
use tarrl_attacks::Start;
use tarrl_bound::{InnerConfig, InnerKind};
use tarrl_encoders::BnBranch;

/// An attack on the views of a batch, whose results the objective sees. All numbers of [`attack`](Adversary::attack)
/// mean what they mean in a regularizer, so that methods can be compared at equal cost and radius.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adversary {
    /// What the attack makes large.
    pub ascends: Ascends,
    /// The images that it moves.
    pub attacks: Attacked,
    /// What an attacked view is compared with while it is attacked, unless both views are.
    pub against: Against,
    /// What becomes of the attacked views.
    pub enters: Enters,
    /// The factor of what the attacked views add: of the objective on them where they replace or come second, of the
    /// pair of the attack; 1 if absent, but 0 for the pair that may be added to a third view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The factor of the objective on the views as they are, where it is there at all.
    pub clean_weight: f64,
    /// How much weight goes over to the attacked views: with `w` rising from 0 towards `shift` in the stairs of
    /// [`Strength`](super::Strength), or epoch by epoch, the factors become `clean_weight·(1 − w)` and `weight·(1 + w)`.
    pub shift: f64,
    /// The statistics that batch norm sees attacked views with; `"adversarial"` needs dual batch norm.
    pub branch: BnBranch,
    /// The network that is attacked.
    pub mode: Mode,
    /// Threat model and steps.
    pub attack: InnerConfig,
}

/// What an attack ascends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ascends {
    /// The objective itself: instance-wise where that has no labels, the label loss where it has.
    #[default]
    Objective,
    /// The squared displacement of the representation.
    Representation,
}

/// Which images an attack moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attacked {
    /// The first view.
    #[default]
    First,
    /// The first two views together.
    Both,
    /// A weak view that is nothing else.
    Weak,
    /// The image itself.
    Clean,
}

/// What an attacked view is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// The other views of the objective.
    #[default]
    Others,
    /// The view that it was made of.
    Original,
}

/// How attacked views enter the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enters {
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

/// In which mode a network is attacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// With running statistics, which are folded into the weights.
    #[default]
    Eval,
    /// With the statistics of the attacked batch, which leave no trace.
    Train,
}

/// The first view, instance-wise, in place of itself.
impl Default for Adversary {
    fn default() -> Self {
        Adversary {
            ascends: Ascends::default(),
            attacks: Attacked::default(),
            against: Against::default(),
            enters: Enters::default(),
            weight: None,
            clean_weight: 1.0,
            shift: 0.0,
            branch: BnBranch::default(),
            mode: Mode::default(),
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
        self.weight.unwrap_or(if self.enters == Enters::Third { 0.0 } else { 1.0 })
    }

    pub(super) fn check(&self) -> Result<(), String> {
        check_attack("adversary.attack", &self.attack)?;
        for (key, value) in [("weight", self.weight()), ("clean_weight", self.clean_weight)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(format!("adversary.{key} is {value}; it must be finite and not negative"));
            }
        }
        if !(0.0..=1.0).contains(&self.shift) {
            return Err(format!(
                "adversary.shift is {}; more than all of the weight cannot go over",
                self.shift
            ));
        }
        if self.shift > 0.0 && self.enters != Enters::Second {
            return Err(
                "adversary.shift moves weight between two objectives; it needs enters = \"second\"".into()
            );
        }
        if self.ascends == Ascends::Representation && self.attack.start == Start::Clean {
            return Err("adversary.attack.start = \"clean\" would never move, because the gradient of a displacement is \
                        zero where nothing is displaced; use start = \"random\""
                .into());
        }
        if self.enters == Enters::Pair && self.attacks == Attacked::Both {
            return Err(
                "adversary.enters = \"pair\" compares one attacked view with another; attacks = \"both\" \
                        leaves none, use enters = \"second\""
                    .into(),
            );
        }
        if self.against == Against::Original && self.attacks == Attacked::Both {
            return Err("adversary.against = \"original\" means one view, attacks = \"both\" compares the two with each \
                        other; remove one of the keys"
                .into());
        }
        let extra = matches!(self.attacks, Attacked::Weak | Attacked::Clean);
        if extra && matches!(self.enters, Enters::Replace | Enters::Second) {
            return Err(format!(
                "adversary.attacks = \"{}\" moves an image that is no view of the objective, so that it can replace \
                 none; use enters = \"third\" or \"pair\"",
                if self.attacks == Attacked::Weak { "weak" } else { "clean" }
            ));
        }
        Ok(())
    }
}

/// Checks the numbers of an attack inside training, which is one ascent from a random or the clean point.
pub(super) fn check_attack(place: &str, attack: &InnerConfig) -> Result<(), String> {
    if attack.kind == InnerKind::Jacobian {
        return Err(format!("{place}.kind = \"jacobian\" finds no image; use \"pgd\" or \"fgsm\""));
    }
    if attack.kind == InnerKind::Apgd {
        return Err(format!("{place}.kind = \"apgd\" is for the regularizer; use \"pgd\" or \"fgsm\""));
    }
    if attack.kind == InnerKind::Fgsm && attack.steps.is_some_and(|steps| steps != 1) {
        return Err(format!("{place}.kind = \"fgsm\" takes one step; remove steps or use \"pgd\""));
    }
    if attack.steps == Some(0) {
        return Err(format!("{place}.steps is 0; take at least one"));
    }
    if attack.restarts != 1 {
        return Err(format!(
            "{place}.restarts is {}; an attack inside training makes one ascent",
            attack.restarts
        ));
    }
    if !matches!(attack.start, Start::Clean | Start::Random) {
        return Err(format!("{place}.start has to be \"random\" or \"clean\""));
    }
    for (key, value) in [("epsilon", attack.epsilon), ("step_size", attack.step())] {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(format!("{place}.{key} is {value}; it must be finite and not negative"));
        }
    }
    Ok(())
}
