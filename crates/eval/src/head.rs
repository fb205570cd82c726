//! Linear heads on a device, so that gradients flow through them into the encoder.

use tarrl_bound::LinearHead;
use tarrl_tensor::{DType, Device, Tensor};

/// A linear map `W z + b` as tensors on the device of the images.
///
/// The head is a constant: attacks differentiate through it, nothing trains it. Heads that are trained along with an
/// encoder have named parameters and belong to `tarrl-train`, which may not depend on this crate.
#[derive(Clone, Debug)]
pub struct DeviceHead {
    /// `(d, k)`, the transpose of `W`.
    weight: Tensor,
    /// `(1, k)`.
    bias: Tensor,
}

impl DeviceHead {
    /// `head` on `device`, in the precision `dtype` of the representations that it will see.
    pub fn new(head: &LinearHead, device: &Device, dtype: DType) -> Self {
        Self::from_rows(head.weight(), head.bias(), device, dtype)
    }

    /// A head with `weight (k, d)`, row-major, and `bias (k)`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    #[track_caller]
    pub fn from_rows(weight: &[f64], bias: &[f64], device: &Device, dtype: DType) -> Self {
        let k = bias.len();
        assert!(
            k > 0 && weight.len().is_multiple_of(k),
            "DeviceHead: {} weights for {k} outputs",
            weight.len()
        );
        let tensor = |shape: [usize; 2], values: &[f64]| Tensor::new(device, shape, values).cast(dtype);
        Self { weight: tensor([k, weight.len() / k], weight).t(), bias: tensor([1, k], bias) }
    }

    /// Outputs `(n, k)` for representations `(n, d)`.
    #[track_caller]
    pub fn forward(&self, z: &Tensor) -> Tensor {
        &z.matmul(&self.weight) + &self.bias
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{Cpu, Key, Transpose};

    #[test]
    fn logits_on_the_device_equal_those_of_the_head() {
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        let head = LinearHead::new(2, 3, vec![1.0, 2.0, 3.0, -1.0, 0.5, 0.25], vec![0.5, -4.0]);
        let z = Tensor::new(&device, [2, 3], &[1.0f32, 1.0, 1.0, 2.0, 0.0, -1.0]);
        let found = DeviceHead::new(&head, &device, DType::F32).forward(&z).to_vec::<f32>();
        let want: Vec<f64> =
            [[1.0, 1.0, 1.0], [2.0, 0.0, -1.0]].iter().flat_map(|z| head.logits(z)).collect();
        assert_eq!(found.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_transposed_copy_of_the_weight_gives_the_same_bits_as_a_transposed_product() {
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        let mut stream = Key::new(3).stream();
        for (n, d, k) in [(1, 7, 2), (37, 128, 10), (64, 515, 3), (5, 32, 1)] {
            let mut values = |len: usize| -> Vec<f64> { (0..len).map(|_| stream.normal()).collect() };
            let (z, weight, bias) = (values(n * d), values(k * d), values(k));
            let z = Tensor::new(&device, [n, d], &z).cast(DType::F32);
            let w = Tensor::new(&device, [k, d], &weight).cast(DType::F32);
            let b = Tensor::new(&device, [k], &bias).cast(DType::F32);
            let want = &z.matmul_with(&w, Transpose::RIGHT) + &b;
            let found = DeviceHead::from_rows(&weight, &bias, &device, DType::F32).forward(&z);
            assert_eq!(found.to_vec::<f32>(), want.to_vec::<f32>(), "{n} × {d} × {k}");
        }
    }
}
