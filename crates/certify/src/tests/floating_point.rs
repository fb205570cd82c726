//! Limits of floating point: numbers that underflow, overflow or cancel in the deployed arithmetic or in the certificate's own.

use super::planted_points::{BALLS, all_certificates, moved};
use super::soundness::holds;
use super::{device, normal};
use crate::{Certificates, CertifyConfig, CertifyError, Effort, Network, Precision, Provenance, certify};
use tarrl_attacks::{Norm, Threat};
use tarrl_bound::{KnnHead, LinearHead, LpNorm, RegressionHead, SoftmaxHead};
use tarrl_tensor::{DType, Device, Key, Tensor};

type Encoder<'a> = &'a dyn Fn(&Tensor) -> Tensor;

fn point(device: &Device, values: &[f64], dtype: DType) -> Tensor {
    Tensor::new(device, [1, values.len()], values).cast(dtype)
}

/// All certificates of a precision against the displacements at `ends`, as that precision computes them; how many claim
/// something.
#[track_caller]
fn all_hold(
    encode: Encoder<'_>,
    x: &Tensor,
    ends: &[Vec<f64>],
    threat: Threat,
    precision: Precision,
) -> usize {
    let network = Network::trace(encode, x).unwrap();
    let dtype = if precision == Precision::F64 { DType::F64 } else { DType::F32 };
    let ends: Vec<Tensor> = ends.iter().map(|end| point(x.device(), end, dtype)).collect();
    let displacements = moved(encode, &x.cast(dtype), &ends);
    let mut claims = 0;
    for config in all_certificates(threat).into_iter().filter(|config| config.precision == precision) {
        let found = certify(&network, x, &config).unwrap().0.remove(0);
        claims += usize::from(!found.is_vacuous());
        displacements.iter().for_each(|moved| holds(&found, moved, &format!("{config:?}")));
    }
    claims
}

fn chain(weights: &[f64]) -> impl Fn(&Tensor) -> Tensor + use<'_> {
    |x| weights.iter().fold(x.clone(), |z, &w| z.matmul(&Tensor::full(z.device(), [1, 1], z.dtype(), w)))
}

/// Half of the least number rounds to zero and a little more to the least number: in f32 the output jumps, and a large weight
/// behind it makes the jump visible. In exact arithmetic it is a line.
#[test]
fn products_that_underflow_in_single_precision_are_covered() {
    let weights = [f64::from(f32::from_bits(1)), 127f64.exp2()];
    let encode = chain(&weights);
    let x = point(&device(), &[0.5], DType::F32);
    let jump = moved(&encode, &x, &[point(&device(), &[0.5 + (-10f64).exp2()], DType::F32)]);
    assert_eq!(jump, [[(-22f64).exp2()]], "a jump, a thousand times what the line moves");
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let threat = Threat::new(norm, (-10f64).exp2());
        let ends: Vec<Vec<f64>> = [1.0, 0.5, -1.0].map(|share| vec![0.5 + share * threat.epsilon]).into();
        assert!(all_hold(&encode, &x, &ends, threat, Precision::F32) > 0, "nothing is claimed");
    }
}

/// The sum is finite at the sample and overflows in f32 within the ball: a certificate for f32 claims nothing, one for f64 does.
#[test]
fn sums_that_may_overflow_in_the_deployed_precision_claim_nothing() {
    let w = Tensor::full(&device(), [2, 1], DType::F32, 3e38);
    let encode =
        |x: &Tensor| x.matmul(&w.cast(x.dtype())).matmul(&Tensor::full(x.device(), [1, 1], x.dtype(), 1e-38));
    let x = point(&device(), &[0.5, 0.5], DType::F32);
    assert!(encode(&x).item().is_finite() && !encode(&x.add_scalar(0.1)).item().is_finite());
    for threat in [Threat::linf(0.125), Threat::l2(0.25)] {
        let ends = [vec![0.6, 0.6]];
        assert!(all_hold(&encode, &x, &ends, threat, Precision::F64) > 0);
        let network = Network::trace(&encode, &x).unwrap();
        for config in all_certificates(threat).into_iter().filter(|c| c.precision == Precision::F32) {
            assert!(certify(&network, &x, &config).unwrap().0[0].is_vacuous(), "{config:?}");
        }
    }
}

