//! Linear probe: multinomial logistic regression on cached features.

use crate::features::rows;
use crate::fit_error::{FitError, check_finite, check_weights};
use crate::l2_choice::{Candidate, choose_l2};
use crate::lbfgs::Lbfgs;
use crate::logistic::Logistic;
use crate::split::stratified;
use crate::standardize::Standardizer;
use serde::{Deserialize, Serialize};
use tarrl_bound::LinearHead;
use tarrl_tensor::{Key, Tensor};

/// Settings of [`linear_probe`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeConfig {
    /// Weights of the squared norm to try, in units of the mean cross-entropy; one alone is taken as it is.
    pub l2: Vec<f64>,
    /// Share of each class of the training set that is held out to choose by.
    pub validation: f64,
    /// How far above the least validation cross-entropy that of the chosen weight may lie, in nats.
    pub slack: f64,
    /// The optimizer.
    pub solver: Lbfgs,
}

impl Default for ProbeConfig {
    /// Eleven weights from 1 to 1e-5, half a decade apart; a tenth for validation; a slack of 0.01 nats
    /// (docs/lab-notes/heads.md has the trials).
    fn default() -> Self {
        ProbeConfig { l2: WEIGHTS.to_vec(), validation: 0.1, slack: 0.01, solver: Lbfgs::default() }
    }
}

/// Powers of `√0.1`.
const WEIGHTS: [f64; 11] = [
    1.0,
    0.316_227_766_016_837_94,
    1e-1,
    0.031_622_776_601_683_79,
    1e-2,
    0.003_162_277_660_168_379_4,
    1e-3,
    0.000_316_227_766_016_837_94,
    1e-4,
    0.000_031_622_776_601_683_795,
    1e-5,
];

/// A fitted probe and how it was chosen.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The head on the features as they are: the standardization is folded in, so that its constants
    /// apply to displacements of the encoder itself.
    pub head: LinearHead,
    /// The weight of the squared norm that was chosen.
    pub l2: f64,
    /// What was tried, strongest regularization first.
    pub path: Vec<Candidate>,
    /// Mean cross-entropy plus penalty at the end, in nats.
    pub objective: f64,
    /// Largest entry of its gradient at the end: below the tolerance unless the solver ran out of steps.
    pub gradient_norm: f64,
    /// Steps of all fits together.
    pub iterations: usize,
}

/// Fits `mean cross-entropy + l2/2 · ‖W‖²` on standardized features `(n, d)` with `labels (n)`.
///
/// The weight `l2` is chosen on a part of the training set that is stratified by class and drawn by `key`: the strongest
/// one whose cross-entropy there lies within `config.slack` of the least, interpolated between the weights that are tried,
/// so that it depends continuously on the data. The head is then fitted with it on all of the training set. Test data is
/// not an argument. Weights are tried from strong to weak, each warm-started from the last, until two in a row have a
/// larger cross-entropy than the least. The bias is not penalized. The problem is convex and solved in f64, so that the
/// result does not depend on the optimizer; it has the same bits for any number of threads. This is the protocol "standard
/// linear finetuning": frozen encoder, head trained on clean, un-augmented images.
///
/// # Errors
/// If there are fewer than two classes, a feature is not finite, a weight is not finite or negative, or several weights
/// are to be chosen from and one of them is 0, the slack is negative, or no class has two samples.
///
/// # Panics
/// If the shapes do not fit, a label is not below `classes`, or the list of weights is empty.
#[track_caller]
pub fn linear_probe(
    features: &Tensor,
    labels: &[u32],
    classes: usize,
    config: &ProbeConfig,
    key: Key,
) -> Result<Probe, FitError> {
    check_training(features, labels, classes)?;
    check_weights(&config.l2, config.l2.len() == 1)?;
    if config.slack.is_nan() || config.slack < 0.0 {
        return Err(FitError::Setting {
            field: "slack",
            value: config.slack,
            range: "it must not be negative",
        });
    }
    let mut weights = config.l2.clone();
    assert!(!weights.is_empty(), "linear_probe: no weight of the squared norm to choose from");
    weights.sort_by(|a, b| b.total_cmp(a));

    let d = features.shape()[1];
    let mut theta = vec![0.0; (d + 1) * classes];
    let (mut path, mut iterations) = (Vec::new(), 0);
    let mut chosen = (weights[0], theta.clone());
    if weights.len() > 1 {
        let (fit, held) = stratified(labels, config.validation, key)?;
        let standard = Standardizer::of(&rows(features, &fit));
        let part = |indices: &[usize]| {
            let labels: Vec<u32> = indices.iter().map(|&i| labels[i]).collect();
            Logistic::new(standard.design(&rows(features, indices)), &labels, classes)
        };
        let (fit, held) = (part(&fit), part(&held));
        // Candidates differ in the second digit of the loss; the last fit is the one to be exact.
        let rough = Lbfgs { tolerance: 10.0 * config.solver.tolerance, ..config.solver };
        let (mut least, mut worse) = (f64::INFINITY, 0);
        let mut points = Vec::new();
        for &l2 in &weights {
            let min = fit.minimize(l2, theta, &rough);
            iterations += min.iterations;
            theta = min.point;
            let candidate = held.judge(l2, &theta);
            path.push(candidate);
            points.push(theta.clone());
            worse += 1;
            if candidate.loss < least {
                (least, worse) = (candidate.loss, 0);
            }
            if worse == PATIENCE {
                break;
            }
        }
        let l2 = choose_l2(&path, config.slack);
        let nearest = path.iter().rposition(|c| c.l2 >= l2).unwrap_or(0);
        chosen = (l2, points.swap_remove(nearest));
    }
    let (l2, start) = chosen;
    let standard = Standardizer::of(features);
    let min = Logistic::new(standard.design(features), labels, classes).minimize(l2, start, &config.solver);
    let (weight, bias) = standard.fold(&min.point);
    Ok(Probe {
        head: LinearHead::new(classes, d, weight, bias),
        l2,
        path,
        objective: min.value,
        gradient_norm: min.gradient_norm,
        iterations: iterations + min.iterations,
    })
}

