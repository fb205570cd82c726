//! Ops as data: what a node of the recorded graph computes, for several readers.

use crate::array::DType;
use crate::backend::{Binary, Conv, Extreme, Norm, Pool, Transpose, Unary};
use crate::shape::Shape;

/// The operation of a node with its parameters; its operands are the node's edges, in order.
///
/// The backward pass is one reader; interval and linear-relaxation bounds, operation counts and
/// exporters are others. A reader that has no rule for an op says so by [`Op::name`].
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A tracked input: a variable of a derivative.
    Leaf,
    /// The operand itself, tracked anew.
    Identity,
    /// An elementwise function.
    Unary(Unary),
    /// An elementwise function of two operands that broadcast.
    Binary(Binary),
    /// `(condition, a, b)`: a where the condition is not zero, else b.
    Select,
    /// The sum over one axis, which stays with extent 1.
    Sum(usize),
    /// The largest or smallest element over one axis, which stays with extent 1.
    Extreme(Extreme, usize),
    /// A batch of matrix products.
    Matmul(Transpose),
    /// The same elements under another shape.
    Reshape,
    /// The axes in another order: axis `i` of the result is axis `permutation[i]` of the operand.
    Permute(Vec<usize>),
    /// The operand repeated along axes of extent 1 and new outer axes.
    BroadcastTo,
    /// The adjoint of [`Op::BroadcastTo`].
    SumTo,
    /// Every `step`-th element from `start` along one axis.
    Slice {
        /// The axis.
        axis: usize,
        /// The first element taken.
        start: usize,
        /// The distance between elements taken.
        step: usize,
    },
    /// Zeros with the operand placed at this start.
    Pad(Shape),
    /// The operands one after another along one axis.
    Concat(usize),
    /// `(x, index)`: rows of one axis by index.
    Gather(usize),
    /// `(x, index)`: the adjoint of [`Op::Gather`] along one axis.
    ScatterAdd(usize),
    /// `(x, w)`: convolution of `(n, h, w, c)`.
    Conv2d(Conv),
    /// `(x, w, bias)` or `(x, w, bias, skip)`: convolution plus the rest, then ReLU if set.
    Conv2dBias {
        /// How the window walks.
        conv: Conv,
        /// Whether the result is cut at zero.
        relu: bool,
    },
    /// `(dy, w)`: its adjoint in the input.
    Conv2dInput(Conv),
    /// `(x, dy)`: its adjoint in the weights.
    Conv2dWeight(Conv),
    /// Sums over windows.
    SumPool(Pool),
    /// Its adjoint.
    SumPoolAdjoint(Pool),
    /// The largest element of each window.
    MaxPool(Pool),
    /// `(x, weight, bias)`: batch normalization with the statistics of the batch.
    BatchNorm(Norm),
    /// `(x, weight, bias, skip)`: batch normalization with the statistics of the batch, plus `skip`, then ReLU.
    BatchNormAddRelu {
        /// Added to the variance.
        eps: f64,
    },
    /// `(x, scale, shift)`: one scale and shift for each channel, then ReLU if set.
    ChannelAffine {
        /// Whether a ReLU follows.
        relu: bool,
    },
    /// Softmax of the innermost axis.
    Softmax,
    /// Its logarithm.
    LogSoftmax,
    /// `(logits, labels)`: the cross-entropy of each row.
    CrossEntropy,
    /// `(rows, partners)`: the cross-entropy of each row's similarities to all others.
    NtXent,
    /// A change of the element type.
    Cast(DType),
    /// An op recorded outside this crate.
    Custom(&'static str),
}

