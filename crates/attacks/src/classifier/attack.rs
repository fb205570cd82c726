//! Classifiers as the target: misclassification is success, a label loss is ascended.

use crate::classifier::losses::{LabelLoss, TargetLoss, classes};
use crate::driver::{AttackStatus, Evaluation, Flags, Origin, Outcome, Query};
use crate::pgd::{Pgd, ascend};
use crate::threat::Threat;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Key, Tensor};

/// What an attack on a classifier found, row by row of the batch.
#[derive(Clone, Debug)]
pub struct ClassifierOutcome {
    /// `(n, …)`: the misclassified point of least margin, or, where there is none, the point of least
    /// margin seen; `success` says which it is.
    pub adversarial: Tensor,
    /// `(n)`: whether that point is misclassified.
    pub success: Vec<bool>,
    /// `(n)`: z_y − max_{i≠y} z_i there.
    pub margin: Vec<f64>,
    /// `(n, …)`: the point of the largest loss seen. With `early_stop` the search for it ends at the
    /// first success.
    pub worst: Tensor,
    /// `(n)`: the loss there.
    pub loss: Vec<f64>,
    /// `(n)`: where the first misclassification was found.
    pub origin: Vec<Option<Origin>>,
    /// `(n)`: forward passes of each sample.
    pub forward: Vec<u32>,
    /// `(n)`: backward passes whose gradient the sample used.
    pub backward: Vec<u32>,
    /// `(n)`: signs of trouble on the way.
    pub flags: Vec<Flags>,
}

/// Projected gradient ascent of a label loss: `x` `(n, …)`, `logits` of `(m, …)` to `(m, k)`, one label
/// below `k` and one key for each sample.
///
/// A point is misclassified if the first largest logit is not the label's, or if a logit is NaN. With
/// `config.early_stop` a sample that is wrong at the clean input (`config.include_clean`) costs one
/// forward pass and nothing else.
///
/// # Panics
/// As [`ascend`], and if there are not as many labels as samples, a label is out of range or `k < 2`.
#[track_caller]
pub fn attack_classifier(
    logits: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    labels: &[u32],
    loss: LabelLoss,
    threat: &Threat,
    config: &Pgd,
    keys: &[Key],
) -> ClassifierOutcome {
    let n = x.shape().first().copied().unwrap_or(0);
    assert_eq!(labels.len(), n, "attack_classifier: {} labels for {n} samples", labels.len());
    ascend(x, &classify(logits, labels, loss), threat, config, keys).into()
}

/// The function under attack of a classifier: the loss ascended, misclassification the success.
pub fn classify<'a>(
    logits: &'a dyn Fn(&Tensor) -> Tensor,
    labels: &'a [u32],
    loss: LabelLoss,
) -> impl Fn(&Tensor, Query<'_>) -> Evaluation + 'a {
    move |u, query| {
        let z = logits(u);
        let labels: Vec<u32> = query.rows.iter().map(|&row| labels[row]).collect();
        Evaluation { value: loss.of(&z, &labels), verdict: Some(verdicts(&z, &labels)) }
    }
}

/// What counts as success of an attack towards a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetSuccess {
    /// Any misclassification: targets are means, as in the targeted attacks of AutoAttack.
    #[default]
    AnyMistake,
    /// Classification as the target.
    Target,
}

/// The same towards the classes `targets` `(n)`.
pub fn classify_towards<'a>(
    logits: &'a dyn Fn(&Tensor) -> Tensor,
    labels: &'a [u32],
    targets: &'a [u32],
    loss: TargetLoss,
    success: TargetSuccess,
) -> impl Fn(&Tensor, Query<'_>) -> Evaluation + 'a {
    move |u, query| {
        let z = logits(u);
        let of = |all: &[u32]| -> Vec<u32> { query.rows.iter().map(|&row| all[row]).collect() };
        let (labels, targets) = (of(labels), of(targets));
        let verdict = match success {
            TargetSuccess::AnyMistake => verdicts(&z, &labels),
            TargetSuccess::Target => verdicts(&z, &targets).into_iter().map(AttackStatus::reversed).collect(),
        };
        Evaluation { value: loss.of(&z, &labels, &targets), verdict: Some(verdict) }
    }
}

impl From<Outcome> for ClassifierOutcome {
    fn from(found: Outcome) -> Self {
        let (adversarial, verdict) = match found.closest {
            Some(closest) => (closest.point, closest.verdict),
            None => (found.best.clone(), Vec::new()),
        };
        ClassifierOutcome {
            adversarial,
            success: verdict.iter().map(|v| v.success).collect(),
            margin: verdict.iter().map(|v| v.margin).collect(),
            worst: found.best,
            loss: found.value,
            origin: found.origin,
            forward: found.forward,
            backward: found.backward,
            flags: found.flags,
        }
    }
}

/// Whether each row of logits `(n, k)` is misclassified, and its margin z_y − max_{i≠y} z_i.
///
/// The first largest logit decides, so that a tie with an earlier class is lost; a row with a NaN or a +∞, which does not
/// say what is largest, is lost with margin −∞.
///
/// # Panics
/// If a label is out of range, there are not as many as rows, or `k < 2`.
#[track_caller]
pub fn verdicts(logits: &Tensor, labels: &[u32]) -> Vec<AttackStatus> {
    let (_, k) = classes(logits, labels);
    let z = logits.array().to_f64();
    z.chunks(k).zip(labels).map(|(z, &y)| verdict(z, y as usize)).collect()
}

pub(crate) fn verdict(z: &[f64], y: usize) -> AttackStatus {
    if z.iter().any(|v| v.is_nan() || *v == f64::INFINITY) {
        return AttackStatus { success: true, margin: f64::NEG_INFINITY };
    }
    let best = |range: &[f64]| range.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (before, after) = (best(&z[..y]), best(&z[y + 1..]));
    // The first largest logit wins: a tie with an earlier class is lost.
    AttackStatus { success: before >= z[y] || after > z[y], margin: z[y] - before.max(after) }
}
