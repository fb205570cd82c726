//! Stochastic representations: reference values, and the theorems of section C on random laws and losses.
//!
//! Laws are finite, or normal with losses that are constant between breakpoints, so that every mean here is
//! a finite sum of exact values and needs no sampling error.

use super::thousand;
use crate::check::at_most;
use crate::check::strategies::normals;
use crate::stochastic::*;
use crate::{LinearHead, LpNorm};
use proptest::prelude::*;
use tarrl_attacks::Threat;
use tarrl_tensor::{Key, Stream};

/// Within some thousand roundings of f64, for reference values given with sixteen digits.
fn close(found: f64, golden: f64) {
    assert!((found / golden - 1.0).abs() < 1e-12, "{found} but {golden}");
}

#[test]
fn bounds_for_gaussians_one_deviation_apart_match_reference_values() {
    close(gaussian_tv(1.0), 0.3829249225480262);
    close(gaussian_kl(1.0), 0.5);
    close(pinsker(0.5), 0.5);
    close(bretagnolle_huber(0.5), 0.6272713450233213);
    let same = DiagonalPair { shift: &[1.0], from: &[1.0], to: &[1.0] };
    close(same.hellinger_bound(), 0.47031820816187325);
    close(same.triangle_bound(), gaussian_tv(1.0));

    close(shift_bound(0.1, 1.0), 0.389143691645361);
    close(additive_bound(0.1, gaussian_tv(1.0)), 0.4829249225480262);
    close(kl_upper(0.1, 0.5), 0.5748172910133389);
    close(kl_upper_reverse(0.1, 0.5), 0.4950507495509483);
    close(additive_bound(0.1, pinsker(0.5)), 0.6);
    // The only share of the range where the exact form is as large as the additive one.
    let p = normal_cdf(-0.5);
    close(shift_bound(p, 1.0), 0.691462461274013);
    close(additive_bound(p, gaussian_tv(1.0)), 0.691462461274013);
    assert_eq!(additive_bound(0.9, 0.9), 1.0);
}

#[test]
fn averaged_joint_and_input_noise_bounds_match_reference_values() {
    close(averaged_loss_bound(0.9, 0.0), 0.10536051565782628);
    close(averaged_loss_bound(0.9, 0.5), 0.24492796860439234);
    // −ln(1 − Φ(−8)) to first order; from the probability itself nothing would be left.
    close(averaged_loss_bound(1.0 - 1e-16, 0.2) / normal_cdf(0.2 - 8.209536151601387), 1.0);
    close(joint_tv(0.5, 4), 0.3829249225480262);
    close(input_rho(&Threat::l2(0.5), 784, 0.25), 2.0);
    close(input_rho(&Threat::linf(0.01), 784, 0.25), 0.01 * 28.0 / 0.25);
    close(variance_bound(1.0, 0.5).powi(2), 0.284025416687742);
}

#[test]
fn diagonal_gaussians_with_different_variances_match_reference_values() {
    let pair = DiagonalPair { shift: &[1.0], from: &[1.0], to: &[2.0] };
    close(pair.affinity(), 0.8508054621526402);
    close(pair.hellinger_bound(), 0.5254807946740131);
    close(pair.kl(), 0.4431471805599453);
    close(DiagonalPair { from: pair.to, to: pair.from, ..pair }.kl(), 1.3068528194400546);
    close(two_crossings(1.0, 1.0, 2.0), 0.3900656601210557);
    close(pair.tv_lower(), 1.0 - 0.8508054621526402);
    // The least of Hellinger's .525, Pinsker's √(.443/2) and the rest.
    close(pair.tv_upper(), (0.5f64 * 0.4431471805599453).sqrt());
    assert!(DiagonalPair { shift: &[f64::NAN], ..pair }.tv_upper().is_nan());
}

/// Where the inequality of Bretagnolle and Huber overtakes Pinsker's.
#[test]
fn bretagnolle_huber_is_below_pinsker_beyond_their_crossing() {
    let at = 1.5936242600400377;
    close(bretagnolle_huber(at), pinsker(at));
    assert!(bretagnolle_huber(at - 0.01) > pinsker(at - 0.01) && bretagnolle_huber(9.0) < 1.0);
}

