//! Representation diagnostics without a task: spread, uniformity, rank.

use crate::fit_error::{FitError, check_finite};
use crate::spectrum::Spectrum;
use serde::{Deserialize, Serialize};
use tarrl_tensor::{DType, Tensor, Transpose, math};

/// Figures of a sample of features `(n, d)`; two thousand test images give stable ones.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// `mean_i ‖f(x_i) − mean f‖`: the scale that a relative displacement is measured in.
    pub spread: f64,
    /// The mean over features of the standard deviation of normalized rows, times `√d`:
    /// 1 on a sphere that is used evenly, 0 at collapse.
    pub deviation: f64,
    /// `ln mean_{i<j} exp(−2 ‖u_i − u_j‖²)` of normalized rows (Wang and Isola, arXiv 2005.10242): 0 at collapse; rows of
    /// zeros stay zero.
    pub uniformity: f64,
    /// `exp(−Σ p ln p)` with `p = σ/Σσ + 1e-7` over the `min(n, d)` singular values of the uncentered features
    /// (RankMe, arXiv 2210.02885), at most their number.
    pub rank_me: f64,
    /// The same of the centered features without the offset (Roy and Vetterli, 2007).
    pub effective_rank: f64,
    /// `(Σλ)²/Σλ²` over the eigenvalues of the covariance.
    pub participation: f64,
}

/// The figures of `features (n, d)`, in f64. Constant features have all ranks 1.
///
/// # Errors
/// If a feature is not finite.
///
/// # Panics
/// If there are fewer than two rows.
#[track_caller]
pub fn diagnose(features: &Tensor) -> Result<Diagnostics, FitError> {
    let &[n, d] = &features.shape()[..] else { panic!("diagnose: features {:?}", features.shape()) };
    assert!(n >= 2, "diagnose: features {:?} need two rows", features.shape());
    check_finite(features)?;
    let x = features.cast(DType::F64);
    let centered = &x - &x.mean(0);
    let unit = x.l2_normalize(NORM_FLOOR);
    let variance = (&unit - &unit.mean(0)).square().sum(0).mul_scalar(1.0 / (n - 1) as f64);
    let raw = Spectrum::of_gram(&x).values;
    let covariance = Spectrum::of_gram(&remove_noise(&centered, &x)).values;
    let (sum, squares) = covariance.iter().fold((0.0, 0.0), |(s, q), l| (s + l, q + l * l));
    Ok(Diagnostics {
        spread: centered.norm(1).mean_all().item(),
        deviation: variance.sqrt().mean_all().item() * (d as f64).sqrt(),
        uniformity: uniformity(&unit),
        rank_me: rank_me(&raw, n.min(d)),
        effective_rank: math::exp(entropy(&roots(&covariance))),
        participation: if squares > 0.0 { sum * sum / squares } else { 1.0 },
    })
}

/// The centered features, exactly zero if nothing but rounding is left of them.
fn remove_noise(centered: &Tensor, x: &Tensor) -> Tensor {
    let size = |t: &Tensor| t.square().sum_all().item();
    let noise = f64::from(f32::EPSILON);
    if size(centered) <= noise * noise * size(x) { centered.zeros_like() } else { centered.clone() }
}

fn uniformity(unit: &Tensor) -> f64 {
    let n = unit.shape()[0];
    // ‖u − v‖² = ‖u‖² + ‖v‖² − 2 u·v; the squares are 1 but for rows below the floor, and exactly so without rounding.
    let squares = unit.square().sum(1).array().to_f64().into_iter();
    let squares: Vec<f64> = squares.map(|s| if (s - 1.0).abs() < 1e-9 { 1.0 } else { s }).collect();
    let squares = Tensor::new(unit.device(), [n, 1], &squares).mul_scalar(-2.0);
    let mut sum = 0.0;
    for start in (0..n).step_by(ROWS) {
        let part = unit.slice(0, start, ROWS.min(n - start));
        let cosines = part.matmul_with(unit, Transpose { a: false, b: true });
        let lengths = &squares.slice(0, start, part.shape()[0]) + &squares.t();
        sum += (&cosines.mul_scalar(4.0) + &lengths).exp().sum_all().item();
    }
    let pairs = (n * (n - 1)) as f64;
    math::ln((sum - n as f64) / pairs)
}

fn rank_me(eigenvalues: &[f64], count: usize) -> f64 {
    let sigma = roots(eigenvalues);
    let total: f64 = sigma.iter().sum();
    if total == 0.0 {
        return 1.0;
    }
    let share = |i: usize| sigma.get(i).map_or(0.0, |s| s / total) + 1e-7;
    math::exp((0..count).map(|i| -share(i) * math::ln(share(i))).sum()).min(count as f64)
}

/// The entropy of positive numbers as shares of their sum.
fn entropy(values: &[f64]) -> f64 {
    let total: f64 = values.iter().sum();
    values.iter().map(|v| -(v / total) * math::ln(v / total)).sum()
}

fn roots(values: &[f64]) -> Vec<f64> {
    values.iter().map(|v| v.sqrt()).collect()
}

