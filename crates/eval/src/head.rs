//! A linear head as tensors, so that gradients go through it into the encoder.

use tarrl_bound::LinearHead;
use tarrl_tensor::Tensor;

/// A head on the device and in the precision of the images it will see.
pub(crate) struct HeadOnDevice {
    /// `(d, k)`.
    weight: Tensor,
    /// `(1, k)`.
    bias: Tensor,
}

impl HeadOnDevice {
    /// The head where `images` are.
    pub(crate) fn new(head: &LinearHead, images: &Tensor) -> HeadOnDevice {
        let (k, d) = (head.classes(), head.features());
        let put = |shape: [usize; 2], v: &[f64]| Tensor::new(images.device(), shape, v).cast(images.dtype());
        HeadOnDevice { weight: put([k, d], head.weight()).t(), bias: put([1, k], head.bias()) }
    }

    /// Logits `(n, k)` of representations `(n, d)`.
    #[track_caller]
    pub(crate) fn logits(&self, z: &Tensor) -> Tensor {
        &z.matmul(&self.weight) + &self.bias
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{Cpu, Tensor};

    #[test]
    fn the_tensors_compute_the_head() {
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        let head = LinearHead::new(2, 3, vec![1.0, 2.0, 3.0, -1.0, 0.5, 0.25], vec![0.5, -4.0]);
        let z = Tensor::new(&device, [2, 3], &[1.0f32, 1.0, 1.0, 2.0, 0.0, -1.0]);
        let found = HeadOnDevice::new(&head, &z).logits(&z).to_vec::<f32>();
        let want: Vec<f64> =
            [[1.0, 1.0, 1.0], [2.0, 0.0, -1.0]].iter().flat_map(|z| head.logits(z)).collect();
        assert_eq!(found.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), want);
    }
}
