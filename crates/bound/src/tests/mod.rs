//! Tests of the theorems; those of one file stand in it.

mod golden;
mod heads;
mod inner;
mod regularizer;
mod shrunken;
mod stochastic;
mod theorems;

use proptest::prelude::ProptestConfig;
use tarrl_tensor::{DType, Key, Random, Tensor, cpu};

fn keys(seed: u64, n: usize) -> Vec<Key> {
    (0..n).map(|i| Key::new(seed).fold("sample").fold(i)).collect()
}

/// Normal numbers `(n, d)` in f64.
fn normal(seed: u64, n: usize, d: usize) -> Tensor {
    Tensor::random(&cpu(), Random::Normal, &keys(seed, n), &[d], DType::F64)
}

/// 1024 cases, and in proportion to PROPTEST_CASES.
fn thousand() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: 4 * usual.cases, ..usual }
}