/// The total variation distance of N(0, s²) and N(d, t²) by the points where the densities cross.
fn two_crossings(d: f64, s: f64, t: f64) -> f64 {
    // ln p' − ln p = ln(s/t) − (x − d)²/2t² + x²/2s² is a quadratic a x² + b x + c.
    let (a, b) = (0.5 / (s * s) - 0.5 / (t * t), d / (t * t));
    let c = (s / t).ln() - 0.5 * d * d / (t * t);
    let mass = |x: f64| normal_cdf((x - d) / t) - normal_cdf(x / s);
    let root = (b * b - 4.0 * a * c).sqrt();
    let (low, high) = ((-b - root) / (2.0 * a), (-b + root) / (2.0 * a));
    (mass(high) - mass(low)).abs()
}

/// A law on 2 to 8 points with unequal probabilities, some tiny.
fn law(random: &mut Stream, n: usize) -> Vec<f64> {
    let raw: Vec<f64> = (0..n).map(|_| (2.0 * random.normal()).exp()).collect();
    let sum: f64 = raw.iter().sum();
    raw.iter().map(|v| v / sum).collect()
}

/// A loss in [0, 1] for each of `n` cases: any, or one of two values.
fn losses(random: &mut Stream, n: usize) -> Vec<f64> {
    let two = random.chance(0.5);
    (0..n)
        .map(|_| if two { f64::from(u8::from(random.chance(0.5))) } else { random.uniform(0.0, 1.0) })
        .collect()
}

fn mean(law: &[f64], loss: &[f64]) -> f64 {
    law.iter().zip(loss).map(|(p, l)| p * l).sum::<f64>().clamp(0.0, 1.0)
}

/// The probabilities of N(shift, 1) between sorted breakpoints, each to full relative precision.
fn cells(breaks: &[f64], shift: f64) -> Vec<f64> {
    let mass = |a: f64, b: f64| {
        let (a, b) = (a - shift, b - shift);
        if a > 0.0 { normal_cdf(-a) - normal_cdf(-b) } else { normal_cdf(b) - normal_cdf(a) }
    };
    let ends = [&[f64::NEG_INFINITY], breaks, &[f64::INFINITY]].concat();
    ends.windows(2).map(|pair| mass(pair[0], pair[1])).collect()
}

