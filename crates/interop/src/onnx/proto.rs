//! The messages of ONNX that an encoder needs: decoded from the wire, and encoded.

use super::error::OnnxError;
use super::wire::{Fields, Malformed, Message, Value};

/// Nodes, tensors and attributes of a graph at most: a file of a few bytes for each cannot fill the memory.
const MOST: usize = 1 << 18;

/// Types of elements, by the numbers of the format.
pub(crate) mod element {
    pub(crate) const F32: i64 = 1;
    pub(crate) const U8: i64 = 2;
    pub(crate) const I8: i64 = 3;
    pub(crate) const I16: i64 = 5;
    pub(crate) const I32: i64 = 6;
    pub(crate) const I64: i64 = 7;
    pub(crate) const BOOL: i64 = 9;
    pub(crate) const F16: i64 = 10;
    pub(crate) const F64: i64 = 11;
    pub(crate) const BF16: i64 = 16;
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ModelProto<'a> {
    pub(crate) ir_version: i64,
    pub(crate) producer: String,
    /// `(domain, version)`
    pub(crate) opsets: Vec<(String, i64)>,
    pub(crate) graph: Option<GraphProto<'a>>,
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) functions: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct GraphProto<'a> {
    pub(crate) name: String,
    pub(crate) nodes: Vec<NodeProto<'a>>,
    pub(crate) initializers: Vec<TensorProto<'a>>,
    pub(crate) inputs: Vec<ValueInfo>,
    pub(crate) outputs: Vec<ValueInfo>,
    pub(crate) sparse: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct NodeProto<'a> {
    pub(crate) name: String,
    pub(crate) op: String,
    pub(crate) domain: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) attributes: Vec<AttributeProto<'a>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct AttributeProto<'a> {
    pub(crate) name: String,
    pub(crate) float: f32,
    pub(crate) int: i64,
    pub(crate) text: Vec<u8>,
    pub(crate) tensor: Option<TensorProto<'a>>,
    pub(crate) floats: Vec<f32>,
    pub(crate) ints: Vec<i64>,
    /// Whether it holds a graph, strings, or refers to an attribute of a function.
    pub(crate) foreign: bool,
    pub(crate) kind: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TensorProto<'a> {
    pub(crate) name: String,
    pub(crate) dims: Vec<i64>,
    pub(crate) element: i64,
    pub(crate) raw: Option<&'a [u8]>,
    pub(crate) floats: Vec<f32>,
    pub(crate) doubles: Vec<f64>,
    /// `int32_data`, in which the small types lie too, or `int64_data`.
    pub(crate) ints: Vec<i64>,
    pub(crate) is_external: bool,
    pub(crate) external: Vec<(String, String)>,
}

/// A declared value: an input or output of the graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ValueInfo {
    pub(crate) name: String,
    pub(crate) element: i64,
    /// `None` if no shape is declared.
    pub(crate) shape: Option<Vec<Extent>>,
}

/// A declared extent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Extent {
    Known(i64),
    Named(String),
    Unknown,
}

impl From<Malformed> for OnnxError {
    fn from(Malformed(reason): Malformed) -> Self {
        OnnxError::Damaged(reason.into())
    }
}

type Decoded<T> = Result<T, OnnxError>;

/// Appends one more to a list that has at most [`MOST`].
fn add<T>(list: &mut Vec<T>, what: &str, next: T) -> Decoded<()> {
    if list.len() >= MOST {
        return Err(OnnxError::form(format!("it has more than {MOST} {what}, which is more than is read")));
    }
    list.push(next);
    Ok(())
}

impl<'a> ModelProto<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Decoded<Self> {
        let mut model = ModelProto::default();
        for field in Fields::new(bytes) {
            match field? {
                (1, value) => model.ir_version = value.int()?,
                (2, value) => model.producer = value.text()?.into(),
                (7, _) if model.graph.is_some() => {
                    return Err(OnnxError::Damaged("it has two graphs".into()));
                }
                (7, value) => model.graph = Some(GraphProto::decode(value.bytes()?)?),
                (8, value) => add(&mut model.opsets, "operator sets", opset(value)?)?,
                (14, value) => add(&mut model.metadata, "entries of metadata", entry(value)?)?,
                (25, _) => model.functions += 1,
                _ => {}
            }
        }
        Ok(model)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut message = Message::default();
        message.int(1, self.ir_version);
        message.text(2, &self.producer);
        if let Some(graph) = &self.graph {
            message.message(7, graph.encode());
        }
        for (domain, version) in &self.opsets {
            let mut opset = Message::default();
            opset.text(1, domain);
            opset.int(2, *version);
            message.message(8, opset);
        }
        for pair in &self.metadata {
            message.message(14, encode_entry(pair));
        }
        message.into_bytes()
    }
}

