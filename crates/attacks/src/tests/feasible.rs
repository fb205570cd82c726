//! Points never leave the ball or the box, not by a rounding error.

use super::{keys, normal, unit};
use crate::{Norm, Pgd, Start, Threat, pgd};
use proptest::prelude::*;
use tarrl_tensor::{DType, Tensor, cpu};

fn threats() -> impl Strategy<Value = Threat> {
    let norm = prop_oneof![Just(Norm::Linf), Just(Norm::L2), Just(Norm::L1)];
    let epsilon = prop_oneof![Just(8.0 / 255.0), Just(0.0), 1e-4f64..0.5, Just(2.0)];
    let bounds = prop_oneof![3 => Just(Some((0.0, 1.0))), 1 => Just(None)];
    (norm, epsilon, bounds)
        .prop_map(|(norm, epsilon, bounds)| Threat { bounds, ..Threat::new(norm, epsilon) })
}

/// Grey levels of 8-bit images, corners of the box among them.
fn grey(seed: u64, n: usize, d: usize, dtype: DType) -> Tensor {
    let levels: Vec<f64> = unit(seed, n, d, DType::F64)
        .to_vec::<f64>()
        .iter()
        .map(|v| (v * 300.0 - 20.0).floor().clamp(0.0, 255.0))
        .collect();
    match dtype {
        DType::F64 => Tensor::new(&cpu(), [n, d], &levels.iter().map(|v| v / 255.0).collect::<Vec<_>>()),
        _ => Tensor::new(&cpu(), [n, d], &levels.iter().map(|v| *v as f32 / 255.0).collect::<Vec<_>>()),
    }
}

/// Grey levels and their neighbours differ in f64 without rounding, so that these checks are exact:
/// no slack anywhere.
fn check(x: &Tensor, found: &Tensor, threat: &Threat) -> Result<(), TestCaseError> {
    let (x, u) = (x.array().to_f64(), found.array().to_f64());
    let d = found.shape()[1];
    for (x, u) in x.chunks(d).zip(u.chunks(d)) {
        let size = threat.norm.length(x.iter().zip(u).map(|(x, u)| u - x));
        prop_assert!(size <= threat.epsilon, "{} beyond {}", size, threat.epsilon);
        if let Some((lo, hi)) = threat.bounds {
            prop_assert!(u.iter().all(|u| (lo..=hi).contains(u)), "{u:?} leaves the box");
        }
    }
    Ok(())
}

proptest! {
    /// 256 cases of 8 samples of 24 coordinates: 49,152 coordinates of returned points, and all those
    /// of the iterates on the way.
    #[test]
    fn every_point_an_attack_looks_at_is_inside(threat in threats(), seed in any::<u64>(), wide in any::<bool>(), clean in any::<bool>()) {
        let dtype = if wide { DType::F64 } else { DType::F32 };
        let (n, d) = (8, 24);
        let x = grey(seed, n, d, dtype);
        let w = normal(seed ^ 1, d, 1, dtype);
        let looked = std::cell::RefCell::new(Vec::new());
        let objective = |u: &Tensor, rows: &[usize]| {
            looked.borrow_mut().push(u.detach());
            u.matmul(&w).reshape([rows.len()])
        };
        let start = if clean { Start::Clean } else { Start::Random };
        let config = Pgd { steps: 3, step_size: 0.7 * threat.epsilon, restarts: 2, start, ..Pgd::default() };
        let found = pgd(&x, &objective, &threat, &config, &keys(seed, n));
        check(&x, &found.best, &threat)?;
        for point in looked.borrow().iter() {
            check(&x, point, &threat)?;
        }
        if threat.epsilon == 0.0 {
            prop_assert_eq!(found.best.array().to_f64(), x.array().to_f64());
        }
    }

    #[test]
    fn projection_is_idempotent_and_keeps_what_is_inside(threat in threats(), seed in any::<u64>()) {
        let x = grey(seed, 4, 9, DType::F32);
        let ball = threat.around(&x);
        let far = &x + &normal(seed ^ 2, 4, 9, DType::F32);
        let once = ball.project(&far);
        prop_assert_eq!(once.to_vec::<f32>(), ball.project(&once).to_vec::<f32>());
        prop_assert_eq!(ball.project(&x).to_vec::<f32>(), x.to_vec::<f32>());
        check(&x, &once, &threat)?;
        // A point that was outside ends on the sphere, up to the rounding of nine coordinates, unless
        // the box has cut it.
        if threat.norm == Norm::L2 && threat.bounds.is_none() && threat.epsilon > 1e-3 {
            for i in 0..4 {
                let norm = |v: &Tensor| v.slice(0, i, 1).cast(DType::F64).norm(1).item();
                let size = norm(&(&once - &x));
                let was = norm(&(&far - &x));
                prop_assert!(size > was.min(threat.epsilon) - 1e-6, "{} of {}", size, threat.epsilon);
            }
        }
    }
}

/// Starts fill the ball: the mean radius of d-dimensional uniform points is d/(d+1), and for a cube each
/// coordinate has mean 0 and variance ε²/3.
#[test]
fn starts_are_uniform() {
    let (n, d) = (4000, 3);
    let x = Tensor::full(&cpu(), [n, d], DType::F64, 0.5);
    let offsets = |threat: Threat| (&threat.around(&x).start(&keys(1, n)) - &x).to_vec::<f64>();
    let cube = offsets(Threat::linf(0.3));
    let mean = cube.iter().sum::<f64>() / cube.len() as f64;
    let variance = cube.iter().map(|v| v * v).sum::<f64>() / cube.len() as f64;
    // Standard errors .3/√(3·12000) = .0016 and .09·√(4/45)/√12000 = .00025; five of each.
    assert!(mean.abs() < 0.008 && (variance - 0.03).abs() < 0.00125, "{mean} {variance}");
    let ball = offsets(Threat::l2(0.3));
    let radius = ball.chunks(d).map(|v| v.iter().map(|v| v * v).sum::<f64>().sqrt()).sum::<f64>() / n as f64;
    // The standard deviation of the radius is ε·√(3/80) = .058; five standard errors.
    assert!((radius - 0.3 * 0.75).abs() < 0.0046, "{radius}");
}

#[test]
fn inputs_a_rounding_error_outside_are_clamped() {
    let x = Tensor::new(&cpu(), [1, 3], &[-5e-7f32, 0.5, 1.0 + 5e-7]);
    assert_eq!(Threat::linf(0.1).around(&x).center().to_vec::<f32>(), [0.0, 0.5, 1.0]);
}

#[test]
#[should_panic(expected = "inputs range over [-2, 0.5], outside the box [0, 1]")]
fn normalised_inputs_are_refused() {
    Threat::linf(0.1).around(&Tensor::new(&cpu(), [1, 2], &[-2.0f32, 0.5]));
}

#[test]
#[should_panic(expected = "an input is NaN")]
fn inputs_that_are_no_numbers_are_refused() {
    Threat::l2(0.1).around(&Tensor::new(&cpu(), [1, 2], &[f32::NAN, 0.5]));
}

#[test]
#[should_panic(expected = "epsilon is -1")]
fn a_negative_radius_is_refused() {
    Threat::l2(-1.0).around(&Tensor::new(&cpu(), [1, 1], &[0.5f32]));
}
