//! The unit test of attacks: on a plain encoder every attack finds the examples that exist by construction; where gradients are
//! masked those that follow gradients do not, and the finding says so.

use tarrl_attacks::diagnostics::{
    Finding, GradientMaskingChecks, Sign, gradient_masking_checks, is_conclusive,
};
use tarrl_attacks::{
    Apgd, AttackSpec, CarliniWagner, Classifier, DeepFool, Fab, HopSkipJump, LabelLoss, Limits, Norm, Pgd,
    RunConfig, Square, SuiteRun, Threat, attack_classifier,
};
use tarrl_eval::{BinarizationScore, BinarizationTest};
use tarrl_tensor::{Cpu, Device, Key, Tensor};

const IMAGES: usize = 12;
const PIXELS: usize = 36;

type Encoder<'a> = &'a dyn Fn(&Tensor) -> Tensor;
type Attack = fn(Classifier<'_>, &Tensor, &Threat, Key) -> Tensor;

fn device() -> Device {
    Cpu::default().open()
}

fn normal(key: Key, shape: [usize; 2], factor: f64) -> Tensor {
    let mut stream = key.stream();
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| (factor * stream.normal()) as f32).collect();
    Tensor::new(&device(), shape, &values)
}

fn images() -> Tensor {
    let mut stream = Key::new(1).stream();
    let values: Vec<f32> = (0..IMAGES * PIXELS).map(|_| stream.uniform(0.2, 0.8) as f32).collect();
    Tensor::new(&device(), [IMAGES, PIXELS], &values)
}

/// Two layers, 64 features.
fn plain() -> impl Fn(&Tensor) -> Tensor {
    let (a, b) = (normal(Key::new(2), [PIXELS, 48], 0.4), normal(Key::new(3), [48, 64], 0.3));
    move |x| x.add_scalar(-0.5).matmul(&a).relu().matmul(&b)
}

fn keys() -> Vec<Key> {
    (0..IMAGES).map(|i| Key::new(4).fold(i)).collect()
}

fn score(encode: Encoder<'_>, threat: &Threat, attack: Attack) -> BinarizationScore {
    harder(BinarizationTest::default().hardness, encode, threat, attack)
}

fn harder(hardness: f64, encode: Encoder<'_>, threat: &Threat, attack: Attack) -> BinarizationScore {
    let test = BinarizationTest { hardness, random: 50, ..BinarizationTest::default() };
    test.run(encode, &images(), threat, &attack, &keys()).unwrap()
}

fn by_pgd(c: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key) -> Tensor {
    let pgd = Pgd::usual(threat, 40);
    attack_classifier(c.logits, x, c.labels, LabelLoss::CrossEntropy, threat, &pgd, &[key]).adversarial
}

fn by_margin_pgd(c: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key) -> Tensor {
    let pgd = Pgd::usual(threat, 40);
    attack_classifier(c.logits, x, c.labels, LabelLoss::Margin, threat, &pgd, &[key]).adversarial
}

fn by_part(part: AttackSpec, c: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key) -> Tensor {
    let mut run = SuiteRun::new(threat.around(x), c.labels, &[key], vec![part], RunConfig::default());
    while run.round(&|u, _| (c.logits)(u)) {}
    run.finish().adversarial
}

fn by_apgd(c: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key) -> Tensor {
    by_part(AttackSpec::Apgd { loss: LabelLoss::CrossEntropy, config: Apgd::default() }, c, x, threat, key)
}

fn by_apgd_dlr(c: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key) -> Tensor {
    by_part(AttackSpec::Apgd { loss: LabelLoss::Dlr, config: Apgd::default() }, c, x, threat, key)
}

fn by_fab(c: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key) -> Tensor {
    by_part(AttackSpec::Fab { config: Fab::default() }, c, x, threat, key)
}