impl Op {
    /// The names of all ops that a backend computes: the rows that a conformance suite must have.
    pub const NAMES: [&'static str; 55] = [
        "neg",
        "exp",
        "log",
        "sqrt",
        "relu",
        "gelu",
        "silu",
        "tanh",
        "sigmoid",
        "erf",
        "sign",
        "abs",
        "powf",
        "add_scalar",
        "mul_scalar",
        "clamp",
        "add",
        "sub",
        "mul",
        "div",
        "maximum",
        "minimum",
        "greater",
        "greater_equal",
        "equal",
        "mask",
        "select",
        "sum",
        "max",
        "min",
        "matmul",
        "reshape",
        "permute",
        "broadcast_to",
        "sum_to",
        "slice",
        "pad",
        "concat",
        "gather",
        "scatter_add",
        "conv2d",
        "conv2d_bias",
        "conv2d_input",
        "conv2d_weight",
        "sum_pool",
        "sum_pool_adjoint",
        "max_pool",
        "batch_norm",
        "batch_norm_add_relu",
        "channel_affine",
        "softmax",
        "log_softmax",
        "cross_entropy",
        "nt_xent",
        "cast",
    ];

    /// The name of the op, as in [`Op::NAMES`], for messages and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Leaf => "leaf",
            Op::Identity => "identity",
            Op::Unary(op) => match op {
                Unary::Neg => "neg",
                Unary::Exp => "exp",
                Unary::Log => "log",
                Unary::Sqrt => "sqrt",
                Unary::Relu => "relu",
                Unary::Gelu => "gelu",
                Unary::Silu => "silu",
                Unary::Tanh => "tanh",
                Unary::Sigmoid => "sigmoid",
                Unary::Erf => "erf",
                Unary::Sign => "sign",
                Unary::Abs => "abs",
                Unary::Powf(_) => "powf",
                Unary::AddScalar(_) => "add_scalar",
                Unary::MulScalar(_) => "mul_scalar",
                Unary::Clamp(..) => "clamp",
            },
            Op::Binary(op) => match op {
                Binary::Add => "add",
                Binary::Sub => "sub",
                Binary::Mul => "mul",
                Binary::Div => "div",
                Binary::Max => "maximum",
                Binary::Min => "minimum",
                Binary::Greater => "greater",
                Binary::GreaterEqual => "greater_equal",
                Binary::Equal => "equal",
                Binary::Mask => "mask",
            },
            Op::Select => "select",
            Op::Sum(_) => "sum",
            Op::Extreme(Extreme::Max, _) => "max",
            Op::Extreme(Extreme::Min, _) => "min",
            Op::Matmul(_) => "matmul",
            Op::Reshape => "reshape",
            Op::Permute(_) => "permute",
            Op::BroadcastTo => "broadcast_to",
            Op::SumTo => "sum_to",
            Op::Slice { .. } => "slice",
            Op::Pad(_) => "pad",
            Op::Concat(_) => "concat",
            Op::Gather(_) => "gather",
            Op::ScatterAdd(_) => "scatter_add",
            Op::Conv2d(_) => "conv2d",
            Op::Conv2dBias { .. } => "conv2d_bias",
            Op::Conv2dInput(_) => "conv2d_input",
            Op::Conv2dWeight(_) => "conv2d_weight",
            Op::SumPool(_) => "sum_pool",
            Op::SumPoolAdjoint(_) => "sum_pool_adjoint",
            Op::MaxPool(_) => "max_pool",
            Op::BatchNorm(_) => "batch_norm",
            Op::BatchNormAddRelu { .. } => "batch_norm_add_relu",
            Op::ChannelAffine { .. } => "channel_affine",
            Op::Softmax => "softmax",
            Op::LogSoftmax => "log_softmax",
            Op::CrossEntropy => "cross_entropy",
            Op::NtXent => "nt_xent",
            Op::Cast(_) => "cast",
            Op::Custom(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Op;

    /// Every name that [`Op::name`] can give stands in the list, but for the two that compute nothing.
    #[test]
    fn the_list_of_names_is_complete() {
        let source = include_str!("op.rs");
        let body = &source[source.find("pub fn name").expect("Op::name")..];
        let body = &body[..body.find("Op::Custom(name)").expect("its last arm")];
        let names: Vec<&str> =
            body.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap_or("")).collect();
        assert!(names.len() > 40);
        for name in names.iter().filter(|name| !["leaf", "identity"].contains(name)) {
            assert!(Op::NAMES.contains(name), "{name} is missing from Op::NAMES");
        }
        assert_eq!(names.len() - 2, Op::NAMES.len());
    }
}
