//! Soundness: no point of the ball moves farther than its certificate says, without any slack.

use super::{EFFORTS, Net, config, pixels};
use crate::vector::dot;
use crate::{Certificate, CertifyConfig, Effort, Evidence, Network, Precision, Slopes, certify};
use tarrl_attacks::{Norm, Pgd, Threat, pgd};
use tarrl_bound::LinearHead;
use tarrl_tensor::{DType, Key, Tensor};

const EVIDENCE: [Evidence; 5] =
    [Evidence::Radius, Evidence::Box, Evidence::BoxAndBall, Evidence::Zonotope, Evidence::All];

/// A power of two, 2⁻⁶⁰⁰.
const TINY: f64 = f64::from_bits((1023 - 600) << 52);

/// Points of the ball around `x`: the ends of an attack on the displacement, random corners, random points.
pub(super) fn points(
    encode: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    threat: &Threat,
    key: Key,
) -> Vec<Tensor> {
    let n = x.shape()[0];
    let clean = encode(x).detach();
    let index = |rows: &[usize]| {
        let rows: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
        tarrl_tensor::Array::new(x.device(), [rows.len()], &rows)
    };
    let moved = |u: &Tensor, rows: &[usize]| {
        (&encode(u) - &clean.gather(0, &index(rows))).square().sum(1).reshape([rows.len()])
    };
    let keys = |what: &str| -> Vec<Key> { (0..n).map(|i| key.fold(what).fold(i)).collect() };
    let attack = Pgd { steps: 20, step_size: threat.epsilon / 4.0, restarts: 3, ..Pgd::default() };
    let mut found = vec![pgd(x, &moved, threat, &attack, &keys("attack")).best];
    let ball = threat.around(x);
    for i in 0..6 {
        let start = ball.start(&keys(&format!("start {i}")));
        // From a random point outwards: to a corner of the l-infinity ball, to the sphere of the other.
        found.push(ball.project(&ball.step(&start, &(&start - x), 4.0 * threat.epsilon)));
        found.push(start);
    }
    found
}

/// Every claim of `certificate` against the displacement `moved`, with zero slack.
#[track_caller]
pub(super) fn holds(certificate: &Certificate, moved: &[f64], what: &str) {
    let norm = moved.iter().map(|v| v * v).sum::<f64>().sqrt();
    assert!(norm <= certificate.radius(), "{what}: moved {norm}, certified {}", certificate.radius());
    let d = moved.len();
    for j in 0..d {
        let mut v: Vec<f64> = (0..d).map(|i| if i == j { 1.0 } else { 0.0 }).collect();
        for sign in [1.0, -1.0] {
            v[j] = sign;
            for evidence in EVIDENCE {
                let s = certificate.support(&v, evidence);
                assert!(dot(&v, moved) <= s, "{what} {evidence:?}: {} of {s}", dot(&v, moved));
                // The same direction where squares underflow.
                if moved[j].abs() > 1e-100 {
                    let tiny: Vec<f64> = v.iter().map(|v| v * TINY).collect();
                    let s = certificate.support(&tiny, evidence);
                    assert!(dot(&tiny, moved) <= s, "{what} {evidence:?}: tiny {} of {s}", dot(&tiny, moved));
                }
            }
        }
    }
    // The direction in which it moved is the hardest one.
    for evidence in EVIDENCE {
        assert!(dot(moved, moved) <= certificate.support(moved, evidence), "{what} {evidence:?}");
    }
}

