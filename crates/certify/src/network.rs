//! Networks as lists of layer ops with sound relaxations, in f64.

use crate::rounding::gamma;
use tarrl_tensor::{Conv, DType, Pool, Shape, Tensor};

/// The encoder that certificates are made for: steps in order, each with one or two earlier results as operands.
///
/// Weights are the encoder's own, exactly, in f64. [`Network::trace`] makes one from the recorded graph
/// of a closure; [`Network::forward`] is the function that certificates bound.
#[derive(Clone, Debug)]
pub struct Network {
    /// The extents of one sample of every value: the input, then the result of each step.
    pub(crate) shapes: Vec<Shape>,
    pub(crate) steps: Vec<Step>,
    /// The least norm that the output is divided by, if it is normalized to the sphere.
    pub(crate) sphere: Option<f64>,
}

/// One step; its result is the value after those of all earlier steps.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) op: LayerOp,
    /// The values that it takes, by number.
    pub(crate) inputs: Vec<usize>,
}

/// The operation of a step.
#[derive(Clone, Debug)]
pub(crate) enum LayerOp {
    /// Convolution with a constant.
    Conv { weight: Tensor, magnitude: Tensor, conv: Conv },
    /// Product with a constant `(k, m)`.
    Linear { weight: Tensor, magnitude: Tensor },
    /// Times a constant that broadcasts over samples.
    Scale { factor: Tensor, magnitude: Tensor },
    /// Plus a constant that broadcasts over samples.
    Shift(Tensor),
    /// max(x, 0)
    Relu,
    /// The sum of two values.
    Add,
    /// Sums over windows.
    SumPool(Pool),
    /// The sum over an axis of a batch, which stays with extent 1.
    Sum(usize),
    /// The same elements under another shape.
    Reshape,
    /// The axes of a batch in another order, samples first.
    Permute(Vec<usize>),
}

impl Network {
    /// The number of features of a representation.
    pub fn features(&self) -> usize {
        self.shapes[self.shapes.len() - 1].len()
    }

    /// The extents of one input.
    pub fn input_shape(&self) -> &Shape {
        &self.shapes[0]
    }

    /// The number of ReLU units.
    pub fn units(&self) -> usize {
        let relu = |(i, step): (usize, &Step)| match step.op {
            LayerOp::Relu => self.shapes[i + 1].len(),
            _ => 0,
        };
        self.steps.iter().enumerate().map(relu).sum()
    }

    /// From inputs `(n, …)` to representations `(n, d)` in f64, before any normalization to the sphere:
    /// the function that certificates bound. Products are plain sums in some order.
    ///
    /// # Panics
    /// If the samples have another shape than the recorded ones.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.values(x).pop().expect("a network has an input")
    }

    /// Every value of a batch `(n, …)`.
    #[track_caller]
    pub(crate) fn values(&self, x: &Tensor) -> Vec<Tensor> {
        assert!(
            x.shape().rank() == self.shapes[0].rank() + 1 && x.shape()[1..] == self.shapes[0][..],
            "network: inputs {:?} for samples of {:?}",
            x.shape(),
            self.shapes[0]
        );
        let mut values = vec![x.detach().cast(DType::F64)];
        for (i, step) in self.steps.iter().enumerate() {
            let first = &values[step.inputs[0]];
            let y = match &step.op {
                LayerOp::Relu => first.relu(),
                LayerOp::Shift(shift) => first + shift,
                LayerOp::Add => first + &values[step.inputs[1]],
                map => map.linear(first, &self.shapes[i + 1], Weights::Signed),
            };
            values.push(y);
        }
        values
    }
}

/// Which weights a linear map is taken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// As they are.
    Signed,
    /// Their absolute values.
    Absolute,
}

impl LayerOp {
    /// The linear part of a step with one operand on a batch `(n, …)`.
    pub(crate) fn linear(&self, x: &Tensor, shape: &Shape, weights: Weights) -> Tensor {
        let pick = |weight, magnitude| if weights == Weights::Signed { weight } else { magnitude };
        match self {
            LayerOp::Conv { weight, magnitude, conv } => x.conv2d(pick(weight, magnitude), *conv),
            LayerOp::Linear { weight, magnitude } => x.matmul(pick(weight, magnitude)),
            LayerOp::Scale { factor, magnitude } => x * pick(factor, magnitude),
            LayerOp::Shift(_) => x.clone(),
            LayerOp::SumPool(pool) => {
                let n = (pool.window * pool.window) as f64;
                x.avg_pool(*pool).mul_scalar(n)
            }
            LayerOp::Sum(axis) => x.sum(*axis),
            LayerOp::Reshape => x.reshape(batched(x.shape()[0], shape)),
            LayerOp::Permute(order) => x.permute(order),
            LayerOp::Relu | LayerOp::Add => unreachable!("not linear in one operand"),
        }
    }

    /// The terms of the longest sum that an element of the result is.
    pub(crate) fn terms(&self, input: &Shape) -> usize {
        match self {
            LayerOp::Conv { weight, .. } => weight.shape()[..3].iter().product::<usize>() + 1,
            LayerOp::Linear { weight, .. } => weight.shape()[0] + 1,
            // The mean of a window is taken and multiplied back: two roundings more.
            LayerOp::SumPool(pool) => pool.window * pool.window + 4,
            LayerOp::Sum(axis) => input[*axis - 1] + 1,
            LayerOp::Scale { .. } | LayerOp::Shift(_) | LayerOp::Add => 2,
            LayerOp::Relu | LayerOp::Reshape | LayerOp::Permute(_) => 0,
        }
    }

    /// The terms of the longest sum that an element of the adjoint is.
    pub(crate) fn adjoint_terms(&self) -> usize {
        match self {
            LayerOp::Conv { weight, .. } => weight.shape()[0] * weight.shape()[1] * weight.shape()[3],
            LayerOp::Linear { weight, .. } => weight.shape()[1],
            LayerOp::SumPool(pool) => pool.window * pool.window,
            _ => 2,
        }
    }

    /// The largest sum of absolute weights of an element of the result.
    pub(crate) fn gain(&self, input: &Shape) -> f64 {
        let columns = |w: &Tensor| {
            let outputs = w.shape()[w.shape().rank() - 1];
            let sums = w.reshape([w.array().len() / outputs, outputs]).sum(0).array().to_f64();
            sums.into_iter().fold(0.0, f64::max) * (1.0 + 1e-9)
        };
        match self {
            LayerOp::Conv { magnitude, .. } | LayerOp::Linear { magnitude, .. } => columns(magnitude),
            LayerOp::Scale { magnitude, .. } => magnitude.array().to_f64().into_iter().fold(0.0, f64::max),
            LayerOp::SumPool(pool) => (pool.window * pool.window) as f64,
            LayerOp::Sum(axis) => input[*axis - 1] as f64,
            _ => 1.0,
        }
    }

    /// The relative error of the computed result at a unit roundoff.
    pub(crate) fn gamma(&self, input: &Shape, unit: f64) -> f64 {
        match self.terms(input) {
            0 => 0.0,
            terms => 1.01 * gamma(terms + 2, unit),
        }
    }

    /// Whether the result is computed without any rounding.
    pub(crate) fn is_exact(&self) -> bool {
        matches!(self, LayerOp::Relu | LayerOp::Reshape | LayerOp::Permute(_))
    }
}

/// The shape of a batch of `n` samples of `shape`.
pub(crate) fn batched(n: usize, shape: &Shape) -> Shape {
    Shape::new(&[&[n], &shape[..]].concat())
}
