//! Batch normalization: the parameters of its kernels, and what they return and save.

use crate::array::{Array, Buffer};

/// Constants of a batch normalization.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// Added to the variance.
    pub eps: f64,
    /// Whether a ReLU follows in the same pass.
    pub relu: bool,
}

/// The result of [`Backend::batch_norm`](crate::Backend::batch_norm).
pub struct BatchNormed {
    /// The normalized rows.
    pub y: Buffer,
    /// `(c)`: the mean of each channel.
    pub mean: Buffer,
    /// `(c)`: its biased variance.
    pub variance: Buffer,
}

/// What [`Backend::batch_norm_adjoint`](crate::Backend::batch_norm_adjoint) needs of the forward pass.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct BatchNormSaved<'a> {
    pub x: &'a Array,
    pub weight: &'a Array,
    pub bias: &'a Array,
    pub mean: &'a Array,
    pub variance: &'a Array,
}