#[test]
fn attack_is_below_certificate_for_every_sample_effort_and_ball() {
    for seed in 0..4 {
        let key = Key::new(seed).fold("net");
        let net = Net::new(key);
        let x = pixels(&net.device, key.fold("x"), &[3, 8, 8, 1]);
        let network = Network::trace(&|x| net.encode(x), &x).unwrap();
        let z = network.forward(&x).array().to_f64();
        let d = network.features();
        for (norm, epsilon) in
            [(Norm::Linf, 0.002), (Norm::Linf, 0.05), (Norm::L2, 0.02), (Norm::L2, 0.5), (Norm::L1, 0.5)]
        {
            let threat = Threat::new(norm, epsilon);
            let moved: Vec<Vec<f64>> = points(&|x| net.encode(x), &x, &threat, key)
                .iter()
                .map(|u| network.forward(u).array().to_f64().iter().zip(&z).map(|(a, b)| a - b).collect())
                .collect();
            for effort in EFFORTS {
                let (found, cost) = certify(&network, &x, &config(effort, threat)).unwrap();
                assert!(cost.forward > 0.0 && (cost.rows > 0.0) == (effort != Effort::Interval));
                for (i, certificate) in found.iter().enumerate() {
                    assert_eq!(certificate.representation(), z[i * d..][..d]);
                    for (p, moved) in moved.iter().enumerate() {
                        holds(
                            certificate,
                            &moved[i * d..][..d],
                            &format!("{effort:?} {threat:?} sample {i} point {p}"),
                        );
                    }
                }
            }
        }
    }
}

/// A thousand samples, each with points of its own ball: random networks with every op, balls of three norms from tiny to
/// a quarter of the range. The radius of both kinds of lines together is the least.
#[test]
fn relaxations_of_every_slope_enclose_every_point() {
    let (mut sector_won, mut chord_won) = (0, 0);
    for seed in 0..50u64 {
        let key = Key::new(seed).fold("slopes");
        let net = Net::new(key);
        let x = pixels(&net.device, key.fold("x"), &[4, 8, 8, 1]);
        let network = Network::trace(&|x| net.encode(x), &x).unwrap();
        let z = network.forward(&x).array().to_f64();
        let d = network.features();
        for (norm, epsilon) in
            [(Norm::Linf, 0.02), (Norm::L2, 0.02), (Norm::L2, 0.3), (Norm::L2, 2.0), (Norm::L1, 1.0)]
        {
            let threat = Threat::new(norm, epsilon);
            let run = |slopes| {
                let config = CertifyConfig { slopes, ..config(Effort::Full, threat) };
                certify(&network, &x, &config).unwrap().0
            };
            let [chord, sector, best] = [Slopes::Chord, Slopes::Sector, Slopes::Best].map(run);
            for i in 0..4 {
                let [c, s, b] = [&chord, &sector, &best].map(|found| found[i].radius());
                assert_eq!(b, c.min(s), "{threat:?} sample {i}");
                sector_won += usize::from(s < c);
                chord_won += usize::from(c < s);
            }
            for u in points(&|x| net.encode(x), &x, &threat, key) {
                let moved: Vec<f64> =
                    network.forward(&u).array().to_f64().iter().zip(&z).map(|(a, b)| a - b).collect();
                for i in 0..4 {
                    let what = format!("{threat:?} sample {i}");
                    holds(&sector[i], &moved[i * d..][..d], &what);
                    holds(&best[i], &moved[i * d..][..d], &what);
                }
            }
        }
    }
    // Chords are better nearly everywhere; both have to occur.
    assert!(sector_won > 10 && chord_won > 10, "{sector_won} and {chord_won} of 1,000");
}

/// A single ReLU at its kink moves by all of ε, half of it by the middle of its secants and half by their width.
#[test]
fn no_sector_certificate_can_be_smaller_by_a_twentieth() {
    let device = super::device();
    let x = Tensor::new(&device, [1, 1], &[0.0f32]);
    let network = Network::trace(&|x: &Tensor| x.relu(), &x).unwrap();
    for norm in [Norm::Linf, Norm::L2] {
        let threat = Threat { bounds: None, ..Threat::new(norm, 0.25) };
        let config = CertifyConfig { slopes: Slopes::Sector, ..config(Effort::Full, threat) };
        let found = certify(&network, &x, &config).unwrap().0.remove(0);
        let moved = network.forward(&x.add_scalar(0.25)).item();
        assert!(moved <= found.radius() && moved > 0.95 * found.radius(), "{norm:?} {}", found.radius());
        let support = found.support(&[1.0], Evidence::Zonotope);
        assert!(moved <= support && moved > 0.95 * support, "{norm:?} {support}");
    }
}

