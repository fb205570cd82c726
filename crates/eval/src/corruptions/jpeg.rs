//! The loss of JPEG: cosine coefficients of blocks of eight by eight pixels, rounded to multiples of a table's entries.

use std::f64::consts::PI;

use tarrl_tensor::math;

use super::image::Image;

const SIDE: usize = 8;

/// Annex K of ITU-T T.81: the table for luminance, row by row from low to high frequencies.
const LUMINANCE: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, //
    12, 12, 14, 19, 26, 58, 60, 55, //
    14, 13, 16, 24, 40, 57, 69, 56, //
    14, 17, 22, 29, 51, 87, 80, 62, //
    18, 22, 37, 56, 68, 109, 103, 77, //
    24, 35, 55, 64, 81, 104, 113, 92, //
    49, 64, 78, 87, 103, 121, 120, 101, //
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// The same for chrominance.
const CHROMINANCE: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, //
    18, 21, 26, 66, 99, 99, 99, 99, //
    24, 26, 56, 99, 99, 99, 99, 99, //
    47, 66, 99, 99, 99, 99, 99, 99, //
    99, 99, 99, 99, 99, 99, 99, 99, //
    99, 99, 99, 99, 99, 99, 99, 99, //
    99, 99, 99, 99, 99, 99, 99, 99, //
    99, 99, 99, 99, 99, 99, 99, 99,
];

/// What a decoder shows of the image after an encoder of this quality, from 1 to 100. Colors keep their resolution.
pub(super) fn compress(image: &mut Image<'_>, quality: f64) {
    let bytes = |v: f64| (255.0 * v).round().clamp(0.0, 255.0);
    image.values.iter_mut().for_each(|v| *v = bytes(*v));
    if image.c == 3 {
        image.values.chunks_mut(3).for_each(|pixel| map(pixel, to_ycc));
    }
    let cosines = Cosines::new();
    for channel in 0..image.c {
        let steps = table(if channel == 0 { &LUMINANCE } else { &CHROMINANCE }, quality);
        for top in (0..image.h).step_by(SIDE) {
            for left in (0..image.w).step_by(SIDE) {
                block(image, [top, left], channel, &steps, &cosines);
            }
        }
    }
    if image.c == 3 {
        image.values.chunks_mut(3).for_each(|pixel| map(pixel, to_rgb));
    }
    image.values.iter_mut().for_each(|v| *v = v.round().clamp(0.0, 255.0) / 255.0);
}

/// One block, its last rows and columns repeated beyond the border of the image.
fn block(
    image: &mut Image<'_>,
    [top, left]: [usize; 2],
    channel: usize,
    steps: &[f64; 64],
    cosines: &Cosines,
) {
    let (h, w, c) = (image.h, image.w, image.c);
    let place = |y: usize, x: usize| (y.min(h - 1) * w + x.min(w - 1)) * c + channel;
    let mut values = [0.0; 64];
    for (i, value) in values.iter_mut().enumerate() {
        *value = image.values[place(top + i / SIDE, left + i % SIDE)] - 128.0;
    }
    let mut coefficients = cosines.forward(&values);
    coefficients.iter_mut().zip(steps).for_each(|(v, step)| *v = (*v / step).round() * step);
    let shown = cosines.inverse(&coefficients);
    for (i, value) in shown.iter().enumerate() {
        let (y, x) = (top + i / SIDE, left + i % SIDE);
        if y < h && x < w {
            image.values[place(y, x)] = (value + 128.0).round().clamp(0.0, 255.0);
        }
    }
}

/// The steps of a table at a quality: `⌊(entry · s + 50) / 100⌋` from 1 to 255, with `s = 5000 / quality` below 50 and
/// `200 − 2 quality` from there on.
fn table(entries: &[u16; 64], quality: f64) -> [f64; 64] {
    let scale = if quality < 50.0 { (5000.0 / quality).floor() } else { 200.0 - 2.0 * quality };
    entries.map(|entry| ((f64::from(entry) * scale + 50.0) / 100.0).floor().clamp(1.0, 255.0))
}

