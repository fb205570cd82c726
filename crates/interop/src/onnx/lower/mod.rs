//! Lowering: from the nodes of a model to steps on tensors of ours, with shapes and layouts known beforehand.
//!
//! Values keep the shape that ONNX gives them. Images lie in memory as `(n, h, w, c)`, everything else row-major in
//! the order of that shape. What certificates, attacks and gradients can do better as one op is made one: a bias with
//! its ReLU, a residual sum with its ReLU, a division by the norm.

mod fold;
mod image;
mod matrix;
mod normalize;
mod pointwise;
mod reduce;
mod shape;

use super::constant::{Constant, MOST_FOLDED, count};
use super::error::OnnxError;
use super::program::{Operand, Program, Run, Step};
use super::size::Size;
use super::source::{Node, Source};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use tarrl_encoders::shifted;
use tarrl_tensor::{Device, Tensor};

/// Elements of one value for one image at most.
const MOST_ACTIVATIONS: usize = 1 << 25;

/// A result, or the reason that a node is refused.
type Lowered<T> = Result<T, String>;

/// A value of the graph.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// In the order of ONNX.
    shape: Vec<Size>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Known beforehand. An axis that the batch extends has the extent 1 in it.
    Constant(Constant),
    Live(Live),
}

/// A value that depends on the images.
#[derive(Clone, Debug)]
struct Live {
    /// The step's value.
    at: usize,
    layout: Layout,
    /// Whether no element is negative.
    nonnegative: bool,
    pending: Pending,
}

/// How a value lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `(n, c, h, w)` as `(n, h, w, c)`.
    Nhwc,
    /// Maps of one position `(n, c, 1, 1)` as `(n, c)`.
    Rows,
    Plain,
}

/// What remains to be done to a value: the next node may do it in the same pass.
#[derive(Clone, Debug, Default)]
enum Pending {
    #[default]
    Nothing,
    /// A scale and a shift of each channel, or of each feature of `(n, d)`, by name.
    Affine(Option<Named>, Option<Named>),
    /// The sum with another value of the same layout.
    Sum(usize),
    /// The Euclidean norm over the last axis, which stays, cut at a floor.
    Norm(Option<f64>),
}

type Named = (String, Vec<f32>);

impl Live {
    fn new(at: usize, layout: Layout) -> Self {
        Live { at, layout, nonnegative: false, pending: Pending::Nothing }
    }
}

impl Value {
    fn constant(constant: Constant) -> Self {
        let shape = constant.shape.iter().map(|&extent| Size::of(extent as i64)).collect();
        Value { shape, kind: Kind::Constant(constant) }
    }
}

/// A lowering in progress.
pub(super) struct Lowering<'a> {
    source: &'a Source,
    device: &'a Device,
    values: HashMap<String, Value>,
    /// How many nodes take each value; the output is taken once more.
    uses: HashMap<&'a str, usize>,
    steps: Vec<Step>,
    constants: Vec<(String, Tensor)>,
    /// Elements that folding and lowering have made, and how many they may make.
    folded: usize,
    /// Elements of the largest value for one image.
    widest: usize,
    most_folded: usize,
    /// The batch that is written into the shapes of the file, where any number of images takes its place.
    baked: Option<i64>,
    /// Whether rows of images were taken for such where the file cannot tell.
    is_guess: Cell<bool>,
}

/// The shape in which a model takes images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// `(n, c, h, w)`, as PyTorch exports it.
    ChannelsFirst,
    /// `(n, h, w, c)`, as TensorFlow exports it.
    ChannelsLast,
    /// `(n, c·h·w)`.
    Rows,
}

/// What the first axis of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// Any number of images.
    Any,
    /// Any number, in place of the one in the file.
    Replaced(i64),
    /// The one in the file.
    Fixed(i64),
}

