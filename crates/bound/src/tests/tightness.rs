//! Tightness: with 0.95 of what it allows, each inequality is false somewhere, so that no constant can be 5 % smaller.

use crate::check::strategies::normals;
use crate::stochastic::*;
use crate::{
    KnnHead, LinearHead, LpNorm, MlpHead, ScalarLoss, Whitening, angle, cap_support, chord, gap,
    mean_squared_bound, squared_bound,
};
use std::f64::consts::SQRT_2;
use tarrl_tensor::Key;

/// An inequality at an instance where it is nearly an equality: what the left side is, and the right side
/// with a share of what it allows.
struct Tight {
    name: String,
    left: f64,
    right: Box<dyn Fn(f64) -> f64>,
}

fn tight(name: impl Into<String>, left: f64, right: impl Fn(f64) -> f64 + 'static) -> Tight {
    Tight { name: name.into(), left, right: Box::new(right) }
}

#[test]
fn every_inequality_fails_with_a_twentieth_less() {
    let all = [linear(), normalized(), other_heads(), stochastic(), displacements()];
    let all: Vec<Tight> = all.into_iter().flatten().collect();
    assert!(all.len() > 45, "{} inequalities", all.len());
    for Tight { name, left, right } in all {
        let (whole, shrunk) = (right(1.0), right(0.95));
        assert!(left <= whole + 1e-11 * (1.0 + whole.abs()), "{name}: {left} > {whole}");
        assert!(left > shrunk + 1e-9 * shrunk.abs(), "{name}: {left} is still within {shrunk}");
    }
}

/// For each norm a displacement on which Hölder's inequality is an equality.
fn aligned(norm: LpNorm, v: &[f64]) -> Vec<f64> {
    let top = v.iter().map(|v| v.abs()).fold(0.0, f64::max);
    match norm {
        LpNorm::L1 => v.iter().map(|&x| if x.abs() == top { x.signum() } else { 0.0 }).collect(),
        LpNorm::L2 => v.iter().map(|x| x / LpNorm::L2.of(v)).collect(),
        LpNorm::Linf => v.iter().map(|x| x.signum()).collect(),
    }
}

/// A1, A2, A3, A5 and B2: two classes, one displacement along the gap vector.
fn linear() -> Vec<Tight> {
    let v = [0.3, -0.8, 0.5];
    let mut all = Vec::new();
    for norm in LpNorm::ALL {
        let delta = aligned(norm, &v);
        let radius = norm.of(&delta);
        for bias in [20.0, -3.0] {
            let head = LinearHead::new(2, 3, [vec![0.0; 3], v.to_vec()].concat(), vec![0.0, bias]);
            let (clean, after) = (head.loss(&[0.0; 3], 0), head.loss(&delta, 0));
            let supports = move |head: &LinearHead, share: f64| head.supports(0, norm, share * radius);
            let h = head.clone();
            all.push(tight(format!("A2 gap, {norm:?}, {bias}"), after, move |s| {
                h.logit_gap_bound(&[0.0; 3], 0, &supports(&h, s))
            }));
            let h = head.clone();
            all.push(tight(format!("A2 odds, {norm:?}, {bias}"), after, move |s| {
                h.odds_bound(&[0.0; 3], 0, &supports(&h, s))
            }));
            if bias > 0.0 {
                let h = head.clone();
                all.push(tight(format!("A1, {norm:?}"), after, move |s| {
                    h.additive_bound(&[0.0; 3], 0, &supports(&h, s))
                }));
                let odds = head.odds_bound(&[0.0; 3], 0, &supports(&head, 1.0));
                let constant = head.constant(norm);
                all.push(tight(format!("A2, last step, {norm:?}"), odds, move |s| {
                    clean + s * constant * radius
                }));
                let falls = -(head.loss(&delta.iter().map(|x| -x).collect::<Vec<_>>(), 0) - clean);
                all.push(tight(format!("A1 from below, {norm:?}"), falls, move |s| s * constant * radius));
            }
        }
        // Opposite rows attain the form by rows.
        let head = LinearHead::new(2, 3, [v.map(|x| -x), v].concat(), vec![0.0; 2]);
        let rows = head.row_constant(norm);
        all.push(tight(format!("A3 rows, {norm:?}"), head.constant(norm), move |s| s * rows));
    }
    let head = LinearHead::new(2, 3, [vec![0.0; 3], v.to_vec()].concat(), vec![0.0; 2]);
    let spectral = head.spectral_constant();
    all.push(tight("A3 spectral", head.constant(LpNorm::L2), move |s| s * spectral));
    // B2: the gap of the nearest misclassified point is what the support allows.
    let delta = aligned(LpNorm::L2, &v);
    let supports = head.supports(0, LpNorm::L2, 1.0);
    all.push(tight("B2", head.gaps(&delta, 0)[1], move |s| s * supports[1]));
    all
}

