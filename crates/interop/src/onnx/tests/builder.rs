//! Models that tests write node by node.

use crate::onnx::Graph;
use crate::onnx::error::OnnxError;
use crate::onnx::proto::{
    AttributeProto, Extent, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfo, element,
};
use tarrl_tensor::{Tensor, cpu};

/// Name, extents, element type and bytes.
type Stored = (String, Vec<i64>, i64, Vec<u8>);

/// Operation, inputs, outputs and attributes.
type Recorded = (String, Vec<String>, Vec<String>, Vec<AttributeProto<'static>>);

/// A model in the making.
pub(super) struct Builder {
    pub(super) opset: i64,
    pub(super) input: Vec<i64>,
    nodes: Vec<Recorded>,
    tensors: Vec<Stored>,
}

impl Builder {
    /// Of images `(n, c, h, w)` called `x`; a batch of 0 is a free one.
    pub(super) fn new(opset: i64, input: &[i64]) -> Self {
        Builder { opset, input: input.into(), nodes: Vec::new(), tensors: Vec::new() }
    }

    pub(super) fn floats(mut self, name: &str, dims: &[i64], values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect();
        self.tensors.push((name.into(), dims.into(), element::F32, bytes));
        self
    }

    pub(super) fn ints(mut self, name: &str, values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensors.push((name.into(), vec![values.len() as i64], element::I64, bytes));
        self
    }

    /// One whole number without axes.
    pub(super) fn int(mut self, name: &str, value: i64) -> Self {
        self.tensors.push((name.into(), vec![], element::I64, value.to_le_bytes().into()));
        self
    }

    /// A node; names are separated by blanks, `_` is an absent input.
    pub(super) fn node(
        mut self,
        op: &str,
        inputs: &str,
        outputs: &str,
        attributes: &[AttributeProto<'static>],
    ) -> Self {
        let names = |text: &str| -> Vec<String> {
            text.split(' ').map(|name| if name == "_" { String::new() } else { name.into() }).collect()
        };
        let inputs = if inputs.is_empty() { vec![] } else { names(inputs) };
        self.nodes.push((op.into(), inputs, names(outputs), attributes.into()));
        self
    }

    /// The bytes of the model with the output `y`.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let dims =
            self.input.iter().map(|&d| if d == 0 { Extent::Named("n".into()) } else { Extent::Known(d) });
        fn tensor((name, dims, element, bytes): &Stored) -> TensorProto<'_> {
            TensorProto {
                name: name.clone(),
                dims: dims.clone(),
                element: *element,
                raw: Some(bytes),
                ..TensorProto::default()
            }
        }
        let node = |(i, (op, inputs, outputs, attributes)): (usize, &Recorded)| NodeProto {
            name: format!("{op}_{i}"),
            op: op.clone(),
            domain: String::new(),
            inputs: inputs.clone(),
            outputs: outputs.clone(),
            attributes: attributes.clone(),
        };
        ModelProto {
            ir_version: 8,
            producer: "a test".into(),
            opsets: vec![(String::new(), self.opset)],
            graph: Some(GraphProto {
                name: "g".into(),
                nodes: self.nodes.iter().enumerate().map(node).collect(),
                initializers: self.tensors.iter().map(tensor).collect(),
                inputs: vec![ValueInfo {
                    name: "x".into(),
                    element: element::F32,
                    shape: Some(dims.collect()),
                }],
                outputs: vec![ValueInfo { name: "y".into(), element: element::F32, shape: None }],
                sparse: 0,
            }),
            metadata: vec![],
            functions: 0,
        }
        .encode()
    }

    pub(super) fn read(&self) -> Result<Graph, OnnxError> {
        Graph::from_bytes(&self.bytes(), &none, &cpu())
    }

    /// The output for images with the elements `x`, given in the order of ONNX.
    pub(super) fn run(&self, n: usize, x: &[f64]) -> Vec<f64> {
        let graph = self.read().unwrap_or_else(|error| panic!("{error}"));
        forward(&graph, n, x)
    }
}

/// No file lies beside a model.
pub(super) fn none(_: &str, _: u64, _: usize) -> Result<Vec<u8>, String> {
    Err("there is no other file".into())
}

/// The output of a model for `n` square images with the elements `x` in the order `(n, c, h, w)`.
pub(super) fn forward(graph: &Graph, n: usize, x: &[f64]) -> Vec<f64> {
    let c = graph.channels();
    let side = ((x.len() / (n * c)) as f64).sqrt() as usize;
    let x: Vec<f32> = x.iter().map(|&v| v as f32).collect();
    let images = Tensor::new(&cpu(), [n, c, side, side], &x).permute(&[0, 2, 3, 1]);
    graph.forward(&images).array().to_f64()
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto<'static> {
    AttributeProto::of_int(name, value)
}

pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto<'static> {
    AttributeProto::of_ints(name, values)
}

pub(super) fn float(name: &str, value: f32) -> AttributeProto<'static> {
    AttributeProto::of_float(name, value)
}

pub(super) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance, "{i}: {f} for {e}\n{found:?}\n{expected:?}");
    }
}
