//! Graph tracing: from the recorded graph of an encoder to a [`Network`].

use crate::error::CertifyError;
use crate::network::{LayerOp, Network, Step};
use std::collections::HashMap;
use std::sync::Arc;
use tarrl_tensor::{
    Array, Binary, DType, Edge, Node, Op, Shape, Tensor, Transpose, Unary, topological_order,
};

impl Network {
    /// The network of `encoder`, recorded on the batch `sample` `(n, …)` and computed on its device.
    ///
    /// The encoder maps `(n, …)` to `(n, d)` in inference mode, and its rows do not depend on each other.
    /// Whatever the values of the samples, the same ops are recorded.
    ///
    /// # Errors
    /// If an op has no sound rule (it is named), samples are mixed, or a constant is not finite.
    pub fn trace(encoder: &dyn Fn(&Tensor) -> Tensor, sample: &Tensor) -> Result<Self, CertifyError> {
        let x = sample.detach().requires_grad();
        let y = encoder(&x);
        let nodes = topological_order(&y);
        let Some(input) = x.node().filter(|x| nodes.iter().any(|node| Arc::ptr_eq(node, x))) else {
            return Err(CertifyError::Constant);
        };
        let (end, sphere) = match y.node().and_then(sphere) {
            Some((before, floor)) => (before, Some(floor)),
            None => (nodes.last().cloned().ok_or(CertifyError::Constant)?, None),
        };
        let mut reader = GraphTracer {
            n: sample.shape()[0],
            network: Network { shapes: vec![], steps: vec![], sphere },
            place: HashMap::from([(Arc::as_ptr(input), 0)]),
        };
        let shape = reader.sample_shape(input)?;
        reader.network.shapes.push(shape);
        // In topological order operands precede their users.
        for node in nodes.iter().take_while(|node| !Arc::ptr_eq(node, &end)).chain([&end]) {
            if !Arc::ptr_eq(node, input) && node.op() != &Op::Leaf {
                reader.read(node)?;
            }
        }
        let network = reader.network;
        let output = &network.shapes[network.shapes.len() - 1];
        if output.rank() != 1 {
            let reason = format!("gives {output:?} for each sample; representations are vectors (d)");
            return Err(CertifyError::UnsupportedForm { op: "output".into(), reason });
        }
        Ok(network)
    }
}

struct GraphTracer {
    n: usize,
    network: Network,
    /// The value that each node has become.
    place: HashMap<*const Node, usize>,
}

/// An operand of a node.
enum Operand<'a> {
    Value(usize),
    Constant(&'a Array),
}

