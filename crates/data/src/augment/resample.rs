//! Bilinear resampling: the crop of an image, flipped or not, from bytes to numbers in [0, 1] in the image's size.

use super::sampled::Window;

/// Room that resampling needs, kept between images.
#[derive(Debug, Default)]
pub(super) struct Taps {
    /// For every column of the result: left and right source column, and the weight of the right.
    columns: Vec<(u32, u32, f32)>,
    /// Two source rows blended, one value per source column and channel.
    row: Vec<f32>,
}

/// Writes the window of `image` `(h, w, c)` into `planes` `(c, h, w)`.
///
/// # Panics
/// If the window is empty, or has another size than the image and is not inside it.
pub(super) fn resample(
    image: &[u8],
    (height, width, channels): (usize, usize, usize),
    (window, flip): (Window, bool),
    taps: &mut Taps,
    planes: &mut [f32],
) {
    let size = (window.height as usize, window.width as usize);
    if size == (height, width) {
        shift(image, (height, width, channels), (window, flip), planes);
        return;
    }
    let fits = |at: i32, length: usize, side: usize| at >= 0 && length > 0 && at as usize + length <= side;
    assert!(
        fits(window.top, size.0, height) && fits(window.left, size.1, width),
        "resample: {window:?} is not inside an image of {height}×{width}"
    );
    match channels {
        1 => enlarge::<1>(image, (height, width), (window, flip), taps, planes),
        3 => enlarge::<3>(image, (height, width), (window, flip), taps, planes),
        _ => panic!("resample: images have 1 or 3 channels, not {channels}"),
    }
}

/// Bilinear with half-pixel centers; samples outside the window repeat its border.
fn enlarge<const C: usize>(
    image: &[u8],
    (height, width): (usize, usize),
    (window, flip): (Window, bool),
    taps: &mut Taps,
    planes: &mut [f32],
) {
    let (rows, columns) = (window.height as usize, window.width as usize);
    let (top, left) = (window.top as usize, window.left as usize);
    taps.columns.clear();
    taps.columns.extend((0..width).map(|x| tap(if flip { width - 1 - x } else { x }, columns, width)));
    taps.row.resize(columns * C, 0.0);
    let row = |y: usize| &image[((top + y) * width + left) * C..][..columns * C];
    for y in 0..height {
        let (y0, y1, weight) = tap(y, rows, height);
        for (out, (&a, &b)) in taps.row.iter_mut().zip(row(y0 as usize).iter().zip(row(y1 as usize))) {
            let (a, b) = (f32::from(a), f32::from(b));
            *out = a + weight * (b - a);
        }
        for c in 0..C {
            let out = &mut planes[(c * height + y) * width..][..width];
            for (out, &(x0, x1, weight)) in out.iter_mut().zip(&taps.columns) {
                let (a, b) = (taps.row[x0 as usize * C + c], taps.row[x1 as usize * C + c]);
                *out = (a + weight * (b - a)) * (1.0 / 255.0);
            }
        }
    }
}

/// The two source positions among `from` that position `at` among `to` lies between, and the weight
/// of the second.
fn tap(at: usize, from: usize, to: usize) -> (u32, u32, f32) {
    let source = ((at as f32 + 0.5) * (from as f32 / to as f32) - 0.5).max(0.0);
    let first = (source as usize).min(from - 1);
    (first as u32, (first + 1).min(from - 1) as u32, source - first as f32)
}

