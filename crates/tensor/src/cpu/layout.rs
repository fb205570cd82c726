//! Kernels that move elements.

use super::memory::{Block, Pooled};
use super::pointwise::Env;
use crate::backend::Strided;
use crate::shape::{MAX_RANK, Shape, Split};

/// The elements of a strided view, row-major.
pub(super) fn strided<E: Pooled>(env: &Env<'_>, x: &[E], shape: &Shape, view: &Strided) -> Block<E> {
    let rank = shape.rank();
    if rank == 0 {
        return env.fill(1, |_, out| out[0] = x[view.offset]);
    }
    let width = shape[rank - 1];
    let step = view.strides[rank - 1];
    env.fill_rows(shape.len() / width.max(1), width, |first, out| {
        let mut index = [0; MAX_RANK];
        let mut rest = first;
        for axis in (0..rank - 1).rev() {
            index[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        for row in out.chunks_exact_mut(width) {
            let start =
                view.offset + (0..rank - 1).map(|axis| index[axis] * view.strides[axis]).sum::<usize>();
            match step {
                0 => row.fill(x[start]),
                1 => row.copy_from_slice(&x[start..start + width]),
                _ => {
                    for (y, &x) in row.iter_mut().zip(x[start..].iter().step_by(step)) {
                        *y = x;
                    }
                }
            }
            for axis in (0..rank - 1).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
    })
}

/// Zeros with the parts placed at their starts.
pub(super) fn place<E: Pooled>(env: &Env<'_>, parts: &[(&[E], Shape, Shape)], shape: &Shape) -> Block<E> {
    let mut out = env.memory.block(shape.len());
    let covered: usize = parts.iter().map(|(data, ..)| data.len()).sum();
    if covered < shape.len() {
        out.fill(E::default());
    }
    let strides = shape.strides();
    for (data, extents, start) in parts {
        let width = extents.last().copied().unwrap_or(1);
        for (row, values) in data.chunks_exact(width.max(1)).enumerate() {
            let mut rest = row;
            let mut to = start.last().copied().unwrap_or(0);
            for axis in (0..shape.rank().saturating_sub(1)).rev() {
                to += (start[axis] + rest % extents[axis]) * strides[axis];
                rest /= extents[axis];
            }
            out[to..to + width].copy_from_slice(values);
        }
    }
    out
}

/// Rows of the middle axis by index.
pub(super) fn gather<E: Pooled>(env: &Env<'_>, x: &[E], index: &[u32], s: Split) -> Block<E> {
    check(index, s);
    env.fill_rows(s.outer * index.len(), s.inner, |first, out| {
        for (i, out) in out.chunks_exact_mut(s.inner).enumerate() {
            let (o, j) = ((first + i) / index.len(), (first + i) % index.len());
            out.copy_from_slice(&x[(o * s.extent + index[j] as usize) * s.inner..][..s.inner]);
        }
    })
}

/// Adds each row to its place; one thread, so that repeated indices add up in order.
pub(super) fn scatter_add<R: super::real::Real>(env: &Env<'_>, x: &[R], index: &[u32], s: Split) -> Block<R> {
    check(index, s);
    let mut out = env.memory.block(s.outer * s.extent * s.inner);
    out.fill(R::ZERO);
    if s.inner == 0 {
        return out;
    }
    for (i, row) in x.chunks_exact(s.inner).enumerate() {
        let (o, j) = (i / index.len(), i % index.len());
        let to = &mut out[(o * s.extent + index[j] as usize) * s.inner..][..s.inner];
        for (y, &x) in to.iter_mut().zip(row) {
            *y += x;
        }
    }
    out
}

fn check(index: &[u32], s: Split) {
    if let Some(bad) = index.iter().find(|&&i| i as usize >= s.extent) {
        panic!("gather/scatter: index {bad} on an axis of extent {}", s.extent);
    }
}
