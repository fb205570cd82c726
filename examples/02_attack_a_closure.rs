//! Attacks on a closure: PGD and AutoAttack on any function from inputs to logits.
//!
//! `cargo run -p tarrl-examples --example 02_attack_a_closure`

#![forbid(unsafe_code)]

use tarrl_attacks::{LabelLoss, Pgd, Threat, attack_classifier};
use tarrl_tensor::{Key, Tensor, cpu};

/// Prints how many samples of a linear classifier keep their label, and compares with the exact answer.
pub fn main() {
    let device = cpu();
    let x = Tensor::new(&device, [3, 2], &[0.6f32, 0.2, 0.5, 0.45, 0.2, 0.9]); // (n, d), values in [0, 1]
    let labels = [0, 0, 1];

    // The classifier is a closure from (m, d) to logits (m, classes). Where it comes from does not matter.
    let w = Tensor::new(&device, [2, 2], &[1.0f32, -1.0, -1.0, 1.0]);
    let logits = |u: &Tensor| u.matmul(&w);

    // The threat model is the ball; the attack moves inside of it. Randomness is one key for each sample, so that a result
    // does not depend on the batch.
    let threat = Threat::linf(0.1);
    let pgd = Pgd { early_stop: false, ..Pgd::usual(&threat, 20) };
    let keys: Vec<Key> = (0..3u64).map(|i| Key::new(7).fold(i)).collect();
    let found = attack_classifier(&logits, &x, &labels, LabelLoss::Margin, &threat, &pgd, &keys);

    // Of a linear classifier the least margin is known: that at x, less ε times the l1 norm of the gradient.
    for (i, exact) in [0.8 - 0.4, 0.1 - 0.4, 1.4 - 0.4].into_iter().enumerate() {
        println!("sample {i}: least margin {:.3}, exactly {exact:.3}", found.margin[i]);
        assert!((found.margin[i] - exact).abs() < 1e-6);
    }
    let robust = found.success.iter().filter(|&&broken| !broken).count();
    println!("{robust} of 3 samples keep their label");
    assert_eq!(robust, 2);
}
