//! A graph that is written node by node.

use super::super::constant::{strided, strides};
use super::super::error::OnnxError;
use super::super::proto::{AttributeProto, NodeProto, element};
use std::collections::HashSet;
use std::sync::Arc;
use tarrl_tensor::{Array, Buffer, Tensor};

/// A stored tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) shape: Vec<usize>,
    pub(super) element: i64,
    pub(super) bytes: Vec<u8>,
}

/// Nodes and tensors.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) nodes: Vec<NodeProto<'static>>,
    pub(super) constants: Vec<(String, Stored)>,
    /// Whether a node needs version 17 of the operators.
    pub(super) needs_17: bool,
    taken: HashSet<String>,
    values: usize,
}

impl Written {
    /// Adds a node and gives the name of its output.
    pub(super) fn node(
        &mut self,
        op: &str,
        label: Option<&str>,
        inputs: &[&str],
        attributes: Vec<AttributeProto<'static>>,
    ) -> String {
        let output = format!("v{}", self.values);
        self.values += 1;
        let name = match label {
            Some(label) => label.to_owned(),
            None => format!("{op}_{}", self.nodes.len()),
        };
        let name = self.unique(&name);
        self.nodes.push(NodeProto {
            name,
            op: op.into(),
            domain: String::new(),
            inputs: inputs.iter().map(|&input| input.into()).collect(),
            outputs: vec![output.clone()],
            attributes,
        });
        output
    }

    fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        let mut i = 1;
        while !self.taken.insert(unique.clone()) {
            i += 1;
            unique = format!("{name}.{i}");
        }
        unique
    }

    /// Adds a tensor, or finds the one of that name with these values, and gives its name.
    fn store(&mut self, name: &str, stored: Stored) -> String {
        let same = |(other, values): &&(String, Stored)| {
            other.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                && *values == stored
        };
        if let Some((name, _)) = self.constants.iter().find(same) {
            return name.clone();
        }
        let name = self.unique(name);
        self.constants.push((name.clone(), stored));
        name
    }

    /// Adds floats, rounded to f32.
    pub(super) fn floats(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[f64],
    ) -> Result<String, OnnxError> {
        let overflows = |value: &&f64| value.is_finite() && !(**value as f32).is_finite();
        if let Some(value) = values.iter().find(overflows) {
            let reason = format!("the constant {name} has the value {value}, which f32 has not");
            return Err(OnnxError::form(reason));
        }
        let bytes = values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect();
        Ok(self.store(name, Stored { shape: shape.into(), element: element::F32, bytes }))
    }

    /// Adds whole numbers.
    pub(super) fn ints(&mut self, name: &str, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.store(name, Stored { shape: vec![values.len()], element: element::I64, bytes })
    }

    /// Gives the value `from` the name `to`.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        for node in &mut self.nodes {
            node.inputs
                .iter_mut()
                .chain(&mut node.outputs)
                .filter(|name| *name == from)
                .for_each(|name| *name = to.into());
        }
    }
}

/// The names of constants by the memory that holds them.
pub(super) struct Names<'a> {
    names: Vec<(&'a Buffer, &'a str)>,
}

impl<'a> Names<'a> {
    pub(super) fn new(names: &'a [(String, Tensor)]) -> Self {
        let named = names.iter().filter(|(name, _)| !name.is_empty());
        Names { names: named.map(|(name, tensor)| (tensor.array().buffer(), name.as_str())).collect() }
    }

    pub(super) fn of(&self, array: &Array) -> Option<&'a str> {
        let same = |buffer: &Buffer| std::ptr::addr_eq(Arc::as_ptr(buffer), Arc::as_ptr(array.buffer()));
        self.names.iter().find(|(buffer, _)| same(buffer)).map(|(_, name)| *name)
    }
}

/// The elements of a constant in another order of axes.
pub(super) fn permuted(array: &Array, order: &[usize]) -> (Vec<usize>, Vec<f64>) {
    let steps = strides(array.shape());
    let to: Vec<usize> = order.iter().map(|&axis| array.shape()[axis]).collect();
    let steps: Vec<usize> = order.iter().map(|&axis| steps[axis]).collect();
    let values = strided(&array.to_f64(), &to, &steps, 0);
    (to, values)
}
