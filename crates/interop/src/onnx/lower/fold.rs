//! Folding: nodes whose inputs are known beforehand, above all the arithmetic of shapes.

use super::super::constant::{Constant, Data, MOST_FOLDED, count};
use super::super::proto::element;
use super::super::size::Size;
use super::super::source::{Attribute, Node};
use super::shape::permutation;
use super::{Kind, Lowered, Lowering, Value, axis_of, broadcast};

impl Lowering<'_> {
    /// The results of a node that depends on no pixel; `None` for any other.
    pub(super) fn fold(&mut self, node: &Node) -> Lowered<Option<Vec<Value>>> {
        let one = |constant: Constant| Ok(Some(vec![Value::constant(constant)]));
        match node.op.as_str() {
            "Constant" => return one(literal(node)?),
            // The shape of a value is known even where the value is not.
            "Shape" => {
                let shape = self.shape(node, 0)?;
                let rank = shape.len() as i64;
                let place = |name: &str, default: i64| -> Lowered<usize> {
                    let value = node.int(name, default)?;
                    Ok((if value < 0 { value.saturating_add(rank) } else { value }).clamp(0, rank) as usize)
                };
                let (start, end) = (place("start", 0)?, place("end", rank)?);
                let sizes = shape.get(start..end).unwrap_or_default().to_vec();
                return one(Constant::ints(vec![sizes.len()], sizes));
            }
            _ => {}
        }
        let mut constants = Vec::new();
        for (i, name) in node.inputs.iter().enumerate() {
            if name.is_empty() {
                continue;
            }
            match &self.value(node, i)?.kind {
                Kind::Constant(constant) => constants.push(constant.clone()),
                Kind::Live(_) => return Ok(None),
            }
        }
        if constants.is_empty() {
            return Ok(None);
        }
        let Some(values) = self.fold_constants(node, &constants)? else { return Ok(None) };
        for value in &values {
            if let Kind::Constant(constant) = &value.kind {
                self.folded = self.folded.saturating_add(constant.len());
            }
        }
        Ok(Some(values))
    }

    fn fold_constants(&self, node: &Node, inputs: &[Constant]) -> Lowered<Option<Vec<Value>>> {
        let one = |constant: Constant| Ok(Some(vec![Value::constant(constant)]));
        let x = &inputs[0];
        let large = "its result is more than is computed";
        match node.op.as_str() {
            "Identity" | "Dropout" => one(x.clone()),
            "Cast" => one(cast(x, node.int("to", 0)?)?),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                let shape = self.shape(node, 0)?;
                let to = self.new_shape(node, &shape)?;
                one(x.under(&to).ok_or("a constant under a shape that depends on the batch")?)
            }
            "Transpose" => one(x.permute(&permutation(node, x.shape.len())?)),
            "Concat" => {
                let axis = axis_of(node.int("axis", 1)?, x.shape.len())?;
                let parts: Vec<&Constant> = inputs.iter().collect();
                one(Constant::concat(&parts, axis).ok_or("its inputs do not fit together")?)
            }
            "Slice" => {
                let mut made = x.clone();
                let shape = self.shape(node, 0)?;
                for (axis, start, len, step) in self.windows(node, &shape)? {
                    if len != usize::MAX {
                        made = made.slice(axis, start, len, step);
                    }
                }
                one(made)
            }
            "Split" => {
                let axis = axis_of(node.int("axis", 0)?, x.shape.len())?;
                let parts = node.outputs.len().max(1);
                let sizes = match (node.ints("split")?, inputs.get(1)) {
                    (Some(sizes), _) => sizes.to_vec(),
                    (None, Some(sizes)) => sizes.as_ints().ok_or("its parts depend on the batch")?,
                    (None, None) => {
                        let each = x.shape[axis].div_ceil(parts);
                        (0..parts).map(|i| each.min(x.shape[axis].saturating_sub(i * each)) as i64).collect()
                    }
                };
                let mut start = 0usize;
                let mut values = Vec::new();
                for size in sizes {
                    let len = usize::try_from(size).unwrap_or(usize::MAX);
                    if start.checked_add(len).is_none_or(|end| end > x.shape[axis]) {
                        return Err("its parts are longer than its input".into());
                    }
                    values.push(Value::constant(x.slice(axis, start, len, 1)));
                    start += len;
                }
                Ok(Some(values))
            }
            "Gather" => one(gather(x, inputs.get(1).ok_or("it has no indices")?, node.int("axis", 0)?)?),
            "Expand" => {
                let target = self.sizes(node, 1)?.ok_or("it has no shape")?;
                let shape = broadcast(&self.shape(node, 0)?, &target)?;
                // Axes that the batch extends stay of extent 1 until a value meets this one.
                let extents: Vec<usize> = shape.iter().map(|size| size.extent().unwrap_or(1)).collect();
                let constant = x.broadcast_to(&extents).ok_or(large)?;
                Ok(Some(vec![Value { shape, kind: Kind::Constant(constant) }]))
            }
            "ConstantOfShape" => {
                let sizes = x.as_sizes().ok_or("its shape holds no whole numbers")?;
                let extents: Vec<usize> = sizes.iter().map(|size| size.extent().unwrap_or(1)).collect();
                let fill = match node.get("value") {
                    Some(Attribute::Tensor(value)) if value.len() == 1 => value.clone(),
                    None => Constant::floats(vec![1], vec![0.0]),
                    Some(_) => return Err("its value is not one number".into()),
                };
                if count(&extents).is_none_or(|len| len > MOST_FOLDED) {
                    return Err(large.into());
                }
                let fill = fill.reshape(vec![1; extents.len()]).ok_or(large)?;
                let constant = fill.broadcast_to(&extents).ok_or(large)?;
                Ok(Some(vec![Value { shape: sizes.to_vec(), kind: Kind::Constant(constant) }]))
            }
            "Range" => {
                let [start, end, step] = [0, 1, 2].map(|i| inputs.get(i).and_then(Constant::as_ints));
                let (Some(start), Some(end), Some(step)) = (start, end, step) else {
                    return Err("its numbers are not whole, or depend on the batch".into());
                };
                let ([start], [end], [step]) = (&start[..], &end[..], &step[..]) else {
                    return Err("its inputs are not single numbers".into());
                };
                let len = end.checked_sub(*start).and_then(|span| {
                    if *step > 0 { Some(span.max(0) as u64).map(|s| s.div_ceil(*step as u64)) } else { None }
                });
                let len = len.filter(|&len| len <= MOST_FOLDED as u64).ok_or(large)?;
                let numbers = (0..len as i64).map(|i| Size::of(start + i * step)).collect();
                one(Constant::ints(vec![len as usize], numbers))
            }
            "Where" => self.fold_where(inputs),
            "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Equal" | "And" | "Pow" | "Min" | "Max" => {
                let mut made = x.clone();
                for other in inputs.get(1..).unwrap_or_default() {
                    made = elementwise(&node.op, &made, other)?;
                }
                Ok(Some(vec![self.with_batch(node, made)?]))
            }
            "Not" => {
                let flags = x.as_ints().ok_or("its input depends on the batch")?;
                one(Constant::ints(
                    x.shape.clone(),
                    flags.iter().map(|&f| Size::of((f == 0).into())).collect(),
                ))
            }
            "Neg" | "Sqrt" | "Reciprocal" | "Abs" => {
                Ok(function(&node.op, x).map(|made| vec![Value::constant(made)]))
            }
            "ReduceProd" if x.as_sizes().is_some() => {
                let product = Size::product(x.as_sizes().unwrap_or_default()).ok_or(large)?;
                let shape = if node.int("keepdims", 1)? != 0 { vec![1; x.shape.len()] } else { vec![] };
                if x.shape.len() > 1 {
                    return Err("products of matrices of whole numbers are not supported".into());
                }
                one(Constant::ints(shape, vec![product]))
            }
            // Weights that are computed in the graph: left to the tensors.
            _ => Ok(None),
        }
    }

    /// An elementwise result whose operands may have axes that the batch extends.
    fn with_batch(&self, node: &Node, made: Constant) -> Lowered<Value> {
        let mut shape: Vec<Size> = vec![];
        for (i, name) in node.inputs.iter().enumerate() {
            if !name.is_empty() {
                shape = broadcast(&shape, &self.shape(node, i)?)?;
            }
        }
        Ok(Value { shape, kind: Kind::Constant(made) })
    }

    fn fold_where(&self, inputs: &[Constant]) -> Lowered<Option<Vec<Value>>> {
        let [condition, a, b] = inputs else { return Err("it takes three inputs".into()) };
        let mut shape = condition.shape.clone();
        for other in [a, b] {
            shape = joined(&shape, &other.shape)?;
        }
        let spread = |x: &Constant| x.broadcast_to(&shape).ok_or("its result is more than is computed");
        let (condition, a, b) = (spread(condition)?, spread(a)?, spread(b)?);
        let flags = condition.as_ints().ok_or("its condition depends on the batch")?;
        let data = match (&a.data, &b.data) {
            (Data::Int(a), Data::Int(b)) => {
                let picked = flags.iter().enumerate().map(|(i, &flag)| if flag != 0 { a[i] } else { b[i] });
                Constant::ints(shape, picked.collect())
            }
            (Data::Float(a), Data::Float(b)) => {
                let picked = flags.iter().enumerate().map(|(i, &flag)| if flag != 0 { a[i] } else { b[i] });
                Constant::floats(shape, picked.collect())
            }
            _ => return Err("its inputs have different types".into()),
        };
        Ok(Some(vec![Value::constant(data)]))
    }
}

