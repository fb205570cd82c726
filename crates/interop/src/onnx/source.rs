//! A model as it was read: its nodes in order, with constants; checked as far as that needs no shape.

use super::constant::{Constant, External};
use super::error::OnnxError;
use super::operators::{NEWEST, OLDEST, attributes_of};
use super::proto::{AttributeProto, Extent, ModelProto, NodeProto, ValueInfo, element};
use std::collections::{HashMap, HashSet};

/// A model with everything that its nodes need.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) opset: i64,
    pub(crate) producer: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) constants: Vec<(String, Constant)>,
    /// The name and the declared extents of the input.
    pub(crate) input: String,
    pub(crate) extents: Vec<Extent>,
    pub(crate) output: String,
    pub(crate) metadata: Vec<(String, String)>,
    /// What was done that the file does not say, for the user.
    pub(crate) notes: Vec<String>,
}

/// A node of the graph.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its name; its place where it has none.
    pub(crate) name: String,
    pub(crate) op: String,
    /// An empty name is an absent input.
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    attributes: HashMap<String, Attribute>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attribute {
    Float(f32),
    Int(i64),
    Text(String),
    Tensor(Constant),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

impl Source {
    pub(crate) fn new(model: &ModelProto<'_>, external: &External<'_>) -> Result<Self, OnnxError> {
        let damaged = |reason: &str| OnnxError::Damaged(reason.into());
        let graph = model.graph.as_ref().ok_or_else(|| damaged("it has no graph"))?;
        if model.functions > 0 {
            return Err(OnnxError::form(
                "it defines functions of its own, which are not read; export it without custom functions",
            ));
        }
        if graph.sparse > 0 {
            return Err(OnnxError::form(
                "it has sparse tensors, which are not read; make them dense and export it again",
            ));
        }
        let opset = opset(&model.opsets)?;
        let mut notes = Vec::new();
        let (mut constants, mut rounded) = (Vec::new(), Vec::new());
        let mut known: HashSet<&str> = HashSet::new();
        for tensor in &graph.initializers {
            if !known.insert(&tensor.name) {
                return Err(OnnxError::Damaged(format!("two values have the name {:?}", tensor.name)));
            }
            let (constant, lossy) = Constant::decode(tensor, external)?;
            if lossy {
                rounded.push(tensor.name.clone());
            }
            constants.push((tensor.name.clone(), constant));
        }
        // Old files list initializers among the inputs.
        let inputs: Vec<&ValueInfo> =
            graph.inputs.iter().filter(|input| !known.contains(input.name.as_str())).collect();
        let &[input] = &inputs[..] else {
            let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            return Err(OnnxError::form(format!(
                "it has {} inputs ({}); an encoder has one, the images",
                names.len(),
                names.join(", ")
            )));
        };
        let [output] = &graph.outputs[..] else {
            let names: Vec<&str> = graph.outputs.iter().map(|output| output.name.as_str()).collect();
            return Err(OnnxError::form(format!(
                "it has {} outputs ({}); export the representation alone",
                names.len(),
                names.join(", ")
            )));
        };
        if ![0, element::F32].contains(&input.element) {
            return Err(OnnxError::form(format!(
                "its input {} has elements of the type with the number {}; export the model in f32",
                input.name, input.element
            )));
        }
        let extents = input.shape.clone().ok_or_else(|| {
            OnnxError::form(format!("its input {} declares no shape; export it with one", input.name))
        })?;
        known.insert(&input.name);
        let mut nodes = Vec::new();
        for (place, node) in graph.nodes.iter().enumerate() {
            let made = Node::new(node, place, external, &mut rounded)?;
            for name in node.inputs.iter().filter(|name| !name.is_empty()) {
                if !known.contains(name.as_str()) {
                    let later = graph.nodes[place..].iter().any(|node| node.outputs.contains(name));
                    let reason = if later {
                        format!(
                            "its input {name:?} is computed by a node that does not precede it: the graph is cyclic or not sorted"
                        )
                    } else {
                        format!("nothing computes its input {name:?}")
                    };
                    return Err(made.fault(reason));
                }
            }
            for name in node.outputs.iter().filter(|name| !name.is_empty()) {
                if !known.insert(name) {
                    return Err(made.fault(format!("its output has the name {name:?} of another value")));
                }
            }
            nodes.push(made);
        }
        if !known.contains(output.name.as_str()) {
            return Err(OnnxError::Damaged(format!("nothing computes its output {:?}", output.name)));
        }
        if let Some(first) = rounded.first() {
            notes.push(format!("{} tensors of f64 were rounded to f32, {first} first", rounded.len()));
        }
        Ok(Source {
            opset,
            producer: model.producer.clone(),
            nodes,
            constants,
            input: input.name.clone(),
            extents,
            output: output.name.clone(),
            metadata: model.metadata.clone(),
            notes,
        })
    }
}

/// The version of the standard operators.
fn opset(opsets: &[(String, i64)]) -> Result<i64, OnnxError> {
    let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let version = opsets.iter().find(|(domain, _)| standard(domain)).map(|(_, version)| *version);
    let version = version.ok_or_else(|| OnnxError::Damaged("it names no version of the operators".into()))?;
    if !(OLDEST..=NEWEST).contains(&version) {
        return Err(OnnxError::form(format!(
            "it has opset {version}, but {OLDEST} to {NEWEST} are read; export it again with one of them"
        )));
    }
    Ok(version)
}

impl Node {
    fn new(
        node: &NodeProto<'_>,
        place: usize,
        external: &External<'_>,
        rounded: &mut Vec<String>,
    ) -> Result<Self, OnnxError> {
        let name = if node.name.is_empty() { format!("number {place}") } else { node.name.clone() };
        let mut made = Node {
            name,
            op: node.op.clone(),
            inputs: node.inputs.clone(),
            outputs: node.outputs.clone(),
            attributes: HashMap::new(),
        };
        if !(node.domain.is_empty() || node.domain == "ai.onnx") {
            let reason = format!("operators of the domain {} are not supported", node.domain);
            return Err(made.fault(reason));
        }
        let Some(allowed) = attributes_of(&node.op) else {
            return Err(made.fault(
                "this operator is not supported; `tarrl supports --onnx-operators` lists those that are",
            ));
        };
        for attribute in &node.attributes {
            if !allowed.contains(&attribute.name.as_str()) {
                return Err(made.fault(format!("the attribute {:?} is not supported", attribute.name)));
            }
            let value = decode(attribute, external, rounded).map_err(|reason| made.fault(reason))?;
            if made.attributes.insert(attribute.name.clone(), value).is_some() {
                return Err(made.fault(format!("two attributes have the name {:?}", attribute.name)));
            }
        }
        Ok(made)
    }

    /// An error that names this node.
    pub(crate) fn fault(&self, reason: impl Into<String>) -> OnnxError {
        OnnxError::Node { node: self.name.clone(), op: self.op.clone(), reason: reason.into() }
    }

    /// The name of an input that is there.
    pub(crate) fn input(&self, i: usize) -> Option<&str> {
        self.inputs.get(i).map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Attribute> {
        self.attributes.get(name)
    }

    /// A whole number, or the default.
    pub(crate) fn int(&self, name: &str, default: i64) -> Result<i64, String> {
        match self.get(name) {
            None => Ok(default),
            Some(Attribute::Int(value)) => Ok(*value),
            Some(_) => Err(format!("the attribute {name:?} is no whole number")),
        }
    }

    pub(crate) fn float(&self, name: &str, default: f32) -> Result<f32, String> {
        match self.get(name) {
            None => Ok(default),
            Some(Attribute::Float(value)) => Ok(*value),
            Some(_) => Err(format!("the attribute {name:?} is no number")),
        }
    }

    pub(crate) fn ints(&self, name: &str) -> Result<Option<&[i64]>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(format!("the attribute {name:?} is no list of whole numbers")),
        }
    }

    pub(crate) fn text(&self, name: &str, default: &'static str) -> Result<&str, String> {
        match self.get(name) {
            None => Ok(default),
            Some(Attribute::Text(value)) => Ok(value),
            Some(_) => Err(format!("the attribute {name:?} is no text")),
        }
    }
}

fn decode(
    attribute: &AttributeProto<'_>,
    external: &External<'_>,
    rounded: &mut Vec<String>,
) -> Result<Attribute, String> {
    let name = &attribute.name;
    if attribute.foreign {
        return Err(format!("the attribute {name:?} is a graph or a list of texts, which are not supported"));
    }
    Ok(match attribute.kind {
        1 => Attribute::Float(attribute.float),
        2 => Attribute::Int(attribute.int),
        3 => {
            let text = String::from_utf8(attribute.text.clone());
            Attribute::Text(text.map_err(|_| format!("the attribute {name:?} is not UTF-8"))?)
        }
        4 => {
            let tensor = attribute.tensor.as_ref().ok_or(format!("the attribute {name:?} is empty"))?;
            let (constant, lossy) = Constant::decode(tensor, external).map_err(|error| error.to_string())?;
            if lossy {
                rounded.push(name.clone());
            }
            Attribute::Tensor(constant)
        }
        6 => Attribute::Floats(attribute.floats.clone()),
        7 => Attribute::Ints(attribute.ints.clone()),
        kind => {
            return Err(format!("the attribute {name:?} has the type number {kind}, which is not supported"));
        }
    })
}
