//! High-pass filter of planes: removes a disc of low frequencies.

use std::f64::consts::TAU;
use tarrl_tensor::math;

/// Room and tables that [`high_pass`] needs, kept between images.
#[derive(Debug, Default)]
pub(super) struct Waves {
    /// For which `(h, w, radius)` the tables are.
    made_for: (usize, usize, usize),
    /// cos and sin of τ·k·x/w for `x < w`, `k < radius`; row `x`.
    across: Vec<[f32; 2]>,
    /// cos and sin of τ·k·y/h for `y < h`, `|k| < radius`; row `y`.
    down: Vec<[f32; 2]>,
    /// Row spectra `(h, k)` with `k < radius`.
    rows: Vec<[f32; 2]>,
    /// Spectrum `(2·radius − 1, k)`.
    both: Vec<[f32; 2]>,
}

/// Takes from each plane `(h, w)` all waves whose frequency `(k_y, k_x)`, in periods per image, is nearer to zero than
/// `radius`. The result has mean zero and may be negative.
///
/// The low frequencies are few, so that their sums are written out; by symmetry only `k_x ≥ 0` is needed.
///
/// # Panics
/// If the radius is 0 or larger than half of a side.
pub(super) fn high_pass(
    planes: &mut [f32],
    (height, width): (usize, usize),
    radius: usize,
    waves: &mut Waves,
) {
    assert!(
        radius > 0 && 2 * radius <= height.min(width),
        "high_pass: a radius of {radius} in planes of {height}×{width}"
    );
    waves.prepare((height, width, radius));
    let Waves { across, down, rows, both, .. } = waves;
    let tall = 2 * radius - 1;
    for plane in planes.chunks_exact_mut(height * width) {
        // Σ_x p e^{−iτ k x/w}, row by row.
        for (row, out) in plane.chunks_exact(width).zip(rows.chunks_exact_mut(radius)) {
            out.fill([0.0; 2]);
            for (&value, waves) in row.iter().zip(across.chunks_exact(radius)) {
                for (sum, [cos, sin]) in out.iter_mut().zip(waves) {
                    sum[0] += value * cos;
                    sum[1] -= value * sin;
                }
            }
        }
        // Σ_y … e^{−iτ k y/h}, of the disc.
        both.fill([0.0; 2]);
        for (row, waves) in rows.chunks_exact(radius).zip(down.chunks_exact(tall)) {
            for (out, [cos, sin]) in both.chunks_exact_mut(radius).zip(waves) {
                for (sum, [re, im]) in out.iter_mut().zip(row) {
                    sum[0] += re * cos + im * sin;
                    sum[1] += im * cos - re * sin;
                }
            }
        }
        for (ky, out) in both.chunks_exact_mut(radius).enumerate() {
            for (kx, value) in out.iter_mut().enumerate() {
                let (dy, dx) = (ky.abs_diff(radius - 1), kx);
                let inside = dy * dy + dx * dx < radius * radius;
                // A wave and its mirror image together are twice its real part.
                let weight = if !inside {
                    0.0
                } else if kx == 0 {
                    1.0
                } else {
                    2.0
                } / (height * width) as f32;
                *value = value.map(|part| part * weight);
            }
        }
        // And back, subtracted.
        for (y, row) in plane.chunks_exact_mut(width).enumerate() {
            let back = &mut rows[y * radius..][..radius];
            back.fill([0.0; 2]);
            for (spectrum, [cos, sin]) in both.chunks_exact(radius).zip(&down[y * tall..][..tall]) {
                for (sum, [re, im]) in back.iter_mut().zip(spectrum) {
                    sum[0] += re * cos - im * sin;
                    sum[1] += re * sin + im * cos;
                }
            }
            for (value, waves) in row.iter_mut().zip(across.chunks_exact(radius)) {
                let low: f32 = back.iter().zip(waves).map(|([re, im], [cos, sin])| re * cos - im * sin).sum();
                *value -= low;
            }
        }
    }
}