/// The same where a bias or a residual branch carries the sum beyond the largest f32.
#[test]
fn shifts_and_residuals_that_may_overflow_claim_nothing() {
    let factor = |x: &Tensor, value| Tensor::full(x.device(), [1, 1], x.dtype(), value);
    let shifted = |x: &Tensor| {
        let y = &x.matmul(&factor(x, 1e38)) + &factor(x, 2.9e38).reshape([1]);
        y.matmul(&factor(x, 1e-38))
    };
    let residual = |x: &Tensor| {
        let y = x.matmul(&factor(x, 1.7e38));
        (&(&y + &y) + &y.mul_scalar(1e-3)).matmul(&factor(x, 1e-38))
    };
    let x = point(&device(), &[0.5], DType::F32);
    for encode in [&shifted as &dyn Fn(&Tensor) -> Tensor, &residual] {
        assert!(encode(&x).item().is_finite() && !encode(&x.add_scalar(0.6)).item().is_finite());
        let network = Network::trace(&|x: &Tensor| encode(x), &x).unwrap();
        for config in all_certificates(Threat { bounds: None, ..Threat::linf(0.6) }) {
            let claims = !certify(&network, &x, &config).unwrap().0[0].is_vacuous();
            assert_eq!(claims, config.precision == Precision::F64, "{config:?}");
        }
    }
}

/// From the output backwards the coefficient is 2⁻¹¹²⁰, less than any number; the values on the way are 2⁸⁸².
#[test]
fn coefficients_that_underflow_are_covered() {
    let weights = [vec![126f64.exp2(); 7], vec![(-140f64).exp2(); 8]].concat();
    let line = chain(&weights);
    for kinked in [false, true] {
        let encode = |x: &Tensor| if kinked { line(&x.add_scalar(-0.5).relu()) } else { line(x) };
        let x = point(&device(), &[0.5], DType::F32);
        for (norm, epsilon) in BALLS {
            let ends = [vec![0.5 + epsilon], vec![0.5 - epsilon]];
            let claims = all_hold(&encode, &x, &ends, Threat::new(norm, epsilon), Precision::F64);
            assert!(claims > 0, "nothing is claimed");
        }
    }
}

/// An encoder in f64 whose weights have no squares: the Euclidean norms of its layers may not vanish.
#[test]
fn weights_whose_squares_underflow_keep_their_operator_norms() {
    let device = device();
    let [a, b] = [("a", 1e-170), ("b", 1e170)].map(|(name, scale)| {
        let values = normal(&device, Key::new(3).fold(name), &[9], 1.0).array().to_f64();
        Tensor::new(&device, [3, 3], &values.iter().map(|v| v * scale).collect::<Vec<_>>())
    });
    let encode = |x: &Tensor| x.matmul(&a).relu().matmul(&b);
    let x = point(&device, &[0.5, 0.25, 0.75], DType::F64);
    let network = Network::trace(&encode, &x).unwrap();
    assert!(network.lipschitz() > 0.1, "{}", network.lipschitz());
    for (norm, epsilon) in BALLS {
        let end = |i: usize, sign: f64| -> Vec<f64> {
            x.to_vec::<f64>()
                .iter()
                .enumerate()
                .map(|(j, v)| v + if i == j { sign * epsilon } else { 0.0 })
                .collect()
        };
        let ends: Vec<Vec<f64>> = (0..3).flat_map(|i| [end(i, 1.0), end(i, -1.0)]).collect();
        assert!(all_hold(&encode, &x, &ends, Threat::new(norm, epsilon), Precision::F64) > 0);
    }
}

/// 0.7 is smaller in f32: there the kink lies at the sample, in f64 behind it. The certificate takes the constant as the encoder does.
#[test]
fn constants_are_those_of_the_encoders_precision() {
    let encode = |x: &Tensor| x.add_scalar(-0.7).relu().mul_scalar(1e6);
    let x = point(&device(), &[f64::from(0.7f32)], DType::F32);
    let step = f64::from(0.7f32.next_up()) - f64::from(0.7f32);
    let ends = [vec![f64::from(0.7f32.next_up())]];
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        assert!(all_hold(&encode, &x, &ends, Threat::new(norm, step), Precision::F32) > 0);
    }
    let huge = |x: &Tensor| x.mul_scalar(1e300);
    assert!(matches!(Network::trace(&huge, &x), Err(CertifyError::NotFinite(_))), "infinite in f32");
}

