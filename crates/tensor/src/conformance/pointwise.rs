//! Cases of elementwise ops.

use super::case::{Case, Host, Input, build};
use crate::tensor::Tensor;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        unary("neg", Input::unit([3, 5]), Tensor::neg, |x| -x).linear_in([0]),
        unary("exp", Input::unit([3, 5]), Tensor::exp, f64::exp),
        unary("log", Input::range([3, 5], 0.5, 2.0), Tensor::log, f64::ln),
        unary("sqrt", Input::range([3, 5], 0.5, 2.0), Tensor::sqrt, f64::sqrt),
        unary("square", Input::unit([3, 5]), Tensor::square, |x| x * x),
        unary("relu", Input::away_from_zero([3, 5]), Tensor::relu, |x| x.max(0.0)),
        // Its gradient comes from two users: a sum and a mask, which may be one kernel. 19 elements are no whole packs.
        unary(
            "relu_used_twice",
            Input::away_from_zero([19]),
            |x| twice(&x.relu()),
            |x| x.max(0.0) * (x.max(0.0) + 2.0),
        ),
        unary("gelu", Input::range([3, 5], -3.0, 3.0), Tensor::gelu, |x| x * normal_cdf(x)),
        unary("silu", Input::range([3, 5], -3.0, 3.0), Tensor::silu, |x| x / (1.0 + (-x).exp())),
        unary("tanh", Input::range([3, 5], -2.0, 2.0), Tensor::tanh, f64::tanh),
        unary("sigmoid", Input::range([3, 5], -4.0, 4.0), Tensor::sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        unary("erf", Input::range([3, 5], -2.0, 2.0), Tensor::erf, erf),
        unary("sign", Input::away_from_zero([3, 5]), Tensor::sign, f64::signum),
        unary("abs", Input::away_from_zero([3, 5]), Tensor::abs, f64::abs),
        unary("powf", Input::range([3, 5], 0.5, 2.0), |x| x.powf(2.5), |x| x.powf(2.5)),
        unary("powi", Input::away_from_zero([3, 5]), |x| x.powf(3.0), |x| x * x * x),
        unary("reciprocal", Input::away_from_zero([3, 5]), |x| x.powf(-1.0), |x| 1.0 / x),
        unary("add_scalar", Input::unit([3, 5]), |x| x + 1.5, |x| x + 1.5),
        unary("mul_scalar", Input::unit([3, 5]), |x| x * -2.5, |x| x * -2.5).linear_in([0]),
        unary("clamp", Input::away_from_zero([3, 5]), |x| x.clamp(-0.15, 0.1), |x| x.clamp(-0.15, 0.1)),
        Case::new(
            "select",
            [Input::away_from_zero([4, 3]).fixed(), Input::unit([4, 3]), Input::unit([4, 3])],
        )
        .op(|x| x[0].greater(&x[0].zeros_like()).select(&x[1], &x[2]))
        .reference(|x| build(&[4, 3], |i| if x[0][i] > 0.0 { x[1][i] } else { x[2][i] })),
        Case::new("add_relu", [Input::distinct([4, 3]), Input::range([4, 3], 0.001, 0.003)])
            .op(|x| x[0].add_relu(&x[1]))
            .reference(|x| (&x[0] + &x[1]).mapv(|v| v.max(0.0))),
        Case::new("cast", [Input::unit([4, 3])])
            .op(|x| x[0].cast(crate::DType::F64).mul_scalar(1.0))
            .reference(|x| x[0].clone())
            .linear_in([0]),
        // A round trip through f32 has the derivative of the identity up to rounding, which central
        // differences in f64 would not see; the inputs are exact in f32 and the value is checked.
        Case::new("cast_to_f32_and_back", [Input::unit([4, 3]).fixed()])
            .op(|x| x[0].cast(crate::DType::F32).cast(x[0].dtype()))
            .reference(|x| x[0].mapv(|v| f64::from(v as f32))),
        Case::new("mask", [Input::unit([4, 3]), Input::away_from_zero([4, 3]).fixed()])
            .op(|x| x[0].mask(&x[1]))
            .reference(|x| build(&[4, 3], |i| if x[1][i] > 0.0 { x[0][i] } else { 0.0 }))
            .linear_in([0]),
    ];
    // Every pattern of repetition: equal shapes, a row, a column, a scalar, new axes, an outer product.
    for (a, b) in [
        (vec![4, 3], vec![4, 3]),
        (vec![4, 3], vec![3]),
        (vec![4, 3], vec![4, 1]),
        (vec![], vec![4, 3]),
        (vec![2, 1, 3], vec![4, 1]),
        (vec![2, 3, 4], vec![3, 1]),
        (vec![1, 3], vec![4, 1]),
    ] {
        cases.push(binary("add", &a, &b, |a, b| a + b, |a, b| a + b));
        cases.push(binary("sub", &a, &b, |a, b| a - b, |a, b| a - b));
        cases.push(binary("mul", &a, &b, |a, b| a * b, |a, b| a * b).linear_in([0, 1]));
        cases.push(binary("div", &a, &b, |a, b| a / b, |a, b| a / b).linear_in([0]));
        cases.push(binary("maximum", &a, &b, |a, b| a.maximum(b), f64::max));
        cases.push(binary("minimum", &a, &b, |a, b| a.minimum(b), f64::min));
        cases.push(binary("greater", &a, &b, |a, b| a.greater(b), |a, b| f64::from(a > b)));
        cases.push(binary("greater_equal", &a, &b, |a, b| a.greater_equal(b), |a, b| f64::from(a >= b)));
        cases.push(binary("equal", &a, &b, |a, b| a.equal(b), |a, b| f64::from(a == b)));
    }
    cases
}

/// y² + 2y
fn twice(y: &Tensor) -> Tensor {
    &y.square() + &y.mul_scalar(2.0)
}

fn unary(name: &'static str, input: Input, op: fn(&Tensor) -> Tensor, reference: fn(f64) -> f64) -> Case {
    Case::new(name, [input]).op(move |x| op(&x[0])).reference(move |x| x[0].mapv(reference))
}

fn binary(
    name: &'static str,
    a: &[usize],
    b: &[usize],
    op: fn(&Tensor, &Tensor) -> Tensor,
    reference: fn(f64, f64) -> f64,
) -> Case {
    let shape =
        crate::Shape::new(a).broadcast(&crate::Shape::new(b)).expect("the table has shapes that broadcast");
    // One side is negative where the other is positive or at least .2 away: no kink, no tie.
    let mut inputs = [Input::away_from_zero([0]), Input::range([0], 1.2, 2.0)];
    inputs[0].shape = a.into();
    inputs[1].shape = b.into();
    Case::new(name, inputs)
        .op(move |x| op(&x[0], &x[1]))
        .reference(move |x| build(&shape, |i| reference(repeat(&x[0], i), repeat(&x[1], i))))
        .terms(shape.len())
}

/// The element that broadcasting shows at index `i`.
fn repeat(x: &Host, i: &[usize]) -> f64 {
    let lead = i.len() - x.ndim();
    let index: Vec<usize> =
        (0..x.ndim()).map(|axis| if x.shape()[axis] == 1 { 0 } else { i[axis + lead] }).collect();
    x[&index[..]]
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

/// The error function by its Taylor series, accurate for |x| ≤ 3.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}
