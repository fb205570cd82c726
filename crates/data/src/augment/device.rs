//! Augmentation on the device: images are copied there as bytes, and its kernel applies the sampled transforms.

use super::blur;
use super::recipe::{Interpolation, Recipe};
use super::sampled::{ColorOp, SampledTransform};
use tarrl_tensor::extensions::{AugmentBatch, ColorTransform, DeviceTransform};
use tarrl_tensor::{Array, DType, Device};

/// The sampled transforms of one view of a batch, in the form that a device's [`AugmentBackend`] takes.
///
/// [`AugmentBackend`]: tarrl_tensor::extensions::AugmentBackend
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceTransforms {
    transforms: Vec<DeviceTransform>,
    kernel: usize,
    weights: Vec<f32>,
}

impl DeviceTransforms {
    /// Whether a device can apply what `recipe` samples: all but bicubic interpolation and a high-pass, which the host keeps.
    pub fn supports(recipe: &Recipe) -> bool {
        recipe.high_pass == 0 && recipe.interpolation == Interpolation::Bilinear
    }

    /// Of the images of a batch, in their order, all of one recipe that is [supported](DeviceTransforms::supports).
    ///
    /// # Panics
    /// If blurs differ in the width of their kernel.
    #[track_caller]
    pub fn new(sampled: &[SampledTransform]) -> DeviceTransforms {
        let kernel =
            sampled.iter().filter_map(|transform| transform.blur).map(|blur| blur.kernel).max().unwrap_or(0);
        let mut weights = Vec::with_capacity(sampled.len() * kernel);
        for transform in sampled {
            match transform.blur {
                Some(gaussian) => {
                    assert_eq!(
                        gaussian.kernel, kernel,
                        "DeviceTransforms::new: blurs of two widths in one batch"
                    );
                    weights.extend(blur::weights(gaussian));
                }
                None => weights.resize(weights.len() + kernel, 0.0),
            }
        }
        DeviceTransforms { transforms: sampled.iter().map(transform).collect(), kernel, weights }
    }

    /// The view `(n, h, w, c)` of `images`, computed on `device`; `None` if it does not augment.
    ///
    /// # Panics
    /// If images and transforms differ in number, or a transform does not suit the shape.
    #[track_caller]
    pub fn apply(&self, device: &Device, images: &[u8], (h, w, c): (usize, usize, usize)) -> Option<Array> {
        let shape = [self.transforms.len(), h, w, c];
        let DeviceTransforms { transforms, kernel, weights } = self;
        let buffer =
            device.augment()?.apply(&AugmentBatch { shape, images, transforms, kernel: *kernel, weights });
        Some(Array::wrap(device, shape, DType::F32, buffer))
    }
}

fn transform(sampled: &SampledTransform) -> DeviceTransform {
    let window = sampled.window;
    let colors = sampled.jitter.map_or([ColorTransform::Keep; 4], |jitter| {
        jitter.order.map(|op| match op {
            ColorOp::Brightness => ColorTransform::Brightness(jitter.brightness),
            ColorOp::Contrast => ColorTransform::Contrast(jitter.contrast),
            ColorOp::Saturation => ColorTransform::Saturation(jitter.saturation),
            ColorOp::Hue => ColorTransform::Hue(jitter.hue),
        })
    });
    DeviceTransform {
        window: [window.top, window.left, window.height as i32, window.width as i32],
        flip: sampled.flip,
        colors,
        gray: sampled.grayscale,
        blur: sampled.blur.is_some(),
        solarize: sampled.solarize,
    }
}

#[cfg(test)]
mod tests {
    use super::super::recipe::{Blur, View};
    use super::*;
    use tarrl_tensor::{Key, cpu};

    #[test]
    fn device_transforms_equal_the_sampled_ones() {
        let shape = (32, 32, 3);
        let recipe =
            Recipe { blur: Blur { probability: 0.5, ..Blur::default() }, ..View::Strong.recipe(shape) };
        assert!(
            DeviceTransforms::supports(&recipe)
                && !DeviceTransforms::supports(&View::HighFrequency.recipe(shape))
        );
        let sampled: Vec<SampledTransform> =
            (0..40).map(|i| SampledTransform::sample(&recipe, shape, Key::new(3).fold(i as u64))).collect();
        let found = DeviceTransforms::new(&sampled);
        assert_eq!((found.kernel, found.weights.len()), (3, 120));
        for ((one, transform), weights) in sampled.iter().zip(&found.transforms).zip(found.weights.chunks(3))
        {
            assert_eq!((transform.flip, transform.gray), (one.flip, one.grayscale));
            assert_eq!(transform.window[2] as u32, one.window.height);
            match one.blur {
                Some(_) => assert!(transform.blur && (weights.iter().sum::<f32>() - 1.0).abs() < 1e-6),
                None => assert!(!transform.blur && weights == [0.0; 3]),
            }
            match (one.jitter, transform.colors) {
                (None, colors) => assert_eq!(colors, [ColorTransform::Keep; 4]),
                (Some(jitter), colors) => {
                    let at = jitter.order.iter().position(|op| *op == ColorOp::Hue).unwrap();
                    assert_eq!(colors[at], ColorTransform::Hue(jitter.hue));
                    let at = jitter.order.iter().position(|op| *op == ColorOp::Contrast).unwrap();
                    assert_eq!(colors[at], ColorTransform::Contrast(jitter.contrast));
                }
            }
        }
        assert!(sampled.iter().any(|d| d.blur.is_some()) && sampled.iter().any(|d| d.jitter.is_none()));
        assert!(
            found.apply(&cpu(), &vec![0; 40 * 32 * 32 * 3], shape).is_none(),
            "the CPU backend has no augmentation of its own"
        );
    }
}
