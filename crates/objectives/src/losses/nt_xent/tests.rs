use super::*;
use proptest::prelude::*;
use tarrl_tensor::{DType, Key, Random, cpu, grad};

/// Rows are samples. The golden values below were computed twice in f64, from a vectorized formula
/// and from a scalar loop, to nine digits and more.
const Z1: [f64; 12] = [1., 2., 0., 0., 1., -1., 2., 0., 1., -1., 1., 1.];
const Z2: [f64; 12] = [1., 1., 0.5, 0.5, 1., -0.5, 1.5, -0.5, 1., -0.5, 1., 2.];

fn views() -> (Tensor, Tensor) {
    (Tensor::new(&cpu(), [4, 3], &Z1), Tensor::new(&cpu(), [4, 3], &Z2))
}

fn rows(seed: u64, n: usize, d: usize, dtype: DType) -> Tensor {
    let keys: Vec<Key> = (0..n).map(|i| Key::new(seed).fold(i)).collect();
    Tensor::random(&cpu(), Random::Normal, &keys, &[d], dtype)
}

#[test]
fn golden_values_in_both_precisions() {
    let (z1, z2) = views();
    let golden = [(1.0, 1.398925027), (0.5, 1.009383513), (0.2, 0.482979123), (0.1, 0.301583149)];
    for (temperature, value) in golden {
        let wide = nt_xent(&z1, &z2, temperature).item();
        assert!((wide - value).abs() < 1e-9, "{temperature}: {wide}");
        let narrow = nt_xent(&z1.cast(DType::F32), &z2.cast(DType::F32), temperature).item();
        assert!((narrow - value).abs() < 1e-5, "{temperature}: {narrow} in f32");
    }
    let identity = Tensor::new(&cpu(), [2, 2], &[1.0f64, 0.0, 0.0, 1.0]);
    let two = nt_xent(&identity, &identity, 0.5).item();
    assert!((two - 0.239544766).abs() < 1e-9 && (two - (2.0 * (-2.0f64).exp()).ln_1p()).abs() < 1e-14);
}

/// What other programs compute under the same name: diagonal kept, negatives of the other view
/// only, no normalization, similarities clamped at zero, twice and half the loss.
#[test]
fn the_value_is_not_that_of_wrong_variants() {
    let (z1, z2) = views();
    let value = nt_xent(&z1, &z2, 0.5).item();
    for wrong in [1.383536512, 0.620971712, 0.584708273, 1.057389639, 2.018767026, 0.504691757] {
        assert!((value - wrong).abs() > 0.04, "{value} is the variant {wrong}");
    }
}

#[test]
fn golden_gradient() {
    let (z1, z2) = views();
    let z1 = z1.requires_grad();
    let d = grad(&nt_xent(&z1, &z2, 0.5), &[&z1]).remove(0).to_vec::<f64>();
    for (found, golden) in d.iter().zip([-0.051488532, 0.025744266, -0.061533432]) {
        assert!((found - golden).abs() < 1e-9, "{d:?}");
    }
    let norm = d.iter().map(|g| g * g).sum::<f64>().sqrt();
    assert!((norm - 0.193619144).abs() < 1e-9, "{norm}");
}

/// With P = softmax of the masked S and Y the positives, G = (P − Y)/(2nτ), the unit rows have the
/// gradient (G + Gᵀ) z, and a row x with unit û has (g − (g·û) û)/‖x‖.
#[test]
fn gradients_match_the_closed_form() {
    let (n, d, temperature) = (5, 4, 0.3);
    let (z1, z2) = (rows(1, n, d, DType::F64).requires_grad(), rows(2, n, d, DType::F64).requires_grad());
    let found = grad(&nt_xent(&z1, &z2, temperature), &[&z1, &z2]);
    let found: Vec<f64> = found.iter().flat_map(|g| g.to_vec::<f64>()).collect();
    let closed = closed_form(&[z1.to_vec::<f64>(), z2.to_vec::<f64>()].concat(), d, temperature);
    for (i, (a, b)) in found.iter().zip(&closed).enumerate() {
        assert!((a - b).abs() < 1e-13, "element {i}: {a} but the formula gives {b}");
    }
}