/// A4, A4b and A6: the tangent point, and the direction `Σ⁻¹Δ`.
fn normalized() -> Vec<Tight> {
    let t = angle(2.0, 0.9);
    let (z, end) = ([1.0, 0.0], [t.cos(), t.sin()]);
    let apart = LpNorm::L2.distance(&z, &end);
    let v = [-0.6, 0.8];
    let rise = v[0] * (end[0] - z[0]) + v[1] * (end[1] - z[1]);
    // A4b: g' = g + Δ along the gap vector from a vector across it, where the length hardly matters.
    let head = crate::NormalizedHead::new(LinearHead::new(2, 2, vec![0.0, 0.0, 0.0, 1.0], vec![0.0; 2]));
    let delta = 1e-3;
    let reached = delta / 1.0f64.hypot(delta);
    let whitening = Whitening::of(&[1.0, 0.0, -1.0, 0.0, 0.0, 2.0, 0.5, -2.0], 2, 0.0).unwrap();
    // Σ⁻¹Δ by the deviations: its shift is the product of both factors.
    let data = [[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.5, -2.0]];
    let mean = [0.125, 0.0];
    let sigma =
        |a: usize, b: usize| data.iter().map(|z| (z[a] - mean[a]) * (z[b] - mean[b])).sum::<f64>() / 4.0;
    let v6 = [0.7, -0.4];
    let worst = [sigma(0, 0) * v6[0] + sigma(0, 1) * v6[1], sigma(1, 0) * v6[0] + sigma(1, 1) * v6[1]]; // Σv
    let product = whitening.deviation(&v6) * whitening.length(&worst);
    vec![
        tight("A4 angle", 2.0 * (0.5 * apart).asin(), move |s| s * angle(2.0, 0.9)),
        tight("A4 chord", apart, move |s| s * chord(2.0, 0.9)),
        tight("A4 chord in the radius", apart, move |s| chord(2.0, s * 0.9)),
        // Attained where the ball all but holds the origin.
        tight("A4 linear form", chord(1.0, 1.0 - 1e-6), |s| s * SQRT_2 * (1.0 - 1e-6)),
        tight("A4 cap", rise, move |s| s * cap_support(&v, &z, t)),
        tight("A4b", reached, move |s| {
            head.directional_supports(&[1.0, 0.0], 0, 2.0 * delta, &[0.0, s * delta])[1]
        }),
        tight("A6", v6[0] * worst[0] + v6[1] * worst[1], move |s| s * product),
    ]
}

/// B1, B3 and B4.
fn other_heads() -> Vec<Tight> {
    // One active unit along its own row: all three constants of B1 are the slope.
    let output = LinearHead::new(2, 1, vec![0.0, 2.0], vec![0.0; 2]);
    let head = MlpHead::new(2, vec![3.0, 4.0], vec![1.0], output);
    let change = head.logits(&[0.6, 0.8])[1] - head.logits(&[0.0, 0.0])[1];
    let constants = head.lipschitz_constants(&[2.0]);
    let mut all: Vec<Tight> =
        constants.into_iter().map(|c| tight(format!("B1, {c}"), change, move |s| s * c)).collect();
    let halves = constants[0];
    all.push(tight("B1, third within first", constants[2], move |s| s * halves));

    all.push(tight("B3 squared", 2.25, |s| squared_bound(0.5, s * 1.0)));
    let split = |t: f64| (1.0 + t) * 0.25 + (1.0 + 1.0 / t);
    all.push(tight("B3 squared, in parts", squared_bound(0.5, 1.0), move |s| s * split(2.0)));
    // Equal radii and errors: Minkowski's inequality is an equality.
    all.push(tight("B3 mean", 2.25, |s| mean_squared_bound(0.25, 2.0, (s * 0.5f64).powi(2))));
    for (loss, at, moved) in [
        (ScalarLoss::Squared, 1.0, 2.0),
        (ScalarLoss::Absolute, 0.01, 1.01),
        (ScalarLoss::Huber(0.1), 0.2, 1.2),
        (ScalarLoss::Pinball(0.1), 0.01, 1.01),
        (ScalarLoss::Pinball(0.9), -0.01, -1.01),
        (ScalarLoss::Logistic, -9.0, -10.0),
        (ScalarLoss::Hinge, 0.5, -0.5),
    ] {
        let value = loss.value(moved);
        all.push(tight(format!("B3 {loss:?}"), value, move |s| loss.bound(at, s)));
        if let Some(lipschitz) = loss.lipschitz() {
            all.push(tight(format!("B3 {loss:?}, additive"), value, move |s| loss.value(at) + s * lipschitz));
        }
    }
    // B4: a query a hair beyond the certified radius is given the other label, so that a radius larger by a
    // twentieth would be wrong.
    let near = KnnHead::new(2, 1, vec![1.0, 0.0, -1.0, 0.5], vec![0, 1]);
    let radius = near.certified_radius(&[0.1, 0.0], 0);
    let step = |share: f64| {
        let (dx, dy) = (-2.0, 0.5);
        let length = 2.0f64.hypot(0.5);
        [0.1 + share * radius * dx / length, share * radius * dy / length]
    };
    assert!(near.votes_for(&step(0.999), 0) && !near.votes_for(&step(1.001), 0));
    all.push(tight("B4", radius, move |s| s * radius));
    all
}

