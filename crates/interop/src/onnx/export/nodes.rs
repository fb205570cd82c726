//! The nodes of ONNX for the ops of a recorded graph.

use super::super::error::OnnxError;
use super::super::proto::AttributeProto;
use super::options::{Export, ExportBatch};
use super::patterns::Found;
use super::writer::{Names, Written, permuted};
use std::collections::HashMap;
use std::sync::Arc;
use tarrl_tensor::{Array, Binary, Conv, DType, Edge, Extreme, Node, Op, Pool, Transpose, Unary};

/// Where the axes of `(n, h, w, c)` lie in `(n, c, h, w)`.
const PLACES: [usize; 4] = [0, 2, 3, 1];

/// A value that was written.
#[derive(Clone, Debug)]
struct Value {
    name: String,
    /// Whether images `(n, h, w, c)` lie in the file as `(n, c, h, w)`; else all axes are as recorded.
    is_image: bool,
}

pub(super) struct Exporter<'a> {
    what: &'a Export<'a>,
    names: Names<'a>,
    written: Written,
    values: HashMap<*const Node, Value>,
}

type Made = Result<Value, OnnxError>;

impl<'a> Exporter<'a> {
    pub(super) fn new(what: &'a Export<'a>) -> Self {
        Exporter { what, names: Names::new(what.names), written: Written::default(), values: HashMap::new() }
    }

    pub(super) fn begin(&mut self, input: &Arc<Node>) {
        self.values.insert(Arc::as_ptr(input), Value { name: "x".into(), is_image: true });
    }

    /// Writes one node; `other` is the same one for another number of images.
    pub(super) fn node(
        &mut self,
        node: &Arc<Node>,
        other: &Arc<Node>,
        found: &Found<'_>,
    ) -> Result<(), OnnxError> {
        let value = match found {
            Found::GlobalAverage(x) => {
                let x = self.image(x);
                let mean = self.written.node("GlobalAveragePool", None, &[&x], vec![]);
                let flatten = vec![AttributeProto::of_int("axis", 1)];
                plain(self.written.node("Flatten", None, &[&mean], flatten))
            }
            Found::LayerNorm(x, weight, bias, eps) => {
                self.written.needs_17 = true;
                let x = self.plain(x);
                let (weight, label) = self.named(weight, "weight")?;
                let (bias, _) = self.named(bias, "bias")?;
                let attributes = vec![
                    AttributeProto::of_int("axis", -1),
                    AttributeProto::of_float("epsilon", *eps as f32),
                ];
                plain(self.written.node(
                    "LayerNormalization",
                    label.as_deref(),
                    &[&x, &weight, &bias],
                    attributes,
                ))
            }
            Found::Normalize(x, floor) => {
                let x = self.plain(x);
                let attributes =
                    vec![AttributeProto::of_ints("axes", &[-1]), AttributeProto::of_int("keepdims", 1)];
                let mut norm = self.written.node("ReduceL2", None, &[&x], attributes);
                if *floor > 0.0 {
                    let floor = self.written.floats("floor", &[], &[*floor])?;
                    norm = self.written.node("Clip", None, &[&norm, &floor], vec![]);
                }
                plain(self.written.node("Div", None, &[&x, &norm], vec![]))
            }
            Found::Linear(x, weight, transposed, bias, relu) => {
                let x = self.plain(x);
                let (weight, label) = self.named(weight, "weight")?;
                let mut inputs = vec![x, weight];
                if let Some(bias) = bias {
                    inputs.push(self.named_beside(bias, &inputs[1], "bias")?);
                }
                let attributes = vec![AttributeProto::of_int("transB", i64::from(*transposed))];
                let product = self.written.node("Gemm", label.as_deref(), &refs(&inputs), attributes);
                plain(self.then_relu(product, *relu))
            }
            Found::ConvBias(x, weight, conv, bias, relu) => {
                let sum = self.conv(x, weight, *conv, Some(bias))?;
                image(self.then_relu(sum, *relu))
            }
            Found::AveragePool(x, pool) => {
                let x = self.image(x);
                let attributes = window(*pool, true);
                image(self.written.node("AveragePool", None, &[&x], attributes))
            }
            Found::Reshape(x) => self.reshape(x, node, other)?,
            Found::Plain => self.op(node, other)?,
        };
        self.values.insert(Arc::as_ptr(node), value);
        Ok(())
    }

