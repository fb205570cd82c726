//! Nearest-neighbor and nearest-centroid heads, which need no training.

use crate::fit_error::{FitError, check_finite};
use crate::probe::check;
use serde::{Deserialize, Serialize};
use tarrl_bound::LinearHead;
use tarrl_tensor::{Tensor, Transpose, math};

/// Weighted nearest neighbors by cosine (Wu et al., arXiv 1805.01978): each of the `k` nearest samples
/// of a bank votes for its label with weight `exp(cosine / temperature)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knn {
    /// Neighbors that vote; all of the bank if it is smaller.
    pub k: usize,
    /// Cosines are divided by this before the exponential; positive.
    pub temperature: f64,
}

impl Knn {
    /// Twenty neighbors at temperature 0.07.
    pub const NEAR: Knn = Knn { k: 20, temperature: 0.07 };
    /// Two hundred neighbors at temperature 0.1.
    pub const WIDE: Knn = Knn { k: 200, temperature: 0.1 };

    /// The label of each query `(m, d)` by the bank `(n, d)` and its `labels (n)`.
    ///
    /// The lowest label wins a tie of votes, the lowest index a tie of cosines.
    ///
    /// # Errors
    /// If `k` or the temperature is not positive, or a feature is not finite.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn predict(&self, bank: &Tensor, labels: &[u32], queries: &Tensor) -> Result<Vec<u32>, FitError> {
        let largest = |votes: &Vec<f64>| {
            (0..votes.len()).rev().max_by(|&a, &b| votes[a].total_cmp(&votes[b])).unwrap_or(0) as u32
        };
        Ok(self.votes(bank, labels, queries)?.iter().map(largest).collect())
    }

    /// The votes of each query for each label, in units of the vote of its nearest neighbor, so that none overflows.
    ///
    /// # Errors
    /// As [`predict`](Knn::predict).
    ///
    /// # Panics
    /// As [`predict`](Knn::predict).
    #[track_caller]
    pub fn votes(&self, bank: &Tensor, labels: &[u32], queries: &Tensor) -> Result<Vec<Vec<f64>>, FitError> {
        let classes = labels.iter().max().map_or(0, |&top| top as usize + 1);
        check(bank, labels, classes);
        self.check()?;
        check_finite(bank)?;
        check_finite(queries)?;
        let (n, m) = (labels.len(), queries.shape()[0]);
        let k = self.k.min(n);
        let (bank, queries) = (directions(bank), directions(queries));
        let mut votes = Vec::with_capacity(m);
        for start in (0..m).step_by(QUERIES) {
            let part = queries.slice(0, start, QUERIES.min(m - start));
            let cosines = part.matmul_with(&bank, Transpose { a: false, b: true }).to_vec::<f32>();
            votes.extend(cosines.chunks(n).map(|row| {
                let mut order: Vec<usize> = (0..n).collect();
                let nearer = |&a: &usize, &b: &usize| row[b].total_cmp(&row[a]).then(a.cmp(&b));
                order.select_nth_unstable_by(k - 1, nearer);
                // Sorted, so that the sum has the same bits whatever the selection did.
                order[..k].sort_unstable();
                let nearest = order[..k].iter().map(|&i| row[i]).fold(f32::NEG_INFINITY, f32::max);
                let mut votes = vec![0.0; classes];
                for &i in &order[..k] {
                    let farther = f64::from(row[i]) - f64::from(nearest);
                    votes[labels[i] as usize] += math::exp(farther / self.temperature);
                }
                votes
            }));
        }
        Ok(votes)
    }

    fn check(&self) -> Result<(), FitError> {
        let setting = |field, value| Err(FitError::Setting { field, value, range: "it must be positive" });
        match self {
            Knn { k: 0, .. } => setting("k", 0.0),
            Knn { temperature, .. } if *temperature > 0.0 => Ok(()),
            Knn { temperature, .. } => setting("temperature", *temperature),
        }
    }
}

/// The rows of `x` divided by their length.
fn directions(x: &Tensor) -> Tensor {
    // A power of two changes no bit, and brings long rows to where their squares do not overflow.
    let scale = |most: f64| if most > LONG { math::exp2(math::log2(LONG / most).floor()) } else { 1.0 };
    let scales: Vec<f64> = x.abs().max(1).array().to_f64().into_iter().map(scale).collect();
    let scales = Tensor::new(x.device(), [scales.len(), 1], &scales).cast(x.dtype());
    (x * &scales).l2_normalize(NORM_FLOOR)
}

