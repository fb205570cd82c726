//! Reductions over axes.

use super::super::size::Size;
use super::super::source::Node;
use super::{Kind, Layout, Live, Lowered, Lowering, Operand, Pending, Value, at, axis_of};
use tarrl_tensor::Tensor;

impl Lowering<'_> {
    /// The axes of a node: an attribute or an input; every axis if there are none.
    fn axes(&self, node: &Node, rank: usize) -> Lowered<Vec<usize>> {
        let given = match node.ints("axes")? {
            Some(axes) => Some(axes.to_vec()),
            None => self.ints(node, 1)?,
        };
        let given = given.unwrap_or_default();
        if given.is_empty() {
            let none = node.int("noop_with_empty_axes", 0)? != 0;
            return Ok(if none { Vec::new() } else { (0..rank).collect() });
        }
        let mut axes = given.iter().map(|&axis| axis_of(axis, rank)).collect::<Lowered<Vec<_>>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    pub(super) fn reduce(&mut self, node: &Node) -> Lowered<Value> {
        let shape = self.shape(node, 0)?;
        let axes = self.axes(node, shape.len())?;
        let keeps = node.int("keepdims", 1)? != 0;
        let name = Self::name(node, 0)?.to_owned();
        if axes.iter().any(|&axis| shape[axis].known().is_none()) {
            return Err("it reduces over the images of a batch".into());
        }
        if axes.is_empty() {
            self.live(&name)?;
            return Ok(self.values[&name].clone());
        }
        let reduced = |keeps: bool| -> Vec<Size> {
            let one = |(axis, &extent): (usize, &Size)| match (axes.contains(&axis), keeps) {
                (false, _) => Some(extent),
                (true, true) => Some(Size::ONE),
                (true, false) => None,
            };
            shape.iter().enumerate().filter_map(one).collect()
        };
        let live = self.live(&name)?;
        let is_images = live.layout == Layout::Nhwc;
        if node.op == "ReduceMean" && is_images && axes == [2, 3] {
            return self.global_average(node, reduced(keeps));
        }
        if node.op == "ReduceL2" && keeps && !is_images && axes == [shape.len() - 1] {
            let live = Live { pending: Pending::Norm(None), nonnegative: true, ..live };
            return self.live_value(live, reduced(true));
        }
        let places: Vec<usize> =
            axes.iter().map(|&axis| if is_images { [0, 3, 1, 2][axis] } else { axis }).collect();
        let count: usize = axes.iter().filter_map(|&axis| shape[axis].extent()).product();
        let all = |x: &Tensor, places: &[usize], one: fn(&Tensor, usize) -> Tensor| {
            places.iter().fold(x.clone(), |x, &axis| one(&x, axis))
        };
        let op = node.op.clone();
        if op == "ReduceProd" {
            return Err("products are supported for shape arithmetic alone".into());
        }
        let operands = vec![Operand::Value(live.at)];
        let next = self.emit("reduce", operands, move |t, _| {
            let x = &t[0];
            let sum = |x: &Tensor| all(x, &places, Tensor::sum);
            match op.as_str() {
                "ReduceMean" => sum(x).mul_scalar(1.0 / count as f64),
                "ReduceSum" => sum(x),
                "ReduceMax" => all(x, &places, Tensor::max),
                "ReduceMin" => all(x, &places, Tensor::min),
                "ReduceL1" => sum(&x.abs()),
                "ReduceSumSquare" => sum(&x.square()),
                _ if places.len() == 1 => x.norm(places[0]),
                _ => sum(&x.square()).sqrt(),
            }
        });
        let kept = Live::new(next, live.layout);
        let whole = self.live_value(kept.clone(), reduced(true))?;
        if keeps {
            return Ok(whole);
        }
        let plain = self.as_plain(kept, &reduced(true));
        self.reshaped(plain, reduced(false))
    }

    /// Passes a norm on that a division takes next, which broadcasts by itself.
    pub(super) fn expanded_norm(&self, node: &Node) -> Option<Value> {
        let value = self.value(node, 0).ok()?;
        let Kind::Live(live) = &value.kind else { return None };
        let Pending::Norm(_) = live.pending else { return None };
        let output = node.outputs.first()?;
        let takers: Vec<&Node> =
            self.source.nodes.iter().filter(|node| node.inputs.contains(output)).collect();
        let divides = |taker: &&Node| taker.op == "Div" && taker.input(1) == Some(output.as_str());
        (self.source.output != *output && takers.iter().all(divides)).then(|| value.clone())
    }

    pub(super) fn expand(&mut self, node: &Node) -> Lowered<Value> {
        if let Some(value) = self.expanded_norm(node) {
            return Ok(value);
        }
        let sizes = self.sizes(node, 1)?.ok_or("it has no shape")?;
        let shape = super::broadcast(&self.shape(node, 0)?, &self.target(node, sizes)?)?;
        let live = self.plain(Self::name(node, 0)?)?;
        let extents = shape.clone();
        let operands = vec![Operand::Value(live.at)];
        let at = self.emit("broadcast_to", operands, move |t, n| t[0].broadcast_to(&at(&extents, n)[..]));
        self.live_value(Live { at, ..live }, shape)
    }

    /// A shape in the file, with any number of images in place of the batch that it was written for.
    fn target(&self, node: &Node, mut sizes: Vec<Size>) -> Lowered<Vec<Size>> {
        let own = self.shape(node, 0)?;
        if let (Some(batch), Some(first)) = (self.baked, sizes.first_mut())
            && first.known() == Some(batch)
            && own.first() == Some(&Size::BATCH)
        {
            *first = Size::BATCH;
        }
        Ok(sizes)
    }

    /// The whole numbers of a constant input, which may depend on the batch.
    pub(super) fn sizes(&self, node: &Node, i: usize) -> Lowered<Option<Vec<Size>>> {
        let Some(constant) = self.constant(node, i)? else { return Ok(None) };
        let sizes = constant.as_sizes().ok_or_else(|| format!("input {i} holds no whole numbers"))?;
        Ok(Some(sizes.to_vec()))
    }
}