/// A window of the image's size, black where it reaches beyond the image.
fn shift(
    image: &[u8],
    (height, width, channels): (usize, usize, usize),
    (window, flip): (Window, bool),
    planes: &mut [f32],
) {
    let from_left = (-window.left).clamp(0, width as i32) as usize;
    let to_right = (width as i32 - window.left).clamp(0, width as i32) as usize;
    for (plane, c) in planes.chunks_exact_mut(height * width).zip(0..channels) {
        for (y, out) in plane.chunks_exact_mut(width).enumerate() {
            out.fill(0.0);
            let row = y as i32 + window.top;
            if (0..height as i32).contains(&row) && from_left < to_right {
                let first = (row as usize * width + (window.left + from_left as i32) as usize) * channels + c;
                let source = image[first..].iter().step_by(channels);
                for (out, &byte) in out[from_left..to_right].iter_mut().zip(source) {
                    *out = f32::from(byte) / 255.0;
                }
            }
            if flip {
                out.reverse();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(image: &[u8], shape: (usize, usize, usize), window: Window, flip: bool) -> Vec<f32> {
        let mut planes = vec![f32::NAN; image.len()];
        resample(image, shape, (window, flip), &mut Taps::default(), &mut planes);
        planes.iter().map(|x| x * 255.0).collect()
    }

    #[test]
    fn a_row_of_four_is_enlarged_to_known_values() {
        // Half-pixel bilinear of 0 1 3 2, as torch and Pillow give it.
        let want = [0.0, 0.25, 0.75, 1.5, 2.5, 2.75, 2.25, 2.0];
        let image = [&[9, 9, 0, 1, 3, 2, 9, 9], &[9u8; 8][..]].concat();
        let window = Window { top: 0, left: 2, height: 1, width: 4 };
        let mut found = run(&image, (2, 8, 1), window, false);
        for row in found.chunks(8) {
            // One rounding each of the blend and the scaling by 1/255 and back.
            assert!(row.iter().zip(want).all(|(f, w)| (f - w).abs() < 4.0 * 3.0 * f32::EPSILON), "{row:?}");
        }
        found[..8].reverse();
        assert_eq!(found[..8], run(&image, (2, 8, 1), window, true)[..8]);
    }

    #[test]
    fn resampling_the_whole_image_changes_nothing() {
        let image: Vec<u8> = (0..48).map(|i| i * 5).collect();
        let found = run(&image, (4, 4, 3), Window::whole(4, 4), false);
        for (i, &byte) in image.iter().enumerate() {
            assert!((found[i % 3 * 16 + i / 3] - f32::from(byte)).abs() < 255.0 * f32::EPSILON);
        }
    }

    #[test]
    fn beyond_the_border_it_is_black() {
        let image = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let window = |top, left| Window { top, left, height: 3, width: 3 };
        let found = |top, left, flip| {
            run(&image, (3, 3, 1), window(top, left), flip)
                .iter()
                .map(|x| x.round() as u8)
                .collect::<Vec<_>>()
        };
        assert_eq!(found(-1, 1, false), [0, 0, 0, 2, 3, 0, 5, 6, 0]);
        assert_eq!(found(1, -2, false), [0, 0, 4, 0, 0, 7, 0, 0, 0]);
        assert_eq!(found(1, -2, true), [4, 0, 0, 7, 0, 0, 0, 0, 0]);
        assert_eq!(found(3, 0, false), [0; 9]);
        assert_eq!(found(0, -3, false), [0; 9]);
    }

    proptest! {
        /// The separable, blended form equals the textbook sum over four neighbors in f64.
        #[test]
        fn bilinear_resampling_equals_the_four_neighbor_formula(
            image in proptest::collection::vec(any::<u8>(), 5 * 7 * 3),
            top in 0i32..4, left in 0i32..5, height in 1u32..5, width in 1u32..7, flip: bool,
        ) {
            let window = Window { top, left, height: height.min(5 - top as u32), width: width.min(7 - left as u32) };
            let found = run(&image, (5, 7, 3), window, flip);
            let (rows, columns) = (f64::from(window.height), f64::from(window.width));
            let at = |y: f64, x: f64, c: usize| {
                let (y, x) = (y.min(rows - 1.0) as usize + top as usize, x.min(columns - 1.0) as usize + left as usize);
                f64::from(image[(y * 7 + x) * 3 + c])
            };
            for (i, &value) in found.iter().enumerate() {
                let (c, y, x) = (i / 35, i / 7 % 5, if flip { 6 - i % 7 } else { i % 7 });
                let sy = ((y as f64 + 0.5) * rows / 5.0 - 0.5).max(0.0);
                let sx = ((x as f64 + 0.5) * columns / 7.0 - 0.5).max(0.0);
                let (fy, fx, y, x) = (sy.fract(), sx.fract(), sy.floor(), sx.floor());
                let want = (1.0 - fy) * ((1.0 - fx) * at(y, x, c) + fx * at(y, x + 1.0, c))
                    + fy * ((1.0 - fx) * at(y + 1.0, x, c) + fx * at(y + 1.0, x + 1.0, c));
                // Positions up to 7 carry a rounding of 7·2⁻²⁴, times slopes up to 255 in two directions.
                prop_assert!((f64::from(value) - want).abs() < 2.0 * 255.0 * 8.0 * f64::from(f32::EPSILON));
            }
        }
    }
}
