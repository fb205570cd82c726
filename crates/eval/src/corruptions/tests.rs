//! Corruptions against values by hand, and what holds of all of them.

use proptest::prelude::*;
use tarrl_tensor::Cpu;

use super::image::overlaps;
use super::*;

fn images(shape: [usize; 4], values: &[f32]) -> Tensor {
    Tensor::new(&Cpu { threads: 1, ..Cpu::default() }.open(), shape, values)
}

fn random(shape: [usize; 4], seed: u64) -> Tensor {
    let mut stream = Key::new(seed).stream();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.unit()).collect();
    images(shape, &values)
}

fn close(found: &Tensor, want: &[f64]) {
    let found = found.array().to_f64();
    // Stored in f32.
    let close = found.len() == want.len() && found.iter().zip(want).all(|(a, b)| (a - b).abs() < 2e-7);
    assert!(close, "{found:?} is not {want:?}");
}

/// `0.5 + 0.15 (x − 0.5)` at the last severity.
#[test]
fn contrast_brings_pixels_nearer_to_their_mean() {
    let x = images([1, 1, 2, 1], &[0.0, 1.0]);
    close(&Corruption::Contrast.apply(&x, 5, Key::new(0)), &[0.425, 0.575]);
}

/// Value 0.5 becomes 0.8, which scales all channels by 1.6; black becomes gray; white stays.
#[test]
fn brightness_keeps_the_ratios_of_channels() {
    let x = images([1, 1, 3, 3], &[0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    let want = [0.8, 0.4, 0.0, 0.3, 0.3, 0.3, 1.0, 1.0, 1.0];
    close(&Corruption::Brightness.apply(&x, 5, Key::new(0)), &want);
}

/// A point becomes the product of the weights `exp(−t²/2) / Σ`, here of deviation one.
#[test]
fn blur_spreads_a_point_by_a_gaussian() {
    let mut values = vec![0.0f32; 81];
    values[40] = 1.0;
    let found = Corruption::GaussianBlur.apply(&images([1, 9, 9, 1], &values), 5, Key::new(0));
    let weight = |t: i32| (-0.5 * f64::from(t * t)).exp();
    let sum: f64 = (-4..=4).map(weight).sum();
    let want: Vec<f64> = (0..81).map(|i| weight(i / 9 - 4) * weight(i % 9 - 4) / (sum * sum)).collect();
    close(&found, &want);
}

/// Four pixels become three of length 4/3; the first is `(x₀ + x₁/3) · 3/4`, and the centers 1/2, 3/2, 5/2 and 7/2 of the
/// pixels lie in the parts 0, 1, 1 and 2. All rows are alike.
#[test]
fn pixelation_averages_over_fewer_pixels() {
    let row = [0.0f32, 1.0, 0.5, 0.25];
    let values: Vec<f32> = (0..16).map(|i| row[i % 4]).collect();
    let found = Corruption::Pixelation.apply(&images([1, 4, 4, 1], &values), 4, Key::new(0));
    let [a, b, c] = [0.25, 0.75, 0.75 * (0.5 / 3.0 + 0.25)];
    let want: Vec<f64> = (0..16).map(|i| [a, b, b, c][i % 4]).collect();
    close(&found, &want);
}

/// A flat block has one coefficient, `8 (v − 128)`, a multiple of 16 at quality 50 (severity 4) for even `v`.
#[test]
fn jpeg_keeps_a_flat_image_and_rounds_its_coefficient() {
    let flat = |v: f32| images([1, 8, 8, 1], &[v / 255.0; 64]);
    close(&Corruption::Jpeg.apply(&flat(100.0), 4, Key::new(0)), &[100.0 / 255.0; 64]);
    // By hand: 8 · (101 − 128) = −216 is −13.5 steps of 16, rounded away from 0 to −14: −224 / 8 + 128 = 100.
    close(&Corruption::Jpeg.apply(&flat(101.0), 4, Key::new(0)), &[100.0 / 255.0; 64]);
}

/// Far from both ends of the range, so that clamping changes nothing that would show in a mean.
#[test]
fn noise_has_its_mean_and_its_deviation() {
    let x = images([1, 100, 100, 1], &[0.5; 10_000]);
    let found = Corruption::GaussianNoise.apply(&x, 5, Key::new(3)).array().to_f64();
    let mean = found.iter().sum::<f64>() / 1e4;
    let deviation = (found.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e4).sqrt();
    // Five standard errors: 0.1 / 100 of the mean, 0.1 / √(2 · 10⁴) of the deviation.
    assert!((mean - 0.5).abs() < 5e-3 && (deviation - 0.1).abs() < 5.0 * 0.1 / 141.0, "{mean} {deviation}");
}

#[test]
#[should_panic(expected = "severity 6 of 5")]
fn a_severity_that_does_not_exist_is_a_bug() {
    let _ = Corruption::Contrast.apply(&images([1, 1, 1, 1], &[0.5]), 6, Key::new(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn images_stay_in_range_and_depend_on_no_other(
        seed in 0u64..1000, kind in 0usize..6, severity in 1usize..=5, h in 1usize..20, w in 1usize..20, color: bool,
    ) {
        let shape = [3, h, w, if color { 3 } else { 1 }];
        let (x, corruption, key) = (random(shape, seed), Corruption::ALL[kind], Key::new(seed));
        let found = corruption.apply(&x, severity, key);
        prop_assert_eq!(&found.shape()[..], &shape[..]);
        let values = found.to_vec::<f32>();
        prop_assert!(values.iter().all(|v| (0.0..=1.0).contains(v)));
        let first = corruption.apply(&x.slice(0, 0, 1), severity, key).to_vec::<f32>();
        prop_assert_eq!(&first[..], &values[..first.len()]);
    }

    #[test]
    fn a_flat_gray_image_stays_flat_without_noise(v in 0u8..=255, kind in 1usize..6, severity in 1usize..=5) {
        let value = f32::from(v) / 255.0;
        let found = Corruption::ALL[kind].apply(&images([1, 9, 7, 1], &[value; 63]), severity, Key::new(0));
        let values = found.to_vec::<f32>();
        prop_assert!(values.iter().all(|v| (v - values[0]).abs() < 1e-6), "{:?}", values);
        if !matches!(Corruption::ALL[kind], Corruption::Brightness | Corruption::Jpeg) {
            prop_assert!((values[0] - value).abs() < 1e-6);
        }
    }

    #[test]
    fn parts_of_a_line_cover_it_once(side in 1usize..40, share in 0.05f64..1.0) {
        let parts = ((side as f64 * share) as usize).max(1);
        let mut covered = vec![0.0; side];
        for part in overlaps(side, parts) {
            prop_assert!((part.iter().map(|(_, s)| s).sum::<f64>() - 1.0).abs() < 1e-12);
            part.iter().for_each(|&(t, s)| covered[t] += s * side as f64 / parts as f64);
        }
        prop_assert!(covered.iter().all(|c| (c - 1.0).abs() < 1e-12), "{:?}", covered);
    }
}