fn opset(value: Value<'_>) -> Decoded<(String, i64)> {
    let (mut domain, mut version) = (String::new(), 0);
    for field in Fields::new(value.bytes()?) {
        match field? {
            (1, value) => domain = value.text()?.into(),
            (2, value) => version = value.int()?,
            _ => {}
        }
    }
    Ok((domain, version))
}

fn entry(value: Value<'_>) -> Decoded<(String, String)> {
    let mut pair = (String::new(), String::new());
    for field in Fields::new(value.bytes()?) {
        match field? {
            (1, value) => pair.0 = value.text()?.into(),
            (2, value) => pair.1 = value.text()?.into(),
            _ => {}
        }
    }
    Ok(pair)
}

fn encode_entry((key, value): &(String, String)) -> Message {
    let mut entry = Message::default();
    entry.text(1, key);
    entry.text(2, value);
    entry
}

impl<'a> GraphProto<'a> {
    fn decode(bytes: &'a [u8]) -> Decoded<Self> {
        let mut graph = GraphProto::default();
        let mut attributes = 0;
        for field in Fields::new(bytes) {
            match field? {
                (1, value) => {
                    let node = NodeProto::decode(value.bytes()?, &mut attributes)?;
                    add(&mut graph.nodes, "nodes", node)?;
                }
                (2, value) => graph.name = value.text()?.into(),
                (5, value) => {
                    let tensor = TensorProto::decode(value.bytes()?)?;
                    add(&mut graph.initializers, "tensors", tensor)?;
                }
                (11, value) => add(&mut graph.inputs, "inputs", ValueInfo::decode(value.bytes()?)?)?,
                (12, value) => add(&mut graph.outputs, "outputs", ValueInfo::decode(value.bytes()?)?)?,
                (15, _) => graph.sparse += 1,
                _ => {}
            }
        }
        Ok(graph)
    }

    fn encode(&self) -> Message {
        let mut message = Message::default();
        for node in &self.nodes {
            message.message(1, node.encode());
        }
        message.text(2, &self.name);
        for tensor in &self.initializers {
            message.message(5, tensor.encode());
        }
        for input in &self.inputs {
            message.message(11, input.encode());
        }
        for output in &self.outputs {
            message.message(12, output.encode());
        }
        message
    }
}

impl<'a> NodeProto<'a> {
    fn decode(bytes: &'a [u8], attributes: &mut usize) -> Decoded<Self> {
        let mut node = NodeProto::default();
        for field in Fields::new(bytes) {
            match field? {
                (1, value) => add(&mut node.inputs, "inputs of a node", value.text()?.into())?,
                (2, value) => add(&mut node.outputs, "outputs of a node", value.text()?.into())?,
                (3, value) => node.name = value.text()?.into(),
                (4, value) => node.op = value.text()?.into(),
                (5, value) => {
                    *attributes += 1;
                    if *attributes > MOST {
                        return Err(OnnxError::form(format!("it has more than {MOST} attributes")));
                    }
                    node.attributes.push(AttributeProto::decode(value.bytes()?)?);
                }
                (7, value) => node.domain = value.text()?.into(),
                _ => {}
            }
        }
        Ok(node)
    }

    fn encode(&self) -> Message {
        let mut message = Message::default();
        self.inputs.iter().for_each(|name| message.text(1, name));
        self.outputs.iter().for_each(|name| message.text(2, name));
        message.text(3, &self.name);
        message.text(4, &self.op);
        for attribute in &self.attributes {
            message.message(5, attribute.encode());
        }
        message
    }
}

impl<'a> AttributeProto<'a> {
    fn decode(bytes: &'a [u8]) -> Decoded<Self> {
        let mut attribute = AttributeProto::default();
        for field in Fields::new(bytes) {
            match field? {
                (1, value) => attribute.name = value.text()?.into(),
                (2, value) => attribute.float = value.f32()?,
                (3, value) => attribute.int = value.int()?,
                (4, value) => attribute.text = value.bytes()?.into(),
                (5, value) => attribute.tensor = Some(TensorProto::decode(value.bytes()?)?),
                (7, value) => value.f32s(&mut attribute.floats)?,
                (8, value) => value.ints(&mut attribute.ints)?,
                (20, value) => attribute.kind = value.int()?,
                // A graph, texts, graphs, a sparse tensor, types, and a reference to the attribute of a function.
                (6 | 9 | 10 | 11 | 14 | 15 | 21 | 22 | 23, _) => attribute.foreign = true,
                _ => {}
            }
        }
        Ok(attribute)
    }