    pub(super) fn finish(mut self, output: &Arc<Node>) -> Result<Written, OnnxError> {
        let name = self.plain(output);
        if name == "x" {
            return Err(OnnxError::form("the function is the identity, which has no nodes"));
        }
        self.written.rename(&name, "y");
        Ok(self.written)
    }

    fn op(&mut self, node: &Arc<Node>, other: &Arc<Node>) -> Made {
        let refuse = |reason: &str| {
            Err(OnnxError::form(format!("the op `{}` cannot be exported: {reason}", node.op().name())))
        };
        let operand = |i: usize| node.edges().get(i).and_then(Edge::node);
        let constant = |i: usize| match node.edges().get(i) {
            Some(Edge::Constant(array)) => Some(array),
            _ => None,
        };
        match (node.op(), operand(0)) {
            (Op::Identity | Op::Cast(DType::F32 | DType::F64), Some(x)) => Ok(self.value(x)),
            (Op::Unary(unary), Some(x)) => self.unary(*unary, x),
            (Op::Binary(binary), _) => self.binary(*binary, node, other),
            (Op::ChannelAffine { relu }, Some(x)) => {
                let (Some(scale), Some(shift)) = (constant(1), constant(2)) else {
                    return refuse("its scale is not constant");
                };
                let mut value = self.value(x);
                for (op, array, absent) in [("Mul", scale, 1.0), ("Add", shift, 0.0)] {
                    if array.to_f64().iter().any(|&v| v != absent) {
                        let other = self.beside(array, &value, node.shape().rank())?;
                        value.name = self.written.node(op, None, &[&value.name, &other], vec![]);
                    }
                }
                value.name = self.then_relu(value.name, *relu);
                Ok(value)
            }
            (Op::Conv2d(conv), Some(x)) => match constant(1) {
                Some(weight) => self.conv(x, weight, *conv, None).map(image),
                None => refuse("its weights are not constant"),
            },
            (Op::Conv2dBias { conv, relu }, Some(x)) => {
                let (Some(weight), Some(bias)) = (constant(1), constant(2)) else {
                    return refuse("its weights are not constant");
                };
                let mut sum = self.conv(x, weight, *conv, Some(bias))?;
                if let Some(skip) = operand(3) {
                    let skip = self.image(skip);
                    sum = self.written.node("Add", None, &[&sum, &skip], vec![]);
                }
                Ok(image(self.then_relu(sum, *relu)))
            }
            (Op::MaxPool(pool), Some(x)) => {
                let x = self.image(x);
                Ok(image(self.written.node("MaxPool", None, &[&x], window(*pool, false))))
            }
            (Op::SumPool(pool), Some(x)) => {
                let x = self.image(x);
                let mean = self.written.node("AveragePool", None, &[&x], window(*pool, true));
                let cells = self.number((pool.window * pool.window) as f64)?;
                Ok(image(self.written.node("Mul", None, &[&mean, &cells], vec![])))
            }
            (Op::Sum(axis) | Op::Extreme(_, axis), Some(x)) => {
                let value = self.value(x);
                let place = if value.is_image { PLACES[*axis] } else { *axis } as i64;
                let keeps = AttributeProto::of_int("keepdims", 1);
                let of_axes = AttributeProto::of_ints("axes", &[place]);
                let name = match node.op() {
                    Op::Extreme(Extreme::Max, _) => {
                        self.written.node("ReduceMax", None, &[&value.name], vec![of_axes, keeps])
                    }
                    Op::Extreme(Extreme::Min, _) => {
                        self.written.node("ReduceMin", None, &[&value.name], vec![of_axes, keeps])
                    }
                    _ => {
                        let axes = self.written.ints("axes", &[place]);
                        self.written.node("ReduceSum", None, &[&value.name, &axes], vec![keeps])
                    }
                };
                Ok(Value { name, ..value })
            }
            (Op::Matmul(transpose), _) => self.matmul(node, *transpose),
            (Op::Permute(order), Some(x)) => Ok(self.permute(x, order)),
            (Op::Softmax | Op::LogSoftmax, Some(x)) => {
                let x = self.plain(x);
                let op = if node.op() == &Op::Softmax { "Softmax" } else { "LogSoftmax" };
                Ok(plain(self.written.node(op, None, &[&x], vec![AttributeProto::of_int("axis", -1)])))
            }
            (Op::Slice { axis, start, step }, Some(x)) => {
                let value = self.value(x);
                let place = if value.is_image { PLACES[*axis] } else { *axis };
                let end = start + (node.shape()[*axis] - 1) * step + 1;
                let ints = [*start, end, place, *step].map(|v| self.written.ints("slice", &[v as i64]));
                let inputs = [&value.name, &ints[0], &ints[1], &ints[2], &ints[3]].map(String::as_str);
                Ok(Value { name: self.written.node("Slice", None, &inputs, vec![]), ..value })
            }
            (Op::Pad(start), Some(x)) => {
                let value = self.value(x);
                let rank = start.rank();
                let mut pads = vec![0; 2 * rank];
                for axis in 0..rank {
                    let place = if value.is_image { PLACES[axis] } else { axis };
                    pads[place] = start[axis] as i64;
                    pads[rank + place] = (node.shape()[axis] - x.shape()[axis] - start[axis]) as i64;
                }
                let pads = self.written.ints("pads", &pads);
                Ok(Value { name: self.written.node("Pad", None, &[&value.name, &pads], vec![]), ..value })
            }
            (Op::Concat(axis), _) => self.concat(*axis, node),
            (Op::Gather(axis), Some(x)) => {
                let Some(index) = constant(1) else { return refuse("its index is not constant") };
                let x = self.plain(x);
                let rows: Vec<i64> = index.to_f64().into_iter().map(|row| row as i64).collect();
                let index = self.written.ints("index", &rows);
                let axis = vec![AttributeProto::of_int("axis", *axis as i64)];
                Ok(plain(self.written.node("Gather", None, &[&x, &index], axis)))
            }
            (Op::BroadcastTo, Some(x)) if self.what.batch == ExportBatch::One => {
                let x = self.plain(x);
                let extents: Vec<i64> = node.shape().iter().map(|&extent| extent as i64).collect();
                let shape = self.written.ints("shape", &extents);
                Ok(plain(self.written.node("Expand", None, &[&x, &shape], vec![])))
            }
            (Op::BroadcastTo, _) => refuse("repeating values needs a fixed number of images"),
            _ => refuse("ONNX has no node for it here"),
        }
    }

