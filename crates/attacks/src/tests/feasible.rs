//! Points never leave the ball or the box, not by a rounding error.

use super::exact_sums::leaves;
use super::{keys, normal, unit};
use crate::threat::directed_rounding::{Real, above, below};
use crate::{Norm, Pgd, Start, Threat, pgd};
use proptest::prelude::*;
use tarrl_tensor::{DType, Key, Tensor, cpu};

fn threats() -> impl Strategy<Value = Threat> {
    let norm = prop_oneof![Just(Norm::Linf), Just(Norm::L2), Just(Norm::L1)];
    let epsilon = prop_oneof![Just(8.0 / 255.0), Just(0.0), 1e-4f64..0.5, Just(2.0)];
    let bounds = prop_oneof![3 => Just(Some((0.0, 1.0))), 1 => Just(None)];
    let sparse = (0u32..9).prop_map(|epsilon| Threat::new(Norm::L0, f64::from(epsilon)));
    let dense = (norm, epsilon, bounds)
        .prop_map(|(norm, epsilon, bounds)| Threat { bounds, ..Threat::new(norm, epsilon) });
    prop_oneof![4 => dense, 1 => sparse]
}

/// Gray levels of 8-bit images, corners of the box among them.
fn gray(seed: u64, n: usize, d: usize, dtype: DType) -> Tensor {
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

/// No slack anywhere: the comparison is exact.
fn check(x: &Tensor, found: &Tensor, threat: &Threat) -> Result<(), TestCaseError> {
    let (x, u) = (x.array().to_f64(), found.array().to_f64());
    let d = found.shape()[1];
    for (x, u) in x.chunks(d).zip(u.chunks(d)) {
        prop_assert!(!leaves(threat.norm, x, u, threat.epsilon), "{u:?} leaves {threat:?} around {x:?}");
        if let Some((lo, hi)) = threat.bounds {
            prop_assert!(u.iter().all(|u| (lo..=hi).contains(u)), "{u:?} leaves the box");
        }
    }
    Ok(())
}

/// Corners of l-infinity balls have the bits that exact arithmetic on each coordinate gives.
#[test]
fn corners_are_the_outermost_values_inside() {
    fn corners<R: Real>(bounds: Option<(f64, f64)>) {
        let draw = |scale: f64, i: usize| scale * Key::new(7).fold(i).stream().uniform(-1.0, 1.0);
        let scales = [1.0, 1e-3, 1e-7, 300.0, 1e-42];
        let mut x: Vec<R> = (0..3000).map(|i| R::nearest(draw(scales[i % 5], i))).collect();
        // Both sides of powers of two, where the distances between values change.
        for power in [-20, -1, 0, 1, 7] {
            let v = R::nearest(2f64.powi(power));
            x.extend([v, v.up(), v.down(), R::nearest(-v.wide()), R::nearest(-v.wide()).up()]);
        }
        if bounds.is_some() {
            x.iter_mut().for_each(|v| *v = R::nearest(v.wide().clamp(-0.5, 1.0)));
        }
        for reach in [8.0 / 255.0, 0.0, 0.1, 1e-9, 2f64.powi(-24), 3.0] {
            let threat = Threat { bounds, ..Threat::linf(reach) };
            let centers = Tensor::new(&cpu(), [1, x.len()], &x);
            let ball = threat.around(&centers);
            let (lo, hi) = bounds.unwrap_or((f64::from(f32::MIN), f64::from(f32::MAX)));
            let corner =
                |far: f64| ball.project(&Tensor::full(&cpu(), *centers.shape(), R::DTYPE, far)).to_vec::<R>();
            let (least, largest) = (corner(-1e30), corner(1e30));
            for ((&x, least), largest) in x.iter().zip(least).zip(largest) {
                let expected = (below(x, reach).wide().max(lo), above(x, reach).wide().min(hi));
                assert_eq!((least.wide(), largest.wide()), expected, "around {} by {reach}", x.wide());
            }
        }
    }
    for bounds in [None, Some((-0.5, 1.0))] {
        corners::<f32>(bounds);
        corners::<f64>(bounds);
    }
}

/// A million points of each norm: starts, projections of points far away and near the boundary, steps.
#[test]
fn a_million_points_stay_inside() {
    let (n, d) = (4000, 6);
    for norm in Norm::ALL {
        let mut points = 0;
        let mut on_boundary = 0;
        for round in 0..84u64 {
            let dtype = if round % 4 == 3 { DType::F64 } else { DType::F32 };
            let epsilon = match norm {
                Norm::L0 => (round % 4) as f64,
                _ => [8.0 / 255.0, 0.3, 1e-3, 1.0][(round / 4 % 4) as usize],
            };
            let threat = Threat::new(norm, epsilon);
            let x = gray(round, n, d, dtype);
            let ball = threat.around(&x);
            let start = ball.start(&keys(round, n));
            let near = &x + &(&start - &x).mul_scalar(1.0 + 1e-6);
            let far = &x + &normal(!round, n, d, dtype).mul_scalar(2.0 * epsilon);
            for u in [start, ball.project(&near), ball.project(&far)] {
                check(&x, &u, &threat).unwrap();
                points += n;
                let near = |size: &f64| *size > epsilon * (1.0 - 1e-5) && epsilon > 0.0;
                on_boundary += ball.distances(&u).iter().filter(|size| near(size)).count();
            }
        }
        assert!(
            points > 1_000_000 && on_boundary > 50_000,
            "{norm}: {points}, {on_boundary} at the boundary"
        );
    }
}

proptest! {
    /// 256 cases of 8 samples of 24 coordinates: 49,152 coordinates of returned points, and all those
    /// of the iterates on the way.
    #[test]
    fn every_point_an_attack_evaluates_is_inside(threat in threats(), seed in any::<u64>(), wide in any::<bool>(), clean in any::<bool>()) {
        let dtype = if wide { DType::F64 } else { DType::F32 };
        let (n, d) = (8, 24);
        let x = gray(seed, n, d, dtype);
        let w = normal(seed ^ 1, d, 1, dtype);
        let evaluated = std::cell::RefCell::new(Vec::new());
        let objective = |u: &Tensor, rows: &[usize]| {
            evaluated.borrow_mut().push(u.detach());
            u.matmul(&w).reshape([rows.len()])
        };
        let start = if clean { Start::Clean } else { Start::Random };
        let config = Pgd { steps: 3, step_size: 0.7 * threat.epsilon, restarts: 2, start, ..Pgd::default() };
        let found = pgd(&x, &objective, &threat, &config, &keys(seed, n));
        check(&x, &found.best, &threat)?;
        for point in evaluated.borrow().iter() {
            check(&x, point, &threat)?;
        }
        if threat.epsilon == 0.0 {
            prop_assert_eq!(found.best.array().to_f64(), x.array().to_f64());
        }
    }

    #[test]
    fn projection_is_idempotent_and_keeps_what_is_inside(threat in threats(), seed in any::<u64>()) {
        let x = gray(seed, 4, 9, DType::F32);
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
fn normalized_inputs_are_refused() {
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

/// The judge of all points: outside of the box is outside, in every norm, however near the center.
#[test]
fn a_point_outside_the_box_is_not_contained() {
    let x = Tensor::new(&cpu(), [3, 2], &[1.0, 0.5, 0.0, 0.5, 1.0, 0.5]);
    let beyond = Tensor::new(&cpu(), [3, 2], &[1.0f64.next_up(), 0.5, -1e-300, 0.5, 1.0, 0.5]);
    for norm in Norm::ALL {
        let ball = Threat::new(norm, 1.0).around(&x);
        assert_eq!(ball.contains(&beyond), [false, false, true], "{norm}");
        let unbounded = Threat { bounds: None, ..Threat::new(norm, 1.0) };
        if norm != Norm::L0 {
            assert_eq!(unbounded.around(&x).contains(&beyond), [true; 3], "{norm}");
        }
    }
}

#[test]
fn every_sample_may_have_its_own_radius() {
    let (n, d) = (5, 8);
    let radii = [0.0, 0.01, 0.1, 0.5, 2.0];
    let x = gray(3, n, d, DType::F32);
    let far = &x + &normal(4, n, d, DType::F32).mul_scalar(9.0);
    for norm in Norm::ALL {
        let radii = radii.map(|r: f64| if norm == Norm::L0 { (r * 4.0).floor() } else { r });
        let threat = Threat::new(norm, 7.0);
        let all = threat.around_each(&x, &radii);
        let (projected, start) = (all.project(&far), all.start(&keys(5, n)));
        let stepped = all.step_each(&x, &far, &radii);
        for (i, &radius) in radii.iter().enumerate() {
            let of = |t: &Tensor| t.slice(0, i, 1);
            let alone = Threat::new(norm, radius).around(&of(&x));
            assert_eq!(of(&projected).to_vec::<f32>(), alone.project(&of(&far)).to_vec::<f32>());
            assert_eq!(of(&start).to_vec::<f32>(), alone.start(&keys(5, n)[i..=i]).to_vec::<f32>());
            assert_eq!(of(&stepped).to_vec::<f32>(), alone.step(&of(&x), &of(&far), radius).to_vec::<f32>());
            assert_eq!(all.keep(&[i]).project(&of(&far)).to_vec::<f32>(), of(&projected).to_vec::<f32>());
        }
    }
}

/// Snapped points lie on levels, inside the ball, and are as near to what was wanted as a search over the
/// neighboring levels of each coordinate finds in the cube.
#[test]
fn levels_are_reached_and_stay_inside() {
    let (n, d) = (300, 7);
    let x = gray(5, n, d, DType::F32);
    let far = &x + &normal(6, n, d, DType::F32).mul_scalar(0.1);
    for norm in Norm::ALL {
        let epsilon = if norm == Norm::L0 { 3.0 } else { 10.0 / 255.0 };
        let threat = Threat { levels: Some(256), ..Threat::new(norm, epsilon) };
        let ball = threat.around(&x);
        let snapped = ball.snap(&ball.project(&far));
        check(&x, &snapped, &threat).unwrap();
        let values = snapped.to_vec::<f32>();
        assert!(values.iter().all(|v| *v == (v * 255.0).round() / 255.0), "{norm}: off the levels");
        assert!(values.iter().zip(x.to_vec::<f32>()).any(|(v, x)| *v != x));
        let once = ball.snap(&snapped);
        assert_eq!(once.to_vec::<f32>(), values, "{norm}: snapping twice moves");
        if norm == Norm::Linf {
            let wanted = ball.project(&far).to_vec::<f32>();
            for ((v, wanted), x) in values.iter().zip(wanted).zip(x.to_vec::<f32>()) {
                let level = (0..256)
                    .map(|k| k as f32 / 255.0)
                    .filter(|l| !leaves(norm, &[f64::from(x)], &[f64::from(*l)], epsilon))
                    .min_by(|a, b| (a - wanted).abs().total_cmp(&(b - wanted).abs()));
                assert!((level.unwrap() - wanted).abs() >= (v - wanted).abs() - 1e-7, "{v} for {wanted}");
            }
        }
    }
}

/// The l1 projection by its optimality: the displacement is a soft threshold, cut, of length ε.
#[test]
fn the_l1_projection_is_the_nearest_point() {
    let (n, d, epsilon) = (200, 9, 0.4);
    let x = gray(7, n, d, DType::F64);
    let far = &x + &normal(8, n, d, DType::F64).mul_scalar(0.3);
    let ball = Threat::new(Norm::L1, epsilon).around(&x);
    let found = ball.project(&far).to_vec::<f64>();
    let (x, far) = (x.to_vec::<f64>(), far.to_vec::<f64>());
    for i in 0..n {
        let row = |all: &[f64]| all[i * d..][..d].to_vec();
        let (x, v, u) = (row(&x), row(&far), row(&found));
        // Bisection of the threshold, without sorting.
        let at = |threshold: f64| -> Vec<f64> {
            let one = |(x, v): (&f64, &f64)| {
                let (wanted, room) = (v - x, if v > x { 1.0 - x } else { *x });
                x + wanted.signum() * (wanted.abs() - threshold).clamp(0.0, room)
            };
            x.iter().zip(&v).map(one).collect()
        };
        let size = |u: &[f64]| u.iter().zip(&x).map(|(u, x)| (u - x).abs()).sum::<f64>();
        let (mut lo, mut hi) = (0.0, 10.0);
        for _ in 0..200 {
            let middle = 0.5 * (lo + hi);
            if size(&at(middle)) > epsilon { lo = middle } else { hi = middle }
        }
        for (found, wanted) in u.iter().zip(at(hi)) {
            assert!((found - wanted).abs() < 1e-12, "row {i}: {found} but {wanted}");
        }
    }
}

/// The l0 projection against all choices of coordinates.
#[test]
fn the_l0_projection_is_the_nearest_point() {
    let (n, d, count) = (100, 8, 3);
    let x = gray(9, n, d, DType::F64);
    let far = &x + &normal(10, n, d, DType::F64);
    let found = Threat::new(Norm::L0, count as f64 + 0.5).around(&x).project(&far).to_vec::<f64>();
    let (x, far) = (x.to_vec::<f64>(), far.to_vec::<f64>());
    for i in 0..n {
        let row = |all: &[f64]| all[i * d..][..d].to_vec();
        let (x, v, u) = (row(&x), row(&far), row(&found));
        let distance = |u: &[f64]| u.iter().zip(&v).map(|(u, v)| (u - v).powi(2)).sum::<f64>();
        let choice = |bits: usize| {
            let one = |j: usize| if bits >> j & 1 == 1 { v[j].clamp(0.0, 1.0) } else { x[j] };
            distance(&(0..d).map(one).collect::<Vec<_>>())
        };
        let nearest = (0..1 << d)
            .filter(|bits: &usize| bits.count_ones() <= count)
            .map(choice)
            .fold(f64::MAX, f64::min);
        assert!((distance(&u) - nearest).abs() < 1e-12, "row {i}: {} but {nearest}", distance(&u));
    }
}

/// What is left of such a point after the projection is rounding.
#[test]
fn points_beyond_any_precision_are_projected_into_the_ball() {
    for norm in [Norm::L1, Norm::L2, Norm::L0, Norm::Linf] {
        for radius in [0.01, 1e-45, 5e-324] {
            for dtype in [DType::F32, DType::F64] {
                let x = Tensor::full(&cpu(), [3, 5], dtype, 0.5);
                let ball =
                    Threat { norm, epsilon: radius, bounds: Some((-1e30, 1e30)), levels: None }.around(&x);
                let far = &x + &normal(1, 3, 5, dtype).mul_scalar(1e16);
                assert_eq!(ball.contains(&ball.project(&far)), [true; 3], "{norm} {radius}");
                let nan = far.mul_scalar(f64::NAN);
                if norm != Norm::Linf {
                    assert_eq!(ball.contains(&ball.project(&nan)), [true; 3], "{norm} {radius}");
                }
                for start in [ball.start(&keys(2, 3)), ball.start_on_sphere(&keys(3, 3))] {
                    assert_eq!(ball.contains(&start), [true; 3], "{norm} {radius}");
                }
            }
        }
    }
}
