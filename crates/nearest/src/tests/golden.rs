//! Small networks whose nearest mistakes are known exactly, from linear and quadratic programs over their activation
//! patterns, by hand.

use super::{constant, point, run};
use crate::{Nearest, NearestOutcome};
use tarrl_attacks::Norm;
use tarrl_tensor::{Tensor, cpu};

/// z₀ = 0, z₁ = 3 x₁ − 2 x₂ + x₃ − 3.7, z₂ = 5 x₄ − 4.5: class 1 is the nearest in l2 and l-infinity, class 2 in l1 and
/// l0.
fn linear(u: &Tensor) -> Tensor {
    let w = Tensor::new(&cpu(), [4, 2], &[3.0f32, 0.0, -2.0, 0.0, 1.0, 0.0, 0.0, 5.0]);
    let z = u.matmul(&w);
    let bias = |column: usize, by: f64| z.slice(1, column, 1).add_scalar(by);
    Tensor::concat(&[&constant(u, 0.0), &bias(0, -3.7), &bias(1, -4.5)], 1)
}

/// z₀ = 1.1, z₁ = relu(x₁) + 4 relu(x₂ − 0.5): the slope towards the nearest mistake is zero at the sample.
fn hidden_slope(u: &Tensor) -> Tensor {
    let column = |i: usize, by: f64| u.slice(1, i, 1).add_scalar(by).relu();
    Tensor::concat(&[&constant(u, 1.1), &(&column(0, 0.0) + &column(1, -0.5).mul_scalar(4.0))], 1)
}

/// z₀ = 1.5, z₁ = relu(x₁) + 2 relu(x₂) − 2 relu(x₂ − 0.4): the nearest mistake is the corner (0.7, 0.4) of two faces.
fn corner(u: &Tensor) -> Tensor {
    let column = |i: usize, by: f64| u.slice(1, i, 1).add_scalar(by).relu();
    let second = &column(1, 0.0) - &column(1, -0.4);
    Tensor::concat(&[&constant(u, 1.5), &(&column(0, 0.0) + &second.mul_scalar(2.0))], 1)
}

const A: [f32; 4] = [0.5, 0.25, 0.9, 0.4];
const BC: [f32; 2] = [0.2, 0.3];

type Network = (&'static str, fn(&Tensor) -> Tensor, &'static [f32], [(Norm, f64); 4]);

/// Exact distances within the box [0, 1], of label 0.
const NETWORKS: [Network; 3] = [
    ("linear", linear, &A, [(Norm::L2, 0.482_182_5), (Norm::Linf, 0.4), (Norm::L1, 0.5), (Norm::L0, 1.0)]),
    (
        "hidden slope",
        hidden_slope,
        &BC,
        [(Norm::L2, 0.412_310_6), (Norm::Linf, 0.34), (Norm::L1, 0.425), (Norm::L0, 1.0)],
    ),
    ("corner", corner, &BC, [(Norm::L2, 0.509_902_0), (Norm::Linf, 0.5), (Norm::L1, 0.6), (Norm::L0, 1.0)]),
];

#[track_caller]
fn check(what: &str, norm: Norm, found: &NearestOutcome, exact: f64, slack: f64) {
    let distance = found.distance[0];
    // The lower end is the rounding of coordinates to f32.
    let good = if norm == Norm::L0 {
        distance == exact
    } else {
        (exact * (1.0 - 1e-5)..=exact * (1.0 + slack)).contains(&distance)
    };
    assert!(good, "{what} in {norm}: {distance}, exact is {exact}, by {:?}", found.by[0]);
    assert!(found.margin[0] <= 0.0 && found.point.to_vec::<f32>().iter().all(|v| (0.0..=1.0).contains(v)));
}

/// The scale of the scores does not matter.
#[test]
fn the_ensemble_finds_the_exact_distances() {
    for (name, network, x, exact) in NETWORKS {
        for scale in [1.0, 1e-3, 1e3] {
            let scores = |u: &Tensor| network(u).mul_scalar(scale);
            for (norm, exact) in exact {
                let plan = Nearest::ensemble(norm);
                let found = run(&plan, norm, &scores, &point(x), &[0], Some(2000));
                check(&format!("{name} times {scale}"), norm, &found, exact, 1e-3);
                assert!(found.forward[0] + found.backward[0] <= 2000);
            }
        }
    }
}
