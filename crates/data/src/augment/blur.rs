//! Gaussian blur of planes, one axis after the other, the border mirrored about the edge pixel.
//!
//! This is torchvision's blur: the kernel is sampled at the pixels, so that below a width of 0.4 it blurs less than its name
//! says. Pillow's, which published SimCLR code uses, keeps the width and repeats the edge: ten levels from this one at 0.3
//! on noise, and thirty at the border at any width.
//!
//! Rounded weights can sum to more than one, so the result is cut at 1; it cannot fall below 0.

use super::sampled::Gaussian;
use tarrl_tensor::math;

/// Blurs each plane `(height, width)` of pixels in [0, 1]; `spare` is room that grows as needed.
///
/// # Panics
/// If the kernel is even, or half of it is not smaller than both sides.
pub(super) fn blur(
    planes: &mut [f32],
    (height, width): (usize, usize),
    gaussian: Gaussian,
    spare: &mut Vec<f32>,
) {
    let radius = gaussian.kernel / 2;
    assert!(
        gaussian.kernel % 2 == 1 && radius < height.min(width),
        "blur: a kernel of {} does not suit planes of {height}×{width}",
        gaussian.kernel
    );
    let weights = weights(gaussian);
    let padded_width = width + 2 * radius;
    spare.resize(padded_width + height * width, 0.0);
    let (padded, half) = spare.split_at_mut(padded_width);
    for plane in planes.chunks_exact_mut(height * width) {
        for (row, out) in plane.chunks_exact(width).zip(half.chunks_exact_mut(width)) {
            for (i, value) in padded.iter_mut().enumerate() {
                *value = row[mirrored(i, radius, width)];
            }
            accumulate(out, weights.iter().enumerate().map(|(k, &w)| (w, &padded[k..k + width])));
        }
        for (y, out) in plane.chunks_exact_mut(width).enumerate() {
            let taps = weights.iter().enumerate();
            accumulate(
                out,
                taps.map(|(k, &w)| (w, &half[mirrored(y + k, radius, height) * width..][..width])),
            );
            out.iter_mut().for_each(|x| *x = x.min(1.0));
        }
    }
}

/// The weights of the kernel, e^(−d²/2σ²) scaled to sum to one.
pub(super) fn weights(Gaussian { sigma, kernel }: Gaussian) -> Vec<f32> {
    let raw = (0..kernel).map(|k| {
        let distance = (k as f64 - (kernel / 2) as f64) / f64::from(sigma);
        math::exp(-0.5 * distance * distance)
    });
    let total: f64 = raw.clone().sum();
    raw.map(|w| (w / total) as f32).collect()
}

/// The index that stands for position `at − radius` of a line: beyond the ends it runs back.
fn mirrored(at: usize, radius: usize, length: usize) -> usize {
    let last = length - 1;
    let position = at.abs_diff(radius);
    if position > last { 2 * last - position } else { position }
}

fn accumulate<'a>(out: &mut [f32], taps: impl Iterator<Item = (f32, &'a [f32])>) {
    out.fill(0.0);
    for (weight, line) in taps {
        out.iter_mut().zip(line).for_each(|(o, x)| *o += weight * x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blur_kernels_match_known_weights() {
        for (sigma, want) in [
            (0.5, [0.106507, 0.786986, 0.106507]),
            (1.0, [0.274069, 0.451863, 0.274069]),
            (2.0, [0.319168, 0.361664, 0.319168]),
        ] {
            let found = weights(Gaussian { sigma, kernel: 3 });
            // The known values have six digits.
            assert!(found.iter().zip(want).all(|(f, w): (&f32, f32)| (f - w).abs() < 6e-7), "{found:?}");
        }
    }

    /// A white plane stays white at every width, though rounded weights of some of them sum to more than one.
    #[test]
    fn white_stays_in_range() {
        let gaussians =
            (1..=200).flat_map(|s| [3, 5, 23].map(|kernel| Gaussian { sigma: s as f32 / 50.0, kernel }));
        let mut above_one = 0;
        for gaussian in gaussians {
            let sum = weights(gaussian).iter().fold(0.0, |sum, w| sum + w);
            above_one += usize::from(sum > 1.0);
            let mut plane = vec![1.0; 32 * 32];
            blur(&mut plane, (32, 32), gaussian, &mut Vec::new());
            // Two sums of `kernel` products of numbers up to one.
            let tolerance = 2.0 * gaussian.kernel as f32 * f32::EPSILON;
            assert!(plane.iter().all(|x| (1.0 - tolerance..=1.0).contains(x)), "{gaussian:?}");
        }
        assert!(above_one > 0, "some sums must round to more than one");
    }

    proptest! {
        /// The separable form equals the sum over the whole square kernel in f64.
        #[test]
        fn separable_blur_equals_the_square_kernel(
            plane in proptest::collection::vec(0.0f32..=1.0, 2 * 5 * 6),
            sigma in 0.1f32..3.0,
            radius in 0usize..5,
        ) {
            let gaussian = Gaussian { sigma, kernel: 2 * radius + 1 };
            let mut found = plane.clone();
            blur(&mut found, (5, 6), gaussian, &mut Vec::new());
            let mirror = |i: i64, n: i64| if i < 0 { -i } else if i >= n { 2 * (n - 1) - i } else { i };
            let r = radius as i64;
            for p in 0..2 {
                for (y, x) in (0..5).flat_map(|y| (0..6).map(move |x| (y, x))) {
                    let (mut total, mut want) = (0.0, 0.0);
                    for (dy, dx) in (-r..=r).flat_map(|dy| (-r..=r).map(move |dx| (dy, dx))) {
                        let w = (-((dy * dy + dx * dx) as f64) / (2.0 * f64::from(sigma).powi(2))).exp();
                        total += w;
                        want += w * f64::from(plane[p * 30 + (mirror(y + dy, 5) * 6 + mirror(x + dx, 6)) as usize]);
                    }
                    let value = f64::from(found[p * 30 + (y * 6 + x) as usize]);
                    // Two sums of at most nine products of numbers up to one.
                    prop_assert!((value - want / total).abs() < 2.0 * 9.0 * f64::from(f32::EPSILON));
                }
            }
        }
    }
}
