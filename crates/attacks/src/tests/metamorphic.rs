//! What must not change, or only in one direction, when the problem is changed.

use super::{keys, network, normal, unit};
use crate::{ClassifierOutcome, LabelLoss, Norm, Pgd, Start, Threat, attack_classifier, pgd, verdicts};
use tarrl_tensor::{Array, DType, Tensor, cpu, value_and_grad};

const N: usize = 8;

fn attack(
    logits: &dyn Fn(&Tensor) -> Tensor,
    labels: &[u32],
    threat: &Threat,
    config: &Pgd,
) -> ClassifierOutcome {
    let x = unit(1, N, 10, DType::F64);
    attack_classifier(logits, &x, labels, LabelLoss::Dlr, threat, config, &keys(2, N))
}

fn steps() -> Pgd {
    Pgd { steps: 12, step_size: 0.01, restarts: 2, ..Pgd::default() }
}

/// The ratio of differences of logits does not see a·z + b, and neither does the path of the attack that
/// ascends it. Where the label is the third class the ratio is 1 whatever the input, and roundings
/// decide: such samples are left out.
#[test]
fn shift_and_scale_of_logits_change_no_path() {
    let f = network(3, 10, 5, DType::F64);
    let labels: Vec<u32> = f(&unit(1, N, 10, DType::F64)).argmax(1).to_vec();
    for norm in [Norm::Linf, Norm::L2] {
        let (threat, config) = (Threat::new(norm, 0.01), Pgd { step_size: 0.002, ..steps() });
        let plain = attack(&|u| f(u), &labels, &threat, &config);
        let scaled = attack(&|u| f(u).mul_scalar(8.0), &labels, &threat, &config);
        let moved = attack(&|u| f(u).add_scalar(3.0).mul_scalar(0.7), &labels, &threat, &config);
        let compared: Vec<usize> = (0..N).filter(|&i| plain.loss[i] < 1.0 - 1e-6).collect();
        assert!(compared.len() > N / 2, "{norm}: {:?}", plain.loss);
        for other in [scaled, moved] {
            assert_eq!(plain.success, other.success);
            for &i in &compared {
                let row = |found: &ClassifierOutcome| found.worst.slice(0, i, 1).to_vec::<f64>();
                for (a, b) in row(&plain).iter().zip(row(&other)) {
                    // The floor of the denominator, 1e-12, is all that tells the scales apart.
                    assert!((a - b).abs() < 1e-9, "{norm}: {a} {b}");
                }
            }
        }
    }
}

#[test]
fn names_of_classes_change_nothing() {
    let f = network(4, 10, 5, DType::F64);
    let labels: Vec<u32> = (0..N as u32).map(|i| i % 5).collect();
    let order = Array::new(&cpu(), [5], &[3u32, 0, 4, 1, 2]);
    let renamed = |u: &Tensor| f(u).gather(1, &order);
    let name = [1u32, 3, 4, 0, 2];
    let new: Vec<u32> = labels.iter().map(|&y| name[y as usize]).collect();
    let threat = Threat::linf(0.05);
    let (a, b) = (attack(&|u| f(u), &labels, &threat, &steps()), attack(&renamed, &new, &threat, &steps()));
    assert_eq!((a.success, a.margin), (b.success, b.margin));
    assert_eq!(a.worst.to_vec::<f64>(), b.worst.to_vec::<f64>());
}

/// A longer attack passes through all points of a shorter one, and the union of restarts only grows.
#[test]
fn more_steps_and_restarts_never_lose() {
    let f = network(5, 10, 5, DType::F64);
    let labels: Vec<u32> = (0..N as u32).map(|i| i % 5).collect();
    for norm in Norm::ALL {
        let epsilon = if norm == Norm::L0 { 2.0 } else { 0.05 };
        let mut before: Option<ClassifierOutcome> = None;
        for count in [0, 1, 2, 5, 9, 20] {
            let config = Pgd { steps: count, restarts: 1, momentum: 0.5, ..steps() };
            let now = attack(&|u| f(u), &labels, &Threat::new(norm, epsilon), &config);
            if let Some(before) = before {
                for i in 0..N {
                    assert!(now.success[i] >= before.success[i] && now.loss[i] >= before.loss[i], "{norm}");
                }
            }
            before = Some(now);
        }
    }
}

#[test]
fn no_radius_is_no_attack() {
    let f = network(6, 10, 5, DType::F64);
    let x = unit(1, N, 10, DType::F64);
    let labels: Vec<u32> = (0..N as u32).map(|i| i % 5).collect();
    let clean = verdicts(&f(&x), &labels);
    for norm in Norm::ALL {
        for start in [Start::Clean, Start::Random, Start::HalfSigns, Start::Spectral] {
            let found = attack(&|u| f(u), &labels, &Threat::new(norm, 0.0), &Pgd { start, ..steps() });
            assert_eq!(found.worst.to_vec::<f64>(), x.to_vec::<f64>());
            assert_eq!(found.success, clean.iter().map(|v| v.success).collect::<Vec<_>>());
        }
    }
}

