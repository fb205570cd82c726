//! Signs of masked gradients, on models that show exactly one, and on one that shows none.

use super::{keys, network, normal, unit};
use crate::diagnostics::{
    self, Finding, GradientMaskingChecks, Sign, gradient_masking_checks, is_conclusive,
};
use crate::{AutoAttack, Classifier, Flags, LabelLoss, Norm, Origin, Pgd, Start, Threat, attack_classifier};
use std::cell::Cell;
use tarrl_tensor::{DType, Tensor};

const N: usize = 40;

fn found(logits: &dyn Fn(&Tensor) -> Tensor, pgd: Pgd) -> Vec<Finding> {
    let x = unit(1, N, 8, DType::F32);
    // The labels are what the model says.
    let labels: Vec<u32> = logits(&x).argmax(1).to_vec();
    let config = GradientMaskingChecks { pgd, ..GradientMaskingChecks::default() };
    gradient_masking_checks(
        Classifier { logits, labels: &labels },
        &x,
        &Threat::linf(0.05),
        &config,
        &keys(2, N),
    )
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
fn a_model_without_masking_has_no_blocking_finding() {
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

/// Twenty steps from the input that together do not reach the side of the ball: on a linear model the loss of
/// samples that are not broken rise to the last.
#[test]
fn an_ascent_that_is_cut_off_is_noticed() {
    let slow = Pgd { step_size: 0.002, start: Start::Clean, ..steps() };
    let findings = found(&honest(), slow);
    let rising = findings.iter().find(|f| f.sign == Sign::UnfinishedAscent).expect("an ascent that is over");
    let x = unit(1, N, 8, DType::F32);
    let logits = honest();
    let labels: Vec<u32> = logits(&x).argmax(1).to_vec();
    let attacked = attack_classifier(
        &logits,
        &x,
        &labels,
        LabelLoss::CrossEntropy,
        &Threat::linf(0.05),
        &slow,
        &keys(2, N),
    );
    let robust: Vec<usize> = (0..N).filter(|&i| !attacked.success[i]).collect();
    assert!(robust.len() > N / 2 && rising.samples == robust && !rising.blocking, "{rising:?}");
    assert!(!has(&found(&honest(), steps()), Sign::UnfinishedAscent));
}

#[test]
fn checks_in_batches_find_the_same() {
    let x = unit(1, N, 8, DType::F32);
    let logits = honest();
    let labels: Vec<u32> = logits(&x).argmax(1).to_vec();
    let classifier = Classifier { logits: &logits, labels: &labels };
    let pgd = Pgd { steps: 11, step_size: 0.002, ..Pgd::default() };
    let with = |batch| {
        let config = GradientMaskingChecks { pgd, batch, ..GradientMaskingChecks::default() };
        gradient_masking_checks(classifier, &x, &Threat::linf(0.05), &config, &keys(2, N))
    };
    let findings = with(N);
    assert!(findings.len() > 2, "{findings:?}");
    assert_eq!(findings, with(7));
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
fn each_finding_has_its_threshold() {
    let broken = |count: usize| -> Vec<bool> { (0..1000).map(|i| i < count).collect() };
    assert_eq!(diagnostics::weaker_wins(Sign::BlackBoxWins, &broken(5), &broken(5)), None);
    let two = diagnostics::weaker_wins(Sign::BlackBoxWins, &broken(7), &broken(5)).unwrap();
    assert_eq!((two.blocking, two.samples), (false, vec![5, 6]));
    assert!(diagnostics::weaker_wins(Sign::BlackBoxWins, &broken(8), &broken(5)).unwrap().blocking);
    assert_eq!(diagnostics::more_steps(&broken(100), &broken(105)), None);
    assert_eq!(diagnostics::more_steps(&broken(100), &broken(106)).unwrap().samples.len(), 6);
    assert_eq!(diagnostics::losses_disagree(&broken(100), &broken(150)), None);
    assert_eq!(diagnostics::losses_disagree(&broken(100), &broken(151)).unwrap().samples.len(), 51);

    let flat = Flags { zero_gradient: true, ..Flags::default() };
    let flags: Vec<Flags> = (0..1000).map(|i| if i < 30 { flat } else { Flags::default() }).collect();
    assert_eq!(diagnostics::dead_gradient(&flags, &broken(30)), None);
    assert!(!diagnostics::dead_gradient(&flags, &broken(20)).unwrap().blocking);
    assert_eq!(
        diagnostics::dead_gradient(&flags, &broken(19)).unwrap().samples,
        (19..30).collect::<Vec<_>>()
    );
    assert!(diagnostics::dead_gradient(&flags, &broken(19)).unwrap().blocking);

    let by = |attack: &str| Some(Origin { attack: attack.to_owned(), ..Origin::default() });
    let origins = |squares: usize| -> Vec<Option<Origin>> {
        (0..1000).map(|i| if i < squares { by("square") } else { by("apgd-t").filter(|_| i < 500) }).collect()
    };
    let parts = AutoAttack::default().parts(Norm::Linf);
    assert_eq!(diagnostics::square_wins(&parts, &origins(0)), None);
    let two = diagnostics::square_wins(&parts, &origins(2)).unwrap();
    assert_eq!((two.sign, two.blocking, two.samples), (Sign::BlackBoxWins, false, vec![0, 1]));
    assert!(diagnostics::square_wins(&parts, &origins(3)).unwrap().blocking);
    // With nothing before it, Square has beaten no attack.
    assert_eq!(diagnostics::square_wins(&parts[3..], &origins(3)), None);

    let curve = |radii: &[(f64, usize)]| {
        diagnostics::curve(&radii.iter().map(|&(r, count)| (r, broken(count))).collect::<Vec<_>>(), 0.1)
    };
    assert_eq!(curve(&[(0.1, 500), (0.2, 900)]), []);
    let findings = curve(&[(0.1, 500), (0.2, 400), (0.3, 899)]);
    assert_eq!(findings[0].samples, (400..500).collect::<Vec<_>>());
    assert_eq!((findings[1].sign, findings[1].samples.len()), (Sign::AboveChance, 101));

    let rising: Vec<f64> = (0..30).map(f64::from).collect();
    // Of 28 steps the last seven; and a rise of a twentieth is none.
    let settled = |last: f64| -> Vec<f64> {
        (0..29).map(|i| if i > 21 { last } else { f64::from(i.min(19)) }).collect()
    };
    let histories = [rising, settled(19.0), settled(20.0), settled(20.1), vec![], vec![0.0, 1.0, 2.0, 3.0]];
    assert_eq!(diagnostics::unfinished_ascent(&histories).unwrap().samples, [0, 3]);
    let jumps =
        diagnostics::unstable_loss(&[1.0, 1.0, 0.0], &[vec![1.2, 1.05, 0.0], vec![0.9, 1.0, 0.0]]).unwrap();
    assert_eq!(jumps.samples, [0]);
    assert!((jumps.numbers["mean-change"] - (0.15 + 0.025) / 3.0).abs() < 1e-12);
}
