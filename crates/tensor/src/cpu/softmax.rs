//! Softmax, its logarithm and cross-entropy of rows.

use super::memory::Block;
use super::pointwise::Env;
use super::real::Real;
use super::reduce::total;
use super::wide::wide;

pub(super) fn softmax<R: Real>(env: &Env<'_>, x: &[R], k: usize, log: bool) -> Block<R> {
    env.fill_rows(x.len() / k, k, |first, y| {
        let x = &x[first * k..][..y.len()];
        if log { log_softmax_rows(x, y, k) } else { softmax_rows(x, y, k) }
    })
}

wide! {
    fn softmax_rows<R: Real>(x: &[R], y: &mut [R], k: usize) {
        for (y, x) in y.chunks_exact_mut(k).zip(x.chunks_exact(k)) {
            exps(x, largest(x), y);
            scale(y, R::ONE / R::of(total(y)));
        }
    }
}

wide! {
    fn log_softmax_rows<R: Real>(x: &[R], y: &mut [R], k: usize) {
        for (y, x) in y.chunks_exact_mut(k).zip(x.chunks_exact(k)) {
            let top = largest(x);
            let shift = top + R::of(sum_exp(x, top)).ln();
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x - shift;
            }
        }
    }
}

pub(super) fn softmax_adjoint<R: Real>(env: &Env<'_>, y: &[R], dy: &[R], k: usize, log: bool) -> Block<R> {
    env.fill_rows(y.len() / k, k, |first, dx| {
        let range = first * k..first * k + dx.len();
        let (y, dy) = (&y[range.clone()], &dy[range]);
        if log { log_softmax_adjoint_rows(y, dy, dx, k) } else { softmax_adjoint_rows(y, dy, dx, k) }
    })
}

wide! {
    fn softmax_adjoint_rows<R: Real>(y: &[R], dy: &[R], dx: &mut [R], k: usize) {
        for (dx, (y, dy)) in dx.chunks_exact_mut(k).zip(y.chunks_exact(k).zip(dy.chunks_exact(k))) {
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = y * dy;
            }
            let dot = R::of(total(dx));
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = y * (dy - dot);
            }
        }
    }
}

wide! {
    fn log_softmax_adjoint_rows<R: Real>(y: &[R], dy: &[R], dx: &mut [R], k: usize) {
        for (dx, (y, dy)) in dx.chunks_exact_mut(k).zip(y.chunks_exact(k).zip(dy.chunks_exact(k))) {
            let sum = R::of(total(dy));
            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = dy - y.exp() * sum;
            }
        }
    }
}

/// `ln(1 + Σ_{j≠y} e^{z_j − z_y})`, with the largest gap taken out when it is positive.
pub(super) fn cross_entropy<R: Real>(env: &Env<'_>, z: &[R], labels: &[u32]) -> Block<R> {
    let k = width(z, labels);
    env.fill_per_row(labels.len(), k, |first, losses| {
        cross_entropy_rows(&z[first * k..][..losses.len() * k], &labels[first..], losses);
    })
}

wide! {
    fn cross_entropy_rows<R: Real>(z: &[R], labels: &[u32], losses: &mut [R]) {
        let k = z.len() / losses.len();
        for ((loss, z), &label) in losses.iter_mut().zip(z.chunks_exact(k)).zip(labels) {
            let label = label as usize;
            let own = z[label];
            let largest = largest(z);
            let top = largest - own;
            let shift = if top > R::ZERO { largest } else { own };
            let others = R::of(sum_exp(&z[..label], shift) + sum_exp(&z[label + 1..], shift));
            *loss = if top > R::ZERO { top + ((-top).exp() + others).ln() } else { others.ln_1p() };
        }
    }
}

pub(super) fn cross_entropy_adjoint<R: Real>(env: &Env<'_>, z: &[R], labels: &[u32], dy: &[R]) -> Block<R> {
    let k = width(z, labels);
    env.fill_rows(labels.len(), k, |first, dz| {
        cross_entropy_adjoint_rows(&z[first * k..][..dz.len()], &labels[first..], &dy[first..], dz, k);
    })
}

wide! {
    fn cross_entropy_adjoint_rows<R: Real>(z: &[R], labels: &[u32], dy: &[R], dz: &mut [R], k: usize) {
        let rows = dz.chunks_exact_mut(k).zip(z.chunks_exact(k));
        for (((dz, z), &label), &dy) in rows.zip(labels).zip(dy) {
            exps(z, largest(z), dz);
            let factor = dy / R::of(total(dz));
            dz[label as usize] = R::ZERO;
            scale(dz, factor);
            // Minus the sum of the others, not p − 1: this does not cancel when p is close to 1.
            dz[label as usize] = -R::of(total(dz));
        }
    }
}

/// `y = e^{x − shift}`
#[inline(always)]
fn exps<R: Real>(x: &[R], shift: R, y: &mut [R]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (x - shift).exp();
    }
}

#[inline(always)]
fn scale<R: Real>(x: &mut [R], by: R) {
    for x in x {
        *x = *x * by;
    }
}

/// Independent running results, so that a reduction becomes vector code.
const LANES: usize = 32;

/// The largest element; a NaN anywhere gives a NaN, so that the result does not hide it.
#[inline(always)]
fn largest<R: Real>(x: &[R]) -> R {
    if x.len() < LANES {
        let top = x.iter().fold(x[0], |top, &x| larger(top, x));
        return if x.iter().all(|&x| is_number(x)) { top } else { R::of(f64::NAN) };
    }
    let mut top = [x[0]; LANES];
    let mut number = [true; LANES];
    let (lines, rest) = x.as_chunks::<LANES>();
    for line in lines {
        for i in 0..LANES {
            top[i] = larger(top[i], line[i]);
            number[i] &= is_number(line[i]);
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        top[i] = larger(top[i], x);
        number[i] &= is_number(x);
    }
    if number.contains(&false) {
        return R::of(f64::NAN);
    }
    let mut largest = top[0];
    for top in top {
        largest = larger(largest, top);
    }
    largest
}

#[inline(always)]
fn larger<R: Real>(a: R, b: R) -> R {
    if b > a { b } else { a }
}

#[inline(always)]
fn is_number<R: Real>(x: R) -> bool {
    x.partial_cmp(&x).is_some()
}

/// `Σ e^{z − shift}`: within a block in the element type, across blocks in f64.
#[inline(always)]
fn sum_exp<R: Real>(z: &[R], shift: R) -> f64 {
    let mut sum = 0.0;
    if z.len() < LANES {
        // The sum below without its idle lanes.
        z.iter().for_each(|&z| sum += (z - shift).exp().f64());
        return sum;
    }
    for block in z.chunks(16 * LANES) {
        let mut sums = [R::ZERO; LANES];
        let (lines, rest) = block.as_chunks::<LANES>();
        for line in lines {
            for i in 0..LANES {
                sums[i] += (line[i] - shift).exp();
            }
        }
        for (i, &z) in rest.iter().enumerate() {
            sums[i] += (z - shift).exp();
        }
        for s in sums {
            sum += s.f64();
        }
    }
    sum
}

fn width<R>(z: &[R], labels: &[u32]) -> usize {
    let k = z.len() / labels.len().max(1);
    if let Some(bad) = labels.iter().find(|&&label| label as usize >= k) {
        panic!("cross_entropy: label {bad} with {k} classes");
    }
    k
}