impl GraphTracer {
    fn read(&mut self, node: &Arc<Node>) -> Result<(), CertifyError> {
        let name = node.op().name();
        let form = |reason: &str| CertifyError::UnsupportedForm { op: name.into(), reason: reason.into() };
        let shape = self.sample_shape(node)?;
        let mut operands = Vec::new();
        for edge in node.edges() {
            operands.push(match edge {
                Edge::Constant(array) => Operand::Constant(array),
                Edge::Tracked(node) => match self.place.get(&Arc::as_ptr(node)) {
                    Some(&value) => Operand::Value(value),
                    None => return Err(form("takes a tracked value that does not come from the input")),
                },
            });
        }
        use Operand::{Constant, Value};
        match (node.op(), &operands[..]) {
            (Op::Identity, &[Value(x)]) => {
                self.place.insert(Arc::as_ptr(node), x);
            }
            (Op::Unary(Unary::Relu), &[Value(x)]) => self.push(node, LayerOp::Relu, vec![x], shape),
            (Op::Unary(Unary::Neg), &[Value(x)]) => self.scale(node, -1.0, x, shape)?,
            (Op::Unary(Unary::MulScalar(c)), &[Value(x)]) => self.scale(node, *c, x, shape)?,
            (Op::Unary(Unary::AddScalar(c)), &[Value(x)]) => {
                let shift = self.scalar(node, *c)?;
                self.push(node, LayerOp::Shift(shift), vec![x], shape);
            }
            (Op::Binary(Binary::Add), &[Value(a), Value(b)]) => {
                self.same(&[a, b], &shape).ok_or_else(|| form("broadcasts one of two values"))?;
                self.push(node, LayerOp::Add, vec![a, b], shape);
            }
            (Op::Binary(Binary::Sub), &[Value(a), Value(b)]) => {
                self.same(&[a, b], &shape).ok_or_else(|| form("broadcasts one of two values"))?;
                let minus = self.scalar(node, -1.0)?;
                let negated = self.append(scale(minus), vec![b], shape);
                self.push(node, LayerOp::Add, vec![a, negated], shape);
            }
            (Op::Binary(Binary::Add), &[Value(x), Constant(c)] | &[Constant(c), Value(x)]) => {
                let c = self.constant(name, c, &shape, x)?;
                self.push(node, LayerOp::Shift(c), vec![x], shape);
            }
            (Op::Binary(Binary::Sub), &[Value(x), Constant(c)]) => {
                let c = self.constant(name, c, &shape, x)?.neg();
                self.push(node, LayerOp::Shift(c), vec![x], shape);
            }
            (Op::Binary(Binary::Mul), &[Value(x), Constant(c)] | &[Constant(c), Value(x)]) => {
                let c = self.constant(name, c, &shape, x)?;
                self.push(node, scale(c), vec![x], shape);
            }
            (Op::ChannelAffine { relu }, &[Value(x), Constant(factor), Constant(shift)]) => {
                let [factor, shift] = [factor, shift].map(|c| self.constant(name, c, &shape, x));
                let (factor, shift) = (factor?, shift?);
                let mut at = x;
                if factor.array().to_f64().iter().any(|&f| f != 1.0) {
                    at = self.append(scale(factor), vec![at], shape);
                }
                at = self.append(LayerOp::Shift(shift), vec![at], shape);
                if *relu {
                    at = self.append(LayerOp::Relu, vec![at], shape);
                }
                self.place.insert(Arc::as_ptr(node), at);
            }
            (Op::Conv2d(conv), &[Value(x), Constant(w)]) => {
                let weight = self.weight(name, w)?;
                let map = LayerOp::Conv { magnitude: weight.abs(), weight, conv: *conv };
                self.push(node, map, vec![x], shape);
            }
            (Op::Matmul(Transpose { a: false, b }), &[Value(x), Constant(w)])
                if w.shape().rank() == 2 && self.network.shapes[x].rank() == 1 =>
            {
                let weight = self.weight(name, w)?;
                let weight = if *b { weight.t() } else { weight };
                let map = LayerOp::Linear { magnitude: weight.abs(), weight };
                self.push(node, map, vec![x], shape);
            }
            (Op::Matmul(_), _) => return Err(form("is not that of rows (n, k) with a constant (k, m)")),
            (Op::Sum(axis), &[Value(x)]) if *axis > 0 => self.push(node, LayerOp::Sum(*axis), vec![x], shape),
            (Op::SumPool(pool), &[Value(x)]) => self.push(node, LayerOp::SumPool(*pool), vec![x], shape),
            (Op::Reshape, &[Value(x)]) => self.push(node, LayerOp::Reshape, vec![x], shape),
            (Op::Permute(order), &[Value(x)]) if order.first() == Some(&0) => {
                self.push(node, LayerOp::Permute(order.clone()), vec![x], shape);
            }
            (Op::Sum(_) | Op::Permute(_), _) => return Err(form("mixes the samples of a batch")),
            (
                Op::Conv2d(_)
                | Op::ChannelAffine { .. }
                | Op::Binary(Binary::Add | Binary::Sub | Binary::Mul),
                _,
            ) => {
                return Err(form("has operands of which none, or more than the rule allows, is constant"));
            }
            _ => return Err(CertifyError::UnsupportedOp(name.into())),
        }
        Ok(())
    }

    fn push(&mut self, node: &Arc<Node>, map: LayerOp, inputs: Vec<usize>, shape: Shape) {
        let at = self.append(map, inputs, shape);
        self.place.insert(Arc::as_ptr(node), at);
    }

    fn append(&mut self, op: LayerOp, inputs: Vec<usize>, shape: Shape) -> usize {
        self.network.steps.push(Step { op, inputs });
        self.network.shapes.push(shape);
        self.network.shapes.len() - 1
    }

    fn scale(&mut self, node: &Arc<Node>, c: f64, x: usize, shape: Shape) -> Result<(), CertifyError> {
        let factor = self.scalar(node, c)?;
        self.push(node, scale(factor), vec![x], shape);
        Ok(())
    }

    fn same(&self, values: &[usize], shape: &Shape) -> Option<()> {
        values.iter().all(|&v| self.network.shapes[v] == *shape).then_some(())
    }

