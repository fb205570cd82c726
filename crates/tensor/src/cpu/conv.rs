//! Convolutions over images that store their channels last: `y = x ⋆ w`, and the adjoints of this map in `x` and in `w`.
//!
//! `y[n, i, j, o] = Σ_{a, b, c} x[n, i·s + a − p, j·s + b − p, c] · w[a, b, c, o]` with stride `s` and zeros beyond the
//! border, `p` of them on each side. With `groups > 1` the channels fall into that many equal groups which do not mix.
//! Layouts, all row-major: `x (n, h, w, c_in)`, `w (kh, kw, c_in / groups, c_out)`, `y (n, out_h, out_w, c_out)`.
//!
//! All three are sums of products of a padded tile of images with packed panels: [`crate::cpu::gemm`]'s micro-kernel
//! reads the pixels below the taps where they lie. Every output is overwritten, and has the same bits for any number of
//! threads.
mod axis;
mod gather;
mod image;
mod sweep;
mod weight;
mod winograd;

use super::deferred::Source;
use super::gemm::{Element, Scratch};
use super::threads::Threads;

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

    fn x_len(&self) -> usize {
        self.n * self.h * self.w * self.c_in
    }

    fn w_len(&self) -> usize {
        self.kh * self.kw * (self.c_in / self.groups) * self.c_out
    }

    fn y_len(&self) -> usize {
        self.n * self.out_h() * self.out_w() * self.c_out
    }

    #[track_caller]
    fn check(&self, op: &str, x: usize, w: usize, y: usize) {
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

/// `y = x ⋆ w`. Panics if a slice does not have the length that `g` says.
#[track_caller]
pub(crate) fn forward_f32(
    t: &Threads,
    g: &Geometry,
    x: Source<'_, f32>,
    w: &[f32],
    y: &mut [f32],
    s: &Scratch,
) {
    g.check("convolution", x.len(), w.len(), y.len());
    if winograd::chosen(g, s) {
        return winograd::forward(t.worth(g.macs()), g, x, w, y, s);
    }
    sweep::forward(t.worth(g.macs()), g, x, w, y, s);
}

/// `dx` with `⟨x ⋆ w, dy⟩ = ⟨x, dx⟩` for all `x`. Panics if a slice does not have the length that `g` says.
#[track_caller]
pub(crate) fn input_adjoint_f32(
    t: &Threads,
    g: &Geometry,
    dy: Source<'_, f32>,
    w: &[f32],
    dx: &mut [f32],
    s: &Scratch,
) {
    g.check("input adjoint of convolution", dx.len(), w.len(), dy.len());
    if winograd::chosen(g, s) {
        return winograd::input_adjoint(t.worth(g.macs()), g, dy, w, dx, s);
    }
    direct_input_adjoint(t.worth(g.macs()), g, dy, w, dx, s);
}

/// `dw` with `⟨x ⋆ w, dy⟩ = ⟨w, dw⟩` for all `w`. Panics if a slice does not have the length that `g` says.
#[track_caller]
pub(crate) fn weight_adjoint_f32(
    t: &Threads,
    g: &Geometry,
    x: Source<'_, f32>,
    dy: &[f32],
    dw: &mut [f32],
    s: &Scratch,
) {
    g.check("weight adjoint of convolution", x.len(), dw.len(), dy.len());
    if winograd::chosen(g, s) {
        return winograd::weight_adjoint(t.worth(g.macs()), g, x, dy, dw, s);
    }
    weight::weight_adjoint(t.worth(g.macs()), g, x, dy, dw, s);
}

/// [`forward_f32`] in double precision.
#[track_caller]
pub(crate) fn forward_f64(
    t: &Threads,
    g: &Geometry,
    x: Source<'_, f64>,
    w: &[f64],
    y: &mut [f64],
    s: &Scratch,
) {
    g.check("convolution", x.len(), w.len(), y.len());
    sweep::forward(t.worth(g.macs()), g, x, w, y, s);
}

/// [`input_adjoint_f32`] in double precision.
#[track_caller]
pub(crate) fn input_adjoint_f64(
    t: &Threads,
    g: &Geometry,
    dy: Source<'_, f64>,
    w: &[f64],
    dx: &mut [f64],
    s: &Scratch,
) {
    g.check("input adjoint of convolution", dx.len(), w.len(), dy.len());
    direct_input_adjoint(t.worth(g.macs()), g, dy, w, dx, s);
}

/// [`weight_adjoint_f32`] in double precision.
#[track_caller]
pub(crate) fn weight_adjoint_f64(
    t: &Threads,
    g: &Geometry,
    x: Source<'_, f64>,
    dy: &[f64],
    dw: &mut [f64],
    s: &Scratch,
) {
    g.check("weight adjoint of convolution", x.len(), dw.len(), dy.len());
    weight::weight_adjoint(t.worth(g.macs()), g, x, dy, dw, s);
}

fn direct_input_adjoint<T: Element>(
    t: &Threads,
    g: &Geometry,
    dy: Source<'_, T>,
    w: &[T],
    dx: &mut [T],
    s: &Scratch,
) {
    if gather::chosen::<T>(g) {
        gather::input_adjoint(t, g, dy, w, dx, s);
    } else {
        sweep::input_adjoint(t, g, dy, w, dx, s);
    }
}

#[cfg(test)]
mod tests;
