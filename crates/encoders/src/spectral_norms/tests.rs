//! Norms against singular values by formula and of explicit matrices, and what batch norm does to them.

use super::*;
use crate::{Arch, EncoderConfig, Module, cast, parameters, track};
use tarrl_tensor::{DType, Device, cpu, grad};

/// Enough for f64 where singular values lie apart.
const MANY: usize = 1500;

fn random(device: &Device, name: &str, shape: &[usize]) -> Tensor {
    let key = Key::new(5).fold(name);
    Tensor::random(device, Random::Normal, &[key], shape, DType::F64).reshape(shape)
}

/// [[3, 0], [4, 5]]: AᵀA = [[25, 20], [20, 25]] has the eigenvalues 45 and 5, the first of them along v = (1, 1)/√2. With
/// A v = (3, 9)/√2 = √45 u, the gradient u vᵀ is [[1, 1], [3, 3]]/√20.
#[test]
fn a_matrix_has_the_norm_and_the_gradient_of_its_singular_vectors() {
    let weight = Tensor::new(&cpu(), [2, 2], &[3.0f64, 0.0, 4.0, 5.0]).requires_grad();
    let map = LinearMap { weight: Weight::Linear(weight.clone()), input: vec![2] };
    let norm = map.norm(MANY, Key::new(1));
    // (5/45)^3000 is below any rounding.
    assert!((norm.item() - 45f64.sqrt()).abs() < 1e-14, "{}", norm.item());
    let expected = [1.0, 1.0, 3.0, 3.0].map(|v| v / 20f64.sqrt());
    for (found, expected) in grad(&norm, &[&weight])[0].to_vec::<f64>().iter().zip(expected) {
        assert!((found - expected).abs() < 1e-14, "{found} {expected}");
    }
}

/// The eigenvalues of a symmetric matrix by rotations (Jacobi), the largest first.
fn eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    for _ in 0..30 {
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q].abs() < 1e-300 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in a.iter_mut() {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                let (first, second) = (a[p].clone(), a[q].clone());
                a[p] = first.iter().zip(&second).map(|(x, y)| c * x - s * y).collect();
                a[q] = first.iter().zip(&second).map(|(x, y)| s * x + c * y).collect();
            }
        }
    }
    let mut values: Vec<f64> = (0..n).map(|i| a[i][i]).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

#[test]
fn a_convolution_has_the_norm_of_its_matrix() {
    let device = cpu();
    for (stride, pad) in [(1, 1), (2, 1), (1, 0), (2, 2)] {
        let weight = random(&device, "kernel", &[3, 3, 2, 3]);
        let (conv, input) = (Conv { stride, pad, groups: 1 }, vec![5, 4, 2]);
        let map = LinearMap { weight: Weight::Conv(weight, conv), input };
        // The images of the basis vectors are the columns of the matrix.
        let n = 5 * 4 * 2;
        let columns: Vec<Vec<f64>> = (0..n)
            .map(|i| {
                let mut basis = vec![0.0f64; n];
                basis[i] = 1.0;
                map.apply(&Tensor::new(&device, [1, 5, 4, 2], &basis), true).to_vec::<f64>()
            })
            .collect();
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let gram = columns.iter().map(|a| columns.iter().map(|b| product(a, b)).collect()).collect();
        let values = eigenvalues(gram);
        let expected = values[0].sqrt();
        let found = map.norm(MANY, Key::new(2)).item();
        // What is left of other directions in the square of the norm, from a start with 1e-3 of the first at least; and the
        // roundings of forty rotated columns.
        let allowed = 1e6 * (values[1] / values[0]).powi(2 * MANY as i32) + 1e-12;
        assert!(allowed < 1e-6, "the singular values {values:?} are too close to tell");
        assert!((found - expected).abs() < allowed * expected, "stride {stride}: {found} {expected}");
        // Fewer products are never above.
        for few in [0, 1, 3, 10] {
            assert!(map.norm(few, Key::new(2)).item() <= expected * (1.0 + 1e-12), "{few}");
        }
    }
}

/// An encoder of f64 with other running variances than 1.
fn encoder(config: &EncoderConfig) -> Encoder {
    let mut encoder = Encoder::new(config, &cpu(), Key::new(3));
    cast(&mut encoder, DType::F64);
    encoder.visit_mut(&mut |name, _, tensor| {
        if name.ends_with("running_var") {
            *tensor = tensor.mul_scalar(0.25);
        }
    });
    track(&mut encoder);
    encoder
}

