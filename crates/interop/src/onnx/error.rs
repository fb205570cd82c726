//! Why an ONNX file cannot be read.

/// An ONNX file that cannot be used as an encoder. Messages name the cause and the remedy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The bytes are no ONNX model.
    #[error("it is no ONNX model, or a damaged one: {0}; export it again")]
    Damaged(String),
    /// A node that is not supported.
    #[error("node {node} ({op}): {reason}")]
    Node {
        /// The name of the node, or its place.
        node: String,
        /// Its operator.
        op: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A model whose form is not supported.
    #[error("{0}")]
    Form(String),
    /// A tensor whose values cannot be had.
    #[error("tensor {name}: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
}

impl OnnxError {
    pub(crate) fn form(reason: impl Into<String>) -> Self {
        OnnxError::Form(reason.into())
    }
}
