#![doc = include_str!("../README.md")]
//!
//! ## What is in it
//!
//! - An [`Array`] is a value: immutable, contiguous, row-major, on a [`Device`]. Images are `(n, h, w, c)`.
//! - A [`Tensor`] is an array and, if it depends on a [`Tensor::requires_grad`] input, a [`Node`] that records
//!   its [`Op`] as data: the backward pass, bounds and exporters read the same recording.
//! - A [`Backend`] computes; it knows nothing of differentiation. [`conformance`] checks any backend.
//! - A [`LineProduct`] multiplies bundles of rows by weights, only where they have coefficients; it runs on the host.
//! - Wrong shapes are bugs and panic, naming the op and both shapes.
//! - One seed, one result: the same bits for any number of threads, and of a sample in any batch. Randomness is a [`Key`].
//!   Elementary functions are those of [`math`], which do not depend on the processor.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod array;
mod autodiff;
mod backend;
mod captured;
#[allow(clippy::disallowed_methods, reason = "references do not share functions with the kernels")]
pub mod conformance;
mod cpu;
pub mod extensions;
mod graph;
mod key;
pub mod math;
mod op;
mod ops;
mod shape;
mod tensor;

pub use array::{Array, Buffer, DType, Element, HostSlice, HostVec};
pub use autodiff::{Pullback, Recording, Saved, backward, grad, grad_recorded, value_and_grad, vjp};
pub use backend::{
    Backend, BatchNormSaved, BatchNormed, Binary, Conv, ConvShape, Device, Extreme, Norm, Pool, PoolShape,
    Product, Random, Strided, Transpose, Unary,
};
pub use captured::{Captured, CapturedFn};
pub use cpu::{Arithmetic, Cpu, LINE, Limits, LineProduct, LineRun, LineTarget, cpu};
pub use graph::{Edge, Node, topological_order};
pub use key::{Key, KeyPart, Stream};
pub use op::Op;
pub use ops::BatchNorm;
pub use shape::{MAX_RANK, Shape, Split};
pub use tensor::Tensor;
