//! Configuration of AutoAttack: which attacks a suite runs, in which order, and how.

use crate::autoattack::apgd_state::Apgd;
use crate::autoattack::fab_state::Fab;
use crate::autoattack::mode::Mode;
use crate::autoattack::square_state::Square;
use crate::classifier::{LabelLoss, TargetLoss};
use crate::driver::EarlyExit;
use crate::threat::Norm;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One attack of a suite. A sample that one of them breaks does not go through the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "attack", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AttackSpec {
    /// APGD on a loss of the label.
    Apgd {
        /// What it ascends.
        loss: LabelLoss,
        /// How.
        config: Apgd,
    },
    /// APGD towards other classes, one after the other.
    ApgdTargeted {
        /// What it ascends.
        loss: TargetLoss,
        /// How many classes, those of the largest clean logits first; at most all but the label.
        targets: usize,
        /// How.
        config: Apgd,
    },
    /// FAB towards the nearest class of each step; its backward passes are one for each other class.
    Fab {
        /// How.
        config: Fab,
    },
    /// FAB towards other classes, one after the other.
    FabTargeted {
        /// How many classes, as for [`AttackSpec::ApgdTargeted`].
        targets: usize,
        /// How.
        config: Fab,
    },
    /// Square, on the margin.
    Square {
        /// How.
        config: Square,
    },
}

impl AttackSpec {
    /// Its name in AutoAttack: `apgd-ce`, `apgd-dlr`, `apgd-t`, `fab`, `fab-t`, `square`.
    pub fn name(&self) -> &'static str {
        match self {
            AttackSpec::Apgd { loss: LabelLoss::CrossEntropy, .. } => "apgd-ce",
            AttackSpec::Apgd { loss: LabelLoss::Margin, .. } => "apgd-margin",
            AttackSpec::Apgd { loss: LabelLoss::Dlr, .. } => "apgd-dlr",
            AttackSpec::Apgd { loss: LabelLoss::ProbabilityMargin, .. } => "apgd-pma",
            AttackSpec::ApgdTargeted { loss: TargetLoss::Dlr, .. } => "apgd-t",
            AttackSpec::ApgdTargeted { loss: TargetLoss::CrossEntropy, .. } => "apgd-t-ce",
            AttackSpec::ApgdTargeted { loss: TargetLoss::Margin, .. } => "apgd-t-margin",
            AttackSpec::Fab { .. } => "fab",
            AttackSpec::FabTargeted { .. } => "fab-t",
            AttackSpec::Square { .. } => "square",
        }
    }

    /// The classes that it aims at one after the other, of `classes`; `None` if it does not aim.
    pub(crate) fn targets(&self, classes: usize) -> Option<usize> {
        match self {
            AttackSpec::ApgdTargeted { targets, .. } | AttackSpec::FabTargeted { targets, .. } => {
                Some((*targets).min(classes - 1))
            }
            _ => None,
        }
    }

    /// Runs for each class aimed at.
    pub(crate) fn restarts(&self) -> usize {
        match self {
            AttackSpec::Apgd { config, .. } | AttackSpec::ApgdTargeted { config, .. } => config.restarts,
            AttackSpec::Fab { config } | AttackSpec::FabTargeted { config, .. } => config.restarts,
            AttackSpec::Square { config } => config.restarts,
        }
    }
}

/// The versions of AutoAttack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// APGD on the cross-entropy, targeted APGD, targeted FAB, Square: what is reported.
    #[default]
    Standard,
    /// More restarts, and the attacks that are not targeted too.
    Plus,
    /// For random models: APGD on two losses, expectations over draws.
    Rand,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::Standard => "standard",
            Version::Plus => "plus",
            Version::Rand => "rand",
        })
    }
}

/// A text that names none of the versions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version of AutoAttack; write standard, plus or rand")]
pub struct UnknownVersion(pub String);

/// Reads `standard`, `plus` or `rand`.
impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let all = [Version::Standard, Version::Plus, Version::Rand];
        let named = all.into_iter().find(|version| version.to_string() == text.to_ascii_lowercase());
        named.ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

/// AutoAttack (Croce & Hein 2020; l1: Croce & Hein 2021): four attacks without a parameter to choose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoAttack {
    /// Which of its versions.
    pub version: Version,
    /// Where its code differs from the papers, which of them is followed.
    pub mode: Mode,
    /// Steps of each run of APGD and FAB.
    pub steps: usize,
    /// Proposals of Square.
    pub queries: usize,
    /// How it is run.
    pub run: RunConfig,
}

/// How a suite is run. Nothing in it but `draws` and `budget` changes a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Samples evaluated together.
    pub batch: usize,
    /// When a broken sample leaves.
    #[serde(rename = "leave")]
    pub early_exit: EarlyExit,
    /// Draws of a random model in each evaluation, one after the other, 20 in `rand`; 1 says that the model is
    /// deterministic, so that no point is evaluated twice.
    pub draws: u32,
    /// Passes of a sample, forward and backward together, before which it leaves; `None` for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u32>,
}

impl Default for RunConfig {
    fn default() -> Self {
        RunConfig { batch: 256, early_exit: EarlyExit::AtOnce, draws: 1, budget: None }
    }
}

/// The standard version, as AutoAttack's code.
impl Default for AutoAttack {
    fn default() -> Self {
        let run = RunConfig::default();
        AutoAttack { version: Version::Standard, mode: Mode::Reference, steps: 100, queries: 5000, run }
    }
}

impl AutoAttack {
    /// A version as AutoAttack's code runs it; for `rand` with twenty draws.
    pub fn new(version: Version) -> Self {
        let draws = if version == Version::Rand { 20 } else { 1 };
        AutoAttack { version, run: RunConfig { draws, ..RunConfig::default() }, ..AutoAttack::default() }
    }

    /// The attacks in their order. In l1 the standard version has five restarts of APGD and five targets,
    /// all from wide starts.
    pub fn parts(&self, norm: Norm) -> Vec<AttackSpec> {
        let sparse = norm == Norm::L1;
        let wide_start = sparse && self.version == Version::Standard;
        let apgd = Apgd { steps: self.steps, mode: self.mode, wide_start, ..Apgd::default() };
        let many = Apgd { restarts: 5, ..apgd };
        let fab = Fab { steps: self.steps, mode: self.mode, ..Fab::default() };
        let label = |loss, config| AttackSpec::Apgd { loss, config };
        let towards = |targets| AttackSpec::ApgdTargeted { loss: TargetLoss::Dlr, targets, config: apgd };
        let square = AttackSpec::Square {
            config: Square { queries: self.queries, mode: self.mode, ..Square::default() },
        };
        match self.version {
            Version::Standard => vec![
                label(LabelLoss::CrossEntropy, if sparse { many } else { apgd }),
                towards(if sparse { 5 } else { 9 }),
                AttackSpec::FabTargeted { targets: 9, config: fab },
                square,
            ],
            Version::Plus => vec![
                label(LabelLoss::CrossEntropy, many),
                label(LabelLoss::Dlr, many),
                AttackSpec::Fab { config: Fab { restarts: 5, ..fab } },
                square,
                towards(9),
                AttackSpec::FabTargeted { targets: 9, config: fab },
            ],
            Version::Rand => vec![label(LabelLoss::CrossEntropy, apgd), label(LabelLoss::Dlr, apgd)],
        }
    }
}
