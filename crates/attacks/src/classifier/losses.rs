//! Cross-entropy, margin and difference-of-logits-ratio losses of logits, untargeted and targeted.

use crate::threat::rows::row_index;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use tarrl_tensor::{Array, Tensor};

/// What keeps the denominator of the difference-of-logits ratios from zero.
pub(crate) const DLR_FLOOR: f64 = 1e-12;

/// The loss of a labeled sample that an attack ascends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelLoss {
    /// −ln softmax(z)_y, from the gaps to the label's logit, so that it does not vanish by rounding.
    #[default]
    CrossEntropy,
    /// max_{i≠y} z_i − z_y (the loss of Carlini & Wagner 2017, not clamped).
    Margin,
    /// The difference-of-logits ratio −(z_y − max_{i≠y} z_i) / (z_π1 − z_π3), where π sorts the logits downwards
    /// (Croce & Hein 2020, equation 6); with two classes the negative margin.
    Dlr,
    /// max_{i≠y} p_i − p_y of p = softmax(z): the loss of the probability margin attack (PMA, Liu et al. 2024).
    ProbabilityMargin,
}

/// The loss of a sample and a class it is to be taken for, ascended too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetLoss {
    /// ln softmax(z)_t.
    CrossEntropy,
    /// z_t − max_{i≠t} z_i.
    Margin,
    /// The targeted ratio −(z_y − z_t) / (z_π1 − (z_π3 + z_π4) / 2) (Croce & Hein 2020, equation 7); with three
    /// classes the denominator is z_π1 − z_π3, with two it is 1.
    #[default]
    Dlr,
}

impl LabelLoss {
    /// The loss `(n)` of logits `(n, k)`.
    ///
    /// # Panics
    /// If a label is out of range, there are not as many as rows, or `k < 2`.
    #[track_caller]
    pub fn of(&self, logits: &Tensor, labels: &[u32]) -> Tensor {
        match self {
            LabelLoss::CrossEntropy => {
                classes(logits, labels);
                logits.cross_entropy(&Array::new(logits.device(), [labels.len()], labels))
            }
            LabelLoss::Margin => margins(logits, labels).neg(),
            LabelLoss::Dlr => dlr(logits, labels),
            LabelLoss::ProbabilityMargin => margins(&logits.softmax(), labels).neg(),
        }
    }
}

impl TargetLoss {
    /// The loss `(n)` of logits `(n, k)`.
    ///
    /// # Panics
    /// If a label or target is out of range, there are not as many as rows, a target is its label, or
    /// `k < 2`.
    #[track_caller]
    pub fn of(&self, logits: &Tensor, labels: &[u32], targets: &[u32]) -> Tensor {
        let same = labels.iter().zip(targets).position(|(y, t)| y == t);
        assert!(same.is_none(), "targeted loss: the target of row {same:?} is its label");
        match self {
            TargetLoss::CrossEntropy => LabelLoss::CrossEntropy.of(logits, targets).neg(),
            TargetLoss::Margin => margins(logits, targets),
            TargetLoss::Dlr => targeted_dlr(logits, labels, targets),
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

/// The difference-of-logits ratio −(z_y − max_{i≠y} z_i) / (z_π1 − z_π3) of logits `(n, k)`: `(n)`,
/// differentiable, the denominator too; π sorts the logits downwards (Croce & Hein 2020, equation 6).
///
/// It does not change when logits are shifted or scaled by a positive factor. With two classes, where it
/// is not defined, the negative margin.
///
/// # Panics
/// If a label is out of range, there are not as many as rows, or `k < 2`.
#[track_caller]
pub(crate) fn dlr(logits: &Tensor, labels: &[u32]) -> Tensor {
    let (n, k) = classes(logits, labels);
    let fall = margins(logits, labels).neg();
    if k == 2 {
        return fall;
    }
    let top = ranks(logits, 3);
    &fall / &ratio_floor(logits, &top, n, |z| &z[0] - &z[2])
}

/// The targeted ratio −(z_y − z_t) / (z_π1 − (z_π3 + z_π4) / 2) of logits `(n, k)`: `(n)`,
/// differentiable, the denominator too (Croce & Hein 2020, equation 7).
///
/// Three classes have no fourth: the denominator is then z_π1 − z_π3. With two it is 1.
///
/// # Panics
/// If a label or target is out of range, there are not as many as rows, or `k < 2`.
#[track_caller]
pub(crate) fn targeted_dlr(logits: &Tensor, labels: &[u32], targets: &[u32]) -> Tensor {
    let (n, k) = classes(logits, labels);
    classes(logits, targets);
    let pick = |of: &[u32]| logits.pick_columns(&of.iter().map(|&c| c as usize).collect::<Vec<_>>());
    let rise = &pick(targets) - &pick(labels);
    match k {
        2 => rise,
        3 => &rise / &ratio_floor(logits, &ranks(logits, 3), n, |z| &z[0] - &z[2]),
        _ => &rise / &ratio_floor(logits, &ranks(logits, 4), n, |z| &z[0] - &(&z[2] + &z[3]).mul_scalar(0.5)),
    }
}

/// The classes of each row of logits `(n, k)` by descending logit, the first `top` of them; the lower
/// index first among equals, NaN last.
///
/// # Panics
/// If the logits are not `(n, k)`.
#[track_caller]
pub(crate) fn ranks(logits: &Tensor, top: usize) -> Vec<Vec<u32>> {
    let shape = logits.shape();
    assert!(shape.rank() == 2 && shape[1] > 0, "ranks: logits of shape {shape:?}, not (n, k)");
    let order = |z: &[f64]| {
        let mut order = ranks_of(z);
        order.truncate(top);
        order
    };
    logits.array().to_f64().chunks(shape[1]).map(order).collect()
}

/// The same of one row of logits, all classes.
pub(crate) fn ranks_of(z: &[f64]) -> Vec<u32> {
    let size = |i: &u32| if z[*i as usize].is_nan() { f64::NEG_INFINITY } else { z[*i as usize] };
    let mut order: Vec<u32> = (0..z.len() as u32).collect();
    order.sort_by(|a, b| size(b).partial_cmp(&size(a)).unwrap_or(Ordering::Equal));
    order
}

/// A function of the logits of the first ranks, `(n)` each, kept from zero.
fn ratio_floor(logits: &Tensor, top: &[Vec<u32>], n: usize, f: impl Fn(&[Tensor]) -> Tensor) -> Tensor {
    let rank = |r: usize| logits.pick_columns(&(0..n).map(|i| top[i][r] as usize).collect::<Vec<_>>());
    let count = top.first().map_or(0, Vec::len).max(3);
    f(&(0..count).map(rank).collect::<Vec<_>>()).add_scalar(DLR_FLOOR)
}

#[track_caller]
pub(crate) fn classes(logits: &Tensor, labels: &[u32]) -> (usize, usize) {
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
