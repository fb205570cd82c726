//! Monitor: kNN accuracy, alignment and uniformity of the representations during training.

use tarrl_data::Dataset;
use tarrl_encoders::InferenceEncoder;
use tarrl_tensor::{Array, Device, Key, Tensor, Transpose, math};

/// Labeled images of the bank, and queries.
const BANK: usize = 400;
const QUERIES: usize = 200;

/// Neighbors that vote, and the temperature of their votes (Wu et al. 2018; values of Caron et al. 2021).
const NEIGHBORS: usize = 20;
const TEMPERATURE: f64 = 0.07;

/// Images in memory at a time.
const BATCH: usize = 200;

/// Training images of a dataset, split into a bank and queries, whose labels serve the monitor alone. Never test images:
/// a monitored number may influence choices.
pub(crate) struct Monitor {
    bank: Vec<Tensor>,
    queries: Vec<Tensor>,
    bank_labels: Vec<usize>,
    query_labels: Vec<usize>,
}

impl Monitor {
    /// The same images for every method and seed.
    pub(crate) fn new(data: &Dataset, device: &Device) -> Self {
        let mut order: Vec<usize> = (0..data.len()).collect();
        Key::new(0).fold("monitor").stream().shuffle(&mut order);
        let queries = QUERIES.min(data.len() / 3);
        let bank = BANK.min(data.len() - queries);
        let (asked, known) = (&order[..queries], &order[queries..queries + bank]);
        let images = |part: &[usize]| -> Vec<Tensor> {
            part.chunks(BATCH).map(|part| Array::from_ndarray(device, &data.batch(part)).into()).collect()
        };
        let labels = |part: &[usize]| part.iter().map(|&i| usize::from(data.labels[i])).collect();
        Monitor {
            bank: images(known),
            queries: images(asked),
            bank_labels: labels(known),
            query_labels: labels(asked),
        }
    }

    /// The share of the queries in `[0, 1]` whose nearest neighbors in the bank, by cosine, vote for their class.
    pub(crate) fn knn(&self, encoder: &InferenceEncoder) -> f64 {
        let unit = |parts: &[Tensor]| {
            let parts: Vec<Tensor> = parts.iter().map(|x| encoder.forward(x).detach()).collect();
            Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0).l2_normalize(1e-12)
        };
        if self.queries.is_empty() {
            return 0.0;
        }
        let similarities =
            unit(&self.queries).matmul_with(&unit(&self.bank), Transpose::RIGHT).array().to_f64();
        let right = similarities
            .chunks(self.bank_labels.len())
            .zip(&self.query_labels)
            .filter(|(row, label)| vote(row, &self.bank_labels) == **label)
            .count();
        right as f64 / self.query_labels.len() as f64
    }
}

/// The class with the most weight among the nearest; of equals the first.
fn vote(similarities: &[f64], labels: &[usize]) -> usize {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| similarities[b].total_cmp(&similarities[a]).then(a.cmp(&b)));
    let mut votes = vec![0.0; labels.iter().max().map_or(1, |most| most + 1)];
    for &near in &order[..NEIGHBORS.min(order.len())] {
        votes[labels[near]] += math::exp(similarities[near] / TEMPERATURE);
    }
    (0..votes.len()).fold(0, |best, class| if votes[class] > votes[best] { class } else { best })
}

/// The mean squared distance of the unit representations `(n, d)` of two views (Wang & Isola 2020): 0 if views agree.
pub(crate) fn alignment(first: &Tensor, second: &Tensor) -> f64 {
    let gap = &first.detach().l2_normalize(1e-12) - &second.detach().l2_normalize(1e-12);
    gap.square().sum(1).mean_all().item()
}

/// `ln mean e^{−2‖·‖²}` over pairs of unit rows of `z` `(n, d)` (Wang & Isola 2020): 0 at collapse, the lower the more
/// uniform on the sphere; 0 without pairs. Rows of zeros stay zero.
pub(crate) fn uniformity(z: &Tensor) -> f64 {
    let unit = z.detach().l2_normalize(1e-12);
    let n = unit.shape()[0];
    let cosines = unit.matmul_with(&unit, Transpose::RIGHT).array().to_f64();
    if n < 2 {
        return 0.0;
    }
    // ‖u − v‖² = ‖u‖² + ‖v‖² − 2 u·v; the squares are 1 but for rows below the floor, and exactly so without rounding.
    let squares = unit.square().sum(1).array().to_f64().into_iter();
    let squares: Vec<f64> = squares.map(|s| if (s - 1.0).abs() < 1e-4 { 1.0 } else { s }).collect();
    let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
    let mean = |(i, j): (usize, usize)| 0.5 * (squares[i] + squares[j]) - cosines[i * n + j];
    let sum: f64 = pairs.map(|pair| math::exp(-4.0 * mean(pair))).sum();
    math::ln(sum / (n * (n - 1) / 2) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tarrl_tensor::cpu;

    /// Published values: alignment(z1, z2) = 0.200723707, uniformity(z1) = −2.702924546, uniformity(z2) = −2.301975334.
    #[test]
    fn alignment_and_uniformity_match_published_values() {
        let rows = |values: [f64; 12]| Tensor::new(&cpu(), [4, 3], &values);
        let z1 = rows([1.0, 2.0, 0.0, 0.0, 1.0, -1.0, 2.0, 0.0, 1.0, -1.0, 1.0, 1.0]);
        let z2 = rows([1.0, 1.0, 0.5, 0.5, 1.0, -0.5, 1.5, -0.5, 1.0, -0.5, 1.0, 2.0]);
        assert!((alignment(&z1, &z2) - 0.200723707).abs() < 1e-9);
        assert!((uniformity(&z1) + 2.702924546).abs() < 1e-9);
        assert!((uniformity(&z2) + 2.301975334).abs() < 1e-9);
        assert!(uniformity(&rows([1.0; 12])).abs() < 1e-12);
    }

    #[test]
    fn representations_of_zeros_are_collapsed() {
        for n in [1, 2, 3, 100] {
            assert_eq!(uniformity(&Tensor::new(&cpu(), [n, 2], &vec![0.0f32; 2 * n])), 0.0, "{n}");
        }
        // A row of zeros has the distance 1 from one of length 1, two opposite ones the distance 2.
        let found = uniformity(&Tensor::new(&cpu(), [3, 1], &[0.0, 3.0, -2.0]));
        assert!((found - ((2.0 * (-2.0f64).exp() + (-8.0f64).exp()) / 3.0).ln()).abs() < 1e-12, "{found}");
    }

    /// Of the bank norm [[1,0],[.9,.3],[0,1],[.2,1]] with labels 0,1,1,1 the nearest three vote for class 0 at
    /// τ = 0.1 although two of them are of class 1; at τ = 0.07 the nearest counts even more.
    #[test]
    fn nearer_neighbors_have_larger_votes() {
        let similarities = [0.995037, 0.975441, 0.099504, 0.292714];
        assert_eq!(vote(&similarities, &[0, 1, 1, 1]), 0);
        assert_eq!(vote(&similarities, &[0, 1, 0, 0]), 0);
        assert_eq!(vote(&[0.5, 0.5], &[1, 0]), 0);
    }
}