    // Values.

    fn value(&self, node: &Arc<Node>) -> Value {
        self.values[&Arc::as_ptr(node)].clone()
    }

    /// A value with its axes as recorded.
    fn plain(&mut self, node: &Arc<Node>) -> String {
        let value = self.value(node);
        if !value.is_image {
            return value.name;
        }
        self.written.node(
            "Transpose",
            None,
            &[&value.name],
            vec![AttributeProto::of_ints("perm", &[0, 2, 3, 1])],
        )
    }

    /// Images as `(n, c, h, w)`.
    fn image(&mut self, node: &Arc<Node>) -> String {
        let value = self.value(node);
        if value.is_image {
            return value.name;
        }
        self.written.node(
            "Transpose",
            None,
            &[&value.name],
            vec![AttributeProto::of_ints("perm", &[0, 3, 1, 2])],
        )
    }

    /// A constant as it is, and the label of its layer.
    fn named(&mut self, array: &Array, part: &str) -> Result<(String, Option<String>), OnnxError> {
        let known = self.names.of(array);
        let name = known.unwrap_or(part).to_owned();
        let label = known.and_then(|name| name.strip_suffix(".weight")).map(str::to_owned);
        Ok((self.written.floats(&name, array.shape(), &array.to_f64())?, label))
    }

    /// A constant whose name, if it has none, is that of a weight with another end.
    fn named_beside(&mut self, array: &Array, weight: &str, part: &str) -> Result<String, OnnxError> {
        let own = self.names.of(array).map(str::to_owned);
        let layer = weight.strip_suffix(".weight").map(|layer| format!("{layer}.{part}"));
        let name = own.or(layer).unwrap_or_else(|| part.to_owned());
        self.written.floats(&name, array.shape(), &array.to_f64())
    }