/// Section C: coins, half-spaces, likelihood ratios.
fn stochastic() -> Vec<Tight> {
    let rho = 0.8;
    let mut all = vec![
        // The loss is 1 exactly where the second law is larger.
        tight("C1", 0.7, |s| additive_bound(0.4, s * 0.3)),
        // Nearly fair coins.
        tight("C2", 0.01, |s| s * pinsker(bernoulli_kl(0.51, 0.5))),
        // A half-space has exactly this mean under the shifted law.
        tight("C3", normal_cdf(0.5 * rho) - normal_cdf(-0.5 * rho), move |s| s * gaussian_tv(rho)),
        tight("C4", normal_cdf(-1.0 + rho), move |s| shift_bound(normal_cdf(-1.0), s * rho)),
        tight("C4 from below", -normal_cdf(-1.0 - rho), move |s| -shift_floor(normal_cdf(-1.0), s * rho)),
        tight("C4 within C3", shift_bound(normal_cdf(-0.5 * rho), rho), move |s| {
            additive_bound(normal_cdf(-0.5 * rho), s * gaussian_tv(rho))
        }),
        tight("C4 averaged", -normal_cdf(0.3 - rho).ln(), move |s| {
            averaged_loss_bound(normal_cdf(0.3), s * rho)
        }),
        // The loss is a coin itself.
        tight("C5", 0.45, |s| kl_upper(0.2, s * bernoulli_kl(0.2, 0.45))),
        tight("C5, reversed", 0.45, |s| kl_upper_reverse(0.2, s * bernoulli_kl(0.45, 0.2))),
        // A law on one point against one that gives it little.
        tight("C6", 0.99, |s| s * bretagnolle_huber(-(0.01f64.ln()))),
        tight("C6, simple", 0.99, |s| s * (1.0 - 0.5 * 0.01)),
        // The half-space of the sum of four draws.
        tight("C8", normal_cdf(rho) - normal_cdf(-rho), move |s| s * joint_tv(rho, 4)),
        // The likelihood ratio itself: its mean under the shifted law is e^{ρ²}, its variance e^{ρ²} − 1.
        tight("C11", (rho * rho).exp() - 1.0, move |s| s * variance_bound((rho * rho).exp_m1().sqrt(), rho)),
    ];
    // C7: laws far apart; laws of one variance.
    let far = || DiagonalPair { shift: &[9.0], from: &[1.0], to: &[1.2] };
    let flat = || DiagonalPair { shift: &[0.5], from: &[1.5], to: &[1.5] };
    all.push(tight("C7 Hellinger", 0.999, move |s| s * far().hellinger_bound()));
    all.push(tight("C7 triangle", gaussian_tv(0.5 / 1.5), move |s| s * flat().triangle_bound()));
    // From below: 1 − affinity with a twentieth less affinity is above the distance, which is at most 1.
    all.push(tight("C7 from below", -far().tv_upper(), move |s| -far().tv_lower() / s));
    // C10: the encoder that reads the noise, through a threshold.
    let threat = tarrl_attacks::Threat::l2(0.4);
    all.push(tight("C10", normal_cdf(-1.0 + rho), move |s| {
        shift_bound(normal_cdf(-1.0), s * input_rho(&threat, 9, 0.5))
    }));
    all
}

/// Hölder for a random head: some displacement of each norm attains the constant of each pair of classes.
fn displacements() -> Vec<Tight> {
    let mut random = Key::new(3).stream();
    let head = LinearHead::new(5, 4, normals(&mut random, 20, 0.0), vec![0.0; 5]);
    let mut all = Vec::new();
    for norm in LpNorm::ALL {
        for j in 1..5 {
            let delta = aligned(norm, &head.gap_vector(j, 0));
            let allowed = head.supports(0, norm, norm.of(&delta))[j];
            all.push(tight(format!("Hölder, {norm:?}, {j}"), head.shifts(0, &delta)[j], move |s| {
                s * allowed
            }));
        }
    }
    let gaps = [0.0, 1.0, -2.0];
    let moved = [0.0, 1.5, -1.0];
    let after = gap::loss(&moved, 0);
    all.push(tight("A2, all gaps at once", after, move |s| {
        gap::logit_gap_bound(&gaps, 0, &[0.0, s * 0.5, s * 1.0])
    }));
    all
}
