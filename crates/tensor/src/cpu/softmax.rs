//! Softmax, its logarithm and cross-entropy of rows.

use super::memory::Block;
use super::pointwise::Env;
use super::real::Real;
use super::reduce::total;

pub(super) fn softmax<R: Real>(env: &Env<'_>, x: &[R], k: usize, log: bool) -> Block<R> {
    env.fill_rows(x.len() / k, k, |first, out| {
        for (y, x) in out.chunks_exact_mut(k).zip(x[first * k..].chunks_exact(k)) {
            let top = largest(x);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - top).exp();
            }
            let sum = R::of(total(y));
            if log {
                let shift = top + sum.ln();
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = x - shift;
                }
            } else {
                let scale = R::ONE / sum;
                for y in y.iter_mut() {
                    *y = *y * scale;
                }
            }
        }
    })
}

pub(super) fn softmax_adjoint<R: Real>(env: &Env<'_>, y: &[R], dy: &[R], k: usize, log: bool) -> Block<R> {
    env.fill_rows(y.len() / k, k, |first, out| {
        let range = first * k..first * k + out.len();
        let rows = y[range.clone()].chunks_exact(k).zip(dy[range].chunks_exact(k));
        for (dx, (y, dy)) in out.chunks_exact_mut(k).zip(rows) {
            if log {
                let sum = R::of(total(dy));
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    *dx = dy - y.exp() * sum;
                }
            } else {
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    *dx = y * dy;
                }
                let dot = R::of(total(dx));
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    *dx = y * (dy - dot);
                }
            }
        }
    })
}

/// `ln(1 + Σ_{j≠y} e^{z_j − z_y})`, with the largest gap taken out when it is positive.
pub(super) fn cross_entropy<R: Real>(env: &Env<'_>, z: &[R], labels: &[u32]) -> Block<R> {
    let k = width(z, labels);
    env.fill_rows(labels.len(), 1, |first, out| {
        for ((loss, z), &label) in out.iter_mut().zip(z[first * k..].chunks_exact(k)).zip(&labels[first..]) {
            let own = z[label as usize];
            let top = largest(z) - own;
            let others = |shift: R| {
                let gap = |(j, &z): (usize, &R)| {
                    if j == label as usize { R::ZERO } else { (z - own - shift).exp() }
                };
                z.iter().enumerate().map(gap).fold(R::ZERO, |sum, e| sum + e)
            };
            *loss =
                if top > R::ZERO { top + ((-top).exp() + others(top)).ln() } else { others(R::ZERO).ln_1p() };
        }
    })
}

pub(super) fn cross_entropy_adjoint<R: Real>(env: &Env<'_>, z: &[R], labels: &[u32], dy: &[R]) -> Block<R> {
    let k = width(z, labels);
    env.fill_rows(labels.len(), k, |first, out| {
        let rows = out.chunks_exact_mut(k).zip(z[first * k..].chunks_exact(k));
        for (((dz, z), &label), &dy) in rows.zip(&labels[first..]).zip(&dy[first..]) {
            let top = largest(z);
            for (d, &z) in dz.iter_mut().zip(z) {
                *d = (z - top).exp();
            }
            let scale = dy / R::of(total(dz));
            dz[label as usize] = R::ZERO;
            for d in dz.iter_mut() {
                *d = *d * scale;
            }
            // Minus the sum of the others, not p − 1: this does not cancel when p is close to 1.
            dz[label as usize] = -R::of(total(dz));
        }
    })
}

/// The largest element; a NaN anywhere gives a NaN, so that the result does not hide it.
fn largest<R: Real>(x: &[R]) -> R {
    x.iter().fold(x[0], |top, &x| if x > top || x.partial_cmp(&x).is_none() { x } else { top })
}

fn width<R>(z: &[R], labels: &[u32]) -> usize {
    let k = z.len() / labels.len().max(1);
    if let Some(bad) = labels.iter().find(|&&label| label as usize >= k) {
        panic!("cross_entropy: label {bad} with {k} classes");
    }
    k
}