/// A small ReLU network of two inputs: the least margin in the ball on a grid of 400 × 400 points. The attack
/// may beat the grid by its mesh times the slope of the network, and may not miss it by more.
#[test]
fn a_network_of_two_inputs_against_its_grid() {
    let f = network(7, 2, 3, DType::F64);
    let n = 12;
    let x = unit(8, n, 2, DType::F64);
    let labels: Vec<u32> = f(&x).argmax(1).to_vec();
    let points = x.to_vec::<f64>();
    let side = 400;
    for norm in [Norm::Linf, Norm::L2, Norm::L1] {
        let epsilon = 0.15;
        let threat = Threat::new(norm, epsilon);
        let config = Pgd { steps: 60, step_size: 0.01, restarts: 12, ..Pgd::default() };
        let found =
            attack_classifier(&|u| f(u), &x, &labels, LabelLoss::Margin, &threat, &config, &keys(9, n));
        for i in 0..n {
            let (a, b) = (points[2 * i], points[2 * i + 1]);
            let place = |k: usize| -epsilon + 2.0 * epsilon * k as f64 / (side - 1) as f64;
            let mut grid = Vec::new();
            for k in 0..side * side {
                let (da, db) = (place(k / side), place(k % side));
                let inside = norm.length([da, db]) <= epsilon;
                if inside && (0.0..=1.0).contains(&(a + da)) && (0.0..=1.0).contains(&(b + db)) {
                    grid.extend([a + da, b + db]);
                }
            }
            let m = grid.len() / 2;
            let z = f(&Tensor::new(&cpu(), [m, 2], &grid));
            let least = verdicts(&z, &vec![labels[i]; m]).iter().map(|v| v.margin).fold(f64::MAX, f64::min);
            // Mesh 7.5e-4; slopes of this network are below 40.
            let slack = 7.5e-4 * 40.0;
            assert!((found.margin[i] - least).abs() < slack, "{norm} {i}: {} but {least}", found.margin[i]);
        }
    }
}

/// Two steps of MI-FGSM and the step of R+FGSM, written out.
#[test]
fn momentum_and_half_steps_are_their_formulas() {
    let (n, d, epsilon) = (3, 6, 0.08);
    let x = unit(10, n, d, DType::F64).mul_scalar(0.5).add_scalar(0.25);
    let f = network(11, d, 1, DType::F64);
    let slope = |u: &Tensor| value_and_grad(u, |u| f(u).sum_all()).1;
    let objective = |u: &Tensor, rows: &[usize]| f(u).reshape([rows.len()]);
    let scaled = |g: &Tensor| g / &g.abs().sum(1);
    let config = Pgd { steps: 2, include_clean: false, ..Pgd::momentum_iterative(epsilon) };
    let visited = std::cell::RefCell::new(Vec::new());
    let watched = |u: &Tensor, rows: &[usize]| {
        visited.borrow_mut().push(u.to_vec::<f64>());
        objective(u, rows)
    };
    pgd(&x, &watched, &Threat::linf(epsilon), &config, &keys(12, n));
    let first = scaled(&slope(&x));
    let u = &x + &first.sign().mul_scalar(epsilon / 10.0);
    let second = &first + &scaled(&slope(&u));
    let end = &u + &second.sign().mul_scalar(epsilon / 10.0);
    let close = |a: &[f64], b: &Tensor| a.iter().zip(b.to_vec::<f64>()).all(|(a, b)| (a - b).abs() < 1e-15);
    let visited = visited.into_inner();
    assert_eq!(visited.len(), 3);
    assert!(close(&visited[0], &x) && close(&visited[1], &u) && close(&visited[2], &end));

    let visited = std::cell::RefCell::new(Vec::new());
    let watched = |u: &Tensor, rows: &[usize]| {
        visited.borrow_mut().push(u.to_vec::<f64>());
        objective(u, rows)
    };
    let config = Pgd { include_clean: false, ..Pgd::random_fgsm(epsilon) };
    pgd(&x, &watched, &Threat::linf(epsilon), &config, &keys(12, n));
    let visited = visited.into_inner();
    let half = Tensor::new(&cpu(), [n, d], &visited[0]);
    let offsets = (&half - &x).to_vec::<f64>();
    assert!(
        offsets.iter().all(|v| (v.abs() - epsilon / 2.0).abs() < 1e-15) && offsets.iter().any(|v| *v < 0.0)
    );
    assert!(close(&visited[1], &(&half + &slope(&half).sign().mul_scalar(epsilon / 2.0))));
}

/// With levels, every point that is evaluated and returned can be written in 8 bits, and small
/// steps are not lost: the iterate moves between the levels, only evaluated points are quantized.
#[test]
fn attacks_on_levels_return_levels() {
    let (n, d) = (6, 9);
    let levels: Vec<f32> =
        unit(13, n, d, DType::F32).to_vec::<f32>().iter().map(|v| (v * 255.0).round() / 255.0).collect();
    let x = Tensor::new(&cpu(), [n, d], &levels);
    let w = normal(14, d, 1, DType::F32);
    let rise = |u: &Tensor, rows: &[usize]| u.matmul(&w).reshape([rows.len()]);
    for (norm, epsilon) in [(Norm::Linf, 8.001 / 255.0), (Norm::L2, 0.1), (Norm::L1, 0.2), (Norm::L0, 2.0)] {
        let threat = Threat { levels: Some(256), ..Threat::new(norm, epsilon) };
        let config = Pgd { steps: 40, step_size: epsilon / 20.0, start: Start::Clean, ..Pgd::default() };
        let found = pgd(&x, &rise, &threat, &config, &keys(15, n));
        let values = found.best.to_vec::<f32>();
        assert!(values.iter().all(|v| *v == (v * 255.0).round() / 255.0), "{norm}: off the levels");
        let clean = rise(&x, &[0; 6]).to_vec::<f32>();
        assert!(found.value.iter().zip(clean).all(|(v, c)| *v > f64::from(c)), "{norm}: nothing moved");
        if norm == Norm::Linf {
            // Every coordinate can move eight levels, unless the box is nearer.
            let step = w.sign().to_vec::<f32>();
            for (i, (u, x)) in values.iter().zip(&levels).enumerate() {
                let wanted = (x + step[i % d] * 8.0 / 255.0).clamp(0.0, 1.0);
                assert!((u - wanted).abs() < 1e-6, "{u} but {wanted}");
            }
        }
    }
}
