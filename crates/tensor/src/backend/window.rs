//! Convolutions and pooling: their windows, and the extents of their operands.

use crate::shape::Shape;

/// Stride, padding and groups of a convolution, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Step between windows.
    pub stride: usize,
    /// Zeros added on every side.
    pub pad: usize,
    /// Channels are split into this many independent groups.
    pub groups: usize,
}

impl Default for Conv {
    fn default() -> Self {
        Conv { stride: 1, pad: 0, groups: 1 }
    }
}

/// The extents of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct ConvShape {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c_in: usize,
    pub kh: usize,
    pub kw: usize,
    pub c_out: usize,
    pub conv: Conv,
}

impl ConvShape {
    /// Height of the result.
    pub fn out_h(&self) -> usize {
        (self.h + 2 * self.conv.pad - self.kh) / self.conv.stride + 1
    }

    /// Width of the result.
    pub fn out_w(&self) -> usize {
        (self.w + 2 * self.conv.pad - self.kw) / self.conv.stride + 1
    }

    /// Shape of the result.
    pub fn output(&self) -> Shape {
        [self.n, self.out_h(), self.out_w(), self.c_out].into()
    }

    /// Shape of the input.
    pub fn input(&self) -> Shape {
        [self.n, self.h, self.w, self.c_in].into()
    }

    /// Shape of the weights.
    pub fn weight(&self) -> Shape {
        [self.kh, self.kw, self.c_in / self.conv.groups, self.c_out].into()
    }

    /// Multiply-adds of one forward pass, padding included.
    pub fn macs(&self) -> usize {
        self.n * self.out_h() * self.out_w() * self.c_out * self.kh * self.kw * (self.c_in / self.conv.groups)
    }
}

/// Window, stride and padding of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Extent of the square window.
    pub window: usize,
    /// Step between windows.
    pub stride: usize,
    /// Padding on every side: zero for averages, never chosen for maxima.
    pub pad: usize,
}

/// The extents of one pooling of `(n, h, w, c)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct PoolShape {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub pool: Pool,
}

impl PoolShape {
    /// Height of the result.
    pub fn out_h(&self) -> usize {
        (self.h + 2 * self.pool.pad - self.pool.window) / self.pool.stride + 1
    }

    /// Width of the result.
    pub fn out_w(&self) -> usize {
        (self.w + 2 * self.pool.pad - self.pool.window) / self.pool.stride + 1
    }

    /// Shape of the result.
    pub fn output(&self) -> Shape {
        [self.n, self.out_h(), self.out_w(), self.c].into()
    }
}
