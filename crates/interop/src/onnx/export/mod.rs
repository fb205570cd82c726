//! ONNX out: any function of images that is recorded with ops of ours.

mod nodes;
mod options;
mod patterns;
mod writer;

use super::error::OnnxError;
use super::proto::{Extent, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfo, element};
use nodes::Exporter;
pub use options::{Export, ExportBatch};
use patterns::{Found, Uses};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tarrl_tensor::{Device, Edge, Node, Tensor, topological_order};
use writer::{Stored, Written};

/// The bytes of an ONNX model that computes `function`, a map of images `(n, h, w, c)` to vectors `(n, d)`, from images
/// `(n, c, h, w)`.
///
/// The same function gives the same bytes: nodes are in the order of the recording and nothing else goes in.
///
/// # Errors
/// If the function uses an op that ONNX has no node for here; it is named.
///
/// # Panics
/// If the function does not take such images.
pub fn export(
    function: &dyn Fn(&Tensor) -> Tensor,
    what: &Export<'_>,
    device: &Device,
) -> Result<Vec<u8>, OnnxError> {
    let [h, w, c] = what.image;
    let record = |n: usize| {
        let x = Tensor::full(device, [n, h, w, c], what.dtype, 0.5).requires_grad();
        let y = function(&x);
        (x, y)
    };
    let free = what.batch == ExportBatch::Any;
    let (x, y) = record(if free { 2 } else { 1 });
    let nodes = topological_order(&y);
    // What is the same function of another number of images differs in the extents that the batch gives.
    let other = if free { topological_order(&record(3).1) } else { nodes.clone() };
    let fault = |reason: &str| Err(OnnxError::form(format!("the function cannot be exported: {reason}")));
    let (Some(input), Some(output)) = (x.node(), y.node()) else {
        return fault("it does not depend on the images");
    };
    if other.len() != nodes.len() {
        return fault("what it computes depends on the number of images");
    }
    if y.shape().rank() != 2 {
        return fault("it does not give a vector for each image");
    }
    let mut uses = Uses::new();
    for node in &nodes {
        for operand in node.edges().iter().filter_map(Edge::node) {
            *uses.entry(Arc::as_ptr(operand)).or_default() += 1;
        }
    }
    let found: HashMap<*const Node, Found<'_>> =
        nodes.iter().map(|node| (Arc::as_ptr(node), Found::new(node, &uses))).collect();
    let mut needed: HashSet<*const Node> = HashSet::new();
    let mut stack = vec![output];
    while let Some(node) = stack.pop() {
        if needed.insert(Arc::as_ptr(node)) && !Arc::ptr_eq(node, input) {
            stack.extend(found[&Arc::as_ptr(node)].operands(node));
        }
    }
    let mut exporter = Exporter::new(what);
    exporter.begin(input);
    for (node, same) in nodes.iter().zip(&other) {
        if needed.contains(&Arc::as_ptr(node)) && !Arc::ptr_eq(node, input) {
            exporter.node(node, same, &found[&Arc::as_ptr(node)])?;
        }
    }
    let graph = exporter.finish(output)?;
    Ok(model(&graph, what, y.shape()[1]).encode())
}

/// The message of a finished graph.
fn model<'a>(graph: &'a Written, what: &Export<'_>, d: usize) -> ModelProto<'a> {
    let [h, w, c] = what.image;
    let batch = || match what.batch {
        ExportBatch::One => Extent::Known(1),
        ExportBatch::Any => Extent::Named("n".into()),
    };
    let value = |name: &str, extents: &[usize]| ValueInfo {
        name: name.into(),
        element: element::F32,
        shape: Some([batch()].into_iter().chain(extents.iter().map(|&e| Extent::Known(e as i64))).collect()),
    };
    let tensor = |(name, stored): &'a (String, Stored)| TensorProto {
        name: name.clone(),
        dims: stored.shape.iter().map(|&extent| extent as i64).collect(),
        element: stored.element,
        raw: Some(&stored.bytes),
        ..TensorProto::default()
    };
    let nodes: Vec<NodeProto<'_>> = graph.nodes.clone();
    // The oldest versions that have all of the nodes, for readers that are old.
    let (ir_version, opset) = if graph.needs_17 { (8, 17) } else { (7, 13) };
    ModelProto {
        ir_version,
        producer: "tarrl".into(),
        opsets: vec![(String::new(), opset)],
        graph: Some(GraphProto {
            name: "encoder".into(),
            nodes,
            initializers: graph.constants.iter().map(tensor).collect(),
            inputs: vec![value("x", &[c, h, w])],
            outputs: vec![value("y", &[d])],
            sparse: 0,
        }),
        metadata: what.metadata.to_vec(),
        functions: 0,
    }
}