/// Opposite unit vectors are two apart, and more by the rounding of their lengths; in f32 by more than in f64.
#[test]
fn normalization_is_covered_in_both_precisions() {
    let device = device();
    for seed in 0..20u64 {
        let key = Key::new(seed).fold("sphere");
        let (features, wide) = (3 + seed as usize % 5, 2000);
        for d in [features, wide] {
            let w = normal(&device, key, &[1, d], 1.0);
            let encode = |x: &Tensor| x.add_scalar(-0.5).matmul(&w.cast(x.dtype())).l2_normalize(1e-12);
            let x = point(&device, &[0.75], DType::F32);
            // To the opposite side, and along the ray, where rounding alone moves a unit vector.
            let ray: Vec<Vec<f64>> = (1..8).map(|i| vec![0.75 + f64::from(i) * (-20f64).exp2()]).collect();
            for (ends, threat) in
                [(vec![vec![0.25]], Threat::linf(0.5)), (ray, Threat::linf((-17f64).exp2()))]
            {
                for precision in [Precision::F32, Precision::F64] {
                    if d == features {
                        assert!(all_hold(&encode, &x, &ends, threat, precision) > 0, "nothing is claimed");
                        continue;
                    }
                    // Long sums are rounded more; the radius alone, without the cost of many features.
                    let dtype = if precision == Precision::F64 { DType::F64 } else { DType::F32 };
                    let config = CertifyConfig { precision, ..super::config(Effort::Interval, threat) };
                    let network = Network::trace(&encode, &x).unwrap();
                    let radius = certify(&network, &x, &config).unwrap().0[0].radius();
                    let ends: Vec<Tensor> = ends.iter().map(|end| point(&device, end, dtype)).collect();
                    for moved in moved(&encode, &x.cast(dtype), &ends) {
                        let length = LpNorm::L2.of(&moved);
                        assert!(length <= radius, "{precision:?}: moved {length}, certified {radius}");
                    }
                }
            }
        }
    }
    // In f32 squares vanish before the floor does, and the vector is divided by the floor.
    let encode = |x: &Tensor| x.mul_scalar(1e-25).matmul(&Tensor::full(x.device(), [1, 2], x.dtype(), 1.0));
    let x = point(&device, &[0.5], DType::F32);
    let network = Network::trace(&|x: &Tensor| encode(x).l2_normalize(1e-30), &x).unwrap();
    for config in all_certificates(Threat::linf(0.125)).into_iter().filter(|c| c.precision == Precision::F32)
    {
        assert!(certify(&network, &x, &config).unwrap().0[0].is_vacuous());
    }
}

/// Certificates of the identity on `x` in an l-infinity ball.
fn of_identity(x: &[f64], epsilon: f64) -> Certificates {
    let threat = Threat { bounds: None, ..Threat::linf(epsilon) };
    let config = super::config(Effort::Full, threat);
    let x = point(&device(), x, DType::F64);
    let network = Network::trace(&|x: &Tensor| x.mul_scalar(1.0), &x).unwrap();
    let (samples, cost) = certify(&network, &x, &config).unwrap();
    let provenance = Provenance { encoder: String::new(), samples: String::new(), config, cost };
    Certificates { provenance, samples }
}

/// Logits near 10¹⁶ are even numbers: the gap −1.1 is computed as −2, and one that moves by 1 as 0.
#[test]
fn heads_of_huge_biases_certify_nothing_that_rounding_breaks() {
    let certificates = of_identity(&[0.9], 1.0);
    let head = LinearHead::new(2, 1, vec![0.0, 1.0], vec![1e16, 1e16 - 2.0]);
    assert_eq!((head.gaps(&[0.9], 0)[1], head.gaps(&[1.9], 0)[1]), (-2.0, 0.0));
    assert!(!SoftmaxHead::is_certified(&head, &[0.9], 0, 1.0));
    let report = certificates.apply(&head, &[0], &[&[1.9]]).unwrap();
    assert_eq!((report.violations(), report.count(|c| c.is_certified)), (0, 0), "{:?}", report.chains);
    let report = certificates.apply_by_radius(&head, &[0], &[&[1.9]]).unwrap();
    assert_eq!((report.violations(), report.count(|c| c.is_certified)), (0, 0), "{:?}", report.chains);
    // The error of a regression from 10¹⁶ is 2 at the moved point, which would be 1 without rounding.
    let head = RegressionHead::new(1, vec![1.0], vec![1e16]);
    let moved = (head.predict(&[1.9])[0] - 1e16).powi(2);
    let (_, certified) = certificates.squared_errors(&head, &[&[1.0]], &[1e16]).unwrap()[0];
    assert!(moved <= certified, "{moved} {certified}");
}

