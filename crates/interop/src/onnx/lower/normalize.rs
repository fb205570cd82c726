//! Normalizations of layers, groups and rows.

use super::super::size::Size;
use super::super::source::Node;
use super::{Layout, Live, Lowered, Lowering, Operand, Value, axis_of, shown};
use tarrl_tensor::Tensor;

impl Lowering<'_> {
    pub(super) fn layer_normalization(&mut self, node: &Node) -> Lowered<Value> {
        if node.outputs.len() > 1 && node.outputs[1..].iter().any(|name| !name.is_empty()) {
            return Err("its further outputs are not supported".into());
        }
        let shape = self.shape(node, 0)?;
        let axis = axis_of(node.int("axis", -1)?, shape.len())?;
        let width = Size::product(&shape[axis..]).and_then(Size::extent);
        let width = width.ok_or("it normalizes over the images of a batch")?;
        let eps = f64::from(node.float("epsilon", 1e-5)?);
        let live = self.plain(Self::name(node, 0)?)?;
        let mut operands = vec![Operand::Value(live.at)];
        for (i, absent) in [(1, 1.0), (2, 0.0)] {
            let name = node.input(i).unwrap_or("").to_owned();
            let data = match self.floats(node, i)? {
                Some((_, data)) => data,
                None => vec![absent; width],
            };
            if data.len() != width {
                return Err(format!("{} scales or shifts for rows of {width}", data.len()));
            }
            operands.push(self.weight(&name, &[width], &data));
        }
        let is_last = axis + 1 == shape.len();
        let at = self.emit("layer_norm", operands, move |t, _| {
            if is_last {
                return t[0].layer_norm(&t[1], &t[2], eps);
            }
            let shape = *t[0].shape();
            t[0].reshape([shape.len() / width, width]).layer_norm(&t[1], &t[2], eps).reshape(shape)
        });
        self.live_value(Live::new(at, Layout::Plain), shape)
    }

    /// Normalization of each channel, or of each group of channels, over its positions.
    pub(super) fn group_normalization(&mut self, node: &Node) -> Lowered<Value> {
        let shape = self.shape(node, 0)?;
        if shape.len() < 3 {
            return Err(format!("takes {}; only maps (n, c, …) are supported", shown(&shape)));
        }
        let c = shape[1].extent().ok_or("its channels are not known")?;
        let positions =
            Size::product(&shape[2..]).and_then(Size::extent).ok_or("its extents are not known")?;
        let is_group = node.op == "GroupNormalization";
        let groups = if is_group { usize::try_from(node.int("num_groups", 0)?).unwrap_or(0) } else { c };
        if groups == 0 || !c.is_multiple_of(groups) {
            return Err(format!("{groups} groups of {c} channels"));
        }
        let eps = f64::from(node.float("epsilon", 1e-5)?);
        // Up to opset 20 scale and shift were those of a group.
        let own = if is_group && self.source.opset < 21 { groups } else { c };
        let live = self.plain(Self::name(node, 0)?)?;
        let mut operands = vec![Operand::Value(live.at)];
        for i in [1, 2] {
            let (_, data) = self.floats(node, i)?.ok_or_else(|| format!("input {i} is absent"))?;
            if data.len() != own {
                return Err(format!("{} scales or shifts, expected {own}", data.len()));
            }
            let each: Vec<f32> = data.iter().flat_map(|&v| vec![v; c / own]).collect();
            let name = Self::name(node, i)?.to_owned();
            operands.push(self.weight(&name, &[c, 1], &each));
        }
        let rank = shape.len();
        let at = self.emit("group_norm", operands, move |t, n| {
            let from = *t[0].shape();
            let rows = t[0].reshape([n, groups, c / groups * positions]);
            let centered = &rows - &rows.mean(2);
            let deviation = centered.square().mean(2).add_scalar(eps).sqrt();
            let normal = (&centered / &deviation).reshape([n, c, positions]);
            debug_assert_eq!(from.rank(), rank);
            (&(&normal * &t[1]) + &t[2]).reshape(from)
        });
        if shape[0] != Size::BATCH && shape[0].known().is_none() {
            return Err(format!("takes {}; the images have to be its first axis", shown(&shape)));
        }
        self.live_value(Live::new(at, Layout::Plain), shape)
    }

    pub(super) fn lp_normalization(&mut self, node: &Node) -> Lowered<Value> {
        let shape = self.shape(node, 0)?;
        let axis = axis_of(node.int("axis", -1)?, shape.len())?;
        let p = node.int("p", 2)?;
        if shape[axis].extent().is_none() || ![1, 2].contains(&p) {
            return Err(format!("p = {p} over axis {axis} of {} is not supported", shown(&shape)));
        }
        let live = self.plain(Self::name(node, 0)?)?;
        let is_last = axis + 1 == shape.len();
        let at = self.emit("l2_normalize", vec![Operand::Value(live.at)], move |t, _| match p {
            2 if is_last => t[0].l2_normalize(0.0),
            2 => &t[0] / &t[0].norm(axis),
            _ => &t[0] / &Tensor::sum(&t[0].abs(), axis),
        });
        self.live_value(Live::new(at, Layout::Plain), shape)
    }
}