fn norms(encoder: &Encoder, x: &Tensor) -> Vec<f64> {
    let found = encoder.spectral_norms(x, BnBranch::Clean, MANY, Key::new(4));
    found.iter().map(Tensor::item).collect()
}

/// Twice the scale of a batch norm is twice the norm of the map before it, and of no other.
#[test]
fn the_scale_of_a_batch_norm_is_part_of_the_map() {
    let config = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
    let x = random(&cpu(), "image", &[1, 8, 8, 1]);
    let mut encoder = encoder(&config);
    let before = norms(&encoder, &x);
    encoder.visit_mut(&mut |name, _, tensor| {
        if name == "bn2.weight" {
            *tensor = tensor.mul_scalar(2.0);
        }
    });
    let after = norms(&encoder, &x);
    assert_eq!(before.len(), 4);
    for (i, (before, after)) in before.iter().zip(&after).enumerate() {
        let factor = if i == 1 { 2.0 } else { 1.0 };
        assert!((after - factor * before).abs() < 1e-9 * before, "{i}: {before} {after}");
    }
}

/// Longer weights of a channel are undone by its batch norm, so no gradient shortens them.
#[test]
fn the_gradient_is_orthogonal_to_the_weights_of_each_channel_and_not_zero() {
    let config = EncoderConfig { width: 0.125, ..EncoderConfig::default() };
    let encoder = encoder(&config);
    let x = random(&cpu(), "image", &[1, 8, 8, 1]);
    let sum = encoder.spectral_norms(&x, BnBranch::Clean, 20, Key::new(4));
    let sum = sum.into_iter().reduce(|a, b| &a + &b).unwrap();
    let parameters = parameters(&encoder);
    let gradients = grad(&sum, &parameters.iter().collect::<Vec<_>>());
    for (w, g) in parameters.iter().zip(&gradients).filter(|(w, _)| w.shape().rank() == 4) {
        let (channels, g, w) = (w.shape()[3], g.to_vec::<f64>(), w.to_vec::<f64>());
        for channel in 0..channels {
            let at = (channel..w.len()).step_by(channels);
            let [along, own] = at.fold([0.0; 2], |[a, o], i| [a + g[i] * w[i], o + g[i] * g[i]]);
            assert!(along.abs() < 1e-12 && own > 0.0, "{along} {own}");
        }
    }
}

/// ReLU and pooling lengthen nothing, so that no pair of images is farther apart after all maps than their product says.
#[test]
fn the_product_of_the_norms_bounds_displacements() {
    let (device, side) = (cpu(), 8);
    for arch in [Arch::ConvSmall, Arch::ConvFlat, Arch::Mlp] {
        let config = EncoderConfig { arch, width: 0.125, side, std: vec![0.5], ..EncoderConfig::default() };
        let encoder = encoder(&config);
        let x = random(&device, "first", &[1, side, side, 1]);
        let product: f64 = norms(&encoder, &x).iter().product();
        let forward = |x: &Tensor| encoder.forward(x, &mut ForwardContext::eval()).detach();
        for trial in ["a", "b", "c"] {
            let u = &x + &random(&device, trial, &[1, side, side, 1]).mul_scalar(0.1);
            let [before, after] = [&u - &x, &forward(&u) - &forward(&x)].map(|d| length(&d).item());
            // The normalization of pixels divides by 0.5.
            assert!(after <= product * before / 0.5 * (1.0 + 1e-9), "{arch:?}: {after}");
        }
    }
}

#[test]
fn the_second_image_of_a_batch_changes_nothing_and_the_key_starts_the_iteration() {
    let encoder = encoder(&EncoderConfig { width: 0.125, ..EncoderConfig::default() });
    let x = random(&cpu(), "images", &[2, 8, 8, 1]);
    let of = |x: &Tensor, key| {
        let found = encoder.spectral_norms(x, BnBranch::Clean, 1, Key::new(key));
        found.iter().map(Tensor::item).collect::<Vec<_>>()
    };
    assert_eq!(of(&x, 1), of(&x.slice(0, 0, 1), 1));
    assert_ne!(of(&x, 1), of(&x, 2));
}

#[test]
#[should_panic(expected = "has attention")]
fn a_transformer_is_refused() {
    let config = EncoderConfig { arch: Arch::VitTiny, width: 0.125, side: 8, ..EncoderConfig::default() };
    let encoder = Encoder::new(&config, &cpu(), Key::new(1));
    encoder.spectral_norms(
        &Tensor::full(&cpu(), [1, 8, 8, 1], DType::F32, 0.0),
        BnBranch::Clean,
        1,
        Key::new(1),
    );
}
