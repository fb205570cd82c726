//! Augmentation of batches of bytes: the launch of `kernels/augment.cu`.

use crate::driver::Block;
use crate::gpu::Gpu;
use crate::kernels::Element;
use crate::launch::THREADS;
use std::sync::Arc;
use tarrl_tensor::extensions::{AugmentBatch, ColorTransform, DeviceTransform};

pub(crate) fn apply(gpu: &Arc<Gpu>, batch: &AugmentBatch<'_>) -> Block {
    let kernel = "augment";
    let AugmentBatch { shape: [n, h, w, c], images, transforms, kernel: width, weights } = *batch;
    let len = n * h * w * c;
    assert!(
        images.len() == len && transforms.len() == n && weights.len() == n * width && [1, 3].contains(&c),
        "{kernel}: {} bytes, {} transforms and {} weights for views of {:?}",
        images.len(),
        transforms.len(),
        weights.len(),
        batch.shape
    );
    transforms.iter().for_each(|transform| check(transform, [h, w], width));
    let views = gpu.block(kernel, 4 * len);
    if len == 0 {
        return views;
    }
    let words: Vec<u32> = transforms.iter().flat_map(words).collect();
    let images = gpu.expect(kernel, Block::upload(gpu, images));
    let transforms = gpu.expect(kernel, Block::upload(gpu, &words));
    let weights = gpu.expect(kernel, Block::upload(gpu, weights));
    let spare = gpu.block(kernel, if width > 0 { 4 * len } else { 0 });
    let launch = gpu.launch(kernel, Element::Named).arg(&images).arg(&transforms).arg(&weights).arg(width);
    launch.arg(&views).arg(&spare).arg(h).arg(w).arg(c).run([n, 1], [THREADS, 1]);
    views
}

/// What the kernel would read out of bounds for.
#[track_caller]
fn check(transform: &DeviceTransform, [h, w]: [usize; 2], kernel: usize) {
    let [top, left, height, width] = transform.window;
    let inside = |at: i32, length: i32, side: usize| at >= 0 && length > 0 && (at + length) as usize <= side;
    let whole = height as usize == h && width as usize == w;
    assert!(
        whole || inside(top, height, h) && inside(left, width, w),
        "augment: a window {:?} is not inside an image of {h}×{w}",
        transform.window
    );
    assert!(
        !transform.blur || kernel % 2 == 1 && kernel / 2 < h.min(w),
        "augment: a blur of {kernel} does not suit an image of {h}×{w}"
    );
}

/// The structure as the kernel has it.
fn words(transform: &DeviceTransform) -> [u32; 16] {
    let mut words = [0; 16];
    words[..4].copy_from_slice(&transform.window.map(i32::cast_unsigned));
    words[4..8].copy_from_slice(
        &[transform.flip, transform.gray, transform.blur, transform.solarize].map(u32::from),
    );
    for (i, color) in transform.colors.iter().enumerate() {
        let (op, by) = match *color {
            ColorTransform::Keep => (0, 0.0),
            ColorTransform::Brightness(by) => (1, by),
            ColorTransform::Contrast(by) => (2, by),
            ColorTransform::Saturation(by) => (3, by),
            ColorTransform::Hue(by) => (4, by),
        };
        words[8 + i] = op;
        words[12 + i] = f32::to_bits(by);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_is_laid_out_as_the_kernels_structure() {
        let colors = [
            ColorTransform::Hue(0.5),
            ColorTransform::Keep,
            ColorTransform::Contrast(2.0),
            ColorTransform::Brightness(1.0),
        ];
        let transform =
            DeviceTransform { window: [-1, 2, 3, 4], gray: true, colors, ..DeviceTransform::default() };
        let found = words(&transform);
        assert_eq!(found[..8], [u32::MAX, 2, 3, 4, 0, 1, 0, 0]);
        assert_eq!(found[8..12], [4, 0, 2, 1]);
        assert_eq!(found[12..].iter().map(|&w| f32::from_bits(w)).collect::<Vec<_>>(), [0.5, 0.0, 2.0, 1.0]);
    }

    #[test]
    #[should_panic(expected = "is not inside an image of 8×8")]
    fn a_window_that_leaves_the_image_is_refused() {
        check(&DeviceTransform { window: [4, 0, 5, 3], ..DeviceTransform::default() }, [8, 8], 0);
    }
}
