//! Head reports: stored certificates on linear, MLP, nearest-neighbor and regression heads.

use super::certificate_files::stored;
use super::soundness::points;
use super::{Net, config, pixels};
use crate::{Certificates, CertifiedChain, CertifyError, Effort, Network, Provenance, certify};
use tarrl_attacks::Threat;
use tarrl_bound::{KnnHead, LinearHead, MlpHead, RegressionHead};
use tarrl_tensor::{Key, Tensor};

struct Case {
    certificates: Certificates,
    /// Representations `(n, d)` where attacks ended.
    ends: Vec<Vec<f64>>,
    d: usize,
    n: usize,
}

fn case(epsilon: f64) -> Case {
    let key = Key::new(81);
    let net = Net::new(key);
    let encode = |x: &Tensor| net.encode(x);
    let (n, threat) = (5, Threat::linf(epsilon));
    let x = pixels(&net.device, key.fold("x"), &[n, 8, 8, 1]);
    let network = Network::trace(&encode, &x).unwrap();
    let config = config(Effort::Full, threat);
    let (samples, cost) = certify(&network, &x, &config).unwrap();
    let provenance = Provenance { encoder: String::new(), samples: String::new(), config, cost };
    let ends =
        points(&encode, &x, &threat, key).iter().map(|u| network.forward(u).array().to_f64()).collect();
    Case { certificates: Certificates { provenance, samples }, ends, d: network.features(), n }
}

fn numbers(key: Key, n: usize, scale: f64) -> Vec<f64> {
    let mut stream = key.stream();
    (0..n).map(|_| scale * stream.normal()).collect()
}

#[test]
fn chains_of_linear_and_hidden_layer_heads_are_in_order() {
    let case = case(0.02);
    let ends: Vec<&[f64]> = case.ends.iter().map(Vec::as_slice).collect();
    let (mut certified, mut by_radius) = (0, 0);
    for trial in 0..200usize {
        let key = Key::new(91).fold(trial);
        let k = 2 + trial % 4;
        let labels: Vec<usize> = (0..case.n).map(|i| (i + trial) % k).collect();
        let scale = 10f64.powf(key.fold("scale").stream().uniform(-1.0, 1.0));
        let head = LinearHead::new(
            k,
            case.d,
            numbers(key.fold(0usize), k * case.d, scale),
            numbers(key.fold(1usize), k, 1.0),
        );
        let report = case.certificates.apply(&head, &labels, &ends).unwrap();
        assert_eq!(report.violations(), 0, "{:?}", report.chains);
        certified += report.count(|c| c.is_certified);
        by_radius += report.count(|c| c.certified_by_radius);
        let h = 7;
        let output = LinearHead::new(k, h, numbers(key.fold(2usize), k * h, scale), vec![0.0; k]);
        let hidden = MlpHead::new(
            case.d,
            numbers(key.fold(3usize), h * case.d, 1.0),
            numbers(key.fold(4usize), h, 1.0),
            output,
        );
        let report = case.certificates.apply_by_radius(&hidden, &labels, &ends).unwrap();
        assert_eq!(report.violations(), 0, "{:?}", report.chains);
    }
    assert!(certified > by_radius && by_radius > 0, "{certified} {by_radius}");
}

/// Squares of such weights overflow or vanish, logits overflow, and differences of infinities are NaN: bounds claim nothing,
/// and none is violated.
#[test]
fn heads_with_huge_or_tiny_weights_violate_nothing() {
    let case = case(0.02);
    let ends: Vec<&[f64]> = case.ends.iter().map(Vec::as_slice).collect();
    let mut not_finite = 0;
    for (trial, scale) in
        [1e-320, 1e-200, 1e150, 1e155, 1e160, 1e200, 1e300, 1e307, 1.7e308].into_iter().enumerate()
    {
        let key = Key::new(93).fold(trial);
        let k = 3;
        let labels: Vec<usize> = (0..case.n).map(|i| i % k).collect();
        let weight = numbers(key.fold(0usize), k * case.d, 1.0);
        let weight: Vec<f64> = weight.into_iter().map(|w| (scale * w).clamp(-1.7e308, 1.7e308)).collect();
        let head = LinearHead::new(k, case.d, weight.clone(), vec![scale; k]);
        let report = case.certificates.apply(&head, &labels, &ends).unwrap();
        assert_eq!(report.violations(), 0, "{scale:e}: {:?}", report.chains);
        not_finite += report.count(|c| !c.certified.is_finite());
        let by_radius = case.certificates.apply_by_radius(&head, &labels, &ends).unwrap();
        assert_eq!(by_radius.violations(), 0, "{scale:e}: {:?}", by_radius.chains);
        let rows: Vec<&[f64]> = weight.chunks(case.d).collect();
        let head = RegressionHead::new(case.d, weight.clone(), vec![0.0; k]);
        let targets = vec![0.0; k * case.n];
        for (clean, certified) in case.certificates.squared_errors(&head, &rows, &targets).unwrap() {
            let violated = clean > certified * (1.0 + 1e-12);
            assert!(!violated, "{scale:e}: {clean} {certified}");
        }
    }
    assert!(not_finite > 0, "nothing overflowed, so that the test shows nothing");
}