fn by_square(c: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key) -> Tensor {
    let image = x.reshape([1, 6, 6, 1]);
    let flat = |u: &Tensor| (c.logits)(&u.reshape([u.shape()[0], PIXELS]));
    let c = Classifier { logits: &flat, labels: c.labels };
    by_part(
        AttackSpec::Square { config: Square { queries: 20_000, ..Square::default() } },
        c,
        &image,
        threat,
        key,
    )
    .reshape([1, PIXELS])
}

fn by_deepfool(c: Classifier<'_>, x: &Tensor, threat: &Threat, _: Key) -> Tensor {
    let found = DeepFool::default().run(c, &threat.around(x), Limits::default());
    found.closest.map_or(found.best, |closest| closest.point)
}

fn by_carlini_wagner(c: Classifier<'_>, x: &Tensor, threat: &Threat, _: Key) -> Tensor {
    let attack = CarliniWagner { searches: 6, steps: 200, initial_c: 1.0, ..CarliniWagner::default() };
    let found = attack.run(c, &threat.around(x), Limits::default());
    found.closest.map_or(found.best, |closest| closest.point)
}

fn by_hop_skip_jump(c: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key) -> Tensor {
    let attack = HopSkipJump { steps: 30, ..HopSkipJump::default() };
    let found = attack.run(c, &threat.around(x), &[key], Limits::default());
    found.closest.map_or(found.best, |closest| closest.point)
}

const ATTACKS: [(&str, Attack); 9] = [
    ("pgd", by_pgd),
    ("pgd on the margin", by_margin_pgd),
    ("apgd-ce", by_apgd),
    ("apgd-dlr", by_apgd_dlr),
    ("fab", by_fab),
    ("square", by_square),
    ("deepfool", by_deepfool),
    ("carlini-wagner", by_carlini_wagner),
    ("hop-skip-jump", by_hop_skip_jump),
];

#[test]
fn every_attack_finds_the_known_examples_of_a_plain_encoder() {
    let encode = plain();
    let mut failures = vec![];
    for threat in [Threat::linf(0.1), Threat::l2(0.6)] {
        for (name, attack) in ATTACKS {
            if name == "carlini-wagner" && threat.norm == Norm::Linf {
                continue; // An attack in l2.
            }
            // Without gradients few directions of the Euclidean ball come near the best one: an easier threshold.
            let is_blind = ["square", "hop-skip-jump"].contains(&name) && threat.norm == Norm::L2;
            let hardness = if is_blind { 0.3 } else { 0.75 };
            let score = harder(hardness, &encode, &threat, attack);
            assert_eq!(score.found.iter().flatten().count(), IMAGES, "{name}: a readout is missing");
            // A search without gradients may miss one within its queries.
            let missed = score.found.iter().filter(|&&found| found == Some(false)).count();
            if missed > usize::from(is_blind) || score.finding().is_some() != (missed > 0) {
                failures.push(format!("{name} {}: {:?}", threat.norm, score.found));
            }
            // A random point is no adversarial example: the test is not passed by chance.
            assert!(score.random_success() < 0.05, "{name} {threat:?}: {score:?}");
        }
    }
    assert_eq!(failures, [""; 0]);
}

/// Inputs rounded to nine levels, with the gradient of the rounding: none.
fn quantized() -> impl Fn(&Tensor) -> Tensor {
    let encode = plain();
    move |x| {
        let levels: Vec<f32> = x.to_vec::<f32>().iter().map(|v| (v * 16.0).round() / 16.0).collect();
        encode(&(&Tensor::new(x.device(), *x.shape(), &levels) + &x.mul_scalar(0.0)))
    }
}

/// Features so large that the sigmoid is 0 or 1 in f32 and its slope 0.
fn saturated() -> impl Fn(&Tensor) -> Tensor {
    let encode = plain();
    move |x| encode(x).mul_scalar(1e6).sigmoid()
}