/// Rows whose cosines with all others are in memory at a time.
const ROWS: usize = 256;

const NORM_FLOOR: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::{Cpu, Device, Key};

    fn device() -> Device {
        Cpu { threads: 1, ..Cpu::default() }.open()
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-8, "{a} is not {b}");
    }

    /// Computed in double precision by another program, to nine digits.
    #[test]
    fn diagnostics_of_a_small_sample_match_reference_values() {
        let device = device();
        let a =
            Tensor::new(&device, [4, 3], &[1.0, 2.0, 0.0, 0.0, 1.0, -1.0, 2.0, 0.0, 1.0, -1.0, 1.0, 1.0f64]);
        let b = [1.0, 1.0, 0.5, 0.5, 1.0, -0.5, 1.5, -0.5, 1.0, -0.5, 1.0, 2.0f64];
        let b = Tensor::new(&device, [4, 3], &b);
        let found = diagnose(&a).unwrap();
        close(found.rank_me, 2.942065738);
        close(found.effective_rank, 2.869952464);
        close(found.participation, 2.315068493);
        close(found.uniformity, -2.702924546);
        close(found.deviation, 0.531520549 * 3f64.sqrt());
        close(diagnose(&b).unwrap().uniformity, -2.301975334);
        // Distances of the rows to their mean (.5, 1, .25), by hand.
        let far = [1.3125, 1.8125, 3.8125, 2.8125f64].map(f64::sqrt);
        close(found.spread, far.iter().sum::<f64>() / 4.0);
    }

    #[test]
    fn constant_features_are_collapsed() {
        let row: Vec<f32> = (0..32).map(|j| 0.1 + j as f32 * 0.37).collect();
        let found = diagnose(&Tensor::new(&device(), [50, 32], &row.repeat(50))).unwrap();
        // Thirty-two shares of 1e-7 weigh 32·1e-7·16 in the entropy.
        assert!((found.rank_me - 1.0).abs() < 1e-4, "{found:?}");
        assert_eq!((found.effective_rank, found.participation), (1.0, 1.0));
        assert!(found.spread < 1e-6 && found.deviation < 1e-6 && found.uniformity.abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn features_of_zeros_are_collapsed() {
        for n in [2, 3, 100] {
            let found = diagnose(&Tensor::new(&device(), [n, 2], &vec![0.0f32; 2 * n])).unwrap();
            assert_eq!((found.rank_me, found.effective_rank, found.participation), (1.0, 1.0, 1.0));
            assert_eq!((found.spread, found.deviation, found.uniformity), (0.0, 0.0, 0.0), "{n}");
        }
        // A row of zeros has the distance 1 from one of length 1, two opposite ones the distance 2.
        let found = diagnose(&Tensor::new(&device(), [3, 1], &[0.0f32, 3.0, -2.0])).unwrap();
        close(found.uniformity, ((2.0 * (-2.0f64).exp() + (-8.0f64).exp()) / 3.0).ln());
    }

    #[test]
    fn the_rank_is_at_most_the_number_of_rows() {
        let mut s = Key::new(6).stream();
        let x: Vec<f64> = (0..20 * 256).map(|_| s.normal()).collect();
        let found = diagnose(&Tensor::new(&device(), [20, 256], &x)).unwrap();
        assert!(found.rank_me > 19.0 && found.rank_me <= 20.0, "{found:?}");
        let mut x = vec![0.0f64; 20 * 256];
        (0..20).for_each(|i| x[i * 256 + i] = 1.0);
        assert_eq!(diagnose(&Tensor::new(&device(), [20, 256], &x)).unwrap().rank_me, 20.0);
    }

    #[test]
    fn features_that_are_not_finite_are_refused() {
        let x = Tensor::new(&device(), [3, 1], &[0.0f32, 3.0, f32::NAN]);
        assert_eq!(diagnose(&x), Err(FitError::NotFinite { sample: 2 }));
    }

    #[test]
    fn orthonormal_features_have_full_rank() {
        let mut x = vec![0.0f32; 16 * 8];
        (0..8).for_each(|j| x[j * 8 + j] = 1.0);
        (8..16).for_each(|j| x[j * 8 + j - 8] = -1.0);
        let found = diagnose(&Tensor::new(&device(), [16, 8], &x)).unwrap();
        for rank in [found.rank_me, found.effective_rank, found.participation] {
            assert!((rank - 8.0).abs() < 1e-4, "{found:?}");
        }
    }

    #[test]
    fn ranks_do_not_see_scale() {
        let mut s = Key::new(5).stream();
        let x: Vec<f64> = (0..60 * 7).map(|_| s.normal()).collect();
        let x = Tensor::new(&device(), [60, 7], &x);
        let (one, ten) = (diagnose(&x).unwrap(), diagnose(&x.mul_scalar(10.0)).unwrap());
        close(one.effective_rank, ten.effective_rank);
        close(one.uniformity, ten.uniformity);
        close(one.spread * 10.0, ten.spread);
    }
}
