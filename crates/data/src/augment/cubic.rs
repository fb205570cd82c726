//! Bicubic resampling of the crop of an image.

use super::resample::{self, Taps};
use super::sampled::Window;

/// The parameter of the cubic: that of Pillow, and of torchvision with antialiasing.
const A: f64 = -0.5;

/// Room that resampling needs, kept between images.
#[derive(Debug, Default)]
pub(super) struct Cubic {
    /// For every column of the result: the first source column, and the weights from there on.
    columns: Vec<(usize, [f32; 4])>,
    /// Four source rows blended, one value per source column and channel.
    row: Vec<f32>,
}

/// Writes the window of `image` `(h, w, c)` into `planes` `(c, h, w)`, clamped to [0, 1].
///
/// # Panics
/// If the window is empty, or has another size than the image and is not inside it.
pub(super) fn resample(
    image: &[u8],
    (height, width, channels): (usize, usize, usize),
    (window, flip): (Window, bool),
    (cubic, taps): (&mut Cubic, &mut Taps),
    planes: &mut [f32],
) {
    let (rows, columns) = (window.height as usize, window.width as usize);
    if (rows, columns) == (height, width) {
        // Nothing lies between pixels.
        resample::resample(image, (height, width, channels), (window, flip), taps, planes);
        return;
    }
    let fits = |at: i32, length: usize, side: usize| at >= 0 && length > 0 && at as usize + length <= side;
    assert!(
        fits(window.top, rows, height) && fits(window.left, columns, width),
        "resample: {window:?} is not inside an image of {height}×{width}"
    );
    let (top, left) = (window.top as usize, window.left as usize);
    cubic.columns.clear();
    cubic.columns.extend((0..width).map(|x| tap(if flip { width - 1 - x } else { x }, columns, width)));
    cubic.row.resize(columns * channels, 0.0);
    for y in 0..height {
        let (first, weights) = tap(y, rows, height);
        cubic.row.fill(0.0);
        for (row, weight) in (first..rows).zip(weights) {
            let bytes = &image[((top + row) * width + left) * channels..][..columns * channels];
            cubic.row.iter_mut().zip(bytes).for_each(|(sum, &byte)| *sum += weight * f32::from(byte));
        }
        for c in 0..channels {
            let out = &mut planes[(c * height + y) * width..][..width];
            for (out, &(first, weights)) in out.iter_mut().zip(&cubic.columns) {
                let taps = (first..columns).zip(weights);
                let sum: f32 = taps.map(|(x, weight)| weight * cubic.row[x * channels + c]).sum();
                *out = (sum * (1.0 / 255.0)).clamp(0.0, 1.0);
            }
        }
    }
}

/// The first of the source positions among `from` that position `at` among `to` is made of, and their weights, which sum to
/// one; those beyond the end are zero.
fn tap(at: usize, from: usize, to: usize) -> (usize, [f32; 4]) {
    let center = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let start = center.floor() as i64 - 1;
    let first = start.max(0) as usize;
    let mut weights = [0.0; 4];
    for (i, weight) in weights.iter_mut().enumerate() {
        let position = first + i;
        if position < from && position as i64 <= start + 3 {
            *weight = kernel((position as f64 - center).abs());
        }
    }
    let total: f64 = weights.iter().sum();
    (first, weights.map(|weight| (weight / total) as f32))
}

/// The cubic of Keys (1981, equation 4) at a distance.
fn kernel(x: f64) -> f64 {
    match x {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(image: &[u8], shape: (usize, usize, usize), window: Window, flip: bool) -> Vec<f32> {
        let mut planes = vec![f32::NAN; image.len()];
        resample(image, shape, (window, flip), (&mut Cubic::default(), &mut Taps::default()), &mut planes);
        planes.iter().map(|x| x * 255.0).collect()
    }

    /// Four pixels become eight, as torchvision gives them in floating point: of the row 0 1 3 2, lifted by 10 and stretched tenfold, because
    /// results are clamped at 0.
    #[test]
    fn a_row_of_four_is_enlarged_to_known_values() {
        let want = [-0.088235, 0.145985, 0.641221, 1.5, 2.6875, 2.916031, 2.233577, 1.911765];
        let row = [0u8, 1, 3, 2].map(|v| 10 + 10 * v);
        let image = [&[9, 9][..], &row, &[9, 9], &[9u8; 8]].concat();
        let window = Window { top: 0, left: 2, height: 1, width: 4 };
        let mut found = run(&image, (2, 8, 1), window, false);
        for row in found.chunks(8) {
            // The known values have six digits.
            assert!(
                row.iter()
                    .zip(want)
                    .all(|(f, w): (&f32, f64)| (f64::from(*f) - (10.0 + 10.0 * w)).abs() < 2e-5),
                "{row:?}"
            );
        }
        found[..8].reverse();
        assert_eq!(found[..8], run(&image, (2, 8, 1), window, true)[..8]);
    }

    /// The variant with a = −¾, and with the border repeated, is another.
    #[test]
    fn cubics_of_another_coefficient_are_told_apart() {
        let row = [0u8, 1, 3, 2].map(|v| 10 + 10 * v);
        let image = [&row[..], &[9; 4], &[9u8; 8]].concat();
        let found = run(&image, (2, 8, 1), Window { top: 0, left: 0, height: 1, width: 4 }, false);
        for (found, other) in found.iter().zip([-0.105469, 0.15625, 0.5625, 1.59375]) {
            assert!((f64::from(*found) - (10.0 + 10.0 * other)).abs() > 0.05, "{found}");
        }
    }

    #[test]
    fn beyond_white_and_black_it_is_clamped() {
        let image = [&[0u8, 255, 255, 0][..], &[9; 4], &[9u8; 8]].concat();
        let found = run(&image, (2, 8, 1), Window { top: 0, left: 0, height: 1, width: 4 }, false);
        assert!(found.iter().all(|v| (0.0..=255.0).contains(v)) && found.contains(&255.0), "{found:?}");
    }

    proptest! {
        /// A plane that rises evenly is met exactly away from the border, as by every cubic of this family, and a constant
        /// everywhere.
        #[test]
        fn ramps_and_constants_are_reproduced(
            level in 0u8..=255, height in 3u32..9, width in 3u32..9, flip: bool,
        ) {
            let window = Window { top: 0, left: 1, height, width };
            for value in run(&[level; 270], (9, 10, 3), window, flip) {
                prop_assert!((value - f32::from(level)).abs() < 1e-3);
            }
            let ramp: Vec<u8> = (0..90).map(|i| (i / 10 * 3 + i % 10 * 5) as u8).collect();
            let found = run(&ramp, (9, 10, 1), window, false);
            for (y, x) in (0..9).flat_map(|y| (0..10).map(move |x| (y, x))) {
                let source = |at: usize, from: u32, to: f32| (at as f32 + 0.5) * from as f32 / to - 0.5;
                let (sy, sx) = (source(y, height, 9.0), source(x, width, 10.0));
                let inner = |s: f32, n: u32| s >= 1.0 && s <= n as f32 - 2.0;
                if inner(sy, height) && inner(sx, width) {
                    prop_assert!((found[y * 10 + x] - (3.0 * sy + 5.0 * (sx + 1.0))).abs() < 1e-3);
                }
            }
        }
    }
}