/// The value of a Constant node.
fn literal(node: &Node) -> Lowered<Constant> {
    let found =
        ["value", "value_float", "value_floats", "value_int", "value_ints"].map(|name| node.get(name));
    match found.into_iter().flatten().next() {
        Some(Attribute::Tensor(constant)) => Ok(constant.clone()),
        Some(Attribute::Float(value)) => Ok(Constant::floats(vec![], vec![*value])),
        Some(Attribute::Floats(values)) => Ok(Constant::floats(vec![values.len()], values.clone())),
        Some(Attribute::Int(value)) => Ok(Constant::ints(vec![], vec![Size::of(*value)])),
        Some(Attribute::Ints(values)) => {
            Ok(Constant::ints(vec![values.len()], values.iter().map(|&v| Size::of(v)).collect()))
        }
        _ => Err("it has no value of a supported type".into()),
    }
}

fn cast(x: &Constant, to: i64) -> Lowered<Constant> {
    let to_float = [element::F32, element::F64, element::F16, element::BF16].contains(&to);
    let whole = [element::I64, element::I32, element::I16, element::I8, element::U8].contains(&to);
    match &x.data {
        Data::Float(_) if to_float => Ok(x.clone()),
        Data::Int(_) if whole => Ok(x.clone()),
        Data::Int(sizes) if to_float => {
            let known = sizes.iter().map(|size| size.known().map(|v| v as f32)).collect::<Option<Vec<f32>>>();
            Ok(Constant::floats(x.shape.clone(), known.ok_or("a float that depends on the batch")?))
        }
        // The conversion of Rust cuts towards zero and at the ends of the range.
        Data::Float(data) if whole => {
            Ok(Constant::ints(x.shape.clone(), data.iter().map(|&v| Size::of(v as i64)).collect()))
        }
        Data::Int(sizes) if to == element::BOOL => {
            let flags = sizes.iter().map(|size| size.equal(Size::of(0)).map(|zero| Size::of((!zero).into())));
            let flags = flags.collect::<Option<Vec<_>>>().ok_or("a truth value that depends on the batch")?;
            Ok(Constant::ints(x.shape.clone(), flags))
        }
        _ => Err(format!("a cast to the type with the number {to} is not supported")),
    }
}

