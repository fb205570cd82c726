//! ONNX in and out: encoders of other programs as functions of ours, and functions of ours as files.
//!
//! [`read`] makes a [`Graph`] of a file, which attacks, probes and certificates take as any function of tensors. [`export`]
//! writes whatever is recorded with our ops. What is read, and what is refused, is in `docs/bring-your-own.md`.
//!
//! ```
//! use tarrl_interop::onnx::{Export, ExportBatch, Graph, export};
//! use tarrl_tensor::{DType, Tensor, cpu};
//!
//! let mean = |x: &Tensor| x.global_avg_pool().relu(); // (n, h, w, c) to (n, c)
//! let what = Export { image: [2, 2, 1], dtype: DType::F32, batch: ExportBatch::Any, names: &[], metadata: &[] };
//! let bytes = export(&mean, &what, &cpu())?;
//!
//! let graph = Graph::from_bytes(&bytes, &|_, _, _| Err("no other file".into()), &cpu())?;
//! let x = Tensor::new(&cpu(), [1, 2, 2, 1], &[0.0f32, 0.25, 0.5, 0.25]);
//! assert_eq!(graph.forward(&x).to_vec::<f32>(), [0.25]);
//! # Ok::<(), tarrl_interop::onnx::OnnxError>(())
//! ```

mod constant;
mod error;
mod export;
mod file;
mod graph;
mod lower;
mod operators;
mod program;
mod proto;
mod size;
mod source;
mod wire;

#[cfg(test)]
mod tests;

pub use error::OnnxError;
pub use export::{Export, ExportBatch, export};
pub use file::read;
pub use graph::Graph;
pub use operators::{OPSETS, operators};