impl<'a> Lowering<'a> {
    /// The program of a model for images of `(channels, height, width)`, in whatever order it takes them.
    pub(super) fn program(
        source: &'a Source,
        device: &'a Device,
        batch: Batch,
        image: [usize; 3],
        input: Input,
    ) -> Result<Program, OnnxError> {
        let mut uses: HashMap<&str, usize> = HashMap::new();
        let taken = source.nodes.iter().flat_map(|node| &node.inputs).chain([&source.output]);
        taken.for_each(|name| *uses.entry(name).or_default() += 1);
        let mut lowering = Lowering {
            source,
            device,
            values: HashMap::new(),
            uses,
            steps: Vec::new(),
            constants: Vec::new(),
            folded: 0,
            widest: 0,
            // Weights may be transposed on the way, and written in our order; what a few bytes ask for may not be much.
            most_folded: source.constants.iter().map(|(_, constant)| constant.len()).sum::<usize>() * 4
                + MOST_FOLDED * 2,
            is_guess: Cell::new(false),
            baked: if let Batch::Replaced(batch) = batch { Some(batch) } else { None },
        };
        for (name, constant) in &source.constants {
            lowering.values.insert(name.clone(), Value::constant(constant.clone()));
        }
        lowering.begin(batch, image, input);
        for node in &source.nodes {
            let made = lowering.node(node).map_err(|reason| node.fault(reason))?;
            if lowering.folded > lowering.most_folded {
                return Err(node.fault("with it the constants of this model are more than is computed"));
            }
            for (name, value) in node.outputs.iter().zip(made) {
                lowering.values.insert(name.clone(), value);
            }
        }
        lowering.finish()
    }

    fn begin(&mut self, batch: Batch, image: [usize; 3], input: Input) {
        let n = if let Batch::Fixed(batch) = batch { Size::of(batch) } else { Size::BATCH };
        let [c, h, w] = image.map(|extent| Size::of(extent as i64));
        let (shape, layout) = match input {
            // The order of memory: a transpose to that of ONNX costs nothing.
            Input::ChannelsLast => (vec![n, h, w, c], Layout::Plain),
            Input::ChannelsFirst | Input::Rows => (vec![n, c, h, w], Layout::Nhwc),
        };
        let images = Value { shape, kind: Kind::Live(Live::new(0, layout)) };
        self.values.insert(self.source.input.clone(), images);
        if input == Input::Rows {
            let input = self.source.input.clone();
            let shape = vec![n, Size::of(image.iter().product::<usize>() as i64)];
            // The axes of images are known, so that they can be brought into the order of ONNX.
            let flat = self.plain(&input).and_then(|live| self.reshaped(live, shape));
            self.values.insert(input, flat.expect("an image has a known shape"));
        }
    }

    fn finish(mut self) -> Result<Program, OnnxError> {
        let name = self.source.output.clone();
        let fault = |reason: String| OnnxError::form(format!("its output {name}: {reason}"));
        let mut live = self.rows_or_plain(&name).map_err(fault)?;
        let mut shape = self.values[&name].shape.clone();
        // A map of one position is a vector.
        if shape.len() > 2 && shape[2..].iter().all(|&extent| extent == Size::ONE) {
            shape.truncate(2);
            if live.layout == Layout::Plain {
                let vector = self.reshaped(live, shape.clone()).map_err(fault)?;
                let Kind::Live(vector) = vector.kind else {
                    unreachable!("a reshape of images depends on them")
                };
                live = vector;
            }
        }
        if shape.len() != 2 || shape[1].extent().is_none_or(|d| d == 0) {
            return Err(fault(format!(
                "{} is no representation (n, d); export a model whose output is a vector for each image",
                shown(&shape)
            )));
        }
        let is_guess = self.is_guess.get();
        let mut program = Program::new(self.steps, self.constants, live.at, shape, self.widest);
        program.is_guess = is_guess;
        Ok(program)
    }

