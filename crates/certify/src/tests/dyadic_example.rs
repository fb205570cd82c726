//! The dyadic example, whose numbers are exact fractions worked by hand, and reference values of zonotope supports.

use super::device;
use crate::box_and_ball::box_and_ball;
use crate::zonotope::{Zonotope, ZonotopeParts};
use crate::{CertifyConfig, Effort, Evidence, Network, Slopes, certify};
use tarrl_attacks::Threat;
use tarrl_bound::{LinearHead, LpNorm};
use tarrl_tensor::{Device, Tensor};

/// `W_1 = [[1,1],[1,−1],[−1,1]]`, `b_1 = (0,−¼,¼)`, `W_2 = [1,−1,2]`, `b_2 = ⅛`.
fn encode(x: &Tensor) -> Tensor {
    let tensor = |shape: [usize; 2], v: &[f32]| Tensor::new(x.device(), shape, v).cast(x.dtype());
    let hidden =
        &x.matmul(&tensor([2, 3], &[1.0, 1.0, -1.0, 1.0, -1.0, 1.0])) + &tensor([1, 3], &[0.0, -0.25, 0.25]);
    &hidden.relu().matmul(&tensor([3, 1], &[1.0, -1.0, 2.0])) + &tensor([1, 1], &[0.125])
}

fn point(device: &Device) -> Tensor {
    Tensor::new(device, [1, 2], &[1.0f32, 0.5])
}

fn free(threat: Threat) -> Threat {
    Threat { bounds: None, ..threat }
}

fn run(effort: Effort, threat: Threat) -> crate::Certificate {
    let device = device();
    let network = Network::trace(&encode, &point(&device)).unwrap();
    let config = CertifyConfig { effort, threat: free(threat), ..CertifyConfig::default() };
    certify(&network, &point(&device), &config).unwrap().0.remove(0)
}

/// Within rounding (1e-12) of an exact value, and never on the unsafe side.
#[track_caller]
fn above(found: f64, exact: f64) {
    assert!(found >= exact && found - exact < 1e-12, "{found} for {exact}");
}

#[test]
fn intervals_of_the_dyadic_example() {
    let found = run(Effort::Interval, Threat::linf(0.25));
    assert_eq!(found.representation(), [1.375]);
    above(found.upper[0], 1.25);
    above(-found.lower[0], 1.0);
    above(found.radius(), 1.25);
}

/// Substitution gives [−⅝, 1], parallel lines [−⅞, 15/16]: the box is their intersection.
#[test]
fn linear_bounds_of_the_dyadic_example() {
    for effort in [Effort::Linear, Effort::Full] {
        let found = run(effort, Threat::linf(0.25));
        above(found.upper[0], 1.0);
        above(-found.lower[0], 0.625);
        above(found.support(&[1.0], Evidence::Zonotope), 0.9375);
        above(found.support(&[-1.0], Evidence::Zonotope), 0.875);
        above(found.support(&[1.0], Evidence::All), 0.9375);
        above(found.support(&[-1.0], Evidence::All), 0.625);
        // A, G and b of the form: generators of δ are ε·(−¼, 9/4).
        let zonotope = found.zonotope().unwrap();
        let mut generators: Vec<f64> = zonotope.generators.iter().map(|&g| f64::from(g).abs()).collect();
        generators.sort_by(f64::total_cmp);
        for (found, exact) in generators.iter().zip([0.0625, 0.09375, 0.1875, 0.5625]) {
            // The half-widths hold eight units of slack and are then rounded to f32.
            assert!((found - exact).abs() < 1e-7 * exact, "{found} for {exact}");
        }
        assert!((zonotope.offset[0] - 0.03125).abs() < 1e-14);
        // Zonotopes are stored in f32: what rounding loses is in the box.
        assert!(zonotope.spread[0] < 1e-7 && zonotope.generators() == 4);
    }
}

