//! Spectral norms of an encoder's linear maps by power iteration, differentiable in the parameters.

use crate::arch::interpreter::Interpreter;
use crate::encoder::Encoder;
use crate::forward_context::{BnBranch, ForwardContext};
use crate::layers::{ConvBnRelu, LinearOp};
use tarrl_tensor::{Conv, Key, Random, Recording, Tensor, Transpose, vjp};

/// Added to squares below a root, so that a map of zeros has a gradient; the square of a norm is far above.
const FLOOR: f64 = 1e-24;

impl Encoder {
    /// The spectral norm of each of its linear maps on images of the extents of `x` `(n, h, w, c)`, in the order of
    /// evaluation: scalars, differentiable in the weights and in the scales of batch norm.
    ///
    /// A map is a convolution, with its padding and stride, or a matrix; a batch norm of `branch` in evaluation mode scales
    /// what it gives. Power iteration begins at random numbers drawn from `key` and makes `iterations` products with the map
    /// and its adjoint (Yoshida & Miyato 2017), so that a result is never above the norm, up to rounding: a penalty, and no
    /// certificate. Bias, activation, pooling and the normalization of pixels are left out.
    ///
    /// The running variance is a constant of the gradient. It would follow the length of the weights that lead to a channel,
    /// which changes nothing after the batch norm; so the gradient in these weights is orthogonal to them.
    ///
    /// # Panics
    /// As [`forward`](Encoder::forward), and for transformers: attention is no linear map.
    #[track_caller]
    pub fn spectral_norms(&self, x: &Tensor, branch: BnBranch, iterations: usize, key: Key) -> Vec<Tensor> {
        let arch = self.config().arch;
        assert!(arch.has_intervals(), "spectral_norms: {} has attention, which is not linear", arch.name());
        let mut pass = MapPass { maps: Vec::new(), branch, context: ForwardContext::eval().branch(branch) };
        self.interpret(&self.normalize(&x.slice(0, 0, 1)), &mut pass);
        let maps = pass.maps.iter().enumerate();
        maps.map(|(place, map)| map.norm(iterations, key.fold(place))).collect()
    }
}

/// A linear map and the extents of what it is applied to, without the batch.
struct LinearMap {
    weight: Weight,
    input: Vec<usize>,
}

enum Weight {
    Conv(Tensor, Conv),
    /// `(out, in)`
    Linear(Tensor),
    /// `(c)`
    Scale(Tensor),
}

impl LinearMap {
    /// That of a unit on `x`.
    fn new(unit: &ConvBnRelu, branch: BnBranch, x: &Tensor) -> Self {
        let scale = unit.norm.as_ref().map(|norm| norm.at(branch).affine().scale);
        let weight = match (&unit.linear, scale) {
            (LinearOp::Conv(conv), None) => Weight::Conv(conv.weight().clone(), conv.conv()),
            (LinearOp::Conv(conv), Some(scale)) => {
                let w = conv.weight();
                let [kh, kw, inputs, outputs] = [0, 1, 2, 3].map(|axis| w.shape()[axis]);
                let rows = w.reshape([kh * kw * inputs, outputs]);
                let rows = &without_length(&rows, 0) * &scale;
                Weight::Conv(rows.reshape([kh, kw, inputs, outputs]), conv.conv())
            }
            (LinearOp::Linear(linear), None) => Weight::Linear(linear.weight().clone()),
            (LinearOp::Linear(linear), Some(scale)) => {
                let scale = scale.reshape([scale.shape()[0], 1]);
                Weight::Linear(&without_length(linear.weight(), 1) * &scale)
            }
            (LinearOp::Identity, scale) => Weight::Scale(scale.expect("a unit without map has a norm")),
        };
        LinearMap { weight, input: x.shape()[1..].to_vec() }
    }

    /// The map on `v` `(1, …)`, as a function of `v` alone or also of its weights.
    fn apply(&self, v: &Tensor, constant: bool) -> Tensor {
        let of = |weight: &Tensor| if constant { weight.detach() } else { weight.clone() };
        match &self.weight {
            Weight::Conv(weight, conv) => v.conv2d(&of(weight), *conv),
            Weight::Linear(weight) => v.matmul_with(&of(weight), Transpose::RIGHT),
            Weight::Scale(scale) => v * &of(scale),
        }
    }

    /// `‖A v‖` of the unit vector `v` after `iterations` steps `v ← Aᵀ A v / ‖Aᵀ A v‖`.
    fn norm(&self, iterations: usize, key: Key) -> Tensor {
        let weight = match &self.weight {
            Weight::Conv(weight, _) | Weight::Linear(weight) | Weight::Scale(weight) => weight,
        };
        let start = Tensor::random(weight.device(), Random::Normal, &[key], &self.input, weight.dtype());
        let mut v = unit(&start);
        for _ in 0..iterations {
            let at = v.requires_grad();
            let u = self.apply(&at, true);
            v = unit(&vjp(&u, &u.detach(), &[&at], Recording::Off).remove(0));
        }
        length(&self.apply(&v, false))
    }
}

/// Collects the maps of the units on the way of an image.
struct MapPass {
    maps: Vec<LinearMap>,
    branch: BnBranch,
    context: ForwardContext,
}

impl Interpreter<ConvBnRelu> for MapPass {
    #[track_caller]
    fn unit(&mut self, unit: &ConvBnRelu, x: &Tensor) -> Tensor {
        self.maps.push(LinearMap::new(unit, self.branch, x));
        unit.forward(x, &mut self.context)
    }
}

/// The same values, whose gradient has no part along each of the vectors of `axis`.
fn without_length(x: &Tensor, axis: usize) -> Tensor {
    let length = x.square().sum(axis).add_scalar(FLOOR).sqrt();
    x * &(&length.detach() / &length)
}

fn length(x: &Tensor) -> Tensor {
    x.square().sum_all().add_scalar(FLOOR).sqrt()
}

fn unit(x: &Tensor) -> Tensor {
    x / &length(x)
}

#[cfg(test)]
mod tests;