#[test]
fn a_chain_with_nan_is_not_violated_and_does_not_hold() {
    let chain = CertifiedChain {
        clean: 0.1,
        attacked: 0.2,
        certified: 0.3,
        radius: 0.4,
        odds: 0.5,
        label_additive: 0.6,
        additive: 0.7,
        correct: true,
        survives: true,
        is_certified: true,
        certified_by_radius: true,
    };
    assert!(chain.holds() && !chain.is_violated());
    let nan = CertifiedChain { certified: f64::NAN, ..chain };
    assert!(!nan.holds() && !nan.is_violated());
    // What is NaN hides no violation beside it.
    assert!(CertifiedChain { attacked: 0.41, ..nan }.is_violated());
    assert!(CertifiedChain { survives: false, ..chain }.is_violated());
    assert!(CertifiedChain { radius: f64::INFINITY, attacked: 0.51, ..nan }.is_violated());
}

#[test]
fn no_attacked_query_leaves_its_certified_neighbors() {
    let case = case(0.004);
    let bank = numbers(Key::new(5), 60 * case.d, 1.0);
    let labels: Vec<usize> = (0..60).map(|i| i % 2).collect();
    let mut certified = 0;
    for k in [1, 3, 5] {
        let head = KnnHead::new(case.d, k, bank.clone(), labels.clone());
        for y in 0..2 {
            let found = case.certificates.certified_neighbors(&head, &vec![y; case.n]).unwrap();
            for (i, _) in found.iter().enumerate().filter(|(_, certified)| **certified) {
                certified += 1;
                assert!(case.ends.iter().all(|end| head.votes_for(&end[i * case.d..][..case.d], y)));
            }
        }
    }
    assert!(certified > 3, "{certified}");
}

/// Between neighbors at 0 and 2 of two classes, a query at ½ keeps its own as long as it moves less than ½.
#[test]
fn neighbors_are_certified_up_to_half_way_to_the_other_class() {
    let mut certificates = case(0.004).certificates;
    let d = certificates.features();
    let along = |v: f64| (0..d).map(|i| if i == 0 { v } else { 0.0 }).collect::<Vec<f64>>();
    let head = KnnHead::new(d, 1, [along(0.0), along(2.0)].concat(), vec![0, 1]);
    certificates.samples.truncate(2);
    for (sample, radius) in certificates.samples.iter_mut().zip([0.49, 0.51]) {
        (sample.clean, sample.radius) = (along(0.5), radius);
    }
    assert_eq!(certificates.certified_neighbors(&head, &[0, 0]).unwrap(), [true, false]);
    assert_eq!(certificates.certified_neighbors(&head, &[1, 1]).unwrap(), [false, false]);
}

#[test]
fn no_attacked_prediction_has_a_larger_error_than_certified() {
    let case = case(0.02);
    for trial in 0..100usize {
        let key = Key::new(6).fold(trial);
        let weight = numbers(key.fold(0usize), 2 * case.d, 1.0);
        let rows: Vec<&[f64]> = weight.chunks(case.d).collect();
        let head = RegressionHead::new(case.d, weight.clone(), vec![0.1, -0.2]);
        let targets = numbers(key.fold(1usize), 2 * case.n, 1.0);
        let found = case.certificates.squared_errors(&head, &rows, &targets).unwrap();
        for (i, (clean, certified)) in found.iter().enumerate() {
            let error = |z: &[f64]| -> f64 {
                head.predict(z).iter().zip(&targets[2 * i..]).map(|(p, t)| (p - t).powi(2)).sum()
            };
            assert!((error(&case.certificates.samples[i].representation()) - clean).abs() < 1e-12);
            for end in &case.ends {
                assert!(error(&end[i * case.d..][..case.d]) <= *certified);
            }
        }
    }
}

#[test]
fn heads_that_do_not_fit_are_refused() {
    let made = stored(Threat::linf(0.01), Effort::Interval);
    let head = LinearHead::new(2, 4, vec![0.5; 8], vec![0.0; 2]);
    assert_eq!(made.apply(&head, &[0, 1, 0], &[]), Err(CertifyError::Width { features: 5, head: 4 }));
    let head = LinearHead::new(2, 5, vec![0.5; 10], vec![0.0; 2]);
    assert_eq!(made.apply(&head, &[0, 1], &[]), Err(CertifyError::Labels { samples: 3, labels: 2 }));
}