    fn node(&mut self, node: &Node) -> Lowered<Vec<Value>> {
        if let Some(folded) = self.fold(node)? {
            return Ok(folded);
        }
        let one = |value: Value| vec![value];
        match node.op.as_str() {
            "Identity" | "Cast" | "Dropout" => self.unchanged(node).map(one),
            "Conv" => self.conv(node).map(one),
            "BatchNormalization" => self.batch_normalization(node).map(one),
            "MaxPool" => self.max_pool(node).map(one),
            "AveragePool" => self.average_pool(node).map(one),
            "GlobalAveragePool" | "GlobalMaxPool" => self.global_pool(node).map(one),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => self.binary(node).map(one),
            "Min" | "Max" => self.extreme(node).map(one),
            "Clip" => self.clip(node).map(one),
            "Relu" => self.relu(node).map(one),
            "Where" => self.choose(node).map(one),
            "Gemm" => self.gemm(node).map(one),
            "MatMul" => self.matmul(node).map(one),
            "Attention" => self.attention(node).map(one),
            "Softmax" | "LogSoftmax" => self.softmax(node).map(one),
            "LayerNormalization" => self.layer_normalization(node).map(one),
            "InstanceNormalization" | "GroupNormalization" => self.group_normalization(node).map(one),
            "LpNormalization" => self.lp_normalization(node).map(one),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => self.reshape(node).map(one),
            "Transpose" => self.transpose(node).map(one),
            "Concat" => self.concat(node).map(one),
            "Slice" => self.slice(node).map(one),
            "Split" => self.split(node),
            "Gather" => self.gather(node).map(one),
            "Expand" => self.expand(node).map(one),
            "Pad" => self.pad(node).map(one),
            op if op.starts_with("Reduce") => self.reduce(node).map(one),
            _ => self.pointwise(node).map(one),
        }
    }

    // Inputs of a node.

    fn value(&self, node: &Node, i: usize) -> Lowered<&Value> {
        let name = node.input(i).ok_or_else(|| format!("input {i} is absent"))?;
        self.values.get(name).ok_or_else(|| format!("its input {name:?} is not known"))
    }

    fn name(node: &Node, i: usize) -> Lowered<&str> {
        node.input(i).ok_or_else(|| format!("input {i} is absent"))
    }

    fn shape(&self, node: &Node, i: usize) -> Lowered<Vec<Size>> {
        Ok(self.value(node, i)?.shape.clone())
    }

    /// The constant that an input is; `None` if it is absent.
    fn constant(&self, node: &Node, i: usize) -> Lowered<Option<&Constant>> {
        if node.input(i).is_none() {
            return Ok(None);
        }
        match &self.value(node, i)?.kind {
            Kind::Constant(constant) => Ok(Some(constant)),
            Kind::Live(_) => Err(format!("input {i} depends on the images; it has to be constant")),
        }
    }

    /// The floats of a constant input.
    fn floats(&self, node: &Node, i: usize) -> Lowered<Option<(Vec<usize>, Vec<f32>)>> {
        let Some(constant) = self.constant(node, i)? else { return Ok(None) };
        let floats = constant.as_floats().ok_or_else(|| format!("input {i} holds whole numbers"))?;
        Ok(Some((constant.shape.clone(), floats.to_vec())))
    }

    /// The whole numbers of a constant input.
    fn ints(&self, node: &Node, i: usize) -> Lowered<Option<Vec<i64>>> {
        let Some(constant) = self.constant(node, i)? else { return Ok(None) };
        let ints = constant.as_ints();
        ints.map(Some)
            .ok_or_else(|| format!("input {i} does not hold whole numbers that are the same for any batch"))
    }

    /// Whether this node is the only one that takes the value.
    fn only_use(&self, name: &str) -> bool {
        self.uses.get(name) == Some(&1)
    }

    // Values in the making.

    /// Adds a step.
    fn emit(
        &mut self,
        name: &'static str,
        operands: Vec<Operand>,
        run: impl Fn(&[Tensor], usize) -> Tensor + Send + Sync + 'static,
    ) -> usize {
        let run: Run = Arc::new(run);
        self.steps.push(Step { name, run, operands });
        self.steps.len()
    }

    /// Adds a constant tensor.
    fn weight(&mut self, name: &str, shape: &[usize], data: &[f32]) -> Operand {
        self.folded = self.folded.saturating_add(data.len());
        self.constants.push((name.to_owned(), Tensor::new(self.device, shape, data)));
        Operand::Constant(self.constants.len() - 1)
    }

    fn live_value(&mut self, live: Live, shape: Vec<Size>) -> Lowered<Value> {
        let extents: Vec<usize> = shape.iter().map(|size| size.at(1)).collect();
        if count(&extents).is_none_or(|len| len > MOST_ACTIVATIONS) {
            return Err(format!("its result {} is more than is computed", shown(&shape)));
        }
        self.widest = self.widest.max(extents.iter().product());
        if extents.contains(&0) {
            return Err(format!("its result {} is empty", shown(&shape)));
        }
        if shape.len() > tarrl_tensor::MAX_RANK {
            return Err(format!("its result {} has more axes than are supported", shown(&shape)));
        }
        Ok(Value { shape, kind: Kind::Live(live) })
    }