    fn number(&mut self, value: f64) -> Result<String, OnnxError> {
        self.written.floats("number", &[], &[value])
    }

    /// A constant that meets a value of `rank` axes.
    fn beside(&mut self, array: &Array, value: &Value, rank: usize) -> Result<String, OnnxError> {
        let name = self.names.of(array).unwrap_or("constant").to_owned();
        if !value.is_image || rank != 4 || array.shape().rank() == 0 {
            return self.written.floats(&name, array.shape(), &array.to_f64());
        }
        let own = array.shape();
        let padded = [vec![1; 4 - own.rank()], own.to_vec()].concat();
        let (shape, values) = permuted(&array.reshape(&padded[..]), &[0, 3, 1, 2]);
        self.written.floats(&name, &shape, &values)
    }

    fn then_relu(&mut self, name: String, relu: bool) -> String {
        if relu { self.written.node("Relu", None, &[&name], vec![]) } else { name }
    }

    // Ops.

    fn conv(
        &mut self,
        x: &Arc<Node>,
        weight: &Array,
        conv: Conv,
        bias: Option<&Array>,
    ) -> Result<String, OnnxError> {
        let x = self.image(x);
        let known = self.names.of(weight).map(str::to_owned);
        let label = known.as_deref().and_then(|name| name.strip_suffix(".weight")).map(str::to_owned);
        let (shape, values) = permuted(weight, &[3, 2, 0, 1]);
        let kernel = [shape[2] as i64, shape[3] as i64];
        let weight = self.written.floats(known.as_deref().unwrap_or("weight"), &shape, &values)?;
        let mut inputs = vec![x, weight];
        if let Some(bias) = bias {
            inputs.push(self.named_beside(bias, &inputs[1], "bias")?);
        }
        let attributes = vec![
            AttributeProto::of_ints("dilations", &[1, 1]),
            AttributeProto::of_int("group", conv.groups as i64),
            AttributeProto::of_ints("kernel_shape", &kernel),
            AttributeProto::of_ints("pads", &[conv.pad as i64; 4]),
            AttributeProto::of_ints("strides", &[conv.stride as i64; 2]),
        ];
        Ok(self.written.node("Conv", label.as_deref(), &refs(&inputs), attributes))
    }

    fn unary(&mut self, unary: Unary, x: &Arc<Node>) -> Made {
        let value = self.value(x);
        let x = value.name.as_str();
        let one = |op: &'static str| (op, None);
        let (op, number) = match unary {
            Unary::Neg => one("Neg"),
            Unary::Exp => one("Exp"),
            Unary::Log => one("Log"),
            Unary::Sqrt => one("Sqrt"),
            Unary::Relu => one("Relu"),
            Unary::Tanh => one("Tanh"),
            Unary::Sigmoid => one("Sigmoid"),
            Unary::Erf => one("Erf"),
            Unary::Abs => one("Abs"),
            Unary::Sign => {
                return Err(OnnxError::form("the op `sign` cannot be exported: no reader here has it"));
            }
            Unary::Powf(p) => ("Pow", Some(p)),
            Unary::AddScalar(c) => ("Add", Some(c)),
            Unary::MulScalar(c) => ("Mul", Some(c)),
            Unary::Silu => {
                let gate = self.written.node("Sigmoid", None, &[x], vec![]);
                let name = self.written.node("Mul", None, &[x, &gate], vec![]);
                return Ok(Value { name, ..value });
            }
            Unary::Gelu => {
                // x·(1 + erf(x/√2))/2
                let [root, one, half] =
                    [std::f64::consts::FRAC_1_SQRT_2, 1.0, 0.5].map(|number| self.number(number));
                let scaled = self.written.node("Mul", None, &[x, &root?], vec![]);
                let erf = self.written.node("Erf", None, &[&scaled], vec![]);
                let twice = self.written.node("Add", None, &[&erf, &one?], vec![]);
                let product = self.written.node("Mul", None, &[x, &twice], vec![]);
                let name = self.written.node("Mul", None, &[&product, &half?], vec![]);
                return Ok(Value { name, ..value });
            }
            Unary::Clamp(lo, hi) => {
                let mut inputs = vec![value.name.clone()];
                for bound in [lo, hi] {
                    inputs.push(if bound.is_finite() { self.number(bound)? } else { String::new() });
                }
                while inputs.last().is_some_and(String::is_empty) {
                    inputs.pop();
                }
                let name = self.written.node("Clip", None, &refs(&inputs), vec![]);
                return Ok(Value { name, ..value });
            }
        };
        let name = match number {
            None => self.written.node(op, None, &[x], vec![]),
            Some(number) => {
                let number = self.number(number)?;
                self.written.node(op, None, &[x, &number], vec![])
            }
        };
        Ok(Value { name, ..value })
    }

