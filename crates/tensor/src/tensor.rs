//! Tensors: an array and, where it is differentiated, the node that recorded it.

use crate::Pullback;
use crate::array::{Array, DType, Element};
use crate::backend::{Device, Random};
use crate::graph::{Edge, Node, Vjp};
use crate::key::Key;
use crate::op::Op;
use crate::shape::Shape;
use std::fmt;
use std::sync::Arc;

/// A value with, if it depends on a tracked input, the record of how it came to be.
///
/// Tensors are immutable and cheap to clone. All checks are at run time: an op on wrong shapes
/// panics and names itself and both shapes.
#[derive(Clone)]
pub struct Tensor {
    array: Array,
    node: Option<Arc<Node>>,
}

impl Tensor {
    /// A constant with the elements of `data`, row-major.
    ///
    /// # Panics
    /// If `data` has not as many elements as `shape`.
    #[track_caller]
    pub fn new<E: Element>(device: &Device, shape: impl Into<Shape>, data: &[E]) -> Self {
        Array::new(device, shape, data).into()
    }

    /// A constant filled with one value.
    pub fn full(device: &Device, shape: impl Into<Shape>, dtype: DType, value: f64) -> Self {
        Array::full(device, shape, dtype, value).into()
    }

    /// Zeros of this tensor's shape, type and device.
    pub fn zeros_like(&self) -> Self {
        Tensor::full(self.device(), *self.shape(), self.dtype(), 0.0)
    }

    /// Random numbers of shape `(keys.len(), row…)`: row `i` is drawn from the stream at `keys[i]`,
    /// whatever the other rows are.
    pub fn random(device: &Device, law: Random, keys: &[Key], row: &[usize], dtype: DType) -> Self {
        let shape = Shape::new(&[&[keys.len()], row].concat());
        let width = row.iter().product();
        Array::wrap(device, shape, dtype, device.random(dtype, law, keys, width)).into()
    }

    /// This value as a variable: what depends on it is recorded and has a gradient in it.
    ///
    /// Of a value that is tracked already, the result is a variable that still depends on its history,
    /// so that derivatives nest.
    pub fn requires_grad(&self) -> Self {
        if self.tracks_grad() {
            return Tensor::record(Op::Identity, self.array.clone(), &[self], |p| {
                vec![p.need(0, || p.dy().clone())]
            });
        }
        Tensor { array: self.array.clone(), node: Some(Node::new(Op::Leaf, &self.array, &[], false, None)) }
    }

    /// The same value as a constant: no gradient passes.
    pub fn detach(&self) -> Self {
        self.array.clone().into()
    }

    /// Records an op: its value `y`, its operands and its adjoint.
    ///
    /// This is how ops are defined, inside this crate and outside (with [`Op::Custom`]). If no operand
    /// is tracked the result is a constant and `vjp` is dropped. The adjoint captures what it needs as
    /// [`Saved`](crate::Saved) operands and is written with tensor ops, so that it can be
    /// differentiated in turn. It must not capture its own output; see [`Tensor::record_keeping_output`].
    pub fn record(
        op: Op,
        y: Array,
        inputs: &[&Tensor],
        vjp: impl Fn(&Pullback<'_>) -> Vec<Option<Tensor>> + Send + Sync + 'static,
    ) -> Self {
        Tensor::record_with(op, y, inputs, false, Box::new(vjp))
    }

    /// As [`Tensor::record`], for adjoints that read the output through [`Pullback::y`].
    pub fn record_keeping_output(
        op: Op,
        y: Array,
        inputs: &[&Tensor],
        vjp: impl Fn(&Pullback<'_>) -> Vec<Option<Tensor>> + Send + Sync + 'static,
    ) -> Self {
        Tensor::record_with(op, y, inputs, true, Box::new(vjp))
    }

    fn record_with(op: Op, y: Array, inputs: &[&Tensor], keep_output: bool, vjp: Vjp) -> Self {
        let tracked = inputs.iter().any(|t| t.tracks_grad());
        let node = tracked.then(|| Node::new(op, &y, inputs, keep_output, Some(vjp)));
        Tensor { array: y, node }
    }

    pub(crate) fn with_node(array: Array, node: Arc<Node>) -> Self {
        Tensor { array, node: Some(node) }
    }

    /// The value.
    pub fn array(&self) -> &Array {
        &self.array
    }

    /// The record of how this value came to be, if it is tracked.
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    /// Whether this value depends on a tracked input.
    pub fn tracks_grad(&self) -> bool {
        self.node.is_some()
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        self.array.shape()
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.array.dtype()
    }

    /// The device that holds the value.
    pub fn device(&self) -> &Device {
        self.array.device()
    }

    /// The only element, as f64.
    ///
    /// # Panics
    /// If there is not exactly one.
    #[track_caller]
    pub fn item(&self) -> f64 {
        self.array.item()
    }

    /// The only element of each, as f64. All are read at once: each reading waits for the work before it.
    ///
    /// ```
    /// use tarrl_tensor::{DType, Tensor, cpu};
    ///
    /// let x = Tensor::full(&cpu(), [2, 3], DType::F32, 0.5);
    /// assert_eq!(Tensor::items(&[x.sum_all(), x.slice(0, 0, 1).slice(1, 0, 1)]), [3.0, 0.5]);
    /// ```
    ///
    /// # Panics
    /// If one has not exactly one element, or another element type than the first.
    #[track_caller]
    pub fn items(scalars: &[Tensor]) -> Vec<f64> {
        if scalars.is_empty() {
            return Vec::new();
        }
        let lines: Vec<Tensor> = scalars.iter().map(|scalar| scalar.detach().reshape([1])).collect();
        Tensor::concat(&lines.iter().collect::<Vec<_>>(), 0).array().to_f64()
    }

    /// A copy of the elements, row-major.
    ///
    /// # Panics
    /// If `E` is not the element type.
    #[track_caller]
    pub fn to_vec<E: Element>(&self) -> Vec<E> {
        self.array.to_vec()
    }

    pub(crate) fn edge(&self) -> Edge {
        match &self.node {
            Some(node) => Edge::Tracked(node.clone()),
            None => Edge::Constant(self.array.clone()),
        }
    }
}

impl From<Array> for Tensor {
    fn from(array: Array) -> Self {
        Tensor { array, node: None }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.array, if self.tracks_grad() { ", tracked" } else { "" })
    }
}