impl Waves {
    fn prepare(&mut self, shape: (usize, usize, usize)) {
        if self.made_for == shape {
            return;
        }
        let (height, width, radius) = shape;
        let wave = |k: i64, at: usize, side: usize| {
            // The phase is reduced before it is rounded.
            let turns = (k * at as i64).rem_euclid(side as i64) as f64 / side as f64;
            let (sin, cos) = math::sin_cos(TAU * turns);
            [cos as f32, sin as f32]
        };
        let r = radius as i64;
        self.across = (0..width).flat_map(|x| (0..r).map(move |k| wave(k, x, width))).collect();
        self.down = (0..height).flat_map(|y| (1 - r..r).map(move |k| wave(k, y, height))).collect();
        self.rows = vec![[0.0; 2]; height * radius];
        self.both = vec![[0.0; 2]; (2 * radius - 1) * radius];
        self.made_for = shape;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(mut planes: Vec<f32>, shape: (usize, usize), radius: usize) -> Vec<f32> {
        high_pass(&mut planes, shape, radius, &mut Waves::default());
        planes
    }

    /// cos(τ(k_y y/8 + k_x x/8)) on 8×8 pixels, with radius 3.
    #[test]
    fn waves_inside_the_disc_are_removed_and_others_kept() {
        for ((ky, kx), stays) in [
            ((0, 0), false),
            ((0, 2), false),
            ((2, 0), false),
            ((2, 2), false), // √8 < 3
            ((2, -2), false),
            ((0, 3), true),
            ((3, 0), true),
            ((1, 3), true),
            ((-3, 1), true),
            ((4, 4), true),
        ] {
            let value = |i: i32| (TAU * f64::from(ky * (i / 8) + kx * (i % 8)) / 8.0).cos() as f32;
            let wave: Vec<f32> = (0..64).map(value).collect();
            for (found, wave) in after(wave.clone(), (8, 8), 3).iter().zip(&wave) {
                let want = if stays { *wave } else { 0.0 };
                // Sums of 64 numbers up to one.
                assert!((found - want).abs() < 64.0 * f32::EPSILON, "({ky}, {kx}): {found} but {want}");
            }
        }
    }

    proptest! {
        /// The whole transform, masked and transformed back, in f64; and twice is as good as once.
        #[test]
        fn the_high_pass_equals_the_masked_fourier_transform(
            planes in proptest::collection::vec(0.0f32..=1.0, 2 * 6 * 7),
            radius in 1usize..4,
        ) {
            let (h, w) = (6usize, 7usize);
            let found = after(planes.clone(), (h, w), radius);
            for (plane, found) in planes.chunks(h * w).zip(found.chunks(h * w)) {
                for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                    let mut low = 0.0;
                    for (ky, kx) in (-3i64..3).flat_map(|ky| (-3i64..4).map(move |kx| (ky, kx))) {
                        if ky * ky + kx * kx >= (radius * radius) as i64 {
                            continue;
                        }
                        for (i, &p) in plane.iter().enumerate() {
                            let (dy, dx) = ((y as f64 - (i / w) as f64) / h as f64, (x as f64 - (i % w) as f64) / w as f64);
                            low += f64::from(p) * (TAU * (ky as f64 * dy + kx as f64 * dx)).cos() / (h * w) as f64;
                        }
                    }
                    let want = f64::from(plane[y * w + x]) - low;
                    prop_assert!((f64::from(found[y * w + x]) - want).abs() < 42.0 * f64::from(f32::EPSILON));
                }
            }
            for (twice, once) in after(found.clone(), (h, w), radius).iter().zip(&found) {
                prop_assert!((twice - once).abs() < 42.0 * f32::EPSILON);
            }
        }
    }

    #[test]
    #[should_panic(expected = "a radius of 5 in planes of 8×9")]
    fn a_disc_larger_than_the_plane_is_refused() {
        after(vec![0.0; 72], (8, 9), 5);
    }
}