    fn binary(&mut self, binary: Binary, node: &Arc<Node>, other: &Arc<Node>) -> Made {
        let op = match binary {
            Binary::Add => "Add",
            Binary::Sub => "Sub",
            Binary::Mul => "Mul",
            Binary::Div => "Div",
            Binary::Max => "Max",
            Binary::Min => "Min",
            _ => {
                let name = node.op().name();
                return Err(OnnxError::form(format!(
                    "the op `{name}` cannot be exported: ONNX has no node for it here"
                )));
            }
        };
        let rank = node.shape().rank();
        let [a, b] = node.edges() else { unreachable!("a binary op has two operands") };
        let tracked: Vec<&Arc<Node>> = [a, b].into_iter().filter_map(Edge::node).collect();
        // Axes are as recorded, unless all operands are images.
        let all_images = tracked.iter().all(|x| self.value(x).is_image) && rank == 4;
        let mut inputs = Vec::new();
        for (place, edge) in [a, b].into_iter().enumerate() {
            inputs.push(match edge {
                Edge::Tracked(x) if all_images => self.value(x).name,
                Edge::Tracked(x) => self.plain(x),
                Edge::Constant(array) => {
                    if let Some(Edge::Constant(same)) = other.edges().get(place)
                        && same.shape() != array.shape()
                    {
                        return Err(OnnxError::form(format!(
                            "the op `{}` takes a constant for each image; export it for one image",
                            node.op().name()
                        )));
                    }
                    let value = Value { name: String::new(), is_image: all_images };
                    self.beside(array, &value, rank)?
                }
            });
        }
        Ok(Value { name: self.written.node(op, None, &refs(&inputs), vec![]), is_image: all_images })
    }

    fn matmul(&mut self, node: &Arc<Node>, transpose: Transpose) -> Made {
        let mut inputs = Vec::new();
        for (edge, transposed) in node.edges().iter().zip([transpose.a, transpose.b]) {
            let (name, rank) = match edge {
                Edge::Tracked(x) => (self.plain(x), x.shape().rank()),
                Edge::Constant(array) => (self.named(array, "weight")?.0, array.shape().rank()),
            };
            let mut order: Vec<i64> = (0..rank as i64).collect();
            order.swap(rank - 2, rank - 1);
            inputs.push(match transposed {
                true => self.written.node(
                    "Transpose",
                    None,
                    &[&name],
                    vec![AttributeProto::of_ints("perm", &order)],
                ),
                false => name,
            });
        }
        Ok(plain(self.written.node("MatMul", None, &refs(&inputs), vec![])))
    }

    fn permute(&mut self, x: &Arc<Node>, order: &[usize]) -> Value {
        let value = self.value(x);
        // Where the recorded axes lie in the file.
        let places: Vec<usize> = match value.is_image {
            true => order.iter().map(|&axis| [0, 2, 3, 1][axis]).collect(),
            false => order.to_vec(),
        };
        if places.iter().enumerate().all(|(i, &place)| i == place) {
            return plain(value.name);
        }
        if !value.is_image && places == [0, 2, 3, 1] {
            return image(value.name);
        }
        let perm: Vec<i64> = places.iter().map(|&place| place as i64).collect();
        plain(self.written.node(
            "Transpose",
            None,
            &[&value.name],
            vec![AttributeProto::of_ints("perm", &perm)],
        ))
    }