    /// A whole number.
    pub(crate) fn of_int(name: &str, int: i64) -> Self {
        AttributeProto { name: name.into(), int, kind: 2, ..AttributeProto::default() }
    }

    /// Whole numbers.
    pub(crate) fn of_ints(name: &str, ints: &[i64]) -> Self {
        AttributeProto { name: name.into(), ints: ints.into(), kind: 7, ..AttributeProto::default() }
    }

    /// A number.
    pub(crate) fn of_float(name: &str, float: f32) -> Self {
        AttributeProto { name: name.into(), float, kind: 1, ..AttributeProto::default() }
    }

    fn encode(&self) -> Message {
        let mut message = Message::default();
        message.text(1, &self.name);
        match self.kind {
            1 => message.f32(2, self.float),
            2 => message.int(3, self.int),
            3 => message.raw(4, &self.text),
            4 => {
                if let Some(tensor) = &self.tensor {
                    message.message(5, tensor.encode());
                }
            }
            6 => self.floats.iter().for_each(|&float| message.f32(7, float)),
            _ => self.ints.iter().for_each(|&int| message.int(8, int)),
        }
        message.int(20, self.kind);
        message
    }
}

impl<'a> TensorProto<'a> {
    fn decode(bytes: &'a [u8]) -> Decoded<Self> {
        let mut tensor = TensorProto::default();
        for field in Fields::new(bytes) {
            match field? {
                (1, value) => value.ints(&mut tensor.dims)?,
                (2, value) => tensor.element = value.int()?,
                (3, _) => return Err(OnnxError::Damaged("a tensor is stored in segments".into())),
                (4, value) => value.f32s(&mut tensor.floats)?,
                (5 | 7 | 11, value) => value.ints(&mut tensor.ints)?,
                (8, value) => tensor.name = value.text()?.into(),
                (9, value) => tensor.raw = Some(value.bytes()?),
                (10, value) => value.f64s(&mut tensor.doubles)?,
                (13, value) => add(&mut tensor.external, "entries of a tensor", entry(value)?)?,
                (14, value) => tensor.is_external = value.int()? == 1,
                _ => {}
            }
        }
        Ok(tensor)
    }

    fn encode(&self) -> Message {
        let mut message = Message::default();
        self.dims.iter().for_each(|&dim| message.int(1, dim));
        message.int(2, self.element);
        message.text(8, &self.name);
        if let Some(raw) = self.raw {
            message.raw(9, raw);
        }
        for pair in &self.external {
            message.message(13, encode_entry(pair));
        }
        if self.is_external {
            message.int(14, 1);
        }
        message
    }
}

impl ValueInfo {
    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut info = ValueInfo::default();
        for field in Fields::new(bytes) {
            match field? {
                (1, value) => info.name = value.text()?.into(),
                (2, value) => {
                    for field in Fields::new(value.bytes()?) {
                        if let (1, tensor) = field? {
                            info.decode_type(tensor.bytes()?)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(info)
    }

    fn decode_type(&mut self, bytes: &[u8]) -> Decoded<()> {
        for field in Fields::new(bytes) {
            match field? {
                (1, value) => self.element = value.int()?,
                (2, value) => {
                    let shape = self.shape.insert(Vec::new());
                    for field in Fields::new(value.bytes()?) {
                        if let (1, dim) = field? {
                            add(shape, "axes", extent(dim.bytes()?)?)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn encode(&self) -> Message {
        let mut shape = Message::default();
        for extent in self.shape.iter().flatten() {
            let mut dim = Message::default();
            match extent {
                Extent::Known(value) => dim.int(1, *value),
                Extent::Named(name) => dim.text(2, name),
                Extent::Unknown => {}
            }
            shape.message(1, dim);
        }
        let mut tensor = Message::default();
        tensor.int(1, self.element);
        tensor.message(2, shape);
        let mut of_type = Message::default();
        of_type.message(1, tensor);
        let mut message = Message::default();
        message.text(1, &self.name);
        message.message(2, of_type);
        message
    }
}

fn extent(bytes: &[u8]) -> Decoded<Extent> {
    let mut extent = Extent::Unknown;
    for field in Fields::new(bytes) {
        match field? {
            (1, value) => extent = Extent::Known(value.int()?),
            (2, value) => extent = Extent::Named(value.text()?.into()),
            _ => {}
        }
    }
    Ok(extent)
}
