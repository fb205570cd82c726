//! Elementwise kernels.

use super::memory::{Block, Memory, Pooled};
use super::real::Real;
use super::threads::Threads;
use crate::backend::{Binary, Unary};
use crate::shape::Shape;
use std::sync::Arc;

/// Elements of one piece of work: two operands and a result of this size stay in a second-level cache.
pub(super) const CHUNK: usize = 16 * 1024;

/// Where and on what a kernel runs.
pub(super) struct Env<'a> {
    pub(super) threads: &'a Arc<Threads>,
    pub(super) memory: &'a Arc<Memory>,
}

impl Env<'_> {
    /// A new block filled chunk by chunk: `f(first index, chunk)`.
    pub(super) fn fill<E: Pooled>(&self, len: usize, f: impl Fn(usize, &mut [E]) + Sync) -> Block<E> {
        let mut out = self.memory.block(len);
        self.threads.for_each_chunk(&mut out, CHUNK, |i, chunk| f(i * CHUNK, chunk));
        out
    }

    /// A new block filled in runs of whole rows of `width`: `f(first row, rows)`.
    pub(super) fn fill_rows<E: Pooled>(
        &self,
        rows: usize,
        width: usize,
        f: impl Fn(usize, &mut [E]) + Sync,
    ) -> Block<E> {
        let mut out = self.memory.block(rows * width);
        let run = (CHUNK / width.max(1)).max(1);
        self.threads.for_each_chunk(&mut out, (run * width).max(1), |i, chunk| f(i * run, chunk));
        out
    }

    /// A new block with one element for each row of `width`: `f(first row, elements)`.
    pub(super) fn fill_per_row<E: Pooled>(
        &self,
        rows: usize,
        width: usize,
        f: impl Fn(usize, &mut [E]) + Sync,
    ) -> Block<E> {
        let mut out = self.memory.block(rows);
        let run = (CHUNK / width.max(1)).max(1);
        self.threads.for_each_chunk(&mut out, run, |i, chunk| f(i * run, chunk));
        out
    }

    fn map<E: Pooled>(&self, x: &[E], f: impl Fn(E) -> E + Sync) -> Block<E> {
        self.fill(x.len(), |start, out| {
            for (y, &x) in out.iter_mut().zip(&x[start..]) {
                *y = f(x);
            }
        })
    }
}

pub(super) fn unary<R: Real>(env: &Env<'_>, op: Unary, x: &[R]) -> Block<R> {
    let (half, root_half) = (R::of(0.5), R::of(std::f64::consts::FRAC_1_SQRT_2));
    match op {
        Unary::Neg => env.map(x, |x| -x),
        Unary::Exp => env.map(x, R::exp),
        Unary::Log => env.map(x, R::ln),
        Unary::Sqrt => env.map(x, R::sqrt),
        // Not `max`: a NaN must stay one.
        Unary::Relu => env.map(x, |x| if x < R::ZERO { R::ZERO } else { x }),
        Unary::Gelu => env.map(x, |x| x * half * (R::ONE + (x * root_half).erf())),
        Unary::Silu => env.map(x, |x| x * sigmoid(x)),
        Unary::Tanh => env.map(x, R::tanh),
        Unary::Sigmoid => env.map(x, sigmoid),
        Unary::Erf => env.map(x, R::erf),
        Unary::Sign => env.map(x, sign),
        Unary::Abs => env.map(x, R::abs),
        Unary::Powf(p) => env.map(x, |x| x.powf(p)),
        Unary::AddScalar(c) => {
            let c = R::of(c);
            env.map(x, |x| x + c)
        }
        Unary::MulScalar(c) => {
            let c = R::of(c);
            env.map(x, |x| x * c)
        }
        Unary::Clamp(lo, hi) => {
            let (lo, hi) = (R::of(lo), R::of(hi));
            env.map(x, |x| {
                if x < lo {
                    lo
                } else if x > hi {
                    hi
                } else {
                    x
                }
            })
        }
    }
}

