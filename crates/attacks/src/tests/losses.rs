//! Losses of labels: identities, values by hand, slopes where others have none.

use crate::classifier::losses::{dlr, ranks, targeted_dlr};
use crate::{LabelLoss, TargetLoss, margins, verdicts};
use proptest::prelude::*;
use tarrl_tensor::{Array, DType, Tensor, cpu, value_and_grad};

fn logits(rows: &[&[f64]]) -> Tensor {
    Tensor::new(&cpu(), [rows.len(), rows[0].len()], &rows.concat())
}

#[test]
fn losses_are_those_worked_out_by_hand() {
    let z = logits(&[&[5.0, 1.0, 3.0, 2.0], &[0.0, 4.0, 1.0, -2.0]]);
    // Row 0, label 0: −(5 − 3)/(5 − 2). Row 1, label 2: −(1 − 4)/(4 − 0).
    assert_eq!(dlr(&z, &[0, 2]).to_vec::<f64>().map_close(), [-2.0 / 3.0, 0.75].map_close());
    // Targets 1 and 0: −(5 − 1)/(5 − (2 + 1)/2) and −(1 − 0)/(4 − (0 − 2)/2).
    assert_eq!(
        targeted_dlr(&z, &[0, 2], &[1, 0]).to_vec::<f64>().map_close(),
        [-4.0 / 3.5, -0.2].map_close()
    );
    assert_eq!(margins(&z, &[0, 2]).to_vec::<f64>(), [2.0, -3.0]);
    assert_eq!(ranks(&z, 3), [vec![0, 2, 3], vec![1, 2, 0]]);
    assert_eq!(ranks(&logits(&[&[1.0, f64::NAN, 1.0, 2.0]]), 4), [vec![3, 0, 2, 1]]);
    assert_eq!(TargetLoss::Margin.of(&z, &[0, 2], &[1, 0]).to_vec::<f64>(), [-4.0, -4.0]);
    // Probabilities 1/2, 1/6 and 1/3 of the logits ln 3, 0 and ln 2.
    let shares = logits(&[&[3f64.ln(), 0.0, 2f64.ln()]]);
    let rise = |label: u32| LabelLoss::ProbabilityMargin.of(&shares, &[label]).item();
    assert!((rise(0) + 1.0 / 6.0).abs() < 1e-15 && (rise(1) - 1.0 / 3.0).abs() < 1e-15);
    // ln p_t of two equal logits among zeros far below: ln ½.
    let even = TargetLoss::CrossEntropy.of(&logits(&[&[0.0, 0.0, -800.0]]), &[1], &[0]).item();
    assert!((even + 2f64.ln()).abs() < 1e-15);
}

trait MapClose {
    /// Rounded to twelve digits: the floor of the denominator is 1e-12.
    fn map_close(&self) -> Vec<f64>;
}

impl<T: AsRef<[f64]>> MapClose for T {
    fn map_close(&self) -> Vec<f64> {
        self.as_ref().iter().map(|v| (v * 1e11).round() / 1e11).collect()
    }
}

#[test]
fn two_and_three_classes_take_the_substituted_losses() {
    let two = logits(&[&[1.0, 3.0]]);
    assert_eq!(dlr(&two, &[1]).item(), -2.0);
    assert_eq!(targeted_dlr(&two, &[1], &[0]).item(), -2.0);
    let three = logits(&[&[1.0, 3.0, 2.0]]);
    // −(3 − 1)/(3 − 1): the denominator of the untargeted ratio.
    assert!((targeted_dlr(&three, &[1], &[0]).item() + 1.0).abs() < 1e-11);
}

#[test]
#[should_panic(expected = "need (n, k) with k of at least 2")]
fn one_class_is_refused() {
    LabelLoss::CrossEntropy.of(&logits(&[&[1.0]]), &[0]);
}

#[test]
#[should_panic(expected = "the target of row Some(1) is its label")]
fn a_target_is_another_class() {
    TargetLoss::Dlr.of(&logits(&[&[1.0, 2.0], &[1.0, 2.0]]), &[0, 1], &[1, 1]);
}

/// The gradient of the cross-entropy at margins where softmax rounds to one in f32: p_j for others, and minus
/// their sum for the label, not zero.
#[test]
fn saturated_cross_entropy_has_a_slope() {
    for margin in [10.0f32, 17.5, 40.0, 80.0] {
        let z = Tensor::new(&cpu(), [1, 3], &[margin, 0.0, -1.0]);
        let (loss, gradient) = value_and_grad(&z, |z| LabelLoss::CrossEntropy.of(z, &[0]).sum_all());
        let m = f64::from(margin);
        let p = [(-m).exp(), (-m - 1.0).exp()];
        let sum = p[0] + p[1];
        let wanted = [-sum / (1.0 + sum), p[0] / (1.0 + sum), p[1] / (1.0 + sum)];
        for (found, wanted) in gradient.to_vec::<f32>().iter().zip(wanted) {
            // Exponentials of f32 arguments are good to |argument| roundings.
            assert!((f64::from(*found) / wanted - 1.0).abs() < 2e-5, "{margin}: {found} but {wanted}");
        }
        assert!((loss.item() / sum.ln_1p() - 1.0).abs() < 2e-5, "{margin}: {}", loss.item());
    }
}

