//! The augmenter: applies a sampled transform to an image on the host.

use super::cubic::Cubic;
use super::high_pass::{Waves, high_pass};
use super::recipe::Interpolation;
use super::resample::{Taps, resample};
use super::sampled::SampledTransform;
use super::{blur, color, cubic};

/// Turns bytes of one image into pixels of one view, image after image in the same working memory.
#[derive(Debug)]
pub struct Augmenter {
    shape: (usize, usize, usize),
    taps: Taps,
    cubic: Cubic,
    waves: Waves,
    planes: Vec<f32>,
    spare: Vec<f32>,
}

impl Augmenter {
    /// An augmenter of images `(h, w, c)`, c = 1 or 3.
    ///
    /// # Panics
    /// If there is no pixel or another number of channels.
    #[track_caller]
    pub fn new(shape: (usize, usize, usize)) -> Augmenter {
        let (height, width, channels) = shape;
        assert!(
            height * width > 0 && [1, 3].contains(&channels),
            "Augmenter::new: images of shape {shape:?}"
        );
        let planes = vec![0.0; height * width * channels];
        let (taps, cubic, waves) = (Taps::default(), Cubic::default(), Waves::default());
        Augmenter { shape, taps, cubic, waves, planes, spare: Vec::new() }
    }

    /// Writes the view of `image` that `transform` describes to `out`, both `(h, w, c)` in row-major order;
    /// pixels are in [0, 1], but for a high-pass.
    ///
    /// # Panics
    /// If a slice has another length than h·w·c, or the transform does not suit the shape.
    #[track_caller]
    pub fn apply(&mut self, image: &[u8], transform: &SampledTransform, out: &mut [f32]) {
        let (height, width, channels) = self.shape;
        assert!(
            image.len() == self.planes.len() && out.len() == self.planes.len(),
            "Augmenter::apply: an image of {} bytes into {} pixels of shape {:?}",
            image.len(),
            out.len(),
            self.shape
        );
        // One plane is already in the order of the result.
        let planes = if channels == 1 { &mut out[..] } else { &mut self.planes[..] };
        let seen = (transform.window, transform.flip);
        match transform.interpolation {
            Interpolation::Bilinear => resample(image, self.shape, seen, &mut self.taps, planes),
            Interpolation::Bicubic => {
                cubic::resample(image, self.shape, seen, (&mut self.cubic, &mut self.taps), planes)
            }
        }
        if let Some(change) = &transform.jitter {
            color::jitter(planes, channels, change);
        }
        if transform.grayscale && channels == 3 {
            color::grayscale(planes);
        }
        if let Some(gaussian) = transform.blur {
            blur::blur(planes, (height, width), gaussian, &mut self.spare);
        }
        if transform.solarize {
            color::solarize(planes);
        }
        if transform.high_pass > 0 {
            high_pass(planes, (height, width), transform.high_pass, &mut self.waves);
        }
        if channels == 3 {
            let (r, rest) = self.planes.split_at(height * width);
            let (g, b) = rest.split_at(height * width);
            for (((pixel, r), g), b) in out.chunks_exact_mut(3).zip(r).zip(g).zip(b) {
                pixel.copy_from_slice(&[*r, *g, *b]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recipe::{Blur, Recipe, View};
    use super::super::sampled::{Gaussian, Window};
    use super::*;
    use proptest::prelude::*;
    use tarrl_tensor::Key;

    fn plain((height, width, _): (usize, usize, usize)) -> SampledTransform {
        let window = Window::whole(height, width);
        SampledTransform {
            window,
            flip: false,
            jitter: None,
            grayscale: false,
            blur: None,
            solarize: false,
            interpolation: Interpolation::Bilinear,
            high_pass: 0,
        }
    }

    fn noise((height, width, channels): (usize, usize, usize), seed: u64) -> Vec<u8> {
        let mut stream = Key::new(seed).stream();
        (0..height * width * channels).map(|_| stream.below(256) as u8).collect()
    }

    fn view(shape: (usize, usize, usize), image: &[u8], transform: &SampledTransform) -> Vec<f32> {
        let mut out = vec![f32::NAN; image.len()];
        Augmenter::new(shape).apply(image, transform, &mut out);
        out
    }

    #[test]
    fn the_clean_view_is_the_image_itself() {
        for shape in [(28, 28, 1), (5, 7, 3)] {
            let image = noise(shape, 1);
            let transform = SampledTransform::sample(&View::Clean.recipe(shape), shape, Key::new(0));
            assert_eq!(transform, plain(shape));
            let want: Vec<f32> = image.iter().map(|&b| f32::from(b) / 255.0).collect();
            assert_eq!(view(shape, &image, &transform), want);
        }
    }

    #[test]
    fn mirroring_mirrors_every_row() {
        let shape = (4, 6, 3);
        let image = noise(shape, 2);
        let mirrored: Vec<u8> =
            image.chunks(18).flat_map(|row| row.chunks(3).rev().flatten().copied()).collect();
        let flip = SampledTransform { flip: true, ..plain(shape) };
        assert_eq!(view(shape, &image, &flip), view(shape, &mirrored, &plain(shape)));
        assert_eq!(view(shape, &mirrored, &flip), view(shape, &image, &plain(shape)));
    }

    #[test]
    fn the_order_is_gray_then_blur_then_solarize() {
        let shape = (3, 3, 3);
        let image = noise(shape, 3);
        let gaussian = Gaussian { sigma: 1.0, kernel: 3 };
        let all = SampledTransform { grayscale: true, blur: Some(gaussian), solarize: true, ..plain(shape) };
        let without = view(shape, &image, &SampledTransform { solarize: false, ..all });
        let want: Vec<f32> = without.iter().map(|&x| if x >= 0.5 { 1.0 - x } else { x }).collect();
        assert_eq!(view(shape, &image, &all), want);
        assert!(want.chunks(3).all(|p| p[0] == p[1] && p[1] == p[2]));
        assert!(without.iter().any(|&x| x >= 0.5), "the image must be one that solarizing changes");
    }

    /// The high-pass comes last: the mean of every plane is gone, and with it nothing else than low frequencies.
    #[test]
    fn high_frequencies_have_mean_zero_in_every_plane() {
        let shape = (16, 16, 3);
        let image = noise(shape, 4);
        let all = SampledTransform { solarize: true, high_pass: 4, ..plain(shape) };
        let view = view(shape, &image, &all);
        for c in 0..3 {
            let mean: f32 = view.iter().skip(c).step_by(3).sum::<f32>() / 256.0;
            assert!(mean.abs() < 1e-5, "{mean}");
        }
        assert!(view.iter().any(|&x| x < -0.1) && view.iter().any(|&x| x > 0.1));
    }

    #[test]
    #[should_panic(expected = "an image of 784 bytes into 783 pixels")]
    fn a_short_output_is_a_bug() {
        Augmenter::new((28, 28, 1)).apply(&[0; 784], &plain((28, 28, 1)), &mut [0.0; 783]);
    }

    proptest! {
        /// Whatever is sampled, pixels stay in [0, 1], and earlier images leave no trace in the working memory.
        #[test]
        fn views_are_in_range_and_repeatable(seed: u64, color: bool) {
            let shape = if color { (32, 32, 3) } else { (28, 28, 1) };
            let strong = View::Strong.recipe(shape);
            let blur = Blur { probability: 0.5, sigma: [0.1, 2.0], kernel: 5 };
            let interpolation =
                if seed.is_multiple_of(2) { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let recipe = Recipe { blur, solarize: 0.3, interpolation, ..strong };
            let mut augmenter = Augmenter::new(shape);
            let mut out = vec![0.0; shape.0 * shape.1 * shape.2];
            for i in 0..3u64 {
                let image = noise(shape, seed ^ i);
                let transform = SampledTransform::sample(&recipe, shape, Key::new(seed).fold(i));
                augmenter.apply(&image, &transform, &mut out);
                prop_assert!(out.iter().all(|x| (0.0..=1.0).contains(x)));
                prop_assert_eq!(&out, &view(shape, &image, &transform));
            }
        }
    }
}
