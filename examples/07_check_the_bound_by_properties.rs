//! Property tests of the theorems: check the bound on random heads, images and perturbations of an encoder of your own.
//!
//! `cargo run -p tarrl-examples --example 07_check_the_bound_by_properties`; `PROPTEST_CASES=1000` takes more cases.
//!
//! Here the encoder is a small network on 6×6 images, written in this file; any closure from images `(n, h, w, c)` to
//! representations `(n, d)` fits. The strategies come with the feature `proptest` of `tarrl-bound`.

#![forbid(unsafe_code)]

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use tarrl_attacks::{Pgd, Threat};
use tarrl_bound::LpNorm;
use tarrl_bound::check::{self, strategies};
use tarrl_tensor::{DType, Key, Random, Tensor, cpu};

/// Neighboring pixels are averaged, then two layers follow.
struct Encoder {
    first: Tensor,
    second: Tensor,
}

impl Encoder {
    const FEATURES: usize = 4;

    fn new(seed: u64) -> Self {
        let matrix = |name: &str, rows: usize, columns: usize| {
            let keys: Vec<Key> = (0..rows).map(|i| Key::new(seed).fold(name).fold(i)).collect();
            let scale = (1.0 / rows as f64).sqrt();
            Tensor::random(&cpu(), Random::Normal, &keys, &[columns], DType::F64).mul_scalar(scale)
        };
        Encoder { first: matrix("first", 18, 10), second: matrix("second", 10, Self::FEATURES) }
    }

    /// `(n, 6, 6, 1)` to `(n, 4)`
    fn encode(&self, x: &Tensor) -> Tensor {
        let n = x.shape()[0];
        let pairs = x.reshape([n, 18, 2]).mean(2).reshape([n, 18]);
        pairs.matmul(&self.first).relu().matmul(&self.second)
    }

    /// An upper bound of the displacement within the ball: the product of the norms of its parts. Averaging has
    /// norm `1/√2`, the Frobenius norm stands for the spectral one, and a ReLU never stretches.
    fn certificate(&self, n: usize, threat: &Threat) -> Vec<f64> {
        let norm = |w: &Tensor| w.square().sum_all().item().sqrt();
        let product = norm(&self.first) * norm(&self.second) / 2f64.sqrt();
        // In l-infinity the ball lies in the l2 ball of √36 times the radius; rounding gets a share of 1e-12.
        vec![6.0 * threat.epsilon * product * (1.0 + 1e-12); n]
    }
}

/// Prints how many cases were checked, and what an attack reaches of what the norms allow.
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let encoder = Encoder::new(7);
    let encode = |x: &Tensor| encoder.encode(x);
    let cases = cases();

    let inputs = strategies::images([3, 6, 6, 1]);
    check_all(&(inputs, any::<u64>()), |(x, seed)| {
        check::rows_are_independent(&encode, &x, 1e-12)?;
        let pgd = Pgd { steps: 8, ..Pgd::default() };
        let attack = |epsilon: f64| {
            let pgd = Pgd { step_size: epsilon / 3.0, ..pgd };
            check::displacements(&encode, &x, &Threat::linf(epsilon), &pgd, Key::new(seed))
        };
        let certificate = |epsilon: f64| encoder.certificate(3, &Threat::linf(epsilon));
        check::is_zero_at_zero_epsilon(&attack)?;
        check::is_zero_at_zero_epsilon(&certificate)?;
        // An attack may find less in a larger ball, a certificate may not.
        check::is_monotone_in_epsilon(&attack, &[0.01, 0.05, 0.2], 0.2)?;
        check::is_monotone_in_epsilon(&certificate, &[0.01, 0.05, 0.2], 0.0)?;
        for epsilon in [0.01, 0.1] {
            check::attack_is_below_certificate(&attack(epsilon), &certificate(epsilon))?;
        }
        Ok(())
    })?;
    println!("{cases} batches: rows are independent; attack ≤ certificate; both rise from zero");

    let moved = (strategies::images([3, 6, 6, 1]), strategies::threats())
        .prop_flat_map(|(x, threat)| (Just(x.clone()), strategies::perturbations(&x, &threat)));
    let d = Encoder::FEATURES;
    let heads = (strategies::linear_heads(d), strategies::mlp_heads(d), strategies::normalized_heads(d));
    check_all(&(moved, heads), |((x, moved), (linear, hidden, cosine))| {
        check::bound_holds(&encode, &linear, &x, &moved, &[0, 1, 0])?;
        check::bound_holds(&encode, &hidden, &x, &moved, &[0, 1, 0])?;
        check::bound_holds(&encode, &cosine, &x, &moved, &[0, 1, 0])?;
        check::head_ignores_common_row(&linear, &[1.0, -2.0, 0.5, 3.0], &[0.1, 0.2, 0.3, 0.4])?;
        Ok(())
    })?;
    println!("{cases} perturbations: the bound holds for linear, hidden-layer and cosine heads");

    let keys: Vec<Key> = (0..64usize).map(|i| Key::new(1).fold(i)).collect();
    let x = Tensor::random(&cpu(), Random::Uniform, &keys, &[6, 6, 1], DType::F64);
    let pgd = Pgd { step_size: 0.03, ..Pgd::default() };
    let reached = check::displacements(&encode, &x, &Threat::linf(0.1), &pgd, Key::new(2));
    let mean = reached.iter().sum::<f64>() / reached.len() as f64;
    let allowed = encoder.certificate(64, &Threat::linf(0.1))[0];
    let relative = mean / tarrl_bound::spread(&encode(&x)).item();
    println!("at ε = 0.1 an attack reaches {mean:.3}, {relative:.3} of the spread; norms allow {allowed:.3}");
    assert!(LpNorm::Linf.of(&reached) <= allowed);
    assert!((mean - 0.361).abs() < 5e-4);
    Ok(())
}

/// A quarter of the usual number, so that it takes a second.
fn cases() -> u32 {
    Config::default().cases / 4
}

/// Runs a property on random instances; the message is that of the smallest failure.
fn check_all<S: Strategy>(
    instances: &S,
    property: impl Fn(S::Value) -> Result<(), check::Violation>,
) -> Result<(), TestError<S::Value>> {
    let mut runner =
        TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    runner.run(instances, |instance| Ok(property(instance)?))
}
