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
mod geometry;
mod image;
mod sweep;
mod weight;
mod winograd;

use super::deferred::Source;
use super::gemm::{Element, Scratch};
use super::threads::Threads;
pub(crate) use geometry::Geometry;

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
    if winograd::chosen_for_weights(g, s) {
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