/// The orthonormal cosines `a_u cos((2t + 1) u π / 16)`, row `u`.
struct Cosines([f64; 64]);

impl Cosines {
    fn new() -> Self {
        let entry = |i: usize| {
            let (u, t) = (i / SIDE, i % SIDE);
            let scale = if u == 0 { 0.125 } else { 0.25 };
            f64::sqrt(scale) * math::cos((2 * t + 1) as f64 * u as f64 * PI / 16.0)
        };
        Self(std::array::from_fn(entry))
    }

    /// `C X Cᵀ`
    fn forward(&self, x: &[f64; 64]) -> [f64; 64] {
        let turned = turn(&self.0);
        product(&product(&self.0, x), &turned)
    }

    /// `Cᵀ X C`
    fn inverse(&self, x: &[f64; 64]) -> [f64; 64] {
        product(&product(&turn(&self.0), x), &self.0)
    }
}

fn turn(a: &[f64; 64]) -> [f64; 64] {
    std::array::from_fn(|i| a[i % SIDE * SIDE + i / SIDE])
}

fn product(a: &[f64; 64], b: &[f64; 64]) -> [f64; 64] {
    std::array::from_fn(|i| (0..SIDE).map(|k| a[i / SIDE * SIDE + k] * b[k * SIDE + i % SIDE]).sum())
}

fn map(pixel: &mut [f64], to: fn([f64; 3]) -> [f64; 3]) {
    pixel.copy_from_slice(&to([pixel[0], pixel[1], pixel[2]]).map(|v| v.round().clamp(0.0, 255.0)));
}

/// The colors of JFIF: luminance, blueness, redness.
fn to_ycc([r, g, b]: [f64; 3]) -> [f64; 3] {
    [
        0.299 * r + 0.587 * g + 0.114 * b,
        128.0 - 0.168_736 * r - 0.331_264 * g + 0.5 * b,
        128.0 + 0.5 * r - 0.418_688 * g - 0.081_312 * b,
    ]
}

fn to_rgb([y, cb, cr]: [f64; 3]) -> [f64; 3] {
    let (cb, cr) = (cb - 128.0, cr - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosines_are_orthonormal() {
        let cosines = Cosines::new();
        let x: [f64; 64] = std::array::from_fn(|i| (i * i % 37) as f64);
        let back = cosines.inverse(&cosines.forward(&x));
        // Sums of 8 products twice there and back, of values below 300.
        assert!(x.iter().zip(back).all(|(a, b)| (a - b).abs() < 300.0 * 64.0 * f64::EPSILON));
        // The mean of a block is eight times in its first coefficient.
        assert!((cosines.forward(&[3.0; 64])[0] - 24.0).abs() < 1e-12);
    }

    /// At quality 50 the tables are those of the standard, at 100 all steps are 1.
    #[test]
    fn tables_follow_the_quality() {
        assert_eq!(table(&LUMINANCE, 50.0), LUMINANCE.map(f64::from));
        assert_eq!(table(&CHROMINANCE, 100.0), [1.0; 64]);
        // By hand: s = 125, ⌊(16 · 125 + 50) / 100⌋ = 20.
        assert_eq!(table(&LUMINANCE, 40.0)[0], 20.0);
    }

    #[test]
    fn colors_come_back_up_to_rounding() {
        for color in [[0.0, 0.0, 0.0], [255.0, 0.0, 0.0], [12.0, 200.0, 77.0], [255.0, 255.0, 255.0]] {
            let back = to_rgb(to_ycc(color));
            // The published coefficients have six digits: 255 · 2e-6 in each of two products.
            assert!(color.iter().zip(back).all(|(a, b)| (a - b).abs() < 2e-3), "{color:?} {back:?}");
        }
    }
}