/// Weights in a row whose loss is worse than the best before weaker ones are not tried.
const PATIENCE: usize = 2;

/// [`check`], and that there is something to tell apart and every feature is finite.
#[track_caller]
pub(crate) fn check_training(features: &Tensor, labels: &[u32], classes: usize) -> Result<(), FitError> {
    check(features, labels, classes);
    if classes < 2 {
        return Err(FitError::Classes(classes));
    }
    check_finite(features)
}

#[track_caller]
pub(crate) fn check(features: &Tensor, labels: &[u32], classes: usize) {
    assert!(
        features.shape().rank() == 2 && features.shape()[0] == labels.len() && !labels.is_empty(),
        "a head: features {:?} but {} labels",
        features.shape(),
        labels.len()
    );
    let top = labels.iter().max().copied().unwrap_or(0);
    assert!((top as usize) < classes, "a head: label {top} of {classes} classes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{Cpu, Device};

    fn device(threads: usize) -> Device {
        Cpu { threads, ..Cpu::default() }.open()
    }

    /// Clouds around random centers; features of different scale and mean, some negative ones cut off.
    fn clouds(device: &Device, (n, d, k): (usize, usize, usize), noise: f64) -> (Tensor, Vec<u32>) {
        let mut s = Key::new(11).stream();
        let centers: Vec<f64> = (0..k * d).map(|_| s.normal()).collect();
        let labels: Vec<u32> = (0..n).map(|i| (i % k) as u32).collect();
        let value = |(i, j): (usize, usize), s: &mut tarrl_tensor::Stream| {
            ((centers[i % k * d + j] + noise * s.normal()).max(-0.5) * (1 << (j % 4)) as f64 + j as f64)
                as f32
        };
        let x: Vec<f32> = (0..n * d).map(|cell| value((cell / d, cell % d), &mut s)).collect();
        (Tensor::new(device, [n, d], &x), labels)
    }

    fn logits(head: &LinearHead, row: &[f32]) -> Vec<f64> {
        head.logits(&row.iter().map(|&v| f64::from(v)).collect::<Vec<_>>())
    }

    fn accuracy(head: &LinearHead, x: &Tensor, labels: &[u32]) -> f64 {
        let predicted = x
            .to_vec::<f32>()
            .chunks(head.features())
            .map(|row| {
                let z = logits(head, row);
                (0..z.len()).max_by(|&a, &b| z[a].total_cmp(&z[b])).unwrap() as u32
            })
            .collect::<Vec<_>>();
        predicted.iter().zip(labels).filter(|(a, b)| a == b).count() as f64 / labels.len() as f64
    }

    fn only(l2: f64) -> ProbeConfig {
        ProbeConfig { l2: vec![l2], ..ProbeConfig::default() }
    }

    /// Against gradient descent in plain loops, on features standardized here once more, with the step
    /// 1/L of the largest possible curvature.
    #[test]
    fn the_optimum_of_another_optimizer() {
        let (n, d, k, l2) = (90, 4, 3, 0.05);
        let (x, labels) = clouds(&device(1), (n, d, k), 1.5);
        let probe = linear_probe(&x, &labels, k, &only(l2), Key::new(0)).unwrap();
        assert!(probe.gradient_norm < 1e-5, "{probe:?}");

        let raw: Vec<f64> = x.array().to_f64();
        let mut rows = vec![vec![1.0; d + 1]; n];
        for j in 0..d {
            let column: Vec<f64> = (0..n).map(|i| raw[i * d + j]).collect();
            let mean = column.iter().sum::<f64>() / n as f64;
            let sd = (column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
            (0..n).for_each(|i| rows[i][j] = (column[i] - mean) / sd);
        }
        let mut theta = vec![vec![0.0; d + 1]; k];
        let (mut loss, mut size) = (0.0, f64::INFINITY);
        for _ in 0..20_000 {
            if size < 1e-9 {
                break;
            }
            let mut gradient = vec![vec![0.0; d + 1]; k];
            loss = 0.0;
            for (row, &y) in rows.iter().zip(&labels) {
                let z: Vec<f64> = theta.iter().map(|t| t.iter().zip(row).map(|(t, r)| t * r).sum()).collect();
                let total: f64 = z.iter().map(|v| v.exp()).sum();
                loss += (total.ln() - z[y as usize]) / n as f64;
                for c in 0..k {
                    let p = z[c].exp() / total - f64::from(u8::from(c == y as usize));
                    gradient[c].iter_mut().zip(row).for_each(|(g, r)| *g += p * r / n as f64);
                }
            }
            for c in 0..k {
                loss += 0.5 * l2 * theta[c][..d].iter().map(|w| w * w).sum::<f64>();
                (0..d).for_each(|j| gradient[c][j] += l2 * theta[c][j]);
            }
            size = gradient.iter().flatten().fold(0.0, |m: f64, g| m.max(g.abs()));
            // Curvature: at most ½·(mean square of a row, d + 1) + l2.
            let step = 1.0 / (0.5 * (d + 1) as f64 + l2);
            theta.iter_mut().flatten().zip(gradient.iter().flatten()).for_each(|(t, g)| *t -= step * g);
        }
        assert!(size < 1e-9, "the reference did not converge: {size}");
        assert!((probe.objective - loss).abs() < 1e-6, "{} {loss}", probe.objective);
        // The same function of the raw features: the standardization is folded in.
        let head = logits(&probe.head, &x.to_vec::<f32>()[..d]);
        let want: Vec<f64> = theta.iter().map(|t| t.iter().zip(&rows[0]).map(|(t, r)| t * r).sum()).collect();
        for c in 1..k {
            // Gradients of 1e-5 at a curvature of at least l2 leave 2e-4 per coefficient.
            assert!(((head[c] - head[0]) - (want[c] - want[0])).abs() < 5e-3, "{head:?} {want:?}");
        }
    }

    #[test]
    fn separable_classes_are_separated() {
        let (x, labels) = clouds(&device(1), (120, 8, 4), 0.02);
        let probe = linear_probe(&x, &labels, 4, &ProbeConfig::default(), Key::new(1)).unwrap();
        assert_eq!(accuracy(&probe.head, &x, &labels), 1.0);
        assert!(probe.gradient_norm < 1e-5);
        assert!(probe.head.weight().iter().chain(probe.head.bias()).all(|v| v.is_finite()));
    }

    #[test]
    fn a_class_without_samples_is_never_predicted() {
        let (x, labels) = clouds(&device(1), (60, 5, 3), 0.5);
        let labels: Vec<u32> = labels.iter().map(|&y| if y == 1 { 3 } else { y }).collect();
        let probe = linear_probe(&x, &labels, 4, &ProbeConfig::default(), Key::new(1)).unwrap();
        assert!(probe.gradient_norm < 1e-5 && probe.head.bias().iter().all(|b| b.is_finite()), "{probe:?}");
        for row in x.to_vec::<f32>().chunks(5) {
            let z = logits(&probe.head, row);
            assert!(z[1] < z[0] || z[1] < z[2] || z[1] < z[3]);
        }
    }

    #[test]
    fn the_validation_part_chooses() {
        let (x, labels) = clouds(&device(1), (200, 30, 2), 6.0);
        let probe = linear_probe(&x, &labels, 2, &ProbeConfig::default(), Key::new(1)).unwrap();
        assert!(probe.path.windows(2).all(|w| w[0].l2 > w[1].l2));
        let least = probe.path.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
        assert!(probe.l2 >= least.l2, "{} {:?}", probe.l2, probe.path);
        // Noise this large needs regularization, and the path ends before the weakest.
        assert!(probe.l2 > 1e-3 && probe.path.len() < 11, "{:?}", probe.path);
    }

    #[test]
    fn same_bits_for_any_number_of_threads() {
        let fit = |threads| {
            let (x, labels) = clouds(&device(threads), (1500, 24, 5), 2.0);
            let probe = linear_probe(&x, &labels, 5, &only(1e-3), Key::new(1)).unwrap();
            probe.head.weight().iter().chain(probe.head.bias()).map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        let one = fit(1);
        assert!(one == fit(2) && one == fit(3));
    }

    #[test]
    fn rescaled_features_give_the_same_head() {
        let (x, labels) = clouds(&device(1), (150, 4, 3), 1.0);
        let big = x.mul_scalar(64.0);
        let (a, b) = (
            linear_probe(&x, &labels, 3, &only(0.01), Key::new(1)).unwrap(),
            linear_probe(&big, &labels, 3, &only(0.01), Key::new(1)).unwrap(),
        );
        // A power of two changes no bit of the standardized features.
        for (a, b) in a.head.weight().iter().zip(b.head.weight()) {
            assert!((a - 64.0 * b).abs() <= 1e-9 * a.abs().max(1e-3), "{a} {b}");
        }
    }

    #[test]
    #[should_panic(expected = "label 3 of 3 classes")]
    fn a_label_out_of_range_is_a_bug() {
        linear_probe(&Tensor::new(&device(1), [1, 1], &[1.0f32]), &[3], 3, &only(1.0), Key::new(0)).unwrap();
    }

    #[test]
    fn what_no_probe_can_be_fitted_to_is_refused() {
        let (x, labels) = clouds(&device(1), (4, 2, 2), 1.0);
        let fit = |x: &Tensor, labels: &[u32], classes, l2: &[f64]| {
            let config = ProbeConfig { l2: l2.to_vec(), ..ProbeConfig::default() };
            linear_probe(x, labels, classes, &config, Key::new(0)).map(|probe| probe.head)
        };
        assert_eq!(fit(&x, &[0; 4], 1, &[0.1]), Err(FitError::Classes(1)));
        // One sample a class leaves nothing to choose with, but one weight needs no choice.
        assert_eq!(fit(&x, &[0, 1, 2, 3], 4, &[0.1, 1.0]), Err(FitError::Validation));
        // The logarithm of 0 has no place on the path, but 0 alone needs none.
        assert!(matches!(fit(&x, &labels, 2, &[0.1, 0.0]), Err(FitError::Setting { field: "l2", .. })));
        assert!(fit(&x, &[0, 1, 2, 3], 4, &[0.1]).is_ok());
        for wrong in [f64::NAN, -1.0, f64::INFINITY] {
            let error = fit(&x, &labels, 2, &[0.1, wrong]).unwrap_err();
            assert!(matches!(error, FitError::Setting { field: "l2", .. }), "{error}");
        }
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = x.to_vec::<f32>();
            values[5] = wrong;
            let x = Tensor::new(x.device(), [4, 2], &values);
            assert_eq!(fit(&x, &labels, 2, &[0.1, 1.0]), Err(FitError::NotFinite { sample: 2 }));
        }
    }
}