fn gather(x: &Constant, index: &Constant, axis: i64) -> Lowered<Constant> {
    let axis = axis_of(axis, x.shape.len())?;
    let rows = index.as_ints().ok_or("its indices depend on the batch")?;
    let rows = rows.iter().map(|&row| axis_of(row, x.shape[axis])).collect::<Lowered<Vec<_>>>()?;
    let each = x.len() / x.shape[axis].max(1);
    if rows.len().checked_mul(each).is_none_or(|len| len > MOST_FOLDED) {
        return Err("its result is more than is computed".into());
    }
    let picked: Vec<Constant> = rows.iter().map(|&row| x.slice(axis, row, 1, 1)).collect();
    let shape = [&x.shape[..axis], &index.shape, &x.shape[axis + 1..]].concat();
    let made = match picked[..] {
        [] => x.slice(axis, 0, 0, 1),
        _ => Constant::concat(&picked.iter().collect::<Vec<_>>(), axis).ok_or("its rows do not fit")?,
    };
    made.reshape(shape).ok_or_else(|| "its result is more than is computed".into())
}

fn joined(a: &[usize], b: &[usize]) -> Lowered<Vec<usize>> {
    let sizes =
        |shape: &[usize]| -> Vec<Size> { shape.iter().map(|&extent| Size::of(extent as i64)).collect() };
    let shape = broadcast(&sizes(a), &sizes(b))?;
    Ok(shape.iter().map(|size| size.at(1)).collect())
}