#[test]
fn sparse_changes_are_refused_because_they_lie_in_no_ball_of_a_norm() {
    let net = Net::new(Key::new(0));
    let x = pixels(&net.device, Key::new(1), &[1, 8, 8, 1]);
    let network = Network::trace(&|x| net.encode(x), &x).unwrap();
    let refusal = certify(&network, &x, &config(Effort::Interval, Threat::new(Norm::L0, 3.0))).unwrap_err();
    assert!(refusal.to_string().contains("norm l0"), "{refusal}");
}

#[test]
fn no_sample_is_refused() {
    let net = Net::new(Key::new(0));
    let x = pixels(&net.device, Key::new(1), &[1, 8, 8, 1]);
    let network = Network::trace(&|x| net.encode(x), &x).unwrap();
    let none = Tensor::new(&net.device, [0, 8, 8, 1], &[0.0f32; 0]);
    let refusal = certify(&network, &none, &config(Effort::Full, Threat::linf(0.1))).unwrap_err();
    assert!(refusal.to_string().contains("the number of samples is 0; take at least one"), "{refusal}");
}

/// The network as f32 computes it, op by op, moves within the certificate that was made for f32; large
/// numbers that cancel make it move much farther than f64 does.
#[test]
fn single_precision_is_covered_where_asked() {
    let key = Key::new(11);
    let net = Net::new(key);
    let encode = |x: &Tensor| net.encode(&x.add_scalar(1000.0).relu().add_scalar(-1000.0));
    let x = pixels(&net.device, key.fold("x"), &[4, 8, 8, 1]);
    let network = Network::trace(&encode, &x).unwrap();
    let threat = Threat::linf(1e-6);
    let clean = encode(&x).array().to_f64();
    let d = network.features();
    let run = |precision| {
        let config = CertifyConfig { precision, ..config(Effort::Full, threat) };
        certify(&network, &x, &config).unwrap().0
    };
    let (double, single) = (run(Precision::F64), run(Precision::F32));
    let mut beyond = 0;
    for u in points(&encode, &x, &threat, key) {
        let moved: Vec<f64> = encode(&u).array().to_f64().iter().zip(&clean).map(|(a, b)| a - b).collect();
        for i in 0..4 {
            let moved = &moved[i * d..][..d];
            holds(&single[i], moved, &format!("f32 sample {i}"));
            let norm = moved.iter().map(|v| v * v).sum::<f64>().sqrt();
            beyond += usize::from(norm > double[i].radius());
        }
    }
    assert!(beyond > 0, "f32 never left the certificate for f64, so that the test shows nothing");
}

/// Shrunk by a twentieth, the exact certificate of a linear network is wrong.
#[test]
fn no_certificate_of_a_linear_network_can_be_smaller_by_a_twentieth() {
    let device = super::device();
    let w = super::normal(&device, Key::new(3), &[6, 4], 1.0);
    let encode = |x: &Tensor| x.matmul(&w.cast(x.dtype()));
    let x = pixels(&device, Key::new(4), &[1, 6]).mul_scalar(0.5).add_scalar(0.25);
    let network = Network::trace(&encode, &x).unwrap();
    let z = network.forward(&x).array().to_f64();
    for effort in EFFORTS {
        let threat = Threat::linf(0.1);
        let found = certify(&network, &x, &config(effort, threat)).unwrap().0.remove(0);
        let column: Vec<f64> = w.array().to_f64().chunks(4).map(|row| row[0]).collect();
        let corner: Vec<f64> =
            x.array().to_f64().iter().zip(column).map(|(x, w)| x + 0.1 * w.signum()).collect();
        let end = network.forward(&Tensor::new(&device, [1, 6], &corner)).array().to_f64();
        assert!(end[0] - z[0] > 0.95 * found.support(&[1.0, 0.0, 0.0, 0.0], Evidence::All), "{effort:?}");
        assert!(end[0] - z[0] <= found.support(&[1.0, 0.0, 0.0, 0.0], Evidence::All), "{effort:?}");
    }
}