    /// The extents of one sample: samples are the first axis everywhere.
    fn sample_shape(&self, node: &Arc<Node>) -> Result<Shape, CertifyError> {
        let shape = node.shape();
        if shape.rank() < 2 || shape[0] != self.n {
            let op = node.op().name().into();
            let reason = format!("gives {shape:?} for {} samples; they have to stay the first axis", self.n);
            return Err(CertifyError::UnsupportedForm { op, reason });
        }
        Ok(Shape::new(&shape[1..]))
    }

    /// A constant that is the same for every sample and keeps the shape of value `x`.
    fn constant(&self, op: &str, c: &Array, shape: &Shape, x: usize) -> Result<Tensor, CertifyError> {
        let rank = shape.rank() + 1;
        let same = c.shape().rank() < rank || c.shape()[0] == 1;
        if !same || self.network.shapes[x] != *shape {
            let reason =
                format!("takes the constant {:?}, which differs between samples or repeats them", c.shape());
            return Err(CertifyError::UnsupportedForm { op: op.into(), reason });
        }
        self.weight(op, c)
    }

    fn weight(&self, op: &str, c: &Array) -> Result<Tensor, CertifyError> {
        if !c.to_f64().iter().all(|v| v.is_finite()) {
            return Err(CertifyError::NotFinite(format!("a constant of the op `{op}`")));
        }
        Ok(c.cast(DType::F64).into())
    }

    fn scalar(&self, node: &Arc<Node>, c: f64) -> Result<Tensor, CertifyError> {
        // As the encoder's own arithmetic takes it.
        let c = if node.dtype() == DType::F32 { f64::from(c as f32) } else { c };
        if !c.is_finite() {
            return Err(CertifyError::NotFinite(format!("the constant of the op `{}`", node.op().name())));
        }
        let device = node.edges().iter().find_map(|edge| match edge {
            Edge::Constant(array) => Some(array.device().clone()),
            Edge::Tracked(_) => None,
        });
        let device = device.or_else(|| self.device()).unwrap_or_else(tarrl_tensor::cpu);
        Ok(Tensor::full(&device, [1], DType::F64, c))
    }

    fn device(&self) -> Option<tarrl_tensor::Device> {
        self.network.steps.iter().find_map(|step| match &step.op {
            LayerOp::Conv { weight: t, .. } | LayerOp::Linear { weight: t, .. } | LayerOp::Shift(t) => {
                Some(t.device().clone())
            }
            LayerOp::Scale { factor, .. } => Some(factor.device().clone()),
            _ => None,
        })
    }
}

fn scale(factor: Tensor) -> LayerOp {
    LayerOp::Scale { magnitude: factor.abs(), factor }
}

/// If `node` is `g / max(‖g‖, floor)` as [`Tensor::l2_normalize`] records it: the node of `g`, and the floor.
fn sphere(node: &Arc<Node>) -> Option<(Arc<Node>, f64)> {
    let [Edge::Tracked(g), Edge::Tracked(floored)] = node.edges() else { return None };
    let (Op::Binary(Binary::Div), Op::Binary(Binary::Max)) = (node.op(), floored.op()) else { return None };
    let [Edge::Tracked(norm), Edge::Constant(floor)] = floored.edges() else { return None };
    let floor = (floor.len() == 1).then(|| floor.item())?;
    let root = only(norm, &Op::Binary(Binary::Mul))?;
    let shifted = only(&root, &Op::Unary(Unary::Sqrt))?;
    let sum = only(&shifted, &Op::Binary(Binary::Add))?;
    let last = g.shape().rank() - 1;
    let square = only(&sum, &Op::Sum(last))?;
    let product = square.op() == &Op::Binary(Binary::Mul);
    let of_g = square.edges().iter().all(|edge| edge.node().is_some_and(|e| Arc::ptr_eq(e, g)));
    (last == 1 && product && of_g && square.edges().len() == 2).then(|| (g.clone(), floor))
}

/// The only tracked operand of `node`, if it is this op.
fn only(node: &Arc<Node>, op: &Op) -> Option<Arc<Node>> {
    let tracked: Vec<_> = node.edges().iter().filter_map(Edge::node).collect();
    match tracked[..] {
        [operand] if node.op() == op => Some(operand.clone()),
        _ => None,
    }
}
