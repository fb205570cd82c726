//! Matrix products, attention and softmax.

use super::super::constant::Constant;
use super::super::size::Size;
use super::super::source::Node;
use super::{Kind, Layout, Live, Lowered, Lowering, Operand, Pending, Value, at, axis_of, shown};
use tarrl_tensor::{Tensor, Transpose};

impl Lowering<'_> {
    pub(super) fn gemm(&mut self, node: &Node) -> Lowered<Value> {
        let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
        let transposed = node.int("transB", 0)? != 0;
        let (shape, mut data) = self.floats(node, 1)?.ok_or("it has no weights")?;
        let &[rows, columns] = &shape[..] else { return Err(format!("weights of {shape:?} are no matrix")) };
        let (k, m) = if transposed { (columns, rows) } else { (rows, columns) };
        let mut live = self.plain(Self::name(node, 0)?)?;
        let mut x = self.shape(node, 0)?;
        if node.int("transA", 0)? != 0 && x.len() == 2 {
            x.reverse();
            live = Live::new(
                self.emit("permute", vec![Operand::Value(live.at)], |t, _| t[0].t()),
                Layout::Plain,
            );
        }
        if x.len() != 2 || x[1].extent() != Some(k) {
            return Err(format!("{} times weights of {k}×{m}", shown(&x)));
        }
        if alpha != 1.0 {
            data.iter_mut().for_each(|w| *w *= alpha);
        }
        let name = Self::name(node, 1)?.to_owned();
        let weight = self.weight(&name, &shape, &data);
        let transpose = Transpose { a: false, b: transposed };
        let product = self.emit("matmul", vec![Operand::Value(live.at), weight], move |t, _| {
            t[0].matmul_with(&t[1], transpose)
        });
        let mut value = self.live_value(Live::new(product, Layout::Plain), vec![x[0], Size::of(m as i64)])?;
        if let Some((shape, bias)) = self.floats(node, 2)?
            && beta != 0.0
        {
            let row = Constant::floats(shape.clone(), bias).broadcast_to(&[1, m]);
            let row = row.ok_or_else(|| format!("a bias of {shape:?} for {m} features"))?;
            let bias =
                row.as_floats().unwrap_or_default().iter().map(|&b| if beta == 1.0 { b } else { b * beta });
            let name = Self::name(node, 2)?.to_owned();
            if let Kind::Live(live) = &mut value.kind {
                live.pending = Pending::Affine(None, Some((name, bias.collect())));
            }
        }
        Ok(value)
    }

    pub(super) fn matmul(&mut self, node: &Node) -> Lowered<Value> {
        let (a, b) = (self.shape(node, 0)?, self.shape(node, 1)?);
        if a.len() < 2 || b.len() < 2 {
            return Err(format!("{} times {}: products of vectors are not supported", shown(&a), shown(&b)));
        }
        let (m, k) = (a[a.len() - 2], a[a.len() - 1]);
        if k != b[b.len() - 2] {
            return Err(format!("{} times {}", shown(&a), shown(&b)));
        }
        let columns = b[b.len() - 1];
        let x = self.plain(Self::name(node, 0)?)?;
        if let (Kind::Constant(_), 2, Some(k), Some(columns)) =
            (&self.value(node, 1)?.kind, b.len(), k.extent(), columns.extent())
        {
            let (shape, data) = self.floats(node, 1)?.ok_or("it has no weights")?;
            let name = Self::name(node, 1)?.to_owned();
            let weight = self.weight(&name, &shape, &data);
            let mut to = a.clone();
            to[a.len() - 1] = Size::of(columns as i64);
            let extents = to.clone();
            let is_matrix = a.len() == 2;
            // Every row of every matrix before it is one row of a product.
            let at = self.emit("matmul", vec![Operand::Value(x.at), weight], move |t, n| {
                if is_matrix {
                    return t[0].matmul(&t[1]);
                }
                let rows = t[0].shape().len() / k;
                t[0].reshape([rows, k]).matmul(&t[1]).reshape(&at(&extents, n)[..])
            });
            return self.live_value(Live::new(at, Layout::Plain), to);
        }
        let leading = super::broadcast(&a[..a.len() - 2], &b[..b.len() - 2])?;
        let shape = [&leading[..], &[m, columns]].concat();
        // A transpose that only this product takes is part of it.
        let second = Self::name(node, 1)?.to_owned();
        let before = self.transposed(&second, b.len());
        let transpose = if before.is_some() { Transpose::RIGHT } else { Transpose::NONE };
        let y = self.plain(before.as_deref().unwrap_or(&second))?;
        let matrix = if before.is_some() { [columns, k] } else { [k, columns] };
        let (left, right) = ([&leading[..], &[m, k]].concat(), [&leading[..], &matrix].concat());
        let at = self.emit("matmul", vec![Operand::Value(x.at), Operand::Value(y.at)], move |t, n| {
            let [x, y] =
                [(&t[0], &left), (&t[1], &right)].map(|(t, shape)| t.broadcast_to(&at(shape, n)[..]));
            x.matmul_with(&y, transpose)
        });
        self.live_value(Live::new(at, Layout::Plain), shape)
    }

    /// What a value that nothing else takes is the transpose of, in its last two axes.
    fn transposed(&self, name: &str, rank: usize) -> Option<String> {
        let node = self.source.nodes.iter().find(|node| node.outputs.iter().any(|output| output == name))?;
        let mut swapped: Vec<i64> = (0..rank as i64).collect();
        swapped.swap(rank - 2, rank - 1);
        let fits =
            node.op == "Transpose" && node.ints("perm").ok()? == Some(&swapped[..]) && self.only_use(name);
        let input = node.input(0)?;
        let is_live = matches!(self.values.get(input)?.kind, Kind::Live(_));
        (fits && is_live).then(|| input.to_owned())
    }

    pub(super) fn softmax(&mut self, node: &Node) -> Lowered<Value> {
        let old = self.source.opset < 13;
        let shape = self.shape(node, 0)?;
        let rank = shape.len();
        let axis = axis_of(node.int("axis", if old { 1 } else { -1 })?, rank)?;
        let live = self.plain(Self::name(node, 0)?)?;
        let log = node.op == "LogSoftmax";
        let run = move |x: &Tensor| if log { x.log_softmax() } else { x.softmax() };
        let operands = vec![Operand::Value(live.at)];
        let name = if log { "log_softmax" } else { "softmax" };
        let at = if axis + 1 == rank {
            self.emit(name, operands, move |t, _| run(&t[0]))
        } else if old {
            // All axes from this one on are one.
            let inner = Size::product(&shape[axis..]).and_then(Size::extent);
            let inner = inner.ok_or("it normalizes over the images of a batch")?;
            self.emit(name, operands, move |t, _| {
                let shape = *t[0].shape();
                run(&t[0].reshape([shape.len() / inner, inner])).reshape(shape)
            })
        } else {
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(axis, rank - 1);
            self.emit(name, operands, move |t, _| run(&t[0].permute(&order)).permute(&order))
        };
        self.live_value(Live::new(at, Layout::Plain), shape)
    }

    /// Attention without mask, cache or causality: softmax(q kᵀ·scale) v.
    pub(super) fn attention(&mut self, node: &Node) -> Lowered<Value> {
        if node.inputs.len() > 3 && node.inputs[3..].iter().any(|name| !name.is_empty()) {
            return Err("masks and caches are not supported".into());
        }
        if node.outputs.len() > 1 && node.outputs[1..].iter().any(|name| !name.is_empty()) {
            return Err("its further outputs are not supported".into());
        }
        if node.int("is_causal", 0)? != 0 || node.float("softcap", 0.0)? != 0.0 {
            return Err("causal and capped attention are not supported".into());
        }
        let mut heads = Vec::new();
        let shapes = [self.shape(node, 0)?, self.shape(node, 1)?, self.shape(node, 2)?];
        let counts = ["q_num_heads", "kv_num_heads", "kv_num_heads"];
        let mut split = Vec::new();
        for (i, (shape, count)) in shapes.iter().zip(counts).enumerate() {
            let live = self.plain(Self::name(node, i)?)?;
            let number = node.int(count, 0)?;
            match shape.len() {
                4 => {
                    heads.push(shape[1]);
                    split.push((live.at, shape.clone()));
                }
                3 if number > 0 => {
                    let each =
                        shape[2].div(Size::of(number)).filter(|d| d.mul(Size::of(number)) == Some(shape[2]));
                    let each =
                        each.ok_or_else(|| format!("{} do not split into {number} heads", shown(shape)))?;
                    let to = vec![shape[0], shape[1], Size::of(number), each];
                    let extents = to.clone();
                    let at = self.emit("heads", vec![Operand::Value(live.at)], move |t, n| {
                        t[0].reshape(&at(&extents, n)[..]).permute(&[0, 2, 1, 3])
                    });
                    heads.push(Size::of(number));
                    split.push((at, vec![to[0], to[2], to[1], to[3]]));
                }
                _ => return Err(format!("takes {}", shown(shape))),
            }
        }
        if heads.iter().any(|&number| number != heads[0]) {
            return Err("queries and keys have different numbers of heads, which is not supported".into());
        }
        let [(q, qs), (k, ks), (v, vs)] = [0, 1, 2].map(|i| split[i].clone());
        let d = qs[3].extent().ok_or("the width of its heads is not known")?;
        if qs[0] != ks[0] || ks[..3] != vs[..3] || qs[3] != ks[3] {
            return Err(format!("queries {}, keys {}, values {}", shown(&qs), shown(&ks), shown(&vs)));
        }
        let scale = match node.get("scale") {
            Some(_) => f64::from(node.float("scale", 1.0)?),
            None => 1.0 / (d as f64).sqrt(),
        };
        let operands = [q, k, v].map(Operand::Value).to_vec();
        let joined = shapes[0].len() == 3;
        let mut shape = vec![qs[0], qs[1], qs[2], vs[3]];
        if joined {
            shape = vec![qs[0], qs[2], vs[3].mul(heads[0]).ok_or("the width of its heads is not known")?];
        }
        let extents = shape.clone();
        let at = self.emit("attention", operands, move |t, n| {
            let weights = t[0].mul_scalar(scale).matmul_with(&t[1], Transpose::RIGHT).softmax();
            let y = weights.matmul(&t[2]);
            if joined { y.permute(&[0, 2, 1, 3]).reshape(&at(&extents, n)[..]) } else { y }
        });
        self.live_value(Live::new(at, Layout::Plain), shape)
    }
}