/// For any head and labels at once: no attacked loss is above the certified one, no certified point is flipped.
#[test]
fn one_certificate_bounds_every_head() {
    let key = Key::new(21);
    let net = Net::new(key);
    let n = 4;
    let x = pixels(&net.device, key.fold("x"), &[n, 8, 8, 1]);
    let network = Network::trace(&|x| net.encode(x), &x).unwrap();
    let d = network.features();
    let threat = Threat::linf(0.03);
    let found = certify(&network, &x, &config(Effort::Full, threat)).unwrap().0;
    let ends = points(&|x| net.encode(x), &x, &threat, key);
    let ends: Vec<Vec<f64>> = ends.iter().map(|u| network.forward(u).array().to_f64()).collect();
    let mut certified = 0;
    for trial in 0..1000usize {
        let mut stream = key.fold("head").fold(trial).stream();
        let k = 2 + trial % 5;
        let scale = 10f64.powf(stream.uniform(-1.0, 1.5));
        let weight = (0..k * d).map(|_| scale * stream.normal()).collect();
        let head = LinearHead::new(k, d, weight, (0..k).map(|_| stream.normal()).collect());
        for (i, certificate) in found.iter().enumerate() {
            let label = stream.below(k);
            let supports: Vec<f64> = (0..k)
                .map(|j| {
                    let v: Vec<f64> =
                        (0..d).map(|c| head.weight()[j * d + c] - head.weight()[label * d + c]).collect();
                    if j == label { 0.0 } else { certificate.support(&v, Evidence::All) }
                })
                .collect();
            let z = certificate.representation();
            let bound = head.logit_gap_bound(&z, label, &supports);
            let gaps = head.gaps(&z, label);
            let safe = (0..k).all(|j| j == label || gaps[j] + supports[j] < 0.0);
            certified += usize::from(safe);
            for end in &ends {
                let end = &end[i * d..][..d];
                // The loss itself is computed in f64, at both points.
                let loss = head.loss(end, label);
                assert!(loss <= bound + 1e-11 * (1.0 + bound), "trial {trial}: {loss} above {bound}");
                assert!(
                    !safe || head.gaps(end, label).iter().enumerate().all(|(j, &g)| j == label || g < 0.0)
                );
            }
        }
    }
    assert!(certified > 100, "{certified} certified of 4000");
}

/// The difference to a tighter box is what the effort buys; nothing gets looser.
#[test]
fn more_effort_is_never_looser_and_a_smaller_ball_is_smaller() {
    let key = Key::new(31);
    let net = Net::new(key);
    let x = pixels(&net.device, key.fold("x"), &[3, 8, 8, 1]);
    let network = Network::trace(&|x| net.encode(x), &x).unwrap();
    let radii = |effort, epsilon| -> Vec<f64> {
        let found = certify(&network, &x, &config(effort, Threat::linf(epsilon))).unwrap().0;
        found.iter().map(Certificate::radius).collect()
    };
    let mut before = vec![0.0; 3];
    for epsilon in [0.0, 0.001, 0.01, 0.05] {
        let [interval, _, full, _] = EFFORTS.map(|effort| radii(effort, epsilon));
        for i in 0..3 {
            assert!(full[i] <= interval[i], "ε = {epsilon}: {} {}", full[i], interval[i]);
            assert!(full[i] >= before[i], "ε = {epsilon}");
            // Only roundings move a point that may not move: those of values of order one in f64 and of the
            // generators in f32, whose size is zero here.
            assert!(epsilon > 0.0 || full[i] < 1e-9, "{}", full[i]);
        }
        before = full;
    }
}

