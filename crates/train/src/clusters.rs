//! Clusters of a teacher's representations, by k-means.

use tarrl_data::Dataset;
use tarrl_encoders::InferenceEncoder;
use tarrl_tensor::{Array, Device, Key, Tensor, Transpose};

/// Maximum iterations of Lloyd's algorithm; it stops earlier when no sample changes its cluster.
const MAX_ITERATIONS: usize = 30;

/// Images in memory at a time.
const BATCH: usize = 256;

/// For each number of `sets` the cluster of every image of `data`, by unit representations of the `teacher`.
pub(crate) fn clusters(
    teacher: &InferenceEncoder,
    data: &Dataset,
    device: &Device,
    sets: &[usize],
    key: Key,
) -> Vec<Vec<u32>> {
    let indices: Vec<usize> = (0..data.len()).collect();
    let parts: Vec<Tensor> = indices
        .chunks(BATCH)
        .map(|part| teacher.forward(&Array::from_ndarray(device, &data.batch(part)).into()).detach())
        .collect();
    let z = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0).l2_normalize(1e-12);
    sets.iter().map(|&k| k_means(&z, k, key.fold(k))).collect()
}

/// The cluster of each row of `z` `(n, d)` among `k`: Lloyd's algorithm from seeds drawn with probabilities proportional
/// to their squared distance from the seeds before (Arthur & Vassilvitskii 2007). Of equally near centers the first counts; a
/// cluster that loses all its rows takes over the row that is farthest from its center.
///
/// Fewer rows than clusters leave the last clusters empty.
pub(crate) fn k_means(z: &Tensor, k: usize, key: Key) -> Vec<u32> {
    let (n, d) = (z.shape()[0], z.shape()[1]);
    let rows = z.array().to_f64();
    let row = |i: usize| &rows[i * d..][..d];
    let mut centers = seeds(&rows, d, k.min(n), key);
    let mut labels = vec![u32::MAX; n];
    for _ in 0..MAX_ITERATIONS {
        let (found, mut distances) = nearest(z, &rows, &centers);
        if found == labels {
            break;
        }
        labels = found;
        let mut sums = vec![0.0; centers.len()];
        let mut counts = vec![0usize; centers.len() / d];
        for (i, &label) in labels.iter().enumerate() {
            counts[label as usize] += 1;
            let sum = &mut sums[label as usize * d..][..d];
            sum.iter_mut().zip(row(i)).for_each(|(sum, v)| *sum += v);
        }
        for (c, &count) in counts.iter().enumerate() {
            let center = &mut centers[c * d..][..d];
            if count > 0 {
                center.iter_mut().zip(&sums[c * d..]).for_each(|(center, sum)| *center = sum / count as f64);
            } else {
                let far = first_largest(&distances);
                distances[far] = 0.0;
                center.copy_from_slice(row(far));
            }
        }
    }
    labels
}

/// `k` rows, row-major.
fn seeds(rows: &[f64], d: usize, k: usize, key: Key) -> Vec<f64> {
    let n = rows.len() / d;
    let row = |i: usize| &rows[i * d..][..d];
    let mut stream = key.fold("seeds").stream();
    let mut chosen = row(stream.below(n)).to_vec();
    let mut distances = vec![f64::INFINITY; n];
    for c in 1..k {
        let last = &chosen[(c - 1) * d..][..d];
        for (i, distance) in distances.iter_mut().enumerate() {
            *distance = distance.min(square(row(i), last));
        }
        let mut left = stream.uniform(0.0, distances.iter().sum());
        let next = distances.iter().position(|distance| {
            left -= distance;
            left < 0.0
        });
        let next = next.unwrap_or_else(|| first_largest(&distances));
        chosen.extend_from_slice(row(next));
    }
    chosen
}

/// The nearest center of each row and its squared distance. The product of all rows with all centers is the device's.
fn nearest(z: &Tensor, rows: &[f64], centers: &[f64]) -> (Vec<u32>, Vec<f64>) {
    let d = z.shape()[1];
    let k = centers.len() / d;
    let device = z.device();
    let c = Tensor::new(device, [k, d], &centers.iter().map(|&v| v as f32).collect::<Vec<f32>>());
    let products = z.matmul_with(&c, Transpose::RIGHT).array().to_f64(); // (n, k)
    let lengths: Vec<f64> = centers.chunks(d).map(|c| c.iter().map(|v| v * v).sum()).collect();
    let one = |(i, products): (usize, &[f64])| {
        let mut best = (0, f64::INFINITY);
        for (j, (product, length)) in products.iter().zip(&lengths).enumerate() {
            let score = length - 2.0 * product;
            if score < best.1 {
                best = (j, score);
            }
        }
        (best.0 as u32, square(&rows[i * d..][..d], &centers[best.0 * d..][..d]))
    };
    products.chunks(k).enumerate().map(one).unzip()
}

fn square(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// The place of the largest of finite or infinite values, the first of equals.
fn first_largest(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tarrl_tensor::cpu;

    /// Four groups of points at the corners of a square, an order of magnitude farther apart than wide.
    fn square_of_groups(n: usize) -> Tensor {
        let mut stream = Key::new(3).stream();
        let values: Vec<f32> = (0..n)
            .flat_map(|i| [(i % 4) / 2, i % 2])
            .map(|corner| corner as f32 * 10.0 + stream.uniform(-0.5, 0.5) as f32)
            .collect();
        Tensor::new(&cpu(), [n, 2], &values)
    }

    #[test]
    fn separated_groups_are_found_from_any_seed() {
        for seed in 0..20 {
            let labels = k_means(&square_of_groups(100), 4, Key::new(seed));
            let names: BTreeSet<u32> = labels.iter().copied().collect();
            assert_eq!(names.len(), 4);
            assert!((4..100).all(|i| labels[i] == labels[i % 4]), "{seed}: {labels:?}");
        }
    }

    #[test]
    fn the_same_key_gives_the_same_clusters() {
        let z = square_of_groups(60);
        assert_eq!(k_means(&z, 9, Key::new(1)), k_means(&z, 9, Key::new(1)));
        let used: BTreeSet<u32> = k_means(&z, 9, Key::new(1)).into_iter().collect();
        assert_eq!(used.len(), 9, "no cluster stays empty");
    }

    #[test]
    fn equal_rows_and_fewer_rows_than_clusters_terminate() {
        let same = Tensor::new(&cpu(), [5, 2], &[1.0f32; 10]);
        assert_eq!(k_means(&same, 3, Key::new(1)), [0; 5]);
        let two = Tensor::new(&cpu(), [2, 1], &[0.0f32, 1.0]);
        let labels = k_means(&two, 7, Key::new(1));
        assert_ne!(labels[0], labels[1]);
    }
}