/// The value of the encoder, and the gradient of one with other weights at each pass.
fn random_gradient() -> impl Fn(&Tensor) -> Tensor {
    let (encode, passes) = (plain(), std::cell::Cell::new(0u64));
    move |x| {
        passes.set(passes.get() + 1);
        let wrong = x.matmul(&normal(Key::new(5).fold(passes.get()), [PIXELS, 64], 1.0));
        &encode(x).detach() + &(&wrong - &wrong.detach())
    }
}

/// A defense that must be broken: its examples are known. Attacks along its gradients miss them, and the finding blocks; an
/// attack that needs no gradient finds them.
#[test]
fn masked_gradients_fail_the_unit_test_and_are_reported() {
    let (quantized, saturated, random) = (quantized(), saturated(), random_gradient());
    let threat = Threat::linf(0.1);
    for (name, encode) in
        [("quantized", &quantized as Encoder<'_>), ("saturated", &saturated), ("random gradient", &random)]
    {
        for (attack, by) in [("pgd", by_pgd as Attack), ("apgd-ce", by_apgd), ("deepfool", by_deepfool)] {
            let score = score(encode, &threat, by);
            assert!(score.found.iter().flatten().count() > IMAGES / 2, "{name}: too few readouts: {score:?}");
            let finding = score.finding().unwrap_or_else(|| panic!("{attack} finds all of {name}"));
            assert!(
                finding.blocking && finding.sign == Sign::MissesKnownExamples,
                "{name} {attack}: {finding:?}"
            );
            assert!(score.success() < 0.7, "{name} {attack}: {score:?}");
        }
        let blind = score(encode, &threat, by_square);
        assert!(blind.success() > 0.7, "{name}: {blind:?}");
    }
}

/// The other checks see vanished gradients in the same classifiers, those of encoder and readout. Gradients that point anywhere
/// have no sign of their own: there the unit test is what shows it.
#[test]
fn the_masking_checks_see_vanished_gradients_in_the_same_classifiers() {
    let (quantized, saturated) = (quantized(), saturated());
    let threat = Threat::linf(0.1);
    for (name, encode) in [("quantized", &quantized as Encoder<'_>), ("saturated", &saturated)] {
        let found = std::cell::RefCell::new(vec![]);
        let examine = |c: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key| {
            let config =
                GradientMaskingChecks { pgd: Pgd::usual(threat, 20), ..GradientMaskingChecks::default() };
            found.borrow_mut().push(gradient_masking_checks(c, x, threat, &config, &[key]));
            x.clone()
        };
        BinarizationTest::default().run(encode, &images(), &threat, &examine, &keys()).unwrap();
        let found = found.into_inner();
        let is_dead =
            |findings: &&Vec<Finding>| findings.iter().any(|f| f.sign == Sign::DeadGradient && f.blocking);
        let seen = found.iter().filter(is_dead).count();
        assert!(2 * seen > found.len(), "{name}: {seen} of {}: {found:?}", found.len());
        assert!(found.iter().filter(is_dead).all(|findings| !is_conclusive(findings)));
    }
    let encode = plain();
    let examine = |c: Classifier<'_>, x: &Tensor, threat: &Threat, key: Key| {
        let config =
            GradientMaskingChecks { pgd: Pgd::usual(threat, 20), ..GradientMaskingChecks::default() };
        let findings = gradient_masking_checks(c, x, threat, &config, &[key]);
        assert!(is_conclusive(&findings), "{findings:?}");
        x.clone()
    };
    BinarizationTest::default().run(&encode, &images(), &threat, &examine, &keys()).unwrap();
}

/// A point outside of the ball, however it is classified, is no example.
#[test]
fn an_attack_that_leaves_the_ball_finds_nothing() {
    let encode = plain();
    let outside: Attack =
        |c, x, threat, key| by_pgd(c, x, &Threat { epsilon: 2.0 * threat.epsilon, ..*threat }, key);
    let score = score(&encode, &Threat::linf(0.1), outside);
    assert_eq!(score.success(), 0.0, "{score:?}");
    assert!(score.finding().is_some_and(|finding| finding.blocking && finding.samples.len() == IMAGES));
}
