//! Attacks on a classifier: misclassification is success.

use crate::ball::row_index;
use crate::engine::{Evaluation, Verdict, ascend};
use crate::outcome::Flags;
use crate::pgd::Pgd;
use crate::threat::Threat;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{Array, Key, Tensor};

/// The loss of a labelled sample that an attack ascends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelLoss {
    /// −ln softmax(z)_y, from the gaps to the label's logit, so that it does not vanish by rounding.
    #[default]
    CrossEntropy,
    /// max_{i≠y} z_i − z_y (the loss of Carlini & Wagner 2017, not clamped).
    Margin,
}

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
    /// `(n)`: forward passes of each sample.
    pub forward: Vec<u32>,
    /// `(n)`: backward passes whose gradient the sample used.
    pub backward: Vec<u32>,
    /// `(n)`: what went wrong on the way.
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
    let evaluate = |u: &Tensor, rows: &[usize]| {
        let z = logits(u);
        let labels: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
        Evaluation { value: loss.of(&z, &labels), verdict: Some(verdicts(&z, &labels)) }
    };
    let found = ascend(x, &evaluate, threat, config, keys);
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
        forward: found.forward,
        backward: found.backward,
        flags: found.flags,
    }
}

impl LabelLoss {
    /// The loss `(n)` of logits `(n, k)`.
    ///
    /// # Panics
    /// If a label is out of range, there are not as many as rows, or `k < 2` for the margin.
    #[track_caller]
    pub fn of(&self, logits: &Tensor, labels: &[u32]) -> Tensor {
        match self {
            LabelLoss::CrossEntropy => {
                logits.cross_entropy(&Array::new(logits.device(), [labels.len()], labels))
            }
            LabelLoss::Margin => margins(logits, labels).neg(),
        }
    }
}

/// z_y − max_{i≠y} z_i of each row of logits `(n, k)`: `(n)`, differentiable.
///
/// # Panics
/// If a label is out of range, there are not as many as rows, or `k < 2`.
#[track_caller]
pub fn margins(logits: &Tensor, labels: &[u32]) -> Tensor {
    let (n, k) = classes(logits, labels);
    let own: Vec<usize> = labels.iter().map(|&y| y as usize).collect();
    let others: Vec<usize> = (0..n * k).filter(|cell| cell % k != own[cell / k]).collect();
    let flat = logits.reshape([n * k]);
    let rival = flat.gather(0, &row_index(&flat, &others)).reshape([n, k - 1]).max(1).reshape([n]);
    &logits.pick_columns(&own) - &rival
}

fn verdicts(logits: &Tensor, labels: &[u32]) -> Vec<Verdict> {
    let (_, k) = classes(logits, labels);
    let z = logits.array().to_f64();
    z.chunks(k).zip(labels).map(|(z, &y)| verdict(z, y as usize)).collect()
}

fn verdict(z: &[f64], y: usize) -> Verdict {
    if z.iter().any(|v| v.is_nan()) {
        return Verdict { success: true, margin: f64::NEG_INFINITY };
    }
    let best = |range: &[f64]| range.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (before, after) = (best(&z[..y]), best(&z[y + 1..]));
    // The first largest logit wins: a tie with an earlier class is lost.
    Verdict { success: before >= z[y] || after > z[y], margin: z[y] - before.max(after) }
}

#[track_caller]
fn classes(logits: &Tensor, labels: &[u32]) -> (usize, usize) {
    let shape = logits.shape();
    assert!(
        shape.rank() == 2 && shape[0] == labels.len() && shape[1] >= 2,
        "classifier: logits of shape {shape:?} for {} labels; need (n, k) with k of at least 2",
        labels.len()
    );
    assert!(
        labels.iter().all(|&y| (y as usize) < shape[1]),
        "classifier: a label is not below {} classes",
        shape[1]
    );
    (shape[0], shape[1])
}