    /// A value in memory, with nothing pending, in any layout.
    fn live(&mut self, name: &str) -> Lowered<Live> {
        let value =
            self.values.get(name).cloned().ok_or_else(|| format!("its input {name:?} is not known"))?;
        let live = match value.kind {
            Kind::Live(live) => {
                let live = self.settle(live, &value.shape);
                self.with_positions(live)
            }
            Kind::Constant(constant) => {
                let data = constant.as_floats().ok_or_else(|| format!("{name:?} holds whole numbers"))?;
                let operand = self.weight(name, &constant.shape, data);
                let extents = value.shape.clone();
                let at =
                    self.emit("constant", vec![operand], move |t, n| t[0].broadcast_to(&at(&extents, n)[..]));
                Live::new(at, Layout::Plain)
            }
        };
        self.values.insert(name.to_owned(), Value { shape: value.shape, kind: Kind::Live(live.clone()) });
        Ok(live)
    }

    /// A value row-major in the order of ONNX.
    fn plain(&mut self, name: &str) -> Lowered<Live> {
        let live = self.live(name)?;
        let shape = self.values[name].shape.clone();
        Ok(self.as_plain(live, &shape))
    }

    fn as_plain(&mut self, live: Live, shape: &[Size]) -> Live {
        if live.layout == Layout::Plain {
            return live;
        }
        let operands = vec![Operand::Value(live.at)];
        let at = if shape[2..] == [Size::ONE; 2] {
            let c = shape[1].at(1);
            self.emit("reshape", operands, move |t, _| t[0].reshape([t[0].shape()[0], c, 1, 1]))
        } else {
            self.emit("permute", operands, |t, _| t[0].permute(&[0, 3, 1, 2]))
        };
        Live { at, layout: Layout::Plain, ..live }
    }

    /// Images as `(n, h, w, c)`.
    fn images(&mut self, name: &str) -> Lowered<Live> {
        let live = self.live(name)?;
        let shape = self.values[name].shape.clone();
        if shape.len() != 4 {
            return Err(format!("takes {}; only images (n, c, h, w) are supported", shown(&shape)));
        }
        Ok(self.as_nhwc(live, &shape))
    }

    fn as_nhwc(&mut self, live: Live, shape: &[Size]) -> Live {
        if live.layout == Layout::Nhwc {
            return live;
        }
        let operands = vec![Operand::Value(live.at)];
        let at = if shape[2..] == [Size::ONE; 2] {
            let c = shape[1].at(1);
            self.emit("reshape", operands, move |t, _| t[0].reshape([t[0].shape()[0], 1, 1, c]))
        } else {
            self.emit("permute", operands, |t, _| t[0].permute(&[0, 2, 3, 1]))
        };
        Live { at, layout: Layout::Nhwc, ..live }
    }

    /// Maps of one position as images.
    fn with_positions(&mut self, live: Live) -> Live {
        if live.layout != Layout::Rows {
            return live;
        }
        let at = self.emit("reshape", vec![Operand::Value(live.at)], |t, _| {
            let [n, c] = t[0].shape()[..] else { unreachable!("rows have two axes") };
            t[0].reshape([n, 1, 1, c])
        });
        Live { at, layout: Layout::Nhwc, ..live }
    }

    /// A value row-major in the order of ONNX, or as rows where its maps have one position.
    fn rows_or_plain(&mut self, name: &str) -> Lowered<Live> {
        let value = self.values.get(name).cloned();
        match value {
            Some(Value { shape, kind: Kind::Live(live) }) if live.layout == Layout::Rows => {
                Ok(self.settle(live, &shape))
            }
            _ => self.plain(name),
        }
    }