fn table() -> impl Strategy<Value = (Vec<Vec<f64>>, Vec<u32>, Vec<u32>)> {
    (3usize..7, 1usize..6).prop_flat_map(|(k, n)| {
        let row = prop::collection::vec(-3.0f64..3.0, k);
        let class = 0..k as u32;
        let shift = 1..k as u32;
        (prop::collection::vec(row, n), prop::collection::vec(class, n), prop::collection::vec(shift, n))
            .prop_map(move |(z, labels, shifts)| {
                let targets = labels.iter().zip(shifts).map(|(y, s)| (y + s) % k as u32).collect();
                (z, labels, targets)
            })
    })
}

proptest! {
    #[test]
    fn dlr_does_not_change_with_shift_and_scale((z, labels, targets) in table(), a in 0.01f64..50.0, b in -9.0f64..9.0) {
        let z = logits(&z.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let moved = z.mul_scalar(a).add_scalar(b);
        for (before, after) in [
            (dlr(&z, &labels), dlr(&moved, &labels)),
            (targeted_dlr(&z, &labels, &targets), targeted_dlr(&moved, &labels, &targets)),
        ] {
            for (before, after) in before.to_vec::<f64>().iter().zip(after.to_vec::<f64>()) {
                // Logits of up to 160 cancel to a denominator that is rarely below 1e-3.
                prop_assert!((before - after).abs() <= 1e-6 * (1.0 + before.abs()), "{} {}", before, after);
            }
        }
    }

    /// Losses follow the classes under a renaming, and the rows under a shuffle.
    #[test]
    fn names_of_classes_and_order_of_rows_do_not_matter((z, labels, targets) in table(), turn in 1usize..6) {
        let (n, k) = (z.len(), z[0].len());
        let all = logits(&z.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let columns: Vec<u32> = (0..k).map(|c| ((c + turn) % k) as u32).collect();
        let renamed = all.gather(1, &Array::new(&cpu(), [k], &columns));
        let name = |c: &u32| (*c as usize + k - turn % k) as u32 % k as u32;
        let (new_labels, new_targets): (Vec<u32>, Vec<u32>) =
            (labels.iter().map(name).collect(), targets.iter().map(name).collect());
        let rows: Vec<u32> = (0..n as u32).rev().collect();
        let turned = all.gather(0, &Array::new(&cpu(), [n], &rows));
        let back = |v: &[u32]| v.iter().rev().copied().collect::<Vec<_>>();
        type Loss = fn(&Tensor, &[u32], &[u32]) -> Tensor;
        let losses: [Loss; 6] = [
            |z, y, _| LabelLoss::CrossEntropy.of(z, y),
            |z, y, _| LabelLoss::Margin.of(z, y),
            |z, y, _| LabelLoss::Dlr.of(z, y),
            |z, y, t| TargetLoss::CrossEntropy.of(z, y, t),
            |z, y, t| TargetLoss::Margin.of(z, y, t),
            |z, y, t| TargetLoss::Dlr.of(z, y, t),
        ];
        for loss in losses {
            let values = loss(&all, &labels, &targets).to_vec::<f64>();
            for (a, b) in values.iter().zip(loss(&renamed, &new_labels, &new_targets).to_vec::<f64>()) {
                // Sums in another order.
                prop_assert!((a - b).abs() < 1e-12 * (1.0 + a.abs()));
            }
            let reversed = loss(&turned, &back(&labels), &back(&targets)).to_vec::<f64>();
            prop_assert!(values.iter().rev().zip(&reversed).all(|(a, b)| a == b));
        }
    }

    /// All label losses and the margin agree on which side of the decision a sample is.
    #[test]
    fn signs_of_margins_agree_with_the_decision((z, labels, _) in table()) {
        let all = logits(&z.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let judged = verdicts(&all, &labels);
        let (margin, ratio) = (margins(&all, &labels).to_vec::<f64>(), dlr(&all, &labels).to_vec::<f64>());
        for i in 0..z.len() {
            prop_assert_eq!(judged[i].margin, margin[i]);
            prop_assert_eq!(judged[i].success, margin[i] < 0.0);
            prop_assert_eq!(ratio[i] > 0.0, margin[i] < 0.0);
            prop_assert!(ratio[i] >= -1.0);
        }
        prop_assert_eq!(all.dtype(), DType::F64);
    }
}

/// A logit that is no number, or +∞, is never a prediction; −∞ is a class that is out of the question.
#[test]
fn logits_that_are_not_finite_are_mistakes() {
    let inf = f64::INFINITY;
    for (z, y, success, margin) in [
        ([f64::NAN, 2.0, 1.0], 1, true, -inf),
        ([0.0, f64::NAN, 1.0], 2, true, -inf),
        ([0.0, inf, 1.0], 1, true, -inf),
        ([0.0, 2.0, inf], 1, true, -inf),
        ([-inf, 2.0, 1.0], 1, false, 1.0),
        ([2.0, 2.0, 1.0], 0, false, 0.0),
        ([2.0, 2.0, 1.0], 1, true, 0.0),
    ] {
        let found = &verdicts(&logits(&[&z]), &[y])[0];
        assert_eq!((found.success, found.margin), (success, margin), "{z:?} {y}");
    }
}
