//! Update rules: a parameter, its gradient and its state in, the new parameter out.

use super::config::{AdamW, Lars, LarsForm, Sgd};
use tarrl_tensor::{Tensor, math};

pub(super) fn sgd(c: Sgd, p: &Tensor, g: &Tensor, momentum: &mut Tensor, lr: f64) -> Tensor {
    let d = decayed(p, g, c.weight_decay);
    *momentum = &(&*momentum * c.momentum) + &d;
    match c.nesterov {
        true => p - &(&(&d + &(&*momentum * c.momentum)) * lr),
        false => p - &(&*momentum * lr),
    }
}

pub(super) fn lars(c: &Lars, p: &Tensor, g: &Tensor, momentum: &mut Tensor, lr: f64) -> Tensor {
    let d = decayed(p, g, c.weight_decay);
    let ratio = match c.form {
        LarsForm::Official => official_ratio(c.trust, length(p), length(&d)),
        LarsForm::Apex => apex_ratio(c, p, g),
        LarsForm::Clipped => (apex_ratio(c, p, g) / lr).min(1.0),
    };
    *momentum = &(&*momentum * c.momentum) + &(&d * ratio);
    p - &(&*momentum * lr)
}

pub(super) fn adamw(
    c: AdamW,
    p: &Tensor,
    g: &Tensor,
    memory: &mut [Tensor],
    (lr, steps): (f64, u64),
) -> Tensor {
    let [m, v] = memory else { unreachable!("AdamW keeps two tensors for each parameter") };
    let [b1, b2] = c.betas;
    *m = &(&*m * b1) + &(g * (1.0 - b1));
    *v = &(&*v * b2) + &(&g.square() * (1.0 - b2));
    // The corrections are powers of numbers near one: f64 keeps them exact for any number of steps.
    let (c1, c2) = (1.0 - math::powf(b1, steps as f64), 1.0 - math::powf(b2, steps as f64));
    let direction = &*m / &(&(&*v * (1.0 / c2)).sqrt() + c.eps);
    &(p * (1.0 - lr * c.weight_decay)) - &(&direction * (lr / c1))
}

fn decayed(p: &Tensor, g: &Tensor, weight_decay: f64) -> Tensor {
    if weight_decay == 0.0 { g.clone() } else { g + &(p * weight_decay) }
}

fn apex_ratio(c: &Lars, p: &Tensor, g: &Tensor) -> f64 {
    let (p, g) = (length(p), length(g));
    // A parameter or a gradient of zeros has no scale: plain SGD.
    if p == 0.0 || g == 0.0 { 1.0 } else { c.trust * p / (g + c.weight_decay * p + 1e-8) }
}

fn official_ratio(trust: f64, p: f64, d: f64) -> f64 {
    if p == 0.0 || d == 0.0 { 1.0 } else { trust * p / d }
}

/// The Euclidean norm of all elements.
fn length(x: &Tensor) -> f64 {
    x.square().sum_all().item().sqrt()
}