proptest! {
    #![proptest_config(thousand())]

    /// C1, C2, C5 and C6 on finite laws.
    #[test]
    fn c_finite_laws(seed in any::<u64>(), n in 2usize..9) {
        let mut random = Key::new(seed).stream();
        let (p, q, loss) = (law(&mut random, n), law(&mut random, n), losses(&mut random, n));
        let tv = 0.5 * p.iter().zip(&q).map(|(p, q)| (p - q).abs()).sum::<f64>();
        let divergence = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        let (forward, reverse) = (divergence(&p, &q), divergence(&q, &p));
        let (clean, adversarial) = (mean(&p, &loss), mean(&q, &loss));
        at_most("C1", adversarial, additive_bound(clean, tv))?;
        for kl in [forward, reverse] {
            at_most("C2", tv, pinsker(kl))?;
            at_most("C6", tv, bretagnolle_huber(kl))?;
            at_most("C6, simple", bretagnolle_huber(kl), 1.0 - 0.5 * (-kl).exp())?;
        }
        // The divergence itself is a sum with cancellation; the inverse is steep where it is small.
        at_most("C5", adversarial, kl_upper(clean, forward + 1e-13))?;
        at_most("C5, reversed", adversarial, kl_upper_reverse(clean, reverse + 1e-13))?;
        at_most("C5 within C2", kl_upper(clean, forward), additive_bound(clean, pinsker(forward)))?;
        at_most("C5 within C2, reversed", kl_upper_reverse(clean, reverse), additive_bound(clean, pinsker(reverse)))?;
    }

    /// C4 and C11, and with them C10: whatever is done to the noise, the loss is a function of it.
    #[test]
    fn c_shifted_noise(seed in any::<u64>(), n in 0usize..12, rho in 0.0f64..4.0) {
        let mut random = Key::new(seed).stream();
        let mut breaks = normals(&mut random, n, 0.3);
        breaks.sort_by(f64::total_cmp);
        let loss = losses(&mut random, n + 1);
        let (here, there) = (cells(&breaks, 0.0), cells(&breaks, rho));
        let (clean, adversarial) = (mean(&here, &loss), mean(&there, &loss));
        // A share near 1 has lost its complement to rounding, which a shift of the quantile magnifies.
        let lost = if clean > 0.5 { 4e-16 * (rho * normal_quantile(clean)).exp() } else { 0.0 };
        at_most("C4", adversarial, shift_bound(clean, rho))?;
        at_most("C4 from below", shift_floor(clean, rho), adversarial + lost)?;
        at_most("C4 within C3", shift_bound(clean, rho), additive_bound(clean, gaussian_tv(rho)))?;
        at_most("C3 within C2", gaussian_tv(rho), pinsker(gaussian_kl(rho)))?;
        at_most("C3 within C6", gaussian_tv(rho), bretagnolle_huber(gaussian_kl(rho)))?;
        let tv = 0.5 * here.iter().zip(&there).map(|(p, q)| (p - q).abs()).sum::<f64>();
        at_most("C3", tv, gaussian_tv(rho))?;
        // The averaged predictor, with the loss read as the probability of the label.
        at_most("C4 averaged", -(adversarial + lost).ln(), averaged_loss_bound(clean, rho))?;
        // Unbounded values, in both directions.
        let values = normals(&mut random, n + 1, 1.0);
        let of = |law: &[f64]| law.iter().zip(&values).map(|(p, v)| p * v).sum::<f64>();
        let center = of(&here);
        let variance = here.iter().zip(&values).map(|(p, v)| p * (v - center).powi(2)).sum::<f64>();
        at_most("C11", (of(&there) - center).abs(), variance_bound(variance.sqrt(), rho))?;
    }

    #[test]
    fn c4_is_concave_in_the_loss(p in 0.0f64..1.0, q in 0.0f64..1.0, rho in 0.0f64..4.0) {
        let middle = shift_bound(0.5 * (p + q), rho);
        at_most("the mean of two bounds", 0.5 * (shift_bound(p, rho) + shift_bound(q, rho)), middle)?;
    }

    /// One coordinate exactly, several between the distance of one and the sum of all.
    #[test]
    fn c7_diagonal(seed in any::<u64>(), d in 1usize..5) {
        let mut random = Key::new(seed).stream();
        let shift = normals(&mut random, d, 0.0);
        let mut deviations = || -> Vec<f64> { (0..d).map(|_| random.normal().exp()).collect() };
        let (from, to) = (deviations(), deviations());
        let pair = DiagonalPair { shift: &shift, from: &from, to: &to };
        let single = |i: usize| two_crossings(shift[i], from[i], to[i]);
        for bound in [pair.hellinger_bound(), pair.triangle_bound(), pair.tv_upper(), pinsker(pair.kl())] {
            for i in 0..d {
                at_most("C7", single(i), bound)?;
            }
        }
        at_most("C7 from below", pair.tv_lower(), (0..d).map(single).sum())?;
    }

    #[test]
    fn c8_joint_draws(rho in 0.0f64..4.0, k in 1usize..50) {
        at_most("C8", joint_tv(rho, k), k as f64 * gaussian_tv(rho))?;
        at_most("one draw", gaussian_tv(rho), joint_tv(rho, k))?;
    }

    /// C9: under the same noise at both points the bound of A1 holds draw by draw, and so in the mean.
    #[test]
    fn c9_same_noise(seed in any::<u64>(), sigma in 0.0f64..3.0, decade in -3.0f64..1.0) {
        let mut random = Key::new(seed).stream();
        let head = LinearHead::new(3, 2, normals(&mut random, 6, 0.0), normals(&mut random, 3, 0.0));
        let (mu, delta) = (normals(&mut random, 2, 0.0), normals(&mut random, 2, decade));
        let additive = head.label_constant(0, LpNorm::L2) * LpNorm::L2.of(&delta);
        let mut means = [0.0; 2];
        for _ in 0..8 {
            let z: Vec<f64> = mu.iter().map(|m| m + sigma * random.normal()).collect();
            let moved: Vec<f64> = z.iter().zip(&delta).map(|(z, d)| z + d).collect();
            at_most("one draw", head.loss(&moved, 0), head.loss(&z, 0) + additive)?;
            means = [means[0] + head.loss(&z, 0) / 8.0, means[1] + head.loss(&moved, 0) / 8.0];
        }
        at_most("C9", means[1], means[0] + additive)?;
    }
}
