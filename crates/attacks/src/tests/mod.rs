//! Tests of the attacks as a whole; those of one file stand in it.

mod accounting;
mod closed_forms;
mod eot;
mod exact_sums;
mod feasible;
mod gradient_masking;
mod invariance;
mod losses;
mod metamorphic;
mod minimal_norm;
mod minimal_norm_faces;
mod minimal_norm_resume;
mod pgd_resume;
mod representation;
mod stored_states;

use proptest::prelude::*;
use tarrl_tensor::{DType, Key, Random, Tensor, cpu};

fn keys(seed: u64, n: usize) -> Vec<Key> {
    (0..n).map(|i| Key::new(seed).fold("sample").fold(i)).collect()
}

/// Normal numbers `(rows, columns)`.
fn normal(seed: u64, rows: usize, columns: usize, dtype: DType) -> Tensor {
    Tensor::random(&cpu(), Random::Normal, &keys(seed, rows), &[columns], dtype)
}

/// Numbers in `[0, 1)`, `(n, d)`.
fn unit(seed: u64, n: usize, d: usize, dtype: DType) -> Tensor {
    Tensor::random(&cpu(), Random::Uniform, &keys(seed, n), &[d], dtype)
}

/// A small network `(m, d)` to `(m, k)`.
fn network(seed: u64, d: usize, k: usize, dtype: DType) -> impl Fn(&Tensor) -> Tensor {
    let (first, second) = (normal(seed, d, 12, dtype), normal(!seed, 12, k, dtype));
    move |x: &Tensor| x.add_scalar(-0.5).matmul(&first).relu().matmul(&second)
}

/// Gray levels `k / 255`, black and white often.
pub(crate) fn pixel() -> impl Strategy<Value = f32> {
    prop_oneof![Just(0u8), Just(255), any::<u8>()].prop_map(|level| f32::from(level) / 255.0)
}
