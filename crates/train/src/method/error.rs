//! Errors of methods: settings out of range, and parts that do not go together.

use crate::ibp_loss::IbpError;
use crate::ranges::RangeError;
use tarrl_attacks::RadiusError;
use tarrl_bound::{InnerConfig, RegularizerError};
use tarrl_objectives::ObjectiveError;

/// Why a method is refused. Every message names the cause and the remedy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// A number is out of range.
    #[error("{key} is {value}; {requirement}")]
    OutOfRange {
        /// The key in the method file.
        key: String,
        /// Its value.
        value: f64,
        /// What would do.
        requirement: &'static str,
    },
    /// A number is outside of the range of its key.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The title is empty.
    #[error("`title` is empty; tables need a name for the method")]
    NoTitle,
    /// The projector has no width or no layer.
    #[error("`projector` has a width or a number of layers of 0; give at least 1")]
    EmptyProjector,
    /// A setting of the objective is out of range.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// A setting of the regularizer is out of range.
    #[error(transparent)]
    Regularizer(#[from] RegularizerError),
    /// A setting of the certified term is out of range.
    #[error(transparent)]
    Certified(#[from] IbpError),
    /// Neither an objective nor a distillation is there.
    #[error("there is no `objective` and no `distillation`: nothing would be learned; name one")]
    NothingLearned,
    /// Noise on representations that no objective compares.
    #[error("`noise` is on representations that no objective sees; name an `objective`, or remove it")]
    NoiseWithoutObjective,
    /// R is in units of another noise than the objective sees.
    #[error(
        "R is in units of another noise than `noise` adds; give regularizer.sigma the value of noise.sigma, and scale = \
         \"relative-noise\" for the unit \"spread\", \"noise\" for the unit \"fixed\""
    )]
    OtherNoise,
    /// Views or an adversary without an objective that sees them.
    #[error("without `objective` nobody looks at `views` or an `[adversary]`; remove them")]
    ViewsWithoutObjective,
    /// The objective has no view.
    #[error("`views` is empty; {objective} needs one at least")]
    NoViews {
        /// The name of the objective.
        objective: &'static str,
    },
    /// The objective compares more views than there are.
    #[error("`views` names {views}, but the objective compares two of one image; name at least two")]
    TooFewViews {
        /// How many views there are.
        views: usize,
    },
    /// The objective compares an image with its adversarial neighbor, which the method does not give it.
    #[error(
        "{objective} compares an image with its attacked neighbor: give one view and an `[adversary]` with attacks = \
         \"first\", against = \"original\" and enters = \"third\""
    )]
    NotCleanAndAdversarial {
        /// The name of the objective.
        objective: &'static str,
    },
    /// The objective needs a network that is not there.
    #[error("the objective needs {what}; add network.{key}")]
    MissingNetwork {
        /// The network, and why it is needed.
        what: &'static str,
        /// Its key under `network`.
        key: &'static str,
    },
    /// A network is there that the objective does not use.
    #[error("the objective never looks at {what}; remove network.{key}, or choose an objective that does")]
    UnusedNetwork {
        /// The network.
        what: &'static str,
        /// Its key under `network`.
        key: &'static str,
    },
    /// Another number of prototypes than the objective's.
    #[error("projector.prototypes = {given}, but the objective has {needed}; leave the key out")]
    OtherPrototypes {
        /// The projector's.
        given: usize,
        /// The objective's.
        needed: usize,
    },
    /// Prototypes for an objective without scores.
    #[error("projector.prototypes = {given}, but the objective has no use for scores; leave the key out")]
    UnusedPrototypes {
        /// The projector's.
        given: usize,
    },
    /// A part needs a teacher, and none is named.
    #[error(
        "{part} the representations of another encoder; name the method that trains it: teacher = \"simclr\""
    )]
    NoTeacher {
        /// The part and what it does, as the beginning of a sentence.
        part: &'static str,
    },
    /// The name of a method would leave the folder of methods.
    #[error("{key} = \"{name}\" is no plain name of a method; remove separators and dots")]
    EncoderName {
        /// The key that names it.
        key: &'static str,
        /// The name.
        name: String,
    },
    /// A teacher is named that no part uses.
    #[error(
        "teacher = \"{name}\" teaches nothing; add `distillation`, `pseudo_labels` or `certified.clusters`, or remove it"
    )]
    UnusedTeacher {
        /// The method that is named.
        name: String,
    },
    /// Squared distances of random projections.
    #[error(
        "distillation.projected compares projections by their cosine; use loss = \"cosine\", or leave projected out"
    )]
    ProjectedDistance,
    /// Pseudo-labels without a set of two clusters or more.
    #[error("pseudo_labels.clusters must name one set at least, each of two clusters at least")]
    TooFewClusters,
    /// Invariance without two attacked views.
    #[error(
        "`invariance` relates two views, both attacked, to the image; it needs two views and an `[adversary]` with \
         attacks = \"both\" and enters = \"second\""
    )]
    InvarianceWithoutAttackedViews,
    /// `network.keeps` without dual batch norm.
    #[error("network.keeps chooses one of two sets of statistics, but batch_norm is \"single\"; remove it")]
    KeepsWithoutDual,
    /// Dual batch norm whose adversarial branch sees no view.
    #[error(
        "network.batch_norm = \"dual\" has an adversarial branch that no view goes through: {cause}; use \"single\", or \
         adversary.branch = \"adversarial\""
    )]
    UnusedAdversarialBranch {
        /// Why no view goes through it.
        cause: &'static str,
    },
    /// The adversarial branch without dual batch norm.
    #[error(
        "adversary.branch = \"adversarial\" needs statistics of its own; add network.batch_norm = \"dual\", or use \
         branch = \"clean\""
    )]
    NoAdversarialBranch,
    /// Dual batch norm whose clean branch sees no view.
    #[error(
        "dual batch norm has a clean branch that no view goes through, because all are attacked; use batch_norm = \
         \"single\""
    )]
    UnusedCleanBranch,
    /// Both views attacked where there is one.
    #[error("adversary.attacks = \"both\" moves two views, but `views` names one")]
    BothOfOneView,
    /// Weight is shifted between objectives, and there is only one.
    #[error("adversary.shift moves weight between two objectives; it needs enters = \"second\"")]
    ShiftWithoutSecond,
    /// An attack starts where its gradient is zero.
    #[error(
        "adversary.attack.start = \"clean\" would never move, because the gradient of a displacement is zero where \
         nothing is displaced; use start = \"random\""
    )]
    DeadStart,
    /// One pair of two attacked views.
    #[error(
        "adversary.enters = \"pair\" compares one attacked view with another; attacks = \"both\" leaves none, use enters \
         = \"second\""
    )]
    PairOfBoth,
    /// Two attacked views compared with one original.
    #[error(
        "adversary.against = \"original\" means one view, attacks = \"both\" compares the two with each other; remove \
         one of the keys"
    )]
    OriginalOfBoth,
    /// The attacked image is no view of the objective.
    #[error(
        "adversary.attacks = \"{attacks}\" moves an image that is no view of the objective, so that it can replace none; \
         use enters = \"third\" or \"pair\""
    )]
    NoViewToReplace {
        /// The image that is attacked, as a file names it.
        attacks: &'static str,
    },
    /// An attack that cannot be used inside training.
    #[error("{place}.{problem}")]
    Attack {
        /// Its key in the method file.
        place: &'static str,
        /// The setting at fault and the remedy.
        problem: &'static str,
    },
    /// A radius that means no ball of pixels.
    #[error("{place}.epsilon: {source}")]
    Radius {
        /// The table in the method file.
        place: &'static str,
        /// What is wrong with it.
        source: RadiusError,
    },
    /// A regularizer that shares an attack which is not there or does not suit it.
    #[error("regularizer.inner.kind = \"adversary\" takes its points from `[adversary]`, but {problem}")]
    SharedAttack {
        /// What does not suit, and the remedy.
        problem: &'static str,
    },
    /// An attack has another norm than the radius that it should have.
    #[error(
        "{place} has another norm, but a radius of the profile is one of the l∞ ball; leave `[adversary]` out of the \
         profile, or the method"
    )]
    OtherNorm {
        /// Its key in the method file.
        place: &'static str,
    },
}

impl MethodError {
    pub(super) fn out_of_range(key: impl Into<String>, value: f64, requirement: &'static str) -> Self {
        MethodError::OutOfRange { key: key.into(), value, requirement }
    }
}

/// `Ok` if the radius of an attack on pixels is that of a ball.
pub(super) fn pixel_radius(place: &'static str, attack: &InnerConfig) -> Result<(), MethodError> {
    if attack.bounds != Some((0.0, 1.0)) {
        return Ok(());
    }
    let checked = attack.norm.check_pixel_radius(attack.epsilon);
    checked.map_err(|source| MethodError::Radius { place, source })
}

/// `Ok` if `value` is finite and not negative.
pub(super) fn not_negative(key: impl Into<String>, value: f64) -> Result<(), MethodError> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(MethodError::out_of_range(key, value, "it must be finite and not negative"))
}
