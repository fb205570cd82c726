//! Scalar types of the matrix kernels: f32 and f64.
use super::kernel::{Block, multiply_f32, multiply_f64};
use crate::cpu::memory::Pooled;
use std::ops::{Add, AddAssign, Mul};

/// A scalar that the kernels compute with: `f32` or `f64`.
pub(crate) trait Element:
    Pooled + PartialOrd + Add<Output = Self> + AddAssign + Mul<Output = Self>
{
    /// How many fill a cache line, the width of a packed panel.
    const LANES: usize;

    /// The micro-kernel for this type on this processor.
    fn multiply(block: &Block<'_, Self>, c: &mut [Self]);
}

impl Element for f32 {
    const LANES: usize = 16;

    fn multiply(block: &Block<'_, f32>, c: &mut [f32]) {
        multiply_f32(block, c);
    }
}

impl Element for f64 {
    const LANES: usize = 8;

    fn multiply(block: &Block<'_, f64>, c: &mut [f64]) {
        multiply_f64(block, c);
    }
}