#[test]
fn gradients_match_central_differences() {
    let (z1, z2) = views();
    for temperature in [1.0, 0.1] {
        let (a, b) = (z1.requires_grad(), z2.requires_grad());
        let exact = grad(&nt_xent(&a, &b, temperature), &[&a, &b]);
        for (which, exact) in exact.iter().enumerate() {
            for (i, g) in exact.to_vec::<f64>().into_iter().enumerate() {
                // The error of a central difference is of the order h² + 1e-16/h: 4e-11 at h = 1e-5.
                let at = |step: f64| {
                    let mut moved = [Z1, Z2];
                    moved[which][i] += step;
                    let [a, b] = moved.map(|z| Tensor::new(&cpu(), [4, 3], &z));
                    nt_xent(&a, &b, temperature).item()
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((g - slope).abs() < 2e-9, "view {which}, element {i}: {g} but {slope}");
            }
        }
    }
}

#[test]
fn collapse_has_the_value_ln_of_2n_minus_1() {
    for n in [1, 2, 4, 64] {
        let same = Tensor::full(&cpu(), [n, 3], DType::F64, 0.7);
        let value = nt_xent(&same, &same, 0.5).item();
        assert!((value - ((2 * n - 1) as f64).ln()).abs() < 1e-12, "{n}: {value}");
    }
}

#[test]
fn low_temperatures_are_finite_and_accurate() {
    let (n, d, temperature) = (16, 8, 0.01);
    let (z1, z2) = (rows(3, n, d, DType::F64), rows(4, n, d, DType::F64));
    let wide = nt_xent(&z1, &z2, temperature).item();
    let (a, b) = (z1.cast(DType::F32).requires_grad(), z2.cast(DType::F32).requires_grad());
    let loss = nt_xent(&a, &b, temperature);
    // |S| ≤ 100 with the rounding of a product of eight terms: 100 · 8 · 6e-8.
    assert!((loss.item() - wide).abs() < 5e-5 && wide > 1.0, "{} but {wide}", loss.item());
    assert!(grad(&loss, &[&a]).remove(0).to_vec::<f32>().iter().all(|g| g.is_finite()));

    // Aligned views of orthogonal samples: the loss is 2(n−1)e⁻¹⁰⁰, which only gaps can resolve.
    let mut eye = vec![0.0f64; 16];
    (0..4).for_each(|i| eye[i * 5] = 1.0);
    let eye = Tensor::new(&cpu(), [4, 4], &eye);
    let tiny = nt_xent(&eye, &eye, temperature).item();
    assert!((tiny / (6.0 * (-100.0f64).exp()) - 1.0).abs() < 1e-9, "{tiny:e}");
}

#[test]
#[should_panic(expected = "views of shapes (2, 3) and (3, 3)")]
fn views_of_different_size_are_refused() {
    nt_xent(&rows(1, 2, 3, DType::F32), &rows(1, 3, 3, DType::F32), 0.5);
}

#[test]
#[should_panic(expected = "not a positive number")]
fn a_temperature_of_zero_is_refused() {
    nt_xent(&rows(1, 2, 3, DType::F32), &rows(1, 2, 3, DType::F32), 0.0);
}

proptest! {
    // The sums run in another order: 2n terms of size at most 1/τ + ln 2n.
    #[test]
    fn scale_order_and_swap_do_not_change_the_loss(seed in any::<u64>(), n in 1usize..9, d in 1usize..7, cold in 0.01f64..2.0) {
        let (z1, z2) = (rows(seed, n, d, DType::F64), rows(!seed, n, d, DType::F64));
        let value = nt_xent(&z1, &z2, cold).item();
        let slack = 1e-12 * (1.0 + 1.0 / cold);
        prop_assert!(value.is_finite() && value >= 0.0);

        let mut order: Vec<u32> = (0..n as u32).collect();
        Key::new(seed).fold("order").stream().shuffle(&mut order);
        let order = Array::new(&cpu(), [n], &order);
        let permuted = nt_xent(&z1.gather(0, &order), &z2.gather(0, &order), cold).item();
        prop_assert!((permuted - value).abs() < slack, "permuted: {permuted} but {value}");

        let swapped = nt_xent(&z2, &z1, cold).item();
        prop_assert!((swapped - value).abs() < slack, "swapped: {swapped} but {value}");

        let mut scales = Key::new(seed).fold("scale").stream();
        let scales: Vec<f64> = (0..n).map(|_| scales.uniform(0.01, 100.0)).collect();
        let scaled = nt_xent(&(&z1 * &Tensor::new(&cpu(), [n, 1], &scales)), &z2, cold).item();
        prop_assert!((scaled - value).abs() < slack, "scaled: {scaled} but {value}");
    }

    /// Scale invariance in its other form: the gradient of a row is orthogonal to it.
    #[test]
    fn gradients_are_orthogonal_to_their_rows(seed in any::<u64>(), n in 1usize..9, d in 1usize..7) {
        let z1 = rows(seed, n, d, DType::F64).requires_grad();
        let loss = nt_xent(&z1, &rows(!seed, n, d, DType::F64), 0.2);
        let along = (&grad(&loss, &[&z1]).remove(0) * &z1.detach()).sum(1);
        prop_assert!(along.to_vec::<f64>().iter().all(|a| a.abs() < 1e-12), "{along:?}");
    }
}

fn closed_form(z: &[f64], d: usize, temperature: f64) -> Vec<f64> {
    let m = z.len() / d;
    let norms: Vec<f64> = z.chunks(d).map(|row| row.iter().map(|v| v * v).sum::<f64>().sqrt()).collect();
    let unit: Vec<f64> = z.iter().enumerate().map(|(i, v)| v / norms[i / d]).collect();
    let dot = |i: usize, j: usize| (0..d).map(|c| unit[i * d + c] * unit[j * d + c]).sum::<f64>();
    let mut g = vec![0.0; m * m];
    for i in 0..m {
        let weight = |j: usize| if j == i { 0.0 } else { (dot(i, j) / temperature).exp() };
        let total: f64 = (0..m).map(weight).sum();
        for j in 0..m {
            let positive = f64::from(u8::from(j == (i + m / 2) % m));
            g[i * m + j] = (weight(j) / total - positive) / (m as f64 * temperature);
        }
    }
    let mut out = vec![0.0; m * d];
    for i in 0..m {
        let row: Vec<f64> =
            (0..d).map(|c| (0..m).map(|j| (g[i * m + j] + g[j * m + i]) * unit[j * d + c]).sum()).collect();
        let along: f64 = (0..d).map(|c| row[c] * unit[i * d + c]).sum();
        for c in 0..d {
            out[i * d + c] = (row[c] - along * unit[i * d + c]) / norms[i];
        }
    }
    out
}