fn elementwise(op: &str, a: &Constant, b: &Constant) -> Lowered<Constant> {
    let shape = joined(&a.shape, &b.shape)?;
    let spread = |x: &Constant| x.broadcast_to(&shape).ok_or("its result is more than is computed");
    let (a, b) = (spread(a)?, spread(b)?);
    match (&a.data, &b.data) {
        (Data::Int(x), Data::Int(y)) => {
            let made = x.iter().zip(&**y).map(|(&x, &y)| match op {
                "Add" => x.add(y),
                "Sub" => x.sub(y),
                "Mul" => x.mul(y),
                "Div" => x.div(y),
                "Mod" => x.rem(y),
                "Equal" => x.equal(y).map(|equal| Size::of(equal.into())),
                "And" => Some(Size::of((x != Size::of(0) && y != Size::of(0)).into())),
                "Min" => Some(Size::of(x.known()?.min(y.known()?))),
                "Max" => Some(Size::of(x.known()?.max(y.known()?))),
                _ => None,
            });
            let made = made.collect::<Option<Vec<_>>>();
            let fault =
                || format!("{op} of whole numbers is not linear in the number of images, or has no result");
            Ok(Constant::ints(shape.clone(), made.ok_or_else(fault)?))
        }
        (Data::Float(x), Data::Float(y)) => {
            let made = x.iter().zip(&**y).map(|(&x, &y)| match op {
                "Add" => Some(x + y),
                "Sub" => Some(x - y),
                "Mul" => Some(x * y),
                "Div" => Some(x / y),
                "Min" => Some(x.min(y)),
                "Max" => Some(x.max(y)),
                "Pow" if y == 2.0 => Some(x * x),
                "Pow" => Some(tarrl_tensor::math::powf(x.into(), y.into()) as f32),
                _ => None,
            });
            let made = made.collect::<Option<Vec<_>>>();
            Ok(Constant::floats(
                shape.clone(),
                made.ok_or_else(|| format!("{op} of floats is not supported"))?,
            ))
        }
        _ => Err("its inputs have different types".into()),
    }
}

fn function(op: &str, x: &Constant) -> Option<Constant> {
    let data = match (&x.data, op) {
        (Data::Int(sizes), "Neg") => {
            let minus = sizes.iter().map(|&size| Size::of(0).sub(size)).collect::<Option<Vec<_>>>()?;
            return Some(Constant::ints(x.shape.clone(), minus));
        }
        (Data::Int(_), _) => return None,
        (Data::Float(data), "Neg") => data.iter().map(|&v| -v).collect(),
        (Data::Float(data), "Sqrt") => data.iter().map(|&v| v.sqrt()).collect(),
        (Data::Float(data), "Abs") => data.iter().map(|&v| v.abs()).collect(),
        (Data::Float(data), _) => data.iter().map(|&v| 1.0 / v).collect(),
    };
    Some(Constant::floats(x.shape.clone(), data))
}