/// An operand of a binary kernel as it repeats over the result.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a, E> {
    /// One element for each element of the result.
    Full(&'a [E]),
    /// The whole operand repeated: a scalar, or one row for all rows.
    Cycle(&'a [E]),
    /// Each element repeated this many times: one value for each row.
    Each(&'a [E], usize),
}

impl<'a, E> Operand<'a, E> {
    /// How an operand of `from` repeats over `to`; `None` for patterns that must be spread out first.
    pub(super) fn new(data: &'a [E], from: &Shape, to: &Shape) -> Option<Self> {
        if data.len() == to.len() {
            return Some(Operand::Full(data));
        }
        // Axes of extent 1 at either end do not matter for how the rest repeats.
        let lead = to.rank() - from.rank();
        let first = from.iter().position(|&extent| extent != 1).unwrap_or(from.rank());
        let last = from.iter().rposition(|&extent| extent != 1).map_or(first, |axis| axis + 1);
        let same = |axes: std::ops::Range<usize>| axes.clone().all(|axis| from[axis] == to[axis + lead]);
        if same(first..from.rank()) {
            return Some(Operand::Cycle(data));
        }
        let leads_with_ones = to[..lead + first].iter().all(|&extent| extent == 1);
        if same(first..last) && leads_with_ones {
            return Some(Operand::Each(data, to[lead + last..].iter().product()));
        }
        None
    }
}

pub(super) fn binary<R: Real>(
    env: &Env<'_>,
    op: Binary,
    a: Operand<'_, R>,
    b: Operand<'_, R>,
    len: usize,
) -> Block<R> {
    let bit = |yes: bool| if yes { R::ONE } else { R::ZERO };
    match op {
        Binary::Add => zip(env, a, b, len, |a, b| a + b),
        Binary::Sub => zip(env, a, b, len, |a, b| a - b),
        Binary::Mul => zip(env, a, b, len, |a, b| a * b),
        Binary::Div => zip(env, a, b, len, |a, b| a / b),
        Binary::Max => zip(env, a, b, len, |a, b| if a >= b { a } else { b }),
        Binary::Min => zip(env, a, b, len, |a, b| if a <= b { a } else { b }),
        Binary::Greater => zip(env, a, b, len, |a, b| bit(a > b)),
        Binary::GreaterEqual => zip(env, a, b, len, |a, b| bit(a >= b)),
        Binary::Equal => zip(env, a, b, len, |a, b| bit(a == b)),
        Binary::Mask => zip(env, a, b, len, |a, b| if b > R::ZERO { a } else { R::ZERO }),
    }
}

pub(super) fn select<R: Real>(env: &Env<'_>, condition: &[R], a: &[R], b: &[R]) -> Block<R> {
    env.fill(a.len(), |start, out| {
        for (i, y) in out.iter_mut().enumerate() {
            *y = if condition[start + i] != R::ZERO { a[start + i] } else { b[start + i] };
        }
    })
}

fn zip<R: Real>(
    env: &Env<'_>,
    a: Operand<'_, R>,
    b: Operand<'_, R>,
    len: usize,
    f: impl Fn(R, R) -> R + Sync + Copy,
) -> Block<R> {
    use Operand::{Cycle, Each, Full};
    match (a, b) {
        (Full(a), Full(b)) => env.fill(len, |start, out| {
            for ((y, &a), &b) in out.iter_mut().zip(&a[start..]).zip(&b[start..]) {
                *y = f(a, b);
            }
        }),
        (Full(a), Cycle([b])) => env.map(a, |a| f(a, *b)),
        (Cycle([a]), Full(b)) => env.map(b, |b| f(*a, b)),
        (Full(a), Cycle(b)) => cycle(env, a, b, f),
        (Cycle(a), Full(b)) => cycle(env, b, a, |b, a| f(a, b)),
        (Full(a), Each(b, times)) => each(env, a, b, times, f),
        (Each(a, times), Full(b)) => each(env, b, a, times, |b, a| f(a, b)),
        // An outer product of shapes: rare and small.
        (a, b) => env.fill(len, |start, out| {
            for (i, y) in out.iter_mut().enumerate() {
                *y = f(a.at(start + i), b.at(start + i));
            }
        }),
    }
}

/// One row `b` for all rows of `a`.
fn cycle<R: Real>(env: &Env<'_>, a: &[R], b: &[R], f: impl Fn(R, R) -> R + Sync) -> Block<R> {
    let width = b.len();
    env.fill_rows(a.len() / width, width, |row, out| {
        let a = &a[row * width..];
        for (out, a) in out.chunks_exact_mut(width).zip(a.chunks_exact(width)) {
            for ((y, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *y = f(a, b);
            }
        }
    })
}

/// One value of `b` for each row of `a`.
fn each<R: Real>(env: &Env<'_>, a: &[R], b: &[R], width: usize, f: impl Fn(R, R) -> R + Sync) -> Block<R> {
    env.fill_rows(b.len(), width, |row, out| {
        let a = &a[row * width..];
        for ((out, a), &b) in out.chunks_exact_mut(width).zip(a.chunks_exact(width)).zip(&b[row..]) {
            for (y, &a) in out.iter_mut().zip(a) {
                *y = f(a, b);
            }
        }
    })
}

impl<E: Copy> Operand<'_, E> {
    fn at(&self, i: usize) -> E {
        match self {
            Operand::Full(x) => x[i],
            Operand::Cycle(x) => x[i % x.len()],
            Operand::Each(x, times) => x[i / times],
        }
    }
}

/// Never overflows: e⁻|x| is at most 1.
pub(super) fn sigmoid<R: Real>(x: R) -> R {
    let e = (-x.abs()).exp();
    if x < R::ZERO { e / (R::ONE + e) } else { R::ONE / (R::ONE + e) }
}

fn sign<R: Real>(x: R) -> R {
    if x > R::ZERO {
        R::ONE
    } else if x < R::ZERO {
        -R::ONE
    } else {
        x * R::ZERO // zero, or the NaN that x is
    }
}
