//! Tests of the theorems of docs/theory.md; unit tests of one file stand in that file.

mod bound_chain;
mod encoder_checks;
mod extremes;
mod inner_maximizers;
mod linear_head;
mod other_heads;
mod rank_keeping;
mod regularizer;
mod stochastic;
mod tightness;

use proptest::prelude::ProptestConfig;
use tarrl_tensor::{DType, Key, Random, Tensor, cpu};

fn keys(seed: u64, n: usize) -> Vec<Key> {
    (0..n).map(|i| Key::new(seed).fold("sample").fold(i)).collect()
}

/// Normal numbers `(n, d)` in f64.
fn normal(seed: u64, n: usize, d: usize) -> Tensor {
    Tensor::random(&cpu(), Random::Normal, &keys(seed, n), &[d], DType::F64)
}

/// 1024 cases, or as many as PROPTEST_CASES says, which wins over any number in the code.
fn thousand() -> ProptestConfig {
    ProptestConfig::with_cases(1024)
}