/// Rows of 10⁻¹⁷⁰ decide as well as any: the gap moves from −10⁻¹⁷⁰/4 to +10⁻¹⁷⁰/4 within the ball.
#[test]
fn heads_of_tiny_weights_are_not_certified_by_underflow() {
    let certificates = of_identity(&[-0.25, 0.0], 0.5);
    for scale in [1e-150, 1e-170, 1e-300, 1e-320] {
        let head = LinearHead::new(2, 2, vec![0.0, 0.0, scale, 0.0], vec![0.0; 2]);
        for report in [
            certificates.apply(&head, &[0], &[&[0.25, 0.0]]).unwrap(),
            certificates.apply_by_radius(&head, &[0], &[&[0.25, 0.0]]).unwrap(),
        ] {
            assert_eq!(
                (report.violations(), report.count(|c| c.is_certified)),
                (0, 0),
                "{:?}",
                report.chains
            );
        }
    }
}

/// A bank 10⁹ away: distances are known to 10⁻⁷, the plane between its points, at half their distance, to no better than 0.1.
#[test]
fn neighbors_far_away_are_not_certified_beyond_the_plane_between_them() {
    for apart in 100..400 {
        let apart = f64::from(apart);
        let head = KnnHead::new(2, 1, vec![1e9, 0.0, 1e9, apart], vec![0, 1]);
        for radius in [head.certified_radius(&[0.0, 0.0], 0), head.simple_radius(&[0.0, 0.0], 0)] {
            assert!(radius <= 0.5 * apart, "{radius} of {}", 0.5 * apart);
            assert!(radius == 0.0 || head.votes_for(&[0.0, radius], 0), "{radius}");
        }
    }
}

#[test]
fn weights_that_are_no_numbers_claim_nothing() {
    let x = point(&device(), &[0.5, 0.5], DType::F32);
    for bad in [f64::NAN, f64::INFINITY] {
        let w = point(&device(), &[1.0, bad], DType::F32);
        let encoders: [Encoder<'_>; 5] = [
            &|x: &Tensor| x.matmul(&w.t()),
            &|x: &Tensor| x + &w,
            &|x: &Tensor| x * &w,
            &|x: &Tensor| x.add_scalar(bad),
            &|x: &Tensor| x.mul_scalar(bad),
        ];
        for encode in encoders {
            assert!(matches!(Network::trace(encode, &x), Err(CertifyError::NotFinite(_))), "{bad}");
        }
        let network = Network::trace(&|x: &Tensor| x.mul_scalar(2.0), &x).unwrap();
        let wrong = point(&device(), &[0.5, bad], DType::F32);
        let config = super::config(Effort::Full, Threat::linf(0.1));
        assert!(matches!(certify(&network, &wrong, &config), Err(CertifyError::NotFinite(_))), "{bad}");
    }
}

/// A radius of zero: what is certified is rounding alone. Units that are dead in the whole ball add nothing.
#[test]
fn zero_radii_and_dead_units_certify_rounding_alone() {
    let device = device();
    let [a, b] = ["a", "b"].map(|name| normal(&device, Key::new(8).fold(name), &[4, 4], 1.0));
    let dead = |x: &Tensor| {
        let [a, b] = [&a, &b].map(|w| w.cast(x.dtype()));
        (&x.matmul(&a).add_scalar(-100.0).relu().matmul(&b) + &x.matmul(&a).relu().matmul(&b)).relu()
    };
    let x = point(&device, &[0.0, 1.0, 0.5, 0.25], DType::F32);
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        for precision in [Precision::F64, Precision::F32] {
            let ends = [x.array().to_f64()];
            assert_eq!(all_hold(&dead, &x, &ends, Threat::new(norm, 0.0), precision), 10);
        }
        let only_dead = |x: &Tensor| x.matmul(&a.cast(x.dtype())).add_scalar(-100.0).relu();
        let network = Network::trace(&only_dead, &x).unwrap();
        for config in
            all_certificates(Threat::new(norm, 0.5)).into_iter().filter(|c| c.precision == Precision::F64)
        {
            let found = certify(&network, &x, &config).unwrap().0.remove(0);
            assert!(found.radius() < 1e-9, "{config:?}: {}", found.radius());
        }
    }
}
