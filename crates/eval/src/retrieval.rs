//! Retrieval: whether the nearest image of a bank by cosine has the label of the query, clean and under attack.

use crate::displacement::most_displaced;
use crate::fit_error::FitError;
use crate::knn::Knn;
use tarrl_attacks::{Pgd, Threat};
use tarrl_tensor::{Key, Tensor};

/// Images with labels that queries are compared with, by their representations.
#[derive(Clone, Copy, Debug)]
pub struct Bank<'a> {
    /// `(n, d)`
    pub features: &'a Tensor,
    /// `(n)`
    pub labels: &'a [u32],
}

impl Bank<'_> {
    /// For each of `queries (m, d)` whether the nearest image of the bank by cosine has the query's label: the outcomes
    /// behind recall at 1. The first of equally near images counts.
    ///
    /// # Errors
    /// If a feature is not finite.
    ///
    /// # Panics
    /// If the shapes do not fit.
    #[track_caller]
    pub fn recall_at_one(&self, queries: &Tensor, labels: &[u32]) -> Result<Vec<bool>, FitError> {
        assert_eq!(queries.shape()[0], labels.len(), "recall_at_one: one label for each query");
        let found = Knn { k: 1, temperature: 1.0 }.predict(self.features, self.labels, queries)?;
        Ok(found.iter().zip(labels).map(|(a, b)| a == b).collect())
    }
}

/// The points of the ball around each image at which the direction of the representation is turned the farthest, shaped as
/// `images (n, h, w, c)`: an ascent of `‖f(u)/‖f(u)‖ − f(x)/‖f(x)‖‖²`, which is `2 − 2 cos`, without labels and without
/// the bank. Image `i` draws its starting point from `key.fold(i)`.
///
/// # Panics
/// If the attack leaves the ball.
#[track_caller]
pub fn most_turned(
    encoder: &dyn Fn(&Tensor) -> Tensor,
    images: &Tensor,
    threat: &Threat,
    attack: &Pgd,
    key: Key,
) -> Tensor {
    let direction = |x: &Tensor| encoder(x).l2_normalize(FLOOR);
    let keys: Vec<Key> = (0..images.shape()[0]).map(|i| key.fold(i)).collect();
    most_displaced(&direction, images, threat, attack, &keys)
}

/// Shorter representations have no direction.
const FLOOR: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::encode;
    use crate::toy::Toy;
    use tarrl_tensor::Cpu;

    /// The cosines of the representations of `a` and `b`, image by image.
    fn cosines(encoder: &dyn Fn(&Tensor) -> Tensor, a: &Tensor, b: &Tensor) -> Vec<f64> {
        let [a, b] = [a, b].map(|x| encode(encoder, x).l2_normalize(FLOOR));
        (&a * &b).sum(1).array().to_f64()
    }

    #[test]
    fn the_nearest_by_angle_decides_whatever_its_length() {
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        let features = Tensor::new(&device, [3, 2], &[10.0f32, 0.0, 0.0, 0.1, -1.0, -1.0]);
        let bank = Bank { features: &features, labels: &[0, 1, 2] };
        let queries = Tensor::new(&device, [4, 2], &[0.1f32, 0.09, 0.1, 0.2, -9.0, -8.0, 3.0, 0.0]);
        let found = bank.recall_at_one(&queries, &[0, 1, 2, 1]).unwrap();
        assert_eq!(found, [true, true, true, false]);
    }

    /// In the plane, `f(x) = x` and the Euclidean ball of radius `r` around a point of length `l`: the largest angle is that of
    /// the tangent, `arcsin(r / l)`.
    #[test]
    fn in_the_plane_the_largest_turn_is_the_tangents() {
        let device = Cpu { threads: 1, ..Cpu::default() }.open();
        let x = Tensor::new(&device, [2, 1, 2, 1], &[0.6f32, 0.8, 2.0, 0.0]);
        let encoder = |x: &Tensor| x.reshape([x.shape()[0], 2]);
        let threat = Threat { bounds: None, ..Threat::new(tarrl_attacks::Norm::L2, 0.5) };
        let attack = Pgd { steps: 200, step_size: 0.05, ..Pgd::default() };
        let end = most_turned(&encoder, &x, &threat, &attack, Key::new(1));
        for (cosine, length) in cosines(&encoder, &x, &end).into_iter().zip([1.0f64, 2.0]) {
            let least = (1.0 - (0.5 / length).powi(2)).sqrt();
            // A step of 0.05 along the circle changes the cosine near its least by its square.
            assert!(cosine >= least - 1e-6 && cosine < least + 5e-3, "{cosine} {least}");
        }
    }

    #[test]
    fn an_attack_lowers_the_recall() {
        let toy = Toy::new(7, 60, 6, 3, 1);
        let encoder = |x: &Tensor| toy.encode(x);
        let features = encoder(&toy.images);
        let bank = Bank { features: &features, labels: &toy.labels };
        let recall = |x: &Tensor| {
            let found = bank.recall_at_one(&encoder(x), &toy.labels).unwrap();
            found.iter().filter(|&&hit| hit).count()
        };
        let threat = Threat::linf(0.2);
        let attacked = most_turned(&encoder, &toy.images, &threat, &Pgd::usual(&threat, 20), Key::new(2));
        // Every image finds itself, unless another has the same direction.
        assert_eq!(recall(&toy.images), 60);
        assert!(recall(&attacked) < 60);
    }
}
