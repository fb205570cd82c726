//! Operators that move elements.

use super::super::constant::Constant;
use super::super::size::Size;
use super::super::source::Node;
use super::{Kind, Layout, Live, Lowered, Lowering, Operand, Value, at, axis_of, shown};
use tarrl_tensor::{Array, Tensor};

/// Where the axes of `(n, c, h, w)` lie in `(n, h, w, c)`.
pub(super) const PLACES: [usize; 4] = [0, 3, 1, 2];

impl Lowering<'_> {
    /// The shape that Reshape, Flatten, Squeeze or Unsqueeze gives to `shape`.
    pub(super) fn new_shape(&self, node: &Node, shape: &[Size]) -> Lowered<Vec<Size>> {
        let rank = shape.len();
        let axes = |lowering: &Self| -> Lowered<Option<Vec<i64>>> {
            match node.ints("axes")? {
                Some(axes) => Ok(Some(axes.to_vec())),
                None => lowering.ints(node, 1),
            }
        };
        match node.op.as_str() {
            "Flatten" => {
                let axis = node.int("axis", 1)?;
                let axis = if axis == rank as i64 { rank } else { axis_of(axis, rank)? };
                let halves = [Size::product(&shape[..axis]), Size::product(&shape[axis..])];
                let [Some(rows), Some(columns)] = halves else {
                    return Err("its result is not linear in the number of images".into());
                };
                Ok(vec![rows, columns])
            }
            "Squeeze" => {
                let axes = match axes(self)? {
                    Some(axes) => {
                        axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Lowered<Vec<_>>>()?
                    }
                    None => (0..rank).filter(|&axis| shape[axis] == Size::ONE).collect(),
                };
                if axes.iter().any(|&axis| shape[axis] != Size::ONE) {
                    return Err(format!("the axes {axes:?} of {} are not all of extent 1", shown(shape)));
                }
                Ok((0..rank).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect())
            }
            "Unsqueeze" => {
                let axes = axes(self)?.ok_or("it has no axes")?;
                let total = rank + axes.len();
                let axes = axes.iter().map(|&axis| axis_of(axis, total)).collect::<Lowered<Vec<_>>>()?;
                let mut rest = shape.iter();
                let made = (0..total)
                    .map(|i| if axes.contains(&i) { Some(Size::ONE) } else { rest.next().copied() });
                let made: Option<Vec<Size>> = made.collect();
                made.filter(|_| rest.next().is_none()).ok_or_else(|| format!("the axes {axes:?} repeat"))
            }
            _ => self.reshape_target(node, shape),
        }
    }

    fn reshape_target(&self, node: &Node, shape: &[Size]) -> Lowered<Vec<Size>> {
        let mut target = self.sizes(node, 1)?.ok_or("it has no shape")?;
        let copies = node.int("allowzero", 0)? == 0;
        for (i, size) in target.iter_mut().enumerate() {
            if copies && *size == Size::of(0) {
                *size = *shape.get(i).ok_or("it copies an axis that is not there")?;
            }
        }
        let free: Vec<usize> = (0..target.len()).filter(|&i| target[i] == Size::of(-1)).collect();
        let total = Size::product(shape).ok_or("its input is not linear in the number of images")?;
        // The batch that is written into the file gives way to any number where the first axis of both shapes counts the
        // images, or as many rows for each.
        let leading = shape.iter().find(|size| **size != Size::ONE).and_then(|size| size.per_image());
        if let (Some(batch), Some(first), Some(_)) = (self.baked, target.first().copied(), leading)
            && let Some(rows) = first.known().filter(|rows| *rows > 0 && rows % batch == 0)
            && free.first() != Some(&0)
        {
            target[0] = Size::BATCH.mul(Size::of(rows / batch)).ok_or("its shape is too large")?;
            let replaced = [shape[0], target[0]] != [Size::BATCH; 2];
            self.is_guess.set(self.is_guess.get() || replaced);
        }
        match free[..] {
            [] => {}
            [free] => {
                target[free] = Size::ONE;
                let others = Size::product(&target).filter(|others| *others != Size::of(0));
                let rest = others
                    .and_then(|others| total.div(others).filter(|rest| rest.mul(others) == Some(total)));
                target[free] =
                    rest.ok_or_else(|| format!("{} cannot become {}", shown(shape), shown(&target)))?;
            }
            _ => return Err("its shape has two free extents".into()),
        }
        if Size::product(&target) != Some(total) || target.iter().any(|size| size.at(1) == 0) {
            return Err(format!("{} cannot become {}", shown(shape), shown(&target)));
        }
        Ok(target)
    }

    pub(super) fn reshape(&mut self, node: &Node) -> Lowered<Value> {
        let shape = self.shape(node, 0)?;
        let target = self.new_shape(node, &shape)?;
        let live = self.rows_or_plain(Self::name(node, 0)?)?;
        if live.layout == Layout::Rows && target[..] == shape[..2] {
            return self.live_value(Live { layout: Layout::Plain, ..live }, target);
        }
        let live = Live { layout: Layout::Plain, ..live };
        self.reshaped(live, target)
    }

    pub(super) fn transpose(&mut self, node: &Node) -> Lowered<Value> {
        let shape = self.shape(node, 0)?;
        let rank = shape.len();
        let order = permutation(node, rank)?;
        let live = self.live(Self::name(node, 0)?)?;
        let to: Vec<Size> = order.iter().map(|&axis| shape[axis]).collect();
        // Images that come in another order of axes are images of ours already.
        if live.layout == Layout::Plain && order == [0, 3, 1, 2] {
            return self.live_value(Live { layout: Layout::Nhwc, ..live }, to);
        }
        let places: Vec<usize> = match live.layout {
            Layout::Nhwc => order.iter().map(|&axis| PLACES[axis]).collect(),
            Layout::Rows | Layout::Plain => order,
        };
        let live = Live { layout: Layout::Plain, ..live };
        if places.iter().enumerate().all(|(i, &axis)| i == axis) {
            return self.live_value(live, to);
        }
        let at = self.emit("permute", vec![Operand::Value(live.at)], move |t, _| t[0].permute(&places));
        self.live_value(Live { at, ..live }, to)
    }

    pub(super) fn concat(&mut self, node: &Node) -> Lowered<Value> {
        let names = node.inputs.clone();
        let shapes = (0..names.len()).map(|i| self.shape(node, i)).collect::<Lowered<Vec<_>>>()?;
        let is_live = |value: &Value| matches!(value.kind, Kind::Live(_));
        let first = names.iter().zip(&shapes).find(|(name, _)| self.values.get(*name).is_some_and(is_live));
        let mut shape = first.ok_or("it has no input")?.1.clone();
        let axis = axis_of(node.int("axis", 1)?, shape.len())?;
        let mut total = Size::of(0);
        let mut parts = Vec::new();
        let all_images = names
            .iter()
            .all(|name| matches!(&self.values[name].kind, Kind::Live(live) if live.layout == Layout::Nhwc));
        for (name, own) in names.iter().zip(&shapes) {
            let value = self.values[name].clone();
            let mut own = own.clone();
            if let Kind::Constant(constant) = value.kind {
                // A class token is written once, or once for each image of the batch of the file.
                let constant = self.one_row(constant, &shape);
                if axis > 0 && constant.shape.first() == Some(&1) && !own.is_empty() {
                    own[0] = shape[0];
                }
                let data = constant.as_floats().ok_or_else(|| format!("{name:?} holds whole numbers"))?;
                let operand = self.weight(name, &constant.shape, data);
                let extents = own.clone();
                parts.push(
                    self.emit("constant", vec![operand], move |t, n| t[0].broadcast_to(&at(&extents, n)[..])),
                );
            } else {
                parts.push(if all_images { self.live(name)?.at } else { self.plain(name)?.at });
            }
            let others = |of: &[Size]| -> Vec<Size> {
                of.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, &size)| size).collect()
            };
            if own.len() != shape.len() || others(&own) != others(&shape) {
                return Err(format!("{} beside {} on axis {axis}", shown(&own), shown(&shape)));
            }
            total = total.add(own[axis]).ok_or("its result is too large")?;
        }
        if shape[axis].known().is_none() {
            return Err("it puts the images of a batch one after another".into());
        }
        shape[axis] = total;
        let place = if all_images { PLACES[axis] } else { axis };
        let operands = parts.into_iter().map(Operand::Value).collect();
        let at =
            self.emit("concat", operands, move |t, _| Tensor::concat(&t.iter().collect::<Vec<_>>(), place));
        let layout = if all_images { Layout::Nhwc } else { Layout::Plain };
        self.live_value(Live::new(at, layout), shape)
    }

    pub(super) fn slice(&mut self, node: &Node) -> Lowered<Value> {
        let shape = self.shape(node, 0)?;
        let mut live = self.live(Self::name(node, 0)?)?;
        let mut to = shape.clone();
        for (axis, start, len, step) in self.windows(node, &shape)? {
            if shape[axis].extent() == Some(len) || len == usize::MAX {
                continue;
            }
            if shape[axis].known().is_none() {
                return Err("it takes some images of a batch".into());
            }
            let place = if live.layout == Layout::Nhwc { PLACES[axis] } else { axis };
            if len == 0 {
                return Err("its result is empty".into());
            }
            let at = self.emit("slice", vec![Operand::Value(live.at)], move |t, _| {
                t[0].slice_step(place, start, len, step)
            });
            live = Live { at, ..live };
            to[axis] = Size::of(len as i64);
        }
        self.live_value(live, to)
    }

    /// The axes that a Slice cuts: axis, start, length, step. The length is `usize::MAX` where all images stay.
    pub(super) fn windows(&self, node: &Node, shape: &[Size]) -> Lowered<Vec<(usize, usize, usize, usize)>> {
        let list = |name: &str, i: usize| -> Lowered<Option<Vec<i64>>> {
            match node.ints(name)? {
                Some(values) => Ok(Some(values.to_vec())),
                None => {
                    let sizes = self.sizes(node, i)?;
                    // The number of images as an end is beyond every start.
                    let known = |size: &Size| size.known().or(size.per_image().map(|_| i64::MAX));
                    let ints = sizes.map(|sizes| sizes.iter().map(known).collect::<Option<Vec<_>>>());
                    ints.map(|ints| ints.ok_or_else(|| format!("input {i} depends on the batch"))).transpose()
                }
            }
        };
        let starts = list("starts", 1)?.ok_or("it has no starts")?;
        let ends = list("ends", 2)?.ok_or("it has no ends")?;
        let axes = list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err("starts, ends, axes and steps are not as many".into());
        }
        let mut windows = Vec::new();
        for i in 0..starts.len() {
            let axis = axis_of(axes[i], shape.len())?;
            let step = usize::try_from(steps[i]).ok().filter(|&step| step > 0);
            let step = step.ok_or("steps that are not positive are not supported")?;
            let Some(extent) = shape[axis].known() else {
                if starts[i] == 0 && ends[i] == i64::MAX && step == 1 {
                    windows.push((axis, 0, usize::MAX, 1));
                    continue;
                }
                return Err("it takes some images of a batch".into());
            };
            let clip = |value: i64| {
                let value = if value < 0 { value.saturating_add(extent) } else { value };
                value.clamp(0, extent) as usize
            };
            let (start, end) = (clip(starts[i]), clip(ends[i]));
            windows.push((axis, start, end.saturating_sub(start).div_ceil(step), step));
        }
        Ok(windows)
    }

    pub(super) fn split(&mut self, node: &Node) -> Lowered<Vec<Value>> {
        let shape = self.shape(node, 0)?;
        let axis = axis_of(node.int("axis", 0)?, shape.len())?;
        let extent = shape[axis].extent().ok_or("it parts the images of a batch")?;
        let parts = node.outputs.len();
        let given = match node.ints("split")? {
            Some(sizes) => Some(sizes.to_vec()),
            None => self.ints(node, 1)?,
        };
        let sizes: Vec<usize> = match given {
            Some(sizes) => sizes.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect(),
            None => {
                let each = extent.div_ceil(parts.max(1));
                (0..parts).map(|i| each.min(extent.saturating_sub(i * each))).collect()
            }
        };
        let total = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
        if sizes.len() != parts || total != Some(extent) || sizes.contains(&0) {
            return Err(format!("{extent} elements into {parts} parts of {sizes:?}"));
        }
        let live = self.live(Self::name(node, 0)?)?;
        let place = if live.layout == Layout::Nhwc { PLACES[axis] } else { axis };
        let mut start = 0;
        let mut values = Vec::new();
        for size in sizes {
            let at =
                self.emit("slice", vec![Operand::Value(live.at)], move |t, _| t[0].slice(place, start, size));
            let mut to = shape.clone();
            to[axis] = Size::of(size as i64);
            values.push(self.live_value(Live { at, ..live.clone() }, to)?);
            start += size;
        }
        Ok(values)
    }

    pub(super) fn gather(&mut self, node: &Node) -> Lowered<Value> {
        let shape = self.shape(node, 0)?;
        let axis = axis_of(node.int("axis", 0)?, shape.len())?;
        let extent = shape[axis].extent().ok_or("it takes some images of a batch")?;
        let index = self.constant(node, 1)?.ok_or("it has no indices")?;
        let of = index.shape.clone();
        let rows = index.as_ints().ok_or("its indices depend on the batch")?;
        let rows = rows.iter().map(|&row| axis_of(row, extent).map(|row| row as u32));
        let rows = rows.collect::<Lowered<Vec<u32>>>()?;
        let live = self.plain(Self::name(node, 0)?)?;
        let operands = vec![Operand::Value(live.at)];
        let at = match rows[..] {
            [row] => self.emit("slice", operands, move |t, _| t[0].slice(axis, row as usize, 1)),
            _ => self.emit("gather", operands, move |t, _| {
                let index = Array::table(t[0].device(), [rows.len()], &rows);
                t[0].gather(axis, &index)
            }),
        };
        let inner = of.iter().map(|&extent| Size::of(extent as i64));
        let to =
            shape[..axis].iter().copied().chain(inner).chain(shape[axis + 1..].iter().copied()).collect();
        self.reshaped(Live { at, ..live }, to)
    }

    pub(super) fn pad(&mut self, node: &Node) -> Lowered<Value> {
        if node.text("mode", "constant")? != "constant" {
            return Err("only padding by a constant is supported".into());
        }
        let value = match self.constant(node, 2)? {
            Some(constant) => constant.scalar().ok_or("its value is not one number")?,
            None => node.float("value", 0.0)?,
        };
        let shape = self.shape(node, 0)?;
        let pads = match node.ints("pads")? {
            Some(pads) => pads.to_vec(),
            None => self.ints(node, 1)?.ok_or("it has no pads")?,
        };
        let axes: Vec<usize> = match self.ints(node, 3)? {
            Some(axes) => axes.iter().map(|&axis| axis_of(axis, shape.len())).collect::<Lowered<_>>()?,
            None => (0..shape.len()).collect(),
        };
        let pads = pads.iter().map(|&pad| usize::try_from(pad).ok().filter(|&pad| pad <= 1 << 20));
        let pads = pads.collect::<Option<Vec<_>>>().filter(|pads| pads.len() == 2 * axes.len());
        let pads = pads.ok_or("its pads are negative, too large, or not two for each axis")?;
        let live = self.live(Self::name(node, 0)?)?;
        let rank = shape.len();
        let (mut before, mut grown, mut to) = (vec![0; rank], vec![0; rank], shape.clone());
        for (i, &axis) in axes.iter().enumerate() {
            let all = pads[i] + pads[axes.len() + i];
            let place = if live.layout == Layout::Nhwc { PLACES[axis] } else { axis };
            if all > 0 && shape[axis].known().is_none() {
                return Err("it pads the batch".into());
            }
            (before[place], grown[place]) = (pads[i], all);
            to[axis] = shape[axis].add(Size::of(all as i64)).ok_or("its result is too large")?;
        }
        let checked = self.live_value(live.clone(), to.clone())?;
        let nonnegative = live.nonnegative && value >= 0.0;
        let shift = f64::from(value);
        let at = self.emit("pad", vec![Operand::Value(live.at)], move |t, _| {
            let extents: Vec<usize> = t[0].shape().iter().zip(&grown).map(|(e, g)| e + g).collect();
            if shift == 0.0 {
                return t[0].pad(&extents[..], &before[..]);
            }
            t[0].add_scalar(-shift).pad(&extents[..], &before[..]).add_scalar(shift)
        });
        Ok(Value { kind: Kind::Live(Live { nonnegative, ..Live::new(at, live.layout) }), ..checked })
    }
}

/// The order of axes of a Transpose: reversed if it does not say.
pub(super) fn permutation(node: &Node, rank: usize) -> Lowered<Vec<usize>> {
    let Some(order) = node.ints("perm")? else { return Ok((0..rank).rev().collect()) };
    let axes = order.iter().map(|&axis| usize::try_from(axis).unwrap_or(usize::MAX)).collect::<Vec<_>>();
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(format!("{order:?} is no order of {rank} axes"));
    }
    Ok(axes)
}

impl Constant {
    /// A constant under new extents, of which those that the batch extends are 1.
    pub(super) fn under(&self, shape: &[Size]) -> Option<Constant> {
        let extents: Option<Vec<usize>> = shape.iter().map(|size| size.extent()).collect();
        self.reshape(extents?)
    }
}