#[test]
fn neither_batches_nor_rows_change_a_bit() {
    let key = Key::new(41);
    let net = Net::new(key);
    let x = pixels(&net.device, key.fold("x"), &[5, 8, 8, 1]);
    let network = Network::trace(&|x| net.encode(x), &x).unwrap();
    let usual = config(Effort::Full, Threat::linf(0.04));
    let whole = certify(&network, &x, &usual).unwrap().0;
    for (batch, rows) in [(1, 7), (2, 512), (5, 33)] {
        let config = CertifyConfig { batch, rows, ..usual };
        assert_eq!(certify(&network, &x, &config).unwrap().0, whole, "batch {batch}, rows {rows}");
    }
}

/// Fewer generators only loosen.
#[test]
fn generators_that_are_dropped_go_into_the_ellipsoid() {
    let key = Key::new(51);
    let net = Net::new(key);
    let x = pixels(&net.device, key.fold("x"), &[2, 8, 8, 1]);
    let network = Network::trace(&|x| net.encode(x), &x).unwrap();
    let mut before = 0.0;
    for generators in [10_000, 64, 8, 0] {
        let config = CertifyConfig { generators, ..config(Effort::Full, Threat::linf(0.02)) };
        let found = certify(&network, &x, &config).unwrap().0.remove(0);
        let v = [0.5, -1.0, 0.25, 2.0, -0.5];
        let s = found.support(&v, Evidence::Zonotope);
        assert!(found.zonotope().unwrap().generators() <= generators);
        assert!(s >= before * (1.0 - 1e-6), "{generators}: {s} {before}");
        before = s;
    }
}

#[test]
fn a_normalized_encoder_is_certified_on_the_sphere() {
    for seed in 0..3 {
        let key = Key::new(61 + seed);
        let net = Net::new(key);
        let encode = |x: &Tensor| net.encode(x).l2_normalize(1e-6);
        let x = pixels(&net.device, key.fold("x"), &[4, 8, 8, 1]);
        let network = Network::trace(&encode, &x).unwrap();
        assert_eq!(network.sphere, Some(f64::from(1e-6f32)));
        let on_sphere = |x: &Tensor| network.forward(x).l2_normalize(1e-6).array().to_f64();
        let z = on_sphere(&x);
        for threat in [Threat::linf(0.001), Threat::linf(0.02), Threat::linf(0.3), Threat::l2(0.1)] {
            let found = certify(&network, &x, &config(Effort::Full, threat)).unwrap().0;
            for u in points(&encode, &x, &threat, key) {
                let moved: Vec<f64> = on_sphere(&u).iter().zip(&z).map(|(a, b)| a - b).collect();
                for (i, certificate) in found.iter().enumerate() {
                    assert!(certificate.radius() <= 2.0 + 1e-9);
                    holds(certificate, &moved[i * 5..][..5], &format!("sphere {threat:?} sample {i}"));
                }
            }
        }
    }
}

#[test]
fn certificates_that_overflow_are_vacuous() {
    let device = super::device();
    let huge = Tensor::full(&device, [4, 2], DType::F32, 1e38);
    let encode = |x: &Tensor| {
        let mut y = x.clone();
        for _ in 0..9 {
            y = y.matmul(&huge.cast(x.dtype())).matmul(&huge.t().cast(x.dtype())).relu();
        }
        y
    };
    let x = Tensor::full(&device, [2, 4], DType::F32, 0.5);
    let network = Network::trace(&encode, &x).unwrap();
    for effort in EFFORTS {
        let found = certify(&network, &x, &config(effort, Threat::linf(0.1))).unwrap().0;
        for certificate in found {
            assert!(
                certificate.is_vacuous() && certificate.support(&[1.0; 4], Evidence::All) == f64::INFINITY
            );
        }
    }
}
