//! Compositions that ONNX has one node for, found in a recorded graph.

use std::collections::HashMap;
use std::sync::Arc;
use tarrl_tensor::{Array, Binary, Conv, Edge, Node, Op, Pool, Transpose, Unary};

/// What a node of the recorded graph is for an exporter, with the tracked operands that it really takes.
pub(super) enum Found<'a> {
    /// The mean over all positions of images.
    GlobalAverage(&'a Arc<Node>),
    /// `(x, weight, bias)` and what is added to the variance.
    LayerNorm(&'a Arc<Node>, &'a Array, &'a Array, f64),
    /// Rows divided by their norm, which is cut at a floor.
    Normalize(&'a Arc<Node>, f64),
    /// A product with constant weights, `(out, in)` if transposed, and a bias.
    Linear(&'a Arc<Node>, &'a Array, bool, Option<&'a Array>, bool),
    /// A convolution with a bias, then ReLU if set.
    ConvBias(&'a Arc<Node>, &'a Array, Conv, &'a Array, bool),
    /// The mean over windows.
    AveragePool(&'a Arc<Node>, Pool),
    /// The same elements, whatever reshapes lie between.
    Reshape(&'a Arc<Node>),
    /// The op as it is.
    Plain,
}

/// How many nodes take each node.
pub(super) type Uses = HashMap<*const Node, usize>;

impl<'a> Found<'a> {
    pub(super) fn new(node: &'a Arc<Node>, uses: &Uses) -> Self {
        let average = global_average(node).map(Found::GlobalAverage);
        average
            .or_else(|| layer_norm(node))
            .or_else(|| normalize(node))
            .or_else(|| affine(node, uses))
            .or_else(|| average_pool(node, uses))
            .or_else(|| match (node.op(), tracked(node)) {
                (Op::Reshape, Some(operand)) => Some(Found::Reshape(through_reshapes(operand))),
                _ => None,
            })
            .unwrap_or(Found::Plain)
    }

    /// The tracked operands that the exported node takes.
    pub(super) fn operands(&self, node: &'a Arc<Node>) -> Vec<&'a Arc<Node>> {
        match self {
            Found::GlobalAverage(x)
            | Found::LayerNorm(x, ..)
            | Found::Normalize(x, _)
            | Found::Linear(x, ..)
            | Found::ConvBias(x, ..)
            | Found::AveragePool(x, _)
            | Found::Reshape(x) => vec![x],
            Found::Plain => node.edges().iter().filter_map(Edge::node).collect(),
        }
    }
}

/// The only tracked operand.
fn tracked(node: &Arc<Node>) -> Option<&Arc<Node>> {
    let mut operands = node.edges().iter().filter_map(Edge::node);
    let first = operands.next();
    if operands.next().is_some() { None } else { first }
}

/// The only tracked operand of a node of this op.
fn only<'a>(node: &'a Arc<Node>, op: &Op) -> Option<&'a Arc<Node>> {
    (node.op() == op).then(|| tracked(node)).flatten()
}

fn through_reshapes(mut node: &Arc<Node>) -> &Arc<Node> {
    while let Some(operand) = only(node, &Op::Reshape).filter(|_| global_average(node).is_none()) {
        node = operand;
    }
    node
}

/// The factor of a product with a number, and what it multiplies.
fn scaled(node: &Arc<Node>) -> Option<(&Arc<Node>, f64)> {
    match node.op() {
        Op::Unary(Unary::MulScalar(factor)) => Some((tracked(node)?, *factor)),
        _ => None,
    }
}

/// The mean over one axis as it is recorded: the sum times one over the extent.
fn mean(node: &Arc<Node>, axis: usize) -> Option<&Arc<Node>> {
    let (sum, factor) = scaled(node)?;
    let x = only(sum, &Op::Sum(axis))?;
    (factor == 1.0 / x.shape()[axis] as f64).then_some(x)
}

fn global_average(node: &Arc<Node>) -> Option<&Arc<Node>> {
    let &[n, c] = &node.shape()[..] else { return None };
    let row = only(node, &Op::Reshape)?;
    let positions = mean(row, 1)?;
    let images = only(positions, &Op::Reshape)?;
    let &[m, h, w, d] = &images.shape()[..] else { return None };
    (m == n && d == c && positions.shape()[..] == [n, h * w, c]).then_some(images)
}

/// Both operands of a node of this op, tracked.
fn pair(node: &Arc<Node>, op: Binary) -> Option<[&Arc<Node>; 2]> {
    match node.edges() {
        [Edge::Tracked(a), Edge::Tracked(b)] if node.op() == &Op::Binary(op) => Some([a, b]),
        _ => None,
    }
}

/// The tracked and the constant operand of a node of this op.
fn with_constant(node: &Arc<Node>, op: Binary) -> Option<(&Arc<Node>, &Array)> {
    match node.edges() {
        [Edge::Tracked(x), Edge::Constant(c)] if node.op() == &Op::Binary(op) => Some((x, c)),
        _ => None,
    }
}

fn square(node: &Arc<Node>) -> Option<&Arc<Node>> {
    let [a, b] = pair(node, Binary::Mul)?;
    Arc::ptr_eq(a, b).then_some(a)
}

fn layer_norm<'a>(node: &'a Arc<Node>) -> Option<Found<'a>> {
    let axis = node.shape().rank().checked_sub(1)?;
    let (product, bias) = with_constant(node, Binary::Add)?;
    let (quotient, weight) = with_constant(product, Binary::Mul)?;
    let [centered, deviation] = pair(quotient, Binary::Div)?;
    let variance = only(deviation, &Op::Unary(Unary::Sqrt))?;
    let Op::Unary(Unary::AddScalar(eps)) = variance.op() else { return None };
    let squares = mean(tracked(variance)?, axis)?;
    let [x, average] = pair(centered, Binary::Sub)?;
    let fits = Arc::ptr_eq(square(squares)?, centered) && Arc::ptr_eq(mean(average, axis)?, x);
    let extent = node.shape()[axis];
    let rows = weight.shape()[..] == [extent] && bias.shape()[..] == [extent];
    (fits && rows).then_some(Found::LayerNorm(x, weight, bias, *eps))
}

/// As [`Tensor::l2_normalize`](tarrl_tensor::Tensor::l2_normalize) is recorded.
fn normalize<'a>(node: &'a Arc<Node>) -> Option<Found<'a>> {
    let [x, floored] = pair(node, Binary::Div)?;
    let (norm, floor) = with_constant(floored, Binary::Max)?;
    let floor = (floor.len() == 1).then(|| floor.item())?;
    let (root, _) = with_constant(norm, Binary::Mul)?;
    let shifted = only(root, &Op::Unary(Unary::Sqrt))?;
    let (sum, _) = with_constant(shifted, Binary::Add)?;
    let squares = only(sum, &Op::Sum(x.shape().rank() - 1))?;
    Arc::ptr_eq(square(squares)?, x).then_some(Found::Normalize(x, floor))
}

/// A product with constant weights of rows `(n, k)`.
fn product(node: &Arc<Node>) -> Option<(&Arc<Node>, &Array, bool)> {
    match (node.op(), node.edges()) {
        (Op::Matmul(Transpose { a: false, b }), [Edge::Tracked(x), Edge::Constant(w)])
            if x.shape().rank() == 2 && w.shape().rank() == 2 =>
        {
            Some((x, w, *b))
        }
        _ => None,
    }
}

/// A convolution or a product with its bias; a product without.
fn affine<'a>(node: &'a Arc<Node>, uses: &Uses) -> Option<Found<'a>> {
    if let Some((x, w, transposed)) = product(node) {
        return Some(Found::Linear(x, w, transposed, None, false));
    }
    let (before, bias, relu) = match (node.op(), node.edges()) {
        (
            Op::ChannelAffine { relu },
            [Edge::Tracked(before), Edge::Constant(scale), Edge::Constant(shift)],
        ) if scale.to_f64().iter().all(|&s| s == 1.0) => (before, shift, *relu),
        (Op::Binary(Binary::Add), [Edge::Tracked(before), Edge::Constant(shift)])
            if shift.shape().rank() == 1 && before.shape().last() == shift.shape().first() =>
        {
            (before, shift, false)
        }
        _ => return None,
    };
    if uses.get(&Arc::as_ptr(before)) != Some(&1) {
        return None;
    }
    if let Some((x, w, transposed)) = product(before) {
        return Some(Found::Linear(x, w, transposed, Some(bias), relu));
    }
    match (before.op(), before.edges()) {
        (Op::Conv2d(conv), [Edge::Tracked(x), Edge::Constant(w)]) => {
            Some(Found::ConvBias(x, w, *conv, bias, relu))
        }
        _ => None,
    }
}

fn average_pool<'a>(node: &'a Arc<Node>, uses: &Uses) -> Option<Found<'a>> {
    let (sum, factor) = scaled(node)?;
    let Op::SumPool(pool) = sum.op() else { return None };
    let own = uses.get(&Arc::as_ptr(sum)) == Some(&1);
    let whole = factor == 1.0 / (pool.window * pool.window) as f64;
    (own && whole).then(|| tracked(sum)).flatten().map(|x| Found::AveragePool(x, *pool))
}
