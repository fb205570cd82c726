//! Elementwise operators.

use super::super::constant::Constant;
use super::super::proto::element;
use super::super::size::Size;
use super::super::source::Node;
use super::{Kind, Layout, Live, Lowered, Lowering, Operand, Pending, Value, broadcast, shown};
use tarrl_tensor::Tensor;

/// An elementwise function of two tensors that broadcast.
type Binary = fn(&Tensor, &Tensor) -> Tensor;

impl Lowering<'_> {
    /// Identity; a cast between floats; dropout in inference.
    pub(super) fn unchanged(&mut self, node: &Node) -> Lowered<Value> {
        if node.op == "Cast" && ![element::F32, element::F64].contains(&node.int("to", 0)?) {
            return Err("only casts to floats of 32 bits are supported".into());
        }
        if node.op == "Dropout" {
            let training = self.constant(node, 2)?.and_then(Constant::as_ints);
            if training.is_some_and(|flag| flag != [0]) {
                return Err("it is in training mode; call eval() before the export".into());
            }
            if node.outputs.get(1).is_some_and(|name| !name.is_empty()) {
                return Err("its mask is not supported".into());
            }
        }
        let name = Self::name(node, 0)?.to_owned();
        // What is pending is done once, for all that take the value under any name.
        self.live(&name)?;
        Ok(self.values[&name].clone())
    }

    pub(super) fn binary(&mut self, node: &Node) -> Lowered<Value> {
        let [a, b] = [Self::name(node, 0)?.to_owned(), Self::name(node, 1)?.to_owned()];
        let is_constant = |lowering: &Self, name: &str| {
            matches!(&lowering.values.get(name).map(|v| &v.kind), Some(Kind::Constant(_)))
        };
        if is_constant(self, &b) && !is_constant(self, &a) {
            return self.with_constant(node, &a, &b, false);
        }
        if is_constant(self, &a) && !is_constant(self, &b) {
            return self.with_constant(node, &b, &a, true);
        }
        match node.op.as_str() {
            "Div" => {
                if let Some(value) = self.normalized(&a, &b)? {
                    return Ok(value);
                }
                self.both("div", &a, &b, |x, y| x / y)
            }
            "Add" => self.sum(&a, &b),
            "Sub" => self.both("sub", &a, &b, |x, y| x - y),
            "Mul" => self.both("mul", &a, &b, |x, y| x * y),
            _ => Err("an exponent that depends on the images is not supported".into()),
        }
    }

    /// `x / ‖x‖` as the one op that it is, if that is what the quotient of these values is.
    fn normalized(&mut self, a: &str, b: &str) -> Lowered<Option<Value>> {
        let Kind::Live(divisor) = &self.values[b].kind else { return Ok(None) };
        let (Pending::Norm(floor), of) = (divisor.pending.clone(), divisor.at) else { return Ok(None) };
        let live = self.live(a)?;
        if live.at != of {
            return Ok(None);
        }
        let floor = floor.unwrap_or(0.0);
        let at = self.emit("l2_normalize", vec![Operand::Value(of)], move |t, _| t[0].l2_normalize(floor));
        let shape = self.values[a].shape.clone();
        self.live_value(Live::new(at, live.layout), shape).map(Some)
    }

    /// A sum that a ReLU may end.
    fn sum(&mut self, a: &str, b: &str) -> Lowered<Value> {
        let (x, y) = (self.live(a)?, self.live(b)?);
        let shape = self.values[a].shape.clone();
        if x.layout == y.layout && shape == self.values[b].shape && x.at != y.at {
            let live = Live { pending: Pending::Sum(y.at), ..Live::new(x.at, x.layout) };
            return self.live_value(live, shape);
        }
        self.both("add", a, b, |x, y| x + y)
    }

    /// A function of two values that depend on the images.
    fn both(&mut self, name: &'static str, a: &str, b: &str, run: Binary) -> Lowered<Value> {
        let (mut x, mut y) = (self.live(a)?, self.live(b)?);
        let (sa, sb) = (self.values[a].shape.clone(), self.values[b].shape.clone());
        let shape = broadcast(&sa, &sb)?;
        if x.layout != y.layout {
            if sa.len() == 4 && sb.len() == 4 {
                (x, y) = (self.as_nhwc(x, &sa), self.as_nhwc(y, &sb));
            } else {
                (x, y) = (self.as_plain(x, &sa), self.as_plain(y, &sb));
            }
        }
        let layout = x.layout;
        let at =
            self.emit(name, vec![Operand::Value(x.at), Operand::Value(y.at)], move |t, _| run(&t[0], &t[1]));
        self.live_value(Live::new(at, layout), shape)
    }

    /// A function of a value and a constant, which is the first operand if `swapped`.
    fn with_constant(&mut self, node: &Node, x: &str, c: &str, swapped: bool) -> Lowered<Value> {
        if matches!(&self.values[x].kind, Kind::Live(live) if live.layout == Layout::Rows) {
            self.live(x)?;
        }
        let (value, other) = (self.values[x].clone(), self.values[c].clone());
        let Kind::Constant(constant) = other.kind else { unreachable!("the caller has looked") };
        let constant = self.one_row(constant, &value.shape);
        if constant.as_floats().is_none() {
            return Err(format!("its input {c:?} holds whole numbers"));
        }
        let op = node.op.as_str();
        // One number for the one channel of images is that channel's.
        let is_affine = ["Add", "Sub", "Mul"].contains(&op) || op == "Div" && !swapped;
        let is_channel =
            is_affine && constant.shape.len() >= 3 && value.shape.len() == 4 && value.shape[1] == Size::ONE;
        let number = constant.scalar().filter(|_| !is_channel && constant.shape.len() <= value.shape.len());
        if let Some(number) = number {
            return self.with_number(op, x, f64::from(number), swapped);
        }
        if op == "Pow" {
            return Err("exponents that differ between elements are not supported".into());
        }
        // The constant as it meets the value in memory.
        let extents: Vec<Size> = constant.shape.iter().map(|&extent| Size::of(extent as i64)).collect();
        let shape = broadcast(&value.shape, &extents)?;
        let Kind::Live(live) = &value.kind else { unreachable!("the caller has looked") };
        let nhwc = live.layout == Layout::Nhwc && shape.len() == 4;
        let mut constant = constant;
        if nhwc {
            let padded = [vec![1; 4 - constant.shape.len()], constant.shape.clone()].concat();
            constant = constant.reshape(padded).ok_or("its constant is too large")?.permute(&[0, 2, 3, 1]);
        }
        let data = constant.as_floats().unwrap_or_default().to_vec();
        // One number for each channel, or for each feature of (n, d).
        let channels = constant.shape.last() == Some(&data.len())
            && shape == value.shape
            && (nhwc || shape.len() == 2 && live.layout == Layout::Plain)
            && data.len() == shape[1].at(1);
        if channels && !(op == "Div" && swapped) {
            let minus = || data.iter().map(|&v| -v).collect();
            let named = |data: Vec<f32>| Some((c.to_owned(), data));
            return match op {
                "Add" => self.then_affine(x, None, named(data)),
                "Sub" if !swapped => self.then_affine(x, None, named(minus())),
                "Sub" => {
                    self.then_affine(x, Some((format!("{c}.sign"), vec![-1.0; data.len()])), named(data))
                }
                "Mul" => self.then_affine(x, named(data), None),
                _ => self.then_affine(x, named(reciprocals(&data)), None),
            };
        }
        let live = self.live(x)?;
        let live = if nhwc { live } else { self.as_plain(live, &value.shape) };
        let data = if op == "Div" && !swapped { reciprocals(&data) } else { data };
        let constant = self.weight(c, &constant.shape, &data);
        let operands = vec![Operand::Value(live.at), constant];
        let (name, run): (_, Binary) = match (op, swapped) {
            ("Add", _) => ("add", |x, c| x + c),
            ("Sub", false) => ("sub", |x, c| x - c),
            ("Sub", true) => ("sub", |x, c| &x.neg() + c),
            ("Div", true) => ("div", |x, c| c / x),
            _ => ("mul", |x, c| x * c),
        };
        let at = self.emit(name, operands, move |t, _| run(&t[0], &t[1]));
        self.live_value(Live::new(at, live.layout), shape)
    }

    /// A function of a value and one number.
    fn with_number(&mut self, op: &str, x: &str, c: f64, swapped: bool) -> Lowered<Value> {
        let live = self.live(x)?;
        let shape = self.values[x].shape.clone();
        let operands = vec![Operand::Value(live.at)];
        let at = match (op, swapped) {
            ("Add", _) => self.emit("add_scalar", operands, move |t, _| t[0].add_scalar(c)),
            ("Sub", false) => self.emit("add_scalar", operands, move |t, _| t[0].add_scalar(-c)),
            ("Sub", true) => self.emit("sub", operands, move |t, _| t[0].neg().add_scalar(c)),
            ("Mul", _) => self.emit("mul_scalar", operands, move |t, _| t[0].mul_scalar(c)),
            ("Div", false) => self.emit("mul_scalar", operands, move |t, _| t[0].mul_scalar(1.0 / c)),
            ("Div", true) => self.emit("div", operands, move |t, _| &Self::number(&t[0], c) / &t[0]),
            (_, true) => return Err("an exponent that depends on the images is not supported".into()),
            _ if c == 2.0 => self.emit("square", operands, |t, _| t[0].square()),
            _ if c == 0.5 => self.emit("sqrt", operands, |t, _| t[0].sqrt()),
            _ => self.emit("powf", operands, move |t, _| t[0].powf(c)),
        };
        self.live_value(Live::new(at, live.layout), shape)
    }

    /// One row of a constant that repeats it for each image of the batch that is written into the file.
    pub(super) fn one_row(&self, constant: Constant, shape: &[Size]) -> Constant {
        let Some(batch) = self.baked.and_then(|batch| usize::try_from(batch).ok()) else { return constant };
        let repeats = batch > 1
            && constant.shape.len() == shape.len()
            && constant.shape.first() == Some(&batch)
            && shape.first() == Some(&Size::BATCH);
        if !repeats {
            return constant;
        }
        let row = constant.slice(0, 0, 1, 1);
        match row.broadcast_to(&constant.shape) {
            Some(repeated) if repeated == constant => row,
            _ => constant,
        }
    }

    pub(super) fn extreme(&mut self, node: &Node) -> Lowered<Value> {
        let names: Vec<String> = node.inputs.clone();
        let first = names.first().ok_or("it has no input")?.clone();
        let mut at = self.live(&first)?;
        let mut shape = self.values[&first].shape.clone();
        for (i, name) in names.iter().enumerate().skip(1) {
            if let Ok(Some((_, data))) = self.floats(node, i)
                && let [number] = data[..]
            {
                let is_min = node.op == "Min";
                let (lo, hi) = if is_min {
                    (f64::NEG_INFINITY, f64::from(number))
                } else {
                    (f64::from(number), f64::INFINITY)
                };
                let next = self.emit("clamp", vec![Operand::Value(at.at)], move |t, _| t[0].clamp(lo, hi));
                at = Live::new(next, at.layout);
                continue;
            }
            let other = self.live(name)?;
            let so = self.values[name].shape.clone();
            let (x, y) = (self.as_plain(at, &shape), self.as_plain(other, &so));
            shape = broadcast(&shape, &so)?;
            let run: Binary = if node.op == "Min" { |x, y| x.minimum(y) } else { |x, y| x.maximum(y) };
            let operands = vec![Operand::Value(x.at), Operand::Value(y.at)];
            at = Live::new(self.emit("extreme", operands, move |t, _| run(&t[0], &t[1])), Layout::Plain);
        }
        self.live_value(at, shape)
    }

    pub(super) fn clip(&mut self, node: &Node) -> Lowered<Value> {
        let bound = |lowering: &Self, i: usize, name: &str, absent: f32| -> Lowered<f32> {
            match lowering.constant(node, i)? {
                Some(constant) => constant.scalar().ok_or_else(|| format!("its {name} is not one number")),
                None => node.float(name, absent),
            }
        };
        let lo = bound(self, 1, "min", f32::NEG_INFINITY)?;
        let hi = bound(self, 2, "max", f32::INFINITY)?;
        let name = Self::name(node, 0)?.to_owned();
        let value = self.value(node, 0)?.clone();
        let lowest = [f32::NEG_INFINITY, f32::MIN].contains(&lo);
        let highest = [f32::INFINITY, f32::MAX].contains(&hi);
        if let Kind::Live(live) = &value.kind
            && let Pending::Norm(None) = live.pending
            && highest
            && lo >= 0.0
        {
            let live = Live { pending: Pending::Norm(Some(f64::from(lo))), ..live.clone() };
            return Ok(Value { kind: Kind::Live(live), ..value });
        }
        if lowest && highest {
            self.live(&name)?;
            return Ok(self.values[&name].clone());
        }
        if lo == 0.0 && highest {
            return self.relu(node);
        }
        let (lo, hi) = (f64::from(lo), f64::from(hi));
        self.map(node, "clamp", move |x| x.clamp(lo, hi))
    }

    /// ReLU, in the same pass as what is pending.
    pub(super) fn relu(&mut self, node: &Node) -> Lowered<Value> {
        let name = Self::name(node, 0)?.to_owned();
        let value = self.value(node, 0)?.clone();
        let live = match value.kind {
            Kind::Live(live) if self.only_use(&name) && live.layout != Layout::Rows => live,
            _ => self.live(&name)?,
        };
        let at = match live.pending.clone() {
            Pending::Affine(scale, shift) => self.affine(live.at, scale, shift, true),
            Pending::Sum(other) => {
                let operands = vec![Operand::Value(live.at), Operand::Value(other)];
                self.emit("add_relu", operands, |t, _| t[0].add_relu(&t[1]))
            }
            Pending::Nothing | Pending::Norm(_) => {
                let live = self.settle(live.clone(), &value.shape);
                self.emit("relu", vec![Operand::Value(live.at)], |t, _| t[0].relu())
            }
        };
        self.live_value(Live { nonnegative: true, ..Live::new(at, live.layout) }, value.shape)
    }

    /// Where: a condition that is known beforehand.
    pub(super) fn choose(&mut self, node: &Node) -> Lowered<Value> {
        let condition =
            self.constant(node, 0)?.and_then(Constant::as_ints).ok_or("its condition is no constant")?;
        let shape = self.constant(node, 0)?.map(|c| c.shape.clone()).unwrap_or_default();
        let [a, b] = [Self::name(node, 1)?.to_owned(), Self::name(node, 2)?.to_owned()];
        let (x, y) = (self.plain(&a)?, self.plain(&b)?);
        let extents: Vec<Size> = shape.iter().map(|&extent| Size::of(extent as i64)).collect();
        let joined = broadcast(&broadcast(&self.values[&a].shape, &self.values[&b].shape)?, &extents)?;
        let mask: Vec<f32> = condition.iter().map(|&flag| f32::from(u8::from(flag != 0))).collect();
        let mask = self.weight("", &shape, &mask);
        let to = joined.clone();
        let operands = vec![mask, Operand::Value(x.at), Operand::Value(y.at)];
        let at = self.emit("select", operands, move |t, n| {
            let to = super::at(&to, n);
            let [mask, x, y] = [0, 1, 2].map(|i| t[i].broadcast_to(&to[..]));
            mask.select(&x, &y)
        });
        self.live_value(Live::new(at, Layout::Plain), joined)
    }

    /// A function of each element.
    pub(super) fn pointwise(&mut self, node: &Node) -> Lowered<Value> {
        let alpha = |default: f32| node.float("alpha", default).map(f64::from);
        match node.op.as_str() {
            "Neg" => self.map(node, "neg", Tensor::neg),
            "Abs" => self.map(node, "abs", Tensor::abs),
            "Exp" => self.map(node, "exp", Tensor::exp),
            "Log" => self.map(node, "log", Tensor::log),
            "Sqrt" => self.map(node, "sqrt", Tensor::sqrt),
            "Erf" => self.map(node, "erf", Tensor::erf),
            "Tanh" => self.map(node, "tanh", Tensor::tanh),
            "Sigmoid" => self.map(node, "sigmoid", Tensor::sigmoid),
            "Reciprocal" => self.map(node, "reciprocal", |x| &Self::number(x, 1.0) / x),
            "Gelu" => match node.text("approximate", "none")? {
                "none" => self.map(node, "gelu", Tensor::gelu),
                "tanh" => self.map(node, "gelu_tanh", |x| {
                    // √(2/π)
                    let inner =
                        (x + &(&x.square() * x).mul_scalar(0.044_715)).mul_scalar(0.797_884_560_802_865_4);
                    &x.mul_scalar(0.5) * &inner.tanh().add_scalar(1.0)
                }),
                other => Err(format!("approximate = {other:?} is not one of the format")),
            },
            "LeakyRelu" => {
                // A sum of a line and a ReLU, for which certificates have rules.
                let slope = alpha(0.01)?;
                self.map(node, "leaky_relu", move |x| {
                    &x.mul_scalar(slope) + &x.relu().mul_scalar(1.0 - slope)
                })
            }
            "PRelu" => self.prelu(node),
            "Elu" => {
                let alpha = alpha(1.0)?;
                self.map(node, "elu", move |x| {
                    &x.relu() + &below_zero(x).exp().add_scalar(-1.0).mul_scalar(alpha)
                })
            }
            "Selu" => {
                let alpha = alpha(1.673_263_2)?;
                let gamma = f64::from(node.float("gamma", 1.050_701)?);
                self.map(node, "selu", move |x| {
                    (&x.relu() + &below_zero(x).exp().add_scalar(-1.0).mul_scalar(alpha)).mul_scalar(gamma)
                })
            }
            "Softplus" => self.map(node, "softplus", softplus),
            "Mish" => self.map(node, "mish", |x| x * &softplus(x).tanh()),
            "HardSigmoid" => {
                let (alpha, beta) = (alpha(0.2)?, f64::from(node.float("beta", 0.5)?));
                self.map(node, "hard_sigmoid", move |x| x.mul_scalar(alpha).add_scalar(beta).clamp(0.0, 1.0))
            }
            "HardSwish" => {
                self.map(node, "hard_swish", |x| x * &x.mul_scalar(1.0 / 6.0).add_scalar(0.5).clamp(0.0, 1.0))
            }
            _ => {
                Err("it is supported for shape arithmetic alone, not for values that depend on the images"
                    .into())
            }
        }
    }

    fn prelu(&mut self, node: &Node) -> Lowered<Value> {
        let (mut shape, slopes) = self.floats(node, 1)?.ok_or("it has no slopes")?;
        let name = Self::name(node, 1)?.to_owned();
        let mut live = self.live(Self::name(node, 0)?)?;
        let of = self.shape(node, 0)?;
        let extents: Vec<Size> = shape.iter().map(|&extent| Size::of(extent as i64)).collect();
        if broadcast(&of, &extents)? != of {
            return Err(format!("slopes of {shape:?} for {}", shown(&of)));
        }
        // A number for each channel meets the innermost axis of images.
        let is_channels = shape.iter().product::<usize>() == shape.first().copied().unwrap_or(1)
            && shape.len() == 3
            || slopes.len() == 1;
        if live.layout == Layout::Nhwc && is_channels {
            shape = vec![slopes.len()];
        } else {
            live = self.as_plain(live, &of);
        }
        let slopes = self.weight(&name, &shape, &slopes);
        let at = self.emit("prelu", vec![Operand::Value(live.at), slopes], |t, _| {
            &t[0].relu() - &(&t[0].neg().relu() * &t[1])
        });
        self.live_value(Live::new(at, live.layout), of)
    }
}

fn reciprocals(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&v| (1.0 / f64::from(v)) as f32).collect()
}

/// `min(x, 0)`
fn below_zero(x: &Tensor) -> Tensor {
    x.neg().relu().neg()
}

/// `ln(1 + eˣ)` without overflow.
fn softplus(x: &Tensor) -> Tensor {
    &x.relu() + &x.abs().neg().exp().add_scalar(1.0).log()
}
