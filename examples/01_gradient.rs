//! Gradients: record a computation, differentiate it, and differentiate the gradient.
//!
//! `cargo run -p tarrl-examples --example 01_gradient`

#![forbid(unsafe_code)]

use tarrl_tensor::{Tensor, cpu, grad, grad_recorded};

/// Prints the gradient of `f(x) = Σ relu(x·w)²`, and that of `‖∇f‖²`.
pub fn main() {
    let device = cpu();
    // A batch of one sample of two features. Only what depends on `x` is recorded; `w` is a constant and costs nothing
    // in the backward pass.
    let x = Tensor::new(&device, [1, 2], &[3.0f64, 0.5]).requires_grad();
    let w = Tensor::new(&device, [2, 1], &[0.5f64, 1.0]);

    let loss = x.matmul(&w).relu().square().sum_all(); // relu(2)² = 4
    let gradient = grad(&loss, &[&x]).remove(0); // 2·relu(x·w)·w
    println!("f = {}, ∇f = {:?}", loss.item(), gradient.to_vec::<f64>());
    assert_eq!(gradient.to_vec::<f64>(), [2.0, 4.0]);

    // `grad` gives constants. `grad_recorded` records the backward pass too, so that it can be differentiated:
    // penalties on gradients and Jacobians are written like any other loss.
    let sharpness = grad_recorded(&loss, &[&x]).remove(0).square().sum_all();
    let gradient = grad(&sharpness, &[&x]).remove(0).to_vec::<f64>(); // 8·relu(x·w)·‖w‖²·w
    println!("‖∇f‖² = {}, its gradient = {gradient:?}", sharpness.item());
    assert_eq!((sharpness.item(), &gradient[..]), (20.0, &[10.0, 20.0][..]));
}
