//! Draws for a device that paints by itself: images go up as bytes, and the device resamples and colors them.

use super::blur;
use super::draw::{ColorOp, Draw};
use super::recipe::{Interpolation, Recipe};
use tarrl_tensor::{Array, Brush, Color, DType, Device, Painting};

/// The draws of one view of a batch, as a device takes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Brushes {
    brushes: Vec<Brush>,
    kernel: usize,
    weights: Vec<f32>,
}

impl Brushes {
    /// Whether a device can paint what `recipe` draws: all but bicubic enlarging and a high-pass, which the host keeps.
    pub fn suit(recipe: &Recipe) -> bool {
        recipe.high_pass == 0 && recipe.interpolation == Interpolation::Bilinear
    }

    /// The draws of the images of a batch, in their order, all of one recipe that [suits](Brushes::suit).
    ///
    /// # Panics
    /// If blurs differ in the width of their kernel.
    #[track_caller]
    pub fn new(draws: &[Draw]) -> Brushes {
        let kernel = draws.iter().filter_map(|draw| draw.blur).map(|blur| blur.kernel).max().unwrap_or(0);
        let mut weights = Vec::with_capacity(draws.len() * kernel);
        for draw in draws {
            match draw.blur {
                Some(gaussian) => {
                    assert_eq!(gaussian.kernel, kernel, "Brushes::new: blurs of two widths in one batch");
                    weights.extend(blur::weights(gaussian));
                }
                None => weights.resize(weights.len() + kernel, 0.0),
            }
        }
        Brushes { brushes: draws.iter().map(brush).collect(), kernel, weights }
    }

    /// The view `(n, h, w, c)` of `images`, painted on `device`; `None` if that does not paint.
    ///
    /// # Panics
    /// If images and draws differ in number, or a draw does not suit the shape.
    #[track_caller]
    pub fn paint(&self, device: &Device, images: &[u8], (h, w, c): (usize, usize, usize)) -> Option<Array> {
        let shape = [self.brushes.len(), h, w, c];
        let Brushes { brushes, kernel, weights } = self;
        let buffer = device.paint(&Painting { shape, images, brushes, kernel: *kernel, weights })?;
        Some(Array::wrap(device, shape, DType::F32, buffer))
    }
}

fn brush(draw: &Draw) -> Brush {
    let window = draw.window;
    let colors = draw.jitter.map_or([Color::Keep; 4], |jitter| {
        jitter.order.map(|op| match op {
            ColorOp::Brightness => Color::Brightness(jitter.brightness),
            ColorOp::Contrast => Color::Contrast(jitter.contrast),
            ColorOp::Saturation => Color::Saturation(jitter.saturation),
            ColorOp::Hue => Color::Hue(jitter.hue),
        })
    });
    Brush {
        window: [window.top, window.left, window.height as i32, window.width as i32],
        flip: draw.flip,
        colors,
        gray: draw.grayscale,
        blur: draw.blur.is_some(),
        solarize: draw.solarize,
    }
}

#[cfg(test)]
mod tests {
    use super::super::recipe::{Blur, View};
    use super::*;
    use tarrl_tensor::{Key, cpu};

    #[test]
    fn a_brush_says_what_the_draw_says() {
        let shape = (32, 32, 3);
        let recipe =
            Recipe { blur: Blur { probability: 0.5, ..Blur::default() }, ..View::Strong.recipe(shape) };
        assert!(Brushes::suit(&recipe) && !Brushes::suit(&View::HighFrequency.recipe(shape)));
        let draws: Vec<Draw> =
            (0..40).map(|i| Draw::new(&recipe, shape, Key::new(3).fold(i as u64))).collect();
        let found = Brushes::new(&draws);
        assert_eq!((found.kernel, found.weights.len()), (3, 120));
        for ((draw, brush), weights) in draws.iter().zip(&found.brushes).zip(found.weights.chunks(3)) {
            assert_eq!((brush.flip, brush.gray), (draw.flip, draw.grayscale));
            assert_eq!(brush.window[2] as u32, draw.window.height);
            match draw.blur {
                Some(_) => assert!(brush.blur && (weights.iter().sum::<f32>() - 1.0).abs() < 1e-6),
                None => assert!(!brush.blur && weights == [0.0; 3]),
            }
            match (draw.jitter, brush.colors) {
                (None, colors) => assert_eq!(colors, [Color::Keep; 4]),
                (Some(jitter), colors) => {
                    let at = jitter.order.iter().position(|op| *op == ColorOp::Hue).unwrap();
                    assert_eq!(colors[at], Color::Hue(jitter.hue));
                    let at = jitter.order.iter().position(|op| *op == ColorOp::Contrast).unwrap();
                    assert_eq!(colors[at], Color::Contrast(jitter.contrast));
                }
            }
        }
        assert!(draws.iter().any(|d| d.blur.is_some()) && draws.iter().any(|d| d.jitter.is_none()));
        assert!(found.paint(&cpu(), &vec![0; 40 * 32 * 32 * 3], shape).is_none(), "the host paints itself");
    }
}
