//! The two scalar types of the kernels.
use super::kernel::{self, Block};
use super::scratch::{Pool, Scratch};
use std::ops::{Add, AddAssign, Mul};

/// A scalar that the kernels compute with: `f32` or `f64`.
pub(crate) trait Element:
    Copy + Default + PartialEq + Send + Sync + Add<Output = Self> + AddAssign + Mul<Output = Self> + 'static
{
    /// How many fill a cache line, the width of a packed panel.
    const LANES: usize;

    /// The buffers of this type.
    fn pool(scratch: &Scratch) -> &Pool<Self>;

    /// The micro-kernel for this type on this processor.
    fn multiply(block: &Block<'_, Self>, c: &mut [Self]);
}

impl Element for f32 {
    const LANES: usize = 16;

    fn pool(scratch: &Scratch) -> &Pool<f32> {
        &scratch.singles
    }

    fn multiply(block: &Block<'_, f32>, c: &mut [f32]) {
        kernel::multiply_f32(block, c);
    }
}

impl Element for f64 {
    const LANES: usize = 8;

    fn pool(scratch: &Scratch) -> &Pool<f64> {
        &scratch.doubles
    }

    fn multiply(block: &Block<'_, f64>, c: &mut [f64]) {
        kernel::multiply_f64(block, c);
    }
}
