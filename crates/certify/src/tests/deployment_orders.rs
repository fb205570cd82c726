//! Deployment orders: the same network with sums in other orders and blocks, with and without fused multiply-add, alone and in
//! batches, moves within its certificate; both points may be computed differently.

use super::planted_points::{BALLS, all_certificates};
use super::soundness::{holds, points};
use super::{device, normal, pixels};
use crate::{Network, Precision, certify};
use tarrl_attacks::Threat;
use tarrl_tensor::{DType, Key, Tensor};

/// How a deployment adds.
#[derive(Clone, Copy, Debug)]
struct Order {
    /// Of the permutation of the terms; none for their own order.
    seed: Option<u64>,
    /// Whether products are added with one rounding.
    fused: bool,
    /// How many partial sums there are, added in the end.
    lanes: usize,
}

/// Weights `(k, m)` and biases `(m)` of one layer.
struct Layer {
    weight: Vec<f64>,
    bias: Vec<f64>,
}

macro_rules! deployed {
    ($name:ident, $float:ty) => {
        /// The network in this precision: products, biases, ReLU between layers.
        fn $name(layers: &[Layer], x: &[f64], order: Order) -> Vec<f64> {
            let mut values: Vec<$float> = x.iter().map(|&v| v as $float).collect();
            for (at, layer) in layers.iter().enumerate() {
                let (k, m) = (values.len(), layer.bias.len());
                let mut terms: Vec<usize> = (0..k).collect();
                if let Some(seed) = order.seed {
                    let mut stream = Key::new(seed).fold(at).stream();
                    (1..k).rev().for_each(|i| terms.swap(i, stream.below(i + 1)));
                }
                let unit = |j: usize| {
                    let mut lanes = vec![0.0 as $float; order.lanes];
                    for (n, &i) in terms.iter().enumerate() {
                        let (w, v, sum) =
                            (layer.weight[i * m + j] as $float, values[i], &mut lanes[n % order.lanes]);
                        *sum = if order.fused { w.mul_add(v, *sum) } else { *sum + w * v };
                    }
                    let h = lanes.iter().sum::<$float>() + layer.bias[j] as $float;
                    if h < 0.0 && at + 1 < layers.len() { 0.0 } else { h }
                };
                values = (0..m).map(unit).collect();
            }
            values.iter().map(|&v| v as f64).collect()
        }
    };
}

deployed!(in_single, f32);
deployed!(in_double, f64);

#[test]
fn every_order_of_sums_stays_within_the_certificate() {
    let mut orders = vec![];
    for seed in [None, Some(1)] {
        for fused in [false, true] {
            orders.extend([1, 4, 7].map(|lanes| Order { seed, fused, lanes }));
        }
    }
    let mut apart = 0.0f64;
    for seed in 0..3u64 {
        let (device, key) = (device(), Key::new(seed).fold("orders"));
        let widths = [24, 40, 32, 5];
        // Large biases that the next layer takes away again, so that rounding shows.
        let large = [0.0, 1e3, 1e5][seed as usize % 3];
        let tensors: Vec<[Tensor; 2]> = (0..3)
            .map(|i| {
                let weight = normal(&device, key.fold(i), &[widths[i], widths[i + 1]], 0.3);
                let bias = normal(&device, key.fold("bias").fold(i), &[1, widths[i + 1]], 0.3);
                [weight, if i == 1 { bias.add_scalar(large) } else { bias }]
            })
            .collect();
        let layers: Vec<Layer> = tensors
            .iter()
            .map(|[w, b]| Layer { weight: w.array().to_f64(), bias: b.array().to_f64() })
            .collect();
        let encode = |x: &Tensor| {
            let [first, second, last] = &tensors[..] else { unreachable!("three layers") };
            let apply = |x: &Tensor, [w, b]: &[Tensor; 2]| &x.matmul(&w.cast(x.dtype())) + &b.cast(x.dtype());
            apply(&apply(&apply(x, first).relu(), second).relu(), last)
        };
        let x = pixels(&device, key.fold("x"), &[1, widths[0]]);
        let network = Network::trace(&encode, &x).unwrap();
        let clean = x.array().to_f64();
        for (norm, epsilon) in BALLS {
            // A tiny ball, in which rounding is all there is, and a usual one.
            for epsilon in [1e-7, epsilon] {
                let threat = Threat::new(norm, epsilon);
                let ends = points(&encode, &x, &threat, key);
                let found: Vec<_> = all_certificates(threat)
                    .into_iter()
                    .map(|config| (config, certify(&network, &x, &config).unwrap().0.remove(0)))
                    .collect();
                // One batch of all ends, and each alone.
                let together = Tensor::concat(&ends.iter().collect::<Vec<_>>(), 0);
                let [batch, single] =
                    [DType::F64, DType::F32].map(|t| encode(&together.cast(t)).array().to_f64());
                for (precision, deployed, batch) in [
                    (Precision::F64, in_double as fn(&[Layer], &[f64], Order) -> Vec<f64>, batch),
                    (Precision::F32, in_single, single),
                ] {
                    let before: Vec<Vec<f64>> =
                        orders.iter().map(|&o| deployed(&layers, &clean, o)).collect();
                    for (i, end) in ends.iter().enumerate().step_by(2) {
                        let end = end.array().to_f64();
                        let after = orders.iter().map(|&o| deployed(&layers, &end, o));
                        let after: Vec<Vec<f64>> = after.chain([batch[i * 5..][..5].to_vec()]).collect();
                        for (a, b) in after.iter().zip(before.iter().rev().chain(&before)) {
                            let moved: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
                            for (config, found) in found.iter().filter(|(c, _)| c.precision == precision) {
                                holds(found, &moved, &format!("seed {seed} {config:?}"));
                            }
                        }
                        let spread = after.iter().map(|a| (a[0] - after[0][0]).abs()).fold(0.0, f64::max);
                        apart = apart.max(spread);
                    }
                }
            }
        }
    }
    assert!(apart > 1e-3, "orders differ by {apart} at most, so that the test shows little");
}