/// The head that picks the class with the nearest mean: `w_c = 2 μ_c`, `b_c = −‖μ_c‖²`, which is
/// linear, so that Theorem A2 (docs/theory.md) speaks of it.
///
/// # Errors
/// If there are fewer than two classes, a class has no sample, or a feature is not finite.
///
/// # Panics
/// If the shapes do not fit.
#[track_caller]
pub fn nearest_centroid(features: &Tensor, labels: &[u32], classes: usize) -> Result<LinearHead, FitError> {
    check(features, labels, classes);
    if classes < 2 {
        return Err(FitError::Classes(classes));
    }
    check_finite(features)?;
    let d = features.shape()[1];
    let mut sums = vec![0.0; classes * d];
    let mut counts = vec![0usize; classes];
    for (row, &label) in features.array().to_f64().chunks(d).zip(labels) {
        counts[label as usize] += 1;
        let sum = &mut sums[label as usize * d..][..d];
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    if let Some(class) = counts.iter().position(|&count| count == 0) {
        return Err(FitError::NoSample { class, classes });
    }
    let weight: Vec<f64> = sums.iter().enumerate().map(|(i, s)| 2.0 * s / counts[i / d] as f64).collect();
    let bias = weight.chunks(d).map(|w| -0.25 * w.iter().map(|v| v * v).sum::<f64>()).collect();
    Ok(LinearHead::new(classes, d, weight, bias))
}

/// Queries whose cosines are in memory at a time.
const QUERIES: usize = 256;

/// Rows with larger elements are scaled before their squares are summed.
const LONG: f64 = 1e9;

/// Rows shorter than this are divided by it instead of by their norm.
const NORM_FLOOR: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tarrl_tensor::{Cpu, Device};

    fn device() -> Device {
        Cpu { threads: 1, ..Cpu::default() }.open()
    }

    /// Values by hand: cosines .995037, .975441, .292714 of the three nearest.
    #[test]
    fn one_near_neighbor_outvotes_two() {
        let device = device();
        let bank = Tensor::new(&device, [4, 2], &[1.0f32, 0.0, 0.9, 0.3, 0.0, 1.0, 0.2, 1.0]);
        let query = Tensor::new(&device, [1, 2], &[1.0f32, 0.1]);
        let votes = Knn { k: 3, temperature: 0.1 }.votes(&bank, &[0, 1, 1, 1], &query).unwrap().remove(0);
        // In units of e^9.95037; an f32 cosine is within 1e-7, times the exponent's 1/0.1.
        assert_eq!(votes[0], 1.0);
        assert!((votes[1] / (17248.721 / 20960.016) - 1.0).abs() < 4e-6, "{votes:?}");
        let predict = |temperature| Knn { k: 3, temperature }.predict(&bank, &[0, 1, 1, 1], &query).unwrap();
        assert_eq!((predict(0.1), predict(1e3)), (vec![0], vec![1]));
    }

    /// `e^{1000}` overflows; the nearest decides at a temperature that small.
    #[test]
    fn a_small_temperature_leaves_the_nearest_neighbor() {
        let device = device();
        let bank = Tensor::new(&device, [4, 2], &[1.0f32, 0.0, 0.9, 0.436, 0.8, 0.6, 0.0, 1.0]);
        let query = Tensor::new(&device, [1, 2], &[1.0f32, 0.0]);
        for temperature in [1e-3, 1e-6, f64::MIN_POSITIVE] {
            let found = Knn { k: 3, temperature }.predict(&bank, &[2, 1, 0, 0], &query);
            assert_eq!(found, Ok(vec![2]), "{temperature}");
        }
    }

    #[test]
    fn long_queries_have_a_direction_and_more_neighbors_than_the_bank_are_all_of_it() {
        let device = device();
        let bank = Tensor::new(&device, [3, 2], &[1.0f32, 0.0, 0.0, 1.0, 0.0, 1.0]);
        for length in [1.0f32, 1e-9, 1.7e9, 2e19, f32::MAX] {
            let query = Tensor::new(&device, [1, 2], &[0.1 * length, length]);
            let votes = |k| Knn { k, temperature: 0.5 }.votes(&bank, &[0, 1, 1], &query).unwrap().remove(0);
            // The cosines are 0.1/√1.01 and 1/√1.01.
            let want = (-1.8 / 1.01f64.sqrt()).exp();
            assert!((votes(3)[0] - want).abs() < 1e-6 && votes(3)[1] == 2.0, "{length}: {:?}", votes(3));
            assert_eq!(votes(usize::MAX), votes(3));
        }
    }

    #[test]
    fn temperatures_that_are_not_positive_and_queries_without_direction_are_refused() {
        let device = device();
        let bank = Tensor::new(&device, [2, 1], &[1.0f32, -1.0]);
        let refused = |knn: Knn, name: &str| {
            let found = knn.predict(&bank, &[0, 1], &bank);
            matches!(found, Err(FitError::Setting { field, .. }) if field == name)
        };
        for temperature in [0.0, -0.1, f64::NAN] {
            assert!(refused(Knn { k: 1, temperature }, "temperature"), "{temperature}");
        }
        assert!(refused(Knn { k: 0, ..Knn::NEAR }, "k"));
        for wrong in [f32::INFINITY, f32::NAN] {
            let query = Tensor::new(&device, [2, 1], &[1.0, wrong]);
            let found = Knn::NEAR.predict(&bank, &[0, 1], &query);
            assert_eq!(found, Err(FitError::NotFinite { sample: 1 }));
        }
    }

    #[test]
    fn ties_go_to_the_lowest_label() {
        let device = device();
        let bank = Tensor::new(&device, [2, 1], &[1.0f32, 1.0]);
        assert_eq!(Knn::NEAR.predict(&bank, &[1, 0], &bank), Ok(vec![0, 0]));
        assert_eq!(Knn { k: 1, temperature: 1.0 }.predict(&bank, &[1, 0], &bank), Ok(vec![1, 1]));
    }

    #[test]
    fn a_class_without_centroid_and_a_single_class_are_refused() {
        let x = Tensor::new(&device(), [2, 1], &[1.0f32, 2.0]);
        let error = nearest_centroid(&x, &[0, 2], 3).unwrap_err();
        assert!(error.to_string().starts_with("class 1 of 3 has no sample"), "{error}");
        assert_eq!(nearest_centroid(&x, &[0, 0], 1), Err(FitError::Classes(1)));
    }

    proptest! {
        #[test]
        fn a_sample_is_its_own_nearest_neighbor(seed: u64, n in 1usize..600) {
            let mut s = tarrl_tensor::Key::new(seed).stream();
            let x: Vec<f32> = (0..n * 5).map(|_| s.normal() as f32).collect();
            let labels: Vec<u32> = (0..n).map(|_| s.below(7) as u32).collect();
            let x = Tensor::new(&device(), [n, 5], &x);
            prop_assert_eq!(Knn { k: 1, temperature: 0.1 }.predict(&x, &labels, &x), Ok(labels));
        }

        /// Against the distances themselves.
        #[test]
        fn the_centroid_head_picks_the_nearest(seed: u64) {
            let mut s = tarrl_tensor::Key::new(seed).stream();
            let x: Vec<f32> = (0..24).map(|_| s.normal() as f32).collect();
            let labels = [0, 1, 2, 0, 1, 2, 0, 0];
            let head = nearest_centroid(&Tensor::new(&device(), [8, 3], &x), &labels, 3).unwrap();
            let mean = |c: u32, j: usize| {
                let own: Vec<f64> = (0..8).filter(|&i| labels[i] == c).map(|i| f64::from(x[i * 3 + j])).collect();
                own.iter().sum::<f64>() / own.len() as f64
            };
            for row in x.chunks(3) {
                let z: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
                let logit = |c: usize| head.logits(&z)[c];
                let far = |c: usize| (0..3).map(|j| (f64::from(row[j]) - mean(c as u32, j)).powi(2)).sum::<f64>();
                for (a, b) in [(0, 1), (1, 2), (0, 2)] {
                    // ‖z − μ‖² = ‖z‖² − logit.
                    prop_assert!(((logit(a) - logit(b)) - (far(b) - far(a))).abs() < 1e-10);
                }
            }
        }
    }
}
