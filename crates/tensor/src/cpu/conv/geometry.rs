//! Geometry of a convolution: its extents, and the sizes of its operands.

/// The shape of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Geometry {
    /// Images.
    pub(crate) n: usize,
    /// Height of the input in pixels.
    pub(crate) h: usize,
    /// Width of the input in pixels.
    pub(crate) w: usize,
    /// Channels of the input, a multiple of `groups`.
    pub(crate) c_in: usize,
    /// Height of the kernel.
    pub(crate) kh: usize,
    /// Width of the kernel.
    pub(crate) kw: usize,
    /// Channels of the output, a multiple of `groups`.
    pub(crate) c_out: usize,
    /// Distance of the windows in both directions, at least 1.
    pub(crate) stride: usize,
    /// Zeros on each of the four sides.
    pub(crate) pad: usize,
    /// Groups of channels, at least 1.
    pub(crate) groups: usize,
}

impl Geometry {
    /// Height of the output; 0 if the kernel is higher than the padded input.
    pub(crate) fn out_h(&self) -> usize {
        windows(self.h + 2 * self.pad, self.kh, self.stride)
    }

    /// Width of the output; 0 if the kernel is wider than the padded input.
    pub(crate) fn out_w(&self) -> usize {
        windows(self.w + 2 * self.pad, self.kw, self.stride)
    }

    /// Multiply-adds of the definition, padding included. Each adjoint has as many.
    pub(crate) fn macs(&self) -> usize {
        self.n * self.out_h() * self.out_w() * self.w_len()
    }

    pub(super) fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.c_in
    }

    pub(super) fn w_len(&self) -> usize {
        self.kh * self.kw * (self.c_in / self.groups) * self.c_out
    }

    pub(super) fn y_len(&self) -> usize {
        self.n * self.out_h() * self.out_w() * self.c_out
    }

    #[track_caller]
    pub(super) fn check(&self, op: &str, x: usize, w: usize, y: usize) {
        let whole = self.c_in.is_multiple_of(self.groups) && self.c_out.is_multiple_of(self.groups);
        assert!(self.stride > 0 && self.groups > 0 && whole, "{op}: stride and groups do not fit {self:?}");
        assert!(
            (x, w, y) == (self.x_len(), self.w_len(), self.y_len()),
            "{op}: lengths x {x}, w {w}, y {y} do not fit {self:?}"
        );
    }
}

fn windows(size: usize, kernel: usize, stride: usize) -> usize {
    if size < kernel { 0 } else { (size - kernel) / stride + 1 }
}
