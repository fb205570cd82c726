//! Matrix products and strided views: the parameters of their kernels.

use crate::shape::MAX_RANK;

/// A batch of matrix products `(m, k) · (k, n)`, each operand stored transposed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Number of products.
    pub batch: usize,
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
    /// Which operands are stored transposed.
    pub transpose: Transpose,
}

/// Which operands of a matrix product are stored transposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transpose {
    /// The left one is stored as `(k, m)`.
    pub a: bool,
    /// The right one is stored as `(n, k)`.
    pub b: bool,
}

impl Transpose {
    /// `a · b`
    pub const NONE: Transpose = Transpose { a: false, b: false };
    /// `aᵀ · b`
    pub const LEFT: Transpose = Transpose { a: true, b: false };
    /// `a · bᵀ`
    pub const RIGHT: Transpose = Transpose { a: false, b: true };
}

/// A strided view: the element at index `i` is `offset + Σ iₐ·strides[a]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Strided {
    /// Position of the first element.
    pub offset: usize,
    /// Step of each axis; 0 repeats.
    pub strides: [usize; MAX_RANK],
}
