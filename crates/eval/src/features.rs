//! Feature extraction: representations of whole datasets, and images as tensors.

use tarrl_data::Dataset;
use tarrl_tensor::{Array, Device, Tensor};

/// The features of every image of `data`, in order and without augmentation: `(n, d)`, a constant.
///
/// `encoder` maps pixels `(b, h, w, c)` in [0, 1] to features `(b, d)` and is in inference mode, so that
/// `batch` decides about memory alone.
///
/// # Panics
/// If `batch` is zero or the encoder returns anything but one row per image.
#[track_caller]
pub fn features(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    data: &Dataset,
    device: &Device,
    batch: usize,
) -> Tensor {
    let all: Vec<usize> = (0..data.len()).collect();
    assert!(batch > 0, "features: a batch needs at least one image");
    let parts: Vec<Tensor> =
        all.chunks(batch).map(|part| encode(encoder, &pixels(data, part, device))).collect();
    Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
}

/// The images at `indices` as pixels in [0, 1], `(indices.len(), h, w, c)`.
#[track_caller]
pub fn pixels(data: &Dataset, indices: &[usize], device: &Device) -> Tensor {
    Array::from_ndarray(device, &data.batch(indices)).into()
}

/// All images of `data` as pixels in [0, 1], `(n, h, w, c)`.
pub fn dataset_pixels(data: &Dataset, device: &Device) -> Tensor {
    pixels(data, &(0..data.len()).collect::<Vec<_>>(), device)
}

/// Labels in the type that losses take.
pub fn labels(data: &[u16]) -> Vec<u32> {
    data.iter().map(|&label| label.into()).collect()
}

/// The features of a batch as a constant `(n, d)`, checked.
#[track_caller]
pub(crate) fn encode(encoder: &dyn Fn(&Tensor) -> Tensor, x: &Tensor) -> Tensor {
    let z = encoder(x).detach();
    assert!(
        z.shape().rank() == 2 && z.shape()[0] == x.shape()[0],
        "an encoder maps images {:?} to one row each, not to {:?}",
        x.shape(),
        z.shape()
    );
    z
}

/// The rows of `x (n, …)` at `indices`.
#[track_caller]
pub(crate) fn rows(x: &Tensor, indices: &[usize]) -> Tensor {
    let index: Vec<u32> = indices.iter().map(|&i| i as u32).collect();
    x.gather(0, &Array::new(x.device(), [index.len()], &index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array4;
    use tarrl_tensor::Cpu;

    #[test]
    fn batches_change_nothing_and_keep_the_order() {
        let images = Array4::from_shape_fn((7, 2, 2, 1), |(i, y, x, _)| (40 * i + 10 * y + x) as u8);
        let data = Dataset::new("seven", images, vec![0; 7], vec!["one".into()]);
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        let encoder = |x: &Tensor| x.reshape([x.shape()[0], 4]).requires_grad().mul_scalar(255.0);
        let whole = features(&encoder, &data, &device, 100);
        assert!(!whole.tracks_grad() && whole.shape()[..] == [7, 4]);
        assert_eq!(whole.to_vec::<f32>()[4 * 3..4 * 3 + 4], [120.0, 121.0, 130.0, 131.0]);
        for batch in [1, 2, 3, 7] {
            assert_eq!(features(&encoder, &data, &device, batch).to_vec::<f32>(), whole.to_vec::<f32>());
        }
    }

    #[test]
    #[should_panic(expected = "one row each")]
    fn an_encoder_that_returns_maps_is_refused() {
        let data = Dataset::new("one", Array4::zeros((1, 2, 2, 1)), vec![0], vec!["one".into()]);
        features(&|x: &Tensor| x.clone(), &data, &Cpu::default().open(), 1);
    }
}