    fn reshape(&mut self, x: &Arc<Node>, node: &Arc<Node>, other: &Arc<Node>) -> Made {
        let (from, to) = (x.shape(), node.shape());
        let value = self.value(x);
        if from == to {
            return Ok(value);
        }
        // A map of one position has the same elements in either order.
        let single = value.is_image && from[1..3] == [1, 1];
        let name = if single { value.name } else { self.plain(x) };
        if to.rank() == 2 && to[0] == from[0] {
            return Ok(plain(self.written.node(
                "Flatten",
                None,
                &[&name],
                vec![AttributeProto::of_int("axis", 1)],
            )));
        }
        // An extent that grows with the batch is free.
        let extent = |(&own, &more): (&usize, &usize)| if own == more { own as i64 } else { -1 };
        let extents: Vec<i64> = to.iter().zip(other.shape().iter()).map(extent).collect();
        if extents.iter().filter(|&&extent| extent == -1).count() > 1 {
            return Err(OnnxError::form(
                "the op `reshape` cannot be exported: two extents grow with the batch",
            ));
        }
        let shape = self.written.ints("shape", &extents);
        Ok(plain(self.written.node("Reshape", None, &[&name, &shape], vec![])))
    }

    fn concat(&mut self, axis: usize, node: &Arc<Node>) -> Made {
        let edges = node.edges();
        let tracked: Vec<&Arc<Node>> = edges.iter().filter_map(Edge::node).collect();
        let all_images = tracked.len() == edges.len() && tracked.iter().all(|x| self.value(x).is_image);
        let mut inputs = Vec::new();
        for edge in edges {
            inputs.push(match edge {
                Edge::Tracked(x) if all_images => self.value(x).name,
                Edge::Tracked(x) => self.plain(x),
                Edge::Constant(array) => self.repeated(array)?,
            });
        }
        let place = if all_images { PLACES[axis] } else { axis };
        let of_axis = vec![AttributeProto::of_int("axis", place as i64)];
        Ok(Value { name: self.written.node("Concat", None, &refs(&inputs), of_axis), is_image: all_images })
    }

    /// A constant that is the same for each image, as a class token is.
    fn repeated(&mut self, array: &Array) -> Result<String, OnnxError> {
        let shape = array.shape().to_vec();
        let values = array.to_f64();
        let own = self.names.of(array).unwrap_or("token").to_owned();
        if self.what.batch == ExportBatch::One {
            return self.written.floats(&own, &shape, &values);
        }
        let row = values.len() / shape[0];
        if values.chunks(row).any(|other| other != &values[..row]) {
            return Err(OnnxError::form(
                "the op `concat` takes a constant for each image; export it for one image",
            ));
        }
        let mut one = shape.clone();
        one[0] = 1;
        let row = self.written.floats(&own, &one, &values[..row])?;
        let rest: Vec<i64> = shape[1..].iter().map(|&extent| extent as i64).collect();
        let sizes = self.written.node("Shape", None, &["x"], vec![]);
        let (first, rest) = (self.written.ints("batch", &[0]), self.written.ints("extents", &rest));
        let n = self.written.node("Gather", None, &[&sizes, &first], vec![AttributeProto::of_int("axis", 0)]);
        let shape = self.written.node("Concat", None, &[&n, &rest], vec![AttributeProto::of_int("axis", 0)]);
        Ok(self.written.node("Expand", None, &[&row, &shape], vec![]))
    }
}

fn plain(name: String) -> Value {
    Value { name, is_image: false }
}

fn image(name: String) -> Value {
    Value { name, is_image: true }
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// The attributes of a pool.
fn window(pool: Pool, average: bool) -> Vec<AttributeProto<'static>> {
    let mut attributes = Vec::new();
    if average {
        attributes.push(AttributeProto::of_int("count_include_pad", 1));
    }
    attributes.push(AttributeProto::of_ints("kernel_shape", &[pool.window as i64; 2]));
    attributes.push(AttributeProto::of_ints("pads", &[pool.pad as i64; 4]));
    attributes.push(AttributeProto::of_ints("strides", &[pool.stride as i64; 2]));
    attributes
}