/// Secants in [1, 1], [½, 1] and [0, ½]: A is (−¼, 9/4) as before, of which ε keeps ⅝. Every band of these two units is
/// as wide as its secants allow on one side, ⅛: the sum of all is 1, as by hand.
#[test]
fn sectors_of_the_dyadic_example() {
    let device = device();
    let network = Network::trace(&encode, &point(&device)).unwrap();
    let config = CertifyConfig {
        threat: free(Threat::linf(0.25)),
        slopes: Slopes::Sector,
        ..CertifyConfig::default()
    };
    let found = certify(&network, &point(&device), &config).unwrap().0.remove(0);
    // φ − ¾ D of h = ¼ is in [−1/16, ⅛], enters with −1; φ − ¼ D of h = −¼ is in [−1/16, ⅛], enters with 2.
    above(found.support(&[1.0], Evidence::Zonotope), 0.625 + 0.0625 + 0.25);
    above(found.support(&[-1.0], Evidence::Zonotope), 0.625 + 0.125 + 0.125);
    assert!(found.radius() <= 1.0 + 1e-12);
}

/// The head with scores (0, f(x)) and label 1: the gap −1.375 rises by at most ⅝.
#[test]
fn a_head_on_the_dyadic_example() {
    let found = run(Effort::Full, Threat::linf(0.25));
    let head = LinearHead::new(2, 1, vec![0.0, 1.0], vec![0.0, 0.0]);
    let s = found.support(&[-1.0], Evidence::All);
    let loss = head.logit_gap_bound(&found.representation(), 1, &[s, 0.0]);
    above(loss, 0.38687100611489994);
    assert!(-1.375 + s < 0.0);
    let radius = head.gap_norms(1, LpNorm::L2)[0] * found.upper[0];
    above(head.logit_gap_bound(&found.representation(), 1, &[radius, 0.0]), (1.0 + (-0.375f64).exp()).ln());
}

/// In the Euclidean ball of ¼ every first-layer unit moves by √2/4.
#[test]
fn the_euclidean_ball_of_the_dyadic_example() {
    let device = device();
    let first = |x: &Tensor| {
        let w = Tensor::new(x.device(), [2, 3], &[1.0f32, 1.0, -1.0, 1.0, -1.0, 1.0]);
        x.matmul(&w.cast(x.dtype()))
    };
    let network = Network::trace(&first, &point(&device)).unwrap();
    let config = CertifyConfig { threat: free(Threat::l2(0.25)), ..CertifyConfig::default() };
    let found = certify(&network, &point(&device), &config).unwrap().0.remove(0);
    for side in found.lower.iter().map(|l| -l).chain(found.upper.clone()) {
        above(side, 0.3535533905932738);
    }
    // W has the singular values √3, √2... of WᵀW = [[3, −1], [−1, 3]]: 2 and √2, so that the radius is ½.
    assert!((found.radius() - 0.5).abs() < 1e-7 && found.radius() >= 0.5, "{}", found.radius());
}

#[test]
fn radii_and_supports_of_a_square_match_reference_values() {
    let parts = |generators: Vec<Vec<f64>>| ZonotopeParts {
        offset: vec![0.0; 2],
        spread: vec![0.0; 2],
        generators,
        ball: vec![],
    };
    let square = || vec![vec![1.0, 1.0], vec![1.0, -1.0]];
    let found = parts(square()).radius(&device());
    // The spectral norm is taken with a part in 10⁹ to spare.
    assert!((2.0..2.0 + 1e-8).contains(&found), "{found}");
    above(Zonotope::new(parts(square()), 9, &device()).support(&[1.0, 0.0]), 2.0);
    // Of the ellipsoid around both: √(2√2 · √2) = 2, in every direction, where the zonotope has √2 in (1, 1)/√2.
    above(Zonotope::new(parts(square()), 0, &device()).support(&[1.0, 0.0]), 2.0);
    let (lower, upper) = ([-0.5; 2], [0.5; 2]);
    above(box_and_ball(&[3.0, 1.0], &lower, &upper, 0.6), 1.83166247903554);
    above(box_and_ball(&[3.0, 1.0], &lower, &upper, 9.0), 2.0);
    above(box_and_ball(&[3.0, 1.0], &[-9.0; 2], &[9.0; 2], 0.6), 1.8973665961010275);
}