    /// Does what is pending.
    fn settle(&mut self, live: Live, shape: &[Size]) -> Live {
        let x = Operand::Value(live.at);
        let at = match live.pending.clone() {
            Pending::Nothing => live.at,
            Pending::Affine(scale, shift) => self.affine(live.at, scale, shift, false),
            Pending::Sum(other) => self.emit("add", vec![x, Operand::Value(other)], |t, _| &t[0] + &t[1]),
            Pending::Norm(floor) => {
                let axis = shape.len() - 1;
                self.emit("norm", vec![x], move |t, _| {
                    let norm = t[0].norm(axis);
                    match floor {
                        Some(floor) => norm.maximum(&Tensor::full(norm.device(), [], norm.dtype(), floor)),
                        None => norm,
                    }
                })
            }
        };
        Live { at, pending: Pending::Nothing, ..live }
    }

    /// A scale and a shift of the innermost axis, then ReLU if asked.
    fn affine(&mut self, at: usize, scale: Option<Named>, shift: Option<Named>, relu: bool) -> usize {
        let x = Operand::Value(at);
        let mut add = |(name, data): Named| self.weight(&name, &[data.len()], &data);
        match (scale.map(&mut add), shift.map(&mut add)) {
            (None, None) if relu => self.emit("relu", vec![x], |t, _| t[0].relu()),
            (None, None) => at,
            (Some(scale), None) if !relu => self.emit("scale", vec![x, scale], |t, _| &t[0] * &t[1]),
            (Some(scale), None) => self.emit("scale_relu", vec![x, scale], |t, _| (&t[0] * &t[1]).relu()),
            (None, Some(shift)) => self.emit("bias", vec![x, shift], move |t, _| shifted(&t[0], &t[1], relu)),
            (Some(scale), Some(shift)) => self.emit("channel_affine", vec![x, scale, shift], move |t, _| {
                t[0].channel_affine(&t[1], &t[2], relu)
            }),
        }
    }

    /// The same elements under another shape, of a value in the order of ONNX.
    fn reshaped(&mut self, live: Live, shape: Vec<Size>) -> Lowered<Value> {
        debug_assert!(live.layout == Layout::Plain);
        let extents = shape.clone();
        let at = self
            .emit("reshape", vec![Operand::Value(live.at)], move |t, n| t[0].reshape(&at(&extents, n)[..]));
        let live = Live { at, ..live };
        self.live_value(live, shape)
    }

    /// The same element by element function of one value.
    fn map(
        &mut self,
        node: &Node,
        name: &'static str,
        run: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static,
    ) -> Lowered<Value> {
        let live = self.live(Self::name(node, 0)?)?;
        let shape = self.shape(node, 0)?;
        let at = self.emit(name, vec![Operand::Value(live.at)], move |t, _| run(&t[0]));
        self.live_value(Live::new(at, live.layout), shape)
    }
}

/// Extents for `n` images.
fn at(shape: &[Size], n: usize) -> Vec<usize> {
    shape.iter().map(|size| size.at(n)).collect()
}

/// A shape for messages.
fn shown(shape: &[Size]) -> String {
    let extent = |size: &Size| match (size.known(), size.per_image()) {
        (Some(known), _) => known.to_string(),
        (None, Some(1)) => "n".into(),
        (None, Some(many)) => format!("{many}n"),
        _ => "n + …".into(),
    };
    format!("({})", shape.iter().map(extent).collect::<Vec<_>>().join(", "))
}

/// An axis that may count from the end.
fn axis_of(axis: i64, rank: usize) -> Lowered<usize> {
    let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| format!("there is no axis {axis} of {rank}"))
}

/// The shape that both operands broadcast to, aligned at the last axis.
fn broadcast(a: &[Size], b: &[Size]) -> Lowered<Vec<Size>> {
    let rank = a.len().max(b.len());
    let extent = |shape: &[Size], i: usize| match (i + shape.len()).checked_sub(rank) {
        Some(axis) => shape[axis],
        None => Size::ONE,
    };
    let joined = (0..rank).map(|i| match (extent(a, i), extent(b, i)) {
        (x, y) if x == y => Some(x),
        (Size::ONE, y) => Some(y),
        (x, Size::ONE) => Some(x),
        _ => None,
    });
    joined.collect::<Option<_>>().ok_or_else(|| format!("{} and {} do not broadcast", shown(a), shown(b)))
}
