//! Random views of images that go up as bytes.

use crate::gpu::Gpu;
use crate::launch::THREADS;
use crate::memory::Block;
use crate::programs::Element;
use std::sync::Arc;
use tarrl_tensor::{Brush, Color, Painting};

pub(crate) fn paint(gpu: &Arc<Gpu>, painting: &Painting<'_>) -> Block {
    let kernel = "paint";
    let Painting { shape: [n, h, w, c], images, brushes, kernel: width, weights } = *painting;
    let len = n * h * w * c;
    assert!(
        images.len() == len && brushes.len() == n && weights.len() == n * width && [1, 3].contains(&c),
        "{kernel}: {} bytes, {} brushes and {} weights for views of {:?}",
        images.len(),
        brushes.len(),
        weights.len(),
        painting.shape
    );
    brushes.iter().for_each(|brush| check(brush, [h, w], width));
    let views = gpu.block(kernel, 4 * len);
    if len == 0 {
        return views;
    }
    let words: Vec<u32> = brushes.iter().flat_map(words).collect();
    let images = gpu.expect(kernel, Block::upload(gpu, images));
    let brushes = gpu.expect(kernel, Block::upload(gpu, &words));
    let weights = gpu.expect(kernel, Block::upload(gpu, weights));
    let spare = gpu.block(kernel, if width > 0 { 4 * len } else { 0 });
    let launch = gpu.launch(kernel, Element::Named).arg(&images).arg(&brushes).arg(&weights).arg(width);
    launch.arg(&views).arg(&spare).arg(h).arg(w).arg(c).run([n, 1], [THREADS, 1]);
    views
}

/// What the kernel would read out of bounds for.
#[track_caller]
fn check(brush: &Brush, [h, w]: [usize; 2], kernel: usize) {
    let [top, left, height, width] = brush.window;
    let inside = |at: i32, length: i32, side: usize| at >= 0 && length > 0 && (at + length) as usize <= side;
    let whole = height as usize == h && width as usize == w;
    assert!(
        whole || inside(top, height, h) && inside(left, width, w),
        "paint: a window {:?} is not inside an image of {h}×{w}",
        brush.window
    );
    assert!(
        !brush.blur || kernel % 2 == 1 && kernel / 2 < h.min(w),
        "paint: a blur of {kernel} does not suit an image of {h}×{w}"
    );
}

/// The structure as the kernel has it.
fn words(brush: &Brush) -> [u32; 16] {
    let mut words = [0; 16];
    words[..4].copy_from_slice(&brush.window.map(i32::cast_unsigned));
    words[4..8].copy_from_slice(&[brush.flip, brush.gray, brush.blur, brush.solarize].map(u32::from));
    for (i, color) in brush.colors.iter().enumerate() {
        let (op, by) = match *color {
            Color::Keep => (0, 0.0),
            Color::Brightness(by) => (1, by),
            Color::Contrast(by) => (2, by),
            Color::Saturation(by) => (3, by),
            Color::Hue(by) => (4, by),
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
    fn a_brush_has_the_places_of_the_kernels_structure() {
        let colors = [Color::Hue(0.5), Color::Keep, Color::Contrast(2.0), Color::Brightness(1.0)];
        let brush = Brush { window: [-1, 2, 3, 4], gray: true, colors, ..Brush::default() };
        let found = words(&brush);
        assert_eq!(found[..8], [u32::MAX, 2, 3, 4, 0, 1, 0, 0]);
        assert_eq!(found[8..12], [4, 0, 2, 1]);
        assert_eq!(found[12..].iter().map(|&w| f32::from_bits(w)).collect::<Vec<_>>(), [0.5, 0.0, 2.0, 1.0]);
    }

    #[test]
    #[should_panic(expected = "is not inside an image of 8×8")]
    fn a_window_that_leaves_the_image_is_refused() {
        check(&Brush { window: [4, 0, 5, 3], ..Brush::default() }, [8, 8], 0);
    }
}
