//! The regularizer on an encoder of your own: train it with and without `λ R`, and measure how far an attack moves it.
//!
//! `cargo run -p tarrl-examples --example 03_regularize_your_encoder`

#![forbid(unsafe_code)]

use tarrl_bound::{InnerConfig, Regularizer, RegularizerConfig};
use tarrl_objectives::nt_xent;
use tarrl_tensor::{DType, Key, Random, Tensor, cpu, grad};

const IMAGES: usize = 32;
const PIXELS: usize = 16;

/// Prints the relative displacement `R` of two encoders that differ in the regularizer alone.
pub fn main() {
    let plain = train(None);
    let robust = train(Some(8.0));
    println!("R without the regularizer: {plain:.3}, with it: {robust:.3}");
    assert!((plain - 0.455).abs() < 0.005 && (robust - 0.329).abs() < 0.005);
}

/// Trains an encoder of two matrices by gradient descent, and returns its `R` at the end.
fn train(weight: Option<f64>) -> f64 {
    // R is relative to the spread of the representations, so that shrinking them gains nothing.
    let inner = InnerConfig { epsilon: 0.1, ..InnerConfig::default() };
    let config = RegularizerConfig { weight: weight.unwrap_or(1.0), inner, ..RegularizerConfig::default() };
    let regularizer = Regularizer::new(config).expect("the settings make sense");
    let x = images();
    let mut weights = [normal("first", PIXELS, 32, 0.25), normal("second", 32, 8, 0.2)];

    for step in 0..100u64 {
        let [first, second] = weights.clone().map(|w| w.requires_grad());
        let encode = |x: &Tensor| x.matmul(&first).relu().matmul(&second);

        // Any self-supervised loss will do; here NT-Xent of two noisy views.
        let [a, b] =
            ["a", "b"].map(|view| encode(&(&x + &normal(&format!("{view}{step}"), IMAGES, PIXELS, 0.1))));
        let mut loss = nt_xent(&a, &b, 0.5);
        if weight.is_some() {
            // Attacked inputs are constants: the gradient of λR is that of the encoder at both points.
            let attacked = regularizer.attack(&encode, &x, 1.0, &keys(step));
            loss = &loss + &(&regularizer.value(&encode(&x), &encode(&attacked)) * regularizer.weight());
        }
        let gradients = grad(&loss, &[&first, &second]);
        weights = [0, 1].map(|i| &weights[i] - &(&gradients[i] * 0.1));
    }
    let [first, second] = weights;
    let encode = |x: &Tensor| x.matmul(&first).relu().matmul(&second);
    let attacked = regularizer.attack(&encode, &x, 1.0, &keys(1000));
    regularizer.value(&encode(&x), &encode(&attacked)).item()
}

/// `(n, d)`, values in [0, 1]
fn images() -> Tensor {
    Tensor::random(&cpu(), Random::Uniform, &keys(99), &[PIXELS], DType::F32)
}

/// One key for each image.
fn keys(step: u64) -> Vec<Key> {
    (0..IMAGES).map(|i| Key::new(7).fold(step).fold(i)).collect()
}

fn normal(name: &str, rows: usize, columns: usize, scale: f64) -> Tensor {
    let keys: Vec<Key> = (0..rows).map(|i| Key::new(1).fold(name).fold(i)).collect();
    Tensor::random(&cpu(), Random::Normal, &keys, &[columns], DType::F32).mul_scalar(scale)
}
