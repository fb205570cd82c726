//! Signs of masked gradients, on models that show exactly one, and on one that shows none.

use super::{keys, network, normal, unit};
use crate::masking::{self, Finding, Sign, is_conclusive};
use crate::{Classifier, Examination, Pgd, Threat, examine};
use std::cell::Cell;
use tarrl_tensor::{DType, Tensor};

const N: usize = 40;

fn found(logits: &dyn Fn(&Tensor) -> Tensor, pgd: Pgd) -> Vec<Finding> {
    let x = unit(1, N, 8, DType::F32);
    // The labels are what the model says.
    let labels: Vec<u32> = logits(&x).argmax(1).to_vec();
    let config = Examination { pgd, ..Examination::default() };
    examine(Classifier { logits, labels: &labels }, &x, &Threat::linf(0.05), &config, &keys(2, N))
}

fn has(findings: &[Finding], sign: Sign) -> bool {
    findings.iter().any(|finding| finding.sign == sign)
}

fn steps() -> Pgd {
    Pgd { steps: 20, step_size: 0.01, ..Pgd::default() }
}

/// Logits of both signs for any input, so that every sample can be broken with the whole box.
fn honest() -> impl Fn(&Tensor) -> Tensor {
    let w = normal(3, 8, 3, DType::F32);
    move |u| u.add_scalar(-0.5).matmul(&w)
}

#[test]
fn an_honest_model_shows_nothing_that_blocks() {
    let findings = found(&honest(), steps());
    assert!(is_conclusive(&findings), "{findings:?}");
}

#[test]
fn flat_gradients_are_noticed() {
    // Logits rounded to whole numbers: right at every input, without any slope.
    let sound = honest();
    let stepped = |u: &Tensor| {
        let z = sound(u).mul_scalar(20.0);
        let rounded: Vec<f32> = z.to_vec::<f32>().iter().map(|v| v.round()).collect();
        &Tensor::new(z.device(), *z.shape(), &rounded) + &z.mul_scalar(0.0)
    };
    let findings = found(&stepped, steps());
    let dead = findings.iter().find(|f| f.sign == Sign::DeadGradient).expect("no dead gradient was seen");
    assert!(dead.blocking && dead.samples.len() > N / 2 && !is_conclusive(&findings));
    assert!(has(&findings, Sign::BlackBoxWins) && has(&findings, Sign::AboveChance), "{findings:?}");
    assert!(dead.to_string().starts_with(&format!("{} of {N} samples", dead.samples.len())), "{dead}");
}

#[test]
fn random_models_and_probabilities_are_noticed() {
    let sound = honest();
    let calls = Cell::new(0u64);
    let random = |u: &Tensor| {
        calls.set(calls.get() + 1);
        let n = u.shape()[0];
        &sound(u) + &normal(calls.get(), n, 3, DType::F32).mul_scalar(0.01)
    };
    assert!(has(&found(&random, steps()), Sign::RandomModel));
    let softmax = |u: &Tensor| sound(u).softmax();
    let findings = found(&softmax, steps());
    assert!(has(&findings, Sign::ProbabilitiesAsLogits) && !has(&findings, Sign::RandomModel));
}

#[test]
fn an_attack_that_is_too_short_is_noticed() {
    let findings = found(&honest(), Pgd { steps: 2, step_size: 0.002, ..Pgd::default() });
    assert!(has(&findings, Sign::MoreStepsHelp) || has(&findings, Sign::SingleStepWins), "{findings:?}");
    assert!(!is_conclusive(&findings));
}

#[test]
fn large_margins_are_noticed() {
    let sound = network(4, 8, 3, DType::F32);
    let hot = |u: &Tensor| sound(u).mul_scalar(100.0);
    let findings = found(&hot, steps());
    let saturated = findings.iter().find(|f| f.sign == Sign::Saturation).expect("margins of hundreds");
    assert!(!saturated.blocking && saturated.numbers["largest-margin"] > 16.6);
}

/// The thresholds, one sample to either side.
#[test]
fn rules_are_what_they_say() {
    let broken = |count: usize| -> Vec<bool> { (0..1000).map(|i| i < count).collect() };
    assert_eq!(masking::weaker_wins(Sign::BlackBoxWins, &broken(5), &broken(5)), None);
    let two = masking::weaker_wins(Sign::BlackBoxWins, &broken(7), &broken(5)).unwrap();
    assert_eq!((two.blocking, two.samples), (false, vec![5, 6]));
    assert!(masking::weaker_wins(Sign::BlackBoxWins, &broken(8), &broken(5)).unwrap().blocking);
    assert_eq!(masking::more_steps(&broken(100), &broken(105)), None);
    assert_eq!(masking::more_steps(&broken(100), &broken(106)).unwrap().samples.len(), 6);
    assert_eq!(masking::losses_disagree(&broken(100), &broken(150)), None);
    assert_eq!(masking::losses_disagree(&broken(100), &broken(151)).unwrap().samples.len(), 51);

    let curve = |radii: &[(f64, usize)]| {
        masking::curve(&radii.iter().map(|&(r, count)| (r, broken(count))).collect::<Vec<_>>(), 0.1)
    };
    assert_eq!(curve(&[(0.1, 500), (0.2, 900)]), []);
    let findings = curve(&[(0.1, 500), (0.2, 400), (0.3, 899)]);
    assert_eq!(findings[0].samples, (400..500).collect::<Vec<_>>());
    assert_eq!((findings[1].sign, findings[1].samples.len()), (Sign::AboveChance, 101));

    let rising: Vec<f64> = (0..30).map(f64::from).collect();
    let settled: Vec<f64> = (0..30).map(|i| f64::from(i.min(19))).collect();
    assert_eq!(masking::unfinished_ascent(&[rising, settled]).unwrap().samples, [0]);
    let jumps =
        masking::unstable_loss(&[1.0, 1.0, 0.0], &[vec![1.2, 1.05, 0.0], vec![0.9, 1.0, 0.0]]).unwrap();
    assert_eq!(jumps.samples, [0]);
    assert!((jumps.numbers["mean-change"] - (0.15 + 0.025) / 3.0).abs() < 1e-12);
}
