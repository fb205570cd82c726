//! Cases of the suite: inputs, an op, and its reference evaluation in f64.

use crate::array::{Array, DType};
use crate::backend::Device;
use crate::key::Key;
use crate::tensor::Tensor;
use ndarray::{ArrayD, IxDyn};

/// A plain array on the host, for references.
pub(super) type Host = ArrayD<f64>;

pub(super) type OnTensors = Box<dyn Fn(&[Tensor]) -> Tensor>;
type OnHost = Box<dyn Fn(&[Host]) -> Host>;

/// An op with inputs away from its kinks, and what it should give.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) inputs: Vec<Input>,
    pub(super) op: OnTensors,
    pub(super) reference: OnHost,
    /// Inputs in which the op is linear, the others held fixed.
    pub(super) linear_in: Vec<usize>,
    /// The length of the longest sum.
    pub(super) terms: usize,
}

/// The law of one input.
pub(super) struct Input {
    pub(super) shape: Vec<usize>,
    law: Law,
    /// Whether a gradient is taken in it.
    pub(super) varies: bool,
}

enum Law {
    Range(f64, f64),
    /// Magnitudes in [.2, 1], either sign: away from a kink at 0.
    AwayFromZero,
    /// Distinct numbers at least .05 apart: a step of central differences changes no order.
    Distinct,
}

impl Case {
    pub(super) fn new<const N: usize>(name: &'static str, inputs: [Input; N]) -> Self {
        Case {
            name,
            inputs: inputs.into(),
            op: Box::new(|_| unreachable!("a case without an op")),
            reference: Box::new(|_| unreachable!("a case without a reference")),
            linear_in: Vec::new(),
            terms: 1,
        }
    }

    pub(super) fn op(mut self, op: impl Fn(&[Tensor]) -> Tensor + 'static) -> Self {
        self.op = Box::new(op);
        self
    }

    pub(super) fn reference(mut self, reference: impl Fn(&[Host]) -> Host + 'static) -> Self {
        self.reference = Box::new(reference);
        self
    }

    pub(super) fn linear_in<const N: usize>(mut self, inputs: [usize; N]) -> Self {
        self.linear_in = inputs.into();
        self
    }

    pub(super) fn terms(mut self, terms: usize) -> Self {
        self.terms = terms;
        self
    }

    /// The inputs on the host, rounded to `dtype` so that every device sees the same numbers.
    pub(super) fn hosts(&self, dtype: DType) -> Vec<Host> {
        let key = Key::new(0x5eed).fold(self.name);
        self.inputs.iter().enumerate().map(|(i, input)| input.draw(key.fold(i), dtype)).collect()
    }

    pub(super) fn tensors(&self, device: &Device, dtype: DType) -> Vec<Tensor> {
        self.hosts(dtype).iter().map(|x| upload(device, x, dtype)).collect()
    }
}

impl Input {
    pub(super) fn range<const N: usize>(shape: [usize; N], lo: f64, hi: f64) -> Self {
        Input { shape: shape.into(), law: Law::Range(lo, hi), varies: true }
    }

    pub(super) fn unit<const N: usize>(shape: [usize; N]) -> Self {
        Input::range(shape, -1.0, 1.0)
    }

    pub(super) fn away_from_zero<const N: usize>(shape: [usize; N]) -> Self {
        Input { shape: shape.into(), law: Law::AwayFromZero, varies: true }
    }

    pub(super) fn distinct<const N: usize>(shape: [usize; N]) -> Self {
        Input { shape: shape.into(), law: Law::Distinct, varies: true }
    }

    /// The same input, held fixed.
    pub(super) fn fixed(mut self) -> Self {
        self.varies = false;
        self
    }

    fn draw(&self, key: Key, dtype: DType) -> Host {
        let mut stream = key.stream();
        let len: usize = self.shape.iter().product();
        let mut values: Vec<f64> = match self.law {
            Law::Range(lo, hi) => (0..len).map(|_| stream.uniform(lo, hi)).collect(),
            Law::AwayFromZero => (0..len)
                .map(|_| stream.uniform(0.2, 1.0) * if stream.chance(0.5) { 1.0 } else { -1.0 })
                .collect(),
            Law::Distinct => (0..len).map(|i| 0.07 * (i as f64 - len as f64 / 2.0)).collect(),
        };
        if matches!(self.law, Law::Distinct) {
            stream.shuffle(&mut values);
        }
        values.iter_mut().for_each(|v| *v = rounded(*v, dtype));
        ArrayD::from_shape_vec(IxDyn(&self.shape), values).expect("as many values as the shape holds")
    }
}

/// The nearest number of a type.
pub(super) fn rounded(v: f64, dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f64::from(v as f32),
        DType::Bf16 => {
            // To the nearest of the upper halves of f32, and of two equally near ones to the even one.
            let bits = (v as f32).to_bits();
            f64::from(f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000))
        }
        DType::F64 | DType::U32 => v,
    }
}

/// Weights and biases of normalizations as they go with values of their own type.
pub(super) fn wide(x: &Tensor) -> Tensor {
    x.cast(x.dtype().wide())
}

pub(super) fn upload(device: &Device, x: &Host, dtype: DType) -> Tensor {
    Tensor::from(Array::from_ndarray::<f64, _>(device, x)).cast(dtype)
}

/// An array of `shape` by its indices.
pub(super) fn build(shape: &[usize], f: impl Fn(&[usize]) -> f64) -> Host {
    ArrayD::from_shape_fn(IxDyn(shape), |index| f(ndarray::Dimension::slice(&index)))
}
