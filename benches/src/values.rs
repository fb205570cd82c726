//! Random operands.

use tarrl_tensor::{DType, Device, Key, Random, Tensor};

/// F32 numbers uniform in `[0, 1)`: images, or operands of a kernel without special values.
///
/// # Panics
/// If `shape` has no axis.
pub fn uniform(device: &Device, shape: &[usize], key: Key) -> Tensor {
    let keys: Vec<Key> = (0..shape[0]).map(|row| key.fold(row)).collect();
    Tensor::random(device, Random::Uniform, &keys, &shape[1..], DType::F32)
}
