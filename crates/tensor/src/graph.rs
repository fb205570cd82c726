//! The recorded graph: nodes that know their op, their operands and their adjoint.

use crate::array::{Array, DType};
use crate::autodiff::Pullback;
use crate::op::Op;
use crate::shape::Shape;
use crate::tensor::Tensor;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// The adjoint of an op: from the gradient of the output to the gradient of each operand, `None`
/// where it is not needed or zero.
pub(crate) type Vjp = Box<dyn Fn(&Pullback<'_>) -> Vec<Option<Tensor>> + Send + Sync>;

/// One recorded operation.
pub struct Node {
    op: Op,
    edges: Vec<Edge>,
    shape: Shape,
    dtype: DType,
    /// One more than the largest depth of an operand: an order in which operands come first.
    depth: usize,
    output: Option<Array>,
    vjp: Option<Vjp>,
}

/// An operand of a node.
#[derive(Clone)]
pub enum Edge {
    /// A tensor whose history is recorded.
    Tracked(Arc<Node>),
    /// A value without history: weights of a frozen network, data, indices.
    Constant(Array),
}

impl Node {
    /// The operation and its parameters.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// The operands, in the order of the op's definition.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// The shape of the result.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The element type of the result.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn new(
        op: Op,
        y: &Array,
        inputs: &[&Tensor],
        keep_output: bool,
        vjp: Option<Vjp>,
    ) -> Arc<Self> {
        let edges: Vec<Edge> = inputs.iter().map(|t| t.edge()).collect();
        let depth = edges.iter().filter_map(Edge::node).map(|n| n.depth + 1).max().unwrap_or(0);
        let output = keep_output.then(|| y.clone());
        Arc::new(Node { op, edges, shape: *y.shape(), dtype: y.dtype(), depth, output, vjp })
    }

    pub(crate) fn output(&self) -> Option<&Array> {
        self.output.as_ref()
    }

    pub(crate) fn vjp(&self) -> Option<&Vjp> {
        self.vjp.as_ref()
    }
}

impl Edge {
    /// The node of a tracked operand.
    pub fn node(&self) -> Option<&Arc<Node>> {
        match self {
            Edge::Tracked(node) => Some(node),
            Edge::Constant(_) => None,
        }
    }
}

/// The recorded history of `y`, every node after its operands and `y`'s own node last.
/// Empty if `y` is not tracked. The order is the same in every run.
pub fn topological_order(y: &Tensor) -> Vec<Arc<Node>> {
    let mut seen = HashSet::new();
    let mut nodes = Vec::new();
    let mut stack: Vec<Arc<Node>> = y.node().cloned().into_iter().collect();
    while let Some(node) = stack.pop() {
        if seen.insert(Arc::as_ptr(&node)) {
            stack.extend(node.edges.iter().filter_map(Edge::node).cloned());
            nodes.push(node);
        }
    }
    // The sort is stable, so nodes of one depth keep the order of discovery, which only the graph decides.
    nodes.sort_by_key(|node| node.depth);
    nodes
}

/// Drops a chain of any length without recursion.
impl Drop for Node {
    fn drop(&mut self) {
        // The adjoint holds the operands too; while the stack holds them, dropping it frees no node.
        let mut stack = std::mem::take(&mut self.edges);
        self.vjp = None;
        while let Some(edge) = stack.pop() {
            if let Edge::Tracked(node) = edge
                && let Some(mut node) = Arc::into_inner(node)
            {
                stack.append(&mut node.edges);
                node.vjp = None;
            }
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} -> {:?}{:?}", self.op, self.dtype, self.shape)
    }
}
