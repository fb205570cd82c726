//! Losses of one row of logits with their gradients in the logits, so that samples at different parts of a suite, with
//! different losses and targets, share a batch.

use crate::classifier::losses::{DLR_FLOOR, LabelLoss, TargetLoss, ranks_of};
use crate::classifier::verdict;
use crate::driver::AttackStatus;
use serde::{Deserialize, Serialize};
use tarrl_tensor::math;

/// The loss that an ascent of one sample ascends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LogitLoss {
    /// A loss of the label.
    Label(LabelLoss),
    /// A loss of the label and a class to be taken for.
    Target(TargetLoss, u32),
}

impl LogitLoss {
    /// The loss at logits `z` (k) of a sample with label `y`, and its gradient (k) there.
    pub(crate) fn value_and_grad(&self, z: &[f64], y: usize) -> (f64, Vec<f64>) {
        match *self {
            LogitLoss::Label(LabelLoss::CrossEntropy) => cross_entropy(z, y),
            LogitLoss::Label(LabelLoss::Margin) => negated(margin(z, y)),
            LogitLoss::Label(LabelLoss::Dlr) => {
                let fall = negated(margin(z, y));
                if z.len() == 2 { fall } else { over(fall, z, &[(0, 1.0), (2, -1.0)]) }
            }
            LogitLoss::Label(LabelLoss::ProbabilityMargin) => probability_margin(z, y),
            LogitLoss::Target(TargetLoss::CrossEntropy, t) => negated(cross_entropy(z, t as usize)),
            LogitLoss::Target(TargetLoss::Margin, t) => margin(z, t as usize),
            LogitLoss::Target(TargetLoss::Dlr, t) => {
                let rise = difference(z, t as usize, y);
                match z.len() {
                    2 => rise,
                    3 => over(rise, z, &[(0, 1.0), (2, -1.0)]),
                    _ => over(rise, z, &[(0, 1.0), (2, -0.5), (3, -0.5)]),
                }
            }
        }
    }
}

/// z_a − z_b and its gradient.
pub(crate) fn difference(z: &[f64], a: usize, b: usize) -> (f64, Vec<f64>) {
    let mut slope = vec![0.0; z.len()];
    slope[a] += 1.0;
    slope[b] -= 1.0;
    (z[a] - z[b], slope)
}

/// Whether logits `z` are a mistake on label `y`, and their margin: the first largest logit wins, NaN is
/// a mistake.
pub(crate) fn status_of(z: &[f64], y: usize) -> AttackStatus {
    verdict(z, y)
}

/// z_y − max_{i≠y} z_i and its gradient; of equal rivals the first.
fn margin(z: &[f64], y: usize) -> (f64, Vec<f64>) {
    let rivals = (0..z.len()).filter(|&i| i != y);
    let rival = rivals.reduce(|best, i| if z[i] > z[best] { i } else { best });
    difference(z, y, rival.expect("at least two classes"))
}

/// −ln softmax(z)_y from the gaps to z_y, so that neither value nor gradient vanishes by rounding.
fn cross_entropy(z: &[f64], y: usize) -> (f64, Vec<f64>) {
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut slope: Vec<f64> = z.iter().map(|v| math::exp(v - top)).collect();
    let others: f64 = (0..z.len()).filter(|&j| j != y).map(|j| slope[j]).sum();
    let all = others + slope[y];
    let value = if z[y] == top { math::ln_1p(others) } else { top - z[y] + math::ln(all) };
    slope.iter_mut().for_each(|p| *p /= all);
    slope[y] = -others / all;
    (value, slope)
}

/// max_{i≠y} p_i − p_y of p = softmax(z), and its gradient; of equal rivals the first.
fn probability_margin(z: &[f64], y: usize) -> (f64, Vec<f64>) {
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sizes: Vec<f64> = z.iter().map(|v| math::exp(v - top)).collect();
    let all: f64 = sizes.iter().sum();
    let p: Vec<f64> = sizes.iter().map(|size| size / all).collect();
    let (value, direction) = negated(margin(&p, y));
    // ∂p_a/∂z_i = p_a (δ_ai − p_i), and the direction is one at the rival and −1 at the label.
    let slope = (0..z.len()).map(|i| p[i] * (direction[i] - value)).collect();
    (value, slope)
}

/// A value over a weighted sum of the logits of given ranks.
fn over((rise, mut slope): (f64, Vec<f64>), z: &[f64], ranks: &[(usize, f64)]) -> (f64, Vec<f64>) {
    let order = ranks_of(z);
    let span: f64 =
        ranks.iter().map(|&(rank, weight)| weight * z[order[rank] as usize]).sum::<f64>() + DLR_FLOOR;
    slope.iter_mut().for_each(|s| *s /= span);
    for &(rank, weight) in ranks {
        slope[order[rank] as usize] -= weight * rise / (span * span);
    }
    (rise / span, slope)
}

fn negated((value, mut slope): (f64, Vec<f64>)) -> (f64, Vec<f64>) {
    slope.iter_mut().for_each(|s| *s = -*s);
    (-value, slope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tarrl_tensor::{Tensor, cpu, grad};

    const LABEL: [LabelLoss; 4] =
        [LabelLoss::CrossEntropy, LabelLoss::Margin, LabelLoss::Dlr, LabelLoss::ProbabilityMargin];
    const TARGET: [TargetLoss; 3] = [TargetLoss::CrossEntropy, TargetLoss::Margin, TargetLoss::Dlr];

    proptest! {
        /// Values and gradients are those of the losses on tensors, in f64.
        #[test]
        fn values_and_gradients_are_those_of_the_losses_on_tensors(z in proptest::collection::vec(-4.0f64..4.0, 2..7), kind in 0usize..7) {
            let y = 1;
            let point = Tensor::new(&cpu(), [1, z.len()], &z).requires_grad();
            let (value, loss) = match kind {
                0..4 => (LABEL[kind].of(&point, &[y]), LogitLoss::Label(LABEL[kind])),
                _ => (TARGET[kind - 4].of(&point, &[y], &[0]), LogitLoss::Target(TARGET[kind - 4], 0)),
            };
            let slope = grad(&value.sum_all(), &[&point]).remove(0).to_vec::<f64>();
            let (ours, our_slope) = loss.value_and_grad(&z, y as usize);
            prop_assert!((ours - value.item()).abs() <= 1e-12 * (1.0 + ours.abs()), "{ours} {}", value.item());
            for (a, b) in our_slope.iter().zip(&slope) {
                // Ratios with a small denominator are large: relative to the largest slope.
                let scale = slope.iter().fold(1.0f64, |m, v| m.max(v.abs()));
                prop_assert!((a - b).abs() <= 1e-11 * scale, "{our_slope:?} {slope:?}");
            }
        }
    }

    #[test]
    fn a_saturated_softmax_has_the_exact_value_and_gradient() {
        let (value, slope) = LogitLoss::Label(LabelLoss::CrossEntropy).value_and_grad(&[100.0, 0.0, 0.0], 0);
        let expected = 2.0 * (-100f64).exp();
        assert!((value / expected - 1.0).abs() < 1e-12 && (slope[0] / -expected - 1.0).abs() < 1e-12);
        assert_eq!(slope[0], -(slope[1] + slope[2]));
    }
}
