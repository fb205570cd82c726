//! Tensors with a recorded graph and reverse-mode differentiation, over an object-safe backend.
//!
//! A loss is a function of tensors; its gradient is exact, of any order, and taken only where asked:
//! for `y = f(x)` and a weight `g` of `y`'s shape, [`vjp`] computes `gᵀ ∂f/∂x`.
//!
//! ```
//! use tarrl_tensor::{cpu, grad, Tensor};
//!
//! let device = cpu();
//! let x = Tensor::new(&device, [2, 2], &[1.0f32, -2.0, 3.0, 0.5]).requires_grad();
//! let w = Tensor::new(&device, [2, 1], &[0.5f32, 1.0]);       // frozen: costs nothing in the backward pass
//! let loss = x.matmul(&w).relu().square().sum_all();
//! let dx = grad(&loss, &[&x]).remove(0);
//! assert_eq!(loss.item(), 4.0);
//! assert_eq!(dx.to_vec::<f32>(), [0.0, 0.0, 2.0, 4.0]);
//! ```
//!
//! - An [`Array`] is a value: immutable, contiguous, row-major, on a [`Device`]. Images are `(n, h, w, c)`.
//! - A [`Tensor`] is an array and, if it depends on a [`Tensor::requires_grad`] input, a [`Node`] that records
//!   its [`Op`] as data: the backward pass, bounds and exporters read the same recording.
//! - A [`Backend`] computes; it knows nothing of differentiation. [`conformance`] checks any backend.
//! - Wrong shapes are bugs and panic, naming the op and both shapes.
//! - One seed, one result: the same bits for any number of threads. Randomness is a [`Key`].

mod array;
mod autodiff;
mod backend;
mod captured;
pub mod conformance;
mod cpu;
pub mod extensions;
mod graph;
mod key;
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
pub use cpu::{Arithmetic, Cpu, Limits, cpu};
pub use graph::{Edge, Node, topological_order};
pub use key::{Key, KeyPart, Stream};
pub use op::Op;
pub use ops::BatchNorm;
pub use shape::{MAX_RANK, Shape, Split};
pub use tensor::Tensor;
