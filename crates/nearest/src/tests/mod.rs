//! Tests of the attacks as a whole.

mod golden;
mod invariance;
mod linear_models;

use crate::{Nearest, NearestOutcome, NearestRun, with_scores};
use tarrl_attacks::{Limits, Norm, Threat};
use tarrl_tensor::{Key, Tensor, cpu};

fn keys(seed: u64, n: usize) -> Vec<Key> {
    (0..n).map(|i| Key::new(seed).fold("sample").fold(i)).collect()
}

/// A radius that holds the box of these tests.
const EVERYWHERE: f64 = 100.0;

/// Runs a plan on samples `(n, d)` in the box [0, 1].
fn run(
    plan: &Nearest,
    norm: Norm,
    scores: &dyn Fn(&Tensor) -> Tensor,
    x: &Tensor,
    labels: &[u32],
    budget: Option<u32>,
) -> NearestOutcome {
    let ball = Threat::new(norm, EVERYWHERE).around(x);
    let limits = Limits { budget, ..Limits::default() };
    with_scores(&|u, _| scores(u), labels, &ball, &keys(3, labels.len()), limits, |target| {
        NearestRun::new(plan.clone(), target).run()
    })
}

/// Constant columns `(m, 1)` beside `u` `(m, d)`.
fn constant(u: &Tensor, value: f64) -> Tensor {
    u.slice(1, 0, 1).zeros_like().add_scalar(value)
}

fn point(x: &[f32]) -> Tensor {
    Tensor::new(&cpu(), [1, x.len()], x)
}
